"""How a client is told, after status 200, that a response is broken: an `error` event, then `response.failed`."""

import msgspec

from tidegate.dialects.failure import INPUT_CODES
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError

__all__ = ["error_event", "error_member"]

_CLIENT_CODES = INPUT_CODES | frozenset(
    {
        "server_error",
        "rate_limit_exceeded",
        "vector_store_timeout",
        # Codex acts on these three, and OpenAI sends them, though the SDKs' enumeration does not have them.
        "context_length_exceeded",
        "insufficient_quota",
        "usage_not_included",
    }
)
"""Codes of `response.error` that clients know; every other code of ours goes into the message (design §6)."""


def error_event(error: TidegateError, sequence: int) -> bytes:
    """The data of the `error` event, flat and nested at once: each client reads one of the two (protocol §4.1)."""
    code = error.code
    nested = {"type": error.openai_type, "code": code, "message": error.message, "param": error.param}
    content = {"type": "error", "code": code, "message": error.message, "param": error.param, "error": nested}
    return jsonio.encode({**content, "sequence_number": sequence})


def error_member(error: TidegateError) -> msgspec.Raw:
    """The `error` of the response object."""
    code = error.code or "server_error"
    known = code if code in _CLIENT_CODES else "server_error"
    return jsonio.raw({"code": known, "message": error.message if known == code else f"{code}: {error.message}"})
