"""An answer of Anthropic's Messages API, streamed or whole, as canonical events (protocol §5.2, §5.3)."""

import msgspec

from tidegate.dialects.chat.unwrap import Unwrapper
from tidegate.dialects.dialect import Destination
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.messages.figures import Figures
from tidegate.dialects.messages.native import carrying, search_item
from tidegate.dialects.tiers import served
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    MessageEnd,
    Opaque,
    Paused,
    Ping,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Seal,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import CanonicalRequest, HostedTool, Tool

__all__ = ["REASONS", "MessagesDecoder", "decode_message"]

REASONS: dict[str, Reason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Stop reasons. `refusal` is the provider's classifier, not the model. One that is
not here is no ending."""

_PAUSE = "pause_turn"
"""The provider's own tools have run for long, and no other dialect has a word for it: it is asked to go on (protocol §5.3)."""

_KNOWN = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)

_DELTAS = frozenset({"", "text_delta", "input_json_delta", "thinking_delta", "signature_delta", "citations_delta"})


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: msgspec.Raw = jsonio.EMPTY
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: msgspec.Raw = jsonio.EMPTY


class _Frame(msgspec.Struct, gc=False):
    """All that is asked of a frame."""

    type: str = ""
    index: int | None = None
    delta: _Delta | None = None
    content_block: msgspec.Raw = jsonio.EMPTY
    message: msgspec.Raw = jsonio.EMPTY
    usage: msgspec.Raw = jsonio.EMPTY
    error: msgspec.Raw = jsonio.EMPTY


class _Type(msgspec.Struct, gc=False):
    type: str = ""


class _Odd(msgspec.Struct, gc=False):
    """What can be told of a delta that does not fit."""

    delta: _Type


