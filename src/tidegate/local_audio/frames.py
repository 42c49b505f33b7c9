"""What the engine and its workers say to each other, over one socket per worker.

A frame is its kind (one byte), the length of its payload (four bytes, big-endian), and the payload. The engine sends
one `JOB` at a time; the worker answers with any number of `AUDIO` frames, or `BEGUN` and any number of `UTTERANCE`
frames, then with one `DONE` or `REFUSED`.
"""

import array
import asyncio
import socket
import struct
from typing import Any, Final

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest

__all__ = [
    "AUDIO",
    "BEGUN",
    "DONE",
    "HEAD",
    "JOB",
    "REFUSED",
    "UTTERANCE",
    "Done",
    "Gone",
    "Job",
    "Refusal",
    "SpeechJob",
    "TranscriptionJob",
    "Utterance",
    "Word",
    "read",
    "receive",
    "send",
    "send_job",
]

HEAD: Final = struct.Struct(">cI")
JOB: Final = b"J"
AUDIO: Final = b"A"
BEGUN: Final = b"B"
UTTERANCE: Final = b"U"
DONE: Final = b"D"
REFUSED: Final = b"R"

MAX_PAYLOAD: Final = 16 * 1024**2
"""Longer frames mean that the stream is broken; real ones have a few kilobytes."""


class Gone(ConnectionError):
    """The other side has ended, or sent something that is no frame."""


class SpeechJob(msgspec.Struct, frozen=True, tag="speech"):
    """Speak `text`. `voice` is one of OpenAI's names or one of espeak-ng's; `format` one of the encoders."""

    text: str
    voice: str
    speed: float
    format: str


class TranscriptionJob(msgspec.Struct, frozen=True, tag="transcription"):
    """Transcribe the file whose descriptor comes with the frame."""


Job = SpeechJob | TranscriptionJob


class Word(msgspec.Struct, frozen=True):
    """One word, with its place in the audio in seconds and the natural logarithm of its probability."""

    word: str
    start: float
    end: float
    logprob: float


class Utterance(msgspec.Struct, frozen=True):
    """A stretch of speech between two pauses. Its words never change once it is sent."""

    start: float
    end: float
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)


class Done(msgspec.Struct, frozen=True):
    """The job is finished. `seconds` is the length of the audio, spoken or read."""

    seconds: float


class Refusal(msgspec.Struct, frozen=True):
    """The request is at fault, in the words that the caller gets."""

    message: str
    param: str | None = None
    code: str | None = None

    def error(self) -> InvalidRequest:
        return InvalidRequest(self.message, param=self.param, code=self.code)


_job: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)


def send(sock: socket.socket, kind: bytes, payload: bytes) -> None:
    """The worker's side; waits while the engine does not read. Raises OSError when the engine is gone."""
    sock.sendall(HEAD.pack(kind, len(payload)) + payload)


def receive(sock: socket.socket) -> tuple[Job, int | None]:
    """The next job, and the file that belongs to it. Raises Gone when the engine has ended."""
    head, descriptor = _first(sock)
    kind, length = HEAD.unpack(head + _exactly(sock, HEAD.size - len(head)))
    if kind != JOB or length > MAX_PAYLOAD:
        raise Gone("no job")
    return jsonio.decode(_exactly(sock, length), _job), descriptor


def send_job(sock: socket.socket, job: Job, file: int | None) -> None:
    """The engine's side. The worker is idle, so that the kernel's buffer takes all of it at once.

    Raises OSError when the worker is gone.
    """
    payload = jsonio.encode(job)
    frame = HEAD.pack(JOB, len(payload)) + payload
    sent = sock.send(frame) if file is None else socket.send_fds(sock, [frame], [file])
    if sent != len(frame):
        raise Gone("the worker does not read")


async def read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next frame from a worker: kind and payload. Raises Gone when it has ended."""
    try:
        kind, length = HEAD.unpack(await reader.readexactly(HEAD.size))
        if length > MAX_PAYLOAD:
            raise Gone("a frame is too long")
        return kind, await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise Gone("the worker has ended") from error


def _first(sock: socket.socket) -> tuple[bytes, int | None]:
    """The first bytes of a frame with the descriptor beside them. A descriptor beyond the one expected is refused."""
    data, ancillary, flags, _ = sock.recvmsg(HEAD.size, socket.CMSG_SPACE(array.array("i").itemsize))
    if not data or flags & socket.MSG_CTRUNC:
        raise Gone("the engine has ended")
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, descriptors[0] if descriptors else None


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece: Any = sock.recv(count - len(data))
        if not piece:
            raise Gone("the engine has ended")
        data += piece
    return bytes(data)
