"""The stream of a transcript: from each of the forms that providers have to each that clients want, in any split."""

import json
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.audio import TranscriptionStreamEvent

from tests.dialects.common import bytewise, call, outcome, split
from tests.dialects.transcription.playing import (
    DONE,
    USAGE,
    WORDS,
    chunk,
    delta,
    done,
    events,
    frame,
    open_stream,
    parse,
    played,
    to,
)
from tidegate.dialects.dialect import Destination, Outcome, Quirks
from tidegate.wire import errors
from tidegate.wire.events import Usage

EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(TranscriptionStreamEvent)
TEXT = "".join(WORDS)

OFFICIAL = b"".join([*map(delta, WORDS), done(TEXT, usage=USAGE)])
RAW = to(Quirks(transcripts="raw"))
GEMINI = to(Quirks(transcripts="gemini"))


def gemini(text: str, reason: str | None = None, **more: Any) -> bytes:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return frame({"candidates": [candidate], "modelVersion": "gemini", **more})


FORMS: dict[str, tuple[bytes, Destination]] = {
    "events": (OFFICIAL, to()),
    "events with [DONE]": (OFFICIAL + DONE, to()),
    "vLLM": (
        chunk(WORDS[0])
        + chunk(WORDS[1], "stop")
        + chunk(WORDS[2])
        + chunk(WORDS[3], "stop")
        + chunk(usage={"prompt_tokens": 14, "completion_tokens": 4, "total_tokens": 18})
        + DONE,
        to(),
    ),
    "text": (b"".join(frame({"text": word}) for word in WORDS) + DONE, to()),
    "raw": (b"".join(b"data: " + word.encode() + b"\n\n" for word in WORDS), RAW),
    "gemini": (
        gemini(WORDS[0])
        + gemini(WORDS[1] + WORDS[2])
        + gemini(WORDS[3], "STOP", usageMetadata={"promptTokenCount": 14, "candidatesTokenCount": 4}),
        GEMINI,
    ),
}
COUNTED = frozenset({"events", "events with [DONE]", "vLLM", "gemini"})


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_official_events(form: str) -> None:
    data, where = FORMS[form]
    out, outcome = played(data, where)
    said = events(out)
    assert outcome.error is None
    assert outcome.status == "completed"
    assert said[-1] == "[DONE]"
    assert [one["type"] for one in said[:-1]] == ["transcript.text.delta"] * (len(said) - 2) + ["transcript.text.done"]
    for one in said[:-1]:
        EVENT.validate_python(one)
    assert "".join(one["delta"] for one in said[:-2]) == said[-2]["text"] == TEXT
    if form in COUNTED:
        assert {**said[-2]["usage"], "input_token_details": None} == {**USAGE, "input_token_details": None}
    else:
        assert said[-2]["usage"]["type"] == "tokens"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_frames_of_text(form: str) -> None:
    data, where = FORMS[form]
    out, outcome = played(data, where, "deepintshield")
    assert outcome.error is None
    said = events(out)
    assert said[-1] == "[DONE]"
    assert all(list(one) == ["text"] for one in said[:-1])
    assert "".join(one["text"] for one in said[:-1]) == TEXT


@pytest.mark.parametrize("profile", ["openai", "deepintshield"])
@pytest.mark.parametrize("form", FORMS)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_the_split_of_the_bytes_changes_nothing(form: str, profile: str, cuts: list[int]) -> None:
    data, where = FORMS[form]
    expected = played(data, where, profile)
    assert played(split(data, cuts), where, profile) == expected
    if not cuts:
        assert played(bytewise(data), where, profile) == expected


def test_frames_of_the_same_form_go_on_untouched() -> None:
    odd = (
        b'event: x\ndata: {"delta" : "ebb", "type":"transcript.text.delta", "logprobs":[], "new": 1}\n\n'
        + frame({"type": "transcript.text.segment", "id": "s", "start": 0, "end": 1, "text": "ebb", "speaker": "A"})
        + frame({"type": "transcript.tidal_wave"})
        + done("ebb", usage={"type": "duration", "seconds": 2}, languages=[])
    )
    out, outcome = played(odd)
    assert out == odd + DONE
    assert outcome.error is None


def test_comments_of_a_provider_are_not_for_the_client() -> None:
    out, _ = played(b": ping\n\n" + OFFICIAL)
    assert out == OFFICIAL + DONE


