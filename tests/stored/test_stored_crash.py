"""The gateway is killed in the middle of many streams, and started again: nobody loses an event or gets one twice."""

import asyncio
import contextlib
import json
import math
import os
import random
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import Gateway
from tidegate.sim import SimServer

ROUNDS = int(os.environ.get("TIDEGATE_CRASH_ROUNDS", "2"))
"""The longer mode: TIDEGATE_CRASH_ROUNDS=200 make test ARGS=tests/stored/test_stored_crash.py"""

STREAMS = 100
WINDOW_S = 0.5
"""What a process may take with it when it is killed, on a busy machine: a run that began just then may be unknown, one
that ended just then may count as interrupted."""

TERMINAL = {"response.completed", "response.incomplete", "response.failed"}

TOML = """
[server]
port = {port}
data_dir = "{data}"
[providers.sim]
base_url = "{sim}"
"""


class Watcher:
    """A client of one stream, which comes back until it has seen the end."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.begun_at = math.inf
        self.heard_at = 0.0

    @property
    def name(self) -> str:
        return str(self.events[0]["response"]["id"])

    @property
    def has_ended(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] in TERMINAL

    async def create(self, client: httpx.AsyncClient, model: str) -> None:
        await self._read(client, "POST", "/v1/responses", json={"model": model, "input": "hi", "stream": True})

    async def resume(self, client: httpx.AsyncClient) -> None:
        after = self.events[-1]["sequence_number"]
        await self._read(client, "GET", f"/v1/responses/{self.name}?stream=true&starting_after={after}")

    async def _read(self, client: httpx.AsyncClient, method: str, path: str, **members: Any) -> None:
        try:
            async with client.stream(method, path, **members) as answer:
                assert answer.status_code == 200, await answer.aread()
                async for data in data_lines(answer):
                    event = json.loads(data)
                    if event["type"] != "keepalive":
                        self.heard_at = time.monotonic()
                        self.begun_at = min(self.begun_at, self.heard_at)
                        self.events.append(event)
        except httpx.TransportError:
            return  # the gateway was killed


async def data_lines(answer: httpx.Response) -> AsyncIterator[str]:
    """The data of whole frames: a frame that was cut does not count."""
    held = ""
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            held = line[6:]
        elif not line and held:
            yield held
            held = ""


@pytest.mark.fault("FAULT-KILLED")
@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_a_kill_loses_no_event_and_doubles_none(tmp_path: Path) -> None:
    asyncio.run(scene(tmp_path))


async def scene(folder: Path) -> None:
    dice = random.Random(20261125)
    async with SimServer(keep_requests=0) as sim:
        gateway = Gateway(TOML.replace("{sim}", sim.base_url).replace("{data}", str(folder)), folder)
        for _ in range(ROUNDS):
            await gateway.start()
            limits = httpx.Limits(max_connections=2 * STREAMS)
            async with httpx.AsyncClient(base_url=gateway.origin, timeout=20, limits=limits) as client:
                acknowledged = (await client.post("/v1/responses", json={"model": "sim/echo", "input": "kept"})).json()
                await asyncio.sleep(0.2)
                watchers = [Watcher() for _ in range(STREAMS)]
                pace = [f"sim/lorem?chunks={dice.randint(5, 60)}&gap={10 * dice.randint(1, 4)}" for _ in watchers]
                tasks = [
                    asyncio.create_task(watcher.create(client, model))
                    for watcher, model in zip(watchers, pace, strict=True)
                ]
                await asyncio.sleep(dice.uniform(0.8, 2.0))
                gateway.process.send_signal(signal.SIGKILL)
                killed_at = time.monotonic()
                await asyncio.gather(*tasks)
            await gateway.stop()
            check_database(folder / "tidegate.db")
            await gateway.start()
            async with httpx.AsyncClient(base_url=gateway.origin, timeout=20, limits=limits) as client:
                begun = [watcher for watcher in watchers if watcher.begun_at < killed_at - WINDOW_S]
                assert begun
                cut = [watcher for watcher in begun if not watcher.has_ended]
                await asyncio.gather(*(watcher.resume(client) for watcher in cut))
                for watcher in begun:
                    check_events(watcher.events)
                    if watcher not in cut and watcher.heard_at > killed_at - WINDOW_S:
                        continue  # its end may not have been written any more
                    stored = (await client.get(f"/v1/responses/{watcher.name}")).json()
                    assert stored["status"] == watcher.events[-1]["response"]["status"]
                    assert stored == watcher.events[-1]["response"]
                again = (await client.get(f"/v1/responses/{acknowledged['id']}")).json()
                assert again == acknowledged
            await gateway.stop()


def check_events(events: list[dict[str, Any]]) -> None:
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(len(numbers)))
    assert [event["type"] for event in events if event["type"] in TERMINAL] == [events[-1]["type"]]
    if events[-1]["type"] == "response.failed":
        error = events[-1]["response"]["error"]
        assert error["code"] == "server_error"
        assert error["message"].startswith("gateway_interrupted")


def check_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


@pytest.mark.fault("FAULT-KILLED")
def test_a_stream_without_numbers_that_was_cut_ends_with_an_error(tmp_path: Path) -> None:
    async def read(client: httpx.AsyncClient, path: str, names: dict[str, str], is_under_way: asyncio.Event) -> None:
        body = {
            "model": "sim/lorem?chunks=400&gap=20",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
            "max_tokens": 4000,
        }
        frames = 0
        async with client.stream("POST", path, json=body, headers={"tidegate-resume-grace": "30s"}) as answer:
            names[path] = answer.headers["tidegate-stream"]
            with contextlib.suppress(httpx.TransportError):  # the gateway is killed
                async for _ in data_lines(answer):
                    frames += 1
                    if frames == 30:  # the first ones are long in the journal
                        is_under_way.set()

    async def scene() -> dict[str, str]:
        names: dict[str, str] = {}
        async with SimServer(keep_requests=0) as sim:
            gateway = Gateway(TOML.replace("{sim}", sim.base_url).replace("{data}", str(tmp_path)), tmp_path)
            await gateway.start()
            async with httpx.AsyncClient(base_url=gateway.origin, timeout=20) as client, asyncio.TaskGroup() as readers:
                under_way = {path: asyncio.Event() for path in ("/v1/chat/completions", "/v1/messages")}
                for path, event in under_way.items():
                    readers.create_task(read(client, path, names, event))
                async with asyncio.timeout(20):
                    await asyncio.gather(*(event.wait() for event in under_way.values()))
                gateway.process.send_signal(signal.SIGKILL)
            await gateway.stop()
            await gateway.start()
            async with httpx.AsyncClient(base_url=gateway.origin, timeout=20) as client:
                kept = {path: (await client.get(f"/v1/streams/{name}")).text for path, name in names.items()}
            await gateway.stop()
        return kept

    for path, kept in asyncio.run(scene()).items():
        frames = [frame for frame in kept.split("\n\n") if frame]
        assert len(frames) > 5
        assert "gateway_interrupted" in frames[-1]
        assert ("event: error" in frames[-1]) is (path == "/v1/messages")
        assert "[DONE]" not in kept
        assert "message_stop" not in kept
