"""Which web pages may call.

Without keys whoever reaches the port spends the operator's credentials; the browser of the same machine reaches it on
behalf of any page. So open mode accepts only a loopback `Host` (against DNS rebinding) and no foreign `Origin`.
"""

import ipaddress
from urllib.parse import urlsplit

from tidegate.gateway.snapshot import Snapshot
from tidegate.wire.errors import Forbidden

__all__ = ["check_origin", "cors_fields", "is_loopback"]

EXPOSED = "x-request-id, tidegate-deployment, tidegate-attempts, tidegate-dropped, tidegate-profile, tidegate-usage, openai-processing-ms, retry-after"


def check_origin(snapshot: Snapshot, host: bytes, origin: bytes | None) -> bytes:
    """The origin that may read the answer; empty when none asked or none may. Raises Forbidden."""
    server = snapshot.config.server
    if snapshot.keys.open and not server.allow_open and not is_loopback(_host_name(host)):
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
    if snapshot.keys.open and not _own(text, host):
        raise Forbidden(
            f"Web pages of the origin {text!r} may not call this gateway. Add it to server.cors_origins to allow it.",
            code="origin_not_allowed",
        )
    return b""


def cors_fields(origin: bytes) -> bytes:
    """Response headers that let a page of `origin` read the answer."""
    return b"access-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\nvary: origin\r\n" % (
        origin,
        EXPOSED.encode("ascii"),
    )


def is_loopback(name: str) -> bool:
    """Whether a host name or address means this machine itself."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _host_name(host: bytes) -> str:
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _own(origin: str, host: bytes) -> bool:
    """A page that this gateway, or another server on this machine, has served."""
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    return is_loopback(parts.hostname) or parts.netloc.lower() == host.decode("latin-1").strip().lower()
