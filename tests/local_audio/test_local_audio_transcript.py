"""The written forms of what was heard, from utterances that need no recogniser."""

import json

import pytest

from tidegate.local_audio.frames import Utterance, Word
from tidegate.local_audio.transcript import TranscriptFormat, render

HEARD = (
    Utterance(0.4, 2.0, (Word("good", 0.5, 0.9, -0.1), Word("morning", 0.9, 1.9, -0.3))),
    Utterance(3725.25, 3727.0, (Word("bye", 3725.3, 3726.5, -1.0),)),
)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("text", "good morning bye\n"),
        (
            "srt",
            "1\n00:00:00,400 --> 00:00:02,000\ngood morning\n\n2\n01:02:05,250 --> 01:02:07,000\nbye\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.400 --> 00:00:02.000\ngood morning\n\n01:02:05.250 --> 01:02:07.000\nbye\n",
        ),
    ],
)
def test_each_form_is_written_as_its_readers_expect(form: TranscriptFormat, text: str) -> None:
    assert render(HEARD, 3730.0, form, frozenset(), "transcribe").decode() == text


def test_verbose_json_has_the_members_of_whispers() -> None:
    body = json.loads(render(HEARD, 3730.0, "verbose_json", frozenset({"segment", "word"}), "transcribe"))
    assert body["text"] == "good morning bye"
    assert body["words"][1] == {"word": "morning", "start": 0.9, "end": 1.9}
    assert [segment["text"] for segment in body["segments"]] == ["good morning", "bye"]
    assert [segment["id"] for segment in body["segments"]] == [0, 1]
    assert body["segments"][0]["avg_logprob"] == pytest.approx(-0.2)


def test_silence_is_empty_in_every_form() -> None:
    assert json.loads(render((), 1.0, "json", frozenset(), "transcribe"))["text"] == ""
    assert render((), 1.0, "text", frozenset(), "transcribe") == b"\n"
    assert render((), 1.0, "srt", frozenset(), "transcribe") == b""
    assert render((), 1.0, "vtt", frozenset(), "transcribe") == b"WEBVTT\n"
