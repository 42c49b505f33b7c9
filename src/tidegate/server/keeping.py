"""What a connection does between an upload's last byte and its exchange: it waits for the disk."""

from typing import TYPE_CHECKING

from tidegate.wire.errors import TidegateError
from tidegate.wire.forms import Form

if TYPE_CHECKING:
    from tidegate.config.schema import Server
    from tidegate.server.connection import Connection
    from tidegate.server.incoming import Incoming

__all__ = ["Keeping"]


class Keeping:
    """Stands in for the exchange, which begins when all of the upload is kept: no provider is asked for nothing."""

    __slots__ = ("_connection", "_since", "incoming")

    def __init__(self, connection: "Connection", incoming: "Incoming", now: float) -> None:
        self._connection = connection
        self._since = now
        self.incoming = incoming

    def until(self, settings: "Server") -> float:
        """Loop time by which the disk must be done."""
        return self._since + float(settings.body_timeout)

    def done(self, form: Form | TidegateError) -> None:
        self._connection.kept(self, form)

    def client_gone(self) -> None:
        """The connection lets go of the upload itself."""

    def pause(self) -> None:
        """Nothing is being sent."""

    def resume(self) -> None:
        """Nothing is being sent."""
