"""What a request says to the model, and what it builds on: the part that all requests of this API share which hold a
prompt, whether they want an answer, a count of tokens or a compaction."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from tidegate.dialects.dialect import Destination
from tidegate.dialects.envelope import PREFIX, Envelopes
from tidegate.dialects.extent import is_remarkable, reads, reads_more, surcharge
from tidegate.dialects.responses.compacted import COMPACTION
from tidegate.dialects.responses.foreign import may_be_foreign, own_items
from tidegate.dialects.responses.sealing import opened_input
from tidegate.dialects.responses.state import (
    Ground,
    NewId,
    References,
    check_pairs,
    given_items,
    is_reference,
    kept_items,
    read_references,
    with_history,
)
from tidegate.dialects.validation import invalid, missing
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, NotFound

__all__ = [
    "ID_NEEDED",
    "ITEM_ID_LIMIT",
    "ContentPart",
    "InputItem",
    "PromptBody",
    "PromptRequest",
    "check_item",
    "check_prompt",
    "previous_not_found",
]

ITEM_ID_LIMIT = 640
"""Most characters of an item's id: it must fit into an index, where PostgreSQL takes 2700 bytes."""

Role = Literal["user", "assistant", "system", "developer", "tool", "critic", "discriminator", "unknown"]
"""The last four stand in items of conversations, which clients send back as they got them."""


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
    is_async: bool | None = msgspec.field(default=None, name="async")


class ConversationReference(msgspec.Struct):
    id: str


class PromptBody(msgspec.Struct):
    """The members in which a prompt stands (protocol §1.2)."""

    model: str | None = None
    input: str | Annotated[list[InputItem], Meta(min_length=1)] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationReference | None = None


Asked = TypeVar("Asked", bound=PromptBody)

_items = jsonio.decoder(list[jsonio.Members])
_input = jsonio.decoder(list[InputItem])

_HISTORY_MEMBERS = ("previous_response_id", "conversation")


