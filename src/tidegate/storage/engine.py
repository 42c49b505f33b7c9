"""What the storage asks of a database: transactions that write, reads, and a sign of who is still alive."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from tidegate.storage.statement import Dialect, Work

__all__ = ["Engine", "Refused", "Unavailable"]

T = TypeVar("T")


class Unavailable(Exception):
    """The database does not answer, or not now: locked, full, gone, restarting. The same work may succeed later.

    After one from `write` it is unknown whether the transaction was committed.
    """


class Refused(Exception):
    """The database read the statement and said no: repeating it cannot help. Nothing of the transaction remains."""


class Engine(Protocol):
    """A database. All calls are made on the event loop, and none of them blocks it."""

    dialect: Dialect

    async def write(self, work: Callable[[], Work[T]], *, sync: bool) -> T:
        """Run the work in one transaction. Not to be called again before it has returned.

        With `sync` the commit, and every earlier one, is on the disk when it returns. Without, it is there as well where the
        database can die without this process; else power loss may take the latest transactions, and a death of this process
        none. Raises Unavailable, Refused, and what the work raises.
        """
        ...

    async def read(self, work: Callable[[], Work[T]]) -> T:
        """Run work that changes nothing, beside writes and other reads, on one state of the database.

        Raises Unavailable, within the engine's deadline, Refused, and what the work raises.
        """
        ...

    async def appear(self, process: int) -> None:
        """Show other processes on this host that the process with this number lives, where the engine has a way to."""
        ...

    async def is_alive(self, process: int) -> bool | None:
        """Whether that process lives, for certain. None where the engine cannot know; then only its lease tells."""
        ...

    def listen(self, heard: Callable[[str], None]) -> None:
        """From now on `heard` is told what other processes `tell`, where the engine has a way to. Once."""
        ...

    def tell(self, words: str) -> None:
        """Tell all other processes that listen. It neither waits nor fails, and may be lost."""
        ...

    async def close(self) -> None:
        """Close every connection, after what runs."""
        ...