def test_what_comes_after_the_end_is_not_told() -> None:
    out, _ = played(OFFICIAL + delta("more") + DONE)
    assert out == OFFICIAL + DONE


def test_a_transcript_without_deltas_has_its_text_in_either_form() -> None:
    out, _ = played(done("ebb"), profile="text")
    assert events(out) == [{"text": "ebb"}, "[DONE]"]


def test_segments_of_speakers_are_not_said_twice() -> None:
    segment = frame({"type": "transcript.text.segment", "id": "s", "start": 0, "end": 1, "text": "ebb", "speaker": "A"})
    out, _ = played(delta("ebb", segment_id="s") + segment + done("ebb"), profile="deepintshield")
    assert events(out) == [{"text": "ebb"}, "[DONE]"]


# -- one true ending ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["openai", "deepintshield"])
@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"".join(map(delta, WORDS)), to()),
        (b"".join(map(delta, WORDS)) + DONE, to()),
        (DONE, to()),
        (b"", to()),
        (chunk("ebb") + DONE, to()),
        (chunk("ebb", "stop"), to()),
        (chunk("ebb", "stop") + chunk(" flow", "length") + DONE, to()),
        (frame({"text": "ebb"}), to()),
        (OFFICIAL[:-20], to()),
        (delta("ebb") + b"data: {oh\n\n" + done("ebb"), to()),
        (delta("ebb") + b"data: [1]\n\n", to()),
        (delta("ebb") + b'data: {"type":"transcript.text.delta","delta":"\xff"}\n\n', to()),
        (gemini("ebb"), GEMINI),
        (gemini("ebb", "MAX_TOKENS"), GEMINI),
        (gemini("ebb", "SAFETY"), GEMINI),
    ],
)
def test_a_transcript_that_is_not_whole_ends_with_an_error(data: bytes, where: Destination, profile: str) -> None:
    out, outcome = played(data, where, profile)
    assert isinstance(outcome.error, errors.UpstreamBroken)
    assert "'lab'" in outcome.error.message
    said = events(out)
    assert "[DONE]" not in said
    assert not any(one.get("type") == "transcript.text.done" for one in said)
    assert list(said[-1]) == ["error"]
    assert said[-1]["error"]["code"] == "upstream_broken"


@pytest.mark.parametrize("torn", [False, True])
def test_a_transcript_that_is_left_has_used_what_gemini_counted_last(torn: bool) -> None:
    stream = open_stream(GEMINI)
    for place, word in enumerate(WORDS[:3], 1):
        stream.feed(gemini(word, usageMetadata={"promptTokenCount": 14, "candidatesTokenCount": place}))
    if torn:
        assert stream.finish() == b""
    assert stream.usage() == Usage(input_tokens=14, output_tokens=3)


def test_silence_behind_the_finish_reason_of_gemini_costs_nothing() -> None:
    stream = open_stream(GEMINI)
    out = stream.feed(gemini("ebb", "STOP"))
    assert outcome(stream) is None
    out += stream.finish()
    assert stream.outcome == Outcome("completed")
    assert [one if one == "[DONE]" else one["type"] for one in events(out)][1:] == ["transcript.text.done", "[DONE]"]


@pytest.mark.parametrize(
    ("said", "where"), [(gemini("ebb"), GEMINI), (delta("ebb"), to()), (chunk("ebb", "stop"), to())]
)
def test_silence_before_the_end_is_none(said: bytes, where: Destination) -> None:
    stream = open_stream(where)
    stream.feed(said)
    assert (stream.finish(), stream.outcome) == (b"", None)


@pytest.mark.parametrize(
    ("failure", "where"),
    [
        (frame({"error": {"message": "out of memory", "type": "server_error"}}), to()),
        (b"event: error\n" + frame({"message": "out of memory"}), to()),
        (frame({"object": "error", "message": "out of memory", "code": 500}), to()),
        (frame({"type": "error", "message": "out of memory"}), to()),
        (b'data: {"error": "out of memory"}\n\n', RAW),
        (b'data: {"error": "out of "memory""}\n\n', RAW),
        (frame({"error": {"code": 500, "message": "out of memory", "status": "INTERNAL"}}), GEMINI),
    ],
)
def test_an_error_in_the_stream_is_told_and_is_the_end(failure: bytes, where: Destination) -> None:
    begun = {"raw": b"data: ebb\n\n", "gemini": gemini("ebb")}.get(where.quirks.transcripts, delta("ebb"))
    out, outcome = played(begun + failure + DONE, where)
    assert outcome.error is not None
    assert "memory" in outcome.error.message
    said = events(out)
    assert said[0]["delta"] == "ebb"
    assert "memory" in said[-1]["error"]["message"]


