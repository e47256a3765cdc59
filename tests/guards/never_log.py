"""Guards of the change log: one writer, one commit, nothing twice, nothing over a gap."""

from __future__ import annotations

from tests.guards.guard import guard, layered
from tests.guards.promises import HALVED, LOST, PASSED_OVER, TWICE, TWO_WRITERS, WRONG

LOG = "tests/cdc/test_log.py::test"
APPENDER = "tests/cdc/test_appender.py::test"
LIVE = "tests/cdc/test_live.py::test"
START = "tests/cdc/test_checkpoint.py::test"
TAILER = "tests/cdc/test_tailer.py::test"
HALTS = "tests/cdc/test_halts.py::test"
REPLAY = "tests/cli/test_replay.py::test"
SKIP = "tests/cli/test_checkpoint.py::test"

ONE_WRITER = (
    guard(
        "fencing-token",
        TWO_WRITERS,
        "cdc/state.py",
        "IF(fencing_token = %s AND {also}",
        "IF(0 < %s AND {also}",
        f"{LOG}_a_stale_fencing_token_writes_nothing",
        f"{LOG}_a_stale_holder_adds_no_part_of_a_large_tx_and_shows_none",
    ),
    guard(
        "lost-leases-are-noticed",
        TWO_WRITERS,
        "cdc/state.py",
        "        if problem.args[0] != _NOT_OURS or",
        "        if True or",
        f"{LOG}_a_stale_fencing_token_writes_nothing",
    ),
    guard(
        "one-lock-one-holder",
        TWO_WRITERS,
        "cdc/lease.py",
        "        if cursor.fetchone() != (1,):",
        "        if cursor.fetchone() is None:",
        f"{LOG}_only_one_holds_the_lease_and_its_end_frees_it",
    ),
    guard(
        "a-new-holder-raises-the-token",
        TWO_WRITERS,
        "cdc/lease.py",
        "        cursor.execute(_RAISE_TOKEN)\n",
        "",
        f"{LOG}_only_one_holds_the_lease_and_its_end_frees_it",
    ),
    guard(
        "no-skip-beside-a-tailer",
        PASSED_OVER,
        "cdc/decision.py",
        "        if cursor.fetchone() != (1,):",
        "        if cursor.fetchone() is None:",
        f"{SKIP}_a_skip_is_refused_while_a_tailer_runs",
    ),
    guard(
        "one-replay-at-a-time",
        TWO_WRITERS,
        "cdc/repair.py",
        "        if cursor.fetchone() != (1,):",
        "        if cursor.fetchone() is None:",
        f"{REPLAY}_a_second_replay_at_once_is_refused",
    ),
)

ONE_COMMIT = (
    guard(
        "rows-and-head-in-one-commit",
        TWICE,
        "cdc/log.py",
        "        self.flush()\n        self.live.store(self.writes, self._settle)",
        "        self.flush()\n        self.writes.commit()\n        self.live.store(self.writes, self._settle)",
        f"{LOG}_a_stale_fencing_token_writes_nothing",
    ),
    guard(
        "a-large-tx-is-shown-at-its-end",
        HALVED,
        "cdc/log.py",
        "        writer.flush()\n        self._run(writer.writes.commit)",
        "        self._run(writer.finish().commit)",
        f"{LOG}_a_large_tx_is_invisible_until_its_end_and_then_there_at_once",
    ),
    guard(
        "what-a-crash-left-is-trimmed",
        TWICE,
        "cdc/checkpoint.py",
        "    trimmed = trim_above_head(connection, state)",
        "    trimmed = 0",
        f"{LOG}_what_a_crash_left_above_the_head_is_trimmed_and_the_versions_are_given_anew",
    ),
    guard(
        "the-checkpoint-moves-with-the-rows",
        TWICE,
        "cdc/log.py",
        "            gtid_set=with_gtids(self._before.gtid_set, self._gtids),",
        "            gtid_set=self._before.gtid_set,",
        f"{LOG}_a_large_tx_is_invisible_until_its_end_and_then_there_at_once",
        f"{LOG}_a_tx_without_changes_moves_the_checkpoint_and_nothing_else",
    ),
    guard(
        "a-gtid-is-recorded-once",
        TWICE,
        "sql/0002_sync_log.sql",
        "    UNIQUE KEY sync_tx_gtid (epoch, gtid),",
        "    KEY sync_tx_gtid (epoch, gtid),",
        f"{LOG}_a_tx_that_was_appended_is_refused_a_second_time",
    ),
    guard(
        "redeliveries-supersede-nothing",
        WRONG,
        "cdc/log.py",
        "        row = row_again(told, entry, advance(self._head, 1), newest, Image(*found))\n",
        "        row = row_again(told, entry, advance(self._head, 1), newest, Image(*found))\n"
        "        self.live.put(*record_of(entry), row.version, False, None)\n",
        f"{LOG}_a_redelivery_repeats_the_newest_image_for_one_device_and_supersedes_nothing",
    ),
    guard(
        "a-tombstone-is-asked-for-again",
        WRONG,
        "cdc/live.py",
        "            if packed & _DELETED:\n                records.known.pop(record_id, None)",
        "            if False:\n                records.known.pop(record_id, None)",
        f"{LIVE}_rows_inherit_what_sync_live_says_at_that_moment",
    ),
    guard(
        "a-replays-word-ends-memory",
        WRONG,
        "cdc/live.py",
        "        if mended != self._mended:\n            self._mended",
        "        if False:\n            self._mended",
        f"{LIVE}_what_a_replay_puts_back_ends_what_was_remembered",
    ),
    guard(
        "a-replays-word-undoes-what-was-made-without-asking",
        WRONG,
        "cdc/state.py",
        "IF(fencing_token = %s AND {also}, fencing_token, NULL)",
        "IF(fencing_token = %s, fencing_token, NULL)",
        f"{APPENDER}_what_a_replay_puts_back_undoes_what_was_made_without_asking",
    ),
    guard(
        "a-replays-word-undoes-what-was-made-of-what-was-read-before-it",
        WRONG,
        "cdc/log.py",
        "Prepared(self.state(), self.writes, self.live.is_as_known)",
        'Prepared(self.state(), self.writes, "TRUE")',
        f"{LIVE}_what_a_replay_puts_back_after_it_was_read_undoes_what_was_made_of_it",
    ),
    guard(
        "a-replays-word-undoes-parts-too",
        WRONG,
        "cdc/log.py",
        "        writer.writes.put_step(writer.confirm)\n",
        "",
        f"{APPENDER}_what_a_replay_puts_back_undoes_what_was_made_without_asking",
    ),
    guard(
        "what-has-to-be-asked-waits-for-its-turn",
        WRONG,
        "cdc/log.py",
        "        if self.live.unknown(entries) or any(isinstance(entry, Redelivery) for entry in entries):",
        "        if False:",
        f"{APPENDER}_batches_behind_each_other_inherit_what_batches_in_turn_do",
    ),
    guard(
        "rows-that-go-early-wait-for-the-connection",
        WRONG,
        "cdc/live.py",
        "                    settle()\n",
        "",
        f"{APPENDER}_batches_behind_each_other_inherit_what_batches_in_turn_do",
    ),
    guard(
        "what-was-made-after-a-refused-batch-is-not-stored",
        LOST,
        "cdc/appender.py",
        "        self.drain()\n        self._under_way = self._thread",
        "        self._under_way = self._thread",
        f"{APPENDER}_after_a_batch_that_was_refused_none_that_was_made_is_stored",
    ),
    guard(
        "the-log-escapes-what-it-stores",
        WRONG,
        "cdc/sql.py",
        """    return "'" + text.replace("\\\\", "\\\\\\\\").replace("'", "\\\\'") + "'\"""",
        """    return "'" + text + "'\"""",
        f"{LOG}_any_text_is_stored_as_it_is",
    ),
    guard(
        "the-chain-covers-every-column",
        WRONG,
        "cdc/change_row.py",
        "        return hashlib.sha256(chain + orjson.dumps(tuple(self))).digest()",
        "        return hashlib.sha256(chain + orjson.dumps(self.version)).digest()",
        f"{REPLAY}_a_column_that_only_the_change_log_knows_is_caught_by_the_chain",
    ),
    guard(
        "only-what-is-proven-is-put-back",
        WRONG,
        "cdc/gap.py",
        "        elif not (after.follows(self._chain) if after is not None else head_chain == self._chain):",
        "        elif False:",
        f"{REPLAY}_what_cannot_be_proven_is_not_written",
    ),
)

