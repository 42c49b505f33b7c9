"""One configured provider, ready to be called: where it is, how it is reached, and with which credential.

Credential and origin are kept together and nowhere else, so that a credential cannot be sent to another host.
"""

import asyncio
import itertools
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit

from tidegate import __version__
from tidegate.config.schema import ProviderConfig
from tidegate.dialects.dialect import Destination, Endpoint
from tidegate.providers.record import Provider
from tidegate.upstream.egress import Resolver, Route, tls_context
from tidegate.upstream.outgoing import Request
from tidegate.upstream.pool import Pool
from tidegate.upstream.proxy import Proxy, proxy_from_environment
from tidegate.upstream.wheel import Wheel
from tidegate.wire.forms import Upload

__all__ = ["MAX_CONNECTIONS", "ProviderUnusable", "Upstream"]

SHORTEST_SECRET = 6
"""A shorter header value is no secret, and may be part of any word."""

HEADS_KEPT = 256
"""Paths for which the head of a request is kept ready."""

MODEL_KEPT = 256
"""Longest name of a model for which it is."""

RELAYED_KEPT = 512
"""Most bytes of a client's header fields with which it is."""

MAX_CONNECTIONS = 20_000
"""Most connections to one provider; beyond it requests are refused, not queued."""

JOINED_BYTES = 65536
"""A shorter body goes out in one piece with its head."""

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[0-9A-Za-z._~:%-]+")
_TARGET = "/%:@!$&'()*+,;=~?"
"""What stays as it is in a request target (RFC 3986 §3.3), besides letters, digits and `-._~`."""
_FRAMING = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class ProviderUnusable(ValueError):
    """A provider's settings cannot work: a bad address, header or certificate file. The message says which and why."""


