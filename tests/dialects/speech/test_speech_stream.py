"""Audio towards the client, raw and in events, from providers that send either."""

import base64
import io
import json
import struct
import wave

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import common
from tests.dialects.speech.samples import (
    AUDIO,
    DONE,
    FINISHED,
    GEMINI,
    USAGE,
    bare,
    chunk,
    counted,
    delta,
    deployment,
    error_of,
    frame,
    heard,
    opened,
    play,
)
from tidegate.dialects.dialect import AudioFormat, Outcome
from tidegate.dialects.speech.wav import open_head
from tidegate.wire.errors import UpstreamBroken, UpstreamFailed, UpstreamRateLimited

RAW = deployment()
EVENTS = deployment(events=True)
WHOLE = delta(AUDIO[:300]) + delta(AUDIO[300:]) + frame(FINISHED)
"""The last piece is no whole groups of three."""

EMPTY_HEAD = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 24_000, 48_000, 2, 16) + b"data\0\0\0\0"


def head(size: int, more: bytes = b"") -> bytes:
    """The head of a WAV file, with further chunks before its samples."""
    form = open_head(24_000)[12:36] + more
    return b"RIFF" + struct.pack("<I", 4 + len(form) + 8 + size) + b"WAVE" + form + b"data" + struct.pack("<I", size)


def cuts() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 5000), max_size=12)


# -- raw to raw ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mp3", "opus", "aac", "flac", "pcm", None])
def test_raw_audio_goes_on_read_by_read(kind: str | None) -> None:
    stream = opened(RAW, "audio/x", response_format=kind)
    assert [stream.feed(read) for read in common.split(AUDIO, [1, 2, 700])] == common.split(AUDIO, [1, 2, 700])
    assert stream.committed
    assert common.outcome(stream) is None
    assert stream.eof() == b""
    assert stream.outcome == Outcome("completed")
    assert stream.abrupt


@pytest.mark.parametrize(
    ("asked", "told", "shown"),
    [
        ("mp3", "audio/mpeg", "audio/mpeg"),
        ("mp3", "audio/mp3; charset=binary", "audio/mp3; charset=binary"),
        (None, "audio/wav", "audio/wav"),
        (None, "application/octet-stream", "audio/mpeg"),
        (None, "", "audio/mpeg"),
        ("opus", "binary/octet-stream", "audio/ogg"),
        ("aac", "", "audio/aac"),
        ("flac", "", "audio/flac"),
        ("wav", "", "audio/wav"),
        ("pcm", "", "audio/pcm"),
        ("pcm", "audio/pcm;rate=24000", "audio/pcm;rate=24000"),
        ("pcm", "audio/\u00e4", "audio/pcm"),
        ("mp3", "video/webm", "audio/mpeg"),
    ],
)
def test_the_content_type_is_the_providers_or_the_formats(asked: AudioFormat | None, told: str, shown: str) -> None:
    stream = opened(RAW, "audio/first", response_format=asked)
    stream.attempt(RAW)
    stream.head(told.encode("latin-1"))
    play(stream, [AUDIO])
    assert stream.content_type == shown.encode()


@pytest.mark.parametrize("told", ["text/plain", "text/html; charset=utf-8", "image/png", "application/xml"])
def test_what_is_called_something_else_than_audio_is_none(told: str) -> None:
    for form in ("audio", "sse"):
        stream = opened(RAW, told, stream_format=form)
        stream.feed(AUDIO)
        error = error_of(stream)
        assert isinstance(error, UpstreamBroken)
        assert told[:9] in error.message
        assert not stream.committed


@pytest.mark.parametrize("form", ["audio", "sse"])
def test_no_audio_is_a_failure(form: str) -> None:
    for to, told, reads in (
        (RAW, "audio/mpeg", []),
        (EVENTS, "text/event-stream", [frame(FINISHED)]),
        (EVENTS, "text/event-stream", [DONE]),
        (EVENTS, "text/event-stream", [frame({"type": "speech.audio.delta", "audio": ""}), frame(FINISHED)]),
    ):
        stream = opened(to, told, stream_format=form)
        for read in reads:
            assert stream.feed(read) == b""
        stream.eof()
        assert "no audio" in error_of(stream).message
        assert error_of(stream).may_retry
        assert not stream.committed


def test_a_failure_tells_a_raw_client_nothing_and_asks_for_no_ping() -> None:
    stream = opened(RAW, "audio/mpeg")
    stream.feed(AUDIO)
    assert stream.fail(UpstreamBroken("cut")) == b""
    assert stream.ping() == b""
    assert stream.finish() == b""


