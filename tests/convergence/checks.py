"""What must hold at rest, asked of MySQL by plain SELECTs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from tests.convergence.books import Books
from tests.convergence.edits import TEXTS, first_word
from tests.convergence.lab import Desk
from tests.convergence.office import DESK
from tests.convergence.phone import Phone
from tests.convergence.witness import Answers, Written, may_read, must
from tests.oracle import RESTRICTED, SEES_RESTRICTED, Row, Rows, comparable, comparable_rows

LATEST = "parties"
"""Under `latest` the later edit wins as a whole record, so old values may come back."""
_COUNT_VERSIONS = "SELECT COUNT(*) FROM sync_changes WHERE version > %s AND version <= %s"
DESK_CHANGES = """
SELECT c.version, o.request_id FROM sync_changes c JOIN sync_origins o ON o.id = c.origin_id
WHERE c.company_id IN %s AND o.request_id LIKE %s ORDER BY c.version
"""


async def check_devices(phones: list[Phone], expected: Callable[[Phone], Rows], answers: Answers) -> None:
    """Every device holds exactly the server's rows that it may have; what is beside them is its own unsent INSERTs, no part of a
    sale that adds up among them. And its status says so.
    """
    for phone in phones:
        rows, held = comparable_rows(expected(phone)), comparable_rows(_shown(phone))
        must(held == rows, f"{phone.name} ({phone.line.device_id}) diverges: {_difference(held, rows)}")
        unsent = {(c["table"], c["local_id"]) for c in phone.outbox.values() if c["operation"] == "INSERT"}
        drafts = set(phone.drafts)
        must(drafts <= unsent, f"{phone.name} holds drafts that nobody will store: {drafts - unsent}")
        honest = unsent - phone.spoiled - phone.torn_voids()
        codes = {key: answers.codes.get((phone.line.device_id, phone.install_id, *key)) for key in honest}
        must("unbalanced" not in codes.values(), f"{phone.name} cannot send the rest of a sale: {codes}")
        status = await phone.line.status()
        must(status["is_synced"] and status["pending_changes"] == 0, f"{phone.name} is not synced: {status}")


def _shown(phone: Phone) -> Rows:
    """What a device shows its user. A naive one may still keep what it lost, and shows what its user may see."""
    rows = {table: found for table, found in phone.held().items() if not phone.is_naive or may_read(phone, table)}
    hidden = set() if phone.role in SEES_RESTRICTED else RESTRICTED
    return {t: {k: {n: v for n, v in row.items() if (t, n) not in hidden} for k, row in rows[t].items()} for t in rows}


def check_log(desk: Desk, companies: Sequence[int], answers: Answers) -> dict[int, list[dict[str, Any]]]:
    """Versions without gaps over all companies, every acknowledged write in the change log once, nothing deleted resurrected, no
    rule of the books broken. Returns the changes by company.
    """
    _check_versions(desk)
    feeds = {company: desk.admin.changes(company) for company in companies}
    changes = {company: [change for change in feed if change["for_device"] is None] for company, feed in feeds.items()}
    for company in companies:
        _check_previous(feeds[company])
        _check_deletions(changes[company], answers)
        _check_values(changes[company], answers)
        Books().play(changes[company])
    by_version = {change["version"]: change for company in companies for change in changes[company]}
    _check_acknowledged(by_version, answers)
    _check_desk(desk, companies, by_version, answers)
    return changes


def check_rows(changes: dict[int, list[dict[str, Any]]], answers: Answers) -> None:
    """A local id has one record, and a record was made once."""
    for key, records in answers.records.items():
        must(len(records) == 1, f"{key} stands for {records}")
    for company, listed in changes.items():
        made = {(c["table_name"], c["record_id"]) for c in listed if c["device_id"] is not None}
        known = {(key[3], record) for key, records in answers.records.items() if key[0] == company for record in records}
        must(made == known, f"records that devices made but were never told of, or the other way round: {made ^ known}")
        words = Counter(_first_words(listed))
        must(not words or max(words.values()) == 1, f"an INSERT made two rows: {words.most_common(3)}")


def _check_versions(desk: Desk) -> None:
    """No gap since the last check, whichever company a version is of."""
    lab = desk.lab
    with lab.checking:
        head = desk.admin.value("SELECT head FROM sync_state")
        count = desk.admin.value(_COUNT_VERSIONS, lab.checked_version, head)
        must(count == head - lab.checked_version, f"{count} versions between {lab.checked_version} and {head}")
        lab.checked_version = head


def _check_previous(feed: list[dict[str, Any]]) -> None:
    """Each change names the record's version before; a redelivery supersedes nothing."""
    newest: dict[tuple[str, int], int] = {}
    for change in feed:
        key = (change["table_name"], change["record_id"])
        must(change["prev_version"] == newest.get(key), f"{change} does not follow {newest.get(key)}")
        if change["for_device"] is None:
            newest[key] = change["version"]


def _check_desk(desk: Desk, companies: Sequence[int], by_version: dict[int, dict[str, Any]], answers: Answers) -> None:
    """What a data endpoint acknowledged is in the change log once, what it refused is not, and If-Match held what it promises."""
    made: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for version, request_id in desk.admin.rows(DESK_CHANGES, companies, f"{DESK}-%"):
        if version in by_version:
            made[request_id].append(by_version[version])
    for write in answers.written:
        place = (write.company_id, write.table, write.record_id)
        found = [(c["company_id"], c["table_name"], c["record_id"]) for c in made[write.request_id]]
        must(found == [place], f"{write} is in the change log as {found}")
        _check_match(write, made[write.request_id][0], by_version)
    for write in answers.unwritten:
        must(not made[write.request_id], f"refused, and done all the same: {write}")


