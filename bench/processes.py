"""Child processes on a given core, what they cost, and a stop that nothing skips. Linux only (/proc, affinity)."""

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Self

__all__ = ["Child", "Cores", "CpuUse", "cores", "cpu_use", "most_descriptors", "rss_bytes", "wait_until_quiet"]

STOP_S = 4.0
DESCRIPTORS = 30_000
QUIET = 0.1
QUIET_WINDOW_S = 0.3
_PR_SET_PDEATHSIG = 1
_CPUCLOCK_SCHED = 2  # see clock_getcpuclockid(3): a process's clock id is made from its pid
_TICKS = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None)


class Cores:
    """Which core does what: `tested` runs the server under test, `rest` everything else."""

    def __init__(self, tested: int, rest: int) -> None:
        self.tested = tested
        self.rest = rest


def cores() -> Cores:
    """The last core this process may use is the tested one. Raises SystemExit when there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise SystemExit("bench needs two cores: one for the server under test, one for the load and the upstream.")
    return Cores(usable[-1], usable[0])


class Child:
    """A process pinned to one core. It ends with this one, however this one ends."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        core: int,
        environment: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.PIPE,
        stderr: int | IO[bytes] | None = None,
    ) -> None:
        parent = os.getpid()
        descriptors = most_descriptors()

        def prepare() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            os.sched_setaffinity(0, {core})
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=None if environment is None else dict(environment),
            cwd=cwd,
            start_new_session=True,  # Ctrl-C reaches only us, and we stop the others in order
            preexec_fn=prepare,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    def pids(self) -> list[int]:
        """This process and all its descendants."""
        found = [self.pid]
        for pid in found:
            found += _children(pid)
        return found

    def read_line(self, contains: str) -> str:
        """The next line of standard output that contains `contains`. Raises RuntimeError when the process ends first."""
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            line: str = raw.decode("utf-8", "replace")
            if contains in line:
                return line.strip()
        raise RuntimeError(f"{self.process.args!r} ended with status {self.process.wait()} before it was ready")

    def stop(self) -> None:
        """Ask, then insist. Descendants that outlive it are killed too."""
        rest = self.pids()[1:] if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in rest:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class CpuUse:
    """A reading: CPU seconds of the processes asked for, and busy seconds of a core, whoever used it."""

    __slots__ = ("at", "core", "processes")

    def __init__(self, at: float, processes: float, core: float) -> None:
        self.at = at
        self.processes = processes
        self.core = core


def cpu_use(pids: Iterable[int], core: int) -> CpuUse:
    """User and system time, to the nanosecond, of all threads of `pids`, ended ones included."""
    used = sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)
    return CpuUse(time.perf_counter(), used, _core_busy(core))


def wait_until_quiet(core: int, patience_s: float) -> None:
    """Returns when other work uses less than `QUIET` of a core, or when patience ends. Nothing of ours may run on it."""
    until = time.perf_counter() + patience_s
    while time.perf_counter() < until:
        before = _core_busy(core)
        time.sleep(QUIET_WINDOW_S)
        if _core_busy(core) - before <= QUIET * QUIET_WINDOW_S:
            return


@cache
def most_descriptors() -> int:
    """How many descriptors a process of ours may have: as many as we want where that may be raised, else as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard >= DESCRIPTORS:
        return DESCRIPTORS
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, DESCRIPTORS))
    except (ValueError, PermissionError):
        return hard
    return DESCRIPTORS


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of all `pids` together."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(one) for one in (task / "children").read_text().split()]
    except OSError:
        return found
    return found


def _core_busy(core: int) -> float:
    """Busy seconds of a core: everything but idle and iowait, time stolen by the hypervisor included."""
    prefix = f"cpu{core} "
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(prefix):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(one) for one in line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / _TICKS
    return 0.0
