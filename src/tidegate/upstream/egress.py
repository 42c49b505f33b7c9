"""How an origin is reached: addresses, TLS, proxies."""

import asyncio
import functools
import itertools
import math
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from tidegate.upstream.addresses import is_metadata
from tidegate.upstream.connection import Connection
from tidegate.upstream.proxy import Proxy
from tidegate.upstream.tls import Tls
from tidegate.wire import errors

__all__ = ["Resolver", "Route", "connect_socket", "system_resolver", "tls_context"]

ATTEMPT_DELAY_S = 0.25
"""RFC 8305 §5: how long one address may try before the next one is started beside it."""

SESSION_S = 60.0
"""At least so long one TLS session is taken up again before another is kept."""

_TUNNEL_LIMIT = 16 * 1024
_TUNNEL_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |$)")

_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    # A model may think for ten minutes without a byte; NAT tables forget after five, and would not tell.
    (socket.IPPROTO_TCP, getattr(socket, option), seconds)
    for option, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30))
    if hasattr(socket, option)  # not on every system
]

Resolver = Callable[[str, int], Awaitable[list[tuple[Any, ...]]]]
"""Finds the addresses of a host and port, in the form of `socket.getaddrinfo`."""


def tls_context(ca_bundle: str | None, *, for_proxy: bool = False) -> ssl.SSLContext:
    """A client context that verifies chain and host name; `ca_bundle` is a PEM file that replaces the system's roots
    for the provider, and is added to them for a proxy.

    Raises OSError, of which ssl.SSLError is one, when the bundle cannot be read.
    """
    if not ca_bundle:
        return _system_context()
    context = _new_context(None if for_proxy else ca_bundle)
    if for_proxy:
        context.load_verify_locations(ca_bundle)
    return context


@functools.cache
def _system_context() -> ssl.SSLContext:
    # Reading the system's roots takes some 50 ms: once for all providers, and not again at a reload.
    return _new_context(None)


