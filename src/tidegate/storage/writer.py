"""The one writer of a process: gathers writes into batches, and commits each in one transaction.

The hot path adds to the open batch and goes on. A batch is committed 25 ms after its first write, or 5 ms after somebody
began to wait for it; while one is committed, the next gathers. What waits is bounded, in memory: by `spool_bytes`, or by
`burst` times that while the database keeps up.

When the database fails, batches wait and are tried again. When the spool is nearly full, no further run begins: it goes
unstored (`fail_open`) or is refused (`fail_closed`). When it is full, runs under way lose their storage, whole: a run is
stored completely or not at all.

Every batch has a number, which is stored in its own transaction. After a broken connection that number tells whether the
batch arrived, so that nothing is written twice.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec

from tidegate.storage import journal, ledger, processes, retention, runs
from tidegate.storage.crypto import Keyring
from tidegate.storage.engine import Engine, Refused, Unavailable
from tidegate.storage.journal import Append
from tidegate.storage.records import Run, Usage
from tidegate.storage.runs import Beginning, Finish
from tidegate.storage.statement import Work
from tidegate.telemetry.log import get_logger
from tidegate.wire.errors import StorageUnavailable

__all__ = ["Settings", "Writer"]

GATHER_S: Final = 0.005
"""How long a batch that somebody waits for gathers the writes of others."""

BATCH_BYTES: Final = 4 * 1024**2
BATCH_WRITES: Final = 2000
"""A batch that holds more than one of these is closed, and the next begun."""

WRITE_BYTES: Final = 200
"""What a write takes in memory besides its content."""

USAGE_BYTES: Final = 2000
"""What a ledger entry takes in memory, about, with all its names."""

BACKOFF_S: Final = (0.05, 2.0)
"""First and longest pause between attempts while the database fails."""

SLOW_S: Final = 5.0
"""A database that has committed nothing for so long, although something waits, does not keep up."""

HIGH_WATER: Final = 0.75
"""Part of the spool that begins with new runs; the rest is for those under way."""

PARTS: Final = 1 << 20
"""Numbers that one batch has for its parts, when they must be written one by one."""

_FAILING: Final = "The storage of this gateway does not work at the moment. Try again later."
_FAILED: Final = (
    "The storage of this gateway did not answer in time. Whether the change was made is not known: "
    "read it back before you repeat it."
)

T = TypeVar("T")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the storage behaves; see docs/en/storage.md."""

    spool_bytes: int = 64 * 1024**2
    """Most bytes that wait in memory for the database."""
    burst: int = 4
    """How many times as much may wait while the database keeps up: one answer of many megabytes, or several at once."""
    when_unavailable: Literal["fail_open", "fail_closed"] = "fail_open"
    """What becomes of new runs when the spool is nearly full: served unstored, or refused."""
    flush_s: float = 0.025
    """Longest time from a write to the beginning of its transaction, where none is under way: half of the 50 ms that a kill
    may take, so that the other half is left for the transactions themselves."""
    lease_s: float = 15.0
    """After which silence other processes take this one for dead. Renewed every third of it."""
    patience_s: float = 5.0
    """How long a caller waits for a write or read before it is told that the storage is unavailable."""
    usage_age_s: float | None = None
    """How old ledger entries become; None keeps them."""
    sweep_s: float = 60.0
    """Time between two searches for what has expired."""
    readers: int = 4
    """Connections that read."""

    @property
    def look_s(self) -> float:
        """Time between two looks at what others want of this process, and at who has died."""
        return self.lease_s / 3


class Operation:
    """Work that somebody waits for, or that is done in its turn when nobody does."""

    __slots__ = ("future", "is_dropped", "result", "size", "work")

    def __init__(self, work: Callable[[], Work[Any]], future: "asyncio.Future[Any] | None", size: int) -> None:
        self.work = work
        self.future = future
        self.size = size
        self.result: Any = None
        self.is_dropped = False


