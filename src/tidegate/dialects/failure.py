"""Errors as providers report them, OpenAI-compatible ones and Google → the error tree.

One mapping serves an error status and an error inside a stream that began with status 200, so that both are treated
alike: the same retry decision, the same status towards the client.
"""

import re
from typing import Any

import msgspec

from tidegate.dialects.refusal import about, reasons
from tidegate.wire import errors, jsonio

__all__ = ["INPUT_CODES", "from_body", "from_error_object", "from_status", "lacks_path", "no_stream"]

_MESSAGE_LIMIT = 2000

_FINAL_QUOTA = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)
"""Limits that waiting does not lift."""

_CREDENTIAL = frozenset(
    {"invalid_api_key", "invalid_authentication", "authentication_error", "organization_restricted"}
)
"""Codes and types that mean our credential whatever the status: some providers answer 400 to a wrong key."""

INPUT_CODES = frozenset(
    {
        "invalid_prompt",
        "data_residency_mismatch",
        "bio_policy",
        "misalignment_policy_violation",
        "invalid_image",
        "invalid_image_format",
        "invalid_base64_image",
        "invalid_image_url",
        "image_too_large",
        "image_too_small",
        "image_parse_error",
        "image_content_policy_violation",
        "invalid_image_mode",
        "image_file_too_large",
        "unsupported_image_media_type",
        "empty_image_file",
        "failed_to_download_image",
        "image_file_not_found",
    }
)
"""Codes of `response.error` that blame the input (protocol §1.3)."""

_STATUS_OF_CODE = {
    "rate_limit_exceeded": 429,
    "slow_down": 429,
    "usage_not_included": 429,
    **dict.fromkeys(_FINAL_QUOTA, 429),
    "server_is_overloaded": 503,
    "overloaded": 503,
    "overloaded_error": 503,
    "server_error": 500,
    "vector_store_timeout": 504,
    "model_not_found": 404,
    **dict.fromkeys(_CREDENTIAL, 401),
    **dict.fromkeys(
        (
            *INPUT_CODES,
            "context_length_exceeded",
            "content_policy_violation",
            "content_filter",
        ),
        400,
    ),
}
"""Codes of `error` objects (protocol §1.3, §1.8) and the status that each stands for."""

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "tokens": 429,
    "requests": 429,
    "insufficient_quota": 429,
    "timeout_error": 504,
    "service_unavailable_error": 503,
    "overloaded_error": 503,
}

_ANTHROPICS = frozenset({"authentication_error", "billing_error", "not_found_error", "permission_error"})
"""Types of Anthropic's that OpenAI's clients do not know with the statuses of a bad request, where OpenAI's own type is
`invalid_request_error` for all. Anthropic's clients get theirs by the status."""

_STATUS_OF_RPC = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""`status` of Google's error objects (google.rpc.Code) and the HTTP status that each stands for."""

_TOO_LONG = re.compile(r"input token count .{0,40}exceeds the maximum number of tokens")
"""How Google says that the context is too long; it has no code for it, and clients act on the code."""

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
"""A google.protobuf.Duration in JSON."""

_SAID = (
    ("prompt is too long", 400, "context_length_exceeded"),
    ("input length and `max_tokens` exceed context limit", 400, "context_length_exceeded"),
    ("credit balance is too low", 429, "insufficient_quota"),
    ("organization has been disabled", 401, None),
)
"""What Anthropic's API says only in words, under the type `invalid_request_error`: status and code that it stands for."""

_ELSEWHERE = "location is not supported"
"""In Google's words, with status 400: it does not serve the country that the call came from."""

_LESS_WOULD_DO = "fewer max_tokens"
"""In OpenRouter's words, with status 402: there is credit left, but not for an answer as long as this may become."""

_SECRET = re.compile(
    r"\b(?:sk|rk|gsk|xai|nvapi|pplx|csk|tgp|fw)[-_][A-Za-z0-9_*-]{8,}"
    r"|\bAIza[A-Za-z0-9_-]{20,}"
    r"|\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"
    r"|\b[Bb]earer +[^\s\"',;]{8,}"
)
"""What looks like a credential in a provider's text. It may be ours, and it is never the client's business (P8)."""


_NOTHING_THERE = re.compile(
    r"(?:(?:error )?404[: ]*)?(?:(?:the )?(?:requested )?(?:page|file|path|url|route|endpoint|resource) (?:was )?)?not found\.?",
    re.IGNORECASE,
)
"""How servers say that they have no such path, when they do not repeat it."""

_NOTHING_THERE_CODES = frozenset({"404", "not_found", "unknown_path", "unknown_url"})
_NOTHING_THERE_BYTES = 2000
"""Longest text, outside of JSON, that is looked at for it."""

_NAME = re.compile(r"[A-Za-z0-9_.\[\]:/-]{1,128}")

_UNEXPECTED = re.compile(r"Unexpected fields in the request: \{'([^']+)'")
"""How transformers serve names members that it does not know."""


