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
    added: int = 0
    """What was stored while the figure is read: it may be in it or not, and is counted until the next look."""


class Quota:
    """Compares what a key has in store with what it may have, without waiting for the database.

    Which keys have had their share is read before the first request. From then on a figure is read anew when a request
    finds it old, and that request is judged by what is known: what it may miss is what other gateways have stored in the
    last `FRESH_S`, and answers that are still being given.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, storage: Storage, limit: int, *, is_shared: bool) -> None:
        """`limit` is a number of bytes, 0 for none. `is_shared`: other gateways store in the same database."""
        self._loop = loop
        self._storage = storage
        self._limit = limit
        self._is_shared = is_shared
        self._full: dict[tuple[Tenant, str], int] = {}
        """Keys that have had their share, for those that no request of this process has named yet."""
        self._known: dict[tuple[Tenant, str], _Known] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Learn which keys have had their share."""
        if not self._limit:
            return
        await self._look()
        if self._is_shared:
            task = self._loop.create_task(self._keep_looking())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def check(self, tenant: Tenant, key: str) -> None:
        """Raises StorageQuotaExceeded when the key has had its share."""
        size = self._size(tenant, key)
        if size is not None and size >= self._limit:
            raise StorageQuotaExceeded(
                f"This key has {size} bytes in store and may have {self._limit} (storage.quota). Delete stored "
                "responses, or send 'store': false and no Idempotency-Key.",
                param="store",
            )

    def is_full(self, tenant: Tenant, key: str) -> bool:
        """Whether the key has had its share."""
        size = self._size(tenant, key)
        return size is not None and size >= self._limit

    def add(self, tenant: Tenant, key: str, size: int) -> None:
        """So many bytes were stored."""
        known = self._known.get((tenant, key)) if self._limit else None
        if known is not None:
            known.size += size
            known.added += size

    def _size(self, tenant: Tenant, key: str) -> int | None:
        """What the key has in store, as far as it is known; None where it may have as much as it likes."""
        if not self._limit:
            return None
        known = self._known.get((tenant, key))
        if known is None:
            known = self._known[tenant, key] = _Known(self._full.get((tenant, key), 0), -FRESH_S)
        if not known.reading and self._loop.time() - known.read_at >= FRESH_S:
            known.reading = True
            task = self._loop.create_task(self._read(tenant, key, known))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return known.size

    async def _look(self) -> None:
        try:
            self._full = await self._storage.full_keys(self._limit)
        except StorageUnavailable:
            return  # nothing can be stored either; what was known stays

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(FRESH_S)
            await self._look()

    async def _read(self, tenant: Tenant, key: str, known: _Known) -> None:
        known.added = 0
        try:
            found = await self._storage.stored(tenant, key)
            known.size = found.size + known.added
        except StorageUnavailable:
            return  # the next request asks again
        finally:
            known.reading = False
        known.read_at = self._loop.time()
