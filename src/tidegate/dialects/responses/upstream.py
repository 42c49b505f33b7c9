"""Canonical request → the body of `POST /v1/responses`, for providers that speak nothing else (S67)."""

from typing import Any, Final

import msgspec

from tidegate.dialects.codec import Losses
from tidegate.dialects.dialect import Destination, Endpoint
from tidegate.dialects.responses.decoder import ResponsesDecoder, decode_answer
from tidegate.dialects.responses.foreign import is_foreign_search, is_foreign_type
from tidegate.dialects.responses.prompt import ID_NEEDED
from tidegate.dialects.responses.tools import flat_name
from tidegate.dialects.websearch import CALL, forced_search, read_web_search
from tidegate.wire import jsonio
from tidegate.wire.events import Event
from tidegate.wire.items import (
    AudioPart,
    CanonicalRequest,
    FilePart,
    FunctionCall,
    FunctionOutput,
    HostedTool,
    ImagePart,
    Item,
    Message,
    OpaqueItem,
    OpaquePart,
    OutputFormat,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    Tool,
)

__all__ = ["ResponsesUpstream"]

_ENCRYPTED: Final = "reasoning.encrypted_content"
_LOGPROBS: Final = "message.output_text.logprobs"
_NO_PARAMETERS = jsonio.raw({"type": "object", "properties": {}})
_NO_ANNOTATIONS: Final[list[msgspec.Raw]] = []

_EFFORTS: Final = ((0, "none"), (1024, "minimal"), (4096, "low"), (16384, "medium"))
"""Budgets of reasoning tokens, and the effort that stands for at most so many; above the last it is high."""

_USUAL: Final = "medium"
"""The effort where reasoning is wanted and nothing says how much: some models do none unless told."""

_HOSTED: Final = frozenset(
    {
        "apply_patch", "code_interpreter", "computer", "computer_use_preview", "file_search", "image_generation",
        "local_shell", "mcp", "programmatic_tool_calling", "shell", "tool_search", "web_search",
        "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11",
    }
)  # fmt: skip
"""Tools that providers of Responses run themselves (protocol §1.5). Other dialects' have other types."""

_OPAQUE_PARTS: Final = frozenset({"input_text", "input_image", "input_file", "input_audio", "output_text", "refusal"})


class ResponsesUpstream:
    """See :class:`tidegate.dialects.codec.UpstreamDialect`."""

    name: Endpoint = "responses"

    def encode_request(self, request: CanonicalRequest, destination: Destination, losses: Losses) -> bytes:
        members: dict[str, Any] = {"model": destination.model, "input": _items(request, destination, losses)}
        losses.prefill(request)
        if request.instructions:
            losses.put(members, "instructions", request.instructions, "instructions")
        _put_tools(members, request, losses)
        _put_reasoning(members, request, destination, losses)
        text: dict[str, Any] = {}
        if request.format is not None:
            text["format"] = _format(request.format)
        if request.verbosity:
            text["verbosity"] = request.verbosity
        if text:
            losses.put(members, "text", text, "format" if request.format is not None else "verbosity")
        include = []
        if request.top_logprobs is not None:
            include.append(_LOGPROBS)
            if request.top_logprobs:
                losses.put(members, "top_logprobs", request.top_logprobs, "top_logprobs")
        if (
            destination.encrypted_reasoning
            and "include" not in destination.refuses
            and ("reasoning" in members or _has_reasoning(request))
        ):
            include.append(_ENCRYPTED)
        if include:
            losses.put(members, "include", include, "top_logprobs")
        for name in ("max_output_tokens", "temperature", "top_p", "parallel_tool_calls"):
            value = getattr(request, name)
            if value is not None:
                losses.put(members, name, value, name)
        for name in ("user", "safety_identifier", "service_tier", "prompt_cache_key"):
            value = getattr(request, name)
            if value:
                _put_hint(members, name, value, destination, losses)
        if request.metadata and request.client != "responses":  # the gateway keeps that of its own responses
            losses.hint("metadata")
        _refuse_what_is_lacking(request, losses)
        if destination.stores:
            members["store"] = False
        members["stream"] = request.stream
        return jsonio.encode(members)

    def decoder(self, destination: Destination, request: CanonicalRequest) -> ResponsesDecoder:
        return ResponsesDecoder(destination)

    def decode_answer(self, body: bytes, destination: Destination, request: CanonicalRequest) -> list[Event]:
        return decode_answer(body, destination)


def _put_hint(members: dict[str, Any], name: str, value: Any, destination: Destination, losses: Losses) -> None:
    """What says who asks, how fast and from which cache changes no answer: a deployment without it goes without."""
    if name in destination.refuses:
        losses.hint(name)
    else:
        members[name] = value


