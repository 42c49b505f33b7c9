"""How a gateway that is told to stop comes to its end (promise P9).

First it only says so, while everything goes on: a load balancer needs a while to notice. Then nothing new begins, and what
runs may finish. What cannot is ended in its own form, so that no client takes a part for the whole.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from tidegate.gateway.gateway import Gateway
from tidegate.telemetry import log

if TYPE_CHECKING:
    from uvicorn.server import ServerState

__all__ = ["MARGIN_S", "Drain"]

LOOK_S = 0.02
"""How often is looked whether all is done."""

TICK_S = 1.0
"""How often uvicorn renews the date that answers bear."""

ENDING_S = 1.0
"""How long the last bytes may take to reach clients, once for the endings of what ran, and once for what ends the rest."""

FORCED_S = 2.0
"""How long the database and everything else may take to close after a second signal."""

MARGIN_S = 10.0
"""What a supervisor should wait beyond delay and grace before it kills: for endings, and for the database."""


class Client(Protocol):
    """A connection, as far as its end goes."""

    def shutdown(self) -> None:
        """No new work is taken on."""

    def leave(self) -> None:
        """What ran has been ended; nothing else is waited for."""

    def drop(self) -> None:
        """Close at once."""


class Host(Protocol):
    """What is needed of `uvicorn.Server`."""

    servers: list[asyncio.Server]
    server_state: "ServerState"
    force_exit: bool

    async def on_tick(self, counter: int) -> bool: ...


class Drain:
    """See the module. `close` ends everything beside the connections."""

    def __init__(
        self, host: Host, gateway: Gateway, close: Callable[[], Awaitable[None]], *, delay_s: float, grace_s: float
    ) -> None:
        self._host = host
        self._gateway = gateway
        self._close = close
        self._delay_s = delay_s
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._ticked_at = self._loop.time()

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Until nothing is left. A second signal (`force_exit`) takes away the delay and the grace."""
        gateway = self._gateway
        gateway.begin_drain()
        log.get_logger().info("draining", running=len(gateway.exchanges), delay_s=self._delay_s, grace_s=self._grace_s)
        await self._wait(self._delay_s, lambda: False)
        for server in self._host.servers:
            server.close()
        for sock in sockets:
            sock.close()
        gateway.refusing = True
        for client in self._clients():
            client.shutdown()
        await self._wait(self._grace_s, lambda: self._is_quiet() and not gateway.exchanges)
        gateway.end_exchanges()
        for client in self._clients():
            client.leave()
        # Whoever follows a stream that was ended just now, or repeats it, reads its ending from the journal.
        await self._wait(ENDING_S, self._is_quiet, forced=True)
        left = list(self._host.server_state.tasks)
        for task in left:
            task.cancel()
        await self._close_parts()
        if left:
            await self._wait(ENDING_S, lambda: not self._host.server_state.connections, forced=True)
        for client in self._clients():
            client.drop()

    def _clients(self) -> list[Client]:
        return [cast("Client", one) for one in self._host.server_state.connections]

    def _is_quiet(self) -> bool:
        state = self._host.server_state
        return not state.connections and not state.tasks

    async def _wait(self, seconds: float, is_done: Callable[[], bool], *, forced: bool = False) -> None:
        """`forced`: even a second signal does not make it shorter."""
        until = self._loop.time() + seconds
        while not is_done() and (forced or not self._host.force_exit):
            now = self._loop.time()
            if now >= until:
                return
            if now >= self._ticked_at + TICK_S:
                self._ticked_at = now
                await self._host.on_tick(0)
            await asyncio.sleep(min(LOOK_S, until - now))

    async def _close_parts(self) -> None:
        closing = asyncio.ensure_future(self._close())
        while not closing.done() and not self._host.force_exit:
            await asyncio.wait([closing], timeout=LOOK_S)
        if self._host.force_exit:
            await asyncio.wait([closing], timeout=FORCED_S)
        if closing.done():
            closing.result()
        else:
            log.get_logger().warning("stopped_early", after_s=FORCED_S)
