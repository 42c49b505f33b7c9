"""A provider that pauses in the middle of its own work (Anthropic's `pause_turn`), and clients that have no word for it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api import read_frames
from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.running import Running
from tests.support.strict import check_event
from tidegate.dialects.bridge import MOST_PAUSES

PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "tides"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "note", "input": {"a": 1}}
FIRST: list[dict[str, Any]] = [{"type": "text", "text": "I look. "}, SEARCH]
SECOND: list[dict[str, Any]] = [FOUND, {"type": "text", "text": "It is high."}, CALL]
NOTE: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}


FUNCTION = {"type": "function", "name": "note", "parameters": NOTE}
BODIES: dict[str, dict[str, Any]] = {
    "responses": {"input": "?", "tools": [{"type": "web_search"}, FUNCTION]},
    "chat": {
        "messages": [{"role": "user", "content": "?"}],
        "web_search_options": {},
        "tools": [{"type": "function", "function": FUNCTION}],
    },
    "gemini": {
        "contents": [{"parts": [{"text": "?"}]}],
        "tools": [{"googleSearch": {}}, {"functionDeclarations": [{"name": "note"}]}],
    },
}


def turn(content: list[dict[str, Any]], reason: str, *, stream: bool) -> bytes:
    whole = {"type": "message", "id": "msg_1", "role": "assistant", "model": "m", "content": content}
    usage = {"input_tokens": 10, "cache_read_input_tokens": 2, "output_tokens": 5}
    if not stream:
        return json_answer({**whole, "stop_reason": reason, "usage": usage})

    def frames() -> Iterator[dict[str, Any]]:
        yield {"type": "message_start", "message": {**whole, "content": [], "usage": {**usage, "output_tokens": 1}}}
        for index, block in enumerate(content):
            yield {"type": "content_block_start", "index": index, "content_block": block}
            yield {"type": "content_block_stop", "index": index}
        yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}}
        yield {"type": "message_stop"}

    return sse_answer(*frames(), named=True)


class Asked:
    """One question to a provider that gives `answers` in turn."""

    def __init__(self, client: str, *answers: bytes, stream: bool) -> None:
        with (
            Canned(*answers) as provider,
            Running(
                "[server]\nport = 0\n"
                + provider.toml(kind="anthropic", more='credentials = ["k-0123456789abcdef0123456789"]')
            ) as gateway,
        ):
            body = BODIES[client]
            path = PATHS.get(client)
            if path is None:
                method = "streamGenerateContent?alt=sse" if stream else "generateContent"
                path = f"/v1beta/models/canned/m:{method}"
            else:
                body = {**body, "model": "canned/m", "stream": stream}
            self.answer = httpx.post(gateway.origin + path, json=body, timeout=20, trust_env=False)
            self.requests = list(provider.requests)
            self.usage = gateway.usage(self.answer.headers["x-request-id"])
        if stream and self.answer.status_code == 200:
            frames = [frame for frame in read_frames(self.answer.content) if frame.data]
            self.events = [frame.json for frame in frames if frame.data != b"[DONE]"]


BOTH = pytest.mark.parametrize("stream", [False, True])
CLIENTS = pytest.mark.parametrize("client", ["responses", "chat", "gemini"])


@BOTH
@CLIENTS
def test_the_provider_goes_on_and_the_client_sees_one_answer(client: str, stream: bool) -> None:
    asked = Asked(
        client, turn(FIRST, "pause_turn", stream=stream), turn(SECOND, "tool_use", stream=stream), stream=stream
    )
    assert asked.answer.status_code == 200, asked.answer.text
    first, second = asked.requests
    assert second["messages"] == [*first["messages"], {"role": "assistant", "content": FIRST}]
    assert {**second, "messages": []} == {**first, "messages": []}
    match client:
        case "responses":
            response = asked.events[-1]["response"] if stream else asked.answer.json()
            for event in asked.events if stream else ():
                check_event(event)
            assert response["status"] == "completed"
            kinds = [item["type"] for item in response["output"]]
            assert kinds == ["message", "web_search_call", "message", "function_call"]
            assert [response["output"][place]["content"][0]["text"] for place in (0, 2)] == ["I look. ", "It is high."]
            assert (response["usage"]["input_tokens"], response["usage"]["output_tokens"]) == (24, 10)
            assert response["usage"]["input_tokens_details"]["cached_tokens"] == 4
        case "chat" if stream:
            choices = [choice for event in asked.events for choice in event["choices"]]
            assert "".join(choice["delta"].get("content") or "" for choice in choices) == "I look. It is high."
            assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["tool_calls"]
            assert asked.answer.text.endswith("data: [DONE]\n\n")
        case "chat":
            (choice,) = asked.answer.json()["choices"]
            assert choice["message"]["content"] == "I look. It is high."
            assert choice["finish_reason"] == "tool_calls"
        case _:
            found = asked.events if stream else [asked.answer.json()]
            parts = [part for one in found for part in one["candidates"][0]["content"]["parts"]]
            assert "".join(part.get("text", "") for part in parts) == "I look. It is high."
            assert [part["functionCall"]["name"] for part in parts if "functionCall" in part] == ["note"]
    assert asked.answer.headers["tidegate-attempts"] == "1"
    assert (asked.usage["input_tokens"], asked.usage["output_tokens"], asked.usage["ending"]) == (24, 10, "completed")


@BOTH
@CLIENTS
def test_an_answer_that_pauses_without_end_is_not_a_finished_one(client: str, stream: bool) -> None:
    asked = Asked(client, turn(FIRST, "pause_turn", stream=stream), stream=stream)
    assert len(asked.requests) == MOST_PAUSES + 1
    last = asked.requests[-1]["messages"][-1]
    assert last["role"] == "assistant"
    assert len(last["content"]) == MOST_PAUSES * len(FIRST)
    match client:
        case "responses":
            response = asked.events[-1]["response"] if stream else asked.answer.json()
            assert response["status"] == "incomplete"
            assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        case "chat":
            found = asked.events if stream else [asked.answer.json()]
            reasons = [choice["finish_reason"] for one in found for choice in one["choices"]]
            assert [reason for reason in reasons if reason] == ["length"]
        case _:
            last = asked.events[-1] if stream else asked.answer.json()
            assert last["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert asked.usage["ending"] == "incomplete"
    calls = MOST_PAUSES + 1
    assert (asked.usage["input_tokens"], asked.usage["output_tokens"]) == (12 * calls, 5 * calls), "of all calls"


@BOTH
def test_a_provider_that_does_not_go_on_has_failed(stream: bool) -> None:
    refusal = json_answer({"type": "error", "error": {"type": "api_error", "message": "no"}}, "500 Oops")
    asked = Asked("responses", turn(FIRST, "pause_turn", stream=stream), refusal, stream=stream)
    if stream:
        assert asked.events[-1]["type"] == "response.failed"
    else:
        assert asked.answer.status_code >= 500
    assert asked.usage["ending"] == "failed"
    assert json.dumps(asked.requests[1]["messages"]).count("I look.") == 1
