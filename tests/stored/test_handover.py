"""Two processes on one file, as while one takes over from the other: what one has just answered, the other finds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.storage.stage import OURS, new_run
from tidegate.config.schema import Storage as StorageSettings
from tidegate.gateway.keeper import Keeper
from tidegate.storage.storage import Storage
from tidegate.wire.errors import NotFound


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Storage, Keeper]]:
    storage = await Storage.open(f"sqlite:///{folder / 'tidegate.db'}")
    try:
        yield storage, Keeper(asyncio.get_running_loop(), storage, StorageSettings())
    finally:
        await storage.close()


def test_what_the_other_process_has_just_begun_is_found(tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened(tmp_path) as (old, _), opened(tmp_path) as (_, keeper):
            run = old.put_run(new_run(dialect="responses", request=b'{"id":"x","output":[]}'))
            assert (await keeper.archive.find(run.new.id, OURS)).ref.id == run.new.id

    asyncio.run(scene())


def test_a_process_that_has_left_is_no_neighbour(tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened(tmp_path):
            pass
        async with opened(tmp_path) as (storage, keeper):
            assert not await storage.has_neighbours()
            with pytest.raises(NotFound):
                await keeper.archive.find("resp_nobody", OURS)
            async with opened(tmp_path):
                assert await storage.has_neighbours()

    asyncio.run(scene())
