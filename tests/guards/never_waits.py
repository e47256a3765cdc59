"""Guards of those who wait: pulls and streams for news, standbys for the lease."""

from __future__ import annotations

from tests.guards.guard import guard
from tests.guards.promises import HELD_UP, JUMPED, SEEN, TWO_WRITERS

WAIT = "tests/api/sync/test_wait.py::test"
WATCH = "tests/api/test_head_watch.py::test"
STREAM = "tests/api/sync/test_stream.py::test"
HOLDER = "tests/cdc/test_holder.py::test"
LEADER = "tests/faults/test_stopped_leader.py::test"
TAIL = "tests/cdc/test_tailer.py::test"
HALF_OPEN = "tests/faults/test_half_open.py::test"

FOR_NEWS = (
    guard(
        "what-came-before-the-wait-ends-it",
        HELD_UP,
        "api/head_watch.py",
        "            if head == self._head and self._is_complete:",
        "            if head == self._head:",
        f"{WATCH}_what_came_between_the_page_and_the_wait_ends_it_at_once",
    ),
    guard(
        "who-looked-before-the-watch-began-looks-again",
        HELD_UP,
        "api/head_watch.py",
        "        self._is_complete = self._is_complete and is_looked_at",
        "        self._is_complete = True",
        f"{WATCH}_who_looked_before_the_watch_began_looks_again",
    ),
    guard(
        "hints-before-the-wait-count",
        HELD_UP,
        "api/head_watch.py",
        "head >= max(self._head, self._hints_since, self._hints.get(company_id, 0))",
        "head >= self._head",
        f"{WATCH}_a_hint_that_came_before_the_wait_ends_it",
    ),
    guard(
        "after-a-lost-hint-the-watch-asks",
        HELD_UP,
        "api/head_watch.py",
        "hint is None or hint.before != self._hints_to",
        "hint is None",
        f"{WATCH}_after_a_hint_that_does_not_follow_on_the_watch_asks",
    ),
    guard(
        "who-has-seen-what-is-no-more-is-woken",
        HELD_UP,
        "api/head_watch.py",
        "(version > seen or head < seen)",
        "version > seen",
        f"{WATCH}_a_head_below_what_was_seen_wakes_everybody",
    ),
    guard(
        "a-device-waits-only-so-often",
        HELD_UP,
        "api/head_watch.py",
        "        if count >= self._held_max:",
        "        if False:",
        f"{WAIT}_a_device_holds_only_so_many_and_the_next_is_answered_at_once",
    ),
    guard(
        "who-waited-may-wait-again",
        HELD_UP,
        "api/head_watch.py",
        "            self._held[key] -= 1\n",
        "            pass\n",
        f"{WATCH}_who_waited_may_wait_again",
    ),
    guard(
        "who-waits-must-still-have-the-right",
        SEEN,
        "api/pull.py",
        "            scope, before = await scope_again(request, pull.company_id, pull.device_id), scope",
        "            before = scope",
        f"{WAIT}_who_loses_the_right_to_read_while_waiting_is_told_within_seconds",
    ),
    guard(
        "a-stream-ends-with-the-right-to-it",
        SEEN,
        "api/stream.py",
        "        if is_new or await scope_again(request, pull.company_id, pull.device_id) != scope:",
        "        if is_new:",
        f"{STREAM}_it_ends_when_its_reader_may_read_less",
    ),
    guard(
        "what-was-streamed-may-not-have-arrived",
        JUMPED,
        "api/stream.py",
        "start=found.cursor(pull.last_version)), after=begun_at)",
        "start=found.cursor(pull.last_version)))",
        f"{STREAM}_a_push_never_passes_what_only_the_stream_was_told",
    ),
    guard(
        "streamed-pages-are-on-record",
        JUMPED,
        "api/stream.py",
        "    await note_given(request.app, scope, pull, found)\n",
        "",
        f"{STREAM}_an_edit_of_what_the_stream_brought_is_no_conflict",
    ),
)

FOR_THE_LEASE = (
    guard(
        "a-silent-holder-is-ended",
        HELD_UP,
        "cdc/lease.py",
        "                if watch.is_silent(look_at(self._connection, session), now):",
        "                if watch.is_silent(look_at(self._connection, session), now) and False:",
        f"{LEADER}_a_second_tailer_that_is_no_standby_replaces_a_stopped_one",
    ),
    guard(
        "a-second-tailer-is-refused",
        TWO_WRITERS,
        "cdc/lease.py",
        "                if not is_standby and watch.is_alive() and now - began >= _DYING_SECONDS:",
        "                if False:",
        f"{TAIL}_a_second_tailer_is_refused_by_name_and_a_standby_takes_over",
    ),
    guard(
        "one-that-mysql-keeps-waiting-is-alive",
        TWO_WRITERS,
        "cdc/holder.py",
        "            or not sight.is_waiting_for_client\n            or last is None",
        "            or last is None",
        f"{HOLDER}_one_that_mysql_keeps_waiting_is_not_silent",
    ),
    guard(
        "one-that-owes-mysql-rows-is-silent",
        TWO_WRITERS,
        "cdc/holder.py",
        'frozenset({"Sending to client", "Receiving from client"})',
        'frozenset({"Sending to client"})',
        f"{HOLDER}_one_that_owes_mysql_the_rows_of_a_load_waits_for_its_client",
    ),
    guard(
        "a-standby-that-slept-judges-nobody",
        TWO_WRITERS,
        "cdc/holder.py",
        "            or now - last_at > _GAP_SECONDS_MAX\n",
        "",
        f"{HOLDER}_a_pause_between_two_sights_says_nothing_of_the_holder",
    ),
    guard(
        "a-living-holder-is-seen-to-live",
        TWO_WRITERS,
        "cdc/holder.py",
        "            or sight.seconds < last.seconds\n",
        "",
        f"{HOLDER}_a_living_one_never_is_however_its_commands_fall",
    ),
    guard(
        "another-session-is-another-holder",
        TWO_WRITERS,
        "cdc/holder.py",
        "            or last.session != sight.session\n",
        "",
        f"{HOLDER}_another_session_begins_anew_and_one_that_is_not_seen_is_left_alone",
    ),
    guard(
        "a-holder-shows-that-it-lives",
        TWO_WRITERS,
        "cdc/lease.py",
        "        if self._clock() - self._kept_at >= KEEP_SECONDS:",
        "        if False:",
        f"{HOLDER}_a_holder_is_heard_of_twice_a_second",
    ),
    guard(
        "ones-own-lost-session-is-ended",
        HELD_UP,
        "cdc/lease.py",
        "        kill(self._connection, self._former)\n",
        "",
        f"{HOLDER}_a_session_of_its_own_that_the_server_still_keeps_does_not_stand_in_the_way",
    ),
)
