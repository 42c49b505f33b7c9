"""Which of several equal targets is taken."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.routing.balance import (
    EXPLORED,
    REMEMBERED,
    SMOOTHING,
    Candidate,
    Load,
    Loads,
    Strategy,
    order,
    rendezvous,
)

STRATEGIES: tuple[Strategy, ...] = ("weighted", "least-busy", "lowest-latency", "cheapest")

candidates = st.lists(
    st.builds(
        Candidate,
        name=st.text(min_size=1, max_size=5),
        weight=st.integers(0, 5),
        fit=st.booleans(),
        running=st.integers(0, 20),
        first_event=st.floats(0, 10),
        price=st.none() | st.floats(0, 10),
    ),
    min_size=1,
    max_size=6,
)
draws = st.floats(0, 1, exclude_max=True)


@given(strategy=st.sampled_from(STRATEGIES), given_=candidates, draw=draws, sticky=st.sampled_from(["", "k", "\ud800"]))
def test_every_target_with_weight_comes_once_and_the_unfit_last(
    strategy: Strategy, given_: list[Candidate], draw: float, sticky: str
) -> None:
    found = order(strategy, given_, draw, sticky)
    weighted = [at for at, one in enumerate(given_) if one.weight] or list(range(len(given_)))
    assert sorted(found) == weighted
    assert [given_[at].fit for at in found] == sorted((given_[at].fit for at in found), reverse=True)


def test_the_first_is_drawn_by_weight_among_the_fit() -> None:
    three = [Candidate("a", 1), Candidate("b", 3), Candidate("c", 4)]
    assert Counter(order("weighted", three, at / 800)[0] for at in range(800)) == {0: 100, 1: 300, 2: 400}
    two = [Candidate("a", 1), Candidate("b", 3), Candidate("c", 4, fit=False)]
    assert Counter(order("weighted", two, at / 800)[0] for at in range(800)) == {0: 200, 1: 600}


def test_the_second_is_drawn_by_weight_as_well() -> None:
    three = [Candidate("a", 1), Candidate("b", 1), Candidate("c", 2)]
    seen = Counter(tuple(order("weighted", three, (at + 0.5) / 1200)) for at in range(1200))
    assert seen == {(0, 1, 2): 100, (0, 2, 1): 200, (1, 0, 2): 100, (1, 2, 0): 200, (2, 0, 1): 300, (2, 1, 0): 300}


def test_the_least_busy_for_its_weight_is_taken() -> None:
    assert order("least-busy", [Candidate("a", running=3), Candidate("b", running=1)], 0.0) == [1, 0]
    assert order("least-busy", [Candidate("a", 4, running=3), Candidate("b", 1, running=1)], 0.9) == [0, 1]
    assert order("least-busy", [Candidate("a", running=0, fit=False), Candidate("b", running=9)], 0.0) == [1, 0]


def test_among_equally_busy_ones_the_draw_decides() -> None:
    idle = [Candidate("a"), Candidate("b")]
    assert Counter(order("least-busy", idle, at / 100)[0] for at in range(100)) == {0: 50, 1: 50}


def test_the_quickest_is_taken_but_for_some_requests_that_find_out() -> None:
    slow_and_quick = [Candidate("a", first_event=2.0), Candidate("b", first_event=0.5)]
    assert order("lowest-latency", slow_and_quick, 0.0) == [1, 0]
    seen = Counter(order("lowest-latency", slow_and_quick, at / 1000)[0] for at in range(1000))
    assert seen[0] == pytest.approx(1000 * EXPLORED / 2, abs=2)


def test_a_hair_slower_is_as_quick_and_the_unknown_is_tried() -> None:
    alike = [Candidate("a", first_event=0.50), Candidate("b", first_event=0.55)]
    assert {order("lowest-latency", alike, at / 100)[0] for at in range(100)} == {0, 1}
    assert order("lowest-latency", [Candidate("a", first_event=0.5), Candidate("b")], 0.0) == [1, 0]


def test_the_cheapest_is_taken_and_the_unknown_price_comes_last() -> None:
    priced = [Candidate("a"), Candidate("b", price=3.0), Candidate("c", price=2.0)]
    for draw in (0.0, 0.5, 0.99):
        assert order("cheapest", priced, draw) == [2, 1, 0]
        assert order("cheapest", priced, draw, "key") == [2, 1, 0]


@pytest.mark.parametrize("strategy", ["weighted", "least-busy", "lowest-latency"])
def test_a_sticky_key_finds_the_same_target_whatever_else_is_known(strategy: Strategy) -> None:
    for key in ("a", "b", "c", "d"):
        found = {
            tuple(order(strategy, [Candidate(n, running=busy, first_event=busy) for n in "xyz"], draw, key))
            for draw in (0.0, 0.5, 0.99)
            for busy in (0, 5)
        }
        assert len(found) == 1


def test_a_target_that_is_not_fit_moves_only_its_own_keys() -> None:
    everyone = [Candidate(name) for name in "wxyz"]
    without = [Candidate(name, fit=name != "y") for name in "wxyz"]
    for at in range(300):
        before, after = order("weighted", everyone, 0.0, f"k{at}")[0], order("weighted", without, 0.0, f"k{at}")[0]
        assert after != 2
        assert before in (2, after)


@given(st.lists(st.text(max_size=4), min_size=2, max_size=6, unique=True), st.text(max_size=8), st.data())
def test_a_name_that_goes_leaves_the_order_of_the_others(names: list[str], key: str, data: st.DataObject) -> None:
    ranked = [names[at] for at in rendezvous(key, names, [1] * len(names))]
    gone = data.draw(st.sampled_from(names))
    left = [name for name in names if name != gone]
    assert [left[at] for at in rendezvous(key, left, [1] * len(left))] == [name for name in ranked if name != gone]


def test_sticky_keys_fall_on_targets_by_weight() -> None:
    seen = Counter(rendezvous(f"k{at}", ["a", "b"], [1, 3])[0] for at in range(4000))
    assert 0.22 < seen[0] / 4000 < 0.28


def test_the_average_follows_slowly() -> None:
    load = Load()
    load.heard(1.0)
    assert load.first_event == 1.0
    load.heard(2.0)
    assert load.first_event == pytest.approx(1.0 + SMOOTHING)
    for _ in range(100):
        load.heard(2.0)
    assert load.first_event == pytest.approx(2.0)


def test_loads_are_kept_for_those_that_are_busy() -> None:
    loads = Loads()
    busy = loads.of("p", "m")
    busy.running = 1
    for at in range(3 * REMEMBERED):
        loads.of("p", f"m{at}")
        assert len(loads) <= REMEMBERED + 1
    assert loads.of("p", "m") is busy
    loads.forget(["p"])
    assert len(loads) == 0
