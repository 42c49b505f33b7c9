"""What processes on one database tell each other: hints, on whose word alone nothing happens."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.storage.stage import OURS, Place, ending, execute, frames_of, item, new_run, run, until
from tidegate.storage import news
from tidegate.storage.line import Line
from tidegate.storage.records import Run
from tidegate.storage.storage import Storage


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing here can come by asking again and again."""
    monkeypatch.setattr(news, "POLL_S", 60.0)
    monkeypatch.setattr(news, "HEARD_POLL_S", 60.0)


async def connected(*storages: Storage) -> None:
    """Until they hear each other."""
    lines: list[Line] = [storage._engine._line for storage in storages]  # type: ignore[attr-defined]
    await until(lambda: all(line.is_up for line in lines))


async def begun(storage: Storage) -> Run:
    made = storage.put_run(new_run(stream=True), [item("ask")])
    await storage.durable(made)
    return made


@pytest.mark.parametrize("wish", ["cancelled", "deleted"])
def test_what_is_wanted_of_a_run_its_process_learns_at_once(postgresql: Place, wish: str) -> None:
    async def scenario() -> None:
        async with postgresql.open(lease_s=600) as storage, postgresql.open(lease_s=600) as other:
            asked: list[str] = []
            storage.on_cancel = asked.append
            live = await begun(storage)
            bystander = await begun(storage)
            await connected(storage, other)
            if wish == "cancelled":
                assert await other.request_cancel(OURS, live.new.id)
            else:
                assert await other.delete_run(OURS, live.new.id)
            await until(lambda: bool(asked), within_s=5)
            assert asked == [live.new.id]
            storage.finish_run(live, ending("cancelled"))
            storage.finish_run(bystander, ending())
            await storage.durable(bystander)
            await storage.sweep()
        assert await postgresql.count("doomed") == 0

    run(scenario)


def test_a_deletion_reaches_the_process_that_runs_it_without_any_hint(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(lease_s=0.4) as storage, place.open() as other:
            asked: list[str] = []
            storage.on_cancel = asked.append
            live = await begun(storage)
            other._engine.tell = lambda words: None  # type: ignore[method-assign]
            assert await other.delete_run(OURS, live.new.id)
            await until(lambda: bool(asked))
            assert asked[0] == live.new.id
            storage.finish_run(live, ending("cancelled"))
            await storage._writer.settle_all()
            await storage.sweep()
        assert await place.count("doomed") == await place.count("items") == 0

    run(scenario)


def test_who_follows_a_run_of_another_process_is_told_of_frames_and_of_the_ending(postgresql: Place) -> None:
    async def scenario() -> None:
        async with postgresql.open() as storage, postgresql.open() as other:
            live = await begun(storage)
            await connected(storage, other)
            with other.watch(live.new.id) as watch:
                async with asyncio.timeout(5):
                    await watch.changed()  # the owner says that it is there
                    for number in range(3):
                        storage.append_segment(live, number, number, frames_of(number, number))
                        seen = 0
                        while seen <= number:
                            await watch.changed()
                            found = await other.read_journal(OURS, live.new.id)
                            seen = 0 if found is None else len(found.segments)
                    storage.finish_run(live, ending())
                    while (await other.get_run(OURS, live.new.id)).completed_at is None:  # type: ignore[union-attr]
                        await watch.changed()
                    await other.delete_run(OURS, live.new.id)
                    await watch.changed()

    run(scenario)


def test_a_line_that_breaks_is_made_again(postgresql: Place) -> None:
    async def scenario() -> None:
        async with postgresql.open(lease_s=600) as storage, postgresql.open(lease_s=600) as other:
            asked: list[str] = []
            storage.on_cancel = asked.append
            live = await begun(storage)
            await connected(storage, other)
            with capture_logs() as lines:
                await execute(
                    postgresql,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %tidegate%'",
                )
                await until(lambda: "storage_line_lost" in [one["event"] for one in lines])
            await connected(storage, other)
            assert await other.request_cancel(OURS, live.new.id)
            await until(lambda: bool(asked), within_s=5)
            storage.finish_run(live, ending("cancelled"))

    run(scenario)


def test_words_that_mean_nothing_are_not_heard(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            live = await begun(storage)
            told: list[str] = []
            storage._engine.tell = told.append  # type: ignore[method-assign, assignment]
            for words in ("", "orders", "orders x", "orders 0", "news", "follow", "follow resp_none", "\0", "x" * 8000):
                storage._news.hear(words)
            assert told == []
            assert not storage._news.is_followed
            storage._news.hear(f"follow {live.new.id}")
            assert told == [f"news {live.new.id}"]
            storage.finish_run(live, ending())

    run(scenario)


def test_nobody_who_follows_costs_nothing_to_tell(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            told: list[str] = []
            storage._engine.tell = told.append  # type: ignore[method-assign, assignment]
            live = await begun(storage)
            storage.append_segment(live, 0, 0, frames_of(0, 0))
            storage.finish_run(live, ending())
            await storage.durable(live)
            assert told == []

    run(scenario)
