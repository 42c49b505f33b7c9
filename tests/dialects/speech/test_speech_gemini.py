"""Google's answers in audio, as WAV files and as bare samples, raw and in events."""

import io
import wave
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import common
from tests.dialects.speech.samples import AUDIO, DONE, GEMINI, chunk, counted, error_of, frame, heard, opened, play
from tests.dialects.speech.test_speech_stream import head
from tidegate.dialects.dialect import Outcome
from tidegate.dialects.speech.stream import SpeechStream
from tidegate.dialects.speech.wav import open_head
from tidegate.wire.errors import TidegateError, UpstreamBroken, UpstreamFailed, UpstreamRateLimited

FIGURES = {"promptTokenCount": 9, "candidatesTokenCount": 77, "totalTokenCount": 86}
END = chunk(finishReason="STOP", usageMetadata=FIGURES)
WHOLE = chunk(AUDIO[:301]) + chunk(AUDIO[301:]) + END


def speech(**members: Any) -> SpeechStream:
    return opened(GEMINI, "text/event-stream", voice="Kore", **members)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=10), st.sampled_from(["audio", "sse"]))
def test_samples_come_out_in_any_split(cuts: list[int], form: str) -> None:
    stream = speech(response_format="pcm", stream_format=form)
    out = play(stream, common.split(WHOLE, cuts))
    assert (heard(out) if form == "sse" else out) == AUDIO
    assert stream.outcome == Outcome("completed")
    assert counted(stream) == (9, 77, False)
    if form == "sse":
        usage = {"input_tokens": 9, "output_tokens": 77, "total_tokens": 86}
        assert common.events(out)[-1] == {"type": "speech.audio.done", "usage": usage}


@pytest.mark.parametrize(
    ("kind", "rate"),
    [("audio/L16;codec=pcm;rate=24000", 24_000), ("audio/l16; rate=16000; channels=1", 16_000), ("audio/L16", 24_000)],
)
def test_a_wav_file_has_the_rate_that_was_told_and_an_open_end(kind: str, rate: int) -> None:
    for asked in ({"response_format": "wav"}, {}):
        stream = speech(**asked)
        out = play(stream, [chunk(AUDIO[:300], kind) + chunk(AUDIO[300:], kind) + END])
        assert out == open_head(rate) + AUDIO
        assert stream.content_type == b"audio/wav"
    with wave.open(io.BytesIO(out)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (rate, 1, 2)
        assert file.readframes(1024) == AUDIO


def test_each_read_leaves_at_once() -> None:
    stream = speech(response_format="pcm")
    assert stream.feed(chunk(AUDIO[:300])) == AUDIO[:300]
    assert stream.committed
    assert stream.feed(chunk(AUDIO[300:])) == AUDIO[300:]
    assert common.outcome(stream) is None


def test_a_wav_file_of_googles_own_keeps_its_head_or_loses_it() -> None:
    file = head(len(AUDIO)) + AUDIO
    frames = chunk(file[:20], "audio/wav") + chunk(file[20:], "audio/wav") + END
    assert play(speech(response_format="wav"), [frames]) == file
    assert play(speech(response_format="pcm"), [frames]) == AUDIO


@pytest.mark.parametrize("form", ["audio", "sse"])
@pytest.mark.parametrize(
    ("last", "kind", "words"),
    [
        (b"", UpstreamBroken, "without a finish reason"),
        (chunk(finishReason="OTHER", finishMessage="no idea"), UpstreamBroken, "no idea"),
        (chunk(finishReason="MAX_TOKENS"), UpstreamBroken, "cut at the model's limit"),
        (chunk(finishReason="SAFETY"), UpstreamFailed, "withheld the audio (SAFETY)"),
        (frame({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}), UpstreamFailed, "blocked the text"),
        (
            frame({"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}),
            UpstreamRateLimited,
            "slow",
        ),
        (chunk(AUDIO, "audio/ogg"), UpstreamBroken, "the type 'audio/ogg'"),
        (b"data: {\n\n", UpstreamBroken, "cannot be read"),
        (b'data: {"candidates": 7}\n\n', UpstreamBroken, "cannot be read"),
        (b"data: \xff\n\n", UpstreamBroken, "cannot be read"),
    ],
)
def test_broken_answers_are_told(form: str, last: bytes, kind: type[TidegateError], words: str) -> None:
    stream = speech(response_format="pcm", stream_format=form)
    out = play(stream, [chunk(AUDIO[:300]) + last])
    assert isinstance(error_of(stream), kind)
    assert words in error_of(stream).message
    assert DONE not in out


def test_a_refusal_is_the_callers_and_is_not_tried_elsewhere() -> None:
    stream = speech()
    stream.feed(chunk(finishReason="SAFETY"))
    error = error_of(stream)
    assert (error.http_status, error.param, error.code, error.may_retry) == (400, "input", "content_filter", False)


@pytest.mark.parametrize("form", ["audio", "sse"])
def test_silence_behind_the_finish_reason_costs_nothing(form: str) -> None:
    stream = speech(response_format="pcm", stream_format=form)
    out = stream.feed(WHOLE[: -len(END)])
    assert stream.finish() == b""
    assert common.outcome(stream) is None
    out += stream.feed(END) + stream.finish()
    assert stream.outcome == Outcome("completed")
    assert (heard(out) if form == "sse" else out) == AUDIO
    assert (DONE in out) == (form == "sse")


def test_text_in_the_place_of_audio_is_none() -> None:
    stream = speech()
    said = {"candidates": [{"content": {"parts": [{"text": "Sure!"}]}, "finishReason": "STOP"}]}
    assert play(stream, [frame(said)]) == b""
    assert "no audio" in error_of(stream).message


def test_bare_samples_at_another_rate_are_refused_since_nothing_tells_it() -> None:
    stream = speech(response_format="pcm")
    stream.feed(chunk(AUDIO, "audio/L16;rate=48000"))
    assert "48000 samples a second" in error_of(stream).message
