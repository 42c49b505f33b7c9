"""Recordings of bare frames: MP3 (ISO/IEC 11172-3, 13818-3) and AAC in ADTS (ISO/IEC 13818-7)."""

import re
from collections import Counter
from typing import Final

from tidegate.dialects.transcription.duration.source import Read, pieces

__all__ = ["AAC_RATES", "AAC_SAMPLES", "mpeg"]

AAC_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
AAC_SAMPLES: Final = 1024
"""Of one channel in one block."""

_MPEG: Final = re.compile(rb"\xff(?=([\xe2-\xe7\xf2-\xf7\xfa-\xff][\x00-\xef]))", re.DOTALL)
"""Version and layer are known, and so is the rate of bits; that of samples is seen later."""
_ADTS: Final = re.compile(rb"\xff(?=[\xf0\xf1\xf8\xf9](.)...(.))", re.DOTALL)
_OVERLAP: Final = 8
_RATES: Final = (44100, 48000, 32000)


def mpeg(read: Read, start: int, size: int) -> float:
    """As long as all frames would last together that may begin anywhere: a few more than there are, since any bytes may
    look like the beginning of one. What a header such as Xing's says does not count."""
    frames: Counter[bytes] = Counter()
    blocks: Counter[tuple[bytes, bytes]] = Counter()
    for _, piece, fresh in pieces(read, start, size, _OVERLAP):
        whole = piece[: fresh + _OVERLAP - 1]
        frames.update(_MPEG.findall(whole[: fresh + 2]))
        blocks.update(_ADTS.findall(whole[: fresh + 6]))
    total = sum(count * _frame_s(head) for head, count in frames.items())
    return total + sum(count * _block_s(first[0], last[0]) for (first, last), count in blocks.items())


def _frame_s(head: bytes) -> float:
    version, layer, rate = head[0] >> 3 & 3, head[0] >> 1 & 3, head[1] >> 2 & 3
    if version == 1 or layer == 0 or rate == 3:  # reserved
        return 0.0
    hertz = _RATES[rate] / (1 if version == 3 else 2 if version == 2 else 4)
    samples = 384 if layer == 3 else 576 if layer == 1 and version != 3 else 1152
    return samples / hertz


def _block_s(first: int, last: int) -> float:
    rate = first >> 2 & 15
    return (last & 3) * AAC_SAMPLES / AAC_RATES[rate] + AAC_SAMPLES / AAC_RATES[rate] if rate < len(AAC_RATES) else 0.0
