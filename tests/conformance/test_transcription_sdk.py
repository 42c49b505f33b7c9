"""The official SDK uploads audio and reads transcripts in every format, as objects and as events."""

import io
from collections.abc import Iterator

import openai
import pytest
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionTextSegmentEvent,
    TranscriptionVerbose,
)

from tests.support.forms import echo_of, noise
from tests.support.running import Running
from tidegate.sim.scripts import HEARD

SOUND = noise(2_000_000)

TOML = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
[providers.vllm]
base_url = "{sim}"
[providers.transformers]
base_url = "{sim}"
[providers.gemini]
base_url = "{sim}beta"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
[providers.openai]
base_url = "{sim}"
credentials = ["sk-upstream-0123456789abcdef0123456789"]
whole_transcripts = ["*"]
"""
MODELS = [
    "sim/echo",
    "vllm/echo?transcript=chunks",
    "transformers/echo?transcript=raw",
    "openai/echo",
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as made:
        yield made


@pytest.mark.parametrize("model", [*MODELS, "gemini/echo"])
def test_a_transcription(client: openai.OpenAI, model: str) -> None:
    answer = client.audio.transcriptions.create(model=model, file=("speech.mp3", SOUND, "audio/mpeg"))
    assert isinstance(answer, Transcription)
    assert answer.text.split()[1:] == echo_of(SOUND).split()[1:]


@pytest.mark.parametrize("model", [*MODELS, "gemini/echo"])
def test_a_streamed_transcription(client: openai.OpenAI, model: str) -> None:
    file = ("speech.mp3", SOUND, "audio/mpeg")
    with client.audio.transcriptions.create(model=model, file=file, stream=True) as stream:
        *deltas, done = list(stream)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert all(isinstance(one, TranscriptionTextDeltaEvent) for one in deltas)
    assert "".join(one.delta for one in deltas if isinstance(one, TranscriptionTextDeltaEvent)) == done.text
    assert done.text.split()[1:] == echo_of(SOUND).split()[1:]
    assert done.usage is not None


def test_files_of_every_kind(client: openai.OpenAI) -> None:
    """A tuple, bytes alone, and an open file, whose size the SDK does not know beforehand."""
    for file, name in (
        (SOUND, "upload"),
        (("a.wav", SOUND), "a.wav"),
        (io.BufferedReader(io.BytesIO(SOUND)), "upload"),
    ):
        answer = client.audio.transcriptions.create(model="sim/echo", file=file)
        assert answer.text == echo_of(SOUND, name)


def test_every_format(client: openai.OpenAI) -> None:
    file = ("speech.mp3", SOUND)
    verbose = client.audio.transcriptions.create(
        model="sim/demo", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert isinstance(verbose, TranscriptionVerbose)
    assert verbose.text == HEARD
    assert verbose.words
    assert verbose.segments
    diarized = client.audio.transcriptions.create(model="sim/demo", file=file, response_format="diarized_json")
    assert isinstance(diarized, TranscriptionDiarized)
    assert {one.speaker for one in diarized.segments} == {"A", "B"}
    assert client.audio.transcriptions.create(model="sim/demo", file=file, response_format="text") == f"{HEARD}\n"
    assert "-->" in client.audio.transcriptions.create(model="sim/demo", file=file, response_format="srt")
    assert client.audio.transcriptions.create(model="sim/demo", file=file, response_format="vtt").startswith("WEBVTT")


def test_log_probabilities_and_speakers_of_a_stream(client: openai.OpenAI) -> None:
    events = list(
        client.audio.transcriptions.create(
            model="sim/demo?gap=0",
            file=("a.mp3", SOUND),
            stream=True,
            include=["logprobs"],
            response_format="diarized_json",
        )
    )
    done = events[-1]
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert done.logprobs
    assert len(done.logprobs) == sum(isinstance(one, TranscriptionTextDeltaEvent) for one in events)
    segments = [one for one in events if isinstance(one, TranscriptionTextSegmentEvent)]
    assert [one.speaker for one in segments[:2]] == ["A", "B"]


def test_a_nested_option_travels_on(gateway: Running, client: openai.OpenAI) -> None:
    client.audio.transcriptions.create(
        model="sim/echo",
        file=("a.mp3", b"sound"),
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
        known_speaker_names=["agent"],
        known_speaker_references=["data:audio/wav;base64,UklGRg=="],
    )
    upload = gateway.sim.requests[-1].upload
    assert upload is not None
    assert {("chunking_strategy[type]", "server_vad"), ("known_speaker_names[]", "agent")} <= set(upload.fields)


def test_a_translation(client: openai.OpenAI) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"):
        answer = client.audio.translations.create(model="sim/echo", file=("speech.mp3", SOUND))
    assert answer.text == echo_of(SOUND)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        text = client.audio.translations.create(model="sim/demo", file=("speech.mp3", SOUND), response_format="text")
    assert text == f"{HEARD}\n"


def test_errors_are_those_of_the_sdk(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(model="sim/echo", file=("speech.mp3", b""))
    assert (caught.value.param, caught.value.code) == ("file", "invalid_value")
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="sim/nothing", file=("speech.mp3", SOUND))
    stream = client.audio.transcriptions.create(
        model="sim/echo?fault=error&after=1", file=("speech.mp3", SOUND), stream=True
    )
    with pytest.raises(openai.APIError, match="The server had an error"):
        list(stream)
