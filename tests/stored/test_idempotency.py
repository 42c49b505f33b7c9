"""`Idempotency-Key`: what is sent twice runs once."""

import asyncio
import contextlib
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.storage.engines import Watched
from tests.support.api import Api
from tests.support.running import SIM_ONLY, Running
from tidegate.config.schema import Storage as StorageSettings
from tidegate.dialects.profile import PROFILES
from tidegate.gateway.idempotency import Claim, Claimed, Repeat, claim_named, take
from tidegate.gateway.keeper import Keeper
from tidegate.storage.crypto import Keyring
from tidegate.storage.records import Tenant
from tidegate.storage.sqlite import SQLiteEngine
from tidegate.storage.storage import Settings, Storage
from tidegate.wire.errors import IdempotencyConflict, Internal, StorageUnavailable, TidegateError

BODIES: dict[str, dict[str, Any]] = {
    "/v1/responses": {"input": "hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 99},
}
paths = pytest.mark.parametrize("path", BODIES)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def key() -> dict[str, str]:
    return {"idempotency-key": secrets.token_hex(8)}


def asked(gateway: Running) -> int:
    return sum(one.method == "POST" for one in gateway.sim.requests)


@pytest.mark.fault("FAULT-REPEATED")
@paths
@streamed
def test_the_same_request_gets_the_same_answer(keeping: Running, key: dict[str, str], path: str, stream: bool) -> None:
    body = {"model": "lab/demo?gap=1", "stream": stream, **BODIES[path]}
    with Api(keeping) as api:
        before = asked(keeping)
        first = api.post(path, body, headers=key)
        again = api.post(path, body, headers=key)
    assert first.status == again.status == 200
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["tidegate-repeated"] == "true"
    assert "tidegate-repeated" not in first.headers
    assert asked(keeping) - before == 1
    entry = keeping.usage(again.headers["x-request-id"])
    assert (entry["ending"], entry["attempts"], entry["output_tokens"]) == ("repeated", 0, 0)


@pytest.mark.fault("FAULT-REPEATED", "FAULT-HERD")
@streamed
def test_requests_at_the_same_time_share_one_run(keeping: Running, key: dict[str, str], stream: bool) -> None:
    body = {"model": "lab/lorem?chunks=20&gap=20", "stream": stream, **BODIES["/v1/chat/completions"]}
    before = asked(keeping)

    async def scene() -> list[bytes]:
        async with httpx.AsyncClient(base_url=keeping.origin, timeout=20) as client:
            answers = await asyncio.gather(
                *(client.post("/v1/chat/completions", json=body, headers=key) for _ in range(8))
            )
        return [answer.content for answer in answers]

    answers = asyncio.run(scene())
    assert answers == answers[:1] * 8
    assert asked(keeping) - before == 1


class Client:
    """One who is given an answer, and does nothing with it."""

    def start(self, fields: bytes, content_type: bytes, first: bytes) -> None: ...
    def write(self, data: bytes) -> None: ...
    def ping(self, data: bytes) -> None: ...
    def end(self, data: bytes = b"") -> None: ...
    def cut(self) -> None: ...
    def drop(self) -> None: ...
    def respond(self, status: int, fields: bytes, body: bytes, content_type: bytes = b"") -> None: ...
    def refuse(self, error: TidegateError, fields: bytes = b"") -> None: ...


TENANT = Tenant("acme", "harbour")


def claims_of(*names: str, streams: bool = False) -> list[Claim]:
    return [claim_named(b"key", TENANT, "app", "chat", b"{}", name, streams=streams) for name in names]


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[Watched, Storage, Keeper]]:
    engine = Watched(await SQLiteEngine.open(folder / "tidegate.db"))
    storage = await Storage.over(engine, Keyring(), Settings())
    try:
        yield engine, storage, Keeper(asyncio.get_running_loop(), storage, StorageSettings())
    finally:
        await storage.close()


def test_who_waits_for_an_answer_of_this_gateway_asks_the_database_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with watched(tmp_path) as (engine, _, keeper):
            first, *others = claims_of("resp_1", "resp_2", "resp_3")
            assert await take(keeper, first) is None
            waiting = [asyncio.create_task(take(keeper, claim)) for claim in others]
            await asyncio.sleep(0.15)
            counts = engine.commits, engine.reads
            await asyncio.sleep(0.4)
            assert (engine.commits, engine.reads) == counts
            Claimed(Client(), keeper, first).respond(200, b"", b"answer", b"application/json")
            answers = await asyncio.wait_for(asyncio.gather(*waiting), 5)
            assert answers == [Repeat("resp_1", b"answer", b"application/json")] * 2
            assert engine.reads == counts[1]

    asyncio.run(scene())


