"""What is read of the objects within a request: all other members of theirs are left over, and have a name.

A dialect writes down, beside what reads its requests, the shape of each object: the members that have a canonical form,
and those of :data:`HARMLESS`. Nearly every request has nothing else, and is told so by one pass of a strict decoder; only
what that refuses is looked at member by member.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Final, Literal, Union

import msgspec

from tidegate.wire import jsonio

__all__ = ["HARMLESS", "OneOf", "Says", "Shape", "placed", "unread"]

HARMLESS: Final[Mapping[str, str]] = {
    "input[].id": "Ids of items and messages are the gateway's own or another provider's; calls are found by `call_id`.",
    "messages[].id": "As above; chat has no ids of messages, but clients keep some.",
    "input[].name": "In the output of a call: it is the name of the call, which is there.",
    "messages[].name": "In the result of a call: it is the name of the call, which is there. Any other name is named.",
    "input[].namespace": "In the output of a call: it is that of the call, which is there.",
    "input[].summary": "Of a thought without its seal, for Gemini: Google asks nobody for the words of thoughts.",
    "messages[].reasoning_details[].summary": "As above.",
    "input[].status": "`completed` says only that the item is whole. Any other status is named.",
    "input[].caller": "`direct` is how the model calls every tool. Any other caller is named.",
    "messages[].content[].caller": "As above.",
    "input[].content[].annotations": "Sources of an earlier answer: no model reads them, and the text is there.",
    "input[].content[].logprobs": "Log probabilities of an earlier answer: no model reads them.",
    "messages[].annotations": "Sources of an earlier answer: no model reads them, and the text is there.",
    "messages[].content[].citations": "Sources of an earlier answer: those with an address become annotations.",
    "messages[].parsed": "An SDK's own reading of the text that stands beside it.",
    "messages[].tool_calls[].function.parsed_arguments": "An SDK's own reading of the arguments beside it.",
    "messages[].tool_calls[].index": "Where the call stood in the stream; the array keeps the order.",
    "messages[].content[].cache_control.ttl": "`5m` is what every breakpoint has. Any other lifetime is named.",
    "response_format.json_schema.name": "Anthropic's and Google's formats have no names, and only one stands in a request.",
    "response_format.json_schema.strict": "Anthropic and Google hold an answer to its schema always.",
    "text.format.name": "As above.",
    "text.format.strict": "As above.",
    "stream_options.include_obfuscation": "`false` is how a translated stream is. `true` is named.",
    "systemInstruction.role": "Google reads none there.",
    "tools[].functionDeclarations[].behavior": "`BLOCKING` is what every function is. Any other behaviour is named.",
}
"""Members that are lost without a name, and why nothing is lost with them. Clients send most of them because an answer
had them. docs/{en,zh}/translation.md tells them to users."""

_PLACE: Final = re.compile(r"\[\d+\]")


class Says:
    """A member that says nothing beyond what holds anyway when it has one of these values, and is named otherwise."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    @cached_property
    def annotation(self) -> Any:
        """Texts, or one object of texts, can be checked by a decoder; all else is looked at."""
        texts = tuple(value for value in self.values if isinstance(value, str))
        objects = [_literal(value) for value in self.values if isinstance(value, dict)]
        return Union[(None, *((Literal[texts],) if texts else ()), *objects[:1])]

    def holds(self, value: msgspec.Raw) -> bool:
        try:
            return jsonio.anything(value) in self.values
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            return False


class _Node(ABC):
    """What both kinds of shapes have."""

    @property
    @abstractmethod
    def annotation(self) -> Any:
        """The type that msgspec holds a value against."""

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self.annotation)

    def reads(self, value: msgspec.Raw) -> bool:
        """Whether nothing of `value` is left over, as far as a decoder can tell: it is a quick look."""
        try:
            self._decoder.decode(value)
        except jsonio.UNREADABLE:
            return False
        return True


