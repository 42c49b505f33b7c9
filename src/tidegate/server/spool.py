"""Where an uploaded file waits: a little of it in memory, a lot of it on disk, in a file that has no name.

The event loop never touches the disk. Threads write batches and read pieces, one of them at a time for each file; what
comes in faster than the disk takes it is held back at the client's connection.
"""

import asyncio
import os
import queue
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tidegate.gateway.turns import Turns
from tidegate.wire import errors
from tidegate.wire.forms import Read, Then

__all__ = ["MEMORY_BYTES", "UNWRITTEN_BYTES", "Spool", "Spools", "Tide"]

MEMORY_BYTES = 1024 * 1024
"""Longest file that needs no disk."""

BATCH_BYTES = 512 * 1024
"""Fewest bytes for which a thread is troubled while more are coming."""

UNWRITTEN_BYTES = 2 * 1024 * 1024
"""Most bytes that may wait for the disk before the client has to wait too."""

BEGINNING_BYTES = 32

THREADS = 2
"""Writers and readers of all uploads together. A slow disk gets no faster by more of them, and they take the event loop's
core from it where there is only one."""


T = TypeVar("T")

Job = tuple[Callable[[], Any], Callable[[Any], None]]
"""What a thread is to do, and who is told of the result on the loop."""


class Tide(Protocol):
    """Who has the bytes come. No method may raise."""

    def hold(self) -> None:
        """No more for now: the disk does not keep up."""

    def go_on(self) -> None:
        """The disk has caught up."""

    def not_kept(self, error: errors.TidegateError) -> None:
        """The bytes cannot be kept."""


