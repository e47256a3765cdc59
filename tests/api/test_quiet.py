"""The answer of before is given again to the same question only, and only while nothing has moved."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from api.deliveries import Deliveries
from api.heads import Head
from api.pull_request import PullRequest
from api.quiet import Quiet
from api.scope import operator_scope
from api.standing import Standing

SCOPE = operator_scope(7)
PULL = PullRequest("till", 7, 40, None, 100, no_echo=False, is_history=False)
STANDING = Standing(Head(0, 40, 1), Deliveries(fresh_head=3), b"", has_redeliveries=False, newest=12)


def kept() -> Quiet:
    quiet = Quiet()
    quiet.keep(SCOPE, PULL, STANDING.deliveries, STANDING.head, 40)
    return quiet


def test_the_same_question_of_a_device_that_stands_as_it_did_is_known() -> None:
    assert kept().began(SCOPE, replace(PULL), replace(STANDING)) == 40


@pytest.mark.parametrize(
    ("scope", "pull", "standing"),
    [
        (SCOPE, PULL, replace(STANDING, head=Head(0, 41, 1))),
        (SCOPE, PULL, replace(STANDING, head=Head(1, 40, 1))),
        (SCOPE, PULL, replace(STANDING, head=Head(0, 40, 2))),
        (SCOPE, PULL, replace(STANDING, deliveries=Deliveries(fresh_head=3, epoch=1))),
        (SCOPE, replace(PULL, last_version=39), STANDING),
        (SCOPE, replace(PULL, tables=("parties",)), STANDING),
        (SCOPE, replace(PULL, device_id="other"), STANDING),
        (dataclasses.replace(SCOPE, readable=frozenset({"parties"})), PULL, STANDING),
        (dataclasses.replace(SCOPE, company_id=8), PULL, STANDING),
    ],
    ids=["head", "epoch", "floor", "deliveries", "cursor", "tables", "device", "rights", "company"],
)
def test_what_differs_is_looked_at(scope: Any, pull: Any, standing: Any) -> None:
    assert kept().began(scope, pull, standing) is None
