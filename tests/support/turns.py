"""Tests in several processes at once, except for those that have the machine for themselves."""

import fcntl
import os
import tempfile

__all__ = ["Turns"]


class Turns:
    """One process's share in two lock files, which all processes of a test run know by one folder.

    The room is shared by tests that run side by side, and held alone by one that must be alone. The door is passed one
    by one; whoever waits for the room to become empty stands in it, so that nobody else comes in meanwhile.
    A process that dies leaves both: the system drops its locks.
    """

    def __init__(self, folder: str) -> None:
        self._door, self._room = (
            os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for name in ("door", "room")
        )
        self._is_inside = False

    @staticmethod
    def make_folder() -> str:
        return tempfile.mkdtemp(prefix="tidegate-turns-")

    def begin(self, *, alone: bool) -> None:
        """Returns when there is a place for a test."""
        if self._is_inside:
            return
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        self._is_inside = True

    def end(self, *, stay: bool) -> None:
        """The test is over. It may keep its place for one of its kind that comes next."""
        if not stay:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            self._is_inside = False

    def close(self) -> None:
        os.close(self._door)
        os.close(self._room)
