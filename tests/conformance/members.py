"""Every member that the official SDKs know of a request, one after the other, each with a plausible value.

A case is a pair of requests that differ in one member: it is there or not, or has one value or another. What becomes of it
is seen in the difference of the bodies that a provider gets.
"""

import enum
import types as builtin
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import pydantic
import typing_extensions

__all__ = ["UNKNOWN", "Case", "Samples", "cases"]

UNKNOWN: Final = "novelty"
"""A member that no API has."""


class _Absent:
    """Stands for no value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


class Case(msgspec.Struct, frozen=True):
    """`path` is that of the member, with `[]` for an element, and `value` what it has. `other` is the request without it,
    or with another value."""

    path: str
    value: Any
    given: Any
    other: Any

    def inside(self, path: str, wrap: Callable[[Any], Any], other: Any = ABSENT) -> "Case":
        """The case within what holds its value; `other` stands for a value that is absent."""
        return Case(path, self.value, wrap(self.given), other if self.other is ABSENT else wrap(self.other))


class Samples:
    """Values by the name of their member, where a text like any other would be refused; and the members without which
    some objects make no sense, although the SDK takes them for optional."""

    def __init__(
        self,
        values: Mapping[str, tuple[Any, Any]],
        needed: Mapping[str, tuple[str, ...]],
        *,
        deepest: int,
        closed: Iterable[str] = (),
    ) -> None:
        self.values = values
        self.needed = needed
        self.closed = frozenset(closed)
        """Types whose members are not looked into, for they go, or stay, as a whole."""
        self.deepest = deepest
        """How many objects stand within each other at most."""


def cases(kind: Any, samples: Samples) -> Iterator[Case]:
    """Those of an object of the type `kind`, a TypedDict or a model of pydantic."""
    yield from _object_cases(kind, samples, (kind,))


def _cases(kind: Any, name: str, samples: Samples, within: tuple[Any, ...]) -> Iterator[Case]:
    """Those of the value of a member `name`; a path is one within the value."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if name in samples.values:
        first, second = samples.values[name]
        yield Case("", first, first, second)
    elif _is_union(origin):
        for place, one in enumerate(one for one in args if one is not type(None)):
            if place:
                yield _present(_sample(one, name, samples))
            yield from _cases(one, name, samples, within)
    elif origin is typing.Literal:
        yield from (_present(one) for one in args[1:])
    elif _is_object(kind):
        if len(within) < samples.deepest and kind not in within and kind.__name__ not in samples.closed:
            yield from _object_cases(kind, samples, (*within, kind))
    elif _is_list(origin):
        for case in _cases(args[0], name, samples, within):
            yield case.inside(f"[]{'.' if case.path[:1] not in ('', '[') else ''}{case.path}", lambda one: [one])
    elif origin is dict:
        value, second = ({key: _sample(args[1], name, samples)} for key in ("key", "other"))
        yield Case("", value, value, second)
    elif _is_enum(kind):
        yield from (_present(one.value) for one in list(kind)[1:])
    else:
        value = _sample(kind, name, samples)
        yield Case("", value, value, _sample(kind, name, samples, second=True))


def _object_cases(kind: Any, samples: Samples, within: tuple[Any, ...]) -> Iterator[Case]:
    base = _sample(kind, "", samples)
    yield Case(UNKNOWN, 1, {**base, UNKNOWN: 1}, base)
    for name, inner, needed in _members(kind, samples):
        rest = {key: value for key, value in base.items() if key != name}
        if not needed:
            value = _sample(inner, name, samples)
            yield Case(name, value, {**base, name: value}, rest)
        for case in _cases(inner, name, samples, within):
            path = f"{name}{'.' if case.path[:1] not in ('', '[') else ''}{case.path}"
            yield case.inside(path, lambda one: {**base, name: one}, base if needed else rest)  # noqa: B023


def _present(value: Any) -> Case:
    return Case("", value, value, ABSENT)


def _sample(kind: Any, name: str, samples: Samples, *, second: bool = False) -> Any:
    """A value with nothing but what is needed."""
    if name in samples.values:
        return samples.values[name][second]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if _is_union(origin):
        return _sample(next(one for one in args if one is not type(None)), name, samples, second=second)
    if origin is typing.Literal:
        return args[-1 if second else 0]
    if _is_object(kind):
        return {
            name: _sample(inner, name, samples, second=second)
            for name, inner, needed in _members(kind, samples)
            if needed
        }
    if _is_list(origin):
        return [_sample(args[0], name, samples, second=second)]
    if origin is dict:
        return {"key": _sample(args[1], name, samples, second=second)}
    if _is_enum(kind):
        return list(kind)[-1 if second else 1].value  # the first is that of a member which is not there
    if kind is bool:
        return not second
    if kind in (int, float):
        return 7 if second else 5
    if kind in (object, Any):
        return {"b": 2} if second else {"a": 1}
    return f"{name}-b" if second else f"{name}-a"


def _members(kind: Any, samples: Samples) -> Iterator[tuple[str, Any, bool]]:
    """Name, type and whether it must be there."""
    always = samples.needed.get(kind.__name__, ())
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        for name, field in kind.model_fields.items():
            name = field.alias or name
            yield name, field.annotation, name in always
        return
    for name, inner in typing_extensions.get_type_hints(kind, include_extras=True).items():
        needed = name in always
        while (mark := typing_extensions.get_origin(inner)) in _MARKS:
            needed = needed or mark is _MARKS[0]
            inner = typing_extensions.get_args(inner)[0]
        yield name, inner, needed


_MARKS: Final[tuple[Any, ...]] = (
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing_extensions.Annotated,
)


def _is_object(kind: Any) -> bool:
    return typing_extensions.is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, pydantic.BaseModel))


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _is_union(origin: Any) -> bool:
    return origin is typing.Union or origin is builtin.UnionType


def _is_list(origin: Any) -> bool:
    return origin in (list, Iterable, Sequence)
