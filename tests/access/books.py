"""A gateway with a ledger before a simulator of every dialect, and what tests do with both."""

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote

import httpx

from tests.support.running import Running, wait_for
from tidegate.storage.ledger import UsageFilter
from tidegate.storage.records import Usage

__all__ = ["ASK", "LEDGER", "Books"]

KEY = "key-0123456789abcdef0123456789abcd"

LEDGER = """
[server]
port = 0
data_dir = "{data}"
[routing]
retries = 0
eject_after = 0
[providers.sim]
base_url = "{sim}"
timeouts = { first_event = "500ms", idle = "500ms", total = "2s" }
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
timeouts = { first_event = "500ms", idle = "500ms", total = "2s" }
[providers.anthropic]
base_url = "{sim}"
credentials = ["sk-ant-of-the-provider"]
timeouts = { first_event = "500ms", idle = "500ms", total = "2s" }
[providers.gemini]
base_url = "{sim}beta"
credentials = ["AIza-of-the-provider"]
timeouts = { first_event = "500ms", idle = "500ms", total = "2s" }
[providers.closed]
kind = "sim"
base_url = "http://127.0.0.1:9/v1"
models = ["m"]
[providers.unpriced]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
[models.spare]
target = "closed/m"
fallback = ["lab/echo"]
[prices."sim/*"]
input = 2.0
cached = 0.2
cache_write = 2.5
output = 8.0
characters = 15.0
second = 0.0001
[prices."lab/*"]
input = 1.0
output = 3.0
[prices."anthropic/*"]
input = 3.0
cached = 0.3
cache_write = 3.75
output = 15.0
[prices."gemini/*"]
input = 1.25
output = 10.0
reasoning = 12.0
[[keys]]
name = "app"
secret = "key-0123456789abcdef0123456789abcd"
project = "harbour"
[[keys]]
name = "web"
secret = "web-0123456789abcdef0123456789abcd"
project = "airport"
"""

ASK = ("responses", "chat", "completions", "messages", "gemini")
"""The APIs that clients speak to models for text."""


class Books:
    """`Books(gateway)` asks in any API, leaves when told to, and reads the ledger."""

    def __init__(self, gateway: Running, key: str = KEY) -> None:
        self.gateway = gateway
        self.http = httpx.Client(
            base_url=gateway.origin, timeout=20, headers={"authorization": f"Bearer {key}"}, trust_env=False
        )

    def close(self) -> None:
        self.http.close()

    def ask(
        self,
        api: str,
        model: str,
        *,
        stream: bool = False,
        say: str = "Hello there, you",
        leave: bool = False,
        **more: Any,
    ) -> str:
        """Send a request; its id. With `leave` the client goes away as soon as the answer has begun."""
        path, body = _request(api, model, say, stream=stream)
        headers = more.pop("headers", None)
        with self.http.stream("POST", path, json={**body, **more}, headers=headers) as answer:
            if not leave:
                answer.read()
                self.status, self.text, self.headers = answer.status_code, answer.text, answer.headers
            elif stream:
                for chunk in answer.iter_bytes():
                    if chunk:
                        break
            request_id: str = answer.headers["x-request-id"]
        return request_id

    def rows(self, since: float = 0, **only: str) -> list[Usage]:
        """The rows of the ledger, oldest first."""
        storage = self.gateway.server._parts._storage
        assert storage is not None
        found: list[Usage] = []
        after: tuple[float, int] | None = None
        while True:
            page = asyncio.run_coroutine_threadsafe(
                storage.usage_entries(since, 4e9, UsageFilter(**only), after=after), self.gateway.loop
            ).result(10)
            found += page.rows
            if page.behind is None:
                return found
            after = page.behind

    def row(self, request_id: str) -> Usage:
        """The row of one request, as soon as it is settled."""
        [found] = wait_for(
            lambda: [
                row
                for row in self.rows(time.time() - 5)
                if row.entry.request_id == request_id and row.settled_at is not None
            ]
        )
        return found

    def settled(self) -> list[Usage]:
        """All rows, when none is open any more."""

        def look() -> list[Usage]:
            rows = self.rows()
            return rows if all(row.settled_at for row in rows) else []

        return wait_for(look, 10)


def _request(api: str, model: str, say: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
    match api:
        case "responses":
            return "/v1/responses", {"model": model, "input": say, "stream": stream}
        case "chat":
            return "/v1/chat/completions", {
                "model": model,
                "messages": [{"role": "user", "content": say}],
                "stream": stream,
            }
        case "completions":
            return "/v1/completions", {"model": model, "prompt": say, "stream": stream}
        case "messages":
            return "/v1/messages", {
                "model": model,
                "max_tokens": 1000,
                "messages": [{"role": "user", "content": say}],
                "stream": stream,
            }
        case "gemini":
            method = "streamGenerateContent?alt=sse" if stream else "generateContent"
            return f"/v1beta/models/{quote(model, safe='/')}:{method}", {
                "contents": [{"role": "user", "parts": [{"text": say}]}]
            }
        case "embeddings":
            return "/v1/embeddings", {"model": model, "input": say}
        case "speech":
            return "/v1/audio/speech", {"model": model, "input": say, "voice": "alloy", "stream_format": "sse"}
    raise ValueError(api)


def prices_of(row: Usage) -> dict[str, Any]:
    """The price snapshot of a row."""
    found: dict[str, Any] = json.loads(bytes(row.prices))
    return found
