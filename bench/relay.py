"""A bare relay: what any gateway of this shape must do at least, and nothing else. The yardstick where nginx is not.

asyncio on uvloop, httptools on both sides, one upstream connection per client connection, and no look at what passes. Heads are
written anew; bodies go through as they come. Run as a process: `python -m bench.relay UPSTREAM_PORT`; it prints its port.
"""

import asyncio
import gc
import sys
from typing import Any, cast

import httptools
import uvloop

__all__ = ["main"]

_LAST = b"0\r\n\r\n"


class _Side(asyncio.Protocol):
    """What both ends share: a parser, and the other end, to which a head and pieces of a body are passed on."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.other: Any = None
        self.fields: list[bytes] = []
        self.chunked = False
        self.out: list[bytes] = []
        self.parser: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def on_message_begin(self) -> None:
        self.fields = []
        self.chunked = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"transfer-encoding":
            self.chunked = True
        if name != b"connection":
            self.fields.append(name + b": " + value + b"\r\n")

    def on_body(self, body: bytes) -> None:
        self.out.append(b"%x\r\n%b\r\n" % (len(body), body) if self.chunked else body)

    def on_message_complete(self) -> None:
        if self.chunked:
            self.out.append(_LAST)

    def flush(self) -> None:
        if self.out:
            if not self.other.transport.is_closing():
                self.other.transport.write(b"".join(self.out))
            self.out = []


class _Client(_Side):
    def __init__(self, port: int) -> None:
        super().__init__()
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self._port = port
        self._opening: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        if self.other is not None:
            self.flush()
        elif self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Upstream(self), "127.0.0.1", self._port)
        self.flush()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_headers_complete(self) -> None:
        self.out.append(b"%b %b HTTP/1.1\r\n%b\r\n" % (self.parser.get_method(), self.url, b"".join(self.fields)))


class _Upstream(_Side):
    def __init__(self, client: _Client) -> None:
        super().__init__()
        self.parser = httptools.HttpResponseParser(self)
        self.other = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other.other = self

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        self.flush()

    def on_headers_complete(self) -> None:
        self.out.append(b"HTTP/1.1 %d OK\r\n%b\r\n" % (self.parser.get_status_code(), b"".join(self.fields)))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Client(port), "127.0.0.1", 0, backlog=4096)
    gc.collect()
    gc.freeze()
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    uvloop.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
