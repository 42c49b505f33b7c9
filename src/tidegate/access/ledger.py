"""What each request cost, and its row in the ledger.

A row is queued when the request is admitted and completed once when it is settled; nothing here waits for the database.
Before the catalogue of prices is there, settled requests wait for it in memory: their rows stand open until then.
"""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import msgspec

from tidegate.access.prices import Deployed, Prices
from tidegate.access.rates import NANO, Price
from tidegate.storage.entry import UsageEntry
from tidegate.storage.records import OpenUsage, Part, Tenant, Usage
from tidegate.storage.storage import Storage
from tidegate.wire import events, jsonio

__all__ = ["Charge", "Ledger", "Receipt", "interrupted"]

INTERRUPTED: Final = "interrupted"
HEAD_BYTES: Final = 3000
FRAME_BYTES: Final = 250
"""Bytes that a stored answer has before its text, and for each token of that, about: what stands around it counts."""

MOST_WAITING: Final = 10_000
"""Most settled requests that wait for the catalogue of prices; the price of further ones is unknown if it is not there."""

NO_TAGS: Final = msgspec.Raw(b"{}")


class Charge(NamedTuple):
    """What one deployment was asked for and will charge for."""

    deployment: Deployed
    usage: events.Usage


class Receipt(msgspec.Struct, kw_only=True, gc=False):
    """A request that has ended, and what it is charged for."""

    number: int
    """Of its row; 0 where none was admitted."""
    entry: UsageEntry
    tenant: Tenant
    key_id: str
    provider: str
    response_id: str
    admitted_at: float
    """Seconds since 1970, as all times here."""
    settled_at: float
    charges: list[Charge]
    tags: msgspec.Raw = NO_TAGS


class Ledger:
    """Prices requests and writes them down. `done` hears of each one that is settled, with its cost in nano-dollars, None
    where that is unknown."""

    def __init__(self, storage: Storage | None, prices: Prices, done: Callable[[Receipt, int | None], None]) -> None:
        self.prices = prices
        self.is_loading = False
        """The catalogue of prices is on its way."""
        self._storage = storage
        self._done = done
        self._waiting: deque[Receipt] = deque()

    @property
    def is_kept(self) -> bool:
        """Whether there is a database to keep rows in."""
        return self._storage is not None

    @property
    def waiting(self) -> int:
        """How many requests wait for the catalogue of prices."""
        return len(self._waiting)

    def number(self) -> int:
        """That of a new row; 0 where none are kept."""
        return 0 if self._storage is None else self._storage.usage_number()

    def admit(self, entry: Callable[[int], Usage]) -> int:
        """Queue the row of a request, with what it is about to use; the number by which it is settled. Raises
        StorageUnavailable."""
        storage = self._storage
        if storage is None:
            return 0
        number = storage.usage_number()
        storage.admit_usage(number, partial(entry, number))
        return number

    def priced(self, usage: Usage, deployment: Deployed) -> Usage:
        """A row with what its figures cost at this deployment."""
        price = self.prices.of(deployment, usage.admitted_at)
        if price is None:
            return usage
        cost, shown = price.charge(_usage_of(usage.entry))
        return msgspec.structs.replace(usage, cost_nano=cost, prices=shown)

    def settle(self, receipt: Receipt) -> int | None:
        """Price a request and complete its row. Its cost in nano-dollars; None where that is unknown, or not known yet."""
        if self.is_loading and len(self._waiting) < MOST_WAITING and self._lacks_price(receipt):
            self._waiting.append(receipt)
            return None
        return self._settle(receipt)

    def loaded(self) -> None:
        """The catalogue is there, or will not come: settle what waited for it."""
        self.is_loading = False
        while self._waiting:
            self._settle(self._waiting.popleft())

    def _lacks_price(self, receipt: Receipt) -> bool:
        return any(self.prices.of(charge.deployment, receipt.admitted_at) is None for charge in receipt.charges)

    def _settle(self, receipt: Receipt) -> int | None:
        cost: int | None = 0
        shown = jsonio.NULL
        parts: list[Part] = []
        at = receipt.admitted_at
        for charge in receipt.charges:
            price = self.prices.of(charge.deployment, at)
            part, shown = (None, jsonio.NULL) if price is None else price.charge(charge.usage)
            if len(receipt.charges) > 1:
                parts.append(_part(charge, part))
            cost = None if cost is None or part is None else cost + part
        entry = receipt.entry
        entry.cost = None if cost is None else cost / NANO
        storage = self._storage
        if storage is not None and receipt.number:
            storage.settle_usage(
                Usage(
                    number=receipt.number,
                    tenant=receipt.tenant,
                    admitted_at=at,
                    settled_at=receipt.settled_at,
                    entry=entry,
                    key_id=receipt.key_id,
                    provider=receipt.provider,
                    response_id=receipt.response_id,
                    cost_nano=cost,
                    prices=shown,
                    tags=receipt.tags,
                    parts=tuple(parts),
                )
            )
        self._done(receipt, cost)
        return cost


def interrupted(found: OpenUsage) -> Usage:
    """How a row is settled whose process is gone: its input was estimated when it was admitted, and of the output is known
    how many bytes of frames were stored, by which the gateway numbers what it stores."""
    usage = found.usage
    output = max(0, (found.last_sequence or 0) - HEAD_BYTES) // FRAME_BYTES
    members = msgspec.structs.asdict(usage.entry)
    members.update(ending=INTERRUPTED, output_tokens=output, estimated=True, error="gateway_interrupted")
    entry = UsageEntry(**members)
    cost = usage.cost_nano
    price = None if usage.prices == jsonio.NULL else Price.shown(usage.prices)
    if price is not None:
        cost, _ = price.charge(_usage_of(entry))
    entry.cost = None if cost is None else cost / NANO
    return msgspec.structs.replace(usage, settled_at=time.time(), entry=entry, cost_nano=cost)


def _usage_of(entry: UsageEntry) -> events.Usage:
    return events.Usage(
        input_tokens=entry.input_tokens,
        output_tokens=entry.output_tokens,
        seconds=entry.audio_seconds,
        characters=entry.characters,
    )


def _part(charge: Charge, cost: int | None) -> Part:
    deployment, usage = charge
    return Part(
        deployment=f"{deployment.provider}/{deployment.model}",
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        estimated=usage.estimated,
        cost_nano=cost,
    )
