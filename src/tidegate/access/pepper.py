"""The secret without which the digests in the database say nothing: keys are stored as HMAC-SHA-256 under it.

There may be several: the first makes new digests, the others still find old ones. Each is known by a fingerprint, which
stands beside the digests that were made with it.
"""

import hashlib
import hmac
from collections.abc import Sequence

__all__ = ["Pepper", "digests"]


class Pepper:
    """One secret. It shows nothing of itself but its fingerprint."""

    __slots__ = ("_key", "version")

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"tidegate pepper\0" + secret.encode()).digest()
        self.version = hashlib.sha256(b"tidegate pepper version\0" + self._key).hexdigest()[:12]
        """The fingerprint."""

    def digest(self, text: bytes) -> bytes:
        """What is stored of a key."""
        return hmac.digest(self._key, text, "sha256")

    def __repr__(self) -> str:
        return f"Pepper({self.version})"


def digests(peppers: Sequence[Pepper], text: bytes) -> list[bytes]:
    """All digests under which a key may be stored."""
    return [pepper.digest(text) for pepper in peppers]