DETAILED_BYTES = 16_384
"""Longest error body whose `details` are passed on."""


class _ErrorObject(msgspec.Struct):
    message: Any = None
    type: Any = None
    param: Any = None
    code: Any = None
    status: Any = None
    """Google's name of the kind of error."""
    details: Any = None
    """Google's further messages, each with its `@type`."""
    metadata: Any = None
    """OpenRouter's: who refused, and why."""
    page: bool = False
    """The body is a web page."""


_anything = jsonio.decoder(Any)


def from_status(status: int, body: bytes, provider: str, retry_after: float | None = None) -> errors.TidegateError:
    """The error for an answer with an error status (`faults.md`, header and status mapping)."""
    found = _read(body)
    if status == 400 and (
        not _CREDENTIAL.isdisjoint((str(found.code), str(found.type))) or _names_reason(found, "API_KEY_INVALID")
    ):
        status = 401
    error = _classify(status, found, provider, retry_after, f"Provider '{provider}' answered {status}")
    if isinstance(found.details, dict) and len(body) <= DETAILED_BYTES:
        error.details = found.details  # Anthropic's clients read in them how to go on
    return error


def lacks_path(body: bytes, path: str) -> bool:
    """Whether an answer with status 404 to a request for `path` says that the server has no such path, and not that the
    model is unknown."""
    found = _read(body)
    if found.code is not None and str(found.code) not in _NOTHING_THERE_CODES:
        return False
    said = found.message
    if said is None and len(body) <= _NOTHING_THERE_BYTES:
        said = body.decode("utf-8", "replace").strip()
    return isinstance(said, str) and (_NOTHING_THERE.fullmatch(said) is not None or path in said)


def from_error_object(value: bytes | msgspec.Raw, provider: str) -> errors.TidegateError:
    """The error for an error object that came with status 200: its code and type tell the status it stands for."""
    found = _read(b'{"error":%b}' % bytes(value))
    return _classify(_status_of(found), found, provider, None, f"Provider '{provider}' reported an error")


def from_body(body: bytes, provider: str) -> errors.TidegateError | None:
    """The error that a whole body with status 200 holds, as `from_error_object`; None where it holds none."""
    try:
        content = jsonio.decode(body, _anything)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None
    if isinstance(content, list) and content:  # Google's array of chunks
        content = content[0]
    if not isinstance(content, dict) or content.get("error") in (None, "", {}):
        return None
    found = _read(body)
    return _classify(_status_of(found), found, provider, None, f"Provider '{provider}' reported an error")


def no_stream(body: bytes, provider: str) -> errors.TidegateError:
    """The error for a whole body with status 200 where a stream was asked for: the one that it holds, or that it is none."""
    held = from_body(body, provider)
    if held is not None:
        return held
    said = f"Provider '{provider}' answered with a body that is no stream although one was asked for"
    text = _text(_read(body).message)
    return errors.UpstreamBroken(f"{said}: {text}" if text else f"{said}.")


def _status_of(found: _ErrorObject) -> int:
    code = found.code
    if _names_reason(found, "API_KEY_INVALID"):
        return 401
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:
        return code
    if isinstance(found.status, str) and found.status in _STATUS_OF_RPC:
        return _STATUS_OF_RPC[found.status]
    if code is not None:
        known = _STATUS_OF_CODE.get(str(code))
        if known is not None:
            return known
        if isinstance(code, str) and code.isascii() and code.isdigit() and 400 <= int(code[:4]) < 600:
            return int(code[:4])
    return _STATUS_OF_TYPE.get(str(found.type), 500)


def _read(body: bytes) -> _ErrorObject:
    """Providers put the object under `error`, or send it bare, or in a list, or only a text under `error`, `message`
    or `detail`."""
    try:
        content = jsonio.decode(body, _anything)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return _ErrorObject(page=body.lstrip().startswith(b"<"))
    if isinstance(content, list) and content:
        content = content[0]
    if not isinstance(content, dict):
        return _ErrorObject(message=content if isinstance(content, str) else None)
    inner = content.get("error")
    if not isinstance(inner, dict):
        text = inner if isinstance(inner, str) and inner else _first(content, "message", "detail", "msg")
        inner = {**content, "message": text}
    found = _ErrorObject(
        message=_first(inner, "message", "detail", "msg", "error"),
        type=inner.get("type"),
        param=inner.get("param"),
        code=inner.get("code"),
        status=inner.get("status"),
        details=inner.get("details"),
        metadata=inner.get("metadata"),
    )
    if found.type == "error":  # the type of the event, not of the error
        found.type = None
    if isinstance(found.message, list):
        _read_details(found, found.message)
    elif found.param is None and isinstance(found.message, str) and (unexpected := _UNEXPECTED.match(found.message)):
        found.param = unexpected[1]
    return found


