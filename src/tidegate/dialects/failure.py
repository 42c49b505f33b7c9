"""Errors as OpenAI-compatible providers report them → the error tree.

One mapping serves an error status and an error inside a stream that began with status 200, so that both are treated
alike: the same retry decision, the same status towards the client.
"""

from typing import Any

import msgspec

from tidegate.wire import errors, jsonio

__all__ = ["from_error_object", "from_status"]

_MESSAGE_LIMIT = 2000

_STATUS_OF_CODE = {
    "rate_limit_exceeded": 429,
    "slow_down": 429,
    "insufficient_quota": 429,
    "server_is_overloaded": 503,
    "overloaded": 503,
    "overloaded_error": 503,
    "server_error": 500,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
}
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "tokens": 429,
    "requests": 429,
    "insufficient_quota": 429,
    "service_unavailable_error": 503,
    "overloaded_error": 503,
}
_FINAL_QUOTA = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)


class _ErrorObject(msgspec.Struct):
    message: Any = None
    type: Any = None
    param: Any = None
    code: Any = None


_object = jsonio.decoder(dict[str, Any])


def from_status(status: int, body: bytes, provider: str, retry_after: float | None = None) -> errors.TidegateError:
    """The error for an answer with an error status (`faults.md`, header and status mapping)."""
    return _classify(status, _read(body), provider, retry_after)


def from_error_object(value: bytes | msgspec.Raw, provider: str) -> errors.TidegateError:
    """The error for an error object that came with status 200: its code and type tell the status it stands for."""
    found = _read(b'{"error":%b}' % bytes(value))
    status = found.code if isinstance(found.code, int) else _STATUS_OF_CODE.get(str(found.code))
    if status is None:
        status = _STATUS_OF_TYPE.get(str(found.type), 500)
    return _classify(status, found, provider, None)


def _read(body: bytes) -> _ErrorObject:
    """Providers put the object under `error`, or send it bare, or only a text under `error`, `message` or `detail`."""
    try:
        content = jsonio.decode(body, _object)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return _ErrorObject()
    inner = content.get("error", content)
    if not isinstance(inner, dict):
        return _ErrorObject(message=inner)
    return _ErrorObject(
        message=inner.get("message", inner.get("detail")),
        type=inner.get("type"),
        param=inner.get("param"),
        code=inner.get("code"),
    )


def _classify(status: int, found: _ErrorObject, provider: str, retry_after: float | None) -> errors.TidegateError:
    text = _text(found.message)
    code = found.code if isinstance(found.code, str) else None
    param = found.param if isinstance(found.param, str) else None
    said = f"Provider '{provider}' answered {status}" + (f": {text}" if text else ".")
    if status in (401, 403):
        # The provider's text may hold part of our credential ("Incorrect API key provided: sk-…"): it stays here.
        return errors.UpstreamAuth(f"Provider '{provider}' refused the gateway's credential (status {status}).")
    if status == 429:
        limited = errors.UpstreamRateLimited(said, param=param, code=code, retry_after=retry_after)
        if code in _FINAL_QUOTA or found.type == "insufficient_quota":
            return errors.UpstreamFailed(
                said, status=429, type="insufficient_quota", retryable=False, code=code or "insufficient_quota"
            )
        return limited
    if status in (408, 504):
        return errors.UpstreamTimeout(said, "provider")
    if status in (400, 404, 413, 422):
        type_ = found.type if isinstance(found.type, str) else "invalid_request_error"
        return errors.UpstreamFailed(
            text or said,
            status=400 if status == 422 else status,
            type=type_,
            retryable=False,
            param=param,
            code=code or ("model_not_found" if status == 404 else None),
        )
    if 400 <= status < 500 and status != 409:
        return errors.UpstreamFailed(
            said, status=502, type="server_error", retryable=False, code=code or "upstream_refused"
        )
    return errors.UpstreamFailed(
        said,
        status=503 if status in (409, 503, 529) else 502,
        type="server_error",
        retryable=True,
        code=code or ("server_is_overloaded" if status in (503, 529) else "server_error"),
        retry_after=retry_after,
    )


def _text(message: Any) -> str:
    if message is None:
        return ""
    text = message if isinstance(message, str) else jsonio.encode(message).decode()
    return text if len(text) <= _MESSAGE_LIMIT else text[:_MESSAGE_LIMIT] + "…"
