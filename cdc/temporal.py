"""Dates and times of MySQL's binary forms as the text that SELECT prints, zero and impossible ones too.

Used for columns and for the opaque values inside JSON. TIMESTAMP comes out in UTC.

Source: MySQL 9.7, mysys/my_time.cc (`my_datetime_packed_from_binary` and its neighbours); manual, "Date and Time Data
Type Representation".
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Final

_SECONDS_OF_DAY: Final = 86400
_TWO: Final = tuple(f"{number:02d}" for number in range(64))
_MINUTE_SECOND: Final = tuple(f":{number >> 6:02d}:{number & 63:02d}" for number in range(4096))
"""Text of a packed minute and second, 6 bits each."""


@lru_cache(maxsize=20_000)
def _packed_date(packed: int) -> str:
    """`packed` is (year × 13 + month) × 32 + day."""
    year_month = packed >> 5
    return f"{year_month // 13:04d}-{year_month % 13:02d}-{packed & 31:02d}"


@lru_cache(maxsize=20_000)
def _unix_day(day: int) -> str:
    at = time.gmtime(day * _SECONDS_OF_DAY)
    return f"{at.tm_year:04d}-{at.tm_mon:02d}-{at.tm_mday:02d}"


def fraction_text(value: int, digits: int) -> str:
    """`value` counts units of the smallest even number of digits that holds `digits`, as the column stores it."""
    stored = digits + (digits & 1)
    return f".{value:0{stored}d}"[: digits + 1]


@lru_cache(maxsize=20_000)
def date_text(raw: bytes) -> str:
    """A DATE column's three bytes, little-endian: year × 512 + month × 32 + day."""
    packed = int.from_bytes(raw, "little")
    return f"{packed >> 9:04d}-{packed >> 5 & 15:02d}-{packed & 31:02d}"


def datetime_text(packed: int) -> str:
    """Date and time without fraction: 17 bits year × 13 + month, 5 day, 5 hour, 6 minute, 6 second."""
    return f"{_packed_date(packed >> 17)} {_TWO[packed >> 12 & 31]}{_MINUTE_SECOND[packed & 4095]}"


def timestamp_text(seconds: int) -> str:
    """Seconds since 1970 as UTC; 0 is MySQL's zero timestamp."""
    if not seconds:
        return "0000-00-00 00:00:00"
    day, rest = divmod(seconds, _SECONDS_OF_DAY)
    minutes, second = divmod(rest, 60)
    hour, minute = divmod(minutes, 60)
    return f"{_unix_day(day)} {_TWO[hour]}{_MINUTE_SECOND[minute << 6 | second]}"


def time_text(packed: int) -> str:
    """A time of day or a span, not negative: 10 bits hour, 6 minute, 6 second."""
    return f"{packed >> 12 & 1023:02d}{_MINUTE_SECOND[packed & 4095]}"


def json_date_text(packed: int) -> str:
    """A DATE inside JSON: the packed DATETIME with microseconds in the lowest 24 bits."""
    return _packed_date(packed >> 41)


def json_datetime_text(packed: int) -> str:
    """A DATETIME or TIMESTAMP inside JSON, always with six digits of fraction."""
    return f"{datetime_text(packed >> 24)}.{packed & 0xFFFFFF:06d}"


def json_time_text(packed: int) -> str:
    """A TIME inside JSON, signed, always with six digits of fraction."""
    size = abs(packed)
    return f"{'-' if packed < 0 else ''}{time_text(size >> 24)}.{size & 0xFFFFFF:06d}"
