"""One lazy timer for every deadline of the process.

A deadline that moves with each chunk must not cost a timer per chunk (`call_later` and `cancel` take about 3 µs). Here
the owner only notes times in its own fields; the wheel looks at it when its bucket falls due, and asks then whether the
deadline has really passed. Buckets are 250 ms wide, so a clock fires at most that much late, never early.
"""

import asyncio
import heapq
from typing import Protocol

__all__ = ["BUCKET_S", "Watched", "Wheel"]

BUCKET_S = 0.25


class Watched(Protocol):
    """Something with deadlines. `wheel_slot` belongs to the wheel and starts at -1."""

    wheel_slot: int

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
        planned = item.wheel_slot
        if 0 <= planned <= slot:
            return
        if planned >= 0:
            self._buckets[planned].discard(item)
        self._place(item, slot)

    def forget(self, item: Watched) -> None:
        """Stop watching `item`; harmless when it is not watched."""
        if item.wheel_slot >= 0:
            self._buckets[item.wheel_slot].discard(item)
            item.wheel_slot = -1

    def close(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for bucket in self._buckets.values():
            for item in bucket:
                item.wheel_slot = -1
        self._buckets.clear()
        self._due.clear()
        self._armed_slot = -1

    def _place(self, item: Watched, slot: int) -> None:
        item.wheel_slot = slot
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = {item}
            heapq.heappush(self._due, slot)
            if self._armed_slot < 0 or slot < self._armed_slot:
                self._arm(slot)
        else:
            bucket.add(item)

    def _arm(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_slot = slot
        self._timer = self._loop.call_at(slot * BUCKET_S, self._turn)

    def _turn(self) -> None:
        self._timer = None
        self._armed_slot = -1
        now = self._loop.time()
        current = int(now / BUCKET_S)
        while self._due and self._due[0] <= current:
            for item in self._buckets.pop(heapq.heappop(self._due)):
                item.wheel_slot = -1
                again = item.check(now)
                if again is not None and item.wheel_slot < 0:
                    self._place(item, max(int(again / BUCKET_S), current) + 1)
        if self._due:
            self._arm(self._due[0])
