"""Google's `Schema`, a subset of OpenAPI 3.0's, → JSON Schema."""

from typing import Any, Final

import msgspec

from tidegate.wire import jsonio

__all__ = ["json_schema"]

_NUMBERS: Final = frozenset({"maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"})
"""64-bit integers, which proto JSON writes as strings."""

_KEPT: Final = _NUMBERS | {
    "default",
    "description",
    "enum",
    "format",
    "maximum",
    "minimum",
    "pattern",
    "required",
    "title",
}

_NESTED: Final = frozenset({"items", "additionalProperties"})
_NAMED: Final = {"properties": "properties", "defs": "$defs", "$defs": "$defs"}


_SAID_OTHERWISE: Final = frozenset({"type", "nullable"})


def json_schema(schema: msgspec.Raw) -> tuple[msgspec.Raw, list[str]]:
    """The same schema in JSON Schema's words, and the members that have none there, by their path. Raises InvalidJSON or
    SchemaMismatch for what is no object."""
    jsonio.members(schema)
    lost: list[str] = []
    return jsonio.raw(_converted(jsonio.anything(schema), "", lost)), lost


def _converted(schema: Any, at: str, lost: list[str]) -> Any:
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    kind = schema.get("type")
    if isinstance(kind, str) and kind != "TYPE_UNSPECIFIED":
        result["type"] = kind.lower()
    elif isinstance(kind, list):
        result["type"] = [one.lower() if isinstance(one, str) else one for one in kind]
    for name, value in schema.items():
        inside = f"{at}{name}."
        if name in _NUMBERS and isinstance(value, str) and value.isascii() and value.isdigit():
            result[name] = int(value)
        elif name in _KEPT:
            result[name] = value
        elif name in _NESTED:
            result[name] = _converted(value, inside, lost)
        elif name in _NAMED and isinstance(value, dict):
            result[_NAMED[name]] = {key: _converted(one, f"{inside}{key}.", lost) for key, one in value.items()}
        elif name in ("anyOf", "any_of") and isinstance(value, list):
            result["anyOf"] = [_converted(one, f"{at}{name}[{number}].", lost) for number, one in enumerate(value)]
        elif name in ("ref", "$ref"):
            result["$ref"] = value
        elif name == "example":
            result["examples"] = [value]
        elif name not in _SAID_OTHERWISE and value is not None:
            lost.append(f"{at}{name}")
    if schema.get("nullable") is True:
        _allow_null(result)
    return result


def _allow_null(result: dict[str, Any]) -> None:
    if isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
    if isinstance(result.get("enum"), list) and None not in result["enum"]:
        result["enum"] = [*result["enum"], None]
    if isinstance(result.get("anyOf"), list):
        result["anyOf"] = [*result["anyOf"], {"type": "null"}]
