"""What a gateway costs before it does anything: its start, its memory at rest, and the memory of an open stream."""

import time
from collections.abc import Callable

import msgspec

from bench.client import Load, MeasurementFailed, ask
from bench.orders import HoldOrder
from bench.processes import cpu_use, rss_bytes
from bench.targets import Target
from bench.workloads import stream_request, whole_request

__all__ = ["Memory", "Start", "hold", "measure_memory", "measure_start"]

WARM_UP_STREAMS = 20
SETTLE_S = 0.5


class Start(msgspec.Struct):
    """Wall time from the start of the process to its first answer from upstream, CPU time for it, memory after it."""

    seconds: float
    cpu_s: float
    rss_mb: float


class Memory(msgspec.Struct):
    """Resident memory that each of `streams` open streams added."""

    streams: int
    kb_per_stream: float


def measure_start(start: Callable[[], Target]) -> Start:
    """Starts a server, asks it one question, and stops it."""
    began = time.perf_counter()
    target = start()
    try:
        status, answer = ask(target.port, target.dressed(whole_request("chat", "plain")))
        seconds = time.perf_counter() - began
        if status != 200:
            raise MeasurementFailed(answer[:800])
        pids = target.pids()
        return Start(seconds, cpu_use(pids, 0).processes, rss_bytes(pids) / 1e6)
    finally:
        target.stop()


def measure_memory(start: Callable[[], Target], load: Load, *, streams: int, secure: bool) -> Memory:
    """A fresh server holds `streams` streams that have begun and are silent. Raises MeasurementFailed."""
    target = start()
    try:
        return hold(target, load, streams=streams, secure=secure)
    finally:
        target.stop()


def hold(target: Target, load: Load, *, streams: int, secure: bool) -> Memory:
    """What that many streams add to a server that is just started. Raises MeasurementFailed."""
    port = target.secure_port if secure else target.port
    question = target.dressed(stream_request("chat", "secure" if secure else "plain", "idle"))
    load.run(HoldOrder(port, question, WARM_UP_STREAMS))
    load.run(HoldOrder(port, question, 0))
    time.sleep(SETTLE_S)
    before = rss_bytes(target.pids())
    load.run(HoldOrder(port, question, streams))
    time.sleep(SETTLE_S)
    after = rss_bytes(target.pids())
    load.run(HoldOrder(port, question, 0))
    return Memory(streams, (after - before) / streams / 1024)
