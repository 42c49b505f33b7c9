"""The request of `POST /v1/responses`: validation, and the body that goes upstream."""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.dialect import Answer, Call, Destination, Received, refuse_unsupported, unsupported
from tidegate.dialects.envelope import PREFIX, Envelopes
from tidegate.dialects.responses.answer import complete
from tidegate.dialects.responses.canonical import canonical_request, read_tool_names
from tidegate.dialects.responses.chat_body import as_chat_completion
from tidegate.dialects.responses.encoder import ResponsesEncoder, encode_answer
from tidegate.dialects.responses.envelope import Envelope
from tidegate.dialects.responses.foreign import may_be_foreign, own_items
from tidegate.dialects.responses.sealing import opened_input
from tidegate.dialects.responses.state import (
    Ground,
    Kept,
    NewId,
    References,
    given_items,
    is_reference,
    kept_items,
    read_references,
    with_history,
)
from tidegate.dialects.responses.stream import ResponsesStream
from tidegate.dialects.responses.tools import ToolNames
from tidegate.dialects.validation import invalid, missing, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, NotFound, UnsupportedParameter
from tidegate.wire.events import Usage
from tidegate.wire.items import CanonicalRequest, Output

__all__ = [
    "InputItem",
    "Metadata",
    "ResponsesBody",
    "ResponsesRequest",
    "check_item",
    "parse_request",
    "previous_not_found",
]

