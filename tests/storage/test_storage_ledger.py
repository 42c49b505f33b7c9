"""A ledger entry is written once and settled once, whoever dies in between; its sums always agree with the rows."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from tests.storage.stage import OURS, THEIRS, Place, ending, frames_of, new_run, run
from tidegate.storage import ledger
from tidegate.storage.entry import UsageEntry
from tidegate.storage.ledger import UsageFilter
from tidegate.storage.records import OpenUsage, Part, Tenant, Usage
from tidegate.storage.storage import Storage
from tidegate.wire.errors import StorageUnavailable

NOON = 1_790_000_000.0 // 3600 * 3600
ALL = UsageFilter()


def entry(**members: Any) -> UsageEntry:
    given = {
        "request_id": "req_1",
        "endpoint": "chat",
        "status": 200,
        "ending": "completed",
        "duration_ms": 12.5,
        "stream": True,
        "key": "app",
        "project": "harbour",
        "organization": "acme",
        "model": "sim/echo",
        "deployment": "sim/echo",
        "attempts": 1,
        "input_tokens": 100,
        "cached_tokens": 10,
        "cache_write_tokens": 5,
        "output_tokens": 20,
        "reasoning_tokens": 3,
        "estimated": False,
    }
    return UsageEntry(**{**given, **members})


def usage(number: int, *, tenant: Tenant = OURS, settled: bool = True, at: float = NOON, **members: Any) -> Usage:
    cost_nano = members.pop("cost_nano", 1_500)
    response_id = members.pop("response_id", "")
    return Usage(
        number=number,
        tenant=tenant,
        admitted_at=at,
        settled_at=at + 1 if settled else None,
        entry=entry(project=tenant.project, cost=None if cost_nano is None else cost_nano / 1e9, **members),
        key_id=f"key_{members.get('key', 'app')}",
        provider="sim",
        response_id=response_id,
        cost_nano=cost_nano,
        prices=msgspec.Raw(b'{"source":"free"}'),
        tags=msgspec.Raw(b'{"team":"a"}'),
    )


def admit(storage: Storage, given: Usage) -> None:
    storage.admit_usage(given.number, lambda: given)


def interrupted(found: OpenUsage) -> Usage:
    """How these tests settle what a dead process left."""
    members = msgspec.structs.asdict(found.usage.entry)
    members.update(ending="interrupted", estimated=True, output_tokens=found.last_sequence or 0)
    return msgspec.structs.replace(found.usage, settled_at=NOON + 9, entry=UsageEntry(**members))


async def everything(storage: Storage, only: UsageFilter = ALL) -> list[Usage]:
    return (await storage.usage_entries(0, 3e9, only)).rows


async def check_sums(storage: Storage, place: Place) -> None:
    """The sums are those of the settled rows."""
    [whole] = await storage.usage_report((), 0, 3e9, ALL, limit=10)
    rows = [row for row in await everything(storage) if row.settled_at is not None]
    assert whole.requests == len(rows)
    assert whole.cost_nano == sum(row.cost_nano or 0 for row in rows)
    assert whole.unpriced == sum(row.cost_nano is None for row in rows)
    assert whole.input_tokens == sum(row.entry.input_tokens for row in rows)
    assert whole.output_tokens == sum(row.entry.output_tokens for row in rows)
    before = await place.query("SELECT * FROM usage_hours ORDER BY 1, 2, 3, 4, 5, 6, 7, 8")
    await storage.rebuild_usage()
    assert await place.query("SELECT * FROM usage_hours ORDER BY 1, 2, 3, 4, 5, 6, 7, 8") == before


def test_an_entry_comes_back_as_it_was_written(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            given = msgspec.structs.replace(
                usage(
                    storage.usage_number(),
                    end_user="u1",
                    first_event_ms=3.25,
                    input_audio_tokens=4,
                    output_image_tokens=6,
                    audio_seconds=1.5,
                    characters=9,
                    error="server_error",
                    client="127.0.0.1",
                    response_id="resp_1",
                ),
                parts=(Part(deployment="sim/a", input_tokens=4, estimated=True, cost_nano=9),),
            )
            storage.settle_usage(given)
            [found] = await everything(storage)
            assert found == given

    run(scenario)


def test_entries_of_one_batch_come_back_each_as_it_was_written(place: Place) -> None:
    """Alike or not, and however many."""

    async def scenario() -> None:
        async with place.open() as storage:
            numbers = [storage.usage_number() for _ in range(75)]
            given = [usage(number, request_id=f"req_{number}", output_tokens=number % 97) for number in numbers]
            for at, entry in enumerate(given[40:], 40):
                entry.cost_nano, entry.entry.cost = None, None
                if at % 3:
                    entry.tenant, entry.entry.project = THEIRS, THEIRS.project
            odd = {
                "key": "web",
                "end_user": "u1",
                "model": "b",
                "deployment": "sim/b",
                "endpoint": "responses",
                "stream": False,
                "status": 502,
                "ending": "failed",
                "error": "upstream_error",
                "attempts": 2,
                "audio_seconds": 1.5,
                "characters": 9,
                "estimated": True,
            }
            for at, (name, value) in enumerate(odd.items(), 16):  # one in the window of those that are alike
                setattr(given[at].entry, name, value)
            given[14].key_id = "key_2"
            given[15].provider, given[15].entry.deployment = "lab", "lab/a"
            given[13].admitted_at += 3600
            given[12].entry.attempts = 2
            given[12].parts = (Part(deployment="sim/a", input_tokens=4, estimated=True, cost_nano=9),)
            storage.write_usages(given)
            assert sorted(await everything(storage), key=lambda one: one.number) == given
            await check_sums(storage, place)

    run(scenario)


@pytest.mark.parametrize("name", ["key", "end_user", "model", "deployment", "endpoint", "ending", "error"])
def test_one_entry_that_is_other_than_all_around_it_keeps_its_own_words(place: Place, name: str) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            given = [usage(storage.usage_number(), at=NOON + at) for at in range(48)]
            setattr(given[20].entry, name, "other")
            storage.write_usages(given)
            assert await everything(storage) == given

    run(scenario)


def test_of_many_entries_each_is_admitted_and_settled_once(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            numbers = [storage.usage_number() for _ in range(40)]
            for number in numbers:
                admit(storage, usage(number, settled=False, ending="open"))
            assert {row.entry.ending for row in await everything(storage)} == {"open"}
            for number in numbers[:9]:
                storage.settle_usage(usage(number, output_tokens=1))
            await everything(storage)
            for number in numbers:
                storage.settle_usage(usage(number, output_tokens=2))
            rows = await everything(storage)
            assert [(row.number, row.entry.output_tokens) for row in rows] == [
                (number, 1 if at < 9 else 2) for at, number in enumerate(numbers)
            ]
            await check_sums(storage, place)

    run(scenario)


@pytest.mark.security("SEC-API4-LEDGER")
def test_an_entry_is_written_at_admission_and_settled_once(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            number = storage.usage_number()
            admit(storage, usage(number, settled=False, ending="open"))
            [row] = await everything(storage)
            assert (row.settled_at, row.entry.ending) == (None, "open")
            assert await storage.usage_report(("key",), 0, 3e9, ALL, limit=10) == []
            for count in (30, 40):
                storage.settle_usage(usage(number, output_tokens=count))
                await everything(storage)
            admit(storage, usage(number, settled=False, ending="open"))
            [row] = await everything(storage)
            assert (row.entry.output_tokens, row.entry.ending) == (30, "completed")
            await check_sums(storage, place)

    run(scenario)


@pytest.mark.security("SEC-API4-LEDGER")
def test_text_that_one_engine_does_not_take_costs_no_entry(place: Place) -> None:
    """Clients choose names of end users and models, providers codes of errors; PostgreSQL knows no character U+0000."""

    async def scenario() -> None:
        async with place.open() as storage:
            number = storage.usage_number()
            admit(storage, usage(number, settled=False, ending="open", end_user="a\0b"))
            await everything(storage)
            storage.settle_usage(usage(number, end_user="a\0b", model="m\0", deployment="d\0", error="\0"))
            [row] = await everything(storage, UsageFilter(end_user="a\0b", model="m\0"))
            assert (row.entry.end_user, row.entry.model, row.entry.error) == ("a\ufffdb", "m\ufffd", "\ufffd")
            who = {"organization": row.tenant.organization, "project": row.tenant.project, "end_user": "a\0b"}
            assert (await storage.usage_spent("end_user", who, 0, 3e9))[0] == 1
            [found] = await storage.usage_report(("end_user",), 0, 3e9, UsageFilter(end_user="a\0b"), limit=10)
            assert found.by == ("a\ufffdb",)
            await check_sums(storage, place)

    run(scenario)


@pytest.mark.security("SEC-API4-LEDGER")
def test_names_of_any_length_cost_no_entry(place: Place) -> None:
    """The sums are found by them, and indexes have an end. Random, so that nothing makes them shorter."""

    async def scenario() -> None:
        async with place.open() as storage:
            draw = random.Random(1)
            letters = [chr(draw.randrange(0x10000, 0x2FFFF)) for _ in range(1024)]
            name = "".join(letters)
            given = usage(storage.usage_number(), end_user=name[:256], model=name, deployment=f"lab/{name}")
            storage.settle_usage(given)
            only = UsageFilter(model=name, end_user=name[:256])
            [row] = await everything(storage, only)
            assert name.startswith(row.entry.model)
            assert len(row.entry.model) >= 128
            assert (await storage.usage_report(("model",), 0, 3e9, only, limit=10))[0].requests == 1

    run(scenario)


def test_requests_with_the_same_id_are_different_entries(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as one, place.open() as two:
            for storage in (one, two, one):
                storage.settle_usage(usage(storage.usage_number(), request_id="theirs"))
                await everything(storage)
            assert [row.entry.request_id for row in await everything(one)] == ["theirs"] * 3
            await check_sums(one, place)

    run(scenario)


def test_an_entry_that_is_settled_before_its_batch_is_written_is_one_row(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            for at in range(50):
                number = storage.usage_number()
                admit(storage, usage(number, settled=False, at=NOON + at))
                storage.settle_usage(usage(number, at=NOON + at))
            rows = await everything(storage)
            assert [row.admitted_at for row in rows] == [NOON + at for at in range(50)]
            page = await storage.usage_entries(NOON + 5, NOON + 20, ALL, limit=10)
            assert [row.number for row in page.rows] == [row.number for row in rows[5:15]]
            rest = await storage.usage_entries(NOON + 5, NOON + 20, ALL, after=page.behind, limit=10)
            assert [row.number for row in rest.rows] == [row.number for row in rows[15:20]]
            assert rest.behind is None

    run(scenario)


def test_reports_group_by_every_dimension_and_see_only_what_they_may(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            for number, (tenant, key, model, hours, cost) in enumerate(
                [
                    (OURS, "app", "a", 0, 100),
                    (OURS, "app", "b", 1, 200),
                    (OURS, "web", "b", 25, None),
                    (THEIRS, "app", "a", 0, 1000),
                ]
            ):
                storage.settle_usage(
                    usage(number + 1, tenant=tenant, key=key, model=model, at=NOON + 3600 * hours, cost_nano=cost)
                )

            async def report(*by: str, only: UsageFilter = ALL, since: float = 0, until: float = 3e9) -> list[Any]:
                rows = await storage.usage_report(by, since, until, only, limit=100)
                return [(*row.by, row.requests, row.unpriced, row.cost_nano) for row in rows]

            assert await report("project", "model") == [
                ("airport", "a", 1, 0, 1000),
                ("harbour", "b", 2, 1, 200),
                ("harbour", "a", 1, 0, 100),
            ]
            ours = UsageFilter(organization="acme", project="harbour", key="app")
            assert await report("model", only=ours) == [("b", 1, 0, 200), ("a", 1, 0, 100)]
            assert await report(only=ours, until=NOON + 3600) == [(1, 0, 100)]
            assert await report("hour", since=NOON + 3600) == [
                (str(int(NOON + 3600)), 1, 0, 200),
                (str(int(NOON + 25 * 3600)), 1, 1, 0),
            ]
            for name in ledger.DIMENSIONS:
                assert sum(row[1] for row in await report(name)) == 4
            assert len(await everything(storage, ours)) == 2
            assert len(await everything(storage, UsageFilter(ending="failed"))) == 0
            await check_sums(storage, place)

    run(scenario)


def test_what_a_request_used_on_its_way_counts_where_it_was_used(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            parts = (
                Part(deployment="lab/a", input_tokens=40, cached_tokens=10, output_tokens=5, cost_nano=1_100),
                Part(deployment="lab/a", input_tokens=30, output_tokens=5, cost_nano=400),
                Part(deployment="sim/echo", input_tokens=30, cache_write_tokens=5, output_tokens=10, cost_nano=0),
            )
            fallen = [usage(number, attempts=3) for number in (1, 2)]
            unpriced = usage(3, attempts=3, cost_nano=None)
            lost = usage(5, attempts=2)  # the last provider was asked in vain
            for one in (*fallen, unpriced):
                one.parts = parts
            lost.parts = (Part(deployment="lab/a", input_tokens=100, output_tokens=20, cost_nano=1_500),)
            for one in (*fallen, unpriced, usage(4), lost):
                storage.settle_usage(one)

            async def report(*by: str) -> list[Any]:
                rows = await storage.usage_report(by, 0, 3e9, ALL, limit=9)
                return [
                    (
                        *row.by,
                        row.requests,
                        row.attempts,
                        row.unpriced,
                        row.input_tokens,
                        row.output_tokens,
                        row.cost_nano,
                    )
                    for row in rows
                ]

            for _ in range(2):
                assert await report("provider") == [
                    ("lab", 0, 0, 0, 3 * 70 + 100, 3 * 10 + 20, 2 * 1_500 + 1_500),
                    ("sim", 5, 12, 1, 3 * 30 + 100, 3 * 10 + 20, 1_500),
                ]
                assert [row[0] for row in await report("deployment")] == ["lab/a", "sim/echo"]
                await check_sums(storage, place)  # which makes them anew

    run(scenario)


def test_what_a_dead_process_left_open_is_settled_once_by_those_who_come_after(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as dead:
            made = dead.put_run(new_run(id="resp_cut"))
            dead.append_segment(made, 0, 41, frames_of(0, 41))
            admit(dead, usage(dead.usage_number(), settled=False, ending="open", response_id="resp_cut"))
            admit(dead, usage(dead.usage_number(), settled=False, ending="open"))
            dead.settle_usage(usage(dead.usage_number()))
            await everything(dead)
        async with place.open(estimate=interrupted) as one, place.open(estimate=interrupted) as two:
            number = one.usage_number()
            admit(one, usage(number, settled=False, ending="open"))
            await asyncio.gather(one._round.close_orphans(), two._round.close_orphans())
            await everything(one)
            rows = await everything(two)
            assert [(row.entry.ending, row.entry.output_tokens) for row in rows] == [
                ("interrupted", 41),
                ("interrupted", 0),
                ("completed", 20),
                ("open", 20),
            ]
            one.settle_usage(usage(number))
            await everything(one)
            await check_sums(one, place)

    run(scenario)


def test_who_settles_what_a_dead_process_left_is_told_of_it(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(estimate=interrupted) as storage:
            told: list[Usage] = []
            storage.on_usage_interrupted = told.extend
            async with place.open() as dead:
                number = dead.usage_number()
                admit(dead, usage(number, settled=False, ending="open", end_user="someone"))
                await everything(dead)
            await storage._round.close_orphans()
            [one] = told
            assert (one.number, one.tenant, one.key_id, one.entry.end_user) == (number, OURS, "key_app", "someone")
            assert [one] == [
                msgspec.structs.replace(row, settled_at=one.settled_at) for row in await everything(storage)
            ]
            await storage._round.close_orphans()
            assert len(told) == 1

    run(scenario)


def test_old_entries_leave_and_their_sums_stay(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(usage_age_s=86_400.0) as storage:
            storage.settle_usage(usage(1, at=NOON))
            admit(storage, usage(2, at=NOON, settled=False, ending="open"))
            await storage.sweep()
            assert [row.number for row in await everything(storage)] == [2]
            assert await storage.rebuild_usage() == 0
            [row] = await storage.usage_report((), 0, 3e9, ALL, limit=1)
            assert (row.requests, row.cost_nano) == (1, 1500)

    run(scenario)


@pytest.mark.fault("FAULT-DB-DOWN")
def test_an_outage_loses_and_doubles_nothing_that_the_spool_holds(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch() as (storage, engine):
            numbers = [storage.usage_number() for _ in range(20)]
            for number in numbers:
                admit(storage, usage(number, settled=False, ending="open"))
            engine.is_down = True
            await asyncio.sleep(0.1)
            for number in numbers:
                storage.settle_usage(usage(number))
            await asyncio.sleep(0.1)
            engine.is_down = False
            for _ in range(100):
                if await place.query("SELECT count(*) FROM ledger WHERE settled_at IS NOT NULL") == [(20,)]:
                    break
                await asyncio.sleep(0.05)
            await check_sums(storage, place)
            assert len(await everything(storage)) == 20

    run(scenario)


@pytest.mark.fault("FAULT-DB-DOWN")
@pytest.mark.parametrize("mode", ["fail_open", "fail_closed"])
def test_a_full_spool_takes_no_entry_and_says_so_where_it_must(place: Place, mode: str) -> None:
    async def scenario() -> None:
        async with place.open(spool_bytes=1500, burst=1, when_unavailable=mode, flush_s=9.0) as storage:
            if mode == "fail_closed":
                with pytest.raises(StorageUnavailable):
                    storage.expect_usage(0)
            else:
                storage.expect_usage(0)
            admit(storage, usage(1, settled=False))
            assert await everything(storage) == []

    run(scenario)


def test_a_run_that_is_stored_is_not_needed_for_its_entry(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run(id="resp_1"))
            storage.finish_run(made, ending())
            storage.settle_usage(usage(1, response_id="resp_1"))
            await storage.durable(made)
            assert await storage.delete_run(OURS, "resp_1")
            assert len(await everything(storage)) == 1

    run(scenario)
