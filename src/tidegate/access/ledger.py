"""What each request cost, and its row in the ledger.

A row is there from the request's admission on and completed once when it is settled; nothing here waits for the database.
What has ended is written down a few milliseconds later, together with what else has ended by then: many rows at once cost
a third of what each costs by itself. So is what still runs when a batch is committed; most requests have ended by then,
and are written once. Before the catalogue of prices is there, settled requests wait for it in memory:
their rows stand open until then.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from tidegate.access.prices import Deployed, Prices
from tidegate.access.rates import NANO, Price
from tidegate.storage.entry import UsageEntry
from tidegate.storage.records import OpenUsage, Part, Usage
from tidegate.storage.storage import Storage
from tidegate.telemetry.log import get_logger
from tidegate.wire import events, jsonio

__all__ = ["Charge", "Entered", "Ledger", "interrupted"]

INTERRUPTED: Final = "interrupted"
HEAD_BYTES: Final = 3000
FRAME_BYTES: Final = 250
"""Bytes that a stored answer has before its text, and for each token of that, about: what stands around it counts."""

MOST_WAITING: Final = 10_000
"""Most settled requests that wait for the catalogue of prices; the price of further ones is unknown if it is not there."""

GATHER_S: Final = 0.02
"""How long what has ended waits to be written down with others."""

GATHERED: Final = 64
"""So many at once are written down without further waiting: that holds the loop for less than a millisecond."""

YOUNG_S: Final = 0.005
"""What has run for less when a batch is written is left to the next one: most of it has ended by then, and is written once."""


class Charge(NamedTuple):
    """What one deployment was asked for and will charge for."""

    deployment: Deployed
    usage: events.Usage
    name: str = ""
    """The deployment's, as entries have it."""


class Entered(Protocol):
    """A request that has a row, as soon as it has ended, or before when that is to be written."""

    number: int
    """Of its row; 0 where it has none."""
    is_written: bool
    """The row has been given to the database."""
    started_at: float
    """By the performance counter."""
    admitted_at: float
    """Seconds since 1970."""
    charges: list[Charge]
    priced: tuple[int | None, jsonio.Raw] | None
    """What the only charge costs, if it was to the last deployment and something had to know that before; else None."""

    def row(self) -> Usage:
        """The row of what has ended, without a price."""

    def open_row(self) -> Usage:
        """The row of what still runs: what it is about to use."""


