"""A run is begun, streamed and ended once, and read as it was written."""

import asyncio
import tracemalloc

import msgspec
import pytest

from tests.storage.stage import HOUR_S, OURS, THEIRS, Place, ending, frames_of, item, new_run, put, run, until
from tidegate.storage.items import Scope
from tidegate.storage.records import HistoryIncomplete, Run
from tidegate.storage.storage import Storage
from tidegate.wire.errors import StorageUnavailable

SCOPES: tuple[Scope, ...] = ("input", "output", "context")


@pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "in two"])
def test_a_run_comes_back_as_it_was_written(place: Place, at_once: bool) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            new = new_run(
                background=True,
                stream=True,
                created_at=1_790_000_000.25,
                kept_s=1000.0,
                deployment="sim/echo",
                request=b'{"temperature":0.5}',
            )
            made = storage.put_run(new, [item("ask")])
            if not at_once:
                await storage.durable(made)
            storage.append_segment(made, 0, 7, frames_of(0, 7))
            done = ending(
                completed_at=1_790_000_009.5,
                deployment="lab/qwen3",
                usage=b'{"total_tokens":3}',
                answer=b'{"service_tier":"default"}',
            )
            storage.finish_run(made, done, [item("answer")])
            await storage.durable(made)
            found = await storage.get_run(OURS, new.id)
            assert found is not None
            assert found.ref == made.ref
            assert (found.tenant, found.key, found.dialect, found.model) == (OURS, "app", "responses", "sim/echo")
            assert (found.status, found.background, found.stream) == ("completed", True, True)
            assert (found.created_at, found.completed_at) == (new.created_at, done.completed_at)
            [(now,)] = await place.query(
                "SELECT extract(epoch FROM clock_timestamp())::float"
                if place.engine == "postgresql"
                else "SELECT (julianday('now') - 2440587.5) * 86400.0"
            )
            assert found.expires_at is not None
            assert found.expires_at - now == pytest.approx(1000, abs=5)  # whatever our own clock says
            assert found.deployment == "lab/qwen3"
            assert (found.request, found.usage, found.answer) == (new.request, done.usage, done.answer)
            assert (found.error, found.error_code, found.last_sequence) == (b"", "", 7)
            assert found.size == made.size > 100

    run(scenario)


