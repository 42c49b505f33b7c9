"""Between a dialect and the canonical form: what each dialect offers to the hub, in both directions.

As the client's dialect it reads requests (`Request.canonical`) and writes answers (`StreamEncoder`, `encode_answer`); as
a provider's it writes requests (`encode_request`) and reads answers (`StreamDecoder`, `decode_answer`).
"""

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from tidegate.dialects.dialect import Call, Destination, Endpoint, says_nothing, unsupported
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    MediaDelta,
    MessageEnd,
    Opaque,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Served,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import (
    CanonicalRequest,
    Choice,
    FunctionCall,
    HostedTool,
    ImagePart,
    Item,
    Message,
    OpaqueItem,
    OpaquePart,
    Output,
    OutputFormat,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    data_url,
)

__all__ = [
    "BridgedRequest",
    "Collector",
    "Losses",
    "StreamDecoder",
    "StreamEncoder",
    "UpstreamDialect",
    "described_schema",
    "json_object_or_none",
    "text_of",
]


_SEARCHES = ("web_search", "google_search", "googleSearch", "tool_search")
"""How the types of tools begin that search the web, or the client's other tools."""


_PROVIDERS_OWN = frozenset(
    {
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_call",
        "mcp_list_tools",
        "program",
        "program_output",
    }
)
"""Items of the Responses API of which the client has done nothing (protocol §1.4)."""

_CARRIED = ("anthropic:", "google:")
"""How the types of items begin that hold what another API's provider said."""

_WITHIN = {"messages": "messages[].content[]", "contents": "contents[].parts[]"}
"""Where the clients of other APIs have what is an item here."""


class StreamDecoder(Protocol):
    """A provider's stream in, canonical events out, by the laws of `wire.events`, for any split of the bytes.

    Nothing is raised: bytes that are not what the dialect promises give `Failed` as the last event, behind what came
    whole before them. After an ending every call returns an empty list.
    """

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""

    def eof(self) -> list[Event]:
        """The provider's message has ended. The last event is an ending, unless one came before: `Finished` only if the
        answer was complete."""

    def unreported(self) -> list[Event]:
        """A report of the figures that came last, while no event has them: some providers send them with every chunk, and
        they are told when more is said without, and before the ending. Nothing was said since they came."""


class StreamEncoder(Protocol):
    """Canonical events in, whole frames of the client's dialect out. Trusts the laws of `wire.events`, and that a
    `UsageReport` comes before `Finished`."""

    committed: bool
    """Whether anything was handed out that another attempt could not go on behind."""

    def attempt(self, destination: Destination) -> None:
        """Whose answer follows. Only before `committed`."""

    def encode(self, events: Iterable[Event]) -> bytes:
        """Frames for `events`; `Finished` brings the ending. `Failed` is not among them."""

    def fail(self, error: TidegateError) -> bytes:
        """The frames that tell a client, after status 200, that the answer is broken. Open items are closed."""

    def ping(self) -> bytes:
        """What keeps a silent stream alive in the eyes of clients and proxies."""


class BridgedRequest(Protocol):
    """A validated request of the client's dialect, ready to be answered by a provider of another one."""

    def canonical(self) -> CanonicalRequest:
        """All that the client asked for, in no dialect. Raises InvalidRequest for what no canonical form can hold."""

    def encoder(self, call: Call) -> StreamEncoder:
        """For the answer, when it streams."""

    def encode_answer(self, output: Output, call: Call, destination: Destination) -> bytes:
        """The answer in one body."""


class UpstreamDialect(Protocol):
    """A dialect as providers speak it."""

    @property
    def name(self) -> Endpoint: ...

    def encode_request(self, request: CanonicalRequest, destination: Destination, losses: "Losses") -> bytes:
        """The body for the provider, to be sent once `losses` has been checked. Everything in `request` is either in it or
        told to `losses`. Raises InvalidRequest."""

    def decoder(self, destination: Destination, request: CanonicalRequest) -> StreamDecoder:
        """For one answer that streams. `request` is what was asked: names may have been changed on the way."""

    def decode_answer(self, body: bytes, destination: Destination, request: CanonicalRequest) -> list[Event]:
        """An answer in one body, as the events that a stream of it would have had: deltas are whole.

        Raises WireError when it is not what the dialect promises, and TidegateError for an error with status 200.
        """


