"""What one device was answered and has been given in one company, table by table: the arithmetic of contract §1.3, pure.

*answered* is the cursor the last answer named for a table: a later `last_version` beyond it does not speak for that table.
*delivered* is the newest version the device has surely been given: an answer may be lost and a request doubled, so it is the
smallest cursor answered since the device's last push, or since a later `last_version` proved receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from schema.columns import ID_MAX
from schema.versions import EMPTY_HEAD

RECENT_CURSORS_MAX = 64
NEWER_THAN_ALL = ID_MAX
T = TypeVar("T")


class TableDelivery(msgspec.Struct, frozen=True):
    """One table's cursors: `recent` were answered since the device's last push, `earlier` between that one and the one before;
    pushes without a pull between them count as one.

    `asked` is the largest `last_version` since that push: the same one again may be a request that the line doubled, whose answer
    nobody got. `sure` is delivered without such answers; a push is answered by it, since a change it passes never comes again.
    Such a copy may come as late as during that push or after it, so up to `before`, the largest one before that push, none proves
    anything, but for `fresh`: the cursor that push was answered with, and nothing before it. `is_doubtful`: a page was asked for
    without proof since that push, by a copy or by the device itself.
    The last page began at `start`, and was asked for with `sent`: whatever became of that page, the device has all up to `start`.
    `floor`: the server's `min_version` when this table last began from 0; 0 where it never did. `recent_head`, `earlier_head`: the
    server's head, at least, when the first of `recent` and of `earlier` was answered. `again`: the head when the device, which had
    the table, began it from 0 once more, so that its own changes up to there are news to it; until it does, newer than all.
    """

    answered: int
    delivered: int
    recent: tuple[int, ...] = ()
    earlier: tuple[int, ...] = ()
    sure: int = 0
    asked: int = -1
    start: int = 0
    sent: int = -1
    floor: int = 0
    recent_head: int = 0
    earlier_head: int = 0
    again: int = 0
    before: int = -1
    fresh: int = -1
    is_doubtful: bool = False

    def pulled(self, last_version: int, cursor: int, sent: int, told: int, *, head: int, floor: int) -> TableDelivery:
        """After a pull from `last_version`, lowered from `sent`, was given all up to `cursor` and told to go on from `told`;
        `head` is the server's when the page was read, and `floor` its `min_version`.
        """
        is_proof = last_version >= self.delivered
        is_fresh = last_version == self.fresh
        is_sure_proof = is_fresh or (last_version >= self.sure and last_version > max(self.asked, self.before))
        return replace(
            self,
            answered=told,
            delivered=cursor if is_proof else min(self.delivered, cursor),
            recent=_with_cursor(self.recent, cursor),
            sure=told if is_sure_proof else min(self.sure, told),
            asked=max(self.asked, last_version),
            start=last_version,
            sent=sent,
            floor=self.floor if last_version else floor,
            recent_head=min(self.recent_head, head) if self.recent else head,
            fresh=-1 if is_fresh else self.fresh,
            is_doubtful=self.is_doubtful or (not is_sure_proof and told > last_version),
        )

    def push_begun(self, last_version: int | None) -> TableDelivery:
        """When a push arrives; the `last_version` it may hold is believed, as far as it was answered."""
        begun = replace(self._arrived() if last_version is None else self, sent=-1)
        if self.asked >= 0:  # pushes without a pull between them are one outbox, sent in parts
            begun = replace(
                begun,
                recent=(),
                earlier=self.recent,
                earlier_head=self.recent_head,
                asked=-1,
                before=max(self.before, self.asked),
                fresh=-1,
            )
        if last_version is None:
            return begun
        given = self.given_at(last_version)
        again = NEWER_THAN_ALL if last_version == 0 else begun.again
        return replace(begun, answered=given, delivered=given, sure=given, again=again)

    def given_at(self, last_version: int) -> int:
        """Return up to where a device at `last_version` was given this table. One that asks from where it asked before may not have
        got the last answer, even where its page began further back.
        """
        return self.start if last_version == self.sent else min(last_version, self.answered)

    def passed_over(self, last_version: int) -> TableDelivery:
        """When the device asks for something else. From where it asked for this table: that answer may be lost, and the next cursor
        will not tell. From elsewhere: the answer came.
        """
        if last_version != self.sent:
            return self._arrived()
        return replace(self, answered=min(self.answered, self.start), sure=min(self.sure, self.start), sent=-1)

    def _arrived(self) -> TableDelivery:
        """When it is known that the last page came, though it was told to go on from before its last change."""
        return self if self.start >= self.sent else replace(self, answered=max(self.answered, self.recent[-1]), sent=-1)

    def cut(self, last_version: int) -> TableDelivery:
        """When a device comes from an earlier epoch with a cursor that is still good: what it was answered beyond is gone."""
        return replace(
            self,
            answered=min(self.answered, last_version),
            delivered=min(self.delivered, last_version),
            sure=min(self.sure, last_version),
            recent=tuple(cursor for cursor in self.recent if cursor <= last_version),
            earlier=tuple(cursor for cursor in self.earlier if cursor <= last_version),
            asked=-1,
            start=min(self.start, last_version),
            sent=-1,
            before=-1,
            fresh=-1,
        )

    def push_answered(self, cursor: int) -> TableDelivery:
        """After a push was answered with `cursor`: all up to it was given, or is the device's own."""
        return replace(
            self,
            answered=max(self.answered, cursor),
            delivered=max(self.delivered, cursor),
            recent=_with_cursor(self.recent, cursor),
            sure=max(self.sure, cursor),
            recent_head=self.recent_head if self.recent else cursor,
            fresh=cursor if cursor <= self.before and not self.is_used(cursor) else -1,
            is_doubtful=False,
        )

    def is_used(self, cursor: int) -> bool:
        """Whether the device may have asked from this cursor before."""
        return cursor in (self.before, self.asked) or cursor in self.recent or cursor in self.earlier

    def misses_tombstones(self, given: int, floor: int) -> bool:
        """Whether deletions up to `floor`, which are gone, may concern a device that was surely given this table up to `given`: it
        was given something, not as much, and did not begin from 0 when the floor already was what it is now.
        """
        if given >= floor or floor in (EMPTY_HEAD, self.floor):
            return False
        return bool(given or self.delivered or self.recent or self.earlier)

    def is_known(self, last_version: int) -> bool:
        """Whether an empty page after `last_version` says nothing new."""
        return max(self.delivered, self.sure) <= last_version <= self.asked


