"""Recorded streams of `transformers serve`: put right by the record's quirks, in whatever pieces the bytes come."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from scripts.engine.wire import Reply, grammar
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.completions import CompletionsDialect
from tidegate.dialects.dialect import Call, Destination, Endpoint, Outcome, Stream
from tidegate.dialects.profile import PROFILES
from tidegate.dialects.responses import ResponsesDialect
from tidegate.providers.transformers import TRANSFORMERS

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "transformers"
RESPONSE_ID = "resp_" + "0123456789abcdef" * 3
CREATED_AT = 1_790_000_000

CHINESE = "你好，世界！今天的潮水很平静，海门已经打开。"
PARIS, SHANGHAI = {"city": "Paris"}, {"city": "上海"}

Split = Callable[[bytes], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    for place in range(len(data)):
        yield data[place : place + 1]


def in_random_pieces(data: bytes) -> Iterator[bytes]:
    chance = random.Random(len(data))
    while data:
        size = chance.randint(1, 400)
        yield data[:size]
        data = data[size:]


each_split = pytest.mark.parametrize("split", [whole, bytewise, in_random_pieces])


def play(name: str, split: Split, **members: Any) -> tuple[bytes, Outcome]:
    """What a client gets of a vector, and how it ended."""
    endpoint: Endpoint
    body = {"model": "byheart", "stream": True, **members}
    stream: Stream
    if name.startswith("responses"):
        endpoint = "responses"
        stream = ResponsesDialect().parse(json.dumps({"input": "Hi", **body}).encode()).open(call())
    elif name.startswith("chat"):
        endpoint = "chat"
        asked = {"messages": [{"role": "user", "content": "Hi"}], **body}
        stream = ChatDialect().parse(json.dumps(asked).encode()).open(call())
    else:
        endpoint = "completions"
        stream = CompletionsDialect().parse(json.dumps({"prompt": "Hi", **body}).encode()).open(call())
    stream.attempt(destination(endpoint))
    out = b"".join([stream.feed(piece) for piece in split((VECTORS / f"{name}.sse").read_bytes())])
    out += stream.eof()
    assert stream.outcome is not None
    return out, stream.outcome


def call() -> Call:
    return Call(
        response_id=RESPONSE_ID,
        created_at=CREATED_AT,
        wall_clock=lambda: CREATED_AT + 2,
        profile=PROFILES["openai"],
        request_bytes=100,
    )


def destination(endpoint: Endpoint) -> Destination:
    return Destination(
        provider="engine",
        model="byheart",
        refuses=TRANSFORMERS.refuses[endpoint],
        include_usage=TRANSFORMERS.include_usage,
        cut_reported_as_completed=TRANSFORMERS.cut_reported_as_completed,
        quirks=TRANSFORMERS.quirks,
    )


def response_events(out: bytes) -> list[Any]:
    """The events of a stream that keeps the grammar and that the SDK's types accept."""
    events = grammar(Reply(200, out, "text/event-stream"))
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in events:
        adapter.validate_python(event)
    return events


def chunks(out: bytes) -> list[Any]:
    frames = Reply(200, out, "text/event-stream").frames
    assert [frame.data for frame in frames].count("[DONE]") == 1
    assert frames[-1].data == "[DONE]"
    found = [frame.json for frame in frames[:-1]]
    assert {one["model"] for one in found} == {"byheart"}
    assert all("finish_reason" in choice for one in found for choice in one["choices"])
    return found


@each_split
def test_a_text_answer_gets_the_full_grammar_and_our_envelope(split: Split) -> None:
    out, outcome = play("responses-text", split, metadata={"a": "b"}, tools=[])
    events = response_events(out)
    assert outcome == Outcome("completed")
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == CHINESE
    end = events[-1]["response"]
    assert (end["id"], end["created_at"], end["model"]) == (RESPONSE_ID, CREATED_AT, "byheart")
    assert (end["status"], end["metadata"], end["parallel_tool_calls"]) == ("completed", {"a": "b"}, True)
    assert events[0]["response"]["status"] == "in_progress"


