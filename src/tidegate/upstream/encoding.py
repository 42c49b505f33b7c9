"""Content codings of answers. We ask for `identity`; what comes compressed all the same is read within limits."""

import zlib

from tidegate.upstream.head import field
from tidegate.wire import errors

__all__ = ["RATIO_LIMIT", "BodyDecoder", "decoder_for"]

RATIO_LIMIT = 200
"""Most decoded bytes per encoded byte. Real JSON stays under 30; a bomb is over 1,000."""

_FREE_BYTES = 1024 * 1024
_STEP_BYTES = 256 * 1024
_GZIP, _ZLIB, _RAW = 31, 15, -15
_CODING = field(rb"content-encoding")
_WINDOW = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _ZLIB}


class BodyDecoder:
    """Decodes gzip and deflate piece by piece. Raises UpstreamBroken on damage and on a suspicious ratio."""

    __slots__ = ("_inflate", "_read", "_undecided", "_written")

    def __init__(self, window: int) -> None:
        self._inflate = zlib.decompressobj(window)
        self._undecided: bytes | None = b"" if window == _ZLIB else None
        """The start of a deflated body, until its first two bytes tell which of two formats it is."""
        self._read = 0
        self._written = 0

    @property
    def complete(self) -> bool:
        """Whether the body may end here. An empty one is not compressed, but it is not cut either."""
        return self._inflate.eof or self._read == 0

    def feed(self, data: bytes) -> bytes:
        self._read += len(data)
        if self._undecided is not None:
            data = self._undecided + data
            if len(data) < 2:
                self._undecided = data
                return b""
            self._undecided = None
            if data[0] & 0x0F != 8 or int.from_bytes(data[:2], "big") % 31:
                # RFC 9110 §8.4.1.2: some servers send deflate without the zlib wrapper (RFC 1950 §2.2).
                self._inflate = zlib.decompressobj(_RAW)
        inflate = self._inflate
        pieces = []
        piece: bytes | None = None
        while not inflate.eof and (data or piece is None or len(piece) == _STEP_BYTES):
            try:
                piece = inflate.decompress(data, _STEP_BYTES)
            except zlib.error as error:
                raise errors.UpstreamBroken(f"its compressed answer is damaged: {error}.") from None
            pieces.append(piece)
            self._written += len(piece)
            data = inflate.unconsumed_tail
            # Step by step: a bomb is known by its first part, and never unpacked whole.
            if self._written > _FREE_BYTES + (self._read - len(data)) * RATIO_LIMIT:
                raise errors.UpstreamBroken(f"its compressed answer grows more than {RATIO_LIMIT}-fold.")
        if inflate.eof:
            data = inflate.unused_data or data
        plain = b"".join(pieces)
        if data:
            raise errors.UpstreamBroken("its compressed answer goes on after its end.")
        return plain


def decoder_for(head: bytes) -> BodyDecoder | None:
    """The decoder that `content-encoding` asks for; None for identity. Raises UpstreamBroken for codings we lack."""
    codings: list[bytes] = []
    for value in _CODING.findall(head):
        for part in value.split(b","):
            coding = part.strip().lower()
            if coding not in (b"", b"identity"):
                codings.append(coding)
    if not codings:
        return None
    window = _WINDOW.get(codings[0])
    if window is None or len(codings) > 1:
        shown = b", ".join(codings)[:40].decode("ascii", "replace")
        raise errors.UpstreamBroken(f"answered with content-encoding {shown!r} although identity was asked for.")
    return BodyDecoder(window)
