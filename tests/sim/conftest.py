"""A sim on a real socket for each scenario, and a client that sees the raw bytes."""

import asyncio
import contextlib
import dataclasses
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httptools
import pytest

from tidegate.sim import SimServer

T = TypeVar("T")
TIMEOUT_S = 20.0
QUIET_S = 0.25

MESSAGES = [{"role": "user", "content": "Say it back: tide 🌊 潮汐"}]
TEXT = "Say it back: tide 🌊 潮汐"
PATHS = {
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "messages": "/v1/messages",
}


@dataclasses.dataclass
class Seen:
    """What a client saw of one answer."""

    status: int = 0
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    chunks: list[bytes] = dataclasses.field(default_factory=list)
    raw: bytearray = dataclasses.field(default_factory=bytearray)
    reads: list[float] = dataclasses.field(default_factory=list)
    ended: str = "quiet"
    """complete · eof (closed before the end was told) · reset · invalid (no HTTP) · quiet (open, nothing more comes)"""

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def frames(self) -> list[bytes]:
        """The frames that are whole."""
        normal = self.body.replace(b"\r\n", b"\n")
        return normal.split(b"\n\n")[:-1]

    @property
    def data(self) -> list[Any]:
        """The events' payloads; `[DONE]` as it is; comments left out."""
        lines = [line for frame in self.frames for line in frame.split(b"\n") if line.startswith(b"data: ")]
        return [line[6:].decode() if line == b"data: [DONE]" else json.loads(line[6:]) for line in lines]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.data if isinstance(event, dict)]


class Wire:
    """One raw connection to the sim."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, endpoint: str, body: dict[str, Any] | bytes, method: str = "POST") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = PATHS.get(endpoint, endpoint)
        head = f"{method} {path} HTTP/1.1\r\nHost: sim\r\nX-Test: a\r\nX-Test: b\r\nContent-Length: {len(data)}\r\n\r\n"
        self.writer.write(head.encode() + data)

    async def receive(self, quiet: float = QUIET_S, limit: int = 1 << 30) -> Seen:
        """Reads one answer until it is complete, the connection ends, or nothing comes for `quiet` seconds."""
        seen = Seen()
        done = False

        class Callbacks:
            def on_header(self, name: bytes, value: bytes) -> None:
                if parser.get_status_code() >= 200:
                    seen.headers.append((name.decode().lower(), value.decode()))

            def on_body(self, body: bytes) -> None:
                seen.chunks.append(body)

            def on_message_complete(self) -> None:
                nonlocal done
                seen.status = parser.get_status_code()
                done = seen.status >= 200

            def on_headers_complete(self) -> None:
                seen.status = parser.get_status_code()

        parser: Any = httptools.HttpResponseParser(Callbacks())
        loop = asyncio.get_running_loop()
        while not done and len(seen.raw) < limit:
            try:
                async with asyncio.timeout(quiet):
                    data = await self.reader.read(65536)
            except TimeoutError:
                return seen
            except ConnectionResetError:
                seen.ended = "reset"
                return seen
            if not data:
                seen.ended = "eof"
                return seen
            seen.raw += data
            seen.reads.append(loop.time())
            try:
                parser.feed_data(data)
            except httptools.HttpParserError:
                seen.ended = "invalid"
                return seen
        if done:
            seen.ended = "complete"
        return seen

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def open_wire(sim: SimServer, ssl_context: ssl.SSLContext | None = None) -> Wire:
    return Wire(
        *await asyncio.open_connection(
            "127.0.0.1", sim.port, ssl=ssl_context, server_hostname="localhost" if ssl_context else None
        )
    )


def request_body(endpoint: str, model: str, **members: Any) -> dict[str, Any]:
    """A small request of the endpoint's dialect."""
    said: dict[str, tuple[str, Any]] = {
        "responses": ("input", TEXT),
        "chat": ("messages", MESSAGES),
        "completions": ("prompt", TEXT),
        "messages": ("messages", MESSAGES),
    }
    name, value = said[endpoint]
    required = {"max_tokens": 100_000} if endpoint == "messages" else {}
    return {"model": model, name: value, **required, **members}


async def ask(sim: SimServer, endpoint: str, model: str, *, quiet: float = QUIET_S, **members: Any) -> Seen:
    """One request on a connection of its own."""
    wire = await open_wire(sim)
    try:
        wire.send(endpoint, request_body(endpoint, model, **members))
        return await wire.receive(quiet)
    finally:
        await wire.close()


class Tools:
    """What the tests of this folder share."""

    open = staticmethod(open_wire)
    ask = staticmethod(ask)
    body = staticmethod(request_body)
    text = TEXT

    @staticmethod
    def run(scenario: Callable[[SimServer], Awaitable[T]], **options: Any) -> T:
        """Runs a scenario against a sim of its own; whatever the scenario leaves open is an error."""

        async def main() -> T:
            async with asyncio.timeout(TIMEOUT_S):
                async with SimServer(**options) as sim:
                    return await scenario(sim)

        return asyncio.run(main())

    @classmethod
    def once(cls, endpoint: str, model: str, **members: Any) -> Seen:
        """One request to a sim of its own."""
        return cls.run(lambda sim: ask(sim, endpoint, model, **members))


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools
