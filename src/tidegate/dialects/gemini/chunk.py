"""A chunk of Google's answers, as far as everyone asks it. Who asks more of its parts, candidates or the whole adds that."""

from typing import Any, Generic, TypeVar

import msgspec

from tidegate.dialects.gemini.answer import Figures
from tidegate.wire import jsonio

__all__ = ["Candidate", "Chunk", "Content", "without_figures"]

Part = TypeVar("Part")
AnyCandidate = TypeVar("AnyCandidate")
AnyChunk = TypeVar("AnyChunk", bound="Chunk[Any]")


class Content(msgspec.Struct, Generic[Part], gc=False):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct, Generic[Part], gc=False, rename="camel"):
    content: Content[Part] | None = None
    index: int | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class Chunk(msgspec.Struct, Generic[AnyCandidate], gc=False, rename="camel"):
    candidates: list[AnyCandidate] | None = None
    usage_metadata: Figures | None = None
    prompt_feedback: Feedback | None = None
    error: msgspec.Raw = jsonio.EMPTY


_members = jsonio.decoder(jsonio.Members)


def without_figures(data: bytes, using: msgspec.json.Decoder[AnyChunk]) -> AnyChunk | None:
    """A chunk that cannot be read, read once more without its figures, which must not cost the answer. None for one that
    cannot be read either way."""
    try:
        data.decode()
        members = _members.decode(data)
        return using.decode(jsonio.encode(members)) if members.pop("usageMetadata", None) is not None else None
    except jsonio.UNREADABLE:
        return None
