"""Canonical requests → bodies for chat endpoints of OpenAI and of servers that follow it.

A chat message cannot hold all that an item can. What follows from that:

- Adjacent reasoning, text and calls of the assistant become one message, and the results of its calls stand right behind
  it, as the API asks.
- Images, files and audio that a tool returned, and images that the assistant made, go into a user message behind the
  results (protocol §5.1).
- `is_error` has no member: such a result begins with "Error: ".
- A custom tool becomes a function with one string, `input`, where the endpoint has functions only; its grammar stands in
  the description, where nobody enforces it. `decoder` turns its calls back.
- Annotations and logprobs of earlier answers are not sent: no model reads them.
- Reasoning goes back only as the provider gave it, or as plain text to one that asks for that (`Quirks.reasoning_back`).
"""

from typing import Any

import msgspec

from tidegate.dialects.chat.conversation import WRAPPED_INPUT, Conversation
from tidegate.dialects.chat.decoder import ChatDecoder, decode_chat_answer
from tidegate.dialects.codec import Losses
from tidegate.dialects.dialect import Destination, Endpoint, says_nothing
from tidegate.dialects.websearch import forced_search
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest
from tidegate.wire.events import Event
from tidegate.wire.items import CanonicalRequest, HostedTool, OutputFormat, Tool, ToolChoice

__all__ = ["ChatUpstream"]

_WRAPPED_PARAMETERS = {
    "type": "object",
    "properties": {WRAPPED_INPUT: {"type": "string"}},
    "required": [WRAPPED_INPUT],
    "additionalProperties": False,
}
_NO_PARAMETERS = {"type": "object", "properties": {}}
_OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_BUDGETS = ((2048, "low"), (16_384, "medium"))
"""Reasoning budgets in tokens, and the effort that is nearest."""


class ChatUpstream:
    """See :class:`tidegate.dialects.codec.UpstreamDialect`."""

    name: Endpoint = "chat"

    def encode_request(self, request: CanonicalRequest, destination: Destination, losses: Losses) -> bytes:
        members: dict[str, Any] = {
            "model": destination.model,
            "messages": Conversation(request, destination, losses).messages(),
            "stream": request.stream,
        }
        losses.prefill(request)
        if request.stream and destination.include_usage:
            members["stream_options"] = {"include_usage": True}
        _put_tools(members, request, destination, losses)
        _put_limit(members, request, destination, losses)
        _put_sampling(members, request, destination, losses)
        _put_reasoning(members, request, losses)
        if request.format is not None and request.format.type != "text":
            losses.put(members, "response_format", _response_format(request.format), "format")
        _put_hints(members, request, destination, losses)
        return jsonio.encode(members)

    def decoder(self, destination: Destination, request: CanonicalRequest) -> ChatDecoder:
        return ChatDecoder(destination, request)

    def decode_answer(self, body: bytes, destination: Destination, request: CanonicalRequest) -> list[Event]:
        return decode_chat_answer(body, destination, request)


# -- members ----------------------------------------------------------------------------------------------------


def _put_limit(members: dict[str, Any], request: CanonicalRequest, destination: Destination, losses: Losses) -> None:
    if request.max_output_tokens is None:
        return
    name: str = destination.quirks.max_tokens_name
    if name in destination.refuses:
        name = _OTHER_NAME[name]
    losses.put(members, name, request.max_output_tokens, "max_output_tokens")


def _put_sampling(members: dict[str, Any], request: CanonicalRequest, destination: Destination, losses: Losses) -> None:
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty"):
        value = getattr(request, name)
        if value is not None:
            losses.put(members, name, value, name)
    if request.top_k is not None and not destination.quirks.openai_chat:
        losses.put(members, "top_k", request.top_k, "top_k")
    elif request.limits_tokens:
        losses.refuse("top_k")
    if request.stop:
        losses.put(members, "stop", list(request.stop), "stop")
    if request.n > 1:
        losses.put(members, "n", request.n, "n")
    if request.logit_bias:
        losses.put(members, "logit_bias", request.logit_bias, "logit_bias")
    if request.top_logprobs is not None:
        losses.put(members, "logprobs", True, "top_logprobs")
        if request.top_logprobs and "logprobs" in members:
            losses.put(members, "top_logprobs", request.top_logprobs, "top_logprobs")


def _put_reasoning(members: dict[str, Any], request: CanonicalRequest, losses: Losses) -> None:
    effort = request.effort or ("medium" if request.reasons else "")
    budget = request.reasoning_budget
    if budget or (budget is not None and not effort):
        losses.hint("reasoning_budget")
        if budget > 0 and not effort:
            effort = next((effort for most, effort in _BUDGETS if budget <= most), "high")
    if effort:
        losses.put(members, "reasoning_effort", effort, "effort")
    if request.reasoning_summary:
        losses.hint("reasoning_summary")


