"""Canonical events as an answer of the Messages API, streamed or whole (protocol §5.2, §5.3)."""

from collections.abc import Iterable
from typing import Any

import msgspec

from tidegate.dialects.dialect import Call, Destination
from tidegate.dialects.messages.failures import error_frame
from tidegate.dialects.messages.figures import as_messages
from tidegate.dialects.messages.native import input_of, native_blocks
from tidegate.dialects.messages.relay import PING
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Finished,
    MediaDelta,
    MessageEnd,
    Opaque,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import (
    Choice,
    FunctionCall,
    ImagePart,
    Message,
    OpaqueItem,
    Output,
    Reasoning,
    RefusalPart,
    TextPart,
    data_url,
)

__all__ = ["LATER_LIMIT", "MessagesEncoder", "encode_message"]

_STOP_REASONS: dict[Reason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
}
_PARAGRAPH = "\n\n"
_NO_USAGE = Usage()
_THOUGHTS = ("thinking", "redacted_thinking")
_WHOLE: tuple[Reason, ...] = ("stop", "tool_calls")
"""Reasons with which an answer is complete."""

LATER_LIMIT = 256 * 1024
"""Characters of thoughts that may wait for what they stand before."""

_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b,%b:%b}}\n\n'
_TEXT_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":%b}}\n\n'
)
_TEXT = b'{"type":"text","text":""}'
_THINKING = b'{"type":"thinking","thinking":"","signature":""}'

_encode_text = msgspec.json.Encoder().encode


class _Slot:
    """A content block: open or not, begun on the wire or waiting for its turn."""

    __slots__ = ("begun", "call", "ended", "kind", "opening", "waiting")

    def __init__(self, kind: str, opening: bytes, call: int = -1) -> None:
        self.kind = kind
        self.opening = opening
        self.call = call
        self.waiting: list[tuple[bytes, bytes, bytes]] = []
        """Deltas: type, member and value, each as JSON."""
        self.begun = False
        self.ended = False


def _whole(block: bytes) -> _Slot:
    slot = _Slot("whole", block)
    slot.ended = True
    return slot


