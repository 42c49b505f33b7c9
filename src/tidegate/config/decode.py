"""From parsed TOML to the structs of the schema, without stopping at the first fault."""

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, cast

import msgspec
from msgspec import inspect

from tidegate.config.problem import Problem, join
from tidegate.config.secret import Secret
from tidegate.config.substitute import FromEnvironment
from tidegate.config.units import DOLLARS_FORM, DURATION_FORM, SIZE_FORM, Dollars, Duration, Size
from tidegate.dialects.validation import nearest


class _Failed:
    """Stands for a value that could not be decoded; its problem is already on the list."""


_FAILED: Final = _Failed()
_Limits = Mapping[str, object]


def decode(shape: type[msgspec.Struct], raw: object, problems: list[Problem]) -> msgspec.Struct | None:
    """Builds the struct, or returns None after adding at least one problem to the list.

    A member that fails is replaced by its default or by a blank, so that later checks see the rest in its right place;
    the caller must refuse the result whenever the list is not empty.
    """
    result = _value(inspect.type_info(shape), raw, "", {}, problems)
    return None if isinstance(result, _Failed) else cast("msgspec.Struct", result)


def describe(kind: inspect.Type, limits: _Limits | None = None) -> str:
    """What a value of this type is, in words: `an integer from 0 to 65535`."""
    kind, limits = unwrap(kind, limits)
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return "a non-empty string" if kind.min_length else "a string"
        case inspect.IntType():
            return f"an integer{_range(kind.ge, kind.le)}"
        case inspect.FloatType():
            return f"a number{_range(kind.ge, kind.le)}"
        case inspect.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in kind.values)
        case inspect.VarTupleType():
            return "a list"
        case inspect.DictType() | inspect.StructType():
            return "a table"
        case inspect.CustomType(cls=cls) if cls is Duration:
            off = ', or "off"' if limits.get("off") else ""
            return f"{DURATION_FORM}{_range(limits.get('least'), limits.get('most'))}{off}"
        case inspect.CustomType(cls=cls) if cls is Dollars:
            return DOLLARS_FORM
        case inspect.CustomType(cls=cls) if cls is Size:
            return f"{SIZE_FORM}{_range(limits.get('least'), limits.get('most'))}"
        case _:
            return "a string"


def _range(least: object, most: object) -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f", at least {least}"
    return (
        f" from {least} to {most}"
        if isinstance(least, int) and not isinstance(least, Size)
        else f", from {least} to {most}"
    )


def unwrap(kind: inspect.Type, limits: _Limits | None = None) -> tuple[inspect.Type, _Limits]:
    """The type itself, without annotations and without the `None` that means "unset", and the limits noted on the way."""
    found = dict(limits or {})
    while True:
        if isinstance(kind, inspect.Metadata):
            found.update(kind.extra or {})
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            kind = next(member for member in kind.types if not isinstance(member, inspect.NoneType))
        else:
            return kind, found


def _value(kind: inspect.Type, raw: object, path: str, limits: _Limits, problems: list[Problem]) -> object:
    kind, limits = unwrap(kind, limits)
    match kind:
        case inspect.StructType():
            return _struct(kind, raw, path, problems)
        case inspect.DictType() if isinstance(raw, dict):
            return _dict(kind, raw, path, problems)
        case inspect.VarTupleType() if isinstance(raw, list):
            members = [
                _value(kind.item_type, item, f"{path}[{number}]", {}, problems) for number, item in enumerate(raw)
            ]
            return tuple(_blank(kind.item_type) if isinstance(member, _Failed) else member for member in members)
        case inspect.CustomType():
            return _custom(kind, raw, path, limits, problems)
        case _:
            return _plain(kind, raw, path, limits, problems)


def _struct(kind: inspect.StructType, raw: object, path: str, problems: list[Problem]) -> object:
    if not isinstance(raw, dict):
        return _fail(kind, raw, path, {}, problems)
    fields = {field.encode_name: field for field in kind.fields}
    values: dict[str, object] = {}
    for name, item in raw.items():
        if name not in fields:
            guess = nearest(name, fields)
            known = "" if guess else f"; the keys here are {', '.join(f'`{field}`' for field in fields)}"
            problems.append(Problem(path=join(path, name), message=f"unknown key{known}", nearest=guess))
            continue
        value = _value(fields[name].type, item, join(path, name), {}, problems)
        if not isinstance(value, _Failed):
            values[name] = value
    for name, field in fields.items():
        if field.required and name not in raw:
            problems.append(
                Problem(path=join(path, name), message=f"is missing: {describe(field.type)} is needed here")
            )
        if field.required and name not in values:
            values[name] = _blank(field.type)
    return cast("Callable[..., object]", kind.cls)(**values)