def _put_hints(members: dict[str, Any], request: CanonicalRequest, destination: Destination, losses: Losses) -> None:
    """What shapes no answer, or only its manner: where it is not taken it is left out, and named."""
    for name in ("verbosity", "user", "safety_identifier", "service_tier", "prompt_cache_key"):
        value = getattr(request, name)
        if not value:
            continue
        if name not in destination.refuses:
            members[name] = value
        elif not says_nothing(name, jsonio.raw(value)):
            losses.hint(name)
    if request.metadata:
        # Chat takes metadata only with answers that the provider stores.
        losses.hint("metadata")


def _response_format(form: OutputFormat) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type}
    schema: dict[str, Any] = {"name": form.name}
    if form.description:
        schema["description"] = form.description
    if form.schema:
        schema["schema"] = form.schema
    if form.strict is not None:
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": schema}


# -- tools ------------------------------------------------------------------------------------------------------


def _put_tools(members: dict[str, Any], request: CanonicalRequest, destination: Destination, losses: Losses) -> None:
    official = destination.quirks.openai_chat
    choice = request.tool_choice
    allowed = choice.names if choice is not None and choice.mode == "allowed" and not official else None
    tools: list[dict[str, Any]] = []
    custom: set[str] = set()
    for tool in request.tools:
        if isinstance(tool, HostedTool) and tool.type == "web_search_options":
            losses.put(members, tool.type, tool.value, tool.type)
        elif isinstance(tool, HostedTool):
            losses.hosted(tool, f"A tool of type '{tool.type}' is run by the provider, and this one has none.")
        elif allowed is None or tool.name in allowed:
            tools.append(_tool(tool, request, destination, losses))
            if tool.custom and official:
                custom.add(tool.name)
    if not tools:
        if choice is not None and (choice.mode in ("required", "function") or choice.required):
            losses.refuse("tool_choice", "There is no tool to choose.")
        return
    losses.put(members, "tools", tools, "tools")
    if "tools" not in members:
        return
    if choice is not None and forced_search(request) is not None:
        losses.refuse("tool_choice", "It has no search of the web.")
    elif choice is not None:
        losses.put(members, "tool_choice", _choice(choice, custom, official=official), "tool_choice")
    if request.parallel_tool_calls is not None:
        losses.put(members, "parallel_tool_calls", request.parallel_tool_calls, "parallel_tool_calls")


def _choice(choice: ToolChoice, custom: set[str], *, official: bool) -> Any:
    match choice.mode:
        case "function":
            return _named(choice.names[0], custom)
        case "allowed" if official:
            names = [_named(name, custom) for name in choice.names]
            mode = "required" if choice.required else "auto"
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": names}}
        case "allowed":
            return "required" if choice.required else "auto"
        case _:
            return choice.mode


def _named(name: str, custom: set[str]) -> dict[str, Any]:
    if name in custom:
        return {"type": "custom", "custom": {"name": name}}
    return {"type": "function", "function": {"name": name}}


def _tool(tool: Tool, request: CanonicalRequest, destination: Destination, losses: Losses) -> dict[str, Any]:
    official = destination.quirks.openai_chat
    if tool.breakpoint:
        losses.hint("breakpoint")
    if tool.custom and official:
        custom: dict[str, Any] = {"name": tool.name}
        if tool.description:
            custom["description"] = tool.description
        grammar = _grammar(tool, request)
        if grammar is not None:
            nested = {"syntax": grammar.syntax, "definition": grammar.definition}
            custom["format"] = {"type": "grammar", "grammar": nested}
        return {"type": "custom", "custom": custom}
    function: dict[str, Any] = {"name": tool.name}
    if tool.custom:
        grammar = _grammar(tool, request)
        function["description"] = _wrapped_description(tool, grammar)
        if grammar is not None:
            losses.hint("grammar")
        function["parameters"] = _WRAPPED_PARAMETERS
        return {"type": "function", "function": function}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = tool.parameters
    elif not official:
        function["parameters"] = _NO_PARAMETERS
    if tool.strict:  # False is what the API does anyway
        function["strict"] = True
    return {"type": "function", "function": function}


class _Format(msgspec.Struct):
    type: str
    syntax: str = ""
    definition: str = ""


_format_decoder = jsonio.decoder(_Format)


def _grammar(tool: Tool, request: CanonicalRequest) -> _Format | None:
    """The grammar of a custom tool; None for plain text."""
    if not tool.format:
        return None
    try:
        given = jsonio.decode(tool.format, _format_decoder)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        param = request.names.get("tools", "tools")
        raise InvalidRequest(f"Invalid '{param}': the format of '{tool.name}': {error}.", param=param) from None
    return given if given.type == "grammar" else None


def _wrapped_description(tool: Tool, grammar: _Format | None) -> str:
    said = [tool.description] if tool.description else []
    said.append(f"'{WRAPPED_INPUT}' is the tool's whole input as free text.")
    if grammar is not None:
        said.append(f"It must match this {grammar.syntax} grammar:\n{grammar.definition}")
    return "\n\n".join(said)
