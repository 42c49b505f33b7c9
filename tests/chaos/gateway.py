"""`python -m tests.chaos.gateway FILE serve …`: the real gateway, which says what lives in it when it gets SIGUSR2."""

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from tidegate.cli import main

COUNTED = ("Attempt", "Cycle", "Errand", "Exchange", "Pump", "Recorder", "Reservation", "Run", "Session", "Turn")
"""Objects of one request. A gateway at rest has none of them."""


def look() -> dict[str, Any]:
    """What lives in this process once garbage is gone. Runs on the gateway's own event loop, between two callbacks."""
    for _ in range(3):
        gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # what is free, and kept by the C library, is no growth
        ctypes.CDLL(None).malloc_trim(0)
    names = Counter(type(one).__name__ for one in gc.get_objects() if str(type(one).__module__).startswith("tidegate."))
    tasks = Counter(
        getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks(asyncio.get_running_loop())
    )
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "objects": {name: names[name] for name in COUNTED if names[name]},
        "exchanges": [
            getattr(one, "request_id", b"?").decode() for one in gc.get_objects() if type(one).__name__ == "Exchange"
        ],
        "tasks": dict(tasks),
        "types": dict(Counter(type(one).__qualname__ for one in gc.get_objects()).most_common(60)),
        "all objects": len(gc.get_objects()),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "resident": resident,
    }


def install(path: Path) -> None:
    """Write :func:`look` to `path` at each SIGUSR2."""

    def tell(_number: int, _frame: FrameType | None) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(look()), "utf-8")
        fresh.replace(path)

    signal.signal(signal.SIGUSR2, tell)


if __name__ == "__main__":
    install(Path(sys.argv.pop(1)))
    main()
