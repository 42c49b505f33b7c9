"""Requests of one second that share what was reserved for them at once, step by step."""

from typing import Any, cast

import pytest

from tests.access.clock import FakeClock
from tidegate.access.gate import MemoryGate
from tidegate.access.limits import Reservation, Standing
from tidegate.access.memory import MemoryLimiter
from tidegate.access.scopes import Scope
from tidegate.config.limits import Limits, Windows
from tidegate.wire.errors import RateLimited


class Credited:
    """A key with limits that leave room for credits."""

    def __init__(self, limits: Limits) -> None:
        self.clock = FakeClock()
        self.limiter = MemoryLimiter(clock=self.clock)
        self.scopes = (Scope("key", "k", limits),)

    @property
    def gate(self) -> MemoryGate:
        return self.limiter.gate(self.scopes)

    def reserve(self, tokens: int = 0, cost: int = 0) -> Reservation:
        return cast("Reservation", self.gate.reserve(tokens, cost))

    @property
    def standing(self) -> Standing:
        """That of the only limit."""
        coroutine: Any = self.limiter.standings(self.scopes)
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)
        [standing] = stopped.value.value
        return cast("Standing", standing)


def test_a_credit_has_a_place_for_no_more_than_the_limit_lets_pass() -> None:
    key = Credited(Limits(streams=64))
    held = [key.reserve() for _ in range(64)]
    assert key.limiter.open == 64
    with pytest.raises(RateLimited):
        key.reserve()
    held.pop().settle(0, 0)
    key.reserve()
    assert key.limiter.open == 64


def test_a_request_that_counts_as_none_leaves_its_own_to_the_next() -> None:
    key = Credited(Limits(requests=Windows(minute=64)))
    for _ in range(100):
        key.reserve().settle(0, 0, requests=0)
    assert len(key.limiter.credits) == 1
    assert (key.standing.used, key.standing.reserved) == (0, 0)


@pytest.mark.parametrize("passed_s", [0.2, 30, 61])
def test_what_goes_beyond_the_reservation_counts_from_when_it_is_known(passed_s: float) -> None:
    key = Credited(Limits(tokens=Windows(minute=6400)))
    first, second = key.reserve(tokens=10), key.reserve(tokens=10)
    key.clock.advance(passed_s)
    first.settle(50, 0)
    assert len(key.limiter.credits) == 1
    assert key.limiter.open == 1
    second.settle(4, 0)
    assert key.standing.used == (54 if passed_s < 60 else 40)
    key.clock.advance(59.5)
    assert key.standing.used == (40 if passed_s > 1 else 54)


def test_a_slow_answer_tells_what_remains_when_it_comes() -> None:
    """Though nobody else has come since it was asked for."""
    key = Credited(Limits(requests=Windows(minute=640)))
    held = [key.reserve() for _ in range(8)]
    assert b"x-ratelimit-remaining-requests: 632\r\n" in held[0].fields()
    key.clock.advance(62)
    assert held[0].fields() == held[0].fields() == key.gate.fields()
    assert b"x-ratelimit-remaining-requests: 640\r\nx-ratelimit-reset-requests: 0s\r\n" in held[0].fields()
    assert key.limiter.open == 8
    for one in held:
        one.settle(0, 0)
    assert key.limiter.open == 0


def test_what_others_use_in_the_same_second_does_not_remain() -> None:
    clock = FakeClock()
    limiter = MemoryLimiter(clock=clock)
    project = Scope("project", "default/p", Limits(requests=Windows(minute=640), tokens=Windows(minute=64_000)))
    first, second = (limiter.gate((project, Scope("key", name, Limits()))) for name in "ab")
    held: Any = [first.reserve(10, 0) for _ in range(8)]
    for _ in range(8):
        second.reserve(10, 0)
    told = dict(line.split(b": ") for line in held[0].fields().splitlines())
    assert 640 - 16 - 640 // 16 <= int(told[b"x-ratelimit-remaining-requests"]) <= 640 - 16
    assert 64_000 - 160 - 4000 <= int(told[b"x-ratelimit-remaining-tokens"]) <= 64_000 - 160
    held[1].settle(10_000, 0)
    told = dict(line.split(b": ") for line in held[0].fields().splitlines())
    assert int(told[b"x-ratelimit-remaining-tokens"]) <= 64_000 - 10_150


def test_a_credit_ends_with_the_day() -> None:
    key = Credited(Limits(requests=Windows(day=640)))
    key.clock.advance(86_400 - key.clock.wall() % 86_400 - 0.5)
    for _ in range(3):
        key.reserve()
    key.clock.advance(0.6)
    for _ in range(2):
        key.reserve()
    assert (key.standing.used, key.standing.reserved) == (0, 2)
    assert key.limiter.open == 5
