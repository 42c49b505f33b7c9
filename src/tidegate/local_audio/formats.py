"""The formats in which the engine speaks."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

__all__ = ["FORMATS", "SAMPLE_RATE", "Format"]

SAMPLE_RATE: Final = 24_000
"""Of all that is spoken: OpenAI's `pcm` is 16-bit samples at this rate, mono."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One value of `response_format`. `container` and `codec` are FFmpeg's names; without them it is plain samples."""

    name: str
    content_type: str
    container: str = ""
    codec: str = ""
    bit_rate: int = 0
    options: tuple[tuple[str, str], ...] = ()


_AT_ONCE: Final = ("flush_packets", "1")

FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        one.name: one
        for one in (
            Format(
                name="mp3",
                content_type="audio/mpeg",
                container="mp3",
                codec="libmp3lame",
                bit_rate=128_000,
                # Neither tag is possible before the end is known, and one before the sound would only delay it.
                options=(_AT_ONCE, ("write_xing", "0"), ("id3v2_version", "0")),
            ),
            Format(
                name="opus",
                content_type="audio/ogg",
                container="ogg",
                codec="libopus",
                bit_rate=32_000,
                options=(_AT_ONCE, ("page_duration", "200000")),
            ),
            Format(
                name="aac",
                content_type="audio/aac",
                container="adts",
                codec="aac",
                bit_rate=64_000,
                options=(_AT_ONCE,),
            ),
            Format(name="flac", content_type="audio/flac", container="flac", codec="flac", options=(_AT_ONCE,)),
            Format(name="wav", content_type="audio/wav"),
            Format(name="pcm", content_type="audio/pcm"),
        )
    }
)
"""By name, in OpenAI's order. `opus` is in the Ogg container (RFC 7845), `aac` in ADTS frames."""
