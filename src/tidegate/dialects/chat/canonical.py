"""A chat request in no dialect: messages → items, and every other member → its canonical one, a hint, or unknown.

Only read when the request goes to a provider of another dialect, or has to be written anew. Beyond OpenAI's members it
knows what clients of chat servers send about reasoning: `reasoning_content` and `reasoning_details` of assistant
messages (protocol §5.4), `reasoning`, `thinking`, `enable_thinking` and `thinking_budget`; and `cache_control`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from tidegate.dialects.chat.history import History, HistoryMessage
from tidegate.dialects.chat.shapes import MEMBERS, MESSAGES, TOOLS
from tidegate.dialects.leftovers import ENGINE_MEMBERS, Leftovers
from tidegate.dialects.validation import invalid, missing, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest
from tidegate.wire.items import CanonicalRequest, HostedTool, OutputFormat, Tool, ToolChoice

__all__ = ["canonical_request"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_THINKING_ON = ("enabled", "adaptive")
"""Types of `thinking` that ask for it."""


class _FunctionTool(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = jsonio.NULL
    strict: bool | None = None


class _Grammar(msgspec.Struct):
    definition: str
    syntax: str


class _CustomFormat(msgspec.Struct):
    type: Literal["text", "grammar"]
    grammar: _Grammar | None = None


class _CustomTool(msgspec.Struct):
    name: str
    description: str | None = None
    format: _CustomFormat | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _FunctionTool | None = None
    custom: _CustomTool | None = None
    cache_control: Any = None


class _Named(msgspec.Struct):
    name: str


class _AllowedTool(msgspec.Struct):
    function: _Named | None = None
    custom: _Named | None = None
    name: str | None = None


class _Allowed(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[_AllowedTool]


class _ToolChoice(msgspec.Struct):
    type: str
    function: _Named | None = None
    custom: _Named | None = None
    allowed_tools: _Allowed | None = None


class _Schema(msgspec.Struct):
    name: str
    description: str | None = None
    schema: msgspec.Raw = jsonio.NULL
    strict: bool | None = None


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


class _ReasoningOptions(msgspec.Struct):
    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None


class _Thinking(msgspec.Struct):
    type: str | None = None
    budget_tokens: int | None = None


class _Body(msgspec.Struct):
    """Ranges were checked when the request came in."""

    messages: list[HistoryMessage]
    model: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: msgspec.Raw = jsonio.NULL
    logprobs: bool | None = None
    top_logprobs: int | None = None
    seed: int | None = None
    user: str | None = None
    safety_identifier: str | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _ToolChoice | None = None
    functions: list[_FunctionTool] | None = None
    function_call: str | _Named | None = None
    parallel_tool_calls: bool | None = None
    response_format: _ResponseFormat | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    web_search_options: jsonio.Members | None = None
    modalities: list[str] | None = None
    store: bool | None = None
    reasoning: _ReasoningOptions | None = None
    thinking: _Thinking | None = None
    enable_thinking: bool | None = None
    thinking_budget: int | None = None


_body = jsonio.decoder(_Body)

_READ = frozenset(_Body.__struct_fields__) | {"stream_options"}

_REFUSED = ENGINE_MEMBERS | {"enable_search", "moderation", "plugins", "search_parameters"}
"""Members without a canonical form that an answer depends on: OpenAI's own, and those of well-known servers."""

_NAMES: Mapping[str, str] = {
    "items": "messages",
    "instructions": "messages",
    "format": "response_format",
    "format.description": "response_format.json_schema.description",
    "effort": "reasoning_effort",
    "reasoning_budget": "reasoning",
    "reasons": "reasoning",
    "filename": "file.filename",
    "is_error": "messages",
    "grammar": "tools[].custom.format",
    "reasoning.encrypted_content": "reasoning_details",
    "said_media": "messages[].images",
    "thought_signature": "messages[].tool_calls[].extra_content",
}


