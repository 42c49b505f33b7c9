"""The engine in memory against the plainest model there is: a list of everything that was ever counted."""

import math
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.access.clock import FakeClock
from tidegate.access.gate import MemoryGate
from tidegate.access.limits import LARGEST, NANO, Reservation
from tidegate.access.memory import MemoryLimiter
from tidegate.access.meters import window_bounds
from tidegate.access.scopes import Scope, end_user_scope
from tidegate.config.limits import Limits, Windows
from tidegate.wire.errors import BudgetExhausted, RateLimited

LIMITS = st.builds(
    Limits,
    requests=st.builds(
        Windows, minute=st.none() | st.integers(0, 5).map(float), day=st.none() | st.integers(0, 9).map(float)
    ),
    tokens=st.builds(Windows, minute=st.none() | st.integers(0, 50).map(float)),
    cost=st.builds(
        Windows,
        minute=st.none() | st.sampled_from([0.0, 2e-8]),
        day=st.none() | st.sampled_from([3e-8, 5e-8]),
        month=st.none() | st.sampled_from([4e-8, 9e-8]),
    ),
    streams=st.none() | st.integers(0, 3),
)

WIDE = st.builds(
    Limits,
    requests=st.builds(Windows, minute=st.none() | st.integers(20, 90).map(float), day=st.none() | st.just(120.0)),
    tokens=st.builds(Windows, minute=st.none() | st.integers(300, 3000).map(float)),
    cost=st.builds(
        Windows, minute=st.none() | st.sampled_from([3e-7, 2e-6]), month=st.none() | st.sampled_from([1e-6, 9e-6])
    ),
    streams=st.none() | st.integers(17, 60),
)
"""Limits that leave room enough for credits."""


CALLERS = st.integers(0, 2)


