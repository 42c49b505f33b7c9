"""The canonical request → the body of `generateContent` (protocol §5.1), and the way back by the decoder."""

from typing import Any, Final

import msgspec

from tidegate.dialects.codec import Losses, StreamDecoder, described_schema
from tidegate.dialects.dialect import Destination, Endpoint
from tidegate.dialects.gemini.contents import Contents
from tidegate.dialects.gemini.decoder import GeminiDecoder, decode_answer
from tidegate.dialects.gemini.model import GeminiModel
from tidegate.dialects.websearch import forced_search, read_web_search
from tidegate.wire import jsonio
from tidegate.wire.events import Event
from tidegate.wire.items import CanonicalRequest, HostedTool, Tool, ToolChoice

__all__ = ["GOOGLE_TOOLS", "GeminiUpstream"]

GOOGLE_TOOLS: Final = frozenset(
    {
        "codeExecution",
        "computerUse",
        "enterpriseWebSearch",
        "fileSearch",
        "googleMaps",
        "googleSearch",
        "googleSearchRetrieval",
        "mcpServers",
        "retrieval",
        "urlContext",
    }
)
"""Tools that Google runs itself, by their member of `tools[]`."""

MOST_CANDIDATES: Final = 8
"""The largest `candidateCount` (ai.google.dev/api/generate-content#GenerationConfig)."""

_TIERS: Final = {"default": "standard", "standard": "standard", "flex": "flex", "priority": "priority"}
_INT32: Final = 2**31
_AS_NEEDED: Final = -1
"""The `thinkingBudget` that the model finds itself (ai.google.dev/gemini-api/docs/thinking#set-budget)."""

_CONFIG: Final = (
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("max_output_tokens", "maxOutputTokens"),
    ("frequency_penalty", "frequencyPenalty"),
    ("presence_penalty", "presencePenalty"),
)


class _Grammar(msgspec.Struct):
    syntax: str = "lark"
    definition: str = ""


_grammar = jsonio.decoder(_Grammar)


class GeminiUpstream:
    """See :class:`tidegate.dialects.codec.UpstreamDialect`."""

    name: Endpoint = "gemini"

    def encode_request(self, request: CanonicalRequest, destination: Destination, losses: Losses) -> bytes:
        model = GeminiModel(destination.model)
        contents = Contents(request, model, losses)
        members: dict[str, Any] = {"contents": contents.build()}
        if contents.system:
            members["systemInstruction"] = {"parts": [{"text": text} for text in contents.system]}
        _put_tools(members, request, model, losses)
        config: dict[str, Any] = {}
        for name, theirs in _CONFIG:
            value = getattr(request, name)
            if value is not None and (name != "top_k" or request.limits_tokens):
                losses.put(config, theirs, value, name)
        _put_rest(config, request, losses)
        _put_format(config, request, losses)
        _put_thinking(config, request, model, losses)
        if config:
            members["generationConfig"] = config
        _put_service(members, request, losses)
        return jsonio.encode(members)

    def decoder(self, destination: Destination, request: CanonicalRequest) -> StreamDecoder:
        return GeminiDecoder(destination, request)

    def decode_answer(self, body: bytes, destination: Destination, request: CanonicalRequest) -> list[Event]:
        return decode_answer(body, destination, request)


def _put_tools(members: dict[str, Any], request: CanonicalRequest, model: GeminiModel, losses: Losses) -> None:
    choice = request.tool_choice or ToolChoice(mode="auto")
    declarations = [
        _declaration(tool, losses)
        for tool in request.tools
        if isinstance(tool, Tool) and (choice.mode != "allowed" or choice.required or tool.name in choice.names)
    ]
    alone = not declarations and (request.format is None or request.format.type == "text")
    tools = [
        made
        for tool in request.tools
        if isinstance(tool, HostedTool) and (made := _hosted(tool, losses, possible=alone or model.combines_tools))
    ]
    if declarations and request.parallel_tool_calls is False:
        losses.hint("parallel_tool_calls")  # it has no such switch, and what the model says is not cut
    config: dict[str, Any] = {}
    if declarations and tools:
        config["includeServerSideToolInvocations"] = True  # a 400 without it
    if declarations:
        tools.insert(0, {"functionDeclarations": declarations})
    if tools:
        members["tools"] = tools
    if forced_search(request) is not None:
        losses.hint("tool_choice")  # a question that needs a search will get one
    elif (calling := _calling(choice)) and declarations:
        config["functionCallingConfig"] = calling
    elif calling.get("mode") == "ANY":
        losses.refuse("tool_choice", "There is no tool to choose.")
    if config:
        members["toolConfig"] = config


def _calling(choice: ToolChoice) -> dict[str, Any]:
    """The `functionCallingConfig`; empty for what happens anyway."""
    if choice.mode == "none":
        return {"mode": "NONE"}
    if choice.mode in ("required", "function") or (choice.mode == "allowed" and choice.required):
        return {"mode": "ANY", **({"allowedFunctionNames": list(choice.names)} if choice.names else {})}
    return {}


