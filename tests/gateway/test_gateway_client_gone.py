"""A client that leaves takes its upstream call with it, within a second, and is charged once for what was used."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api import ENDPOINTS, PATHS, Api, request_body
from tests.support.running import Running, wait_for
from tidegate.gateway.exchange import Exchange
from tidegate.sim.connection import SimRequest

TOML = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
timeouts = { first_event = "20s", idle = "20s" }
[models.spare]
target = "sim/lorem?fault=stall_head"
fallback = ["sim/echo"]
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


class Client:
    """A raw connection, to leave when and how the test wants."""

    def __init__(self, gateway: Running, endpoint: str, model: str, *, stream: bool) -> None:
        self.gateway = gateway
        self.request_id = f"gone-{id(self)}-{time.monotonic_ns()}"
        body = httpx.Request("POST", "http://x/", json=request_body(endpoint, model, stream=stream)).content
        self.calls = sum(one.method == "POST" for one in gateway.sim.requests)
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        self.socket.sendall(
            f"POST {PATHS[endpoint]} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: {self.request_id}\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )

    def upstream(self) -> SimRequest:
        """The call that the provider got."""

        def look() -> SimRequest | None:
            found = [one for one in self.gateway.sim.requests if one.method == "POST"]
            return found[-1] if len(found) > self.calls else None

        found = wait_for(look)
        assert found is not None
        return found

    def leave(self, *, abruptly: bool = False) -> None:
        if abruptly:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()


def running(gateway: Running) -> list[Exchange]:
    """The exchanges under way; asked on the gateway's own loop."""
    parts = gateway.server._parts.gateway
    assert parts is not None
    return list(parts.exchanges)


def check_left(client: Client, upstream: SimRequest, status: int) -> dict[str, Any]:
    """The provider saw the connection close within a second, and one entry says so."""
    left = client.gateway.call(lambda: client.gateway.loop.time())
    wait_for(lambda: upstream.closed_by_peer_at is not None or upstream.finished_at is not None)
    assert upstream.finished_at is None
    assert upstream.closed_by_peer_at is not None
    assert upstream.closed_by_peer_at - left < 1
    entry = client.gateway.usage(client.request_id)
    assert (entry["ending"], entry["status"], entry["error"]) == ("client_gone", status, "client_gone")
    assert client.gateway.call(lambda: running(client.gateway)) == []
    return entry


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("abruptly", [False, True])
def test_while_waiting_for_the_first_byte(gateway: Running, endpoint: str, stream: bool, abruptly: bool) -> None:
    client = Client(gateway, endpoint, "sim/lorem?fault=stall_head", stream=stream)
    upstream = client.upstream()
    client.leave(abruptly=abruptly)
    entry = check_left(client, upstream, 499)
    assert entry["estimated"] is True
    assert entry["input_tokens"] > 0
    assert entry["output_tokens"] == 0
    assert entry.get("first_event_ms") is None


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("abruptly", [False, True])
def test_in_the_middle_of_a_stream(gateway: Running, endpoint: str, abruptly: bool) -> None:
    client = Client(gateway, endpoint, "sim/lorem?chunks=20&fault=stall&after=7", stream=True)
    upstream = client.upstream()
    received = b""
    while b"lorem" not in received.partition(b"\r\n\r\n")[2].replace(b"lorem?", b""):
        received += client.socket.recv(65536)
    client.leave(abruptly=abruptly)
    entry = check_left(client, upstream, 200)
    assert entry["estimated"] is True
    assert entry["output_tokens"] > 0
    assert entry["first_event_ms"] > 0


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_in_the_middle_of_an_answer_in_one_body(gateway: Running, endpoint: str) -> None:
    client = Client(gateway, endpoint, "sim/lorem?chunks=50&fault=stall", stream=False)
    upstream = client.upstream()
    wait_for(lambda: gateway.call(lambda: [one._collected_bytes for one in running(gateway)]) > [0])
    client.leave()
    entry = check_left(client, upstream, 499)
    assert entry["estimated"] is True
    assert entry["output_tokens"] > 0


@pytest.mark.fault("FAULT-CLIENT-GONE")
def test_nobody_else_is_asked_for_a_client_that_left(gateway: Running) -> None:
    client = Client(gateway, "responses", "spare", stream=True)
    upstream = client.upstream()
    client.leave()
    entry = check_left(client, upstream, 499)
    assert (entry["attempts"], "failed" in entry) == (1, False)
    assert client.upstream() is upstream
    left = 'tidegate_attempts_total{endpoint="responses",outcome="left",provider="sim"} '
    assert any(
        line.startswith(left) and float(line.removeprefix(left)) >= 1
        for line in httpx.get(f"{gateway.origin}/metrics", trust_env=False).text.splitlines()
    )


@pytest.mark.fault("FAULT-PIPELINED")
def test_a_pipelined_request_is_not_started_for_a_client_that_left(gateway: Running) -> None:
    client = Client(gateway, "responses", "sim/lorem?fault=stall_head", stream=True)
    upstream = client.upstream()
    body = b'{"model":"sim/echo","input":"x"}'
    client.socket.sendall(b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    client.leave()
    check_left(client, upstream, 499)
    assert client.upstream() is upstream


@pytest.mark.fault("FAULT-PIPELINED")
def test_a_connection_that_served_a_client_which_left_is_not_reused(gateway: Running) -> None:
    client = Client(gateway, "chat", "sim/lorem?chunks=3&fault=stall", stream=True)
    upstream = client.upstream()
    client.socket.recv(10)
    client.leave()
    check_left(client, upstream, 200)
    with Api(gateway) as api:
        assert api.ask("chat", say="fresh").text == "fresh"
        assert api.upstream.connection_id != upstream.connection_id
