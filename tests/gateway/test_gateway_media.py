"""Media that the gateway fetches for a provider: what ends the fetching, and what is written of it."""

import base64
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.raw import Raw, post
from tests.support.running import Running, wait_for

TOML = """
[server]
port = 0
[providers.google]
kind = "gemini"
base_url = "{sim}"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
[egress]
allow_private = true
timeout = "20s"
"""


class Silent:
    """Takes connections and says nothing; counts those that are open."""

    def __init__(self) -> None:
        self.open = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/a.png"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.open += 1
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection:
            try:
                while connection.recv(65536):
                    pass
            except OSError:
                pass
        self.open -= 1


@pytest.fixture(scope="module")
def silent() -> Iterator[Silent]:
    site = Silent()
    yield site
    site.close()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


def asked(url: str, *headers: str, stream: bool) -> bytes:
    content: Any = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "google/echo", "stream": stream, "messages": [{"role": "user", "content": content}]}
    return post(json.dumps(body).encode(), *headers, path="/v1/chat/completions")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_fetching(gateway: Running, silent: Silent, stream: bool) -> None:
    request_id = f"media-gone-{stream}"
    client = Raw(gateway).send(asked(silent.url, f"x-request-id: {request_id}", stream=stream))
    assert wait_for(lambda: silent.open == 1)
    begun = time.monotonic()
    client.reset()
    assert wait_for(lambda: silent.open == 0)
    assert time.monotonic() - begun < 1
    entry = gateway.usage(request_id)
    assert (entry["status"], entry["ending"], entry["attempts"]) == (499, "client_gone", 0)


@pytest.mark.parametrize("stream", [True, False])
def test_the_clients_own_clock_runs_while_media_are_fetched(gateway: Running, silent: Silent, stream: bool) -> None:
    with Raw(gateway) as client:
        reply = client.ask(asked(silent.url, "tidegate-timeout: 300ms", stream=stream))
    assert reply.status == 504
    assert "total clock" in reply.error["message"]
    assert gateway.usage(reply["x-request-id"])["ending"] == "failed"
    assert wait_for(lambda: silent.open == 0)


def test_draining_ends_the_fetching() -> None:
    site = Silent()
    with Running(TOML.replace("port = 0", 'port = 0\ndrain = "300ms"')) as gateway:
        client = Raw(gateway).send(asked(site.url, "x-request-id: media-drain", stream=True))
        assert wait_for(lambda: site.open == 1)
    with client:
        reply = client.response()
    assert (reply.status, reply.code) == (503, "gateway_shutting_down")
    entries = [line for line in gateway.log_lines if line.get("request_id") == "media-drain"]
    assert [(line["event"], line["status"]) for line in entries] == [("request", 503)]
    assert wait_for(lambda: site.open == 0)
    site.close()


def test_fetching_can_be_switched_off_in_the_configuration(silent: Silent) -> None:
    with Running(TOML + "fetch_media = false\n") as gateway, Raw(gateway) as client:
        reply = client.ask(asked(silent.url, stream=False))
    assert reply.code == "invalid_image_url"
    assert "egress.fetch_media" in reply.error["message"]
    assert "Provider" not in reply.error["message"]


# -- who can have what --------------------------------------------------------------------------------------------

PDF = b"%PDF-1.7 tides"
LAB = """
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
[providers.claude]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789abcdef"]
"""


class Shelf(http.server.BaseHTTPRequestHandler):
    """Has one PDF, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/pdf")
        self.send_header("content-length", str(len(PDF)))
        self.end_headers()
        self.wfile.write(PDF)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        pass


@pytest.fixture(scope="module")
def shelf() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a.pdf"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def everyone() -> Iterator[Running]:
    with Running(TOML.replace("[egress]", LAB + "[egress]")) as running:
        yield running


def ask(gateway: Running, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(gateway.origin + path, json=body, timeout=20, trust_env=False)


def pointed(client: str, model: str, url: str) -> tuple[str, dict[str, Any]]:
    if client == "gemini":
        parts = [{"text": "?"}, {"fileData": {"fileUri": url, "mimeType": "application/pdf"}}]
        return f"/v1beta/models/{model}:generateContent", {"contents": [{"role": "user", "parts": parts}]}
    content = [{"type": "input_text", "text": "?"}, {"type": "input_file", "file_url": url}]
    return "/v1/responses", {"model": model, "input": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("client", ["responses", "gemini"])
def test_a_file_is_fetched_for_a_provider_that_takes_only_its_data(everyone: Running, shelf: str, client: str) -> None:
    data = base64.b64encode(PDF).decode()
    answer = ask(everyone, *pointed(client, "lab/echo", shelf))
    assert answer.status_code == 200, answer.text
    (_, file) = everyone.sim.requests[-1].json["messages"][0]["content"]
    shown = {"file_data": f"data:application/pdf;base64,{data}", "filename": "document.pdf"}
    assert file == {"type": "file", "file": shown}
    if client == "responses":
        assert ask(everyone, *pointed(client, "google/echo", shelf)).status_code == 200
        (_, part) = everyone.sim.requests[-1].json["contents"][0]["parts"]
        assert part == {"inlineData": {"mimeType": "application/pdf", "data": data}}
    answer = ask(everyone, *pointed(client, "claude/echo", shelf))
    assert answer.status_code == 200, answer.text
    (_, document) = everyone.sim.requests[-1].json["messages"][0]["content"]
    assert document["source"] == {"type": "url", "url": shelf}, "this provider fetches it itself"


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket/a.pdf",
        "https://generativelanguage.googleapis.com/v1beta/files/abc?key=secret",
        "https://www.youtube.com/watch?v=abc",
    ],
)
def test_what_google_keeps_goes_to_google_alone(everyone: Running, url: str) -> None:
    assert ask(everyone, *pointed("responses", "google/echo", url)).status_code == 200
    (_, part) = everyone.sim.requests[-1].json["contents"][0]["parts"]
    assert part == {"fileData": {"fileUri": url}}
    calls = len(everyone.sim.requests)
    for model in ("lab/echo", "claude/echo"):
        answer = ask(everyone, *pointed("gemini", model, url))
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert "'contents'" in message
        assert url.partition("?")[0] in message
        assert "secret" not in message
    assert len(everyone.sim.requests) == calls


def test_an_id_of_a_file_is_good_for_the_api_that_gave_it(everyone: Running) -> None:
    source = {"type": "file", "file_id": "file_011abc"}
    messages = [{"role": "user", "content": [{"type": "document", "source": source}, {"type": "text", "text": "?"}]}]
    body = {"model": "claude/echo", "max_tokens": 100, "messages": messages}
    assert ask(everyone, "/v1/messages", body).status_code == 200
    answer = ask(everyone, "/v1/messages", {**body, "model": "lab/echo"})
    assert answer.status_code == 400
    assert "'file_011abc'" in answer.json()["error"]["message"]
