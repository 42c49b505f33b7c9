"""Speech through the official SDK, from providers of OpenAI's form and from Gemini."""

import asyncio
import base64
import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.running import Running
from tidegate.sim import speech

TOML = """
[server]
port = 0
[providers.openai]
base_url = "{sim}"
credentials = ["sk-0123456789abcdef"]
[providers.sim]
base_url = "{sim}"
[providers.google]
kind = "gemini"
base_url = "{sim}beta"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
[models.spare]
target = "openai/lorem?status=503"
fallback = ["sim/lorem?chunks=3"]
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as made:
        yield made


def samples(count: int) -> bytes:
    return b"".join(map(speech.tone, range(count)))


@pytest.mark.row("S4")
@pytest.mark.parametrize(
    ("model", "voice"), [("openai/lorem", "coral"), ("sim/lorem", "alloy"), ("google/lorem", "Kore")]
)
def test_a_whole_answer_is_a_file(client: openai.OpenAI, tmp_path: Path, model: str, voice: str) -> None:
    answer = client.audio.speech.create(model=model, input="Ebb and flow", voice=voice, response_format="wav")
    path = tmp_path / "speech.wav"
    answer.write_to_file(path)
    with wave.open(str(path)) as file:
        assert file.readframes(1 << 20) == samples(10)
    assert answer.response.headers["content-type"] == "audio/wav"


@pytest.mark.row("S4", "S82")
def test_an_answer_streams_into_a_file(client: openai.OpenAI, tmp_path: Path) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="sim/lorem?chunks=5&gap=20", input="Ebb and flow", voice="coral", response_format="pcm", speed=1.25
    ) as answer:
        pieces = [piece for piece in answer.iter_bytes() if piece]
    assert len(pieces) > 1
    assert b"".join(pieces) == samples(5)
    path = tmp_path / "speech.pcm"
    with client.audio.speech.with_streaming_response.create(
        model="sim/lorem?chunks=5", input="Ebb and flow", voice="coral", response_format="pcm"
    ) as answer:
        answer.stream_to_file(path)
    assert path.read_bytes() == samples(5)


@pytest.mark.row("S77", "S79")
@pytest.mark.parametrize("model", ["openai/lorem?chunks=4", "sim/lorem?chunks=4"])
def test_events_come_as_lines(client: openai.OpenAI, model: str) -> None:
    with client.audio.speech.with_streaming_response.create(
        model=model, input="Ebb and flow", voice="coral", response_format="pcm", stream_format="sse"
    ) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    assert b"".join(base64.b64decode(event["audio"]) for event in events[:-1]) == samples(4)
    assert events[-1]["type"] == "speech.audio.done"


def test_the_async_client_gets_the_same(gateway: Running) -> None:
    async def run() -> bytes:
        async with openai.AsyncOpenAI(base_url=gateway.url, api_key="unused", max_retries=0) as client:
            answer = await client.audio.speech.create(
                model="google/lorem?chunks=3", input="潮汐", voice="Kore", response_format="wav"
            )
            return await answer.aread()

    with wave.open(io.BytesIO(asyncio.run(run()))) as file:
        assert file.readframes(1 << 20) == samples(3)


def test_another_deployment_stands_in(client: openai.OpenAI) -> None:
    answer = client.audio.speech.create(model="spare", input="Ebb", voice="coral", response_format="pcm")
    assert answer.content == samples(3)


def test_errors_are_the_sdks_own(client: openai.OpenAI) -> None:
    for model, kind in (
        ("sim/lorem?status=429", openai.RateLimitError),
        ("sim/lorem?status=503", openai.InternalServerError),
        ("sim/lorem?fault=empty200", openai.InternalServerError),
        ("nowhere/lorem", openai.NotFoundError),
    ):
        with pytest.raises(kind):
            client.audio.speech.create(model=model, input="Ebb", voice="coral")
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.speech.create(model="google/lorem", input="Ebb", voice="alloy")
    assert caught.value.param == "voice"
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.speech.create(model="sim/lorem", input="", voice="coral")
    assert caught.value.param == "input"


def test_audio_that_breaks_off_is_an_exception_and_no_short_file(client: openai.OpenAI, tmp_path: Path) -> None:
    for model in ("sim/lorem?fault=cut&after=2", "google/lorem?fault=eof&after=2"):
        with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
            client.audio.speech.create(model=model, input="Ebb", voice="Kore" if "google" in model else "coral", response_format="wav").write_to_file(tmp_path / "cut")  # fmt: skip
    assert list(tmp_path.iterdir()) == []
