"""What a dialect cannot carry, in one place: the tests hold Tidegate to it, and docs/en/translation.md tells it to users.

Text, Chinese or not, thoughts, tools, their round trip, cut answers and broken ones can never stand here.
"""

from typing import Any, Final

import msgspec

__all__ = ["LOSSES", "SILENT_REFUSALS", "SOURCES", "Loss"]

SOURCES: Final = {
    "responses": "https://platform.openai.com/docs/api-reference/responses/create",
    "chat": "https://platform.openai.com/docs/api-reference/chat/create",
    "messages": "https://platform.claude.com/docs/en/api/messages",
    "gemini": "https://ai.google.dev/api/generate-content",
}
"""The reference of each API, where none of the lost members is."""

SILENT_REFUSALS: Final = frozenset({"gemini"})
"""Dialects whose refusals have no text, only a reason (https://ai.google.dev/api/generate-content#FinishReason)."""

Ask = tuple[str, dict[str, Any]]
"""The name that the client is told, and the members of the request that ask for it."""


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that providers of these names cannot have. `refused`: a 400 unless the route allows to drop it; else it is
    left out and named at once. `asks` says by client how it is asked for."""

    what: str
    providers: tuple[str, ...]
    refused: bool = True
    asks: dict[str, Ask]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Client and provider, where they speak different dialects."""
        own = {
            "responses": ("openai",),
            "chat": ("openai-chat", "lab"),
            "messages": ("anthropic",),
            "gemini": ("google",),
        }
        return [(client, one) for client in self.asks for one in self.providers if one not in own[client]]


def _config(name: str, value: Any) -> Ask:
    return f"generationConfig.{name}", {"generationConfig": {name: value}}


def _said(name: str, member: str, *content: Any) -> Ask:
    return name, {member: [{"role": "user", "content": list(content)}]}


_CHATS: Final = ("openai-chat", "lab")
_ALL: Final = ("openai", *_CHATS, "anthropic", "google")
_USER: Final = {"role": "user", "content": "?"}
_SCHEMA: Final = {"type": "object", "properties": {}, "additionalProperties": False}
_TOLD: Final = {**_SCHEMA, "description": "own"}
_PIXEL: Final = "data:image/png;base64,AAAA"
_GRAMMAR: Final = {"syntax": "lark", "definition": "start: /a/"}
_CALL: Final = {"type": "tool_use", "id": "t1", "name": "tide", "input": {}}
_FAILED: Final = {"type": "tool_result", "tool_use_id": "t1", "content": "bad", "is_error": True}

