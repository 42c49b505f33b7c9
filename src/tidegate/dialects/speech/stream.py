"""Audio towards the client: as it is, or in events."""

import binascii
import re
from typing import Final

import msgspec

from tidegate.dialects.dialect import EVENT_STREAM, AudioFormat, Destination, Events, Outcome
from tidegate.dialects.speech.gemini import GeminiSource
from tidegate.dialects.speech.source import EventSource, Piece, Source
from tidegate.dialects.speech.wav import WavStart
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, UpstreamBroken
from tidegate.wire.events import Usage

__all__ = ["CONTENT_TYPES", "SpeechStream"]

CONTENT_TYPES: Final[dict[AudioFormat, bytes]] = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/ogg",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
    "pcm": b"audio/pcm",
}
"""What each format is called where the provider does not say. OpenAI's `opus` comes in an Ogg container (RFC 7845)."""

TOKENS_PER_SECOND: Final = 20
"""Of audio, for estimates: about what OpenAI's model counts."""

BYTES_PER_SECOND: Final[dict[AudioFormat, int]] = {
    "mp3": 16_000,
    "opus": 4_000,
    "aac": 8_000,
    "flac": 24_000,
    "wav": 48_000,
    "pcm": 48_000,
}
"""Of speech at 24 kHz in the usual bit rates, for the same estimates."""

_AUDIO: Final = re.compile(rb"audio/[\w.+-]+(?:;[\x20-\x7e]*)?")
_WAV: Final = re.compile(rb"audio/(?:x-|vnd\.)?wave?(?:;|$)")
_NO_AUDIO: Final = re.compile(
    rb"(?:text|image|multipart|message|model|font)/|application/(?:[\w.+-]+\+)?(?:json|xml|x-ndjson|javascript)"
)
_DONE: Final = b"data: [DONE]\n\n"


