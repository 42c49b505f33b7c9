"""SQLite: one connection that writes, on a thread of its own, and a few that read.

A thread with `sqlite3` rather than aiosqlite: one hop for a whole transaction instead of one for each statement. Per
flush of 200 segments that costs the event loop about 0.4 ms instead of 0.4–0.8 ms, and through SQLAlchemy 2.2 ms.

Only the writer checkpoints: versions before 3.51.3 can damage a file when two connections do so in the same instant.
"""

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from tidegate.storage import migrate
from tidegate.storage.engine import Refused, Unavailable
from tidegate.storage.records import StorageUnusable
from tidegate.storage.statement import Dialect, Step, Work

if sys.platform != "win32":
    import fcntl

__all__ = ["SQLiteEngine"]

OLDEST: Final = (3, 35)
"""The first version with RETURNING."""

BUSY_MS: Final = 2000
"""How long a transaction waits for another process before it counts as failed and is repeated."""

LOG_BYTES: Final = 64 * 1024**2

READ_DEADLINE_S: Final = 5.0

T = TypeVar("T")

_NOTHING: Final[dict[None, None]] = {}
# Of values of these types the module asks each time, by attributes that they lack, whether they are to be adapted: 2,000
# instructions for each, unless it knows how. These give the value itself.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(type(None), _NOTHING.get)

# Codes by which SQLite refuses what it was given. Everything else says something about the moment, the file or the schema,
# and may pass.
_REFUSED: Final = frozenset(
    {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE}
)


