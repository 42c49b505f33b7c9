"""A chat provider's bytes through the decoder, with the laws watching, and answers as they are at the end."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from tests.dialects.common import frame
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import Collector, Losses
from tidegate.dialects.dialect import Destination, Quirks
from tidegate.wire import jsonio
from tidegate.wire.events import Event, Failed, Finished, Laws, ReasoningDelta, TextDelta, ToolCallDelta
from tidegate.wire.items import CanonicalRequest, Item, Message, Output, Part, TextPart

DONE = b"data: [DONE]\n\n"
UPSTREAM = ChatUpstream()
OFFICIAL = Quirks(openai_chat=True, max_tokens_name="max_completion_tokens")


def provider(**members: Any) -> Destination:
    return Destination(**{"provider": "lab", "model": "tide-1", "endpoint": "chat", **members})


def asked(*items: Item, **members: Any) -> CanonicalRequest:
    return CanonicalRequest(**{"model": "tide-1", "items": list(items) or [said("user", "hi")], **members})


def said(role: Any, *texts: str, **members: Any) -> Message:
    content: list[Part] = [TextPart(text=text) for text in texts]
    return Message(role=role, content=content, **members)


def sent(
    request: CanonicalRequest, to: Destination | None = None, *, allowed: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """The body that the provider gets, and what was left out."""
    to = to or provider()
    losses = Losses(request, to, allowed=allowed)
    body = json.loads(UPSTREAM.encode_request(request, to, losses))
    losses.check()
    assert isinstance(body, dict)
    return body, list(losses.dropped)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **members: Any) -> bytes:
    """A frame with one choice."""
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tide-1"}
    return frame({**head, "choices": [choice], **members})


def stream(*deltas: dict[str, Any], finish: str = "stop") -> bytes:
    """A whole stream of one choice."""
    return b"".join([*(chunk(delta) for delta in deltas), chunk({}, finish), DONE])


def answer(message: dict[str, Any], finish: str = "stop", **members: Any) -> bytes:
    """An answer in one body."""
    return msgspec.json.encode(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "tide-1",
            "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}],
            **members,
        }
    )


def decoded(
    reads: bytes | Iterable[bytes], to: Destination | None = None, request: CanonicalRequest | None = None
) -> list[Event]:
    """All events of a stream, which keep the laws."""
    decoder = UPSTREAM.decoder(to or provider(), request or asked())
    found: list[Event] = []
    for read in [reads] if isinstance(reads, bytes) else reads:
        found += decoder.feed(read)
    found += decoder.eof()
    check_laws(found)
    assert decoder.feed(b"data: {}\n\n") == []
    assert decoder.eof() == []
    return found


def check_laws(events: Iterable[Event]) -> None:
    laws = Laws()
    for event in events:
        laws.check(event)
    assert laws.ended


def folded(events: Iterable[Event]) -> Output:
    """The whole answer; it must have ended well."""
    collector = Collector()
    last: Event | None = None
    for last in events:
        assert not isinstance(last, Failed), last.error
        collector.add(last)
    assert isinstance(last, Finished)
    return collector.output()


def items_of(events: Iterable[Event], choice: int = 0) -> list[Item]:
    return folded(events).choices[choice].items


def joined(events: Iterable[Event]) -> list[Event]:
    """Events with neighbouring deltas as one: what does not depend on how a server cuts its text."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        match last, event:
            case TextDelta(), TextDelta() if last.choice == event.choice:
                logprobs = [*(last.logprobs or []), *(event.logprobs or [])]
                out[-1] = TextDelta(last.text + event.text, event.choice, logprobs or None)
            case ReasoningDelta(), ReasoningDelta() if (last.choice, last.kind, last.part) == (
                event.choice,
                event.kind,
                event.part,
            ):
                out[-1] = ReasoningDelta(last.text + event.text, event.kind, event.part, event.choice)
            case ToolCallDelta(), ToolCallDelta() if last.index == event.index:
                out[-1] = ToolCallDelta(event.index, last.text + event.text)
            case _:
                out.append(event)
    return out


def error_of(events: list[Event]) -> Any:
    """The error that a stream ended with."""
    last = events[-1]
    assert isinstance(last, Failed)
    return last.error


def plain(value: msgspec.Raw) -> Any:
    return jsonio.anything(value)


def shown(events: Iterable[Event]) -> list[str]:
    """Events in a form that can be compared: errors are only alike when they say the same."""
    return [
        str(event) if isinstance(event, Failed) else f"{type(event).__name__} {msgspec.json.encode(event).decode()}"
        for event in events
    ]
