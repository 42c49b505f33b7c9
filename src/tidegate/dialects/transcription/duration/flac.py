"""Recordings in FLAC (RFC 9639)."""

import re
from typing import Final

from tidegate.dialects.transcription.duration.source import FRAMES_LIMIT, Read, Unbounded, number, pieces

__all__ = ["flac", "least_rate"]

_SYNC: Final = re.compile(rb"\xff(?=[\xf8\xf9])")
_HEADER_BYTES: Final = 16
"""Longest header of a frame (§9.1)."""
_RATES: Final = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)


def flac(read: Read, start: int, size: int) -> float:
    """A frame of silence has ten bytes, and may last for seconds: all places count that have a valid header of a frame."""
    usual = least_rate(read(start + 4, start + 4 + 38))
    total = 0.0
    left = FRAMES_LIMIT
    for _, piece, fresh in pieces(read, start + 4, size, _HEADER_BYTES):
        for found in _SYNC.finditer(piece):
            at = found.start()
            if at >= fresh:
                break
            left -= 1
            if not left:
                raise Unbounded
            samples, rate = _frame(piece, at)
            if samples:
                total += samples / min(rate or usual, usual)
    return total


def least_rate(block: bytes) -> int:
    """The sample rate of a metadata block STREAMINFO, its header included (§8.2). Raises Unbounded."""
    rate = number(block, 14, 3) >> 4
    if block[0] & 0x7F or not rate:
        raise Unbounded
    return rate


def _frame(data: bytes, at: int) -> tuple[int, int]:
    """Samples and rate of the frame that begins there, no samples where none does; the rate is 0 for that of the file."""
    head = data[at : at + _HEADER_BYTES]
    if len(head) < 6 or head[3] & 1:
        return 0, 0
    size, rate = head[2] >> 4, head[2] & 15
    first = head[4]
    extra = 0  # of the coded number, which is written as UTF-8 is
    while extra < 7 and first & (0x80 >> extra):
        extra += 1
    length = 4 + max(1, extra)
    if size in (6, 7):
        samples = int.from_bytes(head[length : length + size - 5], "big") + 1
        length += size - 5
    elif size == 0:
        return 0, 0
    else:
        samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    hertz = _RATES[rate] if rate < 12 else 0
    if rate == 12:
        hertz = head[length] * 1000 if length < len(head) else 0
        length += 1
    elif rate in (13, 14):
        hertz = int.from_bytes(head[length : length + 2], "big") * (1 if rate == 13 else 10)
        length += 2
    elif rate == 15:
        return 0, 0
    if length >= len(head) or head[length] != _crc8(head[:length]):
        return 0, 0
    return samples, hertz


def _table() -> bytes:
    made = bytearray()
    for value in range(256):
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 0x80 else 0)
        made.append(value)
    return bytes(made)


_CRC8: Final = _table()


def _crc8(data: bytes) -> int:
    found = 0
    for byte in data:
        found = _CRC8[found ^ byte]
    return found