class _BlockObject(msgspec.Struct, gc=False):
    """A content block. What is in it beyond this stays in its own bytes."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    tool_use_id: str | None = None
    input: msgspec.Raw = jsonio.EMPTY
    citations: list[msgspec.Raw] | None = None


class _Whole(msgspec.Struct):
    type: str | None = None
    model: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: msgspec.Raw = jsonio.EMPTY
    usage: msgspec.Raw = jsonio.EMPTY
    error: msgspec.Raw = jsonio.EMPTY


class _Citation(msgspec.Struct):
    type: str | None = None
    url: str | None = None
    source: str | None = None
    title: str | None = None
    file_id: str | None = None
    document_title: str | None = None


class _Details(msgspec.Struct):
    explanation: str | None = None


_frame = jsonio.decoder(_Frame)
_type = jsonio.decoder(_Type)
_odd = jsonio.decoder(_Odd)
_block = jsonio.decoder(_BlockObject)
_whole = jsonio.decoder(_Whole)
_citation = jsonio.decoder(_Citation)
_details = jsonio.decoder(_Details)


class _Block:
    """An open content block."""

    __slots__ = ("begin", "call", "citations", "given", "object", "pieces", "said", "signature", "unwrapper")

    def __init__(self, given: msgspec.Raw, content: _BlockObject) -> None:
        self.given = given
        self.object = content
        self.call = -1
        """The index of the call that it is."""
        self.unwrapper: Unwrapper | None = None
        """What takes the free text of a custom tool out of its arguments."""
        self.pieces: list[str] = []
        """Thinking, partial JSON of a tool, or a text that may have to go back, so far."""
        self.said = False
        self.signature = content.signature or ""
        self.citations: list[msgspec.Raw] = []
        self.begin = 0
        """Where its text begins within the message."""


class MessagesDecoder:
    """See :class:`tidegate.dialects.codec.StreamDecoder`."""

    __slots__ = (
        "_answer",
        "_ended",
        "_frames",
        "_provider",
    )

    def __init__(self, destination: Destination, request: CanonicalRequest) -> None:
        self._frames = sse.FrameDecoder()
        self._provider = destination.provider
        self._answer = _Answer(destination, request)
        self._ended = False

    def feed(self, data: bytes) -> list[Event]:
        if self._ended:
            return []
        try:
            frames = self._frames.feed(data)
        except sse.FrameError as error:
            out = self._read(error.frames)
            return out if self._ended else out + self._broken(str(error))
        return self._read(frames)

    def eof(self) -> list[Event]:
        if self._ended:
            return []
        tail = self._frames.eof()
        out: list[Event] = []
        if tail is not None:
            try:
                self._one(tail, out)
            except WireError:
                out = []
        return out if self._ended else out + self._broken("the stream ended without 'message_stop'")

    def unreported(self) -> list[Event]:
        return []

    def go_on(self) -> None:
        """After `Paused`: what comes next is another message of the provider, and the same answer."""
        self._frames = sse.FrameDecoder()
        self._ended = False
        self._answer.go_on()

    def _read(self, frames: list[sse.Frame]) -> list[Event]:
        out: list[Event] = []
        for frame in frames:
            if self._ended:
                break
            try:
                self._one(frame, out)
            except WireError as error:
                out += self._broken(str(error))
        return out

    def _one(self, frame: sse.Frame, out: list[Event]) -> None:
        """The events of one frame. Raises WireError for what is none of this API."""
        data = frame.data
        if not data:
            return
        try:
            found = _frame.decode(data)
        except jsonio.UNREADABLE as error:
            self._odd(data, error)
            return
        kind = found.type
        answer = self._answer
        if kind == "content_block_delta":
            delta = found.delta
            if delta is not None:
                answer.delta(found.index, delta, out)
        elif kind == "content_block_start":
            answer.start_block(found.index, found.content_block, out)
        elif kind == "content_block_stop":
            answer.stop_block(found.index, out)
        elif kind == "message_start":
            if answer.start(found.message, out):
                answer.foretell(out)
        elif kind == "message_delta":
            answer.report(found.usage, out)
            if found.delta is not None:
                answer.note_end(found.delta.stop_reason, found.delta.stop_sequence, found.delta.stop_details)
        elif kind == "message_stop":
            answer.finish(out)
            self._ended = True
        elif kind == "ping":
            out.append(Ping())
        elif kind == "error" or (not kind and not jsonio.is_null(found.error)):
            out.append(Failed(from_error_object(found.error or b"null", self._provider)))
            self._ended = True

    def _odd(self, data: bytes, error: Exception) -> None:
        """A frame that does not fit. One of a type that we do not know, or a delta of one, may have members of any shape.
        Raises WireError."""
        kind = ""
        if isinstance(error, msgspec.ValidationError):
            try:
                kind = _type.decode(data).type
                if kind == "content_block_delta":
                    delta = _odd.decode(data).delta.type
                    kind = kind if delta in _DELTAS else delta
            except jsonio.UNREADABLE:
                kind = ""
        if not kind or kind in _KNOWN:
            raise WireError(f"an event of the stream cannot be read: {error}")

    def _broken(self, what: str) -> list[Event]:
        self._ended = True
        return [Failed(UpstreamBroken(f"Provider '{self._provider}': {what}."))]


class _Answer:
    """What has been said so far, and what each piece means."""

    def __init__(self, destination: Destination, request: CanonicalRequest) -> None:
        self._model = destination.model
        self._custom = frozenset(tool.name for tool in request.tools if isinstance(tool, Tool) and tool.custom)
        self._blocks: dict[int, _Block] = {}
        self._last = -1
        self._thinking: int | None = None
        """The place of the thinking that is open: whatever else is said ends it."""
        self._calls = 0
        self._started = False
        self._begun = False
        """Whether the message's own beginning has come."""
        self._spoken = -1
        """Characters of the open message; below zero when none is open."""
        self._searches: dict[str, tuple[_Block, msgspec.Raw]] = {}
        """Web searches that wait for their results."""
        self._figures = Figures()
        self._used = Usage()
        """By the messages before this one."""
        self._content: list[msgspec.Raw] | None = None
        """All blocks as they were, where the provider may pause."""
        if any(isinstance(tool, HostedTool) for tool in request.tools):
            self._content = []
        self.reason = ""
        self._stop_sequence = ""
        self._explanation = ""

    def start(self, message: msgspec.Raw, out: list[Event]) -> bool:
        """Whether it is the first one."""
        if self._begun:
            return False
        self._begun = True
        try:
            found = _whole.decode(message) if message else _Whole()
        except jsonio.UNREADABLE:
            found = _Whole()
        self._begin(found.model or "", out)
        self._figures.read(found.usage)
        out += served(found.usage)
        return True

    def foretell(self, out: list[Event]) -> None:
        """The figures with which a stream begins. What they say of the output is only its beginning."""
        if self._figures.found:
            begun = msgspec.structs.replace(self._figures.usage(), output_tokens=0, reasoning_tokens=0, estimated=True)
            out.append(UsageReport(self._used.plus(begun)))

    def report(self, usage: msgspec.Raw, out: list[Event]) -> None:
        """The figures so far, once the output is counted."""
        if self._figures.read(usage) and self._figures.found:
            self._begin("", out)
            out.append(UsageReport(self._used.plus(self._figures.usage())))

    def go_on(self) -> None:
        self._begun = False
        self._used = self._used.plus(self._figures.usage())
        self._figures = Figures()
        self.reason = ""

    def note_end(self, reason: str | None, stop_sequence: str | None, details: msgspec.Raw) -> None:
        if reason:
            self.reason = reason
            self._stop_sequence = stop_sequence or ""
        if not jsonio.is_null(details):
            try:
                self._explanation = _details.decode(details).explanation or ""
            except jsonio.UNREADABLE:
                self._explanation = ""

    def finish(self, out: list[Event]) -> None:
        """The ending. Raises WireError when no reason for it was given, or one that nobody here knows."""
        if not self.reason:
            raise WireError("the stream ended without a stop reason")
        self._begin("", out)
        for index in list(self._blocks):
            self.stop_block(index, out)
        if self.reason == _PAUSE:
            out.append(Paused(self._content or []))
            return
        for block, given in list(self._searches.values()):
            self._put_search(block, given, None, out)
        self._searches.clear()
        reason = REASONS.get(self.reason)
        if reason is None:  # it may be a break as well as an end, and only an end is told as one
            raise WireError(f"the answer ended for a reason that is not known (stop_reason '{self.reason[:64]}')")
        if reason in ("stop", "tool_calls"):  # servers that merely speak this API tell one for the other
            reason = "tool_calls" if self._calls else "stop"
        if reason == "content_filter" and self._explanation:
            out.append(RefusalDelta(self._explanation))
        out.append(ChoiceEnd(reason, stop_sequence=self._stop_sequence))
        out.append(Finished())

    def start_block(self, index: int | None, given: msgspec.Raw, out: list[Event]) -> None:
        """Raises WireError for what is no block."""
        try:
            content = _block.decode(given)
        except jsonio.UNREADABLE as error:
            content = _odd_block(given, error)
        place = self._last + 1 if index is None else index
        if place in self._blocks:
            self.stop_block(place, out)
        self._stop_thinking(out)
        self._begin("", out)
        block = self._blocks[place] = _Block(given, content)
        self._last = place
        match content.type:
            case "text":
                self._spoken = max(self._spoken, 0)
                block.begin = self._spoken
                if content.text:
                    self._text(content.text, out)
                    if self._content is not None:
                        block.pieces.append(content.text)
                block.citations.extend(content.citations or ())
                return
            case "thinking":
                self._thinking = place
                self._close_message(out)
                if content.thinking:
                    block.pieces.append(content.thinking)
                    out.append(ReasoningDelta(content.thinking, "summary"))
            case "tool_use":
                self._close_message(out)
                block.call = self._calls
                self._calls += 1
                name = content.name or ""
                if name in self._custom:
                    block.unwrapper = Unwrapper()
                out.append(ToolCallStart(block.call, content.id or f"call_{block.call}", name, name in self._custom))
            case _:
                self._close_message(out)

    def delta(self, index: int | None, delta: _Delta, out: list[Event]) -> None:
        block = self._blocks.get(self._last if index is None else index)
        text = delta.text
        if block is None:
            if not text:
                return
            # A server that does not announce its blocks.
            self.start_block(index, _TEXT, out)
            block = self._blocks[self._last]
        kind = block.object.type
        if text is not None:
            if text and kind == "text":
                self._text(text, out)
                if self._content is not None:
                    block.pieces.append(text)
        elif delta.partial_json is not None:
            self._partial(block, delta.partial_json, out)
        elif delta.thinking is not None:
            if delta.thinking and kind == "thinking":
                block.pieces.append(delta.thinking)
                self._close_message(out)
                out.append(ReasoningDelta(delta.thinking, "summary"))
        elif delta.signature is not None:
            block.signature += delta.signature
        elif delta.citation:
            block.citations.append(delta.citation)

    def stop_block(self, index: int | None, out: list[Event]) -> None:
        block = self._blocks.pop(self._last if index is None else index, None)
        if block is None:
            return
        content = block.object
        if self._content is not None and (whole := self._whole(block)) is not None:
            self._content.append(whole)
        match content.type:
            case "text":
                for citation in block.citations:
                    annotation = _annotation(citation, block.begin, max(self._spoken, 0))
                    if annotation is not None:
                        out.append(Annotation(annotation))
            case "thinking":
                self._thinking = None
                seal = (
                    Seal(kind="signature", data=block.signature, text="".join(block.pieces))
                    if block.signature
                    else None
                )
                if seal is not None or block.pieces:
                    self._close_message(out)
                    out.append(ReasoningEnd(seal))
            case "redacted_thinking":
                self._close_message(out)
                out.append(ReasoningEnd(Seal(kind="redacted", data=content.data or "")))
            case "tool_use":
                self._end_call(block, out)
            case "server_tool_use" if content.name == "web_search":
                self._searches[content.id or ""] = (block, self._restored(block))
            case "web_search_tool_result" if content.tool_use_id in self._searches:
                search, given = self._searches.pop(content.tool_use_id)
                self._put_search(search, given, block.given, out)
            case kind:
                own = content.id or content.tool_use_id or ""
                kind = f"anthropic:{kind}"
                out.append(Opaque(kind, carrying(kind, own, [self._restored(block)])))

    def _stop_thinking(self, out: list[Event]) -> None:
        if self._thinking is not None:
            self.stop_block(self._thinking, out)

    def _begin(self, model: str, out: list[Event]) -> None:
        if not self._started:
            self._started = True
            out.append(Started(model or self._model))

    def _text(self, text: str, out: list[Event]) -> None:
        if self._thinking is not None:
            self._stop_thinking(out)
        self._spoken = max(self._spoken, 0) + len(text)
        out.append(TextDelta(text))

    def _close_message(self, out: list[Event]) -> None:
        """Blocks of text that follow each other are one message: the API cuts a text at each citation."""
        if self._spoken > 0:
            out.append(MessageEnd())
        self._spoken = -1

    def _partial(self, block: _Block, text: str, out: list[Event]) -> None:
        if not text:
            return
        block.said = True
        if block.call < 0 or self._content is not None:
            block.pieces.append(text)
        if block.call < 0:
            return
        if block.unwrapper is not None:
            text = block.unwrapper.feed(text)
        if text:
            out.append(ToolCallDelta(block.call, text))

    def _end_call(self, block: _Block, out: list[Event]) -> None:
        rest = "" if block.said else _as_text(block.object.input)
        if block.unwrapper is not None:
            rest = block.unwrapper.feed(rest) + block.unwrapper.eof()
        if rest:
            out.append(ToolCallDelta(block.call, rest))
        out.append(ToolCallEnd(block.call))

    def _restored(self, block: _Block) -> msgspec.Raw:
        """The block as it is in a whole message: with the input that came in pieces."""
        if not block.said:
            return block.given
        try:
            written = "".join(block.pieces).encode()
            jsonio.members(written)
            return jsonio.raw({**jsonio.members(block.given), "input": msgspec.Raw(written)})
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch, UnicodeEncodeError):
            return block.given

    def _whole(self, block: _Block) -> msgspec.Raw | None:
        """The block as it would be in a whole message; None for an empty text, which the API refuses."""
        said = "".join(block.pieces)
        match block.object.type:
            case "text" if not said:
                return None
            case "text":
                cited = {"citations": block.citations} if block.citations else {}
                return jsonio.raw({"type": "text", "text": said, **cited})
            case "thinking":
                return jsonio.raw({"type": "thinking", "thinking": said, "signature": block.signature})
            case _:
                return self._restored(block)

    def _put_search(self, search: _Block, given: msgspec.Raw, result: msgspec.Raw | None, out: list[Event]) -> None:
        out.append(Opaque("web_search_call", search_item(search.object.id or "", given, result)))