def _hosted(tool: HostedTool, losses: Losses, *, possible: bool) -> Any:
    """The tool as Google has it; None where it has no such tool, or it is not `possible` beside the others."""
    search = None if tool.type in GOOGLE_TOOLS else read_web_search(tool)
    if search is None and tool.type not in GOOGLE_TOOLS:
        losses.hosted(tool, f"The tool '{tool.type}' is run by another provider.")
        return None
    if not possible:
        losses.hosted(tool, f"This model takes '{tool.type}' only alone, without functions and without a schema.")
        return None
    if search is None:
        return tool.value
    search.tell(losses, ("user_location", "search_context_size", "max_uses"), domains=False)
    return {"googleSearch": {}}


def _declaration(tool: Tool, losses: Losses) -> dict[str, Any]:
    """`parametersJsonSchema` takes JSON Schema as it is; the older `parameters` is a small subset of OpenAPI's."""
    declaration: dict[str, Any] = {"name": tool.name}
    description = tool.description
    if tool.custom:
        description = _with_grammar(tool, losses)
        schema: Any = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    else:
        schema = tool.parameters
        if tool.strict is True:
            losses.hint("strict")
    if tool.breakpoint:
        losses.hint("breakpoint")
    if description:
        declaration["description"] = description
    if schema and not (isinstance(schema, msgspec.Raw) and jsonio.is_null(schema)):
        declaration["parametersJsonSchema"] = schema
    return declaration


def _with_grammar(tool: Tool, losses: Losses) -> str:
    """No grammar is enforced here, so the model is at least told of it (protocol §5.1)."""
    if jsonio.is_null(tool.format):
        return tool.description
    try:
        grammar = jsonio.decode(tool.format, _grammar)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        grammar = _Grammar()
    if not grammar.definition:
        return tool.description
    losses.hint("grammar")
    told = f"The input must match this {grammar.syntax} grammar:\n{grammar.definition}"
    return f"{tool.description}\n\n{told}" if tool.description else told


def _put_rest(config: dict[str, Any], request: CanonicalRequest, losses: Losses) -> None:
    if request.stop:
        losses.put(config, "stopSequences", list(request.stop), "stop")
    if request.n > MOST_CANDIDATES:
        losses.refuse("n", f"Gemini gives at most {MOST_CANDIDATES} answers to a request.")
    elif request.n > 1:
        losses.put(config, "candidateCount", request.n, "n")
    if request.seed is not None:
        if -_INT32 <= request.seed < _INT32:
            losses.put(config, "seed", request.seed, "seed")
        else:
            losses.refuse("seed", "Gemini takes 32 bits.")
    if request.top_logprobs is not None:
        losses.put(config, "responseLogprobs", True, "top_logprobs")
        if request.top_logprobs and "responseLogprobs" in config:
            config["logprobs"] = request.top_logprobs
    if not jsonio.is_null(request.logit_bias) and bytes(request.logit_bias).strip() != b"{}":
        losses.refuse("logit_bias")
    if request.verbosity not in ("", "medium"):
        losses.hint("verbosity")


def _put_format(config: dict[str, Any], request: CanonicalRequest, losses: Losses) -> None:
    if request.format is None or request.format.type == "text":
        return
    config["responseMimeType"] = "application/json"
    if not jsonio.is_null(request.format.schema):
        config["responseJsonSchema"] = described_schema(request.format, losses)
    elif request.format.description:
        losses.hint("format.description")


def _put_thinking(config: dict[str, Any], request: CanonicalRequest, model: GeminiModel, losses: Losses) -> None:
    thinking: dict[str, Any] = {}
    effort, budget = request.effort, request.reasoning_budget
    if not model.thinks:
        if effort not in ("", "none"):
            losses.refuse("effort", "This model does not reason.")
        if budget:
            losses.refuse("reasoning_budget", "This model does not reason.")
        for name in ("reasons", "reasoning_summary"):
            if getattr(request, name):
                losses.hint(name)
        return
    off = effort == "none" or budget == 0
    if off and not model.can_stop_thinking:
        # Clients send `none` unasked; the least that the model can do is nearer to it than an error.
        losses.hint("effort" if effort == "none" else "reasoning_budget")
        effort, budget = "minimal", None
    if budget is not None:
        thinking["thinkingBudget"] = budget
        if effort and not off:
            losses.hint("effort")  # Google takes one of them
    elif effort and model.has_levels:
        thinking["thinkingLevel"] = model.level(effort)
        if effort == request.effort and thinking["thinkingLevel"].lower() != effort:
            losses.hint("effort")
    elif effort:
        thinking["thinkingBudget"] = model.budget(effort)
    elif request.reasons and not model.thinks_unasked:
        thinking["thinkingBudget"] = _AS_NEEDED
    if request.reasoning_summary not in ("", "auto"):
        losses.hint("reasoning_summary")  # how much is told of a thought is not for the client to say
    if request.reasoning_summary or (
        request.shows_thoughts and not off and (effort or budget or request.reasons or model.thinks_unasked)
    ):
        thinking["includeThoughts"] = True
    if thinking:
        config["thinkingConfig"] = thinking


def _put_service(members: dict[str, Any], request: CanonicalRequest, losses: Losses) -> None:
    """What changes no answer. Metadata and ids of users stay with the gateway: Google's `labels` are for bills."""
    if request.service_tier in _TIERS:
        losses.put(members, "serviceTier", _TIERS[request.service_tier], "service_tier")
    elif request.service_tier not in ("", "auto"):
        losses.hint("service_tier")
    for name in ("user", "safety_identifier", "metadata", "prompt_cache_key"):
        if getattr(request, name):
            losses.hint(name)
