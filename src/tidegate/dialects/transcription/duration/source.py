"""What the readers of recordings have in common."""

from collections.abc import Iterator
from typing import Final

from tidegate.wire.forms import Read

__all__ = ["FRAMES_LIMIT", "Read", "Unbounded", "number", "pieces"]

PIECE: Final = 64 * 1024

FRAMES_LIMIT: Final = 4_000_000
"""Most frames that are counted one by one; a day of speech has as many."""


class Unbounded(Exception):
    """Nothing says how long the recording lasts."""


def number(data: bytes, start: int, length: int) -> int:
    """A big-endian number. Raises Unbounded where the file has ended."""
    found = data[start : start + length]
    if len(found) < length:
        raise Unbounded
    return int.from_bytes(found, "big")


def pieces(read: Read, start: int, size: int, overlap: int) -> Iterator[tuple[int, bytes, int]]:
    """The file from `start` on: where each piece stands, the piece, and how many of its bytes are not in the next one, which
    begins so much later. `overlap` bytes of the next piece are there as well."""
    while start < size:
        piece = read(start, start + PIECE + overlap)
        if not piece:
            return
        yield start, piece, PIECE
        start += PIECE
