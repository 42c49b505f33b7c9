"""Speech over real sockets: progress, endings, failures before and after the first audio, departures, fallback, usage."""

import base64
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api import Api, Reply
from tests.support.canned import Canned
from tests.support.raw import Raw, post
from tests.support.running import Running, wait_for
from tidegate.sim import speech
from tidegate.sim.answer import Answer
from tidegate.sim.connection import SimRequest
from tidegate.sim.options import Options

PATH = "/v1/audio/speech"
TOML = """
[server]
port = 0
stream_ping = "1s"
[defaults]
model = "openai/echo"
speech_model = "openai/lorem"
[routing]
retries = 0
eject_after = 0
[providers.openai]
base_url = "{sim}"
credentials = ["sk-0123456789abcdef"]
speech_events = ["events*"]
[providers.sim]
base_url = "{sim}"
timeouts = { first_event = "600ms", idle = "600ms" }
[providers.patient]
kind = "sim"
base_url = "{sim}"
timeouts = { first_event = "20s", idle = "20s" }
[providers.google]
kind = "gemini"
base_url = "{sim}beta"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
timeouts = { first_event = "600ms", idle = "600ms" }
[providers.writer]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789"]
[models.spare]
target = "sim/lorem?status=503"
fallback = ["sim/lorem?fault=empty200", "sim/lorem?fault=json200", "sim/lorem?fault=close&after=0", "openai/lorem?chunks=3"]
[providers.second]
kind = "sim"
base_url = "{sim}"
[models.late]
target = "second/lorem?fault=cut&after=2"
fallback = ["openai/lorem"]
[providers.closed]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
credentials = ["sk-0123456789abcdef"]
[models.abroad]
target = "closed/tts"
fallback = ["google/lorem?chunks=2"]
[models.lossy]
target = "google/lorem?chunks=2"
unsupported = "drop"
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def api(gateway: Running) -> Iterator[Api]:
    with Api(gateway) as client:
        yield client


def body(model: str | None = "sim/lorem", **members: Any) -> dict[str, Any]:
    asked = {"model": model, "input": "Ebb and flow, day and night.", "voice": "coral", **members}
    return {name: value for name, value in asked.items() if value is not None}


def say(api: Api, model: str | None = "sim/lorem", *, headers: dict[str, str] | None = None, **members: Any) -> Reply:
    return api.post(PATH, body(model, **members), headers=headers)


def asked(model: str, **members: Any) -> bytes:
    return post(json.dumps(body(model, **members)).encode(), path=PATH)


def tones(count: int, kind: str = "mp3", **options: Any) -> bytes:
    """What the simulator says in `count` pieces."""
    return b"".join(speech.pieces(Answer(text=("a",) * count), Options(**options), kind))


def heard(reply: Reply) -> bytes:
    """The audio of a whole stream of events."""
    assert reply.status == 200, reply.content
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.frames[-1].data == b"[DONE]"
    assert {event["type"] for event in reply.events[:-1]} == {"speech.audio.delta"}
    assert reply.events[-1]["type"] == "speech.audio.done"
    return b"".join(base64.b64decode(event["audio"], validate=True) for event in reply.events[:-1])


def upstream(gateway: Running, calls: int) -> SimRequest:
    """The call that comes after the first `calls`."""

    def look() -> SimRequest | None:
        found = [one for one in gateway.sim.requests if one.method == "POST"]
        return found[-1] if len(found) > calls else None

    found = wait_for(look)
    assert found is not None
    return found


# -- answers ---------------------------------------------------------------------------------------------------------


def test_raw_audio_arrives_piece_by_piece(gateway: Running) -> None:
    with Raw(gateway) as client:
        begun = time.monotonic()
        client.send(asked("sim/lorem?chunks=5&gap=150", response_format="pcm"))
        head = client.until(b"\r\n\r\n")
        times, pieces = [], []
        while piece := client.chunk():
            times.append(time.monotonic() - begun)
            pieces.append(piece)
    assert b"content-type: audio/pcm\r\n" in head
    assert b"cache-control: no-store\r\nx-accel-buffering: no\r\n" in head
    assert b"tidegate-deployment: sim/lorem" in head
    assert pieces == [speech.tone(place) for place in range(5)]
    assert times[0] < 0.4 < times[-1] - times[0]


def test_the_provider_gets_the_clients_own_members_and_is_asked_for_what_it_can_do(api: Api) -> None:
    assert heard(say(api, "openai/lorem?chunks=3", stream_format="sse", speed=1.5, made_up=[1])) == tones(3)
    assert api.sent == {**body("lorem?chunks=3"), "speed": 1.5, "made_up": [1]}
    assert (api.upstream.path, api.upstream.headers["accept"]) == (PATH, "*/*")
    with Api(api.gateway) as other:
        assert heard(say(other, "sim/lorem?chunks=3", stream_format="sse")) == tones(3)
    assert api.sent == {**body("lorem?chunks=3"), "stream_format": "sse"}


@pytest.mark.parametrize("kind", ["mp3", "wav", "pcm"])
@pytest.mark.parametrize("model", ["sim/lorem", "openai/lorem", "sim/lorem?minimal=1&size=1001", "google/lorem"])
def test_every_form_from_every_provider(api: Api, model: str, kind: str) -> None:
    if model.startswith("google") and kind == "mp3":
        return
    voice = "Kore" if model.startswith("google") else "coral"
    want = tones(10, kind, size=1001 if "size" in model and kind != "mp3" else None)
    raw = say(api, model, response_format=kind, voice=voice)
    assert (raw.status, raw.content) == (200, want)
    assert raw.headers["content-type"] == speech.TYPES[kind]
    assert heard(say(api, model, response_format=kind, voice=voice, stream_format="sse")) == want


def test_formats_and_voices_that_a_provider_has_not_are_refused_before_it_is_asked(api: Api) -> None:
    calls = api.calls
    refused: list[tuple[str, dict[str, Any], str, str]] = [
        ("sim/lorem", {"response_format": "opus"}, "response_format", "mp3, wav, pcm"),
        ("google/lorem", {"response_format": "mp3", "voice": "Kore"}, "response_format", "wav, pcm"),
        ("google/lorem", {}, "voice", "Google's are Achernar, "),
        ("openai/tts-1", {"instructions": "Whisper."}, "instructions", "tts-1"),
    ]
    for model, members, param, words in refused:
        error = say(api, model, **members).error
        assert (error["param"], error["code"]) == (param, "unsupported_parameter")
        assert words in error["message"]
    assert api.calls == calls


def test_what_is_left_out_on_request_is_named(api: Api) -> None:
    reply = say(api, "lossy", response_format="opus", speed=2)
    assert (reply.status, reply.content) == (200, tones(2, "wav"))
    assert reply.headers["content-type"] == "audio/wav"
    assert reply.headers["tidegate-dropped"] == "response_format, speed, voice"


def test_a_providers_refusal_keeps_its_meaning(api: Api) -> None:
    error = say(api, voice="nobody").error
    assert (error["param"], error["code"]) == ("voice", "invalid_value")
    assert "alloy" in error["message"]
    google = say(api, "google/lorem", voice="nobody")
    assert (google.status, google.error["type"]) == (400, "invalid_request_error")
    assert "Allowed voice names are" in google.error["message"]


def test_models_that_are_for_something_else(api: Api, gateway: Running) -> None:
    assert say(api, None).content == tones(10)
    assert api.sent["model"] == "lorem"
    error = say(api, "writer/lorem").error
    assert (error["param"], error["code"]) == ("model", "unsupported_endpoint")
    assert "does not speak /v1/audio/speech" in error["message"]
    missing = say(api, "nowhere/lorem")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")


def test_without_a_default_for_speech_the_one_for_text_does_not_serve() -> None:
    toml = """
