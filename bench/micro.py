"""`python -m bench.micro`: CPU microseconds of the steps of the hot path, in memory, one process, no sockets.

Warm loops flatter: in place, each step costs three to five times as much, because its code and data have left the
caches. So these figures locate a regression; they do not predict the table of `python -m bench`. The last rows drive the
whole path with transports that keep nothing: all of the gateway's Python, and nothing of the kernel.
"""

import argparse
import asyncio
import gc
import itertools
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import uvloop

from bench import script, workloads
from bench.workloads import Dialect
from tidegate.config.load import load
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.dialect import Call, Destination, Stream
from tidegate.dialects.profile import PROFILES
from tidegate.dialects.responses import ResponsesDialect
from tidegate.gateway.dialects import CLIENT_DIALECTS
from tidegate.gateway.gateway import Gateway
from tidegate.server.connection import Connection
from tidegate.storage.entry import UsageEntry
from tidegate.upstream.connection import Connection as UpstreamConnection
from tidegate.wire.sse import FrameDecoder

__all__ = ["main"]

ROUNDS = 9
ROUND_S = 0.05
BIG = 60_000

_CONFIG = """
[[keys]]
name = "bench"
secret = "${BENCH_KEY}"
[providers.plain]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
credentials = ["sk-bench"]
models = ["whole", "idle"]
"""
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nx-request-id: req_0123456789abcdef\r\n%b\r\n\r\n"
_PARSERS: dict[Dialect, Any] = {"chat": ChatDialect(), "responses": ResponsesDialect()}
_DESTINATION = Destination(
    provider="plain", model="whole", stores=True, encrypted_reasoning=True, refuses=frozenset({"seed", "stop"})
)

Step = tuple[str, Callable[[], object]]


class _Transport:
    """A transport whose writes go to `sink`."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self.write = sink

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 40000) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    abort = close


class _House:
    """A gateway without sockets: what a client's connection sends goes through all of it, and back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        config = load(_CONFIG, "tidegate.toml", {"BENCH_KEY": workloads.KEY})
        self.gateway = Gateway(loop, config, environment={}, request_log=None)
        pool = self.gateway.snapshot.upstreams["plain"].pool
        self.upstream = UpstreamConnection(pool, loop)
        self.upstream.connection_made(cast("asyncio.Transport", _Transport(_nowhere)))
        pool.put(self.upstream)
        self.answered = 0
        app = SimpleNamespace(gateway=self.gateway, hot={one.path.encode("ascii"): one for one in CLIENT_DIALECTS})
        state = SimpleNamespace(connections=set(), tasks=set(), total_requests=0, default_headers=[(b"date", b"now")])
        self.client = Connection(cast("Any", SimpleNamespace(app=app)), cast("Any", state), {}, loop)
        self.client.connection_made(cast("asyncio.Transport", _Transport(self._count)))

    def _count(self, data: bytes) -> None:
        self.answered += 1


def _nowhere(_: bytes) -> None:
    """Where writes go."""


def _call(request_bytes: int) -> Call:
    return Call(
        response_id="resp_" + "0" * 48,
        created_at=1_790_000_000,
        wall_clock=lambda: 1_790_000_001,
        profile=PROFILES["openai"],
        request_bytes=request_bytes,
    )


