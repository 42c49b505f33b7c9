"""What an answer of Google's API says beside its content: why it ended, what it used, what went wrong."""

from typing import Annotated, Final

import msgspec

from tidegate.dialects.usage import MOST_TOKENS
from tidegate.wire import jsonio
from tidegate.wire.errors import (
    CallerError,
    TidegateError,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from tidegate.wire.events import Reason, Usage

__all__ = ["CANDIDATE_LIMIT", "Figures", "ending", "error_body", "is_ending", "read_usage", "usage_metadata"]

CANDIDATE_LIMIT: Final = 128
"""More candidates than any request can ask for."""

_FILTERED: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_OTHER",
        "MODEL_ARMOR",
        "ESCALATION",
        "PUP_LIMITED_DISABLED",
    }
)
"""Finish reasons that mean the provider withheld the rest (protocol §5.3)."""

_UNSPECIFIED: Final = ("", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED")
"""What some versions send in every chunk before the end: protobuf's zero value, not an ending."""

_MOST: Final = 2**53 - 1
"""More tokens than this are no count but noise."""

_RPC: Final = "type.googleapis.com/google.rpc."


class _Share(msgspec.Struct, gc=False, rename="camel"):
    modality: str | None = None
    token_count: float | None = None


_Count = Annotated[float, msgspec.Meta(ge=0, le=MOST_TOKENS)]
"""A float, because some versions of proto JSON write whole numbers so. What is beyond has not been counted."""


class Figures(msgspec.Struct, gc=False, rename="camel"):
    """`usageMetadata`, which Google sends with every chunk: all of it that is read before somebody asks what was used."""

    prompt_token_count: _Count | None = None
    tool_use_prompt_token_count: _Count | None = None
    candidates_token_count: _Count | None = None
    thoughts_token_count: _Count | None = None
    cached_content_token_count: float | None = None
    prompt_tokens_details: msgspec.Raw = jsonio.EMPTY
    cache_tokens_details: msgspec.Raw = jsonio.EMPTY
    candidates_tokens_details: msgspec.Raw = jsonio.EMPTY

    @property
    def counted(self) -> bool:
        """Whether anything was. Zeros are nothing: no prompt has no tokens."""
        return bool(self.prompt_token_count or self.candidates_token_count or self.thoughts_token_count)


_shares = jsonio.decoder(list[_Share])


def read_usage(figures: Figures) -> Usage:
    """What the figures say.

    Google counts thoughts beside the candidates' tokens, and what tools brought into the prompt beside the prompt's
    (protocol §5.3).
    """
    thoughts = _count(figures.thoughts_token_count)
    audio, images = _media(figures.prompt_tokens_details)
    cached_audio, cached_images = _media(figures.cache_tokens_details)
    said_audio, said_images = _media(figures.candidates_tokens_details)
    return Usage(
        input_tokens=_count(figures.prompt_token_count) + _count(figures.tool_use_prompt_token_count),
        output_tokens=_count(figures.candidates_token_count) + thoughts,
        cached_tokens=_count(figures.cached_content_token_count),
        reasoning_tokens=thoughts,
        # What the prompt has of it beside what was read from a cache, which the prompt's details count too.
        input_audio_tokens=max(0, audio - cached_audio),
        input_image_tokens=max(0, images - cached_images),
        output_audio_tokens=said_audio,
        output_image_tokens=said_images,
    )


def _media(details: msgspec.Raw) -> tuple[int, int]:
    """Tokens of audio, and of images. None where the details cannot be read: that must not cost the figures."""
    if not details:
        return 0, 0
    try:
        shares = _shares.decode(details)
    except jsonio.UNREADABLE:
        return 0, 0
    audio = images = 0
    for one in shares:
        if one.modality == "AUDIO":
            audio += _count(one.token_count)
        elif one.modality == "IMAGE":
            images += _count(one.token_count)
    return audio, images


def usage_metadata(usage: Usage) -> msgspec.Raw:
    """`usageMetadata` of an answer. Zero counts are left out, as proto JSON does, but for the two that clients add up."""
    members = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": max(0, usage.output_tokens - usage.reasoning_tokens),
        "totalTokenCount": usage.total_tokens,
    }
    if usage.reasoning_tokens:
        members["thoughtsTokenCount"] = usage.reasoning_tokens
    if usage.cached_tokens:
        members["cachedContentTokenCount"] = usage.cached_tokens
    return jsonio.raw(members)


def is_ending(reason: str | None) -> bool:
    """Whether a `finishReason` says that its candidate has ended, or a `blockReason` that none comes."""
    return reason is not None and reason not in _UNSPECIFIED


def ending(reason: str, message: str, provider: str) -> Reason | TidegateError:
    """What a `finishReason` means (protocol §5.3): a real ending (`stop` also for one with calls), or the error that the
    provider reports in the place of one."""
    if reason == "STOP":
        return "stop"
    if reason in ("MAX_TOKENS", "CONTINUATION"):
        return "length"
    if reason in _FILTERED:
        return "content_filter"
    said = f"Provider '{provider}': it broke the answer off (finishReason '{reason[:64]}')"
    said = f"{said}: {message[:500]}" if message else f"{said}."
    if reason == "MISSING_THOUGHT_SIGNATURE":
        return UpstreamFailed(said, status=400, type="invalid_request_error", retryable=False)
    return UpstreamBroken(said)


def error_body(error: TidegateError) -> bytes:
    """The error in Google's envelope: `{"error": {code, message, status}}`, with RetryInfo when a wait is known."""
    content: dict[str, object] = {"code": error.http_status, "message": error.message, "status": _status(error)}
    details: list[dict[str, object]] = []
    if error.retry_after is not None and 0 <= error.retry_after < _MOST:
        details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": f"{error.retry_after:g}s"})
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_RPC}BadRequest", "fieldViolations": [violation]})
    if error.code is not None:
        details.append({"@type": f"{_RPC}ErrorInfo", "reason": error.code, "domain": "tidegate"})
    if details:
        content["details"] = details
    return jsonio.encode({"error": content})


_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _status(error: TidegateError) -> str:
    if isinstance(error, UpstreamRateLimited):
        return "RESOURCE_EXHAUSTED"
    if isinstance(error, UpstreamTimeout):
        return "DEADLINE_EXCEEDED"
    if isinstance(error, UpstreamAuth):
        return "INTERNAL"
    known = _STATUSES.get(error.http_status)
    if known is not None:
        return known
    return "INVALID_ARGUMENT" if isinstance(error, CallerError) else "UNKNOWN"


def _count(value: float | None) -> int:
    return 0 if value is None else int(min(max(value, 0), MOST_TOKENS))
