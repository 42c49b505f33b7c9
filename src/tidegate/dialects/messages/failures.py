"""Errors in the words of Anthropic's API (protocol §5.3)."""

import re
from typing import Any

from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError

__all__ = ["error_body", "error_frame", "error_type"]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(error: TidegateError) -> str:
    """The `type` that clients of this API look at. Where the class knows no better, the status tells."""
    known = error.anthropic_type
    return _TYPES.get(error.http_status, known) if known == "api_error" else known


_TOO_LONG = "prompt is too long"
"""How this API says that the context is too long. It has no code for that, and clients look for the words: Claude Code then
compacts the conversation."""

_TOKENS = re.compile(r"(?<![\w.-])(\d{1,9}) tokens\b|\((\d{1,9})\)")
"""Figures in what others say of a context that is too long: the limit and the size, in any order."""


def _message(error: TidegateError) -> str:
    if error.code != "context_length_exceeded" or _TOO_LONG in error.message.lower():
        return error.message
    figures = [int(found[1] or found[2]) for found in _TOKENS.finditer(error.message)][:2]
    if len(set(figures)) < 2:
        return f"{_TOO_LONG}: {error.message}"
    return f"{_TOO_LONG}: {max(figures)} tokens > {min(figures)} maximum ({error.message})"


def error_body(error: TidegateError, request_id: str | None) -> bytes:
    """The envelope: `{"type": "error", "error": {"type", "message"}, "request_id"}`, with the error's `details` if any."""
    told: dict[str, Any] = {"type": error_type(error), "message": _message(error)}
    if error.details is not None:
        told["details"] = error.details
    return jsonio.encode({"type": "error", "error": told, "request_id": request_id})


def error_frame(error: TidegateError, request_id: bytes = b"") -> bytes:
    """The event with which a stream breaks off. What is read again from where it is kept has no id of a request."""
    return sse.encode(error_body(error, request_id.decode("latin-1") or None), b"error")
