"""Unknown keys are counted by address, within bounds."""

import pytest

from tidegate.access.failures import BURST, OWN_BURST, PER_S, REMEMBERED, Failures
from tidegate.wire.errors import TooManyFailures


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def spend(failures: Failures, client: str) -> int:
    """How many failures an address may have until it is held back."""
    for count in range(10_000):
        try:
            failures.note(client)
        except TooManyFailures:
            return count
    raise AssertionError("never held back")


@pytest.mark.security("SEC-API2-GUESS")
def test_an_address_that_fails_too_often_is_told_when_to_come_back() -> None:
    clock = Clock()
    failures = Failures(clock)
    assert spend(failures, "203.0.113.7") == BURST
    with pytest.raises(TooManyFailures) as caught:
        failures.note("203.0.113.7")
    assert caught.value.retry_after == pytest.approx(1 / PER_S)
    assert (b"retry-after", b"6") in caught.value.headers()
    failures.note("203.0.113.8")
    clock.now += 1 / PER_S
    assert spend(failures, "203.0.113.7") == 1
    clock.now += 1000 / PER_S
    assert spend(failures, "203.0.113.7") == BURST


@pytest.mark.parametrize("own", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_fail_more_often(own: str) -> None:
    assert spend(Failures(Clock()), own) == OWN_BURST


def test_a_network_of_ipv6_counts_as_one_address() -> None:
    failures = Failures(Clock())
    for number in range(BURST):
        failures.note(f"2001:db8:1:2::{number:x}")
    with pytest.raises(TooManyFailures):
        failures.note("2001:db8:1:2:ffff::1")
    failures.note("2001:db8:1:3::1")
    failures.note("::ffff:203.0.113.9")


def test_what_is_remembered_is_bounded() -> None:
    failures = Failures(Clock())
    for number in range(REMEMBERED + 100):
        failures.note(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(failures._left) == REMEMBERED
