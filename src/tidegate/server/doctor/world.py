"""What the examination looks at besides sockets and files: the environment, clocks and limits of the machine."""

import asyncio
import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from tidegate.config.schema import Config
from tidegate.upstream.egress import Resolver

__all__ = ["World", "file_limit", "in_thread", "resolve"]

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """What `function`, which blocks, returns or raises. Whoever stops waiting leaves the thread behind: unlike those of
    an executor it holds up neither the loop's end nor the process's."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = function()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # nobody waits any more, and the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return await future


async def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """The system's lookup, which can hang for longer than anybody waits."""
    return await in_thread(lambda: list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def file_limit() -> int | None:
    """How many files and connections this process may have open; None where the system sets no limit, or tells none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _free_bytes(folder: str) -> int:
    return shutil.disk_usage(folder).free


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a test may want to be otherwise."""

    load: Callable[[], Config]
    """Reads the configuration. May block, and raise ConfigInvalid and OSError."""
    environment: Mapping[str, str]
    now: Callable[[], float] = time.time
    resolver: Resolver = resolve
    free_bytes: Callable[[str], int] = _free_bytes
    """Room on the disk of a folder."""
    file_limit: Callable[[], int | None] = file_limit