class Deliveries(msgspec.Struct, frozen=True):
    """All tables the device has asked for. `fresh_head`: the head when it began from 0 with nothing before; 0 otherwise.

    `has_restricted`: it was given the restricted columns. `epoch`: that of its last pull, whose cursor was good.
    """

    tables: dict[str, TableDelivery] = msgspec.field(default_factory=dict)
    fresh_head: int = 0
    has_restricted: bool = False
    epoch: int = 0

    def seen_by(self, readable: Set[str], restricted: Collection[str], *, sees_restricted: bool) -> Deliveries:
        """As a pull finds it. A table that may not be read any more was dropped by the device, and one with restricted columns
        that now may be seen was given without them: both count as never given, so that they arrive whole.
        """
        gained = set(restricted) if sees_restricted and not self.has_restricted else set()
        if sees_restricted == self.has_restricted and self.tables.keys() <= readable:
            return self
        lost = TableDelivery(0, 0, again=NEWER_THAN_ALL)
        tables = {t: lost if t in gained or t not in readable else known for t, known in self.tables.items()}
        return replace(self, tables=tables, has_restricted=sees_restricted)

    def in_epoch(self, epoch: int, tables: Iterable[str], last_version: int) -> Deliveries:
        """As a pull of these tables in this epoch finds it, with a cursor that is good."""
        if epoch == self.epoch:
            return self
        asked = {name: self.tables[name] for name in tables if name in self.tables}
        cut = _each(asked, lambda table: table.cut(last_version))
        return replace(self, tables={**self.tables, **cut}, epoch=epoch)

    def knows_own(self, table: str, version: int, sent: int) -> bool:
        """Whether a device that pulls from `sent` surely holds what it made itself at `version`: not where it began anew since."""
        known = self.tables.get(table)
        return known is None or (sent > 0 and version > known.again)

    def cursor_for(self, tables: Iterable[str], last_version: int) -> int:
        """Return where a page for these tables starts: `last_version`, lowered to what each of them was answered for.

        A device that was never given anything is believed; a table it never asked for starts at 0.
        """
        if not self.tables:
            return last_version
        asked = _different(self.tables.get(name) for name in tables)
        return min(known.given_at(last_version) if known is not None else 0 for known in asked)

    def misses_tombstones(self, tables: Iterable[str], last_version: int, floor: int) -> bool:
        """Whether a page for these tables after `last_version` could miss deletions that are gone up to `floor` (contract §2.7)."""
        if not last_version:
            return False
        if not self.tables:
            return last_version < floor
        asked = _different(self.tables[name] for name in tables if name in self.tables)
        return any(known.misses_tombstones(known.given_at(last_version), floor) for known in asked)

    def is_known(self, tables: Collection[str], last_version: int, sent: int) -> bool:
        """Whether an empty page after a pull from `last_version` (as lowered) says nothing new."""
        return all(table in self.tables and self.tables[table].is_known(last_version) for table in tables) and all(
            table in tables or known.passed_over(sent) is known for table, known in self.tables.items()
        )

    def pulled(
        self,
        tables: Collection[str],
        last_version: int,
        cursor: int,
        *,
        head: int,
        min_version: int,
        sent: int | None = None,
        told: int | None = None,
        read_at: int | None = None,
    ) -> Deliveries:
        """After a pull of these tables from `last_version` (as lowered; `sent` as it was sent) was given all up to `cursor`,
        and was told to go on from there, or from `told`. The page was read at `head`, or before it, at `read_at`.
        """
        sent = last_version if sent is None else sent
        told = cursor if told is None else told
        read_at = head if read_at is None else read_at

        def pull(known: TableDelivery) -> TableDelivery:
            return known.pulled(last_version, cursor, sent, told, head=read_at, floor=min_version)

        def pull_again(known: TableDelivery) -> TableDelivery:
            return replace(pull(known), again=head) if sent == 0 or known.again == NEWER_THAN_ALL else pull(known)

        asked = set(tables)
        new = _each({name: known for name, known in self.tables.items() if name in asked}, pull_again)
        if len(new) < len(self.tables):
            others = {name: known for name, known in self.tables.items() if name not in asked}
            new |= _each(others, lambda known: known.passed_over(sent))
        if not asked <= self.tables.keys():
            first = tuple(c for c in (last_version,) if c) if not self.tables else ()
            begun = pull(TableDelivery(0, 0, first, recent_head=last_version))
            new |= dict.fromkeys((name for name in tables if name not in self.tables), begun)
        if last_version:
            return replace(self, tables=new)
        fresh_head = min(self.fresh_head, read_at) if self.tables else read_at
        return replace(self, tables=new, fresh_head=fresh_head)

    def passed_over(self, sent: int) -> Deliveries:
        """When the device asks in another company, from `sent`."""
        tables = _each(self.tables, lambda table: table.passed_over(sent))
        return self if tables == self.tables else replace(self, tables=tables)

    def push_begun(self, last_version: int | None) -> Deliveries:
        """When a push arrives."""
        return replace(self, tables=_each(self.tables, lambda table: table.push_begun(last_version)))

    def push_cursor(self, cursor: int, readable: Collection[str]) -> int:
        """Return what to answer a push whose safe cursor is `cursor`: where a pull from there would prove nothing, and one was made
        already, one below it that the device never had. Some rows come again, and the device gets on.
        """
        tables = [table for name, table in self.tables.items() if name in readable]
        if not any(table.is_doubtful and cursor <= table.before for table in tables):
            return cursor
        return next((c for c in range(cursor - 1, 0, -1) if not any(table.is_used(c) for table in tables)), cursor)

    def push_answered(self, cursor: int, readable: Collection[str], floor: int) -> Deliveries:
        """After a push was answered with `cursor`, which speaks for every table the device has asked for and may read, but for
        those whose deletions it may have missed: their next pull must be told so.
        """
        late = self.late(floor)
        spoken_for = {name for name in self.tables if name in readable and name not in late}
        told = {name: table for name, table in self.tables.items() if name in spoken_for}
        return replace(self, tables={**self.tables, **_each(told, lambda table: table.push_answered(cursor))})

    def late(self, floor: int) -> set[str]:
        """The tables of which the device may have missed deletions that are gone, up to `floor`."""
        return {name for name, table in self.tables.items() if table.misses_tombstones(table.sure, floor)}

    def base_cursors(self, table: str, last_version: int | None) -> tuple[int, ...]:
        """Return, newest first, the cursors at which the device may have seen a record of `table` (contract §3, Base)."""
        known = self.tables.get(table)
        if known is None:
            return (last_version,) if last_version else ()
        limit = known.delivered if last_version is None else min(known.delivered, last_version)
        return tuple(sorted({c for c in (*known.earlier, *known.recent, limit) if c <= limit}, reverse=True))

    def held_since(self, table: str) -> int:
        """Return the server's head, at least, when the oldest of the `base_cursors` was answered: an image that was superseded by
        then was never given.
        """
        known = self.tables.get(table)
        if known is None:
            return 0
        return known.earlier_head if known.earlier else known.recent_head


