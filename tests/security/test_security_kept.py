"""What is kept, as somebody meets it who has a copy of the database, writes to it past the gateway, or starts at the same
moment as another."""

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.security.conftest import ask
from tests.support.processes import Gateway
from tests.support.raw import Response
from tests.support.running import Running, wait_for

TOML = """
[server]
port = 0
data_dir = "{data}"
[providers.sim]
base_url = "{sim}"
[models.shaky]
target = "sim/echo?status=503"
fallback = ["sim/echo"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Running]:
    with Running(TOML.replace("{data}", str(folder))) as running:
        yield running


def admin_key(gateway: Running) -> str:
    found = gateway.announcement.admin_key
    assert found is not None
    return found


def make(gateway: Running, name: str) -> Any:
    answer = ask(gateway, "POST", "/admin/v1/keys", admin_key(gateway), {"name": name})
    assert answer.status == 201, answer.body
    return answer.json


def chat(gateway: Running, key: str, *headers: str, **members: Any) -> Response:
    body = {"model": "sim/echo", "messages": [{"role": "user", "content": "Hi"}], **members}
    return ask(gateway, "POST", "/v1/chat/completions", key, body, *headers)


def files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("tidegate.db*")))


@pytest.mark.security("SEC-API2-STORED")
def test_a_stolen_database_opens_nothing(gateway: Running, folder: Path, tmp_path: Path) -> None:
    made = make(gateway, "stolen")["key"]
    assert chat(gateway, made).status == 200
    texts = (made, admin_key(gateway))
    kept = files(folder)
    for text in texts:
        assert text[-4:].encode() in kept  # it is the database where they are kept
        assert text.encode() not in kept
        assert text[20:63].encode() not in kept, "the secret part"
        for plain in (hashlib.sha256, hashlib.sha512, hashlib.sha1, hashlib.md5):
            assert plain(text.encode()).digest() not in kept, "a digest that anybody can compute"
    with contextlib.closing(sqlite3.connect(folder / "tidegate.db")) as database, database:
        digests = [bytes(row[0]) for row in database.execute("SELECT digest FROM key_texts")]
    database.close()
    assert len(digests) >= 2
    for digest in digests:
        for text in (digest.hex(), f"sha256:{digest.hex()}", f"tg-{digest.hex()}", f"tga-{digest.hex()}"):
            assert chat(gateway, text).status == 401
            assert ask(gateway, "GET", "/admin/v1/me", text).status == 401
    # A gateway of the thief's own, without the pepper that lies beside the database.
    for path in folder.glob("tidegate.db*"):
        shutil.copy(path, tmp_path / path.name)
    with Running(TOML.replace("{data}", str(tmp_path))) as theirs:
        assert chat(theirs, made).status == 401
        assert ask(theirs, "GET", "/admin/v1/me", texts[1]).status == 401
    assert chat(gateway, made).status == 200


@pytest.mark.security("SEC-AUDIT-KEPT")
def test_the_audit_log_reads_the_same_whatever_is_tried(gateway: Running, folder: Path) -> None:
    make(gateway, "watched")
    before = ask(gateway, "GET", "/admin/v1/audit", admin_key(gateway)).json
    assert before["data"][0]["action"] == "key.create"
    for method in ("DELETE", "PUT", "PATCH", "POST"):
        assert ask(gateway, method, "/admin/v1/audit", admin_key(gateway), {}).status == 405
        assert ask(gateway, method, f"/admin/v1/audit/{before['data'][0]['id']}", admin_key(gateway), {}).status == 404
    others = """number, at, 'nobody', actor_name, action, target, "before", "after", request_id FROM audit"""
    with contextlib.closing(sqlite3.connect(folder / "tidegate.db", timeout=5)) as database, database:
        for statement in (
            "UPDATE audit SET actor = 'nobody'",
            "DELETE FROM audit",
            f"INSERT OR REPLACE INTO audit SELECT {others}",
            f"REPLACE INTO audit SELECT {others}",
        ):
            with pytest.raises(sqlite3.DatabaseError, match="only grows"):
                database.execute(statement)
    database.close()
    assert ask(gateway, "GET", "/admin/v1/audit", admin_key(gateway)).json == before


@pytest.mark.security("SEC-API8-FIRST")
def test_of_gateways_that_start_together_one_shows_the_first_admin_key(tmp_path: Path) -> None:
    """On one database; nobody but its owner gets a second one by starting again."""

    async def start_all() -> tuple[list[str], Any]:
        toml = TOML.replace("port = 0", "port = {port}").replace("{data}", str(tmp_path))
        toml = toml.replace('base_url = "{sim}"\n', "")
        both = [Gateway(toml, tmp_path, name) for name in ("one", "other")]
        try:
            await asyncio.gather(*(one.start() for one in both))
            # It is announced after the first answers are given.
            assert await asyncio.to_thread(wait_for, lambda: shown(both), 10)
            answers = [await _me(one, shown(both)[0]) for one in both]
        finally:
            await asyncio.gather(*(one.stop() for one in both))
        await both[0].start()
        await both[0].stop()
        return shown(both), answers

    def shown(gateways: list[Gateway]) -> list[str]:
        return [text for one in gateways for text in re.findall(r"tga-[0-9A-Za-z]{65}", one.log)]

    found, answers = asyncio.run(start_all())
    assert len(found) == 1
    assert [(status, body.get("role")) for status, body in answers] == [(200, "owner")] * 2


async def _me(gateway: Gateway, key: str) -> tuple[int, Any]:
    async with httpx.AsyncClient(base_url=gateway.origin, trust_env=False) as client:
        for _ in range(30):  # the other one learns of it within a second
            answer = await client.get("/admin/v1/me", headers={"authorization": f"Bearer {key}"})
            if answer.status_code == 200:
                break
            await asyncio.sleep(0.1)
        return answer.status_code, answer.json()


@pytest.mark.security("SEC-API4-LEDGER")
def test_each_request_has_one_entry_whatever_happens_to_it(gateway: Running) -> None:
    """Retried, named like another, with text that no database takes, or left by its client."""
    made = make(gateway, "counted")
    assert chat(gateway, made["key"], model="shaky").status == 200
    for _ in range(2):
        assert chat(gateway, made["key"], "x-request-id: the-same").status == 200
    for user in ("a\0b", "\ud83d\ude00" * 400, "x" * 5000, "'; DROP TABLE ledger; --"):
        assert chat(gateway, made["key"], user=user).status == 200
    failed = chat(gateway, made["key"], model="sim/echo?status=500")
    assert failed.status == 502
    refused = chat(gateway, made["key"], messages=[])
    assert refused.status == 400

    def entries() -> list[Any]:
        query = f"/admin/v1/usage/entries?key_id={made['id']}"
        answer = ask(gateway, "GET", query, admin_key(gateway))
        assert answer.status == 200
        return list(json.loads(answer.body)["data"])

    assert wait_for(lambda: len(entries()) == 8 and all(one["settled_at"] for one in entries()))
    found = entries()
    assert len({one["id"] for one in found}) == 8
    assert sum(one["request_id"] == "the-same" for one in found) == 2
    assert found[0]["attempts"] > 1
    assert {one["ending"] for one in found} == {"completed", "failed"}
    total = ask(gateway, "GET", f"/admin/v1/usage?key_id={made['id']}", admin_key(gateway)).json["data"][0]
    assert total["requests"] == 8