def _body(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def _stream(dialect: Dialect) -> Stream:
    body = _body(workloads.stream_request(dialect, "plain", "idle"))
    stream: Stream = _PARSERS[dialect].parse(body).open(_call(len(body)))
    stream.attempt(_DESTINATION)
    stream.feed(b"".join(script.opening(dialect, 1)))
    return stream


def _feed(dialect: Dialect) -> Callable[[], object]:
    feed = _stream(dialect).feed
    if dialect == "chat":
        frame = script.delta("chat", 0, 123_456_789_012_345)
        return lambda: feed(frame)
    numbers = itertools.count(len(script.opening(dialect, 1)))
    return lambda: feed(script.delta("responses", next(numbers), 123_456_789_012_345))


def _parse_and_forward(dialect: Dialect, extra_bytes: int) -> Callable[[], object]:
    body = _body(workloads.whole_request(dialect, "plain", extra_bytes=extra_bytes))
    parse = _PARSERS[dialect].parse
    return lambda: parse(body).forward(_DESTINATION)


def _complete(dialect: Dialect) -> Callable[[], object]:
    body = _body(workloads.whole_request(dialect, "plain"))
    request = _PARSERS[dialect].parse(body)
    answer, call = script.WHOLE[dialect], _call(len(body))
    return lambda: request.complete(answer, call, _DESTINATION)


def _settle(gateway: Gateway) -> Callable[[], object]:
    def settle() -> None:
        entry = UsageEntry(
            request_id="req_0123456789abcdef0123456789abcdef",
            endpoint="chat",
            status=200,
            ending="completed",
            duration_ms=12.5,
            first_event_ms=12.5,
            stream=False,
            key="bench",
            project="default",
            model="plain/whole",
            deployment="plain/whole",
            attempts=1,
            input_tokens=120,
            cached_tokens=0,
            cache_write_tokens=0,
            output_tokens=38,
            reasoning_tokens=0,
            estimated=False,
            client="127.0.0.1",
        )
        gateway.settle(entry, "plain")

    return settle


def _whole_request(house: _House, dialect: Dialect) -> Callable[[], object]:
    sent = workloads.whole_request(dialect, "plain")
    body = script.WHOLE[dialect]
    answer = _HEAD % (b"application/json", b"content-length: %d" % len(body)) + body
    ask, reply = house.client.data_received, house.upstream.data_received

    def once() -> None:
        ask(sent)
        reply(answer)

    _check(house, once)
    return once


def _whole_chunk(house: _House, dialect: Dialect) -> Callable[[], object]:
    """Leaves the stream open: it must be the last use of its house."""
    sent = workloads.stream_request(dialect, "plain", "idle")
    opening = script.opening(dialect, 1)
    house.client.data_received(sent)
    receive = house.upstream.data_received
    receive(_HEAD % (b"text/event-stream", b"transfer-encoding: chunked") + b"".join(map(_chunked, opening)))
    if dialect == "chat":
        frame = _chunked(script.delta("chat", 0, 123_456_789_012_345))

        def once() -> None:
            receive(frame)

    else:
        numbers = itertools.count(len(opening))

        def once() -> None:
            receive(_chunked(script.delta("responses", next(numbers), 123_456_789_012_345)))

    _check(house, once)
    return once


def _chunked(frame: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(frame), frame)


def _check(house: _House, once: Callable[[], object]) -> None:
    before = house.answered
    once()
    if house.answered != before + 1:
        raise SystemExit("bench.micro: the gateway in memory gave no answer; the harness no longer fits the code.")


def _steps(loop: asyncio.AbstractEventLoop) -> list[Step]:
    gateway = _House(loop).gateway
    headers = {b"host": b"127.0.0.1", b"authorization": b"Bearer " + workloads.KEY.encode("ascii")}
    frame = script.delta("chat", 0, 123_456_789_012_345)
    decoder = FrameDecoder()
    numbers = itertools.count()
    steps: list[Step] = [
        ("FrameDecoder.feed, one frame", lambda: decoder.feed(frame)),
        ("ChoicesStream.feed, one frame", _feed("chat")),
        ("ResponsesStream.feed, one frame (and making it)", _feed("responses")),
        ("making a Responses frame", lambda: script.delta("responses", next(numbers), 123_456_789_012_345)),
        ("KeyRing.authenticate", lambda: gateway.authenticate(headers)),
        ("Catalog.plan", lambda: gateway.snapshot.catalog.plan("plain/whole", 0.5)),
        ("Gateway.settle, entry included", _settle(gateway)),
    ]
    for extra, size in ((0, "0.7 KB"), (BIG, "60 KB")):
        for dialect in _PARSERS:
            steps.append((f"parse + forward, {dialect}, {size}", _parse_and_forward(dialect, extra)))
    for dialect in _PARSERS:
        steps.append((f"complete, {dialect}", _complete(dialect)))
    for dialect in _PARSERS:
        steps.append((f"whole request in memory, {dialect}", _whole_request(_House(loop), dialect)))
    for dialect in _PARSERS:
        steps.append((f"whole chunk in memory, {dialect}", _whole_chunk(_House(loop), dialect)))
    return steps


def _us(step: Callable[[], object]) -> tuple[float, float]:
    """Median and least of the rounds, in CPU microseconds per call."""
    count, used = 1, 0.0
    while used < ROUND_S:
        count *= 2
        used = _time(step, count)
    rounds = [_time(step, count) / count * 1e6 for _ in range(ROUNDS)]
    return median(rounds), min(rounds)


def _time(step: Callable[[], object], count: int) -> float:
    began = time.process_time()
    for _ in itertools.repeat(None, count):
        step()
    return time.process_time() - began


async def _run(only: list[str], *, as_json: bool) -> None:
    found: dict[str, dict[str, float]] = {}
    steps = [
        (name, step) for name, step in _steps(asyncio.get_running_loop()) if not only or any(o in name for o in only)
    ]
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    for name, step in steps:
        middle, least = _us(step)
        found[name] = {"median_us": round(middle, 3), "least_us": round(least, 3)}
        if not as_json:
            print(f"{middle:9.2f} µs  [{least:.2f}]  {name}", flush=True)
    if as_json:
        print(json.dumps(found, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="only steps with TEXT in their names"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if not given.json:
        print(
            f"CPU time, median of {ROUNDS} rounds [least]; Python {sys.version.split()[0]}, msgspec {msgspec.__version__}"
        )
    uvloop.run(_run(given.only, as_json=given.json))


if __name__ == "__main__":
    main()
