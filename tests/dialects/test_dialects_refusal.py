"""What providers answer with 401, 402 and 403 is told apart: the account, one model, the place, the request alone.

The texts are those that users of the providers have met, with their ids replaced.
"""

import json
from typing import Any, NamedTuple

import pytest

from tidegate.dialects.failure import from_error_object, from_status
from tidegate.routing.retry import condition_of, verdict
from tidegate.wire import errors


class Case(NamedTuple):
    id: str
    status: int
    body: Any
    code: str
    verdict: str


def openai(message: str, code: str | None, kind: str = "invalid_request_error") -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def google(message: str, status: str, reason: str = "", code: int = 403) -> Any:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}]
    return {"error": {"code": code, "message": message, "status": status, **({"details": details} if reason else {})}}


def anthropic(kind: str, message: str) -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


ACCOUNT, DENIED, FILTER = "upstream_auth", "upstream_denied", "content_policy_violation"
CASES = [
    Case(
        "openai-key",
        401,
        openai("Incorrect API key provided: sk-proj-********Yx4A.", "invalid_api_key"),
        ACCOUNT,
        "credential",
    ),
    Case(
        "openai-member",
        401,
        openai("You must be a member of an organization to use the API", None),
        ACCOUNT,
        "credential",
    ),
    Case(
        "openai-model",
        403,
        openai("Project `proj_1` does not have access to model `gpt-4o-mini`", "model_not_found"),
        DENIED,
        "credential",
    ),
    Case(
        "openai-scopes",
        401,
        openai("You have insufficient permissions for this operation. Missing scopes: model.request.", None),
        DENIED,
        "credential",
    ),
    Case(
        "openai-country",
        403,
        openai(
            "Country, region, or territory not supported", "unsupported_country_region_territory", "request_forbidden"
        ),
        DENIED,
        "elsewhere",
    ),
    Case("anthropic-key", 401, anthropic("authentication_error", "invalid x-api-key"), ACCOUNT, "credential"),
    Case(
        "anthropic-model",
        403,
        anthropic("permission_error", "Your API key does not have permission to use the specified resource."),
        DENIED,
        "credential",
    ),
    Case(
        "anthropic-disabled",
        403,
        anthropic("permission_error", "This organization has been disabled."),
        ACCOUNT,
        "credential",
    ),
    Case(
        "anthropic-disabled-400",
        400,
        anthropic("invalid_request_error", "This organization has been disabled."),
        ACCOUNT,
        "credential",
    ),
    Case(
        "anthropic-country",
        403,
        {"error": {"type": "forbidden", "message": "Request not allowed"}},
        DENIED,
        "elsewhere",
    ),
    Case(
        "google-service",
        403,
        google(
            "Requests to this API generativelanguage.googleapis.com are blocked.",
            "PERMISSION_DENIED",
            "API_KEY_SERVICE_BLOCKED",
        ),
        ACCOUNT,
        "credential",
    ),
    Case(
        "google-suspended",
        403,
        google(
            "Permission denied: Consumer 'api_key:AIzaSy0' has been suspended.",
            "PERMISSION_DENIED",
            "CONSUMER_SUSPENDED",
        ),
        ACCOUNT,
        "credential",
    ),
    Case(
        "google-file",
        403,
        google("You do not have permission to access the File abc123 or it may not exist.", "PERMISSION_DENIED"),
        "file_not_found",
        "final",
    ),
    Case(
        "google-country",
        400,
        google("User location is not supported for the API use.", "FAILED_PRECONDITION", code=400),
        DENIED,
        "elsewhere",
    ),
    Case(
        "groq-model",
        403,
        openai(
            "The model `llama` is blocked at the organization level.",
            "model_permission_blocked_org",
            "permissions_error",
        ),
        DENIED,
        "credential",
    ),
    Case(
        "groq-restricted",
        400,
        openai("Organization has been restricted.", "organization_restricted"),
        ACCOUNT,
        "credential",
    ),
    Case(
        "xai-content",
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Content violates usage guidelines. Team: t-1, API key ID: k-1, Model: grok-4, "
            "Failed check: SAFETY_CHECK_TYPE_BIO",
        },
        FILTER,
        "final",
    ),
    Case(
        "xai-content-new",
        403,
        {"code": "permission-denied", "error": "Content violates usage guidelines. "},
        FILTER,
        "final",
    ),
    Case(
        "xai-team",
        403,
        {"code": "permission-denied", "error": "Access to the chat endpoint is denied"},
        ACCOUNT,
        "credential",
    ),
    Case(
        "openrouter-moderation",
        403,
        {
            "error": {
                "code": 403,
                "message": "openai/gpt-4o requires moderation on OpenAI. No credits were charged.",
                "metadata": {
                    "reasons": ["violence/graphic", "see https://x.example"],
                    "flagged_input": "…",
                    "provider_name": "OpenAI",
                },
            }
        },
        FILTER,
        "final",
    ),
    Case(
        "openrouter-guardrail",
        403,
        {"error": {"code": 403, "message": "Request blocked: prompt injection patterns detected"}},
        FILTER,
        "final",
    ),
    Case(
        "openrouter-key", 401, {"error": {"message": "No auth credentials found", "code": 401}}, ACCOUNT, "credential"
    ),
    Case(
        "openrouter-key-limit",
        403,
        {"error": {"message": "Key limit exceeded (total limit).", "code": 403}},
        ACCOUNT,
        "credential",
    ),
    Case(
        "openrouter-credits",
        402,
        {"error": {"message": "Insufficient credits. Add more using the settings.", "code": 402}},
        "insufficient_quota",
        "credential",
    ),
    Case(
        "openrouter-too-long",
        402,
        {
            "error": {
                "message": "This request requires more credits, or fewer max_tokens. You requested up to 32000.",
                "code": 402,
            }
        },
        "upstream_refused",
        "final",
    ),
    Case(
        "deepseek-balance",
        402,
        openai("Insufficient Balance", "invalid_request_error", "unknown_error"),
        "",
        "credential",
    ),
    Case(
        "alibaba-model",
        403,
        openai(
            "Access to model denied. Please make sure you are eligible for using the model.",
            "access_denied",
            "access_denied",
        ),
        DENIED,
        "credential",
    ),
    Case(
        "alibaba-free-tier",
        403,
        openai(
            "The free tier of the model has been exhausted.",
            "AllocationQuota.FreeTierOnly",
            "AllocationQuota.FreeTierOnly",
        ),
        DENIED,
        "credential",
    ),
    Case("nothing-said", 403, {}, ACCOUNT, "credential"),
]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_refusal_is_about_what_it_says(case: Case) -> None:
    error = from_status(case.status, json.dumps(case.body).encode(), "lab")
    assert error.code == (case.code or "insufficient_quota")
    assert verdict(error) == case.verdict
    if case.code in (ACCOUNT, DENIED, FILTER):
        assert error.message.startswith("Provider 'lab' ")
        for secret in ("sk-proj", "proj_1", "AIza", "t-1", "k-1", "x.example"):
            assert secret not in error.message
    if isinstance(error, errors.UpstreamDenied):
        assert (error.what == "place") == (case.verdict == "elsewhere")


