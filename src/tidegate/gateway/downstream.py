"""What an exchange needs from the connection to its client."""

from typing import Protocol

from tidegate.dialects.dialect import JSON
from tidegate.wire.errors import TidegateError

__all__ = ["Downstream", "Fields"]

Fields = list[tuple[bytes, bytes]]


class Downstream(Protocol):
    """One answer towards a client. The server implements it; `write` and `end` follow `start`, `respond` stands alone.

    No method raises; after the client has left, all of them do nothing.
    """

    def start(self, fields: bytes, content_type: bytes, first: bytes) -> None:
        """Status 200, header lines (each ended by CRLF), and the first frames, in one write."""

    def write(self, data: bytes) -> None:
        """Whole frames, in one write."""

    def ping(self, data: bytes) -> None:
        """A keep-alive, which is no part of the answer."""

    def end(self, data: bytes = b"") -> None:
        """The last frames, if any, and the end of the answer, in one write."""

    def cut(self) -> None:
        """Break the answer off behind what was said, so that no client takes that for the end of it."""

    def drop(self) -> None:
        """Close the connection at once, in the middle of the answer; nobody may take it for the end of one."""

    def respond(self, status: int, fields: bytes, body: bytes, content_type: bytes = JSON) -> None:
        """A whole answer in one body."""

    def refuse(self, error: TidegateError, fields: bytes = b"") -> None:
        """An error as a whole answer."""
