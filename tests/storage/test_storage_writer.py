"""Writes are gathered, committed once, bounded while they wait, and told about when they cannot be kept."""

import asyncio
import signal
import sqlite3
import time
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.storage.stage import OURS, Place, ending, execute, frames_of, item, new_run, put, run, until
from tidegate.storage.records import CursorUnknown, HistoryTooLarge, Run
from tidegate.storage.statement import Sql, Work
from tidegate.storage.storage import Storage
from tidegate.wire.errors import StorageUnavailable

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tidegate' ORDER BY pid"
TABLES = ("runs", "items", "segments", "doomed")


async def whole(storage: Storage, made: Run, segments: int) -> bool:
    """Whether a run is stored with all that was written."""
    found = await storage.get_run(OURS, made.new.id)
    if found is None:
        return False
    journal = await storage.read_journal(OURS, made.new.id, max_bytes=2**30)
    assert journal is not None
    assert [segment.first for segment in journal.segments] == list(range(segments))
    return found.status == "completed"


def stream(storage: Storage, *, segments: int, size: int = 0) -> Run:
    """A run of so many segments, each of `size` bytes."""
    made = storage.put_run(new_run(stream=True), [item("ask")])
    for number in range(segments):
        storage.append_segment(made, number, number, b"x" * size)
    storage.finish_run(made, ending(), [item("answer")])
    return made


# --- gathering ---------------------------------------------------------------------------------------------------