def _refuse_what_is_lacking(request: CanonicalRequest, losses: Losses) -> None:
    """Members that this API has none for (protocol §1.2)."""
    if request.stop:
        losses.refuse("stop")
    if request.n > 1:
        losses.refuse("n", "It gives one answer to a request; send the request once for each.")
    if request.logit_bias and bytes(request.logit_bias) != b"{}":
        losses.refuse("logit_bias")
    for name in ("frequency_penalty", "presence_penalty"):
        if getattr(request, name):
            losses.refuse(name)
    if request.seed is not None:
        losses.refuse("seed")
    if request.limits_tokens:
        losses.refuse("top_k")


# -- tools, formats, reasoning ----------------------------------------------------------------------------------


def _put_tools(members: dict[str, Any], request: CanonicalRequest, losses: Losses) -> None:
    tools = []
    for tool in request.tools:
        if isinstance(tool, Tool):
            tools.append(_tool(tool, losses))
        elif (hosted := _hosted(tool, losses)) is not None:
            tools.append(hosted)
        else:
            losses.hosted(tool, f"Tools of type '{tool.type}' are another API's.")
    if tools:
        losses.put(members, "tools", tools, "tools")
    choice = request.tool_choice
    if choice is None:
        return
    kinds = {tool.name: "custom" if tool.custom else "function" for tool in request.tools if isinstance(tool, Tool)}
    named = [{"type": kinds.get(name, "function"), "name": name} for name in choice.names]
    value: Any = choice.mode
    if (search := forced_search(request)) is not None:
        value = {"type": search.type if search.type in _HOSTED else "web_search"}
    elif choice.mode == "function":
        value = named[0] if named else "required"
    elif choice.mode == "allowed":
        value = {"type": "allowed_tools", "mode": "required" if choice.required else "auto", "tools": named}
    losses.put(members, "tool_choice", value, "tool_choice")


def _tool(tool: Tool, losses: Losses) -> dict[str, Any]:
    if tool.breakpoint:
        losses.hint("breakpoint")
    members: dict[str, Any] = {"type": "custom" if tool.custom else "function", "name": tool.name}
    if tool.description:
        members["description"] = tool.description
    if tool.custom:
        if tool.format:
            members["format"] = tool.format
        return members
    members["parameters"] = tool.parameters or _NO_PARAMETERS
    # Left out, this API rewrites the schema into a strict one; for chat and Anthropic it is not strict unless said.
    members["strict"] = tool.strict is True
    return members


def _hosted(tool: HostedTool, losses: Losses) -> Any:
    """The tool as this API has it; None where it has no such tool. A search of the web is the one that all have."""
    if tool.type in _HOSTED:
        return tool.value
    search = read_web_search(tool)
    if search is None:
        return None
    members: dict[str, Any] = {"type": "web_search"}
    filters = {name: domains for name in ("allowed_domains", "blocked_domains") if (domains := getattr(search, name))}
    if filters:
        members["filters"] = filters
    if search.user_location:
        members["user_location"] = search.user_location
    if search.search_context_size:
        members["search_context_size"] = search.search_context_size
    search.tell(losses, ("max_uses",))
    return members


def _format(given: OutputFormat) -> dict[str, Any]:
    members: dict[str, Any] = {"type": given.type}
    if given.type == "json_schema":
        members["name"] = given.name or "answer"
        if given.description:
            members["description"] = given.description
        members["schema"] = given.schema or {}
        if given.strict is not None:
            members["strict"] = given.strict
    return members


def _put_reasoning(
    members: dict[str, Any], request: CanonicalRequest, destination: Destination, losses: Losses
) -> None:
    reasoning = {}
    effort, name = request.effort, "effort"
    if request.reasoning_budget is not None:
        if not effort:
            name = "reasoning_budget"
            effort = next((word for most, word in _EFFORTS if request.reasoning_budget <= most), "high")
        if request.reasoning_budget:
            losses.hint("reasoning_budget")
    if request.reasons and "reasoning" in destination.refuses:
        losses.hint("reasons")
    elif request.reasons:
        effort, name = _USUAL, "reasons"
    if effort:
        reasoning["effort"] = effort
    if request.reasoning_summary:
        reasoning["summary"] = request.reasoning_summary
        if "reasoning" in destination.refuses and not effort:
            losses.hint("reasoning_summary")
            return
    if reasoning:
        losses.put(members, "reasoning", reasoning, name)


def _has_reasoning(request: CanonicalRequest) -> bool:
    return any(isinstance(item, Reasoning) and item.seal is not None for item in request.items)


# -- items ------------------------------------------------------------------------------------------------------


def _items(request: CanonicalRequest, destination: Destination, losses: Losses) -> list[Any]:
    """The items in their order, without ids: a stateless provider would look them up (protocol §1.4)."""
    found = []
    for item in request.items:
        written = _item(item, destination, losses)
        if written is not None:
            found.append(written)
    return found


