"""What streams have in common that go on frame by frame, to a client that speaks the provider's own dialect."""

from abc import ABC, abstractmethod

from tidegate.dialects.dialect import Call, Destination, Events, Outcome
from tidegate.wire import sse
from tidegate.wire.errors import TidegateError, UpstreamBroken, WireError

__all__ = ["Relay"]


class Relay(Events, ABC):
    """Most of a :class:`tidegate.dialects.dialect.Stream`: a dialect adds what one frame means, and how its streams end."""

    __slots__ = ("_call", "_decoder", "_destination", "committed", "outcome")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._destination: Destination | None = None
        self.committed = False
        self.outcome: Outcome | None = None
        self._begin()

    def attempt(self, destination: Destination) -> None:
        self._destination = destination
        self._begin()

    def feed(self, data: bytes) -> bytes:
        try:
            frames = self._decoder.feed(data)
            if len(frames) == 1:
                return self._frame(frames[0])
        except WireError as error:
            return self._broken(str(error))
        except sse.FrameError as error:
            out = self._frames(error.frames)
            if self.outcome is None:
                self._broken(str(error))
            return out
        return self._frames(frames)

    def eof(self) -> bytes:
        out = b""
        tail = self._decoder.eof()
        if tail is not None and self.outcome is None:
            try:
                out = self._frame(tail)
            except WireError:
                out = b""
        if self.outcome is None:
            if self._whole:
                return out + self._end()
            self._broken(f"the stream ended without {self._ENDING}")
        return out

    def finish(self) -> bytes:
        return self._end() if self.outcome is None and self._whole else b""

    def _frames(self, frames: list[sse.Frame]) -> bytes:
        out = []
        for frame in frames:
            try:
                out.append(self._frame(frame))
            except WireError as error:
                self._broken(str(error))
        return b"".join(out)

    def _broken(self, why: str) -> bytes:
        return self._failed(UpstreamBroken(f"Provider '{self._provider}': {why}."))

    def _failed(self, error: TidegateError) -> bytes:
        self.outcome = Outcome("failed", error)
        return b""

    @property
    def _provider(self) -> str:
        return self._destination.provider if self._destination is not None else ""

    # -- what a dialect adds ------------------------------------------------------------------------------------

    _ENDING = "a finish reason"
    """What is missing where a stream ends too early."""

    def _begin(self) -> None:
        """Forget what another attempt has sent."""
        self._decoder = sse.FrameDecoder()

    @abstractmethod
    def _frame(self, frame: sse.Frame) -> bytes:
        """What the client gets of a frame: nothing once there is an outcome. Raises WireError."""

    @property
    @abstractmethod
    def _whole(self) -> bool:
        """Whether the answer is complete, so that the stream may end although nothing said that it is over."""

    @abstractmethod
    def _end(self) -> bytes:
        """Sets the outcome of a complete answer; what follows the last frame."""
