"""What waits for the database fills the memory set aside: answers go on, and are not stored (`fail_open`)."""

import asyncio
import json
import sqlite3
from pathlib import Path

import httpx
import pytest

from tests.stored.conftest import KEPT
from tests.support.api import Api
from tests.support.running import Running, wait_for

LARGE = "tide " * 4_000_000
"""20 MB: three of them are more than may wait."""


@pytest.mark.fault("FAULT-DB-LOCKED")
def test_streams_that_cannot_be_stored_still_end_well(tmp_path: Path) -> None:
    with Running(KEPT.replace("{data}", str(tmp_path))) as gateway, Api(gateway) as api:
        assert api.post("/v1/responses", {"model": "openai/echo", "input": "hi"}).status == 200
        other = sqlite3.connect(tmp_path / "tidegate.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # another program holds the file, and does not let go
        for _ in range(3):
            assert api.post("/v1/responses", {"model": "openai/lorem?chunks=1", "input": LARGE}).status == 200

        def is_full() -> bool:
            api.post("/v1/responses", {"model": "openai/lorem?chunks=1", "input": LARGE[:100]})
            return any(line["event"] == "storage_full" for line in gateway.log_lines)

        assert wait_for(is_full, 10)

        async def scene() -> list[str]:
            async with httpx.AsyncClient(base_url=gateway.origin, timeout=10) as client:
                bodies = [
                    {"model": f"openai/lorem?chunks={20 + 10 * number}&gap=20", "input": "hi", "stream": True}
                    for number in range(6)
                ]
                answers = await asyncio.gather(*(client.post("/v1/responses", json=body) for body in bodies))
                return [answer.text for answer in answers]

        found = asyncio.run(scene())
        other.execute("ROLLBACK")
        other.close()
        for text in found:
            assert text.count("event: response.completed") == 1
            name = json.loads(text.split("data: ", 1)[1].split("\n", 1)[0])["response"]["id"]
            assert api.get(f"/v1/responses/{name}").status == 404

        def is_kept() -> bool:
            name = api.post("/v1/responses", {"model": "openai/echo", "input": "hi"}).json["id"]
            return api.get(f"/v1/responses/{name}").status == 200

        assert wait_for(is_kept, 10), "what waited was not written, and new answers are still not kept"
        errors = {line["event"] for line in gateway.log_lines if line["level"] == "error"}
        assert "storage_full" in errors
        assert errors <= {"storage_full", "storage_failing"}


def test_large_answers_that_come_together_are_kept_while_the_database_keeps_up(tmp_path: Path) -> None:
    async def scene(origin: str) -> list[int]:
        async with httpx.AsyncClient(base_url=origin, timeout=60) as client:
            body = {"model": "openai/echo", "input": LARGE}
            answers = await asyncio.gather(*(client.post("/v1/responses", json=body) for _ in range(2)))
            names = [answer.json()["id"] for answer in answers]
            return [(await client.get(f"/v1/responses/{name}")).status_code for name in names]

    with Running(KEPT.replace("{data}", str(tmp_path))) as gateway:
        assert asyncio.run(scene(gateway.origin)) == [200, 200]
