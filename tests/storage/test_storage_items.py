"""Items are paged as clients ask, and a chain of runs is a tree that is walked, not copied."""

import random

import pytest

from tests.storage.stage import OURS, THEIRS, Place, ending, item, new_run, put, run
from tidegate.storage.records import Chain, CursorUnknown, HistoryIncomplete, HistoryTooLarge, Ref, StoredItem
from tidegate.storage.storage import Storage


def ids(found: list[StoredItem]) -> list[str]:
    return [each.id for each in found]


async def paged(storage: Storage, run_id: str, scope: str, *, limit: int, descending: bool) -> list[str]:
    """Every page, put together."""
    found: list[str] = []
    after: str | None = None
    while True:
        page = await storage.list_items(
            OURS,
            run_id,
            scope,  # type: ignore[arg-type]
            after=after,
            limit=limit,
            descending=descending,
        )
        assert page is not None
        assert len(page.data) <= limit
        found += ids(page.data)
        if not page.has_more:
            return found
        after = found[-1]


def test_pages_of_any_size_make_the_whole_list(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run(), [item(f"{n}", f"in_{n}") for n in range(7)])
            storage.finish_run(made, ending(), [item(f"{n}", f"out_{n}") for n in range(4)])
            for scope, count in (("input", 7), ("output", 4), ("context", 7)):
                prefix = "out" if scope == "output" else "in"
                wanted = [f"{prefix}_{number}" for number in range(count)]
                for limit in (1, 3, 7, 100):
                    for descending in (False, True):
                        found = await paged(storage, made.new.id, scope, limit=limit, descending=descending)
                        assert found == (wanted[::-1] if descending else wanted)

    run(scenario)


def test_a_page_starts_behind_the_item_that_is_named(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run(), [item(f"{n}", f"in_{n}") for n in range(5)])
            page = await storage.list_items(OURS, made.new.id, after="in_1", limit=2, descending=False)
            assert page is not None
            assert (ids(page.data), page.has_more) == (["in_2", "in_3"], True)
            page = await storage.list_items(OURS, made.new.id, after="in_1", limit=2)
            assert page is not None
            assert (ids(page.data), page.has_more) == (["in_0"], False)
            page = await storage.list_items(OURS, made.new.id, after="in_0")
            assert page is not None
            assert (page.data, page.has_more) == ([], False)
            with pytest.raises(CursorUnknown, match="out_1"):
                await storage.list_items(OURS, made.new.id, after="out_1")

    run(scenario)


def test_an_id_that_a_client_sent_twice_does_not_send_paging_in_circles(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run(), [item("1", "a"), item("2", "b"), item("3", "a"), item("4", "c")])
            for descending in (False, True):
                found = await paged(storage, made.new.id, "input", limit=1, descending=descending)
                assert found[-1] == ("a" if descending else "c")

    run(scenario)


