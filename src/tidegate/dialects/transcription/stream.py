"""The stream of a transcript: from whichever form the provider has to the one that the client's profile has (S89, S90).

Providers have four. OpenAI's events, which go on untouched to a client that reads them. Chunks like those of chat, as vLLM
sends them: one finish reason for each half minute of audio, and `[DONE]` behind the last. `{"text": …}` frames that end with
`[DONE]`. And the bare text of `transformers serve`, whose end is that of the body.
"""

import msgspec

from tidegate.dialects.dialect import Call, Outcome, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.gemini.decoder import GeminiDecoder
from tidegate.dialects.relay import Relay
from tidegate.dialects.transcription.answer import Segment, Transcript, read_transcript, read_usage
from tidegate.dialects.transcription.gemini import question
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, WireError
from tidegate.wire.events import ChoiceEnd, Event, Failed, Finished, TextDelta, Usage, UsageReport

__all__ = ["TranscriptStream"]

DONE = b"data: [DONE]\n\n"

TEXT_LIMIT = 16 * 1024 * 1024
"""Most characters of one transcript that are kept for its last event: two weeks of speech."""

_ENDED = frozenset({"stop", ""})
"""Reasons to finish after which the text is complete; `length` and its like leave some of it out."""


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    """As much of a frame as tells which of the forms it has, and what it says."""

    type: str | None = None
    delta: str | None = None
    text: str | None = None
    object: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = jsonio.EMPTY
    error: msgspec.Raw = jsonio.EMPTY


_chunk = msgspec.json.Decoder(_Chunk)


