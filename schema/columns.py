"""The kinds of column a synced table may have, and what one column declares about itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ID_MAX = (1 << 53) - 1
"""Ids stay below 2^53, so that every client's number type holds them."""


class Kind(StrEnum):
    """How a column's values look on the wire (contract §2.3)."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    TEXT = "text"
    ENUM = "enum"
    DATE = "date"
    TIMESTAMP = "timestamp"
    JSON = "json"


class Access(StrEnum):
    """Who may see a column: `restricted` is for some roles only, `private` never leaves the server."""

    PUBLIC = "public"
    RESTRICTED = "restricted"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class Column:
    """One column as devices and MySQL know it.

    `default` is the wire value that an INSERT without the column, or a null for a NOT NULL one, sets; None = there is none.
    `bytes_max` bounds TEXT in UTF-8 bytes, `characters_max` VARCHAR and CHAR in characters.
    """

    name: str
    kind: Kind
    mysql_type: str
    nullable: bool = True
    default: str | bool | None = None
    access: Access = Access.PUBLIC
    references: str | None = None
    precision: int = 0
    scale: int = 0
    labels: tuple[str, ...] = ()
    characters_max: int = 0
    bytes_max: int = 0
    minimum: int = 0
    maximum: int = 0


def text(
    name: str,
    length: int = 255,
    *,
    required: bool = False,
    access: Access = Access.PUBLIC,
    fixed: bool = False,
) -> Column:
    """A VARCHAR (CHAR where `fixed`) of `length` characters."""
    mysql_type = f"{'char' if fixed else 'varchar'}({length})"
    return Column(name, Kind.TEXT, mysql_type, nullable=not required, access=access, characters_max=length)


def long_text(name: str) -> Column:
    """A TEXT: up to 65,535 bytes."""
    return Column(name, Kind.TEXT, "text", bytes_max=65_535)


def money(name: str) -> Column:
    """DECIMAL(15,2) NOT NULL DEFAULT 0."""
    return Column(name, Kind.DECIMAL, "decimal(15,2)", nullable=False, default="0.00", precision=15, scale=2)


def quantity(name: str) -> Column:
    """DECIMAL(15,3) NOT NULL DEFAULT 0."""
    return Column(name, Kind.DECIMAL, "decimal(15,3)", nullable=False, default="0.000", precision=15, scale=3)


def flag(name: str, *, default: bool = False) -> Column:
    """TINYINT(1) NOT NULL, true and false on the wire."""
    return Column(name, Kind.BOOLEAN, "tinyint(1)", nullable=False, default=default)


def enum(name: str, *labels: str, default: str | None = None) -> Column:
    """ENUM NOT NULL."""
    quoted = ",".join(f"'{label}'" for label in labels)
    return Column(name, Kind.ENUM, f"enum({quoted})", nullable=False, default=default, labels=labels)


def date(name: str, *, required: bool = False) -> Column:
    """A DATE."""
    return Column(name, Kind.DATE, "date", nullable=not required)


def timestamp(name: str, *, nullable: bool = False) -> Column:
    """TIMESTAMP(6), which MySQL itself sets."""
    return Column(name, Kind.TIMESTAMP, "timestamp(6)", nullable=nullable)


def integer(name: str, mysql_type: str, minimum: int, maximum: int) -> Column:
    """A nullable whole number between `minimum` and `maximum`."""
    return Column(name, Kind.INTEGER, mysql_type, minimum=minimum, maximum=maximum)


def json_value(name: str) -> Column:
    """A JSON value."""
    return Column(name, Kind.JSON, "json")


def reference(name: str, table: str | None, *, required: bool = False, access: Access = Access.PUBLIC) -> Column:
    """A BIGINT UNSIGNED that holds the id of a row of `table` (None: of a table that is not synced)."""
    return Column(
        name,
        Kind.INTEGER,
        "bigint unsigned",
        nullable=not required,
        access=access,
        references=table,
        minimum=1,
        maximum=ID_MAX,
    )
