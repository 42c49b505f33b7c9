"""PostgreSQL through asyncpg: one connection that writes, a few that read.

asyncpg by itself: inserting 200 segments costs the event loop about 1.5 ms with `executemany`, as much as with COPY or
arrays, and 3.3 ms through SQLAlchemy.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tidegate.storage import migrate
from tidegate.storage.engine import Refused, Unavailable
from tidegate.storage.records import StorageUnusable
from tidegate.storage.statement import Dialect, Step, Work

if TYPE_CHECKING:
    import asyncpg

__all__ = ["PostgresEngine"]

CONNECT_S: Final = 5.0
COMMAND_S: Final = 10.0
"""Longest wait for one statement of a write."""

READ_DEADLINE_S: Final = 5.0

T = TypeVar("T")

# Classes of SQLSTATE (appendix A of the manual) that say something about the moment or the server, not the statement:
# connection, transaction state (read-only after a failover), authorisation, catalogue, rollback, resources, state of
# objects (lock not available), operator, system, configuration file, internal error.
_PASSING: Final = frozenset({"08", "25", "28", "3D", "40", "53", "55", "57", "58", "F0", "XX"})


_CONFLICTS: Final = frozenset({"40001", "40P01"})
"""Serialisation failure and deadlock."""

RETRIES: Final = 3
"""Attempts at a transaction that the server rolled back in favour of another one."""


class _RolledBack(Exception):
    """Nothing of the transaction remains, and repeating it may succeed: a deadlock, or a conflict."""


class PostgresEngine:
    """A PostgreSQL database."""

    dialect: Dialect = "postgresql"

    def __init__(self, url: str, readers: int) -> None:
        self._url = url
        self._writer: asyncpg.Connection[Any] | None = None
        self._idle: list[asyncpg.Connection[Any]] = []
        self._slots = asyncio.Semaphore(readers)

    @classmethod
    async def open(cls, url: str, *, readers: int = 4) -> "PostgresEngine":
        """Connect and upgrade the schema. Raises StorageUnusable, Unavailable."""
        try:
            import asyncpg  # noqa: F401 - an extra, and slow to load
        except ImportError:
            raise StorageUnusable("PostgreSQL needs the extra 'postgres': pip install 'tidegate[postgres]'") from None
        engine = cls(url, readers)
        try:
            engine._writer = await engine._connect()
            with _translating():
                await migrate.prepare_postgres(engine._writer)
        except BaseException:
            await engine.close()
            raise
        return engine

    async def write(self, work: Callable[[], Work[T]], *, sync: bool) -> T:
        for _ in range(RETRIES):
            with contextlib.suppress(_RolledBack):
                return await self._write(work, sync=sync)
        raise Unavailable("other transactions were in the way again and again")

    async def _write(self, work: Callable[[], Work[T]], *, sync: bool) -> T:
        try:
            with _translating():
                connection = self._writer
                if connection is None or connection.is_closed():
                    connection = self._writer = await self._connect()
                async with asyncio.timeout(COMMAND_S):
                    await connection.execute("BEGIN" if sync else "BEGIN; SET LOCAL synchronous_commit = off")
                result = await _drive(connection, work(), COMMAND_S)
                async with asyncio.timeout(COMMAND_S):
                    await connection.execute("COMMIT")
                return result
        except (Refused, _RolledBack):
            await self._roll_back()
            raise
        except BaseException:
            # Whatever it was, the state of the connection is not known.
            if self._writer is not None:
                self._writer.terminate()
                self._writer = None
            raise

    async def read(self, work: Callable[[], Work[T]]) -> T:
        async with self._slots:
            is_used = bool(self._idle)
            try:
                with _translating():
                    async with asyncio.timeout(READ_DEADLINE_S):
                        return await self._read(work)
            except (Unavailable, _RolledBack) as error:
                if not is_used:
                    raise Unavailable(str(error)) from error
                # After a restart of the server every idle connection is dead. Reading again changes nothing.
                self._forget_idle()
                with _translating():
                    async with asyncio.timeout(READ_DEADLINE_S):
                        return await self._read(work)

    async def appear(self, process: int) -> None:
        """Nothing: a broken connection does not mean a dead process, so only leases tell."""

    async def is_alive(self, process: int) -> bool | None:
        return None

    async def close(self) -> None:
        connections = [*self._idle, *([self._writer] if self._writer is not None else [])]
        self._idle, self._writer = [], None
        for connection in connections:
            try:
                await connection.close(timeout=2)
            except Exception:  # the server is gone, or does not answer: then the socket is all that is left
                connection.terminate()

    # -- inside -------------------------------------------------------------------------------------------------

    async def _connect(self) -> "asyncpg.Connection[Any]":
        import asyncpg  # an extra, and slow to load

        with _translating():
            try:
                return await asyncpg.connect(
                    self._url, timeout=CONNECT_S, server_settings={"application_name": "tidegate"}
                )
            except ValueError as error:  # the address
                raise StorageUnusable(f"The address of the database cannot be used: {error}") from None

    async def _read(self, work: Callable[[], Work[T]]) -> T:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            await connection.execute("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ")
            result = await _drive(connection, work(), None)
            await connection.execute("COMMIT")
        except BaseException:
            connection.terminate()
            raise
        self._idle.append(connection)
        return result

    def _forget_idle(self) -> None:
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()

    async def _roll_back(self) -> None:
        connection = self._writer
        if connection is None:
            return
        try:
            async with asyncio.timeout(COMMAND_S):
                await connection.execute("ROLLBACK")
        except Exception:  # then it ends with the connection
            connection.terminate()
            self._writer = None


async def _drive(connection: "asyncpg.Connection[Any]", work: Work[T], deadline_s: float | None) -> T:
    try:
        step = next(work)
        while True:
            step = work.send(await _rows(connection, step, deadline_s))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        work.close()


async def _rows(connection: "asyncpg.Connection[Any]", step: Step, deadline_s: float | None) -> list[Any]:
    sql, values, is_many = step
    text = sql.texts["postgresql"]
    if not is_many:
        rows: list[Any] = await connection.fetch(text, *values, timeout=deadline_s)
        return rows
    if not values:
        return []
    if sql.returns:
        found: list[Any] = await connection.fetchmany(text, values, timeout=deadline_s)
        return found
    await connection.executemany(text, values, timeout=deadline_s)
    return []


class _translating(contextlib.AbstractContextManager["_translating"]):  # noqa: N801 - reads as a word in a with statement
    """Errors of asyncpg and of sockets, as the interface names them."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, StorageUnusable | Unavailable | Refused | _RolledBack) or not isinstance(error, Exception):
            return
        import asyncpg  # loaded already

        if isinstance(error, asyncpg.PostgresError):
            state = error.sqlstate or ""
            words = f"{error} ({state})"
            if state in _CONFLICTS:
                raise _RolledBack(words) from error
            raise (Unavailable(words) if state[:2] in _PASSING else Refused(words)) from error
        if isinstance(error, TimeoutError):
            raise Unavailable("the database did not answer in time") from error
        if isinstance(error, OSError):
            raise Unavailable(str(error) or type(error).__name__) from error
        if isinstance(error, asyncpg.DataError):  # a value that cannot be encoded
            raise Refused(str(error)) from error
        if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
            raise Unavailable(str(error)) from error