class SQLiteEngine:
    """A database file in WAL mode."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path, readers: int) -> None:
        self._path = path
        self._inode = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="storage-writer")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="storage-reader")
        self._connection: sqlite3.Connection | None = None
        self._synchronous = ""
        self._local = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._presence: dict[int, BinaryIO] = {}

    @classmethod
    async def open(cls, path: Path, *, readers: int = 4) -> "SQLiteEngine":
        """Make or upgrade the file, and open it. Raises StorageUnusable."""
        if sqlite3.sqlite_version_info < OLDEST:
            raise StorageUnusable(
                f"This Python has SQLite {sqlite3.sqlite_version}; the storage needs {'.'.join(map(str, OLDEST))} or newer."
            )
        engine = cls(path, readers)
        try:
            await asyncio.get_running_loop().run_in_executor(engine._writer, engine._prepare)
        except BaseException:
            await engine.close()
            raise
        return engine

    def listen(self, heard: Callable[[str], None]) -> None:
        """Nothing: one process serves one file."""

    def tell(self, words: str) -> None:
        """Nothing: nobody listens."""

    # -- the interface of engines -------------------------------------------------------------------------------

    async def write(self, work: Callable[[], Work[T]], *, sync: bool) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._write, work, sync)

    async def read(self, work: Callable[[], Work[T]]) -> T:
        job = _Job()
        running = asyncio.get_running_loop().run_in_executor(self._readers, self._read, work, job)
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                return await running
        except TimeoutError:
            raise Unavailable(f"a read took more than {READ_DEADLINE_S:g} s") from None
        finally:
            job.give_up()

    async def appear(self, process: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, self._appear, process)

    async def is_alive(self, process: int) -> bool | None:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._is_alive, process)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        # Readers first: the last connection to close checkpoints, and that is the writer's work.
        await loop.run_in_executor(None, self._readers.shutdown)
        for connection in self._reading:
            connection.close()
        await loop.run_in_executor(self._writer, self._leave)
        await loop.run_in_executor(None, self._writer.shutdown)

    # -- on the writer's thread ---------------------------------------------------------------------------------

    def _prepare(self) -> None:
        migrate.prepare_sqlite(self._path)
        self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = _connect(self._path)
        try:
            # What is deleted is overwritten. Costs nothing where rows are only added.
            connection.execute("PRAGMA secure_delete = ON")
            # After a burst the log of writes shrinks again.
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            self._inode = self._path.stat().st_ino
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._synchronous = ""
        return connection

    def _write(self, work: Callable[[], Work[T]], sync: bool) -> T:
        try:
            connection = self._connection or self._connect()
            if self._path.stat().st_ino != self._inode:
                raise Unavailable(f"{self._path} was replaced by another file")
            synchronous = "FULL" if sync else "NORMAL"
            if synchronous != self._synchronous:
                connection.execute(f"PRAGMA synchronous = {synchronous}")
                self._synchronous = synchronous
            connection.execute("BEGIN IMMEDIATE")
            result = _drive(connection, work())
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up()
            raise _translated(error) from error
        except OSError as error:
            self._give_up()
            raise Unavailable(f"{self._path}: {error.strerror or error}") from error
        except BaseException:
            self._give_up()
            raise
        return result

    def _give_up(self) -> None:
        """End the transaction; if even that fails, begin with a new connection next time."""
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connection = None
            connection.close()

    def _appear(self, process: int) -> None:
        """Hold a lock that the system releases when this process dies, however it dies."""
        if sys.platform == "win32":
            return
        path = self._presence_path(process)
        # Locked before it has its name: nobody may find it unlocked.
        draft = path.with_name(f"{path.name}-draft")
        # For the owner alone: whoever may read a file may lock it.
        file = os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(path)
        except OSError:  # a file system without locks: then the lease alone tells
            file.close()
            draft.unlink(missing_ok=True)
            return
        self._presence[process] = file

    def _is_alive(self, process: int) -> bool | None:
        if sys.platform == "win32":
            return None
        path = self._presence_path(process)
        try:
            file = path.open("rb+")
        except OSError:
            return None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                return None
            path.unlink(missing_ok=True)
            return False

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for process, file in self._presence.items():
            self._presence_path(process).unlink(missing_ok=True)
            file.close()
        self._presence.clear()

    def _presence_path(self, process: int) -> Path:
        return self._path.with_name(f"{self._path.name}-process-{process}")

    # -- on a reader's thread -----------------------------------------------------------------------------------

    def _read(self, work: Callable[[], Work[T]], job: "_Job") -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = _connect(self._path)
                self._reading.append(connection)
                connection.execute("PRAGMA query_only = ON")
                connection.execute("PRAGMA wal_autocheckpoint = 0")
            job.begin(connection)
            try:
                connection.execute("BEGIN")
                return _drive(connection, work())
            finally:
                job.end()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise _translated(error) from error


class _Job:
    """A read whose caller may stop waiting; then its query is interrupted, so that the thread is free again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._is_over = False

    def begin(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if self._is_over:
                raise Unavailable("the read was given up before it began")
            self._connection = connection

    def end(self) -> None:
        with self._lock:
            self._connection = None

    def give_up(self) -> None:
        """Does nothing to a read that is done."""
        with self._lock:
            self._is_over = True
            if self._connection is not None:
                self._connection.interrupt()


def _connect(path: Path) -> sqlite3.Connection:
    # `mode=rw` never makes a file: one that is gone must be noticed, not replaced by an empty one.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )


def _drive(connection: sqlite3.Connection, work: Work[T]) -> T:
    try:
        step = next(work)
        while True:
            step = work.send(_rows(connection, step))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        work.close()


def _rows(connection: sqlite3.Connection, step: Step) -> list[Any]:
    sql, values, is_many = step
    text = sql.texts["sqlite"]
    if not is_many:
        return connection.execute(text, values).fetchall()
    if not sql.returns:
        connection.executemany(text, values)
        return []
    return [row for each in values for row in connection.execute(text, each).fetchall()]


def _translated(error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the module itself, for a value that it cannot bind
        return Refused(str(error))
    kind = Refused if code & 0xFF in _REFUSED else Unavailable
    return kind(f"{error} ({error.sqlite_errorname})")
