"""Where the gateway's time goes under steady load: native symbols, Python functions, and system calls per unit.

Each part needs a tool that may be absent, and says so then: `perf` (Debian: linux-perf), `py-spy` (pip install py-spy),
`strace`. None is attached while another is, and none of these figures belongs beside one of the table: being watched
costs time.
"""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from bench.client import Load
from bench.orders import Report
from bench.targets import Lab, Target, Variant, start_tidegate
from bench.works import WORKS, Work

__all__ = ["run"]

PROFILED = ("request, chat", "request, Responses", "chunk, chat, 10,000/s", "chunk, Responses, 10,000/s")
SHOWN = 30
SAMPLES_PER_S = 250
TRACED_RATE = 200

_HINTS = {
    "perf": "Native symbols need perf (Debian: apt-get install linux-perf).",
    "py-spy": f"Python functions need py-spy ({sys.executable} -m pip install py-spy).",
    "strace": "System calls need strace (Debian: apt-get install strace).",
}
_PERF_LINE = re.compile(r"^ +([0-9.]+)% +(.*?)\s*$", re.MULTILINE)


def run(lab: Lab, variant: Variant, folder: Path, *, seconds: float) -> None:
    """Prints the profiles and keeps them in a text file."""
    load = Load(lab.cores.rest, str(lab.root))
    lab.stack.enter_context(load.child)
    target = start_tidegate(lab, variant)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now().astimezone():%Y%m%dT%H%M%S}-profile.txt"
    with path.open("w") as file:

        def say(text: str) -> None:
            print(text, flush=True)
            file.write(text + "\n")

        for name in PROFILED:
            work = next(one for one in WORKS if one.name == name)
            say(f"\n=== {name}")
            for tool, show in (("perf", _perf), ("py-spy", _py_spy), ("strace", _strace)):
                program = shutil.which(tool) or shutil.which(tool, path=str(Path(sys.executable).parent))
                if program is None:
                    say(f"\n{_HINTS[tool]}")
                    continue
                say(f"\n--- {tool}")
                watched = msgspec.structs.replace(work, rate=TRACED_RATE) if tool == "strace" else work
                say(_under_load(lab, load, target, watched, seconds, program, show))
    print(f"\nWritten to {path}.")


Show = Callable[[str, Lab, int, float, Callable[[], Report]], str]


def _under_load(lab: Lab, load: Load, target: Target, work: Work, seconds: float, program: str, show: Show) -> str:
    """`show` watches the gateway while the load runs; it asks for the load's report when it has seen enough."""
    assert target.child is not None
    load.give(work.order(target, lab.cores.tested, warmup_s=0.5, seconds=seconds + 1.0))
    time.sleep(1.0)
    taken: list[Report] = []

    def finish() -> Report:
        if not taken:
            taken.append(load.take())
        return taken[0]

    try:
        return show(program, lab, target.child.pid, seconds, finish)
    finally:
        finish()


def _perf(program: str, lab: Lab, pid: int, seconds: float, finish: Callable[[], Report]) -> str:
    data = lab.new_folder("perf") / "perf.data"
    record = [program, "record", "-q", "-F", "1999", "-p", str(pid), "-o", str(data), "--", "sleep", f"{seconds}"]
    recorded = subprocess.run(record, capture_output=True, text=True, check=False)
    finish()
    if recorded.returncode or not data.exists():
        return f"perf cannot record here: {recorded.stderr.strip()}"
    lines = []
    for key, count in (("dso", 8), ("dso,symbol", SHOWN)):
        report = [program, "report", "-i", str(data), "--no-children", "--sort", key, "--stdio", "-w", "30,60"]
        text = subprocess.run(report, capture_output=True, text=True, check=False).stdout
        lines += [f"{float(share):5.1f} %  {what}" for share, what in _PERF_LINE.findall(text)[:count]]
        lines.append("")
    return "\n".join(lines).rstrip()


def _py_spy(program: str, lab: Lab, pid: int, seconds: float, finish: Callable[[], Report]) -> str:
    """Time in C, the kernel included, counts for the Python line that called it."""
    raw = lab.new_folder("py-spy") / "stacks"
    record = [
        program,
        "record",
        "-p",
        str(pid),
        "-d",
        f"{round(seconds)}",
        "-r",
        str(SAMPLES_PER_S),
        "-f",
        "raw",
        "--nonblocking",
    ]
    recorded = subprocess.run([*record, "-t", "-o", str(raw)], capture_output=True, text=True, check=False)
    finish()
    if recorded.returncode or not raw.exists():
        return f"py-spy cannot record here: {recorded.stderr.strip()}"
    own: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    total = 0
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if "MainThread" not in frames[0]:
            continue
        total += int(count)
        own[frames[-1]] += int(count)
        for function in {frame.rpartition(":")[0] + ")" for frame in frames if "tidegate/" in frame}:
            inside[function] += int(count)
    if not total:
        return "py-spy saw nothing of the main thread."
    lines = ["functions, with what they call"]
    lines += [f"{count / total:6.1%}  {function}" for function, count in inside.most_common(SHOWN)]
    lines += ["", "lines, by themselves and in C"]
    lines += [f"{count / total:6.1%}  {frame}" for frame, count in own.most_common(SHOWN)]
    return "\n".join(lines)


def _strace(program: str, lab: Lab, pid: int, seconds: float, finish: Callable[[], Report]) -> str:
    """Calls per unit, from a load slow enough that being traced changes nothing."""
    summary = lab.new_folder("strace") / "summary"
    with subprocess.Popen([program, "-c", "-f", "-q", "-p", str(pid), "-o", str(summary)]) as tracer:
        began = time.perf_counter()
        time.sleep(seconds)
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        lasted = time.perf_counter() - began
    report = finish()
    if not summary.exists() or not summary.stat().st_size:
        return (
            "strace cannot trace here: another tracer is attached, or the system forbids it (kernel.yama.ptrace_scope)."
        )
    units = report.units / report.seconds * lasted
    rows = []
    for line in summary.read_text().splitlines():
        cells = line.split()
        if len(cells) >= 5 and cells[3].isdigit() and cells[-1] != "total":
            rows.append((int(cells[3]) / units, cells[-1]))
    lines = [f"{count:8.3f}  {name}" for count, name in sorted(rows, reverse=True)[:10]]
    return "\n".join([f"system calls per unit, at {report.units / report.seconds:,.0f} units/s", *lines])
