"""Frames from a journal to a client, as fast as it reads them."""

import asyncio
from collections.abc import AsyncIterator

from tidegate.gateway.downstream import Downstream

__all__ = ["Pump"]


class Pump:
    """Writes what an iterator gives, and waits while the client is behind. The caller ends the answer."""

    __slots__ = ("_content_type", "_downstream", "_fields", "_may_write", "started")

    def __init__(self, downstream: Downstream, fields: bytes, content_type: bytes, *, paused: bool) -> None:
        self._downstream = downstream
        self._fields = fields
        self._content_type = content_type
        self._may_write = asyncio.Event()
        if not paused:
            self._may_write.set()
        self.started = False

    async def run(self, frames: AsyncIterator[bytes]) -> None:
        """Until the iterator ends. With the first piece, which may be empty, the head goes out."""
        async for piece in frames:
            await self._may_write.wait()
            if not self.started:
                self.started = True
                self._downstream.start(self._fields, self._content_type, piece)
            elif piece:
                self._downstream.write(piece)

    def pause(self) -> None:
        self._may_write.clear()

    def resume(self) -> None:
        self._may_write.set()
