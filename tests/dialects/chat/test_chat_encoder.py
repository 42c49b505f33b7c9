"""Canonical events as chat clients get them, with the official SDK as the client."""

import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.dialects.chat.playing import folded
from tests.dialects.common import CREATED, call, check_chunk, destination, frames
from tests.dialects.common import events as json_of
from tests.support.strict import check
from tidegate.dialects.chat import ChatDialect, ChatRequest
from tidegate.dialects.chat.encoder import ChatEncoder
from tidegate.wire import jsonio
from tidegate.wire.errors import UpstreamBroken
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Finished,
    MediaDelta,
    MessageEnd,
    Opaque,
    Ping,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)

ID = "chatcmpl-" + "5a" * 24
USAGE = Usage(input_tokens=9, output_tokens=5, cached_tokens=4, cache_write_tokens=1, reasoning_tokens=2)
CITATION = jsonio.raw({"type": "url_citation", "start_index": 0, "end_index": 2, "url": "https://a", "title": "A"})
FILE = jsonio.raw({"type": "file_citation", "file_id": "file_1", "filename": "a", "index": 0})
LOGPROB = {"token": "潮", "logprob": -0.1, "bytes": [1], "top_logprobs": []}

ANSWERS: dict[str, list[Event]] = {
    "text": [TextDelta("潮"), TextDelta('汐 "\n🌊'), ChoiceEnd("stop")],
    "nothing": [ChoiceEnd("stop")],
    "cut": [TextDelta("潮"), ChoiceEnd("length")],
    "filtered": [ChoiceEnd("content_filter")],
    "refused": [RefusalDelta("I "), RefusalDelta("won't"), ChoiceEnd("refusal")],
    "reasoning": [
        ReasoningDelta("let "),
        ReasoningDelta("me"),
        ReasoningEnd(encrypted="tgr1.AAA"),
        TextDelta("42"),
        ChoiceEnd("stop"),
    ],
    "summaries": [
        ReasoningDelta("one", kind="summary"),
        ReasoningDelta("two", kind="summary", part=1),
        ReasoningEnd(),
        ReasoningDelta("three", kind="summary"),
        ReasoningEnd(encrypted="tgr1.BBB"),
        TextDelta("x"),
        ChoiceEnd("stop"),
    ],
    "sealed only": [
        ReasoningEnd(encrypted="tgr1.AAA"),
        ToolCallStart(0, "call_1", "f"),
        ToolCallDelta(0, "{}"),
        ToolCallEnd(0),
        ChoiceEnd("tool_calls"),
    ],
    "interleaved": [
        ReasoningDelta("a"),
        ReasoningEnd(encrypted="tgr1.A"),
        TextDelta("first"),
        ReasoningEnd(encrypted="tgr1.B"),
        ToolCallStart(0, "call_1", "f"),
        ToolCallDelta(0, "{}"),
        ToolCallEnd(0),
        ReasoningEnd(encrypted="tgr1.C"),
        ToolCallStart(1, "call_2", "g"),
        ToolCallDelta(1, "{}"),
        ToolCallEnd(1),
        ChoiceEnd("tool_calls"),
    ],
    "calls": [
        TextDelta("I look."),
        MessageEnd(),
        ToolCallStart(0, "call_1", "f"),
        ToolCallStart(1, "call_2", "g"),
        ToolCallDelta(1, '{"y":'),
        ToolCallDelta(0, '{"x":1}'),
        ToolCallDelta(1, "2}"),
        ToolCallEnd(0),
        ToolCallEnd(1),
        ChoiceEnd("tool_calls"),
    ],
    "media": [
        TextDelta("see"),
        Annotation(CITATION),
        Annotation(FILE),
        Annotation(CITATION),
        MediaDelta("image/png", "AAAA"),
        MediaDelta("image/png", "BBBB"),
        ChoiceEnd("stop"),
    ],
    "hosted": [
        Opaque("web_search_call", jsonio.raw({"type": "web_search_call", "id": "ws_1"})),
        Ping(),
        TextDelta("found"),
        ChoiceEnd("stop"),
    ],
    "logprobs": [TextDelta("潮", logprobs=[jsonio.raw(LOGPROB)]), TextDelta("汐"), ChoiceEnd("stop")],
    "two": [
        TextDelta("a"),
        TextDelta("b", 1),
        ToolCallStart(0, "call_1", "f", choice=1),
        ToolCallDelta(0, "{}"),
        ToolCallEnd(0),
        ChoiceEnd("stop"),
        ChoiceEnd("tool_calls", 1),
    ],
}


def request(**members: Any) -> ChatRequest:
    return ChatDialect().parse(json.dumps({"messages": [{"role": "user", "content": "hi"}], **members}).encode())


def whole(name: str) -> list[Event]:
    return [Started("tide-9"), *ANSWERS[name], UsageReport(USAGE), Finished()]


def encoded(events: list[Event], **members: Any) -> bytes:
    encoder = request(stream=True, **members).encoder(call())
    encoder.attempt(destination())
    return b"".join(encoder.encode([event]) for event in events)