def test_an_answer_from_before_an_upgrade_is_given_again_and_another_body_is_still_refused(tmp_path: Path) -> None:
    """A gateway of before took the name of the dialect for what the address says."""

    async def scene() -> None:
        async with watched(tmp_path) as (_, _, keeper):
            [before] = claims_of("resp_1")
            assert await take(keeper, before) is None
            Claimed(Client(), keeper, before).respond(200, b"", b"answer", b"application/json")
            address = "/v1/chat/completions"
            same = claim_named(b"key", TENANT, "app", address, b"{}", "resp_2", streams=False, dialect="chat")
            assert await take(keeper, same) == Repeat("resp_1", b"answer", b"application/json")
            for body, dialect in (b"{ }", "chat"), (b"{}", ""), (b"{}", "completions"):
                other = claim_named(b"key", TENANT, "app", address, body, "resp_3", streams=False, dialect=dialect)
                with pytest.raises(IdempotencyConflict):
                    await take(keeper, other)

    asyncio.run(scene())


@pytest.mark.parametrize("how", ["release", "drop", "refuse"])
def test_where_nothing_comes_of_the_first_request_here_another_one_runs(tmp_path: Path, how: str) -> None:
    async def scene() -> None:
        async with watched(tmp_path) as (_, _, keeper):
            first, *others = claims_of("resp_1", "resp_2", "resp_3")
            assert await take(keeper, first) is None
            waiting = [asyncio.create_task(take(keeper, claim)) for claim in others]
            await asyncio.sleep(0.05)
            claimed = Claimed(Client(), keeper, first)
            if how == "refuse":
                claimed.refuse(Internal("no"))
            elif how == "drop":
                claimed.drop()
            else:
                claimed.release()
            done, left = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            assert [one.result() for one in done] == [None]
            (other,) = left
            other.cancel()

    asyncio.run(scene())


def test_a_stream_that_could_not_be_stored_is_not_given_again_and_nobody_waits_for_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with watched(tmp_path) as (_, storage, keeper):
            first, second = claims_of("strm_1", "strm_2", streams=True)
            assert await take(keeper, first) is None
            waiting = asyncio.create_task(take(keeper, second))
            await asyncio.sleep(0.05)
            Claimed(Client(), keeper, first).start(b"", b"text/event-stream", b"data: {}\n\n")
            assert await asyncio.wait_for(waiting, 1) == Repeat("strm_1", None)
            with pytest.raises(StorageUnavailable, match="not in store"):
                await anext(keeper.archive.frames_of("strm_1", TENANT, PROFILES["openai"], 15.0))
            elsewhere = Keeper(asyncio.get_running_loop(), storage, StorageSettings())
            await storage._writer.settle_all()
            with pytest.raises(StorageUnavailable, match="not in store"):
                await asyncio.wait_for(take(elsewhere, second), 5)

    asyncio.run(scene())


def test_who_waits_for_an_answer_of_another_gateway_writes_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        engine = Watched(await SQLiteEngine.open(tmp_path / "tidegate.db"))
        storage = await Storage.over(engine, Keyring(), Settings())
        loop = asyncio.get_running_loop()
        here, elsewhere = (Keeper(loop, storage, StorageSettings()) for _ in range(2))
        claims = claims_of("resp_1", "resp_2", "resp_3")
        try:
            assert await take(elsewhere, claims[0]) is None
            waiting = [asyncio.create_task(take(here, claim)) for claim in claims[1:]]
            await asyncio.sleep(0.15)
            commits = engine.commits
            await asyncio.sleep(0.6)
            assert engine.commits == commits
            assert not any(one.done() for one in waiting)
            storage.settle_claim(TENANT, "key", "resp_1", 200, b"application/json\nanswer")
            for repeat in await asyncio.gather(*waiting):
                assert repeat == Repeat("resp_1", b"answer", b"application/json")
        finally:
            await storage.close()

    asyncio.run(scene())


def test_of_those_who_wait_one_takes_a_key_that_is_given_back(tmp_path: Path) -> None:
    async def scene() -> None:
        storage = await Storage.open(f"sqlite:///{tmp_path / 'tidegate.db'}")
        loop = asyncio.get_running_loop()
        here, elsewhere = (Keeper(loop, storage, StorageSettings()) for _ in range(2))
        claims = claims_of("resp_1", "resp_2", "resp_3")
        try:
            assert await take(elsewhere, claims[0]) is None
            waiting = [asyncio.create_task(take(here, claim)) for claim in claims[1:]]
            await asyncio.sleep(0.05)
            storage.release_claim(TENANT, "key", "resp_1")
            done, others = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            assert [one.result() for one in done] == [None]
            (other,) = others
            other.cancel()
        finally:
            await storage.close()

    asyncio.run(scene())


