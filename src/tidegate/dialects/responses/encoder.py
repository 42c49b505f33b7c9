"""Canonical events → the answer of `POST /v1/responses`, for providers that speak another dialect.

The one owner of `sequence_number`, `output_index`, open items and the final snapshot of such an answer (design §5). The
order of its events is that of protocol §1.7.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, Literal

import msgspec

from tidegate.dialects.dialect import Call, Destination, estimated_usage
from tidegate.dialects.responses.begun import Begun
from tidegate.dialects.responses.broken import error_event, error_member
from tidegate.dialects.responses.ending import is_cut
from tidegate.dialects.responses.envelope import Envelope
from tidegate.dialects.responses.held import HELD_LIMIT
from tidegate.dialects.responses.hosted import begun, steps
from tidegate.dialects.responses.output import (
    call_item,
    image_item,
    is_json,
    item_id,
    logprob_entries,
    message_item,
    output_items,
    reasoning_item,
    refusal_part,
    text_part,
    with_call_id,
    with_id,
)
from tidegate.dialects.responses.tools import TOOL_SEARCH, ToolNames
from tidegate.dialects.responses.toolsearch import search_call
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import ClientGone, TidegateError, WireError
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Finished,
    MediaDelta,
    MessageEnd,
    Opaque,
    Ping,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Served,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import FunctionCall, Message, Output, RefusalPart

__all__ = ["ResponsesEncoder", "encode_answer"]

Status = Literal["completed", "incomplete"]

_ITEM_SIZE: Final = 256
"""About what an item costs beside its words."""
_LENGTH = jsonio.raw({"reason": "max_output_tokens"})
_FILTERED = jsonio.raw({"reason": "content_filter"})

_string = jsonio.decoder(str)


class _Part:
    """An open part of a message or of reasoning. `text` is the inside of a JSON string: pieces need no second encoding,
    and a byte of the answer costs about a byte of memory."""

    __slots__ = ("annotations", "at", "head", "kind", "logprobs", "source", "tail", "text", "where")

    def __init__(self, kind: str, at: int, source: int = 0) -> None:
        self.kind = kind
        self.at = at
        """`content_index`, or `summary_index`."""
        self.where = b""
        """The members of an event that name the part."""
        self.source = source
        """The provider's own number of the part."""
        self.text = bytearray()
        self.annotations: list[bytes] = []
        self.logprobs: list[bytes] = []
        self.head = b""
        """A delta's frame before the text, and `tail` behind it, up to the sequence number."""
        self.tail = b""


class _Said:
    """The last text of a choice, once its item is closed: some providers name sources when they have gone on to something
    else."""

    __slots__ = ("annotations", "at", "item", "kind", "where")

    def __init__(self, item: int, part: _Part) -> None:
        self.kind = part.kind
        self.item = item
        self.where = part.where
        self.annotations = part.annotations
        self.at = len(b'],"logprobs":[') + sum(map(len, part.logprobs)) + max(0, len(part.logprobs) - 1) + len(b"]}]}")
        """Bytes from the end of the item to the end of its annotations."""

    def within(self, value: bytes) -> bytes:
        """The item's `value` with the annotation that was added last."""
        comma = b"," if len(self.annotations) > 1 else b""
        return b"%b%b%b%b" % (value[: -self.at], comma, self.annotations[-1], value[-self.at :])


class _Item:
    """An item that is open. `choice` is the answer that it belongs to."""

    __slots__ = ("at", "choice", "id", "where")

    def __init__(self, kind: str, at: int, choice: int, response_id: str) -> None:
        self.at = at
        self.choice = choice
        self.identify(item_id(response_id, kind, at))

    def identify(self, own: str) -> None:
        self.id = own
        self.where = b',"item_id":%b,"output_index":%d' % (jsonio.encode(own), self.at)


