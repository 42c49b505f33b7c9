"""An answer that breaks off after the client has seen some of it, and that another deployment goes on with.

Only for aliases that ask for it (promise P3: after the commit point nothing switches in silence), and only for plain text:
whoever goes on gets the text so far as what the assistant has said, and its words are written behind it, in the same
stream. Nothing is looked at for that while all goes well; the provider's bytes are kept, and read once it breaks off.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from tidegate.dialects.bridge import Bridge, BridgedStream, Watch
from tidegate.dialects.choices.encoder import ChoicesEncoder
from tidegate.dialects.choices.stream import ChoicesStream
from tidegate.dialects.codec import BridgedRequest, StreamEncoder, UpstreamDialect
from tidegate.dialects.dialect import EVENT_STREAM, AnyRequest, Call, Destination, Endpoint, Stream
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.gemini.encoder import GeminiEncoder
from tidegate.dialects.gemini.relay import GeminiRelay
from tidegate.dialects.overlap import Overlap
from tidegate.dialects.plaintext import is_plain
from tidegate.dialects.responses.encoder import ResponsesEncoder
from tidegate.dialects.responses.stream import ResponsesStream
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import InvalidRequest, TidegateError, WireError
from tidegate.wire.events import (
    BYTES_PER_TOKEN,
    Event,
    Failed,
    Ping,
    ReasoningDelta,
    ReasoningEnd,
    Served,
    Started,
    TextDelta,
    Usage,
    UsageReport,
)
from tidegate.wire.items import CanonicalRequest, Message, TextPart

__all__ = ["CONTINUED", "KEPT_LIMIT", "TEXT_LIMIT", "ContinuableBridge", "ContinuableStream", "Hindrance"]

CONTINUED: Final = b"tidegate-continued "
"""How the comment begins that stands in the stream where another deployment goes on."""

KEPT_LIMIT: Final = 4 * 1024 * 1024
"""Most bytes of a provider's stream that are kept. They are about fifty times as long as the words in them."""

TEXT_LIMIT: Final = 256 * 1024
"""Most characters of an answer that is gone on with."""

FRAMES: Final = 64
"""More tokens than two messages have around their words."""

LEAST_TOKENS: Final = 16
"""OpenAI lets no request ask for fewer."""

_GO_ON: Final = (
    "Your last message was cut off by a lost connection. Go on with it exactly where it stops, with the very next character, "
    "in the middle of a word if need be. Repeat nothing of it, begin nothing anew, and do not mention the interruption."
)

_NO_USAGE: Final = Usage()

Hindrance = Literal["request", "not_plain_text", "nothing_said", "too_long", "unreadable"]
"""Why an answer is not gone on with: what was asked for; something else than text was said, or the text was complete; there
is no text yet; there is too much; what the provider had sent cannot be read or placed."""


_UNSIGNED: Final = frozenset({"reasoning_item", "reasoning_content", "shown"})
"""Kinds of seals that hold plain words."""

_OPENING: Final = frozenset({"response.output_item.added", "content_block_start"})
_CLOSING: Final = frozenset({"response.output_text.done", "content_block_stop", "message_delta"})


class _Typed(msgspec.Struct, gc=False):
    type: str = ""


_typed = jsonio.decoder(_Typed)


