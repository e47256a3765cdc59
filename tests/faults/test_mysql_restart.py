"""mysqld dies and comes back: the tailer and the API go on by themselves, and nothing that was acknowledged is missing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.faults.waiting import free_port, wait_until
from tests.servers import Stack
from tests.sql_client import SqlClient


def test_a_killed_mysqld_costs_nothing_that_was_acknowledged(stack: Stack) -> None:
    """Acknowledged: rows before and after. Killed: mysqld, twice, with -9. Must hold: each row once, by the same processes."""
    port = free_port()
    with stack.private_mysql("restarted") as server, stack.database(server) as database:
        tail = stack.spawn("tail", environ=database.environ)
        serve = stack.spawn("serve", "--port", str(port), environ=database.environ)
        wait_until(lambda: _status(port) == 200)
        names = []
        for round_ in range(3):
            with SqlClient(database.settings) as sql:
                company = sql.value("SELECT MIN(id) FROM companies") or sql.company()
                for number in range(20):
                    names.append(f"{round_}.{number}")
                    sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, '{names[-1]}')")
            if round_ < 2:
                server.kill()
                wait_until(lambda: _status(port) == 503)
                server.start()
        with SqlClient(database.settings) as sql:
            sql.wait_for_tailer(60)
            logged = [json.loads(change["data"])["name"] for change in sql.changes(company) if change["table_name"] == "parties"]
            assert logged == names
            assert sql.value("SELECT COUNT(*) = MAX(version) - 1 FROM sync_changes") == 1
        wait_until(lambda: _status(port) == 200)
        assert tail.is_running and serve.is_running
        serve.stop()
        tail.stop()


def _status(port: int) -> Any:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/ready", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
