"""Speech: what a client hears, in every format, and what it is told when it asks for something impossible."""

import base64
import io
import json
import time
import wave
from typing import Any

import av
import httpx
import openai
import pytest

from tests.local_audio.conftest import Engine, seconds_of

pytestmark = pytest.mark.alone  # the engine yields to everyone, so it gets nowhere beside them

TEXT = "The weather will be cold and cloudy for the next three days."


def decoded(data: bytes) -> tuple[str, int, float]:
    """Codec, sample rate and length in seconds of an audio file, by decoding all of it."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream) if isinstance(frame, av.AudioFrame))
        return stream.codec_context.name, stream.codec_context.sample_rate, samples / stream.codec_context.sample_rate


def events_of(text: str) -> list[Any]:
    frames = text.split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") for frame in frames)
    assert frames.pop() == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


@pytest.mark.row("S80")
@pytest.mark.row("S81")
@pytest.mark.parametrize(
    ("name", "content_type", "codec", "rate"),
    [
        (None, "audio/mpeg", "mp3float", 24_000),
        ("mp3", "audio/mpeg", "mp3float", 24_000),
        ("opus", "audio/ogg", "opus", 48_000),
        ("aac", "audio/aac", "aac", 24_000),
        ("flac", "audio/flac", "flac", 24_000),
        ("wav", "audio/wav", "pcm_s16le", 24_000),
    ],
)
def test_each_format_is_one_valid_file_of_its_kind(
    engine: Engine, name: str | None, content_type: str, codec: str, rate: int
) -> None:
    answer = engine.speak(TEXT, **({"response_format": name} if name else {}))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == content_type
    found, found_rate, seconds = decoded(answer.content)
    assert found in (codec, f"lib{codec}")
    assert found_rate == rate
    assert 2.5 < seconds < 5.0


def test_pcm_is_the_samples_of_the_wav_file_and_nothing_else(engine: Engine) -> None:
    pcm = engine.speak(TEXT, response_format="pcm")
    wav = engine.speak(TEXT, response_format="wav").content
    assert pcm.headers["content-type"] == "audio/pcm"
    with wave.open(io.BytesIO(wav)) as file:
        assert file.getframerate() == 24_000
        # Some of what a sound is made of is drawn anew each time, so that only the length is the same.
        assert len(file.readframes(file.getnframes())) == pytest.approx(len(pcm.content), rel=5e-3)
    assert wav[4:8] == wav[40:44] == b"\xff\xff\xff\xff", "the length is open"


def test_the_first_sound_comes_long_before_the_last(engine: Engine) -> None:
    text = TEXT * 12
    body = {"model": "espeak-ng", "input": text, "voice": "alloy"}
    engine.speak(TEXT)  # a worker is there
    began = time.monotonic()
    arrivals = []
    with httpx.stream("POST", f"{engine.url}/audio/speech", json=body, timeout=60) as answer:
        for _ in answer.iter_raw():
            arrivals.append(time.monotonic() - began)
    assert len(arrivals) > 10
    assert arrivals[0] < arrivals[-1] / 4


def test_events_carry_one_file_in_whole_groups_of_three(engine: Engine) -> None:
    answer = engine.speak(TEXT, stream_format="sse", response_format="wav")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events_of(answer.text)
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    pieces = [base64.b64decode(delta["audio"], validate=True) for delta in deltas]
    assert all(len(piece) % 3 == 0 for piece in pieces[:-1])
    assert len(pieces) > 10
    assert 2.5 < seconds_of(b"".join(pieces)) < 5.0
    joined = base64.b64decode("".join(delta["audio"] for delta in deltas), validate=True)
    assert joined == b"".join(pieces), "the texts can be joined before they are decoded"
    usage = done["usage"]
    assert done["type"] == "speech.audio.done"
    assert usage["input_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_the_official_client_streams_to_a_file(engine: Engine) -> None:
    client = openai.OpenAI(base_url=engine.url, api_key="none")
    with client.audio.speech.with_streaming_response.create(
        model="espeak-ng", voice="nova", input=TEXT, response_format="wav"
    ) as answer:
        data = b"".join(answer.iter_bytes())
    assert 2.5 < seconds_of(data) < 5.0


@pytest.mark.parametrize(("speed", "factor"), [(0.25, 4.0), (0.5, 2.0), (1.0, 1.0), (2.0, 0.5), (4.0, 0.25)])
def test_speed_changes_how_long_it_takes_to_say(engine: Engine, speed: float, factor: float) -> None:
    natural = seconds_of(engine.speak(TEXT, response_format="wav").content)
    spoken = seconds_of(engine.speak(TEXT, response_format="wav", speed=speed).content)
    assert spoken / natural == pytest.approx(factor, rel=0.2)


def test_every_voice_of_openai_speaks(engine: Engine) -> None:
    names = [
        "alloy",
        "ash",
        "ballad",
        "cedar",
        "coral",
        "echo",
        "fable",
        "marin",
        "nova",
        "onyx",
        "sage",
        "shimmer",
        "verse",
    ]
    heard = {name: engine.speak("Good morning", name, response_format="pcm") for name in names}
    assert {answer.status_code for answer in heard.values()} == {200}
    assert len({len(answer.content) for answer in heard.values()}) > len(names) / 2, "they differ in pace as well"


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("今天天气很好，我们用 Python 写代码。", "cmn"),
        ("Доброе утро", "ru"),
        ("こんにちは、漢字", "ja"),
        ("Guten Morgen", "en-us"),  # Latin letters do not tell the language
        ("Hello, my friends in 北京, how are you today?", "en-us"),
    ],
)
def test_voices_of_openai_speak_the_language_that_the_text_is_written_in(
    engine: Engine, text: str, same_as: str
) -> None:
    spoken = len(engine.speak(text, "alloy", response_format="pcm").content)
    assert spoken > 24_000
    assert spoken == pytest.approx(len(engine.speak(text, f"{same_as}+f5", response_format="pcm").content), rel=5e-3)
    other = "de+f5" if same_as == "en-us" else "en-us+f5"
    assert spoken != pytest.approx(len(engine.speak(text, other, response_format="pcm").content), rel=2e-2)


@pytest.mark.parametrize("voice", ["en-us", "EN-GB", "zh", "cmn+f3", "pt_BR", "English (America)", {"id": "de"}])
def test_voices_of_espeak_ng_go_by_their_own_names(engine: Engine, voice: Any) -> None:
    assert engine.speak("Taxi", voice, response_format="pcm").status_code == 200


@pytest.mark.parametrize(
    ("members", "param", "says"),
    [
        ({"input": ""}, "input", "empty"),
        ({"input": " \n\t"}, "input", "empty"),
        ({"input": "a" * 4097}, "input", "4096"),
        ({"voice": "nobody"}, "voice", "alloy"),
        ({"voice": "nobody"}, "voice", "en-us"),
        ({"voice": "../../lang/gmw/en"}, "voice", "not a voice"),
        ({"voice": "en-us+nobody"}, "voice", "whisper"),
        ({"voice": ""}, "voice", "Missing"),
        ({"response_format": "midi"}, "response_format", "mp3, opus, aac, flac, wav, pcm"),
        ({"speed": 0.2}, "speed", "between 0.25 and 4"),
        ({"speed": 4.5}, "speed", "between 0.25 and 4"),
        ({"speed": "fast"}, "speed", "number"),
        ({"stream_format": "hls"}, "stream_format", "sse"),
    ],
)
def test_what_cannot_be_spoken_is_refused_by_name(
    engine: Engine, members: dict[str, Any], param: str, says: str
) -> None:
    answer = engine.speak(**{"text": members.pop("input", "Hello"), **members})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("member", ["model", "input", "voice"])
def test_what_is_missing_is_named(engine: Engine, member: str) -> None:
    body = {"model": "espeak-ng", "input": "Hello", "voice": "alloy"}
    del body[member]
    answer = engine.post("/audio/speech", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, member)


def test_another_model_is_not_found(engine: Engine) -> None:
    answer = engine.speak("Hello", model="tts-1")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "espeak-ng" in answer.json()["error"]["message"]


def test_instructions_are_accepted_and_named_as_dropped(engine: Engine) -> None:
    answer = engine.speak("Hello", instructions="Whisper.")
    assert answer.status_code == 200
    assert answer.headers["tidegate-dropped"] == "instructions"
    assert "tidegate-dropped" not in engine.speak("Hello").headers


def test_control_characters_end_nothing(engine: Engine) -> None:
    whole = engine.speak("one\0two\x1bthree", response_format="pcm").content
    assert len(whole) == pytest.approx(len(engine.speak("one two three", response_format="pcm").content), rel=5e-3)
