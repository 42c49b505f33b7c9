"""What has expired or was deleted is removed in batches, and what is counted as stored is what is stored."""

import asyncio
import random

import pytest

from tests.storage.stage import HOUR_S, OURS, THEIRS, Place, ending, eventually, item, new_run, put, run
from tidegate.storage.records import Ref, Run
from tidegate.storage.storage import Storage

TABLES = ("runs", "items", "segments", "doomed")
PAST, FUTURE = -HOUR_S, HOUR_S


async def is_empty(place: Place) -> bool:
    return await place.count("runs") == 0


def test_expired_runs_go_with_all_that_belongs_to_them(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            for _ in range(20):
                put(storage, kept_s=PAST, segments=100)
            kept = [put(storage, kept_s=FUTURE), put(storage, kept_s=None)]
            live = storage.put_run(new_run(kept_s=PAST))
            await storage.durable(live)
            await storage.sweep()
            assert [await place.count(table) for table in TABLES] == [3, 4, 4, 0]
            for one in [*kept, live]:
                assert await storage.get_run(OURS, one.new.id) is not None
            assert (await storage.stored(OURS)).runs == 2

    run(scenario)


def test_sweeping_comes_by_itself(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(lease_s=0.15, sweep_s=0.1) as storage:
            await storage.durable(put(storage, kept_s=PAST))
            await eventually(lambda: is_empty(place))

    run(scenario)


def test_a_run_that_is_continued_is_kept_as_long_as_what_continues_it(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            root = put(storage, kept_s=PAST)
            middle = put(storage, kept_s=PAST, previous=root.ref)
            leaf = put(storage, kept_s=0.7, previous=middle.ref)
            twig = put(storage, kept_s=PAST, previous=root.ref)
            await storage.durable(twig)
            await storage.sweep()
            assert await storage.get_run(OURS, twig.new.id) is None
            chain = await storage.read_chain(OURS, leaf.new.id)
            assert chain is not None
            assert [link.ref for link in chain.links] == [root.ref, middle.ref, leaf.ref]
            await asyncio.sleep(0.75)
            await storage.sweep()
            assert [await place.count(table) for table in TABLES] == [0, 0, 0, 0]

    run(scenario)


def test_a_run_that_is_continued_by_one_without_expiry_stays(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            root = put(storage, kept_s=PAST)
            leaf = put(storage, kept_s=None, previous=root.ref)
            await storage.durable(leaf)
            for _ in range(2):
                await storage.sweep()
            assert await storage.read_chain(OURS, leaf.new.id) is not None

    run(scenario)


def test_a_deep_chain_that_expired_together_goes_in_one_sweep(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            last: Ref | None = None
            for _ in range(60):
                last = put(storage, kept_s=PAST, previous=last).ref
            await storage.sweep()
            assert [await place.count(table) for table in TABLES] == [0, 0, 0, 0]

    run(scenario)


def test_what_was_doomed_before_a_crash_is_removed_after_it(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = put(storage, segments=5)
            await storage.durable(made)
            await storage._execute(lambda: doom(made))
        async with place.open() as storage:
            await storage.sweep()
            assert [await place.count(table) for table in TABLES] == [0, 0, 0, 0]

    def doom(made: Run):  # type: ignore[no-untyped-def]
        from tidegate.storage import retention

        return retention.delete(OURS, made.new.id, 1)

    run(scenario)


@pytest.mark.security("SEC-REST-DELETED")
def test_deleted_content_is_not_left_in_the_file(sqlite: Place) -> None:
    canary = b"CANARY-" * 20

    async def scenario() -> None:
        async with sqlite.open() as storage:
            made = storage.put_run(new_run(request=canary), [item(canary.decode(), "msg_canary")])
            for number in range(30):
                storage.append_segment(made, number, number, canary * 50)
            storage.finish_run(made, ending())
            await storage.durable(made)
            assert canary in await sqlite.dump()
            await storage.delete_run(OURS, made.new.id)
        assert canary not in await sqlite.dump()

    run(scenario)


async def check_the_count(place: Place, storage: Storage) -> None:
    """What is counted for each key is the sum over its rows."""
    rows = await place.query("SELECT tenant, key, bytes, runs FROM stored ORDER BY tenant, key")
    counted = {(tenant, key): (int(size), int(runs)) for tenant, key, size, runs in rows if size or runs}
    summed: dict[tuple[int, str], tuple[int, int]] = {}
    for table, runs in (("runs", 1), ("conversations", 0)):
        for tenant, key, size in await place.query(
            f"SELECT tenant, key, bytes FROM {table}" + (" WHERE completed_at IS NOT NULL" if runs else "")
        ):
            old = summed.get((tenant, key), (0, 0))
            summed[tenant, key] = (old[0] + size, old[1] + runs)
    assert counted == {owner: found for owner, found in summed.items() if found != (0, 0)}


def test_what_is_counted_is_what_is_stored_whatever_happens(place: Place) -> None:
    async def scenario() -> None:
        draw = random.Random(11)
        ended: list[Run] = []
        talks: list[Ref] = []
        async with place.open() as storage:
            for step in range(180):
                tenant, key = draw.choice([OURS, THEIRS]), draw.choice(["app", "web"])
                match draw.randint(0, 6):
                    case 0 | 1:
                        talk = draw.choice(talks) if talks and tenant == OURS else None
                        made = storage.put_run(
                            new_run(tenant, key=key, conversation=talk, request=b"r" * step), [item("x" * step)]
                        )
                        storage.append_segment(made, 0, 0, b"y" * step)
                        if draw.random() < 0.8:
                            storage.finish_run(made, ending(), [item("z")], append=[item("w" * step)] if talk else [])
                            ended.append(made)
                    case 2 if ended:
                        one = ended.pop(draw.randrange(len(ended)))
                        assert await storage.delete_run(one.new.tenant, one.new.id)
                    case 3:
                        talks.append(
                            await storage.create_conversation(
                                OURS, f"conv_{step}", created_at=1.0, key=key, items=[item("v", f"i_{step}")]
                            )
                        )
                    case 4 if talks:
                        talk = talks.pop(draw.randrange(len(talks)))
                        assert await storage.delete_conversation(OURS, talk.id)
                    case 5 if talks:
                        talk = draw.choice(talks)
                        await storage.delete_conversation_item(OURS, talk.id, "i_" + talk.id[5:])
                    case 6:
                        put(storage, tenant=tenant, key=key, kept_s=PAST)
                if step % 60 == 59:
                    await storage.sweep()
                    await check_the_count(place, storage)
            size = (await storage.stored(OURS)).size
            assert size == sum([(await storage.stored(OURS, key)).size for key in ("app", "web")])
            assert size > 0
        async with place.open() as storage:  # closes what was left open
            await check_the_count(place, storage)

    run(scenario)
