"""Ids that nobody can guess."""

import binascii
import os
import time
import weakref

__all__ = ["IdSupply"]

BATCH = 64
"""Ids made at once: the system call for their random bytes costs as much as ten of them."""


class IdSupply:
    """Makes ids of a prefix and so many bytes in hexadecimal, which are random, from the system's secure source."""

    def __init__(self, prefix: bytes, size: int, *, dated: bool = False) -> None:
        """`dated`: the first four bytes are the time, in seconds since 1970, at which ids were made ready, as in those of
        OpenAI. A database finds rows by such ids, and what was written together lies together in its index: where all bytes
        are random, each row changes pages of its own, which costs more than all else of it."""
        self._prefix = prefix
        self._size = size
        self._dated = dated
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
        prefix, size = self._prefix, self._size
        if self._dated:
            prefix, size = b"%b%08x" % (prefix, int(time.time()) & 0xFFFFFFFF), size - 4
        digits = binascii.hexlify(os.urandom(BATCH * size), b" ", size)
        self._ready = (prefix + digits.replace(b" ", b" " + prefix)).split()


def following(fresh: str, previous: str, digits: int) -> str:
    """`fresh` with the last `digits` of `previous`, if that is an id of the same kind. Of the rest 18 bytes are random."""
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
