"""PocketSphinx with the English model of its wheel and its full vocabulary: samples to utterances.

The endpointer cuts the audio at pauses. Each utterance is decoded as a whole, in all three passes, so that what has been
given away never changes, and a stream says the same words as an answer in one piece.
"""

import array
import math
import re
from collections.abc import Iterable, Iterator
from typing import Final

from pocketsphinx import Decoder, Endpointer

from tidegate.local_audio.frames import Utterance, Word
from tidegate.local_audio.recording import SAMPLE_RATE, faint_noise

__all__ = ["Recogniser"]

PAUSE_S: Final = 0.21
PAUSE_SHARE: Final = 0.8
VAD_MODE: Final = 2
"""A pause is where this share of so long a stretch is no speech. The gaps between sentences that are read out have that,
so that a stream brings a sentence at a time; words are recognised as well as with longer ones."""

MAX_UTTERANCE_S: Final = 20.0
"""Speech without a pause is cut after so long, in its quietest moment of the last `CUT_WITHIN_S`."""

CUT_WITHIN_S: Final = 5.0

BREATH_S: Final = 0.1
"""Of faint noise before and after each utterance: the model expects silence there, and hears the first and the last word
better with it."""

LEAST_PROBABILITY: Final = 1e-9
"""Below it a posterior probability is rounded to nothing, which has no logarithm."""

_FRAMES_PER_S: Final = 100  # PocketSphinx's `frate`
_FILLER: Final = re.compile(r"[<\[+].*")
_ALTERNATIVE: Final = re.compile(r"\(\d+\)$")  # `the(2)` is `the`, pronounced in its second way


class Recogniser:
    """Model and dictionary, loaded once (about half a second, 110 MB)."""

    def __init__(self) -> None:
        self._decoder = Decoder(loglevel="FATAL")
        self._breath = faint_noise(BREATH_S)

    def utterances(self, samples: Iterable[bytes]) -> Iterator[Utterance]:
        """Each utterance as soon as the pause after it is heard. Needs no more memory for hours than for minutes."""
        self._decoder.start_stream()  # forgets the noise of the recording before this one
        for start, speech in _cut(samples):
            end = start + len(speech) / 2 / SAMPLE_RATE
            words = tuple(self._words(speech, start, end))
            if words:
                yield Utterance(start, end, words)

    def _words(self, speech: bytes, start: float, end: float) -> Iterator[Word]:
        self._decoder.start_utt()
        self._decoder.process_raw(self._breath + speech + self._breath, full_utt=True)
        self._decoder.end_utt()
        if self._decoder.hyp() is None:
            return
        for segment in self._decoder.seg():
            if not _FILLER.fullmatch(segment.word):
                yield Word(
                    _ALTERNATIVE.sub("", segment.word),
                    max(start, start - BREATH_S + segment.start_frame / _FRAMES_PER_S),
                    min(end, start - BREATH_S + (segment.end_frame + 1) / _FRAMES_PER_S),
                    math.log(min(1.0, max(LEAST_PROBABILITY, segment.prob))),
                )


def _cut(samples: Iterable[bytes]) -> Iterator[tuple[float, bytes]]:
    """The stretches of speech, each with its place in seconds."""
    ears = Endpointer(window=PAUSE_S, ratio=PAUSE_SHARE, vad_mode=VAD_MODE, sample_rate=SAMPLE_RATE)
    size = ears.frame_bytes
    longest = int(MAX_UTTERANCE_S * SAMPLE_RATE) * 2
    speech = bytearray()
    start = 0.0
    waiting = bytearray()
    for piece in samples:
        waiting += piece
        whole = len(waiting) - len(waiting) % size
        # The last frame stays, since the endpointer wants to know which one it is.
        for position in range(0, whole - size if whole == len(waiting) else whole, size):
            heard = ears.process(bytes(waiting[position : position + size]))
            if heard is not None:
                if not speech:
                    start = ears.speech_start
                speech += heard
                if not ears.in_speech:
                    yield start, bytes(speech)
                    speech.clear()
                elif len(speech) >= longest:
                    cut = _quietest(speech, size)
                    yield start, bytes(speech[:cut])
                    del speech[:cut]
                    start += cut / 2 / SAMPLE_RATE
        del waiting[: whole - size if whole == len(waiting) else whole]
    if waiting:
        heard = ears.end_stream(bytes(waiting))
        if heard is not None:
            if not speech:
                start = ears.speech_start
            speech += heard
    if speech:
        yield start, bytes(speech)


def _quietest(speech: bytearray, size: int) -> int:
    """The byte at which to cut: the middle of the frame with the least sound, near the end."""
    first = len(speech) - int(CUT_WITHIN_S * SAMPLE_RATE) * 2
    first -= first % 2

    def loudness(position: int) -> int:
        return sum(map(abs, array.array("h", bytes(speech[position : position + size]))))

    quietest = min(range(first, len(speech) - size, size), key=loudness)
    return quietest + size // 4 * 2
