"""Transcriptions through the gateway: whatever form the provider has, whatever becomes of the upload on its way."""

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import read_frames
from tests.support.canned import Canned, json_answer
from tests.support.forms import TRANSCRIPTIONS, TRANSLATIONS, echo_of, form, noise, open_files, upload
from tests.support.raw import Raw, Response
from tests.support.running import Running, wait_for
from tidegate.dialects.transcription.gemini import INLINE_BYTES

MIB = 1024 * 1024
SOUND = noise(3 * MIB)
SMALL = noise(5000)

TOML = """
[server]
port = 0
max_upload = "40MiB"
[routing]
retries = 0
eject_after = 0
[providers.sim]
base_url = "{sim}"
timeouts = { first_event = "1s", idle = "1s" }
[providers.openai]
base_url = "{sim}"
credentials = ["sk-upstream-0123456789abcdef0123456789"]
whole_transcripts = ["*"]
timeouts = { first_event = "300ms", idle = "300ms" }
[providers.vllm]
base_url = "{sim}"
[providers.transformers]
base_url = "{sim}"
[providers.gemini]
base_url = "{sim}beta"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
[providers.lossy]
kind = "transformers"
base_url = "{sim}"
[models.spare]
target = "sim/echo?status=503"
fallback = ["openai/echo"]
[models.shaky]
target = "sim/echo?fault=upload_reset"
fallback = ["sim/echo"]
[models.dropping]
target = "lossy/echo?transcript=raw"
unsupported = "drop"
[models.narrow]
target = "transformers/echo"
fallback = ["sim/echo"]
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left(gateway: Running) -> Iterator[None]:
    yield
    assert wait_for(lambda: open_files(gateway) == 0)


def ask(
    gateway: Running, model: str, data: bytes = SMALL, *headers: str, path: str = TRANSCRIPTIONS, **fields: Any
) -> Response:
    with Raw(gateway) as client:
        return client.ask(upload(form(data, model=model, **fields), *headers, path=path))


def events(answer: Response) -> list[Any]:
    return [one.json if one.data != b"[DONE]" else "[DONE]" for one in read_frames(answer.body) if one.data]


def uploads(gateway: Running) -> list[Any]:
    return [one for one in gateway.sim.requests if one.upload is not None]


# -- the upload on its way ----------------------------------------------------------------------------------------


def test_a_fallback_gets_the_file_from_its_beginning(gateway: Running) -> None:
    before = len(uploads(gateway))
    answer = ask(gateway, "spare", SOUND)
    assert (answer.status, answer.json["text"]) == (200, echo_of(SOUND))
    assert (answer["tidegate-deployment"], answer["tidegate-attempts"]) == ("openai/echo", "2")
    sent = uploads(gateway)[before:]
    assert [(one.upload.size, one.upload.sha256) for one in sent] == [
        (len(SOUND), hashlib.sha256(SOUND).hexdigest())
    ] * 2
    assert [one.upload.field("model") for one in sent] == ["echo?status=503", "echo"]


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_reset_in_the_middle_of_the_upload_leads_to_the_fallback(gateway: Running, stream: str) -> None:
    answer = ask(gateway, "shaky", SOUND, stream=stream)
    assert (answer.status, answer["tidegate-attempts"]) == (200, "2")
    text = answer.json["text"] if stream == "false" else events(answer)[-2]["text"]
    assert text == echo_of(SOUND)


def test_a_reset_without_a_fallback_is_a_502(gateway: Running) -> None:
    answer = ask(gateway, "sim/echo?fault=upload_reset", SOUND)
    assert (answer.status, answer.code) == (502, "upstream_broken")


def test_a_refusal_before_the_upload_has_ended_is_passed_on(gateway: Running) -> None:
    answer = ask(gateway, "sim/echo?fault=upload_refused", noise(30 * MIB))
    assert answer.status == 413
    assert "Maximum content size limit exceeded" in answer.error["message"]


def test_a_provider_that_stops_reading_is_given_up(gateway: Running) -> None:
    begun = time.monotonic()
    answer = ask(gateway, "sim/echo?fault=upload_stall", noise(30 * MIB))
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert "took no more of the request for 1 s (first_event clock)" in answer.error["message"]
    assert time.monotonic() - begun < 5


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_client_that_leaves_stops_the_upload_within_a_second(gateway: Running, stream: str) -> None:
    before = len(uploads(gateway))
    model = "sim/echo?intake=8000000"
    with Raw(gateway) as client:
        client.send(upload(form(noise(30 * MIB), model=model, stream=stream)))
        assert wait_for(lambda: len(uploads(gateway)) > before and uploads(gateway)[before].upload.size > 0)
        left = gateway.call(gateway.loop.time)
        client.reset()
        assert wait_for(lambda: uploads(gateway)[before].closed_by_peer_at is not None)
    sent = uploads(gateway)[before]
    assert sent.closed_by_peer_at - left < 1
    assert not sent.upload.complete


@pytest.mark.fault("FAULT-CLIENT-GONE")
def test_a_client_that_leaves_while_it_waits_stops_the_transcription(gateway: Running) -> None:
    before = len(uploads(gateway))
    with Raw(gateway) as client:
        client.send(upload(form(SOUND, model="sim/echo?delay=5000")))
        assert wait_for(lambda: len(uploads(gateway)) > before and uploads(gateway)[before].upload.complete)
        left = gateway.call(gateway.loop.time)
        client.reset()
        assert wait_for(lambda: uploads(gateway)[before].closed_by_peer_at is not None)
    assert uploads(gateway)[before].closed_by_peer_at - left < 1


def test_names_and_types_of_files_travel_on_and_end_no_header(gateway: Running) -> None:
    for name, sent in (("潮汐.ogg", "潮汐.ogg"), ('a\\".mp3', "a%22.mp3"), ("../../etc/passwd", "../../etc/passwd")):
        with Raw(gateway) as client:
            answer = client.ask(upload(form(SMALL, name=name, kind="audio/ogg; codecs=opus")))
        assert answer.json["text"] == echo_of(SMALL, sent)
        assert uploads(gateway)[-1].upload.content_type == "audio/ogg; codecs=opus"
        assert len(uploads(gateway)[-1].upload.headers) == 2


def test_the_file_comes_last_and_the_fields_go_on(gateway: Running) -> None:
    ask(gateway, "sim/echo", language="zh", prompt="潮汐", temperature="0.5", hotwords="ebb")
    sent = uploads(gateway)[-1].upload
    assert sent.fields == [
        ("model", "echo"),
        ("language", "zh"),
        ("prompt", "潮汐"),
        ("temperature", "0.5"),
        ("hotwords", "ebb"),
    ]
    assert "filename" in sent.headers[-1]


# -- the forms of providers ---------------------------------------------------------------------------------------


def test_a_provider_without_streams_is_wrapped_and_may_take_its_time(gateway: Running) -> None:
    """Its first-event clock of 300 ms is not meant for whole answers."""
    answer = ask(gateway, "openai/echo?delay=900", stream="true")
    said = events(answer)
    assert [one if one == "[DONE]" else one["type"] for one in said] == [
        "transcript.text.delta",
        "transcript.text.done",
        "[DONE]",
    ]
    assert said[0]["delta"] == said[1]["text"] == echo_of(SMALL)
    assert said[1]["usage"]["type"] == "tokens"
    assert answer["content-type"].startswith("text/event-stream")
    sent = uploads(gateway)[-1]
    assert (sent.upload.field("stream"), sent.headers["accept"]) == (None, "*/*")


def test_a_wrapped_failure_is_an_error_before_the_stream_begins(gateway: Running) -> None:
    answer = ask(gateway, "openai/echo?status=500", stream="true")
    assert (answer.status, answer["content-type"]) == (502, "application/json")


def test_json_where_a_stream_was_asked_for_is_wrapped_too(gateway: Running) -> None:
    whole = json_answer({"text": "ebb and flow", "usage": {"type": "duration", "seconds": 3}})
    with Canned(whole) as provider, Running(TOML + provider.toml()) as running, Raw(running) as client:
        answer = client.ask(upload(form(model="canned/m", stream="true")))
        assert [one["type"] for one in events(answer)[:-1]] == ["transcript.text.delta", "transcript.text.done"]
        entry = running.usage(answer["x-request-id"])
    assert (entry["audio_seconds"], entry["input_tokens"], entry["estimated"], entry["stream"]) == (3, 0, False, True)


@pytest.mark.parametrize("profile", ["openai", "deepintshield"])
@pytest.mark.parametrize(
    "model",
    [
        "sim/echo",
        "vllm/echo?transcript=chunks",
        "vllm/echo?transcript=text",
        "transformers/echo?transcript=raw",
        "openai/echo",
    ],
)
def test_every_provider_gives_every_form(gateway: Running, model: str, profile: str) -> None:
    answer = ask(gateway, model, SMALL, f"tidegate-profile: {profile}", stream="1")
    said = events(answer)
    assert said[-1] == "[DONE]"
    if profile == "openai":
        assert said[-2]["text"] == echo_of(SMALL) == "".join(one["delta"] for one in said[:-2])
    else:
        assert "".join(one["text"] for one in said[:-1]) == echo_of(SMALL)
    assert answer["tidegate-profile"] == profile


def test_vllm_is_asked_for_its_figures(gateway: Running) -> None:
    answer = ask(gateway, "vllm/echo?transcript=chunks", stream="true")
    assert events(answer)[-2]["usage"] == {"type": "tokens", "input_tokens": 3, "output_tokens": 3, "total_tokens": 6}
    entry = gateway.usage(answer["x-request-id"])
    assert (entry["input_tokens"], entry["output_tokens"], entry["estimated"]) == (3, 3, False)


def test_transformers_is_told_only_what_it_knows(gateway: Running) -> None:
    refused = ask(gateway, "transformers/echo?transcript=raw", language="zh")
    assert (refused.status, refused.code, refused.error["param"]) == (400, "unsupported_parameter", "language")
    answer = ask(gateway, "transformers/echo?transcript=raw", response_format="text")
    assert (answer.body.decode(), answer["content-type"]) == (echo_of(SMALL), "text/plain; charset=utf-8")
    assert uploads(gateway)[-1].upload.fields == [("model", "echo?transcript=raw")]


def test_what_is_dropped_is_named(gateway: Running) -> None:
    answer = ask(gateway, "dropping", prompt="潮汐", language="zh")
    assert (answer.status, answer["tidegate-dropped"]) == (200, "prompt, language")


def test_a_deployment_that_cannot_take_a_field_is_no_way_out_for_a_first_one_that_refuses(gateway: Running) -> None:
    answer = ask(gateway, "narrow", prompt="x")
    assert (answer.status, answer.error["param"]) == (400, "prompt")


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize("fault", ["eof", "cut", "reset", "error", "garbage", "badutf8", "close"])
@pytest.mark.parametrize("transcript", ["events", "chunks", "text"])
def test_a_stream_that_breaks_ends_with_an_error_and_never_with_done(
    gateway: Running, transcript: str, fault: str
) -> None:
    answer = ask(gateway, f"sim/echo?transcript={transcript}&fault={fault}&after=1", stream="true")
    said = events(answer)
    assert said[0]["type"] == "transcript.text.delta"
    assert list(said[-1]) == ["error"]
    assert "[DONE]" not in said


@pytest.mark.parametrize("fault", ["reset", "cut", "close"])
def test_bare_text_that_is_cut_is_not_taken_for_whole(gateway: Running, fault: str) -> None:
    answer = ask(gateway, f"transformers/echo?transcript=raw&fault={fault}&after=1", stream="true")
    assert list(events(answer)[-1]) == ["error"]


@pytest.mark.fault("FAULT-STALL")
@pytest.mark.parametrize("model", ["sim/echo?fault=ping", "sim/echo?fault=stall&after=1"])
def test_a_provider_that_falls_silent_is_told_by_its_clock(gateway: Running, model: str) -> None:
    answer = ask(gateway, f"{model}&gap=20" if "ping" not in model else "sim/echo?fault=stall&after=0", stream="true")
    error = events(answer)[-1]["error"] if answer.status == 200 else answer.error
    assert error["code"] == "upstream_timeout"


# -- Gemini -------------------------------------------------------------------------------------------------------


def heard(data: bytes, kind: str = "audio/mp3") -> str:
    return f"{kind} {len(data)} {hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("size", [1, 2, 3, 100_000, 2 * MIB + 1])
def test_gemini_is_given_the_audio_and_asked_in_words(gateway: Running, size: int) -> None:
    data = noise(size)
    answer = ask(gateway, "gemini/echo", data, language="zh", prompt="潮汐", temperature="0.5")
    assert answer.json["text"] == heard(data)
    sent = gateway.sim.requests[-1]
    assert sent.path == "/v1beta/models/echo:generateContent"
    assert sent.headers["content-type"] == "application/json"
    text, audio = sent.json["contents"][0]["parts"]
    assert all(word in text["text"] for word in ("Transcribe", "zh", "潮汐"))
    assert base64.b64decode(audio["inlineData"]["data"]) == data
    assert sent.json["generationConfig"] == {"temperature": 0.5}
    assert answer.json["usage"]["type"] == "tokens"


def test_gemini_streams_its_transcript(gateway: Running) -> None:
    answer = ask(gateway, "gemini/echo", SOUND, stream="true")
    said = events(answer)
    assert said[-1] == "[DONE]"
    assert said[-2]["text"] == heard(SOUND)
    assert len(said) > 3
    assert gateway.sim.requests[-1].path.startswith("/v1beta/models/echo:streamGenerateContent")


def test_gemini_translates(gateway: Running) -> None:
    answer = ask(gateway, "gemini/echo", path=TRANSLATIONS, response_format="text")
    assert (answer.body.decode(), answer["content-type"]) == (heard(SMALL), "text/plain; charset=utf-8")
    assert "into English" in gateway.sim.requests[-1].json["contents"][0]["parts"][0]["text"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "srt"}, "response_format"),
        ({"include[]": "logprobs"}, "include"),
        ({"chunking_strategy": "auto"}, "chunking_strategy"),
        ({"hotwords": "ebb"}, "hotwords"),
    ],
)
def test_what_gemini_has_not_is_refused_by_name(gateway: Running, fields: dict[str, Any], param: str) -> None:
    answer = ask(gateway, "gemini/echo", **fields)
    assert (answer.status, answer.error["param"], answer.code) == (400, param, "unsupported_parameter")


def test_a_file_too_long_for_gemini_is_refused_with_its_limit(gateway: Running) -> None:
    answer = ask(gateway, "gemini/echo", noise(INLINE_BYTES // 4 * 3 + 1))
    assert (answer.status, answer.error["param"], answer.code) == (413, "file", "body_too_large")
    assert "15728640" in answer.error["message"]


@pytest.mark.parametrize(
    ("kind", "beginning", "sent"),
    [
        ("audio/x-wav", b"", "audio/wav"),
        ("audio/ogg; codecs=opus", b"", "audio/ogg"),
        ("application/octet-stream", b"RIFF\x00\x00\x00\x00WAVE", "audio/wav"),
        ("application/octet-stream", b"ID3\x04", "audio/mp3"),
        ("", b"fLaC", "audio/flac"),
        ("text/plain", b"\x00\x00\x00\x20ftypM4A ", "audio/mp4"),
    ],
)
def test_the_type_of_a_file_is_what_it_is_called_or_what_it_begins_with(
    gateway: Running, kind: str, beginning: bytes, sent: str
) -> None:
    data = beginning + noise(2 * MIB)
    with Raw(gateway) as client:
        answer = client.ask(upload(form(data, model="gemini/echo", name="no ending", kind=kind)))
    assert answer.json["text"] == heard(data, sent)


def test_a_file_of_no_known_type_is_refused_by_gemini_alone(gateway: Running) -> None:
    with Raw(gateway) as client:
        answer = client.ask(upload(form(b"hello", model="gemini/echo", name="a.mp3", kind="application/octet-stream")))
        assert (answer.status, answer.error["param"]) == (400, "file")
        assert client.ask(upload(form(b"hello", name="a.mp3", kind="application/octet-stream"))).status == 200


# -- the books ----------------------------------------------------------------------------------------------------


def test_every_request_has_one_entry_with_what_the_provider_counted(gateway: Running) -> None:
    answer = ask(gateway, "sim/echo", SOUND)
    entry = gateway.usage(answer["x-request-id"])
    assert (entry["endpoint"], entry["status"], entry["ending"]) == ("transcription", 200, "completed")
    assert (entry["model"], entry["deployment"]) == ("sim/echo", "sim/echo")
    assert (entry["input_tokens"], entry["output_tokens"], entry["estimated"]) == (len(SOUND) // 1600, 3, False)


def test_what_nobody_counted_is_estimated_and_flagged(gateway: Running) -> None:
    answer = ask(gateway, "sim/echo?usage=absent", SOUND)
    entry = gateway.usage(answer["x-request-id"])
    assert (entry["estimated"], answer["tidegate-usage"]) == (True, "estimated")
    assert len(SOUND) // 1600 < entry["input_tokens"] < len(SOUND) // 1600 + 10


def test_length_is_counted_in_seconds_where_the_provider_does(gateway: Running) -> None:
    answer = ask(gateway, "sim/echo", response_format="verbose_json")
    entry = gateway.usage(answer["x-request-id"])
    assert entry["audio_seconds"] == answer.json["usage"]["seconds"] == 1.2


def test_a_client_that_left_an_upload_is_in_the_books(gateway: Running) -> None:
    before = len(uploads(gateway))
    with Raw(gateway) as client:
        client.send(upload(form(SOUND, model="sim/echo?delay=5000"), "x-request-id: left-alone-0001"))
        assert wait_for(lambda: len(uploads(gateway)) > before)
        client.reset()
    entry = gateway.usage("left-alone-0001")
    assert (entry["status"], entry["ending"], entry["estimated"]) == (499, "client_gone", True)


def test_uploads_side_by_side_do_not_mix(gateway: Running) -> None:
    found: list[bool] = []

    def one(seed: int) -> None:
        data = noise(2 * MIB + seed, seed)
        found.append(ask(gateway, "sim/echo", data).json["text"] == echo_of(data))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
