"""The call behind a bridged answer: it ends with its client, is charged once, stops where it should, and gets its media."""

import base64
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conformance.clients import NAMES, Client
from tests.conformance.providers import PROVIDERS, SPEAKS, TOML, calls_of, sent
from tests.support.api import Api
from tests.support.running import Running, wait_for

MORE = """
[providers.stopless]
kind = "openai-compatible"
base_url = "{sim}"
refuses = { chat = ["stop"] }
"""
PNG = bytes(range(256)) * 8


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML + MORE) as running:
        yield running


def body(name: str, model: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
    """Path and body of a small request."""
    match name:
        case "responses":
            return "/v1/responses", {"model": model, "input": "?", "stream": stream}
        case "gemini":
            method = "streamGenerateContent?alt=sse" if stream else "generateContent"
            return f"/v1beta/models/{model}:{method}", {"contents": [{"role": "user", "parts": [{"text": "?"}]}]}
        case _:
            path = "/v1/messages" if name == "messages" else "/v1/chat/completions"
            said = [{"role": "user", "content": "?"}]
            return path, {"model": model, "messages": said, "max_tokens": 1000, "stream": stream}


# -- usage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", NAMES)
def test_one_entry_has_the_tokens_that_the_provider_counted(
    gateway: Running, name: str, provider: str, stream: bool
) -> None:
    path, asked = body(name, f"{provider}/reasoning", stream=stream)
    request_id = f"usage-{name}-{provider}-{stream}"
    answer = httpx.post(gateway.origin + path, json=asked, headers={"x-request-id": request_id})
    assert answer.status_code == 200
    entry = gateway.usage(request_id)
    assert (entry["input_tokens"], entry["output_tokens"], entry["reasoning_tokens"]) == (1, 22, 18)
    assert (entry["estimated"], entry["attempts"], entry["ending"]) == (False, 1, "completed")
    assert (entry["endpoint"], entry["deployment"]) == (name, f"{provider}/reasoning")


@pytest.mark.fault("FAULT-USAGE")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", NAMES)
def test_what_no_provider_counted_is_estimated_and_told(
    gateway: Running, clients: dict[str, Client], name: str, provider: str, stream: bool
) -> None:
    client = clients[name]
    if name == SPEAKS[provider] and name in ("messages", "gemini"):
        pytest.skip("the frames are the provider's own")
    answer = client.ask(f"{provider}/lorem:usage=absent", client.user("?"), stream=stream)
    assert answer.prompt_tokens > 0
    assert answer.output_tokens == 40
    entry = gateway.usage(client.wire.headers["x-request-id"])
    assert entry["estimated"] is True
    assert entry["output_tokens"] == 40


# -- a client that leaves ---------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.parametrize("when", ["before the first byte", "in the stream", "in one body"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", NAMES)
def test_the_call_ends_within_a_second_of_its_client(gateway: Running, name: str, provider: str, when: str) -> None:
    fault = "stall_head" if when == "before the first byte" else "stall"
    path, asked = body(name, f"{provider}/lorem:chunks=50,fault={fault}", stream=when == "in the stream")
    content = json.dumps(asked).encode()
    calls = len(calls_of(gateway))
    request_id = f"gone-{name}-{provider}-{when.replace(' ', '-')}"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-request-id: {request_id}\r\ncontent-length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        wait_for(lambda: len(calls_of(gateway)) > calls)
        seen = b""
        while when == "in the stream" and b"lorem ipsum" not in seen:
            data = connection.recv(65536)
            assert data, seen
            seen += data
    left = gateway.call(lambda: gateway.loop.time())
    call = calls_of(gateway)[-1]
    wait_for(lambda: call.closed_by_peer_at is not None)
    assert call.closed_by_peer_at is not None
    assert call.closed_by_peer_at - left < 1
    entry = gateway.usage(request_id)
    assert entry["ending"] == "client_gone"
    assert entry["estimated"] is True
    if provider == "anthropic" and when == "in the stream":  # it has told how long the prompt is
        assert entry["input_tokens"] == 1


# -- stop sequences where the provider has none -----------------------------------------------------------------

SAID = "one two 三 four"
STOPS: Any = {
    "chat": {"stop": ["三", "four"]},
    "messages": {"stop_sequences": ["三", "four"]},
    "gemini": {"stopSequences": ["三", "four"]},
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", ["openai", "stopless"])
@pytest.mark.parametrize("name", STOPS)
def test_an_answer_is_cut_where_a_stop_sequence_begins(
    gateway: Running, clients: dict[str, Client], name: str, provider: str, stream: bool
) -> None:
    client = clients[name]
    answer = client.ask(f"{provider}/echo", client.user(SAID), stream=stream, **STOPS[name])
    assert answer.text == "one two "
    assert answer.reason == {"chat": "stop", "messages": "stop_sequence", "gemini": "STOP"}[name]
    assert client.wire.dropped == []
    assert b"stop" not in calls_of(gateway)[-1].body
    if name == "messages":
        assert b'"stop_sequence":"\xe4\xb8\x89"' in client.wire.body


@pytest.mark.parametrize("provider", [*PROVIDERS, "stopless"])
@pytest.mark.parametrize("name", STOPS)
def test_an_answer_without_a_stop_sequence_is_whole(clients: dict[str, Client], name: str, provider: str) -> None:
    client = clients[name]
    answer = client.ask(f"{provider}/echo", client.user("one two fou"), stream=True, **STOPS[name])
    assert answer.text == "one two fou"
    assert answer.reason == {"chat": "stop", "messages": "end_turn", "gemini": "STOP"}[name]


@pytest.mark.parametrize("provider", ["openai", "stopless"])
def test_the_call_ends_where_the_answer_does(gateway: Running, provider: str) -> None:
    with Api(gateway) as api:
        model = f"{provider}/lorem?chunks=200&gap=20"
        reply = api.ask("chat", model, stream=True, stop="2 lorem", stream_options={"include_usage": True})
        assert reply.text == " 0 lorem ipsum d 1 lorem ipsum d "
        assert reply.content.endswith(b"data: [DONE]\n\n")
        call = api.upstream
        wait_for(lambda: call.closed_by_peer_at is not None, 1)
        assert call.closed_by_peer_at is not None
        entry = gateway.usage(reply.request_id)
        assert (entry["ending"], entry["estimated"]) == ("completed", True)


# -- media by URL -----------------------------------------------------------------------------------------------


class _Pictures(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        kind = {"/tide.png": "image/png", "/again.png": "image/png", "/tide.pdf": "application/pdf"}.get(self.path)
        self.send_response(200 if kind else 404)
        self.send_header("content-type", kind or "text/plain")
        self.send_header("content-length", str(len(PNG)))
        self.end_headers()
        self.wfile.write(PNG)

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def pictures() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pictures) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def with_images(name: str, *urls: str) -> Any:
    parts: list[Any]
    match name:
        case "responses":
            parts = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in urls]
            return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "?"}, *parts]}]}
        case "chat":
            parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            return {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, *parts]}]}
        case _:
            parts = [{"type": "image", "source": {"type": "url", "url": url}} for url in urls]
            return {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, *parts]}]}


