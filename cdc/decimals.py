"""DECIMAL's packed form as the digits that SELECT prints.

Source: MySQL 9.7, strings/decimal.cc, `decimal2bin`: nine digits in four bytes, a rest in as few as it needs, big-endian,
the highest bit set for numbers that are not negative, all bits of negative ones inverted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, cast

_Groups = tuple[tuple[int, int, int], ...]
_BYTES_FOR: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4)
"""Bytes that hold a rest of 0 … 8 digits."""


def decimal_bytes(precision: int, scale: int) -> int:
    """Bytes of a DECIMAL(precision, scale)."""
    whole = precision - scale
    return whole // 9 * 4 + _BYTES_FOR[whole % 9] + scale // 9 * 4 + _BYTES_FOR[scale % 9]


@cache
def decimal_reader(precision: int, scale: int) -> Callable[[bytes], str]:
    """The function that reads a DECIMAL(precision, scale); it raises ValueError on bytes that are none.

    Raises ValueError when there is no such type.
    """
    if not 0 < precision <= 65 or not 0 <= scale <= min(precision, 30):
        raise ValueError(f"DECIMAL({precision}, {scale}) cannot be")
    size = decimal_bytes(precision, scale)
    top, ones = 1 << 8 * size - 1, (1 << 8 * size) - 1
    groups = _groups(precision, scale)
    width = scale + 1

    def read(raw: bytes) -> str:
        if len(raw) != size:
            raise ValueError("a DECIMAL is cut off")
        packed = int.from_bytes(raw, "big") ^ top
        is_negative = packed & top
        if is_negative:
            packed ^= ones
        number = 0
        for shift, mask, limit in groups:
            group = packed >> shift & mask
            if group >= limit:
                raise ValueError("a DECIMAL holds digits that cannot be")
            number = number * limit + group
        text = str(number)
        if scale:
            if len(text) < width:
                text = text.zfill(width)
            text = f"{text[:-scale]}.{text[-scale:]}"
        return f"-{text}" if is_negative else text

    if precision == scale or scale > 9:
        return read
    return _compile(read, size, top, groups, scale)


def _compile(read: Callable[[bytes], str], size: int, top: int, groups: _Groups, scale: int) -> Callable[[bytes], str]:
    """The same without a loop for what is nearly every number: not negative, and whole. All others `read` reads or refuses."""
    tests = " and ".join(f"g{n} < {limit}" for n, (_, _, limit) in enumerate(groups))
    takes = "".join(f" g{n} = packed >> {shift} & {mask}\n" for n, (shift, mask, _) in enumerate(groups))
    whole, text = "0", ""
    for n, (_, _, limit) in enumerate(groups[:-1] if scale else groups):
        whole = f"({whole} * {limit} + g{n})" if n else "g0"
    if scale:
        text = f".{{g{len(groups) - 1}:0{scale}d}}"
    code = (
        "def read_fast(raw):\n packed = from_bytes(raw, 'big') ^ top\n"
        f"{takes} if packed < top and len(raw) == {size} and {tests}:\n  return f'{{{whole}}}{text}'\n return read(raw)\n"
    )
    names: dict[str, Any] = {"from_bytes": int.from_bytes, "top": top, "read": read}
    exec(compile(code, "<decimal>", "exec"), names)
    return cast(Callable[[bytes], str], names["read_fast"])


def _groups(precision: int, scale: int) -> _Groups:
    """(shift, mask, first number too large) of each group of digits, highest first."""
    whole = precision - scale
    digits = [whole % 9] * bool(whole % 9) + [9] * (whole // 9 + scale // 9) + [scale % 9] * bool(scale % 9)
    groups: list[tuple[int, int, int]] = []
    shift = 0
    for count in reversed(digits):
        bits = 8 * (_BYTES_FOR[count] if count < 9 else 4)
        groups.append((shift, (1 << bits) - 1, 10**count))
        shift += bits
    return tuple(reversed(groups))


def decimal_text(raw: bytes, precision: int, scale: int) -> str:
    """The digits of a DECIMAL(precision, scale), with exactly `scale` of them after the point.

    Raises ValueError when `raw` is not one.
    """
    return decimal_reader(precision, scale)(raw)
