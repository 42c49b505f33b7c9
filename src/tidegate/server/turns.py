"""Uploads read one after another.

A socket that is full is read until it is empty, megabytes at a time, and ten of them would hold up everything else on the
loop for tens of milliseconds. So an upload that has brought much gives way, and each turn of the loop reads one of them.
"""

import asyncio
from collections import deque
from typing import Protocol

__all__ = ["TURN_BYTES", "Turns", "Uploading"]

TURN_BYTES = 64 * 1024
"""What an upload may bring without giving way: the whole of most forms."""


class Uploading(Protocol):
    """A connection whose body is wanted, but not in haste."""

    def take_turn(self) -> None:
        """Read on. May not raise."""


class Turns:
    """Who waits to read, first come first served."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Uploading] = deque()

    def wait(self, one: Uploading) -> None:
        """`one` has stopped reading, and is told when it may go on."""
        self._waiting.append(one)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._waiting.popleft().take_turn()
        if self._waiting:
            self._loop.call_soon(self._next)
