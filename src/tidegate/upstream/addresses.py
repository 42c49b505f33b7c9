"""Which addresses a URL that a client chose may lead to (reference: the special-purpose registries of RFC 6890).

A gateway stands inside a network, often beside a metadata service that hands out credentials. A URL in a request must not
become a look into it, whatever spelling, name or redirect leads there.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["refusal"]

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
    if not allow_private and not ip.is_global:
        return "it is private"
    if ip.is_reserved and not ip.is_loopback:
        return "it is reserved"
    return None


def _tunnel(ip: IPv6Address) -> str | None:
    if ip in (IPv6Address("::1"), IPv6Address("::")):
        return None
    for network, name in _TUNNELS:
        if ip in network:
            return f"it is a {name} address"
    if (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP:
        return "it is an ISATAP address"
    return None
