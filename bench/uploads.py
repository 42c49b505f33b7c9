"""`python -m bench.uploads`: what uploads cost those who do not upload, and what a large one costs in memory.

Text streams flow through the gateway while transcriptions are uploaded beside them. Every frame carries the time at which
the upstream wrote it; the delay is measured where the client reads it. The same is measured without uploads, and with the
same uploads but past the gateway: what the machine alone does to the streams while it is busy.
"""

import argparse
import hashlib
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from bench.client import Load, MeasurementFailed
from bench.orders import Percentiles, StreamsOrder
from bench.processes import Child, cores, rss_bytes
from bench.targets import Lab, Target, Variant, start_tidegate, start_upstream
from bench.workloads import KEY, stream_request

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024
PIECE = 64 * 1024
BOUNDARY = "bench-upload-boundary"
STREAMS = 20
FRAMES_PER_SECOND = 400
WARM_UP_S = 1.0
ALLOWED_MS = 10.0
"""What ten uploads may add to the longest delay of a frame."""

_PROVIDER = """
[providers.hears]
kind = "sim"
base_url = "{address}"
"""


def main() -> None:
    """Print the figures. Exit status 1 when a stream is held up for longer than allowed."""
    parser = argparse.ArgumentParser(prog="python -m bench.uploads", description=__doc__)
    parser.add_argument("--uploads", type=int, default=10, help="uploads at a time (default: %(default)s)")
    parser.add_argument("--mb", type=int, default=20, help="size of each (default: %(default)s)")
    parser.add_argument(
        "--rate", type=float, default=10.0, help="MB/s of each, 0 for as fast as it goes (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a window (default: %(default)s)")
    parser.add_argument(
        "--large-mb", type=int, default=500, help="the upload whose memory is measured (default: %(default)s)"
    )
    parser.add_argument("--send", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.send:
        _send_for_ever(given.send, given.mb * MIB, given.rate * MIB)
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, ExitStack() as stack:
        lab = Lab(ROOT, Path(folder), cores(), stack)
        load = Load(lab.cores.rest, str(ROOT))
        stack.enter_context(load.child)
        direct = start_upstream(lab)
        sim = stack.enter_context(
            Child([sys.executable, "-m", "tidegate.sim", "--port", "0"], core=lab.cores.rest, cwd=str(ROOT))
        )
        address = sim.read_line("sim plays at").rpartition(" ")[2]
        gateway = start_tidegate(lab, Variant(), more=_PROVIDER.format(address=address))
        idle = _delays(load, lab, gateway, given.seconds)
        with _uploading(lab, gateway, given) as senders:
            busy = _delays(load, lab, gateway, given.seconds)
            done = senders.done()
        with _uploading(lab, gateway, given):
            machine = _delays(load, lab, direct, given.seconds)
        print(f"delay of a frame, ms ({STREAMS} streams, {FRAMES_PER_SECOND} frames/s)  p50 / p99 / longest")
        for name, found in (
            ("without uploads", idle),
            (f"beside {given.uploads} uploads of {given.mb} MB", busy),
            ("the same, past the gateway", machine),
        ):
            print(f"  {name:<32} {found.p50:6.2f} / {found.p99:6.2f} / {found.longest:6.2f}")
        print(f"uploads finished in the window: {done} ({done * given.mb / given.seconds:.0f} MB/s)")
        added = busy.longest - idle.longest
        print(f"added to the longest delay: {added:.2f} ms; to p99: {busy.p99 - idle.p99:.2f} ms")
        if given.large_mb:
            print(
                f"memory added by one upload of {given.large_mb} MB: {_memory(gateway, given.large_mb * MIB) / 1e6:.1f} MB"
            )
    raise SystemExit(1 if added > ALLOWED_MS else 0)


def _delays(load: Load, lab: Lab, target: Target, seconds: float) -> Percentiles:
    question = stream_request("chat", "plain", f"flow-{STREAMS * 1000 // FRAMES_PER_SECOND}")
    order = StreamsOrder(target.port, question, STREAMS, WARM_UP_S, seconds, target.pids(), lab.cores.tested)
    return load.run(order).delay


class _uploading:  # noqa: N801 - used as a statement
    """Processes that upload one file after the other, with the lowest priority: it is the gateway that is measured."""

    def __init__(self, lab: Lab, gateway: Target, given: argparse.Namespace) -> None:
        command = ["-m", "bench.uploads", "--send", str(gateway.port), "--mb", str(given.mb), "--rate", str(given.rate)]
        self._children = [
            Child(["nice", "-n", "19", sys.executable, *command], core=lab.cores.rest, cwd=str(ROOT))
            for _ in range(given.uploads)
        ]
        self._done = 0
        self._threads = [threading.Thread(target=self._count, args=(child,), daemon=True) for child in self._children]

    def __enter__(self) -> Self:
        for child in self._children:
            child.read_line("ready")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.process.terminate()
        for child in self._children:
            child.stop()

    def done(self) -> int:
        """Uploads that were answered so far."""
        return self._done

    def _count(self, child: Child) -> None:
        try:
            while True:
                child.read_line("done")
                self._done += 1
        except (RuntimeError, ValueError):
            return


def _send_for_ever(port: int, size: int, rate: float) -> None:
    print("ready", flush=True)
    while True:
        _upload(port, size, rate)
        print("done", flush=True)


def _upload(port: int, size: int, rate: float = 0.0) -> None:
    """One upload, whose answer must have its digest; `rate` in bytes per second. Raises MeasurementFailed."""
    block = hashlib.shake_256(b"tide").digest(MIB)
    head = (
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="model"\r\n\r\nhears/echo\r\n--{BOUNDARY}\r\n'
        'content-disposition: form-data; name="file"; filename="noise.wav"\r\ncontent-type: audio/wav\r\n\r\n'
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    fields = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"content-length: {len(head) + size + len(tail)}\r\nconnection: close\r\n\r\n"
    )
    digest = hashlib.sha256()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(fields.encode() + head)
        begun = time.perf_counter()
        for number in range(size // MIB):
            for at in range(0, MIB, PIECE):
                connection.sendall(block[at : at + PIECE])
                if rate:
                    due = begun + (number * MIB + at + PIECE) / rate
                    time.sleep(max(0.0, due - time.perf_counter()))
            digest.update(block)
        connection.sendall(tail)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    if digest.hexdigest().encode() not in answer:
        raise MeasurementFailed(answer[:400].decode("utf-8", "replace"))


def _memory(gateway: Target, size: int) -> int:
    """Bytes by which the gateway grew while one file went through it."""
    _upload(gateway.port, MIB)
    before = most = rss_bytes(gateway.pids())
    sender = threading.Thread(target=_upload, args=(gateway.port, size))
    sender.start()
    while sender.is_alive():
        most = max(most, rss_bytes(gateway.pids()))
        time.sleep(0.005)
    sender.join()
    return most - before


if __name__ == "__main__":
    main()