def _blank(kind: inspect.Type) -> object:
    """Stands in the place of a value that failed, so that those after it keep their numbers."""
    kind, _ = unwrap(kind)
    match kind:
        case inspect.StructType():
            return _struct(kind, {}, "", [])
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.CustomType(cls=cls):
            return Secret("") if cls is Secret else cls(0)
        case _:
            return ""


def _dict(kind: inspect.DictType, raw: dict[str, object], path: str, problems: list[Problem]) -> object:
    key_type, _ = unwrap(kind.key_type)
    allowed = [str(value) for value in key_type.values] if isinstance(key_type, inspect.LiteralType) else None
    values: dict[str, object] = {}
    for name, item in raw.items():
        if allowed is not None and name not in allowed:
            known = ", ".join(f"`{value}`" for value in allowed)
            problems.append(
                Problem(
                    path=join(path, name),
                    message=f"unknown key; the keys here are {known}",
                    nearest=nearest(name, allowed),
                )
            )
            continue
        value = _value(kind.value_type, item, join(path, name), {}, problems)
        if not isinstance(value, _Failed):
            values[name] = value
    return values


def _custom(kind: inspect.CustomType, raw: object, path: str, limits: _Limits, problems: list[Problem]) -> object:
    if kind.cls is Secret:
        if isinstance(raw, str):
            return Secret(raw)
        # The value is not quoted: whatever was written in the place of a secret may be one.
        problems.append(Problem(path=path, message=f"expected a string, not {_name(raw)}"))
        return _FAILED
    try:
        value = cast("type[Duration | Size | Dollars]", kind.cls).parse(raw)
    except ValueError:
        return _fail(kind, raw, path, limits, problems)
    if isinstance(value, Duration) and value.off:
        return value if limits.get("off") else _fail(kind, raw, path, limits, problems)
    least, most = cast("float", limits.get("least", value)), cast("float", limits.get("most", value))
    return value if least <= value <= most else _fail(kind, raw, path, limits, problems)


def _plain(kind: inspect.Type, raw: object, path: str, limits: _Limits, problems: list[Problem]) -> object:
    if isinstance(raw, FromEnvironment):
        raw = _spelled(kind, raw)
    match kind:
        case inspect.BoolType() if isinstance(raw, bool):
            return raw
        case inspect.IntType() if isinstance(raw, int) and not isinstance(raw, bool):
            if (kind.ge is None or raw >= kind.ge) and (kind.le is None or raw <= kind.le):
                return raw
        case inspect.FloatType() if isinstance(raw, int | float) and not isinstance(raw, bool) and isfinite(raw):
            if (kind.ge is None or raw >= kind.ge) and (kind.le is None or raw <= kind.le):
                return float(raw)
        case inspect.StrType() if isinstance(raw, str):
            if kind.max_length is not None and len(raw) > kind.max_length:
                problems.append(Problem(path=path, message=f"is longer than {kind.max_length} characters"))
                return _FAILED
            if len(raw) >= (kind.min_length or 0):
                return str(raw)
        case inspect.LiteralType() if isinstance(raw, str) and raw in kind.values:
            return str(raw)
        case inspect.LiteralType() if isinstance(raw, str) and not isinstance(raw, FromEnvironment):
            names = [str(value) for value in kind.values]
            problems.append(
                Problem(
                    path=path, message=f'expected {describe(kind)}, got "{_short(raw)}"', nearest=nearest(raw, names)
                )
            )
            return _FAILED
    return _fail(kind, raw, path, limits, problems)


def _spelled(kind: inspect.Type, raw: FromEnvironment) -> object:
    """The number or boolean that an environment variable spells where one is expected, else the text."""
    if isinstance(kind, inspect.IntType) and re.fullmatch(r"-?\d{1,18}", raw.strip()):
        return int(raw)
    if isinstance(kind, inspect.FloatType) and re.fullmatch(r"-?\d{1,18}(\.\d{1,18})?", raw.strip()):
        return float(raw)
    if isinstance(kind, inspect.BoolType) and raw.strip().lower() in ("true", "false"):
        return raw.strip().lower() == "true"
    return raw


def _fail(kind: inspect.Type, raw: object, path: str, limits: _Limits, problems: list[Problem]) -> _Failed:
    if isinstance(raw, FromEnvironment):
        got = "something else from the environment"
    else:
        got = f'"{_short(raw)}"' if isinstance(raw, str) else str(raw) if type(raw) in (int, float) else _name(raw)
    problems.append(Problem(path=path, message=f"expected {describe(kind, limits)}, got {got}"))
    return _FAILED


def _short(text: str) -> str:
    clean = re.sub(r"[^\x20-\x7e\u00a0-\uffff]", "?", text)
    return clean if len(clean) <= 60 else clean[:59] + "…"


def _name(raw: object) -> str:
    names: dict[Any, str] = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(raw), "a date or time")
