"""The gateway, which tells on SIGUSR2 how many tasks its event loop has: the file that `BENCH_TASKS` names gets a line.

Everything else is `tidegate`: `python -m bench.watched serve …`.
"""

import asyncio
import os
import signal
from pathlib import Path
from types import FrameType

from tidegate.cli import main

__all__: list[str] = []


def _tell(number: int, frame: FrameType | None) -> None:
    try:
        count = len(asyncio.all_tasks())
    except RuntimeError:  # no loop runs yet, or none any more
        count = 0
    with Path(os.environ["BENCH_TASKS"]).open("a") as file:
        file.write(f"{count}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, _tell)
    main()