class PromptRequest(Generic[Asked]):
    """A validated request with a prompt (see :class:`tidegate.dialects.dialect.SealedRequest`)."""

    __slots__ = (
        "_before",
        "_before_bytes",
        "_body",
        "_history",
        "_members",
        "dropped",
        "envelopes",
        "ground",
        "model",
        "stream",
        "typed",
    )

    def __init__(self, body: bytes, typed: Asked, *, stream: bool | None = None) -> None:
        self._body = body
        self._members: jsonio.Members | None = None
        self._history: msgspec.Raw | None = None
        """`input` with all that it builds on, once that was resolved."""
        self._before = 0
        """How many items of that were not sent with the request, but come before its own."""
        self._before_bytes = 0
        """How much longer `input` is by all that."""
        self.dropped: tuple[str, ...] = ()
        self.envelopes: Envelopes | None = None
        self.ground: Ground | None = None
        """What it builds on, where that is at hand. Set before anything is made of the request."""
        self.typed = typed
        self.model = typed.model
        self.stream = stream

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def affinity(self) -> str:
        return ""

    @property
    def members(self) -> jsonio.Members:
        """The client's members as they came."""
        if self._members is None:
            self._members = jsonio.members(self._body)
        return self._members

    def reads(self) -> int | None:
        """See :func:`tidegate.dialects.extent.reads`; what the request builds on counts as well, and may be anything where it
        lies with the provider."""
        times = reads(self._body)
        if times != 0:
            return times
        if self._history is None:
            return 0 if self.references is None else 1
        return 1 if reads_more(bytes(self._history)) else 0

    def surcharge(self) -> str | None:
        """The member that makes it dearer than the list price."""
        return surcharge(self._body)

    def is_remarkable(self, names_files: bool) -> bool:
        """Whether it may be other than text at the list price; what it builds on counts as well."""
        return self.has_remarkable_body(names_files) or (
            self._history is not None and is_remarkable(bytes(self._history))
        )

    def has_remarkable_body(self, names_files: bool) -> bool:
        """The same of what was sent with it."""
        return is_remarkable(self._body)

    @property
    def asks_for_state(self) -> bool:
        """Whether it has something looked up or kept."""
        return self.references is not None

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
        given = self.members.get("input", jsonio.EMPTY)
        whole = with_history(given, self.typed, history, found)
        self._history = whole
        self._before = len(history)
        self._before_bytes = max(0, len(whole) - len(given))
        self.typed.input = jsonio.decode(whole, _input)
        check_pairs(self.typed.input)

    def kept_items(self, new_id: NewId) -> list[tuple[str, bytes]]:
        """See :func:`tidegate.dialects.responses.state.kept_items`. Before `resolve`. The history that is at hand is kept
        nowhere else, so that it counts as the request's own."""
        before: list[tuple[str, bytes]] = []
        if self.ground is not None and self.ground.history:
            history = jsonio.raw([msgspec.Raw(item) for item in self.ground.history])
            before = kept_items(history, jsonio.decode(history, _input), new_id)
        own = kept_items(self.members.get("input"), self.typed.input, new_id, [name for name, _ in before])
        return [*before, *own]

    def settle(self) -> int:
        """Nothing will be looked up any more: what is at hand takes effect, if that is all. Returns how many bytes of items
        were not sent with the request: its history, and those for which references stood. Raises as `resolve` does."""
        if self.ground is not None and self._history is None and self.references is None:
            self.resolve((), {})
        return self._before_bytes

    def whole_items(self) -> list[bytes]:
        """The items that the request consists of once it is resolved."""
        assert self._history is not None
        return [bytes(item) for item in jsonio.elements(self._history)]

    def compaction_at(self, number: int) -> tuple[str, str]:
        """See :data:`tidegate.dialects.responses.compacted.Place`."""
        given = self.typed.input if isinstance(self.typed.input, list) else []
        places = [place for place, item in enumerate(given) if item.type == COMPACTION]
        place = places[number]
        name = given[place].id
        own = place - self._before
        param = f"input[{own}].encrypted_content" if own >= 0 else "previous_response_id"
        if own < 0 and self.typed.previous_response_id is None:
            param = "conversation"
        return param, f"The compaction item '{name}'" if name else "The compaction item"

    def _whole(self) -> jsonio.Members:
        members = dict(self.members)
        if self._history is not None:
            members["input"] = self._history
            for name in _HISTORY_MEMBERS:  # a provider that keeps state would put its own history before it
                members.pop(name, None)
        return members

    def _fit(self, members: jsonio.Members, destination: Destination) -> tuple[str, ...]:
        """Make the prompt in `members` fit for a provider of this API; the names of what is left out. Raises InvalidRequest
        for what the provider must have and cannot read."""
        given = self.typed.input
        if destination.gateway_state:
            self._refuse_state_we_lack(destination)
            for name in _HISTORY_MEMBERS:
                members.pop(name, None)
            if isinstance(given, list) and any(item.id is not None for item in given):
                members["input"] = _without_ids(members["input"], given)
        if not isinstance(given, list):
            return ()
        left_out: tuple[str, ...] = ()
        if self._has_sealed:
            members["input"], left_out = opened_input(members["input"], self.envelopes, destination, self.compaction_at)
        if may_be_foreign({item.type for item in given}):
            members["input"], searches, others = own_items(members["input"])
            left_out += ("input[].web_search_call",) if searches else ()
            left_out += tuple(dict.fromkeys(f"input[].{kind.partition(':')[2]}" for kind in others))
        return left_out

    @property
    def _has_sealed(self) -> bool:
        """Whether there may be something that only its provider can read."""
        given = self.typed.input
        return isinstance(given, list) and any(
            item.type in ("reasoning", COMPACTION) or (item.encrypted_content or "").startswith(PREFIX)
            for item in given
        )

    def _refuse_state_we_lack(self, destination: Destination | None) -> None:
        """A request must never lose its history in silence: what we do not hold is refused as the API refuses it.
        `destination` is called without state; None for one of another dialect."""
        typed = self.typed
        references = self.references if self._history is None else None
        if references is not None and references.previous is not None:
            raise previous_not_found(references.previous)
        if references is not None and references.conversation is not None:
            raise NotFound(f"Conversation with id '{references.conversation}' not found.", param="conversation")
        if isinstance(typed.input, list):
            for index, item in enumerate(typed.input):
                if is_reference(item):
                    raise NotFound(f"Item with id '{item.id}' not found.", param=f"input[{index}].id")


def previous_not_found(name: str, following: str = "") -> InvalidRequest:
    """In the official words (protocol §1.8). `following` is a response that is there, and continues what is gone: a response,
    or a conversation."""
    what = "Conversation" if following and name.startswith("conv_") else "Previous response"
    why = (
        f" It was deleted, and '{following}' continues it: send the whole conversation as 'input', without "
        "'previous_response_id', or continue a response whose earlier turns are all there."
    )
    return InvalidRequest(
        f"{what} with id '{name}' not found.{why if following else ''}",
        param="previous_response_id",
        code="previous_response_not_found",
    )


def check_prompt(typed: PromptBody) -> None:
    """Raises InvalidRequest for a prompt that builds on two things at once, or has an item without what it is made of."""
    if typed.previous_response_id is not None and typed.conversation is not None:
        raise invalid(
            "previous_response_id", "it cannot be used together with 'conversation'.", "mutually_exclusive_parameters"
        )
    if isinstance(typed.input, list):
        for index, item in enumerate(typed.input):
            check_item(item, f"input[{index}]")


def check_item(item: InputItem, path: str) -> None:
    """Raises InvalidRequest for an item of a known type that lacks what it is made of, or that nobody could ask for."""
    if item.id is not None and len(item.id) > ITEM_ID_LIMIT:
        raise invalid(f"{path}.id", f"expected at most {ITEM_ID_LIMIT} characters.")
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
    if item.type == COMPACTION and not item.encrypted_content:
        raise missing(f"{path}.encrypted_content")


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
