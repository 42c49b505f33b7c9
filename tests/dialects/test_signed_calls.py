"""The signature of a call, where Google's models are asked by the chat endpoint
(https://ai.google.dev/gemini-api/docs/thought-signatures): without it Google refuses what follows the call."""

import json
from typing import Any

import pytest

from tests.dialects import common
from tests.dialects.chat import playing
from tests.dialects.chat.test_chat_decoder import calls, tool
from tests.dialects.crossing import ASKS, Crossing
from tests.dialects.messages.streams import anthropic_message
from tests.dialects.responses.client import final
from tidegate.wire.events import Laws, MessageEnd, ReasoningEnd, Seal, TextDelta, ToolCallStart

SIGNED = {**tool(0, "c0", "tide", '{"place":"a"}'), "extra_content": {"google": {"thought_signature": "QUJD"}}}
PLAIN = tool(1, "c1", "tide", '{"place":"b"}')
STREAM = playing.stream({"content": "Both."}, calls(SIGNED), calls(PLAIN), finish="tool_calls")
WHOLE = playing.answer({"content": "Both.", **calls(SIGNED, PLAIN)}, "tool_calls")
TOOLS: dict[str, dict[str, Any]] = {
    "responses": {"tools": [{"type": "function", "name": "tide", "parameters": {"type": "object"}, "strict": False}]},
    "messages": {"tools": [{"name": "tide", "input_schema": {"type": "object"}}]},
    "gemini": {"tools": [{"functionDeclarations": [{"name": "tide"}]}]},
}


def answered(client: str, out: bytes, *, stream: bool) -> dict[str, Any]:
    """The next request: all that the client got, and the results."""
    match client:
        case "responses":
            output = (final(out) if stream else json.loads(out))["output"]
            results = [
                {"type": "function_call_output", "call_id": item["call_id"], "output": "7"}
                for item in output
                if item["type"] == "function_call"
            ]
            return {"input": [{"role": "user", "content": "?"}, *output, *results]}
        case "messages":
            content = anthropic_message(out).to_dict()["content"] if stream else json.loads(out)["content"]
            assert isinstance(content, list)
            results = [
                {"type": "tool_result", "tool_use_id": block["id"], "content": "7"}
                for block in content
                if block["type"] == "tool_use"
            ]
            said = [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
            return {"messages": [*ASKS["messages"]["messages"], *said]}
        case _:
            chunks = common.events(out) if stream else [json.loads(out)]
            parts = [part for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
            called = [part["functionCall"] for part in parts if "functionCall" in part]
            results = [
                {"functionResponse": {"id": one["id"], "name": one["name"], "response": {"output": "7"}}}
                for one in called
            ]
            said = [{"role": "model", "parts": parts}, {"role": "user", "parts": results}]
            return {"contents": [*ASKS["gemini"]["contents"], *said]}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("client", TOOLS)
def test_the_signature_comes_back_with_its_call(client: str, stream: bool) -> None:
    first = Crossing(client, "chat", stream=stream, **TOOLS[client])
    out = first.streamed(STREAM) if stream else first.whole(WHOLE)
    assert b"QUJD" not in out, "it travels in an envelope"
    second = Crossing(client, "chat", stream=stream, **TOOLS[client], **answered(client, out, stream=stream))
    assert not [name for name in second.dropped if "thinkingConfig" not in name]
    (said,) = [one for one in second.sent["messages"] if one["role"] == "assistant"]
    assert [one.get("extra_content") for one in said["tool_calls"]] == [SIGNED["extra_content"], None]
    assert [json.loads(one["function"]["arguments"])["place"] for one in said["tool_calls"]] == ["a", "b"]


def test_the_signature_stands_right_before_its_call() -> None:
    kinds = playing.decoded(STREAM)
    at = kinds.index(ReasoningEnd(Seal(kind="thought_signature", data="QUJD", call_id="c0")))
    assert [type(one) for one in kinds[at - 2 : at + 2]] == [TextDelta, MessageEnd, ReasoningEnd, ToolCallStart]


LATE = {"index": 0, "extra_content": SIGNED["extra_content"]}
BEGUN = tool(0, "c0", "tide", '{"place":')
REST = {"index": 0, "function": {"arguments": '"a"}'}}
LATER: dict[str, list[dict[str, Any]]] = {
    "alone": [calls(BEGUN), calls(LATE), calls(REST), calls(PLAIN)],
    "with arguments": [calls(BEGUN), calls({**LATE, **REST}), calls(PLAIN)],
    "at its end": [calls(BEGUN), calls(REST), calls(LATE), calls(PLAIN)],
    "behind the next call": [calls(BEGUN), calls(REST), calls(PLAIN), calls(LATE)],
    "while the next one goes on": [calls(BEGUN), calls(tool(1, "c1", "tide", "")), calls(LATE), calls(REST), calls({"index": 1, "function": PLAIN["function"] | {"name": None}})],
    "behind a thought": [calls(BEGUN), {"reasoning_content": "Hm."}, calls(LATE), calls(REST), calls(PLAIN)],
    "behind words": [calls(BEGUN), {"content": "So."}, calls(LATE), calls(REST), calls(PLAIN)],
}  # fmt: skip
"""Streams that sign a call after they have named it."""


@pytest.mark.parametrize("when", LATER)
@pytest.mark.parametrize("client", TOOLS)
def test_a_signature_that_comes_later_than_the_name_comes_back_with_its_call(client: str, when: str) -> None:
    stream = playing.stream({"content": "Both."}, *LATER[when], finish="tool_calls")
    laws = Laws()
    decoded = playing.decoded(stream)
    for event in decoded:
        laws.check(event)
    assert decoded.count(ReasoningEnd(Seal(kind="thought_signature", data="QUJD", call_id="c0"))) == 1
    out = Crossing(client, "chat", stream=True, **TOOLS[client]).streamed(stream)
    second = Crossing(client, "chat", stream=True, **TOOLS[client], **answered(client, out, stream=True))
    said = [one for one in second.sent["messages"] if one["role"] == "assistant"]
    called = [entry for one in said for entry in one.get("tool_calls", ())]
    assert [one.get("extra_content") for one in called] == [SIGNED["extra_content"], None]
    assert [json.loads(one["function"]["arguments"])["place"] for one in called] == ["a", "b"]


def test_a_signature_that_is_repeated_is_told_once() -> None:
    events = playing.decoded(playing.stream(calls(SIGNED), calls(LATE), calls(LATE), finish="tool_calls"))
    assert [type(one) for one in events].count(ReasoningEnd) == 1


@pytest.mark.parametrize("extra", [None, 7, "x", {"google": None}, {"google": {"thought_signature": 7}}, {"other": 1}])
def test_what_is_no_signature_is_none(extra: Any) -> None:
    events = playing.decoded(playing.stream(calls({**PLAIN, "extra_content": extra}), finish="tool_calls"))
    assert not any(isinstance(event, ReasoningEnd) for event in events)
    assert any(isinstance(event, ToolCallStart) for event in events)
