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

    __slots__ = ("_armed_slot", "_buckets", "_due", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Watched]] = {}
        self._due: list[int] = []
        self._armed_slot = -1
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, item: Watched, at: float) -> None:
        """Look at `item` at loop time `at`. An earlier look that is already planned stays and serves for both."""
        slot = int(at / BUCKET_S) + 1
        planned = item.look_at
        if planned <= slot * BUCKET_S:
            return
        if planned != UNWATCHED:
            self._buckets[round(planned / BUCKET_S)].discard(item)
        self._place(item, slot)

    def forget(self, item: Watched) -> None:
        """Stop watching `item`; harmless when it is not watched."""
        if item.look_at != UNWATCHED:
            self._buckets[round(item.look_at / BUCKET_S)].discard(item)
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

    def _place(self, item: Watched, slot: int) -> None:
        item.look_at = slot * BUCKET_S
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = {item}
            heapq.heappush(self._due, slot)
        else:
            bucket.add(item)
        if self._armed_slot < 0 or slot < self._armed_slot:
            self._arm(slot)

    def _arm(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_slot = slot
        self._timer = self._loop.call_at(slot * BUCKET_S, self._turn)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_slot = -1

    def _turn(self) -> None:
        self._timer = None
        self._armed_slot = 0  # nothing is armed by what the checks below watch; the end of the turn does it once
        now = self._loop.time()
        current = int(now / BUCKET_S)
        due = self._due
        while due and due[0] <= current:
            slot = heapq.heappop(due)
            # A check may forget or move others of its own bucket: the bucket stays in place until it is empty.
            bucket = self._buckets[slot]
            while bucket:
                self._look(bucket.pop(), now, current)
            self._buckets.pop(slot, None)
        # Buckets whose items were all forgotten need no timer.
        while due and not self._buckets[due[0]]:
            del self._buckets[heapq.heappop(due)]
        if due:
            self._arm(due[0])
        else:
            self._disarm()

    def _look(self, item: Watched, now: float, current: int) -> None:
        item.look_at = UNWATCHED
        try:
            again = item.check(now)
        except Exception as bug:
            # The clocks of everybody else hang on this turn.
            self._loop.call_exception_handler({"message": f"{type(item).__name__}.check failed", "exception": bug})
            return
        if again is not None and item.look_at == UNWATCHED:
            self._place(item, max(int(again / BUCKET_S), current) + 1)
