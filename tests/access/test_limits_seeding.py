"""What was used before a process began to count, and whom it may forget."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from tests.access.clock import FakeClock
from tests.access.test_limits_valkey import PlainBooks
from tests.storage.test_storage_ledger import usage
from tidegate.access.limits import Reservation
from tidegate.access.memory import ENTRY_LATE_S, MemoryLimiter
from tidegate.access.scopes import Scope, end_user_of, end_user_scope
from tidegate.config.limits import Limits, Windows
from tidegate.storage.records import Usage
from tidegate.wire.errors import BudgetExhausted, LimitsUnavailable, Overloaded, RateLimited

BUDGET = Scope("key", "k", Limits(cost=Windows(month=100e-9), requests=Windows(day=10)))


class SlowBooks(PlainBooks):
    """Answers when it is told to."""

    def __init__(self, used: tuple[int, int, int]) -> None:
        super().__init__(used)
        self.may_answer = asyncio.Event()

    async def used(self, scope: Scope, since: float, before: float) -> tuple[int, int, int]:
        await self.may_answer.wait()
        return await super().used(scope, since, before)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


async def reserve(engine: MemoryLimiter, *scopes: Scope, cost: int = 0, user: Scope | None = None) -> Reservation:
    held = engine.gate(scopes, user).reserve(0, cost)
    return await held if asyncio.iscoroutine(held) else held


@pytest.mark.security("SEC-API4-FORGET")
def test_a_budget_waits_for_what_was_spent_before() -> None:
    async def main() -> None:
        books = SlowBooks((3, 0, 95))
        engine = MemoryLimiter(clock=FakeClock(), books=books)
        scopes = (BUDGET,)
        waiting = asyncio.ensure_future(reserve(engine, *scopes, cost=6))
        fitting = asyncio.ensure_future(reserve(engine, *scopes, cost=5))
        await asyncio.sleep(0)
        books.may_answer.set()
        with pytest.raises(BudgetExhausted, match="of key 'k'"):
            await waiting
        await fitting
        assert len(books.asked) == 2  # once for the day, once for the month
        standings = await engine.standings(scopes)
        assert [(one.kind, one.window, one.used, one.reserved) for one in standings] == [
            ("requests", "day", 3, 1),
            ("cost", "month", 95, 5),
        ]
        await engine.close()

    run(main())


def test_other_limits_go_on_meanwhile_and_are_put_right() -> None:
    async def main() -> None:
        books = SlowBooks((9, 0, 0))
        engine = MemoryLimiter(clock=FakeClock(), books=books)
        scopes = (Scope("key", "k", Limits(requests=Windows(day=10))),)
        held = engine.gate(scopes).reserve(0, 0)
        assert not asyncio.iscoroutine(held)
        books.may_answer.set()
        await asyncio.sleep(0.01)
        with pytest.raises(RateLimited, match="requests per day"):
            engine.gate(scopes).reserve(0, 0)
        await engine.close()

    run(main())


def test_books_that_fail_hold_budgets_back_and_nothing_else() -> None:
    async def main() -> None:
        warned: list[str] = []
        books = PlainBooks()
        books.fails = True
        engine = MemoryLimiter(clock=FakeClock(), books=books, warn=lambda event, **_: warned.append(event))
        with pytest.raises(LimitsUnavailable):
            await reserve(engine, BUDGET, cost=1)
        assert warned == ["limits_unseeded"]
        await reserve(engine, Scope("key", "k", Limits(requests=Windows(day=10))))
        books.fails = False
        await reserve(engine, BUDGET, cost=1)
        await engine.close()

    run(main())


def dead(**members: Any) -> list[Usage]:
    """What the ledger tells of a request whose process is gone."""
    return [msgspec.structs.replace(usage(1, **members), key_id="k")]


@pytest.mark.parametrize("begins", ["before", "meanwhile"])
def test_budgets_learn_what_the_requests_of_a_dead_process_cost_when_the_ledger_knows(begins: str) -> None:
    """A budget begins with what was estimated of them: before the ledger has settled them, or while it does."""

    async def main() -> None:
        books = SlowBooks((2, 0, 30))
        engine = MemoryLimiter(clock=FakeClock(), books=books)
        user = end_user_scope("acme", "harbour", "a/b", Limits(cost=Windows(day=200e-9)))
        scopes = (
            Scope("organization", "acme", Limits(cost=Windows(day=200e-9))),
            Scope("project", "acme/harbour", Limits(cost=Windows(month=200e-9))),
            BUDGET,
        )
        begun = asyncio.ensure_future(reserve(engine, *scopes, user=user, cost=5))
        other = (Scope("key", "other", Limits(cost=Windows(day=200e-9))),)
        apart = asyncio.ensure_future(reserve(engine, *other, cost=5))
        await asyncio.sleep(0)
        if begins == "before":
            books.may_answer.set()
            await begun
        books.amounts = (2, 0, 90)
        engine.interrupted(dead(end_user="a/b"))
        books.may_answer.set()
        (await begun).settle(0, 5)
        await asyncio.sleep(0.01)
        standings = await engine.standings((*scopes, user))
        assert [(one.level, one.kind, one.used) for one in standings] == [
            ("organization", "cost", 95),
            ("project", "cost", 95),
            ("key", "requests", 3),
            ("key", "cost", 95),
            ("end_user", "cost", 95),
        ]
        with pytest.raises(BudgetExhausted, match="of key 'k'"):
            await reserve(engine, *scopes, cost=6)
        await apart
        [standing] = await engine.standings(other)
        assert standing.used == (30 if begins == "before" else 90)  # there was no reason to ask for it again
        await engine.close()

    run(main())


def test_books_that_fail_are_asked_again_for_what_a_dead_process_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.access.memory.SEED_AGAIN_S", 0.01)

    async def main() -> None:
        books = PlainBooks((2, 0, 30))
        engine = MemoryLimiter(clock=FakeClock(), books=books)
        (await reserve(engine, BUDGET, cost=5)).settle(0, 5)
        books.amounts, books.fails = (2, 0, 95), True
        engine.interrupted(dead())
        await asyncio.sleep(0.02)
        await reserve(engine, BUDGET, cost=1)  # what was known before holds meanwhile
        books.fails = False
        await asyncio.sleep(0.05)
        with pytest.raises(BudgetExhausted, match="of key 'k'"):
            await reserve(engine, BUDGET, cost=1)
        await engine.close()

    run(main())


def test_a_new_day_knows_nothing_of_a_dead_process() -> None:
    async def main() -> None:
        books, clock = PlainBooks((2, 0, 30)), FakeClock()
        engine = MemoryLimiter(clock=clock, books=books)
        scopes = (Scope("key", "k", Limits(cost=Windows(day=100e-9))),)
        (await reserve(engine, *scopes, cost=5)).settle(0, 5)
        clock.advance(86_400)
        (await reserve(engine, *scopes, cost=7)).settle(0, 7)
        engine.interrupted(dead())
        await asyncio.sleep(0.01)
        [standing] = await engine.standings(scopes)
        assert standing.used == 7
        await engine.close()

    run(main())


def test_whose_keys_have_changed_passes_another_gate_and_is_counted_on() -> None:
    async def main() -> None:
        engine = MemoryLimiter(clock=FakeClock())
        scopes = (Scope("key", "k", Limits(requests=Windows(day=2))),)
        engine.gate(scopes).reserve(0, 0)
        before = sys.getrefcount(scopes)
        engine.forget_gates()
        assert sys.getrefcount(scopes) < before, "the scopes of keys that are no more stay in memory"
        await reserve(engine, *scopes)
        with pytest.raises(RateLimited, match="requests per day"):
            await reserve(engine, *scopes)
        await engine.close()

    run(main())


@pytest.mark.security("SEC-API4-FORGET")
def test_a_budget_that_was_lifted_for_a_while_knows_what_was_spent_meanwhile() -> None:
    async def main() -> None:
        books = PlainBooks((0, 0, 0))
        engine = MemoryLimiter(clock=FakeClock(), books=books)
        budget = Limits(cost=Windows(month=100e-9))
        (await reserve(engine, Scope("key", "k", budget), cost=1)).settle(0, 1)
        lifted = Limits(requests=Windows(minute=1000))
        await reserve(engine, Scope("key", "k", lifted), cost=99)
        books.amounts = (2, 0, 100)
        with pytest.raises(BudgetExhausted, match=r"used \$0.0000001,"):
            await reserve(engine, Scope("key", "k", budget), cost=1)
        await engine.close()

    run(main())


def test_a_new_day_needs_no_books() -> None:
    async def main() -> None:
        clock = FakeClock()
        books = PlainBooks((0, 0, 100))
        engine = MemoryLimiter(clock=clock, books=books)
        scope = Scope("key", "k", Limits(cost=Windows(day=100e-9)))
        with pytest.raises(BudgetExhausted) as refused:
            await reserve(engine, scope, cost=1)
        assert refused.value.retry_after == 600.0
        assert "renewed in 10m0s" in refused.value.message
        clock.advance(600)
        await reserve(engine, scope, cost=1)
        assert len(books.asked) == 1
        await engine.close()

    run(main())


@pytest.mark.fault("FAULT-CLOCK")
def test_a_wall_clock_that_is_set_back_gives_no_budget_back() -> None:
    clock = FakeClock()
    scope = Scope("key", "k", Limits(requests=Windows(day=1, minute=9)))
    gate = MemoryLimiter(clock=clock).gate((scope,))
    clock.advance(900)  # the next day
    gate.reserve(0, 0)
    clock.jump(-3600)  # the day before, once more
    with pytest.raises(RateLimited, match="per day"):
        gate.reserve(0, 0)
    clock.jump(7200)
    with pytest.raises(RateLimited, match="per day"):
        gate.reserve(0, 0)


def test_end_users_are_forgotten_only_where_the_books_remember_them() -> None:
    async def main() -> None:
        clock = FakeClock()
        books = PlainBooks()
        engine = MemoryLimiter(clock=clock, books=books, end_users=2)
        limits = Limits(cost=Windows(month=10e-9), requests=Windows(minute=9))
        ann, bob, carl = (end_user_scope("default", "p", name, limits) for name in ("ann", "bob", "carl"))
        for user in (ann, bob):
            (await reserve(engine, user=user, cost=10)).settle(0, 10)
        with pytest.raises(Overloaded, match=r"limits\.end_users"):
            await reserve(engine, user=carl, cost=1)
        clock.advance(61 + ENTRY_LATE_S)
        books.amounts = (1, 0, 10)
        with pytest.raises(BudgetExhausted):  # the ledger has the same for everybody here
            await reserve(engine, user=carl, cost=1)
        with pytest.raises(BudgetExhausted):
            await reserve(engine, user=ann, cost=1)
        assert len(books.asked) == 4
        other = end_user_scope("default", "q", "dora", limits)
        books.amounts = (0, 0, 0)
        await reserve(engine, user=other, cost=1)  # each project has room of its own
        await engine.close()

    run(main())


def test_without_books_the_end_users_beyond_share_what_one_may_use() -> None:
    engine = MemoryLimiter(clock=FakeClock(), end_users=1)
    limits = Limits(requests=Windows(month=1))
    first, *others = (end_user_scope("default", "p", str(number), limits) for number in range(1026))
    engine.gate((), first).reserve(0, 0)
    with pytest.raises(RateLimited):
        engine.gate((), first).reserve(0, 0)
    refused = 0
    for user in others:
        try:
            engine.gate((), user).reserve(0, 0)
        except RateLimited:
            refused += 1
    assert refused >= 1


@pytest.mark.parametrize("name", ["ann", "a/b", "50%", "a%2Fb", "用户/1"])
def test_names_of_end_users_come_back_whole(name: str) -> None:
    assert end_user_of(end_user_scope("o", "p", name, Limits())) == ("o/p", name)
