"""Hints and the witness on their way to Redis: none is lost to a Redis that started again, and one that is away delays nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis as client

from cdc.announce import SILENCE_SECONDS, Announcer
from cli.embedded import RedisServer
from schema.hints import Hint, decoded_hint, head_channel
from schema.settings import Settings

NAME = "announced"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture
def settings(server: RedisServer) -> Settings:
    return Settings(mysql_url="mysql://nobody@127.0.0.1/none", redis_url=server.url)


@pytest.fixture
def announcer(settings: Settings) -> Iterator[Announcer]:
    opened = Announcer(settings, database=NAME)
    yield opened
    opened.close()


class Listener:
    """Whoever has subscribed to the hints of this database."""

    def __init__(self, settings: Settings) -> None:
        self._redis = client.Redis.from_url(settings.redis_url)
        self._messages: Any = self._redis.pubsub()  # type: ignore[no-untyped-call]
        self._messages.subscribe(head_channel(NAME))
        assert self._next() is not None, "the answer to SUBSCRIBE"

    def hint(self) -> Hint | None:
        message = self._next()
        return decoded_hint(message["data"]) if message is not None else None

    def close(self) -> None:
        self._messages.close()
        self._redis.close()

    def _next(self) -> dict[str, bytes] | None:
        message: dict[str, bytes] | None = self._messages.get_message(timeout=5)
        return message


@pytest.fixture
def listener(settings: Settings) -> Iterator[Listener]:
    opened = Listener(settings)
    yield opened
    opened.close()


def announce(announcer: Announcer, head: int) -> float:
    """An append to `head`; the seconds it took."""
    began = time.monotonic()
    announcer.publish(began, old_head=head - 1, new_head=head, companies=[9, 7])
    announcer.keep_witness(began, b"witness of %d" % head)
    return time.monotonic() - began


def test_each_append_is_told_with_its_companies_and_its_witness_is_kept(announcer: Announcer, listener: Listener) -> None:
    for head in (2, 3, 4):
        announce(announcer, head)
    assert [listener.hint() for _ in range(3)] == [Hint(1, 2, (7, 9)), Hint(2, 3, (7, 9)), Hint(3, 4, (7, 9))]
    assert announcer.read_witness() == b"witness of 4"


def test_what_was_sent_last_arrives_though_nobody_reads_its_answer_before_the_end(settings: Settings, announcer: Announcer) -> None:
    announce(announcer, 8)
    announcer.close()
    assert Announcer(settings, database=NAME).read_witness() == b"witness of 8"


def test_the_first_append_after_a_restart_of_redis_is_told(server: RedisServer, settings: Settings, announcer: Announcer) -> None:
    announce(announcer, 2)
    server.kill()
    server.start()
    listener = Listener(settings)
    announce(announcer, 3)
    assert listener.hint() == Hint(2, 3, (7, 9))
    assert announcer.read_witness() == b"witness of 3"
    listener.close()


def test_a_redis_that_refuses_is_told_again_with_the_next_append(
    settings: Settings, announcer: Announcer, listener: Listener
) -> None:
    """It has no memory for a witness any more, say: its refusal comes where an answer to the next command is awaited."""
    with client.Redis.from_url(settings.redis_url) as admin:
        admin.config_set("maxmemory", 1)
        announce(announcer, 5)
        admin.config_set("maxmemory", 0)
    announce(announcer, 6)
    hints = [listener.hint(), listener.hint()]
    assert hints == [Hint(4, 5, (7, 9)), Hint(5, 6, (7, 9))]
    assert announcer.read_witness() == b"witness of 6"


def test_a_redis_that_hangs_costs_its_timeout_once_a_second_and_is_found_again(
    server: RedisServer, settings: Settings, announcer: Announcer, listener: Listener
) -> None:
    timeout = settings.redis_timeout_ms / 1000
    announce(announcer, 2)
    assert listener.hint() == Hint(1, 2, (7, 9))
    server.pause()
    try:
        first = announce(announcer, 3) + announce(announcer, 4)  # what is sent to it waits in a socket: only the answers are missed
        others = [announce(announcer, head) for head in range(5, 45)]
    finally:
        server.resume()
    assert first + sum(others) < 3 * timeout + 0.2, "the answers, and a connection anew"
    assert max(others[-30:]) < timeout / 4, "then it is left alone"
    time.sleep(SILENCE_SECONDS)
    announce(announcer, 50)
    heard = listener.hint()
    while heard is not None and heard.head < 50:  # what it was sent before it hung
        heard = listener.hint()
    assert heard == Hint(49, 50, (7, 9))


def test_a_redis_that_is_down_is_left_alone_for_a_second(settings: Settings) -> None:
    announcer = Announcer(replace(settings, redis_url="redis://127.0.0.1:1/0"), database=NAME)
    assert sum(announce(announcer, head) for head in range(2, 200)) < 1.0
    announcer.close()


def test_without_redis_there_is_nothing_to_tell(settings: Settings) -> None:
    announcer = Announcer(replace(settings, redis_url=""), database=NAME)
    announce(announcer, 2)
    assert announcer.read_witness() is None
    announcer.close()
