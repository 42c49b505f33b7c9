"""A request, and what is left to send of one, in pieces that fit a transport's buffer."""

from collections.abc import Callable, Sequence

import msgspec

from tidegate.wire.errors import TidegateError
from tidegate.wire.forms import Part

__all__ = ["PIECE_BYTES", "Outgoing", "Request"]

PIECE_BYTES = 256 * 1024
"""A longer request goes out in pieces of this size: TLS would encrypt, and hold a second time, all of it at once."""

Piece = bytes | memoryview


class Request(msgspec.Struct, frozen=True):
    """All that is sent in one exchange: the head, perhaps with the body in the same piece, and the rest."""

    host_line: bytes
    """The pool's, if the head was made with it; its identity tells that. Whoever makes a head in another way leaves it
    empty."""
    head: bytes
    rest: Sequence[Part] = ()

    def names(self, host_line: bytes) -> bool:
        """Whether this line is where a host is to be: behind the first one."""
        return self.head.startswith(host_line, self.head.find(b"\r\n"))

    def __repr__(self) -> str:
        """Without the credential that is in it (P8)."""
        return f"{type(self).__name__}({len(self.head)} bytes)"


class Outgoing:
    """Goes once through `parts`, which are not empty. A part may have to be fetched, one piece at a time."""

    __slots__ = ("_left", "_offset", "_part", "fetching")

    def __init__(self, parts: Sequence[Part]) -> None:
        self._left = [part for part in reversed(parts) if _size(part)]
        self._part: Part | None = self._left.pop() if self._left else None
        self._offset = 0
        self.fetching = False
        """A piece is on its way."""

    @property
    def done(self) -> bool:
        """Every piece has been taken."""
        return self._part is None

    def take(self) -> Piece | None:
        """The next piece; None where it must be fetched."""
        part = self._part
        assert part is not None
        start, stop = self._offset, self._offset + PIECE_BYTES
        piece = memoryview(part)[start:stop] if isinstance(part, bytes) else part.at_hand(start, stop)
        if piece is not None:
            self._advance(len(piece))
        return piece

    def fetch(self, then: "Callable[[Outgoing, bytes | TidegateError], None]") -> None:
        """Have the next piece read; `then` is told of it, and of whose it is."""
        part = self._part
        assert part is not None
        assert not isinstance(part, bytes)
        self.fetching = True

        def fetched(piece: bytes | TidegateError) -> None:
            self.fetching = False
            if isinstance(piece, bytes):
                self._advance(len(piece))
            then(self, piece)

        part.fetch(self._offset, self._offset + PIECE_BYTES, fetched)

    def _advance(self, size: int) -> None:
        self._offset += size
        if self._part is not None and self._offset >= _size(self._part):
            self._part = self._left.pop() if self._left else None
            self._offset = 0


def _size(part: Part) -> int:
    return len(part) if isinstance(part, bytes) else part.size
