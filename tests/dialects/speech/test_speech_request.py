"""Requests for speech: what is validated, what goes on, and what a provider cannot honour."""

import json
from typing import Any

import pytest

from tests.dialects.speech.samples import GEMINI, body, deployment, request
from tidegate.dialects.dialect import Destination, Quirks, Speech
from tidegate.dialects.speech import SpeechDialect
from tidegate.wire.errors import InvalidRequest, UnsupportedParameter

OPENAI = deployment(events=True)
DROPPING = Destination(provider="lab", model="tts", endpoint="speech", drops=True, speech=Speech(formats=("wav",)))


def sent(to: Destination, **members: Any) -> Any:
    return json.loads(request(**members).forward(to))


def test_the_clients_own_members_go_on_and_no_default_is_added() -> None:
    minimal = {"model": "tts", "input": "Ebb and flow", "voice": "coral"}
    assert sent(OPENAI) == minimal
    rich = {
        "input": "潮汐\u2028 ".ljust(4096, "。"),
        "voice": {"id": "voice_1234"},
        "response_format": "wav",
        "speed": 0.25,
        "instructions": "Whisper.",
        "stream_format": "sse",
        "sample_rate": 8000,
        "lang_code": None,
    }
    given = json.dumps({"model": "x", **rich}, ensure_ascii=False).encode()
    assert json.loads(SpeechDialect().parse(given).forward(OPENAI)) == {**rich, "model": "tts"}


@pytest.mark.parametrize("speed", ["1", "1.0", "4.0", "0.250"])
def test_numbers_keep_their_spelling(speed: str) -> None:
    given = b'{"model":"m","input":"a","voice":"b","speed":%b}' % speed.encode()
    assert b'"speed":%b' % speed.encode() in SpeechDialect().parse(given).forward(OPENAI)


