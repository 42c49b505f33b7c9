"""One lazy timer for every deadline of the process.

A deadline that moves with each chunk must not cost a timer per chunk (`call_later` and `cancel` take about 3 µs). Here
the owner only notes times in its own fields; the wheel looks at it when its bucket falls due, and asks then whether the
deadline has really passed. Buckets are 250 ms wide, so a clock fires at most that much late, never early.
"""

import asyncio
import heapq
import math
from typing import Final, Protocol

__all__ = ["BUCKET_S", "UNWATCHED", "Watched", "Wheel"]

BUCKET_S = 0.25

UNWATCHED: Final = math.inf


class Watched(Protocol):
    """Something with deadlines. `look_at` is the loop time of the next planned look: the wheel writes it, and whoever is
    content with a look at or before some time may compare instead of calling. It starts at `UNWATCHED`."""

    look_at: float

    def check(self, now: float) -> float | None:
        """Act on what is overdue at `now` (loop time, seconds) and return when to look again; None: no more."""


class Wheel:
    """Calls `check` on each watched object no later than one bucket after the time it asked for."""

    __slots__ = ("_armed_at", "_buckets", "_due", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[float, set[Watched]] = {}
        """By the loop time of their look: the end of the bucket."""
        self._due: list[float] = []
        """The same times, as a heap."""
        self._armed_at = UNWATCHED
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, item: Watched, at: float) -> None:
        """Look at `item` at loop time `at`. An earlier look that is already planned stays and serves for both."""
        at = _end_of_bucket(at)
        planned = item.look_at
        if planned <= at:
            return
        if planned != UNWATCHED:
            self._buckets[planned].discard(item)
        self._place(item, at)

    def forget(self, item: Watched) -> None:
        """Stop watching `item`; harmless when it is not watched."""
        planned = item.look_at
        if planned != UNWATCHED:
            self._buckets[planned].discard(item)
            item.look_at = UNWATCHED

    def close(self) -> None:
        """Watch nothing any more."""
        self._disarm()
        for bucket in self._buckets.values():
            for item in bucket:
                item.look_at = UNWATCHED
            bucket.clear()
        self._buckets.clear()
        self._due.clear()

    def _place(self, item: Watched, at: float) -> None:
        item.look_at = at
        bucket = self._buckets.get(at)
        if bucket is None:
            self._buckets[at] = {item}
            heapq.heappush(self._due, at)
        else:
            bucket.add(item)
        if at < self._armed_at:
            self._arm(at)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_at = at
        self._timer = self._loop.call_at(at, self._turn)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_at = UNWATCHED

    def _turn(self) -> None:
        self._timer = None
        self._armed_at = -math.inf  # nothing is armed by what the checks below watch; the end of the turn does it once
        now = self._loop.time()
        later = _end_of_bucket(now)
        due = self._due
        while due and due[0] < later:
            at = heapq.heappop(due)
            # A check may forget or move others of its own bucket: the bucket stays in place until it is empty.
            bucket = self._buckets[at]
            while bucket:
                self._look(bucket.pop(), now)
            self._buckets.pop(at, None)
        # Buckets whose items were all forgotten need no timer.
        while due and not self._buckets[due[0]]:
            del self._buckets[heapq.heappop(due)]
        if due:
            self._arm(due[0])
        else:
            self._disarm()

    def _look(self, item: Watched, now: float) -> None:
        item.look_at = UNWATCHED
        try:
            again = item.check(now)
        except Exception as bug:
            # The clocks of everybody else hang on this turn.
            self._loop.call_exception_handler({"message": f"{type(item).__name__}.check failed", "exception": bug})
            return
        if again is not None and item.look_at == UNWATCHED:
            self._place(item, _end_of_bucket(max(again, now)))


def _end_of_bucket(at: float) -> float:
    return (int(at / BUCKET_S) + 1) * BUCKET_S
