"""Bring a database to the schema that this version knows, or refuse it with what to do.

A database that is current is recognised by one query, without loading Alembic. Migrations run in one transaction, under
a lock that other gateways starting at the same time wait for; SQLite's file is copied before.
"""

import asyncio
import io
import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tidegate.storage.records import StorageUnusable
from tidegate.storage.statement import Dialect

if TYPE_CHECKING:
    import asyncpg

__all__ = [
    "HEAD",
    "REVISIONS",
    "postgres_revision",
    "prepare_postgres",
    "prepare_sqlite",
    "render",
    "sqlite_revision",
    "sqlite_unusable",
]

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""Every schema that this version can read or upgrade, oldest first; a test holds them against Alembic's own list."""

HEAD: Final = REVISIONS[-1]

FOLDER: Final = Path(__file__).parent / "migrations"
FRESH: Final = FOLDER / "fresh.sql"
"""What `render` gives for SQLite from nothing to HEAD: a first start need not load Alembic. `make schema` writes it."""

LOCK_KEY: Final = 0x7469_6465_6761_7465
"""Of PostgreSQL's advisory lock: 'tidegate' in ASCII."""

START_LOCK_MS: Final = 30_000
"""How long a start waits for another process that migrates the same file."""


def render(dialect: Dialect, start: str | None = None) -> str:
    """The SQL that leads from a revision, or from nothing, to HEAD."""
    from alembic import command  # takes longer than the rest of the start
    from alembic.config import Config

    buffer = io.StringIO()
    config = Config(output_buffer=buffer)
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["dialect"] = dialect
    command.upgrade(config, HEAD if start is None else f"{start}:{HEAD}", sql=True)
    return buffer.getvalue()


def _check_known(revision: str, where: str) -> None:
    if revision not in REVISIONS:
        raise StorageUnusable(
            f"{where} has the schema {revision}, which this version of Tidegate does not know; it knows {HEAD} and older. "
            "A newer version wrote it. Start that version, or restore a backup that was made before."
        )


# -- SQLite -------------------------------------------------------------------------------------------------------


def prepare_sqlite(path: Path) -> None:
    """Make the file or bring it up to date. Blocks. Raises StorageUnusable."""
    try:
        _create(path)
        connection = sqlite3.connect(path, timeout=START_LOCK_MS / 1000, isolation_level=None)
        try:
            _prepare_sqlite(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise sqlite_unusable(path, error) from error
    except OSError as error:
        raise StorageUnusable(
            f"The database {path} cannot be opened: {error.strerror or error}. "
            "Its folder must exist or be possible to make, and be writable for the user that runs Tidegate."
        ) from error


def _create(path: Path) -> None:
    """An empty file that only its owner can read; SQLite gives the files beside it the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _prepare_sqlite(connection: sqlite3.Connection, path: Path) -> None:
    sqlite_revision(connection, path)  # whose it is not is left as it is, its mode as well
    mode = _switch_to_wal(connection)
    if mode != "wal":
        raise StorageUnusable(
            f"The file system of {path} does not allow SQLite's WAL mode (it gives '{mode}'), as network file systems do not. "
            "Put the database on a local disk, or use PostgreSQL."
        )
    if sqlite_revision(connection, path) == HEAD:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        revision = sqlite_revision(connection, path)  # another process may have been faster
        if revision is None:
            script = FRESH.read_text("utf-8")
        else:
            if revision != HEAD:
                _back_up(path, revision)
            script = "" if revision == HEAD else render("sqlite", revision)
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _switch_to_wal(connection: sqlite3.Connection) -> str:
    """The mode that the file has afterwards. Another start may hold the fresh file: where waiting could be a deadlock,
    SQLite calls it locked at once, whatever the timeout."""
    deadline = time.monotonic() + START_LOCK_MS / 1000
    while True:
        try:
            [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return str(mode)


def sqlite_revision(connection: sqlite3.Connection, path: Path) -> str | None:
    """The schema of a file; None for an empty database. Raises StorageUnusable for one that is not ours to use."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names:
        return None
    rows = (
        connection.execute("SELECT version_num FROM alembic_version").fetchall() if "alembic_version" in names else []
    )
    if len(rows) != 1 or "segments" not in names:
        raise StorageUnusable(f"{path} is a database of another program. Choose another file.")
    revision: str = rows[0][0]
    _check_known(revision, str(path))
    return revision


def _back_up(path: Path, revision: str) -> None:
    """A copy beside the file. Whole or not there: it gets its name when it is complete."""
    backup = path.with_name(f"{path.name}.schema-{revision}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.backup")
    draft = backup.with_name(f"{backup.name}.draft")
    draft.unlink(missing_ok=True)
    _create(draft)
    source = sqlite3.connect(path, isolation_level=None)
    try:
        source.execute("VACUUM INTO ?", (str(draft),))
    except sqlite3.Error as error:
        draft.unlink(missing_ok=True)
        raise StorageUnusable(
            f"The schema of {path} must be upgraded from {revision} to {HEAD}, and the copy that is made before failed: {error}. "
            f"Make room for a file of the same size in {path.parent}."
        ) from error
    finally:
        source.close()
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(backup)


def _statements(script: str) -> list[str]:
    """The statements of a script: `executescript` would end the transaction."""
    found, begun = [], ""
    for line in script.splitlines(keepends=True):
        if not begun and (not line.strip() or line.startswith("--")):
            continue
        begun += line
        if sqlite3.complete_statement(begun):
            found.append(begun)
            begun = ""
    return found


def sqlite_unusable(path: Path, error: sqlite3.Error) -> StorageUnusable:
    """What to tell the operator when SQLite fails on a file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StorageUnusable(
            f"The database {path} is damaged: {error}. Stop everything that uses it, then restore a backup; or move it away "
            f"together with {path.name}-wal and {path.name}-shm, and Tidegate begins with an empty one."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageUnusable(
            f"The database {path} is locked by another process: {error}. Stop that one, then start again."
        )
    return StorageUnusable(f"The database {path} cannot be used: {error}.")


# -- PostgreSQL ---------------------------------------------------------------------------------------------------


async def prepare_postgres(connection: "asyncpg.Connection[Any]") -> None:
    """Bring the database up to date. Raises StorageUnusable, and the driver's errors."""
    if await postgres_revision(connection) == HEAD:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_KEY)
        revision = await postgres_revision(connection)
        if revision != HEAD:
            script = await asyncio.get_running_loop().run_in_executor(None, render, "postgresql", revision)
            await connection.execute(script)


async def postgres_revision(connection: "asyncpg.Connection[Any]") -> str | None:
    """The schema of a database; None for one without tables of ours. Raises StorageUnusable, and the driver's errors."""
    [name, has_version, has_runs, has_segments] = await connection.fetchrow(
        "SELECT current_database(), to_regclass('alembic_version') IS NOT NULL, to_regclass('runs') IS NOT NULL, "
        "to_regclass('segments') IS NOT NULL"
    )
    where = f"The database '{name}'"
    revision: str | None = None
    if has_version:
        revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    if {has_version, has_runs, has_segments, revision is not None} == {True, False}:
        raise StorageUnusable(f"{where} holds tables of another program. Choose another database.")
    if revision is not None:
        _check_known(revision, where)
    return revision
