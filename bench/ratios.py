"""`python -m bench.ratios`: what the gateway costs as a multiple of nginx, and of a bare relay, in a few seconds each.

These are the figures that tests/performance holds a change against: with `--write` they are committed there. Windows of both
servers follow each other, so that what disturbs one mostly disturbs the other; a window in which others took more than a fifth
of the core is taken again while time allows.
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

from bench.client import Load
from bench.orders import StreamsOrder
from bench.processes import Child, cores
from bench.targets import NGINX_HINT, Lab, Target, Variant, find_nginx, start_nginx, start_tidegate, start_upstream
from bench.works import Work

__all__ = ["BASELINES", "COMMITTED", "WATCHED", "Baseline", "Found", "Ratio", "committed", "main", "measure"]

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "tests" / "performance" / "ratios.json"
Baseline = Literal["nginx", "relay"]
BASELINES: tuple[Baseline, ...] = ("nginx", "relay")
BUSY = 0.2
WARM_UP_S = 0.05
LEAST_PAIRS = 3
FIRST_FRAMES = 2

WATCHED = (
    Work(name="request, chat", unit="request", dialect="chat", connections=16),
    Work(name="chunk, chat", unit="chunk", dialect="chat", rate=4000),
    Work(name="chunk, Responses, journal on", unit="chunk", dialect="responses", rate=4000, store=True),
)


class Ratio(msgspec.Struct):
    """Of pairs of windows: the median of their ratios, the ratio of the least figures, and how many were undisturbed."""

    middle: float
    of_least: float
    quiet: int

    @property
    def least(self) -> float:
        """What disturbs a window only ever adds: the smaller of the two is nearer to the truth."""
        return min(self.middle, self.of_least)


class Found(msgspec.Struct):
    """By name of the work."""

    baseline: Baseline
    ratios: dict[str, Ratio]
    others: float
    """The share of the core that others had on average."""


def committed() -> dict[str, dict[str, float]]:
    """The ratios that are held to be right: by baseline, by name of the work."""
    return msgspec.json.decode(COMMITTED.read_bytes(), type=dict[str, dict[str, float]])


class _Pairs:
    """Windows of one work on both servers."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.quiet: list[tuple[float, float]] = []
        self.disturbed: list[tuple[float, float]] = []

    def ratio(self) -> Ratio:
        """Of the quiet pairs where there are enough, else of all."""
        taken = self.quiet if len(self.quiet) >= LEAST_PAIRS else self.quiet + self.disturbed
        ours, theirs = zip(*taken, strict=True)
        return Ratio(median(one / base for one, base in taken), min(ours) / min(theirs), len(self.quiet))


def measure(
    baseline: Baseline,
    *,
    seconds: float = 12.0,
    window_s: float = 0.25,
    pairs: int = 5,
    stop_at: dict[str, float] | None = None,
) -> Found:
    """Pairs of windows of every watched work, until each has `pairs` quiet ones or `seconds` are over, but three of each at
    least. With `stop_at`, a work is left alone as soon as three pairs show it to be within that ratio. Raises RuntimeError
    when a server does not come up or answers with an error, SystemExit on a machine with one core."""
    own = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, ExitStack() as stack:
        lab = Lab(ROOT, Path(folder), cores(), stack)
        os.sched_setaffinity(0, {lab.cores.rest})
        stack.callback(os.sched_setaffinity, 0, own)
        load = Load(lab.cores.rest, str(ROOT))
        stack.enter_context(load.child)
        start_upstream(lab)
        base = _start_baseline(lab, baseline)
        ours = start_tidegate(lab, Variant())
        found = [_Pairs(work) for work in WATCHED]
        others: list[float] = []
        until = time.monotonic() + seconds
        turn = 0
        while open_ := [one for one in found if not _is_done(one, pairs, stop_at, late=time.monotonic() > until)]:
            turn += 1
            for one in open_:
                one_figures, shares = {}, []
                for target in (base, ours) if turn % 2 else (ours, base):
                    order = one.work.order(target, lab.cores.tested, warmup_s=WARM_UP_S, seconds=window_s)
                    if isinstance(order, StreamsOrder):
                        order.first_frames = FIRST_FRAMES
                    report = load.run(order)
                    one_figures[target.name] = report.cpu_s / report.units
                    shares.append(report.others_s / report.seconds)
                pair = one_figures[ours.name], one_figures[base.name]
                (one.quiet if max(shares) <= BUSY else one.disturbed).append(pair)
                others += shares
        return Found(baseline, {one.work.name: one.ratio() for one in found}, sum(others) / len(others))


def _is_done(one: _Pairs, pairs: int, stop_at: dict[str, float] | None, *, late: bool) -> bool:
    taken = len(one.quiet) + len(one.disturbed)
    if taken < LEAST_PAIRS:
        return False
    if late or len(one.quiet) >= pairs:
        return True
    return stop_at is not None and one.ratio().least <= stop_at[one.work.name]


def _start_baseline(lab: Lab, baseline: Baseline) -> Target:
    if baseline == "nginx":
        program = find_nginx()
        if program is None:
            raise RuntimeError(NGINX_HINT)
        return start_nginx(lab, program, access_log=False)
    argv = [sys.executable, "-m", "bench.relay", str(lab.plain)]
    child = lab.stack.enter_context(Child(argv, core=lab.cores.tested, cwd=str(lab.root)))
    return Target("relay", child, int(child.read_line("listening").split()[1]), 0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ratios", description=__doc__)
    parser.add_argument("--write", action="store_true", help="commit what is found to tests/performance/ratios.json")
    parser.add_argument("--json", action="store_true", help="print what is found as JSON")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for each baseline (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=15, help="quiet pairs of windows for each (default: %(default)s)")
    given = parser.parse_args()
    try:
        found = [
            measure(baseline, seconds=given.seconds, window_s=0.8, pairs=given.pairs)
            for baseline in BASELINES
            if baseline != "nginx" or find_nginx()
        ]
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    for one in () if given.json else found:
        print(f"beside {one.baseline}; others had {one.others:.0%} of the core")
        for name, ratio in one.ratios.items():
            print(f"  {name:<30} {ratio.middle:5.2f} ×, of least {ratio.of_least:5.2f} ×, {ratio.quiet} quiet pairs")
    if given.write:
        if len(found) < len(BASELINES):
            sys.exit(f"bench: both baselines are written together. {NGINX_HINT}")
        content = {one.baseline: {name: round(ratio.middle, 2) for name, ratio in one.ratios.items()} for one in found}
        COMMITTED.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        print(f"Written to {COMMITTED.relative_to(ROOT)}.", file=sys.stderr)


if __name__ == "__main__":
    main()
