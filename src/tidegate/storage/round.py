"""The round that a process makes as long as its storage is open."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from tidegate.storage import idempotency, ledger, processes, retention
from tidegate.storage.engine import Engine, Unavailable
from tidegate.storage.records import Run
from tidegate.storage.statement import ROWS, Work
from tidegate.storage.writer import Writer
from tidegate.telemetry.log import get_logger
from tidegate.wire.errors import StorageUnavailable

if TYPE_CHECKING:
    from tidegate.storage.storage import Storage

__all__ = ["Round"]


class Round:
    """Renews the lease of a process, carries out what others ask of its runs, closes what dead processes left open, and
    removes what has expired. One per storage."""

    def __init__(self, storage: "Storage", engine: Engine, writer: Writer, own: Mapping[str, Run]) -> None:
        """`own` are the runs that this process writes, by their public ids."""
        self._storage = storage
        self._engine = engine
        self._writer = writer
        self._own = own
        self._loop = asyncio.get_running_loop()
        self._log = get_logger()
        self._ordered: asyncio.Task[None] | None = None
        self._swept = 0.0

    async def keep(self) -> None:
        """Again and again, until it is cancelled."""
        period = self._storage.settings.look_s
        self._swept = self._loop.time()
        while True:
            await asyncio.sleep(period)
            if self._loop.time() - self._writer.last_commit >= period:
                self._writer.touch()
            try:
                await self._look_around()
            except (StorageUnavailable, Unavailable):
                continue  # the writer has told it
            except Exception:  # whatever it was, the lease must be renewed
                self._log.exception("storage_keeper_failed")

    def on_orders(self) -> None:
        """Somebody wants something of this process's runs: it is looked at now."""
        if self._ordered is None or self._ordered.done():
            self._ordered = self._loop.create_task(self._take_orders_now())

    async def close(self) -> None:
        """Take no more orders."""
        if self._ordered is not None:
            self._ordered.cancel()
            await asyncio.wait([self._ordered])

    async def _look_around(self) -> None:
        now = self._loop.time()
        await self._take_orders()
        if self._writer.failing_since is not None:
            return
        await self.close_orphans()
        if now - self._swept >= self._storage.settings.sweep_s:
            self._swept = now
            await self.sweep()

    async def _take_orders_now(self) -> None:
        try:
            await self._take_orders()
        except Unavailable:
            return  # they are found when it is looked for them anyway
        except Exception:  # whatever it was, other orders must be taken
            self._log.exception("storage_keeper_failed")

    async def _take_orders(self) -> None:
        cancel = self._storage.on_cancel
        if cancel is None:
            return
        cancelled, deleted = await self._engine.read(partial(processes.orders, self._storage.process))
        if deleted:
            numbers = frozenset(deleted)
            cancelled += [run.new.id for run in self._own.values() if run.number in numbers]
        for run_id in cancelled:
            cancel(run_id)

    async def close_orphans(self) -> None:
        """Take processes off that are gone, and end what they left open."""
        storage = self._storage
        # While the database was away nobody could renew. After an outage, and after the start, which may have waited for
        # the end of one, everybody gets a lease's time before anybody is taken for dead.
        is_sure = self._loop.time() - self._writer.healthy_since >= storage.settings.lease_s
        neighbours = await self._engine.read(partial(processes.neighbours, storage.process))
        storage.note_neighbours(alive=any(one.remaining_s > 0 for one in neighbours))
        for neighbour in neighbours:
            is_alive = await self._engine.is_alive(neighbour.number)
            if is_alive is False or (is_alive is None and is_sure and neighbour.remaining_s < 0):
                margin_s = max(neighbour.remaining_s, 0) + 1 if is_alive is False else 0
                if await storage.change(partial(processes.bury, neighbour.number, margin_s)):
                    self._log.warning("storage_process_gone", process=neighbour.name)
        while await self._engine.read(processes.has_orphans):
            closed = await storage.change(partial(processes.close_orphans, ROWS))
            if closed:
                self._log.warning("storage_runs_interrupted", count=len(closed))
                if storage.on_interrupted is not None:
                    storage.on_interrupted(closed)
        if storage.estimate is not None:
            while await self._engine.read(ledger.has_orphans):
                settled = await storage.change(partial(ledger.close_orphans, ROWS, storage.estimate))
                self._log.warning("storage_usage_interrupted", count=len(settled))
                if storage.on_usage_interrupted is not None:
                    storage.on_usage_interrupted(settled)

    async def sweep(self) -> None:
        """Remove what has expired, in bounded batches."""
        usage_age_s = self._storage.settings.usage_age_s
        works: list[Callable[[int], Work[int]]] = [retention.expire, idempotency.expire, retention.purge]
        if usage_age_s is not None:
            works.append(partial(ledger.expire, age_s=usage_age_s))
        for work in works:
            more = True
            while more:
                more = bool(await self._storage.change(partial(work, ROWS)))
