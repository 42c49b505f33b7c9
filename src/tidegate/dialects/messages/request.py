"""The request of `POST /v1/messages`: validation, the body that goes upstream, and the canonical form."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.codec import StreamEncoder
from tidegate.dialects.dialect import Answer, Call, Destination, Received, refuse_unsupported
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.extent import Extent, is_remarkable, may_name_files
from tidegate.dialects.leftovers import ENGINE_MEMBERS, Leftovers
from tidegate.dialects.messages.blocks import Blocks, ContentBlock, InputMessage, Reader, Source
from tidegate.dialects.messages.encoder import MessagesEncoder, encode_message
from tidegate.dialects.messages.foreign import open_envelopes
from tidegate.dialects.messages.relay import MessagesStream, complete
from tidegate.dialects.messages.shapes import MEMBERS, MESSAGES, TOOLS
from tidegate.dialects.validation import invalid, missing, parse, parse_plain
from tidegate.dialects.websearch import CALL
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest
from tidegate.wire.items import (
    CanonicalRequest,
    HostedTool,
    Message,
    Output,
    OutputFormat,
    TextPart,
    Tool,
    ToolChoice,
)

__all__ = ["MessagesBody", "MessagesRequest", "PromptBody", "check_prompt", "parse_plain_request", "parse_request"]


class OfferedTool(msgspec.Struct):
    """A tool of the client (`type` absent or `custom`), or one that the provider runs itself."""

    type: str | None = None
    name: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = msgspec.field(default_factory=jsonio.absent)
    strict: bool | None = None
    cache_control: jsonio.Members | None = None


class Choice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    type: str
    budget_tokens: Annotated[int, Meta(ge=1)] | None = None
    display: str | None = None


class Form(msgspec.Struct):
    type: str
    schema: msgspec.Raw = msgspec.field(default_factory=jsonio.absent)


class OutputConfig(msgspec.Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Form | None = None


class Metadata(msgspec.Struct):
    user_id: str | None = None


class PromptBody(msgspec.Struct, kw_only=True):
    """What a model is given to read. Members that we do not know travel on unread."""

    messages: Annotated[list[InputMessage], Meta(min_length=1)]
    model: str | None = None
    system: str | list[ContentBlock] | None = None
    tools: list[OfferedTool] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: jsonio.Members | None = None


class MessagesBody(PromptBody, kw_only=True):
    """The documented members with their ranges."""

    max_tokens: Annotated[int, Meta(ge=0)]
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None


class _PlainText(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    text: str
    cache_control: jsonio.Members | None = None


class _PlainBlock(ContentBlock, forbid_unknown_fields=True):
    type: Literal["text", "tool_use", "tool_result", "thinking", "redacted_thinking"]
    source: None = None


class _PlainMessage(InputMessage, forbid_unknown_fields=True):
    content: str | list[_PlainBlock]  # type: ignore[assignment]


class _PlainTool(OfferedTool, forbid_unknown_fields=True):
    type: Literal["custom"] | None = None


class _PlainBody(MessagesBody, forbid_unknown_fields=True, kw_only=True):
    """A body that is text and functions of the client's, and nothing that could cost more: see the one of chat."""

    messages: Annotated[list[_PlainMessage], Meta(min_length=1)]  # type: ignore[assignment]
    system: str | list[_PlainBlock] | None = None  # type: ignore[assignment]
    tools: list[_PlainTool] | None = None  # type: ignore[assignment]
    service_tier: None = None


class _RawMessage(msgspec.Struct):
    content: msgspec.Raw


_decoder = jsonio.decoder(MessagesBody)
_plain = jsonio.decoder(_PlainBody)
_plain_result = jsonio.decoder(str | list[_PlainText] | None)  # type: ignore[arg-type]
_raw_messages = jsonio.decoder(list[_RawMessage])

_NAMES = {
    CALL: "messages[].content[].server_tool_use",
    "items": "messages",
    "instructions": "system",
    "max_output_tokens": "max_tokens",
    "stop": "stop_sequences",
    "format": "output_config.format",
    "effort": "output_config.effort",
    "reasoning_budget": "thinking.budget_tokens",
    "reasoning_summary": "thinking.display",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "user": "metadata.user_id",
    "breakpoint": "cache_control",
    "filename": "title",
    "prompt_cache_breakpoint": "cache_control",
    "said_media": "messages[].content[].image",
    "reasoning_items": "thinking",
    "reasoning.encrypted_content": "thinking",
}
"""Members of the canonical request by the names that they have here."""

_HINTS = {
    "messages": "This is /v1/messages; 'input' belongs to /v1/responses, 'prompt' to /v1/completions.",
    "max_tokens": "This API has no default for it.",
}

_REFUSED = ENGINE_MEMBERS | {"container", "mcp_servers", "inference_geo"}
"""Members without a canonical form that an answer depends on, or the place where it may be made."""