NO_GAPS = (
    guard(
        "transactions-the-server-lost-halt",
        PASSED_OVER,
        "cdc/checkpoint.py",
        "    if lost:",
        "    if False:",
        f"{START}_a_server_that_never_executed_what_the_log_holds_halts",
    ),
    guard(
        "transactions-the-server-purged-halt",
        PASSED_OVER,
        "cdc/checkpoint.py",
        "    if missing:",
        "    if False:",
        f"{START}_a_server_that_purged_what_was_not_read_halts",
    ),
    layered(
        "no-start-over-a-purged-binlog",
        PASSED_OVER,
        (
            ("cdc/checkpoint.py", "    if missing:", "    if False:"),
            (
                "cdc/dump.py",
                '    return Halt("binlog_unreadable", f"MySQL cannot send its binlog: {message}", hint="see MySQL\'s error log")',
                '    return Retry("server_error", message)',
            ),
            ("cdc/dump.py", '    r"purged required|could not find next log": _purged,\n', ""),
        ),
        f"{TAILER}_purged_binlogs_halt_and_say_what_is_missing",
        why="the tailer compares the sets before it reads; MySQL refuses the dump too",
    ),
    guard(
        "whole-transactions-before-a-halt-are-stored",
        LOST,
        "cdc/tailer.py",
        "            follower.finish()  # what came whole before it is good",
        "            pass",
        f"{HALTS}_whole_transactions_before_a_halt_are_stored_and_nothing_of_the_one_that_halts",
    ),
    guard(
        "what-cannot-be-derived-halts",
        LOST,
        "cdc/follow.py",
        '            raise Halt("not_derivable", reason,',
        '            return\n            raise Halt("not_derivable", reason,',
        f"{HALTS}_rows_that_cannot_be_made_changes_halt_with_their_place",
    ),
    guard(
        "what-a-load-leaves-out-is-noticed",
        LOST,
        "cdc/load.py",
        "    if done.affected_rows == lines.rows and not done.warning_count:",
        "    if True:",
        "tests/cdc/test_load.py::test_a_version_that_is_there_already_is_refused",
        "tests/cdc/test_load.py::test_a_value_that_a_column_cannot_hold_is_refused",
    ),
    guard(
        "what-cannot-be-stored-halts",
        LOST,
        "cdc/tailer.py",
        "    if number in _NEVER_STORABLE:",
        "    if False:",
        f"{HALTS}_what_the_change_log_cannot_hold_is_a_halt_and_a_lost_connection_a_retry",
    ),
    guard(
        "an-idle-system-writes-nothing",
        PASSED_OVER,
        "cdc/follow.py",
        "        self._is_checkpoint_due = self._is_checkpoint_due or not is_quiet",
        "        self._is_checkpoint_due = True",
        f"{TAILER}_an_idle_system_writes_nothing",
    ),
)
