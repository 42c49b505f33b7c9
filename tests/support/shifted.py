"""`python -m tests.support.shifted FILE serve …`: Tidegate, on a machine whose wall clock can be set.

It is ahead of the real one by the seconds that stand in the file. No other clock is touched.
"""

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

__all__ = ["WallClock"]


class WallClock:
    """The file, as who sets the clock sees it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0.0)

    def set(self, seconds: float) -> None:
        """From now on it is ahead by so much."""
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))


def main() -> None:
    file, *arguments = sys.argv[1:]
    real = time.time
    with open(file, "rb") as opened:
        ahead = mmap.mmap(opened.fileno(), 8, access=mmap.ACCESS_READ)

    def shifted() -> float:
        seconds: float = struct.unpack("d", ahead[:])[0]
        return real() + seconds

    time.time = shifted
    sys.argv = ["tidegate", *arguments]
    runpy.run_module("tidegate", run_name="__main__")


if __name__ == "__main__":
    main()
