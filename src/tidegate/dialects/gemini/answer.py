"""What an answer of Google's API says beside its content: why it ended, what it used, what went wrong."""

from typing import Final

import msgspec

from tidegate.dialects.usage import MOST_TOKENS, credible
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

__all__ = ["CANDIDATE_LIMIT", "ending", "error_body", "is_ending", "read_usage", "usage_metadata"]

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


class _Figures(msgspec.Struct, gc=False, rename="camel"):
    """Floats, because some versions of proto JSON write whole numbers so."""

    prompt_token_count: float | None = None
    tool_use_prompt_token_count: float | None = None
    candidates_token_count: float | None = None
    thoughts_token_count: float | None = None
    cached_content_token_count: float | None = None


class _Shares(msgspec.Struct, gc=False, rename="camel"):
    prompt_tokens_details: list[_Share] = []
    cache_tokens_details: list[_Share] = []
    candidates_tokens_details: list[_Share] = []


_figures = jsonio.decoder(_Figures)
_shares = jsonio.decoder(_Shares)
_NO_SHARES: Final = _Shares()


def read_usage(metadata: msgspec.Raw) -> Usage | None:
    """The figures of `usageMetadata`; None when there are none. What cannot be read must not cost the answer.

    Google counts thoughts beside the candidates' tokens, and what tools brought into the prompt beside the prompt's
    (protocol §5.3).
    """
    try:
        found = _figures.decode(metadata)
    except jsonio.UNREADABLE:
        return None
    if not (found.prompt_token_count or found.candidates_token_count or found.thoughts_token_count):
        return None  # zeros are none either: no prompt has no tokens
    if not all(
        map(
            credible,
            (
                found.prompt_token_count,
                found.tool_use_prompt_token_count,
                found.candidates_token_count,
                found.thoughts_token_count,
            ),
        )
    ):
        return None
    thoughts = _count(found.thoughts_token_count)
    try:
        shares = _shares.decode(metadata)
    except jsonio.UNREADABLE:
        shares = _NO_SHARES
    return Usage(
        input_tokens=_count(found.prompt_token_count) + _count(found.tool_use_prompt_token_count),
        output_tokens=_count(found.candidates_token_count) + thoughts,
        cached_tokens=_count(found.cached_content_token_count),
        reasoning_tokens=thoughts,
        input_audio_tokens=_uncached(shares, "AUDIO"),
        input_image_tokens=_uncached(shares, "IMAGE"),
        output_audio_tokens=_share(shares.candidates_tokens_details, "AUDIO"),
        output_image_tokens=_share(shares.candidates_tokens_details, "IMAGE"),
    )


def _share(shares: list[_Share], modality: str) -> int:
    return sum(_count(one.token_count) for one in shares if one.modality == modality)


def _uncached(shares: _Shares, modality: str) -> int:
    """What the prompt has of it beside what was read from a cache, which the prompt's details count too."""
    return max(0, _share(shares.prompt_tokens_details, modality) - _share(shares.cache_tokens_details, modality))


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
