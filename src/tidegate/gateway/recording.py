"""One answer that is kept while it is given: into the journal as it comes, and at its end as items."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from tidegate.dialects.dialect import Stream
from tidegate.dialects.responses.prompt import ITEM_ID_LIMIT
from tidegate.dialects.responses.state import NO_ITEMS, Apart, Kept, prefix_of
from tidegate.gateway.ids import IdSupply
from tidegate.storage.records import ENDED, Ending, Item, NewRun, Status
from tidegate.storage.records import Run as StoredWriter
from tidegate.streams.run import Run
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError

if TYPE_CHECKING:
    from tidegate.gateway.exchange import Exchange
    from tidegate.gateway.history import History
    from tidegate.gateway.keeper import Keeper

__all__ = ["Recording", "new_item_id"]

_SAID = frozenset({"completed", "incomplete"})
"""Statuses of answers that a conversation goes on from."""

_STATUSES: dict[str, Status] = {status: status for status in ENDED}
_item_ids: dict[str, IdSupply] = {}


def new_item_id(prefix: str) -> str:
    """A fresh id for an item, such as `msg_…`."""
    supply = _item_ids.get(prefix)
    if supply is None:
        supply = _item_ids[prefix] = IdSupply(prefix.encode() + b"_", 24, dated=True)
    return supply.take().decode("ascii")


class Recording:
    """See :class:`tidegate.gateway.recorder.Run`: one answer, written to the journal and, at its end, as items."""

    __slots__ = (
        "_inputs",
        "_keeper",
        "_kept",
        "_live",
        "_new",
        "_written",
        "exchange",
        "public_id",
    )

    def __init__(self, keeper: "Keeper", new: NewRun, inputs: Sequence[Item], kept: Kept | None) -> None:
        """`kept` is where the response object stands; None for a stream that is kept as frames alone. Raises
        StorageUnavailable."""
        keeper.storage.check_room()
        self._keeper = keeper
        self._new = new
        self._inputs = inputs
        self._kept = kept
        self._written: StoredWriter | None = None
        self._live: Run | None = None
        self.public_id = new.id
        self.exchange: Exchange | None = None

    def build_on(self, history: "History") -> None:
        """What the request goes on from. An item that comes again is kept under an id of its own, so that each names one
        item."""
        new = self._new
        new.previous, new.conversation, new.first_position = history.previous, history.conversation, history.seen
        self._inputs = [
            item.called(new_item_id(prefix_of(item.id))) if item.id in history.taken else item for item in self._inputs
        ]

    @property
    def is_shared(self) -> bool:
        """Nothing builds on a stream that is kept as frames alone."""
        return self._kept is not None and self._keeper.storage.is_shared

    async def durable(self) -> None:
        """Until the run is on the disk. Raises StorageUnavailable."""
        assert self._written is not None
        await self._keeper.storage.durable(self._written)

    def when_found(self, then: Callable[[], None]) -> None:
        assert self._written is not None
        self._keeper.storage.when_found(self._written, then)

    @property
    def number(self) -> int:
        """How storage calls it; 0 before it began, and where it could not be stored."""
        return self._written.number if self._written is not None else 0

    @property
    def followed(self) -> bool:
        return self._live is not None and self._live.followers > 0

    @property
    def whereabouts(self) -> str:
        if self._live is None:
            return ""
        path, query, count = f"/v1/streams/{self.public_id}", "", "frame that came, counted from 0"
        if self._kept is not None:
            path, query = f"/v1/responses/{self.public_id}", "stream=true&"
        if self._new.dialect == "responses":
            count = "event that came"
        return (
            f"What was said so far stands at GET {path}. "
            f"Where events were lost, they are at GET {path}?{query}starting_after=N, with N of the last {count}."
        )

    def begin(self, stream: Stream | None) -> None:
        keeper, new = self._keeper, self._new
        new.stream = stream is not None
        new.request = self._kept.response if self._kept is not None else b""
        self._written = keeper.storage.put_run(new, self._inputs)
        if stream is not None and not self._written.lost:
            self._live = keeper.open(self._written, self)

    def append(self, frames: bytes) -> None:
        if self._live is not None:  # else the storage has no room for it, and the answer goes on without
            self._live.append(frames)

    def finish(self, error: TidegateError | None) -> None:
        keeper = self._keeper
        assert self._written is not None
        if self._live is not None:
            keeper.journal.close(self._live)
        keeper.storage.finish_run(self._written, *self._ending(error))
        keeper.quota.add(self._new.tenant, self._new.key, self._written.size)
        keeper.forget(self)

    def keep(self) -> None:
        keeper, new = self._keeper, self._new
        self._written = keeper.storage.put_ended_run(new, self._inputs, *self._ending(None))
        keeper.quota.add(new.tenant, new.key, self._written.size)

    def _ending(self, error: TidegateError | None) -> tuple[Ending, list[Item], list[Item]]:
        """How it ended, its output items, and what its conversation gains."""
        kept = self._kept
        outputs: list[Item] = []
        answer = b""
        status: Status = "completed" if error is None else "failed"
        if kept is not None:
            status, outputs, answer = _taken_apart(kept.response) if kept.apart is None else _named(kept.apart)
        ending = Ending(
            status=status,
            completed_at=time.time(),
            answer=answer,
            error_code="" if error is None else error.code or "",
        )
        added = [*self._inputs, *outputs] if self._new.conversation is not None and status in _SAID else []
        return ending, outputs, added


def _named(apart: Apart) -> tuple[Status, list[Item], bytes]:
    return "completed", [Item(_usable(name), content) for name, content in apart.items], apart.rest


def _taken_apart(response: bytes) -> tuple[Status, list[Item], bytes]:
    """Status, output items, and the response object without them."""
    members = jsonio.members(response)
    status = jsonio.string(members["status"])
    outputs = [Item(_id_of(item), bytes(item)) for item in jsonio.elements(members["output"])]
    members["output"] = NO_ITEMS
    return _STATUSES.get(status or "", "failed"), outputs, jsonio.encode(members)


def _id_of(item: msgspec.Raw) -> str:
    return _usable(jsonio.string(jsonio.members(item).get("id", jsonio.NULL)))


def _usable(own: str | None) -> str:
    """The item's own id, or one of ours where the provider gave none by which it could be asked for."""
    return own if own and len(own) <= ITEM_ID_LIMIT else new_item_id("item")
