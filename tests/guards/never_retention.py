"""Guards of retention and of the past that is kept: what somebody may still ask for stays, and what is gone is said to be."""

from __future__ import annotations

from tests.guards.guard import guard, layered
from tests.guards.promises import FORGED, HELD_UP, NEEDED, SEEN, TWO_WRITERS, WRONG

RETENTION = "tests/cdc/test_retention.py::test"
AS_OF = "tests/api/sync/test_as_of.py::test"
PUSHES = f"{RETENTION}_pushes_and_transactions_go_when_nothing_can_ask_for_them"

WHAT_STAYS = (
    layered(
        "tombstones-outlive-the-history-before-them",
        NEEDED,
        (
            (
                "cdc/retention.py",
                "        if floors.tombstones_walked < min(self._cutoffs.tombstones, floors.images_walked):",
                "        if floors.tombstones_walked < self._cutoffs.tombstones:",
            ),
            (
                "cdc/retention.py",
                "self._walk(floors.tombstones_walked, min(self._cutoffs.tombstones, floors.images_walked))",
                "self._walk(floors.tombstones_walked, self._cutoffs.tombstones)",
            ),
        ),
        f"{RETENTION}_tombstones_never_go_before_the_history_before_them",
        why="one asks whether there is work, the other how far it goes: they are the same bound",
    ),
    guard(
        "tombstones-are-kept-as-long-as-images",
        NEEDED,
        "cdc/retention.py",
        "    return Cutoffs(images, min(images, tombstones))",
        "    return Cutoffs(images, tombstones)",
        f"{RETENTION}_ages_mean_the_last_version_committed_by_then",
    ),
    guard(
        "a-redelivery-supersedes-no-image",
        NEEDED,
        "cdc/retention.py",
        "{c.prev_version: c.version for c in walked if c.for_device is None and c.prev_version is not None}",
        "{c.prev_version: c.version for c in walked if c.prev_version is not None}",
        f"{RETENTION}_a_void_redelivery_goes_by_itself_and_one_that_counts_raises_the_floor",
    ),
    guard(
        "only-a-newest-deletion-is-a-tombstone",
        NEEDED,
        "cdc/retention.py",
        "if c.key in live and live[c.key].version == c.version and live[c.key].is_deleted]",
        "if c.key in live]",
        f"{RETENTION}_a_deletion_that_another_change_followed_is_no_tombstone",
    ),
    guard(
        "a-deletion-asked-for-again-stays",
        NEEDED,
        "cdc/retention.py",
        "        return [change for change in newest if change.key not in asked_again]",
        "        return newest",
        f"{RETENTION}_a_deletion_that_a_device_asked_for_again_stays",
    ),
    guard(
        "a-redelivery-that-counts-stays-with-its-image",
        NEEDED,
        "cdc/retention.py",
        "if change.key not in live or live[change.key].version != change.prev_version]",
        "]",
        f"{RETENTION}_a_void_redelivery_goes_by_itself_and_one_that_counts_raises_the_floor",
    ),
    guard(
        "refused-pushes-are-never-pruned",
        NEEDED,
        "cdc/prune_txs.py",
        "p.status IN ('applied', 'noop', 'duplicate') AND NOT EXISTS",
        "NOT EXISTS",
        PUSHES,
    ),
    guard(
        "what-mended-a-refusal-stays-with-it",
        NEEDED,
        "cdc/prune_txs.py",
        "r.status = 'rejected' AND",
        "r.status = 'never' AND",
        PUSHES,
    ),
    guard(
        "what-made-a-record-stays-as-long-as-it",
        NEEDED,
        "cdc/prune_txs.py",
        "if not (is_maker and tuple(key) in known)]",
        "]",
        PUSHES,
    ),
    guard(
        "a-transaction-stays-with-its-changes",
        NEEDED,
        "cdc/prune_txs.py",
        "        if tx.first_version is not None and cursor.execute(_HAS_CHANGES, (tx.first_version, tx.last_version)):",
        "        if False:",
        f"{RETENTION}_a_transaction_stays_as_long_as_one_of_its_changes",
    ),
    guard(
        "a-transaction-stays-with-its-pushes",
        NEEDED,
        "cdc/prune_txs.py",
        "        return tx.origin_id is not None and bool(cursor.execute(_HAS_PUSHES, (tx.origin_id,)))",
        "        return False",
        PUSHES,
    ),
    guard(
        "the-newest-transaction-stays",
        NEEDED,
        "cdc/prune_txs.py",
        'which="tx > %s AND tx < %s"',
        'which="tx > %s AND tx <= %s"',
        f"{RETENTION}_the_newest_transaction_stays_though_it_is_empty",
    ),
)

