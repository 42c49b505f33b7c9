"""The short mode of the chaos run. The long one is `make chaos`."""

import random
from itertools import islice

import pytest

from tests.chaos.fault import FAULTS
from tests.chaos.plan import SCENES, plan
from tests.chaos.report import report
from tests.chaos.run import EVERYTHING, Settings, run


@pytest.mark.alone  # its clocks are short: a starved provider would be late
@pytest.mark.timeout(120)
def test_everything_goes_wrong_and_nothing_is_lost_doubled_or_left() -> None:
    result = run(Settings(seed=20261126, requests=EVERYTHING, clients=32), lambda _: None)
    assert result.passed, report(result)
    assert result.steps == EVERYTHING


def test_a_seed_makes_the_same_plan_again() -> None:
    seed = random.Random(7).getrandbits(30)
    first = list(islice(plan(seed, kills=[40]), 200))
    assert first == list(islice(plan(seed, kills=[40]), 200))
    assert first != list(islice(plan(seed + 1, kills=[40]), 200))
    assert [step.text(turn) for step in first for turn in range(3)] == [
        step.text(turn) for step in islice(plan(seed), 200) for turn in range(3)
    ]


def test_a_run_of_the_short_length_meets_every_fault_and_every_kind_of_step() -> None:
    for seed in range(20):
        steps = list(islice(plan(seed), EVERYTHING))
        assert {step.fault for step in steps if step.scene == "plain"} >= set(FAULTS)
        assert {step.scene for step in steps} == set(SCENES)
        assert {what for step in steps for what in step.before} == {"reload", "bad reload", "outage"}
