"""What processes on one PostgreSQL call to each other, by LISTEN and NOTIFY on a connection of their own.

A call is a hint to look into the database sooner than one would have. It may be lost: while the connection is away, or
where a pooler in between hands every transaction to another session.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from tidegate.telemetry.log import get_logger

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Line"]

CHANNEL: Final = "tidegate"

WORDS: Final = 1000
"""Calls that wait for the connection; older ones are forgotten, as those would be that nobody was there to hear."""

SIGN_OF_LIFE_S: Final = 10.0
"""After so much silence is asked whether the server is still there."""

ANSWER_S: Final = 5.0

BACKOFF_S: Final = (0.2, 5.0)
"""First and longest pause before the connection is made again."""


class Line:
    """One per engine. Neither calling nor hearing waits for anything."""

    def __init__(
        self, connect: Callable[[], "Awaitable[asyncpg.Connection[Any]]"], heard: Callable[[str], None]
    ) -> None:
        self._connect = connect
        self._heard = heard
        self._log = get_logger()
        self.is_up = False
        """Whether calls are heard at the moment."""
        self._words: deque[str] = deque(maxlen=WORDS)
        self._work = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def tell(self, words: str) -> None:
        """Call to all other processes."""
        self._words.append(words)
        self._work.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause = BACKOFF_S[0]
        while True:
            try:
                connection = await self._connect()
                try:
                    async with asyncio.timeout(ANSWER_S):
                        await connection.add_listener(CHANNEL, self._on_call)
                    pause = BACKOFF_S[0]
                    connection.add_termination_listener(self._on_end)
                    self.is_up = True
                    await self._serve(connection)
                finally:
                    self.is_up = False
                    connection.terminate()
                reason = "the connection ended"
            except Exception as error:  # whatever it is, the database itself is asked as well
                reason = type(error).__name__
            if pause == BACKOFF_S[0]:
                self._log.info("storage_line_lost", reason=reason)
            await asyncio.sleep(pause)
            pause = min(2 * pause, BACKOFF_S[1])

    async def _serve(self, connection: "asyncpg.Connection[Any]") -> None:
        """Call what is to be called, until the connection breaks."""
        while not connection.is_closed():
            try:
                async with asyncio.timeout(SIGN_OF_LIFE_S):
                    await self._work.wait()
            except TimeoutError:
                await connection.execute("SELECT 1", timeout=ANSWER_S)
                continue
            self._work.clear()
            words = list(self._words)
            self._words.clear()
            if words:
                await connection.execute(
                    f"SELECT pg_notify('{CHANNEL}', words) FROM unnest($1::text[]) AS words",
                    words,
                    timeout=ANSWER_S,
                )

    def _on_end(self, connection: object) -> None:
        self._work.set()

    def _on_call(self, connection: "asyncpg.Connection[Any]", pid: int, channel: str, words: object) -> None:
        if pid != connection.get_server_pid():
            self._heard(str(words))
