"""One configured provider, ready to be called: where it is, how it is reached, and with which credential.

Credential and origin are kept together and nowhere else, so that a credential cannot be sent to another host.
"""

import asyncio
import itertools
import re
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from tidegate import __version__
from tidegate.config.schema import ProviderConfig
from tidegate.providers.record import Endpoint, Provider
from tidegate.upstream.egress import Route, proxy_from_environment, tls_context
from tidegate.upstream.pool import Pool
from tidegate.upstream.wheel import Wheel

__all__ = ["MAX_CONNECTIONS", "ProviderUnusable", "Upstream"]

MAX_CONNECTIONS = 20_000
"""Most connections to one provider; beyond it requests are refused, not queued."""

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
    ) -> None:
        """`base_url` replaces the record's address, for a server that this process starts itself.

        Raises ProviderUnusable.
        """
        self.name = name
        self.config = config
        self.record: Provider = config.record()
        address = urlsplit(base_url or self.record.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ProviderUnusable(
                f"providers.{name}.base_url: {base_url or self.record.base_url!r} is not an http(s) URL"
            )
        secure = address.scheme == "https"
        self._base_path = address.path.rstrip("/")
        self._authority = address.netloc.rpartition("@")[2]
        self._scheme = address.scheme
        try:
            context: ssl.SSLContext | None = tls_context(config.ca_bundle or None) if secure else None
        except (OSError, ssl.SSLError) as error:
            raise ProviderUnusable(
                f"providers.{name}.ca_bundle: {config.ca_bundle!r} cannot be used: {error}"
            ) from None
        self._route = Route(
            loop,
            host=address.hostname,
            port=address.port or (443 if secure else 80),
            context=context,
            proxy=self._proxy(address.scheme, address.hostname, environment),
        )
        self.pool = Pool(self._route.connect, wheel, loop, limit=MAX_CONNECTIONS)
        credentials: list[str | None] = [secret.reveal() for secret in config.credentials]
        self._turns = itertools.cycle(range(max(1, len(credentials))))
        self._common = [self._fields(credential) for credential in credentials or [None]]
        self._heads: dict[tuple[str, str, bool], list[bytes]] = {}

    def request(self, endpoint: Endpoint, body: bytes, *, stream: bool) -> list[bytes]:
        """A POST to `endpoint`, head and body, with the credential whose turn it is."""
        head = self._head("POST", self.record.paths[endpoint], stream=stream)
        head = b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
        return [head + body] if len(body) < 65536 else [head, body]

    def get(self, path: str) -> list[bytes]:
        """A GET of `path` below the base URL."""
        return [self._head("GET", path, stream=False) + b"\r\n"]

    def close(self) -> None:
        """Close idle connections; running exchanges end by themselves."""
        self.pool.close()

    def _head(self, method: str, path: str, *, stream: bool) -> bytes:
        heads = self._heads.get((method, path, stream))
        if heads is None:
            target = self._base_path + path
            if self._route.absolute_form:
                target = f"{self._scheme}://{self._authority}{target}"
            line = f"{method} {target} HTTP/1.1\r\nhost: {self._authority}\r\n"
            accept = "text/event-stream" if stream else "application/json"
            fields = f"accept: {accept}\r\naccept-encoding: identity\r\n"
            if method == "POST":
                fields += "content-type: application/json\r\n"
            heads = [(line + fields + common).encode("latin-1") for common in self._common]
            self._heads[method, path, stream] = heads
        return heads[next(self._turns)] if len(heads) > 1 else heads[0]

    def _fields(self, credential: str | None) -> str:
        fields = {"user-agent": f"tidegate/{__version__}", **self.record.headers}
        if credential is not None and self.record.auth != "none":
            fields["authorization"] = f"Bearer {credential}"
        proxy_authorization = self._route.proxy_authorization
        if proxy_authorization is not None and self._route.absolute_form:
            fields["proxy-authorization"] = proxy_authorization.decode("ascii")
        for header, secret in self.config.headers.items():
            fields[header.lower()] = secret.reveal()
        for header, value in fields.items():
            if not _FIELD_NAME.fullmatch(header) or not _FIELD_VALUE.fullmatch(value):
                raise ProviderUnusable(
                    f"providers.{self.name}: the header {header!r} cannot be sent as it is configured"
                )
        return "".join(f"{header}: {value}\r\n" for header, value in fields.items())

    def _proxy(self, scheme: str, host: str, environment: Mapping[str, str]) -> str | None:
        if self.config.proxy is not None:
            configured = self.config.proxy.reveal()
            return None if configured == "none" else configured
        return proxy_from_environment(scheme, host, environment)
