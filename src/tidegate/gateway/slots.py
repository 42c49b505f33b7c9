"""How many attempts may be under way at one provider, and who waits for a turn.

Who waits stands in a queue, and one lazy timer looks after its deadlines: there is no task for a request that waits. Each
provider has slots of its own, so that none is held up by another's.
"""

import asyncio
import math
from typing import Protocol

from tidegate.config.schema import ProviderConfig
from tidegate.upstream.wheel import UNWATCHED, Wheel
from tidegate.wire.errors import Overloaded, TidegateError

__all__ = ["Slots", "Waiter"]

RETRY_S = 1.0
"""After what time it is worth asking again where all is taken: any attempt may end at any moment."""


class Waiter(Protocol):
    """Who waits for a slot. It is told one of the two, once, from the event loop."""

    def turn_came(self) -> None:
        """A slot is free, and held for it from now on."""

    def turn_missed(self, error: TidegateError) -> None:
        """There is none for it."""


class Slots:
    """The slots of one provider. They outlive the configuration: :meth:`configure` follows it."""

    __slots__ = (
        "_called",
        "_loop",
        "_missed",
        "_name",
        "_queue",
        "_timeout_s",
        "_waiting",
        "_wheel",
        "full",
        "late",
        "limit",
        "look_at",
        "running",
    )

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, wheel: Wheel) -> None:
        self._name = name
        self._loop = loop
        self._wheel = wheel
        self._waiting: dict[Waiter, float] = {}  # the first of it comes next; each with the loop time of its deadline
        self._called: dict[Waiter, asyncio.Handle] = {}
        """Those for whom a slot is held, and who hear of it at once."""
        self._missed: dict[Waiter, asyncio.Handle] = {}
        self.limit = math.inf
        self._queue = 0
        self._timeout_s = 0.0
        self.running = 0
        self.full = 0
        """How many were turned away because the queue was full."""
        self.late = 0
        """How many had waited in vain."""
        self.look_at = UNWATCHED

    def configure(self, config: ProviderConfig | None) -> None:
        """Other limits hold from now on; None: the provider is gone, and nobody is kept waiting for it."""
        limit = None if config is None else config.max_concurrent
        self.limit = math.inf if limit is None else limit
        if config is not None:
            self._queue = config.queue
            self._timeout_s = float(config.queue_timeout)
        self._call_next()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether who comes now has to wait."""
        return self.running >= self.limit or bool(self._waiting)

    def take(self) -> bool:
        """Hold a slot, if there is one that nobody waits for. It is to be given back."""
        if self.running >= self.limit or self._waiting:
            return False
        self.running += 1
        return True

    def wait(self, waiter: Waiter, until: float) -> None:
        """`waiter` gets the next slot that nobody before it waits for, or hears that there is none for it: at the latest at
        the loop time `until`."""
        if len(self._waiting) >= self._queue:
            self.full += 1
            waiting = len(self._waiting)
            queued = f", and {waiting} {'waits' if waiting == 1 else 'wait'} for it" if self._queue else ""
            under_way = f"{self.running} request{'' if self.running == 1 else 's'} under way"
            error = Overloaded(
                f"Provider '{self._name}' has {under_way}, as many as it may have "
                f"(providers.{self._name}.max_concurrent){queued}; send the request again later.",
                retry_after=RETRY_S,
            )
            self._missed[waiter] = self._loop.call_soon(self._miss, waiter, error)
            return
        deadline = self._waiting[waiter] = min(until, self._loop.time() + self._timeout_s)
        self._wheel.watch(self, deadline)

    def leave(self, waiter: Waiter) -> None:
        """`waiter` has no use for a slot any more, and is told nothing."""
        if self._waiting.pop(waiter, None) is not None:
            return
        if (missed := self._missed.pop(waiter, None)) is not None:
            missed.cancel()
        elif (called := self._called.pop(waiter, None)) is not None:
            called.cancel()
            self.give_back()

    def give_back(self) -> None:
        """An attempt has ended, in whatever way."""
        self.running -= 1
        if self._waiting:
            self._call_next()

    def check(self, now: float) -> float | None:
        """The wheel's look (see `Watched`): who has waited for long enough goes elsewhere."""
        for waiter in [one for one, deadline in self._waiting.items() if deadline <= now]:
            if self._waiting.pop(waiter, None) is None:
                continue  # it left over what another one was told
            self.late += 1
            waiter.turn_missed(
                Overloaded(
                    f"Provider '{self._name}' had no room for another request within {self._timeout_s:g} s (queue clock, "
                    f"providers.{self._name}.queue_timeout); send the request again later.",
                    retry_after=RETRY_S,
                )
            )
        return min(self._waiting.values(), default=None)

    def _call_next(self) -> None:
        """From the event loop, and not from within the exchange that has just ended: what goes wrong with one is no
        business of the other."""
        while self._waiting and self.running < self.limit:
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            self.running += 1
            self._called[waiter] = self._loop.call_soon(self._call, waiter)

    def _call(self, waiter: Waiter) -> None:
        del self._called[waiter]
        waiter.turn_came()

    def _miss(self, waiter: Waiter, error: TidegateError) -> None:
        del self._missed[waiter]
        waiter.turn_missed(error)
