"""Histories of interrupted turns that no provider takes: each client is told in the words of its own API."""

import json
from typing import Any, Final

import pytest

from tests.dialects.test_round_trips import TARGETS, UPSTREAMS, read
from tidegate.dialects.codec import Losses
from tidegate.wire.errors import InvalidRequest

Members = dict[str, Any]


def chat_call(name: str) -> Members:
    return {"id": name, "type": "function", "function": {"name": "tide", "arguments": "{}"}}


def tool_use(name: str) -> Members:
    return {"type": "tool_use", "id": name, "name": "tide", "input": {}}


CALL: Final[Members] = {"type": "function_call", "name": "tide", "arguments": "{}"}
OUTPUT: Final[Members] = {"type": "function_call_output", "output": "high"}
USER: Final[Members] = {"role": "user", "content": "stop"}
ASKED: Final[Members] = {"role": "user", "parts": [{"text": "?"}]}
ANSWERED: Final[Members] = {"functionResponse": {"name": "tide", "response": {"output": "high"}}}
STRANGE: Final[Members] = {"functionResponse": {"id": "b", "name": "tide", "response": {"output": "high"}}}
CALLED: Final[Members] = {"functionCall": {"name": "tide", "args": {}}}

ONE_OF_TWO: Final[dict[str, Members]] = {
    "responses": {"input": [USER, {**CALL, "call_id": "a"}, {**CALL, "call_id": "b"}, {**OUTPUT, "call_id": "a"}, USER]},
    "chat": {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [chat_call("a"), chat_call("b")]},
            {"role": "tool", "tool_call_id": "a", "content": "high"},
            USER,
        ]
    },
    "messages": {
        "max_tokens": 9,
        "messages": [
            USER,
            {"role": "assistant", "content": [tool_use("a"), tool_use("b")]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}, {"type": "text", "text": "stop"}]},
        ],
    },
    "gemini": {"contents": [ASKED, {"role": "model", "parts": [CALLED, CALLED]}, {"role": "user", "parts": [ANSWERED, {"text": "stop"}]}]},
}  # fmt: skip
"""A user who speaks when one of two calls has its result."""

STRAY: Final[dict[str, Members]] = {
    "responses": {"input": [USER, {**OUTPUT, "call_id": "b"}]},
    "chat": {"messages": [USER, {"role": "tool", "tool_call_id": "b", "content": "high"}]},
    "messages": {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "b"}]}]},
    "gemini": {"contents": [ASKED, {"role": "model", "parts": [{"text": "a"}]}, {"role": "user", "parts": [STRANGE]}]},
}  # fmt: skip
"""A result whose call is not there, as after a history that was cut at the wrong place."""

WORDS: Final = {
    "responses": ("No tool output found for function call b.", "No tool call found for function call output with call_id b."),
    "chat": (
        "The following tool_call_ids did not have response messages: b",
        "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
    ),
    "messages": (
        "`tool_use` ids were found without `tool_result` blocks immediately after: b.",
        "unexpected `tool_use_id` found in `tool_result` blocks: b.",
    ),
    "gemini": ("number of function response parts is equal to the number", "immediately after a function call turn"),
}  # fmt: skip
PARAMS: Final = {"responses": "input", "chat": "messages", "messages": "messages", "gemini": "contents"}


def written(client: str, members: Members, target: str) -> bytes:
    """What the provider would get."""
    request = read(client, json.dumps({"model": "m", **members}).encode())
    return UPSTREAMS[target].encode_request(request, TARGETS[target], Losses(request, TARGETS[target], allowed=False))


@pytest.mark.parametrize("which", [0, 1], ids=["unanswered", "uncalled"])
@pytest.mark.parametrize("target", ["chat", "messages", "gemini"])
@pytest.mark.parametrize("client", WORDS)
def test_a_client_reads_the_words_of_its_own_api(client: str, target: str, which: int) -> None:
    members = (ONE_OF_TWO, STRAY)[which][client]
    with pytest.raises(InvalidRequest) as found:
        written(client, members, target)
    assert WORDS[client][which] in found.value.message
    assert found.value.param == PARAMS[client]
    assert found.value.http_status == 400
