"""`python -m bench.storage`: what the storage costs, per appended segment and per run, and how fast it is read.

CPU time of the whole process per unit, and of the event loop's thread alone: the latter is what the hot path loses. The
server of PostgreSQL is a process of its own and is not counted. On a busy machine take nothing under 25 % as a finding.
"""

import argparse
import asyncio
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import asyncpg
import uvloop

from tests.storage.server import PostgresServer
from tidegate.config.secret import Secret
from tidegate.storage.records import Ending, Item, NewRun, Ref, Run, Tenant
from tidegate.storage.storage import Settings, Storage

TENANT = Tenant("bench", "default")
FRAME = 270
"""Bytes of one frame, as `bench.script` makes them."""


class Meter:
    """CPU time of the process and of this thread since it began."""

    def __init__(self) -> None:
        self._process, self._thread, self._wall = time.process_time(), time.thread_time(), time.perf_counter()

    def each(self, count: int) -> str:
        process = (time.process_time() - self._process) / count * 1e6
        thread = (time.thread_time() - self._thread) / count * 1e6
        return f"{process:8.1f} µs, of it on the loop {thread:6.1f} µs; {count / (time.perf_counter() - self._wall):9,.0f}/s"


def begin(storage: Storage, previous: Ref | None = None) -> Run:
    new = NewRun(
        id=f"resp_{os.urandom(24).hex()}",
        tenant=TENANT,
        key="bench",
        dialect="responses",
        model="sim/echo",
        created_at=time.time(),
        previous=previous,
        request=b'{"temperature":1.0,"tools":[]}' + b" " * 300,
    )
    return storage.put_run(new, [Item(f"msg_{os.urandom(24).hex()}", b'{"type":"message"}' + b" " * 400)])


def end(storage: Storage, made: Run) -> None:
    item = Item(f"msg_{os.urandom(24).hex()}", b'{"type":"message"}' + b" " * 800)
    storage.finish_run(made, Ending(status="completed", completed_at=time.time(), usage=b"{}" * 20), [item])


async def segments(storage: Storage, given: argparse.Namespace) -> None:
    """So many streams, each with a segment every 100 ms, at the pace of the clock."""
    made = [begin(storage) for _ in range(given.streams)]
    await storage.durable(made[-1])
    frames = os.urandom(FRAME * given.frames)
    rounds = max(1, int(given.seconds / 0.1))
    late: list[float] = []
    loop = asyncio.get_running_loop()
    meter = Meter()
    for number in range(rounds):
        began = loop.time()
        for one in made:
            storage.append_segment(one, number * given.frames, (number + 1) * given.frames - 1, frames)
        while (rest := began + 0.1 - loop.time()) > 0:
            at = loop.time()
            await asyncio.sleep(min(rest, 0.002))
            late.append(loop.time() - at - min(rest, 0.002))
    await storage.durable(made[-1])
    count = rounds * given.streams
    shown = meter.each(count)
    late.sort()
    print(f"  segment of {given.frames} frames, {given.streams} streams   {shown}")
    print(
        f"    the loop was late by p50 {late[len(late) // 2] * 1e3:.2f}, p99 {late[int(len(late) * 0.99)] * 1e3:.2f}, "
        f"longest {late[-1] * 1e3:.2f} ms (uvloop's clock has whole milliseconds)"
    )
    for one in made:
        end(storage, one)
    await storage.durable(made[-1])


async def runs(storage: Storage, given: argparse.Namespace) -> None:
    """Runs of one input and one output item, nobody waiting."""
    count = given.runs
    meter = Meter()
    last: Run | None = None
    for number in range(count):
        last = begin(storage)
        end(storage, last)
        if number % 50 == 49:
            await asyncio.sleep(0.01)
    assert last is not None
    await storage.durable(last)
    print(f"  run with two items                    {meter.each(count)}")