def accumulated(out: bytes) -> dict[str, Any]:
    """The answer as the SDK's own accumulator has it, fed by the SDK's own stream."""
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=out, headers=headers))
    client = openai.OpenAI(api_key="k", base_url="http://lab/v1", http_client=httpx2.Client(transport=transport))
    state = ChatCompletionStreamState()
    with client:
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
            state.handle_chunk(chunk)
    return state.current_completion_snapshot.model_dump(exclude_none=True)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_chunk_is_whole(name: str) -> None:
    out = encoded(whole(name), stream_options={"include_usage": True})
    chunks = json_of(out)
    for chunk in chunks:
        check_chunk("chat", chunk)
        check(ChatCompletionChunk, chunk)
        assert (chunk["id"], chunk["object"], chunk["created"]) == (ID, "chat.completion.chunk", CREATED)
        assert chunk["model"] == "tide-9"
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["prompt_tokens"] == 9
    assert out.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("name", ANSWERS)
def test_the_role_comes_first_and_one_finish_reason_last(name: str) -> None:
    chunks = json_of(encoded(whole(name)))
    for index in {chunk["choices"][0]["index"] for chunk in chunks}:
        of_choice = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert [one["delta"].get("role") for one in of_choice] == ["assistant", *[None] * (len(of_choice) - 1)]
        assert [one["finish_reason"] is not None for one in of_choice] == [*[False] * (len(of_choice) - 1), True]
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_body_says_what_the_stream_says(name: str) -> None:
    """The official accumulator over the stream, against the body of the same answer."""
    body = request().encode_answer(folded(whole(name)), call(), destination())
    completion = json.loads(body)
    check(ChatCompletion, completion)
    found = accumulated(encoded(whole(name), stream_options={"include_usage": True}))
    assert found["usage"] == completion["usage"]
    assert completion["usage"]["prompt_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 1}
    for said, streamed in zip(completion["choices"], found["choices"], strict=True):
        message = {key: value for key, value in said["message"].items() if value not in (None, "")}
        other = {key: value for key, value in streamed["message"].items() if value not in (None, "")}
        assert without_index(other) == without_index(message)
        assert streamed["finish_reason"] == said["finish_reason"]
        assert streamed.get("logprobs") == said["logprobs"] or name == "logprobs"


def without_index(value: Any) -> Any:
    """What the SDK needs to fold lists is not part of the message."""
    if isinstance(value, list):
        return [without_index(one) for one in value]
    if isinstance(value, dict):
        return {key: without_index(one) for key, one in value.items() if key != "index" and one is not None}
    return value


def test_an_answer_that_is_all_calls_has_no_text() -> None:
    [choice] = json.loads(request().encode_answer(folded(whole("sealed only")), call(), destination()))["choices"]
    assert choice["message"]["content"] is None
    first = json_of(encoded(whole("sealed only")))[0]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": None, "refusal": None}


def test_a_call_says_id_and_name_once() -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in json_of(encoded(whole("calls")))]
    entries = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert entries[0] == {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert entries[2] == {"index": 1, "function": {"arguments": '{"y":'}}
    assert sum("id" in entry for entry in entries) == 2


def test_calls_count_from_zero_in_every_choice() -> None:
    deltas = [chunk["choices"][0] for chunk in json_of(encoded(whole("two")))]
    assert {entry["index"] for one in deltas for entry in one["delta"].get("tool_calls", [])} == {0}


def test_custom_calls_keep_their_kind() -> None:
    events: list[Event] = [
        Started(),
        ToolCallStart(0, "call_1", "apply_patch", custom=True),
        ToolCallDelta(0, "*** Begin"),
        ToolCallDelta(0, " Patch"),
        ToolCallEnd(0),
        ChoiceEnd("tool_calls"),
        Finished(),
    ]
    deltas = [chunk["choices"][0]["delta"] for chunk in json_of(encoded(events))]
    entries = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert entries == [
        {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "apply_patch", "input": ""}},
        {"index": 0, "custom": {"input": "*** Begin"}},
        {"index": 0, "custom": {"input": " Patch"}},
    ]
    answer = json.loads(request().encode_answer(folded(events), call(), destination()))
    [found] = answer["choices"][0]["message"]["tool_calls"]
    assert found == {"id": "call_1", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin Patch"}}
    check(ChatCompletion, answer)
    accumulated(encoded(events))


def test_reasoning_comes_back_in_its_place() -> None:
    last = json_of(encoded(whole("interleaved")))[-1]["choices"][0]
    assert last["finish_reason"] == "tool_calls"
    assert last["delta"]["reasoning_details"] == [
        {"type": "reasoning.encrypted", "data": "tgr1.A", "index": 0},
        {"type": "reasoning.encrypted", "data": "tgr1.B", "index": 1, "after_text": True},
        {"type": "reasoning.encrypted", "data": "tgr1.C", "index": 2, "after_text": True, "after_calls": 1},
    ]


def test_parts_of_reasoning_are_set_apart() -> None:
    found = accumulated(encoded(whole("summaries")))
    assert found["choices"][0]["message"]["reasoning_content"] == "one\n\ntwo\n\nthree"


def test_two_thoughts_are_set_apart() -> None:
    thoughts: list[Event] = [
        ReasoningDelta("o"),
        ReasoningDelta("ne"),
        ReasoningEnd(),
        ReasoningDelta("two"),
        ReasoningEnd(),
    ]
    events = [Started("tide-9"), *thoughts, ChoiceEnd("stop"), UsageReport(USAGE), Finished()]
    [said] = json.loads(request().encode_answer(folded(events), call(), destination()))["choices"]
    [choice] = accumulated(encoded(events))["choices"]
    assert choice["message"]["reasoning_content"] == said["message"]["reasoning_content"] == "one\n\ntwo"


def test_a_client_of_2023_gets_its_second_call_beside_the_first() -> None:
    """It knows one call to an answer: another would run into it."""
    functions = [{"name": "f"}, {"name": "g"}]
    [choice] = accumulated(encoded(whole("calls"), functions=functions))["choices"]
    answer = request(functions=functions).encode_answer(folded(whole("calls")), call(), destination())
    [said] = json.loads(answer)["choices"]
    for message in (choice["message"], said["message"]):
        assert message["function_call"] == {"name": "f", "arguments": '{"x":1}'}
        assert [one["function"] for one in message["tool_calls"]] == [{"name": "g", "arguments": '{"y":2}'}]


@pytest.mark.parametrize("functions", [True, False])
def test_clients_of_2023_are_answered_in_their_words(functions: bool) -> None:
    legacy: dict[str, Any] = {"functions": [{"name": "f"}]}
    tools: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    members = legacy if functions else legacy | tools
    [choice] = accumulated(encoded(whole("sealed only"), **members))["choices"]
    answer = request(**members).encode_answer(folded(whole("sealed only")), call(), destination())
    [said] = json.loads(answer)["choices"]
    check(ChatCompletion, json.loads(answer))
    if functions:
        assert (
            choice["message"]["function_call"] == {"name": "f", "arguments": "{}"} == said["message"]["function_call"]
        )
        assert choice["finish_reason"] == "function_call" == said["finish_reason"]
    else:
        assert choice["finish_reason"] == "tool_calls" == said["finish_reason"]


def test_nothing_is_said_before_the_answer_says_something() -> None:
    encoder = request(stream=True).encoder(call())
    encoder.attempt(destination())
    assert encoder.encode([Started("a"), Ping(), UsageReport(USAGE)]) == b""
    assert not encoder.committed
    encoder.attempt(destination(model="tide-2"))
    out = encoder.encode([Started(""), TextDelta("x")])
    assert committed(encoder)
    assert {chunk["model"] for chunk in json_of(out)} == {"tide-2"}


def committed(encoder: ChatEncoder) -> bool:
    return encoder.committed


def test_events_of_one_read_come_back_joined() -> None:
    encoder = request(stream=True).encoder(call())
    encoder.attempt(destination())
    joint = encoder.encode(whole("text"))
    assert joint == encoded(whole("text"))


def test_a_failure_is_an_error_frame_without_done() -> None:
    out = request(stream=True).encoder(call()).fail(UpstreamBroken("it broke"))
    [only] = frames(out)
    assert json.loads(only.data)["error"]["code"] == "upstream_broken"


def test_a_ping_is_a_comment() -> None:
    assert request(stream=True).encoder(call()).ping() == b": keepalive\n\n"


@given(st.lists(st.text(max_size=20), max_size=12))
def test_any_text_arrives_as_it_is(texts: list[str]) -> None:
    out = encoded([Started(), *(TextDelta(text) for text in texts), ChoiceEnd("stop"), Finished()])
    said = [chunk["choices"][0]["delta"].get("content") or "" for chunk in json_of(out)]
    assert "".join(said) == "".join(texts)


def test_the_calls_of_each_choice_are_counted_by_themselves() -> None:
    events: list[Event] = [
        ToolCallStart(0, "call_a", "f"),
        ToolCallStart(1, "call_b", "f", choice=1),
        ToolCallStart(2, "call_c", "g", choice=1, custom=True),
        ToolCallDelta(0, "{}"),
        ToolCallDelta(1, "[1]"),
        ToolCallDelta(2, "x"),
        *(ToolCallEnd(index) for index in range(3)),
        ChoiceEnd("tool_calls"),
        ChoiceEnd("tool_calls", 1),
    ]
    encoder = ChatEncoder(call(), wants_usage=False)
    encoder.attempt(destination(endpoint="messages"))
    choices = [event["choices"][0] for event in json_of(encoder.encode([Started("m"), *events, Finished()]))]
    told = [
        (choice["index"], one["index"], one.get("function", {}).get("arguments") or one.get("custom", {}).get("input"))
        for choice in choices
        for one in choice["delta"].get("tool_calls", ())
        if "id" not in one
    ]
    assert told == [(0, 0, "{}"), (1, 0, "[1]"), (1, 1, "x")]
