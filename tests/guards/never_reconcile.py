"""Guards of those who look for differences: what hides from the binlog is found and healed, exactly, and nothing else is."""

from __future__ import annotations

from tests.guards.guard import guard
from tests.guards.promises import FORGED, LOST, SEEN, TWICE, TWO_WRITERS, UNTOLD, WRONG

RECONCILE = "tests/cdc/test_reconcile.py::test"
RECONCILER = "tests/cdc/test_reconciler.py::test"
DIFFERENCES = "tests/cdc/test_row_differences.py::test"
ROWS = "tests/cdc/test_table_rows.py::test"
VERIFY = "tests/cli/test_verify.py::test"
REPLAY = "tests/cli/test_replay.py::test"
REPAIR = "tests/cdc/test_repair.py::test"

AS_THE_TABLE_IS = (
    guard(
        "a-row-written-meanwhile-is-left-to-its-event",
        UNTOLD,
        "cdc/reconcile.py",
        "if d.record_id not in chunk.touched]",
        "if True]",
        f"{RECONCILER}_a_row_that_is_written_between_the_watermarks_is_left_to_its_event",
    ),
    guard(
        "a-range-written-too-much-is-read-again",
        UNTOLD,
        "cdc/reconcile.py",
        "        if len(chunk.touched) > TOUCHED_MAX:",
        "        if False:",
        f"{RECONCILER}_a_range_in_which_too_much_is_written_is_read_again",
    ),
    guard(
        "watermarks-of-a-killed-tailer-open-nothing",
        UNTOLD,
        "cdc/reconcile.py",
        "            self.is_complete = self.is_complete or number == self.high",
        "            self.is_complete = True",
        f"{RECONCILER}_watermarks_of_another_tailer_end_no_range",
    ),
    guard(
        "a-cut-range-is-known-to-its-last-row",
        UNTOLD,
        "cdc/reconcile.py",
        "        if found.is_cut:",
        "        if False:",
        f"{RECONCILE}_a_snapshot_brings_what_the_change_log_does_not_know_and_nothing_else",
    ),
    guard(
        "a-snapshot-changes-nothing-that-is-known",
        UNTOLD,
        "cdc/reconcile.py",
        "        if chunk.run.kind is RunKind.SNAPSHOT:",
        "        if False:",
        f"{RECONCILE}_a_snapshot_brings_what_the_change_log_does_not_know_and_nothing_else",
    ),
    guard(
        "watermarks-need-ordered-commits",
        UNTOLD,
        "cdc/reconcile.py",
        "            if row != (1,):",
        "            if False:",
        f"{RECONCILE}_commits_out_of_the_binlogs_order_are_refused",
    ),
    guard(
        "an-announced-run-is-waited-for",
        UNTOLD,
        "cdc/reconcile.py",
        "        if run is None and not is_visible:",
        "        if False:",
        f"{RECONCILER}_a_run_that_is_announced_before_it_is_visible_is_not_forgotten",
    ),
    guard(
        "a-locked-table-is-waited-for",
        UNTOLD,
        "cdc/reconcile.py",
        "        if number == _LOCK_WAIT_TIMEOUT:",
        "        if False:",
        f"{RECONCILE}_a_table_that_is_locked_is_waited_for_and_the_stream_goes_on",
    ),
    guard(
        "what-cannot-be-read-ends-the-run-alone",
        LOST,
        "cdc/reconcile.py",
        "        except Exception as problem:  # it would be met again: it must end the run, and not the tailer\n"
        "            self._fail(run, problem)",
        "        except ZeroDivisionError as problem:\n            self._fail(run, problem)",
        f"{RECONCILE}_a_row_that_cannot_be_read_ends_the_run_and_not_the_tailer",
    ),
    guard(
        "a-device-keeps-the-name-of-what-it-made",
        TWICE,
        "cdc/reconcile.py",
        "Entry(change, maker=makers.get((change.company_id, change.table, change.record_id)))",
        "Entry(change, maker=None)",
        f"{RECONCILE}_a_record_that_a_device_made_keeps_its_name_though_its_push_is_not_in_the_binlog",
    ),
    guard(
        "an-ended-run-stays-as-it-ended",
        TWICE,
        "cdc/runs.py",
        "WHERE run = %s AND is_open = 1\n",
        "WHERE run = %s\n",
        f"{RECONCILER}_a_run_that_has_ended_stays_as_it_ended",
    ),
    guard(
        "another-spelling-of-the-database-is-refused",
        LOST,
        "cdc/synced_tables.py",
        "    if folds and names != {database.lower()}:",
        "    if False:",
        "tests/cdc/test_preflight.py::test_a_database_that_the_binlog_calls_otherwise_than_the_url_is_fatal",
    ),
    guard(
        "a-moved-row-leaves-before-it-arrives",
        WRONG,
        "cdc/row_differences.py",
        "key=lambda d: (d.record_id, d.kind is not Kind.MISSING_IN_TABLE))",
        "key=lambda d: (d.record_id, d.kind is Kind.MISSING_IN_TABLE))",
        f"{DIFFERENCES}_a_row_that_moved_is_deleted_in_the_one_company_before_it_is_in_the_other",
    ),
    guard(
        "restricted-columns-are-compared",
        UNTOLD,
        "cdc/row_differences.py",
        "split_columns(known.data) and split_columns(row.sealed) == split_columns(known.sealed)",
        "split_columns(known.data)",
        f"{RECONCILE}_restricted_columns_are_compared_and_stay_apart",
    ),
    guard(
        "a-soft-deletion-is-compared",
        UNTOLD,
        "cdc/row_differences.py",
        "    if row.is_deleted != known.is_deleted:",
        "    if False:",
        f"{DIFFERENCES}_a_difference_is_mended_by_the_change_that_its_event_would_have_made",
    ),
    guard(
        "an-image-that-is-gone-is-a-difference",
        UNTOLD,
        "cdc/newest.py",
        "FROM sync_live l LEFT JOIN sync_changes c",
        "FROM sync_live l JOIN sync_changes c",
        f"{VERIFY}_a_record_whose_image_is_gone_is_a_difference",
    ),
)

