"""A provider's Responses answer, streamed or whole → canonical events, for clients that speak another dialect (S67).

What an answer says, it says up to four times: in deltas, in the `done` of a value, in that of the item, and in the
snapshot at the end. Providers leave out any of these but one. Each text is taken from where it comes first, and what
comes again is taken only for what it has more.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Final, Literal

import msgspec

from tidegate.dialects.dialect import Destination
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.responses.ending import ending, failure, true_status
from tidegate.dialects.responses.held import HELD_LIMIT
from tidegate.dialects.sources import moved
from tidegate.dialects.tiers import served
from tidegate.dialects.usage import read_usage_object
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    MediaDelta,
    MessageEnd,
    Opaque,
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
    UsageReport,
)

__all__ = ["ResponsesDecoder", "decode_answer"]

Slot = Literal["text", "refusal", "summary", "thought", "arguments"]
"""The places of an item that hold words."""

_TEXT_DELTA: Final = "response.output_text.delta"
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_MOST_PARTS: Final = 4096
"""Parts of one item; each costs memory."""
_RECORD_SIZE: Final = 512
"""About what is kept of an item whose words are not."""


class _Event(msgspec.Struct, gc=False):
    """What a delta is asked for."""

    type: str = ""
    delta: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    logprobs: msgspec.Raw = jsonio.EMPTY


class _Type(msgspec.Struct, gc=False):
    type: str = ""


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[msgspec.Raw] | None = None
    logprobs: list[msgspec.Raw] | None = None


class _Whole(msgspec.Struct, gc=False):
    """The members that close a value, or bring one."""

    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    name: str | None = None
    part: _Part | None = None
    annotation: msgspec.Raw = jsonio.EMPTY


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    encrypted_content: str | None = None
    result: str | None = None
    output_format: str | None = None


class _ItemEvent(msgspec.Struct, gc=False):
    item: msgspec.Raw = jsonio.EMPTY
    output_index: int | None = None


class _ErrorEvent(msgspec.Struct, gc=False):
    error: msgspec.Raw = jsonio.EMPTY


class _Response(msgspec.Struct, gc=False):
    response: jsonio.Members = {}


class _Details(msgspec.Struct, gc=False):
    reason: str = ""


_event = jsonio.decoder(_Event)
_type = jsonio.decoder(_Type)
_whole = jsonio.decoder(_Whole)
_item = jsonio.decoder(_Item)
_item_event = jsonio.decoder(_ItemEvent)
_error_event = jsonio.decoder(_ErrorEvent)
_response = jsonio.decoder(_Response)
_details = jsonio.decoder(_Details)
_string = jsonio.decoder(str)


class _Said:
    """How much of one text has been said: enough to know what a later, whole copy has more."""

    __slots__ = ("annotations", "last", "logprobs", "size")

    def __init__(self) -> None:
        self.size = 0
        self.last = ""
        self.annotations = 0
        self.logprobs = False

    def say(self, text: str) -> None:
        self.size += len(text)
        self.last = text

    def rest(self, whole: str) -> str:
        """What `whole` has more. Nothing, where it is not the same text from its beginning, as when a provider trims it
        in its last copy."""
        size = self.size
        if len(whole) <= size or whole[size - len(self.last) : size] != self.last:
            return ""
        return whole[size:]


class _Record:
    """An item of the provider's answer."""

    __slots__ = ("buffer", "call", "ended", "id", "index", "kind", "matched", "repeated", "said", "sealed")

    def __init__(self, kind: str, name: str, index: int | None) -> None:
        self.kind = kind
        self.id = name
        self.index = index
        """The provider's `output_index`."""
        self.said: dict[tuple[Slot, int], _Said] = {}
        self.call: int | None = None
        """Index of the call, once it was announced."""
        self.buffer: list[str] = []
        """Arguments of a call that has no name yet."""
        self.ended = False
        self.sealed = False
        self.repeated = False
        """The provider opened the item once more; what it says in it was said before."""
        self.matched = False

    def at(self, slot: Slot, place: int) -> _Said:
        said = self.said.get((slot, place))
        if said is None:
            if len(self.said) >= _MOST_PARTS:
                raise WireError(f"an item has more than {_MOST_PARTS} parts")
            said = self.said[slot, place] = _Said()
        return said

    @property
    def spoke(self) -> bool:
        return any(said.size for said in self.said.values())


