"""A database for one test, and rows to put into it."""

import asyncio
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.storage.engines import Watched
from tests.storage.server import PostgresServer
from tidegate.config.secret import Secret
from tidegate.storage.crypto import Keyring
from tidegate.storage.opening import open_engine
from tidegate.storage.records import Ending, Item, NewRun, Run, Tenant
from tidegate.storage.storage import Settings, Storage

__all__ = [
    "HOUR_S",
    "OURS",
    "THEIRS",
    "Place",
    "ending",
    "eventually",
    "frames_of",
    "item",
    "new_run",
    "put",
    "run",
    "until",
]

OURS = Tenant("acme", "harbour")
THEIRS = Tenant("acme", "airport")
HOUR_S = 3600.0

_numbers = itertools.count(1)


class Place:
    """Where a test's database is."""

    def __init__(
        self, engine: str, url: str, *, path: Path | None = None, server: PostgresServer | None = None
    ) -> None:
        self.engine = engine
        self.url = url
        self._path = path
        self._server = server

    @property
    def path(self) -> Path:
        """The file, of SQLite."""
        assert self._path is not None
        return self._path

    @property
    def server(self) -> PostgresServer:
        """The server, of PostgreSQL."""
        assert self._server is not None
        return self._server

    @asynccontextmanager
    async def open(self, *keys: str, **settings: Any) -> AsyncIterator[Storage]:
        """The storage under test, closed afterwards."""
        estimate = settings.pop("estimate", None)
        storage = await Storage.open(
            self.url, settings=Settings(**settings), master_keys=[Secret(key) for key in keys], estimate=estimate
        )
        try:
            yield storage
        finally:
            await storage.close()

    @asynccontextmanager
    async def watch(self, **settings: Any) -> AsyncIterator[tuple[Storage, Watched]]:
        """The storage over an engine that can be out of order."""
        engine = Watched(await open_engine(self.url, Settings()))
        storage = await Storage.over(engine, Keyring(), Settings(**settings))
        try:
            yield storage, engine
        finally:
            engine.is_down = False
            await storage.close()

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database holds, seen past the storage."""
        if self.engine == "sqlite":
            connection = sqlite3.connect(self.path, timeout=5)
            try:
                with connection:
                    return connection.execute(sql).fetchall()
            finally:
                connection.close()
        import asyncpg

        other = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await other.fetch(sql)]
        finally:
            await other.close()

    async def count(self, table: str) -> int:
        [(count,)] = await self.query(f"SELECT count(*) FROM {table}")
        return int(count)

    async def dump(self) -> bytes:
        """Every byte of content that lies in the database, in whatever form it lies there."""
        if self.engine == "sqlite":
            return b"".join(path.read_bytes() for path in sorted(self.path.parent.glob(f"{self.path.name}*")))
        columns = await self.query(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND data_type = 'bytea'"
        )
        found = []
        for table, column in columns:
            found += [row[0] for row in await self.query(f"SELECT {column} FROM {table}") if row[0]]
        return b"\0".join(found)


async def execute(place: Place, statement: str) -> None:
    """Change the database past the storage."""
    if place.engine == "sqlite":
        await place.query(statement)
        return
    import asyncpg

    connection = await asyncpg.connect(place.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def run(scenario: Callable[[], Coroutine[Any, Any, None]], *, within_s: float = 30) -> None:
    """Play a scenario on a loop of its own."""

    async def main() -> None:
        async with asyncio.timeout(within_s):
            await scenario()

    asyncio.run(main())


async def until(is_true: Callable[[], bool], *, within_s: float = 10) -> None:
    """Wait for something that comes by itself."""
    end = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < end, "it did not come in time"
        await asyncio.sleep(0.01)


async def eventually(is_true: Callable[[], Awaitable[bool]], *, within_s: float = 10) -> None:
    """Wait for something that has to be asked for."""
    end = time.monotonic() + within_s
    while not await is_true():
        assert time.monotonic() < end, "it did not come in time"
        await asyncio.sleep(0.02)


def item(text: str, id: str | None = None) -> Item:  # noqa: A002
    """A message with some text."""
    number = next(_numbers)
    content = {"type": "message", "id": id or f"msg_{number:048x}", "content": text}
    return Item(str(content["id"]), msgspec.json.encode(content))


def new_run(tenant: Tenant = OURS, **members: Any) -> NewRun:
    """A run at its beginning."""
    members.setdefault("id", f"resp_{next(_numbers):048x}")
    members.setdefault("created_at", time.time())
    return NewRun(tenant=tenant, **{"key": "app", "dialect": "responses", "model": "sim/echo", **members})


def ending(status: Any = "completed", **members: Any) -> Ending:
    """A run's ending."""
    return Ending(status=status, completed_at=members.pop("completed_at", time.time()), **members)


def put(storage: Storage, *, inputs: int = 1, segments: int = 2, outputs: int = 1, **members: Any) -> Run:
    """A whole run: begun, streamed and ended, with so many items and segments."""
    made = storage.put_run(new_run(**members), [item(f"ask {number}") for number in range(inputs)])
    for number in range(segments):
        storage.append_segment(made, 2 * number, 2 * number + 1, frames_of(2 * number, 2 * number + 1))
    storage.finish_run(made, ending(), [item(f"answer {number}") for number in range(outputs)])
    return made


def frames_of(first: int, last: int) -> bytes:
    """Frames that tell their sequence numbers."""
    return b"".join(b"data: %d\n\n" % number for number in range(first, last + 1))
