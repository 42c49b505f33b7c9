"""Content codings of answers. We ask for `identity`; what comes compressed all the same is read within limits."""

import zlib

from tidegate.upstream.connection import Headers
from tidegate.wire import errors

__all__ = ["RATIO_LIMIT", "BodyDecoder", "decoder_for"]

RATIO_LIMIT = 200
"""Most decoded bytes per encoded byte. Real JSON stays under 30; a bomb is over 1,000."""

_FREE_BYTES = 1024 * 1024
_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


class BodyDecoder:
    """Decodes gzip and deflate piece by piece. Raises UpstreamBroken on damage and on a suspicious ratio."""

    __slots__ = ("_inflate", "_read", "_written")

    def __init__(self, window: int) -> None:
        self._inflate = zlib.decompressobj(window)
        self._read = 0
        self._written = 0

    @property
    def complete(self) -> bool:
        return self._inflate.eof

    def feed(self, data: bytes) -> bytes:
        self._read += len(data)
        room = _FREE_BYTES + self._read * RATIO_LIMIT - self._written
        try:
            plain = self._inflate.decompress(data, room)
        except zlib.error as error:
            raise errors.UpstreamBroken(f"the provider's compressed answer is damaged: {error}") from None
        self._written += len(plain)
        if self._inflate.unconsumed_tail:
            raise errors.UpstreamBroken(f"the provider's compressed answer grows more than {RATIO_LIMIT}-fold")
        return plain


def decoder_for(headers: Headers) -> BodyDecoder | None:
    """The decoder that `content-encoding` asks for; None for identity. Raises UpstreamBroken for codings we lack."""
    for name, value in headers:
        if name == b"content-encoding":
            coding = value.strip().lower()
            if coding in (b"", b"identity"):
                continue
            window = _WINDOW.get(coding)
            if window is None:
                shown = coding.decode("ascii", "replace")
                raise errors.UpstreamBroken(
                    f"the provider answered with content-encoding {shown!r} although identity was asked for"
                )
            return BodyDecoder(window)
    return None