# -- WAV -------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(cuts(), st.sampled_from([b"", b"LIST\x05\0\0\0abcde\0"]), st.booleans())
def test_the_head_of_a_wav_file_is_passed_on_with_the_first_samples(cuts: list[int], more: bytes, open_: bool) -> None:
    file = (open_head(24_000) if open_ else head(len(AUDIO), more)) + AUDIO
    stream = opened(RAW, "audio/wav", response_format="wav")
    assert play(stream, common.split(file, cuts)) == file
    assert stream.outcome == Outcome("completed")


def test_a_wav_file_of_no_length_is_open_ended_instead() -> None:
    for reads in ([EMPTY_HEAD + AUDIO], common.bytewise(EMPTY_HEAD + AUDIO)):
        out = play(opened(RAW, "application/octet-stream", response_format="wav"), reads)
        assert out == open_head(24_000) + AUDIO
    with wave.open(io.BytesIO(out)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.readframes(len(AUDIO)) == AUDIO


def test_a_wav_file_that_is_shorter_than_it_says_is_broken() -> None:
    for form in ("audio", "sse"):
        stream = opened(RAW, "audio/wav", response_format="wav", stream_format=form)
        stream.feed(head(len(AUDIO)) + AUDIO[:-24])
        stream.eof()
        assert "24 bytes of audio less" in error_of(stream).message


def test_a_head_alone_is_no_audio() -> None:
    for file in (head(0), EMPTY_HEAD, open_head(24_000), head(8), b"RIFF\0\0", b"RIFF\0\0\0\0WAVE"):
        stream = opened(RAW, "audio/wav", response_format="wav")
        assert b"".join(map(stream.feed, common.bytewise(file))) == b""
        stream.eof()
        assert "no audio" in error_of(stream).message
        assert not stream.committed


@pytest.mark.parametrize("file", [b"RIFX" + AUDIO, b"R", AUDIO, b"RIFF\0\0\0\0AVI " + AUDIO, b"RIFFLE"])
def test_what_is_no_wav_file_passes_all_the_same(file: bytes) -> None:
    for reads in ([file], common.bytewise(file)):
        stream = opened(RAW, "audio/wav", response_format="wav")
        out = play(stream, reads)
        assert out == (b"" if file in (b"R", b"RIFFLE") else file)


def test_a_head_without_end_is_passed_on_unread() -> None:
    file = b"RIFF\0\0\0\0WAVEjunk" + struct.pack("<I", 2**31) + bytes(70_000)
    assert play(opened(RAW, "audio/wav", response_format="wav"), common.split(file, [100, 30_000])) == file


# -- events to events ------------------------------------------------------------------------------------------------


def test_frames_of_this_shape_go_on_untouched() -> None:
    whole = delta(AUDIO[:300], obfuscation="tide") + delta(AUDIO[300:603]) + frame({**FINISHED, "extra": 1})
    stream = opened(EVENTS, "text/event-stream", stream_format="sse")
    assert play(stream, [whole]) == whole + DONE
    assert stream.outcome == Outcome("completed")
    assert counted(stream) == (14, 101, False)
    assert stream.content_type == b"text/event-stream; charset=utf-8"
    assert not stream.abrupt


@settings(max_examples=80, deadline=None)
@given(cuts(), st.booleans())
def test_events_are_whole_groups_in_any_split(cuts: list[int], done: bool) -> None:
    stream = opened(EVENTS, "text/event-stream", stream_format="sse")
    out = play(stream, common.split(WHOLE + (DONE if done else b""), cuts))
    assert heard(out) == AUDIO
    assert out.endswith(frame(FINISHED) + DONE)
    assert out.count(b"[DONE]") == 1
    assert stream.outcome == Outcome("completed")


@pytest.mark.parametrize(
    "frames",
    [
        bare(AUDIO[:300]) + bare(AUDIO[300:]) + DONE,
        bare(AUDIO[:100]) + bare(AUDIO[100:]) + DONE.rstrip(),
        b"".join(delta(AUDIO[at : at + 1]) for at in range(len(AUDIO))) + frame({"type": "speech.audio.done"}),
        delta(AUDIO) + frame({"type": "speech.audio.done", "usage": None}) + DONE,
        delta(AUDIO) + frame({"type": "speech.audio.done", "usage": {"input_tokens": "many"}}) + DONE,
        delta(AUDIO) + DONE + delta(AUDIO),
    ],
)
def test_other_shapes_are_mended(frames: bytes) -> None:
    for reads in ([frames], common.bytewise(frames)):
        stream = opened(EVENTS, "text/event-stream", stream_format="sse")
        out = play(stream, reads)
        assert heard(out) == AUDIO
        last = common.events(out)[-1]
        assert last["type"] == "speech.audio.done"
        assert last["usage"]["total_tokens"] == last["usage"]["input_tokens"] + last["usage"]["output_tokens"] > 0
        assert out.endswith(DONE)
        assert out.count(b"[DONE]") == 1
        assert stream.usage().estimated


def test_usage_of_half_the_figures_is_completed_and_kept() -> None:
    asked = {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 4}}
    stream = opened(EVENTS, "text/event-stream", stream_format="sse")
    out = play(stream, [delta(AUDIO) + frame(asked)])
    assert common.events(out)[-1]["usage"] == {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    assert counted(stream) == (3, 4, False)


def test_event_lines_are_taken_off_and_line_ends_do_not_matter() -> None:
    named = b"event: speech.audio.delta\r\n" + delta(AUDIO[:300]).replace(b"\n", b"\r\n") + DONE
    out = play(opened(EVENTS, "text/event-stream", stream_format="sse"), [named])
    assert out.startswith(delta(AUDIO[:300]))
    assert b"event:" not in out


def test_comments_and_unknown_events_pass_once_audio_has_come() -> None:
    unknown = frame({"type": "speech.tide.rising", "audio": {"height": 3}})
    wave_ = b": still there\n\n" + unknown
    out = play(
        opened(EVENTS, "text/event-stream", stream_format="sse"), [wave_ + delta(AUDIO[:300]) + wave_ + frame(FINISHED)]
    )
    assert out == delta(AUDIO[:300]) + wave_ + frame(FINISHED) + DONE


@pytest.mark.parametrize("kind", ["text/plain", "", "application/octet-stream"])
def test_events_that_were_asked_for_are_read_as_such_whatever_they_are_called(kind: str) -> None:
    assert heard(play(opened(EVENTS, kind, stream_format="sse"), [WHOLE])) == AUDIO


def test_a_provider_of_events_may_answer_raw_all_the_same() -> None:
    stream = opened(EVENTS, "audio/mpeg", stream_format="sse")
    assert heard(play(stream, [AUDIO])) == AUDIO
    assert stream.outcome == Outcome("completed")


@pytest.mark.parametrize("form", ["audio", "sse"])
@pytest.mark.parametrize(
    ("last", "kind", "words"),
    [
        (b"", UpstreamBroken, "ended without 'speech.audio.done'"),
        (b'data: {"type":"speech.au', UpstreamBroken, "ended without"),
        (frame({"error": {"message": "busy", "code": "rate_limit_exceeded"}}), UpstreamRateLimited, "busy"),
        (frame({"type": "error", "error": {"message": "broken", "code": None}}), UpstreamFailed, "broken"),
        (frame({"type": "error", "message": "broken", "code": "server_error"}), UpstreamFailed, "broken"),
        (frame({"type": "error", "error": "no voice"}), UpstreamFailed, "no voice"),
        (b"event: error\n" + frame({"message": "broken"}), UpstreamFailed, "broken"),
        (b"data: {'no': json}\n\n", UpstreamBroken, "cannot be read"),
        (frame({"type": "speech.audio.delta", "audio": "@@@@"}), UpstreamBroken, "cannot be read"),
        (frame({"type": "speech.audio.delta", "audio": "QQ"}), UpstreamBroken, "cannot be read"),
        (b'data: {"audio":"\xff\xfe"}\n\n', UpstreamBroken, "cannot be read"),
        (b"data: " + b"x" * (8 * 1024 * 1024), UpstreamBroken, "longer than"),
    ],
)
def test_broken_streams_are_told_and_never_ended_well(form: str, last: bytes, kind: type, words: str) -> None:
    stream = opened(EVENTS, "text/event-stream", stream_format=form)
    out = play(stream, [delta(AUDIO[:300]) + last])
    error = error_of(stream)
    assert isinstance(error, kind)
    assert words in error.message
    assert stream.committed
    assert DONE not in out
    if form == "audio":
        assert out == AUDIO[:300]
    else:
        assert out.startswith(delta(AUDIO[:300]))
        assert json.loads(common.frames(out)[-1].data)["error"]["message"] == error.message


def test_nothing_is_read_behind_the_end() -> None:
    stream = opened(EVENTS, "text/event-stream", stream_format="sse")
    out = stream.feed(WHOLE + frame({"error": {"message": "late"}}))
    assert stream.outcome == Outcome("completed")
    assert b"late" not in out
    assert stream.feed(delta(AUDIO)) == b""
    assert stream.eof() == b""


def test_another_attempt_begins_anew() -> None:
    stream = opened(EVENTS, "text/event-stream", stream_format="sse")
    assert stream.feed(frame({"audio": base64.b64encode(b"a").decode()})) == b""  # too little to tell a client of
    assert not stream.committed
    stream.attempt(RAW)
    stream.head(b"audio/mpeg")
    assert heard(play(stream, [AUDIO])) == AUDIO


# -- one form to the other ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(cuts())
def test_raw_audio_is_put_into_events(cuts: list[int]) -> None:
    stream = opened(RAW, "audio/mpeg", stream_format="sse")
    out = play(stream, common.split(AUDIO, cuts))
    assert heard(out) == AUDIO
    done = common.events(out)[-1]
    assert done["type"] == "speech.audio.done"
    usage = stream.usage()
    assert usage.estimated
    assert done["usage"] == {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    assert out.endswith(DONE)
    assert stream.outcome == Outcome("completed")


def test_no_read_waits_for_the_next_but_for_what_completes_a_group() -> None:
    stream = opened(RAW, "audio/mpeg", stream_format="sse")
    sizes = [len(heard(stream.feed(AUDIO[at : at + 100]))) for at in range(0, 400, 100)]
    assert sizes == [99, 99, 102, 99]
    assert stream.ping().startswith(b":")


@settings(max_examples=60, deadline=None)
@given(cuts())
def test_audio_is_taken_out_of_events(cuts: list[int]) -> None:
    stream = opened(EVENTS, "text/event-stream", response_format="pcm")
    assert play(stream, common.split(b": hello\n\n" + WHOLE, cuts)) == AUDIO
    assert stream.outcome == Outcome("completed")
    assert stream.content_type == b"audio/pcm"
    assert counted(stream) == (USAGE["input_tokens"], USAGE["output_tokens"], False)


def test_a_wav_file_in_events_is_mended_too() -> None:
    parts = EMPTY_HEAD + AUDIO
    frames = b"".join(delta(parts[at : at + 30]) for at in range(0, len(parts), 30)) + DONE
    for form in ("audio", "sse"):
        out = play(opened(EVENTS, "text/event-stream", response_format="wav", stream_format=form), [frames])
        assert (heard(out) if form == "sse" else out) == open_head(24_000) + AUDIO


def test_a_whole_head_in_one_frame_leaves_the_frame_alone() -> None:
    first = delta(open_head(24_000) + AUDIO[:4])
    out = play(opened(EVENTS, "text/event-stream", response_format="wav", stream_format="sse"), [first + DONE])
    assert out.startswith(first)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=4)), max_size=6), cuts(), st.integers(0, 5))
