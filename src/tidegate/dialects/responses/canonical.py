"""The client's request in canonical form, for providers that speak another dialect (protocol §1.2, §1.4, §5.1)."""

from collections.abc import Callable, Container, Iterable
from typing import Any, Final, Literal, TypeVar

import msgspec

from tidegate.dialects.leftovers import ENGINE_MEMBERS, Leftovers
from tidegate.dialects.responses.shapes import INPUT, ITEMS, MEMBERS, TOOLS
from tidegate.dialects.responses.tools import ToolNames, flat_name, read_tools
from tidegate.dialects.validation import invalid, missing
from tidegate.dialects.websearch import CALL, FORCED
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest
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
    ToolChoice,
)

__all__ = ["canonical_request", "read_tool_names"]

T = TypeVar("T")

_NAMES: Final = {
    CALL: "input[].web_search_call",
    "items": "input",
    "format": "text.format",
    "format.description": "text.format.description",
    "verbosity": "text.verbosity",
    "effort": "reasoning.effort",
    "reasoning_summary": "reasoning.summary",
    "breakpoint": "prompt_cache_breakpoint",
    "grammar": "tools[].format",
    "phase": "input[].phase",
    "said_media": "input[].content[].input_image",
}
"""Members of CanonicalRequest that this dialect calls otherwise."""

_READ: Final = frozenset(
    {
        "frequency_penalty", "include", "input", "instructions", "logit_bias", "max_output_tokens", "model", "n",
        "parallel_tool_calls", "presence_penalty", "prompt_cache_key", "reasoning", "safety_identifier", "seed",
        "service_tier", "stop", "stream", "temperature", "text", "tool_choice", "tools", "top_k", "top_logprobs", "top_p",
        "user",
        # What the gateway sees to, or refuses, whoever answers:
        "background", "conversation", "metadata", "previous_response_id", "prompt", "store",
        "stream_options",
    }
)  # fmt: skip
"""Members that have a canonical form, or need none."""

_REFUSED: Final = ENGINE_MEMBERS | {
    "access_programs", "image", "max_completion_tokens", "max_tokens", "moderation", "personality", "response_format",
}  # fmt: skip
"""Members without a canonical form that an answer depends on: this API's own, those of engines, and chat's, which OpenAI
answers with 400 here. All others are hints: caching, bookkeeping, how an overlong input or too many hosted calls are cut,
and what clients add."""

_IN_REASONING: Final = frozenset({"effort", "summary", "generate_summary", "mode"})

_LOGPROBS: Final = "message.output_text.logprobs"
_ENCRYPTED: Final = "reasoning.encrypted_content"
_MODES: Final[dict[bytes, Literal["auto", "none", "required"]]] = {
    b'"auto"': "auto",
    b'"none"': "none",
    b'"required"': "required",
}
_WITH_TOOLS: Final = frozenset({"additional_tools", "tool_search_output"})
_ROLES: Final = frozenset({"user", "assistant", "system", "developer"})


class _Item(msgspec.Struct):
    type: str = ""
    id: str | None = None
    role: str | None = None
    phase: str | None = None
    content: str | list[msgspec.Raw] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: msgspec.Raw = jsonio.EMPTY
    summary: list[msgspec.Raw] | None = None
    encrypted_content: str | None = None
    tools: list[msgspec.Raw] | None = None


class _InputAudio(msgspec.Struct):
    data: str
    format: str


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    annotations: list[msgspec.Raw] | None = None
    logprobs: list[msgspec.Raw] | None = None
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: _InputAudio | None = None
    prompt_cache_breakpoint: msgspec.Raw = jsonio.EMPTY


