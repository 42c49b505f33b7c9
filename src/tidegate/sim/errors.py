"""OpenAI's error envelope, and the sim's own refusals."""

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


class Refusal(Exception):
    """A request that the sim, playing OpenAI, answers with an error status."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
