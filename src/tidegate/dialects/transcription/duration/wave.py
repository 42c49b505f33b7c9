"""Recordings in WAV: bytes by the bytes of a second."""

from typing import Final

from tidegate.dialects.transcription.duration.source import Read, Unbounded

__all__ = ["wave"]

_PLAIN: Final = frozenset({1, 3, 6, 7})
"""Samples of a fixed size: integers, floats, A-law, µ-law."""
_EXTENSIBLE: Final = 0xFFFE
_BITS: Final = frozenset({8, 16, 24, 32, 64})
_CHUNKS: Final = 1000


def wave(read: Read, start: int, size: int) -> float:
    """The data may be more than the header says, but not more than the file. Raises Unbounded."""
    at = start + 12
    least = 0
    for _ in range(_CHUNKS):
        head = read(at, at + 8)
        name, length = head[:4], int.from_bytes(head[4:8], "little")
        if len(head) < 8 or name == b"data":
            break
        if name == b"fmt ":
            rate = _bytes_per_second(read(at + 8, at + 8 + 40))
            least = min(least or rate, rate)
        at += 8 + length + length % 2
    if not least:
        raise Unbounded
    return (size - start) / least


def _bytes_per_second(chunk: bytes) -> int:
    """See `WAVEFORMATEX`, https://learn.microsoft.com/windows/win32/api/mmeapi/ns-mmeapi-waveformatex"""
    if len(chunk) < 16:
        raise Unbounded
    form = int.from_bytes(chunk[:2], "little")
    channels = int.from_bytes(chunk[2:4], "little")
    rate = int.from_bytes(chunk[4:8], "little")
    bits = int.from_bytes(chunk[14:16], "little")
    if form == _EXTENSIBLE and len(chunk) >= 26:
        form = int.from_bytes(chunk[24:26], "little")
    if form not in _PLAIN or bits not in _BITS or not rate or not channels:
        raise Unbounded
    return rate * channels * bits // 8
