"""How long a recording may last: what FFmpeg writes and plays is the measure, and no header is believed."""

import functools
import io
import math
import struct
import wave
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.dialects.transcription.duration import longest

av = pytest.importorskip("av", reason="the extra local-audio is not installed")

RATE = 16000


def bound(data: bytes) -> float | None:
    return longest(lambda start, stop: data[start:stop], len(data))


def tone(frames: int, at: int, silent: bool) -> bytes:
    if silent:
        return bytes(2 * frames)
    return b"".join(
        struct.pack("<h", int(9000 * math.sin((at + one) * 0.11) * math.sin((at + one) * 0.00037)))
        for one in range(frames)
    )


@functools.lru_cache
def recording(container: str, codec: str, seconds: int, *, silent: bool = False, **options: str) -> bytes:
    """Made by FFmpeg."""
    into = io.BytesIO()
    with av.open(into, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=48000 if codec in ("libopus", "opus") else RATE, options=options)
        stream.layout = layout = "stereo" if codec == "vorbis" else "mono"
        resampler = av.AudioResampler(stream.codec_context.format, layout, stream.rate)
        for at in range(0, seconds * RATE, RATE):
            frame = av.AudioFrame(format="s16", layout="mono", samples=RATE)
            frame.sample_rate = RATE
            frame.planes[0].update(tone(RATE, at, silent))
            frame.pts = at
            for one in resampler.resample(frame):
                output.mux(stream.encode(one))
        output.mux(stream.encode(None))
    return into.getvalue()


def played(data: bytes) -> float:
    """As long as FFmpeg plays it."""
    with av.open(io.BytesIO(data), "r") as file:
        return float(sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0)))


FORMS: list[tuple[str, str, dict[str, str], float]] = [
    ("wav", "pcm_s16le", {}, 1.01),
    ("wav", "pcm_mulaw", {}, 1.02),
    ("flac", "flac", {}, 1.1),
    ("mp3", "libmp3lame", {}, 1.3),
    ("adts", "aac", {}, 1.2),
    ("ogg", "libopus", {}, 1.05),
    ("ogg", "libopus", {"frame_duration": "60"}, 1.2),
    ("ogg", "vorbis", {"strict": "experimental"}, 1.7),
    ("ipod", "aac", {}, 1.1),
    ("mp4", "aac", {}, 1.1),
    ("ipod", "alac", {}, 1.2),
    ("webm", "libopus", {"frame_duration": "20"}, 1.05),
    ("webm", "vorbis", {"strict": "experimental"}, 1.7),
    ("matroska", "aac", {}, 1.1),
]


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(("container", "codec", "options", "factor"), FORMS)
def test_a_recording_lasts_no_longer_than_its_bound_and_not_much_shorter(
    container: str, codec: str, options: dict[str, str], factor: float, silent: bool
) -> None:
    data = recording(container, codec, 10, silent=silent, **options)
    found = bound(data)
    assert found is not None
    assert played(data) <= found + 1e-6
    assert found <= 10.4 * factor


def test_hours_of_silence_in_few_bytes_are_seen() -> None:
    """At 500 bytes for a second, which no speech goes below, this FLAC would pass for a third of what it is."""
    quiet = recording("flac", "flac", 30, silent=True)
    frames = quiet[quiet.find(b"\xff\xf8") :]
    assert played(quiet + 20 * frames) > 2.5 * len(quiet + 20 * frames) / 500
    for data in (
        quiet + 20 * frames,
        recording("ogg", "libopus", 30, silent=True, frame_duration="60", application="voip", dtx="1"),
    ):
        found = bound(data)
        assert found is not None
        assert found >= played(data)


def test_a_header_is_not_believed() -> None:
    real = bytearray(recording("flac", "flac", 10))
    for lied in range(21, 26):  # the samples of the whole
        real[lied] &= 0xF0 if lied == 21 else 0
    assert bound(bytes(real)) == pytest.approx(10, rel=0.1)
    riff = bytearray(recording("wav", "pcm_s16le", 10))
    at = riff.find(b"data")
    riff[at + 4 : at + 8] = struct.pack("<I", 2)
    assert bound(bytes(riff)) == pytest.approx(10, rel=0.1)
    film = bytearray(recording("ipod", "aac", 10))
    for box in (b"mvhd", b"mdhd"):
        at = film.find(box) + 20
        film[at : at + 4] = struct.pack(">I", 1)
    assert bound(bytes(film)) == pytest.approx(10, rel=0.1)
    pages = bytearray(recording("ogg", "libopus", 10))
    at = pages.find(b"OggS")
    while at >= 0:
        pages[at + 6 : at + 14] = bytes(8)
        at = pages.find(b"OggS", at + 4)
    assert bound(bytes(pages)) == pytest.approx(10, rel=0.1)


def test_a_claim_of_more_than_there_is_counts() -> None:
    """Some providers charge by what the header says."""
    film = bytearray(recording("ipod", "aac", 2))
    at = film.find(b"mvhd") + 4
    scale = struct.unpack(">I", film[at + 12 : at + 16])[0]
    film[at + 16 : at + 20] = struct.pack(">I", 3600 * scale)
    assert bound(bytes(film)) == 3600


def test_tags_in_front_are_passed_over() -> None:
    tag = b"ID3\x04\0\0" + bytes([0, 0, 8, 0]) + bytes(1024)
    for container, codec in (("mp3", "libmp3lame"), ("adts", "aac"), ("flac", "flac")):
        found = bound(tag + recording(container, codec, 5))
        assert found is not None
        assert 5 <= found < 7


def test_a_wave_file_of_slow_samples_lasts_long() -> None:
    into = io.BytesIO()
    with wave.open(into, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(10)
        file.writeframes(bytes(1000))
    found = bound(into.getvalue())
    assert found is not None
    assert 100 <= found < 110


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"not a recording at all", b"FORM\0\0\0\0AIFF", b"#!AMR\n" + bytes(100)]
)
def test_what_is_no_known_recording_has_no_bound(data: bytes) -> None:
    assert bound(data) is None


def test_a_codec_that_is_not_known_has_no_bound() -> None:
    assert bound(recording("wav", "adpcm_ms", 1)) is None
    assert bound(recording("ogg", "flac", 1)) is None
    assert bound(recording("matroska", "flac", 1)) is None


@given(st.sampled_from(FORMS), st.data())
def test_broken_files_raise_nothing(form: tuple[str, str, dict[str, str], float], data: st.DataObject) -> None:
    container, codec, options, _ = form
    whole = bytearray(recording(container, codec, 1, **options))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(whole) - 1, 800)))
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    found = bound(bytes(whole[:cut]))
    assert found is None or found >= 0