@each_split
def test_an_answer_cut_by_the_limit_is_incomplete_down_to_its_item(split: Split) -> None:
    out, outcome = play("responses-cut", split, max_output_tokens=3)
    events = response_events(out)
    assert outcome == Outcome("incomplete")
    assert [event["type"] for event in events[-2:]] == ["response.output_item.done", "response.incomplete"]
    assert events[-2]["item"]["status"] == "incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_the_same_answer_within_a_wider_limit_is_completed() -> None:
    out, outcome = play("responses-cut", whole, max_output_tokens=4)
    assert outcome == Outcome("completed")
    assert response_events(out)[-1]["response"]["output"][0]["status"] == "completed"


@each_split
def test_a_call_is_announced_empty_and_stands_alone(split: Split) -> None:
    events = response_events(play("responses-call", split)[0])
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert (events[2]["item"]["arguments"], events[2]["item"]["status"]) == ("", "in_progress")
    (item,) = events[-1]["response"]["output"]
    assert json.loads(item["arguments"]) == PARIS
    assert item["id"] == "fc_" + item["call_id"]


@each_split
def test_a_message_opened_a_second_time_after_the_calls_is_said_once(split: Split) -> None:
    events = response_events(play("responses-text-and-calls", split)[0])
    message, first, second = events[-1]["response"]["output"]
    assert message["content"][0]["text"] == "Let me look."
    assert [json.loads(item["arguments"]) for item in (first, second)] == [PARIS, SHANGHAI]
    assert sum(event["type"] == "response.output_text.done" for event in events) == 1


@each_split
def test_reasoning_text_gets_its_part(split: Split) -> None:
    events = response_events(play("responses-reasoning", split)[0])
    parts = [event["part"]["type"] for event in events if event["type"] == "response.content_part.added"]
    assert parts == ["reasoning_text", "output_text"]
    thought, message = events[-1]["response"]["output"]
    assert (thought["type"], message["content"][0]["text"]) == ("reasoning", "\nForty-two.")


@each_split
def test_a_chat_stream_ends_with_done_and_without_unasked_usage(split: Split) -> None:
    out, outcome = play("chat-text", split)
    found = chunks(out)
    for one in found:
        ChatCompletionChunk.model_validate(one)
    assert outcome == Outcome("completed")
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in found) == CHINESE
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in one for one in found)


@each_split
def test_usage_has_a_frame_of_its_own_for_a_client_that_asked(split: Split) -> None:
    *before, last = chunks(play("chat-text", split, stream_options={"include_usage": True})[0])
    assert [one["usage"] for one in before] == [None] * len(before)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"] > 0


@each_split
def test_chat_calls_pass_whole(split: Split) -> None:
    out, outcome = play("chat-calls", split)
    deltas = [one["choices"][0]["delta"] for one in chunks(out)]
    calls = [one for delta in deltas for one in delta.get("tool_calls", [])]
    assert outcome == Outcome("completed")
    assert [(one["index"], json.loads(one["function"]["arguments"])) for one in calls] == [(0, PARIS), (1, SHANGHAI)]


@each_split
def test_an_error_in_the_stream_is_no_ending(split: Split) -> None:
    out, outcome = play("chat-error", split)
    assert b"[DONE]" not in out
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert "strictly positive" in outcome.error.message


@each_split
def test_completions_chunks_are_whole_and_say_that_they_were_cut(split: Split) -> None:
    out, outcome = play("completions-cut", split)
    found = chunks(out)
    assert outcome == Outcome("incomplete")
    assert [one["choices"][0]["finish_reason"] for one in found] == [None] * (len(found) - 1) + ["length"]
    assert "".join(one["choices"][0]["text"] for one in found) == "Hello there"
