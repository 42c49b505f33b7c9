"""Fixtures of the storage's tests."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.server import PostgresServer
from tests.storage.stage import Place
from tidegate.storage.storage import Storage

_names = (f"test_{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests, with a database that has the tables already, for copying."""
    server = PostgresServer()
    try:
        server.start()
        asyncio.run(_prepare(server))
        yield server
    finally:
        server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database with its tables, of either engine."""
    return _place(request.param, request, tmp_path)


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """For what only a file can suffer."""
    return _place("sqlite", request, tmp_path)


@pytest.fixture
def postgresql(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """For what only a server can suffer."""
    return _place("postgresql", request, tmp_path)


@pytest.fixture
def empty_postgresql(postgres: PostgresServer) -> Place:
    """A database without tables."""
    name = next(_names)
    asyncio.run(_execute(postgres, f"CREATE DATABASE {name}"))
    return Place("postgresql", postgres.url(name), server=postgres)


def _place(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if engine == "sqlite":
        path = tmp_path / "data" / "tidegate.db"
        return Place(engine, f"sqlite:///{path}", path=path)
    server: PostgresServer = request.getfixturevalue("postgres")
    name = next(_names)
    asyncio.run(_execute(server, f"CREATE DATABASE {name} TEMPLATE ready STRATEGY file_copy"))
    return Place(engine, server.url(name), server=server)


async def _prepare(server: PostgresServer) -> None:
    await _execute(server, "CREATE DATABASE ready")
    storage = await Storage.open(server.url("ready"))
    await storage.close()


async def _execute(server: PostgresServer, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(server.url("template1"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
