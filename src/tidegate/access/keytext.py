"""How keys of ours are written: a prefix that says what it is, a public id, 256 random bits, and a checksum.

    tg-  4nXk0PzY7dQw2LsB  <43 characters of secret>  <6 characters of checksum>

All in letters and digits, so that a double click takes the whole, and scanners for secrets can match it (`PATTERN`). The
checksum tells a typing mistake from a key that is not known, without looking anything up. It protects nothing.
"""

import re
import secrets
import zlib
from typing import Final

__all__ = ["ADMIN", "PATTERN", "VIRTUAL", "id_of", "is_well_formed", "new_id", "new_text", "prefix_of"]

VIRTUAL: Final = "tg-"
"""Begins a virtual key."""
ADMIN: Final = "tga-"
"""Begins an admin key."""

ID_LENGTH: Final = 16
SECRET_BYTES: Final = 32
SECRET_LENGTH: Final = 43
"""62^43 is more than 2^256."""
CHECKSUM_LENGTH: Final = 6

PATTERN: Final = r"\btga?-[0-9A-Za-z]{65}\b"
"""What scanners for secrets look for."""

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM: Final = re.compile(rb"(tga?-)([0-9A-Za-z]{16})[0-9A-Za-z]{49}")


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode("ascii")), CHECKSUM_LENGTH)


def new_id() -> str:
    """A public id, as it stands in a key; 95 random bits."""
    return "".join([secrets.choice(_DIGITS) for _ in range(ID_LENGTH)])


def new_text(prefix: str, id_: str) -> str:
    """A new key with this public id."""
    body = prefix + id_ + _base62(int.from_bytes(secrets.token_bytes(SECRET_BYTES), "big"), SECRET_LENGTH)
    return body + _checksum(body)


def prefix_of(text: bytes) -> str:
    """`VIRTUAL` or `ADMIN` for what begins as a key of ours; empty for anything else."""
    if text.startswith(b"tg-"):
        return VIRTUAL
    return ADMIN if text.startswith(b"tga-") else ""


def is_well_formed(text: bytes) -> bool:
    """Whether a key of ours was typed, or copied, without a mistake."""
    if _FORM.fullmatch(text) is None:
        return False
    whole = text.decode("ascii")
    return _checksum(whole[:-CHECKSUM_LENGTH]) == whole[-CHECKSUM_LENGTH:]


def id_of(text: bytes) -> str:
    """The public id in a key of ours; empty for anything else."""
    found = _FORM.fullmatch(text)
    return found[2].decode("ascii") if found else ""