class TranscriptStream(Relay):
    """See :class:`tidegate.dialects.dialect.Stream`. `[DONE]` only follows a transcript that the provider ended."""

    __slots__ = ("_finished", "_gemini", "_kept", "_said", "_spoken_bytes", "_usage", "_wants_text")

    _ENDING = "the end of the transcript"

    def __init__(self, call: Call) -> None:
        self._wants_text = call.profile.transcript_text
        super().__init__(call)

    def _begin(self) -> None:
        super()._begin()
        self._said: list[str] = []
        """The text so far, where the last event has to be made here."""
        self._kept = 0
        self._spoken_bytes = 0
        self._finished = False
        """The provider has said so in a form that has no last event."""
        self._usage: Usage | None = None
        self._gemini: GeminiDecoder | None = None
        if self._destination is not None and self._destination.quirks.transcripts == "gemini":
            self._gemini = GeminiDecoder(self._destination, question(self._destination))

    def feed(self, data: bytes) -> bytes:
        return super().feed(data) if self._gemini is None else self._events(self._gemini.feed(data))

    def eof(self) -> bytes:
        return super().eof() if self._gemini is None else self._events(self._gemini.eof())

    def finish(self) -> bytes:
        """Gemini's stream says why it finishes before it ends; no other form says that it is complete before that."""
        self._take_figures()  # of what comes with the end nothing is heard if it is none
        events = [] if self._gemini is None else self._gemini.eof()
        return self._events(events) if events and isinstance(events[-1], Finished) else b""

    def unstreamed(self, body: bytes) -> bytes | None:
        try:
            found = read_transcript(body, self._provider)
        except WireError:
            return None
        except TidegateError as error:
            return self._failed(error)
        assert found.text is not None
        self._usage = found.counted()
        return self._text(found.text) + self._end(found)

    def ping(self) -> bytes:
        return sse.comment(b"keepalive")

    def fail(self, error: TidegateError) -> bytes:
        self.outcome = Outcome("failed", error)
        return sse.encode(error.body())

    def usage(self) -> Usage:
        self._take_figures()
        return self._usage or estimated_usage(self._call, self._spoken_bytes)

    def _take_figures(self) -> None:
        """Hear those that no event has yet."""
        if self._gemini is not None:
            self._events(self._gemini.unreported())

    # -- frames -------------------------------------------------------------------------------------------------

    def _frame(self, frame: sse.Frame) -> bytes:
        data = frame.data
        if not data or self.outcome is not None:
            return b""
        if self._whole:
            return self._raw_text(frame)
        if data.strip() == b"[DONE]":
            if self._finished:
                return self._end()
            return self._broken("it closed the stream before the transcript ended")
        try:
            if not data.isascii():
                data.decode()  # the frame may go on as it is, and the decoder does not look into all of it
            chunk = _chunk.decode(data)
        except jsonio.UNREADABLE:
            return self._broken("an event of the stream cannot be read")
        if not jsonio.is_blank(chunk.error):
            return self._reported(chunk.error)
        if frame.event == b"error" or chunk.object == "error" or chunk.type == "error":
            return self._reported(msgspec.Raw(data))
        match chunk.type:
            case "transcript.text.delta":
                text = chunk.delta or ""
                self._spoken_bytes += len(text.encode())
                return self._text(text) if self._wants_text else self._untouched(frame)
            case "transcript.text.done":
                self._usage = read_usage(chunk.usage)
                rest = b"" if self.committed or not self._wants_text else self._text(chunk.text or "")
                self.outcome = Outcome("completed")
                return (rest if self._wants_text else self._untouched(frame)) + DONE
            case None:
                return self._untyped(chunk)
        return b"" if self._wants_text else self._untouched(frame)

    def _untyped(self, chunk: _Chunk) -> bytes:
        """A frame of one of the forms without types."""
        if not jsonio.is_blank(chunk.usage):
            self._usage = read_usage(chunk.usage) or self._usage
        if chunk.choices is not None:
            out = []
            for choice in chunk.choices:
                if choice.delta is not None and choice.delta.content:
                    out.append(self._said_text(choice.delta.content))
                reason = choice.finish_reason
                if reason is not None and reason not in _ENDED:
                    self._broken(f"it broke the transcript off (finish_reason '{reason[:64]}')")
                self._finished = self._finished or reason is not None
            return b"".join(out)
        if chunk.text is not None:
            self._finished = True  # as far as this form tells
            return self._said_text(chunk.text)
        return b""

    def _raw_text(self, frame: sse.Frame) -> bytes:
        """The data are a piece of the text itself; only an error is JSON."""
        try:
            text = frame.data.decode()
        except UnicodeDecodeError:
            return self._broken("a piece of the transcript is not valid UTF-8")
        if text.startswith('{"error"'):
            try:
                return self._reported(_chunk.decode(frame.data).error)
            except jsonio.UNREADABLE:  # it is put together by hand there
                return self._reported(jsonio.raw(text))
        return self._said_text(text)

    def _events(self, events: list[Event]) -> bytes:
        out = []
        for event in events:
            match event:
                case TextDelta():
                    out.append(self._said_text(event.text))
                case UsageReport():
                    self._usage = event.usage
                case ChoiceEnd() if event.reason != "stop":
                    self._broken(f"it broke the transcript off ({event.reason})")
                case Finished() if self.outcome is None:
                    out.append(self._end())
                case Failed() if self.outcome is None:
                    self._failed(event.error)
                case _:
                    pass  # thoughts, and what else is no transcript
        return b"".join(out)

    # -- what the client gets -----------------------------------------------------------------------------------

    def _untouched(self, frame: sse.Frame) -> bytes:
        self.committed = True
        return frame.raw

    def _said_text(self, text: str) -> bytes:
        """A piece of a transcript whose last event is made here."""
        self._kept += len(text)
        if self._kept > TEXT_LIMIT:
            return self._broken(f"the transcript is longer than {TEXT_LIMIT} characters")
        self._said.append(text)
        self._spoken_bytes += len(text.encode())
        return self._text(text)

    def _text(self, text: str) -> bytes:
        if not text:
            return b""
        self.committed = True
        if self._wants_text:
            return b'data: {"text":%b}\n\n' % jsonio.encode(text)
        return b'data: {"type":"transcript.text.delta","delta":%b}\n\n' % jsonio.encode(text)

    def _end(self, found: Transcript | None = None) -> bytes:
        """The last events of a transcript that is complete, which `found` has whole if it came so."""
        self.outcome = Outcome("completed")
        self.committed = True
        if found is None:
            text, more = "".join(self._said), {}
        else:
            text = found.text or ""
            self._spoken_bytes = len(text.encode())
            more = {"logprobs": found.logprobs, "languages": found.languages}
        if self._wants_text:
            return DONE
        segments = [] if found is None else [_segment(index, one) for index, one in enumerate(found.segments or ())]
        last = {
            "type": "transcript.text.done",
            "text": text,
            **{name: value for name, value in more.items() if not jsonio.is_blank(value)},
            "usage": self.usage().as_transcription(),
        }
        return b"".join([*segments, sse.encode(jsonio.encode(last)), DONE])

    def _reported(self, error: msgspec.Raw) -> bytes:
        return self._failed(from_error_object(error, self._provider))

    @property
    def _whole(self) -> bool:
        """In the bare form there is no other ending than that of the body."""
        return self._destination is not None and self._destination.quirks.transcripts == "raw"


def _segment(index: int, one: Segment) -> bytes:
    """Of a transcript that tells speakers apart; others have segments that no event is for."""
    if one.speaker is None:
        return b""
    event = {
        "type": "transcript.text.segment",
        "id": str(one.id) if one.id is not None else f"seg_{index:03}",
        "start": one.start or 0.0,
        "end": one.end or 0.0,
        "text": one.text or "",
        "speaker": one.speaker,
    }
    return sse.encode(jsonio.encode(event))
