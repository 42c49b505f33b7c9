"""The error envelopes of OpenAI, Anthropic and Google, and the sim's own refusals."""

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


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def envelope(endpoint: str | None, status: int, message: str, **given: str | None) -> dict[str, Any]:
    """The body of an error in the words of the API that `endpoint` belongs to. `given` are kind, param and code."""
    if endpoint == "gemini":
        given.pop("param", None)
        return {"error": google_error(status, message, **given)}
    given.pop("retry_after", None)  # others say it in a header
    if endpoint != "messages":
        return {"error": error_object(status, message, **given)}
    kind = given.get("kind") or _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


class Refusal(Exception):
    """A request that the sim, playing a provider, answers with an error status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """`details` stand in Anthropic's errors only."""
        super().__init__(message)
        self.status = status
        self.details = details
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