def test_a_run_that_has_ended_is_the_same_as_one_that_was_begun_first(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            talk = [await storage.create_conversation(OURS, f"conv_{number}", created_at=0.0) for number in (1, 2)]
            done = ending(completed_at=1_790_000_009.5, answer=b'{"output":[]}', error_code="late")
            asked, said = [item("ask", "msg_1"), item("more", "msg_2")], [item("answer", "msg_3")]
            news = [new_run(conversation=one, first_position=3, created_at=7.0, kept_s=None) for one in talk]
            begun = storage.put_run(news[0], asked)
            storage.finish_run(begun, done, said, [*asked, *said])
            ended = storage.put_ended_run(news[1], asked, done, said, [*asked, *said])
            assert ended.size == begun.size
            # None of both is ended again, and nothing is added to them.
            for made in (begun, ended):
                storage.append_segment(made, 0, 1, frames_of(0, 1))
                storage.finish_run(made, ending("failed"))
            one, other = [await storage.get_run(OURS, new.id) for new in news]
            assert one is not None
            assert other is not None
            own = {"ref": begun.ref, "conversation_id": "conv_1"}
            assert msgspec.structs.replace(other, **own) == one
            assert (other.status, other.completed_at, other.begun) == ("completed", 1_790_000_009.5, done.answer)
            pages = [await storage.list_items(OURS, new.id, scope) for new in news for scope in ("input", "output")]
            assert pages[:2] == pages[2:]
            assert [page and [(one.id, one.position) for one in page.data] for page in pages[2:]] == [
                [("msg_2", 4), ("msg_1", 3)],
                [("msg_3", 5)],
            ]
            for number in (1, 2):
                kept = await storage.list_conversation_items(OURS, f"conv_{number}")
                assert kept is not None
                assert [one.id for one in kept.data] == ["msg_3", "msg_2", "msg_1"]
            assert (await storage.stored(OURS, "app")).runs == 2

    run(scenario)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
def test_any_number_of_runs_goes_into_one_batch(place: Place, count: int) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = [
                storage.put_ended_run(new_run(), [item(f"ask {number}")], ending(), [item("a"), item("b")])
                for number in range(count)
            ]
            await storage.durable(made[-1])
            assert await place.count("runs") == count
            assert await place.count("items") == 3 * count
            for number, one in enumerate(made):
                page = await storage.list_items(OURS, one.new.id, "input")
                assert page is not None
                assert f'"ask {number}"'.encode() in page.data[0].content

    run(scenario)


def test_what_was_just_written_is_read_without_waiting_for_the_writer(place: Place) -> None:
    """A client asks for the response the moment it has its id."""

    async def scenario() -> None:
        async with place.open(flush_s=5.0) as storage:
            made = storage.put_run(new_run())
            assert (await storage.get_run(OURS, made.new.id)).status == "in_progress"  # type: ignore[union-attr]
            storage.append_segment(made, 0, 3, frames_of(0, 3))
            journal = await storage.read_journal(OURS, made.new.id)
            assert journal is not None
            assert [segment.frames for segment in journal.segments] == [frames_of(0, 3)]
            storage.finish_run(made, ending("incomplete"))
            assert (await storage.get_run(OURS, made.new.id)).status == "incomplete"  # type: ignore[union-attr]

    run(scenario, within_s=4)


def test_a_run_ends_once(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run())
            storage.finish_run(made, ending("completed"), [item("first")])
            storage.finish_run(made, ending("failed", error_code="late"), [item("second")])
            storage.append_segment(made, 0, 0, b"late")
            await storage.durable(made)
            found = await storage.get_run(OURS, made.new.id)
            assert found is not None
            assert (found.status, found.error_code, found.last_sequence) == ("completed", "", None)
            assert await place.count("items") == 1
            assert await place.count("segments") == 0

    run(scenario)


@pytest.mark.parametrize("status", ["completed", "failed", "incomplete", "cancelled"])
def test_the_ending_tells_how(place: Place, status: str) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run())
            storage.finish_run(made, ending(status, error=b'{"code":"server_error"}', error_code="upstream_broken"))
            found = await storage.get_run(OURS, made.new.id)
            assert found is not None
            assert (found.status, found.error, found.error_code) == (
                status,
                b'{"code":"server_error"}',
                "upstream_broken",
            )

    run(scenario)