class Batch:
    """Writes that are committed together."""

    __slots__ = (
        "admissions",
        "beginnings",
        "finishes",
        "lost",
        "number",
        "operations",
        "refused",
        "segments",
        "settlements",
        "size",
        "sync",
        "whole",
        "writes",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.size = 0
        self.writes = 0
        self.sync = False
        self.beginnings: list[Beginning] = []
        self.segments: list[Append] = []
        self.finishes: list[Finish] = []
        self.lost: list[int] = []
        self.admissions: dict[int, Callable[[], Usage]] = {}
        self.whole: dict[int, Usage] = {}
        """Ledger entries that were admitted and settled in this batch."""
        self.settlements: dict[int, Usage] = {}
        self.operations: list[Operation] = []
        self.refused: list[Run] = []
        """Runs that had ended before, found when the batch was applied."""

    def apply(self, owner: int, keyring: Keyring) -> Work[None]:
        """All writes, in an order that suits them: a run is there before its segments, and its ending comes last."""
        written: dict[int, int] = {}
        if self.beginnings:
            written = yield from runs.begin(self.beginnings, self.finishes, owner, keyring)
        if self.segments:
            yield from journal.append(self.segments, keyring)
        self.refused = (yield from runs.finish(self.finishes, written, keyring)) if self.finishes else []
        if self.lost:
            yield from retention.lose(self.lost, owner)
        if self.admissions:
            yield from ledger.admit([entry() for entry in self.admissions.values()])
        if self.whole:
            yield from ledger.write(list(self.whole.values()))
        if self.settlements:
            yield from ledger.settle(list(self.settlements.values()))
        for operation in self.operations:
            if not operation.is_dropped:
                operation.result = yield from operation.work()

    def keep_runs(self, wanted: Callable[[Run], bool]) -> None:
        """Drop the writes of all other runs."""
        self.beginnings = [each for each in self.beginnings if wanted(each.run)]
        self.segments = [each for each in self.segments if wanted(each.run)]
        self.finishes = [each for each in self.finishes if wanted(each.run)]

    def sizes(self) -> Iterator[tuple[Run, int]]:
        """What each write of a run was charged."""
        for segment in self.segments:
            yield segment.run, len(segment.frames) + WRITE_BYTES
        for group in (self.beginnings, self.finishes):
            for each in group:
                yield each.run, each.size

    def runs(self) -> dict[int, Run]:
        groups: tuple[Sequence[Beginning | Append | Finish], ...] = (self.beginnings, self.segments, self.finishes)
        return {each.run.number: each.run for group in groups for each in group}

    def parts(self) -> "list[Batch]":
        """The same writes in batches of one run, one usage entry or one operation each."""
        found = []
        for run in self.runs().values():
            part = Batch(self.number)
            part.beginnings = [each for each in self.beginnings if each.run is run]
            part.segments = [each for each in self.segments if each.run is run]
            part.finishes = [each for each in self.finishes if each.run is run]
            found.append(part)
        for number in self.lost:
            part = Batch(self.number)
            part.lost = [number]
            found.append(part)
        for row in {**self.admissions, **self.whole, **self.settlements}:
            part = Batch(self.number)
            if row in self.admissions:
                part.admissions[row] = self.admissions[row]
            if row in self.whole:
                part.whole[row] = self.whole[row]
            if row in self.settlements:
                part.settlements[row] = self.settlements[row]
            found.append(part)
        for operation in self.operations:
            part = Batch(self.number)
            part.operations = [operation]
            found.append(part)
        return found


class Owner(Protocol):
    """What the writer needs of the storage that it writes for."""

    process: int
    keyring: Keyring

    def gather(self) -> float | None:
        """Called before a batch is closed that is due: what else belongs into it is to be added now. In how many seconds the
        next one is due, where something was left for that."""
        ...

    def forget(self, run: Run) -> None:
        """Called when nothing more of a run is written."""
        ...

    async def reborn(self) -> None:
        """Enter this process anew: it was taken for dead."""
        ...

    def committed(self, batch: Batch) -> None:
        """Called after each batch."""
        ...


class Writer:
    """Commits batches in order, one at a time."""

    def __init__(self, engine: Engine, owner: Owner, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._owner = owner
        self._settings = settings
        self._loop = loop
        self._log = get_logger()
        self.open = Batch(1)
        """The batch that gathers."""
        self._closed: deque[Batch] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._is_due = False
        """The time of the open batch came while the one before was still committed."""
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self.committed = 0
        """The last batch that is in the database, and the last one that is on the disk."""
        self.synced = 0
        self._waiting: list[tuple[int, bool, asyncio.Future[None]]] = []
        self.queued = 0
        """Bytes that wait."""
        self._stale = 0
        self._has_lost = self._is_told_full = False
        self.lost: list[int] = []
        """Numbers of runs that are to be removed."""
        self.failing_since: float | None = None
        self.reason = ""
        self.lost_runs = 0
        self.lost_usage = 0
        self.last_commit = self.healthy_since = self._progress_at = loop.time()

    # -- adding -------------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether the spool has room only for what is under way."""
        return self.queued >= self._room * HIGH_WATER

    @property
    def _room(self) -> int:
        """Most bytes that may wait at present."""
        is_slow = bool(self._closed) and self._loop.time() - self._progress_at > SLOW_S
        return self._settings.spool_bytes * (1 if is_slow or self.failing_since is not None else self._settings.burst)

    def charge(self, run: Run, size: int) -> bool:
        """Take room for a write of a run; False when there is none, and then the run is lost."""
        if self.queued + size > self._room:
            self.note_full()
            self.lose(run)
            return False
        run.queued += size
        self.queued += size
        return True

    def added(self, size: int, writes: int = 1) -> int:
        """Called after writes were put into the open batch. The number of the batch."""
        batch = self.open
        batch.size += size
        batch.writes += writes
        number = batch.number
        if batch.size >= BATCH_BYTES or batch.writes >= BATCH_WRITES:
            self._close_batch()
            self._start()
        elif self._timer is None:
            self._arm(self._settings.flush_s)
        return number

    def admit(self, number: int, entry: Callable[[], Usage]) -> None:
        """Queue a ledger entry, which is asked for if it is not settled until it must be written."""
        if self._has_no_room():
            return
        self.open.admissions[number] = entry
        self.queued += USAGE_BYTES
        self.added(USAGE_BYTES)

    def settle(self, usage: Usage) -> None:
        """Queue the completion of a ledger entry."""
        batch, number = self.open, usage.number
        if batch.admissions.pop(number, None) is not None:
            batch.whole[number] = usage  # admitted in the same batch: one row is enough
            return
        if self._has_no_room():
            return
        if number not in batch.whole and number not in batch.settlements:
            batch.settlements[number] = usage
            self.queued += USAGE_BYTES
            self.added(USAGE_BYTES)

    def write(self, usages: Sequence[Usage]) -> None:
        """Queue ledger entries that are settled and were never queued before, as many as there is room for."""
        room = max(0, (self._room - self.queued) // USAGE_BYTES)
        if len(usages) > room:
            self.note_full()
            self.lost_usage += len(usages) - room
            usages = usages[:room]
        if usages:
            self.open.whole.update({usage.number: usage for usage in usages})
            size = USAGE_BYTES * len(usages)
            self.queued += size
            self.added(size, len(usages))

    def has_room(self, usages: int) -> bool:
        """Whether so many ledger entries could be queued."""
        return self.queued + USAGE_BYTES * usages <= self._room

    def _has_no_room(self) -> bool:
        if self.has_room(1):
            return False
        self.note_full()
        self.lost_usage += 1
        return True

    def enqueue(self, work: Callable[[], Work[Any]], size: int = 0) -> bool:
        """Queue work that nobody waits for; False when the spool is full."""
        size += WRITE_BYTES
        if self.queued + size > self._room:
            return False
        self.open.operations.append(Operation(work, None, size))
        self.queued += size
        self.added(size)
        return True

    def touch(self) -> None:
        """Have a batch, so that the lease is renewed."""
        self.added(0)

    def expect(self) -> None:
        """Have a batch begin as if something had been queued now."""
        self._arm(self._settings.flush_s)

    def note_full(self) -> None:
        """Tell, once for each time that it happens, that the spool has no room."""
        if not self._is_told_full:
            self._is_told_full = True
            self._log.error("storage_full", spool_bytes=self.queued, mode=self._settings.when_unavailable)

    def lose(self, run: Run) -> None:
        """Keep nothing of this run: what waits is dropped, what is stored is removed."""
        if not run.lost:
            self.lost_runs += 1
            self.lost.append(run.number)
            self._arm(self._settings.flush_s)
            self.disown(run)

    def disown(self, run: Run) -> None:
        """Write nothing more of this run; what is stored stays."""
        if run.lost:
            return
        run.lost = self._has_lost = True
        self.queued -= run.queued
        self._stale += run.queued
        run.queued = 0
        # Dropping looks at everything that waits, so it is done for many lost runs at once.
        if self._stale > self._settings.spool_bytes / 8:
            self._drop_lost()
        self._owner.forget(run)
        if run.on_lost is not None:
            self._loop.call_soon(run.on_lost)

    def _drop_lost(self) -> None:
        self._stale = 0
        for batch in [*list(self._closed)[1:], self.open]:  # the first one may be at work on its thread
            batch.keep_runs(lambda run: not run.lost)

    # -- waiting ------------------------------------------------------------------------------------------------

    async def execute(self, work: Callable[[], Work[T]]) -> T:
        """Run work in the next batch; returns when it is on the disk.

        Raises StorageUnavailable: at once while the database fails, after the patience of the settings otherwise (then
        it is unknown whether the work was done), and what the work raises.
        """
        self.check()
        future: asyncio.Future[T] = self._loop.create_future()
        operation = Operation(work, future, 0)
        batch = self.open
        batch.operations.append(operation)
        batch.sync = True
        self.added(0)
        self._arm(GATHER_S)
        try:
            async with asyncio.timeout(self._settings.patience_s):
                return await future
        except TimeoutError:
            operation.is_dropped = True
            raise StorageUnavailable(_FAILED) from None
        except asyncio.CancelledError:
            operation.is_dropped = True
            raise

    async def wait(self, number: int, *, sync: bool) -> None:
        """Until the batch is in the database, or on the disk. Raises StorageUnavailable."""
        if number <= (self.synced if sync else self.committed):
            return
        self.check()
        if number < self.open.number:
            if sync:
                self._want_sync(number)
        else:
            self.open.sync |= sync
        self._arm(GATHER_S)
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((number, sync, future))
        try:
            async with asyncio.timeout(self._settings.patience_s):
                await future
        except TimeoutError:
            raise StorageUnavailable(_FAILING) from None

    def when_committed(self, number: int, then: Callable[[], None], within_s: float) -> None:
        """Call `then` when the batch is in the database; earlier where that fails, or takes too long."""
        if number <= self.committed or self.failing_since is not None or self._is_closing:
            then()
            return
        self._arm(GATHER_S)
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((number, False, future))
        timer = self._loop.call_later(within_s, future.cancel)

        def tell(done: "asyncio.Future[None]") -> None:
            timer.cancel()
            if not done.cancelled():
                done.exception()  # the database fails: nobody is to wait for it
            then()

        future.add_done_callback(tell)

    async def settle_all(self) -> None:
        """Until everything that was queued so far is in the database. Raises StorageUnavailable."""
        self._owner.gather()
        await self.wait(self.open.number if self._has_work else self.open.number - 1, sync=False)

    def _want_sync(self, number: int) -> None:
        """Have a batch that is closed or committed on the disk: by itself, or with the one that follows."""
        for batch in list(self._closed)[1:]:
            if batch.number >= number:
                batch.sync = True
                return
        self.open.sync = True

    def check(self) -> None:
        """Raises StorageUnavailable while the database fails."""
        if self.failing_since is not None or self._is_closing:
            raise StorageUnavailable(_FAILING)

    # -- committing ---------------------------------------------------------------------------------------------

    def _arm(self, delay: float) -> None:
        due = self._loop.time() + delay
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._is_due = True
        self._start()

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._run())

    def _close_batch(self) -> None:
        batch = self.open
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for number, entry in list(batch.admissions.items()):
            try:  # now, on the loop: the transaction may run on a thread
                batch.admissions[number] = _made(entry())
            except Exception:  # a mistake in one entry must not keep the others from the disk
                self._log.exception("storage_entry_failed")
                del batch.admissions[number]
                self.queued -= USAGE_BYTES
                self.lost_usage += 1
        if not self._closed:
            self._progress_at = self._loop.time()
        self._closed.append(batch)
        self.open = Batch(batch.number + 1)

    @property
    def _has_work(self) -> bool:
        batch = self.open
        return bool(batch.writes or batch.sync or self.lost)

    async def _run(self) -> None:
        """Commit until nothing waits that is due."""
        pause = BACKOFF_S[0]
        while True:
            if not self._closed:
                if self._timer is not None and not self._is_due and not self._is_closing:
                    return  # the open batch is not due
                self._is_due = False
                due_s = self._owner.gather()
                if self._has_work:
                    self._close_batch()
                if due_s is not None and not self._is_closing:
                    self._arm(due_s)
                if not self._closed:
                    return
            batch = self._closed[0]
            try:
                await self._commit(batch)
            except Unavailable as error:
                self._note_failure(str(error))
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret
                pause = min(pause * 2, BACKOFF_S[1])
                continue
            pause = BACKOFF_S[0]
            self._closed.popleft()
            self._after(batch)

    async def _commit(self, batch: Batch) -> None:
        """Apply a batch, once. Raises Unavailable; then it is to be called again with the same batch."""
        if self.lost:
            batch.lost += self.lost
            self.lost = []
        if self._has_lost:
            batch.keep_runs(lambda run: not run.lost)
        for operation in batch.operations:
            if operation.future is not None and operation.future.done():
                operation.is_dropped = True
        while True:
            try:
                try:
                    await self._engine.write(lambda: self._transaction(batch, PARTS - 1, batch), sync=batch.sync)
                except (Unavailable, processes.Fenced):
                    raise
                except Exception as error:  # refused, or a value that no driver takes: some part is at fault
                    self._log.warning("storage_batch_refused", reason=_words(error))
                    await self._commit_parts(batch)
                return
            except processes.Fenced:
                # Others end our runs; what waits for those is no longer true.
                self._log.error("storage_lease_lost", process=self._owner.process)
                await self._owner.reborn()
                batch.keep_runs(lambda run: not run.lost)

    def _transaction(self, batch: Batch, part: int, writes: Batch) -> Work[None]:
        owner = self._owner
        number = batch.number * PARTS + part
        if (yield from processes.advance(owner.process, number, self._settings.lease_s)):
            yield from writes.apply(owner.process, owner.keyring)

    async def _commit_parts(self, batch: Batch) -> None:
        """Each part by itself, so that one that is refused takes no other with it."""
        batch.refused = []
        for number, part in enumerate(batch.parts()):
            try:
                await self._engine.write(partial(self._transaction, batch, number, part), sync=False)
            except (Unavailable, processes.Fenced):
                raise
            except Exception as error:
                self._refuse(part, error)
            batch.refused += part.refused
        await self._engine.write(partial(self._transaction, batch, PARTS - 1, Batch(batch.number)), sync=batch.sync)

    def _refuse(self, part: Batch, error: Exception) -> None:
        for operation in part.operations:
            if operation.future is not None:  # whoever waits is told
                if not operation.future.done():
                    operation.future.set_exception(error)
                return
        found = list(part.runs().values())
        self._log.error("storage_write_refused", run=found[0].new.id if found else "", reason=_words(error))
        for run in found:
            self.lose(run)
        self.lost_usage += len({**part.admissions, **part.whole, **part.settlements})

    def _after(self, batch: Batch) -> None:
        """A batch is in the database: count, and wake who waits."""
        self.committed = batch.number
        if batch.sync:
            self.synced = batch.number
        self.last_commit = self._progress_at = self._loop.time()
        for run, size in batch.sizes():
            if not run.lost:
                run.queued -= size
                self.queued -= size
        self.queued -= USAGE_BYTES * (len(batch.admissions) + len(batch.whole) + len(batch.settlements))
        self.queued -= sum([operation.size for operation in batch.operations])
        if not self.is_full:
            self._is_told_full = False
        if self.failing_since is not None:
            self._log.warning(
                "storage_recovered", seconds=round(self._loop.time() - self.failing_since, 1), lost_runs=self.lost_runs
            )
            self.failing_since, self.reason = None, ""
            self.healthy_since = self._loop.time()
        for operation in batch.operations:
            if operation.future is not None and not operation.future.done():
                operation.future.set_result(operation.result)
        self._wake_waiting()
        self._owner.committed(batch)

    def _wake_waiting(self) -> None:
        still = []
        for number, sync, future in self._waiting:
            if number <= (self.synced if sync else self.committed):
                if not future.done():
                    future.set_result(None)
            elif not future.done():
                still.append((number, sync, future))
        self._waiting = still

    def _note_failure(self, reason: str) -> None:
        """Tell once, and let nobody wait for what will not come soon."""
        if self.failing_since is None:
            self.failing_since = self._loop.time()
            self._log.error("storage_failing", reason=reason, spool_bytes=self.queued)
        self.reason = reason
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(StorageUnavailable(_FAILING))
        self._waiting.clear()
        for number, batch in enumerate([*self._closed, self.open]):
            for operation in batch.operations:
                if operation.future is not None and not operation.future.done():
                    operation.is_dropped = True
                    operation.future.set_exception(StorageUnavailable(_FAILING if number else _FAILED))

    async def close(self) -> None:
        """Commit what waits. Gives up after the patience of the settings, and tells what was lost."""
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._start()
        assert self._task is not None
        try:
            async with asyncio.timeout(self._settings.patience_s):
                await self._task
        except TimeoutError:
            waiting = [*self._closed, self.open]
            self._log.error(
                "storage_writes_lost",
                writes=sum(batch.writes for batch in waiting),
                spool_bytes=self.queued,
                reason=self.reason or "the database did not answer in time",
            )


def _made(usage: Usage) -> Callable[[], Usage]:
    return lambda: usage


def _words(error: Exception) -> str:
    """What may stand in a log: of errors that are not the engine's own the words may quote values."""
    return str(error) if isinstance(error, Refused) else type(error).__name__
