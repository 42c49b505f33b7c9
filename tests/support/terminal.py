"""A terminal of a given width for a `tidegate` command."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

__all__ = ["seen_on_terminal"]


def seen_on_terminal(columns: int, *arguments: str, folder: Path, **environment: str) -> str:
    """What somebody sees who runs the command in `folder`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tidegate", *arguments],
        stdout=theirs,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "xterm", "PYTHONUTF8": "1", **environment},
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:
        pass  # Linux says so when the other end is closed
    finally:
        os.close(ours)
        assert process.wait(20) == 0
    return seen.decode()
