"""What an answer of each provider's API may hold beside its words, and which clients of other APIs do not get it.

The tests send each member with a mark in it through the bridge and look where the mark comes out, and hold the tables of
docs/{en,zh}/translation.md to the same list. Text, thoughts, calls and usage can never stand here as lost.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import anthropic.types as of_anthropic
import msgspec
import openai.types as of_openai
import openai.types.chat as of_chat
import openai.types.completion_usage as of_usage
import openai.types.responses as of_responses
from google.genai import types as of_google
from openai.types.chat.chat_completion import Choice, ChoiceLogprobs
from pydantic import BaseModel

from tests.dialects.chat import playing
from tests.dialects.common import frame, numbered
from tests.dialects.gemini import samples
from tests.dialects.messages import streams

__all__ = ["ANSWERS", "AUDITED", "CARRIED", "CLIENTS", "MARK", "MEMBERS", "NUMBER", "Member"]

MARK: Final = "Lodestar"
"""Stands in the member; the answer says nothing of it elsewhere."""

NUMBER: Final = 987_654
"""The same for numbers."""

CLIENTS: Final = ("responses", "chat", "messages", "gemini")
"""Text completions are only text: their own tests tell."""

ANSWERS: Final[dict[str, Any]] = {
    "responses": {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "tide-1",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "output": [
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "潮汐", "annotations": [], "logprobs": []}],
            },
            {
                "id": "fc_1",
                "type": "function_call",
                "call_id": "c1",
                "name": "tide",
                "arguments": "{}",
                "status": "completed",
            },
        ],
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 12,
        },
    },
    "chat": json.loads(
        playing.answer(
            {
                "content": "潮汐",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "tide", "arguments": "{}"}}],
            },
            "tool_calls",
            usage={"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        )
    ),
    "messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5",
        "content": [{"type": "text", "text": "潮汐"}, {"type": "tool_use", "id": "c1", "name": "tide", "input": {}}],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 7},
    },
    "gemini": samples.chunk(
        samples.candidate(
            {"text": "潮汐"}, {"functionCall": {"id": "c1", "name": "tide", "args": {}}}, finishReason="STOP"
        ),
        usageMetadata=samples.USAGE,
    ),
}
"""An answer of each provider, without any of the members."""


class Member(msgspec.Struct, frozen=True):
    """One member of a provider's answer: where it stands in `ANSWERS`, a value with the mark, and who gets the mark."""

    provider: str
    name: str
    """As the documentation has it."""
    path: tuple[str | int, ...]
    value: Any
    gets: tuple[str, ...] = ()
    late: bool = False
    """A source that is named behind the text: a stream of Anthropic's has no place for it any more."""

    @property
    def lost_on(self) -> set[str]:
        return set(CLIENTS) - {self.provider} - set(self.gets)

    def answer(self) -> bytes:
        """The answer with the member. A place behind the end of a list is a new element."""
        body = json.loads(json.dumps(ANSWERS[self.provider]))
        inner = body
        *way, last = self.path
        for step in way:
            inner = inner.setdefault(step, {}) if isinstance(inner, dict) else inner[step]
        if isinstance(inner, list) and last == len(inner):
            inner.append(self.value)
        else:
            inner[last] = self.value
        return json.dumps(body, ensure_ascii=False).encode()

    def stream(self) -> bytes:
        """The same as a stream."""
        return _STREAMS[self.provider](json.loads(self.answer()))


def _of_responses(body: dict[str, Any]) -> bytes:
    begun = {**body, "output": [], "status": "in_progress"}
    return numbered({"type": "response.created", "response": begun}, {"type": "response.completed", "response": body})


def _of_chat(body: dict[str, Any]) -> bytes:
    for choice in body["choices"]:
        choice["delta"] = choice.pop("message")
        for place, called in enumerate(choice["delta"]["tool_calls"]):
            called["index"] = place
    return frame({**body, "object": "chat.completion.chunk"}) + playing.DONE


def _of_messages(body: dict[str, Any]) -> bytes:
    out = streams.frame("message_start", message={**body, "content": [], "stop_reason": None})
    for place, block in enumerate(body["content"]):
        deltas: list[dict[str, Any]] = []
        if block["type"] == "text":
            deltas = [{"type": "text_delta", "text": block["text"]}]
            deltas += [{"type": "citations_delta", "citation": one} for one in block.get("citations", ())]
            block = {"type": "text", "text": ""}
        out += streams.block(place, block, *deltas)
    names = ("stop_reason", "stop_details", "container", "context_management")
    delta = {name: body[name] for name in names if name in body}
    return out + streams.frame("message_delta", delta=delta, usage=body["usage"]) + streams.frame("message_stop")


