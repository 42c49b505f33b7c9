"""Idempotency keys are taken once."""

import asyncio

from tests.storage.stage import HOUR_S, OURS, THEIRS, Place, ending, eventually, put, run, until


def test_of_many_callers_in_two_processes_one_gets_the_key(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as one, place.open() as two:
            claims = await asyncio.gather(
                *(
                    storage.claim(OURS, "k", digest=b"d", run_id=f"resp_{n}", kept_s=HOUR_S)
                    for n, storage in enumerate([one, two] * 10)
                )
            )
            [winner] = [claim for claim in claims if claim.is_new]
            assert {claim.run_id for claim in claims} == {winner.run_id}
            assert {claim.digest for claim in claims} == {b"d"}

    run(scenario)


def test_a_process_that_was_taken_for_dead_keeps_the_keys_that_nobody_took_meanwhile(place: Place) -> None:
    """It goes on with the requests that it took them for: another one must not run them a second time."""

    async def scenario() -> None:
        async with place.watch(lease_s=0.4) as (storage, engine), place.watch(lease_s=0.4) as (other, _):
            for name in ("kept", "taken"):
                await storage.claim(OURS, name, digest=b"d", run_id="resp_1", kept_s=HOUR_S)
            engine.is_down = True

            async def is_buried() -> bool:
                return await place.count("processes") == 1

            await eventually(is_buried)
            taken = await other.claim(OURS, "taken", digest=b"d", run_id="resp_2", kept_s=HOUR_S)
            assert taken.is_new
            engine.is_down = False
            await until(lambda: bool(storage.failing))
            await until(lambda: not storage.failing)
            for name, owner in (("kept", "resp_1"), ("taken", "resp_2")):
                found = await other.claim(OURS, name, digest=b"d", run_id="resp_3", kept_s=HOUR_S)
                assert (found.is_new, found.run_id) == (False, owner)

    run(scenario)


def test_the_kept_answer_is_what_later_callers_find(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            await storage.claim(OURS, "k", digest=b"d", run_id="resp_1", kept_s=HOUR_S)
            storage.settle_claim(OURS, "k", "resp_1", 400, b'{"error":{}}')
            storage.settle_claim(OURS, "k", "resp_1", 200, b"another")
            claim = await storage.claim(OURS, "k", digest=b"e", run_id="resp_2", kept_s=HOUR_S)
            assert (claim.is_new, claim.digest, claim.run_id) == (False, b"d", "resp_1")
            assert (claim.status, claim.answer) == (400, b'{"error":{}}')

    run(scenario)


def test_looking_at_a_key_takes_nothing_and_shows_what_it_was_taken_for(place: Place) -> None:
    async def scenario() -> None:
        async with place.open("k" * 40) as storage:
            assert await storage.look_at_claim(OURS, "k") is None
            assert (await storage.claim(OURS, "k", digest=b"d", run_id="resp_1", kept_s=HOUR_S)).is_new
            found = await storage.look_at_claim(OURS, "k")
            assert found is not None
            assert (found.is_new, found.digest, found.run_id, found.status) == (False, b"d", "resp_1", None)
            assert await storage.look_at_claim(THEIRS, "k") is None
            storage.settle_claim(OURS, "k", "resp_1", 200, b"answer")
            await storage._writer.settle_all()
            found = await storage.look_at_claim(OURS, "k")
            assert found is not None
            assert (found.status, found.answer) == (200, b"answer")
            assert (await storage.claim(OURS, "old", digest=b"d", run_id="resp_1", kept_s=-1)).is_new
            assert await storage.look_at_claim(OURS, "old") is None

    run(scenario)


def test_a_key_that_is_given_back_or_has_expired_can_be_taken_again(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            await storage.claim(OURS, "k", digest=b"d", run_id="resp_1", kept_s=HOUR_S)
            storage.release_claim(OURS, "k", "resp_other")
            assert not (await storage.claim(OURS, "k", digest=b"d", run_id="resp_2", kept_s=HOUR_S)).is_new
            storage.release_claim(OURS, "k", "resp_1")
            assert (await storage.claim(OURS, "k", digest=b"e", run_id="resp_3", kept_s=-1)).is_new
            storage.settle_claim(OURS, "k", "resp_3", 200, b"x")
            assert (await storage.claim(OURS, "k", digest=b"f", run_id="resp_4", kept_s=-1)).is_new
            await storage.sweep()
            assert await place.count("idempotency") == 0

    run(scenario)


def test_the_key_of_a_process_that_died_before_its_run_began_is_free_again(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as dead:
            await dead.claim(OURS, "lost", digest=b"d", run_id="resp_1", kept_s=HOUR_S)
            made = put(dead)
            await dead.claim(OURS, "kept", digest=b"d", run_id=made.new.id, kept_s=HOUR_S)
        async with place.open() as storage:
            assert (await storage.claim(OURS, "lost", digest=b"d", run_id="resp_2", kept_s=HOUR_S)).is_new
            claim = await storage.claim(OURS, "kept", digest=b"d", run_id="resp_3", kept_s=HOUR_S)
            assert (claim.is_new, claim.run_id) == (False, made.new.id)

    run(scenario)


def test_kept_answers_count_for_the_key_that_asked_until_they_are_gone(place: Place) -> None:
    async def scenario() -> None:
        async with place.open("a-master-key-0123456789abcdef0123") as storage:

            async def in_store() -> int:
                await storage._writer.settle_all()
                found = await storage.stored(OURS, "app")
                assert found.runs == 0
                assert (await storage.stored(OURS, "other")).size == 0
                return found.size

            async def answered(name: str, run_id: str, kept_s: float) -> None:
                claim = await storage.claim(OURS, name, digest=b"d", run_id=run_id, kept_s=kept_s, key="app")
                assert claim.is_new
                for answer in (b"answer", b"another one, which comes too late"):
                    storage.settle_claim(OURS, name, run_id, 200, answer)

            await answered("swept", "resp_1", -1)
            assert await in_store() == 6
            await storage.sweep()
            assert await in_store() == 0
            await answered("again", "resp_1", -1)
            await answered("again", "resp_2", HOUR_S)
            assert await in_store() == 6
            made = put(storage)
            storage.finish_run(made, ending())
            await storage.durable(made)
            await answered("deleted", made.new.id, HOUR_S)
            assert (await storage.stored(OURS, "app")).size > 6
            await storage.delete_run(OURS, made.new.id)
            assert await in_store() == 6

    run(scenario)