def test_items_are_found_by_their_ids_and_the_newest_counts(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            first = storage.put_run(new_run(), [item("old", "msg_same"), item("x", "msg_x")])
            second = storage.put_run(new_run(previous=first.ref), [item("new", "msg_same")])
            storage.finish_run(second, ending(), [item("said", "msg_out")])
            foreign = storage.put_run(
                new_run(tenant=THEIRS), [item("theirs", "msg_same"), item("theirs", "msg_theirs")]
            )
            await storage.durable(foreign)
            found = await storage.find_items(OURS, ["msg_same", "msg_x", "msg_out", "msg_theirs", "msg_none", "msg_x"])
            assert set(found) == {"msg_same", "msg_x", "msg_out"}
            assert b'"new"' in found["msg_same"].content
            assert [found[name].role for name in ("msg_x", "msg_out")] == ["input", "output"]

    run(scenario)


def test_what_was_just_queued_is_found_too(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(flush_s=5.0) as storage:
            storage.put_run(new_run(), [item("x", "msg_x")])
            assert set(await storage.find_items(OURS, ["msg_x"])) == {"msg_x"}

    run(scenario, within_s=4)


def test_a_tree_of_fifty_turns_with_branches_gives_each_leaf_its_own_history(place: Place) -> None:
    async def scenario() -> None:
        draw = random.Random(7)
        async with place.open() as storage:
            histories: dict[str, list[str]] = {}
            refs: dict[str, Ref] = {}
            trunk = ""
            for turn in range(50):
                parent = trunk
                for branch in range(3 if turn % 10 == 5 else 1):
                    made = storage.put_run(
                        new_run(previous=refs.get(parent)), [item("q") for _ in range(draw.randint(1, 3))]
                    )
                    outputs = [item("a") for _ in range(draw.randint(0, 3))]
                    storage.finish_run(made, ending(), outputs)
                    page = await storage.list_items(OURS, made.new.id, "input", descending=False)
                    assert page is not None
                    histories[made.new.id] = [*histories.get(parent, []), *ids(page.data), *(one.id for one in outputs)]
                    refs[made.new.id] = made.ref
                    trunk = made.new.id if branch == 0 else trunk
            assert max(len(one) for one in histories.values()) > 100
            for run_id, history in histories.items():
                chain = await storage.read_chain(OURS, run_id)
                assert isinstance(chain, Chain)
                assert [each.id for link in chain.links for each in link.items] == history
                assert chain.ref == refs[run_id]
            chain = await storage.read_chain(OURS, trunk)
            assert chain is not None
            assert len(chain.links) == 50
            # The context of a run is its chain without its own output.
            outputs_of_leaf = [one.id for one in chain.links[-1].items if one.role == "output"]
            context = await paged(storage, trunk, "context", limit=17, descending=False)
            assert context == histories[trunk][: len(histories[trunk]) - len(outputs_of_leaf)]
            assert await paged(storage, trunk, "context", limit=100, descending=True) == context[::-1]
            # A hundred turns are not a hundred copies.
            assert await place.count("items") == len({one for history in histories.values() for one in history})

    run(scenario)


def test_a_history_with_a_hole_is_refused(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            first = put(storage)
            second = put(storage, previous=first.ref)
            third = put(storage, previous=second.ref)
            await storage.delete_run(OURS, first.new.id)
            with pytest.raises(HistoryIncomplete) as caught:
                await storage.read_chain(OURS, third.new.id)
            assert (caught.value.gone, caught.value.following) == (first.new.id, second.new.id)
            assert await storage.read_chain(OURS, first.new.id) is None
            # Its own items can still be looked at.
            assert (await storage.list_items(OURS, third.new.id)).data  # type: ignore[union-attr]

    run(scenario)


@pytest.mark.parametrize("keys", [(), ("a-master-key-0123456789abcdef0123",)], ids=["plain", "sealed"])
def test_a_chain_that_began_in_a_conversation_begins_with_what_was_seen_of_it(
    place: Place, keys: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        async with place.open(*keys) as storage:
            old = [item(f"old {number}") for number in range(3)]
            held = await storage.create_conversation(OURS, "conv_1", created_at=1.0, metadata=b"", items=old)
            first = storage.put_run(new_run(conversation=held, first_position=3), [item("asked")])
            await storage.add_conversation_items(OURS, "conv_1", [item("came meanwhile")])
            said = item("said")
            storage.finish_run(first, ending(), [said], [said])
            second = put(storage, previous=first.ref)
            silent = storage.put_run(new_run(conversation=held, first_position=5))
            storage.finish_run(silent, ending("failed"))
            chain = await storage.read_chain(OURS, second.new.id)
            assert chain is not None
            assert [one.content for one in chain.before] == [one.content for one in old]
            assert [len(link.items) for link in chain.links] == [2, 2]
            whole = [one.id for one in (*chain.before, *chain.links[0].items, *chain.links[1].items[:1])]
            for descending in (False, True):
                for limit in (1, 2, 4, 9):
                    found = await paged(storage, second.new.id, "context", limit=limit, descending=descending)
                    assert found == (whole[::-1] if descending else whole)
            alone = await storage.read_chain(OURS, silent.new.id)
            assert alone is not None
            assert len(alone.before) == 5
            with pytest.raises(HistoryTooLarge):
                await storage.read_chain(OURS, second.new.id, max_bytes=30)
            await storage.delete_conversation(OURS, "conv_1")
            for call in (storage.read_chain(OURS, second.new.id), storage.list_items(OURS, second.new.id, "context")):
                with pytest.raises(HistoryIncomplete) as caught:
                    await call
                assert (caught.value.gone, caught.value.following) == ("conv_1", first.new.id)
            assert len(await paged(storage, second.new.id, "input", limit=9, descending=False)) == 1

    run(scenario)


def test_a_history_over_the_cap_is_refused_before_it_is_read(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            first = storage.put_run(new_run(), [item("x" * 100_000)])
            storage.finish_run(first, ending())
            second = put(storage, previous=first.ref)
            with pytest.raises(HistoryTooLarge, match="at most 100000"):
                await storage.read_chain(OURS, second.new.id, max_bytes=100_000)
            assert await storage.read_chain(OURS, second.new.id, max_bytes=110_000) is not None

    run(scenario)


def test_a_chain_tells_how_each_run_ended(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            first = storage.put_run(new_run())
            storage.finish_run(first, ending("incomplete"))
            second = storage.put_run(new_run(previous=first.ref))
            chain = await storage.read_chain(OURS, second.new.id)
            assert chain is not None
            assert [link.status for link in chain.links] == ["incomplete", "in_progress"]
            assert (await storage.get_run(OURS, second.new.id)).previous_id == first.new.id  # type: ignore[union-attr]

    run(scenario)


def test_a_name_may_hold_what_no_column_takes(place: Place) -> None:
    """PostgreSQL's text has no NUL. Clients give items their ids, name models, and ask for what does not exist."""
    odd = "msg_a\0b"

    async def scenario() -> None:
        async with place.open() as storage:
            made = storage.put_run(new_run(model="sim/\0"), [item("ask", odd), item("more", "msg_plain")])
            storage.finish_run(made, ending())
            await storage.durable(made)
            page = await storage.list_items(OURS, made.new.id, "input", after=odd, descending=False)
            assert page is not None
            assert ids(page.data) == ["msg_plain"]

            ref = await storage.create_conversation(OURS, "conv_a", created_at=0, items=[item("ask", odd)])
            found = await storage.get_conversation_item(OURS, ref.id, odd)
            assert found is not None
            assert found.content == item("ask", odd).content
            assert await storage.delete_conversation_item(OURS, ref.id, odd) is not None

            name = "resp_\0"
            assert await storage.get_run(OURS, name) is None
            assert await storage.read_chain(OURS, name) is None
            assert await storage.read_journal(OURS, name) is None
            assert await storage.list_items(OURS, name) is None
            assert await storage.find_items(OURS, [name]) == {}
            assert not await storage.request_cancel(OURS, name)
            assert not await storage.delete_run(OURS, name)
            assert await storage.get_conversation(OURS, name) is None
            assert await storage.change_conversation(OURS, name, b"{}") is None
            assert await storage.add_conversation_items(OURS, name, [item("ask")]) is None
            assert not await storage.delete_conversation(OURS, name)

    run(scenario)
