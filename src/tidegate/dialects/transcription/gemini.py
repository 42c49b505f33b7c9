"""Gemini understands audio, but has no endpoint for transcripts: it is asked in words (`generateContent`).

Sources: https://ai.google.dev/gemini-api/docs/audio and https://ai.google.dev/api/generate-content
"""

from typing import Any, Final

from tidegate.dialects.dialect import Call, Destination, estimated_usage, refuse_unsupported
from tidegate.dialects.gemini.decoder import decode_answer
from tidegate.dialects.transcription.fields import Fields, TranslationFields, base_name
from tidegate.dialects.validation import invalid
from tidegate.wire import jsonio
from tidegate.wire.errors import BodyTooLarge, UpstreamBroken
from tidegate.wire.events import ChoiceEnd, TextDelta, Usage, UsageReport
from tidegate.wire.forms import FILE, Base64, Blob, Upload
from tidegate.wire.items import CanonicalRequest

__all__ = ["INLINE_BYTES", "question", "transcript", "upload"]

INLINE_BYTES: Final = 20 * 1024 * 1024
"""Most bytes of a request with its audio in it, which is base64 there."""

_ASKED: Final = (
    "Transcribe the speech in this recording word for word, in the language that is spoken. Answer with the transcript "
    "alone: no times, no names of speakers, no remarks, no formatting. If nobody speaks, answer with nothing at all."
)
_ASKED_IN_ENGLISH: Final = (
    "Translate the speech in this recording into English. Answer with the translation alone: no times, no names of "
    "speakers, no remarks, no formatting. If nobody speaks, answer with nothing at all."
)

_UNDERSTOOD: Final = frozenset({"model", "stream", "prompt", "language", "temperature", "response_format"})

_TYPES: Final = {
    "audio/mpeg": "audio/mp3",
    "audio/mpga": "audio/mp3",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
    "audio/x-m4a": "audio/mp4",
    "audio/m4a": "audio/mp4",
    "audio/x-aac": "audio/aac",
}
"""Other names of what Gemini knows."""

_BEGINNINGS: Final = (
    (0, b"ID3", "audio/mp3"),
    (0, b"\xff\xfb", "audio/mp3"),
    (0, b"\xff\xf3", "audio/mp3"),
    (0, b"\xff\xf2", "audio/mp3"),
    (0, b"\xff\xf1", "audio/aac"),
    (0, b"\xff\xf9", "audio/aac"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AIFF", "audio/aiff"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (4, b"ftyp", "audio/mp4"),
    (0, b"\x1aE\xdf\xa3", "audio/webm"),
)
"""By what files begin with: offset, bytes, type."""


def upload(
    given: tuple[tuple[str, str], ...], file: Blob, fields: Fields, destination: Destination
) -> tuple[Upload, tuple[str, ...]]:
    """The body for `generateContent`, and the names of what was left out.

    Raises UnsupportedParameter, BodyTooLarge, and InvalidRequest for a file whose type nobody knows.
    """
    lost: dict[str, list[str]] = {}
    if fields.response_format not in (None, "json", "text"):
        lost["response_format"] = ["Its transcripts are text, without times."]
    for name, value in given:
        if value and base_name(name) not in _UNDERSTOOD:
            lost.setdefault(base_name(name), [])
    dropped = refuse_unsupported({}, destination, lost)
    audio = Base64(file)
    if audio.size > INLINE_BYTES:
        raise BodyTooLarge(
            f"Invalid 'file': provider '{destination.provider}' takes at most {INLINE_BYTES // 4 * 3} bytes of audio in "
            f"one request, and this file has {file.size}. Compress it, or send it in parts.",
            param=FILE,
        )
    asked = [_ASKED_IN_ENGLISH if isinstance(fields, TranslationFields) else _ASKED]
    language = getattr(fields, "language", None)
    if language:
        asked.append(f"The language is {language} (ISO 639-1).")
    if fields.prompt:
        asked.append(f"What may help with names and spelling: {fields.prompt}")
    config: dict[str, Any] = {}
    if fields.temperature is not None:
        config["temperature"] = fields.temperature
    head = b'{"contents":[{"role":"user","parts":[{"text":%b},{"inlineData":{"mimeType":%b,"data":"' % (
        jsonio.encode("\n\n".join(asked)),
        jsonio.encode(_media_type(file)),
    )
    tail = b'"}}]}]%b}' % (b',"generationConfig":%b' % jsonio.encode(config) if config else b"")
    return Upload(b"application/json", (head, audio, tail)), dropped


def question(destination: Destination) -> CanonicalRequest:
    """What the decoder of Gemini's answers has to know of the request."""
    return CanonicalRequest(model=destination.model, items=[])


def transcript(body: bytes, call: Call, destination: Destination) -> tuple[str, Usage]:
    """The text of an answer in one body, and what was used. Raises WireError, and TidegateError for an answer that is an error or not
    complete."""
    pieces: list[str] = []
    usage: Usage | None = None
    for event in decode_answer(body, destination, question(destination)):
        match event:
            case TextDelta():
                pieces.append(event.text)
            case UsageReport():
                usage = event.usage
            case ChoiceEnd() if event.reason != "stop":
                raise UpstreamBroken(
                    f"Provider '{destination.provider}': it broke the transcript off ({event.reason})."
                )
            case _:
                pass  # thoughts, and what else is no transcript
    text = "".join(pieces)
    return text, usage or estimated_usage(call, len(text.encode()))


def _media_type(file: Blob) -> str:
    """What the client says, if that is a sound or a film; else what its first bytes say. Not its name."""
    said = file.content_type.partition(";")[0].strip().lower()
    if said.startswith(("audio/", "video/")):
        return _TYPES.get(said, said)
    for offset, mark, found in _BEGINNINGS:
        if file.beginning.startswith(mark, offset):
            return found
    raise invalid(FILE, "it is of no known audio format; give its part a content type, with curl: ;type=audio/mp3")
