"""With a master key no content lies readable in the database, and keys can be changed without losing any."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.storage.stage import HOUR_S, OURS, Place, ending, execute, item, new_run, run
from tidegate.config.secret import Secret
from tidegate.storage.crypto import Box, Damaged
from tidegate.storage.records import Run, StorageUnusable, Tenant
from tidegate.storage.storage import Storage
from tidegate.wire.errors import Internal

CANARY = b"CANARY-8d1f"
FIRST, SECOND, THIRD = (
    "first master key 0123456789abcdef",
    "second master key 0123456789abcdef",
    "third master key 0123456789abcdef",
)


async def plant(storage: Storage, suffix: str = "") -> Run:
    """Put the canary wherever content goes."""
    text = CANARY.decode()
    talk = await storage.create_conversation(
        OURS, f"conv_1{suffix}", created_at=1.0, metadata=b'{"a":"%b"}' % CANARY, items=[item(text, f"i_talk{suffix}")]
    )
    made = storage.put_run(new_run(request=CANARY, conversation=talk), [item(text, f"i_ask{suffix}")])
    storage.append_segment(made, 0, 0, b"data: %b\n\n" % CANARY)
    storage.finish_run(
        made,
        ending("failed", answer=CANARY, error=CANARY),
        [item(text, f"i_answer{suffix}")],
        append=[item(text, f"i_turn{suffix}")],
    )
    await storage.claim(OURS, f"k{suffix}", digest=b"d", run_id=made.new.id, kept_s=HOUR_S)
    storage.settle_claim(OURS, f"k{suffix}", made.new.id, 200, CANARY)
    await storage._writer.settle_all()
    return made


async def harvest(storage: Storage, made: Run, suffix: str = "") -> list[bytes]:
    """Read all of it."""
    found = await storage.get_run(OURS, made.new.id)
    journal = await storage.read_journal(OURS, made.new.id)
    chain = await storage.read_chain(OURS, made.new.id)
    context = await storage.list_items(OURS, made.new.id, "context")
    whole = await storage.read_conversation(OURS, f"conv_1{suffix}")
    claim = await storage.claim(OURS, f"k{suffix}", digest=b"d", run_id="none", kept_s=HOUR_S)
    assert found is not None
    assert journal is not None
    assert chain is not None
    assert context is not None
    assert whole is not None
    return [
        found.request,
        found.answer,
        found.error,
        *(each.frames for each in journal.segments),
        *(each.content for link in chain.links for each in link.items),
        *(each.content for each in context.data),
        *(each.content for each in (await storage.find_items(OURS, [f"i_ask{suffix}"])).values()),
        whole[0].metadata,
        *(each.content for each in whole[1]),
        claim.answer,
    ]


@pytest.mark.parametrize("keys", [(), (FIRST,)], ids=["plain", "sealed"])
def test_content_lies_in_the_database_only_as_it_should(place: Place, keys: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with place.open(*keys) as storage:
            made = await plant(storage)
            found = await harvest(storage, made)
            assert len(found) == 12
            assert all(CANARY in each for each in found)
            # Also in SQLite's log of writes, while it is open.
            assert (CANARY in await place.dump()) is not bool(keys)
        assert (CANARY in await place.dump()) is not bool(keys)
        async with place.open(*keys) as storage:
            assert await harvest(storage, made) == found

    run(scenario)


def test_a_changed_master_key_seals_what_is_new_and_opens_what_is_old(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(FIRST) as storage:
            old = await plant(storage, "_old")
        async with place.open(SECOND, FIRST) as storage:
            new = await plant(storage, "_new")
            assert all(CANARY in each for each in await harvest(storage, old, "_old"))
            [(kinds,)] = await place.query("SELECT count(DISTINCT sealed) FROM items")
            assert kinds == 2
            assert await storage.rewrap() == 1
            assert await storage.rewrap() == 0
        async with place.open(SECOND) as storage:
            for made, suffix in ((old, "_old"), (new, "_new")):
                assert all(CANARY in each for each in await harvest(storage, made, suffix))
        with pytest.raises(StorageUnusable, match="which is not configured"):
            async with place.open(FIRST):
                pass

    run(scenario)


@pytest.mark.security("SEC-REST-ROTATE")
@pytest.mark.parametrize(("before", "after"), [((), (FIRST,)), ((FIRST,), (SECOND, FIRST))])
def test_resealing_leaves_nothing_under_the_old_key(
    place: Place, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        async with place.open(*before) as storage:
            made = [await plant(storage, f"_{number}") for number in range(10)]
            live = storage.put_run(new_run(request=CANARY))
            await storage.durable(live)
        async with place.open(*after) as storage:
            # The run of the process before was closed when this one started; this one's own is left to itself.
            mine = storage.put_run(new_run(request=CANARY))
            await storage.durable(mine)
            count = await storage.reseal()
            assert count == 10 * 8 + 1
            assert await storage.reseal() == 0
            for table in ("runs", "items", "segments", "conversations", "conversation_items", "idempotency"):
                assert await place.query(f"SELECT DISTINCT sealed FROM {table}") == [(storage.keyring.current,)]
            for number, one in enumerate(made):
                assert all(CANARY in each for each in await harvest(storage, one, f"_{number}"))
            storage.finish_run(mine, ending(answer=CANARY))
            assert (await storage.get_run(OURS, mine.new.id)).answer == CANARY  # type: ignore[union-attr]
        assert CANARY not in await place.dump()

    run(scenario)


@pytest.mark.security("SEC-REST-KEY")
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ((), "Configure the master key that was used before"),
        ((SECOND,), "Add the former key after the current one"),
        (("short",), "has 5 characters; it needs at least 32"),
    ],
)
def test_a_start_without_the_right_key_is_refused_with_what_to_do(
    place: Place, keys: tuple[str, ...], words: str
) -> None:
    async def scenario() -> None:
        async with place.open(FIRST) as storage:
            await plant(storage)
        with pytest.raises(StorageUnusable, match=words) as refused:
            async with place.open(*keys):
                pass
        assert FIRST not in str(refused.value)
        assert SECOND not in str(refused.value)

    run(scenario)


def test_a_process_with_a_newer_key_is_understood_by_those_that_know_it(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(FIRST, SECOND) as old, place.open(SECOND, FIRST) as new:
            made = await plant(new)
            assert all(CANARY in each for each in await harvest(old, made))

    run(scenario)


@pytest.mark.security("SEC-REST-BOUND")
def test_content_that_was_changed_or_moved_is_not_shown(place: Place) -> None:
    async def scenario() -> None:
        async with place.open(FIRST) as storage:
            made, other = await plant(storage, "_1"), await plant(storage, "_2")
            await execute(
                place,
                f"UPDATE runs SET request = (SELECT r.request FROM runs r WHERE r.number = {other.number}) "
                f"WHERE number = {made.number}",
            )
            with capture_logs() as lines, pytest.raises(Internal) as refused:
                await storage.get_run(OURS, made.new.id)
            assert [line["event"] for line in lines] == ["storage_damaged"]
            assert CANARY.decode() not in str(refused.value)
            await execute(place, "UPDATE items SET sealed = 99")
            with pytest.raises(Internal):
                await storage.list_items(OURS, other.new.id)
            # The rest is still there.
            assert (await storage.get_run(OURS, other.new.id)).request == CANARY  # type: ignore[union-attr]

    run(scenario)


@pytest.mark.parametrize(
    ("members", "place_name"),
    [
        ({}, "item 1"),
        ({"row": 8}, "item 0"),
        ({"kind": "conversation"}, "item 0"),
        ({"tenant": Tenant("acme", "airport")}, "item 0"),
        ({"tenant": Tenant("acmeharbour", "")}, "item 0"),
        ({"data_key": bytes(31) + b"\x01"}, "item 0"),
    ],
)
def test_a_box_opens_only_what_belongs_there(members: dict[str, Any], place_name: str) -> None:
    own: dict[str, Any] = {"data_key": bytes(32), "number": 1, "kind": "run", "row": 7, "tenant": OURS}
    sealed = Box(**own).seal(b"content", "item 0")
    assert Box(**own).open(sealed, "item 0") == b"content"
    with pytest.raises(Damaged):
        Box(**{**own, **members}).open(sealed, place_name)


@pytest.mark.parametrize("sealed", [b"", b"x" * 11, b"x" * 12, b"x" * 27, b"x" * 100])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    with pytest.raises(Damaged):
        Box(bytes(32), 1, "run", 7, OURS).open(sealed, "item 0")


@pytest.mark.security("SEC-REST-CONTENT")
def test_equal_content_is_sealed_differently_each_time() -> None:
    box = Box(bytes(32), 1, "run", 7, OURS)
    assert len({box.seal(b"same", "item 0") for _ in range(100)}) == 100


def test_the_id_of_a_master_key_gives_nothing_of_it_away() -> None:
    from tidegate.storage.crypto import MasterKey

    ids = {MasterKey(Secret(key)).id for key in (FIRST, SECOND, THIRD)}
    assert len(ids) == 3
    assert all(len(each) == 16 for each in ids)