def test_many_writes_that_are_waited_for_share_a_commit(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch() as (storage, engine):
            before = engine.commits
            made = [put(storage) for _ in range(200)]
            await asyncio.gather(*(storage.durable(one) for one in made))
            assert engine.commits - before <= 2
            before = engine.commits
            await asyncio.gather(
                *(storage.create_conversation(OURS, f"conv_{number}", created_at=1.0) for number in range(100))
            )
            assert engine.commits - before <= 2

    run(scenario)


def test_what_nobody_waits_for_is_written_by_itself(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch(flush_s=0.05) as (storage, engine):
            before = engine.commits
            stream(storage, segments=20)
            await until(lambda: engine.commits > before)
            await asyncio.sleep(0)
            assert [await place.count(table) for table in TABLES] == [1, 2, 20, 0]
            assert engine.syncs[before:] == [False]

    run(scenario)


def test_a_steady_stream_of_writes_is_committed_every_fiftieth_of_a_second_at_most(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch(flush_s=0.05) as (storage, engine):
            made = storage.put_run(new_run())
            before, began = engine.commits, time.monotonic()
            for number in range(100):
                storage.append_segment(made, number, number, b"x")
                await asyncio.sleep(0.005)
            took = time.monotonic() - began
            assert 3 <= engine.commits - before <= took / 0.05 + 1

    run(scenario)


def test_what_becomes_due_while_another_batch_is_committed_is_the_next(sqlite: Place) -> None:
    async def scenario() -> None:
        async with sqlite.watch(flush_s=0.2) as (storage, engine):
            engine.begun.clear()
            engine.delay_s = 0.4
            made = storage.put_run(new_run())
            await asyncio.sleep(0.25)
            storage.append_segment(made, 0, 0, b"x")  # due while the first batch is committed
            await asyncio.sleep(0.3)
            storage.append_segment(made, 1, 1, b"x")
            await until(lambda: len(engine.begun) == 2)
            assert engine.begun[1] - engine.begun[0] < 0.5

    run(scenario)


def test_waiting_for_one_run_puts_everything_before_it_on_the_disk(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch(flush_s=0.02) as (storage, engine):
            made = stream(storage, segments=3)
            await until(lambda: engine.commits > 0 and storage._writer.committed >= made.ticket)
            unsynced = engine.commits
            assert engine.syncs[-1:] == [False]
            await storage.durable(made)
            assert engine.syncs[unsynced:] == [True]
            count = engine.commits
            await storage.durable(made)
            assert engine.commits == count

    run(scenario, within_s=4)  # not by the renewal of the lease


def test_only_what_somebody_waits_for_is_forced_to_the_disk(sqlite: Place) -> None:
    ask = Sql("PRAGMA synchronous")

    def work() -> Work[object]:
        return (yield ask())[0][0]

    async def scenario() -> None:
        async with sqlite.open() as storage:
            found = [await storage._engine.write(work, sync=sync) for sync in (True, False, True)]
            assert found == [2, 1, 2]

    run(scenario)


def test_a_batch_is_split_before_it_grows_too_large(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch(flush_s=5.0) as (storage, engine):
            before = engine.commits
            made = [stream(storage, segments=30, size=100_000) for _ in range(4)]
            await asyncio.gather(*(storage.durable(one) for one in made))
            assert engine.commits - before >= 3
            assert all([await whole(storage, one, 30) for one in made])
            assert storage._writer.queued == 0

    run(scenario)


def test_closing_writes_what_waits(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(flush_s=60.0) as storage:
            made = stream(storage, segments=5)
        async with place.open() as storage:
            assert await whole(storage, made, 5)

    run(scenario)


# --- writes that the database refuses ----------------------------------------------------------------------------


def poison(kind: str, storage: Storage) -> Run:
    """A run that no database takes."""
    if kind == "id that exists":
        return storage.put_run(new_run(id="resp_twin"))
    if kind == "lone surrogate":
        return storage.put_run(new_run(model="\ud800"))
    made = storage.put_run(new_run())
    storage.append_segment(made, 0, 2**70, b"x")
    return made


@pytest.mark.parametrize("kind", ["id that exists", "lone surrogate", "number too large"])
def test_a_write_that_is_refused_takes_no_other_with_it(place: Place, kind: str) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            twin = storage.put_run(new_run(id="resp_twin"))
            await storage.durable(twin)
            before = [stream(storage, segments=3) for _ in range(3)]
            bad = poison(kind, storage)
            after = [stream(storage, segments=3) for _ in range(3)]
            with capture_logs() as lines:
                talk = await storage.create_conversation(OURS, "conv_1", created_at=1.0)
            assert talk.id == "conv_1"
            assert {"storage_batch_refused", "storage_write_refused"} <= {line["event"] for line in lines}
            assert bad.lost
            with pytest.raises(StorageUnavailable):
                await storage.durable(bad)
            assert all([await whole(storage, one, 3) for one in before + after])
            assert (await storage.get_run(OURS, "resp_twin")) is not None
            await storage.sweep()
            assert [await place.count(table) for table in TABLES] == [7, 12, 18, 0]
            assert storage._writer.queued == 0

    run(scenario)


def test_what_follows_a_refused_beginning_is_not_written_either(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            twin = storage.put_run(new_run(id="resp_twin"))
            await storage.durable(twin)
            bad = storage.put_run(new_run(id="resp_twin"))
            for number in range(60):  # more than one batch takes
                storage.append_segment(bad, number, number, b"x" * 100_000)
            assert storage._writer.open.number > bad.begun
            await until(lambda: bad.lost)
            await storage.durable(put(storage, segments=1))
            assert await place.count("segments") == 1

    run(scenario)


def test_whoever_waits_for_a_refused_change_is_told(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            await storage.create_conversation(OURS, "conv_1", created_at=1.0)
            twin, other = await asyncio.gather(
                storage.create_conversation(OURS, "conv_1", created_at=1.0),
                storage.create_conversation(OURS, "conv_2", created_at=1.0),
                return_exceptions=True,
            )
            assert isinstance(twin, Exception)
            assert not isinstance(other, BaseException)
            assert await storage.get_conversation(OURS, "conv_2") is not None

    run(scenario)


# --- a database that fails ---------------------------------------------------------------------------------------


def test_a_commit_whose_answer_was_lost_is_not_made_twice(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch() as (storage, engine):
            made = stream(storage, segments=5)
            engine.loses_answers = 3
            waiting = asyncio.gather(
                storage.durable(made),
                storage.add_conversation_items(OURS, "none", []),
                return_exceptions=True,
            )
            assert all(isinstance(each, StorageUnavailable) for each in await waiting)
            await until(lambda: not storage.failing)
            assert await whole(storage, made, 5)
            assert [await place.count(table) for table in TABLES] == [1, 2, 5, 0]
            assert (await storage.stored(OURS)).runs == 1

    run(scenario)


@pytest.mark.fault("FAULT-DB-DOWN")
def test_an_outage_within_the_spool_loses_nothing(place: Place) -> None:
    async def scenario() -> None:
        with capture_logs() as lines:
            async with place.watch() as (storage, engine):
                live = storage.put_run(new_run())
                await storage.durable(live)
                engine.is_down = True
                storage.append_segment(live, 0, 0, b"x")
                await until(lambda: bool(storage.failing))
                made = [stream(storage, segments=3) for _ in range(20)]
                storage.finish_run(live, ending())
                began = time.monotonic()
                # Whoever needs the database now is told at once, not after a timeout.
                for refused in (
                    storage.create_conversation(OURS, "conv_1", created_at=1.0),
                    storage.get_run(OURS, live.new.id),
                    storage.durable(live),
                    storage.delete_run(OURS, live.new.id),
                ):
                    with pytest.raises(StorageUnavailable):
                        await refused
                assert time.monotonic() - began < 1
                engine.is_down = False
                await until(lambda: not storage.failing)
                await storage.durable(live)
                assert all([await whole(storage, one, 3) for one in made])
                assert await whole(storage, live, 1)
                # A change that was refused is not made later behind the caller's back.
                assert await storage.get_conversation(OURS, "conv_1") is None
        events = [line["event"] for line in lines]
        assert events.count("storage_failing") == events.count("storage_recovered") == 1

    run(scenario)


@pytest.mark.fault("FAULT-DB-DOWN")
@pytest.mark.parametrize("mode", ["fail_open", "fail_closed"])
def test_a_full_spool_follows_the_mode_and_a_run_is_kept_whole_or_not_at_all(place: Place, mode: str) -> None:
    async def scenario() -> None:
        async with place.watch(spool_bytes=200_000, burst=1, when_unavailable=mode) as (storage, engine):
            begun = [storage.put_run(new_run(), [item("ask")]) for _ in range(4)]
            for one in begun:
                storage.append_segment(one, 0, 0, b"x")
            await asyncio.gather(*(storage.durable(one) for one in begun))
            told: list[int] = []
            for one in begun:
                one.on_lost = lambda number=one.number: told.append(number)
            engine.is_down = True
            early = stream(storage, segments=3)
            refused = 0
            for number in range(1, 200):
                for one in begun:
                    storage.append_segment(one, number, number, b"y" * 1000)
                assert storage._writer.queued <= 200_000
                may_begin = True
                try:
                    storage.check_room()
                except StorageUnavailable:
                    assert mode == "fail_closed"
                    may_begin = False
                if storage.put_run(new_run()).lost:
                    assert mode == "fail_open" or not may_begin
                    refused += 1
            assert refused > 50
            await asyncio.sleep(0)
            # The ones under way lose their storage only when the reserve is used up, and never a part of it.
            assert {one.number for one in begun if one.lost} == set(told) == {one.number for one in begun}
            assert not early.lost
            engine.is_down = False
            await until(lambda: not storage.failing)
            await storage.durable(early)
            assert await whole(storage, early, 3)
            await storage.sweep()
            for one in begun:
                assert await storage.get_run(OURS, one.new.id) is None
            numbers = {number for (number,) in await place.query("SELECT run FROM segments")}
            assert numbers == {early.number}
            assert storage._writer.queued == 0
            later = stream(storage, segments=2)
            await storage.durable(later)
            assert await whole(storage, later, 2)

    run(scenario)


def test_a_caller_that_waits_too_long_is_told_and_its_change_is_not_made_later(place: Place) -> None:
    """The writer is busy for longer than anybody's patience."""

    async def scenario() -> None:
        async with place.open(patience_s=0.2) as storage:
            gate = asyncio.Event()
            real = storage._writer._engine
            storage._writer._engine = cast("Any", Held(real, gate))
            made = put(storage)
            await asyncio.sleep(0.1)
            with pytest.raises(StorageUnavailable, match="read it back"):
                await storage.create_conversation(OURS, "conv_1", created_at=1.0)
            with pytest.raises(StorageUnavailable):
                await storage.durable(made)
            gate.set()
            storage._writer._engine = real
            await until(lambda: storage._writer.committed >= made.ticket)
            await storage.durable(put(storage))
            assert await storage.get_conversation(OURS, "conv_1") is None

    run(scenario)


class Held:
    """An engine whose transactions wait at a gate."""

    def __init__(self, engine: Any, gate: asyncio.Event) -> None:
        self._engine = engine
        self._gate = gate

    async def write(self, work: Any, *, sync: bool) -> Any:
        await self._gate.wait()
        return await self._engine.write(work, sync=sync)


def test_closing_beside_a_dead_database_does_not_hang_and_tells_what_was_lost(place: Place) -> None:
    async def scenario() -> None:
        with capture_logs() as lines:
            async with place.watch(patience_s=0.3) as (storage, engine):
                stream(storage, segments=3)
                engine.is_down = True
                began = time.monotonic()
                await storage._writer.close()
                assert time.monotonic() - began < 3
        [lost] = [line for line in lines if line["event"] == "storage_writes_lost"]
        assert lost["writes"] == 5
        assert lost["reason"] == "out of order"

    run(scenario)


# --- SQLite's own troubles ---------------------------------------------------------------------------------------


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.storage.sqlite.BUSY_MS", 100)


@pytest.mark.fault("FAULT-DB-LOCKED")
@pytest.mark.usefixtures("_impatient")
def test_a_file_that_another_process_locks_is_waited_for(sqlite: Place) -> None:
    async def scenario() -> None:
        async with sqlite.open() as storage:
            other = sqlite3.connect(sqlite.path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            made = stream(storage, segments=3)
            await until(lambda: "locked" in storage.failing)
            # What is stored already can still be read.
            assert await storage.stored(OURS) is not None
            other.execute("ROLLBACK")
            other.close()
            await until(lambda: not storage.failing)
            assert await whole(storage, made, 3)

    run(scenario)


@pytest.mark.fault("FAULT-DB-DOWN")
def test_a_full_disk_is_told_and_the_writes_come_when_there_is_room(sqlite: Place) -> None:
    def limit(pages: int) -> Any:
        statement = Sql(f"PRAGMA max_page_count = {pages}")

        def work() -> Work[None]:
            yield statement()

        return work

    async def scenario() -> None:
        async with sqlite.open() as storage:
            before = stream(storage, segments=3)
            await storage.durable(before)
            await storage._engine.write(limit(80), sync=False)
            made = stream(storage, segments=50, size=20_000)
            await until(lambda: "full" in storage.failing)
            assert await storage.stored(OURS, "app") is not None
            with pytest.raises(StorageUnavailable):
                await storage.durable(made)
            await storage._engine.write(limit(1_000_000), sync=False)
            await until(lambda: not storage.failing)
            assert await whole(storage, made, 50)
            assert await whole(storage, before, 3)
            assert await sqlite.query("PRAGMA integrity_check") == [("ok",)]

    run(scenario)


def test_a_file_that_is_moved_away_is_noticed_and_never_replaced_by_an_empty_one(sqlite: Place) -> None:
    async def scenario() -> None:
        async with sqlite.open() as storage:
            await storage.durable(stream(storage, segments=1))
            away = sqlite.path.with_suffix(".away")
            sqlite.path.rename(away)
            made = stream(storage, segments=3)
            await until(lambda: bool(storage.failing))
            assert not sqlite.path.exists()
            away.rename(sqlite.path)
            await until(lambda: not storage.failing)
            assert await whole(storage, made, 3)

    run(scenario)


def test_a_read_that_takes_too_long_is_given_up_and_its_thread_is_free_again(
    sqlite: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.storage.sqlite.READ_DEADLINE_S", 0.2)
    endless = Sql("WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n")

    def work() -> Work[None]:
        yield endless()

    async def scenario() -> None:
        async with sqlite.open(readers=1) as storage:
            with pytest.raises(StorageUnavailable):
                await storage._read(work)
            assert await storage.get_run(OURS, "none") is None

    run(scenario)


def test_an_ending_is_held_back_until_others_find_it_and_only_where_there_are_others(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch() as (storage, engine):
            told: list[str] = []
            first = stream(storage, segments=1)
            storage.when_found(first, lambda: told.append("first"))
            assert told == (["first"] if place.engine == "sqlite" else [])
            await until(lambda: bool(told))
            if place.engine == "postgresql":
                assert await place.query("SELECT status FROM runs") == [("completed",)]
                storage.when_found(first, lambda: told.append("at once"))
                engine.is_down = True
                storage.when_found(stream(storage, segments=1), lambda: told.append("failed"))
                await until(lambda: bool(storage.failing))
                await until(lambda: told[-1] == "failed", within_s=0.3)
                storage.when_found(stream(storage, segments=1), lambda: told.append("known to fail"))
                assert told == ["first", "at once", "failed", "known to fail"]

    run(scenario)


# --- PostgreSQL's own troubles -----------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-DB-DOWN")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["shutdown", "crash"])
def test_a_server_that_goes_and_comes_back_costs_no_write(postgresql: Place, how: signal.Signals) -> None:
    async def scenario() -> None:
        async with postgresql.open() as storage:
            made = [stream(storage, segments=5) for _ in range(10)]
            await asyncio.sleep(0.03)
            postgresql.server.stop(how)
            try:
                made += [stream(storage, segments=5) for _ in range(10)]
                await until(lambda: bool(storage.failing))
            finally:
                postgresql.server.start()
            await until(lambda: not storage.failing)
            await storage.durable(made[-1])
            assert all([await whole(storage, one, 5) for one in made])
            assert [await postgresql.count(table) for table in TABLES] == [20, 40, 100, 0]

    run(scenario)


@pytest.mark.fault("FAULT-DB-DOWN")
@pytest.mark.parametrize("setting", ["on", "off"])
def test_a_crash_of_the_server_takes_nothing_that_it_has_committed(postgresql: Place, setting: str) -> None:
    """The gateway, which lives on, will not write it again: also where the server is set to confirm too early."""

    async def scenario() -> None:
        await execute(postgresql, f"ALTER ROLE tidegate SET synchronous_commit = {setting}")
        try:
            async with postgresql.open() as storage:
                made: list[Run] = []
                for number in range(8):
                    if number:  # what was begun before the crash is ended behind it
                        storage.append_segment(made[-1], 2, 3, frames_of(2, 3))
                    made.append(storage.put_run(new_run(), [item("ask")]))
                    storage.append_segment(made[-1], 0, 1, frames_of(0, 1))
                    await storage._writer.wait(made[-1].ticket, sync=False)
                postgresql.server.stop(signal.SIGQUIT)
                postgresql.server.start()
                storage.append_segment(made[-1], 2, 3, frames_of(2, 3))
                for one in made:
                    storage.finish_run(one, ending())
                for one in made:
                    journal = await storage.read_journal(OURS, one.new.id)
                    assert journal is not None
                    assert journal.status == "completed"
                    assert [(segment.first, segment.last) for segment in journal.segments] == [(0, 1), (2, 3)]
        finally:
            await execute(postgresql, "ALTER ROLE tidegate RESET synchronous_commit")

    run(scenario)


@pytest.mark.fault("FAULT-DB-DOWN")
def test_a_server_that_hangs_is_given_up_in_time_and_its_writes_are_not_made_twice(
    postgresql: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COMMAND_S", "READ_DEADLINE_S", "CONNECT_S"):
        monkeypatch.setattr(f"tidegate.storage.postgres.{name}", 0.3)

    async def scenario() -> None:
        async with postgresql.open() as storage:
            before = stream(storage, segments=2)
            await storage.durable(before)
            with postgresql.server.freeze():
                made = stream(storage, segments=5)
                began = time.monotonic()
                await until(lambda: bool(storage.failing))
                with pytest.raises(StorageUnavailable):
                    await storage.get_run(OURS, before.new.id)
                assert time.monotonic() - began < 5
            await until(lambda: not storage.failing)
            await storage.durable(made)
            assert await whole(storage, made, 5)
            assert await postgresql.count("segments") == 7

    run(scenario)


def test_a_lone_connection_that_breaks_is_replaced(postgresql: Place) -> None:
    async def scenario() -> None:
        async with postgresql.open() as storage:
            made = stream(storage, segments=2)
            await storage.durable(made)
            assert await whole(storage, made, 2)
            await postgresql.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'"
            )
            assert await whole(storage, made, 2)
            other = stream(storage, segments=3)
            await until(lambda: storage._writer.committed >= other.ticket)
            assert await whole(storage, other, 3)

    run(scenario)


def test_a_transaction_that_lost_a_deadlock_is_made_again(postgresql: Place) -> None:
    lock = Sql("UPDATE counters SET next = next + 1 WHERE name = :name RETURNING next")
    pause = Sql("SELECT pg_sleep(0.2)")
    tries: list[int] = []

    def work() -> Work[int]:
        tries.append(1)
        yield lock(name="b")
        yield pause()
        [(behind,)] = yield lock(name="a")
        return int(behind)

    async def scenario() -> None:
        import asyncpg

        async with postgresql.open() as storage:
            other = await asyncpg.connect(postgresql.url)
            await other.execute("INSERT INTO counters (name, next) VALUES ('a', 0), ('b', 0)")
            await other.execute("BEGIN; UPDATE counters SET next = 10 WHERE name = 'a'")
            ours = asyncio.create_task(storage._engine.write(work, sync=True))
            await asyncio.sleep(0.1)
            await other.execute("UPDATE counters SET next = 10 WHERE name = 'b'")
            await other.execute("COMMIT")
            await other.close()
            assert await ours == 11
            assert len(tries) >= 2
            await postgresql.query("DELETE FROM counters WHERE name IN ('a', 'b')")

    run(scenario)


def test_a_text_that_postgresql_cannot_hold_costs_only_its_own_run(postgresql: Place) -> None:
    async def scenario() -> None:
        id_ = "msg_" + "".join(map(chr, range(0x4E00, 0x7000)))
        async with postgresql.open() as storage:
            bad = storage.put_run(new_run(), [item("x", id_)])
            good = stream(storage, segments=1)
            await until(lambda: bad.lost)
            assert await whole(storage, good, 1)

    run(scenario)


def test_what_callers_get_wrong_costs_no_connection(postgresql: Place) -> None:
    async def scenario() -> None:
        async with postgresql.open() as storage:
            made = put(storage)
            await storage.durable(made)
            assert await storage.get_run(OURS, made.new.id) is not None
            before = await postgresql.query(BACKENDS)
            for _ in range(5):
                with pytest.raises(CursorUnknown):
                    await storage.list_items(OURS, made.new.id, after="none")
                with pytest.raises(HistoryTooLarge):
                    await storage.read_chain(OURS, made.new.id, max_bytes=1)
            assert await postgresql.query(BACKENDS) == before

    run(scenario)


def test_a_schema_that_went_missing_loses_nothing(place: Place) -> None:
    """Somebody restores a backup, or cleans up too much: that is no fault of the writes."""

    async def scenario() -> None:
        async with place.open() as storage:
            await execute(place, "ALTER TABLE segments RENAME TO hidden")
            made = stream(storage, segments=3)
            await until(lambda: bool(storage.failing))
            assert not made.lost
            await execute(place, "ALTER TABLE hidden RENAME TO segments")
            await until(lambda: not storage.failing)
            assert await whole(storage, made, 3)

    run(scenario)


def test_the_log_tells_of_refused_writes_without_their_content(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            await storage.durable(storage.put_run(new_run(id="resp_CANARY")))
            bad = [
                storage.put_run(new_run(id="resp_CANARY", request=b"CANARY")),
                storage.put_run(new_run(model="CANARY\ud800")),
                storage.put_run(new_run(key="CANARY\0", request=b"CANARY"), [item("CANARY", "CANARY\0")]),
            ]
            storage.append_segment(bad[2], 0, 2**70, b"CANARY")
            with capture_logs() as lines:
                await until(lambda: all(each.lost for each in bad))
            assert [line["event"] for line in lines].count("storage_write_refused") == 3
            assert "CANARY" not in "".join(str({**line, "run": ""}) for line in lines)

    run(scenario)