@pytest.mark.fault("FAULT-REPEATED")
def test_a_key_stands_for_one_request(keeping: Running, key: dict[str, str]) -> None:
    with Api(keeping) as api:
        api.post("/v1/responses", {"model": "openai/echo", "input": "one"}, headers=key)
        other = api.post("/v1/responses", {"model": "openai/echo", "input": "two"}, headers=key)
        elsewhere = api.post(
            "/v1/chat/completions", {"model": "openai/echo", **BODIES["/v1/chat/completions"]}, headers=key
        )
    for answer in (other, elsewhere):
        assert (answer.status, answer.error["code"]) == (422, "idempotency_key_reused")


GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


@pytest.mark.fault("FAULT-REPEATED")
@pytest.mark.parametrize(
    ("first", "others", "body"),
    [
        (
            "lab%2Fecho:generateContent",
            ["lab%2Florem:generateContent", "lab%2Fecho:streamGenerateContent?alt=sse"],
            GEMINI,
        ),
        (
            "lab%2Fecho:streamGenerateContent?alt=sse",
            [
                "lab%2Fecho:generateContent",
                "lab%2Fecho:streamGenerateContent",
                "lab%2Florem:streamGenerateContent?alt=sse",
            ],
            GEMINI,
        ),
        ("lab%2Fecho:countTokens", ["google%2Fecho:countTokens"], GEMINI),
        (
            "google%2Fecho:embedContent",
            ["google%2Florem:embedContent"],
            {"content": {"parts": [{"text": "hi"}]}},
        ),
    ],
    ids=["whole", "streamed", "counted", "embedded"],
)
def test_a_key_stands_for_one_address_where_that_says_what_is_asked_for(
    keeping: Running, key: dict[str, str], first: str, others: list[str], body: dict[str, Any]
) -> None:
    with Api(keeping) as api:
        one = api.post(f"/v1beta/models/{first}", body, headers=key)
        again = api.post(f"/v1beta/models/{first}", body, headers=key)
        refused = [api.post(f"/v1beta/models/{other}", body, headers=key) for other in others]
    assert (one.status, again.content, again.headers.get("tidegate-repeated")) == (200, one.content, "true")
    for answer in refused:
        assert answer.status == 422
        assert "was used for another request" in answer.json["error"]["message"]


@pytest.mark.fault("FAULT-REPEATED")
def test_two_keys_of_one_request_are_refused(keeping: Running) -> None:
    body = {"model": "openai/echo", "input": "hi"}
    with Api(keeping) as api:
        sent = api.http.post(
            "/v1/responses", json=body, headers=[("idempotency-key", "one-of-2"), ("idempotency-key", "two-of-2")]
        )
    assert sent.status_code == 400
    assert "'idempotency-key' is there more than once" in sent.json()["error"]["message"]


@pytest.mark.fault("FAULT-REPEATED")
def test_what_was_refused_may_be_tried_again(keeping: Running, key: dict[str, str]) -> None:
    model = f"lab/echo?status=503&times=1&text={key['idempotency-key']}"
    with Api(keeping) as api:
        first = api.post("/v1/chat/completions", {"model": model, **BODIES["/v1/chat/completions"]}, headers=key)
        again = api.post("/v1/chat/completions", {"model": model, **BODIES["/v1/chat/completions"]}, headers=key)
    assert first.status == 503
    assert again.status == 200
    assert "tidegate-repeated" not in again.headers


@pytest.mark.fault("FAULT-REPEATED")
def test_who_repeats_is_not_cut_off_when_the_first_client_leaves(keeping: Running, key: dict[str, str]) -> None:
    body = {"model": "lab/lorem?chunks=30&gap=30", "stream": True, **BODIES["/v1/chat/completions"]}
    found: list[bytes] = []
    with Api(keeping) as first, Api(keeping) as second:
        with first.http.stream("POST", "/v1/chat/completions", json=body, headers=key) as left:
            pieces = left.iter_raw()
            next(pieces)
            other = threading.Thread(
                target=lambda: found.append(second.post("/v1/chat/completions", body, headers=key).content)
            )
            other.start()
            for piece, _ in zip(pieces, range(6), strict=False):
                assert piece
        other.join(20)
    assert found[0].rstrip().endswith(b"data: [DONE]")