class Spools:
    """What the files of all uploads share: the folder, and the threads that know how slow a disk can be."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: str) -> None:
        """`folder` is made when it is missing; empty is the system's own for temporary files."""
        self._loop = loop
        self._folder = folder
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # From the beginning: whoever starts a thread waits until it runs, and on a busy machine that takes long.
        self._threads = [
            threading.Thread(target=self._labour, name=f"spool-{at}", daemon=True) for at in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()
        self._closed = False
        self.turns = Turns(loop, 1)
        self.open: set[Spool] = set()
        """Those that are not released."""

    def new(self, tide: Tide) -> "Spool":
        spool = Spool(self, tide)
        self.open.add(spool)
        return spool

    def run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Have a thread do `work`; `then` gets its result on the loop, or the OSError that it raised."""
        if self._closed:
            then(_caught(work))
        else:
            self._jobs.put((work, then))

    def _labour(self) -> None:
        """What a thread does."""
        while (job := self._jobs.get()) is not None:
            work, then = job
            self._loop.call_soon_threadsafe(then, _caught(work))

    def tell_bug(self, bug: Exception) -> None:
        self._loop.call_exception_handler({"message": "an upload could not be examined", "exception": bug})

    def make(self) -> int:
        """A file descriptor of a new file without a name, which the system frees when it is closed. Blocks."""
        if self._folder:
            Path(self._folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(buffering=0, prefix="tidegate-", dir=self._folder or None) as file:
            return os.dup(file.fileno())

    def close(self) -> None:
        """Release what is left, and wait for the threads. Only when no request runs any more."""
        self._closed = True
        for spool in list(self.open):
            spool.release()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()


class Spool:
    """One file: see :class:`tidegate.wire.forms.Blob`. First :meth:`append`, then :meth:`close` and :meth:`end`, then reading."""

    def __init__(self, spools: Spools, tide: Tide) -> None:
        self._spools = spools
        self._tide: Tide | None = tide
        self.name = ""
        self.content_type = ""
        self.beginning = b""
        self.size = 0
        self._waiting: list[bytes] = []
        """What no thread has taken yet; all of it while the file needs no disk."""
        self._unwritten = 0
        self._memory: bytes | None = None
        """The file, once it is complete and if it needed no disk."""
        self._descriptor = -1
        self._at_work = False
        """A thread has the file. It must not be closed under its hands: its number might be another's then."""
        self._held = False
        self._error: errors.TidegateError | None = None
        self._then: Callable[[errors.TidegateError | None], None] | None = None
        self._reads: deque[tuple[int, int, Then]] = deque()
        self._studies: deque[tuple[Callable[[Read], Any], Callable[[Any], None]]] = deque()
        self._released = False

    # -- writing ------------------------------------------------------------------------------------------------

    def append(self, data: bytes) -> None:
        """The next bytes of the file."""
        if self._released or self._error is not None:
            return
        if len(self.beginning) < BEGINNING_BYTES:
            self.beginning = (self.beginning + data[:BEGINNING_BYTES])[:BEGINNING_BYTES]
        self.size += len(data)
        self._waiting.append(data)
        self._unwritten += len(data)
        if self.size <= MEMORY_BYTES:
            return
        if self._unwritten >= BATCH_BYTES:
            self._work()
        if self._unwritten > UNWRITTEN_BYTES and not self._held and self._tide is not None:
            self._held = True
            self._tide.hold()

    def close(self) -> None:
        """All bytes have come: whoever had them come need not be told of the disk any more."""
        self._tide = None
        if self.size > MEMORY_BYTES:
            self._work()

    def end(self, then: Callable[[errors.TidegateError | None], None]) -> None:
        """`then` is told when all bytes are kept, or why they are not, perhaps at once."""
        self.close()
        if self._error is not None:
            then(self._error)
        elif self.size <= MEMORY_BYTES:
            self._memory = b"".join(self._waiting)
            self._waiting.clear()
            self._unwritten = 0
            then(None)
        else:
            self._then = then
            self._work()

    # -- reading ------------------------------------------------------------------------------------------------

    def at_hand(self, start: int, stop: int) -> bytes | None:
        return self._memory[start:stop] if self._memory is not None else None

    def fetch(self, start: int, stop: int, then: Then) -> None:
        self._reads.append((start, min(stop, self.size), then))
        self._work()

    def examine(self, work: Callable[[Read], T], then: Callable[[T | errors.TidegateError], None]) -> None:
        self._studies.append((work, then))
        self._work()

    def release(self) -> None:
        """The file is needed no more, whatever became of it. Who waits for something of it waits in vain."""
        if self._released:
            return
        self._released = True
        self._spools.open.discard(self)
        self._tide = self._then = self._memory = None
        self._waiting.clear()
        self._reads.clear()
        self._studies.clear()
        self._work()

    # -- the disk -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Give a thread what there is to do, unless one is at it."""
        if self._at_work:
            return
        if self._released:
            if self._descriptor >= 0:
                descriptor, self._descriptor = self._descriptor, -1
                self._spools.run(partial(os.close, descriptor), _forget)
        elif self._waiting and self._error is None:
            batch, self._waiting = self._waiting, []
            self._at_work = True
            self._spools.run(partial(self._write, batch), partial(self._on_written, sum(map(len, batch))))
        elif self._then is not None:
            then, self._then = self._then, None
            then(self._error)
        elif self._reads:
            start, stop, then_ = self._reads.popleft()
            self._at_work = True
            self._spools.run(partial(_read, self._descriptor, start, stop), partial(self._on_read, then_))
        elif self._studies:
            work, told = self._studies.popleft()
            self._at_work = True
            kept = self._memory
            read = self._read_some if kept is None else lambda start, stop: kept[start:stop]
            self._spools.run(partial(_studied, work, read), partial(self._on_read, told))

    def _write(self, batch: list[bytes]) -> None:
        """In a thread."""
        if self._descriptor < 0:
            self._descriptor = self._spools.make()
        left = memoryview(b"".join(batch))
        while left:
            left = left[os.write(self._descriptor, left) :]

    def _on_written(self, size: int, failure: OSError | None) -> None:
        self._at_work = False
        self._unwritten -= size
        if failure is not None and not self._released:
            self._fail(failure)
        if self._held and self._unwritten <= UNWRITTEN_BYTES // 2:
            self._held = False
            if self._tide is not None:
                self._tide.go_on()
        if self._released or self._tide is None or self._unwritten >= BATCH_BYTES:
            self._work()

    def _fail(self, failure: OSError) -> None:
        self._error = errors.InsufficientStorage(
            f"The upload cannot be kept on disk: {failure.strerror or failure} (server.data_dir)."
        )
        self._waiting.clear()
        self._unwritten = 0
        if self._tide is not None:
            self._tide.not_kept(self._error)

    def _read_some(self, start: int, stop: int) -> bytes:
        """In a thread. Raises OSError."""
        stop = min(stop, self.size)
        return _read(self._descriptor, start, stop) if start < stop else b""

    def _on_read(self, then: Callable[[Any], None], found: object) -> None:
        self._at_work = False
        if not self._released:
            if isinstance(found, _Bug):
                self._spools.tell_bug(found.exception)
                found = errors.Internal("The gateway failed on this request; its log has the details.")
            elif isinstance(found, OSError):
                found = errors.InsufficientStorage(f"The upload cannot be read again: {found.strerror or found}.")
            then(found)
        self._work()


def _caught(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except OSError as error:
        return error


class _Bug:
    """What nobody foresaw. A thread must not die of it."""

    def __init__(self, exception: Exception) -> None:
        self.exception = exception


def _studied(work: Callable[[Read], Any], read: Read) -> Any:
    """In a thread. Raises OSError."""
    try:
        return work(read)
    except OSError:
        raise
    except Exception as bug:
        return _Bug(bug)


def _read(descriptor: int, start: int, stop: int) -> bytes:
    """In a thread. Raises OSError."""
    os.lseek(descriptor, start, os.SEEK_SET)
    found = os.read(descriptor, stop - start)
    while len(found) < stop - start:
        more = os.read(descriptor, stop - start - len(found))
        if not more:
            raise OSError("the file is shorter than it was")
        found += more
    return found


def _forget(_: object) -> None:
    """Closing a file that has no name loses nothing."""
