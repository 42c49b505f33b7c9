"""How late the event loop is, and what keeps it from its work.

Everything of the process happens on one event loop, so that whatever does not give way holds up everybody. A timer
measures how late it fires; a thread beside the loop notices when it does not fire at all, and says where the loop is.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from tidegate.telemetry.log import get_logger
from tidegate.telemetry.metrics import Histogram, Metrics

__all__ = ["BLOCKED_S", "LOOK_S", "Watchdog"]

LOOK_S = 0.25
"""How often the loop is to show that it turns, and how often the thread looks."""

LOOKS = 4
"""So many looks in a row without a turn between them are a block. They are counted, not timed: when the machine sleeps
or the process is stopped, the thread does not look either."""

BLOCKED_S = LOOK_S * LOOKS
"""From how long on a block is told."""

FRAMES = 16
"""Most calls that a line names, the innermost ones."""


class Watchdog:
    """Watches the loop that `start` is called on until `stop`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        turned: Callable[[], None] | None = None,
        *,
        look_s: float = LOOK_S,
    ) -> None:
        """A block is what lasts for `LOOKS` times `look_s`. `turned` is called each time the loop has shown that it turns."""
        self._turned = turned
        self._look_s = look_s
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
        self._watched = 0
        self._turns = 0
        self._due = self._worked = 0.0
        self._told = False
        """The present block has been logged."""
        self._lag = Histogram()
        self._blocked = 0
        metrics.histogram("tidegate_loop_lag_seconds", "How late the event loop is, four times a second.", self._lag)
        metrics.counter(
            "tidegate_loop_blocked",
            f"How often the event loop stood still for {look_s * LOOKS:g} s or longer.",
            (),
            lambda: [((), float(self._blocked))],
        )

    def start(self) -> None:
        """To be called on the loop."""
        self._watched = threading.get_ident()
        self._arm(time.monotonic())
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Harmless when it was never started."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, now: float) -> None:
        self._due = now + self._look_s
        self._worked = time.thread_time()
        self._timer = self._loop.call_later(self._look_s, self._turn)

    def _turn(self) -> None:
        now = time.monotonic()
        late = max(0.0, now - self._due)
        self._lag.observe(late)
        self._turns += 1
        if self._told:
            self._told = False
            get_logger().warning("loop_free", blocked_s=round(late, 3))
        elif late >= self._look_s * LOOKS and time.thread_time() - self._worked >= late / 10:
            # What never let go of the interpreter has stopped the thread as well. Had the process merely not run, as
            # when the machine slept, it would hardly have used the processor.
            self._tell(late, [])
        if self._turned is not None:
            self._turned()
        self._arm(now)

    def _look(self) -> None:
        seen, idle = -1, 0
        while not self._stopped.wait(self._look_s):
            if self._turns != seen:
                seen, idle = self._turns, 0
                continue
            idle += 1
            if idle == LOOKS:
                self._told = True
                frames = sys._current_frames()  # noqa: SLF001  # the documented way to see another thread
                self._tell(time.monotonic() - self._due, calls(frames.get(self._watched)))

    def _tell(self, seconds: float, where: list[str]) -> None:
        self._blocked += 1
        get_logger().warning("loop_blocked", blocked_s=round(seconds, 3), where=where)


def calls(frame: FrameType | None) -> list[str]:
    """Where a thread is, the innermost call last: modules, lines and functions, without any value."""
    found: list[str] = []
    while frame is not None and len(found) < FRAMES:
        module = frame.f_globals.get("__name__", "?")
        found.append(f"{module}:{frame.f_lineno} {frame.f_code.co_qualname}")
        frame = frame.f_back
    return found[::-1]
