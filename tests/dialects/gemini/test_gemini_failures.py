"""Error statuses of Google's API: what they mean for the client and for another attempt."""

import json
from typing import Any

import pytest

from tidegate.dialects.failure import from_status
from tidegate.wire.errors import TidegateError, UpstreamAuth, UpstreamFailed, UpstreamRateLimited


def answered(
    status: int, name: str, message: str = "it says why", *details: dict[str, Any], listed: bool = False
) -> TidegateError:
    body: Any = {"error": {"code": status, "message": message, "status": name, "details": list(details)}}
    return from_status(status, json.dumps([body] if listed else body).encode(), "google")


def test_a_wrong_key_is_ours_although_google_answers_400() -> None:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
    }
    error = answered(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", info)
    assert isinstance(error, UpstreamAuth)
    assert "API key" not in error.message


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("delay", "seconds"), [("17s", 17.0), ("0.25s", 0.25), ("soon", None), (5, None), ("1e9s", None)]
)
def test_the_wait_stands_in_the_details(delay: Any, seconds: float | None, listed: bool) -> None:
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    error = answered(429, "RESOURCE_EXHAUSTED", "quota", {"@type": "x"}, retry, listed=listed)
    assert isinstance(error, UpstreamRateLimited)
    assert error.retry_after == seconds


def test_a_header_wins_over_the_details() -> None:
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "9s"}]}}
    assert from_status(429, json.dumps(body).encode(), "google", 2.0).retry_after == 2.0


@pytest.mark.fault("FAULT-TYPED-400")
def test_a_context_that_is_too_long_has_its_code() -> None:
    error = answered(
        400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."
    )
    assert isinstance(error, UpstreamFailed)
    assert (error.http_status, error.code, error.may_retry) == (400, "context_length_exceeded", False)


@pytest.mark.parametrize("details", [None, 5, "x", [5, None, "x"], [{"reason": 5}], {"reason": "API_KEY_INVALID"}])
def test_odd_details_do_no_harm(details: Any) -> None:
    body = {"error": {"code": 400, "message": "m", "status": 5, "details": details}}
    assert from_status(400, json.dumps(body).encode(), "google").http_status == 400
