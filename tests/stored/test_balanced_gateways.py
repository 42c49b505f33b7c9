"""Two gateways on one PostgreSQL behind a balancer: what the client has just had from one, the other knows at once."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.storage.server import PostgresServer
from tests.support.processes import Gateway
from tests.support.running import Running

TOML = """
[server]
port = 0
[storage]
url = "{url}"
[providers.sim]
base_url = "{sim}"
"""
TURNS = 8
"""Each scene is played so often: what is written behind an answer is there in time every now and then."""


class Pair(NamedTuple):
    server: PostgresServer
    a: httpx.Client
    b: httpx.Client

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database holds, seen past the gateways."""
        return asyncio.run(_query(self.server.url("balanced"), sql))


async def _query(url: str, sql: str) -> list[tuple[Any, ...]]:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    server = PostgresServer()
    try:
        server.start()
        asyncio.run(_query(server.url("template1"), "CREATE DATABASE balanced"))
        toml = TOML.replace("{url}", server.url("balanced"))
        with contextlib.ExitStack() as stack:
            gateways = [stack.enter_context(Running(toml)) for _ in range(2)]
            a, b = (stack.enter_context(httpx.Client(base_url=one.url, timeout=20)) for one in gateways)
            yield Pair(server, a, b)
    finally:
        server.close()


