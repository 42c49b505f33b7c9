"""What is counted of one scope: sums over the last minute, a day or a month, and requests under way.

The running minute is a sum over slots of a second, so that no sixty seconds ever see more than the limit, whatever borders
of minutes lie in them. Days and months are those of the calendar (UTC).
"""

import asyncio
import calendar
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from tidegate.access.limits import COST, SLOT_S, WINDOW_S, Window
from tidegate.access.scopes import Scope

if TYPE_CHECKING:
    from tidegate.access.gate import MemoryGate

__all__ = ["Calendar", "Cell", "Counts", "Meter", "Minute", "window_bounds"]

_MINUTE_S: Final = WINDOW_S + SLOT_S


def window_bounds(window: Window, wall: float) -> tuple[int, int]:
    """Beginning and end of the calendar window that holds this Unix time."""
    if window == "day":
        begin = math.floor(wall / 86400) * 86400
        return begin, begin + 86400
    now = time.gmtime(wall)
    year, month = now.tm_year, now.tm_mon
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return calendar.timegm((year, month, 1, 0, 0, 0)), calendar.timegm((*following, 1, 0, 0, 0))


class Cell:
    """What was counted within one slot, or within one calendar window."""

    __slots__ = ("amount", "dead", "ends", "held")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.amount = 0
        self.held = 0
        """That part of the amount which is reserved, and not settled."""
        self.dead = False


class Minute:
    """The sum of the last minute of one kind."""

    __slots__ = ("cell", "cells", "until", "used")

    def __init__(self) -> None:
        self.cell = Cell(-math.inf)
        """That of the present slot, until `until`."""
        self.cells: deque[Cell] = deque()
        self.used = 0
        self.until = -math.inf
        """When the slot ends; then :meth:`roll` begins the next one."""

    def roll(self, now: float) -> None:
        cells = self.cells
        while cells and cells[0].ends <= now:
            cell = cells.popleft()
            cell.dead = True
            self.used -= cell.amount
        slot = now // SLOT_S * SLOT_S
        self.cell = Cell(slot + _MINUTE_S)
        cells.append(self.cell)
        self.until = slot + SLOT_S

    @property
    def held(self) -> int:
        return sum(cell.held for cell in self.cells)

    def wait(self, needed: int, now: float) -> float:
        """Until so much of what counts now counts no more."""
        for cell in self.cells:
            needed -= cell.amount
            if needed <= 0:
                return max(0.0, cell.ends - now)
        return 0.0

    def reset(self, now: float) -> float:
        """Until nothing of what counts now counts any more."""
        for cell in reversed(self.cells):
            if cell.amount:
                return max(0.0, cell.ends - now)
        return 0.0


class Calendar:
    """The sum of a day or a month of one kind."""

    __slots__ = ("before", "begin", "cell", "counted_from", "seeded", "until", "used", "window")

    def __init__(self, window: Window, wall: float, *, seeded: bool) -> None:
        self.window = window
        self.begin, self.until = window_bounds(window, wall)
        self.cell = Cell(self.until)
        self.used = 0
        self.seeded = seeded
        """Whether what was used before this process began to count is in it."""
        self.before = 0
        """How much that was, as far as the books knew."""
        self.counted_from = wall

    def roll(self, wall: float) -> None:
        self.cell.dead = True
        self.begin, self.until = window_bounds(self.window, wall)
        self.cell = Cell(self.until)
        self.used = self.before = 0
        self.seeded = True  # the whole of the new window is counted here

    @property
    def held(self) -> int:
        return self.cell.held

    def reset(self, wall: float) -> float:
        return max(0.0, self.until - wall) if self.used else 0.0


Meter = Minute | Calendar


class Counts:
    """All that is counted of one scope."""

    __slots__ = ("gate", "meters", "open", "scope", "seeding", "stale", "streams", "touched")

    def __init__(self) -> None:
        self.meters: dict[tuple[int, Window], Meter] = {}
        self.streams = 0
        self.open = 0
        """Requests of an end user that are under way."""
        self.touched = 0.0
        """When an end user was last seen."""
        self.gate: tuple[tuple[Scope, ...], Scope, MemoryGate] | None = None
        """That of an end user, for as long as it is asked for with the same limits."""
        self.seeding: asyncio.Task[None] | None = None
        self.scope: Scope | None = None
        """As which the books were asked for it; None where they were not."""
        self.stale = False
        """The books know more than when they were asked."""

    @property
    def is_unseeded(self) -> bool:
        """Whether some day or month is without what was used before this process began to count."""
        return any(isinstance(meter, Calendar) and not meter.seeded for meter in self.meters.values())

    @property
    def lacks_cost(self) -> bool:
        """The same of a budget."""
        return any(
            kind == COST and isinstance(meter, Calendar) and not meter.seeded
            for (kind, _), meter in self.meters.items()
        )

    @property
    def counts(self) -> bool:
        """Whether anything that was used counts now."""
        return any(meter.used for meter in self.meters.values())
