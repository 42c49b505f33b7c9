"""Items of a Responses answer that break the grammar (protocol §1.7), put right as they pass.

Some engines announce a call only when it is complete, open a message that stays empty, open the same message twice,
skip or repeat an `output_index`, or send reasoning text without its part. Official clients raise on most of these.
"""

from typing import Any

import msgspec

from tidegate.wire import jsonio

__all__ = ["Event", "Repair", "repaired_output"]

Event = tuple[str, jsonio.Members]
"""The type of an event, and its members."""

_ADDED = "response.output_item.added"
_DONE = "response.output_item.done"
_PART_ADDED = "response.content_part.added"
_PART_DONE = "response.content_part.done"
_TEXT_DONE = "response.output_text.done"
_CALL_DELTA = "response.function_call_arguments.delta"
_CALL_DONE = "response.function_call_arguments.done"
_REASONING_DELTA = "response.reasoning_text.delta"
_REASONING_DONE = "response.reasoning_text.done"
_ENDINGS = frozenset({"response.completed", "response.incomplete"})

_EMPTY_TEXT = jsonio.raw("")
_IN_PROGRESS = jsonio.raw("in_progress")
_INCOMPLETE = jsonio.raw("incomplete")
_CALL_PREFIX = "fc_"


class _Part(msgspec.Struct):
    text: str = ""


class _Item(msgspec.Struct):
    type: str = ""
    id: str = ""
    content: list[_Part] | None = None


_item = jsonio.decoder(_Item)
_items = jsonio.decoder(list[msgspec.Raw])
_text = jsonio.decoder(str)
_index = jsonio.decoder(int)