class Upstream:
    """The connections to one provider and the heads of the requests sent over them."""

    def __init__(
        self,
        name: str,
        config: ProviderConfig,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        *,
        base_url: str | None = None,
        environment: Mapping[str, str],
        resolver: Resolver | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """`base_url` replaces the record's address, for a server that this process starts itself.

        Raises ProviderUnusable.
        """
        self.name = name
        self.config = config
        self.record: Provider = config.record()
        self._scheme, host, port, self._base_path = _origin(name, base_url or self.record.base_url)
        secure = self._scheme == "https"
        shown = f"[{host}]" if ":" in host else host
        self._authority = shown if port == _PORTS[self._scheme] else f"{shown}:{port}"
        self.origin = (self._scheme, host, port)
        self._proxy = self._find_proxy(host, port, environment)
        bundle = config.ca_bundle or None
        try:
            context = tls_context(bundle) if secure else None
            proxy_context = (
                tls_context(bundle, for_proxy=True) if self._proxy is not None and self._proxy.secure else None
            )
        except OSError as error:  # ssl.SSLError is one of them
            raise ProviderUnusable(
                f"providers.{name}.ca_bundle: {config.ca_bundle!r} cannot be used: {error}"
            ) from None
        route = Route(
            loop,
            host=host,
            port=port,
            context=context,
            proxy=self._proxy,
            proxy_context=proxy_context,
            resolver=resolver,
        )
        self.pool = Pool(name, route.connect, wheel, loop, authority=self._authority, limit=max_connections)
        credentials: list[str | None] = [secret.reveal() for secret in config.credentials]
        known = [*credentials, *(secret.reveal() for secret in config.headers.values())]
        self._secrets = [secret for secret in known if secret is not None and len(secret) >= SHORTEST_SECRET]
        self.credentials = max(1, len(credentials))
        """How many there are to choose from; a provider without any has one way to be called as well."""
        self._turns = itertools.cycle(range(self.credentials))
        self._fixed = [self._fields(credential) for credential in credentials or [None]]
        self._operators = frozenset(header.lower().encode("latin-1") for header in config.headers)
        self._naming = frozenset(endpoint for endpoint, path in self.record.paths.items() if "{model}" in path)
        self._posts: dict[tuple[Endpoint, bool, str], list[bytes]] = {}
        """The heads of requests, up to the length of their body, by endpoint and operation, of paths that name no model."""
        self._named: dict[tuple[Endpoint, bool, str, str], list[bytes]] = {}
        """Those of paths that do: as many as may be kept."""
        self._relaying: dict[tuple[bytes | tuple[bytes, bytes], ...], bytes] = {}
        """Heads with fields of clients, by the head and the fields."""

    def request(
        self,
        endpoint: Endpoint,
        body: bytes,
        *,
        stream: bool,
        model: str = "",
        operation: str = "",
        relayed: Sequence[tuple[bytes, bytes]] = (),
        credential: int = 0,
    ) -> Request:
        """A POST to `endpoint`, head and body, with the credential in that position. `model` is for paths that name it,
        `operation` comes behind the path; where that names a method, it is the method. `relayed` are header fields of the client, fit to be sent: they replace those
        that every call to the provider has, but not the operator's."""
        heads = self._posts.get((endpoint, stream, operation)) or self._posting(endpoint, stream, operation, model)
        head = heads[credential]
        if relayed:
            head = self._relaying.get((head, *relayed)) or self._with(head, relayed)
        size = len(body)
        if size < JOINED_BYTES:
            return Request(self.pool.host_line, b"%b%d\r\n\r\n%b" % (head, size, body))
        return Request(self.pool.host_line, b"%b%d\r\n\r\n" % (head, size), (body,))

    def upload(
        self, endpoint: Endpoint, body: Upload, *, stream: bool, model: str = "", credential: int = 0
    ) -> Request:
        """The same with a body in parts, whose answer may be of any type unless it streams."""
        heads = self._posts.get((endpoint, stream, "")) or self._posting(endpoint, stream, "", model)
        head = heads[credential]
        fields = {b"content-type: ": body.content_type, **({} if stream else {b"accept: ": b"*/*"})}
        first, host, *lines = head.split(b"\r\n")
        kept = (line for line in lines if not line.startswith(tuple(fields)))
        head = b"\r\n".join((first, host, *(name + value for name, value in fields.items()), *kept))
        return Request(self.pool.host_line, b"%b%d\r\n\r\n" % (head, body.size), body.parts)

    def turn(self) -> int:
        """The position of the credential whose turn it is."""
        return next(self._turns)

    def path_of(self, destination: Destination) -> str:
        """The path, as the provider sees it, of requests that go there."""
        path = self.record.paths[destination.endpoint].partition(":{method}")[0]
        return self._base_path + path.replace("{model}", destination.model)

    def get(self, path: str) -> Request:
        """A GET of `path` below the base URL."""
        heads = self._heads("GET", path, "application/json")
        return Request(self.pool.host_line, heads[next(self._turns)] + b"\r\n")

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that leads to the provider, if one does."""
        return self._proxy

    def redacted(self, text: str) -> str:
        """`text`, which a provider has sent, without any secret of ours that it repeats (P8)."""
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text

    def close(self) -> None:
        """Close idle connections; running exchanges end by themselves."""
        self.pool.close()

    def _posting(self, endpoint: Endpoint, stream: bool, operation: str, model: str) -> list[bytes]:
        """The heads of requests to one endpoint, up to the length of their body; kept, within limits."""
        path = self.record.paths[endpoint]
        if endpoint not in self._naming:
            heads = self._posts[endpoint, stream, operation] = self._post_heads(endpoint, stream, path + operation)
            return heads
        key = (endpoint, stream, operation, model)
        kept = self._named.get(key)
        if kept is not None:
            return kept
        method = "streamGenerateContent?alt=sse" if stream else operation.removeprefix(":") or "generateContent"
        path = path.replace("{method}", method).replace("{model}", quote(model, safe=""))
        heads = self._post_heads(endpoint, stream, path)
        if len(model) <= MODEL_KEPT:
            if len(self._named) >= HEADS_KEPT:
                self._named.clear()  # clients choose what models a path names
            self._named[key] = heads
        return heads

    def _post_heads(self, endpoint: Endpoint, stream: bool, path: str) -> list[bytes]:
        accept = "*/*" if endpoint == "speech" else "text/event-stream" if stream else "application/json"
        return [b"%bcontent-length: " % head for head in self._heads("POST", path, accept)]

    def _with(self, head: bytes, relayed: Sequence[tuple[bytes, bytes]]) -> bytes:
        """`head`, which ends where the length of the body is to stand, with fields of the client; kept, within limits."""
        first, host, *lines = head.split(b"\r\n")
        last = lines.pop()
        for name, value in relayed:
            if name not in self._operators:
                prefix = name + b": "
                lines = [line for line in lines if not line.startswith(prefix)]
                lines.append(prefix + value)
        whole = b"\r\n".join((first, host, *lines, last))
        if sum([len(value) for _, value in relayed]) <= RELAYED_KEPT:
            if len(self._relaying) >= HEADS_KEPT:
                self._relaying.clear()  # clients choose what their fields say
            self._relaying[head, *relayed] = whole
        return whole

    def _heads(self, method: str, path: str, accept: str) -> list[bytes]:
        """The head of a request with each of the credentials, without its last, empty line."""
        target = quote(self._base_path + path, safe=_TARGET)
        if self._proxy is not None and self._scheme == "http":  # RFC 9112 §3.2.2: absolute-form
            target = f"http://{self._authority}{target}"
        ours = {"accept": accept, "accept-encoding": "identity"}
        if method == "POST":
            ours["content-type"] = "application/json"
        heads = []
        for fixed in self._fixed:
            fields = "".join(f"{name}: {value}\r\n" for name, value in {**ours, **fixed}.items())
            line = f"{method} {target} HTTP/1.1"
            heads.append(line.encode("latin-1") + self.pool.host_line + fields.encode("latin-1"))
        return heads

    def _fields(self, credential: str | None) -> dict[str, str]:
        """The header fields that no request changes: the provider's, then the credential, then the operator's."""
        fields = {"user-agent": f"tidegate/{__version__}"}
        fields.update((header.lower(), value) for header, value in self.record.headers.items())
        if credential is not None and self.record.auth in ("x-api-key", "x-goog-api-key", "api-key"):
            fields[self.record.auth] = credential
        elif credential is not None and self.record.auth != "none":
            fields["authorization"] = f"Bearer {credential}"
        if self._proxy is not None and self._proxy.authorization is not None and self._scheme == "http":
            fields["proxy-authorization"] = self._proxy.authorization
        fields.update((header.lower(), secret.reveal()) for header, secret in self.config.headers.items())
        for header, value in fields.items():
            if header in _FRAMING or not _FIELD_NAME.fullmatch(header) or not _FIELD_VALUE.fullmatch(value):
                raise ProviderUnusable(
                    f"providers.{self.name}: the header {header!r} cannot be sent as it is configured"
                )
        return fields

    def _find_proxy(self, host: str, port: int, environment: Mapping[str, str]) -> Proxy | None:
        if self.config.proxy is not None:
            source, address = f"providers.{self.name}.proxy", self.config.proxy.reveal()
            if address == "none":
                return None
        else:
            found = proxy_from_environment(self._scheme, host, port, environment)
            if found is None:
                return None
            source, address = f"providers.{self.name}: the environment variable {found[0]}", found[1]
        try:
            return Proxy.parse(address)
        except ValueError as error:
            raise ProviderUnusable(f"{source} {error}") from None


def _origin(name: str, base_url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of an address. Raises ProviderUnusable, which does not repeat the address: it may
    hold a password."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
        if host and not host.isascii():
            host = host.encode("idna").decode("ascii")
    except ValueError:  # UnicodeError is one of them
        host = port = None
        parts = urlsplit("")
    if not host or parts.scheme not in _PORTS or not _HOST.fullmatch(host):
        raise ProviderUnusable(f"providers.{name}.base_url is not an http(s) address")
    if parts.username is not None:
        raise ProviderUnusable(f"providers.{name}.base_url has a user or password in it")
    return parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/")
