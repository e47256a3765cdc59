"""Rows by generated code: for each table and pattern of NULLs one straight-line function, which is what makes reading fast.

Neighbours of fixed size become one `struct` call, NULL columns vanish. The code holds only numbers of columns and sizes,
never a name or a value. `columns.py` says how a single value is read; tests compare both paths.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from cdc.columns import Codec, Fixed, Value

Row = tuple[Value, ...]
"""One value a column, in the order of `TableMap.columns`."""
RowFunction = Callable[[bytes, int], tuple[Row, int]]
"""Reads the values of a row that begin at a position, after its NULL bitmap."""

PATTERNS_MAX: Final = 256
"""Functions made for one table; rows with yet another pattern of NULLs are read column by column."""


class RowReader:
    """Reads the rows of one table. `order` names the columns that a row consists of, by default all as they stand."""

    def __init__(self, codecs: Sequence[Codec], order: Sequence[int] | None = None) -> None:
        self._codecs = codecs
        self._order = range(len(codecs)) if order is None else order
        self._bitmap_bytes = (len(codecs) + 7) // 8
        self._functions: dict[bytes, RowFunction] = {}

    def read(self, body: bytes, at: int) -> tuple[Row, int]:
        """The row whose NULL bitmap is at `at`, and the position after it.

        Raises ValueError, IndexError or struct.error on bytes that are no row; the position may lie beyond the end.
        """
        start = at + self._bitmap_bytes
        bitmap = body[at:start]
        function = self._functions.get(bitmap)
        if function is None:
            nulls = int.from_bytes(bitmap, "little")
            if len(self._functions) >= PATTERNS_MAX:
                return read_by_column(self._codecs, self._order, nulls, body, start)
            function = self._functions[bitmap] = compile_row(self._codecs, self._order, nulls)
        return function(body, start)


def read_by_column(codecs: Sequence[Codec], order: Sequence[int], nulls: int, body: bytes, at: int) -> tuple[Row, int]:
    """The same without generated code. Bit n of `nulls` says that column n is NULL."""
    values: list[Value] = []
    for index, codec in enumerate(codecs):
        if nulls >> index & 1:
            value = None
        elif isinstance(codec, Fixed):
            reader = struct.Struct("<" + codec.code)
            value = reader.unpack_from(body, at)[0]
            at += reader.size
            if codec.convert:
                value = codec.convert(value)
            elif codec.expression:
                value = eval(codec.expression.format("value"), {"value": value})
        else:
            value, at = codec(body, at)
        values.append(value)
    return tuple(values[index] for index in order), at


def compile_row(codecs: Sequence[Codec], order: Sequence[int], nulls: int) -> RowFunction:
    """The function that reads rows with this pattern of NULLs."""
    names: dict[str, Any] = {}
    lines: list[str] = []
    run: list[int] = []

    def end_run() -> None:
        if not run:
            return
        reader = struct.Struct("<" + "".join(cast(Fixed, codecs[index]).code for index in run))
        names[f"unpack{run[0]}"] = reader.unpack_from
        lines.append(f" {''.join(f'v{index}, ' for index in run)}= unpack{run[0]}(body, at)")
        lines.append(f" at += {reader.size}")
        run.clear()

    values: list[str] = []
    for index, codec in enumerate(codecs):
        if nulls >> index & 1:
            values.append("None")
        elif isinstance(codec, Fixed):
            run.append(index)
            names[f"f{index}"] = codec.convert
            read = f"f{index}(v{index})" if codec.convert else f"v{index}"
            values.append(f"({codec.expression.format(read)})" if codec.expression else read)
        else:
            end_run()
            lines += text_lines(f"v{index}", codec.length_bytes)
            names[f"f{index}"] = codec.convert
            values.append(f"v{index}.decode()" if codec.is_utf8 else f"f{index}(v{index})" if codec.convert else f"v{index}")
    end_run()
    for index, value in enumerate(values):
        if index not in order and "(" in value:
            lines.append(f" {value}")  # a column that nobody asked for must make sense all the same
    given = "".join(f"{values[index]}, " for index in order)
    code = "def row(body, at):\n" + "\n".join(lines) + f"\n return ({given}), at\n"
    exec(compile(code, "<row>", "exec"), names)
    return cast(RowFunction, names["row"])


def text_lines(name: str, length_bytes: int) -> list[str]:
    """Code that takes the bytes behind a length, and moves on."""
    if length_bytes == 1:
        size = "body[at]"
    elif length_bytes == 2:
        size = "(body[at] | body[at + 1] << 8)"
    else:
        size = f"int.from_bytes(body[at:at + {length_bytes}], 'little')"
    return [f" start = at + {length_bytes}", f" at = start + {size}", f" {name} = body[start:at]"]
