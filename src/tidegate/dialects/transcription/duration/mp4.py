"""Recordings in MP4 and M4A (ISO/IEC 14496-12), whole or in fragments, with AAC, ALAC or Opus."""

from collections.abc import Iterator
from typing import Final

from tidegate.dialects.transcription.duration.mpeg import AAC_RATES, AAC_SAMPLES
from tidegate.dialects.transcription.duration.ogg import OPUS_LONGEST_S
from tidegate.dialects.transcription.duration.source import Read, Unbounded, number

__all__ = ["aac_frame_s", "mp4"]

_BOXES: Final = 100_000
_WITHIN: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
_ENTRY: Final = 8 + 28
"""Head and fixed part of an entry for sound."""
_AAC: Final = frozenset({0x40, 0x66, 0x67, 0x68})
_CORE: Final = frozenset({2, 5, 29})
"""Object types whose frames have 1,024 samples of the core: LC, and LC with SBR and PS."""
_MOST_SAMPLES: Final = 4096


def mp4(read: Read, start: int, size: int) -> float:
    """The frames of the tables count, each for as long as its codec makes it: the same bytes may be played many times. The
    header's own claim counts where it is more. Raises Unbounded."""
    walk = _Walk(read)
    walk.inside(start, size)
    return walk.longest()


class _Walk:
    """The boxes of one file."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._left = _BOXES
        self._claimed = 0.0
        self._frames = 0
        self._frame_s = 0.0
        self._sounds = False
        """The present track is one of sound."""

    def longest(self) -> float:
        if not self._frame_s:
            raise Unbounded
        return max(self._claimed, self._frames * self._frame_s)

    def inside(self, start: int, stop: int) -> None:
        for name, begin, end in self._boxes(start, stop):
            if name in _WITHIN:
                if name == b"trak":
                    self._sounds = False
                self.inside(begin, end)
            elif name in (b"mvhd", b"mdhd"):
                self._claim(self._read(begin, begin + 32))
            elif name == b"hdlr":
                self._sounds = self._read(begin + 8, begin + 12) == b"soun"
            elif name == b"stsd" and self._sounds:
                self._describe(begin, end)
            elif name in (b"stsz", b"stz2") and self._sounds:
                self._frames += number(self._read(begin + 8, begin + 12), 0, 4)
            elif name == b"trun":  # of any track: those of pictures only make it more
                self._frames += number(self._read(begin + 4, begin + 8), 0, 4)

    def _boxes(self, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
        while start + 8 <= stop:
            self._left -= 1
            if not self._left:
                raise Unbounded
            head = self._read(start, start + 16)
            length, name, skipped = number(head, 0, 4), head[4:8], 8
            if length == 1:
                length, skipped = number(head, 8, 8), 16
            elif length == 0:
                length = stop - start
            if length < skipped:
                raise Unbounded
            yield name, start + skipped, min(stop, start + length)
            start += length

    def _claim(self, head: bytes) -> None:
        wide = head[:1] == b"\x01"
        scale = number(head, 20 if wide else 12, 4)
        duration = number(head, 24, 8) if wide else number(head, 16, 4)
        unknown = 2**64 - 1 if wide else 2**32 - 1
        if scale and duration != unknown:
            self._claimed = max(self._claimed, duration / scale)

    def _describe(self, begin: int, end: int) -> None:
        for name, at, stop in self._boxes(begin + 8, end):
            entry = self._read(at - 8, min(stop, at + 4096))
            self._frame_s = max(self._frame_s, _frame_s(name, entry))


def _frame_s(name: bytes, entry: bytes) -> float:
    """What one frame lasts at most. Raises Unbounded for another codec."""
    if name == b"Opus":
        return OPUS_LONGEST_S
    if name == b"alac":
        at = entry.find(b"alac", _ENTRY)
        samples, rate = number(entry, at + 8, 4), number(entry, at + 28, 4)
        if at < 0 or not rate:
            raise Unbounded
        return samples / rate
    if name == b"mp4a":
        at = entry.find(b"esds", _ENTRY)
        if at < 0:
            raise Unbounded
        return aac_frame_s(_decoder_config(entry[at + 8 :]))
    raise Unbounded


def _decoder_config(descriptors: bytes) -> bytes:
    """The AudioSpecificConfig in the descriptors of ISO/IEC 14496-1 §7.2.6. Raises Unbounded."""
    at = 0
    for expected, skipped in ((3, 3), (4, 13), (5, 0)):
        if number(descriptors, at, 1) != expected:
            raise Unbounded
        at += 1
        while number(descriptors, at, 1) & 0x80:  # the length, in up to four bytes
            at += 1
        at += 1
        if expected == 3 and number(descriptors, at + 2, 1) & 0xE0:
            raise Unbounded  # parts that nobody uses
        if expected == 4 and number(descriptors, at, 1) not in _AAC:
            raise Unbounded
        at += skipped
    return descriptors[at : at + 16]


def aac_frame_s(config: bytes) -> float:
    """What one frame lasts by an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1). Raises Unbounded."""
    bits = number(config.ljust(16, b"\0"), 0, 16)
    kind, rate = bits >> 123, bits >> 119 & 15
    if kind == 31:
        raise Unbounded
    if rate == 15:
        hertz = bits >> 95 & 0xFFFFFF
    elif rate < len(AAC_RATES):
        hertz = AAC_RATES[rate]
    else:
        raise Unbounded
    if not hertz:
        raise Unbounded
    return (AAC_SAMPLES if kind in _CORE else _MOST_SAMPLES) / hertz
