"""A clock that only tests move."""

import calendar

START = float(calendar.timegm((2026, 1, 30, 23, 50, 0)))
"""Ten minutes before the end of a day, a day before the end of a month."""


class FakeClock:
    """See :class:`tidegate.access.limits.Clock`."""

    def __init__(self, wall: float = START) -> None:
        self._monotonic = 1000.0
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._monotonic += seconds
        self._wall += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._wall += seconds
