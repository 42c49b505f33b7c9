"""What the tests of dialects share: a call, a deployment, streams fed in any split, and the SDK's word on the result."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import msgspec
import pydantic
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent

from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.completions import CompletionsDialect
from tidegate.dialects.dialect import Call, Destination, Dialect, Outcome, Request, Stream, StreamingRequest
from tidegate.dialects.profile import PROFILES
from tidegate.dialects.responses import ResponsesDialect
from tidegate.wire import sse

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
RESPONSE_ID = "resp_" + "5a" * 24
CREATED = 1_760_000_000
COMPLETED = 1_760_000_007

DIALECTS: dict[str, Dialect] = {
    "responses": ResponsesDialect(),
    "chat": ChatDialect(),
    "completions": CompletionsDialect(),
}
MINIMAL: dict[str, dict[str, Any]] = {
    "responses": {"input": "潮汐"},
    "chat": {"messages": [{"role": "user", "content": "潮汐"}]},
    "completions": {"prompt": "潮汐"},
}

_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
NOT_IN_THE_SDK = frozenset(
    {"keepalive", "response.tidal_wave.rising", "response.reasoning.delta", "response.reasoning.done"}
)


def call(profile: str = "openai", **members: Any) -> Call:
    given: dict[str, Any] = {
        "response_id": RESPONSE_ID,
        "created_at": CREATED,
        "wall_clock": lambda: COMPLETED,
        "profile": PROFILES[profile],
        "request_bytes": 400,
    }
    return Call(**{**given, **members})


def destination(**members: Any) -> Destination:
    return Destination(**{"provider": "lab", "model": "tide-1", **members})


def body(dialect: str, **members: Any) -> bytes:
    return json.dumps({**MINIMAL[dialect], **members}, ensure_ascii=False).encode()


def opened(request: Request, profile: str = "openai") -> Stream:
    return cast("StreamingRequest", request).open(call(profile))


def open_stream(dialect: str, profile: str = "openai", to: Destination | None = None, **members: Any) -> Stream:
    """A stream whose first attempt is about to answer."""
    stream = opened(DIALECTS[dialect].parse(body(dialect, stream=True, **members)), profile)
    stream.attempt(to or destination())
    return stream


def outcome(stream: Stream) -> Outcome | None:
    """The outcome as it is now: a type checker believes that an attribute stays what it was."""
    return stream.outcome


def play(stream: Stream, reads: Iterable[bytes]) -> bytes:
    """All that a client gets that has already got something: what the gateway does with reads, end and failure."""
    out = []
    for read in reads:
        out.append(stream.feed(read))
        if stream.outcome is not None:
            break
    if stream.outcome is None:
        out.append(stream.eof())
    outcome: Outcome | None = stream.outcome
    assert outcome is not None
    if outcome.error is not None:
        out.append(stream.fail(outcome.error))
    return b"".join(out)


def vector(name: str) -> bytes:
    return (VECTORS / f"{name}.sse").read_bytes()


def names(dialect: str) -> list[str]:
    return sorted(path.stem for path in VECTORS.glob(f"{dialect}-*.sse"))


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def plain(out: bytes) -> bytes:
    """With line feeds only: how much of a CR LF goes out depends on whether it came in one read."""
    return re.sub(rb"\r\n|\r", b"\n", out)


def frames(out: bytes) -> list[sse.Frame]:
    """The frames that carry something."""
    decoder = sse.FrameDecoder()
    found = [frame for frame in decoder.feed(out) if frame.data]
    assert decoder.eof() is None
    return found


def events(out: bytes) -> list[dict[str, Any]]:
    """The JSON of every frame but `[DONE]`."""
    return [json.loads(frame.data) for frame in frames(out) if frame.data != b"[DONE]"]


def frame(data: Any, event: str = "") -> bytes:
    """A frame of an upstream. For Responses the event's name is the type."""
    return sse.encode(data if isinstance(data, bytes) else msgspec.json.encode(data), event.encode())


def numbered(*events_: dict[str, Any], start: int = 0) -> bytes:
    """Frames of a Responses upstream that numbers properly."""
    return b"".join(
        frame({**event, "sequence_number": number}, event["type"]) for number, event in enumerate(events_, start)
    )


def check_event(event: dict[str, Any]) -> Any:
    """The SDK's type for an event of a Responses stream."""
    if event["type"] in NOT_IN_THE_SDK:
        return None
    return _EVENT.validate_python(event)


def check_chunk(dialect: str, chunk: dict[str, Any]) -> None:
    """All members that the API promises, and the SDK's types."""
    if chunk["object"] in NOT_IN_THE_SDK:
        return
    if dialect == "chat":
        ChatCompletionChunk.model_validate(chunk)
        assert chunk["id"]
        assert chunk["model"] is not None
        assert isinstance(chunk["object"], str)
        assert all("index" in choice and "delta" in choice for choice in chunk["choices"])
    else:
        content = {
            **chunk,
            "choices": [{**one, "finish_reason": one["finish_reason"] or "stop"} for one in chunk["choices"]],
        }
        Completion.model_validate(content)
        assert all("text" in choice for choice in chunk["choices"])
    assert isinstance(chunk["created"], int)