class MessagesRequest(Received[MessagesBody]):
    """A validated request of this dialect."""

    __slots__ = ("envelopes",)

    def __init__(self, body: bytes, typed: MessagesBody) -> None:
        super().__init__(body, typed)
        self.envelopes: Envelopes | None = None

    @property
    def wants_stop(self) -> bool:
        return bool(self.typed.stop_sequences)

    @property
    def end_user(self) -> str | None:
        return None if self.typed.metadata is None else self.typed.metadata.user_id

    def is_remarkable(self, names_files: bool) -> bool:
        if isinstance(self.typed, _PlainBody):
            return names_files and may_name_files(self._body)
        return is_remarkable(self._body)

    @property
    def extent(self) -> Extent:
        return Extent(self.typed.max_tokens)

    def forward(self, destination: Destination) -> bytes:
        members = jsonio.members(self._body)
        if not destination.quirks.message_threads:
            _refuse_thread(members)
        members["model"] = jsonio.raw(destination.model)
        members["stream"] = jsonio.TRUE if self.wants_stream else jsonio.FALSE
        left_out = open_envelopes(members, self.typed.messages, self.envelopes, destination)
        self.dropped = (*left_out, *refuse_unsupported(members, destination))
        return jsonio.encode(members)

    def open(self, call: Call) -> MessagesStream:
        return MessagesStream(call)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        return complete(body, call, destination)

    def encoder(self, call: Call) -> StreamEncoder:
        return MessagesEncoder(call)

    def encode_answer(self, output: Output, call: Call, destination: Destination) -> bytes:
        return encode_message(output, call, destination)

    def canonical(self) -> CanonicalRequest:
        typed = self.typed
        if typed.max_tokens == 0:
            raise invalid(
                "max_tokens", "only a provider of this API can fill its cache without an answer; give at least 1."
            )
        reader = Reader()
        members = jsonio.members(self._body)
        _refuse_thread(members)
        request = CanonicalRequest(
            client="messages",
            model=typed.model or "",
            items=[],
            max_output_tokens=typed.max_tokens,
            temperature=typed.temperature,
            top_p=typed.top_p,
            top_k=typed.top_k,
            stop=tuple(typed.stop_sequences or ()),
            user=self.end_user or "",
            service_tier={"standard_only": "default"}.get(typed.service_tier or "", typed.service_tier or ""),
            stream=self.wants_stream,
        )
        if isinstance(typed.system, str):
            request.instructions = typed.system
        elif typed.system:
            if len(typed.system) == 1 and typed.system[0].cache_control is None:
                request.instructions = typed.system[0].text or ""
            else:
                system = Blocks(typed.system, members["system"], "system")
                request.items.append(Message(role="system", content=reader.parts(system)))
        raws = jsonio.decode(members["messages"], _raw_messages)
        for place, (message, raw) in enumerate(zip(typed.messages, raws, strict=True)):
            if isinstance(message.content, str):
                request.items.append(Message(role=message.role, content=[TextPart(text=message.content)]))
                continue
            blocks = Blocks(message.content, raw.content, f"messages[{place}].content")
            if message.role == "assistant":
                request.items.extend(reader.assistant(blocks))
            else:
                request.items.extend(reader.user(blocks, message.role))
        names = dict(_NAMES)
        self._read_tools(request, reader, members)
        left = reader.left
        self._read_thinking(request, names, left)
        left.read(members.items(), MessagesBody.__struct_fields__, _REFUSED)
        left.look(members["messages"], MESSAGES, "messages")
        if typed.tools:
            left.look(members["tools"], TOOLS, "tools", numbered=False)
        for name, shape in MEMBERS.items():
            if name in members:
                left.look(members[name], shape, name)
        if typed.cache_control is not None:
            left.hint("cache_control")
        request.names = names
        request.hints = left.names
        request.refused = tuple(left.refused)
        return request

    def _read_tools(self, request: CanonicalRequest, reader: Reader, members: jsonio.Members) -> None:
        typed = self.typed
        if typed.tools:
            for tool, value in zip(typed.tools, jsonio.elements(members["tools"]), strict=True):
                if tool.type not in (None, "custom"):
                    request.tools.append(HostedTool(type=tool.type or "", value=value))
                    continue
                request.tools.append(
                    Tool(
                        name=tool.name or "",
                        description=tool.description or "",
                        parameters=tool.input_schema,
                        strict=tool.strict,
                        breakpoint=tool.cache_control is not None,
                    )
                )
        choice = typed.tool_choice
        if choice is None:
            return
        if choice.type == "tool":
            request.tool_choice = ToolChoice(mode="function", names=(choice.name or "",))
        else:
            request.tool_choice = ToolChoice(mode=_MODES[choice.type])
        if choice.disable_parallel_tool_use is not None:
            request.parallel_tool_calls = not choice.disable_parallel_tool_use

    def _read_thinking(self, request: CanonicalRequest, names: dict[str, str], left: Leftovers) -> None:
        config, thinking = self.typed.output_config, self.typed.thinking
        if config is not None:
            request.effort = config.effort or ""
            if config.format is not None:
                request.format = OutputFormat(
                    type="json_schema", name="output", schema=config.format.schema, strict=True
                )
        if thinking is None:
            return
        if thinking.type not in _THINKING:
            left.hint("thinking.type")
        if thinking.type in ("disabled", "between_tools"):
            if request.effort:
                left.hint("output_config.effort")  # it also tells Anthropic's models how much to say
            request.effort = "none"
            names["effort"] = "thinking"
            return
        if thinking.budget_tokens is not None:
            request.reasoning_budget = thinking.budget_tokens
        if thinking.display != "omitted":
            request.reasoning_summary = "auto"
            if thinking.display not in (None, "summarized"):
                left.hint("thinking.display")


