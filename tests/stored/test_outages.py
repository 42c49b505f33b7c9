"""A stream that is read while the database fails."""

import asyncio
from pathlib import Path

import pytest

from tests.storage.engines import Watched
from tests.storage.stage import OURS, ending, new_run
from tidegate.config.schema import Storage as StorageSettings
from tidegate.dialects.profile import PROFILES
from tidegate.gateway.dialects import resumed
from tidegate.gateway.keeper import Keeper
from tidegate.storage.crypto import Keyring
from tidegate.storage.sqlite import SQLiteEngine
from tidegate.storage.storage import Settings, Storage


@pytest.mark.fault("FAULT-DB-DOWN")
def test_who_follows_a_stream_of_another_gateway_waits_until_the_database_is_back(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "tidegate.db"
        writes = await Storage.over(Watched(await SQLiteEngine.open(path)), Keyring(), Settings())
        engine = Watched(await SQLiteEngine.open(path))
        reads = await Storage.over(engine, Keyring(), Settings())
        try:
            run = writes.put_run(new_run(dialect="chat", stream=True))
            writes.append_segment(run, 0, 10, b"data: one\n\n")
            await writes.durable(run)
            keeper = Keeper(asyncio.get_running_loop(), reads, StorageSettings())
            found, profile = await keeper.archive.find(run.new.id, OURS), PROFILES["openai"]
            resume = resumed(found.dialect, None, found.request, profile)
            frames = keeper.archive.frames(found, OURS, resume, profile, 15.0)
            assert await anext(frames) == b""
            assert await anext(frames) == b"data: one\n\n"

            engine.is_down = True
            rest = asyncio.ensure_future(anext(frames))
            await asyncio.sleep(0.2)
            writes.append_segment(run, 11, 21, b"data: two\n\n")
            writes.finish_run(run, ending())
            await writes.durable(run)
            assert not rest.done()
            engine.is_down = False
            assert await rest == b"data: two\n\n"
            assert [piece async for piece in frames] == []
        finally:
            await reads.close()
            await writes.close()

    asyncio.run(scene())
