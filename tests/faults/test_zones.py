"""Moved: clocks. What must hold: a TIMESTAMP is UTC, whatever zone the host, the server or the writer is in, twice an hour too."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

import cli.embedded.server as embedded
from tests.cdc.background import Background
from tests.servers import Stack
from tests.sql_client import SqlClient

ZONE = "EST5EDT,M3.2.0,M11.1.0"  # New York, said so that no zone files are needed
MOMENTS = {
    "before summer time begins": datetime(2026, 3, 8, 6, 59, 59, 999999, UTC),
    "after it has begun": datetime(2026, 3, 8, 7, 0, 0, 1, UTC),
    "01:30 for the first time": datetime(2026, 11, 1, 5, 30, 0, 250000, UTC),
    "01:30 for the second time": datetime(2026, 11, 1, 6, 30, 0, 250000, UTC),
    "far in the past": datetime(1970, 1, 1, 0, 0, 1, 0, UTC),
    "the last one": datetime(2038, 1, 19, 3, 14, 7, 0, UTC),
}
ZONES = ["SYSTEM", "+00:00", "+05:30", "-12:00"]


def test_timestamps_are_utc_in_the_hour_that_comes_twice(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = embedded._environment()
    monkeypatch.setattr(embedded, "_environment", lambda: {**usual, "TZ": ZONE})
    server = stack.private_mysql("zones", {"default-time-zone": "SYSTEM"})
    with server, stack.database(server) as database, SqlClient(database.settings) as sql:
        assert sql.value("SELECT @@GLOBAL.time_zone") == "SYSTEM" and sql.value("SELECT @@system_time_zone") in ("EST", "EDT")
        company = sql.company()
        with Background(database.settings):
            for zone in ZONES:
                for name, moment in MOMENTS.items():
                    sql.run(
                        f"SET SESSION time_zone = '{zone}', timestamp = {moment.timestamp():.6f}",
                        f"INSERT INTO parties (company_id, name) VALUES ({company}, '{name}')",
                        f"INSERT INTO settings (company_id, name, value) VALUES ({company}, '{zone} {name}', '1')",
                        f"UPDATE settings SET deleted_at = CURRENT_TIMESTAMP(6) WHERE name = '{zone} {name}'",
                    )
            sql.run("SET SESSION time_zone = '+00:00', timestamp = DEFAULT")
            sql.wait_for_tailer()
        stored = dict(sql.rows("SELECT name, DATE_FORMAT(deleted_at, %s) FROM settings", "%Y-%m-%dT%H:%i:%s.%fZ"))
        for change in sql.changes(company)[1:]:
            data = json.loads(change["data"])
            moment = next(moment for name, moment in MOMENTS.items() if data["name"].endswith(name))
            text = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").replace(".000000Z", "Z")
            assert (data["created_at"], data["updated_at"]) == (text, text)
            if change["operation"] == "DELETE":  # in a zone where an hour comes twice, MySQL itself took the one for the other
                assert data["deleted_at"] == stored[data["name"]].replace(".000000Z", "Z")
        assert len(sql.changes(company)) == 1 + len(ZONES) * len(MOMENTS) * 3