@pytest.mark.parametrize(
    ("members", "param", "code", "words"),
    [
        ({"input": None}, "input", "missing_required_parameter", "text to speak"),
        ({"voice": None}, "voice", "missing_required_parameter", "Missing required parameter: 'voice'"),
        ({"input": ""}, "input", "invalid_value", "a string of 1 to 4096 characters"),
        ({"input": " \n\t"}, "input", "invalid_value", "not only blanks"),
        ({"input": "a" * 4097}, "input", "invalid_value", "a string of 1 to 4096 characters"),
        ({"input": "潮" * 4097}, "input", "invalid_value", "a string of 1 to 4096 characters"),
        ({"input": 7}, "input", "invalid_type", "got an integer"),
        ({"input": ["a"]}, "input", "invalid_type", "got an array"),
        ({"voice": ""}, "voice", "invalid_value", "a string of 1 to 256 characters"),
        ({"voice": "  "}, "voice", "invalid_value", "the name of a voice"),
        ({"voice": 3}, "voice", "invalid_type", "got an integer"),
        ({"voice": {}}, "voice.id", "missing_required_parameter", "voice.id"),
        ({"voice": {"id": 5}}, "voice.id", "invalid_type", "got an integer"),
        ({"response_format": "mp4"}, "response_format", "invalid_value", "'aac', 'flac', 'mp3', 'opus', 'pcm', 'wav'"),
        ({"response_format": 1}, "response_format", "invalid_type", "got an integer"),
        ({"speed": 0.2}, "speed", "invalid_value", "a number between 0.25 and 4"),
        ({"speed": 4.01}, "speed", "invalid_value", "a number between 0.25 and 4"),
        ({"speed": "fast"}, "speed", "invalid_type", "got a string"),
        ({"instructions": 1}, "instructions", "invalid_type", "got an integer"),
        ({"instructions": "a" * 4097}, "instructions", "invalid_value", "at most 4096 characters"),
        ({"stream_format": "raw"}, "stream_format", "invalid_value", "'audio', 'sse'"),
        ({"stream_format": True}, "stream_format", "invalid_type", "got a boolean"),
        ({"model": 1}, "model", "invalid_type", "got an integer"),
    ],
)
def test_bad_requests_name_the_member_and_what_is_right(
    members: dict[str, Any], param: str, code: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request(**members)
    assert (caught.value.http_status, caught.value.param, caught.value.code) == (400, param, code)
    assert words in caught.value.message


@pytest.mark.parametrize("given", [b"", b"[]", b"{", b'{"input": "\xff"}', b"input=a&voice=b"])
def test_what_is_no_json_object_is_refused(given: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SpeechDialect().parse(given)
    assert caught.value.code == "invalid_json"


def test_events_are_asked_for_only_where_there_are_some() -> None:
    assert sent(OPENAI, stream_format="sse")["stream_format"] == "sse"
    assert "stream_format" not in sent(deployment(), stream_format="sse")
    assert sent(deployment(), stream_format="audio")["stream_format"] == "audio"


def test_a_format_that_the_provider_has_not_is_refused_with_those_it_has() -> None:
    only = deployment(formats=("wav", "pcm"))
    for given in ("mp3", "opus", "aac", "flac"):
        with pytest.raises(UnsupportedParameter) as caught:
            sent(only, response_format=given)
        assert caught.value.param == "response_format"
        assert f"'{given}' is not among its formats: wav, pcm." in caught.value.message
    assert sent(only, response_format="pcm")["response_format"] == "pcm"


def test_without_a_format_the_usual_one_is_named_only_where_there_is_no_mp3() -> None:
    assert sent(deployment(formats=("wav", "pcm")))["response_format"] == "wav"
    for formats in ((), ("wav", "mp3")):
        assert "response_format" not in sent(deployment(formats=formats))


def test_where_losses_are_allowed_another_format_takes_its_place_and_it_is_named() -> None:
    asked = request(response_format="opus")
    assert json.loads(asked.forward(DROPPING))["response_format"] == "wav"
    assert asked.dropped == ("response_format",)
    without = request()
    assert json.loads(without.forward(DROPPING))["response_format"] == "wav"
    assert without.dropped == ()


def test_members_that_a_model_does_not_take_are_refused_unless_they_say_nothing() -> None:
    old = Destination(provider="openai", model="tts-1", endpoint="speech", refuses=frozenset({"instructions", "speed"}))
    for members in ({"instructions": "Whisper."}, {"speed": 2}):
        with pytest.raises(UnsupportedParameter) as caught:
            sent(old, **members)
        assert caught.value.param == next(iter(members))
    assert set(sent(old, instructions="", speed=1.0)) == {"model", "input", "voice"}


def test_gemini_is_asked_for_an_answer_in_audio() -> None:
    assert sent(GEMINI, voice="Kore") == {
        "contents": [{"role": "user", "parts": [{"text": "Ebb and flow"}]}],
        "generationConfig": {
            "responseModalities": ["AUDIO"],
            "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
        },
    }
    own = sent(GEMINI, voice={"id": "voice_1"}, stream_format="sse", response_format="pcm", speed=1)
    assert own["generationConfig"]["speechConfig"] == {"voiceConfig": {"voice": "voice_1"}}


def test_gemini_is_told_how_to_speak_beside_the_text_or_before_it() -> None:
    asked = {"voice": "Kore", "instructions": " Speak in a cheerful tone. "}
    assert sent(GEMINI, **asked)["contents"][0]["parts"] == [
        {"text": "Ebb and flow", "speechMetadata": {"style": "Speak in a cheerful tone."}}
    ]
    older = Destination(
        provider="google",
        model="gemini-2.5-flash-preview-tts",
        speech=Speech(formats=("wav", "pcm"), style_in_text=True),
        quirks=Quirks(speech_of_gemini=True),
    )
    assert sent(older, **asked)["contents"][0]["parts"] == [{"text": "Speak in a cheerful tone:\nEbb and flow"}]


@pytest.mark.parametrize(
    ("members", "param", "words"),
    [
        ({"voice": "alloy"}, "voice", "Google's are Achernar, "),
        ({"voice": "Marin"}, "voice", "'Marin' is one of OpenAI's voices"),
        ({"speed": 1.5}, "speed", "'speed' is not supported"),
        ({"sample_rate": 8000}, "sample_rate", "'sample_rate' is not supported"),
        ({"response_format": "mp3"}, "response_format", "wav, pcm"),
    ],
)
def test_what_gemini_cannot_carry_is_refused_or_left_out_and_named(
    members: dict[str, Any], param: str, words: str
) -> None:
    members = {"voice": "Kore", **members}
    with pytest.raises(UnsupportedParameter) as caught:
        sent(GEMINI, **members)
    assert caught.value.param == param
    assert words in caught.value.message
    asked = SpeechDialect().parse(body(**members))
    lenient = Destination(
        provider="google",
        model="gemini-tts",
        drops=True,
        speech=Speech(formats=("wav", "pcm")),
        quirks=Quirks(speech_of_gemini=True),
    )
    left = json.loads(asked.forward(lenient))
    assert asked.dropped == (param,)
    assert ("speechConfig" in left["generationConfig"]) == (param != "voice")