def _new_context(ca_bundle: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # else it is what the machine's OpenSSL was set to, or nothing
    context.set_alpn_protocols(["http/1.1"])
    return context


class Route:
    """The way to one origin. `connect` is what a pool calls for a new connection."""

    __slots__ = (
        "_context",
        "_host",
        "_lookup",
        "_loop",
        "_port",
        "_proxy",
        "_proxy_context",
        "_resolver",
        "_session",
        "_session_due",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        proxy: Proxy | None = None,
        proxy_context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
        once: bool = False,
    ) -> None:
        """`context` is for TLS with the origin, `proxy_context` for TLS with the proxy. `once`: no connection will follow the
        first, so that its TLS session is of no use."""
        self._loop = loop
        self._host = host
        self._port = port
        self._context = context
        self._proxy = proxy
        self._proxy_context = proxy_context
        self._resolver = resolver or system_resolver(loop)
        self._lookup: asyncio.Future[list[tuple[Any, ...]]] | None = None
        self._session: ssl.SSLSession | None = None
        """One that the origin has offered to take up again, which saves a round and the certificates."""
        self._session_due = math.inf if once else 0.0
        """When another may be taken, by the loop's clock."""

    async def connect(self, make: Callable[[], Connection]) -> Connection:
        """A ready connection. Raises ProviderError."""
        proxy, context = self._proxy, self._context
        if proxy is None:
            sock = await connect_socket(self._loop, self._host, self._port, self._resolve)
            connection = make()
            await self._attach(
                sock, connection, None if context is None else self._secure(context, connection), self._host
            )
            return connection
        try:
            sock = await connect_socket(self._loop, proxy.host, proxy.port, self._resolve)
            if context is None:
                connection = make()
                await self._attach(sock, connection, self._secure_proxy(proxy, connection), proxy.host)
                return connection
            tunnel = _Tunnel(self._loop)
            await self._attach(sock, tunnel, self._secure_proxy(proxy, tunnel), proxy.host)
        except errors.UpstreamUnreachable as error:
            raise errors.UpstreamUnreachable(f"the proxy cannot be reached: {error.message}") from None
        return await self._through(tunnel, proxy, context, make())

    def _secure(self, context: ssl.SSLContext, protocol: asyncio.Protocol) -> Tls:
        return Tls(self._loop, context, self._host, protocol, session=self._session, keep=self._keep)

    def _keep(self, tls: ssl.SSLObject) -> None:
        """Take the connection's session, unless it goes on with the kept one, or one was taken a moment ago: before Python 3.13
        each look at `session` loses 5 KB for good, a copy that nobody frees."""
        if tls.session_reused or self._loop.time() < self._session_due:
            return
        session = tls.session
        if session is not None:
            self._session = session
            self._session_due = self._loop.time() + SESSION_S

    def _secure_proxy(self, proxy: Proxy, protocol: asyncio.Protocol) -> Tls | None:
        context = self._proxy_context
        return None if context is None else Tls(self._loop, context, proxy.host, protocol)

    async def _attach(self, sock: socket.socket, protocol: asyncio.Protocol, tls: Tls | None, host: str) -> None:
        """`protocol` on `sock`, with TLS if that is given. Whatever ends this early closes the socket."""
        outer = protocol if tls is None else tls
        is_attached = False
        try:
            await self._loop.create_connection(lambda: outer, sock=sock)
            is_attached = True
            if tls is not None:
                await tls.ready
        except BaseException as error:
            if tls is not None:
                tls.abort()
            if not is_attached:
                sock.close()
            if isinstance(error, OSError):
                raise _tls_failure(host, error) from None
            raise

    async def _through(
        self, tunnel: "_Tunnel", proxy: Proxy, context: ssl.SSLContext, connection: Connection
    ) -> Connection:
        """TLS with the origin inside a CONNECT tunnel (RFC 9110 §9.3.6)."""
        tls = self._secure(context, connection)
        try:
            transport = await tunnel.open(self._host, self._port, proxy.authorization)
            transport.set_protocol(tls)
            tls.connection_made(transport)
            await tls.ready
        except BaseException as error:
            tls.abort()
            tunnel.abort()
            if isinstance(error, OSError):
                raise _tls_failure(self._host, error) from None
            raise
        return connection

    async def _resolve(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """Connections that open at the same time share one lookup: the threads for lookups are few, and one name whose
        servers do not answer would take them all."""
        lookup = self._lookup
        if lookup is None:
            lookup = self._lookup = asyncio.ensure_future(self._resolver(host, port))
            lookup.add_done_callback(self._looked_up)
        found = await asyncio.shield(lookup)
        if any(is_metadata(str(address[0])) for _, _, _, _, address in found):
            raise errors.UpstreamUnreachable(
                f"{host} leads to a metadata service, which hands out credentials and is no provider."
            )
        return found

    def _looked_up(self, lookup: "asyncio.Future[list[tuple[Any, ...]]]") -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # also when nobody waits any more


class _Tunnel(asyncio.Protocol):
    """Asks a proxy for a tunnel and waits for its answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ready: asyncio.Future[None] = loop.create_future()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    async def open(self, host: str, port: int, authorization: str | None) -> asyncio.Transport:
        assert self._transport is not None
        name = f"[{host}]" if ":" in host else host
        head = f"CONNECT {name}:{port} HTTP/1.1\r\nhost: {name}:{port}\r\n"
        if authorization is not None:
            head += f"proxy-authorization: {authorization}\r\n"
        self._transport.write(f"{head}\r\n".encode("ascii"))
        await self._ready
        return self._transport

    def abort(self) -> None:
        self._ready.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > _TUNNEL_LIMIT:
                self._fail("its answer to CONNECT is too long.")
            return
        status = _TUNNEL_STATUS.match(bytes(self._received[:end]).split(b"\r\n", 1)[0])
        # Nothing else of the answer is repeated: a proxy may quote the credential that we sent.
        if status is None:
            self._fail("its answer to CONNECT is not HTTP.")
        elif status[1][:1] != b"2":
            self._fail(f"it answered CONNECT with status {int(status[1])}.")
        elif len(self._received) > end + 4:
            self._fail("it sent bytes of its own into the tunnel.")
        elif not self._ready.done():
            self._ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("it closed the connection.")

    def _fail(self, why: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(errors.UpstreamUnreachable(f"the proxy refused the tunnel: {why}"))


def _tls_failure(host: str, error: OSError) -> errors.UpstreamUnreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        return errors.UpstreamUnreachable(f"the TLS certificate of {host} is not trusted: {reason}.")
    reason = (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or str(error)
    return errors.UpstreamUnreachable(f"the TLS handshake with {host} failed: {reason}.")


def system_resolver(loop: asyncio.AbstractEventLoop) -> Resolver:
    """The system's own lookup, in a thread."""

    async def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    return resolve


async def connect_socket(loop: asyncio.AbstractEventLoop, host: str, port: int, resolve: Resolver) -> socket.socket:
    """A connected, non-blocking socket: the first of all addresses to answer (RFC 8305).

    Raises UpstreamUnreachable that says whether the name or the connection failed.
    """
    try:
        found = await resolve(host, port)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a valid host name"
        raise errors.UpstreamUnreachable(f"the name {host!r} cannot be resolved: {reason}.") from None
    pending: set[asyncio.Task[socket.socket]] = set()
    waiting = list(_interleave(found))
    failure: OSError | None = None
    winner: socket.socket | None = None
    try:
        while (waiting or pending) and winner is None:
            if waiting:
                family, address = waiting.pop(0)
                pending.add(loop.create_task(_connect_one(loop, family, address)))
            done, pending = await asyncio.wait(
                pending, timeout=ATTEMPT_DELAY_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                problem = task.exception()
                if isinstance(problem, OSError):
                    failure = problem
                elif winner is None:
                    winner = task.result()
                else:
                    task.result().close()
    finally:
        for task in pending:
            task.cancel()
            task.add_done_callback(_close_late)
    if winner is None:
        reason = "no address"
        if failure is not None:  # the loops put the address in place of the reason
            reason = os.strerror(failure.errno) if failure.errno else str(failure)
        raise errors.UpstreamUnreachable(f"no connection to {host}:{port}: {reason}.")
    return winner


def _close_late(task: "asyncio.Task[socket.socket]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect_one(loop: asyncio.AbstractEventLoop, family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        for level, option, value in _KEEP_ALIVE:
            sock.setsockopt(level, option, value)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _interleave(found: Iterable[tuple[Any, ...]]) -> Iterable[tuple[int, Any]]:
    """Addresses of both families by turns, the resolver's first family first (RFC 8305 §4)."""
    families: dict[int, list[Any]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, []).append(address)
    for round_ in itertools.zip_longest(*([(family, one) for one in all_] for family, all_ in families.items())):
        yield from (pair for pair in round_ if pair is not None)
