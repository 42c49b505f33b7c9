"""Which web pages may call.

Without keys whoever reaches the port spends the operator's credentials; the browser of the same machine reaches it on
behalf of any page. So open mode accepts only a loopback `Host` (against DNS rebinding) and no foreign `Origin`.
"""

from functools import lru_cache
from urllib.parse import urlsplit

from tidegate.config.checks import is_loopback
from tidegate.gateway.snapshot import Snapshot
from tidegate.wire.errors import Forbidden

__all__ = ["check_origin", "cors_fields", "preflight_fields"]

EXPOSED = b"x-request-id, request-id, tidegate-deployment, tidegate-attempts, tidegate-dropped, tidegate-profile, tidegate-usage, openai-processing-ms, retry-after"

METHODS = b"GET, HEAD, POST, PATCH, DELETE"

PREFLIGHT_AGE_S = 600
"""How long a browser may remember the answer to a preflight."""


def check_origin(snapshot: Snapshot, host: bytes | None, origin: bytes | None) -> bytes:
    """The origin that may read the answer; empty when none asked or none may. Raises Forbidden.

    A request without any `Host` (HTTP/1.0 probes) comes from no browser.
    """
    server = snapshot.config.server
    if host is not None and snapshot.keys.open and not server.allow_open and not _is_this_machine(host):
        raise Forbidden(
            f"Without keys this gateway answers only on this machine's own names, not as {host.decode('latin-1')!r}. "
            "Configure a key, or set server.allow_open.",
            code="host_not_allowed",
        )
    if origin is None:
        return b""
    text = origin.decode("latin-1")
    if text in server.cors_origins:
        return origin
    if snapshot.keys.open and not _own(text, host or b""):
        raise Forbidden(
            f"Web pages of the origin {text!r} may not call this gateway. Add it to server.cors_origins to allow it.",
            code="origin_not_allowed",
        )
    return b""


def cors_fields(origin: bytes) -> bytes:
    """Response headers that let a page of `origin` read the answer."""
    return b"access-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\nvary: origin\r\n" % (
        origin,
        EXPOSED,
    )


def preflight_fields(asked: bytes) -> bytes:
    """What `cors_fields` lacks in the answer to a preflight. Every header is allowed that the browser `asked` for; the
    wildcard would leave out `authorization`."""
    return (
        b"access-control-allow-methods: %b\r\naccess-control-max-age: %d\r\nvary: access-control-request-headers\r\n"
        % (METHODS, PREFLIGHT_AGE_S)
        + (b"access-control-allow-headers: %b\r\n" % asked if asked else b"")
    )


@lru_cache(maxsize=256)
def _is_this_machine(host: bytes) -> bool:
    """Whether a `Host` header can only mean this machine. Remembered: reading an address takes longer than all the other
    checks of a request together."""
    text = host.decode("latin-1").lower()
    return _is_local_name(text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0])


def _is_local_name(name: str) -> bool:
    return name.endswith(".localhost") or is_loopback(name)


def _own(origin: str, host: bytes) -> bool:
    """A page that this gateway, or another server on this machine, has served."""
    try:
        parts = urlsplit(origin)
        name = parts.hostname
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not name:
        return False
    return _is_local_name(name) or parts.netloc.lower() == host.decode("latin-1").lower()
