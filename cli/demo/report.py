"""What the demo tells at the end: one JSON object for programs, a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.demo.play import Equality, Outcome
from cli.demo.shop import Shop
from cli.demo.till import Tally
from cli.output import printable, shown

_DOCUMENTS = ("transactions", "invoices", "payment_ins")
_DIFFERENCES_KEPT = 100
_DIFFERENCES_SHOWN = 10
_CONFLICTS_SHOWN = 6
_STORES_ACROSS = 3

Plain = dict[str, Any]


def summary(outcome: Outcome, seconds: float) -> Plain:
    """Everything as plain values; times in seconds unless the name says ms."""
    return {
        "is_equal": outcome.is_equal,
        "run": outcome.run_id,
        "seconds": {
            "set_up": round(outcome.setup_seconds, 2),
            "trading": round(outcome.trading_seconds, 2),
            "check": round(outcome.check_seconds, 2),
            "total": round(seconds, 2),
        },
        "stores": [_store(outcome, shop) for shop in outcome.shops],
        "difference_count": len(outcome.differences),
        "differences": [asdict(difference) for difference in outcome.differences[:_DIFFERENCES_KEPT]],
        "complaints": outcome.complaints,
    }


def _store(outcome: Outcome, shop: Shop) -> Plain:
    tallies = [till.tally for till in shop.tills]
    statuses = sum((tally.statuses for tally in tallies), Counter[str]())
    return {
        "store": shop.book.store_id,
        "company_id": shop.tills[0].company_id,
        "days": [day.date.isoformat() for day in shop.book.days],
        "baskets": len(shop.book.baskets),
        "lines": sum(len(basket.lines) for basket in shop.book.baskets),
        "documents": sum(len(shop.tills[0].store.rows[table]) for table in _DOCUMENTS),
        "pushes": sum(len(tally.push_times) for tally in tallies),
        "changes_pushed": sum(statuses.values()),
        "statuses": dict(statuses),
        "pushes_pending": sum(tally.pending for tally in tallies),
        "changes_repeated": sum(tally.repeated for tally in tallies),
        "pulls": sum(len(tally.pull_times) for tally in tallies),
        "changes_pulled": sum(tally.pulled for tally in tallies),
        "conflicts": [_conflict(found) for tally in tallies for found in tally.conflicts],
        "asked_to_wait": sum(till.client.waits for till in shop.tills),
        "events": asdict(shop.events),
        "push_ms": _times(tallies, "push_times"),
        "pull_ms": _times(tallies, "pull_times"),
        "lag_ms_max": max((lag for tally in tallies for lag in tally.lags_ms), default=0),
        "devices": [_device(till.device_id, outcome.devices[till.device_id]) for till in shop.tills],
    }


def _device(device_id: str, found: Equality) -> Plain:
    return {"device": device_id, "rows": found.rows, "rows_equal": found.rows_equal, "is_equal": not found.differences}


def _conflict(found: Plain) -> Plain:
    return {name: found.get(name) for name in ("device", "table", "record_id", "status", "sent", "server_data")}


def _told(found: Plain) -> str:
    """One conflict in a line: what was sent, and what stands."""
    server = found["server_data"] or {}
    columns = ", ".join(f"{name} {shown(value)} → {shown(server.get(name))}" for name, value in found["sent"].items())
    return f"{found['status']} on {found['table']} {found['record_id']} ({found['device']}): {columns}"


def tell_difference(difference: Plain) -> str:
    """One difference in a line: where, what the device holds, what MySQL has."""
    where = f"{difference['table']} {difference['record']}, {difference['column'] or 'the row'}, on {difference['device']}"
    return f"differs: {where}: {shown(difference['on_device'])}, in MySQL {shown(difference['in_mysql'])}"


def _times(tallies: list[Tally], name: str) -> dict[str, int]:
    """Milliseconds: median and worst."""
    times = [seconds * 1000 for tally in tallies for seconds in getattr(tally, name)]
    return {"median": round(median(times)), "max": round(max(times))} if times else {"median": 0, "max": 0}


def print_summary(console: Console, told: Plain) -> None:
    """Print the table, and what does not agree, if anything."""
    for start in range(0, len(told["stores"]), _STORES_ACROSS):
        console.print(_table(told["stores"][start : start + _STORES_ACROSS]))
    conflicts = [found for store in told["stores"] for found in store["conflicts"]]
    for found in conflicts[:_CONFLICTS_SHOWN]:
        console.print(_told(found), style="yellow")
    for found in conflicts[:1]:
        console.print(f"  its history, while `make up` runs: matrix-sync explain {found['table']} {found['record_id']}")
    for difference in told["differences"][:_DIFFERENCES_SHOWN]:
        console.print(tell_difference(difference), style="red")
    for complaint in told["complaints"]:
        console.print(f"books: {printable(complaint)}", style="red")
    devices = sum(len(store["devices"]) for store in told["stores"])
    rows = sum(device["rows"] for store in told["stores"] for device in store["devices"])
    seconds = told["seconds"]
    times = f"set-up {seconds['set_up']} s, trading {seconds['trading']} s, check {seconds['check']} s, all {seconds['total']} s"
    if told["is_equal"]:
        console.print(
            f"✔ {devices} devices hold exactly what SELECT gives: {rows:,} rows compared, all columns", style="bold green"
        )
    else:
        console.print(f"✘ {told['difference_count']} differences in {rows:,} rows on {devices} devices", style="bold red")
    console.print(times)


def _table(stores: list[Plain]) -> Table:
    table = Table()
    table.add_column("")
    for store in stores:
        table.add_column(f"store {store['store']}", justify="right")
    for label, row in _lines(stores):
        table.add_row(label, *row)
    return table


def _lines(stores: list[Plain]) -> list[tuple[str, list[str]]]:
    return [(label, [tell(store) for store in stores]) for label, tell in _LINES]


def _count(name: str) -> Callable[[Plain], str]:
    return lambda store: f"{store[name]:,}"


def _event(name: str) -> Callable[[Plain], str]:
    return lambda store: "–" if store["events"][name] is None else str(store["events"][name])


def _verdicts(status: str) -> Callable[[Plain], str]:
    return lambda store: f"{store['statuses'].get(status, 0):,}"


def _worst(name: str) -> Callable[[Plain], str]:
    return lambda store: f"{store[name]['median']} … {store[name]['max']:,}"


def _equal_rows(store: Plain) -> str:
    devices = store["devices"]
    is_all = all(device["is_equal"] for device in devices)
    return "all" if is_all else ", ".join(f"{device['rows_equal']:,}" for device in devices)


_LINES: tuple[tuple[str, Callable[[Plain], str]], ...] = (
    ("first day", lambda store: str(store["days"][0])),
    ("days", lambda store: str(len(store["days"]))),
    ("baskets", _count("baskets")),
    ("lines", _count("lines")),
    ("documents", _count("documents")),
    ("changes pushed", _count("changes_pushed")),
    ("  in pushes", _count("pushes")),
    ("  applied", _verdicts("applied")),
    ("  merged", _verdicts("merged")),
    ("  conflict, SQL came first", _verdicts("conflict")),
    ("  sent twice, stored once", _count("changes_repeated")),
    ("changes pulled", _count("changes_pulled")),
    ("  in pulls", _count("pulls")),
    ("rows written in SQL", _event("sql_rows")),
    ("  by UPDATE … JOIN of prices", _event("price_rows")),
    ("  on a till after, ms", _event("price_seen_ms")),
    ("deleted, without documents", _event("deleted")),
    ("offline", _event("offline")),
    ("push, ms: median … worst", _worst("push_ms")),
    ("pull, ms: median … worst", _worst("pull_ms")),
    ("lag, ms: worst", _count("lag_ms_max")),
    ("devices", lambda store: str(len(store["devices"]))),
    ("rows on each", lambda store: f"{store['devices'][0]['rows']:,}"),
    ("  equal to SELECT", _equal_rows),
)
