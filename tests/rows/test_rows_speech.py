"""Rows S4, S76–S83: speech."""

import base64
import io
import json
import time
import wave
from typing import Any

import pytest

from tests.support.api import Api, Reply
from tests.support.canned import Canned
from tests.support.raw import Raw, post
from tests.support.running import Running
from tidegate.dialects.profile import PROFILES
from tidegate.sim import speech
from tidegate.sim.answer import Answer
from tidegate.sim.options import Options

PATH = "/v1/audio/speech"
SAID: dict[str, Any] = {"input": "Ebb and flow, day and night.", "voice": "coral"}


def speak(api: Api, model: str = "sim/lorem", *, profile: str = "openai", **members: Any) -> Reply:
    return api.post(PATH, {"model": model, **SAID, **members}, headers={"tidegate-profile": profile})


def audio(kind: str, pieces: int = 10) -> bytes:
    return b"".join(speech.pieces(Answer(text=("a",) * pieces), Options(), kind))


def chunks(reply: Reply) -> list[bytes]:
    """What each frame with audio decodes to, all by itself."""
    return [base64.b64decode(event["audio"], validate=True) for event in reply.events if "audio" in event]


@pytest.mark.row("S4")
def test_speech_is_answered_as_events_as_raw_audio_and_to_whoever_reads_it_as_one_body(api: Api) -> None:
    events = speak(api, stream_format="sse")
    assert (events.status, events.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    for form in ({"stream_format": "audio"}, {}):
        raw = speak(api, **form)
        assert (raw.status, raw.headers["content-type"], raw.content) == (200, "audio/mpeg", audio("mp3"))
    assert b"".join(chunks(events)) == audio("mp3")
    assert api.upstream.path == PATH


@pytest.mark.row("S76")
def test_all_four_members_count_and_reach_the_provider(api: Api) -> None:
    reply = speak(api, "openai/gpt-echo", stream_format="sse")
    assert reply.status == 404  # the simulator has no such model, and was asked
    assert api.sent == {"model": "gpt-echo", **SAID, "stream_format": "sse"}
    for name in ("input", "voice"):
        missing = api.post(PATH, {key: value for key, value in {"model": "sim/echo", **SAID}.items() if key != name})
        assert (missing.status, missing.error["param"]) == (400, name)
    for value in ("SSE", "", 1):
        assert speak(api, stream_format=value).error["param"] == "stream_format"


@pytest.mark.row("S77", "S79")
@pytest.mark.parametrize("profile", PROFILES)
def test_one_event_serves_both_shapes_and_the_stream_ends_with_both_endings(api: Api, profile: str) -> None:
    reply = speak(api, stream_format="sse", profile=profile)
    *deltas, done = reply.events
    assert all(list(event) == ["type", "audio"] and event["type"] == "speech.audio.delta" for event in deltas)
    assert list(done) == ["type", "usage"]
    assert done["type"] == "speech.audio.done"
    assert set(done["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}
    assert reply.content.startswith(b'data: {"type":"speech.audio.delta","audio":"')
    assert reply.content.endswith(b"}\n\ndata: [DONE]\n\n")
    assert all(not frame.event for frame in reply.frames)
    assert reply.headers["tidegate-profile"] == profile


@pytest.mark.row("S77", "S79")
def test_a_provider_that_has_only_the_bare_shape_is_given_the_rest() -> None:
    frames = b"".join(b'data: {"audio":"%b"}\n\n' % base64.b64encode(piece) for piece in (b"tide", b"gate"))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    with (
        Canned(head + frames + b"data: [DONE]\n\n") as provider,
        Running(f"[server]\nport = 0\n{provider.toml()}") as own,
        Api(own) as api,
    ):
        reply = speak(api, "canned/m", stream_format="sse")
        assert [event["type"] for event in reply.events][-1] == "speech.audio.done"
        assert b"".join(chunks(reply)) == b"tidegate"
        assert speak(api, "canned/m").content == b"tidegate"


@pytest.mark.row("S78")
@pytest.mark.parametrize("model", ["sim/lorem?size=1000", "sim/lorem?size=1", "openai/lorem?size=1001&split=77"])
def test_each_chunk_decodes_by_itself_and_so_do_all_of_them_joined(api: Api, model: str) -> None:
    reply = speak(api, model, response_format="pcm", stream_format="sse")
    texts = [event["audio"] for event in reply.events if "audio" in event]
    assert all(len(text) % 4 == 0 and "=" not in text for text in texts[:-1])
    assert base64.b64decode("".join(texts), validate=True) == b"".join(chunks(reply))
    size = Options(size=int(model.partition("size=")[2].partition("&")[0]))
    assert b"".join(chunks(reply)) == b"".join(speech.pieces(Answer(text=("a",) * 10), size, "pcm"))


@pytest.mark.row("S80")
def test_mp3_is_what_comes_unless_another_format_is_named(api: Api) -> None:
    reply = speak(api)
    assert reply.headers["content-type"] == "audio/mpeg"
    place, frames = 0, 0
    while place < len(reply.content):  # every frame of MPEG audio begins with eleven set bits
        assert reply.content[place] == 0xFF
        assert reply.content[place + 1] >> 5 == 0b111
        place += speech.MP3_FRAME
        frames += 1
    assert frames == 20
    assert "response_format" not in api.sent


@pytest.mark.row("S81")
@pytest.mark.parametrize("form", ["audio", "sse"])
def test_wav_is_open_ended_while_it_streams(api: Api, form: str) -> None:
    reply = speak(api, response_format="wav", stream_format=form)
    content = b"".join(chunks(reply)) if form == "sse" else reply.content
    assert content.startswith(b"RIFF\xff\xff\xff\xffWAVEfmt ")
    assert content[36:44] == b"data\xff\xff\xff\xff"
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.readframes(1 << 20) == b"".join(map(speech.tone, range(10)))
    if form == "audio":
        assert reply.headers["content-type"] == "audio/wav"


@pytest.mark.row("S81")
@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("mp3", "audio/mpeg"),
        ("opus", "audio/ogg"),
        ("aac", "audio/aac"),
        ("flac", "audio/flac"),
        ("wav", "audio/wav"),
        ("pcm", "audio/pcm"),
    ],
)
def test_every_format_has_its_content_type(kind: str, content_type: str) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 8\r\n\r\n"
    with Canned(head + b"tidegate") as provider:
        toml = f"[server]\nport = 0\n{provider.toml(kind='openai-compatible')}"
        with Running(toml) as own, Api(own) as api:
            reply = speak(api, "canned/m", response_format=kind)
            assert (reply.headers["content-type"], reply.content) == (content_type, b"tidegate")
            assert provider.requests[-1]["response_format"] == kind


@pytest.mark.row("S81")
def test_a_format_that_a_provider_has_not_is_refused_with_those_it_has(api: Api) -> None:
    calls = api.calls
    for given, words in (("flac", "mp3, wav, pcm"), ("mp4", "'wav'"), (7, "got an integer")):
        error = speak(api, response_format=given).error
        assert error["param"] == "response_format"
        assert words in error["message"]
    assert api.calls == calls


@pytest.mark.row("S82")
@pytest.mark.parametrize("form", ["audio", "sse"])
def test_audio_can_be_played_while_it_arrives(gateway: Running, form: str) -> None:
    asked = {"model": "patient/lorem?chunks=6&gap=100", **SAID, "stream_format": form}
    with Raw(gateway) as client:
        client.send(post(json.dumps(asked).encode(), path=PATH)).until(b"\r\n\r\n")
        times = []
        while client.chunk():
            times.append(time.monotonic())
    assert len(times) >= 6
    assert times[-1] - times[0] > 0.4


@pytest.mark.row("S83")
def test_the_stream_of_events_can_be_saved_as_text_and_read_again(api: Api) -> None:
    saved = speak(api, stream_format="sse").content.decode("ascii")
    lines = saved.split("\n")
    data = [line.removeprefix("data: ") for line in lines if line]
    assert all(line.startswith("data: ") for line in lines if line)
    assert data[-1] == "[DONE]"
    events = [json.loads(one) for one in data[:-1]]
    joined = "".join(event["audio"] for event in events if event["type"] == "speech.audio.delta")
    assert base64.b64decode(joined, validate=True) == audio("mp3")
