"""A search of the web that the provider runs: offered in every dialect, and shown in the client's."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conformance.providers import ECHO, SPEAKS, TOML, calls_of
from tests.support.api import read_frames
from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.running import Running
from tests.support.strict import check_event

PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "messages": "/v1/messages"}
PLACE = {"type": "approximate", "city": "Kiel"}
OFFERS: dict[str, dict[str, Any]] = {
    "responses": {"input": "?", "tools": [{"type": "web_search", "user_location": PLACE}]},
    "chat": {
        "messages": [{"role": "user", "content": "?"}],
        "web_search_options": {"user_location": {"type": "approximate", "approximate": {"city": "Kiel"}}},
    },
    "messages": {
        "messages": [{"role": "user", "content": "?"}],
        "max_tokens": 100,
        "tools": [{"type": "web_search_20260209", "name": "web_search", "user_location": PLACE}],
        "tool_choice": {"type": "tool", "name": "web_search"},
    },
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "?"}]}], "tools": [{"googleSearch": {}}]},
}
LEFT_OUT = {
    "responses": "tools.web_search",
    "messages": "tools.web_search_20260209",
    "gemini": "tools.googleSearch",
}
GEMINI: dict[str, Any] = {
    "candidates": [
        {
            "index": 0,
            "content": {"role": "model", "parts": [{"text": "潮 is high."}]},
            "finishReason": "STOP",
            "groundingMetadata": {
                "webSearchQueries": ["tides"],
                "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
                "groundingSupports": [
                    {"segment": {"startIndex": 0, "endIndex": 3}, "groundingChunkIndices": [0]},
                ],
            },
        }
    ],
    "responseId": "r1",
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
}
FOUND = [{"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "ZW5j"}]
CITATION = {
    "type": "web_search_result_location",
    "url": "https://a.example",
    "title": "A",
    "cited_text": "high",
    "encrypted_index": "aW5k",
}
ANTHROPIC: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "tides"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": FOUND},
        {"type": "text", "text": "潮 is high.", "citations": [CITATION]},
    ],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


def ask(gateway: Running, client: str, model: str, body: dict[str, Any]) -> httpx.Response:
    path = f"/v1beta/models/{model}:generateContent" if client == "gemini" else PATHS[client]
    return httpx.post(gateway.origin + path, json={"model": model, **body}, timeout=20, trust_env=False)


@pytest.mark.parametrize("provider", SPEAKS)
@pytest.mark.parametrize("client", OFFERS)
def test_a_search_is_offered_as_the_provider_has_it(gateway: Running, client: str, provider: str) -> None:
    if SPEAKS[provider] == client:
        return
    body = OFFERS[client]
    if SPEAKS[provider] == "chat" and client == "messages":
        assert ask(gateway, client, ECHO[provider], body).status_code == 400, "a search that is not there is forced"
        body = {**body, "tool_choice": {"type": "auto"}}
    answer = ask(gateway, client, ECHO[provider], body)
    assert answer.status_code == 200, answer.text
    sent = calls_of(gateway)[-1].json
    dropped = answer.headers.get("tidegate-dropped", "").split(", ")
    place = {} if client == "gemini" else {"user_location": PLACE}
    match SPEAKS[provider]:
        case "responses":
            assert sent["tools"] == [{"type": "web_search", **place}]
            assert sent.get("tool_choice") == ({"type": "web_search"} if client == "messages" else None)
        case "chat":
            assert "tools" not in sent
            assert LEFT_OUT[client] in dropped
        case "messages":
            assert sent["tools"] == [{"type": "web_search_20250305", "name": "web_search", **place}]
        case "gemini":
            assert sent["tools"] == [{"googleSearch": {}}]
            assert "user_location" in dropped[0]


@pytest.mark.parametrize("kind", ["gemini", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_responses_client_sees_the_search_and_its_sources(kind: str, stream: bool) -> None:
    answer = {"gemini": GEMINI, "anthropic": ANTHROPIC}[kind]
    credentials = 'credentials = ["k-0123456789abcdef0123456789"]'
    canned = sse_answer(answer) if stream and kind == "gemini" else json_answer(answer)
    if stream and kind == "anthropic":
        canned = sse_answer(*anthropic_frames(), named=True)
    plain = json_answer({**ANTHROPIC, "content": [{"type": "text", "text": "ok"}]})
    with (
        Canned(canned, plain if kind == "anthropic" else json_answer(GEMINI)) as provider,
        Running("[server]\nport = 0\n[providers.sim]\n" + provider.toml(kind=kind, more=credentials)) as gateway,
    ):
        body = {"input": "?", "tools": [{"type": "web_search"}], "stream": stream}
        reply = ask(gateway, "responses", "canned/m", body)
        assert reply.status_code == 200, reply.text
        if stream:
            events = [frame.json for frame in read_frames(reply.content) if frame.data]
            for event in events:
                check_event(event)
            response = events[-1]["response"]
        else:
            response = reply.json()
        output = response["output"]
        (search,) = [item for item in output if item["type"] == "web_search_call"]
        (message,) = [item for item in output if item["type"] == "message"]
        assert search["action"]["query"] == "tides"
        assert search["action"]["sources"] == [{"type": "url", "url": "https://a.example"}]
        (cited,) = message["content"][0]["annotations"]
        assert (cited["type"], cited["url"], cited["title"]) == ("url_citation", "https://a.example", "A")
        assert cited["start_index"] == 0
        assert cited["end_index"] == (1 if kind == "gemini" else len("潮 is high."))
        # As Codex sends it back: what it does not know of an item is gone.
        bare = {"type": "web_search_call", "status": "completed", "action": search["action"]}
        for sent_back in (search, bare):
            more = [{"role": "user", "content": "?"}, sent_back, message, {"role": "user", "content": "more"}]
            for model in ("canned/m", "sim/echo"):
                again = ask(gateway, "responses", model, {"input": more})
                assert again.status_code == 200, again.text
                # Anthropic's own blocks are of use to Anthropic alone; without them others may read the item.
                lost = ("anthropic_blocks" in sent_back) == (model == "sim/echo")
                assert again.headers.get("tidegate-dropped") == ("input[].web_search_call" if lost else None)
        if kind == "anthropic":
            first, second = provider.requests[-2:]
            assert [block["type"] for block in first["messages"][1]["content"]] == [
                "server_tool_use",
                "web_search_tool_result",
                "text",
            ]
            assert second["messages"][1]["content"] == "潮 is high."


def anthropic_frames() -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": {**ANTHROPIC, "content": [], "stop_reason": None}}
    for index, block in enumerate(ANTHROPIC["content"]):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}


@pytest.mark.parametrize("kind", ["gemini", "anthropic"])
def test_clients_of_google_and_anthropic_see_the_sources(kind: str) -> None:
    credentials = 'credentials = ["k-0123456789abcdef0123456789"]'
    answer = {"gemini": GEMINI, "anthropic": ANTHROPIC}[kind]
    with (
        Canned(json_answer(answer)) as provider,
        Running("[server]\nport = 0\n" + provider.toml(kind=kind, more=credentials)) as gateway,
    ):
        if kind == "gemini":
            body = ask(gateway, "messages", "canned/m", {**OFFERS["messages"], "tool_choice": None}).json()
            (text,) = body["content"]
            assert [one["url"] for one in text["citations"]] == ["https://a.example"]
        else:
            body = ask(gateway, "gemini", "canned/m", OFFERS["gemini"]).json()
            found = body["candidates"][0]["groundingMetadata"]
            assert found["webSearchQueries"] == ["tides"]
            assert found["groundingChunks"] == [{"web": {"uri": "https://a.example", "title": "A"}}]
        chat = ask(gateway, "chat", "canned/m", OFFERS["chat"]).json()
        (cited,) = chat["choices"][0]["message"]["annotations"]
        assert cited["url_citation"]["url"] == "https://a.example"
