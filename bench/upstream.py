"""The provider of the benchmarks: a scripted HTTP/1.1 server, as cheap as Python allows.

Run as a process: `python -m bench.upstream [--certificate FILE --key FILE]`. It prints the ports it listens on, plain
and TLS (0 without a certificate). The model name picks the script: `whole`; `flow-<period in ms>`; `talk-<period>-<frames>`,
which ends, in chat only; `idle`; `flood`, as fast as the reader takes it. `GET /bench/state` tells what is open.
"""

import argparse
import asyncio
import gc
import json
import re
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, cast

import uvloop

from bench import script

__all__ = ["main"]

BACKLOG = 4096

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
FLOOD_FRAMES = 16
FLOOD_BUFFER = 64 * 1024

_MODEL = re.compile(rb'"model": *"(?:[^"/]*/)*([a-z]+)(?:-(\d+))?(?:-(\d+))?"')
_GEMINI = re.compile(rb"POST /v1beta/models/(?:[^:]*(?:/|%2F))?([a-z]+)(?:-(\d+))?(?:-(\d+))?:")

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: req_0123456789abcdef\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_0123456789abcdef\r\n"
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


_WHOLE = {dialect: _answer(body) for dialect, body in script.WHOLE.items()}
_LISTING = _answer(script.listing())
_ENDING = b"%x\r\n%b\r\n0\r\n\r\n" % (len(script.chat_ending()), script.chat_ending())
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


class State:
    """What of all streams together is of interest: how many are open, when the last one was closed, and what was written."""

    def __init__(self) -> None:
        self.open = 0
        self.closed_ns = 0
        self.written = 0

    def answer(self) -> bytes:
        return _answer(json.dumps({"open": self.open, "closed_ns": self.closed_ns, "written": self.written}).encode())


class Pacer:
    """Writes one chunk to each of its streams every `period_ms`, spread evenly over the period in steps of 1 ms."""

    def __init__(self, loop: asyncio.AbstractEventLoop, period_ms: int) -> None:
        self._loop = loop
        self._slots: list[set[Provider]] = [set() for _ in range(period_ms)]
        self._next = 0
        self._joined = 0
        self._due = 0.0
        self._running = False

    def join(self, stream: "Provider") -> Callable[[], None]:
        """Adds a stream; returns how to leave."""
        slot = self._slots[self._joined % len(self._slots)]
        self._joined += 1
        slot.add(stream)
        if not self._running:
            self._running = True
            self._due = time.perf_counter()
            self._loop.call_soon(self._turn)

        def leave() -> None:
            slot.discard(stream)

        return leave

    def _turn(self) -> None:
        slots = self._slots
        now = time.perf_counter()
        while self._due <= now:  # a late turn catches up: the rate does not drift with the load
            for stream in slots[self._next]:
                stream.chunk()
            self._next = (self._next + 1) % len(slots)
            self._due += 0.001
        if any(slots):
            self._loop.call_later(0.001, self._turn)
        else:
            self._running = False


class Provider(asyncio.Protocol):
    """One connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pacers: dict[int, Pacer], state: State) -> None:
        self._loop = loop
        self._pacers = pacers
        self._state = state
        self._transport: asyncio.Transport
        self._write: Callable[[bytes], None] = _nowhere
        self._buffer = b""
        self._dialect = ""
        self._number = 0
        self._left = -1
        """Frames until the stream ends by itself; it never does below 0."""
        self._streaming = False
        self._full = False
        self._leave: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        self._write = _nowhere
        self._end()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._streaming and self._leave is None:
            self._flood()

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        while data:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                break
            found = _LENGTH.search(data, 0, end)
            whole = end + (int(found.group(1)) if found else 0)
            if len(data) < whole:
                break
            self._serve(data[:end], data[end:whole])
            data = data[whole:]
        self._buffer = data

    def chunk(self) -> None:
        """One more delta, unless the last one has been written and the pacer is late."""
        if not self._left:
            return
        frame = script.delta(self._dialect, self._number, time.monotonic_ns())
        self._number += 1
        self._write(b"%x\r\n%b\r\n" % (len(frame), frame))
        if self._left > 0:
            self._left -= 1
            if not self._left:
                self._write(_ENDING)
                self._loop.call_soon(self._end)  # not now: the pacer goes through its streams

    def _end(self) -> None:
        if self._leave is not None:
            self._leave()
            self._leave = None
        if self._streaming:
            self._streaming = False
            self._state.open -= 1
            self._state.closed_ns = time.monotonic_ns()

    def _flood(self) -> None:
        if self._full or not self._streaming:
            return
        frames = b"".join(script.delta(self._dialect, self._number, time.monotonic_ns()) for _ in range(FLOOD_FRAMES))
        self._state.written += len(frames)
        self._write(b"%x\r\n%b\r\n" % (len(frames), frames))
        self._loop.call_soon(self._flood)

    def _serve(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST /v1/chat/completions "):
            dialect = "chat"
        elif head.startswith(b"POST /v1/responses "):
            dialect = "responses"
        elif head.startswith(b"POST /v1/messages "):
            dialect = "messages"
        elif head.startswith(b"POST /v1beta/"):
            dialect = "gemini"
        elif head.startswith(b"GET /bench/state "):
            self._write(self._state.answer())
            return
        else:
            self._write(_LISTING if head.startswith(b"GET /v1/models ") else _NOT_FOUND)
            return
        model = _GEMINI.match(head) if dialect == "gemini" else _MODEL.search(body)
        kind = model.group(1) if model else b""
        if kind == b"whole":
            self._write(_WHOLE[dialect])
        elif kind in (b"flow", b"idle", b"flood") or (kind == b"talk" and dialect == "chat"):
            assert model is not None
            frames = script.opening(dialect, time.monotonic_ns())
            self._dialect, self._number = dialect, len(frames)
            self._streaming = True
            self._state.open += 1
            self._write(_STREAM_HEAD + b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames))
            if kind in (b"flow", b"talk"):
                self._left = int(model.group(3)) - 1 if kind == b"talk" else -1
                self._leave = self._pacer(int(model.group(2))).join(self)
            elif kind == b"flood":
                raw = self._transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FLOOD_BUFFER)
                self._flood()
        else:
            self._write(_NOT_FOUND)

    def _pacer(self, period_ms: int) -> Pacer:
        found = self._pacers.get(period_ms)
        if found is None:
            found = self._pacers[period_ms] = Pacer(self._loop, period_ms)
        return found


def _nowhere(_: bytes) -> None:
    """Where the writes of a closed connection go."""


async def _serve(certificate: str, key: str) -> None:
    loop = asyncio.get_running_loop()
    pacers: dict[int, Pacer] = {}
    state = State()

    async def listen(context: ssl.SSLContext | None) -> int:
        server = await loop.create_server(
            lambda: Provider(loop, pacers, state), "127.0.0.1", 0, backlog=BACKLOG, ssl=context
        )
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    servers: list[Any] = []
    plain = await listen(None)
    secure = 0
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        secure = await listen(context)
    gc.collect()
    gc.freeze()
    print(f"listening {plain} {secure}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--certificate", default="")
    arguments.add_argument("--key", default="")
    given = arguments.parse_args()
    uvloop.run(_serve(given.certificate, given.key))


if __name__ == "__main__":
    main()
