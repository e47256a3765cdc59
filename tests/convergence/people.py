"""The people of a run and the two companies they work for, made by plain SQL: signing in by password costs what a run costs."""

from __future__ import annotations

import itertools
import secrets
import time
from dataclasses import dataclass, replace

from api.tokens import AccessToken, sign_access
from tests.api.conftest import Person
from tests.sql_client import SqlClient

HOURS = 3600
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Staff:
    """`owners` work in one company each, `both` owns the two, `clerk` has a role in the first that may change."""

    companies: tuple[int, int]
    owners: tuple[Person, Person]
    both: Person
    clerk: Person
    clerk_login: int

    def of(self, company: int | None, *, is_clerk: bool) -> Person:
        """Who carries a phone for this company; None: for both."""
        if is_clerk:
            return self.clerk
        return self.both if company is None else self.owners[company]


def hire(sql: SqlClient, nobody: Person, secret: str, clerk_role: str) -> Staff:
    """Two new companies with four people."""
    number = next(_numbers)
    first = sql.run(f"INSERT INTO companies (name) VALUES ('A {number}'), ('B {number}')")
    logins = ", ".join(f"('{secrets.token_hex(8)}@example.com', 'A Person', 'none')" for _ in range(4))
    login = sql.run(f"INSERT INTO logins (email, full_name, password_hash) VALUES {logins}")
    companies = (first, first + 1)
    works = [(0, 0, "owner"), (1, 1, "owner"), (2, 0, "owner"), (2, 1, "owner"), (3, 0, clerk_role)]
    users = ", ".join(f"({companies[c]}, {login + who}, 'A Person', '{role}')" for who, c, role in works)
    ids = [secrets.token_bytes(16) for _ in range(4)]
    sessions = ", ".join(f"(0x{i.hex()}, {login + who}, 0x{secrets.token_hex(32)}, '2037-01-01')" for who, i in enumerate(ids))
    sql.run(
        f"INSERT INTO users (company_id, login_id, full_name, role) VALUES {users}",
        f"INSERT INTO sessions (id, login_id, refresh_hash, expires_at) VALUES {sessions}",
    )
    now = int(time.time())
    tokens = [
        sign_access(secret, AccessToken(login + who, session_id, None, now + HOURS), issued_at=now)
        for who, session_id in enumerate(ids)
    ]
    one, two, both, clerk = (replace(nobody, token=token) for token in tokens)
    return Staff(companies, (one, two), both, clerk, login + 3)
