"""How long a recording may last: a bound that holds whatever its header says, since budgets stand on it.

A header only claims a duration. What a decoder makes of the file is bounded by its frames, so these are counted: by
walking the container, or by every place where a frame might begin. An honest file lasts about as long as it is told to; one
that packs hours of silence into a few bytes is seen for what it is.
"""

from tidegate.dialects.transcription.duration.flac import flac
from tidegate.dialects.transcription.duration.matroska import matroska
from tidegate.dialects.transcription.duration.mp4 import mp4
from tidegate.dialects.transcription.duration.mpeg import mpeg
from tidegate.dialects.transcription.duration.ogg import ogg
from tidegate.dialects.transcription.duration.source import Read, Unbounded
from tidegate.dialects.transcription.duration.wave import wave

__all__ = ["READABLE", "Read", "longest"]

READABLE = "WAV, FLAC, MP3, AAC, M4A, Ogg or WebM (Opus, Vorbis)"
"""The forms that are understood here."""

_HEAD = 16
_TAGS = 16


def longest(read: Read, size: int) -> float | None:
    """No more seconds than this the recording lasts; None where nothing bounds it, as in a form that is not known here.

    `read(start, stop)` gives bytes of the file, fewer only at its end. It may take long for a large file: not for an event
    loop.
    """
    try:
        start = _behind_tags(read)
        head = read(start, start + _HEAD)
        if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
            return wave(read, start, size)
        if head[:4] == b"fLaC":
            return flac(read, start, size)
        if head[:4] == b"OggS":
            return ogg(read, start, size)
        if head[:4] == b"\x1aE\xdf\xa3":
            return matroska(read, start, size)
        if head[4:8] == b"ftyp":
            return mp4(read, start, size)
        if head[:1] == b"\xff" and head[1:2] >= b"\xe0":
            return mpeg(read, start, size)
    except (Unbounded, IndexError):
        return None
    return None


def _behind_tags(read: Read) -> int:
    """Where the recording begins behind its ID3v2 tags (https://id3.org/id3v2.4.0-structure, §3.1)."""
    start = 0
    for _ in range(_TAGS):
        head = read(start, start + 10)
        if len(head) < 10 or head[:3] != b"ID3":
            break
        length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        start += 10 + length + (10 if head[5] & 0x10 else 0)
    return start
