"""The JSON schema of `tidegate.toml` for editors that complete and check TOML: `tidegate config schema`."""

from typing import Any, Final

from msgspec import inspect

from tidegate.config.schema import Document
from tidegate.config.units import Dollars, Duration, Size

Schema = dict[str, Any]

_DURATION: Final[Schema] = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^(\s*(\d+(\.\d+)?(ms|s|m|h|d))+\s*|\s*\d+\s*|off|.*\$\{.*)$"},
    ]
}
_SIZE: Final[Schema] = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^(\s*\d+\s*([KkMmGg]?[Ii]?[Bb])\s*|.*\$\{.*)$"},
    ]
}
_DOLLARS: Final[Schema] = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": 1_000_000},
        {"type": "string", "pattern": r"^(\s*\d+(\.\d{1,6})?\s*|.*\$\{.*)$"},
    ]
}
_CUSTOM: Final[dict[type, Schema]] = {Duration: _DURATION, Size: _SIZE, Dollars: _DOLLARS}
# A number or a choice may also be taken from the environment: "${PORT}".
_FROM_ENVIRONMENT: Final[Schema] = {"type": "string", "pattern": r"\$\{"}


def json_schema() -> Schema:
    """The schema, as draft 2020-12. It knows shapes and ranges; what only shows in combination, `load` finds."""
    definitions: dict[str, Schema] = {}
    root = _type(inspect.type_info(Document), definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tidegate.toml",
        **definitions.pop(root["$ref"].rpartition("/")[2]),
        "$defs": dict(sorted(definitions.items())),
    }


def _type(kind: inspect.Type, definitions: dict[str, Schema]) -> Schema:
    match kind:
        case inspect.Metadata():
            return {**_type(kind.type, definitions), **(kind.extra_json_schema or {})}
        case inspect.UnionType():
            return _type(next(t for t in kind.types if not isinstance(t, inspect.NoneType)), definitions)
        case inspect.StructType():
            return _struct(kind, definitions)
        case inspect.DictType():
            schema: Schema = {"type": "object", "additionalProperties": _type(kind.value_type, definitions)}
            if isinstance(kind.key_type, inspect.LiteralType):
                schema["propertyNames"] = {"enum": list(kind.key_type.values)}
            return schema
        case inspect.VarTupleType():
            return {"type": "array", "items": _type(kind.item_type, definitions)}
        case inspect.LiteralType():
            return {"anyOf": [{"enum": list(kind.values)}, _FROM_ENVIRONMENT]}
        case inspect.BoolType():
            return {"anyOf": [{"type": "boolean"}, _FROM_ENVIRONMENT]}
        case inspect.IntType():
            number = {"type": "integer", "minimum": kind.ge, "maximum": kind.le}
            return {"anyOf": [{k: v for k, v in number.items() if v is not None}, _FROM_ENVIRONMENT]}
        case inspect.FloatType():
            real = {"type": "number", "minimum": kind.ge, "maximum": kind.le}
            return {"anyOf": [{k: v for k, v in real.items() if v is not None}, _FROM_ENVIRONMENT]}
        case inspect.CustomType():
            return _CUSTOM.get(kind.cls, {"type": "string"})
        case inspect.StrType():
            limits = {"minLength": kind.min_length, "maxLength": kind.max_length}
            return {"type": "string", **{k: v for k, v in limits.items() if v is not None}}
        case _:
            raise TypeError(f"no schema for {kind!r}")


def _struct(kind: inspect.StructType, definitions: dict[str, Schema]) -> Schema:
    name = kind.cls.__name__
    if name not in definitions:
        definitions[name] = {}  # Named before its members are, in case one of them refers back.
        properties: Schema = {}
        for field in kind.fields:
            schema = _type(field.type, definitions)
            default = _builtin(field.default)
            properties[field.encode_name] = schema if default is None else {**schema, "default": default}
        definitions[name] = {
            "type": "object",
            "properties": properties,
            "required": [field.encode_name for field in kind.fields if field.required],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}


def _builtin(default: object) -> object:
    """A default as JSON has it; None where there is none to show."""
    if isinstance(default, Duration | Size | Dollars):
        return str(default)
    if isinstance(default, tuple):
        return list(default)
    return default if isinstance(default, str | int) else None
