"""The soak: every kind of work by turns for an hour, and whether memory, descriptors and tasks stay flat.

A round takes about half a minute: streams that come, flow and leave; requests that are answered in one body, stored ones too;
talks that end by themselves; clients that do not read; and everyone gone. Then, with nothing under way, it is counted.
"""

import os
import signal
import time
from pathlib import Path
from statistics import median

import msgspec

from bench.orders import HoldOrder, StreamsOrder, TalksOrder
from bench.processes import rss_bytes
from bench.runner import Runner
from bench.targets import TASKS, Target, Variant, start_tidegate
from bench.workloads import stream_request
from bench.works import Work

__all__ = ["SERIES_ZH", "Soak", "soak"]

SETTLE_S = 2.0
MEMORY_MB = "memory, MB"
DESCRIPTORS = "descriptors"
TASKS_OPEN = "tasks of the event loop"
THREADS = "threads"
SERIES_ZH = {MEMORY_MB: "内存，MB", DESCRIPTORS: "文件描述符", TASKS_OPEN: "事件循环的任务", THREADS: "线程"}
_ALLOWED = {MEMORY_MB: (4.0, 0.05), DESCRIPTORS: (4.0, 0.0), TASKS_OPEN: (2.0, 0.0), THREADS: (2.0, 0.0)}
"""By how much the last quarter may lie above the second one, plainly or as a share of it; the first warms up."""


class Soak(msgspec.Struct, kw_only=True):
    """What was counted after each round, and what went through in all."""

    minutes: list[float] = []
    series: dict[str, list[float]] = {}
    requests: int = 0
    chunks: int = 0

    def verdicts(self) -> dict[str, tuple[bool, float, float]]:
        """By series: whether it is flat, and its medians in the second and in the last quarter."""
        found = {}
        for name, values in self.series.items():
            quarter = max(1, len(values) // 4)
            begun, ended = median(values[quarter : 2 * quarter] or values), median(values[-quarter:])
            plain, share = _ALLOWED[name]
            found[name] = (ended - begun <= max(plain, share * begun), begun, ended)
        return found

    @property
    def is_flat(self) -> bool:
        return all(flat for flat, _, _ in self.verdicts().values())

    def remarks(self) -> list[tuple[str, str]]:
        """The verdict in both languages."""
        en, zh = [], []
        for name, (flat, begun, ended) in self.verdicts().items():
            en.append(f"{name} {begun:,.1f} → {ended:,.1f} ({'flat' if flat else '**grows**'})")
            zh.append(f"{SERIES_ZH[name]} {begun:,.1f} → {ended:,.1f}（{'平稳' if flat else '**增长**'}）")
        length = self.minutes[-1] if self.minutes else 0.0
        english = f"{length:.0f} minutes, {self.requests:,} requests, {self.chunks:,} chunks. Medians of the second and the last"
        english += f" quarter: {'; '.join(en)}."
        chinese = (
            f"{length:.0f} 分钟，{self.requests:,} 个请求，{self.chunks:,} 个数据块。第二个与最后四分之一的中位数："
        )
        chinese += f"{'；'.join(zh)}。"
        return [(english, chinese)]


def soak(runner: Runner, minutes: float) -> Soak:
    """Rounds until the time is over. Raises MeasurementFailed when the gateway refuses or drops anything."""
    target = start_tidegate(runner.lab, Variant(source=runner.source, watched=True))
    found = Soak(series={name: [] for name in SERIES_ZH})
    began = time.monotonic()
    shorter = min(1.0, minutes / 2)
    try:
        while not found.minutes or found.minutes[-1] < minutes:
            _round(runner, target, found, shorter)
            time.sleep(SETTLE_S * shorter)
            found.minutes.append((time.monotonic() - began) / 60)
            for name, value in _count(target).items():
                found.series[name].append(value)
            shown = ", ".join(f"{values[-1]:,.1f} {name}" for name, values in found.series.items())
            runner.say(f"soak, {found.minutes[-1]:.1f} of {minutes:g} minutes: {shown}")
    finally:
        target.stop()
    return found


def _round(runner: Runner, target: Target, found: Soak, shorter: float) -> None:
    core = runner.lab.cores.tested
    load = runner.load
    for dialect, rate, store in (("chat", 300, False), ("responses", 100, False), ("responses", 50, True)):
        work = Work(name="", unit="request", dialect=dialect, rate=rate, store=store)  # type: ignore[arg-type]
        found.requests += load.run(work.order(target, core, warmup_s=0.1, seconds=4.0 * shorter)).units
    for dialect, provider, store in (
        ("chat", "plain", False),
        ("responses", "plain", True),
        ("messages", "chatonly", False),
    ):
        stream = stream_request(dialect, provider, "flow-200", store=store)  # type: ignore[arg-type]
        order = StreamsOrder(target.port, stream, 300, 0.1, 4.0 * shorter, target.pids(), core, 1)
        found.chunks += load.run(order).units
        found.requests += 300
    talks = load.run(TalksOrder(target.port, stream_request("chat", "plain", "talk-20-20"), 50, 0.5, 4.0 * shorter))
    found.requests += talks.units
    found.chunks += talks.gap.count
    for secure, script, reading in ((True, "flow-500", True), (False, "flow-20", False)):
        question = stream_request("chat", "secure" if secure else "plain", script)
        load.run(HoldOrder(target.port, question, 100, reading=reading))
        time.sleep(2.0 * shorter)
        load.run(HoldOrder(target.port, question, 0))
        found.requests += 100


def _count(target: Target) -> dict[str, float]:
    assert target.child is not None
    assert target.folder is not None
    pid = target.child.pid
    file = target.folder / TASKS
    size = file.stat().st_size if file.exists() else 0
    os.kill(pid, signal.SIGUSR2)
    until = time.monotonic() + 5.0
    while time.monotonic() < until and not (file.exists() and file.stat().st_size > size):
        time.sleep(0.01)
    return {
        MEMORY_MB: rss_bytes(target.pids()) / 1e6,
        DESCRIPTORS: float(len(os.listdir(f"/proc/{pid}/fd"))),
        TASKS_OPEN: float(file.read_text().split()[-1]),
        THREADS: float(len(list(Path(f"/proc/{pid}/task").iterdir()))),
    }
