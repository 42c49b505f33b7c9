"""The request of `POST /v1/responses`: validation, and the body that goes upstream."""

from collections.abc import Container, Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.dialect import Answer, Call, Destination, refuse_unsupported
from tidegate.dialects.extent import Extent, may_name_files
from tidegate.dialects.responses.answer import complete
from tidegate.dialects.responses.canonical import canonical_request, read_tool_names
from tidegate.dialects.responses.chat_body import as_chat_completion
from tidegate.dialects.responses.encoder import ResponsesEncoder, encode_answer
from tidegate.dialects.responses.envelope import Envelope
from tidegate.dialects.responses.prompt import ContentPart, InputItem, PromptBody, PromptRequest, check_prompt
from tidegate.dialects.responses.state import Kept, check_pairs, read_references
from tidegate.dialects.responses.stream import ResponsesStream
from tidegate.dialects.responses.tools import ToolNames
from tidegate.dialects.validation import invalid, missing, parse, parse_plain
from tidegate.wire import jsonio
from tidegate.wire.errors import UnsupportedParameter
from tidegate.wire.events import Usage
from tidegate.wire.items import CanonicalRequest, Output

__all__ = [
    "Metadata",
    "Reasoning",
    "ResponsesBody",
    "ResponsesRequest",
    "Text",
    "Tool",
    "ToolChoice",
    "check_text",
    "check_tools",
    "parse_plain_request",
    "parse_request",
]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


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


class StreamOptions(msgspec.Struct):
    include_obfuscation: bool | None = None


class ResponsesBody(PromptBody):
    """The documented members with their ranges (protocol §1.2). Members that we do not know travel on unread."""

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
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


_None = Annotated[list[msgspec.Raw], Meta(max_length=0)]


class _PlainPart(ContentPart, forbid_unknown_fields=True):
    type: Literal["input_text", "output_text", "refusal", "reasoning_text"]
    image_url: None = None
    refusal: str | None = None
    annotations: _None | None = None
    logprobs: _None | None = None


