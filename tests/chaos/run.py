"""A run from its seed to its report."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import uvloop

from tests.chaos.audit import Audit
from tests.chaos.book import Book
from tests.chaos.client import Client
from tests.chaos.fault import FAULTS, ROWS
from tests.chaos.plan import SCENES, Step, plan
from tests.chaos.world import World, world

__all__ = ["Result", "Settings", "run"]

WARMED_AFTER: Final = 60
"""Steps after which the memory is first looked at: what is made once is there then."""

EVERYTHING: Final = 280
"""A run of so many steps must have reached all that it can reach."""

KILLED_EVERY: Final = 400
"""Steps, where a run has no number of them."""

MUST_SEE: Final = (
    *(f"scene {scene}" for scene in SCENES),
    *(f"row {row}" for row in ROWS),
    *(f"fault {fault.name}" for fault in FAULTS),
    *(f"ending {kind}" for kind in ("completed", "incomplete", "failed", "error", "cancelled")),
    *(f"ledger {ending}" for ending in ("completed", "incomplete", "failed", "refused", "client_gone", "cancelled", "repeated")),
    *("retry", "fallback", "resume", "cancel", "repeat", "background", "websocket", "chain", "delete", "refused"),
    "row FAULT-POOL",
    *("client left", "revocation", "limit poor", "log reloaded", "log reload_refused", "outage"),
)  # fmt: skip
"""What must have happened at least once."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of."""

    seed: int
    requests: int = 3000
    """Steps; some send several requests."""
    minutes: float = 0.0
    """In place of a number of steps: for so long."""
    engine: str = "sqlite"
    kills: int = 0
    """How often the gateway is killed and started again."""
    clients: int = 24
    """At once."""


class Result(msgspec.Struct, kw_only=True):
    """What a run has found."""

    settings: Settings
    steps: int
    seconds: float
    seen: int
    """Requests at providers."""
    problems: list[str]
    unseen: list[str]
    """What should have happened, and did not."""
    reached: dict[str, int]
    figures: dict[str, Any]

    @property
    def passed(self) -> bool:
        return not self.problems and not self.unseen


def run(settings: Settings, progress: Callable[[str], None]) -> Result:
    """The whole of it. `progress` is told a line now and then."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, progress))


async def _run(settings: Settings, progress: Callable[[str], None]) -> Result:
    began = time.monotonic()
    book = Book()
    async with world(settings.engine) as here:
        crowd = _Crowd(here, book, settings, progress)
        baseline = await crowd.play()
        audit = Audit(here, book)
        progress("auditing")
        await audit.run(baseline)
        seen = here.seen_total
    unseen = [what for what in MUST_SEE if not book.reached[what]] if crowd.steps >= EVERYTHING else []
    if settings.kills and not book.reached["ledger interrupted"]:
        unseen.append("ledger interrupted")
    return Result(
        settings=settings,
        steps=crowd.steps,
        seconds=time.monotonic() - began,
        seen=seen,
        problems=book.problems,
        unseen=unseen,
        reached=dict(sorted(book.reached.items())),
        figures=audit.figures,
    )


class _Crowd:
    """Clients that take one step after another from the plan."""

    def __init__(self, here: World, book: Book, settings: Settings, progress: Callable[[str], None]) -> None:
        self._world = here
        self._book = book
        self._settings = settings
        self._progress = progress
        self._until = time.monotonic() + 60 * settings.minutes if settings.minutes else 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.steps = 0

    async def play(self) -> dict[str, Any]:
        """All steps. What the gateway looked like at rest after the first ones."""
        settings = self._settings
        every = KILLED_EVERY if settings.minutes else settings.requests // (settings.kills + 1)
        kills = [every * number for number in range(1, settings.kills + 1)]
        steps = plan(settings.seed, kills=kills)
        await self._work(steps, WARMED_AFTER)
        await self._calm()
        baseline = await self._world.look()
        teller = asyncio.create_task(self._tell())
        try:
            await self._work(steps, None)
            await self._calm()
        finally:
            teller.cancel()
        return baseline

    async def _work(self, steps: Iterator[Step], count: int | None) -> None:
        client = Client(self._world, self._book)
        end = None if count is None else self.steps + count

        async def worker() -> None:
            while not self._is_over() and (end is None or self.steps < end):
                step = next(steps)
                self.steps += 1
                for what in step.before:
                    self._disturb(what)
                await client.play(step)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.clients):
                group.create_task(worker())

    def _is_over(self) -> bool:
        if self._until:
            return time.monotonic() > self._until
        return self.steps >= self._settings.requests

    def _disturb(self, what: str) -> None:
        here = self._world
        self._book.reach(what)
        match what:
            case "reload" | "bad reload":
                here.reload(good=what == "reload")
            case "outage":
                self._keep(here.go_away(0.4))
            case "kill":
                self._keep(self._kill())

    async def _kill(self) -> None:
        """What ended in the last moments may not have been written."""
        now = asyncio.get_running_loop().time()
        for record in self._book.records.values():
            if record.ended_at == 0.0 or record.ended_at > now - 1.0:
                record.shaken = True
        await self._world.kill()

    def _keep(self, doing: Any) -> None:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _calm(self) -> None:
        """Nothing is disturbed any more."""
        if self._tasks:
            await asyncio.gather(*self._tasks)
        await asyncio.sleep(0.3)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(5)
            of = f"of {self._settings.requests}" if not self._until else f"{self._until - time.monotonic():.0f} s left"
            self._progress(
                f"{self.steps} steps {of}, {self._world.seen_total} requests at providers, "
                f"{len(self._book.problems)} problems, {self._world.resident >> 20} MiB"
            )