class _Group(msgspec.Struct, omit_defaults=True):
    """Tables that stand alike, stored once."""

    tables: list[str]
    answered: int
    delivered: int
    recent: tuple[int, ...] = ()
    earlier: tuple[int, ...] = ()
    sure: int = 0
    asked: int = -1
    start: int = 0
    sent: int = -1
    floor: int = 0
    recent_head: int = 0
    earlier_head: int = 0
    again: int = 0
    before: int = -1
    fresh: int = -1
    is_doubtful: bool = False


_FIELDS = TableDelivery.__struct_fields__


class _Stored(msgspec.Struct, omit_defaults=True):
    groups: list[_Group]
    fresh_head: int = 0
    has_restricted: bool = False
    epoch: int = 0


def encode(deliveries: Deliveries) -> str:
    """Return the text of sync_deliveries.state."""
    same: dict[int, tuple[TableDelivery, list[str]]] = {}
    for name, table in deliveries.tables.items():
        same.setdefault(id(table), (table, []))[1].append(name)
    alike: dict[TableDelivery, list[str]] = {}
    for table, names in same.values():
        alike.setdefault(table, []).extend(names)
    groups = [_Group(sorted(names), *(getattr(table, field) for field in _FIELDS)) for table, names in alike.items()]
    stored = _Stored(groups, deliveries.fresh_head, deliveries.has_restricted, deliveries.epoch)
    return msgspec.json.encode(stored).decode()


def decode(text: str | bytes | None) -> Deliveries:
    """Read sync_deliveries.state; None, no row, is a device that was never given anything."""
    if text is None:
        return Deliveries()
    stored = msgspec.json.decode(text, type=_Stored)
    tables: dict[str, TableDelivery] = {}
    for group in stored.groups:
        tables |= dict.fromkeys(group.tables, TableDelivery(*(getattr(group, field) for field in _FIELDS)))
    return Deliveries(tables, stored.fresh_head, stored.has_restricted, stored.epoch)


def _different(tables: Iterable[T]) -> Collection[T]:
    """Those that stand alike, which are one object, once."""
    return {id(table): table for table in tables}.values()


def _each(tables: Mapping[str, TableDelivery], change: Callable[[TableDelivery], TableDelivery]) -> dict[str, TableDelivery]:
    """Change tables; those that stand alike are one object, as they are stored, and are changed once."""
    changed = {id(table): change(table) for table in _different(tables.values())}
    return {name: changed[id(table)] for name, table in tables.items()}


def _with_cursor(cursors: tuple[int, ...], cursor: int) -> tuple[int, ...]:
    if cursors and cursors[-1] == cursor:
        return cursors
    return (*cursors, cursor)[-RECENT_CURSORS_MAX:]
