"""Fixtures of the storage's tests."""

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.server import PostgresServer, memory_folder
from tests.storage.stage import Place
from tidegate.storage.storage import Storage
from tidegate.storage.tables import metadata

# Emptying tables takes a few milliseconds, making a database half a second.
EMPTY = f"""
    ALTER TABLE audit DISABLE TRIGGER audit_no_truncate;
    TRUNCATE {", ".join(sorted(set(metadata.tables) - {"counters"}))};
    ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_no_truncate;
    UPDATE counters SET next = 1;
"""

_names = (f"test_{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests, with a database that has the tables already and is emptied for each test."""
    server = PostgresServer()
    try:
        server.start()
        asyncio.run(_prepare(server))
        yield server
    finally:
        server.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a file may be made."""
    with tempfile.TemporaryDirectory(prefix="tidegate-storage-", dir=memory_folder()) as name:
        yield Path(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, folder: Path) -> Place:
    """An empty database with its tables, of either engine."""
    return _place(request.param, request, folder)


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, folder: Path) -> Place:
    """For what only a file can suffer."""
    return _place("sqlite", request, folder)


@pytest.fixture
def postgresql(request: pytest.FixtureRequest, folder: Path) -> Place:
    """For what only a server can suffer."""
    return _place("postgresql", request, folder)


@pytest.fixture
def empty_postgresql(postgres: PostgresServer) -> Place:
    """A database without tables."""
    name = next(_names)
    asyncio.run(_execute(postgres, "template1", f"CREATE DATABASE {name}"))
    return Place("postgresql", postgres.url(name), server=postgres)


def _place(engine: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    if engine == "sqlite":
        path = folder / "data" / "tidegate.db"
        return Place(engine, f"sqlite:///{path}", path=path)
    server: PostgresServer = request.getfixturevalue("postgres")
    asyncio.run(_execute(server, "tidegate", EMPTY))
    return Place(engine, server.url("tidegate"), server=server)


async def _prepare(server: PostgresServer) -> None:
    await _execute(server, "template1", "CREATE DATABASE tidegate")
    storage = await Storage.open(server.url("tidegate"))
    await storage.close()


async def _execute(server: PostgresServer, database: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(server.url(database))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
