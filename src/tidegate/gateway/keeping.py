"""What becomes of one answer beside going to its client: it is kept as it comes, goes on without the client, or is that
of an earlier request, told again.

Made by an exchange where the keeper's plan has something of the kind.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tidegate.dialects.dialect import Call, StreamingRequest
from tidegate.gateway.downstream import Downstream
from tidegate.gateway.history import History
from tidegate.gateway.idempotency import Claimed, Repeat
from tidegate.gateway.keeper import Keeper, Plan
from tidegate.gateway.pump import Pump
from tidegate.gateway.recorder import Recorder
from tidegate.storage.records import Tenant
from tidegate.wire.errors import StorageUnavailable, TidegateError

if TYPE_CHECKING:
    from tidegate.gateway.exchange import Exchange

__all__ = ["Keeping"]

LOOKUP_S = 10.0
"""How long a request waits for the earlier turns that it builds on."""

REPEAT_S = 600.0
"""How long a request waits for the answer to another one with the same idempotency key."""

REPEATED = b"tidegate-repeated: true\r\n"


class Keeping:
    """Holds no exchange, which would have to be taken apart by the garbage collector: it is an argument where it goes on."""

    __slots__ = ("_claimed", "_keeper", "_plan", "_pump", "client", "downstream", "recorder")

    def __init__(self, keeper: Keeper, plan: Plan, client: Downstream) -> None:
        self._keeper = keeper
        self._plan = plan
        self.client = client
        self._pump: Pump | None = None
        self._claimed: Claimed | None = None
        self.recorder: Recorder | None = None
        self.downstream = client
        """What the answer goes to: the client, with those before it who write down what they see."""
        if plan.claim is not None:
            self.downstream = self._claimed = Claimed(self.downstream, keeper, plan.claim)
        if plan.run is not None:
            self.downstream = self.recorder = Recorder(
                self.downstream, plan.run, background=plan.background, grace_s=plan.grace_s
            )

    @property
    def repeats(self) -> bool:
        """Whether another request is having the answer, or has had it as a stream."""
        return self._pump is not None

    @property
    def has_repeated(self) -> bool:
        """Whether the client has seen some of that."""
        return self._pump is not None and self._pump.started

    @property
    def has_answered(self) -> bool:
        """The client has had its answer, which says that there will be one."""
        return self.recorder is not None and self.recorder.answered

    # -- before there is an answer ------------------------------------------------------------------------------

    def look_up(
        self, exchange: "Exchange", tenant: Tenant, then: Callable[[History | Repeat | TidegateError | None], None]
    ) -> None:
        """Tell `then` what the request builds on, or what it repeats."""
        wait_s = LOOKUP_S if self._plan.claim is None else REPEAT_S
        exchange.wait_for(
            self._keeper.prepare(self._plan, tenant),
            then,
            within_s=wait_s,
            late=StorageUnavailable(f"What the request builds on was not there within {wait_s:g} s."),
        )

    def repeat(
        self,
        exchange: "Exchange",
        tenant: Tenant,
        found: Repeat,
        request: StreamingRequest,
        call: Call,
        quiet_s: float,
    ) -> None:
        """Another request with the same idempotency key has had the answer, or is having it: the client gets the same, and
        nothing of it is kept twice. After so many seconds of silence it gets a keep-alive."""
        client = self.downstream = self.client
        self.recorder = self._claimed = None
        if found.answer is not None:
            exchange.settle(200, "repeated")
            client.respond(200, REPEATED, found.answer, found.content_type)
            return
        pump = self._pump = Pump(client, REPEATED, request.open(call).content_type, paused=exchange.is_paused)
        frames = self._keeper.archive.frames_of(found.run_id, tenant, call.profile, quiet_s)
        exchange.wait_for(pump.run(frames), partial(self._on_repeated, exchange, pump))

    def _on_repeated(self, exchange: "Exchange", pump: Pump, failed: TidegateError | None) -> None:
        with exchange.carrying_on():
            if exchange.is_settled:
                return
            if failed is None:
                exchange.settle(200, "repeated")
                self.client.end()
            elif pump.started:
                exchange.settle(200, "failed", failed.code or "")
                self.client.drop()  # a clean end would pass for a finished answer
            else:
                raise failed

    def begin_background(self, exchange: "Exchange", queued: bytes, *, streams: bool) -> bool:
        """The run is there from now on, whatever becomes of the client. Who did not ask for a stream has its answer, which
        is `queued`, as soon as a kill cannot undo that; whether the call can go on at once."""
        recorder = self.recorder
        assert recorder is not None
        recorder.begin()
        if streams:
            return True
        exchange.wait_for(
            recorder.durable(),
            partial(self._on_durable, exchange, recorder, queued),
            within_s=LOOKUP_S,
            late=StorageUnavailable("The response could not be stored in time."),
        )
        return False

    @staticmethod
    def _on_durable(exchange: "Exchange", recorder: Recorder, queued: bytes, failed: TidegateError | None) -> None:
        """What is acknowledged here outlives a kill."""
        with exchange.carrying_on():
            if failed is not None:
                raise failed
            recorder.hand_over(queued)
            exchange.ask_first()

    # -- while there is one -------------------------------------------------------------------------------------

    def pause(self) -> None:
        """The client does not keep up: what is repeated waits for it."""
        if self._pump is not None:
            self._pump.pause()

    def resume(self) -> None:
        if self._pump is not None:
            self._pump.resume()

    def goes_on(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> bool:
        """The client has left: see :meth:`tidegate.gateway.recorder.Recorder.goes_on`."""
        return self.recorder is not None and self.recorder.goes_on(loop, end)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        if self.recorder is not None:
            self.recorder.abandon()
        if self._claimed is not None:
            self._claimed.release()

    def point_to(self, error: TidegateError) -> None:
        """Have `error`, which ends the answer, say where it is kept."""
        if self.recorder is not None:
            self.recorder.point_to(error, claimed=self._claimed is not None)

    def settled(self) -> None:
        """The exchange has ended, and is not held any longer."""
        if self._plan.run is not None:
            self._plan.run.exchange = None
