"""The engine behind the gateway, as a fresh machine has it: no file, no key."""

import base64
import json
import os
import struct
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from bench.recall import recall
from tests.local_audio.conftest import SENTENCES, children, seconds_of
from tests.support.running import Running, wait_for

pytestmark = pytest.mark.alone  # the engine yields to everyone, so it gets nowhere beside them

TEXT = "The weather will be cold and cloudy for the next three days."


@pytest.fixture(scope="module")
def fresh_machine() -> Iterator[Running]:
    with Running(None) as gateway:
        yield gateway


def speak(gateway: Running, **members: object) -> httpx.Response:
    body = {"input": TEXT, "voice": "alloy", **members}
    return httpx.post(f"{gateway.url}/audio/speech", json=body, timeout=60)


def test_a_request_without_model_and_key_is_spoken(fresh_machine: Running) -> None:
    answer = speak(fresh_machine, response_format="wav")
    assert answer.status_code == 200, answer.text
    assert answer.headers["tidegate-deployment"] == "local-audio/espeak-ng"
    assert answer.headers["content-type"] == "audio/wav"
    assert 2.5 < seconds_of(answer.content) < 5.0


def test_events_of_the_engine_reach_the_client(fresh_machine: Running) -> None:
    answer = speak(fresh_machine, model="local-audio/espeak-ng", stream_format="sse", response_format="wav")
    frames = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert frames.pop() == "[DONE]"
    *deltas, done = map(json.loads, frames)
    assert 2.5 < seconds_of(b"".join(base64.b64decode(delta["audio"]) for delta in deltas)) < 5.0
    assert done["type"] == "speech.audio.done"


def test_the_official_client_gets_the_list_of_voices_for_a_wrong_one(fresh_machine: Running) -> None:
    client = openai.OpenAI(base_url=fresh_machine.url, api_key="none")
    with pytest.raises(openai.BadRequestError, match=r"alloy, ash.*en-us") as caught:
        client.audio.speech.create(model="local-audio/espeak-ng", voice="nobody", input=TEXT)
    assert caught.value.param == "voice"


def test_what_is_spoken_is_transcribed_back_while_it_streams(fresh_machine: Running) -> None:
    client = openai.OpenAI(base_url=fresh_machine.url, api_key="none", timeout=100)
    spoken = client.audio.speech.create(model="local-audio/espeak-ng", voice="alloy", input=SENTENCES).content
    events = list(
        client.audio.transcriptions.create(
            model="local-audio/pocketsphinx", file=("speech.mp3", spoken), stream=True, response_format="json"
        )
    )
    done = events[-1]
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == done.text
    assert recall(SENTENCES, done.text) > 0.5
    plain = httpx.post(
        f"{fresh_machine.url}/audio/transcriptions", files={"file": ("speech.mp3", spoken)}, timeout=100
    ).json()
    assert recall(SENTENCES, plain["text"]) > 0.5


def test_what_the_engine_cannot_read_is_refused_by_name(fresh_machine: Running) -> None:
    client = openai.OpenAI(base_url=fresh_machine.url, api_key="none", timeout=100)
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(model="local-audio/pocketsphinx", file=("notes.txt", b"no audio " * 99))
    assert caught.value.param == "file"
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(
            model="local-audio/pocketsphinx", file=("speech.wav", speak(fresh_machine).content), language="fr"
        )
    assert caught.value.param == "language"


@pytest.mark.parametrize(("channels", "rate"), [(9, 16_000), (64, 16_000), (1, 2**31 - 1), (1, 1)])
def test_sound_of_an_impossible_form_is_the_files_fault(fresh_machine: Running, channels: int, rate: int) -> None:
    block = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, (rate * block) & 0xFFFFFFFF, block, 16)
    sound = bytes(block * (12_000 // block))
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(sound)) + sound
    client = openai.OpenAI(base_url=fresh_machine.url, api_key="none", timeout=100, max_retries=0)
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(
            model="local-audio/pocketsphinx", file=("odd.wav", b"RIFF" + struct.pack("<I", len(body)) + body)
        )
    assert caught.value.param == "file"


def test_a_client_that_leaves_ends_the_worker_behind_the_gateway(fresh_machine: Running) -> None:
    def workers() -> list[int]:
        return [worker for engine in children(os.getpid()) for worker in children(engine)]

    speak(fresh_machine)
    assert (before := workers())
    body = {"input": (TEXT + " ") * 60, "voice": "alloy", "response_format": "wav"}
    with httpx.stream("POST", f"{fresh_machine.url}/audio/speech", json=body, timeout=30) as answer:
        next(answer.iter_raw())
    left = time.monotonic()
    assert wait_for(lambda: len(workers()) < len(before))
    assert time.monotonic() - left < 1.0
