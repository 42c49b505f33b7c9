"""The load: a process that opens connections, sends requests, counts what comes back, and reads the tested processes'
CPU clocks in the same instant as its own counters.

Run as a process: `python -m bench.load`. Each line of standard input is an order in JSON, each line of standard output
the report on it; `bench.client` is the other end.
"""

import asyncio
import gc
import socket
import sys
import time
from collections import deque
from typing import IO, cast

import httptools
import msgspec
import uvloop

from bench.orders import Order, Percentiles, Report, RequestsOrder, StreamsOrder, TalksOrder
from bench.processes import cpu_use
from bench.script import STAMP

__all__ = ["main"]

OPENING_AT_ONCE = 64
OPENING_TIMEOUT_S = 20.0
OPENED_PER_S = 50
"""What the slowest server that is measured opens; a thousand streams may take as long as that."""
TALKERS = 96
SLOW_BUFFER = 64 * 1024
"""What the kernel keeps for a client that does not read: so much is full soon."""
CLOSED_S = 0.15
"""Until the server has seen that they are gone, and has done what is to be done about it."""
FRAME = b"data: {"


class _Requests:
    """Drives keep-alive connections."""

    def __init__(self, order: RequestsOrder, loop: asyncio.AbstractEventLoop) -> None:
        self.order = order
        self.loop = loop
        self.completed = 0
        self.delays: list[float] = []
        self.stopping = False
        self.problem = ""
        self._idle: deque[_Requester] = deque()
        self._due = 0.0

    async def run(self) -> Report:
        order = self.order
        connections = [
            (await self.loop.create_connection(lambda: _Requester(self), "127.0.0.1", order.port))[1]
            for _ in range(order.connections)
        ]
        if order.rate:
            self._idle.extend(connections)
            self._due = time.perf_counter()
            self._turn()
        else:
            for connection in connections:
                connection.fire()
        await asyncio.sleep(order.warmup_s)
        self.delays.clear()
        units, before = self.completed, cpu_use(order.pids, order.core)
        await asyncio.sleep(order.seconds)
        after, units = cpu_use(order.pids, order.core), self.completed - units
        delays = self.delays
        self.stopping = True
        await asyncio.sleep(0.05)
        for connection in connections:
            connection.close()
        used = after.processes - before.processes
        return Report(
            units=units,
            seconds=after.at - before.at,
            cpu_s=used,
            others_s=max(0.0, after.core - before.core - used),
            delay=Percentiles.of(delays),
            problem=self.problem or ("" if units else "no request was answered"),
        )

    def answered(self, connection: "_Requester", delay_ms: float) -> None:
        self.completed += 1
        self.delays.append(delay_ms)
        if self.order.rate:
            self._idle.append(connection)
        elif not self.stopping:
            connection.fire()

    def _turn(self) -> None:
        now = time.perf_counter()
        while self._due <= now:
            self._due += 1 / self.order.rate
            if self._idle:
                self._idle.popleft().fire()
        if not self.stopping:
            self.loop.call_later(max(0.0, self._due - now), self._turn)


