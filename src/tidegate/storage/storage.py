"""The storage as the rest of the gateway uses it.

What the hot path calls (`put_run`, `append_segment`, `finish_run`, `put_ended_run`, `admit_usage`, `settle_usage`) only queues: it neither
waits nor touches the database. `durable` waits until a run's writes are on the disk. Everything else is awaited, and
returns when it is done: changes when they are on the disk. Reads see all that this process wrote before.

A run, item or conversation of another tenant is the same as one that does not exist: None.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, TypeVar

from tidegate.config.secret import Secret
from tidegate.storage import (
    conversations,
    idempotency,
    items,
    journal,
    ledger,
    processes,
    reseal,
    retention,
    runs,
    tenants,
)
from tidegate.storage.crypto import Damaged, Keyring, MasterKey
from tidegate.storage.engine import Engine, Refused, Unavailable
from tidegate.storage.items import Scope
from tidegate.storage.journal import Append
from tidegate.storage.ledger import Entries, Estimate, ReportRow, UsageFilter
from tidegate.storage.news import News, Watch
from tidegate.storage.opening import open_engine
from tidegate.storage.reader import rebuild
from tidegate.storage.records import (
    Chain,
    Claim,
    Conversation,
    Ending,
    Interrupted,
    Item,
    ItemExists,
    Journal,
    NewRun,
    Page,
    Ref,
    Run,
    StorageUnusable,
    Stored,
    StoredItem,
    StoredRun,
    Tenant,
    Usage,
)
from tidegate.storage.round import Round
from tidegate.storage.runs import Beginning, Finish
from tidegate.storage.spent import Level, Spent, spent
from tidegate.storage.statement import ROWS, Work
from tidegate.storage.writer import WRITE_BYTES, Batch, Settings, Writer
from tidegate.telemetry.log import get_logger
from tidegate.telemetry.metrics import Metrics
from tidegate.wire.errors import Internal, StorageUnavailable

__all__ = ["Settings", "Storage"]

BLOCK: Final = 32_768
"""Run numbers that a process takes at once. It has one block in use and one to spare, for runs that begin in an outage."""

HISTORY_BYTES: Final = 64 * 1024**2
"""Largest history that is read for one request."""

HELD_S: Final = 0.5
"""How long a client waits at most for the end of its answer, so that another gateway finds that as well."""

T = TypeVar("T")


class Storage:
    """A database with its writer. One per process and database; lives on one event loop."""

    def __init__(self, engine: Engine, keyring: Keyring, settings: Settings) -> None:
        """Not for callers: `open` makes one."""
        self._engine = engine
        self._leaves = False
        self._is_server = engine.dialect == "postgresql"
        self.is_shared = self._is_server
        """Whether other processes may go on from what is written here: always where the database is a server, with SQLite while
        one process takes over from another."""
        self.keyring = keyring
        self.settings = settings
        self.process = 0
        self.on_interrupted: Callable[[Sequence[Interrupted]], None] | None = None
        """Told of runs that were closed because their process is gone."""
        self.on_usage_interrupted: Callable[[Sequence[Usage]], None] | None = None
        """Told of the entries of processes that are gone, when they are settled."""
        self.estimate: Estimate | None = None
        """How ledger entries are settled whose process is gone; without it they stay open."""
        self._is_strict = settings.when_unavailable == "fail_closed"
        self.before_batch: Callable[[], float | None] | None = None
        """Called before a batch is written that is due: what is queued now is still in it. In how many seconds the next one is
        due, where something was left for that."""
        self.on_cancel: Callable[[str], None] | None = None
        """Told the id of a run of this process that another process was asked to cancel, or to delete."""
        self.on_taken: Callable[[str], None] | None = None
        """Told the id of a run that goes on here, and that others have ended: they took this process for dead."""
        self._log = get_logger()
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(engine, self, settings, self._loop)
        self._numbers = self._spare = range(0)
        self._last_usage = 0
        self._reserving: asyncio.Task[None] | None = None
        self._live: dict[str, Run] = {}
        self._pending: dict[str, int] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._round = Round(self, engine, self._writer, self._live)
        self._news = News(self._loop, engine, self._live, self._round.on_orders)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        settings: Settings | None = None,
        master_keys: Sequence[Secret] = (),
        on_interrupted: Callable[[Sequence[Interrupted]], None] | None = None,
        estimate: Estimate | None = None,
    ) -> "Storage":
        """Open, make or upgrade the database, and close the runs of processes that are gone.

        `url` is `sqlite:///relative/path`, `sqlite:////absolute/path` or `postgresql://…`. With `master_keys`, content
        is sealed under the first one; the others open what was sealed before. Raises StorageUnusable.
        """
        settings = settings or Settings()
        keyring = Keyring([MasterKey(secret) for secret in master_keys])
        engine = await open_engine(url, settings)
        return await cls.over(engine, keyring, settings, on_interrupted=on_interrupted, estimate=estimate)

    @classmethod
    async def over(
        cls,
        engine: Engine,
        keyring: Keyring,
        settings: Settings,
        *,
        on_interrupted: Callable[[Sequence[Interrupted]], None] | None = None,
        estimate: Estimate | None = None,
    ) -> "Storage":
        """The storage over an engine that is open, and that it closes. Raises StorageUnusable."""
        storage = cls(engine, keyring, settings)
        storage.on_interrupted = on_interrupted
        storage.estimate = estimate
        try:
            await storage._start()
        except BaseException as error:
            await engine.close()
            if isinstance(error, Unavailable | Refused | Damaged):
                raise StorageUnusable(f"The database cannot be used: {error}.") from error
            raise
        return storage

    async def close(self) -> None:
        """Write what waits, take this process off, and close the database."""
        tasks = [task for task in (self._keeper, self._reserving) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._round.close()
        await self._writer.close()
        if not self.failing:
            with contextlib.suppress(Exception):  # then its lease runs out
                await self._engine.write(partial(processes.leave, self.process), sync=True)
        await self._engine.close()

    # -- runs: queued, never waiting ----------------------------------------------------------------------------

    @property
    def failing(self) -> str:
        """Why the database does not work at the moment; empty while it does."""
        return self._writer.reason

    def check_room(self) -> None:
        """Whether another run may begin. Raises StorageUnavailable while the database fails and the spool is nearly full,
        where the mode is `fail_closed`."""
        if self.settings.when_unavailable == "fail_closed" and self._lacks_room:
            self._writer.note_full()
            raise StorageUnavailable(
                "The storage of this gateway is full; no further response can be stored. Try again later."
            )

    @property
    def _lacks_room(self) -> bool:
        return self._writer.is_full or not (self._numbers or self._spare)

    def put_run(self, new: NewRun, inputs: Sequence[Item] = ()) -> Run:
        """Begin a run with its input items. While the database fails and the spool is nearly full, it is `lost` from the
        start: who is not to have an answer then has asked :meth:`check_room` before there was one."""
        run = self._numbered(new)
        if run.lost:
            return run
        writer = self._writer
        run.size = len(new.request) + _bytes_of(inputs)
        run.outputs_at = new.first_position + len(inputs)
        size = run.size + WRITE_BYTES * (1 + len(inputs))
        if writer.charge(run, size):
            writer.open.beginnings.append(Beginning(run, inputs, size))
            run.begun = run.ticket = writer.added(size)
            self._live[new.id] = run
        return run

    def put_ended_run(
        self,
        new: NewRun,
        inputs: Sequence[Item],
        ending: Ending,
        outputs: Sequence[Item] = (),
        append: Sequence[Item] = (),
    ) -> Run:
        """:meth:`put_run` and :meth:`finish_run` in one: the run is in the database as it ended, or not at all."""
        run = self._numbered(new)
        if run.lost:
            return run
        writer = self._writer
        run.ended = True
        run.size = len(new.request) + len(ending.answer) + len(ending.error) + _bytes_of(inputs) + _bytes_of(outputs)
        run.outputs_at = new.first_position + len(inputs)
        size = run.size + _bytes_of(append) + WRITE_BYTES * (1 + len(inputs) + len(outputs) + len(append))
        if writer.charge(run, size):
            batch = writer.open
            batch.beginnings.append(Beginning(run, inputs, size))
            batch.finishes.append(Finish(run, ending, outputs, append, 0))
            run.begun = run.ticket = writer.added(size)
            self._live[new.id] = run
            if append and new.conversation is not None:
                self._pending[new.conversation.id] = run.ticket
        return run

    def _numbered(self, new: NewRun) -> Run:
        """A run that is to be written, or one that is lost for want of room."""
        if not self._numbers:
            self._numbers, self._spare = self._spare, range(0)
        if not self._spare and self._reserving is None:
            self._reserving = self._loop.create_task(self._reserve())
        if self._lacks_room:
            self._writer.note_full()
            run = Run(0, new)
            run.lost = True
            self._writer.lost_runs += 1
            return run
        run = Run(self._numbers.start, new)
        self._numbers = self._numbers[1:]
        return run

    def append_segment(self, run: Run, first: int, last: int, frames: bytes) -> None:
        """Append consecutive frames to the journal of a run, with the sequence numbers of the first and the last."""
        if run.lost or run.ended:
            return
        writer = self._writer
        size = len(frames) + WRITE_BYTES
        if writer.charge(run, size):
            run.size += len(frames)
            run.last = last
            writer.open.segments.append(Append(run, first, last, frames))
            run.ticket = writer.added(size)

    def finish_run(self, run: Run, ending: Ending, outputs: Sequence[Item] = (), append: Sequence[Item] = ()) -> None:
        """End a run, once, with its output items; `append` goes to the end of its conversation."""
        if run.lost or run.ended:
            return
        writer = self._writer
        added = len(ending.answer) + len(ending.error) + _bytes_of(outputs)
        size = added + _bytes_of(append) + WRITE_BYTES * (1 + len(outputs) + len(append))
        if writer.charge(run, size):
            run.ended = True
            run.size += added
            writer.open.finishes.append(Finish(run, ending, outputs, append, size))
            run.ticket = writer.added(size)
            if append and run.new.conversation is not None:
                self._pending[run.new.conversation.id] = run.ticket

    def abandon(self, run: Run) -> None:
        """Keep nothing of a run."""
        self._writer.lose(run)

    def when_found(self, run: Run, then: Callable[[], None]) -> None:
        """Call `then` as soon as other processes find what was written for this run so far: at once where no others share
        the database, and after `HELD_S` where it does not keep up, or earlier where it fails."""
        if self.is_shared and not run.lost:
            self._writer.when_committed(run.ticket, then, HELD_S)
        else:
            then()

    async def durable(self, run: Run) -> None:
        """Until everything written for this run so far is on the disk. Raises StorageUnavailable, also when it is lost."""
        if not run.lost:
            await self._writer.wait(run.ticket, sync=True)
        if run.lost:
            raise StorageUnavailable("The response could not be stored.")

    # -- runs: awaited ------------------------------------------------------------------------------------------

    async def get_run(self, tenant: Tenant, run_id: str) -> StoredRun | None:
        """A run as it stands."""
        return await self._read_run(run_id, partial(runs.get, tenant, run_id, self.keyring))

    def keep_answer(self, run: StoredRun, answer: bytes) -> None:
        """Keep what was found out about a run that was closed for a dead process, which left no answer. Queued; the first
        one counts. It follows from the journal, so that it may be lost, and counts for no quota."""
        self._writer.enqueue(partial(runs.keep_answer, run, answer, self.keyring), len(answer))

    async def read_journal(
        self, tenant: Tenant, run_id: str, *, after: int = -1, max_bytes: int = 1024**2
    ) -> Journal | None:
        """The part of a run's journal behind the sequence number `after`, about `max_bytes` of it; `has_more` tells
        whether to ask again, behind the last segment. A segment may begin with frames up to `after`."""
        return await self._read_run(run_id, partial(journal.read, tenant, run_id, after, max_bytes, self.keyring))

    async def read_chain(self, tenant: Tenant, run_id: str, *, max_bytes: int = HISTORY_BYTES) -> Chain | None:
        """A run and all before it, oldest first, with their items. Raises HistoryIncomplete, HistoryTooLarge."""
        return await self._read_run(run_id, partial(runs.chain, tenant, run_id, max_bytes, self.keyring))

    async def list_items(
        self,
        tenant: Tenant,
        run_id: str,
        scope: Scope = "input",
        *,
        after: str | None = None,
        limit: int = 20,
        descending: bool = True,
    ) -> Page[StoredItem] | None:
        """A page of a run's items: its `input`, its `output`, or the whole `context` that it was given. Raises
        CursorUnknown when `after` is not one of them, and HistoryIncomplete when an earlier run was deleted."""
        return await self._read_run(
            run_id,
            partial(
                items.page,
                tenant,
                run_id,
                scope,
                after=after,
                limit=limit,
                descending=descending,
                keyring=self.keyring,
            ),
        )

    async def find_items(self, tenant: Tenant, ids: Sequence[str]) -> dict[str, StoredItem]:
        """Items of any run of the tenant, or of its conversations, by their ids, for `item_reference`; the newest where an
        id stands twice."""
        await self._writer.settle_all()
        return await self._read(partial(items.find, tenant, ids, self.keyring))

    async def request_cancel(self, tenant: Tenant, run_id: str) -> bool:
        """Ask whichever process runs it to cancel; False when no live run of the tenant has this id.

        The process learns it by `on_cancel`: at once where the engine lets processes tell each other, and within a third
        of the lease in any case.
        """
        owner = await self._execute(partial(runs.request_cancel, tenant, run_id))
        if owner is None:
            return False
        self._news.order(owner)
        return True

    def leave(self) -> None:
        """This process ends soon; another one may have taken its place."""
        self._leaves = self.is_shared = True

    def note_neighbours(self, *, alive: bool) -> None:
        """Whether another process that is alive has this database open."""
        if not self._leaves:
            self.is_shared = self._is_server or alive

    async def has_neighbours(self) -> bool:
        """Whether another process writes to this database. One that died counts for as long as its lease would hold."""
        return any(one.remaining_s > 0 for one in await self._read(partial(processes.neighbours, self.process)))

    def watch(self, run_id: str) -> AbstractContextManager[Watch]:
        """For waiting until there may be more of a run that another process writes."""
        return self._news.watch(run_id)

    async def delete_run(self, tenant: Tenant, run_id: str) -> bool:
        """Delete a run with its items and journal; False when the tenant has no such run.

        For readers it is gone at once. A live run of this process is not written any more; ending it is the caller's.
        Another process that runs it learns it as it learns of a cancellation.
        """
        live = self._live.get(run_id)
        found = await self._execute(partial(retention.delete, tenant, run_id, self.process))
        if found is None:
            return False
        number, owner = found
        if owner is not None:
            self._news.order(owner)
        self._news.gone(run_id)
        if live is not None and live.number == number:
            self._writer.disown(live)
        await self._purge("run", number)
        return True

    async def stored(self, tenant: Tenant, key: str | None = None) -> Stored:
        """What a tenant, or one key of it, has in store; live runs count when they end."""
        return await self._read(partial(tenants.stored, tenant, key))

    async def full_keys(self, size: int) -> dict[tuple[Tenant, str], int]:
        """All keys, of any tenant, that have `size` bytes in store, or more, and how many."""
        return await self._read(partial(tenants.full, size))

    # -- conversations ------------------------------------------------------------------------------------------

    async def create_conversation(
        self,
        tenant: Tenant,
        id: str,  # noqa: A002 - the wire's own name
        *,
        created_at: float,
        key: str = "",
        metadata: bytes = b"",
        items: Sequence[Item] = (),
    ) -> Ref:
        """A new conversation with its first items."""
        return await self._execute(
            partial(conversations.create, tenant, key, id, created_at, metadata, items, self.keyring)
        )

    async def get_conversation(self, tenant: Tenant, id: str) -> Conversation | None:  # noqa: A002
        """A conversation without its items."""
        return await self._read_conversation(id, partial(conversations.get, tenant, id, self.keyring))

    async def change_conversation(self, tenant: Tenant, id: str, metadata: bytes) -> Conversation | None:  # noqa: A002
        """Replace the metadata."""
        return await self._execute(partial(conversations.change, tenant, id, metadata, self.keyring))

    async def delete_conversation(self, tenant: Tenant, id: str) -> bool:  # noqa: A002
        """Delete a conversation with its items; False when the tenant has no such conversation."""
        number = await self._execute(partial(conversations.remove, tenant, id))
        if number is None:
            return False
        await self._purge("conversation", number)
        return True

    async def add_conversation_items(
        self,
        tenant: Tenant,
        id: str,  # noqa: A002
        items: Sequence[Item],
    ) -> list[StoredItem] | None:
        """Append items; they come back with their positions. Raises ItemExists, and appends nothing then."""
        added = await self._execute(partial(conversations.extend, tenant, id, items, self.keyring))
        if isinstance(added, str):
            raise ItemExists(added)
        return added

    async def list_conversation_items(
        self,
        tenant: Tenant,
        id: str,  # noqa: A002
        *,
        after: str | None = None,
        limit: int = 20,
        descending: bool = True,
    ) -> Page[StoredItem] | None:
        """A page of the items. Raises CursorUnknown when `after` is not one of them."""
        return await self._read_conversation(
            id,
            partial(
                conversations.page,
                tenant,
                id,
                after=after,
                limit=limit,
                descending=descending,
                keyring=self.keyring,
            ),
        )

    async def read_conversation(
        self,
        tenant: Tenant,
        id: str,  # noqa: A002
        *,
        max_bytes: int = HISTORY_BYTES,
    ) -> tuple[Conversation, list[StoredItem]] | None:
        """A conversation with all its items, in order. Raises HistoryTooLarge."""
        return await self._read_conversation(id, partial(conversations.load, tenant, id, max_bytes, self.keyring))

    async def get_conversation_item(self, tenant: Tenant, id: str, item_id: str) -> StoredItem | None:  # noqa: A002
        """One item."""
        return await self._read_conversation(id, partial(conversations.find, tenant, id, item_id, self.keyring))

    async def delete_conversation_item(self, tenant: Tenant, id: str, item_id: str) -> Conversation | None:  # noqa: A002
        """Delete one item; the conversation that it was in."""
        return await self._execute(partial(conversations.forget, tenant, id, item_id, self.keyring))

    # -- idempotency --------------------------------------------------------------------------------------------

    async def claim(
        self, tenant: Tenant, name: str, *, digest: bytes, run_id: str, kept_s: float, key: str = ""
    ) -> Claim:
        """Take the idempotency key `name` for a request with this digest. Of several callers, in any processes, exactly
        one gets `is_new`; the others get what that one left. What is kept of the answer counts for the virtual key `key`."""
        work = partial(idempotency.claim, tenant, name, digest, run_id, kept_s, key, self.process, self.keyring)
        return await self._execute(work)

    async def look_at_claim(self, tenant: Tenant, name: str) -> Claim | None:
        """What the idempotency key `name` was taken for; None when it may be taken. Nothing is written."""
        return await self._read(partial(idempotency.look, tenant, name, self.keyring))

    def settle_claim(self, tenant: Tenant, name: str, run_id: str, status: int, answer: bytes = b"") -> None:
        """Keep the HTTP status, and the answer where the run does not hold it. Queued."""
        work = partial(idempotency.settle, tenant, name, run_id, status, answer, self.keyring)
        self._writer.enqueue(work, len(answer))

    def release_claim(self, tenant: Tenant, name: str, run_id: str) -> None:
        """Give the key back: nothing came of the request, or nobody had the whole of it. Queued."""
        self._writer.enqueue(partial(idempotency.release, tenant, name, run_id))

    # -- ledger -------------------------------------------------------------------------------------------------

    def usage_number(self) -> int:
        """The number of a new ledger entry, which no other has, in any process."""
        self._last_usage += 1
        return self._last_usage

    def expect_usage(self, before: int) -> int:
        """The number of a new ledger entry that will be there when the next batch is written, besides `before` others that come
        then. Raises StorageUnavailable when there is no room for it and the mode is `fail_closed`."""
        if not before:
            self._writer.expect()
        if self._is_strict and not self._writer.has_room(before + 1):
            raise StorageUnavailable("The storage of this gateway is full; usage cannot be recorded. Try again later.")
        self._last_usage += 1
        return self._last_usage

    def expect_batch(self) -> None:
        """Have what is queued by then written with a batch that is due as if it had been queued now."""
        self._writer.expect()

    def admit_usage(self, number: int, entry: Callable[[], Usage]) -> None:
        """Queue the ledger entry of a request that is under way."""
        self._writer.admit(number, entry)

    def settle_usage(self, usage: Usage) -> None:
        """Queue the completion of an entry; the first one counts."""
        self._writer.settle(usage)

    def write_usages(self, usages: Sequence[Usage]) -> None:
        """Queue entries that are complete, and were never queued before."""
        self._writer.write(usages)

    async def usage_report(
        self, by: Sequence[str], since: float, until: float, only: UsageFilter, *, limit: int
    ) -> list[ReportRow]:
        """Sums of settled entries; see `ledger.report`."""
        await self._writer.settle_all()
        return await self._read(partial(ledger.report, by, since, until, only, limit))

    async def usage_spent(self, level: Level, who: dict[str, str], since: float, before: float) -> Spent:
        """What somebody has used within a span of time; see `spent.spent`."""
        await self._writer.settle_all()
        return await self._read(partial(spent, level, who, since, before))

    async def usage_entries(
        self,
        since: float,
        until: float,
        only: UsageFilter,
        *,
        after: tuple[float, int] | None = None,
        limit: int = ROWS,
    ) -> Entries:
        """A page of entries; see `ledger.entries`."""
        await self._writer.settle_all()
        return await self._read(partial(ledger.entries, since, until, only, after=after, limit=limit))

    async def rebuild_usage(self) -> int:
        """Make the sums anew of all hours that still have all their entries, one by one; how many hours."""
        return await rebuild(self._execute, self.settings.usage_age_s)

    # -- control data -------------------------------------------------------------------------------------------

    async def change(self, work: Callable[[], Work[T]]) -> T:
        """Run work that changes the database, such as what operators own (see `storage.access`); it is on the disk when this
        returns.

        Raises StorageUnavailable.
        """
        return await self._execute(work)

    async def look(self, work: Callable[[], Work[T]]) -> T:
        """Run work that reads it. Raises StorageUnavailable."""
        return await self._read(work)

    # -- keys of encryption -------------------------------------------------------------------------------------

    async def rewrap(self) -> int:
        """Wrap the data keys of former master keys with the current one; how many. Content stays as it is, and the
        former master keys may leave the configuration."""
        return await self._execute(self.keyring.rewrap)

    async def reseal(self, *, pause_s: float = 0.0) -> int:
        """Seal everything that is not sealed under the current data key anew, in bounded batches; how many rows.

        Needed only for content from before encryption was switched on, and when a data key became known.
        """
        count = 0
        for table in range(len(reseal.TABLES)):
            after = 0
            while True:
                changed, behind = await self._execute(partial(reseal.reseal, table, after, ROWS // 5, self.keyring))
                if behind == after:
                    break
                count, after = count + changed, behind
                await asyncio.sleep(pause_s)
        return count

    # -- watching -----------------------------------------------------------------------------------------------

    def register_gauges(self, metrics: Metrics) -> None:
        """Show at scrape what waits, what fails, and what was lost."""
        writer = self._writer
        for name, description, read in (
            ("tidegate_storage_queued_bytes", "Bytes that wait for the database.", lambda: writer.queued),
            ("tidegate_storage_failing", "1 while the database fails.", lambda: writer.failing_since is not None),
            ("tidegate_storage_lost_runs", "Runs that could not be stored.", lambda: writer.lost_runs),
            ("tidegate_storage_lost_usage", "Ledger entries that could not be stored.", lambda: writer.lost_usage),
        ):
            metrics.gauge(name, description, (), lambda read=read: [((), float(read()))])  # type: ignore[misc]

    # -- for the writer -----------------------------------------------------------------------------------------

    def gather(self) -> float | None:
        return None if self.before_batch is None else self.before_batch()

    async def reborn(self) -> None:
        """This process was taken for dead: enter it anew. Its runs that others knew of belong to them now."""
        former = self.process

        def enter() -> Work[int]:
            number = yield from processes.register(_process_name(), self.settings.lease_s)
            yield from idempotency.adopt(former, number)
            return number

        await self._appear(await self._engine.write(enter, sync=True))
        for run in list(self._live.values()):
            if run.begun <= self._writer.committed:
                self._writer.disown(run)
                if self.on_taken is not None and not run.ended:
                    self._loop.call_soon(self.on_taken, run.new.id)

    def committed(self, batch: Batch) -> None:
        """Tell who follows, and forget what is in the database now."""
        if self._news.is_followed:
            self._news.written(run.new.id for run in batch.runs().values())
        for finish in batch.finishes:
            self.forget(finish.run)
        if self._pending:
            self._pending = {id_: ticket for id_, ticket in self._pending.items() if ticket > batch.number}
        for run in batch.refused:
            self._log.warning("storage_run_ended_elsewhere", run=run.new.id)
            self._writer.disown(run)

    def forget(self, run: Run) -> None:
        """A run is in the database as a whole, or not written any more."""
        self._live.pop(run.new.id, None)

    # -- inside -------------------------------------------------------------------------------------------------

    async def _execute(self, work: Callable[[], Work[T]]) -> T:
        try:
            try:
                return await self._writer.execute(work)
            except Damaged:
                await self._engine.read(self.keyring.refresh)
                return await self._writer.execute(work)
        except Unavailable as error:
            raise StorageUnavailable("The storage of this gateway does not answer. Try again later.") from error
        except Damaged as error:
            raise self._damaged(error) from error

    async def _read_run(self, run_id: str, work: Callable[[], Work[T]]) -> T:
        run = self._live.get(run_id)
        if run is not None and not run.lost:
            await self._writer.wait(run.ticket, sync=False)
        return await self._read(work)

    async def _read_conversation(self, conversation_id: str, work: Callable[[], Work[T]]) -> T:
        ticket = self._pending.get(conversation_id)
        if ticket is not None:
            await self._writer.wait(ticket, sync=False)
        return await self._read(work)

    async def _read(self, work: Callable[[], Work[T]]) -> T:
        try:
            try:
                return await self._engine.read(work)
            except Damaged:
                # Another process may have made a data key since.
                await self._engine.read(self.keyring.refresh)
                return await self._engine.read(work)
        except Unavailable as error:
            raise StorageUnavailable("The storage of this gateway does not answer. Try again later.") from error
        except Damaged as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Damaged) -> Internal:
        self._log.error("storage_damaged", reason=str(error))
        return Internal("Stored content cannot be read.")

    async def _appear(self, process: int) -> None:
        """From now on this process has that number."""
        self.process = self._news.process = process
        self._last_usage = process << ledger.PROCESS_SHIFT
        await self._engine.appear(process)

    async def _start(self) -> None:
        settings = self.settings

        def enter() -> Work[tuple[int, range]]:
            yield from self.keyring.load()
            number = yield from processes.register(_process_name(), settings.lease_s)
            return number, (yield from processes.reserve(2 * BLOCK))

        process, numbers = await self._engine.write(enter, sync=True)
        self._numbers, self._spare = numbers[:BLOCK], numbers[BLOCK:]
        await self._appear(process)
        await self._round.close_orphans()
        self._engine.listen(self._news.hear)
        self._keeper = self._loop.create_task(self._round.keep())

    async def _reserve(self) -> None:
        try:
            self._spare = await self._writer.execute(partial(processes.reserve, BLOCK))
        except StorageUnavailable:
            await asyncio.sleep(1)  # then the next run asks again
        except Exception:  # whatever it was, the next run asks again
            self._log.exception("storage_keeper_failed")
        finally:
            self._reserving = None

    async def sweep(self) -> None:
        """Remove what has expired, in bounded batches. Done by itself every `sweep_s`."""
        await self._round.sweep()

    async def _purge(self, kind: str, number: int) -> None:
        is_done = False
        while not is_done:
            is_done = await self._execute(partial(retention.purge_one, kind, number, ROWS))


def _bytes_of(items: Sequence[Item]) -> int:
    return sum([len(item.content) for item in items])


def _process_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
