"""Fetching what a client's URL points to, for providers that take only bytes.

The address is the client's choice, so nothing of ours goes along, and every hop is resolved, checked and connected to at
the very address that was checked: a name that answers differently the second time (DNS rebinding) gains nothing.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from tidegate import __version__
from tidegate.upstream.addresses import refusal
from tidegate.upstream.egress import Resolver, Route, system_resolver, tls_context
from tidegate.upstream.fetch import Fetched, fetch
from tidegate.upstream.outgoing import Request
from tidegate.upstream.pool import Pool
from tidegate.upstream.wheel import Wheel
from tidegate.wire import errors
from tidegate.wire.items import data_url

__all__ = ["EgressPolicy", "MediaFetcher"]

REDIRECTS = 5

URLS_LIMIT = 100
"""Most URLs that are fetched for one request: each is a connection that somebody else is made to answer."""

AT_ONCE = 4
"""How many of them are fetched side by side."""

TOTAL_BYTES = 64 * 1024 * 1024
"""Most bytes that are fetched for one request, unless a single file may be larger."""

LOOKUPS = 2
"""Names that are looked up at the same time, of all requests together. The threads for lookups are few and are needed
for providers too; a name whose servers do not answer holds one for longer than anybody waits here."""

_NAME = "egress"
_PORTS = {"http": 80, "https": 443}
_TYPES = ("image/", "audio/", "video/", "text/", "application/pdf", "application/json")
"""What a model can be shown; anything else was not meant to be, as the page of a login."""

_SAFE = "/%:@!$&'()*+,;=~?-._"


class EgressPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What may be fetched on behalf of a client."""

    fetch: bool = True
    allow_private: bool = False
    max_bytes: int = 20 * 1024 * 1024
    timeout_s: float = 10.0
    """For all URLs of a request, with their redirects."""