def canonical_request(body: bytes) -> CanonicalRequest:
    """Raises InvalidRequest for what does not have the documented shape."""
    typed = parse(body, _body)
    members = jsonio.members(body)
    tools, tool_choice, parallel = _tools(typed, members)
    names = dict(_NAMES)
    limit = typed.max_completion_tokens
    if limit is None and typed.max_tokens is not None:
        limit = typed.max_tokens
        names["max_output_tokens"] = "max_tokens"
    else:
        names["max_output_tokens"] = "max_completion_tokens"
    if typed.functions:
        names.update(tools="functions", tool_choice="function_call")
    if typed.top_logprobs is None:
        names["top_logprobs"] = "logprobs"
    elif typed.top_logprobs and not typed.logprobs:
        raise invalid("top_logprobs", "it is only allowed when 'logprobs' is true.")
    form, form_is_unknown = _format(typed.response_format)
    left = _leftovers(typed, members)
    effort, budget = _reasoning_options(typed, names, left)
    wants_reasoning = _wants_reasoning(typed, names)
    history = History(typed.messages, members["messages"], left)
    items = list(history.items())
    names["breakpoint"] = history.breakpoint_name
    names["reasoning_items"] = history.reasoning_name
    _check_agreement(effort, budget, names, wants_reasoning=wants_reasoning)
    if form_is_unknown:
        left.refuse("response_format")
    return CanonicalRequest(
        client="chat",
        model=typed.model or "",
        items=items,
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=parallel,
        max_output_tokens=limit,
        temperature=typed.temperature,
        top_p=typed.top_p,
        top_k=typed.top_k,
        stop=_stop(typed.stop),
        n=typed.n or 1,
        seed=typed.seed,
        frequency_penalty=typed.frequency_penalty,
        presence_penalty=typed.presence_penalty,
        logit_bias=jsonio.EMPTY if jsonio.is_null(typed.logit_bias) else typed.logit_bias,
        top_logprobs=(typed.top_logprobs or 0) if typed.logprobs else None,
        format=form,
        verbosity=typed.verbosity or "",
        effort=effort,
        reasoning_budget=budget,
        reasons=wants_reasoning and not effort and budget is None,
        shows_thoughts=True,
        user=typed.user or "",
        safety_identifier=typed.safety_identifier or "",
        metadata=typed.metadata or {},
        service_tier=typed.service_tier or "",
        prompt_cache_key=typed.prompt_cache_key or "",
        stream=typed.stream is True,
        hints=left.names,
        refused=tuple(left.refused),
        names=names,
    )


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _leftovers(typed: _Body, members: jsonio.Members) -> Leftovers:
    left = Leftovers()
    if typed.store:
        left.hint("store")
    only_text = not typed.modalities or typed.modalities == ["text"]
    if not only_text:
        left.refuse("modalities")
    left.read(members.items(), _READ, _REFUSED if only_text else _REFUSED | {"audio"})
    if typed.thinking is not None and typed.thinking.type not in (None, "disabled", *_THINKING_ON):
        left.hint("thinking.type")
    left.look(members["messages"], MESSAGES, "messages")
    if typed.tools:
        left.look(members["tools"], TOOLS, "tools", numbered=False)
    for name, shape in MEMBERS.items():
        if name in members:
            left.look(members[name], shape, name, numbered=False)
    return left


def _reasoning_options(typed: _Body, names: dict[str, str], left: Leftovers) -> tuple[str, int | None]:
    """Effort and budget, by whichever of their names the client has them. Where two of them differ, one is left out."""
    effort = typed.reasoning_effort or ""
    budgets: list[tuple[str, int]] = []
    if typed.reasoning is not None:
        given = typed.reasoning
        if not effort and given.effort:
            effort = given.effort
            names["effort"] = "reasoning.effort"
        elif given.effort and given.effort != effort:
            left.hint("reasoning.effort")
        if given.max_tokens is not None:
            budgets.append(("reasoning.max_tokens", given.max_tokens))
        if given.enabled is False:
            budgets.append(("reasoning", 0))
    if typed.thinking is not None:
        if typed.thinking.budget_tokens is not None:
            budgets.append(("thinking.budget_tokens", typed.thinking.budget_tokens))
        if typed.thinking.type == "disabled":
            budgets.append(("thinking", 0))
    if typed.thinking_budget is not None:
        budgets.append(("thinking_budget", typed.thinking_budget))
    if typed.enable_thinking is False:
        budgets.append(("enable_thinking", 0))
    budget = budgets[-1][1] if budgets else None
    for name, tokens in budgets:
        if tokens and budget == 0:
            raise _contradicted(name, budgets[-1][0])
        if tokens != budget:
            left.hint(name)
        else:
            names["reasoning_budget"] = _BUDGET_NAMES.get(name, name)
    if effort and effort not in EFFORTS:
        raise invalid(names["effort"], f"expected one of {', '.join(map(repr, EFFORTS))}.")
    return effort, budget


_BUDGET_NAMES: Mapping[str, str] = {"reasoning.max_tokens": "reasoning", "thinking.budget_tokens": "thinking"}


def _contradicted(name: str, by: str) -> InvalidRequest:
    return invalid(name, f"it asks for reasoning, and '{by}' switches it off. Leave one of them out.")


def _check_agreement(effort: str, budget: int | None, names: Mapping[str, str], *, wants_reasoning: bool) -> None:
    """Raises InvalidRequest where one member switches reasoning off and another one asks for it."""
    off = "effort" if effort == "none" else "reasoning_budget" if budget == 0 else ""
    on = (
        "reasons"
        if wants_reasoning
        else "effort"
        if effort not in ("", "none")
        else "reasoning_budget"
        if budget
        else ""
    )
    if off and on and names[off] != names[on]:
        raise _contradicted(names[on], names[off])


