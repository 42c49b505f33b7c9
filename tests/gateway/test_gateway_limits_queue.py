"""Requests over `limits.streams` that wait for one of those under way to end, over real sockets."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.api import request_body
from tests.support.running import Running, wait_for

KEY = "key-0123456789abcdef0123456789ab-queued"
HEADERS = {"authorization": f"Bearer {KEY}"}
TOML = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
[limits]
queue = 3
queue_timeout = "2500ms"
[[keys]]
name = "queued"
secret = "key-0123456789abcdef0123456789ab-queued"
limits = { streams = 1 }
"""
QUICK = request_body("chat", "sim/echo", stream=False)


@pytest.fixture
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


def lasting(milliseconds: int) -> dict[str, object]:
    """A request whose answer takes so long."""
    return request_body("chat", f"sim/lorem?chunks=10&gap={milliseconds // 10}", stream=True)


async def until(gateway: Running, metric: str, count: int) -> None:
    """Until the gateway counts so many."""
    async with httpx.AsyncClient(base_url=gateway.origin, headers=HEADERS) as client, asyncio.timeout(5):
        while f"\n{metric} {count}.0\n" not in (await client.get("/metrics")).text:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)


def test_who_waits_is_served_in_turn_as_soon_as_there_is_a_place(gateway: Running) -> None:
    async def scenario() -> None:
        ended: list[str] = []

        async def ask(client: httpx.AsyncClient, name: str, body: dict[str, object]) -> None:
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            ended.append(name)

        async with httpx.AsyncClient(base_url=gateway.origin, headers=HEADERS, timeout=10) as client:
            running = asyncio.create_task(ask(client, "first", lasting(1000)))
            await until(gateway, "tidegate_reservations_open", 1)
            others = []
            for place, name in enumerate(("second", "third", "fourth"), 1):
                others.append(asyncio.create_task(ask(client, name, QUICK)))
                await until(gateway, "tidegate_limits_waiting", place)
            began = time.monotonic()
            assert (await client.post("/v1/chat/completions", json=QUICK)).status_code == 429  # the queue is full
            assert time.monotonic() - began < 1
            await asyncio.gather(running, *others)
        assert ended == ["first", "second", "third", "fourth"]
        await until(gateway, "tidegate_limits_waiting", 0)

    asyncio.run(scenario())


def test_who_waits_in_vain_is_told_what_stands_in_the_way(gateway: Running) -> None:
    async def scenario() -> None:
        async with httpx.AsyncClient(base_url=gateway.origin, headers=HEADERS, timeout=10) as client:
            async with client.stream("POST", "/v1/chat/completions", json=lasting(5000)) as running:
                assert running.status_code == 200
                began = time.monotonic()
                refused = await client.post("/v1/chat/completions", json=QUICK)
                assert 2.4 < time.monotonic() - began < 6
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                assert "requests under way at once (limits.streams): limit 1" in refused.json()["error"]["message"]
            assert wait_for(
                lambda: httpx.post(f"{gateway.origin}/v1/chat/completions", json=QUICK, headers=HEADERS).is_success
            )

    asyncio.run(scenario())


def test_a_client_that_leaves_gives_up_its_place_in_the_queue(gateway: Running) -> None:
    async def scenario() -> None:
        async with httpx.AsyncClient(base_url=gateway.origin, headers=HEADERS, timeout=10) as client:
            async with client.stream("POST", "/v1/chat/completions", json=lasting(1000)):
                leaving = [asyncio.create_task(client.post("/v1/chat/completions", json=QUICK)) for _ in range(3)]
                await until(gateway, "tidegate_limits_waiting", 3)
                for task in leaving:
                    task.cancel()
                await asyncio.gather(*leaving, return_exceptions=True)
                await until(gateway, "tidegate_limits_waiting", 0)
                answer = await client.post("/v1/chat/completions", json=QUICK)
            assert answer.status_code == 200  # nobody who had left took the place
            assert (await client.post("/v1/chat/completions", json=QUICK)).status_code == 200
        assert wait_for(
            lambda: "tidegate_reservations_open 0.0" in httpx.get(f"{gateway.origin}/metrics", headers=HEADERS).text
        )

    asyncio.run(scenario())