_STREAMS: Final[dict[str, Callable[[dict[str, Any]], bytes]]] = {
    "responses": _of_responses,
    "chat": _of_chat,
    "messages": _of_messages,
    "gemini": samples.frames,
}


_MESSAGE: Final = ("choices", 0, "message")
_TEXT: Final = ("output", 0, "content", 0)
_CANDIDATE: Final = ("candidates", 0)
_URL: Final = f"https://{MARK}.example"
_TOKEN: Final = {"token": MARK, "logprob": -0.5, "bytes": None, "top_logprobs": []}
_GROUNDED: Final = {"groundingSupports": [{"segment": {"endIndex": 3}, "groundingChunkIndices": [0]}]}
_ASKERS: Final = ("responses", "chat", "messages", "gemini")


def _item(kind: str, **members: Any) -> dict[str, Any]:
    return {"id": "it_1", "type": kind, "status": "completed", **members}


def _annotation(kind: str, **members: Any) -> list[Any]:
    return [{"type": kind, "index": 0, "start_index": 0, "end_index": 2, **members}]


def _cited(kind: str, **members: Any) -> list[Any]:
    return [{"type": kind, "cited_text": "x", "document_index": 0, "document_title": "t", **members}]


def _web(**members: Any) -> list[Any]:
    return _cited(
        "web_search_result_location", **{"url": "https://a.example", "title": "t", "encrypted_index": "e"} | members
    )