class Shape(_Node):
    """An object of which the members of `leaves` are read as they are, and those of `within` looked into, also where they
    are arrays of such objects. Where `main` names members, an object without any of them is taken as it is."""

    def __init__(self, leaves: str = "", main: str = "", /, **within: "Shape | OneOf | Says") -> None:
        self.leaves = frozenset((*leaves.split(), *(name for name in main.split() if name not in within)))
        self.main = frozenset(main.split())
        self.within = within

    def of(self, members: jsonio.Members) -> "Shape | None":
        """The shape that an object with these members has; None for one that is taken as it is."""
        return self if not self.main or not self.main.isdisjoint(members) else None

    @cached_property
    def annotation(self) -> Any:
        return _whole_or_listed(self.struct())

    def struct(self, by: str | None = None, tag: str | None = None, fixed: str | None = None) -> Any:
        """A strict Struct. Objects of its union have `tag` under `by`; with `fixed` alone, `by` may be absent or that."""
        fields: list[tuple[str, Any, Any]] = [(name, msgspec.Raw, jsonio.EMPTY) for name in self.leaves - {by}]
        fields += [(name, one.annotation, None) for name, one in self.within.items()]
        if by is not None and fixed is not None:
            fields.append((by, Union[Literal[fixed], None], None))  # noqa: UP007 - made at run time
        return msgspec.defstruct(
            "Shape", fields, forbid_unknown_fields=True, gc=False, tag_field=by if tag else None, tag=tag
        )


class OneOf(_Node):
    """Objects whose member `by` tells their shape; `otherwise` stands for one that lacks it. Objects of other kinds are
    taken as they are."""

    def __init__(self, by: str, shapes: Mapping[str, Shape], otherwise: str = "") -> None:
        self.by = by
        self.shapes = shapes
        self.otherwise = otherwise

    def of(self, members: jsonio.Members) -> Shape | None:
        given = members.get(self.by, jsonio.NULL)
        return self.shapes.get(self.otherwise if jsonio.is_null(given) else jsonio.string(given) or "")

    @cached_property
    def annotation(self) -> Any:
        if self.otherwise:
            return _whole_or_listed(self.shapes[self.otherwise].struct(self.by, fixed=self.otherwise))
        kinds = tuple(shape.struct(self.by, tag) for tag, shape in self.shapes.items())
        return _whole_or_listed(Union[kinds])  # noqa: UP007 - made at run time


def _whole_or_listed(kind: Any) -> Any:
    return Union[None, str, list[kind], kind]  # noqa: UP007 - made at run time


def _literal(value: dict[str, str]) -> Any:
    fields = [(name, Literal[text]) for name, text in value.items()]
    return msgspec.defstruct("Literal", fields, forbid_unknown_fields=True, gc=False)


def unread(value: msgspec.Raw, shape: Shape | OneOf, at: str, *, numbered: bool = True) -> Iterable[str]:
    """The members of `value`, an object or an array of them, that `shape` does not read, by their whole path from `at`;
    null says nothing. `numbered`: each element of an array has its number."""
    return () if shape.reads(value) else _unread(value, shape, at, numbered=numbered)


def _unread(value: msgspec.Raw, shape: Shape | OneOf, at: str, *, numbered: bool) -> Iterable[str]:
    opening = bytes(memoryview(value)[:1])
    if opening == b"[":
        for number, element in enumerate(jsonio.elements(value)):
            yield from _unread(element, shape, f"{at}[{number if numbered else ''}]", numbered=numbered)
    elif opening == b"{":
        members = jsonio.members(value)
        own = shape.of(members)
        if own is None:
            return
        read = own.leaves | {shape.by} if isinstance(shape, OneOf) else own.leaves
        for name, inner in members.items():
            if name in read or jsonio.is_null(inner):
                continue
            within = own.within.get(name)
            if isinstance(within, Shape | OneOf):
                yield from _unread(inner, within, f"{at}.{name}", numbered=numbered)
            elif within is None or not within.holds(inner):
                yield f"{at}.{name}"


def placed(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once. One that stands at several places of the same kind has no number: a conversation of hundreds of
    items has one name for what all of them have."""
    found: dict[str, str] = {}
    for name in names:
        kind = _PLACE.sub("[]", name) if "[" in name else name
        found[kind] = kind if kind in found and found[kind] != name else name
    return tuple(found.values())