def _read_details(found: _ErrorObject, details: list[Any]) -> None:
    """FastAPI's `detail`: a list of `{"loc": ["body", "n"], "msg": "Extra inputs are not permitted"}`."""
    said = [one for one in details if isinstance(one, dict) and isinstance(one.get("msg"), str)]
    if not said:
        return
    found.message = "; ".join(one["msg"] for one in said)
    where = said[0].get("loc")
    if found.param is None and isinstance(where, list) and len(where) > 1:
        found.param = ".".join(str(step) for step in where[1:])
        found.message = f"{found.param}: {found.message}"


def _names_reason(found: _ErrorObject, reason: str) -> bool:
    """Whether one of Google's details (google.rpc.ErrorInfo) gives this reason."""
    return any(detail.get("reason") == reason for detail in _details(found))


def _retry_delay(found: _ErrorObject) -> float | None:
    """Seconds of google.rpc.RetryInfo."""
    for detail in _details(found):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and (seconds := _DURATION.fullmatch(delay)):
            return float(seconds[1])
    return None


def _details(found: _ErrorObject) -> list[dict[str, Any]]:
    return [one for one in found.details if isinstance(one, dict)] if isinstance(found.details, list) else []


def _first(content: dict[str, Any], *names: str) -> Any:
    return next((content[name] for name in names if content.get(name) not in (None, "", {})), None)


def _classify(
    status: int, found: _ErrorObject, provider: str, retry_after: float | None, subject: str
) -> errors.TidegateError:
    text = _text(found.message)
    if status == 400 and found.code is None and found.type == "invalid_request_error":
        status, found.code = next(((s, code) for words, s, code in _SAID if words in text), (status, None))
    code = found.code if isinstance(found.code, str) and not found.code.isdigit() and _is_name(found.code) else None
    param = found.param if isinstance(found.param, str) and _is_name(found.param) else None
    said = f"{subject}: {text}" if text else f"{subject}."
    if retry_after is None:
        retry_after = _retry_delay(found)
    if code is None and status == 400 and _TOO_LONG.search(text):
        code = "context_length_exceeded"
    if status == 400 and _ELSEWHERE in text:
        status = 403
    if status in (401, 403):
        return _refusal(status, found, text, provider)
    if status == 402 and _LESS_WOULD_DO not in text:
        return errors.UpstreamFailed(
            said, status=429, type="insufficient_quota", retryable=False, code="insufficient_quota"
        )
    if status == 429:
        if code in _FINAL_QUOTA or found.type == "insufficient_quota":
            return errors.UpstreamFailed(
                said, status=429, type="insufficient_quota", retryable=False, code=code or "insufficient_quota"
            )
        return errors.UpstreamRateLimited(said, param=param, code=code, retry_after=retry_after)
    if status in (408, 504):
        return errors.UpstreamTimeout(said, "provider")
    if status in (400, 404, 413, 422):
        known = isinstance(found.type, str) and found.type.endswith("_error") and found.type not in _ANTHROPICS
        return errors.UpstreamFailed(
            text or said,
            status=400 if status == 422 else status,
            type=found.type if known else "invalid_request_error",
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


def _refusal(status: int, found: _ErrorObject, text: str, provider: str) -> errors.TidegateError:
    """The provider's text may hold part of our credential ("Incorrect API key provided: sk-…"): it stays here."""
    match about(status, found.code, found.type, text, found.metadata, page=found.page):
        case "file":
            return errors.UpstreamFailed(
                f"Provider '{provider}' does not let the gateway's credential read a file that the request names (status "
                f"{status}).",
                status=404,
                type="invalid_request_error",
                retryable=False,
                code="file_not_found",
            )
        case "filter":
            why = reasons(text, found.metadata)
            return errors.UpstreamFailed(
                f"Provider '{provider}' does not let this request pass (status {status}){f': {why}' if why else ''}.",
                status=400,
                type="invalid_request_error",
                retryable=False,
                code="content_policy_violation",
            )
        case "model":
            return errors.UpstreamDenied(
                f"Provider '{provider}' does not let the gateway's credential use this model (status {status}).",
                "model",
            )
        case "place":
            return errors.UpstreamDenied(
                f"Provider '{provider}' does not serve the country or network that the gateway calls from (status "
                f"{status}).",
                "place",
            )
        case "account":
            return errors.UpstreamAuth(f"Provider '{provider}' refused the gateway's credential (status {status}).")


def _is_name(text: str) -> bool:
    """Whether `text` can be a code or the path of a member, and no message or credential."""
    return _NAME.fullmatch(text) is not None and _SECRET.search(text) is None


def _text(message: Any) -> str:
    if message is None:
        return ""
    try:
        text = message if isinstance(message, str) else jsonio.encode(message).decode()
    except RecursionError:
        return ""
    text = _SECRET.sub("[redacted]", text)
    return text if len(text) <= _MESSAGE_LIMIT else text[:_MESSAGE_LIMIT] + "…"