class _Message(_Item):
    __slots__ = ("parts",)

    def __init__(self, at: int, choice: int, response_id: str) -> None:
        super().__init__("message", at, choice, response_id)
        self.parts: list[bytes] = []


class _Reasoning(_Item):
    __slots__ = ("content", "encrypted", "summary")

    def __init__(self, at: int, choice: int, response_id: str) -> None:
        super().__init__("reasoning", at, choice, response_id)
        self.summary: list[bytes] = []
        self.content: list[bytes] = []
        self.encrypted = ""


class _Call(_Item):
    __slots__ = ("call", "head", "name", "text")

    def __init__(self, call: FunctionCall, at: int, choice: int, response_id: str) -> None:
        super().__init__("custom_tool_call" if call.custom else "function_call", at, choice, response_id)
        self.call = with_call_id(call, self.id)
        self.name = b"response.custom_tool_call_input" if call.custom else b"response.function_call_arguments"
        self.text = bytearray()
        self.head = b""


class ResponsesEncoder:
    """See :class:`tidegate.dialects.codec.StreamEncoder`.

    The words of an answer are never held back. What may be is the closing of a message, of reasoning or of a call that
    breaks off inside its arguments, until the next event tells whether the token limit cut it: such an item is
    `incomplete` (protocol §1.7).

    A source that is named when its message is over is told of the item that it belongs to, and stands in the snapshot of the
    end: an item of its own, without words, would pass for the answer.

    `encode` raises WireError, at the beginning of a call and with nothing lost, once an answer is longer than
    `HELD_LIMIT` bytes: its last event has to repeat all of it. Figures alone are always taken.
    """

    __slots__ = (
        "_beside",
        "_call",
        "_calls",
        "_cut",
        "_destination",
        "_details",
        "_envelope",
        "_finished",
        "_message_parts",
        "_messages",
        "_model",
        "_named",
        "_names",
        "_next",
        "_out",
        "_parts",
        "_pending",
        "_reasoning",
        "_refused",
        "_said",
        "_searches",
        "_sequence",
        "_size",
        "_stage",
        "_thought",
        "_thoughts",
        "_tier",
        "_usage",
        "committed",
    )

    def __init__(self, envelope: Envelope, call: Call, names: ToolNames | None = None) -> None:
        self._envelope = envelope
        self._call = call
        self._names = names or ToolNames()
        self._destination: Destination | None = None
        self._model = ""
        profile = call.profile
        self._named = not profile.responses_data_only
        self._thought = b"response.reasoning" if profile.reasoning_names else b"response.reasoning_text"
        self._stage = 0
        """0: nothing sent, 1: created sent, 2: in_progress sent."""
        self._sequence = 0
        self._next = 0
        """The next `output_index`."""
        self._out: list[bytes] = []
        self._size = 0
        """Bytes of words so far, and of what stands beside them."""
        self._beside = 0
        self._usage: Usage | None = None
        self._tier = ""
        self._parts: dict[int, _Part] = {}
        """By choice: the part of a message that takes text now, if nothing stands between."""
        self._messages: dict[int, _Message] = {}
        self._message_parts: dict[int, _Part] = {}
        self._said: dict[int, _Said] = {}
        self._reasoning: dict[int, _Reasoning] = {}
        self._thoughts: dict[int, _Part] = {}
        self._calls: dict[int, _Call] = {}
        self._searches: dict[int, tuple[str, list[str]]] = {}
        """Calls that search the client's tools: id and pieces. Their items are whole when they come."""
        self._pending: _Message | _Reasoning | _Call | None = None
        """An item that has ended and whose closing waits for the next event."""
        self._finished: dict[int, bytes] = {}
        self._refused: set[int] = set()
        self._cut: set[int] = set()
        self._details: msgspec.Raw | None = None
        self.committed = False

    def attempt(self, destination: Destination) -> None:
        self._destination = destination
        self._model = destination.model
        self._usage = None
        self._tier = ""
        self._details = None
        self._cut.clear()
        self._envelope.keep_upstream_identity = False

    def hand_over(self) -> Begun:
        """What has begun, for a :class:`ResponsesStream` to go on with. Only before `committed`; this encoder is of no
        use then."""
        return Begun(envelope=self._envelope, stage=self._stage, sequence=self._sequence, held=b"".join(self._out))

    def go_on(self, begun: Begun) -> None:
        """Go on behind what a :class:`ResponsesStream` has begun. Before `attempt`."""
        self._envelope = begun.envelope
        self._stage, self._sequence = begun.stage, begun.sequence
        self._out = [begun.held] if begun.held else []

    def take_over(self, begun: Begun, message_id: str, finished: Iterable[bytes]) -> None:
        """Go on behind what a :class:`ResponsesStream` has sent of the events that were encoded here for nobody: the items
        before the message that is open, which has an id of the provider's."""
        self.go_on(begun)
        self._finished.update(enumerate(finished))
        message = self._messages[0]
        part = self._message_parts[0]
        message.identify(message_id)
        part.where = b'%b,"content_index":%d' % (message.where, part.at)
        part.head = self._delta_head(b"response.output_text", part.where)

    def mark(self, continuations: msgspec.Raw) -> None:
        """The answer was gone on with; its last event says how."""
        self._envelope.continuations = continuations

    def encode(self, events: Iterable[Event]) -> bytes:
        if self._size + self._beside > HELD_LIMIT and any(type(event) is not UsageReport for event in events):
            raise WireError(f"the items of the answer are longer than {HELD_LIMIT} bytes")
        out = self._out
        for event in events:
            if type(event) is TextDelta and event.logprobs is None and self._pending is None:
                part = self._parts.get(event.choice)
                if part is not None:
                    piece = jsonio.encode(event.text)
                    size = len(piece)
                    if size > 2:
                        part.text += piece[1:-1]
                        self._size += size
                        sequence = self._sequence
                        self._sequence = sequence + 1
                        out.append(b"%b%b%b%d}\n\n" % (part.head, piece, part.tail, sequence))
                    continue
            handler = self._HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
        return self._taken()

    def fail(self, error: TidegateError) -> bytes:
        self.committed = True
        self._begin()
        if isinstance(self._pending, _Call):
            self._release("incomplete")
        self._release()
        self._close_all("incomplete")
        cancelled = isinstance(error, ClientGone)
        if not cancelled:
            self._frame(b"error", error_event(error, self._sequence))
            self._sequence += 1
        body = self._envelope.snapshot(
            None,
            "cancelled" if cancelled else "failed",
            model=self._model,
            output=self._output(),
            usage=self._used(),
            error=None if cancelled else error_member(error),
            service_tier=self._tier,
        )
        self._envelope_event(b"response.failed", body)
        return self._taken()

    def ping(self) -> bytes:
        """A comment for proxies, and the event that clients count as activity (protocol §4.1): it repeats the last
        sequence number. Open Responses knows no such event."""
        if self._stage == 0 or self._out or self._call.profile.reasoning_names:
            return sse.comment(b"keepalive")
        self._frame(b"keepalive", b'{"type":"keepalive","sequence_number":%d}' % (self._sequence - 1))
        return sse.comment(b"keepalive") + self._taken()

    # -- the beginning ------------------------------------------------------------------------------------------

    def _on_started(self, event: Started) -> None:
        destination = self._destination
        if event.model and destination is not None and destination.quirks.echoes_request:
            self._model = event.model.removesuffix(destination.quirks.model_suffix)
        self._begin()

    def _begin(self) -> None:
        """What must have been sent before anything else: created, then in_progress."""
        while self._stage < 2:
            body = self._envelope.snapshot(None, "in_progress", model=self._model)
            self._envelope_event(b"response.in_progress" if self._stage else b"response.created", body)
            self._stage += 1

    def _on_ping(self, event: Ping) -> None:
        if self._stage and not self._call.profile.reasoning_names:
            self._frame(b"keepalive", b'{"type":"keepalive","sequence_number":%d}' % (self._sequence - 1))

    # -- messages -----------------------------------------------------------------------------------------------

    def _on_text(self, event: TextDelta) -> None:
        part = self._message_part(event.choice, "output_text")
        entries = logprob_entries(event.logprobs or ())
        part.logprobs += entries
        for entry in entries:
            self._beside += len(entry)
        if not event.text:
            return
        piece = jsonio.encode(event.text)
        self._grow(part.text, piece)
        tail = part.tail
        if entries:
            tail = b',"logprobs":[%b],"sequence_number":' % b",".join(entries)
        self._delta(part.head, piece, tail)

    def _on_refusal(self, event: RefusalDelta) -> None:
        self._refused.add(event.choice)
        part = self._message_part(event.choice, "refusal")
        if event.text:
            piece = jsonio.encode(event.text)
            self._grow(part.text, piece)
            self._delta(part.head, piece, part.tail)

    def _on_annotation(self, event: Annotation) -> None:
        choice, value = event.choice, bytes(event.value)
        self._beside += len(value)
        part: _Part | _Said | None = None
        if choice not in self._messages:
            pending = self._pending
            if isinstance(pending, _Message) and pending.choice == choice:
                part = self._message_parts[choice]
            if part is None or part.kind != "output_text":
                part = self._said.get(choice)
        if part is None:
            part = self._message_part(choice, "output_text")
        self._event(
            b"response.output_text.annotation.added",
            b'%b,"annotation_index":%d,"annotation":%b' % (part.where, len(part.annotations), value),
        )
        part.annotations.append(value)
        if isinstance(part, _Said):
            self._finished[part.item] = part.within(self._finished[part.item])

    def _on_message_end(self, event: MessageEnd) -> None:
        message = self._messages.pop(event.choice, None)
        if message is not None:
            self._hold(message)

    def _message_part(self, choice: int, kind: str) -> _Part:
        """The part of this kind that the choice's message now ends with, opened if it must be."""
        self._release()
        part = self._message_parts.get(choice)
        if part is not None and part.kind == kind:
            self._parts_now(choice, part)
            return part
        message = self._messages.get(choice)
        if message is None:
            message = _Message(self._take_index(), choice, self._call.response_id)
            self._messages[choice] = message
            self._added(message, message_item(message.id, "in_progress", ()))
        elif part is not None:
            self._end_part(message, part)
        part = self._message_parts[choice] = _Part(kind, len(message.parts))
        stem = b"response.output_text" if kind == "output_text" else b"response.refusal"
        part.where = b'%b,"content_index":%d' % (message.where, part.at)
        part.head = self._delta_head(stem, part.where)
        part.tail = b',"logprobs":[],"sequence_number":' if kind == "output_text" else b',"sequence_number":'
        empty = text_part(b"") if kind == "output_text" else refusal_part(b"")
        self._event(b"response.content_part.added", b'%b,"part":%b' % (part.where, empty))
        self._parts_now(choice, part)
        return part

    def _parts_now(self, choice: int, part: _Part) -> None:
        if part.kind == "output_text":
            self._parts[choice] = part

    def _end_part(self, message: _Message, part: _Part) -> None:
        self._parts.pop(message.choice, None)
        self._message_parts.pop(message.choice, None)
        text = bytes(part.text)
        if part.kind == "output_text":
            whole = text_part(text, part.annotations, part.logprobs)
            logprobs = b",".join(part.logprobs)
            self._event(b"response.output_text.done", b'%b,"text":"%b","logprobs":[%b]' % (part.where, text, logprobs))
        else:
            whole = refusal_part(text)
            self._event(b"response.refusal.done", b'%b,"refusal":"%b"' % (part.where, text))
        self._event(b"response.content_part.done", b'%b,"part":%b' % (part.where, whole))
        message.parts.append(whole)

    def _close_message(self, message: _Message, status: Status) -> None:
        self._messages.pop(message.choice, None)
        part = self._message_parts.get(message.choice)
        if part is not None:
            self._end_part(message, part)
        self._done(message, message_item(message.id, status, message.parts))
        if part is not None and part.kind == "output_text":
            self._said[message.choice] = _Said(message.at, part)

    # -- reasoning ----------------------------------------------------------------------------------------------

    def _on_reasoning(self, event: ReasoningDelta) -> None:
        if not event.text:
            return
        self._release()
        choice = event.choice
        self._parts.pop(choice, None)
        item = self._reasoning.get(choice) or self._open_reasoning(choice)
        part = self._thoughts.get(choice)
        if part is None or part.kind != event.kind or part.source != event.part:
            if part is not None:
                self._end_thought(item, part)
            part = self._open_thought(item, event)
        piece = jsonio.encode(event.text)
        self._grow(part.text, piece)
        self._delta(part.head, piece, part.tail)

    def _on_reasoning_end(self, event: ReasoningEnd) -> None:
        item = self._reasoning.pop(event.choice, None)
        if item is None:
            if not event.encrypted:
                return
            self._release()
            item = self._open_reasoning(event.choice)
            del self._reasoning[event.choice]
        item.encrypted = event.encrypted
        self._beside += len(item.encrypted)
        self._hold(item)

    def _open_reasoning(self, choice: int) -> _Reasoning:
        item = self._reasoning[choice] = _Reasoning(self._take_index(), choice, self._call.response_id)
        self._added(item, reasoning_item(item.id, (), ()))
        return item

    def _open_thought(self, item: _Reasoning, event: ReasoningDelta) -> _Part:
        part = self._thoughts[item.choice] = _Part(event.kind, 0, event.part)
        part.tail = b',"sequence_number":'
        if event.kind == "summary":
            part.at = len(item.summary)
            part.where = b'%b,"summary_index":%d' % (item.where, part.at)
            part.head = self._delta_head(b"response.reasoning_summary_text", part.where)
            self._event(
                b"response.reasoning_summary_part.added", part.where + b',"part":{"type":"summary_text","text":""}'
            )
        else:
            part.at = len(item.content)
            part.where = b'%b,"content_index":%d' % (item.where, part.at)
            part.head = self._delta_head(self._thought, part.where)
            self._event(b"response.content_part.added", part.where + b',"part":{"type":"reasoning_text","text":""}')
        return part

    def _end_thought(self, item: _Reasoning, part: _Part) -> None:
        self._thoughts.pop(item.choice, None)
        where, text = part.where, bytes(part.text)
        if part.kind == "summary":
            self._event(b"response.reasoning_summary_text.done", b'%b,"text":"%b"' % (where, text))
            self._event(
                b"response.reasoning_summary_part.done",
                b'%b,"part":{"type":"summary_text","text":"%b"}' % (where, text),
            )
            item.summary.append(text)
        else:
            self._event(self._thought + b".done", b'%b,"text":"%b"' % (where, text))
            self._event(
                b"response.content_part.done", b'%b,"part":{"type":"reasoning_text","text":"%b"}' % (where, text)
            )
            item.content.append(text)

    def _close_reasoning(self, item: _Reasoning, status: Status) -> None:
        self._reasoning.pop(item.choice, None)
        part = self._thoughts.get(item.choice)
        if part is not None:
            self._end_thought(item, part)
        cut = status == "incomplete"
        self._done(item, reasoning_item(item.id, item.summary, item.content, item.encrypted, incomplete=cut))

    # -- calls --------------------------------------------------------------------------------------------------

    def _on_call_start(self, event: ToolCallStart) -> None:
        self._end_said(event.choice)
        if self._names.searches and event.name == TOOL_SEARCH:
            self._searches[event.index] = (event.call_id, [])
            return
        name, namespace = self._names.resolve(event.name, event.namespace)
        call = FunctionCall(call_id=event.call_id, name=name, namespace=namespace, arguments="", custom=event.custom)
        item = self._calls[event.index] = _Call(call, self._take_index(), event.choice, self._call.response_id)
        item.head = self._delta_head(item.name, item.where)
        self._added(item, call_item(item.id, "in_progress", item.call, b""))

    def _on_call_delta(self, event: ToolCallDelta) -> None:
        item = self._calls.get(event.index)
        if item is None and event.index in self._searches:
            self._searches[event.index][1].append(event.text)
            self._beside += len(event.text)
        elif item is not None and event.text:
            self._release()
            piece = jsonio.encode(event.text)
            self._grow(item.text, piece)
            self._delta(item.head, piece, b',"sequence_number":')

    def _on_call_end(self, event: ToolCallEnd) -> None:
        item = self._calls.pop(event.index, None)
        if item is None:
            self._end_search(event.index)
            return
        if item.choice in self._cut and item.at == self._next - 1 and self._is_cut_off(item):
            self._close_call(item, "incomplete")
        elif item.choice in self._cut or not self._is_cut_off(item):
            self._release()
            self._close_call(item, "completed")
        else:
            self._hold(item)

    def _end_search(self, index: int) -> None:
        search = self._searches.pop(index, None)
        if search is not None:
            call_id, pieces = search
            own = item_id(self._call.response_id, "tool_search_call", self._next)
            item = search_call(own, call_id or f"call_{own.partition('_')[2]}", "".join(pieces))
            self._on_opaque(Opaque("tool_search_call", item))

    def _is_cut_off(self, item: _Call) -> bool:
        """Whether the call may be cut. The text of a custom tool never tells."""
        if item.call.custom:
            return True
        return bool(item.text) and not is_json(jsonio.decode(b'"%b"' % bytes(item.text), _string))

    def _close_call(self, item: _Call, status: Status) -> None:
        if not item.call.custom and not item.text and status == "completed":
            # A function without parameters: clients parse the arguments, and nothing is no JSON.
            self._grow(item.text, b'"{}"')
            self._delta(item.head, b'"{}"', b',"sequence_number":')
        text = bytes(item.text)
        member = b"input" if item.call.custom else b"arguments"
        self._event(item.name + b".done", b'%b,"%b":"%b"' % (item.where, member, text))
        self._done(item, call_item(item.id, status, item.call, text))

    # -- whole items --------------------------------------------------------------------------------------------

    def _on_media(self, event: MediaDelta) -> None:
        self._end_said(event.choice)
        self._beside += len(event.data)
        item = _Item("image_generation_call", self._take_index(), event.choice, self._call.response_id)
        self._added(item, image_item(item.id, "in_progress", event.media_type, ""))
        for state in (b"in_progress", b"generating", b"completed"):
            self._event(b"response.image_generation_call." + state, item.where)
        self._done(item, image_item(item.id, "completed", event.media_type, event.data))

    def _on_opaque(self, event: Opaque) -> None:
        self._end_said(0)
        at = self._take_index()
        item = _Item(event.type, at, 0, self._call.response_id)
        value = with_id(event.item, item.id)
        self._beside += len(value)
        members = jsonio.members(value)
        item.identify(jsonio.string(members["id"]) or item.id)
        self._added(item, jsonio.encode(begun(event.type, members)))
        if not self._call.profile.reasoning_names:  # Open Responses knows no such events
            for name, told in steps(event.type, members, item.where):
                self._event(name, told)
        self._done(item, value)

    # -- the end ------------------------------------------------------------------------------------------------

    def _on_usage(self, event: UsageReport) -> None:
        self._usage = event.usage

    def _on_served(self, event: Served) -> None:
        self._tier = event.tier

    def _on_choice_end(self, event: ChoiceEnd) -> None:
        choice = event.choice
        if self._pending is not None and self._pending.choice != choice:
            self._release()
        details = _cut_details(event.reason, refused=choice in self._refused)
        if details is not None:
            self._cut.add(choice)
            self._details = self._details or details
        reasoning, message = self._reasoning.get(choice), self._messages.get(choice)
        opened = [item for item in (self._pending, reasoning, message) if item is not None]
        last = max((item.at for item in opened), default=-1)
        status: Status = "completed" if details is None else "incomplete"
        if self._pending is not None and (details is not None or len(opened) > 1):
            self._release(status if self._pending.at == last else "completed")
        if reasoning is not None:
            self._close_reasoning(reasoning, status if reasoning.at == last else "completed")
        if message is None:
            return
        if details is None and self._destination is not None and self._destination.cut_reported_as_completed:
            del self._messages[choice]
            self._hold(message)  # the usage, which comes next, tells whether it was cut
        else:
            self._close_message(message, status if message.at == last else "completed")

    def _on_finished(self, event: Finished) -> None:
        self._begin()
        usage = self._used()
        if (
            self._details is None
            and self._destination is not None
            and is_cut(self._usage, self._envelope, self._destination)
        ):
            self._details = _LENGTH
            self._release("incomplete")
        self._release()
        self._close_all("completed")
        status: Status = "completed" if self._details is None else "incomplete"
        completed_at = max(self._call.created_at, self._call.wall_clock()) if status == "completed" else None
        body = self._envelope.snapshot(
            None,
            status,
            model=self._model,
            output=self._output(),
            usage=usage,
            completed_at=completed_at,
            incomplete_details=self._details,
            service_tier=self._tier,
        )
        self._envelope_event(b"response." + status.encode(), body)
        self.committed = True
        if self._call.profile.responses_done:
            self._out.append(sse.DONE)

    def _used(self) -> Usage:
        return self._usage or estimated_usage(self._call, self._size)

    def _output(self) -> msgspec.Raw:
        return msgspec.Raw(b"[%b]" % b",".join(self._finished[at] for at in sorted(self._finished)))

    # -- items --------------------------------------------------------------------------------------------------

    def _take_index(self) -> int:
        at = self._next
        self._next = at + 1
        return at

    def _added(self, item: _Item, value: bytes) -> None:
        self._begin()
        self._event(b"response.output_item.added", b',"output_index":%d,"item":%b' % (item.at, value))

    def _done(self, item: _Item, value: bytes) -> None:
        self._finished[item.at] = value
        self._beside += _ITEM_SIZE
        self._event(b"response.output_item.done", b',"output_index":%d,"item":%b' % (item.at, value))

    def _hold(self, item: _Message | _Reasoning | _Call) -> None:
        """`item` has ended; the next event tells how."""
        self._release()
        if isinstance(item, _Message | _Reasoning):
            self._parts.pop(item.choice, None)
        self._pending = item

    def _release(self, status: Status = "completed") -> None:
        item = self._pending
        if item is not None:
            self._pending = None
            self._close(item, status)

    def _close(self, item: _Message | _Reasoning | _Call, status: Status) -> None:
        match item:
            case _Message():
                self._close_message(item, status)
            case _Reasoning():
                self._close_reasoning(item, status)
            case _Call():
                self._close_call(item, status)

    def _end_said(self, choice: int) -> None:
        """A call, or an item that is whole, follows what the choice has said so far."""
        self._release()
        message = self._messages.get(choice)
        if message is not None:
            self._close_message(message, "completed")

    def _close_all(self, status: Status) -> None:
        opened: list[_Message | _Reasoning | _Call] = [
            *self._reasoning.values(),
            *self._messages.values(),
            *self._calls.values(),
        ]
        for item in sorted(opened, key=lambda one: one.at):
            self._close(item, status)
        self._calls.clear()

    # -- frames -------------------------------------------------------------------------------------------------

    def _grow(self, text: bytearray, piece: bytes) -> None:
        text += piece[1:-1]
        self._size += len(piece)

    def _delta_head(self, stem: bytes, where: bytes) -> bytes:
        data = b'data: {"type":"%b.delta"%b,"delta":' % (stem, where)
        return b"event: %b.delta\n%b" % (stem, data) if self._named else data

    def _delta(self, head: bytes, piece: bytes, tail: bytes) -> None:
        self._out.append(b"%b%b%b%d}\n\n" % (head, piece, tail, self._sequence))
        self._sequence += 1

    def _event(self, name: bytes, members: bytes) -> None:
        """One event that is not the gateway's own. `members` begins with a comma."""
        self.committed = True
        self._frame(name, b'{"type":"%b"%b,"sequence_number":%d}' % (name, members, self._sequence))
        self._sequence += 1

    def _envelope_event(self, name: bytes, response: bytes) -> None:
        self._frame(name, b'{"type":"%b","response":%b,"sequence_number":%d}' % (name, response, self._sequence))
        self._sequence += 1

    def _frame(self, name: bytes, data: bytes) -> None:
        """Clients' tools and providers' items may come pretty-printed; a frame has one line of data."""
        data = jsonio.one_line(data)
        self._out.append(b"event: %b\ndata: %b\n\n" % (name, data) if self._named else b"data: %b\n\n" % data)

    def _taken(self) -> bytes:
        if len(self._out) == 1:
            return self._out.pop()
        out = b"".join(self._out)
        self._out.clear()
        return out

    _HANDLERS: ClassVar[Mapping[type[Any], Callable[["ResponsesEncoder", Any], None]]] = {
        Started: _on_started,
        TextDelta: _on_text,
        RefusalDelta: _on_refusal,
        MessageEnd: _on_message_end,
        Annotation: _on_annotation,
        ReasoningDelta: _on_reasoning,
        ReasoningEnd: _on_reasoning_end,
        ToolCallStart: _on_call_start,
        ToolCallDelta: _on_call_delta,
        ToolCallEnd: _on_call_end,
        MediaDelta: _on_media,
        Opaque: _on_opaque,
        UsageReport: _on_usage,
        Served: _on_served,
        ChoiceEnd: _on_choice_end,
        Finished: _on_finished,
        Ping: _on_ping,
    }


