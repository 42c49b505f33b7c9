"""The wall clock of the machine is set while the gateway runs: by days, forward and back."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import Gateway
from tests.support.shifted import WallClock
from tidegate.sim import SimServer

KEY, OTHER = "key-of-the-clock-0123456789abcdef", "key-of-a-minute-0123456789abcdef"
DAY_S = 86400.0

TOML = f"""
[server]
port = {{port}}
data_dir = "{{data}}"
[logging]
format = "json"
[providers.sim]
base_url = "{{sim}}"
timeouts = {{ first_event = "700ms", idle = "700ms" }}
[[keys]]
name = "daily"
secret = "{KEY}"
limits = {{ requests = {{ day = 4 }} }}
[[keys]]
name = "minutely"
secret = "{OTHER}"
limits = {{ requests = {{ minute = 2 }} }}
"""


@pytest.mark.fault("FAULT-CLOCK")
def test_a_wall_clock_that_jumps_neither_hurries_nor_delays_anything(tmp_path: Path) -> None:
    clock = WallClock(tmp_path / "clock")

    async def scene() -> None:
        async with SimServer(keep_requests=0) as sim:
            toml = TOML.replace("{sim}", sim.base_url).replace("{data}", str(tmp_path))
            gateway = Gateway(toml, tmp_path, module=("tests.support.shifted", str(clock.file)))
            await gateway.start()
            try:
                async with httpx.AsyncClient(base_url=gateway.origin, timeout=10) as client:
                    await streams(client, clock)
                    await windows(client, clock)
            finally:
                await gateway.stop()
        lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith('{"')]
        requests = [line for line in lines if line["event"] == "request"]
        took = {line["model"]: line["duration_ms"] for line in requests}
        assert 800 < took["sim/lorem?chunks=9&gap=100"] < 5000
        assert 600 < took["sim/lorem?fault=stall"] < 5000
        assert {line["level"] for line in lines} <= {"info", "warning"}

    asyncio.run(scene())


async def streams(client: httpx.AsyncClient, clock: WallClock) -> None:
    """No clock of a stream fires for it, and those that are to fire do."""
    body: dict[str, Any] = {"model": "sim/lorem?chunks=9&gap=100", "input": "x", "stream": True}
    text, jumps = "", [DAY_S, -DAY_S, 3600.0, 0.0]
    async with client.stream("POST", "/v1/responses", json=body, headers=bearer(KEY)) as answer:
        async for piece in answer.aiter_text():
            text += piece
            if jumps:
                clock.set(jumps.pop(0))
    assert not jumps
    assert text.count("event: response.completed\n") == 1
    name = json.loads(text.split("data: ", 1)[1].split("\n", 1)[0])["response"]["id"]
    clock.set(-DAY_S / 2)
    assert (await client.get(f"/v1/responses/{name}?stream=true", headers=bearer(KEY))).text == text

    began = time.monotonic()
    body = {"model": "sim/lorem?fault=stall", "input": "x", "stream": True}
    async with client.stream("POST", "/v1/responses", json=body, headers=bearer(KEY)) as answer:
        text = ""
        async for piece in answer.aiter_text():
            clock.set(-30 * DAY_S)
            text += piece
    assert text.count("event: response.failed\n") == 1
    assert "idle" in text
    assert 0.6 < time.monotonic() - began < 5


async def windows(client: httpx.AsyncClient, clock: WallClock) -> None:
    """A minute has sixty seconds, whatever the clock says; no day gives its limit twice."""
    clock.set(0.0)
    assert await statuses(client, OTHER, 3) == [200, 200, 429]
    for ahead in (3600.0, -3600.0, DAY_S):
        clock.set(ahead)
        assert await statuses(client, OTHER, 1) == [429]

    clock.set(0.0)
    assert await statuses(client, KEY, 3) == [200, 200, 429]  # two of four were used for the streams
    clock.set(-DAY_S)
    assert await statuses(client, KEY, 1) == [429]
    clock.set(DAY_S)
    assert await statuses(client, KEY, 5) == [200, 200, 200, 200, 429]
    clock.set(0.0)
    assert await statuses(client, KEY, 1) == [429]


async def statuses(client: httpx.AsyncClient, key: str, times: int) -> list[int]:
    body = {"model": "sim/echo", "input": "x"}
    return [(await client.post("/v1/responses", json=body, headers=bearer(key))).status_code for _ in range(times)]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