class Losses:
    """What of one request the target's API cannot carry.

    `hint` is for what changes no answer: it is left out and named. `refuse` is for all else: named in a 400, in the
    client's own words, or, where the route allows it, left out and named as well. The names of what is left out go into
    the response header `tidegate-dropped`. Either way the body is written to its end, without the member; `check` then
    says all at once what was refused.
    """

    def __init__(self, request: CanonicalRequest, destination: Destination, *, allowed: bool) -> None:
        self._names = request.names
        self._destination = destination
        self._allowed = allowed
        self.dropped: dict[str, None] = {}
        """Names in the order in which they were met."""
        self.tools: list[msgspec.Raw] = []
        """The client's tools that are not among those of the body."""
        self._refused: dict[str, list[str]] = {}
        """Names of what was refused, and why."""
        self._opaque: dict[str, str] = {}
        """Types of parts that only the client's API has, and where the first of each stands."""
        for name in request.hints:
            self.hint(name)
        for name in request.refused:
            self.refuse(name)

    def hint(self, name: str) -> None:
        """`name` is a member of CanonicalRequest, or the client's own name of one that has no canonical form."""
        self.dropped[self._names.get(name, name)] = None

    def refuse(self, name: str, why: str = "", *, part: str = "") -> None:
        """`why` is a sentence that says what would work, `part` what of the member is left out, when it is not all."""
        name = self._names.get(name, name)
        if self._allowed:
            self.dropped[f"{name}.{part}" if part else name] = None
            return
        reasons = self._refused.setdefault(name, [])
        if why and why not in reasons:
            reasons.append(why)

    def refuse_part(self, part: OpaquePart, why: str) -> None:
        """A content part that only the client's own API has. Of many parts of a type the first is named in a 400."""
        if self._allowed:
            self.refuse(part.at or "items")
        else:
            self.refuse(self._opaque.setdefault(part.type, part.at or "items"), why)

    def check(self) -> None:
        """Raises UnsupportedParameter that names all that was refused."""
        if self._refused:
            raise unsupported(self._refused, self._destination)

    def told_of(self, message: Message) -> None:
        """What a message of another API than OpenAI's has no member for."""
        for name in ("name", "phase"):
            if getattr(message, name):
                self.hint(name)

    def prefill(self, request: CanonicalRequest) -> None:
        """Words that the answer is to begin with: the models of Anthropic and Google go on behind a last message of their
        own, where OpenAI's begin another one (https://platform.claude.com/docs/en/build-with-claude/prompt-engineering)."""
        last = request.items[-1] if request.items else None
        if request.client in ("messages", "gemini") and isinstance(last, Message) and last.role == "assistant":
            self.hint(f"{self._names.get('items', 'items')}.prefill")

    def item(self, item: OpaqueItem, why: str) -> None:
        """An item that the target has no place for. What a provider ran and said itself comes back with the history of
        every client: it is left out, and what was made of it stands in the words behind it. All else is refused; `why` is
        a sentence."""
        if item.type in _PROVIDERS_OWN or item.type.startswith(_CARRIED):
            place = self._names.get("items", "items")
            kind = item.type.removeprefix("anthropic:").removeprefix("google:")
            self.hint(f"{_WITHIN.get(place, f'{place}[]')}.{kind}")
        else:
            self.refuse("items", why)

    def hosted(self, tool: HostedTool, why: str) -> None:
        """A tool that the target does not have. A search is only offered: the model may do without one of the web, and
        tools that wait to be found by one are all loaded at once."""
        self.tools.append(tool.value)
        if tool.type == "web_search_options":  # chat's, which stands alone
            self.hint(tool.type)
        elif tool.type.startswith(_SEARCHES):
            self.hint(f"tools.{tool.type}")
        else:
            self.refuse("tools", why, part=tool.type)

    def put(self, members: dict[str, Any], member: str, value: Any, name: str) -> None:
        """Set `members[member]`, the target's name of the canonical `name`, unless the deployment refuses it."""
        if member in self._destination.refuses:
            if not says_nothing(member, jsonio.raw(value)):
                self.refuse(name)
            return
        members[member] = value