class Ledger:
    """Prices requests and writes them down. `done` hears of each row that is settled."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, storage: Storage | None, prices: Prices, done: Callable[[Usage], None]
    ) -> None:
        self.prices = prices
        self.is_loading = False
        """The catalogue of prices is on its way."""
        self._loop = loop
        self._storage = storage
        self._done = done
        self._admitted: dict[int, Entered] = {}
        """What runs of which the database has no row yet."""
        self._ended: list[Entered] = []
        self._timer: asyncio.Handle | None = None
        self._waiting: list[Entered] = []
        self.is_kept = storage is not None
        """Whether there is a database to keep rows in."""
        if storage is not None:
            storage.before_batch = self._before_batch

    @property
    def waiting(self) -> int:
        """How many requests wait for the catalogue of prices."""
        return len(self._waiting)

    def number(self) -> int:
        """That of a new row; 0 where none are kept."""
        return 0 if self._storage is None else self._storage.usage_number()

    def admit(self, entered: Entered) -> None:
        """Have a row for a request, and its number. Raises StorageUnavailable."""
        if self._storage is not None:
            admitted = self._admitted
            entered.number = number = self._storage.expect_usage(len(admitted))
            admitted[number] = entered

    def priced(self, usage: Usage, deployment: Deployed) -> Usage:
        """A row with what its figures cost at this deployment."""
        price = self.prices.of(deployment, usage.admitted_at)
        if price is None:
            return usage
        cost, shown = price.charge(_usage_of(usage.entry))
        return msgspec.structs.replace(usage, cost_nano=cost, prices=shown)

    def cost_of(self, charges: Sequence[Charge], at: float) -> int | None:
        """What was charged to a request that was admitted at that time, in nano-dollars; None where that is unknown, or not
        known yet."""
        total = 0
        for charge in charges:
            price = self.prices.of(charge.deployment, at)
            cost = None if price is None else price.charge(charge.usage)[0]
            if cost is None:
                return None
            total += cost
        return total

    def settle(self, ended: Entered) -> None:
        """Write down soon what a request has used."""
        gathered = self._ended
        gathered.append(ended)
        if self._timer is None:
            self._timer = self._loop.call_later(GATHER_S, self.flush)
            if self._storage is not None:
                self._storage.expect_batch()
        elif len(gathered) == GATHERED:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write down what has ended so far."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._ended = self._ended, []
        if self.is_loading:
            gathered = [ended for ended in gathered if not self._waits(ended)]
        self._settle(gathered)

    def _before_batch(self) -> float | None:
        """Write down what has ended, and what still runs. In how many seconds the next batch is due for what is left."""
        self.flush()
        storage, admitted = self._storage, self._admitted
        if storage is None or not admitted:
            return None
        young = self._admitted = {}
        now = oldest = time.perf_counter()
        for number, entered in admitted.items():
            if now - entered.started_at < YOUNG_S:
                young[number] = entered
                oldest = min(oldest, entered.started_at)
            else:
                entered.is_written = True
                storage.admit_usage(number, entered.open_row)
        return oldest + storage.settings.flush_s - now if young else None

    def loaded(self) -> None:
        """The catalogue is there, or will not come: settle what waited for it."""
        self.is_loading = False
        waiting, self._waiting = self._waiting, []
        self._settle(waiting)

    def _waits(self, ended: Entered) -> bool:
        """Whether it is settled when the catalogue is there."""
        waits = len(self._waiting) < MOST_WAITING and self._lacks_price(ended)
        if waits:
            self._waiting.append(ended)
        return waits

    def _lacks_price(self, ended: Entered) -> bool:
        return any(self.prices.of(charge.deployment, ended.admitted_at) is None for charge in ended.charges)

    def _settle(self, gathered: Iterable[Entered]) -> None:
        """A mistake in one row must not keep the others from being written."""
        storage, admitted = self._storage, self._admitted
        fresh: list[Usage] = []
        for ended in gathered:
            try:
                usage = self._row(ended)
                if storage is not None:
                    if ended.is_written:
                        storage.settle_usage(usage)
                    elif ended.number:
                        admitted.pop(ended.number, None)
                        fresh.append(usage)
                self._done(usage)
            except Exception:
                get_logger().exception("exchange_failed")
        if storage is not None and fresh:
            storage.write_usages(fresh)

    def _row(self, ended: Entered) -> Usage:
        """The row of what has ended, with its price."""
        usage = ended.row()
        if ended.priced is None:
            self._price(usage, ended.charges)
        else:
            usage.cost_nano, usage.prices = ended.priced
        if usage.cost_nano is not None:
            usage.entry.cost = usage.cost_nano / NANO
        return usage

    def _price(self, usage: Usage, charges: list[Charge]) -> None:
        cost: int | None = 0
        parts: list[Part] = []
        elsewhere = len(charges) > 1 or (bool(charges) and charges[0].name != usage.entry.deployment)
        for charge in charges:
            price = self.prices.of(charge.deployment, usage.admitted_at)
            part, usage.prices = (None, jsonio.NULL) if price is None else price.charge(charge.usage)
            if elsewhere:
                parts.append(_part(charge, part))
            cost = None if cost is None or part is None else cost + part
        usage.cost_nano = cost
        if parts:
            usage.parts = tuple(parts)


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
    usage = charge.usage
    return Part(
        deployment=charge.name,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        audio_seconds=usage.seconds,
        characters=usage.characters,
        estimated=usage.estimated,
        cost_nano=cost,
    )
