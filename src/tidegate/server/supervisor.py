"""What the supervisor that starts the gateway gives it, and is told in return: the protocols of systemd, which others
speak as well (sd_listen_fds(3), sd_notify(3)).

A listening socket that the supervisor keeps outlives the process: connections wait in it while one gateway takes the
place of another, and none is refused.
"""

import os
import socket
import stat
from collections.abc import Mapping, MutableMapping

__all__ = ["ADMIN", "SocketUnusable", "inherited", "notify", "watches"]

FIRST = 3
"""The first descriptor behind standard input, output and error."""

ADMIN = "admin"
"""Name of the descriptor on which the admin API listens."""

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class SocketUnusable(OSError):
    """What was handed over cannot be listened on; the message says why."""


def inherited(environment: MutableMapping[str, str], process: int, *, first: int = FIRST) -> dict[str, socket.socket]:
    """The listening sockets that were handed over to `process`: ours under the empty name, and that of the admin API under
    `ADMIN`. The variables that tell of them are taken away, as they mean nothing to a process that this one starts.

    Raises SocketUnusable.
    """
    to, count, names = (environment.pop(name, "") for name in _VARIABLES)
    if to != str(process) or not count.isdecimal():
        return {}
    given = names.split(":")
    found: dict[str, socket.socket] = {}
    for at in range(int(count)):
        name = ADMIN if at < len(given) and given[at] == ADMIN else ""
        if name in found:
            for sock in found.values():
                sock.close()
            raise SocketUnusable(
                f"More than one listening socket was handed over (LISTEN_FDS={count}): name the one of the admin API "
                f"'{ADMIN}' (FileDescriptorName), and keep one beside it."
            )
        found[name] = _opened(first + at)
    return found


def _opened(descriptor: int) -> socket.socket:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise SocketUnusable(f"Descriptor {descriptor}, which was handed over (LISTEN_FDS), is no socket.")
        sock = socket.socket(fileno=descriptor)
    except SocketUnusable:
        raise
    except OSError as error:
        raise SocketUnusable(
            f"Descriptor {descriptor}, which was handed over (LISTEN_FDS), cannot be used: {error.strerror}."
        ) from None
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        sock.close()
        raise SocketUnusable(
            f"Descriptor {descriptor}, which was handed over (LISTEN_FDS), is no TCP socket; set ListenStream to an address "
            "and a port."
        )
    sock.set_inheritable(False)
    return sock


def watches(environment: Mapping[str, str], process: int) -> bool:
    """Whether the supervisor wants to hear every now and then that `process` goes on, and restarts it otherwise
    (`WATCHDOG_USEC`, sd_watchdog_enabled(3))."""
    return bool(environment.get("WATCHDOG_USEC")) and environment.get("WATCHDOG_PID", str(process)) == str(process)


def notify(environment: Mapping[str, str], state: str) -> None:
    """Tell the supervisor, if there is one that listens (`NOTIFY_SOCKET`). One that does not is no reason to fail."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            from tidegate.telemetry import log

            log.get_logger().warning("supervisor_not_told", reason=str(error))