LOSSES: Final = (
    Loss(
        what="several answers",
        providers=("openai", "anthropic"),
        asks={"chat": ("n", {"n": 2}), "gemini": _config("candidateCount", 2)},
    ),
    Loss(what="more than eight answers", providers=("google",), asks={"chat": ("n", {"n": 9})}),
    Loss(
        what="seed",
        providers=("openai", "anthropic"),
        asks={"chat": ("seed", {"seed": 1}), "gemini": _config("seed", 1)},
    ),
    Loss(what="a seed of more than 32 bits", providers=("google",), asks={"chat": ("seed", {"seed": 2**40})}),
    Loss(
        what="top_k",
        providers=("openai", "openai-chat", "anthropic"),
        asks={"messages": ("top_k", {"top_k": 5}), "gemini": _config("topK", 5)},
    ),
    Loss(
        what="temperature, for models that take none",
        providers=("anthropic",),
        asks={
            "responses": ("temperature", {"temperature": 0.5}),
            "chat": ("temperature", {"temperature": 0.5}),
            "gemini": _config("temperature", 0.5),
        },
    ),
    Loss(
        what="frequency penalty",
        providers=("openai", "anthropic"),
        asks={
            "chat": ("frequency_penalty", {"frequency_penalty": 0.5}),
            "gemini": _config("frequencyPenalty", 0.5),
        },
    ),
    Loss(
        what="presence penalty",
        providers=("openai", "anthropic"),
        asks={"chat": ("presence_penalty", {"presence_penalty": 0.5}), "gemini": _config("presencePenalty", 0.5)},
    ),
    Loss(
        what="logit bias",
        providers=("openai", "anthropic", "google"),
        asks={"chat": ("logit_bias", {"logit_bias": {"1": 5}})},
    ),
    Loss(
        what="log probabilities",
        providers=("anthropic",),
        asks={
            "responses": ("top_logprobs", {"include": ["message.output_text.logprobs"], "top_logprobs": 2}),
            "chat": ("logprobs", {"logprobs": True}),
            "gemini": ("generationConfig.logprobs", {"generationConfig": {"responseLogprobs": True, "logprobs": 2}}),
        },
    ),
    Loss(
        what="JSON without a schema",
        providers=("anthropic",),
        asks={
            "responses": ("text.format", {"text": {"format": {"type": "json_object"}}}),
            "chat": ("response_format", {"response_format": {"type": "json_object"}}),
            "gemini": _config("responseMimeType", "application/json"),
        },
    ),
    Loss(
        what="no reasoning at all, for models that always reason",
        providers=("google",),
        refused=False,
        asks={
            "responses": ("reasoning.effort", {"reasoning": {"effort": "none"}}),
            "chat": ("reasoning_effort", {"reasoning_effort": "none"}),
            "messages": ("thinking", {"thinking": {"type": "disabled"}}),
        },
    ),
    Loss(
        what="tools that OpenAI runs",
        providers=(*_CHATS, "anthropic", "google"),
        asks={"responses": ("tools", {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]})},
    ),
    Loss(
        what="tools of Anthropic's own",
        providers=("openai", *_CHATS, "google"),
        asks={"messages": ("tools", {"tools": [{"type": "bash_20250124", "name": "bash"}]})},
    ),
    Loss(
        what="tools that Google runs",
        providers=("openai", *_CHATS, "anthropic"),
        asks={"gemini": ("tools", {"tools": [{"codeExecution": {}}]})},
    ),
    Loss(
        what="domains of a search",
        providers=("google",),
        asks={
            "responses": (
                "tools[].filters.allowed_domains",
                {"tools": [{"type": "web_search", "filters": {"allowed_domains": ["a.example"]}}]},
            ),
            "messages": (
                "tools[].allowed_domains",
                {"tools": [{"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.example"]}]},
            ),
        },
    ),
    Loss(
        what="a search that must be made",
        providers=_CHATS,
        asks={
            "responses": ("tool_choice", {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}),
            "messages": (
                "tool_choice",
                {
                    "tools": [{"type": "web_search_20250305", "name": "web_search"}],
                    "tool_choice": {"type": "tool", "name": "web_search"},
                },
            ),
        },
    ),
    Loss(
        what="items of tools that the client runs for one API",
        providers=(*_CHATS, "anthropic", "google"),
        asks={
            "responses": (
                "input",
                {
                    "input": [
                        _USER,
                        {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}, "status": "completed"},
                        _USER,
                    ]
                },
            )
        },
    ),
    Loss(
        what="images by file id",
        providers=(*_CHATS, "anthropic", "google"),
        asks={"responses": _said("input", "input", {"type": "input_image", "file_id": "file-1", "detail": "auto"})},
    ),
    Loss(
        what="files by id",
        providers=("lab", "anthropic", "google"),
        asks={"responses": _said("input", "input", {"type": "input_file", "file_id": "file-1"})},
    ),
    Loss(
        what="files of Anthropic by id",
        providers=("openai", *_CHATS, "google"),
        asks={
            "messages": _said(
                "messages", "messages", {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
            )
        },
    ),
    Loss(
        what="files that Google keeps",
        providers=("openai", *_CHATS, "anthropic"),
        asks={
            "gemini": (
                "contents",
                {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": "gs://bucket/a.pdf"}}]}]},
            )
        },
    ),
    Loss(
        what="addresses that nobody fetches",
        providers=(*_CHATS, "anthropic", "google"),
        asks={"responses": _said("input", "input", {"type": "input_file", "file_url": "ftp://example.com/a.pdf"})},
    ),
    Loss(
        what="audio in",
        providers=("openai", "anthropic"),
        asks={
            "chat": _said(
                "messages", "messages", {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
            ),
            "gemini": (
                "contents",
                {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}]}]},
            ),
        },
    ),
    Loss(
        what="audio and images out",
        providers=("openai", *_CHATS, "anthropic", "google"),
        asks={
            "chat": ("modalities", {"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}),
            "gemini": _config("responseModalities", ["TEXT", "IMAGE"]),
        },
    ),
    Loss(
        what="what the provider keeps",
        providers=_ALL,
        asks={
            "messages": ("container", {"container": "c"}),
            "gemini": ("cachedContent", {"cachedContent": "cachedContents/x"}),
        },
    ),
    # What changes no answer is left out and named.
    Loss(
        what="a search of the web",
        providers=_CHATS,
        refused=False,
        asks={
            "responses": ("tools.web_search", {"tools": [{"type": "web_search"}]}),
            "messages": (
                "tools.web_search_20250305",
                {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            ),
            "gemini": ("tools.googleSearch", {"tools": [{"googleSearch": {}}]}),
        },
    ),
    Loss(
        what="where and how widely is searched",
        providers=("google",),
        refused=False,
        asks={
            "responses": (
                "tools[].search_context_size",
                {"tools": [{"type": "web_search", "search_context_size": "low"}]},
            ),
            "chat": (
                "web_search_options.search_context_size",
                {"web_search_options": {"search_context_size": "low"}},
            ),
            "messages": (
                "tools[].max_uses",
                {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]},
            ),
        },
    ),
    Loss(
        what="a search of the past",
        providers=(*_CHATS, "anthropic", "google"),
        refused=False,
        asks={
            "responses": (
                "input[].web_search_call",
                {
                    "input": [
                        _USER,
                        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
                        _USER,
                    ]
                },
            )
        },
    ),
    Loss(
        what="what a provider ran itself",
        providers=(*_CHATS, "anthropic", "google"),
        refused=False,
        asks={
            "responses": (
                "input[].file_search_call",
                {
                    "input": [
                        _USER,
                        {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": []},
                        _USER,
                    ]
                },
            )
        },
    ),
    Loss(
        what="a search of tools by the provider",
        providers=(*_CHATS, "anthropic", "google"),
        refused=False,
        asks={"responses": ("tools.tool_search", {"tools": [{"type": "tool_search"}]})},
    ),
    Loss(
        what="metadata",
        providers=_ALL,
        refused=False,
        asks={
            "responses": ("metadata", {"metadata": {"a": "b"}}),
            "chat": ("metadata", {"metadata": {"a": "b"}}),
            "gemini": ("labels", {"labels": {"a": "b"}}),
        },
    ),
    Loss(
        what="the end user",
        providers=("google",),
        refused=False,
        asks={
            "responses": ("user", {"user": "u"}),
            "chat": ("safety_identifier", {"safety_identifier": "u"}),
            "messages": ("metadata.user_id", {"metadata": {"user_id": "u"}}),
        },
    ),
    Loss(
        what="verbosity",
        providers=("anthropic", "google"),
        refused=False,
        asks={
            "responses": ("text.verbosity", {"text": {"verbosity": "low"}}),
            "chat": ("verbosity", {"verbosity": "low"}),
        },
    ),
    Loss(
        what="service tiers",
        providers=("anthropic",),
        refused=False,
        asks={
            "responses": ("service_tier", {"service_tier": "flex"}),
            "chat": ("service_tier", {"service_tier": "flex"}),
        },
    ),
    Loss(
        what="cache keys",
        providers=("google",),
        refused=False,
        asks={
            "responses": ("prompt_cache_key", {"prompt_cache_key": "k"}),
            "chat": ("prompt_cache_key", {"prompt_cache_key": "k"}),
        },
    ),
    Loss(
        what="cache breakpoints",
        providers=("openai", "lab", "google"),
        refused=False,
        asks={
            "messages": _said(
                "cache_control", "messages", {"type": "text", "text": "?", "cache_control": {"type": "ephemeral"}}
            )
        },
    ),
    Loss(
        what="a summary of the reasoning",
        providers=_CHATS,
        refused=False,
        asks={
            "responses": ("reasoning.summary", {"reasoning": {"summary": "auto"}}),
            "messages": ("thinking.display", {"thinking": {"type": "adaptive"}}),
            "gemini": (
                "generationConfig.thinkingConfig.includeThoughts",
                {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
            ),
        },
    ),
    Loss(
        what="a budget of reasoning, which becomes an effort",
        providers=("openai", *_CHATS, "anthropic"),
        refused=False,
        asks={
            "messages": (
                "thinking.budget_tokens",
                {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
            ),
            "gemini": (
                "generationConfig.thinkingConfig.thinkingBudget",
                {"generationConfig": {"thinkingConfig": {"thinkingBudget": 512}}},
            ),
        },
    ),
    Loss(
        what="reasoning that another provider made",
        providers=(*_CHATS, "anthropic"),
        refused=False,
        asks={
            "responses": (
                "reasoning_items",
                {
                    "input": [
                        _USER,
                        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "t"}]},
                        {"role": "assistant", "content": "a"},
                        _USER,
                    ]
                },
            ),
        },
    ),
    Loss(
        what="reasoning in a chat's history",
        providers=("openai", "anthropic", "google"),
        refused=False,
        asks={
            "chat": (
                "reasoning_content",
                {"messages": [_USER, {"role": "assistant", "content": "a", "reasoning_content": "t"}, _USER]},
            )
        },
    ),
    Loss(
        what="the grammar of a custom tool, which the description tells instead",
        providers=("lab", "anthropic", "google"),
        refused=False,
        asks={
            "responses": (
                "tools[].format",
                {"tools": [{"type": "custom", "name": "w", "format": {"type": "grammar", **_GRAMMAR}}]},
            ),
            "chat": (
                "tools[].custom.format",
                {
                    "tools": [
                        {"type": "custom", "custom": {"name": "w", "format": {"type": "grammar", "grammar": _GRAMMAR}}}
                    ]
                },
            ),
        },
    ),
    Loss(
        what="strict arguments",
        providers=("google",),
        refused=False,
        asks={
            "responses": (
                "strict",
                {"tools": [{"type": "function", "name": "t", "parameters": _SCHEMA, "strict": True}]},
            ),
            "chat": (
                "strict",
                {"tools": [{"type": "function", "function": {"name": "t", "parameters": _SCHEMA, "strict": True}}]},
            ),
            "messages": ("strict", {"tools": [{"name": "t", "input_schema": _SCHEMA, "strict": True}]}),
        },
    ),
    Loss(
        what="how tools are loaded and called",
        providers=(*_CHATS, "anthropic", "google"),
        refused=False,
        asks={
            "responses": (
                "tools[].defer_loading",
                {"tools": [{"type": "function", "name": "t", "parameters": _SCHEMA, "defer_loading": True}]},
            )
        },
    ),
    Loss(
        what="the detail of an image",
        providers=("anthropic", "google"),
        refused=False,
        asks={
            "responses": _said(
                "detail",
                "input",
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "high"},
            )
        },
    ),
    Loss(
        what="the name of a participant",
        providers=("openai", "anthropic", "google"),
        refused=False,
        asks={"chat": ("name", {"messages": [{**_USER, "name": "bob"}]})},
    ),
    Loss(
        what="the name of a file",
        providers=("google",),
        refused=False,
        asks={
            "responses": _said(
                "filename",
                "input",
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            ),
            "chat": _said(
                "file.filename",
                "messages",
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
            ),
            "messages": _said(
                "title",
                "messages",
                {
                    "type": "document",
                    "title": "a",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
                },
            ),
        },
    ),
    Loss(
        what="what a namespace of tools is for",
        providers=(*_CHATS, "anthropic", "google"),
        refused=False,
        asks={
            "responses": (
                "tools[].namespace.description",
                {
                    "tools": [
                        {
                            "type": "namespace",
                            "name": "sea",
                            "description": "Of the sea.",
                            "tools": [{"type": "function", "name": "t", "parameters": _SCHEMA}],
                        }
                    ]
                },
            )
        },
    ),
    Loss(
        what="the phase of a message",
        providers=(*_CHATS, "anthropic", "google"),
        refused=False,
        asks={
            "responses": (
                "input[].phase",
                {"input": [_USER, {"role": "assistant", "content": "a", "phase": "commentary"}, _USER]},
            )
        },
    ),
    Loss(
        what="words that the answer is to begin with",
        providers=("openai", *_CHATS),
        refused=False,
        asks={
            "messages": ("messages.prefill", {"messages": [_USER, {"role": "assistant", "content": "Sure:"}]}),
            "gemini": (
                "contents.prefill",
                {"contents": [{"parts": [{"text": "?"}]}, {"role": "model", "parts": [{"text": "Sure:"}]}]},
            ),
        },
    ),
    Loss(
        what="one call at a time",
        providers=("google",),
        refused=False,
        asks={
            "responses": (
                "parallel_tool_calls",
                {
                    "tools": [{"type": "function", "name": "t", "parameters": _SCHEMA}],
                    "parallel_tool_calls": False,
                },
            ),
            "chat": (
                "parallel_tool_calls",
                {"tools": [{"type": "function", "function": {"name": "t"}}], "parallel_tool_calls": False},
            ),
            "messages": (
                "tool_choice.disable_parallel_tool_use",
                {
                    "tools": [{"name": "t", "input_schema": _SCHEMA}],
                    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
                },
            ),
        },
    ),
    Loss(
        what="the signature of a call that Google's chat endpoint gave",
        providers=("openai", "anthropic"),
        refused=False,
        asks={
            "chat": (
                "messages[].tool_calls[].extra_content",
                {
                    "messages": [
                        _USER,
                        {
                            "role": "assistant",
                            "content": None,
                            "tool_calls": [
                                {
                                    "id": "c",
                                    "type": "function",
                                    "function": {"name": "t", "arguments": "{}"},
                                    "extra_content": {"google": {"thought_signature": "c2ln"}},
                                }
                            ],
                        },
                        {"role": "tool", "tool_call_id": "c", "content": "7"},
                    ]
                },
            )
        },
    ),
    Loss(
        what="that a tool failed",
        providers=("openai",),
        refused=False,
        asks={
            "messages": (
                "is_error",
                {
                    "messages": [
                        _USER,
                        {"role": "assistant", "content": [_CALL]},
                        {"role": "user", "content": [_FAILED]},
                    ]
                },
            )
        },
    ),
    Loss(
        what="an effort that the model does not know",
        providers=("anthropic", "google"),
        refused=False,
        asks={
            "responses": ("reasoning.effort", {"reasoning": {"effort": "minimal"}}),
            "chat": ("reasoning_effort", {"reasoning_effort": "minimal"}),
        },
    ),
    Loss(
        what="how much is told of a thought",
        providers=("anthropic", "google"),
        refused=False,
        asks={"responses": ("reasoning.summary", {"reasoning": {"summary": "detailed"}})},
    ),
    Loss(
        what="thinking between calls only",
        providers=("openai", *_CHATS, "google"),
        refused=False,
        asks={"messages": ("thinking.type", {"thinking": {"type": "between_tools"}})},
    ),
    Loss(
        what="instructions without a question",
        providers=("anthropic", "google"),
        refused=False,
        asks={
            "responses": ("input[].role", {"input": [{"role": "developer", "content": "s"}]}),
            "chat": ("messages[].role", {"messages": [{"role": "system", "content": "s"}]}),
        },
    ),
    Loss(
        what="instructions with an empty question",
        providers=("anthropic",),
        refused=False,
        asks={"responses": ("instructions", {"instructions": "s", "input": ""})},
    ),
    Loss(
        what="an image in instructions",
        providers=("anthropic", "google"),
        asks={
            "responses": (
                "input",
                {"input": [{"role": "developer", "content": [{"type": "input_image", "image_url": _PIXEL}]}, _USER]},
            ),
            "chat": (
                "messages",
                {
                    "messages": [
                        {"role": "system", "content": [{"type": "image_url", "image_url": {"url": _PIXEL}}]},
                        _USER,
                    ]
                },
            ),
        },
    ),
    Loss(
        what="what a format is for, where its schema says it",
        providers=("anthropic", "google"),
        refused=False,
        asks={
            "responses": (
                "text.format.description",
                {"text": {"format": {"type": "json_schema", "name": "n", "description": "d", "schema": _TOLD}}},
            ),
            "chat": (
                "response_format.json_schema.description",
                {
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"name": "n", "description": "d", "schema": _TOLD},
                    }
                },
            ),
        },
    ),
    Loss(
        what="where a system message stood",
        providers=("anthropic", "google"),
        refused=False,
        asks={
            "responses": (
                "input[].role",
                {"input": [_USER, {"role": "assistant", "content": "a"}, {"role": "system", "content": "s"}, _USER]},
            ),
            "chat": (
                "messages[].role",
                {"messages": [_USER, {"role": "assistant", "content": "a"}, {"role": "system", "content": "s"}, _USER]},
            ),
        },
    ),
    Loss(
        what="citations of documents",
        providers=("openai", *_CHATS, "google"),
        refused=False,
        asks={
            "messages": _said(
                "citations",
                "messages",
                {
                    "type": "document",
                    "citations": {"enabled": True},
                    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                },
            )
        },
    ),
    Loss(
        what="context management",
        providers=("openai", *_CHATS, "google"),
        refused=False,
        asks={"messages": ("context_management", {"context_management": {"edits": []}})},
    ),
    Loss(
        what="how an overlong input is cut",
        providers=(*_CHATS, "anthropic", "google"),
        refused=False,
        asks={"responses": ("truncation", {"truncation": "auto"})},
    ),
    Loss(
        what="safety settings",
        providers=("openai", *_CHATS, "anthropic"),
        refused=False,
        asks={
            "gemini": (
                "safetySettings",
                {"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]},
            )
        },
    ),
    Loss(
        what="predicted output",
        providers=("openai", "anthropic", "google"),
        refused=False,
        asks={"chat": ("prediction", {"prediction": {"type": "content", "content": "x"}})},
    ),
)
