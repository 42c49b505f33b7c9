"""The request of `POST /v1/responses`: validation, and the body that goes upstream."""

from collections.abc import Container, Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.dialect import Answer, Call, Destination, Received, refuse_unsupported, unsupported
from tidegate.dialects.envelope import PREFIX, Envelopes
from tidegate.dialects.responses.answer import complete
from tidegate.dialects.responses.canonical import canonical_request, read_tool_names
from tidegate.dialects.responses.encoder import ResponsesEncoder, encode_answer
from tidegate.dialects.responses.envelope import Envelope
from tidegate.dialects.responses.foreign import may_be_foreign, own_items
from tidegate.dialects.responses.sealing import opened_input
from tidegate.dialects.responses.stream import ResponsesStream
from tidegate.dialects.responses.tools import ToolNames
from tidegate.dialects.validation import invalid, missing, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, NotFound, UnsupportedParameter
from tidegate.wire.items import CanonicalRequest, Output

__all__ = ["ResponsesBody", "ResponsesRequest", "parse_request"]

Role = Literal["user", "assistant", "system", "developer", "tool", "critic", "discriminator", "unknown"]
"""The last four stand in items of conversations, which clients send back as they got them."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ContentPart(msgspec.Struct):
    """One part of a message's content. Types that we do not know travel on as they are."""

    type: str
    text: str | None = None
    image_url: str | None = None


class InputItem(msgspec.Struct):
    """One item of `input`. `type` may be absent for easy messages and item references: the shape decides."""

    type: str | None = None
    id: str | None = None
    role: Role | None = None
    content: str | list[ContentPart] | None = None
    call_id: str | None = None
    encrypted_content: str | None = None


class Tool(msgspec.Struct):
    type: str
    name: str | None = None


class ToolChoice(msgspec.Struct):
    type: str


class TextFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Meta(max_length=64)] | None = None


class Text(msgspec.Struct):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(msgspec.Struct):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class Prompt(msgspec.Struct):
    id: str


class ConversationReference(msgspec.Struct):
    id: str


class StreamOptions(msgspec.Struct):
    include_obfuscation: bool | None = None


class ResponsesBody(msgspec.Struct):
    """The documented members with their ranges (protocol §1.2). Members that we do not know travel on unread."""

    model: str | None = None
    input: str | Annotated[list[InputItem], Meta(min_length=1)] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationReference | None = None
    prompt: Prompt | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: list[str] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    parallel_tool_calls: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    n: Annotated[int, Meta(ge=1)] | None = None
    stop: str | list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Annotated[dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)] | None = None
    user: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


_decoder = jsonio.decoder(ResponsesBody)
_items = jsonio.decoder(list[jsonio.Members])

_ENCRYPTED = "reasoning.encrypted_content"
_TOOL_CHOICES = ("none", "auto", "required")
_STATE_MEMBERS = ("background", "previous_response_id", "conversation")


