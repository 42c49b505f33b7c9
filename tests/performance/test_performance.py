"""No change makes a request or a chunk dearer by a third without being seen.

What the gateway costs is compared with what nginx costs in the same seconds, or, where there is no nginx, a bare relay. Both
have their ratios in ratios.json, which `python -m bench.ratios --write` writes on a quiet machine; CPU time is compared, which
neighbours disturb least, and where they do, it is measured again.
"""

import os
import sys

import pytest

from bench.ratios import BASELINES, WATCHED, Baseline, committed, measure
from bench.targets import find_nginx

ALLOWED = 1.30
"""What a unit of work may cost more than the committed ratio says."""

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(sys.platform != "linux", reason="CPU clocks of other processes and cores are read from Linux"),
]
two_cores = pytest.mark.skipif(
    sys.platform == "linux" and len(os.sched_getaffinity(0)) < 2, reason="the load needs a core of its own"
)


@two_cores
def test_requests_and_chunks_cost_no_more_than_they_did() -> None:
    baseline: Baseline = "nginx" if find_nginx() else "relay"
    limits = {name: ratio * ALLOWED for name, ratio in committed()[baseline].items()}
    found = measure(baseline, stop_at=limits)
    too_dear = {
        name: f"{ratio.least:.2f} × {baseline}, more than {limits[name]:.2f}"
        for name, ratio in found.ratios.items()
        if ratio.least > limits[name]
    }
    assert not too_dear, f"others had {found.others:.0%} of the core"


def test_every_watched_work_has_a_committed_ratio() -> None:
    names = {work.name for work in WATCHED}
    assert {baseline: set(ratios) for baseline, ratios in committed().items()} == dict.fromkeys(BASELINES, names)