MEMBERS: Final = (
    # -- Responses
    Member("responses", "service_tier", ("service_tier",), MARK, ("chat",)),
    Member("responses", "moderation", ("moderation",), {"output": {"model": MARK}}),
    Member("responses", "prompt_cache_diagnostics", ("prompt_cache_diagnostics",), {"reason": MARK}),
    Member("responses", "tool_usage", ("tool_usage",), {"web_search": {"num_requests": NUMBER}}),
    Member("responses", "phase", ("output", 0, "phase"), MARK),
    Member("responses", "caller", ("output", 1, "caller"), {"type": "program", "caller_id": MARK}),
    Member("responses", "url_citation", (*_TEXT, "annotations"), _annotation("url_citation", url=_URL, title="t"), _ASKERS),
    Member("responses", "file_citation", (*_TEXT, "annotations"), _annotation("file_citation", file_id=MARK, filename="f")),
    Member("responses", "container_file_citation", (*_TEXT, "annotations"), _annotation("container_file_citation", container_id="c", file_id=MARK, filename="f")),
    Member("responses", "file_path", (*_TEXT, "annotations"), _annotation("file_path", file_id=MARK)),
    Member("responses", "logprobs", (*_TEXT, "logprobs"), [_TOKEN], ("chat", "gemini")),
    Member("responses", "web_search_call", ("output", 2), _item("web_search_call", action={"type": "search", "query": MARK}), ("gemini",)),
    Member("responses", "file_search_call", ("output", 2), _item("file_search_call", queries=[MARK], results=None)),
    Member("responses", "mcp_call", ("output", 2), _item("mcp_call", server_label="s", name="n", arguments="{}", output=MARK)),
    Member("responses", "code_interpreter_call", ("output", 2), _item("code_interpreter_call", code=MARK, container_id="c", outputs=[]), ("gemini",)),
    Member("responses", "image_generation_call", ("output", 2), _item("image_generation_call", result=MARK), ("chat", "messages", "gemini")),
    Member("responses", "revised_prompt", ("output", 2), _item("image_generation_call", result="aGk=", revised_prompt=MARK)),
    Member("responses", "async", ("output", 1, "async"), MARK),
    # -- chat
    Member("chat", "system_fingerprint", ("system_fingerprint",), MARK),
    Member("chat", "service_tier", ("service_tier",), MARK, ("responses",)),
    Member("chat", "moderation", ("moderation",), {"output": {"model": MARK}}),
    Member("chat", "metadata", ("metadata",), {"a": MARK}),
    Member("chat", "provider_specific", ("provider_specific",), MARK),
    Member("chat", "logprobs.content", ("choices", 0, "logprobs"), {"content": [_TOKEN]}, ("responses", "gemini")),
    Member("chat", "logprobs.refusal", ("choices", 0, "logprobs"), {"refusal": [_TOKEN]}),
    Member("chat", "audio", (*_MESSAGE, "audio"), {"id": "a", "data": "aGk=", "transcript": MARK, "expires_at": 1}),
    Member("chat", "url_citation", (*_MESSAGE, "annotations"), [{"type": "url_citation", "url_citation": {"url": _URL, "title": "t", "start_index": 0, "end_index": 2}}], _ASKERS),
    Member("chat", "citations", ("citations",), [_URL], _ASKERS, late=True),
    Member("chat", "file_citation", (*_MESSAGE, "annotations"), _annotation("file_citation", file_id=MARK, filename="f"), ("responses",)),
    Member("chat", "document_url", (*_MESSAGE, "content"), [{"type": "text", "text": "潮"}, {"type": "document_url", "document_url": NUMBER}]),
    Member("chat", "reference", (*_MESSAGE, "content"), [{"type": "text", "text": "潮"}, {"type": "reference", "reference_ids": [NUMBER]}]),
    Member("chat", "images", (*_MESSAGE, "images"), [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{MARK}"}}], _ASKERS),
    Member("chat", "reasoning", (*_MESSAGE, "reasoning"), MARK, _ASKERS),
    Member("chat", "refusal", (*_MESSAGE, "refusal"), MARK, _ASKERS),
    Member("chat", "accepted_prediction_tokens", ("usage", "completion_tokens_details"), {"accepted_prediction_tokens": NUMBER}),
    Member("chat", "rejected_prediction_tokens", ("usage", "completion_tokens_details"), {"rejected_prediction_tokens": NUMBER}),
    Member("chat", "audio_tokens", ("usage", "prompt_tokens_details"), {"audio_tokens": NUMBER}),
    Member("chat", "image_tokens", ("usage", "prompt_tokens_details"), {"image_tokens": NUMBER}),
    # -- Anthropic
    Member("messages", "container", ("container",), {"id": MARK, "expires_at": "x"}),
    Member("messages", "context_management", ("context_management",), {"applied_edits": [{"type": MARK}]}),
    Member("messages", "diagnostics", ("diagnostics",), {"cache_miss_reason": {"type": MARK}}),
    Member("messages", "stop_details.category", ("stop_details",), {"type": "refusal", "category": MARK}),
    Member("messages", "cited_text", ("content", 0, "citations"), _web(cited_text=MARK)),
    Member("messages", "encrypted_index", ("content", 0, "citations"), _web(encrypted_index=MARK)),
    Member("messages", "web_search_result_location", ("content", 0, "citations"), _web(url=_URL), _ASKERS),
    Member("messages", "search_result_location", ("content", 0, "citations"), _cited("search_result_location", source=_URL, search_result_index=0), _ASKERS),
    Member("messages", "char_location", ("content", 0, "citations"), _cited("char_location", document_title=MARK)),
    Member("messages", "page_location", ("content", 0, "citations"), _cited("page_location", document_title=MARK)),
    Member("messages", "content_block_location", ("content", 0, "citations"), _cited("content_block_location", document_title=MARK)),
    Member("messages", "file_id", ("content", 0, "citations"), _cited("char_location", file_id=MARK), ("responses",)),
    Member("messages", "caller", ("content", 1, "caller"), {"type": "code_execution_20260120", "tool_id": MARK}),
    Member("messages", "server_tool_use", ("content", 2), {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {"code": MARK}}, ("responses",)),
    Member("messages", "container_upload", ("content", 2), {"type": "container_upload", "file_id": MARK}, ("responses",)),
    Member("messages", "usage.server_tool_use", ("usage", "server_tool_use"), {"web_search_requests": NUMBER}),
    Member("messages", "usage.service_tier", ("usage", "service_tier"), MARK, ("responses", "chat")),
    Member("messages", "inference_geo", ("usage", "inference_geo"), MARK),
    Member("messages", "speed", ("usage", "speed"), MARK),
    Member("messages", "toolset_name", ("content", 1, "toolset_name"), MARK),
    # -- Gemini
    Member("gemini", "safetyRatings", (*_CANDIDATE, "safetyRatings"), [{"category": MARK, "probability": "LOW"}]),
    Member("gemini", "avgLogprobs", (*_CANDIDATE, "avgLogprobs"), -NUMBER),
    Member("gemini", "tokenCount", (*_CANDIDATE, "tokenCount"), NUMBER),
    Member("gemini", "finishMessage", (*_CANDIDATE, "finishMessage"), MARK),
    Member("gemini", "urlContextMetadata", (*_CANDIDATE, "urlContextMetadata"), {"urlMetadata": [{"retrievedUrl": _URL}]}),
    Member("gemini", "logprobsResult", (*_CANDIDATE, "logprobsResult"), {"chosenCandidates": [{"token": MARK, "logProbability": -1}]}, ("responses", "chat")),
    Member("gemini", "logProbabilitySum", (*_CANDIDATE, "logprobsResult"), {"logProbabilitySum": NUMBER}),
    Member("gemini", "tokenId", (*_CANDIDATE, "logprobsResult"), {"chosenCandidates": [{"token": "t", "tokenId": NUMBER, "logProbability": -1}]}),
    Member("gemini", "citationMetadata", (*_CANDIDATE, "citationMetadata"), {"citations": [{"uri": _URL, "endIndex": 3}]}, _ASKERS, late=True),
    Member("gemini", "license", (*_CANDIDATE, "citationMetadata"), {"citations": [{"uri": "https://a", "license": MARK}]}),
    Member("gemini", "publicationDate", (*_CANDIDATE, "citationMetadata"), {"citations": [{"uri": "https://a", "publicationDate": {"year": NUMBER}}]}),
    Member("gemini", "groundingChunks.web", (*_CANDIDATE, "groundingMetadata"), {**_GROUNDED, "groundingChunks": [{"web": {"uri": _URL}}]}, _ASKERS, late=True),
    Member("gemini", "groundingChunks.maps", (*_CANDIDATE, "groundingMetadata"), {**_GROUNDED, "groundingChunks": [{"maps": {"uri": _URL}}]}, _ASKERS, late=True),
    Member("gemini", "groundingChunks.retrievedContext", (*_CANDIDATE, "groundingMetadata"), {**_GROUNDED, "groundingChunks": [{"retrievedContext": {"uri": _URL}}]}, _ASKERS, late=True),
    Member("gemini", "groundingChunks.image", (*_CANDIDATE, "groundingMetadata"), {**_GROUNDED, "groundingChunks": [{"image": {"sourceUri": _URL, "imageUri": _URL}}]}),
    Member("gemini", "confidenceScores", (*_CANDIDATE, "groundingMetadata"), {"groundingChunks": [{"web": {"uri": "https://a"}}], "groundingSupports": [{"segment": {"endIndex": 3}, "groundingChunkIndices": [0], "confidenceScores": [NUMBER]}]}),
    Member("gemini", "webSearchQueries", (*_CANDIDATE, "groundingMetadata"), {"webSearchQueries": [MARK]}, ("responses",)),
    Member("gemini", "imageSearchQueries", (*_CANDIDATE, "groundingMetadata"), {"imageSearchQueries": [MARK]}),
    Member("gemini", "retrievalQueries", (*_CANDIDATE, "groundingMetadata"), {"retrievalQueries": [MARK]}),
    Member("gemini", "searchEntryPoint", (*_CANDIDATE, "groundingMetadata"), {"searchEntryPoint": {"renderedContent": MARK}}),
    Member("gemini", "googleMapsWidgetContextToken", (*_CANDIDATE, "groundingMetadata"), {"googleMapsWidgetContextToken": MARK}),
    Member("gemini", "sourceFlaggingUris", (*_CANDIDATE, "groundingMetadata"), {"sourceFlaggingUris": [{"flagContentUri": _URL}]}),
    Member("gemini", "retrievalMetadata", (*_CANDIDATE, "groundingMetadata"), {"retrievalMetadata": {"googleSearchDynamicRetrievalScore": NUMBER}}),
    Member("gemini", "renderedParts", (*_CANDIDATE, "groundingMetadata"), {"groundingSupports": [{"renderedParts": [NUMBER]}]}),
    Member("gemini", "continuationToken", (*_CANDIDATE, "continuationToken"), MARK),
    Member("gemini", "promptFeedback", ("promptFeedback",), {"safetyRatings": [{"category": MARK}]}),
    Member("gemini", "modelStatus", ("modelStatus",), {"message": MARK}),
    Member("gemini", "createTime", ("createTime",), MARK),
    Member("gemini", "trafficType", ("usageMetadata", "trafficType"), MARK),
    Member("gemini", "promptTokensDetails", ("usageMetadata", "promptTokensDetails"), [{"modality": "AUDIO", "tokenCount": NUMBER}]),
    Member("gemini", "candidatesTokensDetails", ("usageMetadata", "candidatesTokensDetails"), [{"modality": "IMAGE", "tokenCount": NUMBER}]),
    Member("gemini", "partMetadata", (*_CANDIDATE, "content", "parts", 0, "partMetadata"), {"a": MARK}),
    Member("gemini", "speechMetadata", (*_CANDIDATE, "content", "parts", 0, "speechMetadata"), {"style": MARK}),
    Member("gemini", "fileData", (*_CANDIDATE, "content", "parts", 2), {"fileData": {"fileUri": _URL}}, ("responses",)),
    Member("gemini", "inlineData", (*_CANDIDATE, "content", "parts", 2), {"inlineData": {"mimeType": "audio/wav", "data": MARK}}, ("responses",)),
    Member("gemini", "executableCode", (*_CANDIDATE, "content", "parts", 2), {"executableCode": {"language": "PYTHON", "code": MARK}}, ("responses",)),
    Member("gemini", "toolCall", (*_CANDIDATE, "content", "parts", 2), {"toolCall": {"id": "1", "toolType": MARK}}, ("responses",)),
)  # fmt: skip

AUDITED: Final[dict[str, tuple[type[BaseModel], ...]]] = {
    "responses": (
        of_responses.Response,
        of_responses.ResponseOutputMessage,
        of_responses.ResponseOutputText,
        of_responses.ResponseFunctionToolCall,
        of_responses.ResponseCustomToolCall,
        of_responses.ResponseReasoningItem,
    ),
    "chat": (
        of_chat.ChatCompletion,
        Choice,
        ChoiceLogprobs,
        of_chat.ChatCompletionMessage,
        of_openai.CompletionUsage,
        of_usage.CompletionTokensDetails,
        of_usage.PromptTokensDetails,
    ),
    "messages": (
        of_anthropic.Message,
        of_anthropic.TextBlock,
        of_anthropic.ThinkingBlock,
        of_anthropic.RedactedThinkingBlock,
        of_anthropic.ToolUseBlock,
        of_anthropic.CitationCharLocation,
        of_anthropic.CitationPageLocation,
        of_anthropic.CitationContentBlockLocation,
        of_anthropic.CitationsWebSearchResultLocation,
        of_anthropic.CitationsSearchResultLocation,
        of_anthropic.RefusalStopDetails,
        of_anthropic.Usage,
    ),
    "gemini": (
        of_google.GenerateContentResponse,
        of_google.Candidate,
        of_google.Content,
        of_google.Part,
        of_google.FunctionCall,
        of_google.Citation,
        of_google.GroundingMetadata,
        of_google.GroundingChunk,
        of_google.GroundingSupport,
        of_google.LogprobsResult,
        of_google.LogprobsResultCandidate,
        of_google.GenerateContentResponsePromptFeedback,
        of_google.GenerateContentResponseUsageMetadata,
    ),
}
"""The official types of an answer. A member that comes to one of them is to be carried, or to stand on the list above."""

CARRIED: Final[dict[str, frozenset[str]]] = {
    # What the response repeats of the request; the client's own response says what the client asked.
    "responses": frozenset(
        [
            "access_programs",
            "background",
            "completed_at",
            "conversation",
            "image",
            "input_transformations",
            "instructions",
            "max_output_tokens",
            "max_tool_calls",
            "metadata",
            "parallel_tool_calls",
            "previous_response_id",
            "prompt",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "reasoning",
            "safety_identifier",
            "temperature",
            "tool_choice",
            "tools",
            "top_p",
            "truncation",
            "user",
        ]
    )
    | {"summary", "encrypted_content", "input", "namespace"},
    "chat": frozenset({"function_call", "reasoning_tokens", "cache_write_tokens", "cached_tokens", "text_tokens"}),
    "messages": frozenset(
        [
            "thinking",
            "signature",
            "data",
            "explanation",
            "cache_creation",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "output_tokens_details",
        ]
    )
    # Places in a document, or a result, whose citation is lost or has only its address.
    | frozenset(
        f"{side}_{place}" for side in ("start", "end") for place in ("char_index", "page_number", "block_index")
    ),
    # The SDK's own; calls in pieces, which come only to who asks for them; kinds of parts, which a Responses client sees
    # whatever they are.
    "gemini": frozenset({"sdkHttpResponse", "automaticFunctionCallingHistory", "parsed", "partialArgs", "willContinue"})
    | frozenset(
        [
            "audioTranscription",
            "codeExecutionResult",
            "functionResponse",
            "toolResponse",
            "thought",
            "thoughtSignature",
            "mediaResolution",
            "mediaProcessing",
            "videoMetadata",
            "documentMetadata",
            "spreadsheetMetadata",
            "audioMetadata",
        ]
    )
    | frozenset(
        [
            "startIndex",
            "title",
            "topCandidates",
            "blockReason",
            "blockReasonMessage",
            "cacheTokensDetails",
            "cachedContentTokenCount",
            "thoughtsTokenCount",
            "toolUsePromptTokenCount",
            "toolUsePromptTokensDetails",
        ]
    ),
}
"""Members of these types that the tests of the dialects prove to be carried, or that say nothing to anybody else."""