Role = Literal["user", "assistant", "system", "developer", "tool", "critic", "discriminator", "unknown"]
"""The last four stand in items of conversations, which clients send back as they got them."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


Metadata = Annotated[dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]


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
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


_decoder = jsonio.decoder(ResponsesBody)
_items = jsonio.decoder(list[jsonio.Members])
_input = jsonio.decoder(list[InputItem])

_ENCRYPTED = "reasoning.encrypted_content"
_TOOL_CHOICES = ("none", "auto", "required")
_HISTORY_MEMBERS = ("previous_response_id", "conversation")
_STATE_MEMBERS = ("background", *_HISTORY_MEMBERS)


class ResponsesRequest(Received[ResponsesBody]):
    """A validated request of this dialect."""

    __slots__ = ("_before", "_history", "_members", "envelopes", "ground", "kept", "left_out")

    def __init__(self, body: bytes, typed: ResponsesBody) -> None:
        super().__init__(body, typed)
        self.envelopes: Envelopes | None = None
        self._members: jsonio.Members | None = None
        self._history: msgspec.Raw | None = None
        """`input` with all that it builds on, once that was resolved."""
        self._before = 0
        """Bytes of `_history` that were not sent with the request."""
        self.ground: Ground | None = None
        """What it builds on, where that is at hand. Set before anything is made of the request."""
        self.kept: Kept | None = None
        """Set, before anything is made of the request, where its answer can be retrieved later."""
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

    @property
    def references(self) -> References | None:
        """What must be looked up before the request can be answered."""
        references = read_references(self.typed)
        return references if references is None or self.ground is None else self.ground.left(references)

    @property
    def resolved(self) -> bool:
        """Whether it was given what it refers to."""
        return self._history is not None

    def given_items(self, found: Mapping[str, bytes]) -> list[bytes]:
        """The request's own input as the items that another request may build on, those of `found`, by id, where references
        stand. Before `resolve`. Raises NotFound."""
        return [jsonio.encode(item) for item in given_items(self.members.get("input"), self.typed, found)]

    def resolve(self, history: Sequence[bytes], found: Mapping[str, bytes]) -> None:
        """Go on as if the client had sent all that the request refers to: the items of `history` before its own, those of
        `found`, by id, where references stand. Raises NotFound and InvalidRequest."""
        if self.ground is not None:
            history = (*(self.ground.history or ()), *history)
            found = {**found, **self.ground.named}
        whole = with_history(self.members.get("input"), self.typed, history, found)
        self._before = sum(map(len, history))
        self._history = whole
        self.typed.input = jsonio.decode(whole, _input)

    def kept_items(self, new_id: NewId) -> list[tuple[str, bytes]]:
        """See :func:`tidegate.dialects.responses.state.kept_items`. Before `resolve`. The history that is at hand is kept
        nowhere else, so that it counts as the request's own."""
        own = kept_items(self.members.get("input"), self.typed.input, new_id)
        if self.ground is None or not self.ground.history:
            return own
        before = jsonio.raw([msgspec.Raw(item) for item in self.ground.history])
        return [*kept_items(before, jsonio.decode(before, _input), new_id), *own]

    def settle(self) -> int:
        """Nothing will be looked up any more: what is at hand takes effect, if that is all. Returns how many bytes of items
        come before the request's own. Raises as `resolve` does."""
        if self.ground is not None and self._history is None and self.references is None:
            self.resolve((), {})
        return self._before

    def whole_items(self) -> list[bytes]:
        """The items that the request consists of once it is resolved."""
        assert self._history is not None
        return [bytes(item) for item in jsonio.elements(self._history)]

    def state_members(self) -> jsonio.Members:
        """Members of the response object that say what is kept."""
        if self.kept is None:
            return {}
        members = {"store": jsonio.TRUE, "background": jsonio.TRUE if self.typed.background else jsonio.FALSE}
        references = read_references(self.typed)
        if references is not None and references.previous is not None:
            members["previous_response_id"] = jsonio.raw(references.previous)
        if references is not None and references.conversation is not None:
            members["conversation"] = jsonio.raw({"id": references.conversation})
        return members

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

    def _whole(self) -> jsonio.Members:
        members = dict(self.members)
        if self._history is not None:
            members["input"] = self._history
            for name in _HISTORY_MEMBERS:  # a provider that keeps state would put its own history before it
                members.pop(name, None)
        return members

    def leave_out(self, tools: Iterable[jsonio.Raw], dropped: Container[str]) -> None:
        """What the present attempt does without: some `tools`, or all of them, where that is among what was `dropped`."""
        gone = jsonio.elements(self.members["tools"]) if "tools" in dropped else tools
        self.left_out[:] = [bytes(tool) for tool in gone]

    def open(self, call: Call) -> ResponsesStream:
        return ResponsesStream(Envelope(self, call), call, self.envelopes)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        answer = complete(body, Envelope(self, call), call, destination, self.envelopes)
        if call.profile.responses_as_chat:
            answer = Answer(as_chat_completion(answer.body), answer.usage, answer.status)
        return answer

    def prepared(self, call: Call, destination: Destination) -> Answer:
        """The answer to a request that is only made for others to build on (`generate: false`, protocol §1.9): a response
        without output. No provider is asked. Raises NotFound and InvalidRequest."""
        self._refuse_state_we_lack(f"provider '{destination.provider}' is")
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
        self._refuse_state_we_lack("providers of other dialects are")
        asked = canonical_request(self._whole(), self.typed)
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

    @property
    def _has_reasoning(self) -> bool:
        given = self.typed.input
        return isinstance(given, list) and any(
            item.type == "reasoning" or (item.encrypted_content or "").startswith(PREFIX) for item in given
        )

    def _refuse_background(self) -> None:
        if self.typed.background and self.kept is None:
            raise UnsupportedParameter(
                "Unsupported parameter: 'background' needs stored responses, which this gateway does not keep.",
                param="background",
            )

    def _refuse_state_we_lack(self, who_is: str) -> None:
        """A request must never lose its history in silence: what we do not hold is refused as the API refuses it.
        `who_is` called without state, in words."""
        typed = self.typed
        references = self.references if self._history is None else None
        if references is not None and references.previous is not None:
            raise previous_not_found(references.previous)
        if references is not None and references.conversation is not None:
            raise NotFound(f"Conversation with id '{references.conversation}' not found.", param="conversation")
        if typed.prompt is not None:
            raise UnsupportedParameter(
                f"Unsupported parameter: 'prompt' names a template that the provider stores, but {who_is} called "
                'without state. Set state = "provider" for a provider of Responses to use templates.',
                param="prompt",
            )
        if isinstance(typed.input, list):
            for index, item in enumerate(typed.input):
                if is_reference(item):
                    raise NotFound(f"Item with id '{item.id}' not found.", param=f"input[{index}].id")


def previous_not_found(name: str) -> InvalidRequest:
    """In the official words (protocol §1.8)."""
    return InvalidRequest(
        f"Previous response with id '{name}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
    )


def parse_request(body: bytes, *, generates: bool = True) -> ResponsesRequest:
    """Decode and validate. A request that generates nothing needs no input. Raises InvalidRequest."""
    typed = parse(body, _decoder)
    if (
        generates
        and typed.input is None
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
            check_item(item, f"input[{index}]")
    if typed.text is not None and typed.text.format is not None:
        form = typed.text.format
        if form.type == "json_schema" and not form.name:
            raise missing("text.format.name")
    return ResponsesRequest(body, typed)


def check_item(item: InputItem, path: str) -> None:
    """Raises InvalidRequest for an item of a known type that lacks what it is made of."""
    if item.type == "message" or (item.type is None and not is_reference(item)):
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
