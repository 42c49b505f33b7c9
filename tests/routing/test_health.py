"""What is fit to be asked, with times that the test gives."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tidegate.routing.health import PROBE_S, REFUSED_S, REMEMBERED, WINDOW_S, Health, Settings

P, M = "openai", "gpt"
SETTINGS = Settings(eject_after=3, eject_for=5.0, eject_limit=40.0, cooldown=5.0, cooldown_limit=60.0)


def fit(health: Health, now: float, credentials: int = 1) -> bool:
    return health.fit(P, M, credentials, now)


def fail(health: Health, times: int, now: float = 0.0) -> list[str | None]:
    return [health.failed(P, M, now) for _ in range(times)]


def test_nothing_is_in_trouble_at_first() -> None:
    health = Health()
    assert not health.troubled(0.0)
    assert fit(health, 0.0)
    assert health.wait(P, M, 1, 0.0) == 0.0
    assert health.shut(0.0) == []


# --- ejection --------------------------------------------------------------------------------------------------


def test_failures_in_a_row_eject() -> None:
    health = Health(SETTINGS)
    assert fail(health, 2) == [None, None]
    assert fit(health, 0.0)
    assert fail(health, 1) == ["ejected"]
    assert not fit(health, 0.0)
    assert health.shut(1.0) == [(P, "ejected", 1)]
    assert health.counts == {(P, "ejected"): 1}
    assert health.fit(P, "another", 1, 0.0)


def test_a_success_between_breaks_the_row() -> None:
    health = Health(SETTINGS)
    for now in range(6):
        assert fail(health, 2, now) == [None, None]
        health.succeeded(P, M, 0, now)
    assert fit(health, 6.0)


def test_a_share_of_failures_ejects_without_a_row() -> None:
    health = Health(Settings(eject_after=1000, eject_share=0.5, eject_least=10))
    changes = []
    for _ in range(5):
        changes.append(health.failed(P, M, 0.0))
        health.succeeded(P, M, 0, 0.0)
    assert changes == [None] * 5
    assert health.failed(P, M, 0.0) == "ejected"


def test_failures_of_long_ago_do_not_count() -> None:
    health = Health(SETTINGS)
    fail(health, 2, 0.0)
    assert fail(health, 2, WINDOW_S) == [None, None]
    assert fail(health, 1, WINDOW_S) == ["ejected"]


@pytest.mark.fault("FAULT-HERD")
def test_one_request_probes_when_the_time_is_over() -> None:
    health = Health(SETTINGS)
    fail(health, 3)
    assert not fit(health, 4.99)
    assert fit(health, 5.0)
    health.begin(P, M, 5.0)
    assert [fit(health, 5.0 + at / 10) for at in range(10)] == [False] * 10
    assert health.succeeded(P, M, 0, 6.0) == "returned"
    assert fit(health, 6.0)
    assert not health.troubled(6.0)


def test_a_failed_probe_ejects_for_twice_as_long_up_to_a_limit() -> None:
    health = Health(SETTINGS)
    fail(health, 3)
    now, spans = 0.0, []
    for _ in range(6):
        start = now
        while not fit(health, now):
            now += 0.5
        spans.append(now - start)
        health.begin(P, M, now)
        assert fail(health, 1, now) == ["ejected"]
    assert spans == [5.0, 10.0, 20.0, 40.0, 40.0, 40.0]


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    health = Health(SETTINGS)
    fail(health, 3)
    health.begin(P, M, 5.0)
    assert not fit(health, 5.1)
    health.unknown(P, M)
    assert fit(health, 5.1)
    health.begin(P, M, 6.0)
    assert not fit(health, 6.0 + PROBE_S - 0.1)
    assert fit(health, 6.0 + PROBE_S)


def test_what_began_before_an_ejection_does_not_change_it() -> None:
    health = Health(SETTINGS)
    fail(health, 3)
    assert fail(health, 10, 1.0) == [None] * 10
    assert health.succeeded(P, M, 0, 1.0) is None
    assert not fit(health, 4.9)
    assert fit(health, 5.0)


@pytest.mark.fault("FAULT-HERD")
def test_what_began_before_an_ejection_is_no_probe_when_it_ends_behind_it() -> None:
    """A clock of 30 s lets requests fail long after the others of their crowd. They say nothing of now."""
    health = Health(SETTINGS)
    fail(health, 3, 10.0)
    assert health.failed(P, M, 16.0, began=9.0) is None
    assert health.succeeded(P, M, 0, 16.0, began=9.0) is None
    assert fit(health, 16.0)
    health.begin(P, M, 16.0)
    health.unknown(P, M, began=9.0)
    assert health.limited(P, M, 0, 16.1, None, began=9.0) == "cooled"
    assert not health.fit(P, M, 2, 16.1), "the probe is under way"
    assert health.failed(P, M, 17.0, began=9.0) is None
    assert health.failed(P, M, 18.0, began=16.0) == "ejected"
    assert not health.fit(P, M, 2, 27.9)
    assert health.fit(P, M, 2, 28.0)
    health.begin(P, M, 28.0)
    health.unknown(P, M, began=28.0)
    assert health.fit(P, M, 2, 28.0), "the probe said nothing, so that another may"
    assert health.succeeded(P, M, 0, 29.0, began=28.0) == "returned"


def test_ejection_can_be_switched_off() -> None:
    health = Health(Settings(eject_after=0))
    assert fail(health, 100) == [None] * 100
    assert fit(health, 0.0)


# --- cooldown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "rests"),
    [(2.0, 2.0), (0.25, 0.25), (1e9, 60.0), (None, 5.0), (0.0, 5.0), (-3.0, 5.0), (math.inf, 5.0), (math.nan, 5.0)],
)
def test_a_rate_limit_rests_until_it_is_time(told: float | None, rests: float) -> None:
    health = Health(SETTINGS)
    assert health.limited(P, M, 0, 100.0, told) == "cooled"
    assert not fit(health, 100.0 + rests - 0.01)
    assert fit(health, 100.0 + rests)


def test_only_the_provider_can_close_a_deployment() -> None:
    health = Health(SETTINGS)
    health.limited(P, M, 0, 0.0, None)
    assert health.wait(P, M, 1, 1.0) == 0.0
    health.limited(P, M, 0, 1.0, 9.0)
    assert health.wait(P, M, 1, 2.0) == 8.0
    assert health.wait(P, M, 2, 2.0) == 0.0
    assert health.wait(P, "another", 1, 2.0) == 0.0
    assert health.wait(P, M, 1, 10.0) == 0.0


@pytest.mark.fault("FAULT-RATE-LIMITED")
def test_a_time_beyond_all_limits_is_told_but_not_kept_to() -> None:
    health = Health(SETTINGS)
    health.limited(P, M, 0, 0.0, 3600.0)
    assert health.wait(P, M, 1, 10.0) == 3590.0
    assert health.wait(P, M, 1, 60.0) == 0.0
    assert fit(health, 60.0)


def test_a_rate_limit_is_of_one_credential_at_one_deployment() -> None:
    health = Health(SETTINGS)
    health.limited(P, M, 0, 0.0, 9.0)
    assert fit(health, 1.0, credentials=2)
    assert health.credential(P, M, [0, 1, 2], 1.0) == 1
    assert health.credential(P, "another", [0, 1, 2], 1.0) == 0
    assert health.credential(P, M, [0, 1, 2], 9.0) == 0


def test_of_credentials_that_all_rest_the_first_to_be_free_is_taken() -> None:
    health = Health(SETTINGS)
    for at, told in enumerate((9.0, 3.0, 6.0)):
        health.limited(P, M, at, 0.0, told)
    assert not fit(health, 1.0, credentials=3)
    assert health.credential(P, M, [0, 1, 2], 1.0) == 1
    assert health.wait(P, M, 3, 1.0) == 2.0


def test_a_later_limit_never_shortens_a_rest() -> None:
    health = Health(SETTINGS)
    health.limited(P, M, 0, 0.0, 30.0)
    assert health.limited(P, M, 0, 1.0, 2.0) is None
    assert not fit(health, 29.0)


def test_a_success_ends_a_rest() -> None:
    health = Health(SETTINGS)
    health.limited(P, M, 0, 0.0, 30.0)
    health.succeeded(P, M, 0, 1.0)
    assert fit(health, 1.0)
    assert not health.troubled(1.0)


# --- refused credentials -------------------------------------------------------------------------------------------


def test_a_refused_credential_is_left_alone_at_every_model() -> None:
    health = Health(SETTINGS)
    assert health.refused(P, M, 1, 0.0) == "refused"
    assert health.refused(P, M, 1, 1.0) is None
    assert health.credential(P, "another", [1, 0], 1.0) == 0
    assert health.fit(P, "another", 1, 1.0)
    assert health.shut(1.0) == [(P, "refused", 1)]


def test_a_refused_credential_is_tried_again_ever_more_rarely() -> None:
    health = Health(SETTINGS)
    now, waits = 0.0, []
    for _ in range(6):
        health.refused(P, M, 0, now)
        start = now
        while not fit(health, now):
            now += 60.0
        waits.append(now - start)
    assert waits == [REFUSED_S, 600.0, 1200.0, 2400.0, 3600.0, 3600.0]
    assert health.succeeded(P, M, 0, now) == "accepted"
    health.refused(P, M, 0, now)
    assert fit(health, now + REFUSED_S)


def test_a_refused_credential_alone_is_asked_all_the_same() -> None:
    health = Health(SETTINGS)
    health.refused(P, M, 0, 0.0)
    assert not fit(health, 1.0)
    assert health.credential(P, M, [0], 1.0) == 0
    assert health.wait(P, M, 1, 1.0) == 0.0


def test_with_one_refused_and_the_other_resting_there_is_a_time_to_wait_for() -> None:
    health = Health(SETTINGS)
    health.refused(P, M, 0, 0.0)
    health.limited(P, M, 1, 0.0, 8.0)
    assert health.wait(P, M, 2, 1.0) == 7.0


# --- memory -------------------------------------------------------------------------------------------------------


def test_what_is_long_over_is_forgotten() -> None:
    health = Health(SETTINGS)
    health.limited(P, "a", 0, 0.0, 1.0)
    health.failed(P, "b", 0.0)
    fail(health, 3)
    health.refused(P, "c", 0, 0.0)
    assert health.troubled(1.0)
    assert health.troubled(500.0)
    assert not health.troubled(10_000.0)
    assert not health.troubled(10_000.0)


def test_names_without_end_do_not_fill_the_memory() -> None:
    health = Health(SETTINGS)
    for at in range(REMEMBERED + 50):
        health.failed(P, f"m{at}", 0.0)
        health.limited(P, f"m{at}", 0, 0.0, 50.0)
        health.refused(f"p{at}", M, 0, 0.0)
    assert len(health._outliers.found) == len(health._cooling.found) == len(health._refused.found) == REMEMBERED
    assert not health.fit(P, f"m{REMEMBERED}", 1, 0.0)
    assert health.fit(P, "m0", 1, 0.0)


def test_a_changed_provider_begins_anew() -> None:
    health = Health(SETTINGS)
    for provider in (P, "lab"):
        for _ in range(3):
            health.failed(provider, M, 0.0)
        health.limited(provider, M, 0, 0.0, 9.0)
        health.refused(provider, M, 0, 0.0)
    health.forget([P])
    assert health.fit(P, M, 1, 1.0)
    assert not health.fit("lab", M, 1, 1.0)
    assert {provider for provider, _ in health.counts} == {"lab"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["failed", "limited", "refused", "succeeded", "unknown", "begin"]),
            st.integers(0, 2),
            st.floats(0, 100),
        ),
        max_size=60,
    )
)
def test_nothing_is_closed_for_good(reports: list[tuple[str, int, float]]) -> None:
    health, now = Health(SETTINGS), 0.0
    for what, credential, step in reports:
        now += step
        match what:
            case "failed":
                health.failed(P, M, now)
            case "limited":
                health.limited(P, M, credential, now, step * 1000)
            case "refused":
                health.refused(P, M, credential, now)
            case "succeeded":
                health.succeeded(P, M, credential, now)
            case "unknown":
                health.unknown(P, M)
            case _:
                health.begin(P, M, now)
        assert health.credential(P, M, [0, 1, 2], now) in (0, 1, 2)
        assert 0.0 <= health.wait(P, M, 3, now) <= 100_000.0
    assert health.wait(P, M, 3, now + SETTINGS.cooldown_limit) == 0.0
    assert fit(health, now + 3600.0, credentials=3)


class Ejecting(RuleBasedStateMachine):
    """The ejection of one deployment against a plain account of it."""

    def __init__(self) -> None:
        super().__init__()
        self.health = Health(Settings(eject_after=3, eject_share=2.0, eject_for=4.0, eject_limit=16.0))
        self.now = 0.0
        self.row = 0
        self.began = -math.inf
        self.until: float | None = None
        self.probing = -math.inf
        self.span = 4.0

    @rule(step=st.sampled_from([0.0, 0.5, 3.0, 7.0]))
    def wait(self, step: float) -> None:
        self.now += step

    def _eject(self) -> None:
        self.until, self.probing = self.now + self.span, -math.inf
        self.span = min(16.0, self.span * 2)
        self.row = 0

    @rule()
    def fail(self) -> None:
        change = self.health.failed(P, M, self.now)
        if self.until is not None:
            if self.now >= self.until:
                self._eject()
                assert change == "ejected"
            else:
                assert change is None
            return
        if self.began == -math.inf or self.now - self.began >= WINDOW_S:
            self.began, self.row = self.now, 0
        self.row += 1
        if self.row == 3:
            self._eject()
            assert change == "ejected"

    @rule()
    def succeed(self) -> None:
        self.health.succeeded(P, M, 0, self.now)
        if self.until is None:
            self.row = 0
            if self.now - self.began >= WINDOW_S:
                self.began = -math.inf
        elif self.now >= self.until:
            self.until, self.span, self.began, self.row = None, 4.0, -math.inf, 0

    @precondition(lambda self: self.health.fit(P, M, 1, self.now))
    @rule()
    def begin(self) -> None:
        self.health.begin(P, M, self.now)
        if self.until is not None:
            self.probing = self.now + PROBE_S

    @invariant()
    def fit_is_what_the_account_says(self) -> None:
        shut = self.until is not None and (self.now < self.until or self.now < self.probing)
        assert self.health.fit(P, M, 1, self.now) is not shut


TestEjecting = Ejecting.TestCase


def test_a_provider_with_settings_of_its_own_is_measured_by_them() -> None:
    health = Health(Settings(eject_after=2, cooldown=5.0))
    health.own = {
        "own": Settings(eject_after=1, eject_for=50.0, eject_limit=1000.0, cooldown=70.0, cooldown_limit=80.0)
    }
    for provider in ("own", "other"):
        health.failed(provider, "m", 0.0)
    assert not health.fit("own", "m", 1, 49.0)
    assert health.fit("own", "m", 1, 51.0)
    assert health.fit("other", "m", 1, 0.0)
    for provider in ("own", "other"):
        health.limited(provider, "n", 0, 0.0, None)
        health.limited(provider, "p", 0, 0.0, 500.0)
    assert [health.fit("own", "n", 1, now) for now in (69.0, 71.0)] == [False, True]
    assert [health.fit("other", "n", 1, now) for now in (4.0, 6.0)] == [False, True]
    assert [health.fit("own", "p", 1, now) for now in (79.0, 81.0)] == [False, True]
    assert health.troubled(900.0)  # nothing is forgotten before its own time
    health.failed("own", "m", 901.0)
    assert not health.fit("own", "m", 1, 1000.0)
