"""What the tests of speech share: requests, deployments, streams fed in any split, and what a client makes of them."""

import base64
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from tests.dialects import common
from tidegate.dialects.dialect import Destination, Quirks, Speech
from tidegate.dialects.speech import SpeechDialect, SpeechRequest
from tidegate.dialects.speech.stream import SpeechStream
from tidegate.wire import sse
from tidegate.wire.errors import TidegateError

AUDIO = bytes(range(256)) * 4
DONE = b"data: [DONE]\n\n"
USAGE = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
FINISHED = {"type": "speech.audio.done", "usage": USAGE}


def request(**members: Any) -> SpeechRequest:
    return SpeechDialect().parse(body(**members))


def body(**members: Any) -> bytes:
    asked = {"model": "lab/tts", "input": "Ebb and flow", "voice": "coral", **members}
    return json.dumps({name: value for name, value in asked.items() if value is not None}, ensure_ascii=False).encode()


def deployment(*, events: bool = False, **members: Any) -> Destination:
    return Destination(provider="lab", model="tts", endpoint="speech", speech=Speech(events=events, **members))


GEMINI = Destination(
    provider="google",
    model="gemini-tts",
    endpoint="speech",
    speech=Speech(formats=("wav", "pcm")),
    quirks=Quirks(speech_of_gemini=True),
)


def opened(to: Destination, content_type: str, **members: Any) -> SpeechStream:
    """A stream whose provider has sent its head."""
    stream = request(**members).open(common.call())
    stream.attempt(to)
    stream.head(content_type.encode())
    return stream


def frame(event: dict[str, Any]) -> bytes:
    return sse.encode(msgspec.json.encode(event))


def delta(audio: bytes, **more: Any) -> bytes:
    """A frame as OpenAI has it."""
    return frame({"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode(), **more})


def bare(audio: bytes) -> bytes:
    """A frame as servers have it that know no types."""
    return frame({"audio": base64.b64encode(audio).decode()})


def heard(out: bytes) -> bytes:
    """The audio of events. Each text is decodable alone, and all of them joined are, too."""
    texts = [event["audio"] for event in common.events(out) if event.get("type") == "speech.audio.delta"]
    pieces = [base64.b64decode(text, validate=True) for text in texts]
    assert all(pieces)
    joined = base64.b64decode("".join(texts), validate=True)
    assert joined == b"".join(pieces)
    return joined


def error_of(stream: SpeechStream) -> TidegateError:
    outcome = common.outcome(stream)
    assert outcome is not None
    assert outcome.status == "failed"
    assert outcome.error is not None
    return outcome.error


def chunk(audio: bytes | None = None, kind: str = "audio/L16;codec=pcm;rate=24000", **more: Any) -> bytes:
    """A chunk of Google's stream."""
    candidate: dict[str, Any] = {name: more.pop(name) for name in ("finishReason", "finishMessage") if name in more}
    if audio is not None:
        data = base64.b64encode(audio).decode()
        candidate["content"] = {"role": "model", "parts": [{"inlineData": {"mimeType": kind, "data": data}}]}
    return frame({**({"candidates": [candidate]} if candidate else {}), **more})


def play(stream: SpeechStream, reads: Iterable[bytes]) -> bytes:
    return common.play(stream, reads)


def counted(stream: SpeechStream) -> tuple[int, int, bool]:
    """Input and output tokens of a stream whose output is all audio, and whether they are estimated."""
    usage = stream.usage()
    assert usage.output_audio_tokens == usage.output_tokens
    return usage.input_tokens, usage.output_tokens, usage.estimated
