"""Transcription: what was said comes back, in every form, from every kind of file."""

import io
import json
import os
import re
import wave
from typing import Any

import av
import httpx
import openai
import pytest
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent, TranscriptionVerbose

from bench.recall import recall
from tests.local_audio.conftest import SENTENCES, Engine

pytestmark = pytest.mark.alone  # the engine yields to everyone, so it gets nowhere beside them


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


def recalled(text: str) -> float:
    return len(words(SENTENCES) & words(text)) / len(words(SENTENCES))


def repacked(recording: bytes, container: str, codec: str, rate: int, layout: str = "stereo") -> bytes:
    """The recording in another kind of file."""
    out = io.BytesIO()
    with av.open(io.BytesIO(recording), "r") as source, av.open(out, "w", format=container) as target:
        stream = target.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        for frame in source.decode(audio=0):
            for converted in resampler.resample(frame):
                target.mux(stream.encode(converted))
        for converted in resampler.resample(None):
            target.mux(stream.encode(converted))
        target.mux(stream.encode(None))
    return out.getvalue()


@pytest.fixture(scope="module")
def short(engine: Engine) -> bytes:
    return engine.speak("Until the sun went down.", "alloy", response_format="wav").content


@pytest.fixture(scope="module")
def plain(engine: Engine, recording: bytes) -> dict[str, Any]:
    answer = engine.transcribe(recording, language="en")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_what_was_spoken_comes_back_as_text(plain: dict[str, Any]) -> None:
    plain = plain
    assert recalled(plain["text"]) >= 0.6, plain["text"]
    assert plain["usage"]["type"] == "duration"
    assert 2 < plain["usage"]["seconds"] < 5


def test_the_stream_says_the_same_sentence_by_sentence(engine: Engine, recording: bytes, plain: dict[str, Any]) -> None:
    client = openai.OpenAI(base_url=engine.url, api_key="none")
    stream = client.audio.transcriptions.create(model="pocketsphinx", file=("a.wav", recording), stream=True)
    *deltas, done = list(stream)
    assert len(deltas) >= 2
    assert all(isinstance(delta, TranscriptionTextDeltaEvent) for delta in deltas)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert "".join(delta.delta for delta in deltas if isinstance(delta, TranscriptionTextDeltaEvent)) == done.text
    assert done.text == plain["text"]
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 0


@pytest.mark.parametrize("value", ["true", "True", "1"])
def test_a_stream_ends_with_done(engine: Engine, value: str) -> None:
    answer = engine.transcribe(quiet(seconds=1), stream=value, response_format="text")
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = answer.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    assert json.loads(frames[-3].removeprefix("data: "))["type"] == "transcript.text.done"


def test_each_form_tells_the_same(engine: Engine, short: bytes) -> None:
    fields: dict[str, Any] = {"timestamp_granularities[]": ["word", "segment"]}
    verbose = TranscriptionVerbose.model_validate(
        engine.transcribe(short, response_format="verbose_json", **fields).json()
    )
    assert verbose.segments is not None
    assert verbose.words is not None
    assert verbose.language == "english"
    assert " ".join(segment.text for segment in verbose.segments) == verbose.text
    assert " ".join(word.word for word in verbose.words) == verbose.text
    moments = [moment for word in verbose.words for moment in (word.start, word.end)]
    assert moments == sorted(moments)
    assert 0 <= moments[0] < moments[-1] <= verbose.duration
    assert all(segment.avg_logprob < 0 < segment.compression_ratio for segment in verbose.segments)
    assert verbose.usage is not None
    assert verbose.usage.seconds == verbose.duration

    srt = engine.transcribe(short, response_format="srt")
    assert srt.headers["content-type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(rf"1\n00:00:0\d,\d\d\d --> 00:00:0\d,\d\d\d\n{verbose.text}\n", srt.text)
    vtt = engine.transcribe(short, response_format="vtt")
    assert vtt.headers["content-type"] == "text/vtt; charset=utf-8"
    assert re.fullmatch(rf"WEBVTT\n\n00:00:0\d\.\d\d\d --> 00:00:0\d\.\d\d\d\n{verbose.text}\n", vtt.text)


@pytest.mark.parametrize(("asked", "left_out"), [("word", "segments"), ("segment", "words")])
def test_what_was_not_asked_for_is_left_out(engine: Engine, asked: str, left_out: str) -> None:
    fields = {"timestamp_granularities[]": asked, "response_format": "verbose_json"}
    body = engine.transcribe(quiet(seconds=1), **fields).json()
    assert body[f"{asked}s"] == []
    assert left_out not in body


@pytest.mark.row("S88")
@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp3", "libmp3lame"),
        ("ipod", "aac"),
        ("ogg", "libopus"),
        ("webm", "libopus"),
        ("flac", "flac"),
        ("wav", "pcm_s16le"),
    ],
)
def test_files_are_known_by_what_is_in_them(engine: Engine, short: bytes, container: str, codec: str) -> None:
    rate = 48_000 if codec == "libopus" else 44_100
    answer = engine.transcribe(repacked(short, container, codec, rate))
    assert answer.status_code == 200, answer.text
    assert "sun" in answer.json()["text"]