WHAT_IS_SAID = (
    guard(
        "a-pruned-tombstone-raises-the-floor",
        NEEDED,
        "cdc/retention.py",
        "SET min_version = GREATEST(min_version, %s)",
        "SET min_version = GREATEST(min_version, 0 * %s)",
        f"{RETENTION}_a_tombstone_takes_along_what_was_known_of_the_record_and_raises_the_floor",
    ),
    guard(
        "the-floor-of-images-is-told",
        NEEDED,
        "cdc/retention.py",
        "images_from=max(floors.images_from, told_from))",
        "images_from=floors.images_from)",
        f"{RETENTION}_an_image_goes_when_what_superseded_it_is_old_and_the_newest_stays",
    ),
    guard(
        "what-was-altered-is-kept-as-evidence",
        FORGED,
        "cdc/prune.py",
        "            if not is_forced:",
        "            if False:",
        f"{RETENTION}_a_change_that_somebody_altered_is_kept_as_evidence_until_it_is_forced",
    ),
    guard(
        "what-was-pruned-is-on-record",
        FORGED,
        "cdc/prune.py",
        "        record_stretches(connection, join(stretches))\n",
        "",
        f"{RETENTION}_an_image_goes_when_what_superseded_it_is_old_and_the_newest_stays",
    ),
    guard(
        "a-stale-holder-prunes-nothing",
        TWO_WRITERS,
        "cdc/retention.py",
        "(%s IS NULL OR fencing_token = %s)",
        "(TRUE OR %s IS NULL OR fencing_token = %s)",
        f"{RETENTION}_a_stale_holder_prunes_nothing",
    ),
    guard(
        "who-prunes-is-alone",
        TWO_WRITERS,
        "cdc/retention.py",
        "WHERE id = 1 FOR UPDATE NOWAIT",
        "WHERE id = 1",
        f"{RETENTION}_two_that_prune_at_once_take_turns",
    ),
    guard(
        "a-dry-run-prunes-nothing",
        NEEDED,
        "cdc/retention.py",
        "            if after is None or self._is_dry:",
        "            if after is None:",
        f"{RETENTION}_a_dry_run_counts_and_writes_nothing",
    ),
    guard(
        "retention-leaves-the-tailer-its-time",
        HELD_UP,
        "cdc/idle.py",
        "        if started < self._due:",
        "        if False:",
        f"{RETENTION}_the_idle_tailer_rests_after_each_piece_of_work",
    ),
)

AS_IT_WAS = (
    guard(
        "a-pruned-past-is-refused",
        WRONG,
        "api/data_past.py",
        "    if version < images_from:",
        "    if False:",
        f"{AS_OF}_before_the_floor_is_410_and_a_lost_past_too",
    ),
    guard(
        "a-lost-past-is-refused",
        WRONG,
        "api/data_past.py",
        "    if epoch_of(version) < epoch and fork is not None and version > fork:",
        "    if False:",
        f"{AS_OF}_before_the_floor_is_410_and_a_lost_past_too",
    ),
    guard(
        "a-past-that-is-to-come-is-refused",
        WRONG,
        "api/data_past.py",
        "    if version > head:",
        "    if False:",
        f"{AS_OF}_a_place_that_is_none_is_400",
    ),
    guard(
        "the-past-shows-what-a-role-may-see",
        SEEN,
        "api/data_past.py",
        "    return {column.name: image[column.name] for column in columns if column.name in image}",
        "    return image",
        f"{AS_OF}_roles_see_of_the_past_what_they_see_of_the_present",
    ),
    guard(
        "the-past-is-ones-own",
        SEEN,
        "api/data_past.py",
        "READ_IDS, (scope.company_id, table.name, after, page.limit)",
        "READ_IDS, (scope.company_id - 1, table.name, after, page.limit)",
        f"{AS_OF}_at_each_version_the_rows_are_what_they_were",
    ),
    guard(
        "the-command-refuses-a-pruned-past",
        WRONG,
        "cdc/as_of.py",
        "    if version < images_from:",
        "    if False:",
        f"{AS_OF}_before_the_floor_is_410_and_a_lost_past_too",
    ),
    guard(
        "the-command-refuses-a-lost-past",
        WRONG,
        "cdc/as_of.py",
        "    if epoch_of(version) < epoch and fork is not None and version > fork:",
        "    if False:",
        f"{AS_OF}_before_the_floor_is_410_and_a_lost_past_too",
    ),
)
