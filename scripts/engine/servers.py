"""The processes of the engine test: started on free loopback ports, watched, and always ended."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx


class StartFailed(RuntimeError):
    """A server did not come up; the message ends with what it said last."""


class Server:
    """`with Server(...) as server:` — one process in its own group, its output in a file."""

    def __init__(self, name: str, command: list[str], *, folder: Path, environment: Mapping[str, str] = {}) -> None:
        self.name = name
        self._command = command
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def wait(self, ready: Callable[[], str | None], seconds: float) -> str:
        """What `ready` answers as soon as it answers anything. Raises StartFailed."""
        assert self._process is not None
        began = time.monotonic()
        said = 0
        while time.monotonic() - began < seconds:
            if found := ready():
                return found
            if self._process.poll() is not None:
                raise StartFailed(f"{self.name} ended with status {self._process.returncode}:\n{self.tail()}")
            if (waited := int(time.monotonic() - began)) >= said + 5:
                said = waited
                tell(f"  {self.name}: still starting after {waited} s")
            time.sleep(0.1)
        raise StartFailed(f"{self.name} was not ready within {seconds:g} s:\n{self.tail()}")

    @property
    def log(self) -> str:
        """Everything it has written."""
        return self._log.read_text("utf-8", "replace")

    def tail(self) -> str:
        """The last lines of it."""
        return "\n".join(self.log.splitlines()[-15:])

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        assert self._process is not None
        shown = subprocess.run(
            ["ps", "-o", "cputimes=", "-p", str(self._process.pid)], capture_output=True, text=True, check=False
        )
        stat = Path(f"/proc/{self._process.pid}/stat")
        if stat.exists():
            fields = stat.read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return float(shown.stdout.strip() or 0)


def connections(port: int) -> int | None:
    """How many clients are connected to a port of the IPv4 loopback; None where the system does not tell."""
    table = Path("/proc/net/tcp")
    if not table.exists():
        return None
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return sum(row[3] == "01" and row[2].endswith(f":{port:04X}") for row in rows)


def free_port() -> int:
    """A port of the loopback interface that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def engine(bin_: Path, folder: Path) -> tuple[Server, str]:
    """`transformers serve` in `folder`, where the models are, and its address. It never asks the hub."""
    port = free_port()
    command = [str(bin_ / "transformers"), "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return Server("engine", command, folder=folder, environment=environment), f"http://127.0.0.1:{port}"


def gateway(folder: Path, engine_url: str) -> Server:
    """`tidegate serve` with that engine as its only provider."""
    toml = folder / "tidegate.toml"
    toml.write_text(
        f'[server]\nport = 0\n[providers.engine]\nkind = "transformers"\nbase_url = "{engine_url}/v1"\n', "utf-8"
    )
    command = [sys.executable, "-m", "tidegate", "serve", "--config", str(toml)]
    return Server("gateway", command, folder=folder)


def answers(url: str) -> Callable[[], str | None]:
    """Whether GET `url` answers 200."""

    def ready() -> str | None:
        try:
            return url if httpx.get(url, timeout=2).status_code == 200 else None
        except httpx.TransportError:
            return None

    return ready


def announced(server: Server) -> Callable[[], str | None]:
    """The address that the gateway printed."""

    def ready() -> str | None:
        found = re.search(r"listens on (http://\S+)", server.log)
        return found[1] if found else None

    return ready


def tell(text: str) -> None:
    """Progress goes to standard error: standard output is the report."""
    print(text, file=sys.stderr, flush=True)
