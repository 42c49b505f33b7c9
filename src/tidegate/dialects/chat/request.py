"""OpenAI Chat Completions (`POST /v1/chat/completions`)."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.chat.canonical import canonical_request
from tidegate.dialects.chat.encoder import ChatEncoder, chat_answer
from tidegate.dialects.choices import ChoicesStream, complete_choices
from tidegate.dialects.dialect import Answer, Call, Destination, Endpoint, OpenAIErrors, Received, refuse_unsupported
from tidegate.dialects.envelope import PREFIX
from tidegate.dialects.extent import Extent, is_remarkable, may_name_files
from tidegate.dialects.validation import invalid, missing, parse, parse_plain
from tidegate.wire import jsonio
from tidegate.wire.items import CanonicalRequest, Output

__all__ = ["ChatBody", "ChatDialect", "ChatRequest", "StreamOptions", "forward_choices"]


class ContentPart(msgspec.Struct):
    type: str
    text: str | None = None


class Function(msgspec.Struct):
    name: str
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    id: str | None = None
    type: str | None = None
    function: Function | None = None


class Message(msgspec.Struct):
    """One message. Members that we do not know (reasoning_content, audio, …) travel on unread."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class ToolFunction(msgspec.Struct):
    name: str


class Tool(msgspec.Struct):
    type: str
    function: ToolFunction | None = None


class ToolChoice(msgspec.Struct):
    type: str