class MessagesEncoder:
    """See :class:`tidegate.dialects.codec.StreamEncoder`.

    Blocks of this API stand strictly one behind the other: the first open one is written as it grows, and what belongs to
    others waits for it. Every thought is told, with the signature that the bridge gave it.

    The thoughts that an answer begins with stream. A later one waits for the text or the call that it stands before, and
    behind the last text of a complete answer without calls it is left out: an answer of this API never ends with thinking,
    clients take its last block for the result, and no provider asks for such a thought.
    """

    __slots__ = (
        "_call",
        "_called",
        "_destination",
        "_end",
        "_head",
        "_index",
        "_later",
        "_part",
        "_refused",
        "_said",
        "_slots",
        "_text",
        "_thinking",
        "_usage",
        "_waits",
        "begun",
        "committed",
    )

    def __init__(self, call: Call) -> None:
        self._call = call
        self._destination: Destination | None = None
        self.begun = False
        """Whether `message_start` was handed out, behind which another attempt can still go on."""
        self.committed = False
        self._begin()

    def _begin(self) -> None:
        self._head: _Slot | None = None
        """The block that is on the wire and open."""
        self._slots: list[_Slot] = []
        """All blocks that are not over, in their order."""
        self._index = -1
        """The index of the last block that began on the wire."""
        self._text: _Slot | None = None
        self._thinking: _Slot | None = None
        self._part: tuple[str, int] = ("", 0)
        """The part of the open thinking that was told last."""
        self._said = False
        """Something that is no thought has begun."""
        self._later: list[_Slot] = []
        """Thoughts that wait for what they stand before."""
        self._waits = 0
        """Characters of them."""
        self._called = False
        self._refused = False
        self._end: ChoiceEnd | None = None
        self._usage = _NO_USAGE

    def attempt(self, destination: Destination) -> None:
        self._destination = destination
        self._begin()

    def encode(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is TextDelta:
                slot = self._text
                if slot is not None and slot is self._head and not event.choice:
                    out.append(_TEXT_DELTA % (self._index, _encode_text(event.text)))
                    continue
            self._one(event, out)
        return b"".join(out)

    def fail(self, error: TidegateError) -> bytes:
        """The error alone: a block that was closed here would pass for a whole one."""
        return error_frame(error, self._call.request_id)

    def ping(self) -> bytes:
        return PING

    def _one(self, event: Event, out: list[bytes]) -> None:
        if getattr(event, "choice", 0):
            return  # this API has one answer to a request, and nobody can ask for more
        match event:
            case Started():
                self._start(event.model, out)
                return
            case UsageReport():
                self._usage = event.usage
                return
            case TextDelta() | RefusalDelta():
                self._refused = self._refused or type(event) is RefusalDelta
                self._write(self._open_text(), b'"text_delta"', b'"text"', event.text)
            case Annotation():
                self._annotate(event)
            case MediaDelta():
                self._end_text()
                shown = _shown(data_url(event.media_type, event.data))
                self._write(self._open_text(), b'"text_delta"', b'"text"', shown)
                self._end_text()
            case MessageEnd():
                self._end_text()
            case ReasoningDelta():
                self._think(event)
            case ReasoningEnd():
                self._end_thinking(event)
            case ToolCallStart():
                self._end_text()
                self._called = True
                block = {"type": "tool_use", "id": event.call_id, "name": event.name, "input": {}}
                self._put(_Slot("custom" if event.custom else "tool", jsonio.encode(block), event.index))
            case ToolCallDelta():
                slot = self._call_slot(event.index)
                if slot is not None:
                    self._write(slot, b'"input_json_delta"', b'"partial_json"', event.text)
            case ToolCallEnd():
                self._end_call(event.index)
            case Opaque():
                self._end_text()
                for own in native_blocks(event.item) or ():
                    self._put(_whole(bytes(own)))
            case ChoiceEnd():
                self._end = event
            case Finished():
                self._finish(out)
                return
            case _:
                return
        self._flush(out)

    def _start(self, model: str, out: list[bytes]) -> None:
        if self.begun:
            return
        self.begun = True
        message = _envelope(self._call, model or self._model, [], None, "", _NO_USAGE)
        out.append(sse.encode(jsonio.encode({"type": "message_start", "message": message}), b"message_start"))

    @property
    def _model(self) -> str:
        return self._destination.model if self._destination is not None else ""

    # -- blocks -------------------------------------------------------------------------------------------------

    def _open_text(self) -> _Slot:
        if self._text is None:
            self._text = _Slot("text", _TEXT)
            self._put(self._text)
        return self._text

    def _end_text(self) -> None:
        if self._text is not None:
            self._text.ended = True
            self._text = None

    def _write(self, slot: _Slot, kind: bytes, member: bytes, text: str) -> None:
        if text:
            slot.waiting.append((kind, member, _encode_text(text)))

    def _put(self, slot: _Slot) -> None:
        """What is no thought, behind the thoughts that wait for it."""
        self._said = True
        self._put_later()
        self._slots.append(slot)

    def _put_later(self) -> None:
        self._slots += self._later
        self._later.clear()
        self._waits = 0

    def _call_slot(self, index: int) -> _Slot | None:
        return next((slot for slot in self._slots if slot.call == index), None)

    def _end_call(self, index: int) -> None:
        slot = self._call_slot(index)
        if slot is None:
            return
        if slot.kind == "custom":
            # A tool of free text, which this API does not have, takes it as the member `input`.
            text = "".join(msgspec.json.decode(value) for _, _, value in slot.waiting)
            slot.waiting.clear()
            slot.kind = "tool"
            self._write(slot, b'"input_json_delta"', b'"partial_json"', jsonio.encode({"input": text}).decode())
        slot.ended = True

    def _annotate(self, event: Annotation) -> None:
        citation = _citation(event.value)
        if citation is not None and self._text is not None:  # a block without text is refused in a history
            self._text.waiting.append((b'"citations_delta"', b'"citation"', citation))

    def _flush(self, out: list[bytes]) -> None:
        """What can be written now."""
        while self._slots:
            slot = self._slots[0]
            if slot.kind == "custom":
                return
            if not slot.begun:
                slot.begun = True
                self._head = slot
                self._index += 1
                self.committed = True
                out.append(_START % (self._index, slot.opening))
            for kind, member, value in slot.waiting:
                out.append(_DELTA % (self._index, kind, member, value))
            slot.waiting.clear()
            if not slot.ended:
                return
            out.append(_STOP % self._index)
            self._head = None
            del self._slots[0]

    # -- thinking -----------------------------------------------------------------------------------------------

    def _think(self, event: ReasoningDelta) -> None:
        text, part = event.text, (event.kind, event.part)
        if not text:
            return
        slot = self._thinking
        if slot is None:
            slot = self._thinking = _Slot("thinking", _THINKING)
            self._put_thought(slot)
        elif part != self._part:
            text = _PARAGRAPH + text
        self._part = part
        self._write(slot, b'"thinking_delta"', b'"thinking"', text)
        if self._later:
            self._waits += len(text)
            if self._waits > LATER_LIMIT:
                self._put_later()

    def _put_thought(self, slot: _Slot) -> None:
        self._end_text()
        (self._later if self._said else self._slots).append(slot)

    def _end_thinking(self, event: ReasoningEnd) -> None:
        slot = self._thinking
        if slot is not None:
            self._write(slot, b'"signature_delta"', b'"signature"', event.encrypted)
            slot.ended = True
            self._thinking = None
        elif event.encrypted:
            self._put_thought(_whole(_redacted(event.encrypted)))

    # -- the end ------------------------------------------------------------------------------------------------

    def _finish(self, out: list[bytes]) -> None:
        self._start("", out)
        self._end_text()
        if self._called or (self._end is not None and self._end.reason not in _WHOLE):
            self._put_later()
        for slot in self._slots:
            if slot.kind == "custom":
                self._end_call(slot.call)
            slot.ended = True
        self._flush(out)
        self.committed = True
        reason, stop_sequence = _ending(self._end, called=self._called, refused=self._refused)
        delta = {"stop_reason": reason, "stop_sequence": stop_sequence, "stop_details": _stop_details(reason)}
        ending = {"type": "message_delta", "delta": delta, "usage": as_messages(self._usage)}
        out.append(sse.encode(jsonio.encode(ending), b"message_delta"))
        out.append(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


def _ending(end: ChoiceEnd | Choice | None, *, called: bool, refused: bool) -> tuple[str, str | None]:
    """Stop reason and sequence. Some providers say `stop` although they called a tool or the model refused: a client of
    this API looks for either only here."""
    if end is None or end.reason == "stop":
        if called or refused:
            return ("tool_use" if called else "refusal"), None
        if end is not None and end.stop_sequence:
            return "stop_sequence", end.stop_sequence
        return "end_turn", None
    return _STOP_REASONS[end.reason], None


def _stop_details(reason: str) -> dict[str, Any] | None:
    return {"type": "refusal", "category": None, "explanation": None} if reason == "refusal" else None


def _redacted(encrypted: str) -> bytes:
    return jsonio.encode({"type": "redacted_thinking", "data": encrypted})


class _UrlCitation(msgspec.Struct):
    type: str
    url: str | None = None
    title: str | None = None


_url_citation = jsonio.decoder(_UrlCitation)


def _citation(annotation: msgspec.Raw) -> bytes | None:
    """An annotation with an address; others point to files that this API's clients cannot name."""
    try:
        found = jsonio.decode(annotation, _url_citation)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None
    if found.type != "url_citation" or not found.url:
        return None
    return jsonio.encode(
        {
            "type": "web_search_result_location",
            "url": found.url,
            "title": found.title or None,
            "cited_text": "",
            "encrypted_index": "",
        }
    )


def _envelope(
    call: Call, model: str, content: list[Any], reason: str | None, stop_sequence: str | None, usage: Usage
) -> dict[str, Any]:
    return {
        "id": "msg_" + call.response_id.removeprefix("resp_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": stop_sequence or None,
        "stop_details": _stop_details(reason or ""),
        "usage": as_messages(usage),
    }


def encode_message(output: Output, call: Call, destination: Destination) -> bytes:
    """A whole answer. Its blocks are those that the stream would have had."""
    choice = output.choices[0] if output.choices else Choice(items=[], reason="stop")
    content: list[Any] = []
    called = refused = False
    for item in choice.items:
        match item:
            case Message():
                for part in item.content:
                    if isinstance(part, TextPart) and part.text:
                        content.append(_text_block(part))
                    elif isinstance(part, ImagePart):
                        content.append({"type": "text", "text": _shown(part.url)})
                    elif isinstance(part, RefusalPart) and part.refusal:
                        refused = True
                        content.append({"type": "text", "text": part.refusal})
            case Reasoning():
                content.extend(_thinking_block(item))
            case FunctionCall():
                called = True
                content.append(_tool_use(item))
            case OpaqueItem():
                content.extend(native_blocks(item.value) or ())
            case _:
                pass
    if not called and choice.reason in _WHOLE and not all(map(_is_thought, content)):
        while _is_thought(content[-1]):
            content.pop()
    reason, stop_sequence = _ending(choice, called=called, refused=refused)
    model = output.model or destination.model
    return jsonio.encode(_envelope(call, model, content, reason, stop_sequence, output.usage))


def _shown(url: str) -> str:
    """An image for an API whose answers have none: a reader of Markdown sees it."""
    return f"![image]({url})"


def _text_block(part: TextPart) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": part.text}
    cited = [msgspec.Raw(one) for one in map(_citation, part.annotations) if one is not None]
    if cited:
        block["citations"] = cited
    return block


def _thinking_block(item: Reasoning) -> list[dict[str, Any]]:
    if text := _PARAGRAPH.join(filter(None, (*item.summary, *item.content))):
        return [{"type": "thinking", "thinking": text, "signature": item.encrypted}]
    return [{"type": "redacted_thinking", "data": item.encrypted}] if item.encrypted else []


def _is_thought(block: Any) -> bool:
    """Blocks of Anthropic's own that came through another API are bytes, and no thoughts."""
    return isinstance(block, dict) and block["type"] in _THOUGHTS


def _tool_use(call: FunctionCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.call_id, "name": call.name, "input": input_of(call)}