def test_whatever_comes_nothing_is_raised_and_it_ends(
    changes: list[tuple[int, bytes]], cuts: list[int], case: int
) -> None:
    to, told = ((RAW, "audio/wav"), (EVENTS, "text/event-stream"), (GEMINI, "text/event-stream"))[case // 2]
    form = ("audio", "sse")[case % 2]
    wholes = (EMPTY_HEAD + AUDIO, WHOLE, chunk(AUDIO) + chunk(AUDIO, finishReason="STOP"))
    whole = bytearray(wholes[case // 2])
    for place, new in changes:
        at = place % len(whole)
        whole[at : at + len(new)] = new
    stream = opened(to, told, response_format="wav", stream_format=form, voice="Kore")
    out = play(stream, common.split(bytes(whole), cuts))
    assert stream.outcome is not None
    if form == "sse" and stream.committed:
        common.frames(out)
        assert (DONE in out) == (stream.outcome.error is None)


@pytest.mark.parametrize(
    ("kind", "seconds"), [("pcm", 10), ("wav", 10), ("mp3", 30), ("flac", 20), ("aac", 60), ("opus", 120)]
)
def test_usage_that_nobody_reports_is_estimated_from_text_and_duration(kind: str, seconds: int) -> None:
    stream = opened(RAW, "audio/x", response_format=kind, input="潮汐" * 8, instructions="Calm")
    stream.feed(bytes(480_000))
    assert counted(stream) == (13, 20 * seconds, True)