class _Format(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = jsonio.EMPTY
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Thinking(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    mode: str | None = None


class _NamedTool(msgspec.Struct):
    type: str = ""
    name: str | None = None
    namespace: str | None = None


class _Choice(msgspec.Struct):
    type: str = ""
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None
    tools: list[_NamedTool] | None = None


class _Kind(msgspec.Struct):
    type: str = ""


_item = jsonio.decoder(_Item)
_kind = jsonio.decoder(_Kind)
_part = jsonio.decoder(_Part)
_text = jsonio.decoder(_Text)
_thinking = jsonio.decoder(_Thinking)
_choice = jsonio.decoder(_Choice)
_string = jsonio.decoder(str)
_whole_number = jsonio.decoder(int)


def read_tool_names(members: jsonio.Members) -> ToolNames:
    """The names of the tools alone, for the answer. Raises InvalidRequest."""
    names = ToolNames()
    _tools(members, names)
    for _, item in _items_of(members):
        if item.type in _WITH_TOOLS:
            read_tools(item.tools or (), names, "input")
    return names


def canonical_request(members: jsonio.Members, typed: Any) -> CanonicalRequest:
    """`members` are the client's own, `typed` the same as :class:`ResponsesBody`. State is resolved before.

    Raises InvalidRequest for what has no canonical form.
    """
    names = ToolNames()
    tools = _tools(members, names)
    left = Leftovers()
    left.read(
        ((name, value) for name, value in members.items() if (name, bytes(value)) != ("truncation", b'"disabled"')),
        _READ,
        _REFUSED,
    )
    items = _items(members, tools, names, left)
    if "tools" in members:
        left.look(members["tools"], TOOLS, "tools", numbered=False)
    if names.described:
        left.hint("tools[].namespace.description")
    for name, shape in MEMBERS.items():
        if name in members:
            left.look(members[name], shape, name)
    thinking = _value(members, "reasoning", _thinking) or _Thinking()
    left.read(
        (
            (name, value)
            for name, value in _members_of(members, "reasoning")
            if (name, bytes(value)) != ("context", b'"auto"')
        ),
        _IN_REASONING,
        at="reasoning.",
    )
    if thinking.mode not in (None, "standard"):
        left.refuse("reasoning.mode")
    text = _value(members, "text", _text) or _Text()
    include = typed.include or []
    for name in include:
        if name not in (_LOGPROBS, _ENCRYPTED):
            left.hint(f"include[{name}]")
    top_logprobs = typed.top_logprobs or None
    said = dict(_NAMES)
    if not thinking.summary:
        said["reasoning_summary"] = "reasoning.generate_summary"
    if _LOGPROBS in include:
        top_logprobs = typed.top_logprobs or 0
        if not top_logprobs:
            said["top_logprobs"] = f"include[{_LOGPROBS}]"
    tool_choice, odd = _tool_choice(members, names, {tool.name for tool in tools if isinstance(tool, Tool)})
    if odd:
        left.refuse("tool_choice")
    return CanonicalRequest(
        client="responses",
        model=typed.model or "",
        instructions=typed.instructions or "",
        items=items,
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=typed.parallel_tool_calls,
        max_output_tokens=typed.max_output_tokens,
        temperature=typed.temperature,
        top_p=typed.top_p,
        top_k=_value(members, "top_k", _whole_number),
        stop=(typed.stop,) if isinstance(typed.stop, str) else tuple(typed.stop or ()),
        n=typed.n or 1,
        seed=_value(members, "seed", _whole_number),
        frequency_penalty=typed.frequency_penalty,
        presence_penalty=typed.presence_penalty,
        logit_bias=_given(members.get("logit_bias", jsonio.EMPTY)),
        top_logprobs=top_logprobs,
        format=_format(text.format),
        verbosity=text.verbosity or "",
        effort=thinking.effort or "",
        reasoning_summary=thinking.summary or thinking.generate_summary or "",
        user=typed.user or "",
        safety_identifier=typed.safety_identifier or "",
        metadata=typed.metadata or {},
        service_tier=typed.service_tier or "",
        prompt_cache_key=typed.prompt_cache_key or "",
        stream=typed.stream is True,
        hints=left.names,
        refused=tuple(left.refused),
        names=said,
    )


# -- tools and formats ------------------------------------------------------------------------------------------


def _tools(members: jsonio.Members, names: ToolNames) -> list[Tool | HostedTool]:
    given = members.get("tools", jsonio.NULL)
    return [] if given == jsonio.NULL else read_tools(jsonio.elements(given), names, "tools")


def _tool_choice(members: jsonio.Members, names: ToolNames, offered: Container[str]) -> tuple[ToolChoice | None, bool]:
    """The choice, and whether it is one that only this dialect knows: of a hosted tool. `offered` are the flat names."""
    given = members.get("tool_choice", jsonio.NULL)
    if given == jsonio.NULL:
        return None, False
    mode = _MODES.get(bytes(given))
    if mode is not None:
        return ToolChoice(mode=mode), False
    choice = _read(given, _choice, "tool_choice")
    if choice.type.startswith("web_search"):
        return FORCED, False
    if choice.type in ("function", "custom"):
        if not choice.name:
            raise missing("tool_choice.name")
        return ToolChoice(mode="function", names=(_chosen(choice, names, offered, "tool_choice"),)), False
    if choice.type == "allowed_tools":
        chosen = choice.tools or []
        if all(tool.name and tool.type in ("function", "custom") for tool in chosen):
            allowed = tuple(
                _chosen(tool, names, offered, f"tool_choice.tools[{place}]") for place, tool in enumerate(chosen)
            )
            return ToolChoice(mode="allowed", names=allowed, required=choice.mode == "required"), False
    return None, True


def _flat(name: str, namespace: str | None) -> str:
    return flat_name(namespace, name) if namespace else name


def _chosen(chosen: _Choice | _NamedTool, names: ToolNames, offered: Container[str], at: str) -> str:
    """The flat name of a tool that is chosen by name. Raises InvalidRequest where that may be one of several."""
    name = chosen.name or ""
    if chosen.namespace:
        return _flat(name, chosen.namespace)
    within = [] if name in offered else names.within(name)
    if len(within) > 1:
        raise invalid(f"{at}.namespace", f"{len(within)} namespaces have a tool '{name}'; say which.")
    return within[0] if within else name


def _format(given: _Format | None) -> OutputFormat | None:
    if given is None:
        return None
    if given.type == "json_schema":
        return OutputFormat(
            type="json_schema",
            name=given.name or "",
            description=given.description or "",
            schema=_given(given.schema),
            strict=given.strict,
        )
    return OutputFormat(type="json_object" if given.type == "json_object" else "text")


# -- items ------------------------------------------------------------------------------------------------------


def _items_of(members: jsonio.Members) -> Iterable[tuple[msgspec.Raw, _Item]]:
    given = members.get("input", jsonio.NULL)
    if bytes(memoryview(given)[:1]) == b"[":
        for index, value in enumerate(jsonio.elements(given)):
            at = f"input[{index}]"
            yield value, _item_of(value, at)


def _item_of(value: msgspec.Raw, at: str) -> _Item:
    """An item of a kind that is not read has its type alone."""
    try:
        return _item.decode(value)
    except jsonio.UNREADABLE:
        kind = _read(value, _kind, at).type
        return _read(value, _item, at) if kind in _READERS or kind in _WITH_TOOLS else _Item(type=kind)


def _items(members: jsonio.Members, tools: list[Tool | HostedTool], names: ToolNames, left: Leftovers) -> list[Item]:
    """`tools` grows by those that stand among the items."""
    given = members.get("input", jsonio.NULL)
    if bytes(memoryview(given)[:1]) == b'"':
        return [Message(role="user", content=[TextPart(text=jsonio.decode(given, _string))])]
    items: list[Item] = []
    plain = INPUT.reads(given)
    for index, (value, item) in enumerate(_items_of(members)):
        at = f"input[{index}]"
        if not plain and (shape := ITEMS.get(item.type)) is not None:
            left.look(value, shape, at)
        if item.type == "additional_tools":
            if item.tools is not None:
                left.look(jsonio.members(value)["tools"], TOOLS, f"{at}.tools", numbered=False)
            known = {tool.name for tool in tools if isinstance(tool, Tool)}
            for tool in read_tools(item.tools or (), names, f"{at}.tools"):
                if not isinstance(tool, Tool) or tool.name not in known:
                    tools.append(tool)
            continue
        reader = _READERS.get(item.type)
        if reader is not None:
            items.append(reader(item, at, left))
        else:
            items.append(OpaqueItem(type=item.type, value=value))
    return items


def _message(item: _Item, at: str, left: Leftovers) -> Message:
    if item.role not in _ROLES:
        raise invalid(
            f"{at}.role", f"'{item.role}' has no counterpart at this provider; expected 'user', 'assistant', 'system' or "
            "'developer'."
        )  # fmt: skip
    return Message(
        role=item.role,  # type: ignore[arg-type]
        content=_content(item.content, f"{at}.content", left),
        id=item.id or "",
        phase=item.phase or "",
    )


def _call(item: _Item, at: str, left: Leftovers) -> FunctionCall:
    """The name is the flat one, as the provider gets it among the tools; the namespace is in it."""
    if not item.call_id:
        raise missing(f"{at}.call_id")
    if not item.name:
        raise missing(f"{at}.name")
    custom = item.type == "custom_tool_call"
    return FunctionCall(
        call_id=item.call_id,
        name=_flat(item.name, item.namespace),
        arguments=(item.input if custom else item.arguments) or "",
        id=item.id or "",
        custom=custom,
    )


def _call_output(item: _Item, at: str, left: Leftovers) -> FunctionOutput:
    if not item.call_id:
        raise missing(f"{at}.call_id")
    if jsonio.is_null(item.output):
        raise missing(f"{at}.output")
    opening = bytes(memoryview(item.output)[:1])
    if opening == b'"':
        content: list[Part] = [TextPart(text=jsonio.decode(item.output, _string))]
    elif opening == b"[":
        content = _content(jsonio.elements(item.output), f"{at}.output", left)
    else:
        raise invalid(f"{at}.output", "expected a string or an array of content parts.", "invalid_type")
    return FunctionOutput(
        call_id=item.call_id,
        content=content,
        custom=item.type == "custom_tool_call_output",
        name=_flat(item.name, item.namespace) if item.name else "",
    )


def _reasoning(item: _Item, at: str, left: Leftovers) -> Reasoning:
    return Reasoning(
        summary=[
            _read(part, _part, f"{at}.summary[{index}]").text or "" for index, part in enumerate(item.summary or ())
        ],
        content=[
            _read(part, _part, f"{at}.content[{index}]").text or ""
            for index, part in enumerate(item.content if isinstance(item.content, list) else ())
        ],
        encrypted=item.encrypted_content or "",
        id=item.id or "",
    )


_READERS: Final[dict[str, Callable[[_Item, str, Leftovers], Item]]] = {
    "": _message,
    "message": _message,
    "function_call": _call,
    "custom_tool_call": _call,
    "function_call_output": _call_output,
    "custom_tool_call_output": _call_output,
    "reasoning": _reasoning,
}


def _content(given: str | list[msgspec.Raw] | None, at: str, left: Leftovers) -> list[Part]:
    if isinstance(given, str):
        return [TextPart(text=given)]
    return [_content_part(value, f"{at}[{index}]", left) for index, value in enumerate(given or ())]


def _content_part(value: msgspec.Raw, at: str, left: Leftovers) -> Part:
    part = _read(value, _part, at)
    mark = not jsonio.is_null(part.prompt_cache_breakpoint)
    match part.type:
        case "input_text" | "output_text" | "text" | "reasoning_text" | "summary_text":
            if part.text is None:
                raise missing(f"{at}.text")
            return TextPart(
                text=part.text, annotations=part.annotations or [], logprobs=part.logprobs or [], breakpoint=mark
            )
        case "refusal":
            return RefusalPart(refusal=part.refusal or "")
        case "input_image":
            if not part.image_url and not part.file_id:
                raise missing(f"{at}.image_url", "An image is given by 'image_url' or 'file_id'.")
            _first_of(part, ("image_url", "file_id"), at, left)
            return ImagePart(
                url=part.image_url or "",
                file_id="" if part.image_url else part.file_id or "",
                detail=part.detail or "",
                breakpoint=mark,
            )
        case "input_file":
            _first_of(part, ("file_data", "file_url", "file_id"), at, left)
            return _file(part, at, mark)
        case "input_audio" if part.input_audio is not None:
            return AudioPart(data=part.input_audio.data, format=part.input_audio.format)
        case _:
            return OpaquePart(type=part.type, value=value)


def _first_of(part: _Part, names: tuple[str, ...], at: str, left: Leftovers) -> None:
    """Where the same thing is given twice, the first is taken."""
    for name in [name for name in names if getattr(part, name)][1:]:
        left.hint(f"{at}.{name}")


def _file(part: _Part, at: str, mark: bool) -> FilePart:
    name = part.filename or ""
    if part.file_data:
        return FilePart(data=_as_data_url(part.file_data, name), filename=name, breakpoint=mark)
    if part.file_url:
        return FilePart(url=part.file_url, filename=name, breakpoint=mark)
    if part.file_id:
        return FilePart(file_id=part.file_id, filename=name, breakpoint=mark)
    raise missing(f"{at}.file_data", "A file is given by 'file_data', 'file_url' or 'file_id'.")


def _as_data_url(data: str, filename: str) -> str:
    """The API takes bare base64 as well; then the name of the file tells what it is."""
    if data.startswith("data:"):
        return data
    ending = filename.rpartition(".")[2].lower()
    return f"data:{_MEDIA_TYPES.get(ending, 'application/pdf')};base64,{data}"


_MEDIA_TYPES: Final = {
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "md": "text/markdown",
    "txt": "text/plain",
    "xml": "text/xml",
}


# -- reading ----------------------------------------------------------------------------------------------------


def _read(value: msgspec.Raw, using: "msgspec.json.Decoder[T]", at: str) -> T:
    try:
        return jsonio.decode(value, using)
    except jsonio.SchemaMismatch as error:
        place = f"{at}.{error.path}" if error.path else at
        if error.missing:
            raise missing(place) from None
        raise invalid(place, f"{error.what}.", "invalid_type") from None
    except jsonio.InvalidJSON as error:
        raise InvalidRequest(f"Invalid '{at}': {error}", param=at, code="invalid_json") from None


def _value(members: jsonio.Members, name: str, using: "msgspec.json.Decoder[T]") -> T | None:
    value = members.get(name, jsonio.NULL)
    return None if value == jsonio.NULL else _read(value, using, name)


def _members_of(members: jsonio.Members, name: str) -> Iterable[tuple[str, msgspec.Raw]]:
    """Those of an object that has been read before, so that it is one."""
    value = members.get(name, jsonio.NULL)
    return () if value == jsonio.NULL else jsonio.members(value).items()


def _given(value: msgspec.Raw) -> msgspec.Raw:
    return jsonio.EMPTY if jsonio.is_null(value) else value