@pytest.mark.parametrize("name", ["responses", "chat", "messages"])
def test_urls_are_fetched_for_a_provider_that_takes_only_bytes(
    pictures: http.server.ThreadingHTTPServer, name: str
) -> None:
    origin = f"http://127.0.0.1:{pictures.server_address[1]}"
    tide, again = f"{origin}/tide.png", f"{origin}/again.png"
    with Running(TOML + "[egress]\nallow_private = true\n") as gateway:
        path, asked = body(name, "google/echo", stream=False)
        content = {**asked, **with_images(name, tide, again, tide)}
        assert httpx.post(gateway.origin + path, json=content).status_code == 200
        url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        assert sent(gateway, "google").images == [url] * 3
        assert sorted(pictures.asked) == ["/again.png", "/tide.png"], "each is fetched once"  # type: ignore[attr-defined]
        absent = {**asked, **with_images(name, f"{origin}/absent.png")}
        refused = httpx.post(gateway.origin + path, json=absent)
        assert refused.status_code == 400
        assert "status 404" in refused.json()["error"]["message"]
        for provider in ("openai", "openai-chat", "anthropic"):
            path, asked = body(name, f"{provider}/echo", stream=False)
            assert httpx.post(gateway.origin + path, json={**asked, **with_images(name, tide)}).status_code == 200
            assert sent(gateway, provider).images == [tide], "providers that fetch get the URL"


