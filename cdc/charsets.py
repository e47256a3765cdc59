"""MySQL's character sets as decoders: bytes of a column, by its collation's number, to the text that SELECT shows.

A charset that is not here, and bytes that mean nothing in theirs, raise; nothing is replaced or dropped. Where Python's
codec and MySQL's table give different characters, MySQL's holds. Where MySQL has none and shows `?` or U+FFFD (seven pairs
of big5, the rare corners of cp932), Python's character stands, because it keeps what is stored.

Source: information_schema.COLLATIONS of MySQL 9.7 for the numbers; manual, "Supported Character Sets".
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping
from typing import Final

BINARY_COLLATION: Final = 63
UNDEFINED: Final = "\ufffe"
"""What a character table of `codecs.charmap_decode` has for a byte without a character."""

TextDecoder = Callable[[bytes], str]
"""Raises UnicodeDecodeError."""

_COLLATIONS: Final[Mapping[str, Iterable[int]]] = {
    "ascii": (11, 65),
    "big5": (1, 84),
    "binary": (BINARY_COLLATION,),
    "cp1250": (26, 34, 44, 66, 99),
    "cp1251": (14, 23, 50, 51, 52),
    "cp1256": (57, 67),
    "cp1257": (29, 58, 59),
    "cp850": (4, 80),
    "cp852": (40, 81),
    "cp866": (36, 68),
    "cp932": (95, 96),
    "eucjpms": (97, 98),
    "euckr": (19, 85),
    "gb18030": (248, 249, 250),
    "gb2312": (24, 86),
    "gbk": (28, 87),
    "greek": (25, 70),
    "hebrew": (16, 71),
    "koi8r": (7, 74),
    "koi8u": (22, 75),
    "latin1": (5, 8, 15, 31, 47, 48, 49, 94),
    "latin2": (2, 9, 21, 27, 77),
    "latin5": (30, 78),
    "latin7": (20, 41, 42, 79),
    "macce": (38, 43),
    "macroman": (39, 53),
    "sjis": (13, 88),
    "tis620": (18, 89),
    "ucs2": (35, 90, *range(128, 152), 159),
    "ujis": (12, 91),
    "utf16": (54, 55, *range(101, 125)),
    "utf16le": (56, 62),
    "utf32": (60, 61, *range(160, 184)),
    "utf8mb3": (33, 76, 83, *range(192, 216), 223),
    "utf8mb4": (45, 46, *range(224, 248), *range(255, 324)),
}

_CHARSET_OF: Final[Mapping[int, str]] = {number: name for name, numbers in _COLLATIONS.items() for number in numbers}


def _codec(name: str) -> TextDecoder:
    decode = codecs.lookup(name).decode

    def decode_text(data: bytes) -> str:
        return decode(data, "strict")[0]

    return decode_text


def _table(codec: str, differences: Mapping[int, str]) -> TextDecoder:
    """A single-byte charset: Python's codec where it agrees with MySQL."""
    characters = list(bytes(range(256)).decode(codec, "replace").replace("\ufffd", UNDEFINED))
    for byte, character in differences.items():
        characters[byte] = character
    table = "".join(characters)

    def decode_text(data: bytes) -> str:
        return codecs.charmap_decode(data, "strict", table)[0]

    return decode_text


def _decode_utf8(data: bytes) -> str:
    return data.decode()


def _mended(codec: str, differences: Mapping[str, str]) -> TextDecoder:
    """Python's codec, with characters that MySQL has in other places put there."""
    decode = codecs.lookup(codec).decode
    places = str.maketrans(dict(differences))

    def decode_text(data: bytes) -> str:
        text = decode(data, "strict")[0]
        return text if text.isascii() else text.translate(places)

    return decode_text


def _decode_big5(data: bytes) -> str:
    """Python's codec lacks the seven ETEN characters from F9D6 on, which cp950 has."""
    return data.decode("big5", _ETEN)


def _decode_eten(problem: UnicodeError) -> tuple[str, int]:
    if isinstance(problem, UnicodeDecodeError):
        pair = problem.object[problem.start : problem.start + 2]
        if b"\xf9\xd6" <= pair <= b"\xf9\xdc":
            return pair.decode("cp950"), problem.start + 2
    raise problem


_ETEN: Final = "matrix_sync_eten"
codecs.register_error(_ETEN, _decode_eten)

_DECODERS: Final[Mapping[str, TextDecoder]] = {
    "ascii": _codec("ascii"),
    "big5": _decode_big5,
    "cp1250": _codec("cp1250"),
    "cp1251": _codec("cp1251"),
    "cp1256": _table("cp1256", dict.fromkeys((0x8A, 0x8F, 0x98, 0x9A, 0x9F, 0xAA, 0xC0, 0xFF), UNDEFINED)),
    "cp1257": _codec("cp1257"),
    "cp850": _codec("cp850"),
    "cp852": _codec("cp852"),
    "cp866": _table("cp866", {0xFC: "\u207f", 0xFD: "\u00b2"}),
    "cp932": _codec("cp932"),
    "euckr": _codec("cp949"),
    "gb18030": _mended("gb18030", {"\ue7c7": "\u1e3f", "\u1e3f": "\ue7c7"}),
    "gb2312": _codec("gb2312"),
    "gbk": _codec("gbk"),
    "greek": _table("iso8859_7", {0xA1: "\u02bd", 0xA2: "\u02bc", **dict.fromkeys((0xA4, 0xA5, 0xAA), UNDEFINED)}),
    "hebrew": _table("iso8859_8", {0xAF: "\u203e"}),
    "koi8r": _codec("koi8_r"),
    "koi8u": _table("koi8_u", {0x95: "\u2022"}),
    "latin1": _table("cp1252", {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}),
    "latin2": _codec("iso8859_2"),
    "latin5": _codec("iso8859_9"),
    "latin7": _codec("iso8859_13"),
    "macce": _codec("mac_latin2"),
    "macroman": _codec("mac_roman"),
    "sjis": _mended("shift_jis", {"\uff3c": "\\"}),
    "tis620": _codec("tis_620"),
    "ucs2": _codec("utf_16_be"),
    "ujis": _mended("euc_jp", {"\uff3c": "\\"}),
    "utf16": _codec("utf_16_be"),
    "utf16le": _codec("utf_16_le"),
    "utf32": _codec("utf_32_be"),
    "utf8mb3": _decode_utf8,
    "utf8mb4": _decode_utf8,
}


def charset_name(collation: int) -> str:
    """Name of a collation's charset, or `collation N` for one that is not known."""
    return _CHARSET_OF.get(collation, f"collation {collation}")


def text_decoder(collation: int) -> TextDecoder | None:
    """The decoder of a collation's charset; None for an unknown one and for `binary`, which is no text."""
    return _DECODERS.get(_CHARSET_OF.get(collation, ""))


def is_utf8(collation: int) -> bool:
    """Whether `bytes.decode()` reads the collation's charset."""
    return text_decoder(collation) is _decode_utf8
