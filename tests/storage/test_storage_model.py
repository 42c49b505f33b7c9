"""Random writes, reads, deletions and outages, against a model that never forgets and never doubles.

`TIDEGATE_SEEDS=100` plays so many games per engine.
"""

import asyncio
import os
import random

import pytest

from tests.storage.engines import Watched
from tests.storage.stage import OURS, Place, ending, frames_of, item, new_run, run, until
from tidegate.storage.records import Item, Run
from tidegate.storage.storage import Storage
from tidegate.wire.errors import StorageUnavailable

SEEDS = int(os.environ.get("TIDEGATE_SEEDS", "2"))
STEPS = 160


class Known:
    """What was written of a run."""

    def __init__(self, made: Run, inputs: list[Item], parent: "Known | None") -> None:
        self.made = made
        self.inputs = inputs
        self.outputs: list[Item] = []
        self.parent = parent
        self.frames = 0
        self.is_ended = False
        self.is_deleted = False


class Game:
    """One storage, what it was told, and a draw of what happens next."""

    def __init__(self, storage: Storage, engine: Watched, seed: int) -> None:
        self.storage = storage
        self.engine = engine
        self.draw = random.Random(seed)
        self.known: list[Known] = []
        self.refusals = 0

    def pick(self, *, live: bool | None = None) -> Known | None:
        found = [
            each
            for each in self.known
            if not each.is_deleted and not each.made.lost and (live is None or each.is_ended is not live)
        ]
        return self.draw.choice(found) if found else None

    async def step(self) -> None:
        draw, storage = self.draw, self.storage
        match draw.choice(
            ["begin", "append", "append", "append", "finish", "delete", "read", "durable", "pause", "fail"]
        ):
            case "begin":
                parent = self.pick(live=False) if draw.random() < 0.6 else None
                inputs = [item("ask") for _ in range(draw.randint(0, 3))]
                made = storage.put_run(new_run(previous=parent.made.ref if parent else None), inputs)
                self.known.append(Known(made, inputs, parent))
            case "append" if one := self.pick(live=True):
                width = draw.randint(1, 4)
                storage.append_segment(
                    one.made, one.frames, one.frames + width - 1, frames_of(one.frames, one.frames + width - 1)
                )
                one.frames += width
            case "finish" if one := self.pick(live=True):
                one.outputs = [item("answer") for _ in range(draw.randint(0, 3))]
                storage.finish_run(one.made, ending(), one.outputs)
                one.is_ended = True
            case "delete" if (one := self.pick()) and draw.random() < 0.5:
                try:
                    assert await storage.delete_run(OURS, one.made.new.id) is True
                    one.is_deleted = True
                except StorageUnavailable:
                    self.refusals += 1
                    await self.heal()
                    one.is_deleted = await storage.get_run(OURS, one.made.new.id) is None
                    if one.is_deleted and not one.made.lost:
                        storage.abandon(one.made)
            case "read" if one := self.pick():
                try:
                    await self.check(one)
                except StorageUnavailable:
                    self.refusals += 1
            case "durable" if one := self.pick():
                try:
                    await storage.durable(one.made)
                except StorageUnavailable:
                    self.refusals += 1
            case "pause":
                await asyncio.sleep(draw.random() * 0.01)
            case "fail" if draw.random() < 0.4:
                if draw.random() < 0.5:
                    self.engine.loses_answers = draw.randint(1, 3)
                else:
                    self.engine.is_down = not self.engine.is_down

    async def heal(self) -> None:
        self.engine.is_down = False
        self.engine.loses_answers = 0
        self.storage._writer._arm(0)
        await until(lambda: not self.storage.failing)

    async def check(self, one: Known) -> None:
        """A run is what was written of it."""
        run_id = one.made.new.id
        found = await self.storage.get_run(OURS, run_id)
        assert found is not None
        assert found.status == ("completed" if one.is_ended else "in_progress")
        frames = b""
        after = -1
        while True:
            journal = await self.storage.read_journal(OURS, run_id, after=after, max_bytes=self.draw.choice([1, 10**6]))
            assert journal is not None
            frames += b"".join(segment.frames for segment in journal.segments)
            if not journal.has_more:
                break
            after = journal.segments[-1].last
        assert frames == (frames_of(0, one.frames - 1) if one.frames else b"")
        lineage: list[Known] = []
        each: Known | None = one
        while each is not None:
            lineage.insert(0, each)
            each = each.parent
        if any(each.is_deleted for each in lineage):
            return
        chain = await self.storage.read_chain(OURS, run_id)
        assert chain is not None
        wanted = [content for each in lineage for content in (*each.inputs, *each.outputs)]
        assert [Item(each.id, each.content) for link in chain.links for each in link.items] == wanted


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_what_is_stored_is_what_was_written(place: Place, seed: int) -> None:
    async def scenario() -> None:
        async with place.watch(flush_s=0.005) as (storage, engine):
            game = Game(storage, engine, seed)
            for _ in range(STEPS):
                await game.step()
            await game.heal()
            kept = [each for each in game.known if not each.is_deleted]
            assert not any(each.made.lost for each in kept)
            assert len(kept) > 5
            for one in kept:
                await game.check(one)
            await storage.sweep()
            assert await place.count("runs") == len(kept)
            assert await place.count("items") == sum(len(each.inputs) + len(each.outputs) for each in kept)
            assert await place.query("SELECT coalesce(sum(last - first + 1), 0) FROM segments") == [
                (sum(each.frames for each in kept),)
            ]
            assert (await storage.stored(OURS)).runs == sum(each.is_ended for each in kept)
            assert storage._writer.queued == 0

    run(scenario)