async def fill(storage: Storage, given: argparse.Namespace) -> list[str]:
    """Rows to be read: runs of ten segments of 40 frames, until there are so many bytes; and a chain of 50 turns."""
    found: list[str] = []
    size = 0
    frames = os.urandom(FRAME * 40)
    waited = 0
    while size < given.megabytes * 1e6:
        made = begin(storage)
        for number in range(10):
            storage.append_segment(made, number * 40, number * 40 + 39, frames)
        end(storage, made)
        size += made.size
        found.append(made.new.id)
        if size - waited > 16e6:
            waited = size
            await storage.durable(made)
    return found


async def chain(storage: Storage) -> str:
    """A conversation of 50 turns; the id of the last one."""
    made = begin(storage)
    end(storage, made)
    for _ in range(49):
        made = begin(storage, previous=made.ref)
        end(storage, made)
    await storage.durable(made)
    return made.new.id


async def reading(storage: Storage, url: str, given: argparse.Namespace) -> None:
    ids = await fill(storage, given)
    leaf = await chain(storage)
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(url)
        await connection.execute("ANALYZE")  # as autovacuum does in time
        await connection.close()
    draw = random.Random(5)

    works: dict[str, Callable[[], Awaitable[object]]] = {
        "response by its id": lambda: storage.get_run(TENANT, draw.choice(ids)),
        "journal of 400 frames, from the middle": lambda: storage.read_journal(TENANT, draw.choice(ids), after=200),
        "first page of input items": lambda: storage.list_items(TENANT, draw.choice(ids)),
        "history of 50 turns": lambda: storage.read_chain(TENANT, leaf),
        "stored bytes of a key": lambda: storage.stored(TENANT, "bench"),
    }
    print(f"  with {len(ids):,} runs, {len(ids) * 10:,} segments, {given.megabytes:,} MB:")
    for name, work in works.items():
        took = []
        for _ in range(given.reads):
            began = time.perf_counter()
            assert await work() is not None
            took.append((time.perf_counter() - began) * 1e3)
        took.sort()
        print(f"    {name:42} p50 {median(took):6.2f} ms, p99 {took[int(len(took) * 0.99)]:6.2f} ms")


@asynccontextmanager
async def opened(url: str, keys: list[Secret]) -> AsyncIterator[Storage]:
    began = time.perf_counter()
    storage = await Storage.open(url, settings=Settings(spool_bytes=512 * 1024**2, patience_s=300.0), master_keys=keys)
    print(f"  opened in {(time.perf_counter() - began) * 1e3:.0f} ms")
    try:
        yield storage
    finally:
        await storage.close()


async def measure(name: str, url: str, given: argparse.Namespace) -> None:
    keys = [Secret("0123456789abcdef0123456789abcdef")] if given.sealed else []
    print(f"{name}{', sealed' if keys else ''}")
    async with opened(url, keys):
        pass
    async with opened(url, keys) as storage:
        await segments(storage, given)
        await runs(storage, given)
        await reading(storage, url, given)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.storage", description=__doc__)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], action="append", help="only this one")
    parser.add_argument("--folder", help="where the SQLite file is made (default: the system's temporary folder)")
    parser.add_argument("--url", help="a PostgreSQL database instead of one from the wheel; it must be empty")
    parser.add_argument("--sealed", action="store_true", help="encrypt content")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--frames", type=int, default=10, help="frames per segment")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the window with segments")
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument(
        "--megabytes", type=int, default=300, help="what is stored before it is read; 10000 for a long run"
    )
    parser.add_argument("--reads", type=int, default=300)
    given = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}")
    engines = given.engine or ["sqlite", "postgresql"]
    if "sqlite" in engines:
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-", dir=given.folder) as folder:
            uvloop.run(measure("SQLite", f"sqlite:///{Path(folder) / 'bench.db'}", given))
    if "postgresql" in engines:
        if given.url:
            uvloop.run(measure("PostgreSQL", given.url, given))
            return
        server = PostgresServer()
        try:
            server.start()
            uvloop.run(measure("PostgreSQL", server.url("postgres"), given))
        finally:
            server.close()


if __name__ == "__main__":
    main()
