"""Any recording, from a file of whatever kind, as samples for the recogniser. Read and decoded piece by piece."""

from collections.abc import Iterator
from typing import BinaryIO, Final

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer

from tidegate.local_audio.conversion import Converter, frame_of, samples_of

__all__ = ["CONTAINERS", "SAMPLE_RATE", "NotAudio", "Recording", "faint_noise"]

SAMPLE_RATE: Final = 16_000
"""What PocketSphinx listens to, in samples of 16 bits, mono."""

CONTAINERS: Final = "aac,ac3,aiff,amr,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav"
"""What FFmpeg may take a file for. Playlists and scripts, which make it open other files and addresses, are not there."""

LEAST_RATE: Final = 4000
"""Lowest sample rate that is taken, in Hz: half of a telephone's. A file that claims less is stretched to hours of work."""

ONE_CHANNEL: Final = ("aformat", "sample_fmts=fltp:channel_layouts=mono")
FAINT_NOISE: Final = ("aresample", f"{SAMPLE_RATE}:osf=s16:dither_method=triangular:dither_scale=80")
"""Resampled, with noise of about -60 dB beneath. Real recordings have more of their own; speech that was synthesised has
none, and digital silence lies so far from all that the acoustic model was trained on that it hears one word in ten."""


def faint_noise(seconds: float) -> bytes:
    """What silence sounds like to the recogniser."""
    converter = Converter(ONE_CHANNEL, FAINT_NOISE)
    silence = frame_of(bytes(round(seconds * SAMPLE_RATE) * 2), SAMPLE_RATE, 0)
    return b"".join(map(samples_of, (*converter.feed(silence), *converter.finish())))


class NotAudio(ValueError):
    """The file holds no sound that could be decoded. The message says what it is instead."""


class Recording:
    """The first audio track of a file. `seconds` is how much of it has been read.

    Damaged packets are passed over, as players do; a file without a single good one is not audio.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._samples = 0

    @property
    def seconds(self) -> float:
        return self._samples / SAMPLE_RATE

    def samples(self) -> Iterator[bytes]:
        """16-bit samples at `SAMPLE_RATE`, mono. Raises NotAudio."""
        try:
            container = av.open(self._file, options={"format_whitelist": CONTAINERS, "protocol_whitelist": ""})
        except (av.error.FFmpegError, ValueError):
            raise NotAudio("it is in no format that holds audio") from None
        assert isinstance(container, InputContainer)
        with container:
            if not container.streams.audio:
                raise NotAudio(f"it is a {container.format.name} file without an audio track")
            try:
                yield from self._converted(container)
            except (av.error.FFmpegError, MemoryError):  # channels or a rate that no filter takes
                raise NotAudio(
                    f"the sound in this {container.format.name} file has a form that cannot be read"
                ) from None
            if not self._samples:
                raise NotAudio(f"it looks like a {container.format.name} file, but no sound in it can be decoded")

    def _converted(self, container: InputContainer) -> Iterator[bytes]:
        converter = Converter(ONE_CHANNEL, FAINT_NOISE)
        for frame in _frames(container):
            if frame.sample_rate < LEAST_RATE:
                raise NotAudio(f"its sample rate of {frame.sample_rate} Hz is below {LEAST_RATE}")
            for converted in converter.feed(frame):
                yield self._counted(converted)
        for converted in converter.finish():
            yield self._counted(converted)

    def _counted(self, frame: AudioFrame) -> bytes:
        self._samples += frame.samples
        return samples_of(frame)


def _frames(container: InputContainer) -> Iterator[AudioFrame]:
    stream = container.streams.audio[0]
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            yield from (frame for frame in packet.decode() if isinstance(frame, AudioFrame) and frame.samples)
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            if packet is None:
                return
            continue