def test_a_recording_in_the_recognisers_own_form_is_understood_as_well(engine: Engine, short: bytes) -> None:
    answer = engine.transcribe(repacked(short, "wav", "pcm_s16le", 16_000, "mono"))
    assert "sun" in answer.json()["text"], "silence without any noise is no hindrance"


def test_translation_takes_english_to_english(engine: Engine, short: bytes) -> None:
    def translate(**fields: str) -> httpx.Response:
        data = {"model": "pocketsphinx", **fields}
        return engine.post("/audio/translations", data=data, files={"file": ("a.wav", short)})

    body = translate(response_format="verbose_json").json()
    assert body["task"] == "translate"
    assert "sun" in body["text"]
    refused = translate(language="fr")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "language")


def test_silence_is_nothing_said(engine: Engine) -> None:
    answer = engine.transcribe(quiet(seconds=2))
    assert answer.status_code == 200
    assert answer.json()["text"] == ""
    assert answer.json()["usage"]["seconds"] == pytest.approx(2, abs=0.05)


def test_a_cut_file_is_read_as_far_as_it_goes(engine: Engine, recording: bytes) -> None:
    whole = repacked(recording, "mp3", "libmp3lame", 44_100)
    answer = engine.transcribe(whole[: len(whole) * 2 // 3])
    assert answer.status_code == 200
    assert recall("until the sun went down", answer.json()["text"]) >= 0.5


def test_a_long_recording_needs_no_more_memory_than_a_short_one(engine: Engine) -> None:
    engine.transcribe(quiet(seconds=1))
    before = max(map(resident_kib, engine.workers()))
    answer = engine.transcribe(quiet(seconds=1200))
    assert answer.json()["usage"]["seconds"] == pytest.approx(1200, abs=1)
    assert max(map(resident_kib, engine.workers())) - before < 16 * 1024, "38 MB of samples went through"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"this is no audio at all, whatever its name says", "no format"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "no format"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "no format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "no format"),
    ],
)
def test_a_file_that_is_no_audio_is_refused(engine: Engine, content: bytes, says: str) -> None:
    answer = engine.transcribe(content)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "file"
    assert says in error["message"]


def test_a_file_of_noise_bytes_is_no_fault_of_the_server(engine: Engine) -> None:
    assert engine.transcribe(os.urandom(20_000)).status_code in (200, 400)


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"language": "zh"}, "language", "en"),
        ({"response_format": "html"}, "response_format", "json, verbose_json, text, srt, vtt"),
        ({"response_format": "srt", "stream": "true"}, "response_format", "cannot be streamed"),
        ({"stream": "perhaps"}, "stream", "true or false"),
        ({"temperature": "hot"}, "temperature", "between 0 and 1"),
        ({"timestamp_granularities[]": "letter", "response_format": "verbose_json"}, "timestamp_granularities", "word"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities", "verbose_json"),
        ({"include[]": "logprobs"}, "include", "Unsupported"),
        ({"chunking_strategy": '{"type":"server_vad"}'}, "chunking_strategy", "auto"),
    ],
)
def test_a_form_that_asks_for_too_much_is_refused_by_name(
    engine: Engine, fields: dict[str, str], param: str, says: str
) -> None:
    answer = engine.transcribe(b"RIFF", **fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert says in error["message"]


def test_what_is_missing_from_the_form_is_named(engine: Engine) -> None:
    path = "/audio/transcriptions"
    without_file = engine.post(path, data={"model": "pocketsphinx"}, files={"other": ("a", b"x")})
    assert (without_file.status_code, without_file.json()["error"]["param"]) == (400, "file")
    as_text = engine.post(path, data={"model": "pocketsphinx", "file": "a.wav"}, files={"other": ("a", b"x")})
    assert (as_text.status_code, as_text.json()["error"]["param"]) == (400, "file")
    without_model = engine.post(path, files={"file": ("a", b"x")})
    assert (without_model.status_code, without_model.json()["error"]["param"]) == (400, "model")
    no_form = engine.post(path, json={"model": "pocketsphinx"})
    assert no_form.status_code == 400
    assert "multipart/form-data" in no_form.json()["error"]["message"]
    other_model = engine.post(path, data={"model": "whisper-1"}, files={"file": ("a", b"x")})
    assert (other_model.status_code, other_model.json()["error"]["code"]) == (404, "model_not_found")
    broken = engine.post(path, content=b"--x\r\nnonsense", headers={"content-type": "multipart/form-data; boundary=x"})
    assert broken.status_code == 400


def test_what_has_no_effect_is_named(engine: Engine) -> None:
    answer = engine.transcribe(quiet(seconds=1), prompt="Greetings.", temperature="0.2")
    assert answer.headers["tidegate-dropped"] == "prompt, temperature"


def quiet(seconds: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(seconds * 32_000))
    return out.getvalue()


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.findall(r"VmRSS:\s+(\d+)", file.read())[0])
