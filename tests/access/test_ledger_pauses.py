"""What a provider used before it paused is charged too, whether it went on or broke (Anthropic's `pause_turn`)."""

import json
from typing import Any

import httpx
import pytest

from tests.conformance.test_bridged_pauses import BODIES, FIRST, SECOND, turn
from tests.support.canned import Canned, json_answer
from tests.support.running import Running

TOML = """
[server]
port = 0
[prices."canned/*"]
input = 1.0
cached = 0.5
output = 2.0
"""


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def ask(*answers: bytes, stream: bool, toml: str = TOML) -> dict[str, Any]:
    with (
        Canned(*answers) as provider,
        Running(
            toml + provider.toml(kind="anthropic", more='credentials = ["k-0123456789abcdef0123456789"]')
        ) as gateway,
    ):
        body = {**BODIES["responses"], "model": "canned/m", "stream": stream}
        answer = httpx.post(gateway.origin + "/v1/responses", json=body, timeout=20, trust_env=False)
        return gateway.usage(answer.headers["x-request-id"])


def test_an_answer_in_two_parts_costs_both(stream: bool) -> None:
    line = ask(turn(FIRST, "pause_turn", stream=stream), turn(SECOND, "tool_use", stream=stream), stream=stream)
    assert (line["input_tokens"], line["cached_tokens"], line["output_tokens"]) == (24, 4, 10)
    assert line["estimated"] is False
    assert line["cost"] == (20 * 1000 + 4 * 500 + 10 * 2000) / 1e9


def test_a_second_part_that_fails_does_not_make_the_first_one_free(stream: bool) -> None:
    line = ask(
        turn(FIRST, "pause_turn", stream=stream),
        json_answer({"type": "error", "error": {"type": "api_error", "message": "no"}}, "500 Oh no"),
        stream=stream,
    )
    assert line["ending"] == "failed"
    assert (line["input_tokens"], line["output_tokens"]) == (12, 5)
    assert line["cost"] == (10 * 1000 + 2 * 500 + 5 * 2000) / 1e9, json.dumps(line)


def test_each_part_has_the_price_of_its_own_length(stream: bool) -> None:
    """The provider is asked twice, with 12 tokens each time: neither is a long one."""
    toml = TOML + "tiers = [{ over = 20, input = 50.0, cached = 50.0, output = 50.0 }]\n"
    answers = turn(FIRST, "pause_turn", stream=stream), turn(SECOND, "tool_use", stream=stream)
    line = ask(*answers, stream=stream, toml=toml)
    assert (line["input_tokens"], line["output_tokens"]) == (24, 10)
    assert line["cost"] == (20 * 1000 + 4 * 500 + 10 * 2000) / 1e9
