"""Two gateways on one PostgreSQL and one Valkey: what one has begun, the other finds, follows and cancels, and their
requests count together."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.storage.server import PostgresServer
from tests.support.processes import Gateway
from tests.support.valkey import ValkeyServer
from tidegate.sim import SimServer

TOML = """
[server]
port = {port}
data_dir = "{data}"
[storage]
url = "{url}"
lease = "2s"
[limits]
valkey = "{valkey}"
[projects.default.limits.requests]
day = 1000
[providers.sim]
base_url = "{sim}"
"""

SLOW = {"model": "sim/lorem?chunks=40&gap=50", "input": "hi"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    found = PostgresServer()
    try:
        found.start()
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def database(server: PostgresServer) -> str:
    """One without keys, that the tests share."""
    asyncio.run(make_database(server, "two"))
    return server.url("two")


async def make_database(server: PostgresServer, name: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(server.url("template1"))
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@asynccontextmanager
async def pair(
    folder: Path, url: str, valkey: ValkeyServer
) -> AsyncIterator[tuple[Gateway, Gateway, httpx.AsyncClient, httpx.AsyncClient]]:
    async with SimServer(keep_requests=0) as sim:
        toml = TOML.replace("{url}", url).replace("{valkey}", valkey.url)
        toml = toml.replace("{sim}", sim.base_url).replace("{data}", str(folder))
        one, two = Gateway(toml, folder, "one"), Gateway(toml, folder, "two")
        await one.start()
        await two.start()
        try:
            async with (
                httpx.AsyncClient(base_url=one.origin, timeout=30) as a,
                httpx.AsyncClient(base_url=two.origin, timeout=30) as b,
            ):
                yield one, two, a, b
        finally:
            await one.stop()
            await two.stop()


def has_ended(found: dict[str, Any]) -> bool:
    return found["status"] not in ("queued", "in_progress")


async def poll(
    client: httpx.AsyncClient, name: str, seconds: float = 15, *, until: Callable[[dict[str, Any]], bool] = has_ended
) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        while True:
            found: dict[str, Any] = (await client.get(f"/v1/responses/{name}")).json()
            if until(found):
                return found
            await asyncio.sleep(0.1)


def test_what_one_gateway_runs_the_other_follows_continues_and_cancels(
    tmp_path: Path, database: str, valkey: ValkeyServer
) -> None:
    async def scene() -> None:
        async with pair(tmp_path, database, valkey) as (_, _, a, b):
            begun = (await a.post("/v1/responses", json={**SLOW, "background": True})).json()
            found = await poll(b, begun["id"], until=lambda found: bool(found["output"]))
            assert (found["status"], found["output"][0]["status"]) == ("in_progress", "in_progress")
            arrived: list[tuple[float, bytes]] = []
            loop = asyncio.get_running_loop()
            async with b.stream("GET", f"/v1/responses/{begun['id']}?stream=true") as followed:
                async for piece in followed.aiter_raw():
                    arrived.append((loop.time(), piece))
            assert arrived[-1][0] - arrived[0][0] > 0.5, "the frames came all at once, at the end"
            whole = (await a.get(f"/v1/responses/{begun['id']}?stream=true")).content
            assert b"".join(piece for _, piece in arrived) == whole
            assert (await b.get(f"/v1/responses/{begun['id']}")).json()["status"] == "completed"

            resumed = (await b.get(f"/v1/responses/{begun['id']}?stream=true&starting_after=7")).content
            assert whole.endswith(resumed)
            assert json.loads(resumed.split(b"data: ", 1)[1].split(b"\n", 1)[0])["sequence_number"] == 8

            nxt = {"model": "sim/echo", "input": "go on", "previous_response_id": begun["id"]}
            assert (await b.post("/v1/responses", json=nxt)).json()["previous_response_id"] == begun["id"]

            begun = (
                await a.post("/v1/responses", json={**SLOW, "model": "sim/lorem?chunks=900&gap=50", "background": True})
            ).json()
            cancelled = await b.post(f"/v1/responses/{begun['id']}/cancel")
            assert cancelled.json()["status"] == "cancelled"
            assert (await a.get(f"/v1/responses/{begun['id']}")).json()["status"] == "cancelled"

    asyncio.run(scene())


@pytest.mark.fault("FAULT-KILLED")
def test_a_gateway_that_starts_again_harms_no_run_of_the_other(
    tmp_path: Path, database: str, valkey: ValkeyServer
) -> None:
    async def scene() -> None:
        async with pair(tmp_path, database, valkey) as (one, _, a, b):
            own = (await a.post("/v1/responses", json={**SLOW, "background": True})).json()
            others = [(await b.post("/v1/responses", json={**SLOW, "background": True})).json() for _ in range(3)]
            await asyncio.sleep(0.4)
            one.process.send_signal(signal.SIGKILL)
            await one.stop()
            await one.start()
            for other in others:
                assert (await poll(b, other["id"]))["status"] == "completed"
            found = await poll(b, own["id"], 40)
            assert found["status"] == "failed"
            assert found["error"]["message"].startswith("gateway_interrupted")
            again = (await b.get(f"/v1/responses/{own['id']}?stream=true")).content
            assert again.count(b"event: response.failed") == 1

    asyncio.run(scene())


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
def test_a_stream_that_is_deleted_while_it_is_followed_elsewhere_ends_in_band(
    tmp_path: Path, database: str, valkey: ValkeyServer, path: str
) -> None:
    """Deleted by a third party through the gateway that follows; the owner's own client is told too."""

    async def scene() -> None:
        async with pair(tmp_path, database, valkey) as (_, _, a, b):
            question: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
            if path == "/v1/responses":
                question = {"input": "hi"}
            body = {"model": "sim/lorem?chunks=400&gap=50", "stream": True, **question}
            grace = {"tidegate-resume-grace": "30s"}
            async with a.stream("POST", path, json=body, headers=grace) as own:
                name = own.headers["tidegate-stream"]
                lines = own.aiter_lines()
                await anext(lines)
                followed, own_rest = b"", ""
                async with b.stream("GET", f"/v1/streams/{name}") as other:
                    pieces = other.aiter_raw()
                    followed += await anext(pieces)
                    assert (await b.delete(f"/v1/streams/{name}")).status_code == 200
                    async for piece in pieces:
                        followed += piece
                async for line in lines:
                    own_rest += line + "\n"
            assert (await a.get(f"/v1/streams/{name}")).status_code == 404
        if path == "/v1/chat/completions":
            assert b"[DONE]" not in followed
            assert json.loads(followed.split(b"data: ")[-1])["error"]["code"] == "stream_deleted"
            assert "[DONE]" not in own_rest
            return
        events = [json.loads(one.split(b"\n")[0]) for one in followed.split(b"data: ")[1:]]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
        assert events[-2]["code"] == "stream_deleted"
        failed = events[-1]["response"]
        assert (failed["id"], failed["status"], failed["output"]) == (name, "failed", [])
        assert failed["error"]["message"].startswith("stream_deleted: ")
        assert '"status":"cancelled"' in own_rest

    asyncio.run(scene())