class Collector:
    """Events of an answer, folded into the whole of it."""

    def __init__(self) -> None:
        self._model = ""
        self._tier = ""
        self._usage = Usage()
        self._items: dict[int, list[Item]] = {}
        self._messages: dict[int, Message] = {}
        self._reasoning: dict[int, Reasoning] = {}
        self._calls: dict[int, FunctionCall] = {}
        self._ends: dict[int, ChoiceEnd] = {}

    def add(self, event: Event) -> None:
        """Endings and pings are not kept: who collects has looked at them."""
        match event:
            case TextDelta():
                part = self._part(event.choice, TextPart)
                part.text += event.text
                part.logprobs.extend(event.logprobs or ())
            case RefusalDelta():
                self._part(event.choice, RefusalPart).refusal += event.text
            case Annotation():
                self._annotated(event.choice).annotations.append(event.value)
            case MessageEnd():
                self._messages.pop(event.choice, None)
            case ReasoningDelta():
                self._add_reasoning(event)
            case ReasoningEnd():
                item = self._reasoning.pop(event.choice, None) or self._open_reasoning(event.choice)
                self._reasoning.pop(event.choice, None)
                item.seal = event.seal
                item.encrypted = event.encrypted
            case ToolCallStart():
                call = FunctionCall(
                    call_id=event.call_id, name=event.name, arguments="", custom=event.custom, namespace=event.namespace
                )
                self._calls[event.index] = call
                self._put(call, event.choice)
            case ToolCallDelta():
                self._calls[event.index].arguments += event.text
            case MediaDelta():
                url = data_url(event.media_type, event.data)
                self._message(event.choice).content.append(ImagePart(url=url))
                self._messages.pop(event.choice)
            case Opaque():
                self._put(OpaqueItem(type=event.type, value=event.item), 0)
            case UsageReport():
                self._usage = event.usage
            case ChoiceEnd():
                self._ends[event.choice] = event
                self._of(event.choice)
            case Started():
                self._model = event.model
            case Served():
                self._tier = event.tier
            case ToolCallEnd():
                pass  # the call was kept when it began
            case _:
                pass

    def output(self) -> Output:
        """The whole answer. Choices stand in their order, whatever order they came in."""
        return Output(
            choices=[
                Choice(items=items, reason=self._reason(choice), stop_sequence=self._stop_sequence(choice))
                for choice, items in sorted(self._items.items())
            ],
            usage=self._usage,
            model=self._model,
            service_tier=self._tier,
        )

    def _reason(self, choice: int) -> Reason:
        end = self._ends.get(choice)
        return end.reason if end is not None else "stop"

    def _stop_sequence(self, choice: int) -> str:
        end = self._ends.get(choice)
        return end.stop_sequence if end is not None else ""

    def _of(self, choice: int) -> list[Item]:
        return self._items.setdefault(choice, [])

    def _put(self, item: Item, choice: int) -> None:
        """An item that is no message: the one that is open ends before it, and words behind it are another's."""
        self._messages.pop(choice, None)
        self._of(choice).append(item)

    def _message(self, choice: int) -> Message:
        message = self._messages.get(choice)
        if message is None:
            message = self._messages[choice] = Message(role="assistant", content=[])
            self._of(choice).append(message)
        return message

    def _part(self, choice: int, kind: type[Any]) -> Any:
        content: list[Part] = self._message(choice).content
        if not content or not isinstance(content[-1], kind):
            content.append(TextPart(text="") if kind is TextPart else RefusalPart(refusal=""))
        return content[-1]

    def _annotated(self, choice: int) -> Any:
        """The text that an annotation belongs to: some providers tell sources last, when the message is closed."""
        if choice not in self._messages:
            for item in reversed(self._of(choice)):
                said = (
                    [part for part in item.content if not isinstance(part, ImagePart)]
                    if isinstance(item, Message)
                    else []
                )
                if said and isinstance(said[-1], TextPart):
                    return said[-1]
        return self._part(choice, TextPart)

    def _open_reasoning(self, choice: int) -> Reasoning:
        item = self._reasoning[choice] = Reasoning(summary=[], content=[])
        self._of(choice).append(item)
        return item

    def _add_reasoning(self, event: ReasoningDelta) -> None:
        item = self._reasoning.get(event.choice) or self._open_reasoning(event.choice)
        parts = item.summary if event.kind == "summary" else item.content
        while len(parts) <= event.part:
            parts.append("")
        parts[event.part] += event.text


def text_of(parts: Iterable[Part]) -> str:
    """The text parts, joined."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def described_schema(form: OutputFormat, losses: Losses) -> msgspec.Raw:
    """The schema of `form`, for APIs whose formats are a schema and no more: what it is for is told in the schema, where that
    does not say so itself."""
    if not form.description:
        return form.schema
    try:
        members = jsonio.members(form.schema)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        members = {"description": jsonio.NULL}
    if "description" in members:
        losses.hint("format.description")
        return form.schema
    return jsonio.raw({"description": form.description, **members})


def json_object_or_none(text: str) -> msgspec.Raw | None:
    """`text` as a JSON object, for APIs whose arguments are objects; None when it is none."""
    try:
        jsonio.members(text.encode())
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch, UnicodeEncodeError):
        return None
    return msgspec.Raw(text.encode())
