"""What was heard, in each of the forms in which OpenAI's API gives it."""

import zlib
from collections.abc import Sequence
from typing import Final, Literal

from tidegate.local_audio.frames import Utterance
from tidegate.wire import jsonio
from tidegate.wire.events import estimate_tokens

__all__ = ["CONTENT_TYPES", "Granularity", "TranscriptFormat", "duration_usage", "render", "text_of", "token_usage"]

TranscriptFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularity = Literal["word", "segment"]

CONTENT_TYPES: Final[dict[TranscriptFormat, str]] = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}

TOKENS_PER_S: Final = 10
"""Of audio that is listened to, in the usage: OpenAI counts one for 100 ms."""


def text_of(utterances: Sequence[Utterance]) -> str:
    return " ".join(utterance.text for utterance in utterances)


def render(
    utterances: Sequence[Utterance],
    seconds: float,
    form: TranscriptFormat,
    granularities: frozenset[Granularity],
    task: Literal["transcribe", "translate"],
) -> bytes:
    """The whole answer. `granularities` counts only for `verbose_json`."""
    if form == "json":
        return jsonio.encode({"text": text_of(utterances), "usage": duration_usage(seconds)})
    if form == "verbose_json":
        return jsonio.encode(_verbose(utterances, seconds, granularities, task))
    if form == "text":
        return f"{text_of(utterances)}\n".encode()
    if form == "srt":
        cues = [
            f"{number}\n{_clock(one.start, ',')} --> {_clock(one.end, ',')}\n{one.text}\n"
            for number, one in enumerate(utterances, 1)
        ]
        return "\n".join(cues).encode()
    cues = [f"{_clock(one.start, '.')} --> {_clock(one.end, '.')}\n{one.text}\n" for one in utterances]
    return "\n".join(["WEBVTT\n", *cues]).encode()


def duration_usage(seconds: float) -> dict[str, object]:
    return {"type": "duration", "seconds": round(seconds, 3)}


def token_usage(text: str, seconds: float) -> dict[str, object]:
    """For the stream, whose usage has only this form. Both numbers follow from length: nothing here has tokens."""
    heard, written = round(seconds * TOKENS_PER_S), estimate_tokens(len(text.encode()))
    return {
        "type": "tokens",
        "input_tokens": heard,
        "input_token_details": {"audio_tokens": heard, "text_tokens": 0},
        "output_tokens": written,
        "total_tokens": heard + written,
    }


def _verbose(
    utterances: Sequence[Utterance], seconds: float, granularities: frozenset[Granularity], task: str
) -> dict[str, object]:
    answer: dict[str, object] = {
        "task": task,
        "language": "english",
        "duration": round(seconds, 3),
        "text": text_of(utterances),
    }
    if "word" in granularities:
        answer["words"] = [
            {"word": word.word, "start": round(word.start, 2), "end": round(word.end, 2)}
            for utterance in utterances
            for word in utterance.words
        ]
    if "segment" in granularities:
        answer["segments"] = [_segment(number, utterance) for number, utterance in enumerate(utterances)]
    answer["usage"] = duration_usage(seconds)
    return answer


def _segment(number: int, utterance: Utterance) -> dict[str, object]:
    """An utterance with the members of Whisper's segments, of which `tokens` and `seek` mean nothing here."""
    encoded = utterance.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": round(utterance.start, 2),
        "end": round(utterance.end, 2),
        "text": utterance.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(word.logprob for word in utterance.words) / len(utterance.words), 4),
        "compression_ratio": round(len(encoded) / len(zlib.compress(encoded)), 4),
        "no_speech_prob": 0.0,
    }


def _clock(seconds: float, point: str) -> str:
    """`00:01:02,345`: hours, minutes and seconds as SubRip and WebVTT write them, which differ in the point."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