def test_a_gateway_that_was_taken_for_dead_ends_what_others_have_ended(
    tmp_path: Path, database: str, valkey: ValkeyServer
) -> None:
    """Its lease ran out while it was frozen. Nobody sees another ending than the one that is stored."""

    async def scene() -> None:
        async with pair(tmp_path, database, valkey) as (one, _, a, b):
            slow = {"model": "sim/lorem?chunks=900&gap=50", "input": "hi"}
            unseen = (await a.post("/v1/responses", json={**slow, "background": True})).json()["id"]
            async with a.stream("POST", "/v1/responses", json={**slow, "stream": True}) as own:
                name = own.headers["tidegate-stream"]
                lines = own.aiter_lines()
                await anext(lines)
                assert (await b.get(f"/v1/responses/{name}")).status_code == 200
                one.process.send_signal(signal.SIGSTOP)
                try:
                    for each in (name, unseen):
                        assert (await poll(b, each))["status"] == "failed"
                finally:
                    one.process.send_signal(signal.SIGCONT)
                events = [json.loads(line[6:]) async for line in lines if line.startswith("data: ")]
            assert events[-1]["type"] == "response.failed"
            assert events[-1]["response"]["error"]["message"].startswith("gateway_interrupted")
            for client in (a, b):
                for each in (name, unseen):
                    again = (await client.get(f"/v1/responses/{each}?stream=true")).content
                    assert again.count(b"event: response.failed") == 1
                    assert b"gateway_interrupted" in again
                    assert b"stream_deleted" not in again

    asyncio.run(scene())


