"""PostgreSQL through asyncpg: one connection that writes, a few that read, and one on which processes call each other.

asyncpg by itself: inserting 200 segments costs the event loop about 1.5 ms with `executemany`, as much as with COPY or
arrays, and 3.3 ms through SQLAlchemy.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tidegate.storage import migrate
from tidegate.storage.engine import Refused, Unavailable
from tidegate.storage.line import Line
from tidegate.storage.records import StorageUnusable
from tidegate.storage.statement import Dialect, Step, Work

if TYPE_CHECKING:
    import asyncpg

__all__ = ["PostgresEngine"]

CONNECT_S: Final = 5.0
COMMAND_S: Final = 10.0
"""Longest wait for one statement of a write."""

READ_DEADLINE_S: Final = 5.0

IDLE_S: Final = 3.0
"""After so long without a word inside a transaction the server ends it: a process that stops there, or whose host is cut
off, would hold its locks, and with them every other process, for as long as it likes. Less than others are patient."""

T = TypeVar("T")

# Classes of SQLSTATE (appendix A of the manual) by which the server refuses what it was given: data, integrity, a limit
# that a value goes beyond. Everything else says something about the moment, the server or the schema, and may pass.
_REFUSED: Final = frozenset({"22", "23", "54"})

_CONFLICTS: Final = frozenset({"40001", "40P01"})
"""Serialisation failure and deadlock."""

_BEGIN: Final = f"""
    BEGIN; SET LOCAL idle_in_transaction_session_timeout = {IDLE_S * 1000:.0f};
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'
"""
"""Not parameters of the session: poolers refuse what they do not know of those.

Every commit waits for the disk. A server that crashes takes with it what it had only promised, and this process, which lives
on, would not write that again. It costs one wait of the disk for each batch, a few milliseconds, in which the next gathers.
"""

PAUSES_S: Final = (0.0, 0.02, 0.1, 0.5)
"""Before each attempt at a transaction that the server rolled back in favour of another one: repeated at once, it may
take a row from under the other one, which has not woken up yet, and run into the same deadlock."""


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
        self._line: Line | None = None

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
        for pause_s in PAUSES_S:
            if pause_s:
                await asyncio.sleep(pause_s)
            with contextlib.suppress(_RolledBack):
                return await self._write(work)
        raise Unavailable("other transactions were in the way again and again")

    async def _write(self, work: Callable[[], Work[T]]) -> T:
        connection = self._writer
        if connection is None or connection.is_closed():
            connection = self._writer = await self._connect()
        try:
            return await _transaction(connection, _BEGIN, work, COMMAND_S)
        except BaseException:
            if connection.is_closed():
                self._writer = None
            raise

    async def read(self, work: Callable[[], Work[T]]) -> T:
        with _translating():
            async with asyncio.timeout(READ_DEADLINE_S), self._slots:
                if self._idle:
                    try:
                        return await self._read(self._idle.pop(), work)
                    except (Unavailable, _RolledBack):
                        # After a restart of the server every idle connection is dead. Reading again changes nothing.
                        self._forget_idle()
                try:
                    return await self._read(await self._connect(), work)
                except _RolledBack as error:
                    raise Unavailable(str(error)) from error

    async def appear(self, process: int) -> None:
        """Nothing: a broken connection does not mean a dead process, so only leases tell."""

    async def is_alive(self, process: int) -> bool | None:
        return None

    def listen(self, heard: Callable[[str], None]) -> None:
        self._line = Line(self._connect, heard)

    def tell(self, words: str) -> None:
        if self._line is not None:
            self._line.tell(words)

    async def close(self) -> None:
        if self._line is not None:
            await self._line.close()
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
            except ValueError:  # the address, which may hold a password
                raise StorageUnusable(
                    "The address of the database cannot be used; it must be of the form postgresql://user@host/name."
                ) from None

    async def _read(self, connection: "asyncpg.Connection[Any]", work: Callable[[], Work[T]]) -> T:
        try:
            return await _transaction(
                connection, "BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ", work, READ_DEADLINE_S
            )
        finally:
            if not connection.is_closed():
                self._idle.append(connection)

    def _forget_idle(self) -> None:
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()


async def _transaction(
    connection: "asyncpg.Connection[Any]", begin: str, work: Callable[[], Work[T]], deadline_s: float
) -> T:
    """Run work between `begin` and a commit. Afterwards the connection is either at rest or closed."""
    try:
        with _translating():
            await connection.execute(begin, timeout=deadline_s)
            result = await _drive(connection, work(), deadline_s)
            await connection.execute("COMMIT", timeout=deadline_s)
            return result
    except (Unavailable, asyncio.CancelledError):
        connection.terminate()  # nobody knows how far it came
        raise
    except BaseException:
        try:
            await connection.execute("ROLLBACK", timeout=deadline_s)
        except Exception:
            connection.terminate()
        raise


async def _drive(connection: "asyncpg.Connection[Any]", work: Work[T], deadline_s: float) -> T:
    try:
        step = next(work)
        while True:
            step = work.send(await _rows(connection, step, deadline_s))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        work.close()


async def _rows(connection: "asyncpg.Connection[Any]", step: Step, deadline_s: float) -> list[Any]:
    sql, values, is_many = step
    text = sql.texts["postgresql"]
    if not is_many:
        rows: list[Any] = await connection.fetch(text, *_without_nul(values), timeout=deadline_s)
        return rows
    if not values:
        return []
    if any(type(value) is str for value in values[0]):
        values = [_without_nul(row) for row in values]
    if sql.returns:
        found: list[Any] = await connection.fetchmany(text, values, timeout=deadline_s)
        return found
    await connection.executemany(text, values, timeout=deadline_s)
    return []


def _without_nul(values: Sequence[Any]) -> Sequence[Any]:
    """The same values with U+FFFD for each NUL in a text, as the columns of PostgreSQL take none: names come from clients,
    also names of what does not exist. Content is bytes, and stays as it is."""
    if not any(type(value) is str and "\0" in value for value in values):
        return values
    return tuple([value.replace("\0", "\ufffd") if type(value) is str else value for value in values])


class _translating(contextlib.AbstractContextManager["_translating"]):  # noqa: N801 - reads as a word in a with statement
    """Errors of asyncpg and of sockets, as the interface names them."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, StorageUnusable | Unavailable | Refused | _RolledBack) or not isinstance(error, Exception):
            return
        import asyncpg  # loaded already

        # The words go to the log, so they must not hold values, as those of wrong data do.
        if isinstance(error, asyncpg.PostgresError):
            state = error.sqlstate or ""
            tells = error.args and state[:2] != "22"
            words = f"{error.args[0] if tells else type(error).__name__} ({state})"
            if state in _CONFLICTS:
                raise _RolledBack(words) from error
            raise (Refused(words) if state[:2] in _REFUSED else Unavailable(words)) from error
        if isinstance(error, TimeoutError):
            raise Unavailable("the database did not answer in time") from error
        if isinstance(error, OSError):
            raise Unavailable(str(error) or type(error).__name__) from error
        if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
            raise Unavailable(str(error)) from error
