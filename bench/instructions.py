"""`python -m bench.instructions`: how many instructions a request takes, counted and not timed.

The gateway runs under valgrind's callgrind twice, once for N requests and once for N + 1,000; the difference, divided by 1,000,
is what one request takes in user space, start and warm-up left out. It says nothing of the kernel, of caches or of waiting, but
it changes by two or three per cent from run to run, whoever else uses the machine, where times change by a quarter. It takes
some minutes.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httptools
import msgspec
from rich.console import Console

from bench.processes import cores
from bench.targets import Lab, Target, Variant, start_tidegate, start_upstream
from bench.workloads import Dialect, whole_request

__all__ = ["VALGRIND_HINT", "count", "main"]

ROOT = Path(__file__).resolve().parent.parent
VALGRIND_HINT = "Instructions are counted by valgrind: install it (Debian, Ubuntu: apt-get install valgrind)."
WARM_UP = 200
COUNTED = 1000
STOPPED_WITHIN_S = 120.0
_TOTAL = re.compile(r"^(?:totals|summary): *(\d+)", re.MULTILINE)


class Counted(msgspec.Struct):
    """Instructions in user space for one request."""

    dialect: str
    access: bool
    requests: int
    instructions: float


def count(lab: Lab, dialect: Dialect, *, requests: int, access: bool) -> Counted:
    """Two runs. Raises RuntimeError when one does not come up, answers with an error, or leaves no count."""
    totals = [_run(lab, dialect, number, access=access) for number in (WARM_UP, WARM_UP + requests)]
    return Counted(dialect, access, requests, (totals[1] - totals[0]) / requests)


def _run(lab: Lab, dialect: Dialect, requests: int, *, access: bool) -> int:
    out = lab.new_folder("callgrind") / "counts"
    valgrind = ("valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}")
    # A seed of its own for every process would lay out every dictionary anew.
    wrapper = ("env", "PYTHONHASHSEED=0", *valgrind)
    target = start_tidegate(lab, Variant(wrapper=wrapper, open=not access))
    try:
        _ask(target, whole_request(dialect, "plain"), requests)
    finally:
        assert target.child is not None
        process = target.child.process
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPPED_WITHIN_S)  # it writes the counts when it ends, slower than a stop allows
        except subprocess.TimeoutExpired:
            target.stop()
            raise RuntimeError(f"the gateway did not stop within {STOPPED_WITHIN_S:g} s") from None
        target.stop()
    found = _TOTAL.search(out.read_text()) if out.exists() else None
    if found is None:
        raise RuntimeError("callgrind left no count")
    return int(found.group(1))


class _Answers:
    def __init__(self) -> None:
        self.complete = 0

    def on_message_complete(self) -> None:
        self.complete += 1


def _ask(target: Target, question: bytes, requests: int) -> None:
    """One after the other on one connection, so that every run does the same."""
    answers = _Answers()
    parser = httptools.HttpResponseParser(answers)
    with socket.create_connection(("127.0.0.1", target.port), 60) as connection:
        for number in range(requests):
            connection.sendall(question)
            while answers.complete <= number:
                data = connection.recv(65536)
                if not data:
                    raise RuntimeError("the gateway closed the connection")
                parser.feed_data(data)
                if parser.get_status_code() != 200:
                    raise RuntimeError(data[:400].decode("utf-8", "replace"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    parser.add_argument("--dialect", action="append", choices=("chat", "responses"), help="default: both")
    parser.add_argument("--open", action="store_true", help="only a gateway without keys, limits and ledger")
    parser.add_argument("--requests", type=int, default=COUNTED, help="how many are counted (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--silent", action="store_true", help="no progress")
    given = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit(f"bench: {VALGRIND_HINT}")
    progress = Console(stderr=True, quiet=given.silent)
    found = []
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, ExitStack() as stack:
            lab = Lab(ROOT, Path(folder), cores(), stack)
            os.sched_setaffinity(0, {lab.cores.rest})
            start_upstream(lab)
            for access in (False,) if given.open else (False, True):
                for dialect in given.dialect or ("chat", "responses"):
                    one = count(lab, dialect, requests=given.requests, access=access)
                    found.append(one)
                    kind = "everything on" if access else "open"
                    progress.print(f"{dialect}, {kind}: {one.instructions:,.0f} instructions", markup=False)
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    print("instructions per request, in user space")
    for one in found:
        print(f"  {one.dialect:<10} {'everything on' if one.access else 'open':<14} {one.instructions:>12,.0f}")


if __name__ == "__main__":
    main()
