"""Clients of text completions, answered by providers that only chat."""

import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from tests.dialects.chat.playing import folded
from tests.dialects.common import CREATED, call, check_chunk, destination
from tests.dialects.common import events as json_of
from tests.support.strict import check
from tidegate.dialects.codec import Losses
from tidegate.dialects.completions import CompletionsDialect, CompletionsRequest
from tidegate.dialects.completions.encoder import CompletionsEncoder
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, UnsupportedParameter, UpstreamBroken
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Finished,
    MediaDelta,
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
from tidegate.wire.items import CanonicalRequest, Message, TextPart

USAGE = Usage(input_tokens=9, output_tokens=5)


def entry(token: str, *others: str) -> jsonio.Raw:
    top = [{"token": other, "logprob": -2.5, "bytes": None} for other in (token, *others)]
    return jsonio.raw({"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": top})


ANSWERS: dict[str, list[Event]] = {
    "text": [TextDelta("潮"), TextDelta('汐 "\n🌊'), ChoiceEnd("stop")],
    "nothing": [ChoiceEnd("stop")],
    "cut": [TextDelta("潮"), ChoiceEnd("length")],
    "filtered": [TextDelta("潮"), ChoiceEnd("content_filter")],
    "refused": [RefusalDelta("I won't"), ChoiceEnd("refusal")],
    "two": [TextDelta("a"), TextDelta("b", 1), TextDelta("c"), ChoiceEnd("stop"), ChoiceEnd("length", 1)],
    "reasoning": [ReasoningDelta("hm"), ReasoningEnd(encrypted="x"), TextDelta("42"), ChoiceEnd("stop")],
    "calls": [
        TextDelta("I look."),
        ToolCallStart(0, "call_1", "f"),
        ToolCallDelta(0, "{}"),
        ToolCallEnd(0),
        MediaDelta("image/png", "AA=="),
        ChoiceEnd("tool_calls"),
    ],
    "logprobs": [
        TextDelta("潮", logprobs=[entry("潮", "海")]),
        TextDelta("汐🌊", logprobs=[entry("汐"), entry("🌊")]),
        ChoiceEnd("stop"),
    ],
}


def request(**members: Any) -> CompletionsRequest:
    return CompletionsDialect().parse(json.dumps({"model": "m", "prompt": "潮汐", **members}).encode())


def canonical(**members: Any) -> CanonicalRequest:
    return request(**members).canonical()


def whole(name: str) -> list[Event]:
    return [Started("tide-9"), *ANSWERS[name], UsageReport(USAGE), Finished()]


def encoded(events: list[Event], **members: Any) -> bytes:
    encoder = request(stream=True, **members).encoder(call())
    encoder.attempt(destination())
    return b"".join(encoder.encode([event]) for event in events)


# -- requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["潮汐", ["潮汐"]])
def test_a_prompt_is_what_a_user_says(prompt: Any) -> None:
    found = canonical(prompt=prompt)
    assert found.items == [Message(role="user", content=[TextPart(text="潮汐")])]
    assert found == CanonicalRequest(client="completions", model="m", items=found.items, names=found.names)


def test_every_member_has_its_place() -> None:
    found = canonical(
        stream=True, max_tokens=9, temperature=0.5, top_p=0.9, n=2, best_of=2, stop="a", logprobs=2, seed=3,
        frequency_penalty=0.1, presence_penalty=0.2, logit_bias={"5": 1}, user="u",
    )  # fmt: skip
    assert (found.stream, found.max_output_tokens, found.temperature, found.top_p) == (True, 9, 0.5, 0.9)
    assert (found.n, found.stop, found.top_logprobs, found.seed, found.user) == (2, ("a",), 2, 3, "u")
    assert (found.frequency_penalty, found.presence_penalty) == (0.1, 0.2)
    assert jsonio.anything(found.logit_bias) == {"5": 1}
    assert (found.hints, found.refused) == ((), ())
    assert found.names["max_output_tokens"] == "max_tokens"


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1, 2]]])
def test_prompts_that_are_no_single_text_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical(prompt=prompt)
    assert caught.value.param == "prompt"


def test_no_tokens_are_no_chat() -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical(max_tokens=0)
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("members", "refused"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"guided_json": {}}, "guided_json"),
    ],
)
def test_what_a_chat_cannot_do_is_refused(members: dict[str, Any], refused: str) -> None:
    found = canonical(**members)
    assert found.refused == (refused,)
    with pytest.raises(UnsupportedParameter) as caught:
        Losses(found, destination(), allowed=False).check()
    assert caught.value.param == refused


@pytest.mark.parametrize("members", [{"suffix": ""}, {"suffix": None}, {"best_of": 1}, {"echo": False}])
def test_what_says_nothing_is_no_loss(members: dict[str, Any]) -> None:
    assert canonical(**members).refused == ()


def test_members_of_others_are_hints() -> None:
    assert canonical(client_metadata={}, other=None).hints == ("client_metadata",)