def test_an_upstream_that_falls_silent_has_not_finished() -> None:
    for data, where in FORMS.values():
        stream = open_stream(where)
        stream.feed(data[: len(data) // 2])
        assert stream.finish() == b""
        assert stream.outcome is None


def test_another_attempt_begins_anew() -> None:
    stream = open_stream(profile="deepintshield")
    stream.feed(frame({"type": "transcript.text.segment"}) + b'data: {"text": ')
    assert not stream.committed
    stream.attempt(RAW)
    assert stream.feed(b"data: ebb\n\n") == frame_of_text("ebb")
    assert stream.committed


def frame_of_text(text: str) -> bytes:
    return b'data: {"text":"%b"}\n\n' % text.encode()


@given(st.integers(0, len(OFFICIAL)), st.binary(max_size=40), st.sampled_from(list(FORMS)))
def test_mangled_bytes_end_it_well_or_badly_but_never_both(at: int, junk: bytes, form: str) -> None:
    data, where = FORMS[form]
    out, outcome = played(data[: at % len(data)] + junk + data[at % len(data) :], where)
    said = events(out)
    ended = [one for one in said if one == "[DONE]" or "error" in one or one.get("type") == "transcript.text.done"]
    if outcome.error is None:
        assert said[-1] == "[DONE]"
        assert said.count("[DONE]") == 1
    else:
        assert "error" in said[-1]
        assert "[DONE]" not in said
    assert len([one for one in ended if one != "[DONE]"]) >= 1


# -- answers in one body ------------------------------------------------------------------------------------------


def test_a_whole_answer_is_made_into_the_promised_events() -> None:
    stream = open_stream(to(whole=True))
    body = {"text": "ebb and flow", "usage": {"type": "duration", "seconds": 3}, "logprobs": [{"token": "ebb"}]}
    out = stream.unstreamed(json.dumps(body).encode())
    assert out is not None
    said = events(out)
    assert said == [
        {"type": "transcript.text.delta", "delta": "ebb and flow"},
        {
            "type": "transcript.text.done",
            "text": "ebb and flow",
            "logprobs": [{"token": "ebb"}],
            "usage": {"type": "duration", "seconds": 3},
        },
        "[DONE]",
    ]
    assert stream.outcome is not None
    assert stream.outcome.error is None
    assert stream.usage().seconds == 3


def test_speakers_of_a_whole_answer_have_their_segments() -> None:
    stream = open_stream(to(whole=True))
    segment = {"type": "transcript.text.segment", "id": 4, "start": 0.5, "end": 1, "text": "ebb", "speaker": "A"}
    out = stream.unstreamed(json.dumps({"text": "ebb", "segments": [segment]}).encode())
    assert out is not None
    assert events(out)[1] == {**segment, "id": "4", "end": 1.0}
    EVENT.validate_python(events(out)[1])


def test_silence_has_an_ending_and_no_delta() -> None:
    for profile, expected in (("openai", ["transcript.text.done"]), ("text", [])):
        stream = open_stream(to(whole=True), profile)
        out = stream.unstreamed(b'{"text": ""}')
        assert out is not None
        assert [one["type"] for one in events(out)[:-1]] == expected
        assert events(out)[-1] == "[DONE]"


def test_a_whole_error_is_an_error_and_a_page_is_no_transcript() -> None:
    stream = open_stream(to(whole=True))
    assert stream.unstreamed(b"<html>") is None
    assert stream.unstreamed(b'{"error": {"message": "no"}}') == b""
    assert stream.outcome is not None
    assert stream.outcome.error is not None


# -- usage --------------------------------------------------------------------------------------------------------


def test_usage_is_the_providers_or_an_estimate() -> None:
    stream = open_stream()
    stream.feed(OFFICIAL)
    assert (stream.usage().input_tokens, stream.usage().output_tokens) == (14, 4)
    stream = open_stream()
    stream.feed(delta("ebb and flow"))
    assert stream.usage().estimated
    assert (stream.usage().input_tokens, stream.usage().output_tokens) == (call().request_bytes // 4, 3)


def test_a_parsed_form_can_be_asked_what_it_wants() -> None:
    request = parse(stream="true", model="m")
    assert (request.model, request.stream, request.wants_stop, request.end_user) == ("m", True, False, None)
