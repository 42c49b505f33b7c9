"""What was measured, and what it means: samples, their medians and spreads, and the rows of the table."""

from statistics import median

import msgspec

from bench.footprint import Memory, Start
from bench.orders import Report
from bench.works import BUDGETS, LATENCY, WORKS, Budget, Work

__all__ = ["Machine", "Results", "Row", "Sample", "Spread", "rows"]


class Sample(msgspec.Struct, kw_only=True):
    """One window of one work on one target."""

    work: str
    target: str
    repeat: int
    report: Report

    @property
    def us(self) -> float:
        """CPU microseconds per unit."""
        return self.report.cpu_s / self.report.units * 1e6


class Machine(msgspec.Struct, kw_only=True):
    """Where and with what it was measured."""

    processor: str
    cores: int
    kernel: str
    python: str
    versions: dict[str, str]
    nginx: str
    nginx_access_log: bool
    load_average: float


class Results(msgspec.Struct, kw_only=True):
    """Everything of one run."""

    began: str
    machine: Machine
    gateways: list[str]
    samples: list[Sample] = []
    memory: dict[str, dict[str, list[Memory]]] = {}
    """By work and target."""
    starts: dict[str, list[Start]] = {}
    refused: dict[str, str] = {}
    """Works that a gateway does not offer, with its words."""

    def of(self, work: str, target: str) -> dict[int, Sample]:
        """The samples of a work on a target by repeat."""
        return {one.repeat: one for one in self.samples if one.work == work and one.target == target}


class Spread(msgspec.Struct):
    """Median and extremes."""

    middle: float
    low: float
    high: float

    def show(self, digits: int = 1) -> str:
        if self.low == self.high:
            return f"{self.middle:,.{digits}f}"
        return f"{self.middle:,.{digits}f} [{self.low:,.{digits}f}-{self.high:,.{digits}f}]"


def spread(values: list[float]) -> Spread | None:
    return Spread(median(values), min(values), max(values)) if values else None


class Row(msgspec.Struct, kw_only=True):
    """One line of the table. `ratio` is that of pairs measured one after the other, not of the medians."""

    work: str
    unit: str
    nginx: Spread | None = None
    gateway: Spread | None = None
    ratio: Spread | None = None
    least: float | None = None
    """Ratio of the least figures of both: what disturbs a window only ever adds."""
    must: str = "-"
    aim: str = "-"
    verdict: str = "-"
    note: str = ""


def rows(results: Results, gateway: str) -> list[Row]:
    """The table for one gateway."""
    found = [_cpu_row(results, work, gateway) for work in WORKS if work is not LATENCY]
    for name, budget in (("memory, plain upstream", "memory, plain upstream"), ("memory, TLS upstream",) * 2):
        found.append(_memory_row(results, name, BUDGETS[budget], gateway))
    found += _start_rows(results, gateway)
    found += _delay_rows(results, gateway)
    return [row for row in found if row.gateway is not None or row.note]


def _cpu_row(results: Results, work: Work, gateway: str) -> Row:
    shown = f"{work.name}, journal off" if work.unit == "chunk" and not work.store else work.name
    row = Row(work=shown, unit=f"µs/{work.unit}")
    if work.name in results.refused:
        row.note = f"not offered: {results.refused[work.name]}"
        return row
    ours, theirs = results.of(work.name, gateway), results.of(work.name, "nginx")
    row.nginx = spread([one.us for one in theirs.values()])
    row.gateway = spread([one.us for one in ours.values()])
    row.ratio = spread([ours[turn].us / theirs[turn].us for turn in ours.keys() & theirs.keys()])
    if row.nginx is not None and row.gateway is not None:
        row.least = row.gateway.low / row.nginx.low
    if work.budget:
        _judge(row, BUDGETS[work.budget], row.ratio)
    notes = []
    if ours and work.unit == "chunk":
        per_read = median(one.report.units / max(1, one.report.reads) for one in ours.values())
        if per_read > 1.05:
            notes.append(f"{per_read:.2f} chunks per read")
    if ours and work.unit == "request" and not work.rate:
        fastest = {
            name: max(one.report.units / one.report.seconds for one in of.values())
            for name, of in (("nginx", theirs), (gateway, ours))
            if of
        }
        notes.append(" · ".join(f"{name} {rate:,.0f}/s" for name, rate in fastest.items()))
    row.note = ", ".join(notes)
    return row


