"""Whether an account may do what sql/grants.sql gives its role: SHOW GRANTS compared with that file.

Source: MySQL 9.7 manual, "SHOW GRANTS Statement", "GRANT Statement" (wildcards in database names), "Privilege Restriction Using
Partial Revokes".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from cdc.findings import Finding, fatal, ok
from schema.migrations import SQL_DIRECTORY, split_statements
from schema.tables import TABLES

_SHOW_GRANTS = "SHOW GRANTS"
_NEEDED = re.compile(r"GRANT (?P<what>.+) ON (?P<database>\S+)\.(?P<table>\S+) TO \{(?P<role>\w+)\}", re.DOTALL)
_SHOWN = re.compile(
    r"(?P<verb>GRANT|REVOKE) (?P<what>.+?) ON (?:TABLE )?(?P<database>\*|`(?:[^`]|``)+`)\.(?P<table>\*|`(?:[^`]|``)+`) (?:TO|FROM) "
)
_ALL = "ALL PRIVILEGES"


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges on one table, on all of a database (`table` is *), or on everything. `database` may hold wildcards."""

    what: frozenset[str]
    database: str
    table: str

    def covers(self, privilege: str, database: str, table: str) -> bool:
        """Whether this grant alone gives a privilege."""
        return (
            (privilege in self.what or _ALL in self.what)
            and (self.database == "*" or bool(re.fullmatch(_pattern(self.database), database)))
            and self.table in ("*", table)
        )


def needed_grants(role: str, database: str) -> list[Grant]:
    """What sql/grants.sql gives `role` (api, tailer, operator) in `database`."""
    grants = []
    for statement in split_statements((SQL_DIRECTORY / "grants.sql").read_text()):
        found = _NEEDED.fullmatch(statement)
        if found and found["role"] == role:
            of = database if found["database"] == "{database}" else found["database"]
            grants.append(Grant(_words(found["what"]), of, found["table"]))
    if role == "api":
        grants += [Grant(frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}), database, table) for table in TABLES]
    return grants


@dataclass(frozen=True, slots=True)
class Grants:
    """What an account was granted, and what partial revokes take off its global privileges."""

    granted: tuple[Grant, ...]
    revoked: tuple[Grant, ...]

    def allow(self, privilege: str, database: str, table: str) -> bool:
        """Whether the account has a privilege there."""
        is_revoked = any(grant.covers(privilege, database, table) for grant in self.revoked)
        return any(g.covers(privilege, database, table) and not (is_revoked and g.database == "*") for g in self.granted)

    def allow_globally(self, *privileges: str) -> bool:
        """Whether the account has any of these on everything."""
        return any(grant.database == "*" and grant.what & {*privileges, _ALL} for grant in self.granted)


def parse_grants(lines: Iterable[str]) -> Grants:
    """The lines of SHOW GRANTS. Privileges on single columns are not counted."""
    granted: list[Grant] = []
    revoked: list[Grant] = []
    for line in lines:
        found = _SHOWN.match(line)
        if found:
            grant = Grant(_words(found["what"]), _unquoted(found["database"]), _unquoted(found["table"]))
            (granted if found["verb"] == "GRANT" else revoked).append(grant)
    return Grants(tuple(granted), tuple(revoked))


def read_grants(connection: Connection[Any]) -> Grants:
    """The grants of the connection's account, those of its active roles among them."""
    with connection.cursor() as cursor:
        cursor.execute(_SHOW_GRANTS)
        return parse_grants(str(row[0]) for row in cursor.fetchall())


def check_privileges(grants: Grants, role: str, database: str) -> Finding:
    """One finding that names every privilege the role lacks."""
    missing = [
        f"{privilege} ON {needed.database}.{needed.table}"
        for needed in needed_grants(role, database)
        for privilege in sorted(needed.what)
        if not grants.allow(privilege, needed.database, needed.table)
    ]
    if not missing:
        return ok(f"privileges_{role}", f"the {role} account has its privileges")
    return fatal(
        f"privileges_{role}",
        f"the {role} account lacks {'; '.join(missing)}",
        "run `matrix-sync migrate`, which grants them, or GRANT them by hand",
    )


def _words(text: str) -> frozenset[str]:
    """`SELECT, INSERT (a, b), DELETE` without what is limited to columns."""
    return frozenset(word.strip() for word in re.split(r",(?![^()]*\))", text) if "(" not in word)


def _unquoted(name: str) -> str:
    return name if name == "*" else name[1:-1].replace("``", "`")


def _pattern(database: str) -> str:
    """A database name of a GRANT as a regular expression: % and _ are wildcards unless escaped."""
    wild = {"%": ".*", "_": "."}
    parts = re.findall(r"\\.|.", database, re.DOTALL)
    return "".join(wild.get(part) or re.escape(part[1:] if len(part) == 2 else part) for part in parts)
