"""What is kept of a response while it streams: whole items, and of open ones no more than what was closed in them."""

from typing import ClassVar

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.errors import WireError

__all__ = ["HELD_LIMIT", "HeldItems"]

HELD_LIMIT = 64 * 1024 * 1024
"""Most bytes of items that one stream keeps. Several base64 images fit."""

_NOTHING = jsonio.raw([])
_INCOMPLETE = jsonio.raw("incomplete")
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


_item = jsonio.decoder(_Item)
_value = jsonio.decoder(_Value)


class HeldItems:
    """Items by `output_index`. Deltas are not kept: a long answer must not cost its length in memory."""

    VALUES: ClassVar[dict[str, tuple[str, str]]] = {
        "response.content_part.done": ("part", "content"),
        "response.reasoning_summary_part.done": ("part", "summary"),
        "response.function_call_arguments.done": ("arguments", "arguments"),
        "response.mcp_call_arguments.done": ("arguments", "arguments"),
        "response.custom_tool_call_input.done": ("input", "input"),
        "response.code_interpreter_call_code.done": ("code", "code"),
    }
    """Events that close a value inside an item → the event's member and the item's."""

    __slots__ = ("_bytes", "_done", "_open")

    def __init__(self) -> None:
        self._done: dict[int, msgspec.Raw] = {}
        self._open: dict[int, jsonio.Members] = {}
        self._bytes = 0

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
            self._done[index] = jsonio.raw(item)

    def value_done(self, kind: str, data: bytes) -> None:
        """A part, the arguments or the like of an open item are complete."""
        try:
            found = jsonio.decode(data, _value)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            return
        item = self._open.get(found.output_index if found.output_index is not None else -1)
        source, target = self.VALUES[kind]
        value = getattr(found, source)
        if item is None or not value:
            return
        self._grow(len(value))
        if source != "part":
            item[target] = value
            return
        try:
            parts = jsonio.elements(item.get(target, jsonio.NULL))
        except jsonio.SchemaMismatch:
            parts = []
        item[target] = jsonio.raw([*parts, value])

    def at_a_break(self) -> msgspec.Raw:
        """The output of an answer that broke off: open items are `incomplete`."""
        items: dict[int, msgspec.Raw] = dict(self._done)
        for index, item in self._open.items():
            kind = bytes(item.get("type", jsonio.NULL))
            content = dict(item)
            if "status" in content or kind in _ALWAYS_WITH_STATUS:
                content["status"] = _STATUS_AT_A_BREAK.get(kind, _INCOMPLETE)
            items.setdefault(index, jsonio.raw(content))
        return jsonio.raw([items[index] for index in sorted(items)])

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
            raise WireError(f"the items of the answer are longer than {HELD_LIMIT} bytes")
