"""A value that must not be shown: provider credentials, key secrets, header values."""

import hashlib
import hmac
from typing import Final, Never

_MASK: Final = "********"


class Secret:
    """Text that only `reveal()` gives away. `repr`, `str`, formatting and the shown form are masked.

    It refuses to be pickled, and no encoder of ours knows it, so it cannot be serialised by accident. Two secrets are
    compared in constant time. Immutable.
    """

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        """The text itself. The caller passes it on to a socket or a digest and to nothing else."""
        return self._text

    def sha256(self) -> bytes:
        """The SHA-256 digest of the text in UTF-8."""
        return hashlib.sha256(self._text.encode()).digest()

    def masked(self) -> str:
        """The mask, with the last four characters of a text long enough to keep the rest unguessable."""
        return _MASK + self._text[-4:] if len(self._text) >= 20 else _MASK

    def __repr__(self) -> str:
        return f"Secret({_MASK})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return format(_MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError("a Secret does not change")

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a Secret is not pickled")
