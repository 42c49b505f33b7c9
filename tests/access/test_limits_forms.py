"""How amounts and times are written, for people and in headers."""

import pytest

from tidegate.access.limits import dollars, duration, limit_fields, long_duration, rules_of
from tidegate.access.scopes import Scope
from tidegate.config.limits import Limits, Windows


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "1ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (1.2, "2s"),
        (59.999, "1m0s"),
        (360, "6m0s"),
        (3661, "1h1m1s"),
        (86400, "24h0m0s"),
        (-3, "0s"),
    ],
)
def test_durations_have_the_form_of_openais_headers(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert f"x-ratelimit-reset-requests: {text}\r\n".encode() in limit_fields([(1, 1, seconds), None])


@pytest.mark.parametrize(
    ("seconds", "text"), [(61, "1m1s"), (86_399, "23h59m59s"), (86_400, "1d"), (90_001, "1d2h"), (2_678_399, "31d")]
)
def test_people_are_told_of_long_times_in_days(seconds: float, text: str) -> None:
    assert long_duration(seconds) == text


def test_a_scope_is_shown_with_its_name_where_the_id_says_nothing() -> None:
    assert Scope("key", "key_0123", Limits(), "app").shown == "key 'app' (key_0123)"
    assert Scope("key", "app", Limits()).shown == "key 'app'"
    assert Scope("end_user", "default/web/ann", Limits()).shown == "end user 'default/web/ann'"


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (500_000_000, "$0.50"),
        (1_234_500_000, "$1.2345"),
        (2_000_000_000_000, "$2000.00"),
    ],
)
def test_money_is_never_rounded(nano: int, text: str) -> None:
    assert dollars(nano) == text


def test_what_is_over_its_limit_leaves_nothing() -> None:
    lines = limit_fields([None, (100, -20, 0.0)])
    assert lines == (
        b"x-ratelimit-limit-tokens: 100\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 0s\r\n"
    )


def test_limits_are_whole_in_their_smallest_unit() -> None:
    limits = Limits(requests=Windows(minute=2.9), cost=Windows(day=0.1, month=0.29), streams=0)
    rules = [(rule.kind, rule.window, rule.limit) for rule in rules_of(Scope("key", "k", limits))]
    assert rules == [(0, "minute", 2), (2, "day", 100_000_000), (2, "month", 290_000_000), (3, "", 0)]


def test_a_limit_beyond_all_numbers_is_the_largest() -> None:
    limits = Limits(requests=Windows(day=1e308), cost=Windows(month=1e308))
    assert [rule.limit for rule in rules_of(Scope("key", "k", limits))] == [2**62, 2**62]