AS_MYSQL_SHOWS_IT = (
    guard(
        "floats-with-all-their-bits",
        WRONG,
        "cdc/table_rows.py",
        "_FLOATS: Final = frozenset({FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE})",
        "_FLOATS: Final = frozenset({FIELD_TYPE.DOUBLE})",
        f"{ROWS}_every_column_type_reads_the_same_from_the_table_as_from_the_binlog",
    ),
    guard(
        "filled-numbers-are-numbers",
        WRONG,
        "cdc/table_rows.py",
        "        return _unfilled if field.flags & FLAG.ZEROFILL else _ascii",
        "        return _ascii",
        f"{ROWS}_filled_numbers_and_displayed_decimals_read_the_same",
    ),
    guard(
        "a-full-range-says-that-it-is-cut",
        UNTOLD,
        "cdc/table_rows.py",
        "        return Found(found, is_cut=len(found) >= rows_max)",
        "        return Found(found, is_cut=False)",
        f"{ROWS}_a_range_ends_at_its_rows_or_bytes_and_says_so",
    ),
)

WITHOUT_FALSE_ALARMS = (
    guard(
        "what-is-under-way-is-no-difference",
        UNTOLD,
        "cdc/verify.py",
        "                if _record_of(difference) not in unread.touched:",
        "                if True:",
        f"{VERIFY}_what_the_tailer_has_not_read_is_no_difference",
    ),
    guard(
        "what-was-not-decided-is-counted",
        UNTOLD,
        "cdc/verify.py",
        "        self.summary.undecided += len(left)",
        "        pass",
        f"{VERIFY}_what_the_tailer_has_not_read_is_no_difference",
    ),
    guard(
        "an-unread-binlog-is-said",
        UNTOLD,
        "cdc/unread.py",
        "        return Unread(unread.touched, halt)",
        "        return unread",
        f"{VERIFY}_a_binlog_that_cannot_be_read_is_said",
    ),
    guard(
        "verify-walks-cut-ranges-on",
        UNTOLD,
        "cdc/verify.py",
        "            if found.is_cut:",
        "            if False:",
        f"{VERIFY}_a_range_that_is_cut_for_its_bytes_is_gone_on_with",
    ),
)

