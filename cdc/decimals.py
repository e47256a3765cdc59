"""DECIMAL's packed form as the digits that SELECT prints.

Source: MySQL 9.7, strings/decimal.cc, `decimal2bin`: nine digits in four bytes, a rest in as few as it needs, big-endian,
the highest bit set for numbers that are not negative, all bits of negative ones inverted.
"""

from __future__ import annotations

from functools import cache
from typing import Final

_BYTES_FOR: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4)
"""Bytes that hold a rest of 0 … 8 digits."""


def decimal_bytes(precision: int, scale: int) -> int:
    """Bytes of a DECIMAL(precision, scale)."""
    whole = precision - scale
    return whole // 9 * 4 + _BYTES_FOR[whole % 9] + scale // 9 * 4 + _BYTES_FOR[scale % 9]


@cache
def _groups(precision: int, scale: int) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """(bytes, digits) of each group, before and after the point."""
    whole = precision - scale
    before = ((_BYTES_FOR[whole % 9], whole % 9),) * bool(whole % 9) + ((4, 9),) * (whole // 9)
    after = ((4, 9),) * (scale // 9) + ((_BYTES_FOR[scale % 9], scale % 9),) * bool(scale % 9)
    return before, after


def decimal_text(raw: bytes, precision: int, scale: int) -> str:
    """The digits of a DECIMAL(precision, scale), with exactly `scale` of them after the point.

    Raises ValueError when `raw` has another size than the type.
    """
    size = decimal_bytes(precision, scale)
    if len(raw) != size or not size:
        raise ValueError("a DECIMAL is cut off")
    packed = int.from_bytes(raw, "big")
    top = 1 << 8 * size - 1
    is_negative = not packed & top
    packed = packed ^ top ^ ((1 << 8 * size) - 1) if is_negative else packed ^ top
    before, after = _groups(precision, scale)
    rest = 8 * size
    number, digits = 0, 0
    for width, count in (*before, *after):
        rest -= 8 * width
        group = packed >> rest & (1 << 8 * width) - 1
        if group >= 10**count:
            raise ValueError("a DECIMAL holds digits that cannot be")
        number = number * 10**count + group
        digits += count
    text = f"{number:0{scale + 1}d}"
    if scale:
        text = f"{text[:-scale]}.{text[-scale:]}"
    return f"-{text}" if is_negative else text
