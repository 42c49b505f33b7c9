"""The OpenAPI description of the admin API, made from its table."""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tidegate import __version__
from tidegate.server.admin.call import Entry
from tidegate.server.openapi import ERROR, refusals
from tidegate.wire import errors

__all__ = ["document"]

_JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{name}"

_REFUSALS: Final[tuple[type[errors.TidegateError], ...]] = (
    errors.InvalidRequest,
    errors.InvalidKey,
    errors.Forbidden,
    errors.NotFound,
    errors.Conflict,
    errors.BodyTooLarge,
    errors.TooManyFailures,
    errors.StorageUnavailable,
)
"""What every route may answer instead."""


def document(prefix: str, table: Sequence[Entry]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    kinds = [kind for entry in table for kind in (entry.answer, entry.body, entry.query) if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    schema_of = {str(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for entry in table:
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", entry.path)
        ]
        if entry.query is not None:
            members = components[entry.query.__name__]["properties"]
            parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in members.items()]
        operation: dict[str, Any] = {
            "summary": entry.summary,
            "description": f"Needs the role `{entry.needs}`." if entry.needs != "key" else "Any key will do.",
            "security": [{"key": []}],
            "responses": {
                str(entry.status): {
                    "description": "Done.",
                    "content": {
                        _JSON: {"schema": schema_of[str(entry.answer)]},
                        **{kind: {"schema": {"type": "string"}} for kind in entry.also},
                    },
                },
                **refusals(_REFUSALS),
            },
        }
        if parameters:
            operation["parameters"] = parameters
        if entry.body is not None:
            operation["requestBody"] = {
                "required": not entry.body_optional,
                "content": {_JSON: {"schema": schema_of[str(entry.body)]}},
            }
        paths.setdefault(prefix + entry.path, {})[entry.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tidegate admin API", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