def encode_answer(output: Output, envelope: Envelope, call: Call, destination: Destination, names: ToolNames) -> bytes:
    """The response object of a whole answer, or the chat completion that the profile has in its place (S66)."""
    items: list[bytes] = []
    details: msgspec.Raw | None = None
    for choice in output.choices:
        refused = any(
            isinstance(part, RefusalPart) for item in choice.items if isinstance(item, Message) for part in item.content
        )
        cut = _cut_details(choice.reason, refused=refused)
        if cut is None and is_cut(output.usage, envelope, destination):
            cut = _LENGTH
        details = details or cut
        items += output_items(choice.items, call.response_id, names, start=len(items), cut=cut is not None)
    status = "completed" if details is None else "incomplete"
    quirks = destination.quirks
    model = output.model.removesuffix(quirks.model_suffix) if quirks.echoes_request else ""
    return envelope.snapshot(
        None,
        status,
        model=model or destination.model,
        output=msgspec.Raw(b"[%b]" % b",".join(items)),
        usage=output.usage,
        completed_at=max(call.created_at, call.wall_clock()) if details is None else None,
        incomplete_details=details,
        service_tier=output.service_tier,
    )


def _cut_details(reason: Reason, *, refused: bool) -> msgspec.Raw | None:
    """`incomplete_details` for a reason (protocol §5.3); None when the answer is complete. A refusal that the model put
    into words is one, as OpenAI's own are; a refusal without words is a filter to the client."""
    if reason == "length":
        return _LENGTH
    if reason == "content_filter" or (reason == "refusal" and not refused):
        return _FILTERED
    return None