def _check_match(write: Written, change: dict[str, Any], by_version: dict[int, dict[str, Any]]) -> None:
    if write.if_match is None or change["prev_version"] is None:
        return
    at = change["prev_version"]
    before = at
    while at > write.if_match:
        at = by_version[at]["prev_version"]
        must(at is not None, f"{write} matched a version before the record's first")
    images = [comparable(json.loads(by_version[v]["data"]) | json.loads(by_version[v]["sealed"] or "{}")) for v in (at, before)]
    must(images[0] == images[1], f"{write} took effect on a row that had changed since: {images}")


def _check_acknowledged(by_version: dict[int, dict[str, Any]], answers: Answers) -> None:
    """By number for each device and record, and by version and content where the answer said them."""
    said = Counter((a.company_id, a.device_id, a.table, a.record_id) for a in answers.acknowledged)
    made = Counter(
        (c["company_id"], c["origin_device_id"], c["table_name"], c["record_id"])
        for c in by_version.values()
        if c["origin"] == "device" and not c["origin_device_id"].startswith(DESK)
    )
    beside = made - said - answers.doubtful
    must(
        said <= made and not beside,
        f"acknowledged but not in the change log once: {said - made}; there but not acknowledged: {beside}",
    )
    versions = Counter(a.version for a in answers.acknowledged if a.version is not None)
    must(not versions or max(versions.values()) == 1, f"two writes were given one version: {versions.most_common(2)}")
    for write in answers.acknowledged:
        if write.version is None:
            continue
        change = by_version.get(write.version)
        must(change is not None, f"{write} is not in the change log")
        assert change is not None
        place = (change["company_id"], change["origin_device_id"], change["table_name"], change["record_id"])
        must(place == (write.company_id, write.device_id, write.table, write.record_id), f"{write} stands as {change}")
        if write.row is not None:
            stored = json.loads(change["data"]) | json.loads(change["sealed"] or "{}")
            wrong = {n: (v, stored[n]) for n, v in write.row.items() if stored[n] != v and not _is_reference(n, v)}
            must(not wrong, f"acknowledged as sent, stored otherwise: {wrong} of {write}")


def _check_deletions(changes: list[dict[str, Any]], answers: Answers) -> None:
    """Only plain SQL, and a person who resolves a conflict, bring a deleted record back."""
    gone: set[tuple[str, int]] = set()
    for change in changes:
        key = (change["table_name"], change["record_id"])
        if change["operation"] == "DELETE":
            gone.add(key)
        elif key in gone:
            is_decided = (change["company_id"], *key) in answers.decided and _is_from_desk(change)
            must(change["origin"] == "external" or is_decided, f"a deleted record came back: {change}")
            gone.discard(key)


def _check_values(changes: list[dict[str, Any]], answers: Answers) -> None:
    """Each value is written once: the one that stands at the end is the one that was written last. Not so where a person decided
    for what had been refused.
    """
    seen: dict[tuple[str, int, str], list[Any]] = defaultdict(list)
    last: dict[tuple[str, int], Row] = {}
    for change in changes:
        key = (change["table_name"], change["record_id"])
        last[key] = json.loads(change["data"]) | json.loads(change["sealed"] or "{}")
        for column in TEXTS.get(key[0], ()):
            value = last[key].get(column)
            if value is not None and value not in seen[*key, column]:
                seen[*key, column].append(value)
    for (table, record_id, column), values in seen.items():
        final = last[table, record_id].get(column)
        is_decided = (changes[0]["company_id"], table, record_id) in answers.decided
        is_well = table == LATEST or is_decided or final in (None, values[-1])
        must(is_well, f"{table} {record_id}.{column}: {final!r} came back over {values[-1]!r}; written in the order {values}")


def _first_words(changes: list[dict[str, Any]]) -> list[str]:
    known: set[tuple[str, int]] = set()
    words = []
    for change in changes:
        key = (change["table_name"], change["record_id"])
        word = first_word(key[0], json.loads(change["data"])) if key not in known else None
        known.add(key)
        if word is not None:
            words.append(word)
    return words


def _is_from_desk(change: dict[str, Any]) -> bool:
    return change["origin"] == "api" or (change["origin_device_id"] or "").startswith(DESK)


def _is_reference(name: str, value: Any) -> bool:
    return name.endswith("_id") and isinstance(value, str)


def _difference(held: Rows, expected: Rows) -> str:
    parts = []
    for table in sorted(held.keys() | expected.keys()):
        mine, theirs = held.get(table, {}), expected.get(table, {})
        for record in sorted(mine.keys() | theirs.keys()):
            one, other = mine.get(record), theirs.get(record)
            if one is None or other is None:
                parts.append(f"{table} {record}: device {one}, server {other}")
            elif one != other:
                columns = [n for n in sorted(one.keys() | other.keys()) if one.get(n) != other.get(n)]
                parts.append(
                    f"{table} {record}: " + ", ".join(f"{n}: device {one.get(n)!r}, server {other.get(n)!r}" for n in columns)
                )
    return "; ".join(parts)
