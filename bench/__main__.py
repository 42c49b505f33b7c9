"""`python -m bench`: measure the gateway beside nginx and print the table of the budget."""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console

from bench import profiling, report
from bench.client import Load, MeasurementFailed, ask
from bench.footprint import measure_memory, measure_start
from bench.processes import cores, wait_until_quiet
from bench.results import Machine, Results, Sample
from bench.targets import NGINX_HINT, Lab, Target, Variant, find_nginx, start_nginx, start_tidegate, start_upstream
from bench.workloads import stream_request
from bench.works import WORKS, Work

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


class _Run:
    """One run of the whole benchmark."""

    def __init__(self, given: argparse.Namespace, lab: Lab, progress: Console) -> None:
        self.given = given
        self.lab = lab
        self.progress = progress
        self.repeats: int = given.repeats or (2 if given.quick else 5)
        self.request_s = 0.6 if given.quick else 1.5
        self.chunk_s = 1.0 if given.quick else 2.5
        self.streams = 300 if given.quick else 1000
        self.load = Load(lab.cores.rest, str(lab.root))
        lab.stack.enter_context(self.load.child)
        self.direct = start_upstream(lab)
        self.nginx = find_nginx()
        self.began = time.perf_counter()
        variants = _variants(given)
        self.variants = {variant.name: variant for variant in variants}
        self.results = Results(
            began=datetime.now().astimezone().isoformat(timespec="seconds"),
            machine=machine(self.nginx, access_log=given.nginx_access_log),
            gateways=[variant.name for variant in variants],
        )

    def start(self, name: str) -> Target:
        if name == "nginx":
            assert self.nginx is not None
            return start_nginx(self.lab, self.nginx, access_log=self.given.nginx_access_log)
        return start_tidegate(self.lab, self.variants[name])

    @property
    def names(self) -> list[str]:
        return [*(["nginx"] if self.nginx else []), *self.results.gateways]

    def everything(self) -> None:
        """Measures all that is wanted; the results grow as it goes."""
        works = [one for one in WORKS if (one.quick or not self.given.quick) and self.wanted(one.name)]
        if works:
            self.cpu(works)
        if self.wanted("memory"):
            self.memory()
        if self.wanted("start"):
            self.starts()

    def wanted(self, name: str) -> bool:
        return not self.given.only or any(part in name for part in self.given.only)

    def cpu(self, works: list[Work]) -> None:
        targets = [self.start(name) for name in self.names]
        works = [work for work in works if self.offered(work, targets)]
        total = self.repeats * len(works)
        for repeat in range(self.repeats):
            for number, work in enumerate(works):
                shown = []
                # The order turns with each repeat, so that no target always follows the same neighbour.
                for target in targets if repeat % 2 == 0 else reversed(targets):
                    shown.append(f"{target.name} {self.sample(work, target, repeat).us:.1f} µs")
                if work.direct:
                    self.sample(work, self.direct, repeat)
                self.say(f"[{repeat * len(works) + number + 1}/{total}] {work.name}: {', '.join(shown)}")
        for target in targets:
            target.stop()

    def sample(self, work: Work, target: Target, repeat: int) -> Sample:
        if target.child is not None:
            wait_until_quiet(self.lab.cores.tested, self.given.patience)
        seconds = self.chunk_s if work.unit == "chunk" else self.request_s
        order = work.order(target, self.lab.cores.tested, warmup_s=0.3, seconds=seconds)
        try:
            measured = self.load.run(order)
        except MeasurementFailed as error:
            raise MeasurementFailed(f"{work.name} on {target.name}: {error}") from None
        one = Sample(work=work.name, target=target.name, repeat=repeat, report=measured)
        self.results.samples.append(one)
        return one

    def offered(self, work: Work, targets: list[Target]) -> bool:
        """Whether every gateway offers the work; a refusal is noted in its own words."""
        if work.baseline is None:
            return True
        probe = stream_request(work.dialect, work.provider, "idle")
        for target in targets:
            if target.is_gateway:
                status, answer = ask(target.port, probe)
                if status != 200:
                    body = answer.partition("\r\n\r\n")[2]
                    try:
                        why = str(msgspec.json.decode(body)["error"]["message"])
                    except (msgspec.DecodeError, KeyError, TypeError):
                        why = body
                    self.results.refused[work.name] = f"{status}: {why[:70]}"
                    return False
        return True

    def memory(self) -> None:
        for name, secure in (("memory, plain upstream", False), ("memory, TLS upstream", True)):
            for repeat in range(1 if self.given.quick else min(3, self.repeats)):
                for target in self.names:
                    one = measure_memory(partial(self.start, target), self.load, streams=self.streams, secure=secure)
                    self.results.memory.setdefault(name, {}).setdefault(target, []).append(one)
                    self.say(f"{name}, repeat {repeat + 1}: {target} {one.kb_per_stream:.1f} KB")

    def starts(self) -> None:
        for repeat in range(self.repeats):
            for target in self.names:
                one = measure_start(partial(self.start, target))
                self.results.starts.setdefault(target, []).append(one)
                self.say(f"start, repeat {repeat + 1}: {target} {one.seconds:.2f} s")

    def say(self, text: str) -> None:
        self.progress.print(f"{time.perf_counter() - self.began:5.0f} s  {text}", highlight=False, soft_wrap=True)


