"""A conversation keeps its items in order, for as long as it exists."""

import asyncio
import json

import pytest

from tests.storage.stage import OURS, Place, ending, execute, item, new_run, run
from tidegate.storage.records import CursorUnknown, HistoryTooLarge, ItemExists


def test_a_conversation_is_made_read_changed_and_deleted(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = await storage.create_conversation(
                OURS,
                "conv_1",
                created_at=5.0,
                key="app",
                metadata=b'{"a":"b"}',
                items=[item("x", "i1"), item("y", "i2")],
            )
            found = await storage.get_conversation(OURS, "conv_1")
            assert found is not None
            assert (found.ref, found.created_at, found.metadata) == (made, 5.0, b'{"a":"b"}')
            changed = await storage.change_conversation(OURS, "conv_1", b"{}")
            assert changed is not None
            assert changed.metadata == b"{}" == (await storage.get_conversation(OURS, "conv_1")).metadata  # type: ignore[union-attr]
            added = await storage.add_conversation_items(OURS, "conv_1", [item("z", "i3")])
            assert added is not None
            assert [(one.id, one.position) for one in added] == [("i3", 2)]
            whole = await storage.read_conversation(OURS, "conv_1")
            assert whole is not None
            assert [one.id for one in whole[1]] == ["i1", "i2", "i3"]
            assert (await storage.stored(OURS, "app")).size == sum(len(one.content) for one in whole[1]) + len(b"{}")
            assert await storage.delete_conversation(OURS, "conv_1") is True
            assert await storage.delete_conversation(OURS, "conv_1") is False
            assert await storage.get_conversation(OURS, "conv_1") is None
            assert await storage.add_conversation_items(OURS, "conv_1", [item("z")]) is None
            assert [await place.count(table) for table in ("conversation_items", "doomed")] == [0, 0]
            assert (await storage.stored(OURS)).size == 0

    run(scenario)


def test_items_are_paged_read_and_deleted_one_by_one(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            await storage.create_conversation(
                OURS, "conv_1", created_at=1.0, items=[item("x", f"i{n}") for n in range(5)]
            )
            page = await storage.list_conversation_items(OURS, "conv_1", limit=2)
            assert page is not None
            assert ([one.id for one in page.data], page.has_more) == (["i4", "i3"], True)
            page = await storage.list_conversation_items(OURS, "conv_1", after="i3", limit=3)
            assert page is not None
            assert ([one.id for one in page.data], page.has_more) == (["i2", "i1", "i0"], False)
            page = await storage.list_conversation_items(OURS, "conv_1", after="i1", limit=2, descending=False)
            assert page is not None
            assert ([one.id for one in page.data], page.has_more) == (["i2", "i3"], True)
            with pytest.raises(CursorUnknown):
                await storage.list_conversation_items(OURS, "conv_1", after="i9")
            assert (await storage.get_conversation_item(OURS, "conv_1", "i2")).position == 2  # type: ignore[union-attr]
            before = (await storage.stored(OURS)).size
            assert await storage.delete_conversation_item(OURS, "conv_1", "i2") is not None
            assert await storage.delete_conversation_item(OURS, "conv_1", "i2") is None
            assert await storage.get_conversation_item(OURS, "conv_1", "i2") is None
            assert (await storage.stored(OURS)).size < before
            added = await storage.add_conversation_items(OURS, "conv_1", [item("y", "i5")])
            assert added is not None
            assert added[0].position == 5

    run(scenario)


def test_a_run_adds_its_turn_when_it_ends(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(flush_s=5.0) as storage:
            talk = await storage.create_conversation(OURS, "conv_1", created_at=1.0)
            made = storage.put_run(new_run(conversation=talk), [item("ask", "i1")])
            assert (await storage.read_conversation(OURS, "conv_1"))[1] == []  # type: ignore[index]
            answer = item("answer", "i2")
            storage.finish_run(made, ending(), [answer], append=[item("ask", "i1"), answer])
            whole = await storage.read_conversation(OURS, "conv_1")
            assert whole is not None
            assert [one.id for one in whole[1]] == ["i1", "i2"]
            assert (await storage.get_run(OURS, made.new.id)).conversation_id == "conv_1"  # type: ignore[union-attr]
            # The turn stays when its response is deleted.
            await storage.delete_run(OURS, made.new.id)
            assert len((await storage.read_conversation(OURS, "conv_1"))[1]) == 2  # type: ignore[index]

    run(scenario, within_s=8)


def test_a_conversation_that_was_deleted_meanwhile_takes_nothing_and_the_run_is_kept(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            talk = await storage.create_conversation(OURS, "conv_1", created_at=1.0)
            made = storage.put_run(new_run(conversation=talk))
            await storage.delete_conversation(OURS, "conv_1")
            # Its number must not come back for another one.
            other = await storage.create_conversation(OURS, "conv_2", created_at=1.0)
            assert other.number != talk.number
            storage.finish_run(made, ending(), [item("a", "i1")], append=[item("a", "i1")])
            assert (await storage.get_run(OURS, made.new.id)).status == "completed"  # type: ignore[union-attr]
            assert await place.count("conversation_items") == 0

    run(scenario)


def test_turns_that_end_at_once_in_two_processes_get_different_places(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as one, place.open() as two:
            await one.create_conversation(OURS, "conv_1", created_at=1.0)
            await asyncio.gather(
                *(
                    storage.add_conversation_items(OURS, "conv_1", [item("x"), item("y")])
                    for _ in range(10)
                    for storage in (one, two)
                )
            )
            whole = await one.read_conversation(OURS, "conv_1")
            assert whole is not None
            assert [each.position for each in whole[1]] == list(range(40))

    run(scenario)


def test_an_id_names_one_item_of_a_conversation_whoever_adds_it(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as one, place.open() as other:
            made = await one.create_conversation(
                OURS, "conv_1", created_at=1.0, metadata=b"", items=[item("first", "msg_1")]
            )
            runs = [
                (storage, storage.put_run(new_run(conversation=made))) for storage in (one, other) for _ in range(3)
            ]
            for number, (storage, live) in enumerate(runs):
                turn = [item(f"asked {number}", "msg_2"), item(f"said {number}", "msg_2")]
                storage.finish_run(live, ending(), turn[1:], turn)
            await asyncio.gather(one.durable(runs[0][1]), *(storage.durable(live) for storage, live in runs))
            with pytest.raises(ItemExists) as caught:
                await one.add_conversation_items(OURS, "conv_1", [item("new"), item("again", "msg_1")])
            assert caught.value.id == "msg_1"
            whole = await one.read_conversation(OURS, "conv_1")
            assert whole is not None
            names = [each.id for each in whole[1]]
            assert len(set(names)) == len(names) == 13
            assert {"msg_1", "msg_2"} < set(names)
            assert all(name.startswith("msg_") for name in names)
            assert all(json.loads(each.content)["id"] == each.id for each in whole[1])

    run(scenario)


@pytest.mark.parametrize("descending", [False, True])
def test_pages_come_to_an_end_where_an_older_version_let_ids_stand_twice(place: Place, descending: bool) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            items = [item(str(number)) for number in range(4)]
            await storage.create_conversation(OURS, "conv_1", created_at=1.0, metadata=b"", items=items)
            await execute(place, "UPDATE conversation_items SET id = 'same' WHERE position <> 1")
            after: str | None = None
            for _ in range(4):
                page = await storage.list_conversation_items(
                    OURS, "conv_1", after=after, limit=1, descending=descending
                )
                assert page is not None
                if not page.has_more:
                    return
                after = page.data[-1].id
            pytest.fail("it goes round")

    run(scenario)


def test_a_conversation_over_the_cap_is_refused(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            await storage.create_conversation(OURS, "conv_1", created_at=1.0, items=[item("x" * 5000)])
            with pytest.raises(HistoryTooLarge):
                await storage.read_conversation(OURS, "conv_1", max_bytes=5000)

    run(scenario)


@pytest.mark.parametrize("keys", [(), ("a-master-key-0123456789abcdef01234567",)], ids=["plain", "sealed"])
def test_metadata_counts_with_the_items(place: Place, keys: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with place.open(*keys) as storage:
            sizes = []
            await storage.create_conversation(OURS, "conv_1", created_at=5.0, key="app", metadata=b"m" * 1000)
            sizes.append((await storage.stored(OURS, "app")).size)
            for size in (9000, 10, 0, 500):
                await storage.change_conversation(OURS, "conv_1", b"n" * size)
                sizes.append((await storage.stored(OURS, "app")).size)
            await asyncio.gather(*(storage.change_conversation(OURS, "conv_1", b"o" * size) for size in (7, 8, 9)))
            found = await storage.get_conversation(OURS, "conv_1")
            assert found is not None
            assert (await storage.stored(OURS, "app")).size == len(found.metadata)
            assert sizes == [1000, 9000, 10, 0, 500]
            await storage.delete_conversation(OURS, "conv_1")
            assert (await storage.stored(OURS, "app")).size == 0

    run(scenario)


def test_what_two_processes_delete_or_change_at_once_is_counted_once(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as one, place.open() as two:
            for number in range(12):
                name = f"conv_{number}"
                items = [item("x" * 1000, f"item_{number}"), item("y")]
                await one.create_conversation(OURS, name, created_at=5.0, key="app", metadata=b"{}", items=items)
                left = await asyncio.gather(
                    *(each.delete_conversation_item(OURS, name, f"item_{number}") for each in (one, two)),
                    *(each.change_conversation(OURS, name, b"m" * (50 + number)) for each in (one, two)),
                )
                assert sorted(found is None for found in left) == [False, False, False, True]
            expected = sum([len(item("y").content) + 50 + number for number in range(12)])
            assert (await one.stored(OURS, "app")).size == expected
            assert await place.query("SELECT sum(bytes) FROM conversations") == [(expected,)]

    run(scenario)
