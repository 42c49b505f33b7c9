"""The server in which several gateways count together."""

import socket
from collections.abc import Iterator

import msgspec
import pytest

from tests.doctor.stage import told
from tests.support.valkey import ValkeyServer
from tidegate.server.doctor.finding import Finding


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as running:
        yield running


def look(url: str, more: str = "", timeout_s: float = 5.0) -> Finding:
    seen = told(f'[providers.sim]\n[limits]\nvalkey = "{url}"\n{more}\n', timeout_s=timeout_s)
    assert "valkey" in seen("extras").details["needed"]
    assert "pa55word" not in msgspec.json.encode(seen.report).decode()
    return seen("valkey")


def test_a_server_that_answers(server: ValkeyServer) -> None:
    found = look(server.url.replace("redis:", "valkey:"), 'timeout = "5s"')
    assert found.status == "ok"
    assert found.details["latency_ms"] < 2500
    assert server.command("DBSIZE") == b":0\r\n", "nothing is written"


def test_a_server_that_is_away_and_one_that_stands_still(server: ValkeyServer) -> None:
    gone = look("redis://:pa55word@127.0.0.1:1/0", 'when_unavailable = "refuse"')
    assert gone.status == "failed"
    assert "127.0.0.1:1 cannot be used" in gone.found
    assert "503" in gone.advice
    server.freeze()
    try:
        still = look(server.url, timeout_s=0.3)
    finally:
        server.thaw()
    assert still.status == "failed"


def test_a_password_that_is_refused(server: ValkeyServer) -> None:
    server.command("CONFIG SET requirepass another-one")
    try:
        found = look(server.url.replace("redis://", "redis://:pa55word@"))
        assert found.status == "failed"
        assert "refuses the user" in found.found
    finally:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
            sock.sendall(b'AUTH another-one\r\nCONFIG SET requirepass ""\r\n')
            sock.recv(1000)


def test_without_one_each_gateway_counts_for_itself() -> None:
    assert told("[providers.sim]\n")("valkey").status == "skipped"
