"""The workers of one kind of job: started when they are needed, never more than a fixed number, reused, and ended after a
while of rest. Speech has its own, so that it does not wait behind long recordings."""

import asyncio
import contextlib
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from tidegate.local_audio.frames import DONE, REFUSED, Gone, Job, read, send_job
from tidegate.wire.errors import Internal, Overloaded

__all__ = ["Pool", "Task"]

IDLE_S: Final = 60.0
"""After so long without a job a worker ends, and gives the memory of its models back."""

MAX_WAITING: Final = 32
WAIT_S: Final = 120.0
"""How many requests may wait for a worker, and for how long."""

RETRY_AFTER_S: Final = 5.0


class Task:
    """One job on its worker. The frames come in order, and the last one is `DONE` or `REFUSED`."""

    def __init__(self, worker: "_Worker") -> None:
        self._worker = worker
        self.finished = False

    async def next(self) -> tuple[bytes, bytes]:
        """The next frame: kind and payload. Raises Internal when the worker has died."""
        try:
            kind, payload = await read(self._worker.reader)
        except Gone:
            raise Internal("The local audio engine lost the process that worked on this request.") from None
        self.finished = kind in (DONE, REFUSED)
        return kind, payload


class Pool:
    """At most `size` workers. Lives on one event loop."""

    def __init__(
        self,
        size: int,
        *,
        max_waiting: int = MAX_WAITING,
        wait_s: float = WAIT_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._slots = asyncio.Semaphore(size)
        self._waiting = 0
        self._max_waiting = max_waiting
        self._wait_s = wait_s
        self._idle_s = idle_s
        self._resting: deque[_Worker] = deque()

    @contextlib.asynccontextmanager
    async def task(self, job: Job, file: int | None = None) -> AsyncIterator[Task]:
        """Gives `job`, and the descriptor of its file, to a worker. One that is left before its job is finished is
        killed at once.

        Raises Overloaded when too many wait already, or none became free in time.
        """
        await self._wait()
        try:
            worker = await self._employ()
            task = Task(worker)
            try:
                try:
                    send_job(worker.sock, job, file)
                except OSError:
                    raise Internal("The local audio engine lost the process for this request.") from None
                yield task
            finally:
                if task.finished:
                    self._rest(worker)
                else:
                    worker.kill()
        finally:
            self._slots.release()

    async def close(self) -> None:
        """Ends what rests; running tasks are ended by those who wait for them."""
        while self._resting:
            worker = self._resting.pop()
            worker.kill()
            await worker.gone()

    async def _wait(self) -> None:
        if self._slots.locked() and self._waiting >= self._max_waiting:
            waiting = "1 request waits" if self._waiting == 1 else f"{self._waiting} requests wait"
            raise Overloaded(
                f"The local audio engine is busy, and {waiting} already. Try again later.",
                retry_after=RETRY_AFTER_S,
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise Overloaded(
                f"The local audio engine had no worker free for {self._wait_s:g} seconds. Try again later.",
                retry_after=RETRY_AFTER_S,
            ) from None
        finally:
            self._waiting -= 1

    async def _employ(self) -> "_Worker":
        """The worker that has rested least, or a new one."""
        while self._resting:
            worker = self._resting.pop()
            if worker.wake():
                return worker
        return await _Worker.start()

    def _rest(self, worker: "_Worker") -> None:
        self._resting.append(worker)
        worker.alarm = asyncio.get_running_loop().call_later(self._idle_s, self._dismiss, worker)

    def _dismiss(self, worker: "_Worker") -> None:
        self._resting.remove(worker)
        worker.kill()


class _Worker:
    """A worker's process, and the engine's end of the socket to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        sock: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._writer = writer
        self.sock = sock
        self.reader = reader
        self.alarm: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls) -> "_Worker":
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "tidegate.local_audio.worker"),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
            )
        ours.setblocking(False)
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            process.kill()
            ours.close()
            raise
        return cls(process, ours, reader, writer)

    def wake(self) -> bool:
        """Out of its rest; false when it has died in its sleep."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        if self.reader.at_eof() or self._process.returncode is not None:
            self.kill()
            return False
        return True

    async def gone(self) -> None:
        await self._process.wait()

    def kill(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._writer.transport.abort()
