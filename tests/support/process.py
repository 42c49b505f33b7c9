"""A gateway in a process of its own, whose memory can be read, with simulators in front of which it stands."""

import asyncio
import os
import re
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme
import uvloop

from tidegate.sim import SimServer

__all__ = ["Process", "Simulators"]

TOML = """
[server]
port = 0
data_dir = "{folder}/data"
[providers.secure]
kind = "sim"
base_url = "{secure}"
ca_bundle = "{folder}/authority.pem"
[providers.sim]
base_url = "{plain}"
"""


class Simulators:
    """`with Simulators(folder) as there:` — one reached plainly, one by TLS, in a thread of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulators")
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self.plain = self.secure = ""
        """Base URLs. `authority.pem` in the folder certifies the second."""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._folder / "authority.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        async with SimServer(keep_requests=0) as plain, SimServer(keep_requests=0, ssl_context=context) as secure:
            self.plain, self.secure = plain.base_url, secure.base_url.replace("127.0.0.1", "localhost")
            self._ready.set()
            await self._stop.wait()


class Process:
    """`with Process(folder) as gateway:` — then `gateway.port` answers. `sim/…` is reached plainly, `secure/…` by TLS."""

    def __init__(self, folder: Path, more: str = "") -> None:
        """`more` is configuration that follows the one of `sim`."""
        self._folder = folder
        self._more = more
        self._simulators = Simulators(folder)
        self._child: subprocess.Popen[str]
        self.port = 0

    def __enter__(self) -> Self:
        there = self._simulators.__enter__()
        toml = TOML.format(folder=self._folder, plain=there.plain, secure=there.secure) + self._more
        (self._folder / "tidegate.toml").write_text(toml)
        command = [sys.executable, "-m", "tidegate", "serve", "--config", str(self._folder / "tidegate.toml")]
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        assert self._child.stdout is not None
        for line in self._child.stdout:
            found = re.search(r"listens on http://\S+:(\d+)", line)
            if found:
                self.port = int(found[1])
                break
        assert self.port, "the gateway did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.terminate()
        self._child.communicate(timeout=20)
        self._simulators.__exit__(kind, value, trace)

    # -- memory -------------------------------------------------------------------------------------------------

    def memory(self) -> int:
        """Resident bytes now."""
        return self._figure("VmRSS")

    def peak(self) -> int:
        """The most there were since :meth:`forget_peak`."""
        return self._figure("VmHWM")

    def files(self) -> int:
        """Open descriptors."""
        return len(os.listdir(f"/proc/{self._child.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self._child.pid}/task"))

    def forget_peak(self) -> None:
        Path(f"/proc/{self._child.pid}/clear_refs").write_text("5")

    def _figure(self, name: str) -> int:
        status = Path(f"/proc/{self._child.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024
