"""How a table is measured: servers that take turns, windows on a quiet core, and what comes of them in lines."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import msgspec
from rich.console import Console

from bench.client import Load, MeasurementFailed
from bench.orders import Order, Report, RequestsOrder, StreamsOrder
from bench.peers import Peer
from bench.probe import Probe
from bench.processes import wait_until_quiet
from bench.tables import BASE, OURS, Line
from bench.targets import Lab, Target, Variant, find_nginx, start_nginx, start_tidegate, start_upstream

__all__ = ["Job", "Runner"]


class Job(msgspec.Struct, kw_only=True):
    """What is done in one turn on one server, and the lines that its figures go to."""

    lines: list[Line]
    measure: Callable[[Target], Sequence[float]]
    """A figure for each line. Raises MeasurementFailed."""
    peers: bool = False
    """Whether other gateways do it too."""
    fresh: bool = False
    """Each turn has a server of its own."""
    direct: bool = False
    """Measured against the bare upstream in each repeat too, whose figures are taken off the others."""


class Runner:
    """What all tables share: the lab, the load, and the servers by name."""

    def __init__(
        self,
        lab: Lab,
        progress: Console,
        *,
        quick: bool,
        repeats: int,
        patience: float,
        peers: list[Peer],
        source: str = "",
    ) -> None:
        self.lab = lab
        self.quick = quick
        self.source = source
        """The `src` folder to measure; empty for the installed one."""
        self.repeats = repeats
        self.request_s = 0.5 if quick else 1.5
        self.chunk_s = 0.6 if quick else 2.5
        self.busy: list[float] = []
        self.merged = 1.0
        """The most chunks per read of any window."""
        self._patience = patience
        self._progress = progress
        self._began = time.perf_counter()
        self.peers = peers
        self._peers = {peer.name: peer for peer in peers}
        self.nginx = find_nginx()
        self.load = Load(lab.cores.rest, str(lab.root))
        lab.stack.enter_context(self.load.child)
        self.probe = Probe(lab.cores.rest, str(lab.root))
        lab.stack.enter_context(self.probe.child)
        self.direct = start_upstream(lab)

    def say(self, text: str) -> None:
        shown = f"{time.perf_counter() - self._began:6.0f} s  {text}"
        self._progress.print(shown, highlight=False, markup=False, soft_wrap=True)

    def names(self, *, peers: bool) -> list[str]:
        return [*([BASE] if self.nginx else []), OURS, *(self._peers if peers else [])]

    def start(self, name: str) -> Target:
        """Raises RuntimeError when it does not come up."""
        if name == BASE:
            assert self.nginx is not None
            return start_nginx(self.lab, self.nginx, access_log=False)
        if name == OURS:
            return start_tidegate(self.lab, Variant(source=self.source))
        return self._peers[name].start(self.lab)

    def window(self, order: Order) -> Report:
        """One window once the tested core is quiet. Raises MeasurementFailed."""
        wait_until_quiet(self.lab.cores.tested, self._patience)
        report = self.load.run(order)
        if isinstance(order, RequestsOrder | StreamsOrder) and order.pids:
            self.busy.append(report.others_s / report.seconds)
            self.merged = max(self.merged, report.units / report.reads if report.reads else 1.0)
        return report

    def measure(self, jobs: Sequence[Job]) -> list[Line]:
        """Every job on every server in turn, `repeats` times; the order turns with each repeat. Returns the jobs' lines."""
        with ExitStack() as stack:
            running: dict[str, Target] = {}
            for name in self.names(peers=any(job.peers and not job.fresh for job in jobs)):
                if any(not job.fresh for job in jobs):
                    self._begin(name, running, jobs, stack)
            total = self.repeats * len(jobs)
            for repeat in range(self.repeats):
                for number, job in enumerate(jobs):
                    self._turn(job, repeat, running, f"[{repeat * len(jobs) + number + 1}/{total}] {job.lines[0].name}")
        return [line for job in jobs for line in job.lines]

    def _begin(self, name: str, running: dict[str, Target], jobs: Sequence[Job], stack: ExitStack) -> None:
        try:
            running[name] = self.start(name)
        except RuntimeError as error:
            if name in (BASE, OURS):
                raise
            self._note([line for job in jobs if job.peers for line in job.lines], name, error)
            return
        stack.callback(running[name].stop)

    def _turn(self, job: Job, repeat: int, running: dict[str, Target], title: str) -> None:
        bare = [0.0] * len(job.lines)
        shown = []
        if job.direct:
            bare = list(job.measure(self.direct))
            for line, value in zip(job.lines, bare, strict=True):
                line.values.setdefault("direct", []).append(value)
        names = self.names(peers=job.peers)
        for name in names if repeat % 2 == 0 else reversed(names):
            if name in job.lines[0].notes:
                continue
            get = partial(self.start, name) if job.fresh else partial(running.__getitem__, name)
            try:
                target = get()
                try:
                    found = job.measure(target)
                finally:
                    if job.fresh:
                        target.stop()
            except RuntimeError as error:
                self._note(job.lines, name, error)
                shown.append(f"{name}: {error}")
                continue
            for line, value, less in zip(job.lines, found, bare, strict=True):
                line.values.setdefault(name, []).append(value - less)
            shown.append(f"{name} {found[0] - bare[0]:,.2f}")
        self.say(f"{title}: {', '.join(shown)} {job.lines[0].unit}")

    @staticmethod
    def _note(lines: list[Line], name: str, error: RuntimeError) -> None:
        if isinstance(error, MeasurementFailed) or name not in (BASE, OURS):
            for line in lines:
                shown = str(error) if isinstance(error, MeasurementFailed) else "did not start"
                line.notes[name] = " ".join(shown.split())[:90]
                line.values.pop(name, None)  # what has no figure in every repeat has none
            return
        raise error
