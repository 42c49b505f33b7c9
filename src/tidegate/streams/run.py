"""One answer while it is being given: what one exchange writes and any number of followers read."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.streams.journal import Journal

__all__ = ["MEMORY_BYTES", "SEGMENT_BYTES", "Run"]

MEMORY_BYTES = 256 * 1024
"""Most bytes of a run that stay in memory once they are in the journal, for followers that keep up. Whoever is further
behind reads the journal: a slow reader costs no memory."""

SEGMENT_BYTES = 256 * 1024
"""About how much the journal gets in one piece at most: whoever reads it holds a piece while his connection is full."""


class Run:
    """The frames of one answer by their place: the number of bytes before them.

    `append` is on the path of every chunk. It keeps what it is given and, where nobody follows, does nothing else: the
    journal takes the pieces of a tenth of a second together.
    """

    __slots__ = (
        "_fresh",
        "_journal",
        "_memory",
        "_memory_bytes",
        "_taken",
        "_waiting",
        "ended",
        "followers",
        "number",
        "public_id",
        "tenant",
    )

    def __init__(self, journal: "Journal", number: int, public_id: str, tenant: str) -> None:
        self._journal = journal
        self.number = number
        """How storage calls it."""
        self.public_id = public_id
        self.tenant = tenant
        self._fresh: list[bytes] = []
        """What the journal has not taken yet."""
        self._taken = 0
        """The place behind what it has."""
        self._memory: deque[tuple[int, bytes]] = deque()
        self._memory_bytes = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.followers = 0
        self.ended = False

    def append(self, frames: bytes) -> None:
        """Whole frames, as a client gets them."""
        fresh = self._fresh
        if not fresh:
            self._journal.note(self)
        fresh.append(frames)
        if self._waiting:
            self._wake()

    def take(self) -> list[tuple[int, bytes]]:
        """What was appended since the last call, for the journal, in pieces with their places. It stays readable."""
        pieces: list[tuple[int, bytes]] = []
        held: list[bytes] = []
        size = 0
        for frames in self._fresh:
            held.append(frames)
            size += len(frames)
            if size >= SEGMENT_BYTES:
                pieces.append((self._taken, b"".join(held)))
                self._taken += size
                held.clear()
                size = 0
        if held:
            pieces.append((self._taken, b"".join(held)))
            self._taken += size
        self._fresh.clear()
        if pieces and self.followers:
            self._memory.extend(pieces)
            self._memory_bytes += sum([len(frames) for _, frames in pieces])
            while self._memory_bytes > MEMORY_BYTES:
                self._memory_bytes -= len(self._memory.popleft()[1])
        elif not self.followers and self._memory:
            self._memory.clear()
            self._memory_bytes = 0
        return pieces

    def read(self, place: int) -> bytes | None:
        """What stands at `place` and behind it; empty when nothing does yet, None when only the journal has it."""
        if place >= self._taken:
            if not self._fresh:
                return b""
            data = b"".join(self._fresh)
            return data[place - self._taken :] if place > self._taken else data
        if not self._memory or place < self._memory[0][0]:
            return None
        pieces = [data[max(0, place - at) :] for at, data in self._memory if at + len(data) > place]
        return b"".join((*pieces, *self._fresh))

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self._wake()

    async def changed(self, within_s: float) -> None:
        """Until something is appended, or the run ends, or so many seconds have passed."""
        if self.ended:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        timer = loop.call_later(within_s, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            _wake(waiter)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
