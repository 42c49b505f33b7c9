"""A connection of the gateway whose transport is the test's own, so that single writes can be told apart."""

import asyncio
from types import TracebackType
from typing import Self

from tests.support.running import Running, wait_for
from tidegate.server.connection import Connection

__all__ = ["Client", "Writes"]


class Writes(asyncio.Transport):
    """Keeps every write on its own."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Client:
    """`with Client(gateway) as client:` — a connection of the gateway with that transport."""

    def __init__(self, gateway: Running) -> None:
        self.gateway = gateway
        self.transport = Writes()
        self.connection = gateway.call(self._open)

    def _open(self) -> Connection:
        server = self.gateway.server
        connection = Connection(server.config, server.server_state, {}, self.gateway.loop)
        connection.connection_made(self.transport)
        return connection

    def ask(self, data: bytes) -> list[bytes]:
        """The writes of one chunked answer."""
        self.gateway.call(lambda: self.connection.data_received(data))
        wait_for(lambda: self.transport.writes and self.transport.writes[-1].endswith(b"0\r\n\r\n"))
        return self.transport.writes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gateway.call(lambda: self.connection.connection_lost(None))
