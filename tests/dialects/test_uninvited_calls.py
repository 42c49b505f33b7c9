"""A model that calls twice although it was asked for one call at a time: every client gets both, each of them whole."""

import json
from typing import Any

import pytest

from tests.dialects import common
from tests.dialects.chat import playing
from tests.dialects.chat.test_chat_decoder import calls, tool
from tests.dialects.crossing import PAIRS, Crossing
from tests.dialects.gemini import samples
from tests.dialects.messages import streams
from tests.dialects.test_round_trips_of_pairs import shown
from tidegate.dialects.dialect import Endpoint
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Finished,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)

CALLERS = [pair for pair in PAIRS if pair[0] != "completions"]
SCHEMA = {"type": "object", "properties": {}}
ONE_AT_A_TIME: dict[str, dict[str, Any]] = {
    "responses": {
        "tools": [{"type": "function", "name": "tide", "parameters": SCHEMA, "strict": False}],
        "parallel_tool_calls": False,
    },
    "chat": {
        "tools": [{"type": "function", "function": {"name": "tide", "parameters": SCHEMA}}],
        "parallel_tool_calls": False,
    },
    "messages": {
        "tools": [{"name": "tide", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
    "gemini": {
        "tools": [{"functionDeclarations": [{"name": "tide", "parameters": {"type": "OBJECT", "properties": {}}}]}]
    },
}
"""Google's API has no such wish."""


def called(index: int, place: str) -> list[Event]:
    arguments = json.dumps({"place": place})
    pieces: list[Event] = [ToolCallDelta(index, piece) for piece in (arguments[:4], arguments[4:])]
    return [ToolCallStart(index, f"c{index}", "tide"), *pieces, ToolCallEnd(index)]


TWICE: list[Event] = [
    Started("tide-1"),
    TextDelta("Both."),
    *called(0, "a"),
    *called(1, "b"),
    UsageReport(Usage(5, 7)),
    ChoiceEnd("tool_calls"),
    Finished(),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("client", "provider"), CALLERS)
def test_both_calls_are_told_whole_and_in_their_order(client: str, provider: Endpoint, stream: bool) -> None:
    crossing = Crossing(client, provider, stream=stream, **ONE_AT_A_TIME[client])
    answer = shown(TWICE, provider, stream=stream)
    out = crossing.streamed(answer) if stream else crossing.whole(answer)
    told = crossing.judged(out, stream=stream)
    assert (told.ending, told.text) == ("completed", "Both.")
    assert [(name, json.loads(said)) for name, said in told.calls] == [
        ("tide", {"place": "a"}),
        ("tide", {"place": "b"}),
    ]


@pytest.mark.parametrize("client", [client for client in ONE_AT_A_TIME if client != "gemini"])
def test_where_a_provider_has_no_such_switch_the_wish_is_named(client: str) -> None:
    name = "tool_choice.disable_parallel_tool_use" if client == "messages" else "parallel_tool_calls"
    for provider in ("responses", "chat", "messages", "gemini"):
        if provider != client:
            crossing = Crossing(client, provider, stream=False, **ONE_AT_A_TIME[client])
            assert (name in crossing.dropped) is (provider == "gemini")


CUT: dict[str, bytes] = {
    "chat": playing.chunk(calls(tool(0, "c0", "tide", '{"place":"a"}')))
    + playing.chunk(calls(tool(1, "c1", "tide", '{"pla'))),
    "messages": streams.start()
    + streams.block(0, {"type": "tool_use", "id": "c0", "name": "tide", "input": {}}, {"type": "input_json_delta", "partial_json": '{"place":"a"}'})
    + streams.frame("content_block_start", index=1, content_block={"type": "tool_use", "id": "c1", "name": "tide", "input": {}})
    + streams.frame("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"pla'}),
    "gemini": samples.frames(samples.chunk(samples.candidate({"functionCall": {"id": "c0", "name": "tide", "args": {"place": "a"}}}))),
}  # fmt: skip
"""The connection breaks in the second call."""


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize(("client", "provider"), [pair for pair in CALLERS if pair[1] in CUT])
def test_a_call_that_breaks_off_is_no_finished_answer(client: str, provider: Endpoint) -> None:
    crossing = Crossing(client, provider, stream=True, **ONE_AT_A_TIME[client])
    out = crossing.streamed(CUT[provider])
    assert crossing.judged(out, stream=True).ending == "failed"
    if client == "gemini":
        parts = [
            part
            for event in common.events(out)
            for one in event.get("candidates", ())
            for part in one["content"]["parts"]
        ]
        told = [part["functionCall"]["args"] for part in parts if "functionCall" in part]
        assert told == [{"place": "a"}], "half a call is none"