def _wants_reasoning(typed: _Body, names: dict[str, str]) -> bool:
    """Whether a member says that there is to be reasoning, without regard to how much."""
    if typed.enable_thinking:
        names["reasons"] = "enable_thinking"
        return True
    if typed.thinking is not None and typed.thinking.type in _THINKING_ON:
        names["reasons"] = "thinking"
        return True
    return typed.reasoning is not None and typed.reasoning.enabled is True


def _format(given: _ResponseFormat | None) -> tuple[OutputFormat | None, bool]:
    """The format, and whether it is one that has no canonical form."""
    if given is None:
        return None, False
    match given.type:
        case "text" | "json_object":
            return OutputFormat(type=given.type), False
        case "json_schema":
            schema = given.json_schema
            if schema is None:
                raise missing("response_format.json_schema")
            return OutputFormat(
                type="json_schema",
                name=schema.name,
                description=schema.description or "",
                schema=_given(schema.schema),
                strict=schema.strict,
            ), False
        case _:
            return None, True


def _given(value: msgspec.Raw) -> msgspec.Raw:
    return jsonio.EMPTY if jsonio.is_null(value) else value


# -- tools ------------------------------------------------------------------------------------------------------


def _tools(typed: _Body, members: jsonio.Members) -> tuple[list[Tool | HostedTool], ToolChoice | None, bool | None]:
    tools: list[Tool | HostedTool] = []
    for place, tool in enumerate(typed.tools or ()):
        tools.append(_tool(tool, place, members))
    if typed.web_search_options is not None:
        tools.append(HostedTool(type="web_search_options", value=members["web_search_options"]))
    choice = _tool_choice(typed.tool_choice)
    parallel = typed.parallel_tool_calls
    if typed.functions:
        tools.extend(_function_tool(one) for one in typed.functions)
        # A `function_call` holds one call.
        parallel = False if parallel is None else parallel
        if choice is None:
            choice = _legacy_choice(typed.function_call)
    return tools, choice, parallel


def _tool(tool: _Tool, place: int, members: jsonio.Members) -> Tool | HostedTool:
    marked = tool.cache_control is not None
    match tool.type:
        case "function":
            if tool.function is None:
                raise missing(f"tools[{place}].function")
            return _function_tool(tool.function, marked=marked)
        case "custom":
            custom = tool.custom
            if custom is None:
                raise missing(f"tools[{place}].custom")
            return Tool(
                name=custom.name,
                description=custom.description or "",
                custom=True,
                format=_custom_format(custom.format, place),
                breakpoint=marked,
            )
        case _:
            return HostedTool(type=tool.type, value=jsonio.elements(members["tools"])[place])


def _function_tool(function: _FunctionTool, *, marked: bool = False) -> Tool:
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=_given(function.parameters),
        strict=function.strict,
        breakpoint=marked,
    )


def _custom_format(form: _CustomFormat | None, place: int) -> msgspec.Raw:
    if form is None or form.type == "text":
        return jsonio.EMPTY
    if form.grammar is None:
        raise missing(f"tools[{place}].custom.format.grammar")
    return jsonio.raw({"type": "grammar", "syntax": form.grammar.syntax, "definition": form.grammar.definition})


def _tool_choice(choice: str | _ToolChoice | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice)
        case "any":
            return ToolChoice(mode="required")
        case str():
            raise invalid("tool_choice", "expected one of 'none', 'auto', 'required', or an object.")
    if choice.type == "allowed_tools":
        allowed = choice.allowed_tools
        if allowed is None:
            raise missing("tool_choice.allowed_tools")
        names = []
        for place, tool in enumerate(allowed.tools):
            named = tool.function or tool.custom
            name = named.name if named is not None else tool.name
            if not name:
                raise missing(f"tool_choice.allowed_tools.tools[{place}].function")
            names.append(name)
        return ToolChoice(mode="allowed", names=tuple(names), required=allowed.mode == "required")
    named = choice.function if choice.type == "function" else choice.custom if choice.type == "custom" else None
    if choice.type not in ("function", "custom"):
        raise invalid("tool_choice.type", "expected one of 'function', 'custom', 'allowed_tools'.")
    if named is None:
        raise missing(f"tool_choice.{choice.type}")
    return ToolChoice(mode="function", names=(named.name,))


def _legacy_choice(choice: str | _Named | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none":
            return ToolChoice(mode=choice)
        case str():
            raise invalid("function_call", "expected one of 'none', 'auto', or an object.")
        case _:
            return ToolChoice(mode="function", names=(choice.name,))
