"""Rows S5 and S84–S91: speech into text."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import read_frames
from tests.support.forms import TRANSCRIPTIONS, TRANSLATIONS, echo_of, form, noise, upload
from tests.support.raw import Raw, Response, post
from tests.support.running import Running
from tidegate.sim.scripts import HEARD

SOUND = noise(40_000)

TOML = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
[providers.whole]                      # an engine that knows no streams
kind = "sim"
base_url = "{sim}"
whole_transcripts = ["*"]
[providers.engine]
kind = "vllm"
base_url = "{sim}"
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


def ask(
    gateway: Running, *headers: str, data: bytes | None = SOUND, path: str = TRANSCRIPTIONS, **more: Any
) -> Response:
    with Raw(gateway, timeout=20) as client:
        return client.ask(upload(form(data, **more), *headers, path=path))


def said(answer: Response) -> list[Any]:
    return [one.json if one.data != b"[DONE]" else "[DONE]" for one in read_frames(answer.body)]


@pytest.mark.row("S5")
@pytest.mark.parametrize("stream", [False, True])
def test_a_multipart_body_is_transcribed_streaming_and_not(gateway: Running, stream: bool) -> None:
    more: dict[str, Any] = {"stream": "true"} if stream else {}
    answer = ask(gateway, **more)
    assert answer.status == 200
    if stream:
        assert answer["content-type"] == "text/event-stream; charset=utf-8"
        assert said(answer)[-2]["text"] == echo_of(SOUND)
    else:
        assert answer["content-type"] == "application/json"
        assert answer.json["text"] == echo_of(SOUND)


@pytest.mark.row("S5")
def test_the_second_endpoint_translates(gateway: Running) -> None:
    answer = ask(gateway, path=TRANSLATIONS)
    assert answer.json["text"] == echo_of(SOUND)
    assert gateway.sim.requests[-1].path == TRANSLATIONS


@pytest.mark.row("S16")
@pytest.mark.parametrize("model", ["sim/echo", "echo"])
def test_a_name_resolves_with_and_without_its_provider(gateway: Running, model: str) -> None:
    for path in (TRANSCRIPTIONS, TRANSLATIONS):
        assert ask(gateway, model=model, path=path)["tidegate-deployment"] == "sim/echo"
    speech = f'{{"model": "{model}", "input": "ebb", "voice": "alloy"}}'.encode()
    with Raw(gateway) as client:
        assert client.ask(post(speech, path="/v1/audio/speech"))["tidegate-deployment"] == "sim/echo"


@pytest.mark.row("S84")
def test_file_and_model_are_all_that_is_needed(gateway: Running) -> None:
    assert ask(gateway, model="sim/demo").json["text"] == HEARD
    missing = ask(gateway, data=None)
    assert (missing.status, missing.error["param"], missing.code) == (400, "file", "missing_required_parameter")


@pytest.mark.row("S85")
@pytest.mark.parametrize("value", ["true", "True", "1"])
def test_stream_is_read_from_text(gateway: Running, value: str) -> None:
    assert said(ask(gateway, stream=value))[-1] == "[DONE]"


@pytest.mark.row("S85")
def test_stream_is_off_unless_it_says_so(gateway: Running) -> None:
    assert ask(gateway, stream="false").json["text"] == ask(gateway, stream="0").json["text"] == echo_of(SOUND)
    assert ask(gateway, stream="maybe").error["param"] == "stream"


@pytest.mark.row("S86")
@pytest.mark.parametrize(
    ("format_", "content_type", "pattern"),
    [
        ("json", "application/json", r'\{"text":'),
        ("text", "text/plain; charset=utf-8", r"This transcript is made up"),
        ("srt", "text/plain; charset=utf-8", r"1\n00:00:00,000 --> 00:00:03,200\nThis"),
        ("vtt", "text/plain; charset=utf-8", r"WEBVTT\n\n1\n00:00:00\.000 --> 00:00:03\.200\nThis"),
        ("verbose_json", "application/json", r'\{"task":"transcribe","language":"english","duration":'),
        ("diarized_json", "application/json", r'\{"task":"transcribe","duration":'),
    ],
)
def test_every_response_format_comes_as_the_provider_sends_it(
    gateway: Running, format_: str, content_type: str, pattern: str
) -> None:
    answer = ask(gateway, model="sim/demo", response_format=format_)
    assert (answer.status, answer["content-type"]) == (200, content_type)
    assert re.match(pattern, answer.body.decode())


@pytest.mark.row("S86")
def test_an_unknown_format_is_refused_with_those_there_are(gateway: Running) -> None:
    answer = ask(gateway, response_format="ass")
    assert (answer.status, answer.error["param"], answer.code) == (400, "response_format", "invalid_value")
    assert "'vtt'" in answer.error["message"]


@pytest.mark.row("S86")
@pytest.mark.parametrize("wanted", ["word", "segment"])
def test_times_are_as_fine_as_they_are_asked_for(gateway: Running, wanted: str) -> None:
    given: dict[str, Any] = {"response_format": "verbose_json", "timestamp_granularities[]": wanted}
    answer = ask(gateway, model="sim/demo", **given)
    assert [name for name in ("words", "segments") if name in answer.json] == [f"{wanted}s"]
    del given["response_format"]
    assert ask(gateway, **given).error["param"] == "timestamp_granularities"


@pytest.mark.row("S87")
def test_language_and_prompt_reach_the_provider(gateway: Running) -> None:
    answer = ask(gateway, language="zh", prompt="潮汐", response_format="verbose_json")
    assert answer.json["language"] == "zh"
    assert gateway.sim.requests[-1].upload is not None
    assert {("language", "zh"), ("prompt", "潮汐")} <= set(gateway.sim.requests[-1].upload.fields)


@pytest.mark.row("S88")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mp3", "audio/mpeg"),
        ("a.wav", "audio/x-wav"),
        ("a.m4a", "audio/mp4"),
        ("a.webm", "video/webm"),
        ("a.txt", "application/octet-stream"),
        ("no ending", "audio/flac"),
        ("语音", ""),
    ],
)
def test_a_file_is_not_judged_by_its_ending(gateway: Running, name: str, kind: str) -> None:
    answer = ask(gateway, name=name, kind=kind)
    assert (answer.status, answer.json["text"]) == (200, echo_of(SOUND, name))
    sent = gateway.sim.requests[-1].upload
    assert sent is not None
    assert sent.content_type == (kind or "application/octet-stream")


@pytest.mark.row("S89")
@pytest.mark.parametrize("model", ["sim/echo", "engine/echo?transcript=chunks"])
def test_the_frames_are_openais_events(gateway: Running, model: str) -> None:
    *deltas, done, end = said(ask(gateway, model=model, stream="true"))
    assert {one["type"] for one in deltas} == {"transcript.text.delta"}
    assert "".join(one["delta"] for one in deltas) == done["text"] == echo_of(SOUND)
    assert (done["type"], done["usage"]["type"], end) == ("transcript.text.done", "tokens", "[DONE]")


@pytest.mark.row("S89")
@pytest.mark.row("S90")
@pytest.mark.parametrize("model", ["sim/echo", "engine/echo?transcript=chunks"])
@pytest.mark.parametrize("profile", ["deepintshield", "text"])
def test_the_frames_are_text_where_the_profile_says_so(gateway: Running, profile: str, model: str) -> None:
    answer = ask(gateway, f"tidegate-profile: {profile}", model=model, stream="true")
    assert answer["tidegate-profile"] == profile
    *texts, end = said(answer)
    assert len(texts) > 1
    assert all(list(one) == ["text"] for one in texts)
    assert "".join(one["text"] for one in texts) == echo_of(SOUND)
    assert end == "[DONE]"


@pytest.mark.row("S90")
@pytest.mark.parametrize("profile", ["openai", "deepintshield"])
def test_a_broken_transcript_never_ends_with_done(gateway: Running, profile: str) -> None:
    answer = ask(gateway, f"tidegate-profile: {profile}", model="sim/echo?fault=eof&after=2", stream="true")
    assert list(said(answer)[-1]) == ["error"]
    assert "[DONE]" not in said(answer)


@pytest.mark.row("S91")
@pytest.mark.parametrize("profile", ["openai", "deepintshield"])
def test_an_upstream_without_streams_is_wrapped(gateway: Running, profile: str) -> None:
    answer = ask(gateway, f"tidegate-profile: {profile}", model="whole/echo", stream="true")
    assert answer["content-type"] == "text/event-stream; charset=utf-8"
    first, *rest = said(answer)
    assert rest[-1] == "[DONE]"
    assert first.get("delta", first.get("text")) == echo_of(SOUND)
    assert gateway.sim.requests[-1].upload is not None
    assert gateway.sim.requests[-1].upload.field("stream") is None
