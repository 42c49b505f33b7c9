"""The gateway is killed in the middle of its work: no entry is there twice, and none is missing but the latest.

The longer mode: TIDEGATE_CRASH_ROUNDS=100 make test ARGS=tests/access/test_ledger_crash.py
"""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import Gateway
from tidegate.sim import SimServer

ROUNDS = int(os.environ.get("TIDEGATE_CRASH_ROUNDS", "1"))

WINDOW_S = 0.05
"""What a kill may take with it, by the promise."""
LOOKED_BACK_S = 0.5
"""For how long before the kill it counts what time the machine gave to nobody."""

TOML = """
[server]
port = {port}
data_dir = "{data}"
[providers.sim]
base_url = "{sim}"
[prices."sim/*"]
input = 1.0
output = 2.0
"""


@pytest.mark.fault("FAULT-KILLED")
@pytest.mark.security("SEC-API4-LEDGER")
@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_a_kill_doubles_no_entry_and_takes_none_but_the_latest(tmp_path: Path) -> None:
    asyncio.run(scene(tmp_path))


async def scene(folder: Path) -> None:
    database = folder / "tidegate.db"
    answered: dict[str, float] = {}
    begun: dict[str, float] = {}
    oldest_missing = 0.0
    stalls = Stalls()
    stalls.start()
    async with SimServer(keep_requests=0) as sim:
        gateway = Gateway(TOML.replace("{sim}", sim.base_url).replace("{data}", str(folder)), folder)
        for _ in range(ROUNDS):
            await gateway.start()
            async with httpx.AsyncClient(
                base_url=gateway.origin, timeout=20, limits=httpx.Limits(max_connections=60)
            ) as client:
                tasks = [asyncio.create_task(ask_on(client, answered)) for _ in range(8)]
                tasks += [asyncio.create_task(hold(client, begun, stored=number % 2 == 0)) for number in range(20)]
                await asyncio.sleep(1.0)
                killed_at = time.monotonic()
                gateway.process.send_signal(signal.SIGKILL)
                await asyncio.gather(*tasks)
            await gateway.stop()
            rows = read(database, "SELECT detail, settled_at FROM ledger")
            found = {json.loads(detail)["request_id"]: settled_at for detail, settled_at in rows}
            assert len(found) == len(rows), "an entry is there twice"
            for times, is_settled in ((answered, True), (begun, False)):
                for name, at in times.items():
                    if name not in found or (is_settled and found[name] is None):
                        oldest_missing = max(oldest_missing, killed_at - at)
            stalled = stalls.longest(killed_at)
            assert oldest_missing < WINDOW_S + stalled, (
                f"an entry of {oldest_missing * 1000:.0f} ms before the kill is missing, and the machine had stood still for "
                f"{stalled * 1000:.0f} ms at most"
            )
            # Whoever starts next settles what was left open, once.
            cut = {name for name, settled_at in found.items() if settled_at is None}
            assert cut
            await gateway.start()
            await gateway.stop()
            check_closed(database, cut)
            answered = {}
            begun = {}
    stalls.stop()
    print(f"the oldest entry that a kill took was {oldest_missing * 1000:.1f} ms old")


class Stalls(threading.Thread):
    """Notes how long the machine kept a thread waiting that wanted to run every millisecond: nobody's writer can commit in
    that time either. A quiet machine has none to speak of."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seen: deque[tuple[float, float]] = deque(maxlen=5000)
        self._is_over = threading.Event()

    def run(self) -> None:
        before = time.monotonic()
        while not self._is_over.wait(0.001):
            now = time.monotonic()
            self._seen.append((now, now - before))
            before = now

    def stop(self) -> None:
        self._is_over.set()
        self.join()

    def longest(self, killed_at: float) -> float:
        """Of the stalls around a kill, beyond the few milliseconds by which any sleep is late."""
        found = [length for at, length in list(self._seen) if killed_at - LOOKED_BACK_S < at < killed_at + length]
        return max(0.0, max(found, default=0.0) - 0.005)


async def ask_on(client: httpx.AsyncClient, answered: dict[str, float]) -> None:
    """Small requests, one after the other, until the gateway is gone."""
    body = {"model": "sim/echo", "messages": [{"role": "user", "content": "hi"}]}
    with contextlib.suppress(httpx.TransportError):
        while True:
            reply = await client.post("/v1/chat/completions", json=body)
            assert reply.status_code == 200
            answered[reply.headers["x-request-id"]] = time.monotonic()


async def hold(client: httpx.AsyncClient, begun: dict[str, float], *, stored: bool) -> None:
    """One long stream."""
    body = {"model": "sim/lorem?chunks=500&gap=20", "input": "hi", "stream": True, "store": stored}
    with contextlib.suppress(httpx.TransportError):
        async with client.stream("POST", "/v1/responses", json=body) as answer:
            begun[answer.headers["x-request-id"]] = time.monotonic()
            async for _ in answer.aiter_bytes():
                pass


def check_closed(database: Path, cut: set[str]) -> None:
    rows = read(
        database,
        "SELECT detail, settled_at, ending, estimated, input_tokens, output_tokens, cost_nano, response_id FROM ledger",
    )
    for detail, settled_at, ending, estimated, given, taken, cost_nano, _ in rows:
        assert settled_at is not None
        if json.loads(detail)["request_id"] in cut:
            assert (ending, estimated) == ("interrupted", 1)
            assert given > 0
            assert cost_nano == given * 1000 + taken * 2000
    # Of a stored answer is known how far it came.
    outputs = [row[5] for row in rows if json.loads(row[0])["request_id"] in cut]
    assert any(outputs)
    assert not all(outputs)
    [(count, given, taken, cost)] = read(
        database, "SELECT sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nano) FROM usage_hours"
    )
    assert (count, given, taken, cost) == (
        len(rows),
        sum(row[4] for row in rows),
        sum(row[5] for row in rows),
        sum(row[6] for row in rows),
    )


def read(database: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
