"""Which proxy leads to an origin: the environment's variables, and how they are written."""

import base64
import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import msgspec

__all__ = ["Proxy", "proxy_from_environment"]

_PORTS = {"http": 80, "https": 443}


class Proxy(msgspec.Struct, frozen=True):
    """A proxy's address. Its `repr` holds the credential: never show it."""

    secure: bool
    host: str
    port: int
    authorization: str | None
    """The value of `proxy-authorization`, when the address has a user."""

    @classmethod
    def parse(cls, text: str) -> "Proxy":
        """An `http://` or `https://` address, or host and port as curl takes them.

        Raises ValueError whose message does not repeat the text, because a password may be in it.
        """
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("is not an address") from None
        if parts.scheme not in _PORTS:
            raise ValueError(f"names a proxy of the kind {parts.scheme!r}; only http:// and https:// are supported")
        if not host:
            raise ValueError("names no host")
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            authorization = "Basic " + base64.b64encode(pair).decode("ascii")
        return cls(parts.scheme == "https", host, port or _PORTS[parts.scheme], authorization)


def proxy_from_environment(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable that names the proxy for this origin, and its value; None when the way is direct.

    `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` count in either case. As with curl the lower-case spelling
    wins, so that an empty one switches the other off. What runs on this machine is never reached through a proxy.
    """
    if host == "localhost" or host.endswith(".localhost"):
        return None
    address = _address(host)
    if address is not None and address.is_loopback:
        return None
    if _bypassed(host, address, port, _read(environment, "no_proxy")[1]):
        return None
    for variable in (f"{scheme}_proxy", "all_proxy"):
        found = _read(environment, variable)
        if found[1]:
            return found
    return None


def _read(environment: Mapping[str, str], variable: str) -> tuple[str, str]:
    name = variable if variable in environment else variable.upper()
    return name, environment.get(name, "").strip()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bypassed(
    host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int, no_proxy: str
) -> bool:
    """`NO_PROXY` as curl and Go read it: `*`, a host, a domain and all below it, an address or a network, each of them
    but the network also with a port."""
    host = host.lower().rstrip(".")
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*":
            return True
        if "/" in entry:
            if address is not None:
                try:
                    if address in ipaddress.ip_network(entry, strict=False):
                        return True
                except ValueError:
                    continue
            continue
        name, colon, wanted = entry.rpartition(":")
        if not colon or (":" in name and not name.endswith("]")):  # no port; a bare IPv6 address is all colons
            name, wanted = entry, ""
        if wanted and wanted != str(port):
            continue
        name = name.strip("[]")
        if address is not None:
            if _address(name) == address:
                return True
            continue
        name = name.removeprefix("*").strip(".")
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False