class Machine(RuleBasedStateMachine):
    """Two keys of one project, and an end user of the first: what one of them uses counts against both their project and
    itself."""

    @initialize(project=LIMITS, first=LIMITS, second=LIMITS, user=LIMITS)
    def begin(self, project: Limits, first: Limits, second: Limits, user: Limits) -> None:
        self.set_up(project, first, second, user)

    def set_up(self, project: Limits, first: Limits, second: Limits, user: Limits) -> None:
        self.clock = FakeClock()
        self.limiter = MemoryLimiter(clock=self.clock)
        shared = Scope("project", "default/p", project)
        self.keys = [(shared, Scope("key", "a", first)), (shared, Scope("key", "b", second))]
        self.user = end_user_scope("default", "p", "somebody", user)
        self.callers: list[tuple[Scope, ...]] = [*self.keys, (*self.keys[0], self.user)]
        self.open: list[tuple[Reservation, int, list[dict[str, Any]]]] = []
        self.further: list[tuple[Reservation, int, list[dict[str, Any]]]] = []
        self.counted: list[dict[str, Any]] = []

    def gate(self, caller: int) -> MemoryGate:
        return self.limiter.gate(self.keys[caller % 2], self.user if caller == 2 else None)

    def used(self, scope: Scope, kind: str, window: str) -> int:
        now, wall = self.clock.monotonic(), self.clock.wall()
        found = 0
        for one in self.counted:
            if one["scope"] != scope.id or one["kind"] != kind:
                continue
            if window == "minute":
                found += one["amount"] if math.floor(one["at"]) + 61 > now else 0
            elif window_bounds(window, one["wall"]) == window_bounds(window, wall):  # type: ignore[arg-type]
                found += one["amount"]
        return found

    def fits(self, scopes: tuple[Scope, ...], amounts: dict[str, int]) -> bool:
        for scope in scopes:
            for kind, amount in amounts.items():
                windows = getattr(scope.limits, kind)
                for window in ("minute", "day", "month"):
                    limit = getattr(windows, window)
                    if limit is None:
                        continue
                    most = round(limit * (NANO if kind == "cost" else 1))
                    if self.used(scope, kind, window) + amount > most:
                        return False
            streams = scope.limits.streams
            under_way = sum(any(one["scope"] == scope.id for one in entries) for _, _, entries in self.open)
            if streams is not None and under_way >= streams:
                return False
        return True

    def count(self, scopes: tuple[Scope, ...], amounts: dict[str, int]) -> list[dict[str, Any]]:
        found = [
            {
                "scope": scope.id,
                "kind": kind,
                "amount": amount,
                "at": self.clock.monotonic(),
                "wall": self.clock.wall(),
            }
            for scope in scopes
            for kind, amount in amounts.items()
        ]
        self.counted += found
        return found

    @rule(caller=CALLERS, tokens=st.integers(0, 30), cost=st.integers(0, 25))
    def reserve(self, caller: int, tokens: int, cost: int) -> None:
        scopes = self.callers[caller]
        amounts = {"requests": 1, "tokens": tokens, "cost": cost}
        expected = self.fits(scopes, amounts)
        try:
            held = self.gate(caller).reserve(tokens, cost)
        except (RateLimited, BudgetExhausted):
            assert not expected
            return
        assert expected
        self.open.append((held, caller, self.count(scopes, amounts)))  # type: ignore[arg-type]

    @precondition(lambda self: self.open)
    @rule(
        which=st.integers(0, 99),
        tokens=st.integers(0, 60),
        cost=st.none() | st.integers(0, 40),
        requests=st.sampled_from([1, 1, 0]),
        twice=st.booleans(),
    )
    def settle(self, which: int, tokens: int, cost: int | None, requests: int, twice: bool) -> None:
        held, caller, entries = self.open.pop(which % len(self.open))
        held.settle(tokens, cost, requests=requests)
        if twice:
            held.settle(0, 0)
        scopes = self.callers[caller]
        for entry in entries:
            actual = {"requests": requests, "tokens": tokens, "cost": entry["amount"] if cost is None else cost}[
                entry["kind"]
            ]
            if actual <= entry["amount"]:
                entry["amount"] = actual
            else:
                [scope] = [scope for scope in scopes if scope.id == entry["scope"]]
                self.count((scope,), {entry["kind"]: actual - entry["amount"]})

    @rule(caller=CALLERS, cost=st.integers(0, 25))
    def reserve_more(self, caller: int, cost: int) -> None:
        """For one more attempt of a request: it counts as none, and needs no place."""
        scopes = self.callers[caller]
        expected = all(
            self.used(scope, "cost", window) + cost <= round(limit * NANO)
            for scope in scopes
            for window in ("minute", "day", "month")
            if (limit := getattr(scope.limits.cost, window)) is not None
        )
        try:
            held = self.gate(caller).more(cost)
        except (RateLimited, BudgetExhausted):
            assert not expected
            return
        assert expected
        self.further.append((held, caller, self.count(scopes, {"cost": cost})))

    @precondition(lambda self: self.further)
    @rule(which=st.integers(0, 99), cost=st.none() | st.integers(0, 40))
    def settle_more(self, which: int, cost: int | None) -> None:
        held, caller, entries = self.further.pop(which % len(self.further))
        for _ in range(2):
            held.settle(0, cost, requests=0)
        for entry in entries:
            actual = entry["amount"] if cost is None else cost
            if actual > entry["amount"]:
                [scope] = [scope for scope in self.callers[caller] if scope.id == entry["scope"]]
                self.count((scope,), {"cost": actual - entry["amount"]})
            entry["amount"] = min(actual, entry["amount"])

    @rule()
    def keys_are_read_again(self) -> None:
        """Who comes from now on has other scopes, though they are equal."""
        self.limiter.forget_gates()
        self.keys = [(project, key) for project, key in self.keys]

    @rule(seconds=st.sampled_from([0.3, 1.0, 30.0, 59.0, 61.0, 700.0, 86400.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(caller=CALLERS, tokens=st.integers(0, 30), cost=st.integers(0, 25))
    def what_is_told_to_wait_is_enough(self, caller: int, tokens: int, cost: int) -> None:
        """After the time that an error names the request passes, unless others have come or are under way."""
        if self.open or self.further:
            return
        gate = self.gate(caller)
        try:
            held = gate.reserve(tokens, cost)
        except (RateLimited, BudgetExhausted) as error:
            if error.retry_after is None:
                return
            self.clock.advance(error.retry_after)
            held = gate.reserve(tokens, cost)
        held.settle(0, 0)  # type: ignore[union-attr]
        self.count(self.callers[caller], {"requests": 1})

    @invariant()
    def every_limit_always_stands_as_the_model_has_it(self) -> None:
        self.every_limit_stands_as_the_model_has_it()

    def every_limit_stands_as_the_model_has_it(self) -> None:
        if not hasattr(self, "limiter"):
            return
        for scope in {scope.id: scope for scopes in self.callers for scope in scopes}.values():
            coroutine = self.limiter.standings((scope,))
            with pytest.raises(StopIteration) as stopped:
                coroutine.send(None)
            for standing in stopped.value.value:
                if standing.kind == "streams":
                    expected = sum(any(one["scope"] == scope.id for one in entries) for _, _, entries in self.open)
                else:
                    expected = self.used(scope, standing.kind, standing.window)
                assert standing.used + standing.reserved == expected, standing
                assert 0 <= standing.reserved <= standing.used + standing.reserved
        assert self.limiter.open == len(self.open) + len(self.further)


class Credits(Machine):
    """The same where the gates work with credits, which go back whenever somebody looks: here that happens now and then."""

    @initialize(project=WIDE, first=WIDE, second=WIDE, user=WIDE)
    def begin(self, project: Limits, first: Limits, second: Limits, user: Limits) -> None:
        self.set_up(project, first, second, user)

    def every_limit_always_stands_as_the_model_has_it(self) -> None:
        """Not here; but looking at the metrics takes no credit back."""
        if hasattr(self, "limiter"):
            assert self.limiter.open == len(self.open) + len(self.further)

    @rule()
    def somebody_looks(self) -> None:
        self.every_limit_stands_as_the_model_has_it()

    @rule(caller=CALLERS, tokens=st.integers(0, 9), cost=st.integers(0, 9), times=st.integers(2, 30))
    def many_come(self, caller: int, tokens: int, cost: int, times: int) -> None:
        for _ in range(times):
            self.reserve(caller, tokens, cost)

    @precondition(lambda self: self.open)
    @rule(times=st.integers(2, 30), tokens=st.integers(0, 9), cost=st.none() | st.integers(0, 9))
    def many_end(self, times: int, tokens: int, cost: int | None) -> None:
        for _ in range(min(times, len(self.open))):
            self.settle(0, tokens, cost, 1, twice=False)

    @rule(seconds=st.sampled_from([0.01, 0.2]))
    def little_time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def what_is_told_to_remain_is_no_more_than_does(self, which: int) -> None:
        """Another gate of the same limit may hold a credit, which counts as used."""
        held, caller, _ = self.open[which % len(self.open)]
        told = dict(line.split(b": ") for line in held.fields().splitlines())
        for kind in ("requests", "tokens"):
            left = [
                round(limit) - self.used(scope, kind, window)
                for scope in self.callers[caller]
                for window in ("minute", "day", "month")
                if (limit := getattr(getattr(scope.limits, kind), window)) is not None
            ]
            remaining = told.get(f"x-ratelimit-remaining-{kind}".encode())
            assert (remaining is None) == (not left)
            if remaining is not None:
                least = max(0, min(left))
                own = getattr(held, "credit", None)
                others = [getattr(credit, kind) for credit in self.limiter.credits if credit is not own]
                lent = sum(one for one in others if one < LARGEST)
                assert least - lent <= int(remaining) <= least, (kind, remaining, left)

    def teardown(self) -> None:
        """When all have ended, nothing is held any more."""
        for held, *_ in [*self.open, *self.further]:
            held.settle(0, 0, requests=0)
        if hasattr(self, "limiter"):
            self.limiter.collect()
            assert self.limiter.open == 0
            for account in self.limiter._all_accounts():
                assert account.streams == 0
                assert all(meter.held == 0 for meter in account.meters.values())


def test_credits_are_given_and_make_one_count_of_many_requests() -> None:
    """Else the machine above would prove nothing."""
    scope = Scope("key", "k", Limits(requests=Windows(minute=1e6), streams=1000))
    limiter = MemoryLimiter(clock=FakeClock())
    gate = limiter.gate((scope,))
    for _ in range(20):
        gate.reserve(0, 0)
    assert len(limiter.credits) == 1


TestMachine = pytest.mark.security("SEC-API4-LEAVE")(Machine.TestCase)
TestCredits = Credits.TestCase
TestCredits.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
# Without shrinking, which takes minutes: a failure of thirty steps can be read as it is.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, phases=PHASES)


def test_no_sixty_seconds_see_more_than_the_limit_of_a_minute() -> None:
    clock = FakeClock()
    scope = Scope("key", "k", Limits(requests=Windows(minute=10)))
    gate = MemoryLimiter(clock=clock).gate((scope,))
    admitted: list[float] = []
    for _ in range(3000):
        clock.advance(0.1)
        try:
            held = gate.reserve(0, 0)
        except RateLimited:
            continue
        held.settle(0, 0)  # type: ignore[union-attr]
        admitted.append(clock.monotonic())
    assert len(admitted) >= 40
    assert all(later - first >= 60 for first, later in zip(admitted, admitted[10:], strict=False))
