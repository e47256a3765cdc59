"""SQL literals: what MySQL reads in them is what was written, whatever the characters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymysql.connections import Connection

from cdc.sql import quoted
from schema.connect import open_connection
from tests.servers import Database, Stack

_SURROGATES = range(0xD800, 0xE000)
_MEANING_SOMETHING = "\0\b\t\n\r\x1a\"'\\%_`;#-*/ué日🍵\u2028\ufeff"


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file: nothing is written."""
    with stack.database() as shared:
        yield shared


@pytest.fixture(scope="module")
def session(database: Database) -> Iterator[Connection[Any]]:
    """As all of ours are opened."""
    with open_connection(database.settings.tailer()) as session:
        yield session


def read_back(session: Connection[Any], text: str) -> str:
    with session.cursor() as cursor:
        cursor.execute(f"SELECT {quoted(text)}")
        (row,) = cursor.fetchall()
    return str(row[0])


def test_every_character_stands_for_itself(session: Connection[Any]) -> None:
    text = "".join(chr(code) for code in range(sys.maxunicode + 1) if code not in _SURROGATES)
    assert read_back(session, text) == text
    assert read_back(session, text[::-1]) == text[::-1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(st.sampled_from(_MEANING_SOMETHING)) | st.text())
def test_characters_side_by_side_make_no_other(session: Connection[Any], text: str) -> None:
    assert read_back(session, text) == text
