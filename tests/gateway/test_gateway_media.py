"""Media that the gateway fetches for a provider: what ends the fetching, and what is written of it."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

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