def main() -> None:
    given = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup's wish is respected
            signal.signal(number, leave)
    progress = Console(stderr=True, quiet=given.silent)
    interrupted = False
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, ExitStack() as stack:
            lab = Lab(ROOT, Path(folder), cores(), stack)
            os.sched_setaffinity(0, {lab.cores.rest})
            if given.profile:
                start_upstream(lab)
                profiling.run(lab, _variants(given)[0], RESULTS, seconds=given.profile_seconds)
                return
            run = _Run(given, lab, progress)
            if run.nginx is None:
                progress.print(f"[bold red]{NGINX_HINT}")
            results = run.results
            try:
                run.everything()
            except KeyboardInterrupt:
                interrupted = True  # what is measured so far is shown
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
    markdown = report.write(results, RESULTS)
    if given.json:
        print(markdown.with_suffix(".json").read_text())
        return
    report.show(results, Console(width=None if sys.stdout.isatty() else 200))
    print(f"\nWritten to {markdown.relative_to(ROOT)}, .csv and .json beside it.")
    if interrupted:
        sys.exit("bench: interrupted; the table holds what was measured until then")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer works, shorter windows, two repeats: about a minute"
    )
    parser.add_argument("--repeats", type=int, default=0, help="windows per work and target (default 5, quick 2)")
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="only works with TEXT in their names; repeatable"
    )
    parser.add_argument(
        "--source", default="", metavar="SRC", help="the src folder to run, instead of the installed one"
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the gateway")
    parser.add_argument("--compare-source", default="", metavar="SRC", help="measure another tree in the same run")
    parser.add_argument(
        "--compare-open",
        action="store_true",
        help="measure a gateway without keys, limits and ledger in the same run; it stores nothing",
    )
    parser.add_argument(
        "--compare-python", default="", metavar="PYTHON", help="measure another interpreter in the same run"
    )
    parser.add_argument("--nginx-access-log", action="store_true", help="let nginx write an access log too")
    parser.add_argument(
        "--profile", action="store_true", help="show where the gateway's time goes, instead of measuring"
    )
    parser.add_argument("--profile-seconds", type=float, default=8.0, help="length of each profile")
    parser.add_argument(
        "--patience", type=float, default=3.0, help="seconds to wait before each window for the tested core to be quiet"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of the table")
    parser.add_argument("--silent", action="store_true", help="no progress")
    return parser.parse_args()


def _variants(given: argparse.Namespace) -> list[Variant]:
    """The gateways to measure: one, or two when something is compared."""
    first = Variant(source=given.source, python=given.python)
    if given.compare_open:
        return [first, Variant(name="open", source=given.source, python=given.python, open=True)]
    if not given.compare_source and not given.compare_python:
        return [first]
    return [
        first,
        Variant(
            name="compared",
            source=given.compare_source or given.source,
            python=given.compare_python or given.python,
        ),
    ]


def machine(nginx: str | None, *, access_log: bool) -> Machine:
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    shown = ""
    if nginx is not None:
        shown = (
            subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr.rpartition("/")[2].strip()
        )
    return Machine(
        processor=processor,
        cores=len(os.sched_getaffinity(0)) if (os.cpu_count() or 1) < 2 else os.cpu_count() or 1,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={name: version(name) for name in ("tidegate", "uvicorn", "uvloop", "httptools", "msgspec")},
        nginx=shown,
        nginx_access_log=access_log,
        load_average=os.getloadavg()[0],
    )


def leave(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