class _PlainSummary(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["summary_text"]
    text: str


class _PlainItem(InputItem, forbid_unknown_fields=True):
    type: (
        Literal[
            "message",
            "function_call",
            "function_call_output",
            "custom_tool_call",
            "custom_tool_call_output",
            "reasoning",
        ]
        | None
    ) = None
    content: str | list[_PlainPart] | None = None  # type: ignore[assignment]
    summary: list[_PlainSummary] | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | None = None
    status: str | None = None
    phase: str | None = None


class _PlainTool(Tool, forbid_unknown_fields=True):
    type: Literal["function", "custom"]
    description: str | None = None
    parameters: msgspec.Raw = jsonio.NULL
    strict: bool | None = None
    format: msgspec.Raw = jsonio.NULL


class _PlainReasoning(Reasoning, forbid_unknown_fields=True):
    pass


class _PlainBody(ResponsesBody, forbid_unknown_fields=True, kw_only=True):
    """A body that is text and functions of the client's, and nothing that could cost more: what decodes as this has not to
    be searched for that, which takes longer than all else on a long request. Most decode."""

    input: str | Annotated[list[_PlainItem], Meta(min_length=1)] | None = None  # type: ignore[assignment]
    prompt: None = None
    tools: list[_PlainTool] | None = None  # type: ignore[assignment]
    reasoning: _PlainReasoning | None = None
    service_tier: None = None


_decoder = jsonio.decoder(ResponsesBody)
_plain = jsonio.decoder(_PlainBody)

_ENCRYPTED = "reasoning.encrypted_content"
_TOOL_CHOICES = ("none", "auto", "required")


class ResponsesRequest(PromptRequest[ResponsesBody]):
    """A validated request of this dialect."""

    __slots__ = ("kept", "left_out")

    def __init__(self, body: bytes, typed: ResponsesBody) -> None:
        super().__init__(body, typed, stream=typed.stream)
        self.kept: Kept | None = None
        """Set, before anything is made of the request, where its answer can be retrieved later."""
        self.left_out: list[bytes] = []
        """Tools that the provider of the present attempt is not told of: the response does not repeat them."""

    def has_remarkable_body(self, names_files: bool) -> bool:
        if isinstance(self.typed, _PlainBody):
            return names_files and may_name_files(self._body)
        return super().has_remarkable_body(names_files)

    def reads(self) -> int | None:
        """See :func:`tidegate.dialects.extent.reads`. A template may have tools that the provider runs."""
        if self.typed.prompt is None:
            return super().reads()
        most = self.typed.max_tool_calls
        return None if most is None else 1 + most

    @property
    def wants_stop(self) -> bool:
        return bool(self.typed.stop)

    @property
    def end_user(self) -> str | None:
        return self.typed.safety_identifier or self.typed.user

    @property
    def affinity(self) -> str:
        typed = self.typed
        conversation = typed.conversation
        if conversation is not None and not isinstance(conversation, str):
            conversation = conversation.id
        return typed.prompt_cache_key or conversation or ""

    @property
    def extent(self) -> Extent:
        return Extent(self.typed.max_output_tokens, self.typed.n or 1)

    def state_members(self) -> jsonio.Members:
        """Members of the response object that say what is kept, and what was built on."""
        members: jsonio.Members = {}
        if self.kept is not None:
            members = {"store": jsonio.TRUE, "background": jsonio.TRUE if self.typed.background else jsonio.FALSE}
        elif not self.resolved:
            return members  # what it builds on, if anything, lies with the provider
        references = read_references(self.typed)
        if references is not None and references.previous is not None:
            members["previous_response_id"] = jsonio.raw(references.previous)
        if references is not None and references.conversation is not None:
            members["conversation"] = jsonio.raw({"id": references.conversation})
        return members

    @property
    def asks_for_state(self) -> bool:
        typed = self.typed
        return typed.store is not False or typed.background is True or self.references is not None

    @property
    def tells_conversation(self) -> bool:
        """The response object names the conversation that it belongs to, for which no upstream's answer has room."""
        return self.typed.conversation is not None and (self.kept is not None or self.resolved)

    def detach(self) -> None:
        """The answer is followed from elsewhere (`background`): the provider is asked for a stream in any case."""
        self.stream = True

    def queued(self, call: Call, model: str) -> bytes:
        """The response object of an answer in the background that nothing is known of yet."""
        return Envelope(self, call).snapshot(None, "queued", model=model)

    def forward(self, destination: Destination) -> bytes:
        self._refuse_background()
        members = self._whole()
        members["model"] = jsonio.raw(destination.model)
        members["stream"] = jsonio.TRUE if self.wants_stream else jsonio.FALSE
        if destination.gateway_state:
            members.pop("background", None)
            if destination.stores:
                members["store"] = jsonio.FALSE
            else:
                members.pop("store", None)
            # Models that do not reason refuse both members; the first tells that this one does.
            if destination.encrypted_reasoning and self.typed.reasoning is not None:
                members["include"] = jsonio.raw([*dict.fromkeys([*(self.typed.include or ()), _ENCRYPTED])])
        left_out = self._fit(members, destination)
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
        answer = complete(body, self, call, destination)
        if call.profile.responses_as_chat:
            answer = Answer(as_chat_completion(answer.body), answer.usage, answer.status)
        return answer

    def prepared(self, call: Call, destination: Destination) -> Answer:
        """The answer to a request that is only made for others to build on (`generate: false`, protocol §1.9): a response
        without output. No provider is asked. Raises NotFound and InvalidRequest."""
        self._refuse_state_we_lack(destination)
        body = Envelope(self, call).snapshot(
            None,
            "completed",
            model=destination.model,
            output=jsonio.raw([]),
            usage=Usage(),
            completed_at=max(call.created_at, call.wall_clock()),
        )
        return Answer(body, Usage(), "completed")

    def canonical(self) -> CanonicalRequest:
        """See :class:`tidegate.dialects.codec.BridgedRequest`."""
        self._refuse_background()
        self._refuse_state_we_lack(None)
        asked = canonical_request(self._whole(), self.typed)
        if isinstance(self.typed.input, list) and not self.resolved:
            check_pairs(self.typed.input)  # a provider of this API does so itself
        asked.stream = self.wants_stream
        return asked

    def encoder(self, call: Call) -> ResponsesEncoder:
        return ResponsesEncoder(Envelope(self, call), call, self._tool_names())

    def encode_answer(self, output: Output, call: Call, destination: Destination) -> bytes:
        body = encode_answer(output, Envelope(self, call), call, destination, self._tool_names())
        return as_chat_completion(body) if call.profile.responses_as_chat else body

    def _tool_names(self) -> ToolNames:
        if b'"namespace"' in self._body or b'"tool_search' in self._body:
            return read_tool_names(self.members)
        return ToolNames()

    def _refuse_background(self) -> None:
        if self.typed.background and self.kept is None:
            raise UnsupportedParameter(
                "Unsupported parameter: 'background' needs stored responses, which this gateway does not keep.",
                param="background",
            )

    def _refuse_state_we_lack(self, destination: Destination | None) -> None:
        super()._refuse_state_we_lack(destination)
        if self.typed.prompt is not None:
            who_is = (
                "providers of other dialects are" if destination is None else f"provider '{destination.provider}' is"
            )
            raise UnsupportedParameter(
                f"Unsupported parameter: 'prompt' names a template that the provider stores, but {who_is} called "
                'without state. Set state = "provider" for a provider of Responses to use templates.',
                param="prompt",
            )


def parse_plain_request(body: bytes) -> ResponsesRequest | None:
    """See :class:`tidegate.dialects.dialect.Dialect`."""
    typed = parse_plain(body, _plain)
    return None if typed is None else _checked(body, typed, generates=True)


def parse_request(body: bytes, *, generates: bool = True) -> ResponsesRequest:
    """Decode and validate. A request that generates nothing needs no input. Raises InvalidRequest."""
    return _checked(body, parse(body, _decoder), generates=generates)


def _checked(body: bytes, typed: ResponsesBody, *, generates: bool) -> ResponsesRequest:
    if (
        generates
        and typed.input is None
        and typed.prompt is None
        and typed.previous_response_id is None
        and typed.conversation is None
    ):
        raise missing("input", "This is /v1/responses; 'messages' belongs to /v1/chat/completions.")
    check_prompt(typed)
    if typed.stream_options is not None and not typed.stream:
        raise invalid("stream_options", "it is only allowed when 'stream' is true.")
    check_tools(typed.tools, typed.tool_choice)
    check_text(typed.text)
    return ResponsesRequest(body, typed)


def check_tools(tools: list[Tool] | None, tool_choice: str | ToolChoice | None) -> None:
    """Raises InvalidRequest for a choice that there is not, and for a tool without its name."""
    if isinstance(tool_choice, str) and tool_choice not in _TOOL_CHOICES:
        raise invalid("tool_choice", "expected one of 'none', 'auto', 'required', or an object.")
    for index, tool in enumerate(tools or ()):
        if tool.type in ("function", "custom") and not tool.name:
            raise missing(f"tools[{index}].name", "Responses tools are flat: the name stands beside the type.")


def check_text(text: Text | None) -> None:
    """Raises InvalidRequest for a format without its name."""
    if text is not None and text.format is not None and text.format.type == "json_schema" and not text.format.name:
        raise missing("text.format.name")
