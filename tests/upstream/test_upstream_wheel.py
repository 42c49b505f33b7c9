"""The wheel: late by at most one bucket, never early."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.upstream.stage import run, until
from tidegate.upstream.wheel import BUCKET_S, UNWATCHED, Wheel


class Clock:
    """A loop's clock and timers, moved by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.timers: list[tuple[float, Callable[[], None], Handle]] = []
        self.problems: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> "Handle":
        handle = Handle()
        self.timers.append((when, callback, handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(context)

    @property
    def armed(self) -> list[float]:
        return sorted(when for when, _, handle in self.timers if not handle.cancelled)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.armed and self.armed[0] <= end:
            when = self.armed[0]
            index = next(i for i, one in enumerate(self.timers) if one[0] == when and not one[2].cancelled)
            _, callback, _ = self.timers.pop(index)
            self.now = max(self.now, when)
            callback()
        self.now = end


class Handle:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Item:
    def __init__(self, act: Callable[["Item", float], float | None] = lambda item, now: None) -> None:
        self.look_at = UNWATCHED
        self.looks: list[float] = []
        self._act = act

    def check(self, now: float) -> float | None:
        self.looks.append(now)
        return self._act(self, now)


def make() -> tuple[Clock, Wheel]:
    clock = Clock()
    return clock, Wheel(cast("asyncio.AbstractEventLoop", clock))


@given(st.lists(st.floats(min_value=0, max_value=100), min_size=1, max_size=30))
def test_each_item_is_looked_at_once_in_time(delays: list[float]) -> None:
    clock, wheel = make()
    items = [(Item(), clock.now + delay) for delay in delays]
    for item, at in items:
        wheel.watch(item, at)
    clock.advance(200)
    for item, at in items:
        assert len(item.looks) == 1
        assert at <= item.looks[0] <= at + BUCKET_S
    assert not clock.armed


def test_an_earlier_deadline_moves_the_look_and_a_later_one_does_not() -> None:
    clock, wheel = make()
    item = Item()
    start = clock.now
    wheel.watch(item, start + 10)
    wheel.watch(item, start + 2)
    wheel.watch(item, start + 20)
    clock.advance(30)
    assert [look - start for look in item.looks] == [2.25]


def test_what_is_forgotten_is_not_looked_at_and_costs_no_further_timer() -> None:
    clock, wheel = make()
    items = [Item() for _ in range(10)]
    for number, item in enumerate(items):
        wheel.watch(item, clock.now + number)
    for item in items:
        wheel.forget(item)
        wheel.forget(item)
    clock.advance(0.5)
    assert not any(item.looks for item in items)
    assert not clock.armed


def test_it_is_looked_at_again_when_the_check_says() -> None:
    clock, wheel = make()
    start = clock.now
    item = Item(lambda _, now: now + 1 if now < start + 3 else None)
    wheel.watch(item, start + 1)
    clock.advance(20)
    assert len(item.looks) == 3
    assert not clock.armed


def test_a_time_in_the_past_is_looked_at_at_once_and_never_twice_in_a_turn() -> None:
    clock, wheel = make()
    item = Item(lambda _, now: now - 5)
    wheel.watch(item, clock.now - 100)
    clock.advance(0.01)
    assert len(item.looks) == 1
    clock.advance(1)
    assert len(item.looks) == 5


def test_a_check_may_forget_move_and_watch_others_of_the_same_bucket() -> None:
    clock, wheel = make()
    at = clock.now + 1
    items: list[Item] = []

    def act(me: Item, now: float) -> None:
        for other in items:
            if other is not me:
                wheel.forget(other)
        wheel.watch(late, now + 1)

    late = Item()
    items += [Item(act) for _ in range(5)]
    for item in items:
        wheel.watch(item, at)
    clock.advance(5)
    assert sum(len(item.looks) for item in items) == 1
    assert len(late.looks) == 1


def test_a_check_that_fails_is_reported_and_stops_nobody_else() -> None:
    clock, wheel = make()

    def fail(item: Item, now: float) -> None:
        raise ZeroDivisionError

    items = [Item(fail), Item(), Item(fail), Item()]
    for item in items:
        wheel.watch(item, clock.now + 1)
    later = Item()
    wheel.watch(later, clock.now + 3)
    clock.advance(5)
    assert all(len(item.looks) == 1 for item in [*items, later])
    assert len(clock.problems) == 2
    wheel.watch(items[0], clock.now + 1)
    wheel.forget(items[0])


def test_after_close_nothing_fires() -> None:
    clock, wheel = make()
    item = Item()
    wheel.watch(item, clock.now + 1)
    wheel.close()
    clock.advance(5)
    assert not item.looks
    assert not clock.armed
    wheel.watch(item, clock.now + 1)
    clock.advance(2)
    assert len(item.looks) == 1


def test_ten_thousand_items_are_cheap_to_keep_and_to_move() -> None:
    clock, wheel = make()
    deadline = [clock.now + 30]
    items = [Item(lambda item, now: deadline[0] if deadline[0] > now else None) for _ in range(10_000)]
    begin = time.process_time()
    for item in items:
        wheel.watch(item, clock.now + 30)
    for _ in range(20):  # what a chunk does: note a time, watch again; the planned look serves
        for item in items:
            wheel.watch(item, clock.now + 60)
    for _ in range(100):  # nothing is due
        clock.advance(0.25)
    spent = time.process_time() - begin
    assert not any(item.looks for item in items)
    assert spent < 1.0, f"{spent:.3f} s"  # about 0.05 s
    clock.advance(10)
    assert all(len(item.looks) == 1 for item in items)


@pytest.mark.alone
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_on_a_real_loop_it_is_neither_early_nor_late(loop: str) -> None:
    async def scenario() -> None:
        running = asyncio.get_running_loop()
        wheel = Wheel(running)
        asked = [running.time() + delay for delay in (0.0, 0.01, 0.3, 0.31, 0.7)]
        items = [Item() for _ in asked]
        for item, at in zip(items, asked, strict=True):
            wheel.watch(item, at)
        await until(lambda: all(item.looks for item in items))
        for item, at in zip(items, asked, strict=True):
            assert at <= item.looks[0] <= at + BUCKET_S + 0.2

    run(scenario, loop)
