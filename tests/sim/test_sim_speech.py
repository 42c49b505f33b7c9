"""Speech of the sim: real audio in three formats, raw and in events, and its faults."""

import base64
import io
import json
import wave
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.running import Running
from tidegate.sim import speech


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with Running() as gateway, httpx.Client(base_url=gateway.sim.base_url, trust_env=False) as client:
        yield client


def speak(http: httpx.Client, model: str = "lorem", **members: Any) -> httpx.Response:
    return http.post("/audio/speech", json={"model": model, "input": "潮 and 汐", "voice": "coral", **members})


@pytest.mark.parametrize(("model", "pieces"), [("lorem", 10), ("lorem?chunks=3", 3), ("echo", 3), ("demo?gap=0", 3)])
def test_there_is_a_tone_for_each_piece(http: httpx.Client, model: str, pieces: int) -> None:
    answer = speak(http, model, response_format="pcm")
    assert answer.headers["content-type"] == "audio/pcm"
    assert answer.content == b"".join(map(speech.tone, range(pieces)))
    assert len({speech.tone(place) for place in range(64)}) == 64


def test_a_wav_file_is_open_ended_unless_its_length_is_announced(http: httpx.Client) -> None:
    for model, frames in (("lorem", 0xFFFFFFFF // 2), ("lorem?framing=length", 10 * speech.PIECE_SAMPLES)):
        with wave.open(io.BytesIO(speak(http, model, response_format="wav").content)) as file:
            assert file.getnframes() == frames
            assert file.readframes(1 << 20) == b"".join(map(speech.tone, range(10)))


def test_mp3_is_frames_of_one_length(http: httpx.Client) -> None:
    content = speak(http).content
    assert len(content) == 20 * speech.MP3_FRAME
    assert all(content[at : at + 4] == b"\xff\xf3\x84\xc0" for at in range(0, len(content), speech.MP3_FRAME))


def test_events_have_the_same_audio_and_usage(http: httpx.Client) -> None:
    for options, last in (("", "speech.audio.done"), ("&done=1", "[DONE]"), ("&minimal=1", "[DONE]")):
        answer = speak(http, f"lorem?chunks=3{options}", stream_format="sse", response_format="pcm")
        assert answer.headers["content-type"].startswith("text/event-stream")
        data = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
        events = [json.loads(one) for one in data if one != "[DONE]"]
        audio = [base64.b64decode(event["audio"]) for event in events if "audio" in event]
        assert audio == [speech.tone(place) for place in range(3)]
        assert (data[-1] if last == "[DONE]" else events[-1]["type"]) == last
        assert all(("type" in event) == ("minimal" not in options) for event in events)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"voice": None}, "voice"),
        ({"voice": "nobody"}, "voice"),
        ({"input": ""}, "input"),
        ({"input": "a" * 4097}, "input"),
        ({"response_format": "opus"}, "response_format"),
        ({"stream_format": "raw"}, "stream_format"),
        ({"model": 7}, "model"),
        ({"model": "no-such"}, "model"),
    ],
)
def test_what_it_cannot_do_is_refused(http: httpx.Client, members: dict[str, Any], param: str) -> None:
    answer = speak(http, **members)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param


def test_faults_strike_after_as_many_pieces_as_asked(http: httpx.Client) -> None:
    for fault in ("cut", "reset", "close"):
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            speak(http, f"lorem?fault={fault}&after=2", response_format="pcm")
    assert speak(http, "lorem?fault=eof&after=2", response_format="pcm").content == speech.tone(0) + speech.tone(1)
    assert speak(http, "lorem?fault=error").status_code == 500
    broken = speak(http, "lorem?fault=error&after=1", stream_format="sse").text
    assert '"error":{"message"' in broken
    assert "speech.audio.done" not in broken
    assert speak(http, "lorem?fault=dup_finish", stream_format="sse").text.count("speech.audio.done") == 2


def test_gemini_speaks_too(http: httpx.Client) -> None:
    config = {
        "responseModalities": ["AUDIO"],
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "kore"}}},
    }
    asked: dict[str, Any] = {"contents": [{"parts": [{"text": "Ebb"}]}], "generationConfig": config}
    path = str(http.base_url).replace("/v1/", "/v1beta/models/lorem%3Fchunks=2:generateContent")
    parts = http.post(path, json=asked).json()["candidates"][0]["content"]["parts"]
    assert [base64.b64decode(part["inlineData"]["data"]) for part in parts if "inlineData" in part] == [
        speech.tone(0),
        speech.tone(1),
    ]
    config["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "alloy"}}}
    refused = http.post(path, json=asked)
    assert refused.status_code == 400
    assert "Allowed voice names are: zephyr" in refused.json()["error"]["message"]
