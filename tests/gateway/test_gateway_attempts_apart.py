"""What one attempt has said does not stick to the next."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from tests.conformance.test_bridged_pauses import BODIES, FIRST, SECOND, turn
from tests.support.api import Api
from tests.support.canned import Canned, json_answer
from tests.support.running import Running

TOML = """
[server]
port = 0
[routing]
retries = 0
eject_after = 0
[models.chain]
target = "first/m"
fallback = ["second/m"]
"""


def ask(first: bytes, second: bytes) -> httpx.Response:
    """The answer to a request for which both are asked."""
    with Canned(first) as one, Canned(second) as other:
        toml = TOML + "".join(
            provider.toml(name, "openai-compatible", 'speaks = ["responses"]')
            for name, provider in (("first", one), ("second", other))
        )
        with Running(toml) as gateway, Api(gateway) as api:
            reply = api.ask("responses", "chain")
        assert (len(one.requests), len(other.requests)) == (1, 1)
    assert reply.headers["tidegate-attempts"] == "2"
    return httpx.Response(reply.status, headers=reply.headers, content=reply.content)


def test_a_long_error_of_the_first_leaves_room_for_that_of_the_second() -> None:
    first = json_answer({"error": {"message": "x" * 800_000}}, "503 Service Unavailable")
    second = json_answer({"error": {"message": "This model reads no " + "y" * 300_000}}, "400 Bad Request")
    answer = ask(first, second)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("This model reads no yyy")


def test_the_wait_that_the_first_asks_for_is_not_the_seconds() -> None:
    first = json_answer({"error": {"message": "x"}}, "429 Too Many Requests", fields="retry-after: 9\r\n")
    second = json_answer({"error": {"message": "broken"}}, "500 Internal Server Error")
    answer = ask(first, second)
    assert "retry-after" not in answer.headers
    assert "broken" in answer.json()["error"]["message"]


@contextmanager
def pausing() -> Iterator[str]:
    """A provider that pauses, and then is slow in the midst of what follows."""
    asked = iter(range(9))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            is_second = next(asked)
            answer = turn(SECOND, "tool_use", stream=True) if is_second else turn(FIRST, "pause_turn", stream=True)
            begin, event, rest = answer.partition(b"event: content_block_stop")
            self.wfile.write(begin)
            if is_second:
                self.wfile.flush()
                time.sleep(1)
            self.wfile.write(event + rest)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Not here."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_the_clock_of_the_first_event_stops_with_each_answer_of_a_provider_that_pauses() -> None:
    with pausing() as url:
        toml = f"""
[server]
port = 0
[providers.canned]
kind = "anthropic"
base_url = "{url}"
credentials = ["k-0123456789abcdef0123456789"]
timeouts = {{ first_event = "400ms", idle = "5s" }}
"""
        with Running(toml) as gateway:
            body = {**BODIES["chat"], "model": "canned/m", "stream": True}
            answer = httpx.post(f"{gateway.url}/chat/completions", json=body, timeout=20, trust_env=False)
    assert "It is high." in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
