"""Requests of many thousand items that must be translated: the loop goes on meanwhile."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.running import Running

TOML = """
[server]
port = 0
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
[providers.other]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
[models.either]
target = "other/echo?fault=redirect"
fallback = ["lab/echo"]
"""
COUNT = 20_000
LONG = [{"role": "user", "content": f"message {number}"} for number in range(COUNT)]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


def ask(gateway: Running, **body: Any) -> httpx.Response:
    return httpx.post(f"{gateway.url}/responses", json={"model": "lab/echo", "input": LONG, **body}, timeout=30)


@contextlib.contextmanager
def turns(gateway: Running) -> Iterator[list[float]]:
    """The times at which the loop had a turn."""
    found: list[float] = []

    async def live() -> None:
        while True:
            found.append(gateway.loop.time())
            await asyncio.sleep(0.001)

    living = gateway.call(lambda: gateway.loop.create_task(live()))
    try:
        yield found
    finally:
        gateway.call(living.cancel)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_long_request_is_translated_beside_the_loop_and_arrives_as_it_is(gateway: Running, stream: bool) -> None:
    longest = []
    for _ in range(3):  # a machine that is busy with others holds us up as well
        with turns(gateway) as found:
            answer = ask(gateway, stream=stream)
        assert answer.status_code == 200
        longest.append(max(behind - before for before, behind in itertools.pairwise(found)))
    assert min(longest) < 0.06, "the loop stood still"
    sent = gateway.sim.requests[-1].json["messages"]
    assert [one["content"] for one in sent] == [one["content"] for one in LONG]


def test_what_a_long_request_gets_wrong_is_told_as_of_a_short_one(gateway: Running) -> None:
    wrong = {"tools": [{"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "x"}]}
    long, short = (ask(gateway, input=given, **wrong) for given in (LONG, "hi"))
    assert long.status_code == 400
    assert long.json() == short.json()
    bad = [*LONG, {"type": "function_call_output", "call_id": "call_1", "output": "x"}]
    assert ask(gateway, input=bad).status_code == 400
    assert json.loads(ask(gateway, input="hi").content)["status"] == "completed"


def test_a_long_request_falls_back_as_a_short_one_does(gateway: Running) -> None:
    answer = ask(gateway, model="either")
    assert answer.status_code == 200
    assert answer.headers["tidegate-deployment"] == "lab/echo"