class _Requester(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, owner: _Requests) -> None:
        self._owner = owner
        self._request = owner.order.request
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._sent = 0.0

    def fire(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200 ") and data.startswith(b"HTTP/"):
            self._owner.problem = data[:800].decode("utf-8", "replace")
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._owner.stopping:
            self._owner.problem = self._owner.problem or f"the connection was closed: {exc}"

    def on_message_complete(self) -> None:
        self._owner.answered(self, (time.perf_counter() - self._sent) * 1000)


class _Streams:
    """Reads streams without parsing them: frames are counted, and the newest frame of a read says when it was
    written."""

    def __init__(self, port: int, request: bytes, loop: asyncio.AbstractEventLoop, *, reading: bool = True) -> None:
        self._port = port
        self._request = request
        self._loop = loop
        self.reading = reading
        self._open: list[_Reader] = []
        self._flowing = asyncio.Event()
        self._wanted = 0
        self.frames = 0
        self.reads = 0
        self.delays: list[float] = []
        self.problem = ""
        self.closing = False

    async def open(self, count: int, frames: int) -> None:
        """Returns once each stream has brought `frames` frames."""
        self._flowing.clear()
        self._wanted = count
        for start in range(0, count, OPENING_AT_ONCE):
            made = await asyncio.gather(
                *(
                    self._loop.create_connection(lambda: _Reader(self, self._request, frames), "127.0.0.1", self._port)
                    for _ in range(min(OPENING_AT_ONCE, count - start))
                )
            )
            self._open += [reader for _, reader in made]
        try:
            await asyncio.wait_for(self._flowing.wait(), OPENING_TIMEOUT_S + count / OPENED_PER_S)
        except TimeoutError:
            self.problem = self.problem or f"{self._wanted} of {count} streams did not start"

    def flows(self) -> None:
        self._wanted -= 1
        if not self._wanted:
            self._flowing.set()

    def failed(self, problem: str) -> None:
        if not self.closing:
            self.problem = self.problem or problem
            self._flowing.set()

    async def close(self) -> int:
        """Returns when it began to close them, in nanoseconds of the monotonic clock."""
        self.closing = True
        began_ns = time.monotonic_ns()
        for reader in self._open:
            reader.close()
        self._open.clear()
        await asyncio.sleep(CLOSED_S)
        return began_ns


class _Reader(asyncio.Protocol):
    """One stream."""

    def __init__(self, owner: _Streams, request: bytes, wanted: int) -> None:
        self._owner = owner
        self._request = request
        self._wanted = wanted
        self._transport: asyncio.Transport

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._owner.reading:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        frames = data.count(FRAME)
        if self._wanted > 0:
            if data.startswith(b"HTTP/") and not data.startswith(b"HTTP/1.1 200 "):
                owner.failed(data[:800].decode("utf-8", "replace"))
            self._wanted -= frames
            if self._wanted <= 0:
                owner.flows()
                if not owner.reading:
                    self._transport.pause_reading()
        owner.reads += 1
        owner.frames += frames
        at = data.rfind(STAMP) + len(STAMP)
        if at >= len(STAMP):
            end = data.find(b'"', at)
            if end > 0:
                owner.delays.append((time.monotonic_ns() - int(data[at:end])) / 1e6)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.failed(f"a stream was closed: {exc}")


class _Talks:
    """Asks for streamed answers at a fixed rate, over connections that are kept."""

    def __init__(self, order: TalksOrder, loop: asyncio.AbstractEventLoop) -> None:
        self.order = order
        self.loop = loop
        self.completed = 0
        self.first: list[float] = []
        self.gaps: list[float] = []
        self.stopping = False
        self.problem = ""
        self._idle: deque[_Talker] = deque()
        self._due = 0.0

    async def run(self) -> Report:
        order = self.order
        connections = [
            (await self.loop.create_connection(lambda: _Talker(self), "127.0.0.1", order.port))[1]
            for _ in range(TALKERS)
        ]
        self._idle.extend(connections)
        self._due = time.perf_counter()
        self._turn()
        await asyncio.sleep(order.warmup_s)
        self.first, self.gaps = [], []
        units, began = self.completed, time.perf_counter()
        await asyncio.sleep(order.seconds)
        seconds = time.perf_counter() - began
        self.stopping = True
        units = self.completed - units
        first, gaps = self.first, self.gaps
        self.first, self.gaps = [], []
        for connection in connections:
            connection.close()
        await asyncio.sleep(0.1)
        return Report(
            units=units,
            seconds=seconds,
            first=Percentiles.of(first),
            gap=Percentiles.of(gaps),
            problem=self.problem or ("" if units else "no answer ended"),
        )

    def ended(self, connection: "_Talker") -> None:
        self.completed += 1
        self._idle.append(connection)

    def _turn(self) -> None:
        if self.stopping:
            return
        now = time.perf_counter()
        while self._due <= now:
            self._due += 1 / self.order.rate
            if self._idle:
                self._idle.popleft().ask()
        self.loop.call_later(max(0.0, self._due - now), self._turn)


class _Talker(asyncio.Protocol):
    """One connection, one answer at a time."""

    def __init__(self, owner: _Talks) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._asked = 0.0
        self._last = 0.0

    def ask(self) -> None:
        self._last = 0.0
        self._asked = time.perf_counter()
        self._transport.write(self._owner.order.request)

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        owner = self._owner
        if data.startswith(b"HTTP/") and not data.startswith(b"HTTP/1.1 200 "):
            owner.problem = data[:800].decode("utf-8", "replace")
        if FRAME in data:
            if self._last:
                owner.gaps.append((now - self._last) * 1000)
            else:
                owner.first.append((now - self._asked) * 1000)
            self._last = now
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._owner.stopping:
            self._owner.problem = self._owner.problem or f"the connection was closed: {exc}"

    def on_message_complete(self) -> None:
        self._owner.ended(self)


async def _measure_streams(order: StreamsOrder, loop: asyncio.AbstractEventLoop) -> Report:
    streams = _Streams(order.port, order.request, loop)
    await streams.open(order.streams, order.first_frames)
    await asyncio.sleep(order.warmup_s)
    streams.delays = []
    frames, reads, before = streams.frames, streams.reads, cpu_use(order.pids, order.core)
    await asyncio.sleep(order.seconds)
    after, frames, reads = cpu_use(order.pids, order.core), streams.frames - frames, streams.reads - reads
    delays = streams.delays
    streams.delays = []
    await streams.close()
    used = after.processes - before.processes
    return Report(
        units=frames,
        seconds=after.at - before.at,
        cpu_s=used,
        others_s=max(0.0, after.core - before.core - used),
        reads=reads,
        delay=Percentiles.of(delays),
        problem=streams.problem or ("" if frames else "no frame came"),
    )


async def _obey(orders: IO[bytes], reports: IO[bytes]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), orders)
    held: _Streams | None = None
    decoder: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    while line := await reader.readline():
        order = decoder.decode(line)
        if isinstance(order, RequestsOrder):
            report = await _Requests(order, loop).run()
        elif isinstance(order, StreamsOrder):
            report = await _measure_streams(order, loop)
        elif isinstance(order, TalksOrder):
            report = await _Talks(order, loop).run()
        else:
            report = Report()
            if held is not None:
                report.began_ns = await held.close()
                held = None
            if order.streams:
                held = _Streams(order.port, order.request, loop, reading=order.reading)
                await held.open(order.streams, 1)
                report.problem = held.problem
        reports.write(msgspec.json.encode(report) + b"\n")
        reports.flush()


def main() -> None:
    uvloop.run(_obey(sys.stdin.buffer, sys.stdout.buffer))


if __name__ == "__main__":
    main()
