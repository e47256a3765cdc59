"""All guards, in the order in which they are shown."""

from __future__ import annotations

from tests.guards import (
    never_binlog,
    never_books,
    never_feed,
    never_log,
    never_past,
    never_reconcile,
    never_retention,
    never_sync,
    never_waits,
)
from tests.guards.guard import Guard

GUARDS: tuple[Guard, ...] = (
    *never_sync.DOUBLED_ROWS,
    *never_sync.BELIEVED_WRITES,
    *never_sync.REVERTED_FIELDS,
    *never_sync.RESURRECTED_RECORDS,
    *never_feed.JUMPED_CURSORS,
    *never_feed.HALVED_DOCUMENTS,
    *never_feed.BLOCKED_NEIGHBOURS,
    *never_sync.WRONG_CLOCKS,
    *never_feed.DROPPED_WORK,
    *never_books.RULES_OF_THE_BOOKS,
    *never_books.WHO_SEES_AND_TOUCHES,
    *never_books.LAW_OF_MYSQL,
    *never_binlog.WHOLE_TRANSACTIONS,
    *never_binlog.ROWS_AS_THEY_WERE,
    *never_binlog.NO_ROWS_AT_ALL,
    *never_binlog.ON_THE_WIRE,
    *never_log.ONE_WRITER,
    *never_log.ONE_COMMIT,
    *never_log.NO_GAPS,
    *never_past.WITNESSED,
    *never_past.LOST_TO_DEVICES,
    *never_past.DECIDED,
    *never_past.TAMPERED,
    *never_reconcile.AS_THE_TABLE_IS,
    *never_reconcile.AS_MYSQL_SHOWS_IT,
    *never_reconcile.WITHOUT_FALSE_ALARMS,
    *never_reconcile.PUT_BACK,
    *never_retention.WHAT_STAYS,
    *never_retention.WHAT_IS_SAID,
    *never_retention.AS_IT_WAS,
    *never_waits.FOR_NEWS,
    *never_waits.FOR_THE_LEASE,
)
