"""Errors that a provider of one API gives to a client of another one: in the client's terms, or in none."""

import json
from typing import Any

import pytest

from tests.dialects.test_round_trips import read
from tidegate.dialects.completions import CompletionsDialect
from tidegate.dialects.dialect import Endpoint
from tidegate.dialects.terms import in_clients_terms
from tidegate.wire.errors import UpstreamFailed
from tidegate.wire.items import CanonicalRequest

FUNCTION = {"name": "f", "parameters": {"type": "object"}}
ASKED: dict[str, dict[str, Any]] = {
    "responses": {
        "input": "x",
        "instructions": "i",
        "tools": [{"type": "function", **FUNCTION}],
        "text": {"format": {"type": "json_object"}},
        "temperature": 0,
    },
    "chat": {
        "messages": [{"role": "user", "content": "x"}],
        "reasoning_effort": "low",
        "tools": [{"type": "function", "function": FUNCTION}],
        "response_format": {"type": "json_object"},
        "max_tokens": 5,
    },
    "messages": {
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 2000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["."],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    },
    "gemini": {"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"topP": 0.5}},
}


def asked_by(client: str) -> CanonicalRequest:
    if client == "completions":
        return CompletionsDialect().parse(b'{"model":"m","prompt":"x","logprobs":0}').canonical()
    given = ASKED[client] if client == "gemini" else {"model": "m", **ASKED[client]}
    return read(client, json.dumps(given).encode())


def told(client: str, provider: Endpoint, param: str | None, message: str = "No.") -> tuple[str | None, str]:
    error = UpstreamFailed(message, status=400, type="invalid_request_error", retryable=False, param=param)
    in_clients_terms(error, provider, asked_by(client))
    return error.param, error.message


@pytest.mark.parametrize(
    ("client", "provider", "theirs", "ours"),
    [
        ("chat", "responses", "input[2].content", "messages"),
        ("chat", "responses", "reasoning.effort", "reasoning_effort"),
        ("chat", "responses", "text.format.schema", "response_format"),
        ("chat", "responses", "max_output_tokens", "max_tokens"),
        ("chat", "responses", "tools[0].parameters", "tools"),
        ("completions", "responses", "input[0]", "prompt"),
        ("completions", "chat", "top_logprobs", "logprobs"),
        ("messages", "responses", "reasoning.effort", "thinking.budget_tokens"),
        ("messages", "chat", "stop", "stop_sequences"),
        ("messages", "chat", "reasoning_effort", "thinking.budget_tokens"),
        ("gemini", "chat", "top_p", "generationConfig.topP"),
        ("gemini", "responses", "input", "contents"),
        ("responses", "chat", "response_format", "text.format"),
        ("responses", "chat", "temperature", "temperature"),
    ],
)
def test_the_member_has_the_clients_name(client: str, provider: Endpoint, theirs: str, ours: str) -> None:
    param, message = told(client, provider, theirs)
    assert param == ours
    assert message == ("No." if theirs == ours else f"No. (The provider says so of '{theirs}'.)")


@pytest.mark.parametrize(
    ("client", "provider", "theirs"),
    [
        ("chat", "responses", "temperature"),  # not what this client has asked for
        ("chat", "responses", "reasoning"),
        ("chat", "responses", "include[0]"),
        ("responses", "chat", "messages[0].content"),  # the input, or the instructions
        ("responses", "chat", "logit_bias"),
        ("chat", "messages", "messages"),
        ("chat", "gemini", "contents"),
    ],
)
def test_a_member_that_nobody_can_be_certain_of_has_none(client: str, provider: Endpoint, theirs: str) -> None:
    assert told(client, provider, theirs) == (None, f"No. (The provider says so of '{theirs}'.)")


def test_words_that_say_it_already_stay_as_they_are() -> None:
    said = "Invalid value: 'input[2].content'."
    assert told("chat", "responses", "input[2].content", said) == ("messages", said)


def test_a_client_whose_errors_name_no_member_finds_its_name_in_the_message() -> None:
    """Anthropic's errors have a type and a message, and nothing else (https://platform.claude.com/docs/en/api/errors)."""
    said = "Unsupported value: use 1 alone."
    assert told("messages", "chat", "tools", said) == ("tools", f"{said} (The provider says so of 'tools'.)")
    named = "Unsupported value of 'tools'."
    assert told("messages", "chat", "tools", named)[1] == named
    assert told("responses", "chat", "tools", said) == ("tools", said)


def test_only_a_word_of_its_own_names_a_member() -> None:
    assert told("messages", "chat", "n", "Not in range.")[1] == "Not in range. (The provider says so of 'n'.)"
    assert told("messages", "chat", "n", "n: not in range.")[1] == "n: not in range."
    assert told("chat", "responses", "input", "The input_image is none.")[1].endswith(
        "(The provider says so of 'input'.)"
    )
    assert told("chat", "responses", "input[0]", "Invalid 'input[0]'.")[1] == "Invalid 'input[0]'."


def test_an_error_about_no_member_and_one_of_the_clients_own_api_stay_as_they_are() -> None:
    assert told("chat", "responses", None) == (None, "No.")
    assert told("chat", "chat", "messages[2].content") == ("messages[2].content", "No.")
