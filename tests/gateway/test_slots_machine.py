"""Slots against a model: never more than the limit, first come first served, and nobody is forgotten or told twice."""

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tidegate.config.schema import ProviderConfig
from tidegate.config.units import Duration
from tidegate.gateway.slots import Slots
from tidegate.upstream.wheel import BUCKET_S, Wheel
from tidegate.wire.errors import Overloaded, TidegateError

TIMEOUT_S = 2.0


class Handle:
    def __init__(self, at: float, run: Callable[[], object]) -> None:
        self.at = at
        self.run = run
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """An event loop whose time only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._soon: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_soon(self, run: Callable[..., object], *given: object) -> Handle:
        self._soon.append(Handle(self.now, lambda: run(*given)))
        return self._soon[-1]

    def call_at(self, at: float, run: Callable[..., object], *given: object) -> Handle:
        handle = Handle(at, lambda: run(*given))
        self._count += 1
        heapq.heappush(self._timers, (at, self._count, handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise context["exception"]

    def turn(self) -> None:
        while self._soon:
            due, self._soon = self._soon, []
            for handle in due:
                if not handle.cancelled:
                    handle.run()

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            at, _, handle = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            if not handle.cancelled:
                handle.run()
            self.turn()
        self.now = until
        self.turn()


class Client:
    def __init__(self, number: int, deadline: float) -> None:
        self.number = number
        self.deadline = deadline
        self.told: list[str] = []
        self.left = False

    def turn_came(self) -> None:
        assert not self.left
        self.told.append("came")

    def turn_missed(self, error: TidegateError) -> None:
        assert isinstance(error, Overloaded)
        assert not self.left
        self.told.append("late" if "queue clock" in error.message else "full")


class SlotsMachine(RuleBasedStateMachine):
    """Some clients hold a slot, some wait; the model is what each of them was told."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.slots = Slots("lab", loop, Wheel(loop))
        self.waiting: list[Client] = []
        self.holding = 0
        self.count = 0

    @initialize(limit=st.integers(1, 3), queue=st.integers(0, 3))
    def begin(self, limit: int, queue: int) -> None:
        self.configure(limit, queue)

    @rule(limit=st.one_of(st.none(), st.integers(1, 4)), queue=st.integers(0, 4))
    def configure(self, limit: int | None, queue: int) -> None:
        self.limit = limit
        self.queue = queue
        self.slots.configure(
            ProviderConfig(max_concurrent=limit, queue=queue, queue_timeout=Duration.parse(f"{TIMEOUT_S:g}s"))
        )
        self._settle()

    @rule(patience=st.floats(0.1, 5))
    def come(self, patience: float) -> None:
        if self.slots.take():
            assert not self.waiting, "somebody else was there before"
            self.holding += 1
            return
        self.count += 1
        client = Client(self.count, self.loop.now + min(patience, TIMEOUT_S))
        had_room = len(self.waiting) < self.queue
        self.slots.wait(client, self.loop.now + patience)
        self.waiting.append(client)
        self.loop.turn()
        if not had_room:
            assert client.told == ["full"]
        self._settle()

    @precondition(lambda self: self.holding)
    @rule()
    def end(self) -> None:
        self.holding -= 1
        self.slots.give_back()
        self._settle()

    @precondition(lambda self: self.waiting)
    @rule(draw=st.data(), called=st.booleans())
    def leave(self, draw: st.DataObject, called: bool) -> None:
        """Someone who waits leaves, perhaps just as its turn comes."""
        client = self.waiting[0] if called else draw.draw(st.sampled_from(self.waiting))
        if called and self.holding:
            self.holding -= 1
            self.slots.give_back()
        client.left = True
        self.slots.leave(client)
        self.waiting.remove(client)
        self._settle()

    @rule(seconds=st.floats(0.01, 3))
    def time_passes(self, seconds: float) -> None:
        self.loop.sleep(seconds)
        self._settle()
        assert all(client.deadline + BUCKET_S >= self.loop.now for client in self.waiting), "somebody waits for ever"

    def _settle(self) -> None:
        self.loop.turn()
        told = [client for client in self.waiting if client.told]
        came = [client.number for client in told if client.told == ["came"]]
        assert came == sorted(came)
        for client in told:
            assert len(client.told) == 1
            if client.told == ["late"]:
                assert self.loop.now >= client.deadline
            self.holding += client.told == ["came"]
            self.waiting.remove(client)
        if came:
            assert all(client.number > came[-1] for client in self.waiting), "somebody was passed over"

    @invariant()
    def the_count_is_right(self) -> None:
        assert self.slots.running == self.holding
        assert self.slots.waiting == len(self.waiting)
        if self.waiting:
            assert self.limit is not None
            assert self.holding >= self.limit, "there is room, and somebody waits"


SlotsMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestSlots = pytest.mark.fault("FAULT-POOL")(SlotsMachine.TestCase)