# -- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANSWERS)
def test_every_chunk_is_whole(name: str) -> None:
    out = encoded(whole(name), stream_options={"include_usage": True})
    chunks = json_of(out)
    for chunk in chunks:
        check_chunk("completions", chunk)
        assert (chunk["id"], chunk["object"]) == ("cmpl-" + "5a" * 24, "text_completion")
        assert (chunk["created"], chunk["model"]) == (CREATED, "tide-9")
    assert chunks[-1]["usage"]["total_tokens"] == 14
    assert chunks[-1]["choices"] == []
    assert out.endswith(b"data: [DONE]\n\n")
    assert not any("usage" in chunk for chunk in json_of(encoded(whole(name))))


@pytest.mark.parametrize("echo", [True, False])
@pytest.mark.parametrize("name", ANSWERS)
def test_the_body_says_what_the_stream_says(name: str, echo: bool) -> None:
    answer = json.loads(request(echo=echo).encode_answer(folded(whole(name)), call(), destination()))
    check(Completion, answer)
    assert answer["usage"]["total_tokens"] == 14
    texts: dict[int, str] = {}
    reasons: dict[int, str | None] = {}
    headers = {"content-type": "text/event-stream"}
    out = encoded(whole(name), echo=echo)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=out, headers=headers))
    http = httpx2.Client(transport=transport)
    with openai.OpenAI(api_key="k", base_url="http://lab/v1", http_client=http) as client:
        for chunk in client.completions.create(model="m", prompt="潮汐", stream=True):
            for choice in chunk.choices:
                texts[choice.index] = texts.get(choice.index, "") + choice.text
                reasons[choice.index] = choice.finish_reason
    assert texts == {choice["index"]: choice["text"] for choice in answer["choices"]}
    assert reasons == {choice["index"]: choice["finish_reason"] for choice in answer["choices"]}
    assert all(text.startswith("潮汐") for text in texts.values()) or not echo


def test_logprobs_take_the_older_form() -> None:
    [choice] = json.loads(request().encode_answer(folded(whole("logprobs")), call(), destination()))["choices"]
    assert choice["logprobs"] == {
        "tokens": ["潮", "汐", "🌊"],
        "token_logprobs": [-0.5, -0.5, -0.5],
        "top_logprobs": [{"潮": -2.5, "海": -2.5}, {"汐": -2.5}, {"🌊": -2.5}],
        "text_offset": [0, 1, 2],
    }
    chunks = [chunk["choices"][0] for chunk in json_of(encoded(whole("logprobs")))]
    assert [one["logprobs"]["text_offset"] for one in chunks if one["logprobs"]] == [[0], [1, 2]]


def test_logprobs_that_cannot_be_read_count_for_nothing() -> None:
    out = encoded([Started(), TextDelta("x", logprobs=[jsonio.raw(7)]), ChoiceEnd("stop"), Finished()])
    assert json_of(out)[0]["choices"][0]["logprobs"]["tokens"] == []


def test_nothing_is_said_before_the_answer_says_something() -> None:
    encoder = request(stream=True).encoder(call())
    encoder.attempt(destination())
    assert encoder.encode([Started("a"), ReasoningDelta("hm"), UsageReport(USAGE)]) == b""
    assert not encoder.committed
    encoder.attempt(destination(model="tide-2"))
    out = encoder.encode([Started(""), TextDelta("x")])
    assert committed(encoder)
    assert {chunk["model"] for chunk in json_of(out)} == {"tide-2"}


def committed(encoder: CompletionsEncoder) -> bool:
    return encoder.committed


def test_a_failure_is_an_error_frame_and_a_ping_a_comment() -> None:
    encoder = request(stream=True).encoder(call())
    assert encoder.fail(UpstreamBroken("it broke")).startswith(b'data: {"error":')
    assert encoder.ping() == b": keepalive\n\n"


@given(st.lists(st.text(max_size=20), max_size=12))
def test_any_text_arrives_as_it_is(texts: list[str]) -> None:
    out = encoded([Started(), *(TextDelta(text) for text in texts), ChoiceEnd("stop"), Finished()])
    assert "".join(chunk["choices"][0]["text"] for chunk in json_of(out)) == "".join(texts)


def test_places_of_tokens_count_from_the_prompt_that_is_said_again() -> None:
    chunks = [chunk["choices"][0] for chunk in json_of(encoded(whole("logprobs"), echo=True))]
    assert [one["logprobs"]["text_offset"] for one in chunks if one["logprobs"]] == [[2], [3, 4]]


def test_tokens_without_alternatives_have_none() -> None:
    token = jsonio.raw({"token": "x", "logprob": -1, "bytes": None, "top_logprobs": []})
    out = encoded([Started(), TextDelta("x", logprobs=[token]), ChoiceEnd("stop"), Finished()])
    assert json_of(out)[0]["choices"][0]["logprobs"]["top_logprobs"] is None
