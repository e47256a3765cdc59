"""What must hold at rest, asked of MySQL by plain SELECTs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from tests.convergence.edits import TEXTS, first_word
from tests.convergence.lab import Desk
from tests.convergence.phone import Phone
from tests.convergence.witness import Answers, must
from tests.oracle import Row, Rows, comparable_rows

LATEST = "parties"
"""Under `latest` the later edit wins as a whole record, so old values may come back."""
_COUNT_VERSIONS = "SELECT COUNT(*) FROM sync_changes WHERE version > %s AND version <= %s"
_WRONG_PREVIOUS = """
SELECT c.version, c.prev_version, (
    SELECT MAX(p.version) FROM sync_changes p
    WHERE p.company_id = c.company_id AND p.table_name = c.table_name AND p.record_id = c.record_id
        AND p.version < c.version AND p.for_device IS NULL
) AS expected FROM sync_changes c WHERE c.company_id = %s HAVING NOT prev_version <=> expected
"""
_UNBALANCED = """
SELECT t.id FROM transactions t JOIN transaction_lines l ON l.company_id = t.company_id AND l.transaction_id = t.id
WHERE t.company_id = %s AND t.is_posted AND t.deleted_at IS NULL AND l.deleted_at IS NULL
GROUP BY t.id, t.total_amount HAVING SUM(l.line_amount) <> t.total_amount
"""


async def check_devices(phones: list[Phone], oracle: dict[int, Rows], answers: Answers) -> None:
    """Every device holds exactly the server's rows; what is beside them is its own unsent INSERTs, no part of a sale that adds up
    among them. And its status says so.
    """
    for phone in phones:
        expected = comparable_rows(oracle[phone.line.company_id or 0])
        held = comparable_rows(phone.held())
        must(held == expected, f"{phone.name} ({phone.line.device_id}) diverges: {_difference(held, expected)}")
        unsent = {(change["table"], change["local_id"]) for change in phone.outbox if change["operation"] == "INSERT"}
        must(phone.drafts.keys() <= unsent, f"{phone.name} holds drafts that nobody will store: {phone.drafts.keys() - unsent}")
        codes = {key: answers.codes.get((phone.line.device_id, phone.install_id, *key)) for key in unsent}
        must("unbalanced" not in codes.values(), f"{phone.name} cannot send the rest of a sale: {codes}")
        status = await phone.line.status()
        must(status["is_synced"] and status["pending_changes"] == 0, f"{phone.name} is not synced: {status}")


def check_log(desk: Desk, companies: list[int], answers: Answers) -> None:
    """Versions without gaps over all companies, every acknowledged write in the change log once, nothing deleted resurrected."""
    _check_versions(desk)
    by_version: dict[int, dict[str, Any]] = {}
    for company in companies:
        wrong = desk.admin.rows(_WRONG_PREVIOUS, company)
        must(not wrong, f"version, prev_version, the record's version before: {wrong}")
        changes = [change for change in desk.admin.changes(company) if change["for_device"] is None]
        by_version |= {change["version"]: change for change in changes}
        _check_deletions(changes)
        _check_values(changes)
    _check_acknowledged(by_version, answers)


def check_rows(desk: Desk, companies: list[int], answers: Answers) -> None:
    """A local id has one record, a record was made once, and no sale is stored by half."""
    for key, records in answers.records.items():
        must(len(records) == 1, f"{key} stands for {records}")
    for company in companies:
        changes = desk.admin.changes(company)
        made = {(c["table_name"], c["record_id"]) for c in changes if c["device_id"] is not None}
        known = {(key[3], record) for key, records in answers.records.items() if key[0] == company for record in records}
        must(made == known, f"records that devices made but were never told of, or the other way round: {made ^ known}")
        words = Counter(_first_words(changes))
        must(not words or max(words.values()) == 1, f"an INSERT made two rows: {words.most_common(3)}")
        unbalanced = desk.admin.rows(_UNBALANCED, company)
        must(not unbalanced, f"transactions stored by half: {unbalanced}")


def _check_versions(desk: Desk) -> None:
    """No gap since the last check, whichever company a version is of."""
    lab = desk.lab
    with lab.checking:
        head = desk.admin.value("SELECT head FROM sync_state")
        count = desk.admin.value(_COUNT_VERSIONS, lab.checked_version, head)
        must(count == head - lab.checked_version, f"{count} versions between {lab.checked_version} and {head}")
        lab.checked_version = head


def _check_acknowledged(by_version: dict[int, dict[str, Any]], answers: Answers) -> None:
    """By number for each device and record, and by version and content where the answer said them."""
    said = Counter((a.company_id, a.device_id, a.table, a.record_id) for a in answers.acknowledged)
    made = Counter(
        (c["company_id"], c["origin_device_id"], c["table_name"], c["record_id"])
        for c in by_version.values()
        if c["origin"] == "device"
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


def _check_deletions(changes: list[dict[str, Any]]) -> None:
    """Only plain SQL brings a deleted record back."""
    gone: set[tuple[str, int]] = set()
    for change in changes:
        key = (change["table_name"], change["record_id"])
        if change["operation"] == "DELETE":
            gone.add(key)
        elif key in gone:
            must(change["origin"] == "external", f"a deleted record came back: {change}")
            gone.discard(key)


def _check_values(changes: list[dict[str, Any]]) -> None:
    """Each value is written once: the one that stands at the end is the one that was written last."""
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
        is_well = table == LATEST or final in (None, values[-1])
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
