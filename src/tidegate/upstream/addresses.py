"""Which addresses a URL that a client chose may lead to (reference: the special-purpose registries of RFC 6890).

A gateway stands inside a network, often beside a metadata service that hands out credentials. A URL in a request must not
become a look into it, whatever spelling, name or redirect leads there.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["is_metadata", "is_private", "refusal"]

_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google and most others
        "169.254.170.2",  # AWS containers
        "168.63.129.16",  # Azure's host, in public address space
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS over IPv6
        "fd20:ce::254",  # Google over IPv6
    )
)
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_NOT_GLOBAL = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by a carrier's customers
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4, given up
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",
        "2001::/23",  # protocol assignments
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
"""What the registries do not call globally reachable. Written out: `ipaddress.is_global` has another opinion in each
release of Python (CVE-2024-4032)."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that is handed out (RFC 4291 §2.4)."""

_TUNNELS = (
    (IPv6Network("2002::/16"), "6to4"),
    (IPv6Network("2001::/32"), "Teredo"),
    (IPv6Network("64:ff9b::/96"), "NAT64"),
    (IPv6Network("64:ff9b:1::/48"), "NAT64"),
    (IPv6Network("::/96"), "IPv4-compatible"),
)
"""Ranges that stand for IPv4 addresses behind a translator, which nobody here can look behind."""

_ISATAP = (0x00005EFE, 0x02005EFE)
"""The upper half of an interface identifier that holds an IPv4 address (RFC 5214 §6.1)."""


def refusal(address: str, *, allow_private: bool) -> str | None:
    """Why `address`, as the resolver gives it, may not be connected to; None when it may.

    Metadata services, link-local and multicast addresses are never allowed. `allow_private` admits the machine itself
    and its networks.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return "it is no address"
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif (why := _tunnel(ip)) is not None:
            return why
    if ip in _METADATA:
        return "it is a metadata service"
    if ip.is_multicast or ip.is_unspecified or ip.is_link_local:
        return "it is link-local, multicast or unspecified"
    if isinstance(ip, IPv4Address) and ip in _THIS_NETWORK:
        return "it means this network"
    if not allow_private and not _is_global(ip):
        return "it is private"
    if ip.is_reserved and not ip.is_loopback:
        return "it is reserved"
    return None


def _is_global(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return not any(ip in network for network in _NOT_GLOBAL)


def is_metadata(address: str) -> bool:
    """Whether `address`, as the resolver gives it, is that of a metadata service, also behind a translator. No provider
    lives there, whoever configured it."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return not _METADATA.isdisjoint(_meanings(ip))


def is_private(address: str) -> bool:
    """Whether `address`, as the resolver gives it, is one that the internet does not lead to."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return not _is_global(getattr(ip, "ipv4_mapped", None) or ip)


def _meanings(ip: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """The address itself, and the IPv4 address that it may stand for."""
    yield ip
    if not isinstance(ip, IPv6Address):
        return
    if ip.ipv4_mapped is not None:
        yield ip.ipv4_mapped
    elif ip.sixtofour is not None:
        yield ip.sixtofour
    elif ip.teredo is not None:
        yield from ip.teredo
    elif _tunnel(ip) is not None:
        yield IPv4Address(int(ip) & 0xFFFFFFFF)


def _tunnel(ip: IPv6Address) -> str | None:
    if ip in (IPv6Address("::1"), IPv6Address("::")):
        return None
    for network, name in _TUNNELS:
        if ip in network:
            return f"it is a {name} address"
    if (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP:
        return "it is an ISATAP address"
    return None
