"""The engine's process: `python -m tidegate.local_audio DESCRIPTOR`, started by the gateway only.

The descriptor is a listening socket, the first line of standard input the secret part of the address. The process
lives as long as standard input is open, which the gateway never closes while it lives.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import uvicorn

from tidegate.local_audio.app import application
from tidegate.local_audio.pool import Pool

KEEP_ALIVE_S = 3600
"""Longer than the gateway keeps a connection, so that it is always the gateway that closes."""


class _Server(uvicorn.Server):
    """uvicorn's server, deaf to signals: they go to the whole group, and the gateway may want to finish first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        yield


def main() -> None:
    token = sys.stdin.readline().strip()
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal() or not token:
        sys.exit("The gateway starts this process; see docs/en/local-audio.md.")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What it says on standard error becomes a line of the gateway's log.
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s", stream=sys.stderr)
    config = uvicorn.Config(
        application(token, Pool(processors()), Pool(processors())),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        _Server(config).run(sockets=[sock])


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _end_with_parent() -> None:
    """The workers end by themselves when this process has gone."""
    while sys.stdin.read(1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