_TEXT = jsonio.raw({"type": "text", "text": ""})


def _odd_block(given: msgspec.Raw, error: Exception) -> _BlockObject:
    """A block of which only the type can be read. Raises WireError if not even that, or if it is one of ours."""
    try:
        kind = _type.decode(given).type if given else ""
    except jsonio.UNREADABLE:
        kind = ""
    if not kind or kind in ("text", "thinking", "redacted_thinking", "tool_use"):
        raise WireError(f"a content block cannot be read: {error}")
    return _BlockObject(kind)


def _annotation(citation: msgspec.Raw, begin: int, end: int) -> msgspec.Raw | None:
    """What a citation of a text is in the form of the Responses API; None for one that has neither address nor file."""
    try:
        found = _citation.decode(citation)
    except jsonio.UNREADABLE:
        return None
    url = found.url or found.source
    if url:
        return jsonio.raw(
            {"type": "url_citation", "start_index": begin, "end_index": end, "url": url, "title": found.title or ""}
        )
    if found.file_id:
        return jsonio.raw(
            {"type": "file_citation", "index": end, "file_id": found.file_id, "filename": found.document_title or ""}
        )
    return None


def _as_text(value: msgspec.Raw) -> str:
    """The input of a call that came whole, as it came; `{}` for none. Raises WireError."""
    if jsonio.is_null(value):
        return "{}"
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise WireError("the input of a call is not valid UTF-8") from None


def decode_message(body: bytes, destination: Destination, request: CanonicalRequest) -> list[Event]:
    """See `UpstreamDialect.decode_answer`."""
    try:
        jsonio.check_utf8(body)
        whole = jsonio.decode(body, _whole)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None
    raise_error(whole.type, whole.error, destination.provider)
    if whole.content is None:
        raise WireError("the provider's answer has no 'content'")
    if not whole.stop_reason:
        raise WireError("the provider's answer has no 'stop_reason'")
    answer = _Answer(destination, request)
    out: list[Event] = []
    answer.start(msgspec.Raw(body), out)
    for place, block in enumerate(whole.content):
        answer.start_block(place, block, out)
        answer.stop_block(place, out)
    answer.report(whole.usage, out)
    answer.note_end(whole.stop_reason, whole.stop_sequence, whole.stop_details)
    answer.finish(out)
    return out


def raise_error(kind: str | None, error: msgspec.Raw, provider: str) -> None:
    """Raises the error of a body `{"type": "error", "error": {…}}` that came with status 200."""
    if kind == "error" or (kind is None and not jsonio.is_null(error)):
        failure: TidegateError = from_error_object(error or b"null", provider)
        raise failure
