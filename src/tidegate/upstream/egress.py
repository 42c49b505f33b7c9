"""How an origin is reached: addresses, TLS, proxies."""

import asyncio
import base64
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from tidegate.upstream.connection import Connection
from tidegate.wire import errors

__all__ = ["Route", "connect_socket", "proxy_from_environment", "tls_context"]

ATTEMPT_DELAY_S = 0.25
"""RFC 8305 §5: how long one address may try before the next one is started beside it."""

_TUNNEL_LIMIT = 16 * 1024

P = TypeVar("P", bound=asyncio.Protocol)


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """A client context that verifies chain and host name; `ca_bundle` is a PEM file that replaces the system's roots.

    Raises OSError or ssl.SSLError when the bundle cannot be read.
    """
    context = ssl.create_default_context(cafile=ca_bundle)
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxy_from_environment(scheme: str, host: str, environment: Mapping[str, str]) -> str | None:
    """The proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` (either case) name for this origin."""
    lowered = {name.lower(): value for name, value in environment.items() if name.lower().endswith("_proxy") and value}
    for name, value in environment.items():  # curl's rule: the lower-case spelling wins
        if name.islower() and name.endswith("_proxy") and value:
            lowered[name] = value
    if host in ("localhost", "127.0.0.1", "::1"):
        return None
    proxies = {name.removesuffix("_proxy"): value for name, value in lowered.items()}
    if _bypassed(host, lowered.get("no_proxy", "")):
        return None
    return proxies.get(scheme) or proxies.get("all")


def _bypassed(host: str, no_proxy: str) -> bool:
    """`NO_PROXY` as curl and Go read it: `*`, a host, a domain and all below it, an address or a network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in no_proxy.replace(" ", ",").split(","):
        pattern = entry.strip().lower().lstrip(".")
        if not pattern:
            continue
        if pattern == "*":
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(pattern, strict=False):
                    return True
            except ValueError:
                continue
        elif host.lower() == pattern or host.lower().endswith("." + pattern):
            return True
    return False


class Route:
    """The way to one origin. `connect` is what a pool calls for a new connection."""

    __slots__ = ("_context", "_host", "_loop", "_port", "_proxy", "_tls")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        proxy: str | None,
    ) -> None:
        self._loop = loop
        self._host = host
        self._port = port
        self._context = context
        self._tls = context is not None
        self._proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None

    @property
    def absolute_form(self) -> bool:
        """Whether requests must name the whole URL: plain HTTP through a proxy (RFC 9112 §3.2.2)."""
        return self._proxy is not None and not self._tls

    @property
    def proxy_authorization(self) -> bytes | None:
        return _basic(self._proxy) if self._proxy is not None else None

    async def connect(self, make: Callable[[], Connection]) -> Connection:
        """A ready connection. Raises ProviderError."""
        try:
            if self._proxy is not None:
                return await self._through_proxy(self._proxy, make)
            sock = await connect_socket(self._loop, self._host, self._port)
            return await self._wrap(sock, make)
        except ssl.SSLCertVerificationError as error:
            raise errors.UpstreamUnreachable(
                f"the TLS certificate of {self._host} is not trusted: {error.verify_message or error.reason}"
            ) from None
        except ssl.SSLError as error:
            raise errors.UpstreamUnreachable(f"TLS with {self._host} failed: {error.reason or error}") from None

    async def _wrap(self, sock: socket.socket, make: Callable[[], Connection]) -> Connection:
        try:
            _, connection = await self._loop.create_connection(
                make, sock=sock, ssl=self._context, server_hostname=self._host if self._tls else None
            )
        except BaseException:
            sock.close()
            raise
        return connection

    async def _through_proxy(self, proxy: SplitResult, make: Callable[[], Connection]) -> Connection:
        assert proxy.hostname is not None
        try:
            sock = await connect_socket(self._loop, proxy.hostname, proxy.port or 80)
        except errors.UpstreamUnreachable as error:
            raise errors.UpstreamUnreachable(f"the proxy cannot be reached: {error.message}") from None
        if not self._tls:
            return await self._wrap(sock, make)
        transport, tunnel = await self._loop.create_connection(_Tunnel, sock=sock)
        try:
            name = f"[{self._host}]" if ":" in self._host else self._host
            authority = f"{name}:{self._port}".encode("ascii")
            head = b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (authority, authority)
            authorization = _basic(proxy)
            if authorization is not None:
                head += b"proxy-authorization: %b\r\n" % authorization
            transport.write(head + b"\r\n")
            await tunnel.ready
            connection = make()
            assert self._context is not None
            secured = await self._loop.start_tls(transport, connection, self._context, server_hostname=self._host)
            assert secured is not None
            connection.connection_made(secured)
        except BaseException:
            transport.abort()
            raise
        return connection


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's answer to CONNECT (RFC 9110 §9.3.6)."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > _TUNNEL_LIMIT:
                self._fail("its answer to CONNECT is too long")
            return
        status = bytes(self._received[:end]).split(b"\r\n", 1)[0].split(b" ", 2)
        if len(status) > 1 and status[1][:1] == b"2":
            if not self.ready.done():
                self.ready.set_result(None)
        else:
            self._fail(f"it answered CONNECT with {b' '.join(status[1:]).decode('latin-1')!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("it closed the connection")

    def _fail(self, why: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(errors.UpstreamUnreachable(f"the proxy refused: {why}"))


def _basic(proxy: SplitResult) -> bytes | None:
    if proxy.username is None:
        return None
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return b"Basic " + base64.b64encode(pair)


async def connect_socket(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket: the first of all addresses to answer (RFC 8305), resolved off the loop.

    Raises UpstreamUnreachable that says whether the name or the connection failed.
    """
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a valid host name"
        raise errors.UpstreamUnreachable(f"the name {host!r} cannot be resolved: {reason}") from None
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
        reason = (failure.strerror or str(failure)) if failure is not None else "no address"
        raise errors.UpstreamUnreachable(f"no connection to {host}:{port}: {reason}")
    return winner


def _close_late(task: "asyncio.Task[socket.socket]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect_one(loop: asyncio.AbstractEventLoop, family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
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
    lists = list(families.values())
    names = list(families)
    for index in range(max((len(one) for one in lists), default=0)):
        for family, one in zip(names, lists, strict=True):
            if index < len(one):
                yield family, one[index]
