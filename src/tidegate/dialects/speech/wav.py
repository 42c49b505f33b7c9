"""The head of a WAV file: `RIFF`, then chunks, of which `data` has the samples (IBM and Microsoft, Multimedia Programming
Interface and Data Specifications 1.0)."""

import struct
from typing import Final

__all__ = ["WavStart", "open_head"]

_OPEN: Final = 0xFFFFFFFF
"""The size of what has no end yet: players then play what comes."""

_PLACEHOLDER: Final = 0x7FFF0000
"""From here on a size is none: encoders that cannot go back write one of several large numbers. Zero is as common."""

_HEAD_LIMIT: Final = 64 * 1024
"""A longer head is passed on unread."""


def open_head(rate: int) -> bytes:
    """The head of a stream of 16-bit samples on one channel, `rate` a second, whose length nobody knows yet."""
    return b"RIFF%bWAVEfmt %bdata%b" % (
        struct.pack("<I", _OPEN),
        struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16),
        struct.pack("<I", _OPEN),
    )


class WavStart:
    """The beginning of a WAV stream, held back until the first sample follows: a head alone is no audio.

    What is no WAV file passes as it is.
    """

    __slots__ = ("_held", "head", "rate", "read", "size")

    def __init__(self) -> None:
        self._held = bytearray()
        self.head = b""
        """All before the samples; where it says that nothing follows, the sizes are those of an open end instead."""
        self.rate = 0
        """Samples a second; 0 when the head does not say."""
        self.size: int | None = None
        """Bytes of samples that are to follow, where the head knows."""
        self.read = False
        """The head is known, or there is none."""

    def feed(self, data: bytes) -> bytes:
        """The first samples; empty while the head is not complete. Of use until `read`."""
        held = self._held
        held += data
        if not held.startswith(b"RIFF"[: len(held)]) or len(held) > _HEAD_LIMIT:
            return self._pass()
        if len(held) < 12:
            return b""
        if held[8:12] != b"WAVE":
            return self._pass()
        place = 12
        while len(held) >= place + 8:
            name = held[place : place + 4]
            (size,) = struct.unpack_from("<I", held, place + 4)
            if name == b"data":
                return self._samples(place + 8, size)
            if name == b"fmt " and size >= 16 and len(held) >= place + 16:
                (self.rate,) = struct.unpack_from("<I", held, place + 12)
            place += 8 + size + size % 2
        return b""

    def _samples(self, start: int, size: int) -> bytes:
        held = self._held
        if len(held) == start:
            return b""
        if size == 0:
            struct.pack_into("<I", held, 4, _OPEN)
            struct.pack_into("<I", held, start - 4, _OPEN)
        elif size < _PLACEHOLDER:
            self.size = size
        self.head = bytes(held[:start])
        self.read = True
        samples = bytes(held[start:])
        held.clear()
        return samples

    def _pass(self) -> bytes:
        self.read = True
        samples = bytes(self._held)
        self._held.clear()
        return samples
