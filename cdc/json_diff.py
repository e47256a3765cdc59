"""Partial JSON updates: what an UPDATE did inside a document, applied to the document before it.

Follows MySQL where a path may lead: exactly, without wrapping a scalar into an array. A difference that does not fit the
document raises: a guess would be stored as if it were the row.

Source: MySQL 9.7, sql/json_diff.h and json_diff.cc (`Json_diff_vector::read_binary`, `apply_json_diffs`), worklog 2955.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from cdc.decode_json import JsonText, Tree, json_tree, tree_text
from cdc.events import Malformed, read_lenenc

_REPLACE: Final = 0
_INSERT: Final = 1
_REMOVE: Final = 2

_LEG: Final = re.compile(
    r"""\s*(?:\[\s*(?:(?P<cell>\d+)|last(?:\s*-\s*(?P<from_last>\d+))?)\s*\]|\.\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<name>[^\s.\[*"]+)))""",
    re.DOTALL,
)
"""One step of a path, as MySQL prints it."""

Leg = str | int
"""A member's name or a cell's number; a negative number counts from the end, -1 is the last."""


class DoesNotApply(ValueError):
    """A difference leads to what the document does not have."""


def apply_differences(document: bytes, differences: bytes) -> JsonText:
    """The text of a stored document after these differences.

    Raises DoesNotApply; ValueError or IndexError on bytes that are neither.
    """
    tree = json_tree(document)
    for operation, path, value in _read_differences(differences):
        _apply(tree, operation, path, value)
    return tree_text(tree)


def _read_differences(data: bytes) -> Iterator[tuple[int, list[Leg], Tree]]:
    at = 0
    while at < len(data):
        operation = data[at]
        if operation > _REMOVE:
            raise Malformed(f"operation {operation} on JSON is not known")
        raw, at = _read_bytes(data, at + 1)
        path = _read_path(raw.decode())
        value: Tree = ""
        if operation != _REMOVE:
            raw, at = _read_bytes(data, at)
            value = json_tree(raw)
        yield operation, path, value


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = read_lenenc(data, at)
    if at + size > len(data):
        raise Malformed("a difference of JSON is cut off")
    return data[at : at + size], at + size


def _read_path(text: str) -> list[Leg]:
    legs: list[Leg] = []
    at = 1
    while at < len(text):
        found = _LEG.match(text, at)
        if found is None:
            break
        at = found.end()
        if found["quoted"] is not None:
            legs.append(str(json.loads(found["quoted"], strict=False)))
        elif found["name"] is not None:
            legs.append(found["name"])
        elif found["cell"] is not None:
            legs.append(int(found["cell"]))
        else:
            legs.append(-1 - int(found["from_last"] or 0))
    if not text.startswith("$") or at != len(text) or not legs:
        raise Malformed("a path into JSON cannot be read")
    return legs


def _apply(tree: Tree, operation: int, path: list[Leg], value: Tree) -> None:
    *way, last = path
    for leg in way:
        tree = _step(tree, leg)
    if operation == _INSERT:
        _insert(tree, last, value)
        return
    _step(tree, last)
    match tree, last:
        case dict(), str():
            if operation == _REPLACE:
                tree[last] = value
            else:
                del tree[last]
        case list(), int():
            if operation == _REPLACE:
                tree[last] = value
            else:
                del tree[last]


def _step(tree: Tree, leg: Leg) -> Tree:
    match tree, leg:
        case dict(), str() if leg in tree:
            return tree[leg]
        case list(), int() if -len(tree) <= leg < len(tree):
            return tree[leg]
    raise DoesNotApply("a difference of JSON leads to what the document does not have")


def _insert(tree: Tree, leg: Leg, value: Tree) -> None:
    match tree, leg:
        case dict(), str() if leg not in tree:
            tree[leg] = value
        case list(), int():
            tree.insert(leg if leg >= 0 else max(0, len(tree) + leg), value)  # beyond the end is at the end
        case _:
            raise DoesNotApply("a difference of JSON adds what the document has, or where it has no place")