class SpeechStream(Events):
    """See :class:`tidegate.dialects.dialect.Stream`. Both forms of the answer begin with the first audio: before it another
    attempt may go on, after it the client hears the end, or an error, or in the raw form the break of its connection."""

    __slots__ = ("_characters", "_destination", "_events", "_format", "_given", "_input_tokens", "_owed", "_refused", "_rest", "_size", "_source", "_start", "abrupt", "committed", "content_type", "outcome")  # fmt: skip

    def __init__(self, *, events: bool, format: AudioFormat | None, input_tokens: int, characters: int) -> None:  # noqa: A002 - the wire's own name
        """`events`: the client reads events. `format` is what it asked for, `input_tokens` about what that takes, and
        `characters` how long the text is."""
        self._events = events
        self._given = format
        self._input_tokens = input_tokens
        self._characters = characters
        self._destination: Destination | None = None
        self.abrupt = not events
        self.content_type = EVENT_STREAM
        self.committed = False
        self.outcome: Outcome | None = None
        self._format: AudioFormat = "mp3"
        self._source: Source | None = None
        """What the audio is read out of; None where it comes as it is."""
        self._start: WavStart | None = None
        """The head of a WAV file, until it is over."""
        self._owed: int | None = None
        """Bytes of samples that a WAV file still has to have."""
        self._size = 0
        """Bytes of audio so far."""
        self._rest = b""
        """One or two bytes that wait for the third: base64 is of whole groups, so that the texts can be joined."""
        self._refused = b""
        """The content type of an answer that is no audio."""

    # -- the attempt --------------------------------------------------------------------------------------------

    def attempt(self, destination: Destination) -> None:
        self._destination = destination
        self._format = effective_format(self._given, destination)
        self._source = None
        self._start = None
        self._owed = None
        self._size = 0
        self._rest = b""
        self._refused = b""

    def head(self, content_type: bytes) -> None:
        destination = self._destination
        assert destination is not None
        kind = content_type.strip().lower()
        wav = self._format == "wav"
        if destination.quirks.speech_of_gemini:
            self._source = GeminiSource(destination.provider, head=wav)
        elif kind.startswith(b"text/event-stream") or (
            destination.speech.events and self._events and not _AUDIO.match(kind)
        ):
            # What was asked for as events is read as such, whatever it is called.
            self._source = EventSource(destination.provider)
        elif _NO_AUDIO.match(kind):
            self._refused = content_type
        else:
            wav = wav or _WAV.match(kind) is not None
        if wav:
            self._start = WavStart()
        if not self._events:
            told = self._source is None and _AUDIO.fullmatch(kind) is not None
            self.content_type = content_type.strip() if told else CONTENT_TYPES[self._format]

    # -- what the provider sends --------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        if self.outcome is not None:
            return b""
        source = self._source
        if source is not None:
            out = b"".join([self._piece(piece) for piece in source.feed(data)])
            if source.failure is not None:
                self.outcome = Outcome("failed", source.failure)
            elif source.finished:
                out += self._end(source)
            return out
        if self._refused:
            self._broken(f"it answered with '{self._refused.decode('latin-1')[:64]}', which is no audio")
            return b""
        return self._audio(data)

    def eof(self) -> bytes:
        if self.outcome is not None:
            return b""
        source = self._source
        if source is None:
            return self._end(None)
        out = b"".join([self._piece(piece) for piece in source.eof()])
        if source.failure is not None:
            self.outcome = Outcome("failed", source.failure)
            return out
        return out + self._end(source)

    def finish(self) -> bytes:
        source = self._source
        return self.eof() if source is not None and source.stopped else b""

    # -- what the client gets -----------------------------------------------------------------------------------

    def _piece(self, piece: Piece) -> bytes:
        if piece.audio:
            return self._audio(piece.audio, piece.frame)
        return piece.frame if self._events and self.committed else b""

    def _audio(self, data: bytes, frame: bytes = b"") -> bytes:
        """`frame` is the one that it came in, where that can go on."""
        start = self._start
        if start is not None:
            came = data
            data = start.feed(data)
            if not data:
                return b""
            self._start = None
            self._owed = start.size
            self._count(len(data))
            data = start.head + data
            if data != came:
                frame = b""
        else:
            self._count(len(data))
        if not self._events:
            self.committed = True
            return data
        if not self._rest and len(data) % 3 == 0 and frame:
            self.committed = True
            return frame
        data = self._rest + data
        whole = len(data) - len(data) % 3
        self._rest = data[whole:]
        return self._delta(data[:whole]) if whole else b""

    def _count(self, size: int) -> None:
        self._size += size
        if self._owed is not None:
            self._owed -= size

    def _delta(self, data: bytes) -> bytes:
        self.committed = True
        text = binascii.b2a_base64(data, newline=False)
        return b'data: {"type":"speech.audio.delta","audio":"%b"}\n\n' % text

    def _end(self, source: Source | None) -> bytes:
        """The provider is done. It has failed all the same if something is missing."""
        if not self._size:
            self._broken("it sent no audio")
        elif self._owed is not None and self._owed > 0:
            self._broken(f"it sent {self._owed} bytes of audio less than the head of its WAV file says")
        if self.outcome is not None:
            return b""
        self.outcome = Outcome("completed")
        if not self._events:
            return b""
        rest, self._rest = self._rest, b""
        done = source.ending if source is not None else b""
        return (self._delta(rest) if rest else b"") + (done or self._done()) + _DONE

    def _done(self) -> bytes:
        usage = self.usage()
        figures = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        }
        return sse.encode(jsonio.encode({"type": "speech.audio.done", "usage": figures}))

    def ping(self) -> bytes:
        return sse.comment(b"keepalive") if self._events else b""

    def fail(self, error: TidegateError) -> bytes:
        self.outcome = Outcome("failed", error)
        return sse.encode(error.body()) if self._events else b""

    def usage(self) -> Usage:
        source = self._source
        if source is not None and source.usage is not None:
            # All that comes out is audio, whether or not the provider says so.
            return msgspec.structs.replace(
                source.usage, output_audio_tokens=source.usage.output_tokens, characters=self._characters
            )
        spoken = round(self._size / BYTES_PER_SECOND[self._format] * TOKENS_PER_SECOND)
        return Usage(
            input_tokens=self._input_tokens,
            output_tokens=spoken,
            output_audio_tokens=spoken,
            characters=self._characters,
            estimated=True,
        )

    def _broken(self, why: str) -> None:
        assert self._destination is not None
        self.outcome = Outcome("failed", UpstreamBroken(f"Provider '{self._destination.provider}': {why}."))


def effective_format(given: AudioFormat | None, destination: Destination) -> AudioFormat:
    """The format of the answer, as far as it is known before: the one asked for, else MP3 where the provider has it, else
    the provider's usual one."""
    formats = destination.speech.formats
    wanted = given or "mp3"
    return wanted if not formats or wanted in formats else formats[0]