[server]
port = 0
[defaults]
model = "sim/echo"
[providers.sim]
base_url = "{sim}"
[[keys]]
name = "app"
secret = "0123456789abcdef0123456789abcdef"
model = "sim/zh"
"""
    with Running(toml) as gateway, Api(gateway, authorization="Bearer 0123456789abcdef0123456789abcdef") as api:
        error = say(api, None).error
        assert (error["param"], error["code"]) == ("model", "missing_required_parameter")
        assert api.calls == 0


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": ""}, "input"),
        ({"voice": None}, "voice"),
        ({"speed": 5}, "speed"),
        ({"stream_format": 1}, "stream_format"),
    ],
)
def test_bad_requests_are_refused_in_the_envelope(api: Api, members: dict[str, Any], param: str) -> None:
    calls = api.calls
    reply = api.post(
        PATH, {**body(), **members} if members.get(param) is not None else {"input": "a", "model": "sim/lorem"}
    )
    assert (reply.status, reply.error["param"]) == (400, param)
    assert api.calls == calls
    entry = api.gateway.usage(reply.request_id)
    assert (entry["endpoint"], entry["ending"]) == ("speech", "refused")


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["audio", "sse"])
@pytest.mark.parametrize("provider", ["sim", "openai", "google"])
@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("fault=close&after=0", 502, "upstream_broken"),
        ("fault=reset&after=0", 502, "upstream_broken"),
        ("fault=empty200", 502, "upstream_broken"),
        ("fault=html200", 502, "upstream_broken"),
        ("fault=json200", 502, "server_error"),
        ("fault=redirect", 502, "upstream_broken"),
        ("fault=close_head", 502, "upstream_broken"),
        ("fault=stall_head", 504, "upstream_timeout"),
        ("status=401", 502, "upstream_auth"),
        ("status=429&retry_after=7", 429, "rate_limit_exceeded"),
        ("status=500&body=html", 502, "server_error"),
    ],
)  # fmt: skip
def test_before_the_first_audio_a_failure_is_an_answer(
    api: Api, provider: str, form: str, script: str, status: int, code: str
) -> None:
    if provider == "openai" and "stall" in script:
        return  # its clocks are long
    voice = "Kore" if provider == "google" else "coral"
    reply = say(api, f"{provider}/lorem?{script}", voice=voice, stream_format=form)
    assert (reply.status, reply.error["code"]) == (status, code)


def test_text_that_is_called_text_is_no_audio(api: Api) -> None:
    reply = say(api, "openai/lorem?fault=wrong_type")
    assert (reply.status, reply.error["code"]) == (502, "upstream_broken")
    assert "'text/plain', which is no audio" in reply.error["message"]
    assert say(api, "openai/lorem?fault=no_type").headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("sim/lorem?fault=cut&after=2", "upstream_broken"),
        ("sim/lorem?fault=close&after=2", "upstream_broken"),
        ("sim/lorem?fault=reset&after=2", "upstream_broken"),
        ("sim/lorem?fault=stall&after=2", "upstream_timeout"),
        ("sim/lorem?fault=bad_chunk_size&after=2", "upstream_broken"),
        ("sim/lorem?fault=cut&after=2&framing=length", "upstream_broken"),
        ("late", "upstream_broken"),
    ],
)
def test_after_the_first_audio_a_raw_answer_breaks_off(gateway: Running, model: str, code: str) -> None:
    """Never a clean end, and never another voice behind it."""
    with Raw(gateway) as client:
        request_id = f"broken-{time.monotonic_ns()}"
        request = asked(model, response_format="pcm").replace(
            b"Host:", b"x-request-id: %b\r\nHost:" % request_id.encode()
        )
        client.send(request)
        assert b"transfer-encoding: chunked\r\n" in client.until(b"\r\n\r\n")
        rest = client.rest()
    assert speech.tone(0) in rest
    assert speech.tone(5) not in rest
    assert not rest.endswith(b"0\r\n\r\n")
    entry = gateway.usage(request_id)
    assert (entry["ending"], entry["status"], entry["error"], entry["attempts"]) == ("failed", 200, code, 1)
    assert entry["output_tokens"] > 0


def test_a_client_of_http_1_0_sees_a_reset(gateway: Running) -> None:
    """Its answer ends with the connection, so that a clean end of that would pass for a whole one."""

    def old(model: str) -> bytes:
        return asked(model, response_format="pcm").replace(b"HTTP/1.1", b"HTTP/1.0")

    with Raw(gateway) as client:
        client.send(old("sim/lorem?fault=cut&after=2&gap=20"))
        assert b"transfer-encoding" not in client.until(b"\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            client.exactly(1 << 20)
    with Raw(gateway) as client:
        client.send(old("sim/lorem?chunks=2"))
        client.until(b"\r\n\r\n")
        assert client.rest() == tones(2, "pcm")


@pytest.mark.parametrize(
    "model", ["sim/lorem?fault=error&after=2", "sim/lorem?fault=eof&after=2", "google/lorem?fault=eof&after=2"]
)
def test_what_breaks_in_the_providers_events_breaks_the_raw_answer_too(gateway: Running, model: str) -> None:
    """Raw audio has no way to say so; a provider that is asked for it and sends events all the same has one."""
    if model.startswith("google"):
        with Raw(gateway) as client:
            client.send(asked(model, response_format="pcm", voice="Kore"))
            client.until(b"\r\n\r\n")
            assert not client.rest().endswith(b"0\r\n\r\n")
        return
    frames = b'data: {"type":"speech.audio.delta","audio":"%b"}\n\n' % base64.b64encode(speech.tone(0))
    last = b'data: {"error":{"message":"out of breath"}}\n\n' if "error" in model else b""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(frames + last)
    with (
        Canned(head + frames + last) as provider,
        Running(f"[server]\nport = 0\n{provider.toml()}") as own,
        Raw(own) as client,
    ):
        client.send(asked("canned/m", response_format="pcm"))
        rest = client.rest()
    assert not rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("provider", ["sim", "openai", "google"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cut", "upstream_broken"),
        ("reset", "upstream_broken"),
        ("stall", "upstream_timeout"),
        ("error", "server_error"),
    ],
)
def test_events_tell_of_a_failure_and_have_no_ending(api: Api, provider: str, fault: str, code: str) -> None:
    if provider == "openai" and fault in ("stall", "error"):
        return  # its clocks are long, and raw audio has no error
    voice = "Kore" if provider == "google" else "coral"
    reply = say(api, f"{provider}/lorem?fault={fault}&after=2&gap=20", voice=voice, stream_format="sse")
    assert reply.status == 200
    assert b"[DONE]" not in reply.content
    assert b"speech.audio.done" not in reply.content
    *pieces, last = reply.events
    assert {event["type"] for event in pieces} == {"speech.audio.delta"}
    assert set(last) == {"error"}
    assert last["error"]["code"] == code
    assert api.gateway.usage(reply.request_id)["ending"] == "failed"


def test_bytes_that_are_missing_are_missed(api: Api) -> None:
    """A WAV file whose head tells its length may end its HTTP message well, and still be cut."""
    cut = "openai/lorem?framing=length&fault=eof&after=3"
    reply = say(api, cut, response_format="wav", stream_format="sse")
    assert "13440 bytes of audio less" in reply.events[-1]["error"]["message"]
    with pytest.raises(httpx.RemoteProtocolError):
        say(api, cut, response_format="wav")
    whole = say(api, "openai/lorem?framing=length", response_format="wav")
    assert whole.content == speech.wav_head(10 * 1920) + b"".join(map(speech.tone, range(10)))


@pytest.mark.parametrize("form", ["audio", "sse"])
def test_other_deployments_stand_in_before_the_first_audio(api: Api, form: str) -> None:
    reply = say(api, "spare", stream_format=form)
    assert (heard(reply) if form == "sse" else reply.content) == tones(3)
    assert reply.headers["tidegate-deployment"] == "openai/lorem?chunks=3"
    assert reply.headers["tidegate-attempts"] == "5"


def test_gemini_stands_in_with_what_it_has(api: Api) -> None:
    reply = say(api, "abroad", voice="Kore", response_format="wav")
    assert (reply.status, reply.content) == (200, tones(2, "wav"))
    assert reply.headers["tidegate-deployment"] == "google/lorem?chunks=2"
    reply = say(api, "abroad", voice="coral", response_format="wav")  # Gemini has no such voice
    assert (reply.status, reply.error["code"]) == (502, "upstream_unreachable")


def test_the_clients_clock_counts_for_the_whole_answer(api: Api) -> None:
    reply = say(api, "patient/lorem?chunks=50&gap=100", stream_format="sse", headers={"tidegate-timeout": "700ms"})
    assert reply.events[-1]["error"]["code"] == "upstream_timeout"
    assert "total clock" in reply.events[-1]["error"]["message"]


def test_a_silent_answer_is_not_ended_by_a_keepalive(api: Api) -> None:
    """Raw audio has no room for one; events get a comment."""
    assert say(api, "openai/lorem?chunks=2&gap=1500", response_format="pcm").content == tones(2, "pcm")
    reply = say(api, "openai/lorem?chunks=2&gap=1500", stream_format="sse")
    assert reply.content.count(b": keepalive\n\n") >= 1
    assert heard(reply) == tones(2)


# -- departures and usage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["audio", "sse"])
@pytest.mark.parametrize("script", ["chunks=200&gap=50", "fault=stall_head", "fault=stall&after=3"])
def test_a_client_that_leaves_takes_the_call_with_it(gateway: Running, api: Api, script: str, form: str) -> None:
    calls = api.calls
    with Raw(gateway) as client:
        client.send(asked(f"patient/lorem?{script}", stream_format=form))
        call = upstream(gateway, calls)
        if "head" not in script:
            client.until(b"\r\n\r\n")
            client.until(b"\r\n")
    left = gateway.call(lambda: gateway.loop.time())
    wait_for(lambda: call.closed_by_peer_at is not None)
    assert call.closed_by_peer_at is not None
    assert call.closed_by_peer_at - left < 1


def test_usage_is_the_providers_or_an_estimate(api: Api) -> None:
    told = say(api, "sim/lorem?chunks=7", stream_format="sse")
    entry = api.gateway.usage(told.request_id)
    assert (entry["endpoint"], entry["stream"], entry["ending"]) == ("speech", True, "completed")
    assert (entry["input_tokens"], entry["output_tokens"]) == (7, 7)
    assert not entry.get("estimated")
    guessed = say(api, "sim/lorem?chunks=100", response_format="pcm")  # four seconds
    entry = api.gateway.usage(guessed.request_id)
    assert (entry["input_tokens"], entry["output_tokens"], entry["estimated"]) == (7, 80, True)
    google = say(api, "google/lorem?chunks=7", voice="Kore")
    entry = api.gateway.usage(google.request_id)
    assert (entry["output_tokens"], entry.get("estimated", False)) == (7, False)


def test_draining_cuts_raw_audio_and_tells_events(gateway: Running) -> None:
    toml = TOML.replace("[server]", '[server]\ndrain = "400ms"')
    with Running(toml) as own, Raw(own) as raw, Raw(own) as events:
        for client, form in ((raw, "audio"), (events, "sse")):
            client.send(asked("patient/lorem?chunks=100&gap=50", stream_format=form)).until(b"\r\n\r\n")
        own.server.should_exit = True
        assert not raw.rest().endswith(b"0\r\n\r\n")
        said = events.rest()
    assert b"gateway_shutting_down" in said
    assert said.endswith(b"0\r\n\r\n")
    assert b"[DONE]" not in said


def test_a_client_that_reads_slowly_holds_the_provider_back(gateway: Running) -> None:
    with Raw(gateway, receive_buffer=4096) as client:
        client.send(asked("patient/lorem?chunks=2000&size=16384", response_format="pcm"))
        client.until(b"\r\n\r\n")
        time.sleep(0.3)
        parts = gateway.server._parts.gateway
        assert parts is not None
        held = gateway.call(lambda: [one._paused for one in parts.exchanges])
        assert held == [True]
        client.sock.shutdown(socket.SHUT_RDWR)
