"""A database of any earlier version is upgraded with its content; what cannot be used is refused with what to do."""

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.storage.stage import OURS, Place, put, run
from tidegate.storage.migrate import FOLDER, FRESH, HEAD, REVISIONS, render
from tidegate.storage.records import StorageUnusable
from tidegate.storage.storage import Storage
from tidegate.storage.tables import metadata

FIXTURES = Path(__file__).parent / "fixtures"


def fill(place: Place, revision: str) -> None:
    """Make a database as that version left it."""
    script = (FIXTURES / f"{revision}.{place.engine}.sql").read_text("utf-8")
    if place.engine == "sqlite":
        place.path.parent.mkdir(parents=True)
        connection = sqlite3.connect(place.path)
        connection.executescript(script)
        connection.close()
    else:
        asyncio.run(_fill(place, script))


async def _fill(place: Place, script: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(place.url)
    await connection.execute(script)
    await connection.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest) -> Place:
    """A database without tables, of either engine."""
    name = "sqlite" if request.param == "sqlite" else "empty_postgresql"
    place: Place = request.getfixturevalue(name)
    return place


async def columns(place: Place) -> set[tuple[str, ...]]:
    """Every column and index, as the database describes them."""
    if place.engine == "sqlite":
        rows = await place.query(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        )
        return {(name, re.sub(r"[\s\"]+", "", sql)) for name, sql in rows}
    rows = await place.query(
        "SELECT table_name, column_name, data_type, is_nullable, coalesce(column_default, '') "
        "FROM information_schema.columns WHERE table_schema = 'public'"
    )
    rows += await place.query("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    return {tuple(map(str, row)) for row in rows}


# --- upgrading ---------------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-DB-SCHEMA")
@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_an_older_database_is_upgraded_with_its_content(empty: Place, revision: str) -> None:
    async def scenario() -> None:
        async with empty.open() as storage:
            found = await storage.get_run(OURS, "resp_old")
            assert found is not None
            assert (found.status, found.request, found.usage) == (
                "completed",
                b'{"temperature":1}',
                b'{"total_tokens":3}',
            )
            journal = await storage.read_journal(OURS, "resp_old")
            assert journal is not None
            assert [segment.frames for segment in journal.segments] == [b"data: 0\n\ndata: 1\n\n"]
            chain = await storage.read_chain(OURS, "resp_open")
            assert chain is not None
            assert [each.id for link in chain.links for each in link.items] == ["msg_ask", "msg_answer"]
            assert (await storage.get_run(OURS, "resp_open")).error_code == "gateway_interrupted"  # type: ignore[union-attr]
            made = put(storage, previous=chain.ref)
            await storage.durable(made)
            assert made.number >= 4097
        assert await empty.query("SELECT version_num FROM alembic_version") == [(HEAD,)]

    fill(empty, revision)
    run(scenario)


def test_conversations_are_counted_anew_with_their_metadata(empty: Place) -> None:
    async def scenario() -> None:
        async with empty.open() as storage:
            assert await empty.query("SELECT id, bytes FROM conversations ORDER BY id") == [
                ("conv_less", len(b"{}")),
                ("conv_old", len(b'{"a":"b"}') + len(b'{"a":1}')),
            ]
            for key in ("app", "other"):
                [(size,)] = await empty.query(
                    f"SELECT coalesce((SELECT sum(bytes) FROM runs WHERE key = '{key}'), 0)"
                    f" + (SELECT sum(bytes) FROM conversations WHERE key = '{key}')"
                )
                assert (await storage.stored(OURS, key)).size == size

    fill(empty, "0006")
    run(scenario)


def test_an_upgraded_file_is_the_same_as_a_new_one(sqlite: Place) -> None:
    old = Place("sqlite", f"{sqlite.url}.old", path=sqlite.path.with_name(f"{sqlite.path.name}.old"))

    async def scenario() -> None:
        async with old.open(), sqlite.open():
            pass
        assert await columns(old) == await columns(sqlite)

    fill(old, REVISIONS[0])
    run(scenario)


def test_an_upgraded_server_database_is_the_same_as_a_new_one(empty_postgresql: Place, postgresql: Place) -> None:
    async def scenario() -> None:
        async with empty_postgresql.open():
            pass
        assert await columns(empty_postgresql) == await columns(postgresql)

    fill(empty_postgresql, REVISIONS[0])
    run(scenario)


@pytest.mark.fault("FAULT-DB-SCHEMA")
def test_the_file_is_copied_before_it_is_changed(sqlite: Place) -> None:
    async def scenario() -> None:
        async with sqlite.open():
            pass
        [backup] = sqlite.path.parent.glob("*.backup")
        assert backup.name.startswith(f"{sqlite.path.name}.schema-0001.")
        if os.name == "posix":
            assert backup.stat().st_mode & 0o077 == 0
        copy = sqlite3.connect(backup)
        assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert copy.execute("SELECT count(*) FROM runs").fetchall() == [(2,)]
        copy.close()
        async with sqlite.open():
            pass
        assert len(list(sqlite.path.parent.glob("*.backup*"))) == 1

    fill(sqlite, "0001")
    run(scenario)


def test_gateways_that_start_at_once_upgrade_once(empty: Place) -> None:
    async def scenario() -> None:
        opened = await asyncio.gather(*(Storage.open(empty.url) for _ in range(3)))
        for storage in opened:
            assert (await storage.get_run(OURS, "resp_old")) is not None
            await storage.close()
        if empty.engine == "sqlite":
            assert len(list(empty.path.parent.glob("*.backup"))) == 1

    fill(empty, "0001")
    run(scenario)


@pytest.mark.fault("FAULT-DB-SCHEMA")
def test_an_upgrade_that_fails_changes_nothing(sqlite: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "CREATE TABLE ledger (number INTEGER);\nCREATE TABLE runs (number INTEGER);\n"
    monkeypatch.setattr("tidegate.storage.migrate.render", lambda *_: broken)

    async def scenario() -> None:
        with pytest.raises(StorageUnusable, match="already exists"):
            await Storage.open(sqlite.url)
        assert await sqlite.query("SELECT version_num FROM alembic_version") == [("0001",)]
        assert await sqlite.query("SELECT name FROM sqlite_master WHERE name = 'ledger'") == []

    fill(sqlite, "0001")
    run(scenario)


# --- refusing ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-DB-SCHEMA")
def test_a_newer_schema_is_refused_with_what_to_do(empty: Place) -> None:
    async def scenario() -> None:
        async with empty.open():
            pass
        if empty.engine == "sqlite":
            connection = sqlite3.connect(empty.path)
            with connection:
                connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.close()
        else:
            await _fill(empty, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(StorageUnusable, match=f"schema 9999.* knows {HEAD} and older.*Start that version"):
            await Storage.open(empty.url)

    run(scenario)


def test_the_database_of_another_program_is_left_alone(empty: Place) -> None:
    async def scenario() -> None:
        if empty.engine == "sqlite":
            empty.path.parent.mkdir()
            connection = sqlite3.connect(empty.path)
            with connection:
                connection.execute("CREATE TABLE runs (number INTEGER)")
            connection.close()
        else:
            await _fill(empty, "CREATE TABLE runs (number bigint)")
        with pytest.raises(StorageUnusable, match=r"another program\. Choose another"):
            await Storage.open(empty.url)

    run(scenario)


@pytest.mark.fault("FAULT-DB-SCHEMA")
@pytest.mark.parametrize("harm", ["no database", "torn header", "torn schema"])
def test_a_damaged_file_is_refused_with_what_to_do(sqlite: Place, harm: str) -> None:
    async def scenario() -> None:
        async with sqlite.open() as storage:
            await storage.durable(put(storage))
        data = bytearray(sqlite.path.read_bytes())
        if harm == "no database":
            data[:] = b"# not a database\n" * 100
        elif harm == "torn header":
            data[:16] = bytes(16)
        else:
            data[100:4096] = b"\xff" * 3996
        sqlite.path.write_bytes(bytes(data))
        with pytest.raises(StorageUnusable, match=r"is damaged: .* restore a backup; or move it away"):
            await Storage.open(sqlite.url)
        assert sqlite.path.read_bytes() == bytes(data)

    run(scenario)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://root@host/db", "begins with 'mysql'.*sqlite:///path/to/file.db or postgresql://"),
        ("tidegate.db", "must be sqlite:///"),
        ("sqlite://host/tidegate.db", "not of the form"),
        ("sqlite:///", "not of the form"),
        ("sqlite:////proc/none/tidegate.db", "cannot be opened"),
    ],
)
def test_an_address_that_cannot_be_used_is_explained(url: str, words: str) -> None:
    async def scenario() -> None:
        with pytest.raises(StorageUnusable, match=words):
            await Storage.open(url)

    run(scenario)


def test_a_server_that_is_not_there_is_waited_for_and_then_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.storage.opening.CONNECT_PATIENCE_S", 0.1)

    async def scenario() -> None:
        with pytest.raises(StorageUnusable, match="does not answer: "):
            await Storage.open(f"postgresql://tidegate@/none?host={folder}")

    run(scenario)


def test_a_database_that_does_not_exist_on_the_server_is_named(
    postgresql: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.storage.opening.CONNECT_PATIENCE_S", 0.1)

    async def scenario() -> None:
        with pytest.raises(StorageUnusable, match='database "absent" does not exist'):
            await Storage.open(postgresql.server.url("absent"))

    run(scenario)


# --- how the schema is kept --------------------------------------------------------------------------------------


@pytest.mark.security("SEC-API8-FILES")
def test_only_the_owner_can_read_the_file(sqlite: Place) -> None:
    async def scenario() -> None:
        async with sqlite.open() as storage:
            await storage.durable(put(storage))
            modes = {path.name: path.stat().st_mode & 0o077 for path in sqlite.path.parent.glob(f"{sqlite.path.name}*")}
            assert len(modes) >= 3
            assert {name for name, mode in modes.items() if mode and "process" not in name} == set()

    run(scenario)


def test_the_known_revisions_are_those_of_the_migrations() -> None:
    from alembic.script import ScriptDirectory

    found = [script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()]
    assert tuple(reversed(found)) == REVISIONS


def test_the_script_of_a_first_start_is_what_the_migrations_give() -> None:
    assert FRESH.read_text("utf-8") == render("sqlite"), "run `make schema`"


def test_the_migrations_lead_to_the_tables_as_they_are_described(sqlite: Place) -> None:
    import sqlalchemy
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    async def scenario() -> None:
        async with sqlite.open():
            pass

    run(scenario)
    engine = sqlalchemy.create_engine(sqlite.url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
    finally:
        engine.dispose()


def test_both_engines_have_the_same_tables_and_columns(sqlite: Place, postgresql: Place) -> None:
    async def scenario() -> None:
        async with sqlite.open():
            pass
        found: list[Any] = []
        for table in sorted(metadata.tables):
            found += [(table, name) for (name,) in await sqlite.query(f"SELECT name FROM pragma_table_info('{table}')")]
        other = await postgresql.query(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
            "AND table_name <> 'alembic_version'"
        )
        assert sorted(found) == sorted(other)

    run(scenario)


def test_opening_a_current_file_loads_neither_sqlalchemy_nor_alembic(sqlite: Place) -> None:
    script = (
        "import asyncio, sys\n"
        "from tidegate.storage.storage import Storage\n"
        "async def main():\n"
        "    storage = await Storage.open(sys.argv[1])\n"
        "    await storage.close()\n"
        "asyncio.run(main())\n"
        "assert not {'sqlalchemy', 'alembic', 'asyncpg'} & set(sys.modules)\n"
    )
    for _ in range(2):  # a new file, and one that exists
        subprocess.run([sys.executable, "-c", script, sqlite.url], check=True, timeout=30)
