"""The other end of `bench.load`: orders go out, reports come back. And one plain request, for probes."""

import socket
import subprocess
import sys

import msgspec

from bench.orders import Order, Report
from bench.processes import Child

__all__ = ["Load", "MeasurementFailed", "ask"]

ASK_TIMEOUT_S = 10.0


class MeasurementFailed(RuntimeError):
    """A server answered something else than what was asked for; the message has its first words."""


class Load:
    """The load process. Stop it with `child.stop`."""

    def __init__(self, core: int, cwd: str) -> None:
        self.child = Child([sys.executable, "-m", "bench.load"], core=core, cwd=cwd, stdin=subprocess.PIPE)

    def run(self, order: Order) -> Report:
        """Carry out one order. Raises MeasurementFailed."""
        self.give(order)
        return self.take()

    def give(self, order: Order) -> None:
        """Start on an order; the caller takes the report later."""
        stdin = self.child.process.stdin
        assert stdin is not None
        stdin.write(msgspec.json.encode(order) + b"\n")
        stdin.flush()

    def take(self) -> Report:
        """Wait for the report on the order given. Raises MeasurementFailed."""
        stdout = self.child.process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise MeasurementFailed("the load process ended")
        report = msgspec.json.decode(line, type=Report)
        if report.problem:
            raise MeasurementFailed(report.problem)
        return report


def ask(port: int, request: bytes) -> tuple[int, str]:
    """Status and first bytes of one answer. Raises OSError when nobody listens."""
    with socket.create_connection(("127.0.0.1", port), ASK_TIMEOUT_S) as connection:
        connection.sendall(request)
        data = connection.recv(65536)
    status = int(data[9:12]) if data.startswith(b"HTTP/1.") else 0
    return status, data.decode("utf-8", "replace")
