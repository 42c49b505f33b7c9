"""What follows a failure, without a network."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.dialects.failure import from_error_object, from_status
from tidegate.routing.retry import BASE_S, BUDGET_LEAST, LONGEST_WAIT_S, Budget, Condition, Retries, verdict
from tidegate.wire import errors

NONE: frozenset[Condition] = frozenset()
BOTH: frozenset[Condition] = frozenset({"context_length", "content_filter"})


@pytest.mark.fault("FAULT-STATUS")
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, "again") for status in (500, 502, 503, 504, 529, 408, 409)),
        *((status, "final") for status in (400, 404, 413, 422)),
        *((status, "credential") for status in (401, 403, 429)),
    ],
)
def test_each_status_has_what_follows_it(status: int, expected: str) -> None:
    assert verdict(from_status(status, b"{}", "p")) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.UpstreamUnreachable("refused"), "elsewhere"),
        (errors.UpstreamUnreachable("its certificate is not trusted"), "elsewhere"),
        (errors.UpstreamTimeout("", "connect"), "elsewhere"),
        (errors.UpstreamTimeout("", "first_event"), "elsewhere"),
        (errors.UpstreamTimeout("", "idle"), "elsewhere"),
        (errors.UpstreamTimeout("", "total"), "final"),
        (errors.UpstreamBroken("cut"), "again"),
        (errors.UpstreamRedirected("307"), "elsewhere"),
        (errors.Overloaded("our own cap"), "elsewhere"),
        (errors.UnsupportedParameter("n"), "final"),
        (errors.ClientGone("gone"), "final"),
        (errors.Cancelled("not wanted"), "final"),
        (errors.Internal("bug"), "final"),
    ],
)
def test_each_failure_of_the_way_there_has_what_follows_it(error: errors.TidegateError, expected: str) -> None:
    assert verdict(error) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (b'{"type":"overloaded_error","message":"Overloaded"}', "again"),
        (b'{"code":"rate_limit_exceeded","message":"slow"}', "credential"),
        (b'{"code":"insufficient_quota","message":"empty"}', "credential"),
        (b'{"code":"invalid_api_key","message":"no"}', "credential"),
        (b'{"code":"server_error","message":"oops"}', "again"),
        (b'{"code":"content_filter","message":"no"}', "final"),
    ],
)
def test_an_error_hidden_in_a_success_counts_as_what_it_is(found: bytes, expected: str) -> None:
    assert verdict(from_error_object(found, "p")) == expected


@pytest.mark.parametrize(
    ("error", "condition"),
    [
        (b'{"error":{"code":"context_length_exceeded"}}', "context_length"),
        (b'{"error":{"message":"prompt is too long: 9 > 8","type":"invalid_request_error"}}', "context_length"),
        (b'{"error":{"code":"content_filter"}}', "content_filter"),
        (b'{"error":{"code":"content_policy_violation"}}', "content_filter"),
    ],
)
def test_a_refusal_goes_elsewhere_only_where_the_route_says_so(error: bytes, condition: Condition) -> None:
    found = from_status(400, error, "p")
    assert verdict(found, NONE) == "final"
    assert verdict(found, BOTH - {condition}) == "final"
    assert verdict(found, frozenset({condition})) == "elsewhere"


def test_a_body_that_is_too_large_for_one_may_do_for_another() -> None:
    assert verdict(from_status(413, b"{}", "p"), BOTH) == "elsewhere"


def test_other_mistakes_of_the_caller_are_never_sent_elsewhere() -> None:
    for status in (400, 404, 422):
        assert verdict(from_status(status, b'{"error":{"code":"unknown_parameter"}}', "p"), BOTH) == "final"


def test_waits_grow_are_bounded_and_end() -> None:
    retries = Retries(limit=3)
    assert [retries.wait(done, None, 1.0) for done in range(5)] == [BASE_S, 2 * BASE_S, 4 * BASE_S, None, None]
    assert Retries(limit=0).wait(0, None, 0.5) is None
    assert Retries(limit=100).wait(99, None, 1.0) == LONGEST_WAIT_S


@given(
    limit=st.integers(0, 50),
    done=st.integers(0, 60),
    told=st.none() | st.floats(0, 1e6),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_honours_what_the_provider_asked_for_or_is_not_made(
    limit: int, done: int, told: float | None, draw: float
) -> None:
    wait = Retries(limit).wait(done, told, draw)
    if wait is None:
        assert done >= limit or (told is not None and told > LONGEST_WAIT_S)
    else:
        assert done < limit
        assert (told or 0.0) <= wait <= LONGEST_WAIT_S


@pytest.mark.fault("FAULT-HERD")
def test_jitter_spreads_over_the_whole_range() -> None:
    waits = [Retries(5).wait(2, None, at / 100) for at in range(100)]
    assert waits[0] == 0.0
    assert waits == sorted(waits, key=lambda one: math.inf if one is None else one)
    assert len(set(waits)) == 100


@pytest.mark.fault("FAULT-HERD")
def test_retries_are_a_fifth_of_all_requests_at_most() -> None:
    budget = Budget(0.2)
    assert sum(budget.take(100) for _ in range(100)) == 20
    assert budget.denied == 80
    budget.give_back()
    assert budget.take(100)
    assert not budget.take(100)


def test_a_few_retries_may_always_run() -> None:
    budget = Budget(0.2)
    assert sum(budget.take(1) for _ in range(10)) == BUDGET_LEAST


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 500)), max_size=200))
def test_the_budget_never_lends_more_than_it_has(steps: list[tuple[bool, int]]) -> None:
    budget, held = Budget(0.2), 0
    for takes, live in steps:
        if takes:
            took = budget.take(live)
            assert took == (held < max(BUDGET_LEAST, int(0.2 * live)))
            held += took
        elif held:
            budget.give_back()
            held -= 1
        assert budget.running == held
