"""The word with which a provider says why its answer ended: what is no certain end is never presented as one."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from tests.dialects import common
from tests.dialects.chat import playing
from tests.dialects.crossing import PAIRS, Crossing
from tests.dialects.gemini import samples
from tests.dialects.messages import streams
from tidegate.dialects.dialect import Endpoint, Stream
from tidegate.wire.errors import TidegateError, WireError

UNKNOWN = "tide_turned"
WORDED = [pair for pair in PAIRS if pair[1] != "responses"]
"""Providers whose answers end with a word."""


def stream(provider: str, reason: str) -> bytes:
    match provider:
        case "chat":
            return playing.stream({"content": "潮汐"}, finish=reason)
        case "messages":
            return streams.start() + streams.text(0, "潮汐") + streams.end(reason)
        case _:
            return samples.frames(samples.said("潮汐"), samples.end(reason))


def whole(provider: str, reason: str) -> bytes:
    match provider:
        case "chat":
            return playing.answer({"content": "潮汐"}, reason)
        case "messages":
            return json.dumps({**streams.message(stream(provider, "end_turn")), "stop_reason": reason}).encode()
        case _:
            return json.dumps(samples.chunk(samples.candidate({"text": "潮汐"}, finishReason=reason))).encode()


BREAKS = {
    "chat": ["error", "network_error", "insufficient_system_resource", "ABORT", "malformed_function_call"],
    "gemini": ["OTHER", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"],
}
CUTS = {
    "chat": [
        "max_tokens",
        "model_length",
        "MAX_TOKENS",
        "content_filter",
        "sensitive",
        "SAFETY",
        "repetition",
        "content_filter: RECITATION",
        "content-filter",
    ],
    "messages": ["max_tokens", "model_context_window_exceeded", "refusal"],
    "gemini": ["MAX_TOKENS", "SAFETY", "RECITATION", "IMAGE_SAFETY"],
}
ENDS = {
    "chat": ["eos", "eos_token", "end_turn", "END", "normal", "stop_sequence"],
    "messages": ["end_turn", "stop_sequence"],
    "gemini": ["STOP"],
}


def of(words: dict[str, list[str]]) -> list[Any]:
    return [(*pair, reason) for pair in WORDED for reason in words.get(pair[1], ())]


@pytest.mark.fault("FAULT-IN-BAND")
@pytest.mark.parametrize(("client", "provider", "reason"), [(*pair, UNKNOWN) for pair in WORDED] + of(BREAKS))
def test_what_may_be_a_break_is_a_failed_answer_that_names_the_reason(
    client: str, provider: Endpoint, reason: str
) -> None:
    crossing = Crossing(client, provider, stream=True)
    told = crossing.judged(crossing.streamed(stream(provider, reason)), stream=True)
    assert (told.ending, told.text) == ("failed", "潮汐")
    assert f"'{reason}'" in told.message
    with pytest.raises((WireError, TidegateError), match=f"'{reason}'"):
        Crossing(client, provider, stream=False).whole(whole(provider, reason))


@pytest.mark.parametrize(("client", "provider", "reason"), of(CUTS))
def test_what_was_cut_or_filtered_is_incomplete(client: str, provider: Endpoint, reason: str) -> None:
    for streams_ in (True, False):
        crossing = Crossing(client, provider, stream=streams_)
        out = crossing.streamed(stream(provider, reason)) if streams_ else crossing.whole(whole(provider, reason))
        told = crossing.judged(out, stream=streams_)
        assert (told.ending, told.text) == ("incomplete", "潮汐")


@pytest.mark.parametrize(("client", "provider", "reason"), of(ENDS))
def test_what_is_whole_is_complete_by_any_word(client: str, provider: Endpoint, reason: str) -> None:
    for streams_ in (True, False):
        crossing = Crossing(client, provider, stream=streams_)
        out = crossing.streamed(stream(provider, reason)) if streams_ else crossing.whole(whole(provider, reason))
        assert crossing.judged(out, stream=streams_).ending == "completed"


@pytest.mark.parametrize("client", [client for client, provider in PAIRS if provider == "chat"])
def test_a_word_that_stands_in_every_chunk_ends_nothing(client: str) -> None:
    cut = playing.chunk({"content": "潮"}, "null") + playing.chunk({"content": "汐"}, "NULL") + playing.DONE
    crossing = Crossing(client, "chat", stream=True)
    told = crossing.judged(crossing.streamed(cut), stream=True)
    assert (told.ending, told.text) == ("failed", "潮汐")
    with pytest.raises(WireError, match="finish"):
        Crossing(client, "chat", stream=False).whole(whole("chat", "null"))


@pytest.mark.fault("FAULT-DISORDER")
@pytest.mark.parametrize(
    ("client", "reasons", "ending"),
    [
        (client, reasons, ending)
        for client in ("responses", "messages", "gemini", "completions")
        for reasons, ending in (
            (("stop", "length"), "incomplete"),
            (("length", "stop"), "incomplete"),
            (("stop", "content_filter"), "incomplete"),
            (("stop", "stop"), "completed"),
            (("stop", "error"), "failed"),
            (("length", UNKNOWN), "failed"),
        )
    ],
)
def test_of_two_reasons_the_one_counts_that_says_less_was_told(
    client: str, reasons: tuple[str, str], ending: str
) -> None:
    first, second = reasons
    data = playing.chunk({"content": "潮"}, first) + playing.chunk({"content": "汐"}, second) + playing.DONE
    crossing = Crossing(client, "chat", stream=True)
    told = crossing.judged(crossing.streamed(data), stream=True)
    assert (told.ending, told.text) == (ending, "潮汐")


@pytest.mark.parametrize("client", ["responses", "messages", "gemini", "completions"])
def test_what_was_filtered_before_its_first_word_is_filtered(client: str) -> None:
    """Google's chat endpoint then leaves the message out."""
    choice = {"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    for streams_ in (True, False):
        crossing = Crossing(client, "chat", stream=streams_)
        out = (
            crossing.streamed(common.frame(chunk) + playing.DONE)
            if streams_
            else crossing.whole(json.dumps(chunk).encode())
        )
        told = crossing.judged(out, stream=streams_)
        assert (told.ending, told.text) == ("incomplete", "")
    with pytest.raises(WireError, match="without 'message'"):
        Crossing(client, "chat", stream=False).whole(
            json.dumps({"choices": [{**choice, "finish_reason": "stop"}]}).encode()
        )


# -- a provider of the client's own API -------------------------------------------------------------------------------


def same(dialect: str, reason: str) -> tuple[bytes, Stream]:
    said: dict[str, Any] = {"delta": {"content": "潮"}} if dialect == "chat" else {"text": "潮"}
    kind = "chat.completion.chunk" if dialect == "chat" else "text_completion"
    head = {"id": "c", "object": kind, "created": 1, "model": "m"}
    chunks = [{**head, "choices": [{"index": 0, **said, "finish_reason": word}]} for word in ("null", reason)]
    opened = common.open_stream(dialect)
    return common.play(opened, [b"".join(map(spaced, chunks))]), opened


def spaced(chunk: dict[str, Any]) -> bytes:
    """A frame as nobody here would write it."""
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@pytest.mark.parametrize("dialect", ["chat", "completions"])
def test_a_client_of_the_providers_own_api_sees_the_providers_own_word(dialect: str) -> None:
    out, opened = same(dialect, UNKNOWN)
    assert [event["choices"][0]["finish_reason"] for event in common.events(out)] == [None, UNKNOWN]
    assert spaced(common.events(out)[-1]) in out, "not a byte of it is changed"
    outcome = common.outcome(opened)
    assert outcome is not None
    assert (outcome.status, outcome.error) == ("incomplete", None), "nobody can say that it is whole"


def test_a_word_that_ends_nothing_is_no_end_between_equal_dialects_either() -> None:
    _, opened = same("chat", "null")
    outcome = common.outcome(opened)
    assert outcome is not None
    assert outcome.status == "failed"


def test_a_body_that_reports_a_break_or_no_end_is_broken() -> None:
    """A body that has to be put right first is judged by the same word."""
    request: Any = common.DIALECTS["chat"].parse(common.body("chat"))
    for reason, index, told in (
        ("error", "0", "broke the answer off"),
        ("null", "0", "without finish_reason"),
        ("null", 0, "without finish_reason"),
    ):
        body = json.loads(playing.answer({"content": "潮"}, reason))
        body["choices"][0]["index"] = index
        with pytest.raises((WireError, TidegateError), match=told):
            request.complete(json.dumps(body).encode(), common.call(), common.destination(endpoint="chat"))


def test_a_chat_client_gets_an_empty_message_of_an_answer_that_was_filtered_at_once() -> None:
    request: Any = common.DIALECTS["chat"].parse(common.body("chat"))
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    choice = {"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}
    to = common.destination(endpoint="chat")
    answer = request.complete(json.dumps({**head, "choices": [choice]}).encode(), common.call(), to)
    [told] = ChatCompletion.model_validate_json(answer.body).choices
    assert (told.finish_reason, told.message.content, answer.status) == ("content_filter", None, "incomplete")
