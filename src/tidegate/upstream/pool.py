"""The keep-alive connections to one origin."""

import asyncio
from collections.abc import Awaitable, Callable

from tidegate.upstream.connection import Connection
from tidegate.upstream.wheel import Wheel
from tidegate.wire import errors

__all__ = ["IDLE_LIMIT_S", "Pool"]

IDLE_LIMIT_S = 55.0
"""How long an unused connection is kept. Just under the 60 s that most load balancers allow."""

Connect = Callable[[Callable[[], Connection]], Awaitable[Connection]]


class Pool:
    """Idle connections of one origin, newest first, and the count of all of them.

    The newest is taken first, so that a burst's surplus ages out; a provider's FIN removes a connection at once.
    """

    __slots__ = ("_connect", "_idle", "_limit", "_loop", "_open", "_opening", "closing", "host_line", "name", "wheel")

    def __init__(
        self,
        name: str,
        connect: Connect,
        wheel: Wheel,
        loop: asyncio.AbstractEventLoop,
        *,
        authority: str,
        limit: int,
    ) -> None:
        """`name` is the provider's, for error messages; `authority` is where `connect` leads."""
        self.name = name
        self.host_line = f"\r\nhost: {authority}\r\n".encode("ascii")
        """What follows the request line of everything that is sent here."""
        self._connect = connect
        self._idle: dict[Connection, None] = {}  # a set that remembers its order
        self._open: set[Connection] = set()
        self._opening = 0
        self._limit = limit
        self._loop = loop
        self.wheel = wheel
        self.closing = False

    def take(self) -> Connection | None:
        """The idle connection that was used last, or None."""
        return self._idle.popitem()[0] if self._idle else None

    async def open(self) -> Connection:
        """A new connection. Raises ProviderError, or Overloaded when the cap is reached."""
        if len(self._open) + self._opening >= self._limit:
            raise errors.Overloaded(f"all {self._limit} connections are in use.", retry_after=1)
        self._opening += 1
        try:
            connection = await self._connect(lambda: Connection(self, self._loop))
        finally:
            self._opening -= 1
        if not connection.closed:  # a provider that is full accepts and closes in one breath
            self._open.add(connection)
        return connection

    def put(self, connection: Connection) -> None:
        """Take back a connection whose exchange has ended."""
        if self.closing:
            connection.abort()
            return
        connection.idle_until = idle_until = connection.last_read + IDLE_LIMIT_S
        self._idle[connection] = None
        if connection.look_at > idle_until:
            self.wheel.watch(connection, idle_until)

    def drop(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def close(self) -> None:
        """Close what is idle; what is busy closes when its exchange ends."""
        self.closing = True
        for connection in list(self._idle):
            connection.abort()

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def idle_count(self) -> int:
        return len(self._idle)