def test_the_journal_is_read_from_any_number_in_pieces_of_any_size(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run(stream=True))
            widths = [1 + number % 5 for number in range(150)]
            behind = 0
            for width in widths:
                storage.append_segment(made, behind, behind + width - 1, frames_of(behind, behind + width - 1))
                behind += width
            storage.finish_run(made, ending())
            for after in (-1, 0, 1, 2, behind // 2, behind - 2, behind - 1, behind + 10):
                for max_bytes in (1, 700, 1024**2):
                    found, reads, at = b"", 0, after
                    while True:
                        journal = await storage.read_journal(OURS, made.new.id, after=at, max_bytes=max_bytes)
                        assert journal is not None
                        assert (journal.status, journal.last_sequence) == ("completed", behind - 1)
                        found += b"".join(segment.frames for segment in journal.segments)
                        reads += 1
                        if not journal.has_more:
                            break
                        at = journal.segments[-1].last
                    assert frames_of(0, behind - 1).endswith(found)
                    assert found.endswith(frames_of(after + 1, behind - 1))
                    # Never more than the segment that holds the number asked for.
                    assert len(found) - len(frames_of(after + 1, behind - 1)) < len(frames_of(behind - 5, behind - 1))
                    assert reads < len(widths) + 2

    run(scenario)


@pytest.mark.fault("FAULT-SLOW-READER")
def test_no_more_of_the_journal_is_read_than_was_asked_for(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run(stream=True))
            for number in range(40):
                storage.append_segment(made, number, number, b"%02d" % number * 50_000)
            storage.finish_run(made, ending())
            await storage.durable(made)
            tracemalloc.start()
            try:
                journal = await storage.read_journal(OURS, made.new.id, max_bytes=150_000)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert journal is not None
            assert [segment.first for segment in journal.segments] == [0, 1]
            assert journal.has_more
            assert peak < 1_000_000, "the whole journal was fetched"

    run(scenario)


def test_interleaved_runs_keep_their_own_frames(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = [storage.put_run(new_run()) for _ in range(20)]
            for number in range(30):
                for one in made:
                    storage.append_segment(one, number, number, b"%d of %d\n" % (number, one.number))
                if number % 7 == 0:
                    await storage.durable(made[0])
            for one in made:
                storage.finish_run(one, ending())
                journal = await storage.read_journal(OURS, one.new.id)
                assert journal is not None
                assert b"".join(segment.frames for segment in journal.segments) == b"".join(
                    b"%d of %d\n" % (number, one.number) for number in range(30)
                )

    run(scenario)


def test_a_deleted_run_is_gone_with_all_that_belonged_to_it(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made, kept = put(storage, segments=1200, inputs=3), put(storage)
            await storage.claim(OURS, "k", digest=b"d", run_id=made.new.id, kept_s=HOUR_S)
            assert await storage.delete_run(OURS, made.new.id) is True
            assert await storage.delete_run(OURS, made.new.id) is False
            assert await storage.get_run(OURS, made.new.id) is None
            assert await storage.read_journal(OURS, made.new.id) is None
            assert await storage.list_items(OURS, made.new.id) is None
            assert await storage.find_items(OURS, [made.new.id]) == {}
            counts = [await place.count(table) for table in ("runs", "items", "segments", "idempotency", "doomed")]
            assert counts == [1, 2, 2, 0, 0]
            assert (await storage.get_run(OURS, kept.new.id)).status == "completed"  # type: ignore[union-attr]

    run(scenario)


def test_deleting_a_live_run_stops_its_writing(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run(), [item("ask")])
            storage.append_segment(made, 0, 0, b"x")
            assert await storage.delete_run(OURS, made.new.id) is True
            storage.append_segment(made, 1, 1, b"y")
            storage.finish_run(made, ending(), [item("answer")])
            other = put(storage)
            await storage.durable(other)
            assert await storage.get_run(OURS, made.new.id) is None
            assert [await place.count(table) for table in ("runs", "items", "segments", "doomed")] == [1, 2, 2, 0]
            with pytest.raises(StorageUnavailable):
                await storage.durable(made)

    run(scenario)


def test_what_another_process_still_writes_to_a_deleted_run_goes_too(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as writer, place.open() as other:
            made = writer.put_run(new_run(), [item("ask")])
            writer.append_segment(made, 0, 0, b"x")
            await writer.durable(made)
            assert await other.delete_run(OURS, made.new.id) is True
            writer.append_segment(made, 1, 1, b"y")
            await writer.durable(made)
            writer.finish_run(made, ending(), [item("answer")])
            await until(lambda: made.lost)
            await other.sweep()
            assert [await place.count(table) for table in ("runs", "items", "segments", "doomed")] == [0, 0, 0, 0]

    run(scenario)


def test_abandoning_a_run_leaves_nothing(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run(), [item("ask")])
            await storage.durable(made)
            storage.append_segment(made, 0, 0, b"x")
            storage.abandon(made)
            storage.finish_run(made, ending())
            await storage.durable(put(storage))
            assert await storage.get_run(OURS, made.new.id) is None
            await storage.sweep()
            assert [await place.count(table) for table in ("runs", "items", "segments", "doomed")] == [1, 2, 2, 0]

    run(scenario)


def test_numbers_never_run_out_and_never_repeat(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.storage.storage.BLOCK", 300)

    async def scenario() -> None:
        numbers: list[int] = []

        async def fill(storage: Storage) -> None:
            for number in range(1000):
                made = storage.put_run(new_run())
                assert not made.lost
                numbers.append(made.number)
                if number % 100 == 0:
                    await storage.durable(made)

        async with place.open() as one, place.open() as two:
            await asyncio.gather(fill(one), fill(two))
        assert len(set(numbers)) == 2000

    run(scenario)


@pytest.mark.security("SEC-API1-PREDICATE")
def test_no_function_shows_or_changes_what_belongs_to_another_tenant(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = put(storage, kept_s=None)
            live: Run = storage.put_run(new_run())
            asked = (await storage.list_items(OURS, made.new.id)).data[0]  # type: ignore[union-attr]
            talk = await storage.create_conversation(
                OURS, "conv_1", created_at=1.0, metadata=b"{}", items=[item("x", "i1")]
            )
            await storage.claim(OURS, "name", digest=b"d", run_id="resp_x", kept_s=HOUR_S)
            # A tenant that has never stored anything is unknown, and would find nothing for that reason alone.
            assert (await storage.claim(THEIRS, "own", digest=b"d", run_id="resp_t", kept_s=HOUR_S)).is_new
            ids = (made.new.id, live.new.id)
            before = [
                await place.query(f"SELECT * FROM {table} ORDER BY 1") for table in ("runs", "items", "conversations")
            ]
            for run_id in ids:
                assert await storage.get_run(THEIRS, run_id) is None
                assert await storage.read_journal(THEIRS, run_id) is None
                assert await storage.read_chain(THEIRS, run_id) is None
                for scope in SCOPES:
                    assert await storage.list_items(THEIRS, run_id, scope) is None
                assert await storage.request_cancel(THEIRS, run_id) is False
                assert await storage.delete_run(THEIRS, run_id) is False
            assert await storage.find_items(THEIRS, [asked.id, "i1"]) == {}
            assert (await storage.stored(THEIRS)).runs == (await storage.stored(THEIRS, "app")).size == 0
            assert await storage.get_conversation(THEIRS, talk.id) is None
            assert await storage.read_conversation(THEIRS, talk.id) is None
            assert await storage.list_conversation_items(THEIRS, talk.id) is None
            assert await storage.get_conversation_item(THEIRS, talk.id, "i1") is None
            assert await storage.change_conversation(THEIRS, talk.id, b"[]") is None
            assert await storage.add_conversation_items(THEIRS, talk.id, [item("y")]) is None
            assert await storage.delete_conversation_item(THEIRS, talk.id, "i1") is None
            assert await storage.delete_conversation(THEIRS, talk.id) is False
            # The same key of another tenant is another key.
            assert (await storage.claim(THEIRS, "name", digest=b"e", run_id="resp_y", kept_s=HOUR_S)).is_new
            storage.settle_claim(THEIRS, "name", "resp_x", 200)
            storage.release_claim(THEIRS, "name", "resp_x")
            claim = await storage.claim(OURS, "name", digest=b"d", run_id="resp_z", kept_s=HOUR_S)
            assert (claim.is_new, claim.run_id, claim.status) == (False, "resp_x", None)
            after = [
                await place.query(f"SELECT * FROM {table} ORDER BY 1") for table in ("runs", "items", "conversations")
            ]
            assert before == after

    run(scenario)


@pytest.mark.security("SEC-API1-PREDICATE")
def test_a_run_that_names_a_parent_of_another_tenant_does_not_reach_it(place: Place) -> None:
    """Even if a caller mixed tenants up, the chain ends there."""

    async def scenario() -> None:
        async with place.open() as storage:
            foreign = put(storage, tenant=THEIRS)
            made = put(storage, previous=foreign.ref)
            with pytest.raises(HistoryIncomplete):
                await storage.list_items(OURS, made.new.id, "context")
            with pytest.raises(HistoryIncomplete):
                await storage.read_chain(OURS, made.new.id)

    run(scenario)
