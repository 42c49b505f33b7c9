"""How long a server keeps a small question waiting: a bound from above for how long its loop stalls.

Run as a process: `python -m bench.probe`. A line of standard input with a port and a path begins, an empty one ends it, and what
was seen until then is printed in JSON. It asks one question after the other on one connection,
`PAUSE_S` apart, and is served before others where the system allows it, so that it is the server that it waits for.
"""

import contextlib
import io
import os
import select
import socket
import subprocess
import sys
import time

import msgspec

from bench.orders import Percentiles
from bench.processes import Child
from bench.targets import Target
from bench.workloads import get

__all__ = ["Probe"]

PAUSE_S = 0.001
WAIT_S = 30.0
NICENESS = -15


class Probe:
    """The process, from outside."""

    def __init__(self, core: int, cwd: str) -> None:
        self.child = Child([sys.executable, "-m", "bench.probe"], core=core, cwd=cwd, stdin=subprocess.PIPE)

    def begin(self, target: Target) -> None:
        """Ask `target` from now on."""
        self._send(f"{target.port} {target.probe}")

    def end(self) -> Percentiles:
        """Stop asking; how long answers took."""
        self._send("")
        assert self.child.process.stdout is not None
        return msgspec.json.decode(self.child.process.stdout.readline(), type=Percentiles)

    def _send(self, line: str) -> None:
        assert self.child.process.stdin is not None
        self.child.process.stdin.write(line.encode() + b"\n")
        self.child.process.stdin.flush()


def _ask_until_told(port: int, path: str) -> list[float]:
    found = []
    question = get(path)
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as connection:
        while not select.select([sys.stdin.fileno()], [], [], PAUSE_S)[0]:
            asked = time.perf_counter()
            connection.sendall(question)
            if not connection.recv(65536):
                break
            found.append((time.perf_counter() - asked) * 1000)
    return found


def main() -> None:
    with contextlib.suppress(PermissionError):  # then it waits for its turn like everyone
        os.nice(NICENESS)
    orders = io.FileIO(sys.stdin.fileno(), closefd=False)  # no buffer: `select` must see what is not yet read
    while line := orders.readline():
        port, _, path = line.decode().strip().partition(" ")
        found = _ask_until_told(int(port), path)
        orders.readline()
        print(msgspec.json.encode(Percentiles.of(found)).decode(), flush=True)


if __name__ == "__main__":
    main()
