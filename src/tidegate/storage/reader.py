"""The ledger of a database, for those who only ask, and the sums of its hours made anew."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from tidegate.storage import ledger
from tidegate.storage.engine import Engine, Unavailable
from tidegate.storage.ledger import Entries, ReportRow, UsageFilter
from tidegate.storage.opening import open_engine, sqlite_path
from tidegate.storage.records import StorageUnusable
from tidegate.storage.spent import Level, Spent, spent
from tidegate.storage.statement import ROWS, Work
from tidegate.storage.sums import HOUR_S
from tidegate.storage.writer import Settings

__all__ = ["Reader", "rebuild"]

T = TypeVar("T")


class Reader:
    """A database that is only asked: no gateway is entered, none is taken for dead."""

    def __init__(self, engine: Engine) -> None:
        """Not for callers: `open` makes one."""
        self._engine = engine

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Reader"]:
        """Open a database, upgraded if it must be. Raises StorageUnusable."""
        if url.startswith("sqlite:") and not sqlite_path(url).exists():
            raise StorageUnusable(f"There is no database at {sqlite_path(url)}: no gateway has run with it yet.")
        engine = await open_engine(url, Settings())
        try:
            yield cls(engine)
        except Unavailable as error:
            raise StorageUnusable(f"The database does not answer: {error}.") from error
        finally:
            await engine.close()

    async def usage_report(
        self, by: Sequence[str], since: float, until: float, only: UsageFilter, *, limit: int
    ) -> list[ReportRow]:
        """See `Storage.usage_report`."""
        return await self._engine.read(partial(ledger.report, by, since, until, only, limit))

    async def usage_entries(
        self,
        since: float,
        until: float,
        only: UsageFilter,
        *,
        after: tuple[float, int] | None = None,
        limit: int = ROWS,
    ) -> Entries:
        """See `Storage.usage_entries`."""
        return await self._engine.read(partial(ledger.entries, since, until, only, after=after, limit=limit))

    async def look(self, work: Callable[[], Work[T]]) -> T:
        """See `Storage.look`."""
        return await self._engine.read(work)

    async def usage_spent(self, level: Level, who: dict[str, str], since: float, before: float) -> Spent:
        """See `Storage.usage_spent`."""
        return await self._engine.read(partial(spent, level, who, since, before))

    async def rebuild_usage(self, age_s: float | None = None) -> int:
        """See `Storage.rebuild_usage`; `age_s` is how old entries become."""
        return await rebuild(lambda work: self._engine.write(work, sync=False), age_s)


async def rebuild(
    execute: Callable[[Callable[[], Work[float | None]]], Awaitable[float | None]], age_s: float | None
) -> int:
    """Make the sums of all hours anew that still have all their entries; how many. `age_s` is how old entries become."""
    # Of the first hours some entries may have expired.
    count, since = 0, 0.0 if age_s is None else time.time() - age_s + 2 * HOUR_S
    while (behind := await execute(partial(ledger.rebuild, since))) is not None:
        count, since = count + 1, behind
    return count
