"""What stands between an exchange and its client where the answer is kept: everything goes on to the client, and into
the journal. The client may leave; where the answer is to go on, only the journal is written from then on."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from tidegate.dialects.dialect import JSON
from tidegate.wire.errors import ClientGone, Internal, TidegateError

if TYPE_CHECKING:
    from tidegate.dialects.dialect import Stream
    from tidegate.gateway.downstream import Downstream
    from tidegate.gateway.exchange import Exchange

__all__ = ["Recorder", "Run"]


FOLLOWED_S = 0.5
"""How often is looked whether somebody else still follows an answer whose client has left."""


class Run(Protocol):
    """Where a recorder writes: one answer in the making. Nothing here waits."""

    public_id: str
    """By which it is asked for."""
    exchange: "Exchange | None"
    """The request that it is the answer to, as long as that can be ended from outside."""

    @property
    def is_shared(self) -> bool:
        """Whether others go on from it, so that the client has its end when they find it (see `when_found`)."""

    @property
    def followed(self) -> bool:
        """Whether anybody reads along."""

    @property
    def whereabouts(self) -> str:
        """Sentences that tell a client where it is read again; empty where it is not kept."""

    async def durable(self) -> None:
        """Until a kill cannot undo that it began."""

    def begin(self, stream: "Stream | None") -> None:
        """The first frames are about to come, or the run is to be found before they do. Once."""

    def append(self, frames: bytes) -> None:
        """Whole frames, as a client gets them."""

    def finish(self, error: TidegateError | None) -> None:
        """The answer is complete, or it ended with `error`. Once."""

    def keep(self) -> None:
        """The answer is there as one body, before anything was told of it. Once, and instead of both."""

    def when_found(self, then: Callable[[], None]) -> None:
        """Call `then` when whoever the client may ask next finds how it ended."""


class Recorder:
    """See :class:`tidegate.gateway.downstream.Downstream`."""

    __slots__ = (
        "_downstream",
        "_finished",
        "_passing",
        "_run",
        "_stream",
        "_timer",
        "_write",
        "answered",
        "append",
        "background",
        "begun",
        "grace_s",
    )

    def __init__(self, downstream: "Downstream", run: Run, *, background: bool, grace_s: float) -> None:
        """`grace_s`: how long the answer goes on after the client has left, if nobody else follows it."""
        self._downstream: Downstream | None = downstream
        self._write: Callable[[bytes], None] = downstream.write
        self._run = run
        self.append = run.append
        self.background = background
        self.grace_s = grace_s
        self._stream: Stream | None = None
        self._passing: list[bytes] = []
        """Pings of the provider's that are among the frames, or will be."""
        self.begun = False
        self.answered = False
        """The client has had its answer, which says that there will be one."""
        self._finished = False
        self._timer: asyncio.TimerHandle | None = None
        """Of the grace that runs. It holds the whole exchange, so that it must not outlive the answer."""

    @property
    def stream(self) -> "Stream | None":
        """What the frames come from."""
        return self._stream

    @stream.setter
    def stream(self, stream: "Stream | None") -> None:
        self._stream = stream
        if stream is not None:
            stream.tell_pings(self._passing)

    @property
    def followed(self) -> bool:
        """Whether anybody reads the answer from the journal while it is given."""
        return self._run.followed

    def begin(self) -> None:
        """From now on the run can be found."""
        if not self.begun:
            self.begun = True
            self._run.begin(self.stream)

    async def durable(self) -> None:
        """Until a kill cannot undo that the run began."""
        await self._run.durable()

    def goes_on(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> bool:
        """The client has left: whether the answer goes on all the same. Unless it runs in the background, `end` is called
        when nobody has followed it for its grace."""
        if self._downstream is None or not self.begun or not (self.background or self.grace_s or self.followed):
            return False
        self.detach()
        if not self.background:
            self._timer = loop.call_later(self.grace_s or FOLLOWED_S, self._look, loop, end)
        return True

    def _look(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
        """Whoever came back and left again has the same time once more."""
        self._timer = None
        if self.followed:
            self._timer = loop.call_later(self.grace_s or FOLLOWED_S, self._look, loop, end)
        else:
            end()

    def point_to(self, error: TidegateError, *, claimed: bool) -> None:
        """Have `error`, which ends the answer, say where it is kept. `claimed`: its idempotency key gives this answer
        again."""
        whereabouts = self._run.whereabouts if self.begun else ""
        if whereabouts:
            again = "Send the request again, with another Idempotency-Key" if claimed else "Send the request again"
            error.message = f"The gateway is shutting down, and the answer ends here. {again}. {whereabouts}"

    def detach(self) -> None:
        """The client has left, or has been answered: what comes is for the journal."""
        self._downstream = None
        self._write = _nowhere

    def hand_over(self, body: bytes) -> None:
        """Answer the client with `body`, ahead of everything, and go on without it."""
        downstream = self._downstream
        self.detach()
        self.answered = True
        if downstream is not None:
            downstream.respond(200, b"", body, JSON)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        error = ClientGone("The client left before the answer was complete.")
        if self.begun and self.stream is not None:
            self.append(self.stream.fail(error))
        self._finish(error)

    # -- Downstream ---------------------------------------------------------------------------------------------

    def start(self, fields: bytes, content_type: bytes, first: bytes) -> None:
        self.begin()
        self.append(self._without_pings(first) if self._passing else first)
        if self._downstream is not None:
            name = b"tidegate-stream: %b\r\n" % self._run.public_id.encode("ascii")
            self._downstream.start(fields + name, content_type, first)

    def write(self, data: bytes) -> None:
        self.append(self._without_pings(data) if self._passing else data)
        self._write(data)

    def _without_pings(self, data: bytes) -> bytes:
        """`data` as the journal has it."""
        found = [ping for ping in self._passing if ping in data]
        for ping in found:
            self._passing.remove(ping)
            data = data.replace(ping, b"", 1)
        return data

    def ping(self, data: bytes) -> None:
        self._write(data)  # it says nothing about the answer, so that no journal has it (see `_without_pings`)

    def end(self, data: bytes = b"") -> None:
        if data:
            self.append(self._without_pings(data) if self._passing else data)
        downstream = self._downstream
        stream = self.stream
        outcome = stream.outcome if stream is not None else None
        self._finish(outcome.error if outcome is not None else None)
        if downstream is not None:
            if self._run.is_shared:
                self._run.when_found(partial(downstream.end, data))
            else:
                downstream.end(data)

    def cut(self) -> None:
        stream = self.stream
        outcome = stream.outcome if stream is not None else None
        self._finish(outcome.error if outcome is not None else None)
        if self._downstream is not None:
            self._downstream.cut()

    def drop(self) -> None:
        self._finish(Internal("The answer could not be ended well."))
        if self._downstream is not None:
            self._downstream.drop()

    def respond(self, status: int, fields: bytes, body: bytes, content_type: bytes = JSON) -> None:
        if self.begun:
            self._finish(None)
        else:
            self.begun = self._finished = True
            self._run.keep()
        if self._downstream is not None:
            if self._run.is_shared:
                self._run.when_found(partial(self._downstream.respond, status, fields, body, content_type))
            else:
                self._downstream.respond(status, fields, body, content_type)

    def refuse(self, error: TidegateError, fields: bytes = b"") -> None:
        """A run that can be found already ends as it would have if it had begun to stream."""
        if self.begun and not self._finished:
            if self.stream is not None:
                self.append(self.stream.fail(error))
            self._finish(error)
        if self._downstream is not None:
            self._downstream.refuse(error, fields)

    def _finish(self, error: TidegateError | None) -> None:
        if self.begun and not self._finished:
            self._finished = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._run.finish(error)


def _nowhere(data: bytes) -> None:
    pass
