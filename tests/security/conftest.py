"""What the tests of the matrix share: two tenants on one gateway, and the routes that it really has."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

from tests.support.raw import Raw, Response, request
from tests.support.running import Running
from tidegate.server.admin.table import PREFIX, TABLE

A_KEY = "sk-alpha-0123456789abcdef0123456789abcdef"
B_KEY = "sk-bravo-fedcba9876543210fedcba9876543210"

TOML = f"""
[server]
port = 0
data_dir = "{{data}}"
[defaults]
model = "sim/echo"
[providers.sim]
base_url = "{{sim}}"
[[keys]]
name = "alpha"
secret = "{A_KEY}"
project = "tenant-a"
[[keys]]
name = "bravo"
secret = "{B_KEY}"
project = "tenant-b"
"""


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway that two tenants use, and that keeps what it answers."""
    folder = tmp_path_factory.mktemp("shared")
    with Running(TOML.replace("{data}", str(folder))) as running:
        yield running


def cold_routes(gateway: Running) -> list[tuple[str, frozenset[str]]]:
    """Path and methods of each cold route of the running application."""
    application: Any = gateway.server.config.app
    found: list[tuple[str, frozenset[str]]] = []
    for route in application.cold.router.routes:
        if isinstance(route, Route):
            found.append((route.path, frozenset(route.methods or ())))
        else:
            assert route.path == PREFIX, f"{route.path}: say here which routes are below it"
            found += [(PREFIX + entry.path, frozenset({entry.method})) for entry in TABLE]
    return found


def hot_paths(gateway: Running) -> list[str]:
    """The relayed paths, and those of Gemini's API, which are no fixed table."""
    application: Any = gateway.server.config.app
    google = [
        f"/v1beta/models/sim/echo:{method}"
        for method in (
            "generateContent",
            "streamGenerateContent",
            "countTokens",
            "embedContent",
            "batchEmbedContents",
        )
    ]
    return [*(path.decode() for path in application.hot), *google]


def ask(gateway: Running, method: str, path: str, key: str, body: Any = None, *headers: str) -> Response:
    """One request on a connection of its own."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = request(method, path, f"Authorization: Bearer {key}", *headers, body=data)
    with Raw(gateway) as client:
        return client.ask(sent)


class Caller:
    """One who asks again and again over the same connection, as long as it is left open."""

    def __init__(self, gateway: Running, key: str) -> None:
        self._gateway = gateway
        self._key = key
        self._raw: Raw | None = None

    def ask(self, method: str, path: str, body: Any = None, *headers: str) -> Response:
        raw = self._raw = self._raw or Raw(self._gateway)
        data = None if body is None else json.dumps(body).encode()
        answer = raw.ask(request(method, path, f"Authorization: Bearer {self._key}", *headers, body=data))
        if answer.closes:
            self.close()
        return answer

    def close(self) -> None:
        if self._raw is not None:
            self._raw.sock.close()
            self._raw = None
