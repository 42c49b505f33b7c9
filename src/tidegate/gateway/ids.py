"""Ids that nobody can guess."""

import binascii
import os
import weakref

__all__ = ["IdSupply"]

BATCH = 64
"""Ids made at once: the system call for their random bytes costs as much as ten of them."""


class IdSupply:
    """Makes ids of a prefix and so many random bytes in hexadecimal, from the system's secure source."""

    def __init__(self, prefix: bytes, size: int) -> None:
        self._prefix = prefix
        self._size = size
        self._ready: list[bytes] = []
        _supplies.add(self)

    def take(self) -> bytes:
        """An id, given to nobody else."""
        if not self._ready:
            self._fill()
        return self._ready.pop()

    def forget(self) -> None:
        """Throw away what is ready."""
        self._ready.clear()

    def _fill(self) -> None:
        digits = binascii.hexlify(os.urandom(BATCH * self._size), b" ", self._size)
        self._ready = (self._prefix + digits.replace(b" ", b" " + self._prefix)).split()


def following(fresh: str, previous: str, digits: int) -> str:
    """`fresh` with the last `digits` of `previous`, if that is an id of the same kind. The rest stays random: 22 bytes."""
    if len(previous) != len(fresh) or not _DIGITS.issuperset(previous[-digits:]):
        return fresh
    return fresh[:-digits] + previous[-digits:]


_DIGITS = frozenset("0123456789abcdef")

_supplies: "weakref.WeakSet[IdSupply]" = weakref.WeakSet()


def _after_fork() -> None:
    for supply in _supplies:
        supply.forget()


if hasattr(os, "register_at_fork"):  # POSIX: two processes must not hand out the same ids
    os.register_at_fork(after_in_child=_after_fork)