@pytest.mark.fault("FAULT-VALKEY")
def test_requests_through_either_count_together_and_runs_need_no_valkey(
    tmp_path: Path, database: str, valkey: ValkeyServer
) -> None:
    async def scene() -> None:
        async with pair(tmp_path, database, valkey) as (_, _, a, b):
            quick = {"model": "sim/echo", "input": "hi"}
            answers = [await client.post("/v1/responses", json=quick) for client in (a, b, a, b)]
            left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
            assert left == [left[0], left[0] - 1, left[0] - 2, left[0] - 3]

            begun = (await a.post("/v1/responses", json={**SLOW, "background": True})).json()
            valkey.kill()
            followed = (await b.get(f"/v1/responses/{begun['id']}?stream=true")).content
            assert followed.count(b"event: response.completed") == 1
            assert (await b.post("/v1/responses", json=quick)).status_code == 200
            valkey.start()

    asyncio.run(scene())


@pytest.mark.fault("FAULT-KEY-REVOKED")
def test_a_key_that_one_gateway_revokes_is_refused_by_the_other_within_five_seconds(
    tmp_path: Path, server: PostgresServer, valkey: ValkeyServer
) -> None:
    """On connections that are open, and whichever of the two it was."""

    async def scene() -> None:
        await make_database(server, "keys")
        async with pair(tmp_path, server.url("keys"), valkey) as (_, _, a, b):
            admin = await make_admin(tmp_path)
            for gateway in (a, b):
                await until_status(gateway, admin, 200, 5, path="/admin/v1/keys")
            for name, here, there in (("first", a, b), ("second", b, a)):
                made = (await here.post("/admin/v1/keys", json={"name": name}, headers=admin)).json()
                key = {"authorization": f"Bearer {made['key']}"}
                await until_status(here, key, 200, 0)
                await until_status(there, key, 200, 5)
                revoked = await here.post(f"/admin/v1/keys/{made['id']}/revoke", headers=admin)
                assert revoked.status_code == 200, revoked.text
                await until_status(here, key, 401, 0)
                await until_status(there, key, 401, 5)

    asyncio.run(scene())


async def make_admin(folder: Path) -> dict[str, str]:
    """The headers of an owner, made where the database is known."""
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidegate", "admins", "create", "tester", "--json", "--config", "one.toml"),
        stdout=asyncio.subprocess.PIPE,
        cwd=folder,
    )
    out, _ = await made.communicate()
    return {"authorization": f"Bearer {json.loads(out)['key']}"}


async def until_status(
    client: httpx.AsyncClient, key: dict[str, str], status: int, seconds: float, *, path: str = "/v1/models"
) -> None:
    """The gateway answers with `status` after at most so many seconds; until then with the other one."""
    before = {200: 401, 401: 200}[status]
    until = time.monotonic() + seconds
    while True:
        asked_at = time.monotonic()
        answer = await client.get(path, headers=key)
        if answer.status_code == status:
            return
        assert answer.status_code == before
        assert asked_at < until, f"it still answers {answer.status_code}"
        await asyncio.sleep(0.05)