@pytest.mark.parametrize(
    ("case", "named"), [("xai-content", "SAFETY_CHECK_TYPE_BIO"), ("openrouter-moderation", "violence/graphic")]
)
def test_a_filter_is_told_with_what_it_found_and_another_model_may_take_the_request(case: str, named: str) -> None:
    found = next(one for one in CASES if one.id == case)
    error = from_status(found.status, json.dumps(found.body).encode(), "lab")
    assert (error.http_status, error.openai_type) == (400, "invalid_request_error")
    assert error.message.endswith(f": {named}.")
    assert condition_of(error) == "content_filter"
    assert verdict(error, frozenset({"content_filter"})) == "elsewhere"


def test_a_web_page_comes_from_the_network_in_front_of_the_provider() -> None:
    page = b"\n<!doctype html><title>403</title>Sorry, you have been blocked"
    assert isinstance(from_status(403, page, "lab"), errors.UpstreamDenied)
    assert from_status(401, page, "lab").code == "upstream_auth"
    assert from_status(403, b"Forbidden", "lab").code == "upstream_auth"


def test_the_same_holds_inside_a_stream() -> None:
    told = b'{"code":403,"message":"Request blocked: prompt injection patterns detected"}'
    assert from_error_object(told, "lab").code == "content_policy_violation"
    told = (
        b'{"type":"permission_error","message":"Your API key does not have permission to use the specified resource."}'
    )
    assert isinstance(from_error_object(told, "lab"), errors.UpstreamDenied)
