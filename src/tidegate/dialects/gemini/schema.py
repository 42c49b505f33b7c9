"""The members of a `generateContent` request with their documented ranges (ai.google.dev/api/generate-content)."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

__all__ = [
    "Blob",
    "Content",
    "FileData",
    "FunctionCall",
    "FunctionCallingConfig",
    "FunctionDeclaration",
    "FunctionResponse",
    "FunctionResponsePart",
    "GeminiBody",
    "GenerationConfig",
    "Part",
    "ThinkingConfig",
    "Tool",
    "ToolConfig",
    "listed",
]

T = TypeVar("T")

Object = dict[str, msgspec.Raw]


class Blob(msgspec.Struct, rename="camel"):
    mime_type: str
    data: str
    display_name: str | None = None


class FileData(msgspec.Struct, rename="camel"):
    file_uri: str
    mime_type: str | None = None
    display_name: str | None = None


class FunctionCall(msgspec.Struct):
    name: str
    args: Object | None = None
    id: str | None = None


class FunctionResponsePart(msgspec.Struct, rename="camel"):
    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None


class FunctionResponse(msgspec.Struct, rename="camel"):
    name: str
    response: Object | None = None
    id: str | None = None
    parts: list[FunctionResponsePart] | None = None


class Part(msgspec.Struct, rename="camel"):
    """One part. Members that we do not know travel on, and keep the part from being translated."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


class Content(msgspec.Struct):
    parts: list[Part] | Part | None = None
    role: str | None = None


class FunctionDeclaration(msgspec.Struct, rename="camel"):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    parameters_json_schema: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    response: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    response_json_schema: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    behavior: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class Tool(msgspec.Struct, rename="camel"):
    """Members other than this one are tools that Google runs."""

    function_declarations: list[FunctionDeclaration] | None = None


class FunctionCallingConfig(msgspec.Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(msgspec.Struct, rename="camel"):
    function_calling_config: FunctionCallingConfig | None = None


class ThinkingConfig(msgspec.Struct, rename="camel"):
    include_thoughts: bool | None = None
    thinking_budget: Annotated[int, Meta(ge=-1)] | None = None
    thinking_level: str | None = None


class GenerationConfig(msgspec.Struct, rename="camel"):
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[float, Meta(ge=0)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop_sequences: list[str] | None = None
    candidate_count: Annotated[int, Meta(ge=1, le=8)] | None = None
    seed: int | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    response_mime_type: str | None = None
    response_schema: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    response_json_schema: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    response_logprobs: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    thinking_config: ThinkingConfig | None = None
    response_modalities: list[str] | None = None


class GeminiBody(msgspec.Struct, rename="camel"):
    """The documented members, in camel case. Those that we do not know travel on to Google."""

    contents: list[Content] | Content
    system_instruction: Content | str | None = None
    tools: list[Tool] | Tool | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    safety_settings: list[Object] | None = None
    cached_content: str | None = None
    labels: dict[str, str] | None = None
    service_tier: str | None = None


def listed(value: "list[T] | T | None") -> list[T]:
    """Proto JSON's list: also one element without brackets, or nothing."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
