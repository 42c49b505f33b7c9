"""Work that gives way: so much of it at once, and the rest in later turns of the loop.

What comes in crowds would hold up everything else on the loop for as long as the whole crowd takes. Put off like this, it takes
a little of each turn, and between two turns everybody else has theirs.
"""

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Turns"]


class Turns:
    """Who waits for a turn, first come first served."""

    __slots__ = ("_at_once", "_loop", "_planned", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, at_once: int) -> None:
        """`at_once` is how many have their turn in one turn of the loop."""
        self._loop = loop
        self._at_once = at_once
        self._waiting: deque[Callable[[], None]] = deque()
        self._planned = False

    def wait(self, act: Callable[[], None]) -> None:
        """`act` is called in a later turn of the loop."""
        self._waiting.append(act)
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        waiting = self._waiting
        for _ in range(min(len(waiting), self._at_once)):
            act = waiting.popleft()
            try:
                act()
            except Exception as bug:  # the others wait all the same
                self._loop.call_exception_handler({"message": "a turn failed", "exception": bug})
        self._planned = bool(waiting)
        if waiting:
            self._loop.call_soon(self._next)
