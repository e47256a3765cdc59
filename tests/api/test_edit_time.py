"""When an edit was made, by a clock that may be wrong: corrected, and never later than it arrived (contract §3, Policies)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.edit_time import edited_at_us, read_clock_lead_us
from schema.values import rfc3339_from_us

HOUR_US = 3_600_000_000
NOW_US = 1_780_000_000_000_000
moments = st.integers(NOW_US - 10**15, NOW_US + 10**15)


@given(moments, st.integers(-(10**15), 10**15))
def test_no_edit_is_later_than_its_arrival(shown_us: int, lead_us: int) -> None:
    assert edited_at_us(rfc3339_from_us(shown_us), lead_us=lead_us, now_us=NOW_US) <= NOW_US


@given(st.integers(-5 * HOUR_US, 5 * HOUR_US), st.integers(0, 10 * HOUR_US))
def test_an_edit_counts_by_the_servers_clock(lead_us: int, ago_us: int) -> None:
    shown = rfc3339_from_us(NOW_US - ago_us + lead_us)
    assert edited_at_us(shown, lead_us=lead_us, now_us=NOW_US) == NOW_US - ago_us


def test_an_edit_without_a_readable_time_was_made_when_it_arrived() -> None:
    for timestamp in (None, "", "soon", "2026-13-01T00:00:00Z"):
        assert edited_at_us(timestamp, lead_us=HOUR_US, now_us=NOW_US) == NOW_US


def test_the_lead_is_what_sent_at_says_else_the_largest_ever_seen() -> None:
    behind, ahead = rfc3339_from_us(NOW_US - HOUR_US), rfc3339_from_us(NOW_US + HOUR_US)
    assert read_clock_lead_us(behind, arrived_us=NOW_US, known_lead_us=5) == -HOUR_US
    assert read_clock_lead_us(ahead, arrived_us=NOW_US, known_lead_us=5) == HOUR_US
    for sent_at in (None, "soon"):
        assert read_clock_lead_us(sent_at, arrived_us=NOW_US, known_lead_us=5) == 5