class MediaFetcher:
    """Fetches media under a policy. One for each snapshot of the configuration."""

    def __init__(
        self,
        policy: EgressPolicy,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        *,
        resolver: Resolver | None = None,
    ) -> None:
        self._policy = policy
        self._loop = loop
        self._wheel = wheel
        self._resolver = resolver or system_resolver(loop)
        self._lookups = asyncio.Semaphore(LOOKUPS)

    async def fetch(self, url: str, *, param: str) -> str:
        """The content behind `url` as a data URL. `param` names the request's member in errors.

        Raises InvalidRequest: whatever is wrong with a URL is for the client to put right.
        """
        return (await self.fetch_all((url,), param=param))[url]

    async def fetch_all(self, urls: Sequence[str], *, param: str) -> dict[str, str]:
        """The same for all URLs of a request. The first that cannot be had is told; the others are given up then."""
        if not self._policy.fetch:
            raise _refused(param, urls[0], "fetching media is switched off (egress.fetch_media); send a data URL")
        if len(urls) > URLS_LIMIT:
            raise _refused(
                param, urls[URLS_LIMIT], f"of the {len(urls)} URLs in this request only {URLS_LIMIT} would be"
            )
        turns = asyncio.Semaphore(AT_ONCE)
        most = max(TOTAL_BYTES, self._policy.max_bytes)
        found: dict[str, str] = {}

        async def fetch_one(url: str) -> None:
            found[url] = await self._fetch(url, param, turns)
            if sum(map(len, found.values())) * 3 // 4 > most:
                raise _refused(param, url, f"the request's files have more than {most} bytes together")

        try:
            async with asyncio.TaskGroup() as group:
                for url in urls:
                    group.create_task(fetch_one(url))
        except BaseExceptionGroup as problems:
            raise problems.exceptions[0] from None
        return found

    async def _fetch(self, url: str, param: str, turns: asyncio.Semaphore) -> str:
        try:
            async with asyncio.timeout(self._policy.timeout_s), turns:
                return await self._follow(url, param)
        except TimeoutError:
            raise _failed(param, url, f"it took longer than {self._policy.timeout_s:g} s (egress.timeout)") from None

    async def _follow(self, url: str, param: str) -> str:
        where = url
        for _ in range(REDIRECTS + 1):
            answer = await self._get(where, url, param)
            if answer.status in (301, 302, 303, 307, 308):
                location = answer.header(b"location").decode("latin-1")
                if not location:
                    raise _failed(param, url, f"it answered with status {answer.status} and no location")
                where = _joined(where, location, url, param)
                continue
            if answer.status != 200:
                raise _failed(param, url, f"it answered with status {answer.status}")
            kind = answer.header(b"content-type").decode("latin-1").partition(";")[0].strip().lower()
            if not kind.startswith(_TYPES):
                raise _failed(param, url, f"its content type is '{kind or 'unknown'}'")
            encoded = await asyncio.to_thread(base64.b64encode, answer.body)
            return data_url(kind, encoded.decode("ascii"))
        raise _failed(param, url, f"it redirects more than {REDIRECTS} times")

    async def _get(self, where: str, url: str, param: str) -> Fetched:
        scheme, host, port, target = _parts(where, url, param)
        authority = f"[{host}]" if ":" in host else host
        if port != _PORTS[scheme]:
            authority += f":{port}"
        pool = self._pool(scheme, host, port, authority)
        head = (
            f"GET {target} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: tidegate/{__version__}\r\naccept: */*\r\n"
            "accept-encoding: identity\r\nconnection: close\r\n\r\n"
        )
        try:
            return await fetch(
                pool,
                Request(b"", head.encode("ascii")),
                timeout_s=self._policy.timeout_s,
                body_limit=self._policy.max_bytes,
            )
        except errors.TidegateError as error:
            failure = _refused if isinstance(error, _Forbidden) else _failed
            raise failure(param, url, error.message.removeprefix(f"Provider '{_NAME}': ").rstrip(".")) from None
        finally:
            pool.close()

    def _pool(self, scheme: str, host: str, port: int, authority: str) -> Pool:
        context = tls_context(None) if scheme == "https" else None
        route = Route(self._loop, host=host, port=port, context=context, resolver=self._checked, once=True)
        return Pool(_NAME, route.connect, self._wheel, self._loop, authority=authority, limit=1)

    async def _checked(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """The addresses of a name, all of which must be allowed: one that is not shows what the name is for."""
        async with self._lookups:
            found = await self._resolver(host, port)
        for _, _, _, _, address in found:
            why = refusal(str(address[0]), allow_private=self._policy.allow_private)
            if why is not None:
                raise _Forbidden(f"its address is not allowed: {why} (egress.allow_private)")
        return found


class _Forbidden(errors.UpstreamUnreachable):
    """The name leads where it must not."""


def _joined(where: str, location: str, url: str, param: str) -> str:
    try:
        return urljoin(where, location)
    except ValueError:
        raise _failed(param, url, "it redirects to what is no valid URL") from None


def _parts(where: str, url: str, param: str) -> tuple[str, str, int, str]:
    try:
        parts = urlsplit(where)
        host, port = parts.hostname, parts.port
        if host and not host.isascii():
            host = host.encode("idna").decode("ascii")
    except ValueError:  # UnicodeError is one of them
        raise _refused(param, url, "it is not a valid URL") from None
    if parts.scheme not in _PORTS or not host:
        raise _refused(param, url, "only http, https and data URLs are taken")
    if parts.username is not None or parts.password is not None:
        raise _refused(param, url, "it has a user or password in it")
    if any(ord(one) <= 0x20 or ord(one) == 0x7F for one in host):
        raise _refused(param, url, "it is not a valid URL")
    target = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        target += "?" + quote(parts.query, safe=_SAFE)
    return parts.scheme, host, port or _PORTS[parts.scheme], target


def _shown(url: str) -> str:
    """Enough of a URL to know it by; queries hold signatures."""
    text = url.partition("?")[0]
    return text if len(text) <= 200 else text[:200] + "…"


def _refused(param: str, url: str, why: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"The URL '{_shown(url)}' is not fetched: {why}.", param=param, code="invalid_image_url"
    )


def _failed(param: str, url: str, why: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"The URL '{_shown(url)}' could not be fetched: {why}.", param=param, code="failed_to_download_image"
    )
