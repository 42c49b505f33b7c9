"""Gemini to Gemini: frames untouched, honest endings, and either form of stream."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import common
from tests.dialects.gemini.samples import USAGE, candidate, chunk, deployment, end, frames, said
from tidegate.dialects.dialect import Outcome
from tidegate.dialects.gemini import GeminiDialect
from tidegate.dialects.gemini.relay import GeminiRelay
from tidegate.wire.errors import TidegateError, UpstreamBroken, UpstreamFailed, UpstreamRateLimited, WireError
from tidegate.wire.events import Usage

WHOLE = frames(said("潮"), said("汐"), end("STOP", {"text": "", "thoughtSignature": "QQ=="}))


def relay(alt: str = "sse", **config: Any) -> GeminiRelay:
    body = json.dumps({"contents": [{"parts": [{"text": "a"}]}], "generationConfig": config}).encode()
    stream = GeminiDialect().parse(body, model="tide", stream=True, alt=alt).open(common.call())
    stream.attempt(deployment())
    return stream


def failure(stream: GeminiRelay) -> TidegateError:
    outcome = common.outcome(stream)
    assert outcome is not None
    assert outcome.status == "failed"
    assert outcome.error is not None
    return outcome.error


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2000), max_size=10))
def test_frames_go_on_as_they_came_in_any_split(cuts: list[int]) -> None:
    stream = relay()
    assert common.plain(common.play(stream, common.split(WHOLE, cuts))) == common.plain(WHOLE)
    assert stream.outcome == Outcome("completed")
    assert stream.usage() == Usage(input_tokens=7, output_tokens=5)
    assert stream.committed


def test_whole_reads_go_on_byte_for_byte() -> None:
    assert common.play(relay(), [WHOLE]) == WHOLE
    assert common.plain(common.play(relay(), common.bytewise(WHOLE))) == common.plain(WHOLE)


@pytest.mark.parametrize(
    ("reason", "status"),
    [("STOP", "completed"), ("MAX_TOKENS", "incomplete"), ("SAFETY", "incomplete"), ("RECITATION", "incomplete")],
)
def test_endings(reason: str, status: str) -> None:
    stream = relay()
    assert common.play(stream, [frames(said("潮"), end(reason))]) == frames(said("潮"), end(reason))
    assert stream.outcome == Outcome(status)


def test_a_blocked_prompt_is_an_incomplete_answer() -> None:
    stream = relay(candidateCount=2)
    data = frames({"promptFeedback": {"blockReason": "SAFETY"}})
    assert common.play(stream, [data]) == data
    assert stream.outcome == Outcome("incomplete")


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "OTHER"])
def test_a_reported_break_is_a_failure(reason: str) -> None:
    stream = relay()
    out = common.play(stream, [frames(said("潮"), end(reason))])
    assert isinstance(failure(stream), UpstreamBroken)
    assert out.startswith(frames(said("潮")))
    assert json.loads(common.frames(out)[-1].data)["error"]["status"] == "INTERNAL"


@pytest.mark.parametrize("data", [b"", b": ping\n\n", frames(said("潮")), frames(said("潮")) + b'data: {"candid'])
def test_an_end_without_a_finish_reason_is_a_failure(data: bytes) -> None:
    stream = relay()
    common.play(stream, [data])
    assert isinstance(failure(stream), UpstreamBroken)
    assert stream.finish() == b""


def test_a_candidate_that_never_came_is_a_failure() -> None:
    stream = relay(candidateCount=2)
    common.play(stream, [WHOLE])
    assert isinstance(failure(stream), UpstreamBroken)


def test_silence_after_a_real_finish_is_an_end() -> None:
    stream = relay()
    assert stream.feed(WHOLE) == WHOLE
    assert common.outcome(stream) is None
    assert stream.finish() == b""
    assert common.outcome(stream) == Outcome("completed")


def test_an_error_before_anything_else_leaves_another_attempt_open() -> None:
    stream = relay()
    error = {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}
    assert stream.feed(frames(error)) == b""
    assert isinstance(failure(stream), UpstreamRateLimited)
    assert not stream.committed


def test_garbage_ends_the_stream_behind_what_was_whole() -> None:
    stream = relay()
    assert stream.feed(frames(said("潮")) + b"data: {oops\n\n" + WHOLE) == frames(said("潮"))
    assert isinstance(failure(stream), UpstreamBroken)


def test_comments_wait_for_the_commit_and_done_is_not_googles() -> None:
    stream = relay()
    assert stream.feed(b": a\n\n") == b""
    assert stream.feed(frames(said("潮")) + b": b\n\ndata: [DONE]\n\n") == frames(said("潮")) + b": b\n\n"
    assert stream.ping() == b": keepalive\n\n"


def test_usage_is_estimated_when_google_gave_none() -> None:
    stream = relay()
    common.play(stream, [frames(said("潮汐表!"), chunk(candidate(finishReason="STOP")))])
    assert stream.usage() == Usage(input_tokens=100, output_tokens=3, estimated=True)


@pytest.mark.parametrize("unread", [0, 1, 12])
@pytest.mark.parametrize("told", [1, 8, 9, 30])
def test_of_figures_with_every_chunk_the_last_that_can_be_read_count(told: int, unread: int) -> None:
    stream = relay()
    for number in range(1, told + 1):
        figures = {"promptTokenCount": 7, "candidatesTokenCount": number}
        stream.feed(frames({**said("a" * 8), "usageMetadata": figures}))
    for _ in range(unread):
        stream.feed(frames({**said("b" * 8), "usageMetadata": {"promptTokenCount": "many"}}))
    usage = stream.usage()
    assert (usage.input_tokens, usage.estimated) == (7, unread > 0)
    assert usage.output_tokens == told + 2 * unread  # eight bytes are two tokens
    assert stream.usage() == usage


@pytest.mark.parametrize(
    ("told", "output"), [({"promptTokenCount": 7}, 12), ({"promptTokenCount": 7, "candidatesTokenCount": 5}, 5 + 10)]
)
def test_what_a_broken_stream_said_behind_its_last_figures_is_estimated(told: dict[str, int], output: int) -> None:
    stream = relay()
    stream.feed(frames({**said("a" * 8), "usageMetadata": told}, said("b" * 40)))
    assert stream.usage() == Usage(input_tokens=7, output_tokens=output, estimated=True)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2000), max_size=10))
def test_the_array_form_is_one_json_value(cuts: list[int]) -> None:
    stream = relay("")
    data = b": a\n\n" + frames(said("潮")) + b": b\n\n" + WHOLE
    out = common.play(stream, common.split(data, cuts))
    assert [one["candidates"][0]["content"]["parts"][0]["text"] for one in json.loads(out)] == ["潮", "潮", "汐", ""]
    assert stream.ping() == b"\n"


def test_a_failed_array_is_still_one_json_value() -> None:
    out = common.play(relay("json"), [frames(said("潮"))])
    assert "error" in json.loads(out)[-1]


# -- whole bodies -----------------------------------------------------------------------------------------------------


def complete(content: Any) -> Any:
    request = GeminiDialect().parse(b'{"contents":[{"parts":[{"text":"a"}]}]}', model="tide")
    body = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False, indent=2).encode()
    answer = request.complete(body, common.call(), deployment())
    assert answer.body == body
    return answer


def test_a_whole_answer_goes_on_as_it_came() -> None:
    answer = complete(chunk(candidate({"text": "潮"}, finishReason="MAX_TOKENS"), usageMetadata=USAGE))
    assert (answer.status, answer.usage) == ("incomplete", Usage(input_tokens=7, output_tokens=5))
    assert complete(chunk(candidate({"text": "潮"}, finishReason="STOP"))).usage.estimated
    assert complete({"promptFeedback": {"blockReason": "SAFETY"}}).status == "incomplete"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b'{"candidates":[{}]}', b'{"candidates":[{"index":900}]}']
)
def test_what_is_no_answer_is_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError):
        complete(body)


def test_errors_with_status_200_keep_their_meaning() -> None:
    with pytest.raises(UpstreamFailed):
        complete({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}})
    with pytest.raises(UpstreamBroken):
        complete(chunk(candidate(finishReason="MALFORMED_FUNCTION_CALL")))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(WHOLE)))
def test_nothing_is_raised_whatever_comes(noise: bytes, at: int) -> None:
    stream = relay()
    common.play(stream, [WHOLE[:at] + noise + WHOLE[at:]])
    assert stream.outcome is not None


@pytest.mark.parametrize("reason", ["STOP", "MAX_TOKENS"])
@pytest.mark.parametrize(
    "figures",
    [
        {"promptTokenCount": 7, "candidatesTokenCount": 5},
        {"promptTokenCount": 7},
        {"promptTokenCount": 0, "candidatesTokenCount": 5},
        {"promptTokenCount": 7, "toolUsePromptTokenCount": 2, "candidatesTokenCount": 5, "thoughtsTokenCount": 3},
        {"promptTokenCount": 7, "cachedContentTokenCount": 4, "candidatesTokenCount": 5},
        {"promptTokenCount": 7, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}]},
        {"promptTokenCount": 7, "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 6}]},
        {"promptTokenCount": 2 * 10**9, "candidatesTokenCount": 5},
    ],
)
def test_figures_are_the_same_however_their_numbers_are_written(figures: dict[str, Any], reason: str) -> None:
    """Some versions of proto JSON write whole numbers as floats, and some leave nothing out."""
    asked = GeminiDialect().parse(b'{"contents":[{"parts":[{"text":"a"}]}]}', model="tide", stream=False)
    one = {"content": {"parts": [{"text": "潮"}], "role": "model"}, "finishReason": reason}
    bodies = [
        json.dumps({"candidates": [{**one, **more}], "usageMetadata": told}).encode()
        for more in ({}, {"index": 0}, {"index": None})
        for told in (
            figures,
            {name: float(told) if isinstance(told, int) else told for name, told in figures.items()},
            {**figures, "thoughtsTokenCount": figures.get("thoughtsTokenCount")},
        )
    ]
    answers = [asked.complete(body, common.call(), deployment()) for body in bodies]
    assert [answer.body for answer in answers] == bodies
    assert len({(answer.usage, answer.status) for answer in answers}) == 1
