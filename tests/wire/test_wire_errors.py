"""The error tree: what every class fixes, and how it is told."""

import json
from collections.abc import Iterator

import pytest

from tidegate.wire import errors

# class → status, type, code, Anthropic's type, may retry, whose fault
TABLE: dict[str, tuple[int, str, str | None, str, bool, str]] = {
    "TidegateError": (500, "server_error", None, "api_error", False, "gateway"),
    "CallerError": (400, "invalid_request_error", None, "invalid_request_error", False, "caller"),
    "InvalidRequest": (400, "invalid_request_error", None, "invalid_request_error", False, "caller"),
    "UnsupportedParameter": (
        400,
        "invalid_request_error",
        "unsupported_parameter",
        "invalid_request_error",
        False,
        "caller",
    ),
    "AmbiguousRequest": (400, "invalid_request_error", "ambiguous_request", "invalid_request_error", False, "caller"),
    "InvalidKey": (401, "invalid_request_error", "invalid_api_key", "authentication_error", False, "caller"),
    "Forbidden": (403, "invalid_request_error", "forbidden", "permission_error", False, "caller"),
    "NotFound": (404, "invalid_request_error", "not_found", "not_found_error", False, "caller"),
    "ModelNotFound": (404, "invalid_request_error", "model_not_found", "not_found_error", False, "caller"),
    "MethodNotAllowed": (405, "invalid_request_error", "method_not_allowed", "invalid_request_error", False, "caller"),
    "RequestTimeout": (408, "invalid_request_error", "request_timeout", "timeout_error", False, "caller"),
    "Conflict": (409, "invalid_request_error", "conflict", "invalid_request_error", False, "caller"),
    "BodyTooLarge": (413, "invalid_request_error", "body_too_large", "request_too_large", False, "caller"),
    "TargetTooLong": (414, "invalid_request_error", "target_too_long", "invalid_request_error", False, "caller"),
    "UnsupportedEncoding": (
        415,
        "invalid_request_error",
        "unsupported_content_encoding",
        "invalid_request_error",
        False,
        "caller",
    ),
    "ExpectationFailed": (417, "invalid_request_error", "expectation_failed", "invalid_request_error", False, "caller"),
    "UpgradeRefused": (426, "invalid_request_error", "websocket_not_offered", "invalid_request_error", False, "caller"),
    "WebSocketVersion": (
        426,
        "invalid_request_error",
        "websocket_version_not_supported",
        "invalid_request_error",
        False,
        "caller",
    ),
    "QueueFull": (429, "invalid_request_error", "too_many_pending_requests", "rate_limit_error", False, "caller"),
    "IdempotencyConflict": (
        422,
        "invalid_request_error",
        "idempotency_key_reused",
        "invalid_request_error",
        False,
        "caller",
    ),
    "StorageQuotaExceeded": (
        429,
        "insufficient_quota",
        "storage_quota_exceeded",
        "invalid_request_error",
        False,
        "caller",
    ),
    "RateLimited": (429, "requests", "rate_limit_exceeded", "rate_limit_error", False, "caller"),
    "BudgetExhausted": (429, "insufficient_quota", "insufficient_quota", "rate_limit_error", False, "caller"),
    "CostUnbounded": (403, "invalid_request_error", "cost_unbounded", "permission_error", False, "caller"),
    "LimitsUnavailable": (503, "server_error", "limits_unavailable", "overloaded_error", True, "gateway"),
    "TooManyFailures": (429, "rate_limit_error", "too_many_unknown_keys", "rate_limit_error", False, "caller"),
    "HeadersTooLarge": (431, "invalid_request_error", "headers_too_large", "invalid_request_error", False, "caller"),
    "ClientGone": (499, "invalid_request_error", "client_gone", "invalid_request_error", False, "caller"),
    "Cancelled": (499, "invalid_request_error", "cancelled", "invalid_request_error", False, "caller"),
    "ProviderError": (502, "server_error", None, "api_error", True, "provider"),
    "UpstreamUnreachable": (502, "server_error", "upstream_unreachable", "api_error", True, "provider"),
    "UpstreamBroken": (502, "server_error", "upstream_broken", "api_error", True, "provider"),
    "UpstreamRedirected": (502, "server_error", "upstream_broken", "api_error", True, "provider"),
    "UpstreamAuth": (502, "server_error", "upstream_auth", "api_error", False, "provider"),
    "UpstreamDenied": (502, "server_error", "upstream_denied", "api_error", False, "provider"),
    "UpstreamFailed": (502, "server_error", "server_error", "api_error", True, "provider"),
    "UpstreamRateLimited": (429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error", True, "provider"),
    "UpstreamTimeout": (504, "server_error", "upstream_timeout", "timeout_error", True, "provider"),
    "GatewayError": (500, "server_error", None, "api_error", False, "gateway"),
    "Internal": (500, "server_error", "internal_error", "api_error", False, "gateway"),
    "ShuttingDown": (503, "server_error", "gateway_shutting_down", "api_error", True, "gateway"),
    "OwnerSilent": (503, "server_error", "owner_silent", "overloaded_error", True, "gateway"),
    "StorageUnavailable": (503, "server_error", "storage_unavailable", "overloaded_error", True, "gateway"),
    "Overloaded": (503, "server_error", "gateway_overloaded", "overloaded_error", True, "gateway"),
    "InsufficientStorage": (507, "server_error", "insufficient_storage", "api_error", False, "gateway"),
}


def tree(root: type[errors.TidegateError] = errors.TidegateError) -> Iterator[type[errors.TidegateError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


CLASSES = {one.__name__: one for one in tree()}


def make(name: str) -> errors.TidegateError:
    match name:
        case "UpstreamFailed":
            return errors.UpstreamFailed("no", status=502, type="server_error", retryable=True, code="server_error")
        case "UpstreamTimeout":
            return errors.UpstreamTimeout("no", "idle")
        case "UpstreamDenied":
            return errors.UpstreamDenied("no", "model")
        case "MethodNotAllowed":
            return errors.MethodNotAllowed("no", "GET, HEAD")
        case "RateLimited":
            return errors.RateLimited("no", kind="requests", fields=b"")
        case "BudgetExhausted":
            return errors.BudgetExhausted("no", fields=b"")
        case _:
            return CLASSES[name]("no")


def test_the_table_has_every_class() -> None:
    assert CLASSES.keys() == TABLE.keys()


@pytest.mark.parametrize("name", TABLE)
def test_a_class_fixes_what_its_errors_say(name: str) -> None:
    error = make(name)
    found = (error.http_status, error.openai_type, error.code, error.anthropic_type, error.may_retry, error.fault)
    assert found == TABLE[name]


@pytest.mark.parametrize("name", TABLE)
def test_every_class_is_exported_and_documented(name: str) -> None:
    assert name in errors.__all__
    assert CLASSES[name].__doc__
    assert errors.__doc__ is not None
    assert f" {name} " in errors.__doc__.replace("\n", " ") or name in ("TidegateError",)


@pytest.mark.parametrize("name", TABLE)
def test_a_body_always_has_the_four_keys(name: str) -> None:
    content = json.loads(make(name).body())
    assert list(content) == ["error"]
    assert list(content["error"]) == ["message", "type", "param", "code"]
    assert content["error"]["message"] == "no"


def test_the_caller_reads_message_param_and_code() -> None:
    error = errors.InvalidRequest("“潮” is wrong", param="input[0].role", code="invalid_value")
    assert json.loads(error.body())["error"] == {
        "message": "“潮” is wrong",
        "type": "invalid_request_error",
        "param": "input[0].role",
        "code": "invalid_value",
    }


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, b"0"),
        (0.1, b"1"),
        (1, b"1"),
        (1.0, b"1"),
        (1.001, b"2"),
        (59.5, b"60"),
        (-3, b"0"),
        (-0.5, b"0"),
        (1e9, b"1000000000"),
    ],
)
def test_retry_after_is_in_whole_seconds_and_never_too_short(seconds: float, told: bytes) -> None:
    assert (b"retry-after", told) in errors.UpstreamRateLimited("no", retry_after=seconds).headers()


@pytest.mark.parametrize("seconds", [None, float("nan"), float("inf")])
def test_without_a_number_of_seconds_there_is_no_retry_after(seconds: float | None) -> None:
    assert b"retry-after" not in dict(errors.Overloaded("no", retry_after=seconds).headers())


@pytest.mark.parametrize("name", TABLE)
def test_clients_are_kept_from_repeating_what_cannot_get_better(name: str) -> None:
    error = make(name)
    kept = dict(error.headers()).get(b"x-should-retry")
    repeated = error.http_status in (409, 429) or error.http_status >= 500  # by the official SDKs, of their own accord
    assert kept == (b"false" if repeated and not error.may_retry else None)


def test_clients_are_kept_from_repeating_a_call_over_an_exhausted_quota() -> None:
    error = errors.UpstreamFailed("no", status=429, type="insufficient_quota", retryable=False)
    assert dict(error.headers()) == {b"x-should-retry": b"false"}


def test_headers_that_the_status_asks_for() -> None:
    assert (b"www-authenticate", b"Bearer") in errors.InvalidKey("no").headers()
    assert (b"allow", b"GET, HEAD") in errors.MethodNotAllowed("no", "GET, HEAD").headers()
