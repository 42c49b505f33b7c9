"""A dead process's runs are closed once; a live one's are left alone."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.storage.engines import Watched
from tests.storage.stage import OURS, THEIRS, Place, ending, eventually, frames_of, item, new_run, put, run, until
from tidegate.storage.crypto import Keyring
from tidegate.storage.opening import open_engine
from tidegate.storage.records import Interrupted, Run
from tidegate.storage.storage import Settings, Storage

LEASE_S = 0.4


async def die(storage: Storage) -> None:
    """End as a killed process does: nothing is written, nothing is taken back, the system drops locks."""
    assert storage._keeper is not None
    storage._keeper.cancel()
    if storage._writer._timer is not None:
        storage._writer._timer.cancel()
    await asyncio.wait([storage._keeper])
    engine = storage._engine
    for file in getattr(engine, "_presence", {}).values():
        file.close()
    if hasattr(engine, "_presence"):
        engine._presence.clear()
    await engine.close()


async def has_ended(storage: Storage, made: Run) -> bool:
    found = await storage.get_run(made.new.tenant, made.new.id)
    return found is not None and found.completed_at is not None


def begin(storage: Storage, *, segments: int = 3, **members: Any) -> Run:
    made = storage.put_run(new_run(stream=True, **members), [item("ask")])
    for number in range(segments):
        storage.append_segment(made, number, number, frames_of(number, number))
    return made


def test_what_a_dead_process_left_open_is_closed_and_stays_readable(place: Place) -> None:
    async def scenario() -> None:
        dead = await Storage.open(place.url, settings=Settings(lease_s=LEASE_S))
        live, done = begin(dead), put(dead)
        other = begin(dead, tenant=THEIRS, segments=0)
        await dead.durable(other)
        await die(dead)
        told: list[Interrupted] = []
        with capture_logs() as lines:
            async with place.open(lease_s=LEASE_S) as storage:
                storage.on_interrupted = told.extend
                await eventually(lambda: has_ended(storage, live))
                found = await storage.get_run(OURS, live.new.id)
                assert found is not None
                assert (found.status, found.error_code) == ("failed", "gateway_interrupted")
                assert found.last_sequence == 2
                journal = await storage.read_journal(OURS, live.new.id, after=0)
                assert journal is not None
                assert b"".join(each.frames for each in journal.segments) == frames_of(1, 2)
                assert (journal.status, journal.last_sequence, journal.has_more) == ("failed", 2, False)
                empty = await storage.get_run(THEIRS, other.new.id)
                assert empty is not None
                assert (empty.error_code, empty.last_sequence) == ("gateway_interrupted", None)
                assert (await storage.get_run(OURS, done.new.id)).status == "completed"  # type: ignore[union-attr]
                # What was stored of it counts from now on.
                assert (await storage.stored(OURS)).runs == 2
                assert (await storage.stored(OURS)).size > done.size
        assert "storage_runs_interrupted" in {line["event"] for line in lines}
        if place.engine == "sqlite":
            assert told == []  # found at the start already, before anybody could listen

    run(scenario)


def test_a_restart_on_one_host_closes_them_before_it_serves(sqlite: Place) -> None:
    """The system's lock tells at once that the process is gone; nobody waits for its lease."""

    async def scenario() -> None:
        dead = await Storage.open(sqlite.url)
        live = begin(dead)
        await dead.durable(live)
        await die(dead)
        told: list[Interrupted] = []
        storage = await Storage.open(sqlite.url, on_interrupted=told.extend)
        assert told == [Interrupted(live.new.id, OURS)]
        assert (await storage.get_run(OURS, live.new.id)).status == "failed"  # type: ignore[union-attr]
        await storage.close()
        assert await sqlite.count("processes") == 0
        assert [path.name for path in sqlite.path.parent.iterdir()] == [sqlite.path.name]

    run(scenario)


