"""The OpenAPI description, made from the Structs that validate requests."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from tidegate import __version__
from tidegate.dialects.chat import ChatBody
from tidegate.dialects.completions import CompletionsBody
from tidegate.dialects.embeddings import EmbeddingsBody
from tidegate.dialects.gemini import GeminiBody, GeminiCountBody
from tidegate.dialects.gemini.embeddings import EmbedBody, EmbedManyBody
from tidegate.dialects.messages import CountBody, MessagesBody
from tidegate.dialects.models import ModelsBody
from tidegate.dialects.responses import CompactBody, InputTokensBody, ResponsesBody
from tidegate.dialects.speech import SpeechBody
from tidegate.dialects.transcription import TranscriptionFields, TranslationFields
from tidegate.server.kept import KEPT, QUERY
from tidegate.server.model_lists import ANTHROPIC_QUERY, GOOGLE_QUERY
from tidegate.wire.errors import TidegateError
from tidegate.wire.forms import FILE

__all__ = ["ERROR", "document", "refusals"]

_BODIES = (
    ("/v1/responses", ResponsesBody, "Create a response"),
    ("/v1/responses/input_tokens", InputTokensBody, "Count the tokens of a prompt"),
    ("/v1/responses/compact", CompactBody, "Make a conversation shorter"),
    ("/v1/chat/completions", ChatBody, "Create a chat completion"),
    ("/v1/completions", CompletionsBody, "Create a text completion"),
    ("/v1/messages", MessagesBody, "Create a message (Anthropic)"),
    ("/v1/messages/count_tokens", CountBody, "Count the tokens of a message (Anthropic)"),
    ("/v1/embeddings", EmbeddingsBody, "Create embeddings"),
    ("/v1/audio/speech", SpeechBody, "Speak a text"),
    ("/v1beta/models/{model}:generateContent", GeminiBody, "Generate content (Gemini)"),
    ("/v1beta/models/{model}:streamGenerateContent", GeminiBody, "Generate content as a stream (Gemini)"),
    ("/v1beta/models/{model}:countTokens", GeminiCountBody, "Count the tokens of a prompt (Gemini)"),
    ("/v1beta/models/{model}:embedContent", EmbedBody, "Create one embedding (Gemini)"),
    ("/v1beta/models/{model}:batchEmbedContents", EmbedManyBody, "Create embeddings (Gemini)"),
)
_FORMS = (
    ("/v1/audio/transcriptions", TranscriptionFields, "Transcribe speech"),
    ("/v1/audio/translations", TranslationFields, "Translate speech into English"),
)
_READS: tuple[tuple[str, str, dict[str, dict[str, Any]]], ...] = (
    ("/v1/models", "List the models; with the header `anthropic-version`, a page at a time", ANTHROPIC_QUERY),
    ("/v1/models/{model}", "Describe one model", {}),
    ("/v1beta/models", "List the models (Gemini), a page at a time", GOOGLE_QUERY),
    ("/v1beta/models/{model}", "Describe one model (Gemini)", {}),
    ("/healthz", "Whether the process answers", {}),
    ("/readyz", "Whether new requests are welcome", {}),
    ("/metrics", "Metrics in the format of Prometheus", {}),
)
_JSON = "application/json"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SECURITY: list[dict[str, Any]] = [{}, {"key": []}]
_ANSWER = {
    "description": "The answer: one JSON object, or an event stream when `stream` is true.",
    "content": {_JSON: {}, "text/event-stream": {}},
}
ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
"""The body of an answer that says what went wrong, in OpenAI's form."""


@cache
def document() -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    kept = [kind for one in KEPT for kind in (one.body, one.answer) if kind is not None]
    types = [*(body for _, body, _ in (*_BODIES, *_FORMS)), *dict.fromkeys(kept), ModelsBody]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for path, body, summary in _BODIES:
        content = {_JSON: {"schema": {"allOf": [schema_of[body], schema_of[ModelsBody]]}}}
        paths[path] = {"post": _operation(path, summary, body=content, answer=_ANSWER)}
    for path, fields, summary in _FORMS:
        content = {"multipart/form-data": {"schema": _with_file(schema_of[fields])}}
        paths[path] = {"post": _operation(path, summary, body=content, answer=_ANSWER)}
    paths["/v1/responses"]["get"] = {
        "summary": "Create responses over WebSocket",
        "security": _SECURITY,
        "responses": {
            "101": {"description": "The connection goes on as WebSocket; the client sends `response.create` events."},
            "default": _error_response(),
        },
    }
    for one in KEPT:
        content = {} if one.body is None else {_JSON: {"schema": schema_of[one.body]}}
        answer: dict[str, Any] = {_JSON: {"schema": _CHUNKS if one.answer is None else schema_of[one.answer]}}
        description = "Done."
        if one.streams:
            answer["text/event-stream"] = {"schema": {"type": "string"}}
            description = "The events as they were first sent, and those that come."
            if one.answer is not None:
                description += " Without `stream`, the object as it stands."
        operation = _operation(
            one.path, one.summary, body=content, answer={"description": description, "content": answer}
        )
        operation["responses"] |= refusals(one.refusals)
        if content:
            operation["requestBody"]["required"] = one.body_required
        _add_query(operation, {name: QUERY[name] for name in one.query})
        paths.setdefault(one.path, {})[one.method] = operation
    for path, summary, query in _READS:
        operation = _operation(path, summary, answer={"description": "OK"})
        _add_query(operation, query)
        paths[path] = {"get": operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tidegate", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def refusals(kinds: Iterable[type[TidegateError]]) -> dict[str, dict[str, Any]]:
    """By status, what these errors mean, in the words of the tree."""
    meanings: dict[str, list[str]] = {}
    for kind in kinds:
        meanings.setdefault(str(kind.status), []).append((kind.__doc__ or "").partition(": ")[2])
    return {
        status: {
            "description": " Or: ".join(meaning),
            "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, meaning in meanings.items()
    }


_CHUNKS = {"type": "array", "items": {"type": "object"}, "description": "Gemini's streams without `alt=sse`."}


def _operation(
    path: str, summary: str, *, body: dict[str, Any] | None = None, answer: dict[str, Any]
) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary}
    if path.startswith(("/v1/", "/v1beta/")):
        operation["security"] = _SECURITY
    names = _PLACEHOLDER.findall(path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if body:
        operation["requestBody"] = {"required": True, "content": body}
    operation["responses"] = {"200": answer, "default": _error_response()}
    return operation


def _add_query(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    if schemas:
        parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]
        operation.setdefault("parameters", []).extend(parameters)


def _with_file(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a form's fields, and its file."""
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {"allOf": [schema, {"type": "object", "required": [FILE], "properties": {FILE: file}}]}


def _error_response() -> dict[str, Any]:
    return {
        "description": "An error in the OpenAI envelope.",
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
