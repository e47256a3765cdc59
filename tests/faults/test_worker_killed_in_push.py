"""Acknowledged: nothing; the push under way got no answer. Killed: the API worker that carries it out, before its commit.

What must hold: nothing of the push is stored, and the device's retry, answered by another worker, stores it once.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from tests.api.test_server import ask, children_of, serving, wait_for_children
from tests.device import insert
from tests.faults.conftest import StartTail
from tests.faults.waiting import wait_until
from tests.servers import Database
from tests.sql_client import SqlClient

_WAITING_LOCKS = "SELECT COUNT(*) FROM performance_schema.data_lock_waits"


def test_a_push_whose_worker_dies_is_stored_by_its_retry_alone(database: Database, sql: SqlClient, start_tail: StartTail) -> None:
    start_tail(database)
    with serving(database, "--workers", "1") as (program, url):
        (worker,) = wait_for_children(program.pid, 1)
        person = {"name": "Ann", "email": "killed@example.com", "password": "correct horse"}
        _, answer = ask(f"{url}/api/auth/register", person)
        token, company = answer["token"], answer["user"]["companies"][0]["id"]
        body = {"device_id": "till", "changes": [insert("parties", "a", name="A"), insert("units_of_measure", "u", name="kg")]}
        lost: list[Any] = []
        with SqlClient(database.settings) as other:
            other.run("START TRANSACTION")
            other.rows(f"SELECT * FROM companies WHERE id = {company} FOR UPDATE")
            push = threading.Thread(target=_ask_in_vain, args=(lost, f"{url}/api/sync/push", body, token))
            push.start()
            wait_until(lambda: sql.value(_WAITING_LOCKS) > 0)
            os.kill(worker, signal.SIGKILL)
            push.join()
            other.run("ROLLBACK")
        assert isinstance(lost[0], OSError), lost
        wait_until(lambda: bool(children_of(program.pid)) and worker not in children_of(program.pid))
        assert sql.value("SELECT COUNT(*) FROM parties") == 0 == sql.value("SELECT COUNT(*) FROM record_identities")
        for status in ("applied", "duplicate"):
            code, answer = ask(f"{url}/api/sync/push", body, token)
            assert code == 200 and [result["status"] for result in answer["results"]] == [status, status]
        assert sql.value("SELECT COUNT(*) FROM parties") == 1 == sql.value("SELECT COUNT(*) FROM units_of_measure")


def _ask_in_vain(lost: list[Any], url: str, body: dict[str, Any], token: str) -> None:
    try:
        lost.append(ask(url, body, token))
    except OSError as problem:
        lost.append(problem)
