"""The log of every running answer, written in batches: nothing is written per chunk, and nobody waits for the database."""

import asyncio
from typing import Protocol

from tidegate.streams.run import Run

__all__ = ["BATCH_S", "Journal", "Segments"]

BATCH_S = 0.1
"""How long frames wait in memory for others to be written with. A kill loses no more of a stream than this, and what the
storage's own group commit adds."""

BUSY_RUNS, BUSY_BATCH_S = 50, 0.25
"""From so many runs in one batch on, the next one waits longer: a row costs as much as fifteen frames in it, and with many
streams that is what a frame costs."""


class Segments(Protocol):
    """Where the pieces of journals are kept."""

    def append_segment(self, run: int, place: int, frames: bytes) -> None:
        """Queue a piece. `place` is the number of bytes before it."""


class Journal:
    """The runs of this process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, segments: Segments) -> None:
        self._loop = loop
        self._segments = segments
        self._changed: list[Run] = []
        self._timer: asyncio.TimerHandle | None = None
        self._pause = BATCH_S
        self.runs: dict[str, Run] = {}
        """Those that have not ended, by their public id."""

    def open(self, number: int, public_id: str, tenant: str) -> Run:
        """A run that begins."""
        run = self.runs[public_id] = Run(self, number, public_id, tenant)
        return run

    def note(self, run: Run) -> None:
        """`run` has something that is not written yet."""
        self._changed.append(run)
        if self._timer is None:
            self._timer = self._loop.call_later(self._pause, self._flush)

    def close(self, run: Run) -> None:
        """`run` has ended: write what is left of it, and tell its followers. Whatever says so in storage is queued behind."""
        self._write(run)
        run.end()
        self.runs.pop(run.public_id, None)

    def flush(self) -> None:
        """Write what waits, now."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()

    def _flush(self) -> None:
        self._timer = None
        changed, self._changed = self._changed, []
        self._pause = BUSY_BATCH_S if len(changed) >= BUSY_RUNS else BATCH_S
        for run in changed:
            self._write(run)

    def _write(self, run: Run) -> None:
        for place, frames in run.take():
            self._segments.append_segment(run.number, place, frames)
