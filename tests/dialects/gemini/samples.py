"""What the tests of this dialect share: requests, Google's chunks, and streams fed in any split."""

import json
from collections.abc import Iterable
from typing import Any

from tidegate.dialects.dialect import Destination
from tidegate.dialects.gemini.decoder import GeminiDecoder
from tidegate.wire.events import Event, Laws
from tidegate.wire.items import CanonicalRequest, Message, TextPart

USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12}


def deployment(model: str = "gemini-3-flash-preview", **members: Any) -> Destination:
    return Destination(provider="google", model=model, endpoint="gemini", **members)


def asked(*items: Any, **members: Any) -> CanonicalRequest:
    given = list(items) or [Message(role="user", content=[TextPart(text="潮汐")])]
    return CanonicalRequest(model="tide", items=given, **members)


def candidate(*parts: dict[str, Any], index: int = 0, **members: Any) -> dict[str, Any]:
    return {"content": {"parts": list(parts), "role": "model"}, "index": index, **members}


def chunk(*candidates: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"candidates": list(candidates), "modelVersion": "gemini-3-flash", "responseId": "AbC-1_x", **members}


def said(text: str, **members: Any) -> dict[str, Any]:
    return chunk(candidate({"text": text}), **members)


def end(reason: str = "STOP", *parts: dict[str, Any], **members: Any) -> dict[str, Any]:
    return chunk(candidate(*parts, finishReason=reason, **members), usageMetadata=USAGE)


def frames(*chunks: dict[str, Any]) -> bytes:
    """As Google writes them: lines that end in CR LF."""
    return b"".join(b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\r\n\r\n" for one in chunks)


def decode(
    reads: Iterable[bytes], request: CanonicalRequest | None = None, to: Destination | None = None
) -> list[Event]:
    """The events of a stream, which keep the laws."""
    decoder = GeminiDecoder(to or deployment(), request or asked())
    events = [event for read in reads for event in decoder.feed(read)]
    events += decoder.eof()
    laws = Laws()
    for event in events:
        laws.check(event)
    assert laws.ended
    assert decoder.feed(b"data: {}\n\n") == decoder.eof() == []
    return events
