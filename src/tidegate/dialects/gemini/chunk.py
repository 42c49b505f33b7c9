"""A chunk of Google's answers, as far as everyone asks it. Who asks more of its parts, candidates or the whole adds that."""

from typing import Generic, TypeVar

import msgspec

from tidegate.wire import jsonio

__all__ = ["Candidate", "Chunk", "Content"]

Part = TypeVar("Part")
AnyCandidate = TypeVar("AnyCandidate")


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
    usage_metadata: msgspec.Raw = jsonio.EMPTY
    prompt_feedback: Feedback | None = None
    error: msgspec.Raw = jsonio.EMPTY
