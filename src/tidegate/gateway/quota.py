"""How much one key may have in store."""

import asyncio

import msgspec

from tidegate.storage.records import Tenant
from tidegate.storage.storage import Storage
from tidegate.wire.errors import StorageQuotaExceeded, StorageUnavailable

__all__ = ["Quota"]

FRESH_S = 5.0
"""How old a figure may be. In between what is added is counted here; what is deleted shows with the next look."""


class _Known(msgspec.Struct):
    size: int
    read_at: float
    reading: bool = False


class Quota:
    """Compares what a key has in store with what it may have, without waiting for the database."""

    def __init__(self, loop: asyncio.AbstractEventLoop, storage: Storage, limit: int) -> None:
        """`limit` is a number of bytes, 0 for none."""
        self._loop = loop
        self._storage = storage
        self._limit = limit
        self._known: dict[tuple[Tenant, str], _Known] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self, tenant: Tenant, key: str) -> None:
        """Raises StorageQuotaExceeded when the key has had its share."""
        if not self._limit:
            return
        known = self._known.get((tenant, key))
        if known is None:
            known = self._known[tenant, key] = _Known(0, -FRESH_S)
        if not known.reading and self._loop.time() - known.read_at >= FRESH_S:
            known.reading = True
            task = self._loop.create_task(self._read(tenant, key, known))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if known.size >= self._limit:
            raise StorageQuotaExceeded(
                f"This key has {known.size} bytes in store and may have {self._limit} (storage.quota). Delete stored "
                "responses, or send 'store': false.",
                param="store",
            )

    def add(self, tenant: Tenant, key: str, size: int) -> None:
        """So many bytes were stored."""
        known = self._known.get((tenant, key))
        if known is not None:
            known.size += size

    async def _read(self, tenant: Tenant, key: str, known: _Known) -> None:
        try:
            known.size = (await self._storage.stored(tenant, key)).size
        except StorageUnavailable:
            return  # the next request asks again
        finally:
            known.reading = False
        known.read_at = self._loop.time()
