"""What the tests of transcripts share: forms, and streams as providers send them."""

import json
from collections.abc import Iterable
from typing import Any, cast

from tests.dialects.common import call, destination, frames, play
from tests.wire.test_wire_forms import BOUNDARY, Bytes
from tidegate.dialects.dialect import Destination, FormDialect, FormRequest, Outcome, Quirks, Stream, StreamingRequest
from tidegate.dialects.transcription import TranscriptionDialect, TranslationDialect
from tidegate.wire.forms import Form, Upload

__all__ = [
    "DONE",
    "WORDS",
    "chunk",
    "delta",
    "done",
    "events",
    "fields_of",
    "frame",
    "open_stream",
    "parse",
    "played",
    "to",
]

WORDS = ("The", " tide", " 潮汐", " rises")
DONE = b"data: [DONE]\n\n"
USAGE = {"type": "tokens", "input_tokens": 14, "output_tokens": 4, "total_tokens": 18}


def parse(*fields: tuple[str, str], data: bytes | None = b"sound", translate: bool = False, **more: str) -> FormRequest:
    """A form with these fields. Raises InvalidRequest."""
    file = None if data is None else Bytes(data)
    form = Form(fields=(*fields, *more.items()), file=file, boundary=BOUNDARY)
    dialect = cast("FormDialect", TranslationDialect() if translate else TranscriptionDialect())
    return dialect.parse_form(form)


def to(quirks: Quirks | None = None, *refuses: str, **members: Any) -> Destination:
    given = {"endpoint": "transcription", "refuses": frozenset(refuses), **members}
    return destination(quirks=quirks or Quirks(), **given)


def fields_of(upload: Upload) -> list[tuple[str, str]]:
    """The fields of a form that goes to a provider, in their order."""
    head = upload.parts[0]
    assert isinstance(head, bytes)
    found = []
    for part in head.decode().split(f"--{BOUNDARY}\r\n")[1:]:
        disposition, _, value = part.partition("\r\n\r\n")
        if "filename=" not in disposition:
            found.append((disposition.split('name="')[1].split('"')[0], value.removesuffix("\r\n")))
    return found


def open_stream(where: Destination | None = None, profile: str = "openai") -> Stream:
    stream = cast("StreamingRequest", parse(stream="true")).open(call(profile))
    stream.attempt(where or to())
    return stream


def played(
    reads: bytes | Iterable[bytes], where: Destination | None = None, profile: str = "openai"
) -> tuple[bytes, Outcome]:
    """What a client gets, and how it ended."""
    stream = open_stream(where, profile)
    out = play(stream, [reads] if isinstance(reads, bytes) else reads)
    assert stream.outcome is not None
    return out, stream.outcome


def events(out: bytes) -> list[Any]:
    """The payloads, `[DONE]` as the text it is."""
    return [json.loads(one.data) if one.data != b"[DONE]" else "[DONE]" for one in frames(out)]


# Frames of providers.


def frame(content: Any) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def delta(text: str, **more: Any) -> bytes:
    return frame({"type": "transcript.text.delta", "delta": text, **more})


def done(text: str, **more: Any) -> bytes:
    return frame({"type": "transcript.text.done", "text": text, **more})


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """As vLLM has it."""
    head = {"id": "trsc-1", "object": "transcription.chunk", "created": 1, "model": "whisper"}
    if text is None:
        return frame({**head, "choices": [], **more})
    choice: dict[str, Any] = {"delta": {"content": text}}
    if finish is not None:
        choice |= {"finish_reason": finish, "stop_reason": None}
    return frame({**head, "choices": [choice], **more})
