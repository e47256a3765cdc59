"""What must never happen, in the words that the guards are sorted by."""

from __future__ import annotations

DOUBLED = "a retry makes a second row"
BELIEVED = "a device keeps believing a write that was refused"
REVERTED = "a merged field is reverted by the same device's next push"
RESURRECTED = "a late device brings a deleted record back"
JUMPED = "a cursor jumps over somebody else's change"
HALVED = "half an invoice is visible or stored"
BLOCKED = "one bad record blocks the others"
LOCKED = "a wrong clock locks a record"

SYNC = (DOUBLED, BELIEVED, REVERTED, RESURRECTED, JUMPED, HALVED, BLOCKED, LOCKED)

BOOKS = "the books are broken by way of the API"
SEEN = "somebody sees or touches what is not theirs"
DROPPED = "something pushed is dropped"

LOST = "a committed change is missing from the change log"
TWICE = "a change is in the change log twice"
WRONG = "a change says something other than the row did"
PASSED_OVER = "the checkpoint passes what was not stored"
TWO_WRITERS = "two tailers write the change log"
BYPASSED = "the change log is written by somebody other than the tailer"
REPLACED = "MySQL's past was replaced and nobody is told"
FORGED = "the change log was tampered with and nobody is told"
NEEDED = "retention takes what somebody still needs"
UNTOLD = "a difference between table and change log is hidden, or made by who looks for it"
HELD_UP = "a device waits though there is something for it, or holds up others"