def test_a_live_process_keeps_its_runs_however_often_others_start_and_stop(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(lease_s=LEASE_S) as storage:
            live = begin(storage)
            await storage.durable(live)
            for _ in range(3):
                async with place.open(lease_s=LEASE_S) as other:
                    mine = begin(other)
                    await other.durable(mine)
                    await asyncio.sleep(LEASE_S)
                    assert (await other.get_run(OURS, live.new.id)).status == "in_progress"  # type: ignore[union-attr]
                    other.finish_run(mine, ending())
            storage.append_segment(live, 3, 3, frames_of(3, 3))
            storage.finish_run(live, ending())
            await storage.durable(live)
            found = await storage.get_run(OURS, live.new.id)
            assert found is not None
            assert (found.status, found.last_sequence) == ("completed", 3)

    run(scenario)


def test_a_process_that_hangs_on_this_host_is_not_taken_for_dead(sqlite: Place) -> None:
    """The system's lock tells that it lives, whatever became of its lease."""

    async def scenario() -> None:
        async with sqlite.watch(lease_s=LEASE_S) as (storage, engine), sqlite.open(lease_s=LEASE_S) as other:
            live = begin(storage)
            await storage.durable(live)
            engine.is_down = True
            await asyncio.sleep(LEASE_S * 2)
            assert (await other.get_run(OURS, live.new.id)).status == "in_progress"  # type: ignore[union-attr]

    run(scenario)


def test_runs_that_a_process_leaves_open_when_it_closes_are_closed_by_the_next(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            live = begin(storage)
        async with place.open() as storage:
            assert (await storage.get_run(OURS, live.new.id)).error_code == "gateway_interrupted"  # type: ignore[union-attr]

    run(scenario)


def test_of_many_that_find_a_dead_process_one_closes_each_run(place: Place) -> None:
    async def scenario() -> None:
        dead = await Storage.open(place.url, settings=Settings(lease_s=LEASE_S))
        runs = [begin(dead, segments=1) for _ in range(700)]
        await dead.durable(runs[-1])
        await die(dead)
        told: list[str] = []

        def note(found: Sequence[Interrupted]) -> None:
            told.extend(each.id for each in found)

        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                storage = await Storage.open(place.url, settings=Settings(lease_s=LEASE_S), on_interrupted=note)
                stack.push_async_callback(storage.close)
            await until(lambda: len(told) >= 700)
            await asyncio.sleep(LEASE_S)
            assert sorted(told) == sorted(each.new.id for each in runs)
            assert (await storage.stored(OURS)).runs == 700

    run(scenario)


def test_a_process_that_was_taken_for_dead_learns_it_and_writes_nothing_more_of_its_old_runs(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch(lease_s=LEASE_S) as (storage, engine), place.watch(lease_s=LEASE_S) as (other, _):
            old = begin(storage)
            await storage.durable(old)
            told: list[int] = []
            old.on_lost = lambda: told.append(1)
            engine.is_down = True
            storage.append_segment(old, 3, 3, frames_of(3, 3))
            young = begin(storage)
            await eventually(lambda: has_ended(other, old))
            with capture_logs() as lines:
                engine.is_down = False
                await until(lambda: not storage.failing)
            assert "storage_lease_lost" in {line["event"] for line in lines}
            assert told == [1]
            storage.append_segment(old, 4, 4, frames_of(4, 4))
            storage.finish_run(old, ending())
            # What the others never knew of goes on as if nothing had happened.
            storage.finish_run(young, ending())
            await storage.durable(young)
            found = await other.get_run(OURS, old.new.id)
            assert found is not None
            assert (found.status, found.error_code, found.last_sequence) == ("failed", "gateway_interrupted", 2)
            assert (await other.get_run(OURS, young.new.id)).status == "completed"  # type: ignore[union-attr]
            assert await place.query(f"SELECT count(*) FROM segments WHERE run = {old.number}") == [(3,)]

    run(scenario)


@pytest.mark.fault("FAULT-CLOCK")
def test_after_an_outage_for_all_nobody_is_taken_for_dead_who_only_waited(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.storage.writer.BACKOFF_S", (0.02, 0.05))  # as short against this lease as in earnest

    async def scenario() -> None:
        async with place.watch(lease_s=LEASE_S) as (one, first), place.watch(lease_s=LEASE_S) as (two, second):
            runs = [begin(storage) for storage in (one, two)]
            for storage, made in ((one, runs[0]), (two, runs[1])):
                await storage.durable(made)
            first.is_down = second.is_down = True
            await asyncio.sleep(LEASE_S * 2.5)
            first.is_down = False
            await until(lambda: not one.failing)
            await asyncio.sleep(LEASE_S / 4)
            second.is_down = False
            await until(lambda: not two.failing)
            await asyncio.sleep(LEASE_S)
            for storage, made in ((one, runs[0]), (two, runs[1])):
                storage.finish_run(made, ending())
                await storage.durable(made)
                assert (await storage.get_run(OURS, made.new.id)).status == "completed"  # type: ignore[union-attr]

    run(scenario)


def test_a_lease_is_renewed_while_nothing_is_written(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(lease_s=LEASE_S) as storage:
            [(first,)] = await place.query("SELECT lease_until FROM processes")
            await asyncio.sleep(LEASE_S * 2)
            [(later,)] = await place.query("SELECT lease_until FROM processes")
            assert later - first > LEASE_S
            assert storage.process > 0

    run(scenario)


def test_another_process_can_ask_for_a_run_to_be_cancelled(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(lease_s=LEASE_S) as storage, place.open() as other:
            asked: list[str] = []
            storage.on_cancel = asked.append
            live, done = begin(storage), put(storage)
            await storage.durable(done)
            assert await other.request_cancel(OURS, live.new.id) is True
            assert await other.request_cancel(OURS, done.new.id) is False
            assert await other.request_cancel(OURS, "resp_none") is False
            await until(lambda: bool(asked))
            assert asked[0] == live.new.id
            storage.finish_run(live, ending("cancelled"))
            await storage.durable(live)
            asked.clear()
            await asyncio.sleep(LEASE_S)
            assert asked == []

    run(scenario)


def test_a_keeper_that_meets_an_error_goes_on(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(lease_s=0.15) as storage:

            def stumble(run_id: str) -> None:
                raise LookupError(run_id)

            storage.on_cancel = stumble
            live = begin(storage)
            await storage.durable(live)
            with capture_logs() as lines:
                await storage.request_cancel(OURS, live.new.id)
                await until(lambda: [line["event"] for line in lines].count("storage_keeper_failed") >= 2)

    run(scenario)


def test_two_gateways_that_start_at_once_both_start(place: Place) -> None:
    async def scenario() -> None:
        opened = await asyncio.gather(*(Storage.open(place.url) for _ in range(4)))
        assert len({storage.process for storage in opened}) == 4
        for storage in opened:
            await storage.close()

    run(scenario)


def test_a_start_waits_for_another_one_that_holds_the_fresh_file(sqlite: Place) -> None:
    """SQLite calls the file locked at once where it is not yet in WAL mode and another process is about to write."""

    async def scenario() -> None:
        sqlite.path.parent.mkdir()
        with contextlib.closing(sqlite3.connect(sqlite.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            opening = asyncio.create_task(Storage.open(sqlite.url))
            await asyncio.sleep(0.2)
            assert not opening.done()
            other.execute("COMMIT")
        storage = await opening
        await storage.close()

    run(scenario)


def test_the_engine_is_closed_when_the_start_fails(place: Place) -> None:
    async def scenario() -> None:
        engine = Watched(await open_engine(place.url, Settings()))
        engine.is_down = True
        with pytest.raises(Exception, match="out of order"):
            await Storage.over(engine, Keyring(), Settings())

    run(scenario)


def test_a_process_that_stops_in_the_middle_of_a_transaction_holds_nobody_up(postgresql: Place) -> None:
    """Its locks are those that every ending needs. A caller's patience outlasts it."""

    async def scenario() -> None:
        async with postgresql.open() as storage:
            put(storage)
            await storage.durable(put(storage))  # the tenant is there
            frozen = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.storage.frozen", postgresql.url, stdout=asyncio.subprocess.PIPE
            )
            try:
                assert frozen.stdout is not None
                assert await frozen.stdout.readline() == b"frozen\n"
                await storage.durable(put(storage))
                assert not storage.failing
            finally:
                frozen.kill()
                await frozen.wait()

    run(scenario)
