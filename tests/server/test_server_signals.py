"""A process that is told to stop: by one signal, by a second one that will not wait, and by a third."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.server.test_server_drain import ask
from tests.support.raw import frames
from tests.support.running import SIM_ONLY, Running, wait_for

pytestmark = pytest.mark.fault("FAULT-SIGTERM")

LONG = ask("/v1/responses", "chunks=1000&gap=20")


class Child:
    """A gateway in its own process."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port

    def tell(self, number: signal.Signals = signal.SIGTERM) -> float:
        self.process.send_signal(number)
        return time.monotonic()

    def ended(self) -> tuple[int, bytes, bytes]:
        """Exit status, and what it has printed and logged."""
        out, log = self.process.communicate(timeout=10)
        return self.process.returncode, out, log


@contextmanager
def started(folder: Path, grace: str) -> Iterator[Child]:
    file = folder / "tidegate.toml"
    file.write_text(f'[server]\nport = 0\ndrain = "{grace}"\ndata_dir = "{folder}"\n[providers.sim]\n', "utf-8")
    command = [sys.executable, "-m", "tidegate", "serve", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}) as process:
        try:
            assert process.stdout is not None
            found = re.search(rb":(\d+)$", process.stdout.readline().strip())
            assert found is not None
            yield Child(process, int(found[1]))
        finally:
            process.kill()


@contextmanager
def streaming(child: Child) -> Iterator[tuple[socket.socket, bytes]]:
    """A client that has had the beginning of a long stream."""
    with socket.create_connection(("127.0.0.1", child.port), timeout=10) as client:
        client.sendall(LONG)
        received = b""
        while b"output_text.delta" not in received:
            data = client.recv(65536)
            assert data
            received += data
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        yield client, received


def rest_of(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(65536):
        received += data
    return received


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_drains_a_process_which_then_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, "300ms") as child:
        with streaming(child) as (client, received):
            child.tell(number)
            received += rest_of(client)
        assert received.count(b"event: response.failed\n") == 1
        assert received.endswith(b"0\r\n\r\n")
        status, out, log = child.ended()
        assert status == 0
        assert out.endswith(b"Stopped.\n")
        assert b"Traceback" not in log


def test_a_second_signal_ends_what_runs_at_once_and_the_books_are_right(tmp_path: Path) -> None:
    with started(tmp_path, "1h") as child, httpx.Client(base_url=f"http://127.0.0.1:{child.port}") as http:
        run = http.post(
            "/v1/responses", json={"model": "sim/lorem?chunks=1000&gap=20", "input": "x", "background": True}
        ).json()["id"]
        with streaming(child) as (client, received):
            child.tell()
            assert wait_for(lambda: _refused(child.port))
            until = time.monotonic() + 0.3
            while time.monotonic() < until:  # as long as nobody is impatient
                data = client.recv(65536)
                assert data
                received += data
            told = child.tell()
            received += rest_of(client)
        status, _, log = child.ended()
        assert time.monotonic() - told < 2
        assert status == 0
        assert b"Traceback" not in log
    assert received.count(b"event: response.failed\n") == 1
    assert b"response.completed" not in received
    assert received.endswith(b"0\r\n\r\n")
    with closing(sqlite3.connect(tmp_path / "tidegate.db")) as database:
        rows = database.execute("SELECT ending, error FROM ledger").fetchall()
        assert rows == [("failed", "gateway_shutting_down")] * 2
    with Running(SIM_ONLY.replace("[server]", f'[server]\ndata_dir = "{tmp_path}"')) as again:
        stored = httpx.get(f"{again.url}/responses/{run}").json()
        assert stored["status"] == "failed"
        assert stored["error"]["message"].startswith("gateway_shutting_down: ")
        replayed = httpx.get(f"{again.url}/responses/{run}?stream=true").content
        assert json.loads(frames(replayed)[-1].partition(b"data: ")[2])["type"] == "response.failed"


def test_a_third_signal_ends_the_process_as_a_kill_does(tmp_path: Path) -> None:
    with started(tmp_path, "1h") as child, streaming(child) as (client, received):
        assert child.process.stderr is not None
        os.kill(child.process.pid, signal.SIGSTOP)
        # Python remembers each kind of signal once: these two are the first and the second.
        child.tell(signal.SIGINT)
        child.tell(signal.SIGTERM)
        os.kill(child.process.pid, signal.SIGCONT)
        told = time.monotonic()
        while child.process.poll() is None and time.monotonic() < told + 5:
            child.tell(signal.SIGTERM)
            time.sleep(0.002)
        assert child.process.returncode == 128 + signal.SIGTERM
        assert time.monotonic() - told < 1
        with suppress(ConnectionResetError):
            received += rest_of(client)
        assert b"response.completed" not in received


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