@pytest.mark.fault("FAULT-REPEATED")
@paths
@pytest.mark.parametrize("grace", [None, "300ms"])
def test_who_was_cut_off_gets_an_answer_when_he_asks_again(
    keeping: Running, key: dict[str, str], path: str, grace: str | None
) -> None:
    """The first one has seen a part, and nobody goes on with that."""
    body = {"model": "lab/lorem?chunks=40&gap=20", "stream": True, **BODIES[path]}
    asks = key if grace is None else {**key, "tidegate-resume-grace": grace}
    with Api(keeping) as first, Api(keeping) as second:
        before = asked(keeping)
        with first.http.stream("POST", path, json=body, headers=asks) as left:
            part = next(left.iter_raw())
            request_id = left.headers["x-request-id"]
        assert keeping.usage(request_id)["ending"] == "client_gone"
        again = second.post(path, body, headers=asks)
        assert "tidegate-repeated" not in again.headers
        assert again.frames[-1].event in ("response.completed", "message_stop", "")
        assert len(again.content) > 2 * len(part)
        assert b"client_gone" not in again.content
        third = second.post(path, body, headers=asks)
    assert (third.content, third.headers.get("tidegate-repeated")) == (again.content, "true")
    assert asked(keeping) - before == 2


@pytest.mark.parametrize("bad", ["", "a b", "x" * 256])
def test_bad_keys_are_refused(keeping: Running, bad: str) -> None:
    with Api(keeping) as api:
        answer = api.post("/v1/responses", {"model": "openai/echo", "input": "hi"}, headers={"idempotency-key": bad})
    assert (answer.status, answer.error["code"]) == (400, "invalid_idempotency_key")


def test_a_repeated_background_response_is_an_object_again(keeping: Running, key: dict[str, str]) -> None:
    body = {"model": "lab/demo", "input": "hi", "background": True}

    async def scene() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=keeping.origin, timeout=20) as client:
            return list(await asyncio.gather(*(client.post("/v1/responses", json=body, headers=key) for _ in range(6))))

    answers = asyncio.run(scene())
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
    assert len({answer.json()["id"] for answer in answers}) == 1


@paths
def test_a_stream_can_be_had_again_as_long_as_its_key_holds(
    keeping: Running, data: Path, key: dict[str, str], path: str
) -> None:
    """23 hours later."""
    body = {"model": "lab/demo?gap=1", "stream": True, **BODIES[path]}
    with Api(keeping) as api:
        first = api.post(path, body, headers=key)
        with contextlib.closing(sqlite3.connect(data / "tidegate.db", timeout=5)) as database, database:
            for table in ("runs", "idempotency"):
                database.execute(f"UPDATE {table} SET expires_at = expires_at - 82800")

        async def sweep() -> None:
            storage = await Storage.open(f"sqlite:///{data}/tidegate.db")
            await storage.sweep()
            await storage.close()

        asyncio.run(sweep())
        again = api.post(path, body, headers=key)
    assert again.headers.get("tidegate-repeated") == "true"
    assert again.content == first.content


@pytest.mark.parametrize(
    ("path", "stream"), [("/v1/responses", False), ("/v1/responses", True), ("/v1/chat/completions", False)]
)
def test_nothing_of_an_answer_is_kept_longer_than_anything_is(
    tmp_path: Path, key: dict[str, str], path: str, stream: bool
) -> None:
    """An hour, where that is what `storage.retention` says: an answer can be had again until then."""
    body = {"model": "sim/echo", "stream": stream, **BODIES[path]}
    toml = SIM_ONLY.replace("port = 0", f'port = 0\ndata_dir = "{tmp_path}"') + '[storage]\nretention = "1h"\n'

    async def sweep() -> None:
        storage = await Storage.open(f"sqlite:///{tmp_path}/tidegate.db")
        await storage.sweep()
        await storage.close()

    def pass_minutes(minutes: int) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "tidegate.db", timeout=5)) as database, database:
            for table in ("runs", "idempotency"):
                database.execute(f"UPDATE {table} SET expires_at = expires_at - {60 * minutes}")
        asyncio.run(sweep())

    with Running(toml) as gateway, Api(gateway) as api:
        first = api.post(path, body, headers=key)
        time.sleep(0.2)  # the end is written behind the answer
        pass_minutes(50)
        again = api.post(path, body, headers=key)
        assert again.headers.get("tidegate-repeated") == "true"
        assert again.content == first.content
        pass_minutes(11)
        with contextlib.closing(sqlite3.connect(tmp_path / "tidegate.db", timeout=5)) as database, database:
            for table in ("runs", "items", "segments", "idempotency"):
                assert database.execute(f"SELECT * FROM {table}").fetchall() == [], table
        assert "tidegate-repeated" not in api.post(path, body, headers=key).headers
