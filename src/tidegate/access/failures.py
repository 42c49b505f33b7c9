"""How often an address may come without a key that is known.

Nobody guesses 256 bits; what is held back is the noise, and the log lines that go with it. A key that is known is served
whatever others behind the same address do.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from tidegate.wire.errors import TooManyFailures

__all__ = ["Failures"]

BURST: Final = 20
PER_S: Final = 10 / 60
"""So many failures at once, and then so many a second, from one address; of IPv6 from one network of 64 bits."""

OWN_BURST: Final = 600
OWN_PER_S: Final = 10.0
"""The same from this machine, where a proxy may stand for everybody."""

REMEMBERED: Final = 4096
"""Most addresses that are counted; the one that failed longest ago is forgotten first."""


class Failures:
    """Counts failures by address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        """How many more each address may have, and when that was so; the latest is the last."""

    def note(self, client: str) -> None:
        """An address has failed. Raises TooManyFailures when it has too often."""
        origin, is_own = _origin(client)
        burst, per_s = (OWN_BURST, OWN_PER_S) if is_own else (BURST, PER_S)
        now = self._clock()
        left, since = self._left.pop(origin, (float(burst), now))
        left = min(burst, left + (now - since) * per_s)
        is_over = left < 1
        self._left[origin] = (left if is_over else left - 1, now)
        if len(self._left) > REMEMBERED:
            del self._left[next(iter(self._left))]
        if is_over:
            raise TooManyFailures(
                "Too many requests from this address came without a key that is known here.",
                retry_after=(1 - left) / per_s,
            )


@lru_cache(maxsize=1024)
def _origin(client: str) -> tuple[str, bool]:
    """What is counted as one, and whether it is this machine."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client, False
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif not address.is_loopback:
            return str(IPv6Address(int(address) >> 64 << 64)), False
    return str(address), address.is_loopback
