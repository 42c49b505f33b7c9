"""The rows of the storage as the rest of the gateway sees them: content is opened, numbers are the storage's own."""

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

import msgspec

from tidegate.storage.entry import UsageEntry
from tidegate.wire import jsonio

__all__ = [
    "ENDED",
    "Chain",
    "Claim",
    "Conversation",
    "CursorUnknown",
    "Ending",
    "HistoryIncomplete",
    "HistoryTooLarge",
    "Interrupted",
    "Item",
    "ItemExists",
    "Journal",
    "Link",
    "NewRun",
    "OpenUsage",
    "Page",
    "Part",
    "Ref",
    "Role",
    "Run",
    "Segment",
    "Status",
    "StorageUnusable",
    "Stored",
    "StoredItem",
    "StoredRun",
    "Tenant",
    "Usage",
]

Status = Literal["in_progress", "completed", "failed", "incomplete", "cancelled"]
"""Status of a run, in the words of the Responses API (protocol §1.3), of which no run is `queued`: each begins at once."""

ENDED: frozenset[Status] = frozenset({"completed", "failed", "incomplete", "cancelled"})

Role = Literal["input", "output"]

T = TypeVar("T")


class StorageUnusable(Exception):
    """The database cannot be used as it is, so that the gateway must not start. The message says why and what to do."""


class CursorUnknown(LookupError):
    """`after` names no item of the list that is paged."""


class ItemExists(ValueError):
    """The conversation has an item of that id already."""

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id)
        self.id = id


class HistoryIncomplete(LookupError):
    """An earlier run of the chain was deleted, or the conversation that it began in: those turns are gone, and the rest must
    not pass for the whole."""

    def __init__(self, gone: str, following: str) -> None:
        """`gone` is the id of what was deleted, `following` that of the run that continues it."""
        super().__init__(f"'{gone}' was deleted, which '{following}' continues.")
        self.gone = gone
        self.following = following


class HistoryTooLarge(ValueError):
    """The items of a chain or conversation are over the given number of bytes."""


class Tenant(msgspec.Struct, frozen=True):
    """Whose data it is. Everything that is read, changed or deleted is looked up within one tenant."""

    organization: str
    project: str


class Ref(msgspec.Struct, frozen=True):
    """A run or conversation that was found: its row number, and the public id that clients know."""

    number: int
    id: str


class Item(msgspec.Struct, frozen=True):
    """An input or output item of a run or conversation, as JSON."""

    id: str
    content: bytes

    def called(self, name: str) -> "Item":
        """The same under another id."""
        return Item(name, jsonio.encode({**jsonio.members(self.content), "id": jsonio.raw(name)}))


class StoredItem(msgspec.Struct, frozen=True):
    """An item that was read, with its place: positions ascend within a run or conversation."""

    id: str
    content: bytes
    position: int
    role: Role


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list, in the order asked for."""

    data: list[T]
    has_more: bool


class NewRun(msgspec.Struct, kw_only=True):
    """A run at its beginning. Nothing of it changes once it was put into the storage."""

    id: str
    tenant: Tenant
    key: str = ""
    """Name of the virtual key that is charged for the stored bytes."""
    dialect: str
    model: str
    deployment: str = ""
    background: bool = False
    stream: bool = False
    created_at: float
    kept_s: float | None = None
    """After how many seconds retention may remove it, by the clock of the database; None keeps it until it is deleted."""
    previous: Ref | None = None
    conversation: Ref | None = None
    first_position: int = 0
    """Where its items begin to count: behind those of the conversation that it is asked with."""
    request: bytes = b""
    """Request members that the answer echoes, as JSON."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. The bytes are JSON; empty stands for null."""

    status: Status
    completed_at: float
    deployment: str = ""
    usage: bytes = b""
    answer: bytes = b""
    """Members of the final object that neither request, items, usage nor error hold."""
    error: bytes = b""
    error_code: str = ""
    """The code for ledger and log; `gateway_interrupted` when the run was closed for a dead process."""


class StoredRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stands in the database."""

    ref: Ref
    tenant: Tenant
    key: str
    dialect: str
    model: str
    deployment: str
    status: Status
    background: bool
    stream: bool
    created_at: float
    completed_at: float | None
    expires_at: float | None
    previous_id: str
    conversation_id: str
    request: bytes
    """As in `NewRun`; empty where the answer came in one body."""
    usage: bytes
    answer: bytes
    error: bytes
    error_code: str
    last_sequence: int | None
    """The last sequence number written, once the run has ended; None when its journal is empty."""
    size: int
    """Stored bytes of its request, items and journal, once it has ended."""

    @property
    def begun(self) -> bytes:
        """The response object as it was told first, as JSON."""
        return self.request or self.answer


class Segment(msgspec.Struct, frozen=True):
    """Consecutive frames of a run's journal with the sequence numbers of the first and the last."""

    first: int
    last: int
    frames: bytes


class Journal(msgspec.Struct, frozen=True):
    """A part of a run's journal. The status was read before the segments: when it is an ended one and `has_more` is
    false, nothing comes after them."""

    status: Status
    error_code: str
    last_sequence: int | None
    segments: list[Segment]
    has_more: bool


class Link(msgspec.Struct, frozen=True):
    """One run of a chain with its items, input before output."""

    ref: Ref
    status: Status
    items: list[StoredItem]


class Chain(msgspec.Struct, frozen=True):
    """A run and all runs before it, oldest first."""

    links: list[Link]
    before: list[StoredItem] = []
    """Items of the conversation that the first one was asked with."""

    @property
    def ref(self) -> Ref:
        """The run that was asked for, for `NewRun.previous`."""
        return self.links[-1].ref


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation without its items."""

    ref: Ref
    created_at: float
    metadata: bytes


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What an idempotency key stands for."""

    is_new: bool
    """True for the one who may run the request; others find what it left."""
    digest: bytes
    run_id: str
    status: int | None = None
    """HTTP status of the answer that was kept; None while it is under way, or when the run holds the answer."""
    answer: bytes = b""


class Stored(msgspec.Struct, frozen=True):
    """What a tenant, or one key of it, has in store."""

    size: int
    runs: int


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was used at one deployment of several that one request was sent to."""

    deployment: str
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_seconds: float = 0.0
    characters: int = 0
    estimated: bool = False
    cost_nano: int | None = None

    @property
    def provider(self) -> str:
        return self.deployment.partition("/")[0]


class Usage(msgspec.Struct, kw_only=True, gc=False):
    """A row of the ledger: written when a request is admitted, completed once when it is settled."""

    number: int
    """See `Storage.usage_number`."""
    tenant: Tenant
    admitted_at: float
    settled_at: float | None = None
    entry: UsageEntry
    key_id: str = ""
    """What the key is known by as long as it exists; its name may change."""
    provider: str = ""
    response_id: str = ""
    """Of the answer; two entries with the same one had the same answer."""
    cost_nano: int | None = None
    """In 10^-9 US dollars; None where a price is unknown."""
    prices: msgspec.Raw = msgspec.Raw(b"null")
    """The prices that were applied, as a JSON object."""
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    """The key's metadata, as a JSON object."""
    parts: tuple[Part, ...] = ()
    """What was used where, when that was not one deployment."""


class OpenUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A row that a process left open which is gone."""

    usage: Usage
    last_sequence: int | None
    """Of the last event that was stored of the answer."""


class Interrupted(msgspec.Struct, frozen=True):
    """A run that was closed because the process that ran it is gone."""

    id: str
    tenant: Tenant


class Run:
    """A run that this process writes. Its writes are queued; nothing here waits.

    Once `lost`, nothing more of it is kept, and what was kept is removed: a run is stored whole or not at all.
    """

    __slots__ = (
        "begun",
        "box",
        "ended",
        "last",
        "lost",
        "new",
        "number",
        "on_lost",
        "outputs_at",
        "queued",
        "size",
        "ticket",
    )

    def __init__(self, number: int, new: NewRun) -> None:
        self.number = number
        self.new = new
        self.begun = 0
        """The batch that holds its beginning."""
        self.ticket = 0
        """The batch that holds its latest write."""
        self.queued = 0
        """Bytes that wait to be written."""
        self.size = 0
        self.last = -1
        """The last sequence number that was given to its journal."""
        self.outputs_at = 0
        """Position of its first output item."""
        self.lost = False
        self.ended = False
        self.on_lost: Callable[[], None] | None = None
        self.box: object = None

    @property
    def ref(self) -> Ref:
        return Ref(self.number, self.new.id)
