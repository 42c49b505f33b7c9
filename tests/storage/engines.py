"""Engines that fail when they are told to: put between the storage and a real one."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from tidegate.storage.engine import Engine, Unavailable
from tidegate.storage.statement import Dialect, Work

__all__ = ["Watched"]

T = TypeVar("T")


class Watched:
    """A real engine whose transactions and reads are counted, and that can be out of order in three ways."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.dialect: Dialect = engine.dialect
        self.syncs: list[bool] = []
        """One for each transaction: whether it had to be on the disk."""
        self.reads = 0
        self.is_down = False
        """Nothing arrives."""
        self.loses_answers = 0
        """So many transactions are committed, and then the connection breaks."""
        self.delay_s = 0.0
        """So much longer a transaction takes."""
        self.begun: list[float] = []
        """When each transaction began, by the monotonic clock."""

    @property
    def commits(self) -> int:
        return len(self.syncs)

    async def write(self, work: Callable[[], Work[T]], *, sync: bool) -> T:
        if self.is_down:
            raise Unavailable("out of order")
        self.begun.append(time.monotonic())
        await asyncio.sleep(self.delay_s)
        result = await self._engine.write(work, sync=sync)
        self.syncs.append(sync)
        if self.loses_answers:
            self.loses_answers -= 1
            raise Unavailable("the connection broke while the transaction was committed")
        return result

    async def read(self, work: Callable[[], Work[T]]) -> T:
        if self.is_down:
            raise Unavailable("out of order")
        self.reads += 1
        return await self._engine.read(work)

    async def appear(self, process: int) -> None:
        await self._engine.appear(process)

    async def is_alive(self, process: int) -> bool | None:
        return None  # as between hosts

    def listen(self, heard: Callable[[str], None]) -> None:
        self._engine.listen(heard)

    def tell(self, words: str) -> None:
        self._engine.tell(words)

    async def close(self) -> None:
        await self._engine.close()
