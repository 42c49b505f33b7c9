"""How far answers have come that go on, for those who ask again and again: each journal is read once, as it grows."""

import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from tidegate.dialects.responses.interrupted import Remains
from tidegate.storage.records import Tenant
from tidegate.streams.follow import PIECE_BYTES, Torn

__all__ = ["Progress"]

MEMORY_BYTES = 64 * 1024 * 1024
"""Most bytes of journals whose items stay in memory; of others the whole journal is read each time."""


class _Seen(msgspec.Struct, gc=False):
    remains: Remains
    place: int = 0
    """Bytes of the journal that it was made of."""


class Progress:
    """One per process."""

    def __init__(self, read: Callable[[Tenant, str, int, int], Awaitable[list[tuple[int, bytes]]]]) -> None:
        """`read` reads the journal of a tenant's run, from a place on: see :class:`tidegate.streams.follow.Read`."""
        self._read = read
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._bytes = 0

    async def of(self, tenant: Tenant, run_id: str) -> Remains:
        """What is written of the run, which is the tenant's. Raises Deleted."""
        seen = self._seen.get(run_id)
        if seen is None:
            seen = self._seen[run_id] = _Seen(Remains())
        else:
            self._seen.move_to_end(run_id)
        with contextlib.suppress(Torn):  # up to there
            while pieces := await self._read(tenant, run_id, seen.place, PIECE_BYTES):
                for start, frames in pieces:
                    if start == seen.place:  # else another one who asks was faster
                        seen.remains.feed(frames)
                        seen.place += len(frames)
                        if self._seen.get(run_id) is seen:
                            self._bytes += len(frames)
        self._make_room()
        return seen.remains

    def forget(self, run_id: str) -> None:
        """The run has ended, or is gone."""
        seen = self._seen.pop(run_id, None)
        if seen is not None:
            self._bytes -= seen.place

    def _make_room(self) -> None:
        """Whoever was not asked for the longest goes."""
        while self._bytes > MEMORY_BYTES:
            self.forget(next(iter(self._seen)))
