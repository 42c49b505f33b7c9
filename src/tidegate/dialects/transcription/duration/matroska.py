"""Recordings in WebM and Matroska (RFC 9559) with Opus, Vorbis or AAC."""

import math
import struct
from typing import Final

from tidegate.dialects.transcription.duration.mp4 import aac_frame_s
from tidegate.dialects.transcription.duration.ogg import OPUS_LONGEST_S, opus_packet_s, vorbis_packet_s
from tidegate.dialects.transcription.duration.source import FRAMES_LIMIT, Read, Unbounded

__all__ = ["matroska"]

_EBML, _SEGMENT, _CLUSTER, _GROUP = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xA0
_INFO, _SCALE, _DURATION = 0x1549A966, 0x2AD7B1, 0x4489
_TRACKS, _ENTRY, _NUMBER, _TYPE, _CODEC, _PRIVATE, _ENCODINGS = 0x1654AE6B, 0xAE, 0xD7, 0x83, 0x86, 0x63A2, 0x6D80
_SIMPLE, _BLOCK = 0xA3, 0xA1
_OPEN: Final = frozenset({_SEGMENT, _CLUSTER, _GROUP, _INFO, _TRACKS, _ENTRY})
"""Elements that are entered, so that it does not matter whether their length is known."""
_SOUND: Final = 2
_BUFFER: Final = 64 * 1024
_HEAD: Final = 12
"""Longest identifier and length of an element."""


def matroska(read: Read, start: int, size: int) -> float:
    """The frames of all blocks of sound count, each for as long as its codec makes it. Raises Unbounded."""
    walk = _Walk(read, size)
    walk.run(start)
    return walk.longest()


class _Walk:
    """The elements of one file, one after another."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._buffer = b""
        self._begin = 0
        self._scale = 1_000_000
        self._ticks = 0.0
        self._total = 0.0
        self._left = 4 * FRAMES_LIMIT
        self._tracks: list[dict[int, bytes]] = []
        self._packet_s: dict[int, float] | None = None
        """Of each track of sound what any packet lasts, or 0 where the packet says so. None before the first block."""

    def longest(self) -> float:
        return max(self._total, self._ticks * self._scale / 1e9)

    def run(self, at: int) -> None:
        headers = 0
        while at < self._size:
            self._left -= 1
            if not self._left:
                raise Unbounded
            head = self._bytes(at, _HEAD)
            name, after_name = _name(head)
            length, after = _length(head, after_name)
            if name == _EBML:
                headers += 1
                if headers > 1:
                    raise Unbounded  # one file behind another
            if name not in _OPEN:
                if length is None:
                    raise Unbounded
                self._element(name, at + after, length)
                at += length
            elif name == _ENTRY:
                self._tracks.append({})
            elif name == _TRACKS and self._packet_s is not None:
                raise Unbounded
            at += after

    def _bytes(self, start: int, count: int) -> bytes:
        offset = start - self._begin
        if offset < 0 or offset + count > len(self._buffer):
            self._buffer = self._read(start, start + _BUFFER)
            self._begin, offset = start, 0
        return self._buffer[offset : offset + count]

    def _element(self, name: int, at: int, length: int) -> None:
        if name in (_SIMPLE, _BLOCK):
            self._block(self._bytes(at, min(length, 14)))
        elif name == _SCALE:
            self._scale = int.from_bytes(self._bytes(at, min(length, 8)), "big")
        elif name == _DURATION:
            said = self._bytes(at, length) if length in (4, 8) else b""
            if len(said) != length:
                raise Unbounded
            ticks = struct.unpack(">f" if length == 4 else ">d", said)[0]
            self._ticks = max(self._ticks, ticks if math.isfinite(ticks) else math.inf)
        elif name == _ENCODINGS:
            raise Unbounded
        elif name in (_NUMBER, _TYPE, _CODEC, _PRIVATE) and self._tracks:
            self._tracks[-1][name] = self._bytes(at, min(length, 4096))

    def _block(self, head: bytes) -> None:
        if self._packet_s is None:
            self._packet_s = dict(filter(None, map(_packet_s, self._tracks)))
        track, after = _length(head, 0)
        packet_s = None if track is None else self._packet_s.get(track)
        if packet_s is None:
            return  # pictures, or a track that nobody has heard of
        if head[after + 2] & 0x06:  # several frames
            self._total += (head[after + 3] + 1) * (packet_s or OPUS_LONGEST_S)
        else:
            self._total += packet_s or opus_packet_s(head[after + 3 : after + 5])


def _packet_s(track: dict[int, bytes]) -> tuple[int, float] | None:
    """Number and duration of a packet. Raises Unbounded for another codec."""
    if int.from_bytes(track.get(_TYPE, b""), "big") != _SOUND:
        return None
    place = int.from_bytes(track.get(_NUMBER, b""), "big")
    codec, private = track.get(_CODEC, b"").rstrip(b"\0"), track.get(_PRIVATE, b"")
    if codec == b"A_OPUS":
        return place, 0.0
    if codec == b"A_VORBIS":
        return place, vorbis_packet_s(private[max(0, private.find(b"\x01vorbis")) :])[0]
    if codec == b"A_AAC" and private:
        return place, aac_frame_s(private)
    raise Unbounded


def _name(head: bytes) -> tuple[int, int]:
    """An element's identifier, and how long it is (RFC 8794 §5). Raises Unbounded."""
    width = 9 - head[0].bit_length() if head else 9
    if width > 4 or len(head) < width:
        raise Unbounded
    return int.from_bytes(head[:width], "big"), width


def _length(head: bytes, at: int) -> tuple[int | None, int]:
    """An element's length, None where it is not known, and where its content begins (RFC 8794 §4)."""
    first = head[at] if at < len(head) else 0
    width = 9 - first.bit_length()
    if width > 8 or len(head) < at + width:
        raise Unbounded
    value = int.from_bytes(head[at : at + width], "big") & (1 << 7 * width) - 1
    return None if value == (1 << 7 * width) - 1 else value, at + width