def _item(item: Item, destination: Destination, losses: Losses) -> Any:
    match item:
        case Message():
            if item.name:
                losses.hint("name")
            members: dict[str, Any] = {"type": "message", "role": item.role}
            members["content"] = _parts(item.content, losses, answer=item.role == "assistant")
            if item.content and not members["content"]:
                return None  # all of it was left out
            if item.phase:
                members["phase"] = item.phase
            return members
        case FunctionCall():
            name = flat_name(item.namespace, item.name) if item.namespace else item.name
            head = {"call_id": item.call_id, "name": name}
            if item.custom:
                return {"type": "custom_tool_call", **head, "input": item.arguments}
            return {"type": "function_call", **head, "arguments": item.arguments or "{}"}
        case FunctionOutput():
            if item.is_error:
                losses.hint("is_error")
            kind = "custom_tool_call_output" if item.custom else "function_call_output"
            return {"type": kind, "call_id": item.call_id, "output": _returned(item.content, losses)}
        case Reasoning():
            return _reasoning(item, destination, losses)
        case OpaqueItem():
            return _opaque(item, losses)


def _returned(parts: list[Part], losses: Losses) -> Any:
    """A plain text stays one: not every provider takes parts here."""
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], TextPart) and not parts[0].breakpoint:
        return parts[0].text
    return _parts(parts, losses, answer=False)


def _reasoning(item: Reasoning, destination: Destination, losses: Losses) -> Any:
    """What this provider said goes back as it came, whatever the client made of it. Without a seal, a provider that seals
    has no use for the item, and would look for it in its store; one that reads plain reasoning gets it."""
    seal = item.seal
    if seal is not None and seal.kind == "reasoning_item":
        return {"type": "reasoning", "summary": [], **jsonio.members(seal.data.encode())}
    if seal is not None and seal.kind == "encrypted" and seal.text:
        words = jsonio.members(seal.text.encode())
        return {"type": "reasoning", "summary": [], **words, "encrypted_content": seal.data}
    members: dict[str, Any] = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text} for text in item.summary],
    }
    if item.content:
        members["content"] = [{"type": "reasoning_text", "text": text} for text in item.content]
    if seal is not None and seal.kind == "encrypted":
        return {**members, "encrypted_content": seal.data}
    if destination.encrypted_reasoning or not (item.content or item.summary):
        losses.hint("reasoning_items")
        return None
    return members


def _opaque(item: OpaqueItem, losses: Losses) -> Any:
    if is_foreign_type(item.type):
        losses.item(item, f"Items of type '{item.type[:64]}' are another API's.")
        return None
    members = jsonio.members(item.value)
    if is_foreign_search(item.type, members):
        losses.hint(CALL)
        return None
    if item.type in ID_NEEDED:
        return item.value
    members.pop("id", None)
    return members


# -- parts ------------------------------------------------------------------------------------------------------


def _parts(parts: list[Part], losses: Losses, *, answer: bool) -> list[Any]:
    """`answer`: the parts are the assistant's own, which have other types."""
    found = []
    for part in parts:
        if getattr(part, "breakpoint", False):
            losses.hint("breakpoint")
        written = _part(part, losses, answer=answer)
        if written is not None:
            found.append(written)
    return found


def _part(part: Part, losses: Losses, *, answer: bool) -> Any:
    match part:
        case TextPart() if answer:
            return {"type": "output_text", "text": part.text, "annotations": part.annotations or _NO_ANNOTATIONS}
        case TextPart():
            return {"type": "input_text", "text": part.text}
        case RefusalPart() if answer:
            return {"type": "refusal", "refusal": part.refusal}
        case RefusalPart():
            return {"type": "input_text", "text": part.refusal}
        case OpaquePart() if part.type in _OPAQUE_PARTS:
            return part.value
        case ImagePart() | FilePart() | AudioPart() if answer:
            losses.hint("said_media")  # a model made it: it comes back with the history, and here an answer is text
            return None
        case ImagePart():
            where = {"file_id": part.file_id} if part.file_id else {"image_url": part.url}
            return {"type": "input_image", **where, "detail": part.detail or "auto"}
        case FilePart():
            if part.filename and not (part.data or part.text):
                losses.hint("filename")
            return _file(part)
        case AudioPart():
            losses.refuse("items", "Audio is no input of this API.")
            return None
        case OpaquePart():
            losses.refuse_part(part, f"Parts of type '{part.type[:64]}' are another API's.")
            return None


def _file(part: FilePart) -> dict[str, Any]:
    if part.text:
        return {"type": "input_text", "text": part.titled_text}
    members: dict[str, Any] = {"type": "input_file"}
    if part.data:
        members["file_data"] = part.data
        members["filename"] = part.data_name
        return members
    members.update({"file_url": part.url} if part.url else {"file_id": part.file_id})
    return members
