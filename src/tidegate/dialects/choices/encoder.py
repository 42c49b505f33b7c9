"""What encoders of APIs that answer with choices have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from tidegate.dialects.choices.chunk import Kind
from tidegate.dialects.choices.head import head
from tidegate.dialects.dialect import Call, Destination
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError
from tidegate.wire.events import Event, Finished, Started, TextDelta, Usage, UsageReport

__all__ = ["ChoicesEncoder"]


class ChoicesEncoder(ABC):
    """Most of a :class:`tidegate.dialects.codec.StreamEncoder`: an API adds how a choice is said."""

    def __init__(self, call: Call, *, kind: Kind, wants_usage: bool) -> None:
        """`wants_usage`: the client asked for the usage frame."""
        self._call = call
        self._kind: Kind = kind
        self._wants_usage = wants_usage
        self._model = ""
        self._usage = Usage()
        self._tier = ""
        self._tail = b',"usage":null}\n\n' if wants_usage else b"}\n\n"
        """What stands behind the choices of a frame."""
        self._begun: jsonio.Members | None = None
        self.committed = False

    def attempt(self, destination: Destination) -> None:
        self._model = destination.model
        self._usage = Usage()

    def go_on(self, head: jsonio.Members) -> None:
        """Chunks are to begin as those did that a :class:`ChoicesStream` has sent. Before `encode`."""
        self._begun = head

    def encode(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is TextDelta:
                self._on_text(event, out)
            else:
                self._on_other(event, out)
        if out:
            self.committed = True
        return b"".join(out)

    def fail(self, error: TidegateError) -> bytes:
        return sse.encode(error.body())

    def ping(self) -> bytes:
        return sse.comment(b"keepalive")

    @abstractmethod
    def _on_text(self, event: TextDelta, out: list[bytes]) -> None: ...

    def _on_other(self, event: Event, out: list[bytes]) -> None:
        """What is said of the answer as a whole; everything else has no place in a chunk."""
        match event:
            case Started():
                self._model = event.model or self._model
            case UsageReport():
                self._usage = event.usage
            case Finished():
                if self._wants_usage:
                    usage: jsonio.Members = {"choices": jsonio.raw([]), "usage": self._usage.as_chat()}
                    if self._tier:
                        usage["service_tier"] = jsonio.raw(self._tier)
                    out.append(sse.encode(jsonio.encode({**self._head(), **usage})))
                out.append(sse.DONE)
            case _:
                pass

    def _head(self) -> jsonio.Members:
        return self._begun or head(self._call, self._model, self._kind)

    def _prefix(self, choice: int, member: bytes) -> bytes:
        """A frame of `choice` up to the value of its `member`."""
        begun = jsonio.encode(self._head())[:-1]
        return b'data: %b,"choices":[{"index":%d,"%b":' % (begun, choice, member)