_THINKING = frozenset({"adaptive", "disabled", "enabled"})
"""The types of `thinking` that others can have."""

_MODES: dict[str, Any] = {"auto": "auto", "any": "required", "none": "none"}


def _refuse_thread(members: jsonio.Members) -> None:
    """What goes on from a conversation that nobody here keeps would be answered without its history. With this error
    Anthropic's SDK sends the whole of it. Raises InvalidRequest."""
    if not jsonio.is_null(members.get("thread", jsonio.NULL)):
        raise InvalidRequest(
            "Unsupported parameter: 'thread': the provider of this model keeps no conversations. Send the whole "
            "conversation, without 'thread'.",
            param="thread",
            code="unsupported_parameter",
            details={"error_code": "thread_unsupported_request"},
        )


def parse_plain_request(body: bytes) -> MessagesRequest | None:
    """See :class:`tidegate.dialects.dialect.Dialect`."""
    typed = parse_plain(body, _plain)
    if typed is None or (isinstance(typed.system, list) and _has_more(typed.system)):
        return None
    for message in typed.messages:
        if isinstance(message.content, list) and _has_more(message.content):
            return None
    check_prompt(typed)
    return MessagesRequest(body, typed)


def _has_more(blocks: Sequence[ContentBlock]) -> bool:
    """Whether there is more in the blocks than text where any JSON may stand."""
    for block in blocks:
        if block.citations:
            return True
        if block.content:
            try:
                _plain_result.decode(block.content)
            except jsonio.UNREADABLE:
                return True
    return False


def parse_request(body: bytes) -> MessagesRequest:
    """Decode and validate. Raises InvalidRequest."""
    typed = parse(body, _decoder, _HINTS)
    check_prompt(typed)
    return MessagesRequest(body, typed)


def check_prompt(typed: PromptBody) -> None:
    """What a Struct cannot say. Raises InvalidRequest."""
    for index, tool in enumerate(typed.tools or ()):
        if tool.type in (None, "custom"):
            if not tool.name:
                raise missing(f"tools[{index}].name")
            if jsonio.is_null(tool.input_schema):
                raise missing(f"tools[{index}].input_schema", 'A tool without input has the schema {"type": "object"}.')
    choice = typed.tool_choice
    if choice is not None and choice.type == "tool" and not choice.name:
        raise missing("tool_choice.name")
    if typed.thinking is not None and typed.thinking.type == "enabled" and typed.thinking.budget_tokens is None:
        raise missing("thinking.budget_tokens")
    form = None if typed.output_config is None else typed.output_config.format
    if form is not None and form.type == "json_schema" and jsonio.is_null(form.schema):
        raise missing("output_config.format.schema")
    if isinstance(typed.system, list):
        for place, block in enumerate(typed.system):
            _check_block(block, f"system[{place}]")
    for index, message in enumerate(typed.messages):
        if isinstance(message.content, list):
            for place, block in enumerate(message.content):
                _check_block(block, f"messages[{index}].content[{place}]")


_NEEDED: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "image": ("source",),
    "document": ("source",),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id",),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}
"""Members that a block of a type cannot be without. Types that are not here travel on as they are."""


_NEEDED_OF_SOURCE: dict[str, tuple[str, ...]] = {
    "base64": ("media_type", "data"),
    "url": ("url",),
    "file": ("file_id",),
    "text": ("data",),
    "content": ("content",),
}


def _check_block(block: ContentBlock, path: str) -> None:
    for name in _NEEDED.get(block.type, ()):
        value = getattr(block, name)
        if value is None or (isinstance(value, msgspec.Raw) and jsonio.is_null(value)):
            raise missing(f"{path}.{name}")
    if block.type == "tool_use" and not bytes(block.input).startswith(b"{"):
        raise invalid(f"{path}.input", "expected an object.", "invalid_type")
    if isinstance(block.source, Source):
        _check_source(block.source, f"{path}.source")
    elif block.type in ("image", "document"):
        raise invalid(f"{path}.source", "expected an object, got a string.", "invalid_type")


def _check_source(source: Source, path: str) -> None:
    for name in _NEEDED_OF_SOURCE.get(source.type, ()):
        value = getattr(source, name)
        if value is None or value == jsonio.EMPTY:
            raise missing(f"{path}.{name}")
