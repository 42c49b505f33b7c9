"""The disk is full: the database can write nothing, and neither can the log. Nobody waits for either."""

import asyncio
import json
import re
import resource
import sqlite3
from pathlib import Path

import httpx
import pytest

from tests.support.processes import Gateway
from tidegate.sim import SimServer

TOML = """
[server]
port = {port}
data_dir = "{data}"
[logging]
format = "json"
[routing]
retries = 0
[providers.sim]
base_url = "{sim}"
credentials = ["sk-of-the-provider"]
"""

UNAVAILABLE = "storage_unavailable"

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the system cannot limit another process")


def fill(gateway: Gateway) -> None:
    """From now on no file of the process grows: what reaches for room is told that there is none."""
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def make_room(gateway: Gateway) -> None:
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


async def figures(client: httpx.AsyncClient) -> dict[str, float]:
    metrics = (await client.get("/metrics")).text
    return {name: float(value) for name, value in re.findall(r"^(tidegate_\w+) (\S+)$", metrics, re.MULTILINE)}


async def eventually(client: httpx.AsyncClient, name: str, value: float) -> None:
    async with asyncio.timeout(10):
        while True:
            if (await figures(client))[name] == value:
                return
            await asyncio.sleep(0.05)


def entries(folder: Path) -> dict[str, list[str]]:
    """How the requests for each model ended, as the ledger has it."""
    database = sqlite3.connect(folder / "tidegate.db")
    try:
        found: dict[str, list[str]] = {}
        for model, ending in database.execute("SELECT model, ending FROM ledger"):
            found.setdefault(model, []).append(ending)
        return found
    finally:
        database.close()


@pytest.mark.fault("FAULT-DB-DOWN")
def test_a_full_disk_holds_up_nobody_and_what_waits_is_written_when_there_is_room(tmp_path: Path) -> None:
    async def scene() -> None:
        async with SimServer(keep_requests=0) as sim:
            gateway = Gateway(TOML.replace("{sim}", sim.base_url).replace("{data}", str(tmp_path)), tmp_path)
            await gateway.start()
            try:
                async with httpx.AsyncClient(base_url=gateway.origin, timeout=5) as client:
                    await outage(gateway, client)
            finally:
                await gateway.stop()
        assert entries(tmp_path) == {
            "sim/echo": ["completed"],
            "sim/zh": ["completed"],
            "sim/lorem?chunks=4": ["completed"],
            "sim/echo?status=401": ["failed"],
            "sim/lorem?fault=cut": ["failed"],
        }
        assert '"event":"storage_recovered"' in gateway.log
        assert "Traceback" not in gateway.log

    asyncio.run(scene())


async def outage(gateway: Gateway, client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while True:
            if (admin := re.search(r"tga-\w+", gateway.log)) is not None:
                break
            await asyncio.sleep(0.05)  # it is shown when the provider has told its models

    async def ask(model: str, *, stream: bool = False) -> httpx.Response:
        return await client.post("/v1/responses", json={"model": model, "input": "hi", "stream": stream})

    before = (await ask("sim/echo")).json()
    await eventually(client, "tidegate_storage_queued_bytes", 0)
    fill(gateway)

    # Answers go on as ever, whatever they come to and whatever the log had to say of them.
    whole = await ask("sim/zh")
    assert (whole.status_code, whole.json()["status"]) == (200, "completed")
    streamed = (await ask("sim/lorem?chunks=4", stream=True)).text
    assert streamed.count("event: response.completed\n") == 1
    refused = await ask("sim/echo?status=401")
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_auth")
    cut = (await ask("sim/lorem?fault=cut", stream=True)).text
    assert cut.count("event: response.failed\n") == 1

    # What needs the database is refused at once, in words; what is there already is read.
    assert (await client.get(f"/v1/responses/{before['id']}")).json() == before
    for answer in (
        await client.get(f"/v1/responses/{whole.json()['id']}"),
        await client.post("/v1/conversations", json={}),
        await client.post("/admin/v1/keys", json={"name": "new"}, headers={"authorization": f"Bearer {admin[0]}"}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, UNAVAILABLE)
    assert (await client.get("/readyz")).status_code == 200
    now = await figures(client)
    assert now["tidegate_storage_failing"] == 1
    assert now["tidegate_storage_queued_bytes"] > 0
    assert now["tidegate_log_lines_dropped"] > 0

    make_room(gateway)
    await eventually(client, "tidegate_storage_failing", 0)
    await eventually(client, "tidegate_storage_queued_bytes", 0)
    assert (await client.get(f"/v1/responses/{whole.json()['id']}")).json() == whole.json()
    name = json.loads(streamed.split("data: ", 1)[1].split("\n", 1)[0])["response"]["id"]
    assert (await client.get(f"/v1/responses/{name}?stream=true")).text == streamed
    now = await figures(client)
    assert (now["tidegate_storage_lost_runs"], now["tidegate_storage_lost_usage"]) == (0, 0)
