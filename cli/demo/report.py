"""What the demo tells at the end: one JSON object for programs, a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.demo.play import Outcome
from cli.demo.shop import Shop
from cli.demo.till import Tally
from cli.output import printable, shown

_DOCUMENTS = ("transactions", "invoices", "payment_ins")
_DIFFERENCES_SHOWN = 10

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
        "difference_count": outcome.difference_count,
        "differences": [asdict(difference) for difference in outcome.differences],
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
        "devices": [
            {
                "device": till.device_id,
                "rows": outcome.rows[till.device_id],
                "rows_equal": outcome.rows_equal[till.device_id],
                "is_equal": till.device_id not in {difference.device for difference in outcome.differences},
            }
            for till in shop.tills
        ],
    }


def _conflict(found: Plain) -> Plain:
    return {name: found.get(name) for name in ("device", "table", "record_id", "status", "sent", "server_data")}


def _told(found: Plain) -> str:
    """One conflict in a line: what was sent, and what stands."""
    server = found["server_data"] or {}
    columns = ", ".join(f"{name} {shown(value)} → {shown(server.get(name))}" for name, value in found["sent"].items())
    return f"{found['status']} on {found['table']} {found['record_id']} ({found['device']}): {columns}"


def _differs(difference: Plain) -> str:
    where = f"{difference['table']} {difference['record']}, {difference['column'] or 'the row'}, on {difference['device']}"
    return f"differs: {where}: {shown(difference['on_device'])}, in MySQL {shown(difference['in_mysql'])}"


def _times(tallies: list[Tally], name: str) -> dict[str, int]:
    """Milliseconds: median and worst."""
    times = [seconds * 1000 for tally in tallies for seconds in getattr(tally, name)]
    return {"median": round(median(times)), "max": round(max(times))} if times else {"median": 0, "max": 0}


def print_summary(console: Console, told: Plain) -> None:
    """Print the table, and what does not agree, if anything."""
    table = Table(title="Trading days", title_justify="left", show_lines=False)
    table.add_column("")
    for store in told["stores"]:
        table.add_column(f"store {store['store']}", justify="right")
    for label, row in _lines(told["stores"]):
        table.add_row(label, *row)
    console.print(table)
    for store in told["stores"]:
        for found in store["conflicts"]:
            console.print(_told(found), style="yellow")
        for found in store["conflicts"][:1]:
            console.print(f"its history, while `make up` runs: matrix-sync explain {found['table']} {found['record_id']}")
    for difference in told["differences"][:_DIFFERENCES_SHOWN]:
        console.print(_differs(difference), style="red")
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


def _lines(stores: list[Plain]) -> list[tuple[str, list[str]]]:
    return [(label, [tell(store) for store in stores]) for label, tell in _LINES]


def _days(store: Plain) -> str:
    return f"{store['days'][0]} … {store['days'][-1]}"


def _pushed(store: Plain) -> str:
    return f"{store['changes_pushed']:,} in {store['pushes']} pushes"


def _statuses(store: Plain) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in store["statuses"].items())


def _price_change(store: Plain) -> str:
    events = store["events"]
    seen = events["price_seen_ms"]
    return f"{events['price_rows']} rows, on a till after {seen} ms" if seen is not None else f"{events['price_rows']} rows"


def _devices(store: Plain) -> str:
    rows = store["devices"][0]["rows"]
    equal = {device["rows_equal"] for device in store["devices"]}
    return f"{len(store['devices'])} × {rows:,}, " + ("all equal" if equal == {rows} else f"equal: {sorted(equal)}")


_LINES: tuple[tuple[str, Callable[[Plain], str]], ...] = (
    ("days", _days),
    ("baskets", lambda store: f"{store['baskets']:,} with {store['lines']:,} lines"),
    ("documents", lambda store: f"{store['documents']:,}"),
    ("changes pushed", _pushed),
    ("verdicts", _statuses),
    ("pushed twice, stored once", lambda store: f"{store['changes_repeated']:,}"),
    ("changes pulled", lambda store: f"{store['changes_pulled']:,} in {store['pulls']} pulls"),
    ("rows written in SQL", lambda store: f"{store['events']['sql_rows']:,}"),
    ("UPDATE … JOIN of prices", _price_change),
    ("deleted", lambda store: f"{store['events']['deleted']} without documents"),
    ("offline", lambda store: str(store["events"]["offline"])),
    ("conflicts", lambda store: str(len(store["conflicts"]))),
    ("push, ms", lambda store: "median {median}, worst {max}".format(**store["push_ms"])),
    ("pull, ms", lambda store: "median {median}, worst {max}".format(**store["pull_ms"])),
    ("lag, ms", lambda store: f"worst {store['lag_ms_max']}"),
    ("devices × rows", _devices),
)
