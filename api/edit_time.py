"""When an edit was made, as far as a device's clock can be believed. Stored as a claim; order and versions never rest on it."""

from __future__ import annotations

from schema.values import us_from_rfc3339


def read_clock_lead_us(sent_at: str | None, *, arrived_us: int, known_lead_us: int) -> int:
    """Return by how much a device's clock is ahead of ours: `sent_at` against arrival, else the largest lead ever seen."""
    if sent_at is None:
        return known_lead_us
    try:
        return us_from_rfc3339(sent_at) - arrived_us
    except ValueError:
        return known_lead_us


def edited_at_us(timestamp: str | None, *, lead_us: int, now_us: int) -> int:
    """Return a change's time in our clock, µs since 1970, never later than now; now where it has none that can be read."""
    if timestamp is None:
        return now_us
    try:
        return min(us_from_rfc3339(timestamp) - lead_us, now_us)
    except ValueError:
        return now_us