class ResponseFormat(msgspec.Struct):
    type: str


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatBody(msgspec.Struct):
    """The documented members with their ranges (protocol §3.1)."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    seed: int | None = None
    user: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_key: str | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    functions: list[ToolFunction] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
        | None
    ) = None


class _PlainPart(ContentPart, forbid_unknown_fields=True):
    type: Literal["text"]


class _PlainFunction(Function, forbid_unknown_fields=True):
    pass


class _PlainToolCall(ToolCall, forbid_unknown_fields=True):
    type: Literal["function"] | None = None
    function: _PlainFunction | None = None


class _PlainMessage(Message, forbid_unknown_fields=True):
    content: str | list[_PlainPart] | None = None  # type: ignore[assignment]
    tool_calls: list[_PlainToolCall] | None = None  # type: ignore[assignment]
    refusal: str | None = None
    function_call: None = None
    audio: None = None


class _PlainToolFunction(ToolFunction, forbid_unknown_fields=True):
    description: str | None = None
    parameters: msgspec.Raw = jsonio.NULL
    strict: bool | None = None


class _PlainTool(Tool, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _PlainToolFunction | None = None


class _PlainBody(ChatBody, forbid_unknown_fields=True, kw_only=True):
    """A body that is text and functions of the client's, and nothing that could cost more: what decodes as this has not to
    be searched for that, which takes longer than all else on a long request. Most decode."""

    messages: Annotated[list[_PlainMessage], Meta(min_length=1)]  # type: ignore[assignment]
    tools: list[_PlainTool] | None = None  # type: ignore[assignment]
    functions: None = None


_decoder = jsonio.decoder(ChatBody)
_plain = jsonio.decoder(_PlainBody)

_MARK = PREFIX.encode()


class ChatRequest(Received[ChatBody]):
    """A validated request of this dialect."""

    __slots__ = ()

    @property
    def wants_stop(self) -> bool:
        return bool(self.typed.stop)

    @property
    def end_user(self) -> str | None:
        return self.typed.safety_identifier or self.typed.user

    @property
    def affinity(self) -> str:
        return self.typed.prompt_cache_key or ""

    def is_remarkable(self, names_files: bool) -> bool:
        if isinstance(self.typed, _PlainBody):
            return names_files and may_name_files(self._body)
        return is_remarkable(self._body)

    @property
    def extent(self) -> Extent:
        typed = self.typed
        most, other = typed.max_completion_tokens, typed.max_tokens
        if most is None or (other is not None and other > most):
            most = other
        return Extent(most, typed.n or 1)

    def forward(self, destination: Destination) -> bytes:
        body = self._body
        left_out: tuple[str, ...] = ()
        refused = destination.quirks.refuses_reasoning and b'"reasoning_content"' in body
        if refused or body.find(_MARK) >= 0:
            body, left_out = _readable(body, plain=not refused)
        body, dropped = forward_choices(body, destination, stream=self.wants_stream)
        self.dropped = (*left_out, *dropped)
        return body

    def open(self, call: Call) -> ChoicesStream:
        return ChoicesStream(
            call, kind="chat.completion.chunk", wants_usage=self._wants_usage, choices=self.typed.n or 1
        )

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        return complete_choices(body, call, destination, kind="chat.completion.chunk")

    def canonical(self) -> CanonicalRequest:
        return canonical_request(self._body)

    def encoder(self, call: Call) -> ChatEncoder:
        return ChatEncoder(call, wants_usage=self._wants_usage, legacy_functions=self._speaks_of_functions)

    def encode_answer(self, output: Output, call: Call, destination: Destination) -> bytes:
        return chat_answer(output, call, destination, legacy_functions=self._speaks_of_functions)

    @property
    def _wants_usage(self) -> bool:
        options = self.typed.stream_options
        return options is not None and options.include_usage is True

    @property
    def _speaks_of_functions(self) -> bool:
        """The client knows calls only by their name of 2023."""
        return bool(self.typed.functions) and not self.typed.tools


class ChatDialect(OpenAIErrors):
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    name: Endpoint = "chat"
    path = "/v1/chat/completions"
    media_param = "messages"
    body_type = ChatBody

    def parse_plain(self, body: bytes) -> ChatRequest | None:
        typed = parse_plain(body, _plain)
        return None if typed is None else self._checked(body, typed)

    def parse(self, body: bytes) -> ChatRequest:
        return self._checked(body, parse(body, _decoder))

    def _checked(self, body: bytes, typed: ChatBody) -> ChatRequest:
        if typed.stream_options is not None and not typed.stream:
            raise invalid("stream_options", "it is only allowed when 'stream' is true.")
        for index, tool in enumerate(typed.tools or ()):
            if tool.type == "function" and tool.function is None:
                raise missing(f"tools[{index}].function")
        for index, message in enumerate(typed.messages):
            if message.role == "tool" and not message.tool_call_id:
                raise missing(f"messages[{index}].tool_call_id")
            if message.content is None and message.role in ("system", "developer", "user"):
                raise missing(f"messages[{index}].content")
            if isinstance(message.content, list):
                for place, part in enumerate(message.content):
                    if part.type == "text" and part.text is None:
                        raise missing(f"messages[{index}].content[{place}].text")
        return ChatRequest(body, typed)


class _Detail(msgspec.Struct):
    data: str | None = None


_details = jsonio.decoder(list[_Detail])


def _readable(body: bytes, *, plain: bool) -> tuple[bytes, tuple[str, ...]]:
    """The body without reasoning that stands in envelopes of ours, which a provider of this API cannot read, and unless
    `plain` without what others told in words; the names of what is left out."""
    members = jsonio.members(body)
    messages: list[Any] = []
    dropped: dict[str, None] = {}
    for raw in jsonio.elements(members["messages"]):
        message = jsonio.members(raw)
        try:
            known = jsonio.decode(message.get("reasoning_details", jsonio.NULL), _details)
        except jsonio.SchemaMismatch:
            known = []
        sealed = any(_is_envelope(detail) for detail in known)
        if sealed:
            dropped["reasoning_details"] = None
            own = zip(jsonio.elements(message.pop("reasoning_details")), known, strict=True)
            if left := [detail for detail, read in own if not _is_envelope(read)]:
                message["reasoning_details"] = jsonio.raw(left)
        told = not plain and "reasoning_content" in message
        if told and not jsonio.is_null(message.pop("reasoning_content")):
            dropped["reasoning_content"] = None
        messages.append(message if sealed or told else raw)
    return jsonio.encode({**members, "messages": messages}), tuple(dropped)


def _is_envelope(detail: _Detail) -> bool:
    return detail.data is not None and detail.data.startswith(PREFIX)


_ONLY_USAGE = jsonio.raw({"include_usage": True})


def forward_choices(body: bytes, destination: Destination, *, stream: bool) -> tuple[bytes, tuple[str, ...]]:
    """The body for the upstream, for chat and for text completions, and the names of what was left out.

    Usage is asked for on every stream that can have it: the ledger needs it, and the frame is withheld from a client
    that did not ask.
    """
    members = jsonio.members(body)
    members["model"] = jsonio.raw(destination.model)
    members["stream"] = jsonio.TRUE if stream else jsonio.FALSE
    if stream and destination.include_usage:
        options = members.get("stream_options", jsonio.NULL)
        if options == jsonio.NULL:
            members["stream_options"] = _ONLY_USAGE
        else:
            members["stream_options"] = jsonio.raw({**jsonio.members(options), "include_usage": True})
    elif not destination.include_usage:
        members.pop("stream_options", None)
    dropped = refuse_unsupported(members, destination)
    return jsonio.encode(members), dropped