def _memory_row(results: Results, name: str, budget: Budget, gateway: str) -> Row:
    row = Row(work=name, unit="KB/stream")
    measured = results.memory.get(name, {})
    row.nginx = spread([one.kb_per_stream for one in measured.get("nginx", [])])
    row.gateway = spread([one.kb_per_stream for one in measured.get(gateway, [])])
    if row.gateway is not None and row.nginx is not None and row.nginx.middle:
        ratio = row.gateway.middle / row.nginx.middle
        row.ratio = Spread(ratio, ratio, ratio)
    _judge(row, budget, row.gateway)
    if measured.get(gateway):
        row.note = f"{measured[gateway][0].streams:,} streams"
    return row


def _start_rows(results: Results, gateway: str) -> list[Row]:
    ours, theirs = results.starts.get(gateway, []), results.starts.get("nginx", [])
    first = Row(work="start to first answer", unit="s")
    first.nginx = spread([one.seconds for one in theirs])
    first.gateway = spread([one.seconds for one in ours])
    _judge(first, BUDGETS["start"], first.gateway)
    if ours:
        first.note = f"{median(one.cpu_s for one in ours):.2f} s of CPU"
    idle = Row(work="memory after the first answer", unit="MB")
    idle.nginx = spread([one.rss_mb for one in theirs])
    idle.gateway = spread([one.rss_mb for one in ours])
    return [first, idle]


def _delay_rows(results: Results, gateway: str) -> list[Row]:
    found = []
    stream = next(work for work in WORKS if work.direct and work.unit == "chunk")
    for work, what, budgets in (
        (LATENCY, "added latency, 100 requests/s", True),
        (stream, f"added delay, {stream.name}", False),
    ):
        for name, budget in (("p50", "latency p50"), ("p99", "latency p99")):
            row = Row(work=f"{what}, {name}", unit="ms")
            row.nginx = spread(_added(results, work.name, "nginx", name))
            row.gateway = spread(_added(results, work.name, gateway, name))
            if budgets:
                _judge(row, BUDGETS[budget], row.gateway)
            found.append(row)
    row = Row(work=f"longest added delay, {stream.name}", unit="ms", note="bounds the longest stall of the loop")
    row.nginx = spread(_added(results, stream.name, "nginx", "longest"))
    row.gateway = spread(_added(results, stream.name, gateway, "longest"))
    _judge(row, BUDGETS["stall"], row.gateway)
    if row.gateway is None:
        row.note = ""
    found.append(row)
    return found


def _added(results: Results, work: str, target: str, name: str) -> list[float]:
    """A percentile beyond that of the bare upstream in the same repeat."""
    direct = results.of(work, "direct")
    return [
        getattr(one.report.delay, name) - getattr(direct[turn].report.delay, name)
        for turn, one in results.of(work, target).items()
        if turn in direct
    ]


def _judge(row: Row, budget: Budget, value: Spread | None) -> None:
    sign = budget.unit or "×"
    row.must = f"≤ {budget.must:g} {sign}"
    row.aim = f"{budget.aim:g} {sign}" if budget.aim is not None else "-"
    if value is None:
        return
    if value.middle > budget.must:
        row.verdict = "misses"
        if value.low <= budget.must:
            row.verdict = "misses (spread spans the limit)"
        return
    row.verdict = "aim" if budget.aim is not None and value.middle <= budget.aim else "reached"
    if value.high > budget.must:
        row.verdict += " (spread spans the limit)"