@pytest.mark.parametrize("name", ["responses", "chat", "messages"])
@pytest.mark.parametrize("stream", [True, False])
def test_private_addresses_are_not_fetched_from_unless_allowed(
    gateway: Running, pictures: http.server.ThreadingHTTPServer, name: str, stream: bool
) -> None:
    calls = len(calls_of(gateway))
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        url = f"http://{host}:{pictures.server_address[1]}/tide.png"
        path, asked = body(name, "google/echo", stream=stream)
        refused = httpx.post(gateway.origin + path, json={**asked, **with_images(name, url)})
        assert refused.status_code == 400
        assert "allow_private" in refused.json()["error"]["message"]
    assert pictures.asked == []  # type: ignore[attr-defined]
    assert len(calls_of(gateway)) == calls


def test_fetching_can_be_switched_off(pictures: http.server.ThreadingHTTPServer) -> None:
    with Running(TOML + "[egress]\nallow_private = true\nfetch_media = false\n") as gateway:
        path, asked = body("chat", "google/echo", stream=False)
        url = f"http://127.0.0.1:{pictures.server_address[1]}/tide.png"
        refused = httpx.post(gateway.origin + path, json={**asked, **with_images("chat", url)})
    assert refused.status_code == 400
    assert "egress.fetch_media" in refused.json()["error"]["message"]
    assert pictures.asked == []  # type: ignore[attr-defined]


# -- what agents send -------------------------------------------------------------------------------------------

CODEX: Any = {
    "instructions": "You are a coding agent.",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look around."}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "gAAAAA"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "shell", "arguments": '{"cmd":"ls"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "README.md"},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
    ],
    "tools": [
        {"type": "function", "name": "shell", "strict": False, "parameters": {"type": "object", "properties": {}}},
        {
            "type": "custom",
            "name": "apply_patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
        },
        {
            "type": "namespace",
            "name": "mcp__docs",
            "description": "d",
            "tools": [{"type": "function", "name": "find", "strict": False, "parameters": {"type": "object"}}],
        },
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "text": {"verbosity": "low"},
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "client_metadata": {"x": "y"},
    "store": False,
    "stream": True,
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_coding_agent_of_openais_reaches_every_provider(gateway: Running, provider: str) -> None:
    answer = httpx.post(f"{gateway.url}/responses", json={**CODEX, "model": f"{provider}/tools"})
    assert answer.status_code == 200, answer.text
    assert "response.completed" in answer.text
    assert "The tool said: done" in answer.text


CLAUDE_CODE: Any = {
    "max_tokens": 32000,
    "system": [
        {"type": "text", "text": "You are a coding agent."},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Look around."}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
                {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {"path": "README.md"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "README.md"}]},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": "done",
                    "cache_control": {"type": "ephemeral"},
                },
            ],
        },
    ],
    "tools": [
        {"name": name, "description": "d", "input_schema": {"type": "object", "properties": {}}}
        for name in ("Bash", "Read")
    ],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "medium"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": "user_1"},
    "stream": True,
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_coding_agent_of_anthropics_reaches_every_provider(gateway: Running, provider: str) -> None:
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "interleaved-thinking-2025-05-14"}
    answer = httpx.post(
        f"{gateway.url}/messages?beta=true", json={**CLAUDE_CODE, "model": f"{provider}/tools"}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    assert "event: message_stop" in answer.text
    assert '" said:"' in answer.text
    assert SPEAKS[provider] == "messages" or "context_management" in answer.headers["tidegate-dropped"]