PUT_BACK = (
    guard(
        "nothing-is-put-back-above-the-head",
        TWO_WRITERS,
        "cdc/repair.py",
        "        if version > head:",
        "        if False:",
        f"{REPAIR}_nothing_is_put_back_above_the_head",
    ),
    guard(
        "a-repair-only-moves-forward",
        WRONG,
        "cdc/repair.py",
        "    version = GREATEST(new.version, sync_live.version)",
        "    version = new.version",
        f"{REPAIR}_a_record_that_the_tailer_moved_on_stays_where_it_is",
    ),
    guard(
        "a-repair-leaves-word",
        FORGED,
        "cdc/repair.py",
        '                    self._audit("replay_began", self._about)',
        "                    pass",
        f"{REPLAY}_a_repair_leaves_word_in_the_audit_with_who_and_what",
    ),
    guard(
        "a-reused-number-is-another-transaction",
        WRONG,
        "cdc/missing_tx.py",
        "if row.gtid == str(tx.gtid) and row.commit_time_us == tx.commit_time_us), None)",
        "if row.gtid == str(tx.gtid)), None)",
        f"{REPAIR}_a_number_that_was_given_again_is_another_transaction",
    ),
    guard(
        "a-numbering-that-does-not-fit-is-not-claimed",
        WRONG,
        "cdc/missing_tx.py",
        "        if sum(counts) == versions:",
        "        if True:",
        f"{REPLAY}_a_transaction_whose_versions_do_not_add_up_is_not_numbered",
    ),
    guard(
        "what-was-pruned-is-not-missing",
        WRONG,
        "cdc/replay.py",
        "        return is_old or tx.gtid in self._beginning or tx.gtid in self._skipped",
        "        return tx.gtid in self._beginning or tx.gtid in self._skipped",
        "tests/cdc/test_retention.py::test_the_tailer_prunes_by_itself_and_replay_takes_nothing_pruned_for_missing",
    ),
    guard(
        "what-was-skipped-stays-skipped",
        WRONG,
        "cdc/replay.py",
        "        return is_old or tx.gtid in self._beginning or tx.gtid in self._skipped",
        "        return is_old or tx.gtid in self._beginning",
        "tests/cli/test_checkpoint.py::test_a_replay_leaves_out_what_was_skipped",
    ),
    guard(
        "restricted-values-are-masked-for-operators",
        SEEN,
        "cli/verify.py",
        "        if not self._sealed:",
        "        if False:",
        f"{RECONCILE}_restricted_columns_are_compared_and_stay_apart",
    ),
    guard(
        "a-change-in-part-is-of-a-known-kind",
        WRONG,
        "cdc/decode_partial.py",
        "        if options & ~_PARTIAL_JSON:",
        "        if False:",
        "tests/cdc/test_partial_json.py::test_value_options_that_are_not_known_are_refused",
    ),
    guard(
        "ddl-under-any-case-is-seen",
        LOST,
        "cdc/ddl.py",
        "        _unquoted(name).lower()\n",
        "        _unquoted(name)\n",
        "tests/cdc/test_ddl.py::test_ddl_that_may_change_rows_of_a_synced_table_halts",
    ),
    guard(
        "what-is-declared-is-not-dropped-unseen",
        LOST,
        "cdc/ddl.py",
        '        return clause[0] if any(name.lower() in declared for name in names) else ""',
        '        return ""',
        "tests/cdc/test_ddl.py::test_ddl_that_may_change_rows_of_a_synced_table_halts",
    ),
    guard(
        "a-name-in-quotes-hides-no-words",
        LOST,
        "cdc/ddl.py",
        "    return _OF_ONE_COLUMN.sub(keep, _QUOTED_NAME.sub(number, text))",
        '    return _OF_ONE_COLUMN.sub("", text)',
        "tests/cdc/test_ddl.py::test_ddl_that_may_change_rows_of_a_synced_table_halts",
    ),
    guard(
        "dropping-the-database-is-seen",
        LOST,
        "cdc/ddl.py",
        '    if verb == "DROP" and kind in ("DATABASE", "SCHEMA"):',
        "    if False:",
        "tests/cdc/test_ddl.py::test_ddl_that_may_change_rows_of_a_synced_table_halts",
    ),
)