def ask(client: httpx.Client, text: str, **more: object) -> httpx.Response:
    return client.post("/responses", json={"model": "sim/echo", "input": text, **more})


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def name_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        return str(events_of(answer)[0]["response"]["id"])
    return str(answer.json()["id"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_other_gateway_goes_on_from_an_answer_as_soon_as_the_client_has_it(pair: Pair, stream: bool) -> None:
    for turn in range(TURNS):
        here, there = (pair.a, pair.b) if turn % 2 else (pair.b, pair.a)
        name = name_of(ask(here, "one", stream=stream))
        following = ask(there, "two", previous_response_id=name)
        assert following.status_code == 200, following.text
        name = name_of(ask(here, "one", stream=stream))
        assert there.get(f"/responses/{name}").json()["status"] == "completed"


def test_no_turn_of_a_conversation_is_missing_at_the_other_gateway(pair: Pair) -> None:
    conversation = pair.a.post("/conversations", json={}).json()["id"]
    tokens = []
    for turn in range(TURNS):
        answer = ask((pair.a, pair.b)[turn % 2], f"turn {turn}", conversation=conversation, stream=turn % 3 == 0)
        name_of(answer)
        whole = events_of(answer)[-1]["response"] if turn % 3 == 0 else answer.json()
        tokens.append(whole["usage"]["input_tokens"])
    assert tokens == sorted(set(tokens)), "a turn was asked with less than the one before it"
    items = pair.b.get(f"/conversations/{conversation}/items", params={"order": "asc", "limit": 100}).json()["data"]
    said = [item["content"][0]["text"] for item in items if item["role"] == "user"]
    assert said == [f"turn {turn}" for turn in range(TURNS)]


def test_a_turn_of_many_items_is_there_as_soon_as_a_short_one(pair: Pair) -> None:
    conversation = pair.a.post("/conversations", json={}).json()["id"]
    many = [{"role": "user", "content": "hello"} for _ in range(3000)]
    first = pair.a.post("/responses", json={"model": "sim/echo", "input": many, "conversation": conversation})
    assert first.status_code == 200, first.text
    following = ask(pair.b, "two", conversation=conversation)
    assert following.json()["usage"]["input_tokens"] > 3000


def test_an_item_is_known_at_the_other_gateway_by_its_id(pair: Pair) -> None:
    for _ in range(TURNS):
        item = ask(pair.a, "one").json()["output"][0]["id"]
        named = pair.b.post(
            "/responses",
            json={
                "model": "sim/echo",
                "input": [{"type": "item_reference", "id": item}, {"role": "user", "content": "two"}],
            },
        )
        assert named.status_code == 200, named.text


@pytest.mark.fault("FAULT-DB-DOWN")
def test_a_database_that_hangs_holds_no_ending_back_for_long(pair: Pair) -> None:
    with pair.server.freeze():
        begun = time.monotonic()
        answer = ask(pair.a, "one", stream=True)
        took_s = time.monotonic() - begun
    assert events_of(answer)[-1]["type"] == "response.completed"
    assert 0.4 < took_s < 2, f"it took {took_s:.2f} s"
    name = name_of(answer)
    until = time.monotonic() + 10
    while pair.b.get(f"/responses/{name}").status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_background_response_is_in_progress_for_both(pair: Pair) -> None:
    begun = pair.a.post(
        "/responses", json={"model": "sim/lorem?chunks=1&gap=300", "input": "hi", "background": True}
    ).json()
    assert begun["status"] == "queued"
    for client in (pair.a, pair.b):
        assert client.get(f"/responses/{begun['id']}").json()["status"] == "in_progress"


def test_cancelling_what_a_dead_gateway_ran_does_not_pretend(pair: Pair, tmp_path: Path) -> None:
    """Nobody can know yet that it is dead. When that is known, the response has ended."""
    asyncio.run(_query(pair.server.url("template1"), "CREATE DATABASE killed"))
    toml = TOML.replace("{url}", pair.server.url("killed"))
    toml = toml.replace("[providers.sim]", 'lease = "4s"\n[providers.sim]')
    with Running(toml) as alive:
        dead = Gateway(
            toml.replace("{sim}", alive.sim.base_url).replace("port = 0", f'port = {{port}}\ndata_dir = "{tmp_path}"'),
            tmp_path,
        )
        asyncio.run(dead.start())
        try:
            begun = httpx.post(
                f"{dead.origin}/v1/responses",
                json={"model": "sim/lorem?chunks=400&gap=50", "input": "hi", "background": True},
                timeout=20,
            ).json()
        finally:
            dead.process.kill()
            dead.process.wait()
        with httpx.Client(base_url=alive.url, timeout=20) as client:
            path = f"/responses/{begun['id']}/cancel"
            asked_at = time.monotonic()
            refused = client.post(path)
            took_s = time.monotonic() - asked_at
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "owner_silent")
            assert refused.headers["retry-after"] == "4"
            assert took_s < 4
            until = asked_at + 10
            while (answer := client.post(path)).status_code == 503:
                assert time.monotonic() < until
            assert answer.json()["status"] == "failed"
            assert answer.json()["error"]["message"].startswith("gateway_interrupted")


def test_on_one_file_a_gateway_that_drains_leaves_no_turn_behind_for_its_successor(tmp_path: Path) -> None:
    toml = TOML.replace("{url}", f"sqlite:///{tmp_path / 'tidegate.db'}").replace(
        "port = 0", "port = {port}\ndrain = '9s'"
    )
    with Running(TOML.replace("{url}", "off")) as simulated:
        toml = toml.replace("{sim}", simulated.sim.base_url)
        old, new = (Gateway(toml, tmp_path, name) for name in ("old", "new"))
        asyncio.run(old.start())
        asyncio.run(new.start())
        try:
            with (
                httpx.Client(base_url=f"{old.origin}/v1", timeout=20) as before,
                httpx.Client(base_url=f"{new.origin}/v1", timeout=20) as after,
            ):
                conversation = before.post("/conversations", json={}).json()["id"]
                last = {
                    "model": "sim/lorem?chunks=40&gap=20",
                    "input": "one",
                    "stream": True,
                    "conversation": conversation,
                }
                with before.stream("POST", "/responses", json=last) as answer:
                    lines = answer.iter_lines()
                    next(lines)
                    old.process.terminate()
                    tail = [line for line in lines if line.startswith("data: ")]
                    following = ask(after, "two", conversation=conversation)
                usage = json.loads(tail[-1][6:])["response"]["usage"]
                assert following.json()["usage"]["input_tokens"] > usage["output_tokens"]
                assert old.process.wait(20) == 0
        finally:
            for one in (old, new):
                one.process.kill()
                one.process.wait()
