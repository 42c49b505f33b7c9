"""A worker: a process of its own that speaks and transcribes, one job at a time, for as long as the engine lives.

Here are the libraries that hold the interpreter's lock for long, are under the GPL, or parse files from strangers; so
the process yields to all others, may not write files, and has a bounded memory.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from tidegate.local_audio.formats import FORMATS, SAMPLE_RATE
from tidegate.local_audio.frames import (
    AUDIO,
    BEGUN,
    DONE,
    REFUSED,
    UTTERANCE,
    Done,
    Gone,
    Refusal,
    SpeechJob,
    TranscriptionJob,
    receive,
    send,
)
from tidegate.wire import jsonio

if TYPE_CHECKING:
    from tidegate.local_audio.espeak import Synthesizer
    from tidegate.local_audio.recogniser import Recogniser
    from tidegate.local_audio.voices import VoiceTable

__all__ = ["Worker", "main"]

NICENESS: Final = 19
MEMORY_BYTES: Final = 2 * 1024**3
"""Of address space. The models need a tenth; a file made to exhaust memory ends the worker, not the machine."""

_PR_SET_PDEATHSIG: Final = 1
_SOCKET: Final = 0
"""The engine's socket takes the place of standard input."""


class Worker:
    """Does the jobs. Each engine is loaded when it is first needed, and kept."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._speech: tuple[Synthesizer, VoiceTable] | None = None
        self._recogniser: Recogniser | None = None

    def run(self) -> None:
        """Until the engine is gone. Raises Gone or OSError then."""
        while True:
            job, descriptor = receive(self._sock)
            if isinstance(job, SpeechJob):
                answer = self._speak(job)
            else:
                answer = self._transcribe(job, descriptor)
            send(self._sock, DONE if isinstance(answer, Done) else REFUSED, jsonio.encode(answer))

    def _speak(self, job: SpeechJob) -> Done | Refusal:
        from tidegate.local_audio.encoding import Output
        from tidegate.local_audio.espeak import Synthesizer, pace
        from tidegate.local_audio.voices import VoiceTable

        if self._speech is None:
            synthesizer = Synthesizer()
            self._speech = synthesizer, VoiceTable(synthesizer.voices(), synthesizer.variants())
        synthesizer, voices = self._speech
        file = voices.file(job.voice, job.text)
        if isinstance(file, Refusal):
            return file
        rate, tempo = pace(job.speed)

        def write(piece: bytes) -> None:
            send(self._sock, AUDIO, piece)

        output = Output(FORMATS[job.format], synthesizer.sample_rate, tempo, write)
        synthesizer.speak(job.text, file, rate, output.feed)
        output.finish()
        if not output.samples:
            return Refusal("Invalid 'input': it holds nothing that could be spoken.", "input", "invalid_value")
        return Done(output.samples / SAMPLE_RATE)

    def _transcribe(self, _job: TranscriptionJob, descriptor: int | None) -> Done | Refusal:
        from tidegate.local_audio.recogniser import Recogniser
        from tidegate.local_audio.recording import NotAudio, Recording

        if descriptor is None:
            raise Gone("a transcription without a file")
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            recording = Recording(file)
            if self._recogniser is None:
                self._recogniser = Recogniser()
            try:
                for utterance in self._recogniser.utterances(self._announced(recording.samples())):
                    send(self._sock, UTTERANCE, jsonio.encode(utterance))
            except NotAudio as error:
                return Refusal(f"Invalid 'file': {error}.", "file", "invalid_value")
            return Done(recording.seconds)

    def _announced(self, samples: Iterable[bytes]) -> Iterator[bytes]:
        """Says when the first sample is decoded, and stops when the engine has gone: during a job it sends nothing, so
        that its socket becomes readable only by its end."""
        begun = False
        for piece in samples:
            if not begun:
                begun = True
                send(self._sock, BEGUN, b"")
            if select.select([self._sock], [], [], 0)[0]:
                raise Gone("the engine has ended")
            yield piece


def main() -> None:
    """What `python -m tidegate.local_audio.worker` does; only the engine starts it."""
    _end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they go to the whole group; the engine decides when a worker ends
    os.nice(NICENESS)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    with socket.socket(fileno=_SOCKET) as sock, contextlib.suppress(Gone, OSError):
        Worker(sock).run()


def _end_with_parent() -> None:
    """Linux: a worker that computes for a long time does not outlive the engine either. Elsewhere it notices when it
    next looks at its socket."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit(what: int, most: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # an even lower limit is in force
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main()
