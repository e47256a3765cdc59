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
    """Reads the rows of one table."""

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self._codecs = codecs
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
                return read_by_column(self._codecs, nulls, body, start)
            function = self._functions[bitmap] = compile_row(self._codecs, nulls)
        return function(body, start)


def read_by_column(codecs: Sequence[Codec], nulls: int, body: bytes, at: int) -> tuple[Row, int]:
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
        else:
            value, at = codec(body, at)
        values.append(value)
    return tuple(values), at


def compile_row(codecs: Sequence[Codec], nulls: int) -> RowFunction:
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
            values.append(f"f{index}(v{index})" if codec.convert else f"v{index}")
        else:
            end_run()
            names[f"f{index}"] = codec
            lines.append(f" v{index}, at = f{index}(body, at)")
            values.append(f"v{index}")
    end_run()
    code = "def row(body, at):\n" + "\n".join(lines) + f"\n return ({''.join(f'{value}, ' for value in values)}), at\n"
    exec(compile(code, "<row>", "exec"), names)
    return cast(RowFunction, names["row"])