class ResponsesDecoder:
    """See :class:`tidegate.dialects.codec.StreamDecoder`."""

    __slots__ = (
        "_by_id",
        "_by_index",
        "_calls",
        "_destination",
        "_ended",
        "_frames",
        "_held",
        "_message",
        "_now",
        "_now_id",
        "_now_index",
        "_out",
        "_provider",
        "_records",
        "_started",
        "_thinking",
    )

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._provider = destination.provider
        self._frames = sse.FrameDecoder()
        self._started = False
        self._ended = False
        self._records: list[_Record] = []
        self._by_id: dict[str, _Record] = {}
        self._by_index: dict[int, _Record] = {}
        self._message: _Record | None = None
        """The message that is open in our events."""
        self._thinking: _Record | None = None
        self._now: _Said | None = None
        """The text that the last delta went on with, and where it stands."""
        self._now_id: str | None = None
        self._now_index: int | None = None
        self._calls = 0
        self._held = 0
        self._out: list[Event] = []

    def feed(self, data: bytes) -> list[Event]:
        if self._ended:
            return []
        try:
            frames = self._frames.feed(data)
        except sse.FrameError as error:
            self._read(error.frames)
            self._broken(str(error))
        else:
            self._read(frames)
        return self._taken()

    def eof(self) -> list[Event]:
        if self._ended:
            return []
        tail = self._frames.eof()
        if tail is not None:
            self._read([tail])
            if not self._ended:
                self._out.clear()
        self._broken("the stream ended without a terminal event")
        return self._taken()

    def unreported(self) -> list[Event]:
        return []

    def whole(self, upstream: jsonio.Members, status: str) -> list[Event]:
        """An answer in one body. Raises WireError."""
        self._start(upstream)
        self._finish(upstream, status)
        return self._taken()

    def _taken(self) -> list[Event]:
        out, self._out = self._out, []
        return out

    def _broken(self, why: str) -> None:
        self._fail(UpstreamBroken(f"Provider '{self._provider}': {why}."))

    def _fail(self, error: TidegateError) -> None:
        if not self._ended:
            self._ended = True
            self._out.append(Failed(error))

    # -- frames -------------------------------------------------------------------------------------------------

    def _read(self, frames: list[sse.Frame]) -> None:
        for frame in frames:
            if self._ended:
                return
            try:
                self._frame(frame)
            except (WireError, jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
                self._broken(f"an event of the stream cannot be read: {error}")

    def _frame(self, frame: sse.Frame) -> None:
        data = frame.data
        if not data:
            if self._started:
                self._out.append(Ping())
            return
        try:
            event = _event.decode(data)
        except jsonio.UNREADABLE:
            if data.strip() == b"[DONE]":
                return
            jsonio.check_utf8(data)
            event = _Event(type=jsonio.decode(data, _type).type)
        kind = event.type
        if kind == _TEXT_DELTA:
            if (
                self._now is not None
                and event.item_id == self._now_id
                and event.content_index == self._now_index
                and event.delta
                and len(event.logprobs) <= 2
            ):
                self._now.say(event.delta)
                self._out.append(TextDelta(event.delta))
                return
        else:
            jsonio.check_utf8(data)
            kind = kind or frame.event.decode("utf-8", "replace")
        handler = self._HANDLERS.get(kind)
        if handler is not None:
            handler(self, kind, event, data)
        elif not kind:
            self._on_untyped(data)
        elif frame.event == b"error":
            self._on_error(kind, event, data)
        else:
            self._on_unknown(kind, data)

    def _start(self, upstream: jsonio.Members | None) -> None:
        if not self._started:
            self._started = True
            model = jsonio.string((upstream or {}).get("model", jsonio.NULL)) or ""
            self._out.append(Started(model.removesuffix(self._destination.quirks.model_suffix)))

    def _on_begin(self, kind: str, event: _Event, data: bytes) -> None:
        self._start(jsonio.decode(data, _response).response)

    def _on_keepalive(self, kind: str, event: _Event, data: bytes) -> None:
        if self._started:
            self._out.append(Ping())

    def _on_untyped(self, data: bytes) -> None:
        """Neither type nor name: engines report errors so; nothing else can be placed."""
        found = jsonio.decode(data, _error_event).error
        if jsonio.is_null(found):
            raise WireError("an event of the stream has no type")
        self._fail(from_error_object(found, self._provider))

    def _on_unknown(self, kind: str, data: bytes) -> None:
        """Progress of hosted tools and what is newer than we are. An error by another name is one."""
        if not kind.startswith("response."):
            found = jsonio.decode(data, _error_event).error
            if not jsonio.is_null(found):
                self._fail(from_error_object(found, self._provider))
                return
        self._start(None)

    def _on_error(self, kind: str, event: _Event, data: bytes) -> None:
        found = jsonio.decode(data, _error_event).error
        self._fail(from_error_object(data if jsonio.is_null(found) else found, self._provider))

    # -- deltas -------------------------------------------------------------------------------------------------

    def _on_text_delta(self, kind: str, event: _Event, data: bytes) -> None:
        record = self._record(event, "message")
        if event.delta is None:
            raise WireError("a delta has no text")
        if record.repeated:
            return
        logprobs = _list(event.logprobs)
        if logprobs:
            jsonio.check_utf8(data)
        said = record.at("text", event.content_index or 0)
        if event.delta or logprobs:
            self._say_text(record, said, event.delta, logprobs)
            self._now, self._now_id, self._now_index = said, event.item_id, event.content_index

    def _say_text(self, record: _Record, said: _Said, text: str, logprobs: list[msgspec.Raw]) -> None:
        self._open_message(record)
        said.say(text)
        said.logprobs = said.logprobs or bool(logprobs)
        self._out.append(TextDelta(text, 0, logprobs or None))

    def _on_refusal_delta(self, kind: str, event: _Event, data: bytes) -> None:
        record = self._record(event, "message")
        if event.delta and not record.repeated:
            self._say_refusal(record, record.at("refusal", event.content_index or 0), event.delta)

    def _say_refusal(self, record: _Record, said: _Said, text: str) -> None:
        self._open_message(record)
        said.say(text)
        self._out.append(RefusalDelta(text))

    def _on_annotation(self, kind: str, event: _Event, data: bytes) -> None:
        record = self._record(event, "message")
        value = jsonio.decode(data, _whole).annotation
        if not record.repeated and not jsonio.is_null(value):
            self._annotate(record, event.content_index or 0, [value])

    def _annotate(self, record: _Record, place: int, values: list[msgspec.Raw]) -> None:
        """The parts of a message are one text to others: there a source stands behind those before its own."""
        said = record.at("text", place)
        before = sum(one.size for (slot, at), one in record.said.items() if slot == "text" and at < place)
        for value in values:
            if not record.ended:  # a source of an earlier text interrupts nothing
                self._open_message(record)
            said.annotations += 1
            self._out.append(Annotation(jsonio.raw(moved(value, before)) if before else value.copy()))

    def _open_message(self, record: _Record) -> None:
        self._start(None)
        self._end_thinking()
        if self._message is not record:
            if self._message is not None:
                self._out.append(MessageEnd())
            self._message = record
            self._now = None

    def _on_thought_delta(self, kind: str, event: _Event, data: bytes) -> None:
        record = self._record(event, "reasoning")
        if event.delta and not record.repeated:
            slot: Slot = "summary" if kind.startswith("response.reasoning_summary") else "thought"
            place = event.summary_index if slot == "summary" else event.content_index
            self._say_thought(record, slot, place or 0, event.delta)

    def _say_thought(self, record: _Record, slot: Slot, place: int, text: str) -> None:
        self._start(None)
        if self._thinking is not record:
            self._end_thinking()
            if self._message is not None:
                self._end_message()
            self._thinking = record
        record.at(slot, place).say(text)
        self._out.append(ReasoningDelta(text, "summary" if slot == "summary" else "text", place))

    def _end_thinking(self) -> None:
        if self._thinking is not None:
            self._thinking = None
            self._out.append(ReasoningEnd())

    def _on_arguments_delta(self, kind: str, event: _Event, data: bytes) -> None:
        record = self._record(event, "custom_tool_call" if "custom" in kind else "function_call")
        if event.delta and not record.repeated and not record.ended:
            self._say_arguments(record, event.delta)

    def _say_arguments(self, record: _Record, text: str) -> None:
        record.at("arguments", 0).say(text)
        if record.call is None:
            self._grow(len(text))
            record.buffer.append(text)
        else:
            self._out.append(ToolCallDelta(record.call, text))

    # -- values that are whole ----------------------------------------------------------------------------------

    def _on_value_done(self, kind: str, event: _Event, data: bytes) -> None:
        stem = kind.removeprefix("response.").removesuffix(".done")
        record = self._record(event, _KIND_OF_VALUE[stem])
        if record.repeated or record.ended:
            return
        found = jsonio.decode(data, _whole)
        place = event.content_index or 0
        match stem:
            case "output_text":
                self._rest_of_text(record, place, found.text or "", _list(event.logprobs))
            case "refusal":
                self._rest_of_refusal(record, place, found.refusal or "")
            case "reasoning_summary_text":
                self._rest_of_thought(record, "summary", event.summary_index or 0, found.text or "")
            case "reasoning_text" | "reasoning":
                self._rest_of_thought(record, "thought", place, found.text or "")
            case _:
                if record.call is None and found.name:
                    self._announce(record, _Item(type=record.kind, id=record.id, name=found.name))
                self._rest_of_arguments(record, found.arguments or found.input or "")

    def _on_part_done(self, kind: str, event: _Event, data: bytes) -> None:
        part = jsonio.decode(data, _whole).part
        if part is None:
            return
        if "summary" in kind:
            record = self._record(event, "reasoning")
            if not (record.repeated or record.ended):
                self._rest_of_thought(record, "summary", event.summary_index or 0, part.text or "")
            return
        record = self._record(event, "reasoning" if part.type == "reasoning_text" else "message")
        if not (record.repeated or record.ended):
            self._rest_of_part(record, event.content_index or 0, part)

    def _rest_of_part(self, record: _Record, place: int, part: _Part) -> None:
        if part.type == "refusal":
            self._rest_of_refusal(record, place, part.refusal or "")
        elif part.type == "reasoning_text":
            self._rest_of_thought(record, "thought", place, part.text or "")
        elif part.text is not None:
            self._rest_of_text(record, place, part.text, part.logprobs or [])
            said = record.at("text", place)
            self._annotate(record, place, (part.annotations or [])[said.annotations :])

    def _rest_of_text(self, record: _Record, place: int, whole: str, logprobs: list[msgspec.Raw]) -> None:
        said = record.at("text", place)
        rest = said.rest(whole)
        kept = [] if said.logprobs else [one.copy() for one in logprobs]
        if rest or kept:
            self._say_text(record, said, rest, kept)

    def _rest_of_refusal(self, record: _Record, place: int, whole: str) -> None:
        said = record.at("refusal", place)
        if rest := said.rest(whole):
            self._say_refusal(record, said, rest)

    def _rest_of_thought(self, record: _Record, slot: Slot, place: int, whole: str) -> None:
        if rest := record.at(slot, place).rest(whole):
            self._say_thought(record, slot, place, rest)

    def _rest_of_arguments(self, record: _Record, whole: str) -> None:
        if rest := record.at("arguments", 0).rest(whole):
            self._say_arguments(record, rest)

    # -- items --------------------------------------------------------------------------------------------------

    def _on_item_added(self, kind: str, event: _Event, data: bytes) -> None:
        self._start(None)
        value = jsonio.decode(data, _item_event).item
        if jsonio.is_null(value):
            return
        item = _identity(value)
        known = self._by_id.get(item.id) if item.id else None
        if known is not None and (self._destination.quirks.loose_items or known.index == event.output_index):
            known.repeated = known.repeated or known.ended or known.spoke
            self._now = None
            return
        record = self._new_record(item.type, item.id or "", event.output_index)
        if record.kind in _CALLS:
            self._announce(record, jsonio.decode(value, _item))

    def _on_item_done(self, kind: str, event: _Event, data: bytes) -> None:
        self._start(None)
        value = jsonio.decode(data, _item_event).item
        if jsonio.is_null(value):
            return
        item = _identity(value)
        event.item_id = item.id
        record = self._record(event, item.type)
        if record.repeated:
            record.repeated = False
            return
        self._complete(record, value)

    def _complete(self, record: _Record, value: msgspec.Raw) -> None:
        """`value` is all of the item."""
        if record.kind in ("message", "reasoning") or record.kind in _CALLS:
            item = jsonio.decode(value, _item)
            if record.kind == "message":
                self._complete_message(record, item)
            elif record.kind == "reasoning":
                self._complete_reasoning(record, item, value)
            else:
                self._complete_call(record, item)
        elif not record.ended:
            self._complete_hosted(record, value)
        record.ended = True

    def _complete_message(self, record: _Record, item: _Item) -> None:
        for place, part in enumerate(item.content or ()):
            self._rest_of_part(record, place, part)
        if self._message is record:
            self._end_message()

    def _end_message(self) -> None:
        self._message = None
        self._now = None
        self._out.append(MessageEnd())

    def _complete_reasoning(self, record: _Record, item: _Item, value: msgspec.Raw) -> None:
        if not record.ended:
            for place, part in enumerate(item.summary or ()):
                self._rest_of_thought(record, "summary", place, part.text or "")
            for place, part in enumerate(item.content or ()):
                self._rest_of_thought(record, "thought", place, part.text or "")
        encrypted = item.encrypted_content
        if self._thinking is not record:
            if not encrypted or record.sealed:
                return
            self._end_thinking()
            if self._message is not None:
                self._end_message()
        self._thinking = None
        record.sealed = bool(encrypted)
        self._out.append(ReasoningEnd(self._seal(item, value)))

    def _seal(self, item: _Item, value: msgspec.Raw) -> Seal | None:
        """What the provider gets back: the item as it said it. One that seals nothing may still read its own words."""
        members = jsonio.members(value)
        words = jsonio.encode({name: members[name] for name in ("summary", "content") if name in members}).decode()
        if item.encrypted_content:
            return Seal(kind="encrypted", data=item.encrypted_content, text=words)
        spoke = any(part.text for part in (*(item.summary or ()), *(item.content or ())))
        return Seal(kind="reasoning_item", data=words) if spoke and not self._destination.encrypted_reasoning else None

    def _complete_call(self, record: _Record, item: _Item) -> None:
        if record.ended:
            return
        if record.call is None:
            self._announce(record, item)
        self._rest_of_arguments(record, item.arguments or item.input or "")
        if record.call is None:
            raise WireError("a call of the answer has no name")
        self._out.append(ToolCallEnd(record.call))

    def _announce(self, record: _Record, item: _Item) -> None:
        """A call begins as soon as it has a name."""
        if not item.name:
            return
        index = record.call = self._calls
        self._calls += 1
        call_id = item.call_id or record.id or f"call_{index}"
        self._start(None)
        self._end_thinking()
        custom = record.kind == "custom_tool_call"
        self._out.append(ToolCallStart(index, call_id, item.name, custom, item.namespace or ""))
        if record.buffer:
            self._out.append(ToolCallDelta(index, "".join(record.buffer)))
            record.buffer.clear()

    def _complete_hosted(self, record: _Record, value: msgspec.Raw) -> None:
        self._end_thinking()
        if record.kind == "image_generation_call":
            item = jsonio.decode(value, _item)
            if item.result:
                # An item of its own: what is said before and after it belongs to other messages.
                if self._message is not None:
                    self._end_message()
                self._out.append(MediaDelta(f"image/{item.output_format or 'png'}", item.result))
                self._out.append(MessageEnd())
                return
        self._out.append(Opaque(record.kind, value.copy()))

    # -- which item ---------------------------------------------------------------------------------------------

    def _record(self, event: _Event, kind: str) -> _Record:
        """The item that an event belongs to. Ids are the best sign, but engines make new ones on the way; the place is
        the next best, though some count it wrong; without either it is the one that is open."""
        record = self._by_id.get(event.item_id) if event.item_id else None
        if record is not None and record.kind == kind:
            return record
        place = event.output_index
        if place is not None:
            record = self._by_index.get(place)
            if record is not None and record.kind == kind and not record.ended:
                return self._also_called(record, event.item_id)
        elif not event.item_id:
            for record in reversed(self._records):
                if record.kind == kind and not record.ended:
                    return record
        self._start(None)
        return self._new_record(kind, event.item_id or "", place)

    def _also_called(self, record: _Record, name: str | None) -> _Record:
        if name:
            self._grow(_RECORD_SIZE)
            self._by_id[name] = record
        return record

    def _new_record(self, kind: str, name: str, place: int | None) -> _Record:
        self._grow(_RECORD_SIZE)
        record = _Record(kind, name, place)
        self._records.append(record)
        if name:
            self._by_id[name] = record
        if place is not None:
            self._by_index[place] = record
        return record

    def _grow(self, size: int) -> None:
        self._held += size
        if self._held > HELD_LIMIT:
            raise WireError(f"the items of the answer are longer than {HELD_LIMIT} bytes")

    # -- the end ------------------------------------------------------------------------------------------------

    def _on_ending(self, kind: str, event: _Event, data: bytes) -> None:
        upstream = jsonio.decode(data, _response).response
        self._start(upstream)
        status = true_status(kind.removeprefix("response."), upstream)
        if status == "failed":
            self._report_usage(upstream)
            self._fail(failure(upstream, self._provider))
        else:
            self._finish(upstream, status)

    def _finish(self, upstream: jsonio.Members, status: str) -> None:
        given = upstream.get("output", jsonio.NULL)
        items = [] if given == jsonio.NULL else jsonio.elements(given)
        for record, value in self._matched(items):
            self._complete(record, value)
        for record in self._records:
            if record.kind in _CALLS and not record.ended:
                record.ended = True
                if record.call is None:
                    raise WireError("a call of the answer has no name")
                self._out.append(ToolCallEnd(record.call))
        self._end_thinking()
        tokens = self._report_usage(upstream)
        self._out += served(jsonio.raw({"service_tier": upstream.get("service_tier", jsonio.NULL)}))
        self._out.append(ChoiceEnd(self._reason(upstream, status, tokens)))
        self._out.append(Finished())
        self._ended = True

    def _matched(self, items: list[msgspec.Raw]) -> list[tuple[_Record, msgspec.Raw]]:
        """The items of the last snapshot, and which of the items so far each one is: the one with its id, else the first
        of its kind that is left, since engines make new ids for the snapshot."""
        found: list[tuple[_Loosely, msgspec.Raw, _Record | None]] = []
        for value in items:
            item = _identity(value)
            record = self._by_id.get(item.id) if item.id else None
            if record is not None and (record.kind != item.type or record.matched):
                record = None
            if record is not None:
                record.matched = True
            found.append((item, value, record))
        # An engine that makes one message of several has nothing to add to them.
        listed = sum(item.type == "message" for item, _, _ in found)
        merged = listed < sum(record.kind == "message" and record.spoke for record in self._records)
        pairs: list[tuple[_Record, msgspec.Raw]] = []
        for item, value, record in found:
            if record is None:
                record = next((one for one in self._records if one.kind == item.type and not one.matched), None)
            if record is None:
                record = self._new_record(item.type, item.id or "", None)
            record.matched = True
            if not (merged and item.type == "message"):
                pairs.append((record, value))
        return pairs

    def _report_usage(self, upstream: jsonio.Members) -> int | None:
        usage = read_usage_object(upstream.get("usage", jsonio.NULL))
        if usage is None:
            return None
        self._out.append(UsageReport(usage))
        return usage.output_tokens

    def _reason(self, upstream: jsonio.Members, status: str, tokens: int | None) -> Reason:
        if status == "incomplete":
            try:
                said = jsonio.decode(upstream.get("incomplete_details", jsonio.NULL), _details).reason
            except jsonio.SchemaMismatch:
                said = ""
            return "content_filter" if said == "content_filter" else "length"
        limit = self._destination.quirks.output_limit
        if self._destination.cut_reported_as_completed and limit is not None and tokens == limit:
            return "length"
        return "tool_calls" if self._calls else "stop"

    _HANDLERS: ClassVar[Mapping[str, Callable[["ResponsesDecoder", str, _Event, bytes], None]]] = {
        "response.created": _on_begin,
        "response.queued": _on_begin,
        "response.in_progress": _on_begin,
        "response.output_item.added": _on_item_added,
        "response.output_item.done": _on_item_done,
        "response.content_part.done": _on_part_done,
        "response.reasoning_part.done": _on_part_done,
        "response.reasoning_summary_part.done": _on_part_done,
        _TEXT_DELTA: _on_text_delta,
        "response.refusal.delta": _on_refusal_delta,
        "response.output_text.annotation.added": _on_annotation,
        "response.reasoning_text.delta": _on_thought_delta,
        "response.reasoning.delta": _on_thought_delta,
        "response.reasoning_summary_text.delta": _on_thought_delta,
        "response.function_call_arguments.delta": _on_arguments_delta,
        "response.custom_tool_call_input.delta": _on_arguments_delta,
        "response.output_text.done": _on_value_done,
        "response.refusal.done": _on_value_done,
        "response.reasoning_text.done": _on_value_done,
        "response.reasoning.done": _on_value_done,
        "response.reasoning_summary_text.done": _on_value_done,
        "response.function_call_arguments.done": _on_value_done,
        "response.custom_tool_call_input.done": _on_value_done,
        "response.completed": _on_ending,
        "response.incomplete": _on_ending,
        "response.failed": _on_ending,
        "error": _on_error,
        "keepalive": _on_keepalive,
    }


class _Loosely(msgspec.Struct, gc=False):
    """What is asked of every item, whatever it is."""

    type: str = ""
    id: str | None = None


_item_loosely = jsonio.decoder(_Loosely)

_KIND_OF_VALUE: Final = {
    "output_text": "message",
    "refusal": "message",
    "reasoning": "reasoning",
    "reasoning_text": "reasoning",
    "reasoning_summary_text": "reasoning",
    "function_call_arguments": "function_call",
    "custom_tool_call_input": "custom_tool_call",
}


def _identity(value: msgspec.Raw) -> _Loosely:
    item = jsonio.decode(value, _item_loosely)
    if not item.type:
        raise WireError("an item of the answer has no type")
    return item


def decode_answer(body: bytes, destination: Destination) -> list[Event]:
    """An answer in one body, as the events that a stream of it would have had.

    Raises WireError when it is none, and TidegateError for an error, or a failed answer, with status 200.
    """
    try:
        jsonio.check_utf8(body)
        upstream = jsonio.members(body)
        return ResponsesDecoder(destination).whole(upstream, ending(upstream, destination.provider))
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None


def _list(value: msgspec.Raw) -> list[msgspec.Raw]:
    return [] if jsonio.is_null(value) else jsonio.elements(value)
