"""Recordings in Ogg (RFC 3533) with Opus (RFC 7845) or Vorbis."""

from typing import Final

from tidegate.dialects.transcription.duration.source import FRAMES_LIMIT, Read, Unbounded

__all__ = ["OPUS_LONGEST_S", "ogg", "opus_packet_s", "vorbis_packet_s"]

_OPUS_RATE: Final = 48000
OPUS_LONGEST_S: Final = 0.12
"""Of any packet (RFC 6716 §3.2)."""

_WINDOW: Final = 128 * 1024
"""Holds a page of the greatest size wherever it begins in the first half."""
_HEAD: Final = 27
_BEGINS, _CONTINUED = 2, 1


def ogg(read: Read, start: int, size: int) -> float:
    """All pages count, wherever they begin: each packet lasts as long as its first bytes say (Opus), or as long as any can
    (Vorbis). Raises Unbounded."""
    walk = _Walk()
    while start < size:
        window = read(start, start + _WINDOW)
        at = window.find(b"OggS")
        while 0 <= at < _WINDOW // 2:
            walk.page(window, at)
            at = window.find(b"OggS", at + 4)
        start += _WINDOW // 2
    return walk.longest()


class _Walk:
    """The pages of one file."""

    def __init__(self) -> None:
        self._packet_s: dict[bytes, float] = {}
        """Of each stream with a sound codec: what any packet lasts, or 0 where the packet says so."""
        self._rates: dict[bytes, int] = {}
        self._granules: dict[bytes, tuple[int, int]] = {}
        self._total = 0.0
        self._left = FRAMES_LIMIT

    def page(self, window: bytes, at: int) -> None:
        head = window[at : at + _HEAD]
        if len(head) < _HEAD or head[4]:
            return
        kind, granule, stream = head[5], int.from_bytes(head[6:14], "little"), head[14:18]
        table = window[at + _HEAD : at + _HEAD + head[26]]
        data = at + _HEAD + head[26]
        if kind & _BEGINS:
            self._begin(stream, window[data : data + 64])
        if stream not in self._packet_s:
            raise Unbounded
        packet_s = self._packet_s[stream]
        begins = not kind & _CONTINUED
        for lacing in table:
            if begins:
                self._total += packet_s or opus_packet_s(window[data : data + min(lacing, 2)])
            begins = lacing < 255
            data += lacing
        self._left -= len(table)
        if self._left <= 0:
            raise Unbounded
        if granule != 2**64 - 1:
            first, last = self._granules.get(stream, (granule, granule))
            self._granules[stream] = (min(first, granule), max(last, granule))

    def _begin(self, stream: bytes, packet: bytes) -> None:
        if packet.startswith(b"OpusHead"):
            found, rate = 0.0, _OPUS_RATE
        else:
            found, rate = vorbis_packet_s(packet)
        if stream in self._packet_s and self._packet_s[stream] != found:
            raise Unbounded  # one number for two
        self._packet_s[stream], self._rates[stream] = found, rate

    def longest(self) -> float:
        """Players may go by the positions that pages claim, too."""
        claimed = [(last - first) / self._rates[stream] for stream, (first, last) in self._granules.items()]
        return max(self._total, *claimed) if claimed else self._total


def opus_packet_s(packet: bytes) -> float:
    """What a packet of Opus lasts (RFC 6716 §3.1); `packet` has its first two bytes."""
    if not packet:
        return OPUS_LONGEST_S
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        each = (0.01, 0.02, 0.04, 0.06)[config & 3]
    elif config < 16:
        each = (0.01, 0.02)[config & 1]
    else:
        each = (0.0025, 0.005, 0.01, 0.02)[config & 3]
    if code < 3:
        return each * (1 if code == 0 else 2)
    return min(OPUS_LONGEST_S, each * (packet[1] & 63)) if len(packet) > 1 else OPUS_LONGEST_S


def vorbis_packet_s(packet: bytes) -> tuple[float, int]:
    """What any packet lasts at most, and the sample rate, by the first header (Vorbis I, §4.2.2). Raises Unbounded."""
    if not packet.startswith(b"\x01vorbis") or len(packet) < 29:
        raise Unbounded
    rate = int.from_bytes(packet[12:16], "little")
    block = 1 << (packet[28] >> 4)
    if not rate or not 64 <= block <= 8192:
        raise Unbounded
    return block / 2 / rate, rate
