"""What is kept of a response while it streams: whole items, and of open ones what was said in them so far.

An answer that breaks off keeps what it has said: its last event, and the response object that is stored, have it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from tidegate.dialects.responses.output import item_id
from tidegate.wire import jsonio
from tidegate.wire.errors import WireError

__all__ = ["HELD_LIMIT", "OFFICIAL", "RENAMED", "HeldItems"]

OFFICIAL: Final[Mapping[str, str]] = {
    "response.reasoning.delta": "response.reasoning_text.delta",
    "response.reasoning.done": "response.reasoning_text.done",
    "response.reasoning_part.added": "response.content_part.added",
    "response.reasoning_part.done": "response.content_part.done",
}
"""Names that Open Responses and vLLM have for raw reasoning; official clients stumble over them (protocol §2)."""

RENAMED: Final[Mapping[str, str]] = {
    "response.reasoning_text.delta": "response.reasoning.delta",
    "response.reasoning_text.done": "response.reasoning.done",
}
"""Raw reasoning events as clients of Open Responses know them."""

HELD_LIMIT = 64 * 1024 * 1024
"""Most bytes of items that one stream keeps. Several base64 images fit."""

_NOTHING = jsonio.raw([])
_INCOMPLETE = jsonio.raw("incomplete")
_IN_PROGRESS = jsonio.raw("in_progress")
_STATUS_AT_A_BREAK = {
    b'"image_generation_call"': jsonio.raw("failed"),
    b'"web_search_call"': jsonio.raw("failed"),
    b'"apply_patch_call"': jsonio.raw("in_progress"),
}
"""Types of items whose enumeration of states has no `incomplete`."""

_ALWAYS_WITH_STATUS = frozenset({b'"message"', b'"function_call"'})


class _Item(msgspec.Struct, gc=False):
    item: msgspec.Raw = jsonio.EMPTY
    output_index: int | None = None


class _Value(msgspec.Struct, gc=False):
    output_index: int | None = None
    part: msgspec.Raw = jsonio.EMPTY
    arguments: msgspec.Raw = jsonio.EMPTY
    input: msgspec.Raw = jsonio.EMPTY
    code: msgspec.Raw = jsonio.EMPTY
    annotation: msgspec.Raw = jsonio.EMPTY


_item = jsonio.decoder(_Item)
_value = jsonio.decoder(_Value)


class _Saying:
    """A part, or the arguments or the like, of an item, while it grows. The bytes are UTF-8, so that a byte of the answer
    costs about a byte of memory."""

    __slots__ = ("annotations", "part", "text")

    def __init__(self, part: str) -> None:
        self.part = part
        """The type of the part; empty where there is none."""
        self.text = bytearray()
        self.annotations: list[msgspec.Raw] = []

    def value(self) -> msgspec.Raw:
        """As it would stand in its item."""
        text = self.text.decode()
        if not self.part:
            return jsonio.raw(text)
        part: dict[str, Any] = {"type": self.part, "refusal" if self.part == "refusal" else "text": text}
        if self.part == "output_text":
            part |= {"annotations": self.annotations, "logprobs": []}
        return jsonio.raw(part)


class HeldItems:
    """Items by `output_index`. Raises WireError once they are longer than `HELD_LIMIT` together: the last event of an
    answer has to repeat all of them."""

    VALUES: ClassVar[Mapping[str, tuple[str, str]]] = {
        "response.content_part.done": ("part", "content"),
        "response.reasoning_summary_part.done": ("part", "summary"),
        "response.output_text.annotation.added": ("annotation", "content"),
        "response.function_call_arguments.done": ("arguments", "arguments"),
        "response.mcp_call_arguments.done": ("arguments", "arguments"),
        "response.custom_tool_call_input.done": ("input", "input"),
        "response.code_interpreter_call_code.done": ("code", "code"),
    }
    """Events that bring a whole value inside an item → the event's member and the item's."""

    _DELTAS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "response.output_text.delta": ("content", "output_text"),
        "response.refusal.delta": ("content", "refusal"),
        "response.reasoning_text.delta": ("content", "reasoning_text"),
        "response.reasoning_summary_text.delta": ("summary", "summary_text"),
        "response.function_call_arguments.delta": ("arguments", ""),
        "response.mcp_call_arguments.delta": ("arguments", ""),
        "response.custom_tool_call_input.delta": ("input", ""),
        "response.code_interpreter_call_code.delta": ("code", ""),
    }
    """Events that let a value grow → the item's member, and the type of its part."""

    __slots__ = ("_bytes", "_done", "_index", "_kind", "_open", "_saying", "_text")

    def __init__(self) -> None:
        self._done: dict[int, msgspec.Raw] = {}
        self._open: dict[int, jsonio.Members] = {}
        self._saying: dict[int, dict[str, _Saying]] = {}
        """By `output_index` and member: what has not been closed yet."""
        self._bytes = 0
        self._kind = ""
        """Of the last delta, as `_index`, and `_text` to which it was added: the next one is nearly always for the same."""
        self._index: int | None = None
        self._text: bytearray | None = None

    @property
    def finished(self) -> list[msgspec.Raw]:
        """The items that were closed, in order."""
        return [self._done[index] for index in sorted(self._done)]

    def only_open(self) -> str | None:
        """The id of the one item that is open, where all others come before it, and nothing in it was closed."""
        if len(self._open) != 1:
            return None
        (index, item), *_ = self._open.items()
        if sorted(self._done) != list(range(index)) or item.get("content", _NOTHING) != _NOTHING:
            return None
        return jsonio.string(item.get("id", jsonio.NULL))

    def added(self, data: bytes) -> None:
        index, item = self._read(data)
        if item is not None:
            self._open[index] = item

    def done(self, data: bytes) -> None:
        index, item = self._read(data)
        if item is not None:
            self._open.pop(index, None)
            for member in list(self._saying.get(index, ())):
                self._said_all(index, member)
            self._done[index] = jsonio.raw(item)

    def said(self, kind: str, index: int | None, piece: bytes) -> None:
        """A delta, in UTF-8; `kind` is the type of its event."""
        if kind != self._kind or index != self._index:
            self._turn_to(kind, index)
        text = self._text
        if text is not None:
            if self._bytes + len(piece) > HELD_LIMIT:
                raise _too_long()
            self._bytes += len(piece)
            text += piece

    def value_done(self, kind: str, data: bytes) -> None:
        """A part, the arguments or the like of an open item are complete, or a text has got an annotation."""
        try:
            found = jsonio.decode(data, _value)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            return
        index = len(self._done) if found.output_index is None else found.output_index
        item = self._open.get(index)
        source, target = self.VALUES[kind]
        value = getattr(found, source)
        if item is None or not value:
            return
        self._grow(len(value))
        if source == "annotation":
            saying = self._saying.get(index, {}).get(target)
            if saying is not None:
                saying.annotations.append(value)
            return
        self._said_all(index, target)
        if source == "part":
            _add_part(item, target, value)
        else:
            item[target] = value

    def at_a_break(self, response_id: str) -> list[msgspec.Raw]:
        """The items of an answer that broke off, in order: those that are open are `incomplete`."""
        return self._all(response_id, _STATUS_AT_A_BREAK, _INCOMPLETE)

    def so_far(self, response_id: str) -> list[msgspec.Raw]:
        """The items of an answer that goes on, in order: those that are open are `in_progress`."""
        return self._all(response_id, {}, _IN_PROGRESS)

    def _all(
        self, response_id: str, statuses: Mapping[bytes, msgspec.Raw], otherwise: msgspec.Raw
    ) -> list[msgspec.Raw]:
        """Open items get the status of their type in `statuses`, or `otherwise`."""
        items: dict[int, msgspec.Raw] = dict(self._done)
        opened = {index: _unannounced(sayings, response_id, index) for index, sayings in self._saying.items()}
        opened |= self._open
        for index, item in opened.items():
            if item is None or index in items:
                continue
            content = dict(item)
            for member, saying in self._saying.get(index, {}).items():
                if saying.part:
                    _add_part(content, member, saying.value())
                else:
                    content[member] = saying.value()
            kind = bytes(content.get("type", jsonio.NULL))
            if "status" in content or kind in _ALWAYS_WITH_STATUS:
                content["status"] = statuses.get(kind, otherwise)
            items[index] = jsonio.raw(content)
        return [items[index] for index in sorted(items)]

    def _turn_to(self, kind: str, index: int | None) -> None:
        """The next deltas are for another value than the last one."""
        self._kind, self._index, self._text = kind, index, None
        target = self._DELTAS.get(kind)
        if target is None:
            return
        member, part = target
        at = len(self._done) if index is None else index
        if at in self._done:
            return
        sayings = self._saying.setdefault(at, {})
        saying = sayings.get(member)
        if saying is not None and saying.part != part:
            # What went before has ended without a word of it.
            item = self._open.get(at)
            if item is not None:
                _add_part(item, member, saying.value())
            saying = None
        if saying is None:
            saying = sayings[member] = _Saying(part)
        self._text = saying.text

    def _said_all(self, index: int, member: str) -> None:
        """The value is there as a whole."""
        sayings = self._saying.get(index)
        saying = sayings.pop(member, None) if sayings is not None else None
        if saying is not None:
            self._bytes -= len(saying.text)
        if not sayings:
            self._saying.pop(index, None)
        self._kind, self._text = "", None

    def _read(self, data: bytes) -> tuple[int, jsonio.Members | None]:
        try:
            found = jsonio.decode(data, _item)
            item = None if jsonio.is_null(found.item) else jsonio.members(found.item)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"an item of the stream cannot be read: {error}") from None
        self._grow(len(found.item))
        # Without an index items stand in the order in which they come.
        return len(self._done) if found.output_index is None else found.output_index, item

    def _grow(self, size: int) -> None:
        self._bytes += size
        if self._bytes > HELD_LIMIT:
            raise _too_long()


def _too_long() -> WireError:
    return WireError(f"the items of the answer are longer than {HELD_LIMIT} bytes")


def _add_part(item: jsonio.Members, member: str, part: msgspec.Raw) -> None:
    try:
        parts = jsonio.elements(item.get(member, jsonio.NULL))
    except jsonio.SchemaMismatch:
        parts = []
    item[member] = jsonio.raw([*parts, part])


def _unannounced(sayings: Mapping[str, _Saying], response_id: str, index: int) -> jsonio.Members | None:
    """The item of deltas that came without one; None for a call, whose name nobody knows."""
    parts = {saying.part for saying in sayings.values()}
    if "" in parts:
        return None
    members: dict[str, Any] = {"id": item_id(response_id, "message", index), "type": "message", "role": "assistant"}
    if not parts <= {"output_text", "refusal"}:
        members = {"id": item_id(response_id, "reasoning", index), "type": "reasoning", "summary": []}
    return {name: jsonio.raw(value) for name, value in members.items()}
