"""The error envelopes of OpenAI and of Google, and the sim's own refusals."""

from typing import Any

_TYPES = {
    429: "requests",
    503: "service_unavailable_error",
}
_CODES = {
    401: "invalid_api_key",
    404: "model_not_found",
    429: "rate_limit_exceeded",
    503: "server_is_overloaded",
}


def error_object(
    status: int, message: str, *, kind: str | None = None, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The `error` member: always four keys; its type (`kind`) and code follow from the status unless they are given."""
    if kind is None:
        kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if code is None:
        code = _CODES.get(status, "server_error" if status >= 500 else None)
    return {"message": message, "type": kind, "param": param, "code": code}


_RPC = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def google_error(
    status: int, message: str, *, kind: str | None = None, code: str | None = None, retry_after: str | None = None
) -> dict[str, Any]:
    """The `error` member in Google's form; `kind` is its `status`, `code` the reason in its details."""
    error: dict[str, Any] = {
        "code": status,
        "message": message,
        "status": kind or _RPC.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"),
    }
    details = []
    if code is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code})
    if retry_after is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after}s"})
    return {**error, "details": details} if details else error


class Refusal(Exception):
    """A request that the sim, playing a provider, answers with an error status."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
