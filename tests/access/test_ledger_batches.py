"""When the database is given a row: once where a request ends soon, twice where it goes on."""

import asyncio
import time
from pathlib import Path

from tests.storage.test_storage_ledger import ALL, usage
from tidegate.access.ledger import Charge, Ledger
from tidegate.access.prices import Prices
from tidegate.storage.records import Usage
from tidegate.storage.storage import Settings, Storage
from tidegate.wire import jsonio

FLUSH_S = 0.1


class Request:
    """One that began so many seconds ago."""

    def __init__(self, age_s: float) -> None:
        self.number = 0
        self.is_written = False
        self.started_at = time.perf_counter() - age_s
        self.admitted_at = time.time()
        self.charges: list[Charge] = []
        self.priced: tuple[int | None, jsonio.Raw] | None = None

    def row(self) -> Usage:
        return usage(self.number, at=self.admitted_at)

    def open_row(self) -> Usage:
        return usage(self.number, at=self.admitted_at, settled=False, ending="open")


async def stand(storage: Storage) -> list[tuple[int, str]]:
    """The rows that the database has."""
    storage.before_batch = None
    return [(row.number, row.entry.ending) for row in (await storage.usage_entries(0, 4e9, ALL, limit=500)).rows]


def test_what_has_just_begun_is_left_to_the_next_batch(tmp_path: Path) -> None:
    async def scenario() -> None:
        done: list[Usage] = []
        storage = await Storage.open(f"sqlite:///{tmp_path}/t.db", settings=Settings(flush_s=FLUSH_S))
        ledger = Ledger(asyncio.get_running_loop(), storage, Prices({}, {}), done.append)
        old, short, long = Request(1), Request(0), Request(0)
        for each in (old, short, long):
            ledger.admit(each)
        due_s = storage.gather()
        assert due_s is not None
        assert 0 < due_s <= FLUSH_S
        assert [each.is_written for each in (old, short, long)] == [True, False, False]
        ledger.settle(short)
        await asyncio.sleep(2 * FLUSH_S)
        assert [each.is_written for each in (old, short, long)] == [True, False, True]
        assert await stand(storage) == [(old.number, "open"), (short.number, "completed"), (long.number, "open")]
        for each in (old, long):
            ledger.settle(each)
        ledger.flush()
        assert await stand(storage) == [(each.number, "completed") for each in (old, short, long)]
        assert [one.number for one in done] == [each.number for each in (short, old, long)]
        await storage.close()

    asyncio.run(scenario())
