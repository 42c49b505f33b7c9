"""What processes on one database tell each other, so that none has to ask the database ten times a second.

Three hints, each a word and what it is about:

- `orders <process>`: somebody wants something of that process's runs; the database says what;
- `follow <run>`: somebody reads this run while it goes on. Whoever writes it answers from then on with
- `news <run> …`: more of these runs is in the database, or they have ended.

A hint may be lost, and may come from anybody who reaches the database: nothing happens on its word alone. Where none come,
the database is asked as often as without them.
"""

import asyncio
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from tidegate.storage.engine import Engine

__all__ = ["POLL_S", "News", "Watch"]

POLL_S: Final = 0.1
"""How often a run is looked at that another process writes, where no hints come."""

HEARD_POLL_S: Final = 1.0
"""The same, where they do."""

FOLLOW_S: Final = 3.0
"""How often a process says that it follows a run. It is answered each time, so that silence means that no hints come."""

FOLLOWED_S: Final = 10.0
"""How long a run counts as followed after that was said."""

RUNS: Final = 100
"""Runs that one hint names at most; a call takes 8000 bytes."""


class Watch:
    """One who waits for news of a run."""

    __slots__ = ("_asked_at", "_has_news", "_heard_at", "_news", "_waiter", "run_id")

    def __init__(self, news: "News", run_id: str) -> None:
        self._news = news
        self.run_id = run_id
        self._asked_at = self._heard_at = float("-inf")
        self._has_news = False
        self._waiter: asyncio.Future[None] | None = None

    async def changed(self) -> None:
        """Until there may be something new, since the last time that this returned."""
        now = self._news.loop.time()
        if now - self._asked_at >= FOLLOW_S:
            self._asked_at = now
            self._news.tell(f"follow {self.run_id}")
        if not self._has_news:
            hears = now - self._heard_at < FOLLOWED_S
            waiter = self._waiter = self._news.loop.create_future()
            timer = self._news.loop.call_later(HEARD_POLL_S if hears else POLL_S, _wake, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        self._has_news = False

    def hear(self) -> None:
        self._heard_at = self._news.loop.time()
        self._has_news = True
        if self._waiter is not None:
            _wake(self._waiter)


class News:
    """What this process tells and hears. One per storage."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, engine: Engine, own: Container[str], on_orders: Callable[[], None]
    ) -> None:
        """`own` are the runs that this process writes; `on_orders` is called when somebody wants something of them."""
        self.loop = loop
        self._engine = engine
        self._own = own
        self._on_orders = on_orders
        self._watches: dict[str, set[Watch]] = {}
        self._followed: dict[str, float] = {}
        """Runs of this process that others follow, and until when."""
        self.process = 0

    def tell(self, words: str) -> None:
        self._engine.tell(words)

    def order(self, process: int) -> None:
        """Something is wanted of that process; what, is in the database."""
        self.tell(f"orders {process}")

    @property
    def is_followed(self) -> bool:
        """Whether there is anybody to tell what is written."""
        return bool(self._followed)

    @contextmanager
    def watch(self, run_id: str) -> Iterator[Watch]:
        """Wait for news of a run."""
        watch = Watch(self, run_id)
        watches = self._watches.setdefault(run_id, set())
        watches.add(watch)
        try:
            yield watch
        finally:
            watches.discard(watch)
            if not watches:
                self._watches.pop(run_id, None)

    def written(self, run_ids: Iterable[str]) -> None:
        """More of these runs is in the database."""
        now = self.loop.time()
        self._followed = {run_id: until for run_id, until in self._followed.items() if until > now}
        told = [run_id for run_id in dict.fromkeys(run_ids) if run_id in self._followed]
        for at in range(0, len(told), RUNS):
            self.tell(" ".join(("news", *told[at : at + RUNS])))

    def gone(self, run_id: str) -> None:
        """A run was deleted: who follows it is here or elsewhere."""
        self.tell(f"news {run_id}")
        self._on_news(run_id)

    def hear(self, words: str) -> None:
        """A hint of another process."""
        kind, _, rest = words.partition(" ")
        if kind == "orders" and rest == str(self.process):
            self._on_orders()
        elif kind == "follow" and rest in self._own:
            self._followed[rest] = self.loop.time() + FOLLOWED_S
            self.tell(f"news {rest}")
        elif kind == "news":
            for run_id in rest.split():
                self._on_news(run_id)

    def _on_news(self, run_id: str) -> None:
        for watch in self._watches.get(run_id, ()):
            watch.hear()


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
