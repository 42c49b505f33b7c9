"""Spoken samples as a file of each format, built while they come: no format needs to know its own length."""

import struct
from collections.abc import Callable
from typing import Final, Protocol

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from tidegate.local_audio.conversion import Converter, frame_of, samples_of
from tidegate.local_audio.formats import SAMPLE_RATE, Format

__all__ = ["Output"]

TEMPO: Final = (0.5, 100.0)
"""What one `atempo` filter can do."""


class _Encoder(Protocol):
    def feed(self, frame: AudioFrame) -> bytes: ...

    def finish(self) -> bytes: ...


class Output:
    """Takes samples at `rate`, and gives `write` the bytes of a file in `format_` at `SAMPLE_RATE`.

    `tempo` other than 1 makes the speech that many times faster and keeps its pitch. `samples` counts what was written.
    """

    def __init__(self, format_: Format, rate: int, tempo: float, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._rate = rate
        self._position = 0
        self._converter = Converter(*_tempo_filters(tempo), ("aresample", f"{SAMPLE_RATE}:osf=s16"))
        self._encoder: _Encoder = _encoder(format_)
        self.samples = 0

    def feed(self, samples: bytes) -> None:
        for frame in self._converter.feed(frame_of(samples, self._rate, self._position)):
            self._put(frame)
        self._position += len(samples) // 2

    def finish(self) -> None:
        for frame in self._converter.finish():
            self._put(frame)
        if self.samples and (rest := self._encoder.finish()):
            self._write(rest)

    def _put(self, frame: AudioFrame) -> None:
        frame.pts = self.samples
        self.samples += frame.samples
        if piece := self._encoder.feed(frame):
            self._write(piece)


def _tempo_filters(tempo: float) -> list[tuple[str, str]]:
    filters = []
    while tempo < TEMPO[0]:
        filters.append(("atempo", f"{TEMPO[0]}"))
        tempo /= TEMPO[0]
    if tempo != 1.0:
        filters.append(("atempo", f"{tempo:.6f}"))
    return filters


def _encoder(format_: Format) -> _Encoder:
    if format_.container:
        return _Container(format_)
    return _Samples(_WAV_HEAD if format_.name == "wav" else b"")


_UNKNOWN_LENGTH: Final = 0xFFFF_FFFF
_WAV_HEAD: Final = struct.pack(
    "<4sI4s4sIHHIIHH4sI",
    b"RIFF",
    _UNKNOWN_LENGTH,
    b"WAVE",
    b"fmt ",
    16,
    1,  # PCM
    1,  # channel
    SAMPLE_RATE,
    SAMPLE_RATE * 2,
    2,
    16,
    b"data",
    _UNKNOWN_LENGTH,
)
"""A header whose lengths are open, as players take them from a stream."""


class _Samples:
    """The samples themselves, little-endian, behind `head`."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def feed(self, frame: AudioFrame) -> bytes:
        head, self._head = self._head, b""
        return head + samples_of(frame)

    def finish(self) -> bytes:
        return b""


class _Sink:
    """What FFmpeg writes into. It has no `seek`, so that nothing is ever written in two goes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


class _Container:
    """One of FFmpeg's encoders in one of its containers."""

    def __init__(self, format_: Format) -> None:
        self._sink = _Sink()
        self._output = av.open(
            self._sink, "w", format=format_.container, options=dict(format_.options), buffer_size=4096
        )
        stream = self._output.add_stream(format_.codec, rate=SAMPLE_RATE, layout="mono")
        assert isinstance(stream, AudioStream)
        if format_.bit_rate:
            stream.bit_rate = format_.bit_rate
        self._stream = stream

    def feed(self, frame: AudioFrame) -> bytes:
        self._output.mux(self._stream.encode(frame))
        return self._sink.take()

    def finish(self) -> bytes:
        self._output.mux(self._stream.encode(None))
        self._output.close()
        return self._sink.take()
