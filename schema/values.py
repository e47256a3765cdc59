"""MySQL value ⇄ wire value, both ways. Used by the tailer, by push and by the data endpoints, so that a value has one form.

A *wire value* is what JSON shows for a column (contract §2.3): DECIMAL as text with its scale, whole numbers as numbers (as text
beyond ±(2^53 − 1)), TINYINT(1) flags as booleans, DATE as text, TIMESTAMP as RFC 3339 in UTC, JSON as the value itself.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from schema.columns import Column, Kind

SAFE_INTEGER_MAX = (1 << 53) - 1
_NUMBER_TEXT_CHARACTERS_MAX = 100
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:T00:00(?::00(?:\.0+)?)?(?:Z|\+00:00)?)?")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TIMES_MAX = 4_096
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?\s*")  # Decimal takes 1_0 and other digits too


class BadValue(Exception):
    """A client's value that the column cannot hold exactly; `reason` says why, for a person."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(f"{column}: {reason}")
        self.column = column
        self.reason = reason


def wire_from_mysql(column: Column, value: Any) -> Any:
    """Return the wire value of what MySQL gave: a driver's Python value, or the text form that `cdc.decode` yields."""
    if value is None:
        return None
    match column.kind:
        case Kind.INTEGER:
            return value if -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX else str(value)
        case Kind.DECIMAL:
            return f"{value:f}" if isinstance(value, Decimal) else value
        case Kind.BOOLEAN:
            return bool(value)
        case Kind.DATE:
            return value.isoformat() if isinstance(value, dt.date) else value
        case Kind.TIMESTAMP:
            return rfc3339(value)
        case Kind.JSON:
            return json.loads(value) if isinstance(value, str) else value
        case _:
            return value


def rfc3339(value: dt.datetime | str) -> str:
    """Return a UTC time as RFC 3339 ending in Z, with six digits of fraction or, where they are zero, none."""
    text = value.isoformat(sep="T") if isinstance(value, dt.datetime) else value.replace(" ", "T", 1)
    return f"{text.removesuffix('.000000')}Z"


def rfc3339_from_us(microseconds: int) -> str:
    """Return microseconds since 1970 as RFC 3339."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    text = _text_of_second(seconds)
    return f"{text}.{fraction:06d}Z" if fraction else f"{text}Z"


@lru_cache(maxsize=1024)
def _text_of_second(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=_TIMES_MAX)
def us_from_rfc3339(text: str) -> int:
    """Return microseconds since 1970 of a client's timestamp; one without a zone counts as UTC. Raises ValueError."""
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def wire_json(values: Mapping[str, Any], columns: tuple[Column, ...]) -> str:
    """Return decoded MySQL values as the JSON text of `data`, columns in the given order. JSON columns keep the text they have."""
    return orjson.dumps(
        {
            c.name: orjson.Fragment(values[c.name].encode())
            if c.kind is Kind.JSON and values[c.name] is not None
            else wire_from_mysql(c, values[c.name])
            for c in columns
        }
    ).decode()


def wire_from_client(column: Column, value: Any) -> Any:
    """Return a client's value in its wire form, or raise BadValue; null stays null."""
    if value is None:
        return None
    match column.kind:
        case Kind.INTEGER:
            return _whole(column, value)
        case Kind.DECIMAL:
            return _decimal(column, value)
        case Kind.BOOLEAN:
            if isinstance(value, bool) or value in (0, 1):
                return bool(value)
            raise BadValue(column.name, "true or false expected")
        case Kind.ENUM:
            if value in column.labels:
                return value
            raise BadValue(column.name, f"one of {', '.join(column.labels)} expected")
        case Kind.DATE:
            return _date(column, value)
        case Kind.JSON:
            return value
        case Kind.TEXT:
            return _text(column, value)
        case Kind.TIMESTAMP:
            raise BadValue(column.name, "set by the server")


def mysql_from_wire(column: Column, value: Any) -> Any:
    """Return the statement parameter that stores a wire value."""
    if column.kind is Kind.JSON and value is not None:
        return json_text(value)
    if column.kind is Kind.INTEGER and isinstance(value, str):
        return int(value)
    return value


def json_text(value: Any) -> str:
    """Return a JSON value as compact text. orjson writes whole numbers up to 64 bits; a larger one needs the slower writer."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_same(column: Column, one: Any, other: Any) -> bool:
    """Tell whether two wire values are the same by the column's type: JSON by value, everything else as it stands."""
    if column.kind is Kind.JSON:
        return is_same_json(one, other)
    return bool(one == other)


def is_same_json(one: Any, other: Any) -> bool:
    """Compare JSON by value: key order and 1 against 1.0 do not matter, true against 1 does."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same_json, one, other))
    return bool(one == other)


def _whole(column: Column, value: Any) -> Any:
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _WHOLE.fullmatch(value)):
        number = int(value)
    if number is None:
        raise BadValue(column.name, "a whole number expected")
    if not column.minimum <= number <= column.maximum:
        raise BadValue(column.name, f"not between {column.minimum} and {column.maximum}")
    return number


def _decimal(column: Column, value: Any) -> str:
    """Accept a number or text whose value fits; never round."""
    text = str(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    if len(text) > _NUMBER_TEXT_CHARACTERS_MAX or not _NUMBER.fullmatch(text):
        raise BadValue(column.name, "a number, or text that is one, expected")
    number = Decimal(text)
    whole_digits = column.precision - column.scale
    if not number.is_finite() or (number and number.adjusted() >= whole_digits):
        raise BadValue(column.name, f"more than {whole_digits} digits before the point")
    if number and number.adjusted() < -_NUMBER_TEXT_CHARACTERS_MAX:
        raise BadValue(column.name, f"more than {column.scale} digits after the point")
    scaled = number.quantize(_smallest(column.scale))
    if scaled != number:
        raise BadValue(column.name, f"more than {column.scale} digits after the point")
    return f"{scaled if scaled else abs(scaled):f}"


@lru_cache
def _smallest(scale: int) -> Decimal:
    return Decimal(1).scaleb(-scale)


def _date(column: Column, value: Any) -> str:
    """Accept YYYY-MM-DD; a midnight after it, as a client's date type may print, takes nothing away."""
    found = _DATE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise BadValue(column.name, "a date as YYYY-MM-DD expected")
    try:
        dt.date.fromisoformat(found[1])
    except ValueError:
        raise BadValue(column.name, "no such date") from None
    return str(found[1])


def _text(column: Column, value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue(column.name, "text expected")
    text = value.rstrip(" ") if column.mysql_type.startswith("char(") else value  # as MySQL gives a CHAR back
    if column.characters_max and len(text) > column.characters_max:
        raise BadValue(column.name, f"longer than {column.characters_max} characters")
    if column.bytes_max and len(text.encode()) > column.bytes_max:
        raise BadValue(column.name, f"longer than {column.bytes_max} bytes")
    return text
