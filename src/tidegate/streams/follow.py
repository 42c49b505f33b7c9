"""A stream from any place on: what the journal has, then what comes, without a gap and without anything twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from tidegate.dialects.resume import Resume
from tidegate.streams.run import Run

__all__ = ["PIECE_BYTES", "Pieces", "follow", "replay"]

PIECE_BYTES = 256 * 1024
"""About how much of a journal is read at once."""

BEHIND_S = 0.05
"""How long a follower waits for a piece that is on its way into the journal."""


class Pieces(Protocol):
    """Reads journals."""

    async def read_segments(self, run: int, place: int, limit: int) -> list[bytes]:
        """Pieces in their order from `place` on, which is where one begins, of about `limit` bytes together. Empty when
        there is none yet."""


async def replay(pieces: Pieces, run: int, resume: Resume) -> AsyncIterator[bytes]:
    """All of a journal that nobody writes any more."""
    place = 0
    while found := await pieces.read_segments(run, place, PIECE_BYTES):
        for frames in found:
            place += len(frames)
            out = resume.feed(frames)
            if out:
                yield out


async def follow(pieces: Pieces, run: Run, resume: Resume) -> AsyncIterator[bytes]:
    """All of a run, up to its end. It reads at its own pace: whoever falls behind goes on in the journal."""
    place = 0
    run.followers += 1
    try:
        while True:
            found = run.read(place)
            if found is None:
                behind = await pieces.read_segments(run.number, place, PIECE_BYTES)
                if not behind:
                    await asyncio.sleep(BEHIND_S)
                    continue
                found = b"".join(behind)
            if found:
                place += len(found)
                out = resume.feed(found)
                if out:
                    yield out
            elif run.ended:
                return
            else:
                await run.changed()
    finally:
        run.followers -= 1
