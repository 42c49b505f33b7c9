"""Errors of providers → the error tree: the same whether they come as a status or inside a stream."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.dialects import failure
from tidegate.dialects.failure import from_error_object, from_status
from tidegate.wire import errors


def from_body(status: int, content: Any) -> errors.TidegateError:
    return from_status(status, json.dumps(content).encode(), "lab")


def told(error: errors.TidegateError) -> tuple[type[errors.TidegateError], int, str, str | None, bool]:
    return type(error), error.http_status, error.openai_type, error.code, error.may_retry


FAILED = errors.UpstreamFailed

# status → class, status, type, code, may retry, of an error that says no more than its message
STATUSES: dict[int, tuple[Any, ...]] = {
    400: (FAILED, 400, "invalid_request_error", None, False),
    401: (errors.UpstreamAuth, 502, "server_error", "upstream_auth", False),
    402: (FAILED, 429, "insufficient_quota", "insufficient_quota", False),
    403: (errors.UpstreamAuth, 502, "server_error", "upstream_auth", False),
    404: (FAILED, 404, "invalid_request_error", "model_not_found", False),
    405: (FAILED, 502, "server_error", "upstream_refused", False),
    408: (errors.UpstreamTimeout, 504, "server_error", "upstream_timeout", True),
    409: (FAILED, 503, "server_error", "server_error", True),
    413: (FAILED, 413, "invalid_request_error", None, False),
    415: (FAILED, 502, "server_error", "upstream_refused", False),
    422: (FAILED, 400, "invalid_request_error", None, False),
    429: (errors.UpstreamRateLimited, 429, "rate_limit_error", "rate_limit_exceeded", True),
    500: (FAILED, 502, "server_error", "server_error", True),
    502: (FAILED, 502, "server_error", "server_error", True),
    503: (FAILED, 503, "server_error", "server_is_overloaded", True),
    504: (errors.UpstreamTimeout, 504, "server_error", "upstream_timeout", True),
    520: (FAILED, 502, "server_error", "server_error", True),
    529: (FAILED, 503, "server_error", "server_is_overloaded", True),
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_maps_to_an_error(status: int) -> None:
    error = from_body(status, {"error": {"message": "潮汐"}})
    assert told(error) == STATUSES[status]
    if status in (401, 403):
        assert "潮汐" not in error.message
    else:
        assert "潮汐" in error.message
    if status not in (400, 404, 413, 422):  # what the caller did wrong is told in the provider's own words
        assert error.message.startswith("Provider 'lab' ")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "body", [b"", b"<html><h1>Bad gateway</h1></html>", b"null", b"5", b"\xff", b"[]", b"{}", b"[" * 100_000]
)
def test_a_body_that_says_nothing_names_the_provider_and_the_status(status: int, body: bytes) -> None:
    error = from_status(status, body, "lab")
    if status == 403 and body.startswith(b"<"):  # no API writes web pages: the network in front of it does
        assert told(error) == (errors.UpstreamDenied, 502, "server_error", "upstream_denied", False)
    else:
        assert told(error) == STATUSES[status]
    assert "Provider 'lab'" in error.message
    assert str(status) in error.message


OBJECTS: dict[str, tuple[dict[str, Any], int]] = {
    "rate limit": ({"message": "x", "type": "requests", "code": "rate_limit_exceeded"}, 429),
    "rate limit by type": ({"message": "x", "type": "rate_limit_error", "code": None}, 429),
    "tokens": ({"message": "x", "type": "tokens", "code": None}, 429),
    "slow down": ({"message": "x", "type": None, "code": "slow_down"}, 429),
    "quota": ({"message": "x", "type": "insufficient_quota", "code": "insufficient_quota"}, 429),
    "credit": ({"message": "x", "type": None, "code": "credit_balance_exhausted"}, 429),
    "overloaded": ({"message": "x", "type": "service_unavailable_error", "code": "server_is_overloaded"}, 503),
    "overloaded by type": ({"message": "x", "type": "overloaded_error"}, 503),
    "server error": ({"message": "x", "type": "server_error", "code": "server_error"}, 500),
    "no word": ({"message": "x"}, 500),
    "key": ({"message": "x", "type": "invalid_request_error", "code": "invalid_api_key"}, 401),
    "permission": ({"message": "x", "type": "permission_error"}, 403),
    "context": (
        {"message": "x", "type": "invalid_request_error", "code": "context_length_exceeded", "param": "messages"},
        400,
    ),
    "prompt": ({"message": "x", "code": "invalid_prompt"}, 400),
    "image": ({"message": "x", "code": "image_too_large"}, 400),
    "model": ({"message": "x", "type": "invalid_request_error", "code": "model_not_found", "param": "model"}, 404),
    "not found": ({"message": "x", "type": "not_found_error"}, 404),
    "timeout": ({"message": "x", "type": "timeout_error"}, 504),
    "number": ({"message": "x", "code": 429}, 429),
    "digits": ({"message": "x", "code": "503"}, 503),
    "number that is no status": ({"message": "x", "code": 1234}, 500),
    "true": ({"message": "x", "code": True}, 500),
    "odd members": ({"message": {"a": 1}, "type": [], "code": {}, "param": 5}, 500),
}


@pytest.mark.fault("FAULT-IN-BAND")
@pytest.mark.parametrize(("content", "status"), OBJECTS.values(), ids=OBJECTS)
def test_an_error_in_a_stream_is_the_same_as_its_status(content: dict[str, Any], status: int) -> None:
    inside = from_error_object(json.dumps(content).encode(), "lab")
    outside = from_body(status, {"error": content})
    assert told(inside) == told(outside)
    assert inside.param == outside.param


@pytest.mark.parametrize(
    "code", ["insufficient_quota", "organization_spend_limit_exceeded", "organization_usage_limit_exceeded"]
)
def test_a_limit_that_waiting_does_not_lift_is_not_repeated(code: str) -> None:
    error = from_body(429, {"error": {"message": "x", "code": code}})
    assert told(error) == (FAILED, 429, "insufficient_quota", code, False)
    assert (b"x-should-retry", b"false") in error.headers()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"error": {"code": "rate_limit_exceeded", "message": "slow"}}, 429),
        ({"error": {"code": 503, "message": "busy"}}, 503),
        ([{"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}], 429),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, 503),
        ({"error": "out of breath"}, 502),
    ],
)
def test_an_error_in_a_body_of_a_success_is_the_same(content: Any, status: int) -> None:
    found = failure.from_body(json.dumps(content).encode(), "lab")
    assert found is not None
    assert found.http_status == status


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"[]", b'"error"', b'{"error":null}', b'{"choices":[]}'])
def test_a_body_without_an_error_holds_none(body: bytes) -> None:
    assert failure.from_body(body, "lab") is None


@pytest.mark.parametrize(("body", "said"), [(b'{"choices":[]}', "for."), (b'{"detail":"busy"}', "for: busy")])
def test_a_body_where_a_stream_was_asked_for_is_called_no_more_than_that(body: bytes, said: str) -> None:
    error = failure.no_stream(body, "lab")
    start = "Provider 'lab' answered with a body that is no stream although one was asked "
    assert error.message == start + said
    assert isinstance(error, errors.UpstreamBroken)
    assert failure.no_stream(b'{"error":{"message":"slow","code":429}}', "lab").http_status == 429


def test_a_rate_limit_keeps_its_retry_after() -> None:
    error = from_status(429, b"{}", "lab", 1.2)
    assert (b"retry-after", b"2") in error.headers()
    assert from_status(503, b"{}", "lab", 3).retry_after == 3


def test_what_the_caller_did_wrong_is_told_as_the_provider_told_it() -> None:
    error = from_body(
        400,
        {
            "error": {
                "message": "No such 潮",
                "type": "invalid_request_error",
                "param": "input[0]",
                "code": "invalid_value",
            }
        },
    )
    assert (error.message, error.param, error.code) == ("No such 潮", "input[0]", "invalid_value")
    assert from_body(400, {"error": {"message": "x", "type": "BadRequestError"}}).openai_type == "invalid_request_error"


SHAPES: dict[str, Any] = {
    "nested": {"error": {"message": "坏"}},
    "text": {"error": "坏"},
    "bare": {"message": "坏"},
    "detail": {"detail": "坏"},
    "msg": {"error": {"msg": "坏"}},
    "flag beside": {"error": True, "message": "坏"},
    "list": [{"error": {"message": "坏", "status": "INVALID_ARGUMENT"}}],
    "object error": {"object": "error", "message": "坏", "type": "BadRequestError", "code": 400},
    "nested detail": {"error": {"detail": "坏", "message": None}},
    "fastapi": {"detail": [{"type": "extra_forbidden", "loc": ["body", "n"], "msg": "坏", "input": 2}]},
    "a text": "坏",
}


@pytest.mark.parametrize("content", SHAPES.values(), ids=SHAPES)
def test_the_message_is_found_wherever_it_stands(content: Any) -> None:
    error = from_body(422, content)
    assert error.message.removeprefix("n: ") == "坏"
    assert error.http_status == 400


def test_a_validation_error_names_the_member() -> None:
    error = from_body(422, SHAPES["fastapi"])
    assert (error.param, error.message) == ("n", "n: 坏")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_credential_is_ours_and_stays_here(status: int) -> None:
    error = from_body(
        status, {"error": {"message": "Incorrect API key provided: sk-pro*****abcd", "code": "invalid_api_key"}}
    )
    assert "sk-" not in error.body().decode()
    assert error.message == f"Provider 'lab' refused the gateway's credential (status {status})."


def test_a_wrong_key_is_a_wrong_key_under_status_400_too() -> None:
    error = from_body(400, {"error": {"message": "API key not valid: AIza" + "x" * 30, "code": "invalid_api_key"}})
    assert isinstance(error, errors.UpstreamAuth)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdEFGH1234",
        "gsk_0123456789abcdef",
        "xai-0123456789ab",
        "AIza" + "Sy" * 17,
        "Bearer abcdefgh.1234",
        "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0",
    ],
)
@pytest.mark.parametrize("status", [400, 402, 404, 429, 500, 503])
def test_what_looks_like_a_credential_never_leaves(secret: str, status: int) -> None:
    error = from_body(status, {"error": {"message": f"The key {secret} has no access to 潮汐."}})
    assert secret not in error.message
    assert "[redacted]" in error.message
    assert "has no access to 潮汐." in error.message


def test_ordinary_words_are_no_credentials() -> None:
    said = "Invalid value for 'sk': see https://example.com/task-force, max_tokens, risk-averse, bearer of news"
    assert from_body(400, {"error": {"message": said}}).message == said


def test_a_long_message_is_cut() -> None:
    assert len(from_body(500, {"error": {"message": "x" * 100_000}}).message) < 2100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "type", "code", "param", "detail", "loc", "msg"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@given(status=st.integers(300, 599), content=JSON)
@settings(max_examples=100, deadline=None)
def test_any_body_makes_an_error_that_can_be_told(status: int, content: Any) -> None:
    body = json.dumps(content).encode()
    for error in (from_status(status, body, "lab"), from_error_object(body, "lab")):
        assert set(json.loads(error.body())["error"]) == {"message", "type", "param", "code"}
        assert 400 <= error.http_status < 600
