"""The gateway's side of the local audio engine: its address, and the process behind it.

Nothing here is heavy. The socket listens before the process exists, so that the address is known at once and the first
requests wait in the kernel's queue.
"""

import asyncio
import contextlib
import io
import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Final, Protocol

__all__ = ["LocalAudio", "Note"]

BACKLOG: Final = 512
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Between the end of the process and its next start; doubled each time, and short again after a life of
`STEADY_S`."""

STEADY_S: Final = 60.0
STOP_S: Final = 2.0
"""How long the process may take to end."""

MAX_LINE: Final = 2000
"""Bytes of a line that the process writes which reach the log."""

_PASSED_ON: Final = frozenset(
    {
        "DYLD_LIBRARY_PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONPYCACHEPREFIX",
        "SYSTEMROOT",
        "TEMP",
        "TMP",
        "TMPDIR",
        "TZ",
        "VIRTUAL_ENV",
    }
)
"""All that the process gets of the environment: it reads files from strangers, and credentials are no business of its."""


class Note(Protocol):
    """Takes a line for the log."""

    def __call__(self, event: str, **fields: object) -> object: ...


class LocalAudio:
    """The engine as a child of this process. It ends with this process, however that ends."""

    def __init__(self, environment: Mapping[str, str], note: Note) -> None:
        """Listens on a free port of the loopback interface. Raises OSError."""
        self._environment = {name: value for name, value in environment.items() if name in _PASSED_ON}
        self._note = note
        self._token = secrets.token_urlsafe(18)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._sock.bind(("127.0.0.1", 0))
            self._sock.listen(BACKLOG)
        except OSError:
            self._sock.close()
            raise
        self._process: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        port: int = self._sock.getsockname()[1]
        return port

    @property
    def base_url(self) -> str:
        """What a client of OpenAI's API takes as its base URL. It holds a secret, so that no other program and no web
        page on this machine uses the engine by chance."""
        return f"http://127.0.0.1:{self.port}/{self._token}/v1"

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the process in the background, and again whenever it ends by itself. A second call does nothing."""
        if self._life is None:
            self._life = asyncio.get_running_loop().create_task(self._live())

    async def stop(self) -> None:
        """Ends the process and closes the socket."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait((self._life,))
        self._sock.close()

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_S
        while True:
            began = loop.time()
            try:
                status = await self._run()
            except OSError as error:
                self._note("local_audio_not_started", reason=error.strerror or str(error), again_in_s=pause)
            else:
                self._note("local_audio_ended", status=status, again_in_s=pause)
            if loop.time() - began > STEADY_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _run(self) -> int:
        """One life of the process; its exit status."""
        receiver, sender = os.pipe()
        with io.FileIO(sender, "wb") as theirs:
            errors = await _Lines.read(receiver, self._said)
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "tidegate.local_audio", str(self._sock.fileno())),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=theirs,
                    pass_fds=(self._sock.fileno(),),
                    env=self._environment,
                )
            except BaseException:
                errors.close()
                raise
        self._process = process
        assert process.stdin is not None
        try:
            process.stdin.write(f"{self._token}\n".encode())
            return await process.wait()
        finally:
            self._process = None
            process.stdin.close()  # the sign to end
            await _ended(process)
            errors.close()

    def _said(self, line: bytes) -> None:
        if text := line.decode("utf-8", "replace").strip():
            self._note("local_audio_says", line=text)


class _Lines(asyncio.Protocol):
    """What the process writes, line by line. A pipe of our own, since the workers may hold its other end open for a
    moment longer than the process lives."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._rest = b""

    @classmethod
    async def read(cls, descriptor: int, take: Callable[[bytes], None]) -> asyncio.BaseTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: cls(take), io.FileIO(descriptor, "rb"))
        return transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line[:MAX_LINE])
        self._rest = self._rest[:MAX_LINE]


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Waits for the end of a process that was told to end, and ends it when it does not listen."""
    waiting = asyncio.ensure_future(process.wait())
    done, _ = await asyncio.wait((waiting,), timeout=STOP_S)
    if not done:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await waiting