class Repair:
    """The events of one answer in, the same answer by the grammar out.

    Only an item that said nothing is held back, and the last word of a finished message or reasoning, until it is
    known whether the token limit cut it. Raises InvalidJSON and SchemaMismatch.
    """

    __slots__ = ("_called", "_done", "_held", "_made_parts", "_parts", "_places", "_repeated", "_waiting")

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        """Upstream's item id → our `output_index`."""
        self._waiting: dict[str, list[Event]] = {}
        """Messages that were opened and have said nothing yet."""
        self._repeated: set[str] = set()
        """Messages that the upstream opened once more; what it says in them was said before."""
        self._called: set[str] = set()
        """Calls whose arguments came in deltas."""
        self._parts: set[tuple[str, int]] = set()
        self._made_parts: set[tuple[str, int]] = set()
        self._done: dict[int, msgspec.Raw] = {}
        self._held: Event | None = None

    def feed(self, kind: str, members: jsonio.Members) -> list[Event]:
        """What stands in the place of one event. `sequence_number` is the caller's."""
        if kind in _ENDINGS:
            return [(kind, members)]
        out = self._release()
        if kind == _ADDED:
            return out + self._on_added(members)
        if kind == _DONE:
            return out + self._on_done(members)
        if "item_id" not in members:
            return [*out, (kind, members)]
        name = jsonio.decode(members["item_id"], _text)
        if name in self._repeated:
            return out
        waiting = self._waiting.get(name)
        if waiting is not None:
            if kind in (_PART_ADDED, _PART_DONE) or (kind == _TEXT_DONE and members.get("text") == _EMPTY_TEXT):
                waiting.append((kind, members))
                return out
            out += self._open_waiting(name)
        return out + self._on_content(kind, members, name)

    def end(self, *, cut: bool) -> list[Event]:
        """What is left before the terminal event. `cut`: the answer hit the token limit."""
        if cut and self._held is not None:
            kind, members = self._held
            item = jsonio.members(members["item"])
            item["status"] = _INCOMPLETE
            self._held = (kind, {**members, "item": jsonio.raw(item)})
        return self._release()

    @property
    def output(self) -> list[msgspec.Raw]:
        """The finished items, in their order."""
        return [self._done[place] for place in sorted(self._done)]

    # -- items --------------------------------------------------------------------------------------------------

    def _on_added(self, members: jsonio.Members) -> list[Event]:
        item = jsonio.decode(members["item"], _item)
        if item.id in self._places or item.id in self._waiting:
            self._repeated.add(item.id)
            return []
        if item.type == "message":
            self._waiting[item.id] = [(_ADDED, members)]
            return []
        return self._open(members, item)

    def _open(self, members: jsonio.Members, item: _Item) -> list[Event]:
        self._places[item.id] = len(self._places)
        content = _mended(members["item"])
        if item.type == "function_call":
            content["arguments"] = _EMPTY_TEXT
            content["status"] = _IN_PROGRESS
        return [self._placed(_ADDED, {**members, "item": jsonio.raw(content)}, item.id)]

    def _open_waiting(self, name: str) -> list[Event]:
        (_, added), *rest = self._waiting.pop(name)
        out = self._open(added, jsonio.decode(added["item"], _item))
        for kind, members in rest:
            out += self._on_content(kind, members, name)
        return out

    def _on_done(self, members: jsonio.Members) -> list[Event]:
        item = jsonio.decode(members["item"], _item)
        if item.id in self._repeated:
            self._repeated.discard(item.id)
            return []
        out: list[Event] = []
        if item.id in self._waiting:
            if self._places and not _says_something(item):
                del self._waiting[item.id]
                self._repeated.add(item.id)
                return []
            out = self._open_waiting(item.id)
        elif item.id not in self._places:
            out = self._open(members, item)
        event = self._placed(_DONE, {**members, "item": jsonio.raw(_mended(members["item"]))}, item.id)
        if item.type in ("message", "reasoning"):
            self._held = event
            return out
        return [*out, self._finished(event)]

    def _release(self) -> list[Event]:
        if self._held is None:
            return []
        event, self._held = self._held, None
        return [self._finished(event)]

    def _finished(self, event: Event) -> Event:
        self._done[jsonio.decode(event[1]["output_index"], _index)] = event[1]["item"]
        return event

    # -- what is inside them ------------------------------------------------------------------------------------

    def _on_content(self, kind: str, members: jsonio.Members, name: str) -> list[Event]:
        event = self._placed(kind, members, name)
        if kind == _CALL_DELTA:
            self._called.add(name)
        elif kind == _CALL_DONE and name not in self._called:
            self._called.add(name)
            if members.get("arguments", _EMPTY_TEXT) != _EMPTY_TEXT:
                return [self._placed(_CALL_DELTA, _delta(members), name), event]
        elif kind in (_PART_ADDED, _REASONING_DELTA, _REASONING_DONE):
            place = (name, jsonio.decode(members.get("content_index", jsonio.raw(0)), _index))
            if kind == _PART_ADDED:
                self._parts.add(place)
            elif place not in self._parts:
                self._parts.add(place)
                self._made_parts.add(place)
                return [self._part(_PART_ADDED, members, name, ""), *self._closed(event, place)]
            else:
                return self._closed(event, place)
        return [event]

    def _closed(self, event: Event, place: tuple[str, int]) -> list[Event]:
        """After the last word of reasoning, the end of the part that we opened for it."""
        kind, members = event
        if kind != _REASONING_DONE or place not in self._made_parts:
            return [event]
        text = jsonio.decode(members.get("text", _EMPTY_TEXT), _text)
        return [event, self._part(_PART_DONE, members, place[0], text)]

    def _part(self, kind: str, beside: jsonio.Members, name: str, text: str) -> Event:
        part = jsonio.raw({"type": "reasoning_text", "text": text})
        members = {"content_index": beside.get("content_index", jsonio.raw(0)), "part": part}
        return self._placed(kind, {"item_id": jsonio.raw(name), **members}, name)

    def _placed(self, kind: str, members: jsonio.Members, name: str) -> Event:
        """The event at the place that is its item's, under the item's proper id."""
        placed = {**members, "output_index": jsonio.raw(self._places.get(name, len(self._places)))}
        if "item_id" in placed and kind.startswith("response.function_call_arguments."):
            placed["item_id"] = jsonio.raw(_call_id(name))
        return kind, placed


def repaired_output(output: msgspec.Raw, *, cut: bool) -> list[msgspec.Raw]:
    """The same for an answer that came in one body."""
    items = jsonio.decode(output, _items)
    if len(items) > 1:
        told = [item for item in items if _says_something(jsonio.decode(item, _item))]
        items = told or items[:1]
    mended = [_mended(item) for item in items]
    if cut and jsonio.decode(items[-1], _item).type in ("message", "reasoning"):
        mended[-1]["status"] = _INCOMPLETE
    return [jsonio.raw(item) for item in mended]


def _says_something(item: _Item) -> bool:
    return item.type != "message" or any(part.text for part in item.content or ())


def _mended(value: msgspec.Raw) -> jsonio.Members:
    item = jsonio.members(value)
    kind = jsonio.decode(value, _item)
    if kind.type == "function_call":
        item["id"] = jsonio.raw(_call_id(kind.id))
    elif kind.type == "message":
        item.pop("annotations", None)  # they belong to the parts
    return item


def _call_id(name: str) -> str:
    """Item ids have the official prefixes; the `call_id` stays what the engine gave."""
    return name if name.startswith(_CALL_PREFIX) else _CALL_PREFIX + name


def _delta(members: jsonio.Members) -> dict[str, Any]:
    return {"item_id": members["item_id"], "delta": members["arguments"]}
