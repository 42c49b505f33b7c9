"""A stream from any place on: what the journal has, then what comes, without a gap and without anything twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from tidegate.dialects.resume import Resume
from tidegate.streams.run import Run

__all__ = ["PIECE_BYTES", "Deleted", "Read", "Torn", "follow", "joined", "replay"]

PIECE_BYTES = 256 * 1024
"""About how much of a journal is read at once."""

BEHIND_S = 0.05
"""How long a follower waits for a piece that is on its way into the journal."""


class Deleted(Exception):
    """The journal was deleted while it was read."""


class Torn(Exception):
    """A part of the journal is missing, behind what was read of it: the database has lost it."""


class Read(Protocol):
    """Reads one journal."""

    async def __call__(self, place: int, limit: int) -> list[tuple[int, bytes]]:
        """Pieces in their order, each with its place: from the one that holds the byte at `place` on, about `limit`
        bytes together, without a gap. Empty when that is not written yet. Raises Deleted, Torn."""


def joined(pieces: Sequence[tuple[int, bytes]], place: int) -> list[tuple[int, bytes]]:
    """Those of the pieces that hold what stands at `place` and on from there. Raises Torn where none does."""
    found = []
    for start, frames in pieces:
        if start > place:
            break
        found.append((start, frames))
        place = start + len(frames)
    if pieces and not found:
        raise Torn
    return found


async def replay(
    read: Read,
    has_ended: Callable[[], Awaitable[bool]],
    changed: Callable[[], Awaitable[None]],
    resume: Resume,
    quiet_s: float,
) -> AsyncIterator[bytes]:
    """All of a journal that this process does not write, up to the end of its run. `changed` waits until there may be more
    of it. After so many seconds of silence a keep-alive comes. Raises Deleted, Torn."""
    clock = asyncio.get_running_loop().time
    place = 0
    ended = False
    heard_at = clock()
    while True:
        found = await read(place, PIECE_BYTES)
        for start, frames in found:
            place = start + len(frames)
            out = resume.feed(frames)
            if out:
                yield out
                heard_at = clock()
        if found:
            continue
        if ended:
            return
        # What was written before the end is read once more behind the news of it.
        ended = await has_ended()
        if not ended:
            await changed()
            if clock() - heard_at >= quiet_s:
                yield resume.ping()
                heard_at = clock()


async def follow(read: Read, run: Run, resume: Resume, quiet_s: float) -> AsyncIterator[bytes]:
    """All of a run of this process, up to its end. It reads at its own pace: whoever falls behind goes on in the
    journal. After so many seconds of silence a keep-alive comes. Raises Deleted where the journal is gone, and Torn."""
    clock = asyncio.get_running_loop().time
    place = 0
    heard_at = clock()
    run.followers += 1
    try:
        while True:
            found = run.read(place)
            if found is None:
                behind = await read(place, PIECE_BYTES)
                if not behind:
                    if run.ended:
                        raise Deleted
                    await asyncio.sleep(BEHIND_S)
                    continue
                start = behind[0][0]
                found = b"".join(frames for _, frames in behind)[place - start :]
            if found:
                place += len(found)
                out = resume.feed(found)
                if out:
                    yield out
                    heard_at = clock()
            elif run.ended:
                return
            elif (left_s := heard_at + quiet_s - clock()) > 0:
                await run.changed(left_s)
            else:
                yield resume.ping()
                heard_at = clock()
    finally:
        run.followers -= 1
