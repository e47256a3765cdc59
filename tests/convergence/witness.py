"""What was answered, also to devices that never heard it; each answer is checked where it stands alone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.convergence.phone import Phone
from tests.device import Change
from tests.oracle import RESTRICTED, SEES_RESTRICTED, UNREADABLE, UNWRITABLE, Row, comparable

ACKNOWLEDGED = ("applied", "merged")
STATUSES = (*ACKNOWLEDGED, "noop", "duplicate", "conflict", "rejected")
TOLD = {"server_data", "server_version", "server_deleted"}


class Divergence(AssertionError):
    """Something that must never happen."""


def must(is_so: bool, message: str) -> None:
    """Raises Divergence."""
    if not is_so:
        raise Divergence(message)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write that an answer called applied or merged; `version` None: its answer said `pending`. `row`: what was sent, where
    nothing else was told.
    """

    company_id: int
    device_id: str
    table: str
    record_id: int
    version: int | None
    row: Row | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that was refused, or that lost some fields; `conflict_id` None: it was rejected.

    `others`: changes of the same record in the same push, each of which may be the one that lost them; an answer does not say.
    """

    company_id: int
    device_id: str
    change: Change
    record_id: int | None
    code: str | None
    conflict_id: int | None
    others: tuple[Change, ...] = ()

    def key(self) -> str:
        """The same for the same change of the same device."""
        return json.dumps((self.company_id, self.device_id, self.change), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Written:
    """What somebody at a desk asked a data endpoint for."""

    request_id: str
    company_id: int
    table: str
    record_id: int
    operation: str
    if_match: int | None
    row: Row | None


@dataclass
class Answers:
    """The witness of one run.

    `resolved`: by company and conflict, how it was. `decided`: records that a resolution wrote, old values among them.
    """

    acknowledged: list[Acknowledged] = field(default_factory=list)
    records: dict[tuple[int, str, str, str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    codes: dict[tuple[str, str, str, str], str | None] = field(default_factory=dict)
    changes_pulled: int = 0
    merged: set[str] = field(default_factory=set)
    doubtful: Counter[tuple[int, str, str, int]] = field(default_factory=Counter)
    taken: set[str] = field(default_factory=set)
    refusals: list[Refusal] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    unwritten: list[Written] = field(default_factory=list)
    resolved: dict[tuple[int, int], str] = field(default_factory=dict)
    decided: set[tuple[int, str, int]] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def pulled(self, phone: Phone, answer: dict[str, Any]) -> None:
        """A page: ascending versions, each record once, nothing of another company and nothing its user may not see."""
        changes = answer["changes"]
        self.changes_pulled += len(changes)
        versions = [change["version"] for change in changes]
        must(versions == sorted(set(versions)), f"{phone.name}: versions do not ascend: {versions}")
        # One below its last change where a page began further back than was asked: that change comes again.
        must(not versions or versions[-1] <= answer["current_version"] + 1, f"{phone.name}: cursor {answer}")
        must(answer["current_version"] <= answer["head_version"], f"{phone.name}: cursor {answer}")
        records = [(change["table"], change["record_id"]) for change in changes if change["version"]]
        is_history = phone.wants.get("history", False)
        must(is_history or len(records) == len(set(records)), f"{phone.name}: a record came twice in one page: {records}")
        hidden = set() if phone.role in SEES_RESTRICTED else RESTRICTED
        for change in changes:
            table, row = change["table"], change["data"]
            must(may_read(phone, table), f"{phone.name}, a {phone.role}, may not read {table}: {change}")
            must(not hidden & {(table, column) for column in row}, f"{phone.name}, a {phone.role}, may not see all of {row}")
            owner = change["data"]["id" if change["table"] == "companies" else "company_id"]
            must(owner == phone.line.company_id, f"{phone.name} was given a row of company {owner}: {change}")
            is_gone = change["data"]["deleted_at"] is not None
            must(is_gone == (change["operation"] == "DELETE"), f"{phone.name}: {change}")

    def pushed(self, phone: Phone, sent: list[Change], answer: dict[str, Any]) -> None:
        """An answer to a push: a verdict for each change, every refusal told."""
        results = answer["results"]
        must(len(results) == len(sent), f"{phone.name}: {len(sent)} changes, {len(results)} results")
        must(answer["current_version"] <= answer["head_version"], f"{phone.name}: cursor {answer}")
        conflicts = list(answer["conflicts"])
        for change, result in zip(sent, results, strict=True):
            self._judge(phone, change, result, answer)
            merged = [c for c, r in zip(sent, results, strict=True) if r["status"] == "merged" and _record(r) == _record(result)]
            self._keep_refusal(phone, change, result, conflicts, merged)
        must(not conflicts, f"{phone.name}: conflicts without a result: {conflicts}")

    def _judge(self, phone: Phone, change: Change, result: dict[str, Any], answer: dict[str, Any]) -> None:
        what = f"{phone.name}: {change} → {result}"
        status, record_id = result["status"], result["record_id"]
        self.counts[status] += 1
        self.counts.update([result["code"]] if "code" in result else [])
        must(status in STATUSES and result["table"] == change["table"], what)
        must(status != "conflict" or (result.keys() >= TOLD and record_id is not None), f"a refusal that was not told, {what}")
        must(status != "rejected" or {"code", "message"} <= result.keys(), f"a rejection without a reason, {what}")
        if change["operation"] == "INSERT":
            self.codes[phone.line.device_id, phone.install_id, change["table"], change["local_id"]] = result.get("code")
            must((status == "rejected") == (record_id is None), f"record_id, {what}")
            mapped = answer["id_mappings"].get(change["local_id"])
            must(mapped == record_id, f"id_mappings has {mapped}, {what}")
            if record_id is not None:
                key = (phone.company_id, phone.line.device_id, phone.install_id, change["table"], change["local_id"])
                self.records[key].add(record_id)
        if status == "applied" or (status == "merged" and self._is_new_merge(phone, change, result, is_pending=answer["pending"])):
            self._acknowledge(phone, change, result, what, is_pending=answer["pending"])

    def has_record(self, company_id: int, device_id: str, table: str, local_id: str) -> bool:
        """Whether every install of a device that used this local id was told a record for it."""
        installs = [key for key in self.codes if (key[0], *key[2:]) == (device_id, table, local_id)]
        return all((company_id, *key) in self.records for key in installs)

    def is_taken(self, refusal: Refusal) -> bool:
        """Whether a change that was rejected may have been taken at another time, as it was or mended."""
        change = refusal.change
        place = (refusal.company_id, refusal.device_id, change["table"], change.get("local_id") or "")
        is_made = change["operation"] == "INSERT" and any(key[:2] + key[3:] == place for key in self.records)
        return is_made or refusal.key() in self.taken

    def _keep_refusal(
        self, phone: Phone, change: Change, result: dict[str, Any], conflicts: list[dict[str, Any]], merged: list[Change]
    ) -> None:
        """Of each conflict, and each edit that lost fields, the answer names the conflict that is kept of it."""
        status, conflict_id = result["status"], None
        is_next = bool(conflicts) and _record(result) == _record(conflicts[0])
        has_lost = is_next and conflicts[0]["resolution"] == "merged" and change["data"].keys() >= set(conflicts[0]["fields"])
        if status == "conflict" or (status == "merged" and has_lost):
            must(is_next, f"{phone.name}: a conflict that nobody hears of: {change} → {result}")
            conflict_id = conflicts.pop(0)["conflict_id"]
            must(conflict_id is not None, f"{phone.name}: a conflict that is not kept: {change} → {result}")
        if status == "rejected" or conflict_id is not None:
            company_id, device_id, code = phone.company_id, phone.line.device_id, result.get("code")
            others = tuple(merged) if status == "merged" else ()
            self.refusals.append(Refusal(company_id, device_id, change, result["record_id"], code, conflict_id, others))
        if status != "rejected":
            self.taken.add(Refusal(phone.company_id, phone.line.device_id, change, None, None, None).key())

    def _acknowledge(self, phone: Phone, change: Change, result: dict[str, Any], what: str, *, is_pending: bool) -> None:
        must(may_write(phone, change["table"]), f"{phone.name}, a {phone.role}, may not write, {what}")
        must(result["record_id"] is not None and (is_pending or "version" in result), f"acknowledged without version, {what}")
        self.counts["voided"] += change["table"] == "invoices" and change["data"].get("status") == "void"
        is_as_sent = change["operation"] != "DELETE" and not TOLD & result.keys()
        write = Acknowledged(
            company_id=phone.company_id,
            device_id=phone.line.device_id,
            table=change["table"],
            record_id=result["record_id"],
            version=result.get("version"),
            row=comparable(change["data"]) if is_as_sent else None,
        )
        self.acknowledged.append(write)

    def _is_new_merge(self, phone: Phone, change: Change, result: dict[str, Any], *, is_pending: bool) -> bool:
        """A retry is told `merged` again: without a version, it made no change; a pending answer does not say whether it did."""
        place = (phone.company_id, phone.line.device_id, result["table"], result["record_id"])
        key = json.dumps((place, change), sort_keys=True)
        is_first = key not in self.merged
        self.merged.add(key)
        if is_pending and not is_first:
            self.doubtful[place] += 1
        return "version" in result or (is_pending and is_first)


def may_read(phone: Phone, table: str) -> bool:
    """Whether its user's role and the device's capabilities let it have a table, as they are."""
    return table not in UNREADABLE.get(phone.role, set()) and (phone.tables is None or table in phone.tables)


def may_write(phone: Phone, table: str) -> bool:
    """The same of writing."""
    return may_read(phone, table) and table not in UNWRITABLE.get(phone.role, set()) and not phone.is_read_only


def _record(told: dict[str, Any]) -> tuple[Any, ...]:
    return told["table"], told["local_id"], told["record_id"]