class ResponsesRequest(Received[ResponsesBody]):
    """A validated request of this dialect."""

    __slots__ = ("_members", "envelopes", "left_out")

    def __init__(self, body: bytes, typed: ResponsesBody) -> None:
        super().__init__(body, typed)
        self.envelopes: Envelopes | None = None
        self._members: jsonio.Members | None = None
        self.left_out: list[bytes] = []
        """Tools that the provider of the present attempt is not told of: the response does not repeat them."""

    @property
    def wants_stop(self) -> bool:
        return bool(self.typed.stop)

    @property
    def end_user(self) -> str | None:
        return self.typed.safety_identifier or self.typed.user

    @property
    def members(self) -> jsonio.Members:
        """The client's members as they came."""
        if self._members is None:
            self._members = jsonio.members(self._body)
        return self._members

    def forward(self, destination: Destination) -> bytes:
        self._refuse_background()
        members = dict(self.members)
        members["model"] = jsonio.raw(destination.model)
        members["stream"] = jsonio.TRUE if self.wants_stream else jsonio.FALSE
        if destination.gateway_state:
            self._refuse_state_we_lack(f"provider '{destination.provider}' is")
            for name in _STATE_MEMBERS:
                members.pop(name, None)
            if destination.stores:
                members["store"] = jsonio.FALSE
            else:
                members.pop("store", None)
            # Models that do not reason refuse both members; the first tells that this one does.
            if destination.encrypted_reasoning and self.typed.reasoning is not None:
                members["include"] = jsonio.raw([*dict.fromkeys([*(self.typed.include or ()), _ENCRYPTED])])
            if isinstance(self.typed.input, list) and any(item.id is not None for item in self.typed.input):
                members["input"] = _without_ids(members["input"], self.typed.input)
        left_out: tuple[str, ...] = ()
        if self._has_reasoning:
            members["input"], left_out = opened_input(members["input"], self.envelopes, destination)
        given = self.typed.input
        if isinstance(given, list) and may_be_foreign({item.type for item in given}):
            members["input"], searches, others = own_items(members["input"])
            left_out += ("input[].web_search_call",) if searches else ()
            if others and not destination.drops:
                why = [f"Items of type '{kind[:64]}' are another API's." for kind in dict.fromkeys(others)]
                raise unsupported({"input": why}, destination)
            left_out += ("input",) if others else ()
        self.dropped = (*left_out, *refuse_unsupported(members, destination))
        if self.left_out or "tools" in self.dropped:
            self.leave_out((), self.dropped)
        return jsonio.encode(members)

    def leave_out(self, tools: Iterable[jsonio.Raw], dropped: Container[str]) -> None:
        """What the present attempt does without: some `tools`, or all of them, where that is among what was `dropped`."""
        gone = jsonio.elements(self.members["tools"]) if "tools" in dropped else tools
        self.left_out[:] = [bytes(tool) for tool in gone]

    def open(self, call: Call) -> ResponsesStream:
        return ResponsesStream(Envelope(self, call), call, self.envelopes)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        return complete(body, Envelope(self, call), call, destination, self.envelopes)

    def canonical(self) -> CanonicalRequest:
        """See :class:`tidegate.dialects.codec.BridgedRequest`."""
        self._refuse_background()
        self._refuse_state_we_lack("providers of other dialects are")
        return canonical_request(self.members, self.typed)

    def encoder(self, call: Call) -> ResponsesEncoder:
        return ResponsesEncoder(Envelope(self, call), call, self._tool_names())

    def encode_answer(self, output: Output, call: Call, destination: Destination) -> bytes:
        return encode_answer(output, Envelope(self, call), call, destination, self._tool_names())

    def _tool_names(self) -> ToolNames:
        if b'"namespace"' in self._body or b'"tool_search' in self._body:
            return read_tool_names(self.members)
        return ToolNames()

    @property
    def _has_reasoning(self) -> bool:
        given = self.typed.input
        return isinstance(given, list) and any(
            item.type == "reasoning" or (item.encrypted_content or "").startswith(PREFIX) for item in given
        )

    def _refuse_background(self) -> None:
        if self.typed.background:
            raise UnsupportedParameter(
                "Unsupported parameter: 'background' needs stored responses, which this gateway does not keep.",
                param="background",
            )

    def _refuse_state_we_lack(self, who_is: str) -> None:
        """A request must never lose its history in silence: what we do not hold is refused as the API refuses it.
        `who_is` called without state, in words."""
        typed = self.typed
        if typed.previous_response_id is not None:
            raise InvalidRequest(
                f"Previous response with id '{typed.previous_response_id}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        if typed.conversation is not None:
            name = typed.conversation if isinstance(typed.conversation, str) else typed.conversation.id
            raise NotFound(f"Conversation with id '{name}' not found.", param="conversation")
        if typed.prompt is not None:
            raise UnsupportedParameter(
                f"Unsupported parameter: 'prompt' names a template that the provider stores, but {who_is} called "
                'without state. Set state = "provider" for a provider of Responses to use templates.',
                param="prompt",
            )
        if isinstance(typed.input, list):
            for index, item in enumerate(typed.input):
                if _is_reference(item):
                    raise NotFound(f"Item with id '{item.id}' not found.", param=f"input[{index}].id")


def parse_request(body: bytes) -> ResponsesRequest:
    """Decode and validate. Raises InvalidRequest."""
    typed = parse(body, _decoder)
    if (
        typed.input is None
        and typed.prompt is None
        and typed.previous_response_id is None
        and typed.conversation is None
    ):
        raise missing("input", "This is /v1/responses; 'messages' belongs to /v1/chat/completions.")
    if typed.previous_response_id is not None and typed.conversation is not None:
        raise invalid(
            "previous_response_id", "it cannot be used together with 'conversation'.", "mutually_exclusive_parameters"
        )
    if typed.stream_options is not None and not typed.stream:
        raise invalid("stream_options", "it is only allowed when 'stream' is true.")
    if isinstance(typed.tool_choice, str) and typed.tool_choice not in _TOOL_CHOICES:
        raise invalid("tool_choice", "expected one of 'none', 'auto', 'required', or an object.")
    for index, tool in enumerate(typed.tools or ()):
        if tool.type in ("function", "custom") and not tool.name:
            raise missing(f"tools[{index}].name", "Responses tools are flat: the name stands beside the type.")
    if isinstance(typed.input, list):
        for index, item in enumerate(typed.input):
            _check_item(item, f"input[{index}]")
    if typed.text is not None and typed.text.format is not None:
        form = typed.text.format
        if form.type == "json_schema" and not form.name:
            raise missing("text.format.name")
    return ResponsesRequest(body, typed)


def _check_item(item: InputItem, path: str) -> None:
    if item.type == "message" or (item.type is None and not _is_reference(item)):
        if item.role is None:
            raise missing(f"{path}.role")
        if item.content is None:
            raise missing(f"{path}.content")
    if isinstance(item.content, list):
        for index, part in enumerate(item.content):
            if part.type in ("input_text", "output_text") and part.text is None:
                raise missing(f"{path}.content[{index}].text")
    if item.type in ("function_call", "custom_tool_call", "custom_tool_call_output") and not item.call_id:
        raise missing(f"{path}.call_id")


def _is_reference(item: InputItem) -> bool:
    return item.type == "item_reference" or (item.type is None and item.id is not None and item.role is None)


ID_NEEDED = frozenset(
    {
        "code_interpreter_call",
        "computer_call",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "local_shell_call_output",
        "mcp_approval_request",
        "mcp_call",
        "mcp_list_tools",
        "program",
        "program_output",
        "web_search_call",
    }
)
"""Items that mean nothing without their id: others refer to it, or the schema asks for it and nobody looks it up."""


def _without_ids(value: msgspec.Raw, typed: list[InputItem]) -> msgspec.Raw:
    """Item ids are ours or another provider's: a stateless upstream would look them up and answer 404 (protocol §1.4)."""
    items = jsonio.decode(value, _items)
    for item, known in zip(items, typed, strict=True):
        if known.type not in ID_NEEDED:
            item.pop("id", None)
    return jsonio.raw(items)
