"""The OpenAPI description, made from the Structs that validate requests."""

from functools import cache
from typing import Any

import msgspec

from tidegate import __version__
from tidegate.dialects.chat import ChatBody
from tidegate.dialects.completions import CompletionsBody
from tidegate.dialects.embeddings import EmbeddingsBody
from tidegate.dialects.gemini import GeminiBody, GeminiCountBody
from tidegate.dialects.gemini.embeddings import EmbedBody, EmbedManyBody
from tidegate.dialects.messages import CountBody, MessagesBody
from tidegate.dialects.responses import CompactBody, InputTokensBody, ResponsesBody
from tidegate.dialects.speech import SpeechBody
from tidegate.dialects.transcription import TranscriptionFields, TranslationFields
from tidegate.wire.forms import FILE

__all__ = ["document"]

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
_READS = (
    ("/v1/models", "List the models"),
    ("/v1/models/{model}", "Describe one model"),
    ("/v1beta/models", "List the models (Gemini)"),
    ("/v1beta/models/{model}", "Describe one model (Gemini)"),
    ("/healthz", "Whether the process answers"),
    ("/readyz", "Whether new requests are welcome"),
    ("/metrics", "Metrics in the format of Prometheus"),
)
_JSON = "application/json"
_MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
_ERROR = {
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


@cache
def document() -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    types = [body for _, body, _ in (*_BODIES, *_FORMS)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    components = {**components, "Error": _ERROR}
    paths: dict[str, Any] = {}
    forms = {path for path, _, _ in _FORMS}
    for (path, _, summary), schema in zip((*_BODIES, *_FORMS), schemas, strict=True):
        content = (
            {"multipart/form-data": {"schema": _with_file(schema)}} if path in forms else {_JSON: {"schema": schema}}
        )
        paths[path] = {
            "post": {
                "summary": summary,
                "security": [{}, {"key": []}],
                "requestBody": {"required": True, "content": content},
                "responses": {
                    "200": {
                        "description": "The answer: one JSON object, or an event stream when `stream` is true.",
                        "content": {_JSON: {}, "text/event-stream": {}},
                    },
                    "default": _error_response(),
                },
            }
        }
        if "{model}" in path:
            paths[path]["post"]["parameters"] = [_MODEL]
    paths["/v1/responses"]["get"] = {
        "summary": "Create responses over WebSocket",
        "security": [{}, {"key": []}],
        "responses": {
            "101": {"description": "The connection goes on as WebSocket; the client sends `response.create` events."},
            "default": _error_response(),
        },
    }
    for path, summary in _READS:
        operation: dict[str, Any] = {
            "summary": summary,
            "responses": {"200": {"description": "OK"}, "default": _error_response()},
        }
        if "{model}" in path:
            operation["parameters"] = [_MODEL]
        if path.startswith(("/v1/", "/v1beta/")):
            operation["security"] = [{}, {"key": []}]
        paths[path] = {"get": operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tidegate", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _with_file(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a form's fields, and its file."""
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {"allOf": [schema, {"type": "object", "required": [FILE], "properties": {FILE: file}}]}


def _error_response() -> dict[str, Any]:
    return {
        "description": "An error in the OpenAI envelope.",
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
