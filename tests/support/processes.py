"""The gateway as a process of its own, which can be killed."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx

__all__ = ["Gateway", "free_port"]

PATIENCE_S = 20.0
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Gateway:
    """`tidegate serve` with a configuration, on the same port each time it is started."""

    def __init__(
        self,
        toml: str,
        folder: Path,
        name: str = "gateway",
        *,
        module: tuple[str, ...] = ("tidegate",),
        path: tuple[Path, ...] = (),
    ) -> None:
        """`{port}` in the configuration stands for the port. `module` is what Python runs, with its first arguments;
        modules are looked for in `path` first."""
        self._module = module
        self._path = os.pathsep.join(map(str, (*path, ROOT)))
        self.port = free_port()
        self._file = folder / f"{name}.toml"
        self._file.write_text(toml.replace("{port}", str(self.port)), "utf-8")
        self._log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes]

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    async def start(self) -> None:
        """Until it answers."""
        self.process = await asyncio.to_thread(self._spawn)
        async with httpx.AsyncClient(base_url=self.origin) as client, asyncio.timeout(PATIENCE_S):
            while True:
                assert self.process.poll() is None, self.log
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *self._module, "serve", "--config", str(self._file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._file.parent,
                env={**os.environ, "PYTHONPATH": self._path},
            )

    async def stop(self) -> None:
        """Ask it to end, and wait."""
        if self.process.poll() is None:
            self.process.terminate()
        await asyncio.to_thread(self.process.wait, PATIENCE_S)