class _Said:
    """What one answer has said so far, by the events that went to the client."""

    __slots__ = ("is_plain", "pieces", "size", "thoughts")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0
        self.is_plain = True
        """Words of one message, behind thoughts that nobody has signed."""
        self.thoughts = 0

    def add(self, event: Event) -> None:
        match event:
            case TextDelta(text=text, choice=0, logprobs=None):
                self.pieces.append(text)
                self.size += len(text)
            case ReasoningDelta(choice=0) if not self.pieces:
                pass
            case ReasoningEnd(choice=0, seal=seal) if not self.pieces and (seal is None or seal.kind in _UNSIGNED):
                self.thoughts += 1
            case Started() | Served() | UsageReport() | Ping() | Failed():
                pass
            case _:
                self.is_plain = False

    @property
    def text(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class _Listener(Watch):
    """Hears as well what is said, and tells the client of all that the answer has used."""

    __slots__ = ("_before", "_said")

    def __init__(self, bridge: Bridge, destination: Destination, call: Call, said: _Said, before: Usage) -> None:
        super().__init__(bridge, destination, call)
        self._said = said
        self._before = before

    def pass_on(self, events: Iterable[Event], *, ended: bool = False) -> list[Event]:
        events = list(events)
        for event in events:
            self._said.add(event)
        out = super().pass_on(events, ended=ended)
        if self._before is _NO_USAGE:
            return out
        return [UsageReport(self._before.plus(one.usage)) if isinstance(one, UsageReport) else one for one in out]

    def report(self) -> UsageReport:
        return UsageReport(self._before.plus(self.usage()))


class ContinuableBridge(Bridge):
    """A bridge that keeps what was asked until the answer is complete."""

    def __init__(
        self,
        request: BridgedRequest,
        call: Call,
        envelopes: Envelopes,
        dialects: Mapping[Endpoint, UpstreamDialect],
    ) -> None:
        super().__init__(request, call, envelopes)
        self.request: AnyRequest = request  # type: ignore[assignment]  # every bridged request is one
        self.dialects = dialects
        self.stream: ContinuableStream | None = None

    def open(self, native: Stream) -> "ContinuableStream":
        self.stream = ContinuableStream(self, native, self._call)
        return self.stream

    def let_go(self) -> None:
        """Another attempt may come at any time."""

    def forward(self, dialect: UpstreamDialect, destination: Destination) -> tuple[bytes, tuple[str, ...]]:
        stream = self.stream
        if stream is None or not stream.goes_on:
            return super().forward(dialect, destination)
        asked = self.canonical
        self._canonical = _going_on(asked, stream.text, destination)
        try:
            body, dropped = super().forward(dialect, destination)
        finally:
            self._canonical = asked
        stream.dropped = dropped
        return body, dropped

    def suits(self) -> bool:
        """Whether an answer to what was asked may be gone on with, if it is text."""
        try:
            asked = self.canonical
        except InvalidRequest:
            return False
        choice = asked.tool_choice
        return (
            asked.n == 1
            and asked.top_logprobs is None
            and (asked.format is None or asked.format.type == "text")
            and (choice is None or not (choice.required or choice.mode in ("required", "function")))
        )


class ContinuableStream(BridgedStream):
    """A stream whose provider may change in the middle of a text. See the module."""

    __slots__ = (
        "_before",
        "_destination",
        "_ended",
        "_kept",
        "_kept_bytes",
        "_marks",
        "_overlap",
        "_own",
        "_said",
        "_unmarked",
        "dropped",
        "failure",
        "goes_on",
    )

    def __init__(self, bridge: ContinuableBridge, native: Stream, call: Call) -> None:
        super().__init__(bridge, native, call)
        self._own = bridge
        self._said = _Said()
        self._destination: Destination | None = None
        self._kept: list[bytes] = []
        """What the present provider has sent."""
        self._kept_bytes = 0
        self._ended = False
        """Its message had an end."""
        self._overlap: Overlap | None = None
        self._before = _NO_USAGE
        """What attempts have used that broke off."""
        self._marks: list[dict[str, object]] = []
        self._unmarked: dict[str, object] | None = None
        """What there is to tell as soon as the present attempt says something."""
        self.goes_on = False
        """The attempts from now on go on with what was said."""
        self.dropped: tuple[str, ...] = ()
        """What the present attempt leaves out of the request; the response headers are gone."""
        self.failure: TidegateError | None = None
        """What the answer broke off with when it last said something."""

    @property
    def text(self) -> str:
        return self._said.text

    @property
    def speaks(self) -> bool:
        """Whether the present attempt has said anything to the client."""
        return self.committed and self._unmarked is None

    # -- attempts -----------------------------------------------------------------------------------------------

    def attempt(self, destination: Destination) -> None:
        self._said = _Said()
        self._forget(destination)
        super().attempt(destination)

    def attempt_bridged(self, destination: Destination) -> None:
        if not self.goes_on:
            self._said = _Said()
            self._forget(destination)
            super().attempt_bridged(destination)
            return
        if self._decoder is None:
            self._encoder = self._take_over()
        self._forget(destination)
        self.outcome = None
        self._decoder = self._bridge.decoder(destination)
        self._stops = self._bridge.stop_filter()
        self._watch = self._watching(destination)
        text = self.text
        blanks = text[len(text.rstrip()) :] if _prefills(self._own.canonical, destination) else ""
        self._overlap = Overlap(text, blanks)
        assert self._unmarked is not None
        self._unmarked["deployment"] = f"{destination.provider}/{destination.model}"
        self._unmarked.pop("dropped", None)
        if self.dropped:
            self._unmarked["dropped"] = self.dropped

    def _forget(self, destination: Destination) -> None:
        self._destination = destination
        self._kept.clear()
        self._kept_bytes = 0
        self._ended = False

    def _watching(self, destination: Destination) -> Watch:
        call = self.longer(self._call) if self.goes_on else self._call
        return _Listener(self._bridge, destination, call, self._said, self._before)

    def longer(self, call: Call) -> Call:
        """The same call with all that whoever goes on has to read."""
        more = len(self.text.encode(errors="replace")) + len(_GO_ON)
        return msgspec.structs.replace(
            call, request_bytes=call.request_bytes + more, most_bytes=call.most_bytes + more + FRAMES
        )

    # -- what comes ---------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        self._kept_bytes += len(data)
        if self._kept_bytes <= KEPT_LIMIT:
            self._kept.append(data)
        else:
            self._kept.clear()
        decoder = self._decoder
        if decoder is None:
            return self._of_native(self._native.feed(data))
        events = decoder.feed(data)
        if len(events) == 1 and self._overlap is None and self._unmarked is None and self._stops is None:
            event, encoder, watch = events[0], self._encoder, self._watch
            if (
                type(event) is TextDelta
                and event.logprobs is None
                and not event.choice
                and not self._held
                and encoder is not None
                and watch is not None
            ):
                self._said.pieces.append(event.text)
                self._said.size += len(event.text)
                watch.count(event.text)
                try:
                    return encoder.encode(events)
                except WireError:
                    pass  # it comes again, and is told then
        return self._relay(events)

    def eof(self) -> bytes:
        self._ended = True
        return super().eof()

    def _relay(self, events: list[Event]) -> bytes:
        if not self.goes_on:
            return super()._relay(events)
        out = super()._relay(self._joined(events))
        if not out or self._unmarked is None:
            return out
        return self._mark(self._unmarked) + out

    def _joined(self, events: list[Event]) -> list[Event]:
        """What fits behind the text so far: neither its beginning nor its end once more, nor thoughts, for which it is too
        late."""
        out: list[Event] = []
        for event in events:
            match event:
                case Started() | ReasoningDelta() | ReasoningEnd():
                    continue
                case TextDelta() if self._overlap is not None and event.logprobs is None:
                    if text := self._overlap.feed(event.text):
                        out.append(msgspec.structs.replace(event, text=text))
                    if not self._overlap.is_open:
                        self._overlap = None
                    continue
                case Served() | UsageReport() | Ping() | Failed():
                    pass
                case _ if self._overlap is not None:
                    if text := self._overlap.end():
                        out.append(TextDelta(text))
                    self._overlap = None
                case _:
                    pass
            out.append(event)
        return out

    def _mark(self, note: dict[str, object]) -> bytes:
        """Tell, in a form that every client passes over, who goes on from here."""
        self._unmarked = None
        self._marks.append(note)
        if isinstance(self._encoder, ResponsesEncoder):
            self._encoder.mark(jsonio.raw(self._marks))
        return (
            sse.comment(CONTINUED + jsonio.one_line(jsonio.encode(note))) if self.content_type == EVENT_STREAM else b""
        )

    # -- the break ----------------------------------------------------------------------------------------------

    def breaks_off(self, error: TidegateError) -> Hindrance | None:
        """The present attempt has said something and is over, with `error`: None where another attempt may go on with it."""
        self.failure = error
        hindrance = self._hindrance()
        if hindrance is not None:
            return hindrance
        used = super().usage()
        self._before = self._before.plus(used)
        destination = self._destination
        assert destination is not None
        self._unmarked = {
            "deployment": "",
            "after": f"{destination.provider}/{destination.model}",
            "error": error.code or "",
            "characters": self._said.size,
        }
        if used.estimated:
            self._unmarked["usage"] = "estimated"
        self.goes_on = True
        return None

    def _hindrance(self) -> Hindrance | None:
        destination = self._destination
        if not self._own.suits() or (destination is not None and not destination.gateway_state):
            return "request"  # what the provider itself keeps is broken there
        if self._kept_bytes > KEPT_LIMIT or self._said.size > TEXT_LIMIT:
            return "too_long"
        if self._decoder is None:
            said = self._said = _Said()
            events = self._relayed()
            if events is None:
                return "unreadable"
            for event in events:
                said.add(event)
        frames = self._frames()
        if not self._said.is_plain or _is_closed(frames) or not all(is_plain(frame.data) for frame in frames):
            return "not_plain_text"
        if self._said.size > TEXT_LIMIT:
            return "too_long"
        if not self.text.strip():
            return "nothing_said"
        return None if self._decoder is not None or self._can_take_over() else "unreadable"

    def _relayed(self) -> list[Event] | None:
        """What the frames have said that were relayed."""
        destination = self._destination
        assert destination is not None
        dialect = self._own.dialects.get(destination.endpoint)
        if dialect is None:
            return None
        asked = msgspec.structs.replace(self._own.canonical, model=destination.model)
        decoder = dialect.decoder(destination, asked)
        frames = b"".join(frame.raw for frame in self._frames())
        return [*decoder.feed(frames), *decoder.eof()]

    def _frames(self) -> list[sse.Frame]:
        """The frames of the present attempt. Half a one at the end counts only where the provider's message had an end."""
        decoder = sse.FrameDecoder()
        try:
            frames = decoder.feed(b"".join(self._kept))
        except sse.FrameError as error:
            frames = error.frames
        tail = decoder.eof() if self._ended else None
        return frames if tail is None else [*frames, tail]

    def _can_take_over(self) -> bool:
        native = self._native
        if not isinstance(native, ResponsesStream):
            return True
        begun = native.given_up()
        return begun is not None and len(begun[2]) == self._said.thoughts

    def _take_over(self) -> StreamEncoder:
        """An encoder that stands where the relay has stopped: it has encoded the same, for nobody."""
        destination, native = self._destination, self._native
        assert destination is not None
        encoder = self._bridge.encoder()
        encoder.attempt(destination)
        if isinstance(encoder, ChoicesEncoder) and isinstance(native, ChoicesStream):
            encoder.go_on(native.hand_over())
        events = self._relayed()
        assert events is not None
        if isinstance(encoder, GeminiEncoder) and isinstance(native, GeminiRelay):
            encoder.go_on(*native.hand_over())
        encoder.encode(one for one in events if not isinstance(one, Failed | UsageReport))
        if isinstance(encoder, ResponsesEncoder) and isinstance(native, ResponsesStream):
            begun = native.given_up()
            if begun is None:
                raise WireError("the relay has gone on meanwhile")
            encoder.take_over(*begun)
        self._kept.clear()
        return encoder


def _is_closed(frames: Iterable[sse.Frame]) -> bool:
    """Whether the provider has said that its text is complete. Not every decoder tells before it knows what follows."""
    closed = False
    for frame in frames:
        try:
            kind = _typed.decode(frame.data).type
        except jsonio.UNREADABLE:
            continue
        closed = kind in _CLOSING or (closed and kind not in _OPENING)
    return closed


def _going_on(asked: CanonicalRequest, text: str, destination: Destination) -> CanonicalRequest:
    """The request for whoever goes on behind `text`."""
    prefills = _prefills(asked, destination)
    said = Message(role="assistant", content=[TextPart(text=text.rstrip() if prefills else text)])
    more = [said] if prefills else [said, Message(role="user", content=[TextPart(text=_GO_ON)])]
    most = asked.max_output_tokens
    if most is not None:
        spent = len(text.encode(errors="replace")) // BYTES_PER_TOKEN
        most = min(most, max(most - spent, LEAST_TOKENS + (asked.reasoning_budget or 0)))
    return msgspec.structs.replace(asked, items=[*asked.items, *more], max_output_tokens=most)


def _prefills(asked: CanonicalRequest, destination: Destination) -> bool:
    """Whether the model takes the words so far for the beginning of its own answer."""
    thinks = asked.reasons or bool(asked.reasoning_budget) or asked.effort not in ("", "none")
    return destination.endpoint == "messages" and destination.traits.prefill and not thinks
