"""Nothing pushed is dropped: what was refused stands among the conflicts or the rejected changes that people can list."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from tests.api.conftest import Person
from tests.convergence.edits import TEXTS
from tests.convergence.phone import Phone
from tests.convergence.witness import Answers, Refusal, must

PLACE = ("device_id", "table", "local_id", "record_id", "operation")


async def check_conflicts(owner: Person, company_id: int, answers: Answers) -> None:
    """An owner's list holds every conflict that was told, with what was sent, and no other; resolved as it was the first time."""
    listed: dict[int, dict[str, Any]] = {}
    for status in ("open", "resolved"):
        listed |= {c["conflict_id"]: c for c in await _pages(owner, "conflicts", company_id=company_id, status=status)}
    told = [(r.conflict_id, r) for r in answers.refusals if r.company_id == company_id and r.conflict_id is not None]
    ids = {conflict_id for conflict_id, _ in told}
    must(listed.keys() == ids, f"conflicts told but not listed, or the other way round: {listed.keys() ^ ids}")
    for conflict_id, refusal in told:
        kept = listed[conflict_id]
        must(_place(refusal) == tuple(kept[name] for name in PLACE), f"{refusal} is kept as {kept}")
        must(_is_kept(refusal, kept["client_data"]), f"{refusal} is kept as {kept}")
    for conflict_id, conflict in listed.items():
        how = answers.resolved.get((company_id, conflict_id))
        must(conflict["resolution"] == how and (conflict["status"] == "open") == (how is None), f"resolved as {how}: {conflict}")


async def check_rejected(phone: Phone, person: Person, answers: Answers) -> None:
    """A device's list holds each change that was rejected and not taken since, once, with a code that it was told."""
    place = (phone.company_id, phone.line.device_id)
    told = [r for r in answers.refusals if r.conflict_id is None and (r.company_id, r.device_id) == place]
    if not told:
        return
    listed = await _pages(person, "rejected", company_id=phone.company_id, device_id=phone.line.device_id)
    codes: dict[str, set[str | None]] = defaultdict(set)
    for refusal in told:
        codes[_text(refusal.change)].add(refusal.code)
    waiting = Counter({_text(refusal.change): 1 for refusal in told if not answers.is_taken(refusal)})
    kept = Counter(_text(change) for change in listed)
    must(not waiting - kept, f"{phone.name}: rejected but not listed: {waiting - kept}")
    for change in listed:
        must(change["code"] in codes[_text(change)], f"{phone.name}: listed but not rejected so: {change}")
        is_done = change["operation"] == "INSERT" and answers.has_record(*place, change["table"], change["local_id"])
        must(not is_done, f"{phone.name}: listed though it was taken: {change}")


async def check_own_conflicts(phone: Phone, person: Person) -> None:
    """Who may not resolve conflicts sees those of their own device."""
    listed = await _pages(person, "conflicts", company_id=phone.company_id, device_id=phone.line.device_id)
    strange = [conflict for conflict in listed if conflict["device_id"] != phone.line.device_id]
    must(not strange or phone.role not in ("sales", "viewer"), f"{phone.name}, a {phone.role}, was shown {strange}")


async def _pages(person: Person, name: str, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1].get("conflict_id", found[-1].get("id")) if found else 0
        text = "&".join(f"{key}={value}" for key, value in (query | {"after": after}).items())
        reply = await person.get(f"/api/sync/{name}?{text}")
        must(reply.status == 200, f"{name}: {reply.status} {reply.body}")
        found += reply.body[name]
        if not reply.body["has_more"]:
            return found


def _place(refusal: Refusal) -> tuple[Any, ...]:
    change = refusal.change
    return (refusal.device_id, change["table"], change.get("local_id"), refusal.record_id, change["operation"])


def _is_kept(refusal: Refusal, kept: dict[str, Any]) -> bool:
    """Every text that was sent is there; other values may stand as the server reads them."""
    texts = TEXTS.get(refusal.change["table"], ())
    sent = [change["data"] for change in (refusal.change, *refusal.others)]
    return any(all(kept.get(name) == data[name] for name in texts if name in data) for data in sent)


def _text(change: dict[str, Any]) -> str:
    return json.dumps([change["table"], change.get("local_id"), change["operation"], change["data"]], sort_keys=True)
