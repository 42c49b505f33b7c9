"""What one request sets aside, uses and is charged, from its admission to its row in the ledger."""

import asyncio
import time
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.access.keys import Principal
from tidegate.access.ledger import Charge
from tidegate.access.limits import Gate, Reservation
from tidegate.access.scopes import end_user_scope
from tidegate.config.limits import NO_LIMITS
from tidegate.dialects.continuation import ContinuableStream
from tidegate.dialects.dialect import AnyRequest, Call, Stream, estimated_usage
from tidegate.dialects.extent import Extent, said_bytes
from tidegate.dialects.transcription.request import TranscriptionRequest
from tidegate.gateway.allowance import Allowance
from tidegate.gateway.bound import PRICE_UNKNOWN, estimated_tokens, most_nano, text_nano, within
from tidegate.gateway.snapshot import Path
from tidegate.gateway.tenant import tenant_of
from tidegate.storage.entry import FailedAttempt, UsageEntry
from tidegate.storage.records import Usage as LedgerRow
from tidegate.wire import errors, jsonio
from tidegate.wire.events import Usage, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from tidegate.gateway.gateway import Gateway

__all__ = ["NO_USAGE", "Account"]

END_USER_LIMIT = 256
"""Most characters of the end user's name that the usage entry keeps."""

NO_USAGE = Usage()

_UNANSWERED = frozenset({"cancelled", "failed", "refused"})


class Account:
    """See the module. The ledger asks for the row when there are several to write: nobody waits for it."""

    __slots__ = (
        "_allowance",
        "_asked",
        "_before",
        "_costs",
        "_gate",
        "_gateway",
        "_plan",
        "_request_bytes",
        "_turns",
        "admitted_at",
        "answer_id",
        "attempts",
        "charges",
        "client",
        "end_user",
        "ended_at",
        "ending",
        "endpoint",
        "error",
        "failed",
        "first_event_at",
        "free",
        "is_settled",
        "is_written",
        "model",
        "number",
        "path",
        "priced",
        "principal",
        "request_id",
        "reservation",
        "settled_at",
        "started_at",
        "status",
        "streams",
        "usage",
    )

    def __init__(
        self, gateway: "Gateway", principal: Principal, request_id: bytes, endpoint: str, client: str, *, free: bool
    ) -> None:
        """`free`: whatever is asked, no provider charges for it."""
        self._gateway = gateway
        self.principal = principal
        self.request_id = request_id
        self.endpoint = endpoint
        self.client = client
        self.free = free
        self.started_at = time.perf_counter()
        self.first_event_at = 0.0
        self.ended_at = 0.0
        self.model = ""
        self.end_user = ""
        self.streams = False
        self.path: Path | None = None
        """Where the last attempt went."""
        self.attempts = 0
        self.failed: tuple[FailedAttempt, ...] = ()
        """Those of them that failed."""
        self.number = 0
        """Of its row in the ledger; 0 while it has none."""
        self.is_written = False
        """The database has been given that row."""
        self.answer_id = ""
        self.admitted_at = self.settled_at = 0.0
        self._request_bytes = 0
        self.reservation: Reservation | None = None
        self._gate: Gate | None = None
        self._plan: Sequence[Path] = ()
        self._costs: list[int] | None = None
        """What an attempt at each deployment of the plan costs at most, where a budget holds."""
        self._allowance: Allowance | None = None
        self.charges: list[Charge] = []
        """What was used so far, by each attempt that is over."""
        self._asked = False
        """The present attempt is not among them."""
        self._before = NO_USAGE
        """What the present attempt used before its provider paused."""
        self._turns: tuple[Usage, ...] = ()
        """The same, each time that the provider was asked by itself."""
        self.usage = NO_USAGE
        """What the whole request used, once it is settled."""
        self.priced: tuple[int | None, jsonio.Raw] | None = None
        """Where a budget had to know the price before the ledger did."""
        self.is_settled = False
        self.status = 0
        self.ending = "open"
        self.error = ""

    # -- admission ----------------------------------------------------------------------------------------------

    def named(self, end_user: str) -> None:
        """Who the client says that it asks for."""
        self.end_user = end_user[:END_USER_LIMIT]

    def reserve(
        self, request: AnyRequest, call: Call, plan: "Sequence[Path]"
    ) -> "Coroutine[Any, Any, Reservation] | None":
        """Set aside what the request may use, before anything is sent for it. What is to be awaited for that, if it is not
        done at once. Raises RateLimited, BudgetExhausted and CostUnbounded."""
        principal, gateway = self.principal, self._gateway
        scopes = principal.scopes
        user = None
        if self.end_user and principal.end_user_limits is not NO_LIMITS:
            user = end_user_scope(principal.organization, principal.project, self.end_user, principal.end_user_limits)
        elif not scopes:
            return None
        gate = gateway.limiter.gate(scopes, user)
        tokens = cost_nano = 0
        if not self.free:
            extent = request.extent
            if gate.tokens:
                tokens = estimated_tokens(extent, call)
            if gate.cost:
                self.admitted_at = call.created_at
                costs = text_nano(gateway.prices, plan, request, extent, call)
                if costs is None:
                    if isinstance(request, TranscriptionRequest) and not request.measured:
                        return self._measure(request, call, plan)
                    costs = self._most_nano(request, extent, call, plan)
                cost_nano = costs[0] if len(costs) == 1 else max(costs)
                self._gate, self._plan, self._costs = gate, plan, costs
        if gateway.stream_queue.most:
            held = gateway.stream_queue.reserve(gate, scopes if user is None else (*scopes, user), tokens, cost_nano)
        else:
            held = gate.reserve(tokens, cost_nano)
        if isinstance(held, CoroutineType):
            return held
        self.reservation = held  # type: ignore[assignment]  # a cast would be a call
        return None

    async def _measure(self, request: TranscriptionRequest, call: Call, plan: "Sequence[Path]") -> Reservation:
        """A budget has to know how long the recording lasts, and that takes a look into the file."""
        done: asyncio.Future[errors.TidegateError | None] = self._gateway.loop.create_future()
        request.measure(lambda error: None if done.done() else done.set_result(error))
        if (error := await done) is not None:
            raise error
        held = self.reserve(request, call, plan)
        if held is not None:
            return await held
        assert self.reservation is not None
        return self.reservation

    def grow(self, request: AnyRequest, call: Call) -> None:
        """From now on attempts are sent more, `call` says how much: a budget has to cover that. Raises CostUnbounded and
        LimitsUnavailable."""
        allowance = self._budgeted()
        if allowance is not None and not self.free:
            allowance.costs = self._most_nano(request, request.extent, call, allowance.plan)

    def cover(self, path: Path, used: Usage = NO_USAGE) -> "Coroutine[Any, Any, None] | None":
        """Where a budget holds: have enough for one more attempt, beside all that was charged so far and what the present one
        has `used`. An attempt that was left, so that nobody has told what it used, may have cost all that it could. What is to
        be awaited for that, if it is not done at once. Raises RateLimited, BudgetExhausted and LimitsUnavailable: then the
        attempt is not to be made."""
        charges = self.charges
        if not charges and used is NO_USAGE:
            return None
        allowance = self._budgeted()
        if allowance is None:
            return None
        if used is not NO_USAGE:
            charges = [*charges, *self._parts(path, used.minus(self._before) if self._turns else used)]
        spent = 0
        for charge in charges:
            cost = None if charge.usage.estimated else self._gateway.ledger.cost_of((charge,), self.admitted_at)
            spent += allowance.most(charge.deployment) if cost is None else cost
        return allowance.cover(path.destination, spent)

    def _budgeted(self) -> Allowance | None:
        """What the request may spend, where a budget holds; it is seldom asked for."""
        if self._allowance is None and self._costs is not None and self.reservation is not None:
            assert self._gate is not None
            self._allowance = Allowance(self._gate, self.reservation, self._plan, self._costs)
            self.reservation = self._allowance
        return self._allowance

    def _most_nano(self, request: AnyRequest, extent: Extent, call: Call, plan: "Sequence[Path]") -> list[int]:
        gateway = self._gateway
        try:
            return most_nano(gateway.prices, plan, request, extent, call, self.model, self.admitted_at)
        except errors.CostUnbounded as error:
            if not gateway.ledger.is_loading or error.code != PRICE_UNKNOWN:
                raise
            raise errors.LimitsUnavailable(
                "A budget holds for this request, and the prices are still being read; send it again.", retry_after=1
            ) from None

    def enter(self, call: Call, path: Path) -> None:
        """Have a row in the ledger, whatever becomes of this process. Raises StorageUnavailable."""
        if not self.answer_id:
            self.answer_id = call.response_id
        self.path = path
        self._request_bytes = call.request_bytes
        self.admitted_at = time.time()
        self._gateway.ledger.admit(self)

    def repeats(self, answer_id: str) -> None:
        """The answer is that to an earlier request."""
        self.number, self.answer_id, self.admitted_at = self._gateway.ledger.number(), answer_id, time.time()

    # -- what was used ------------------------------------------------------------------------------------------

    def begin(self, path: Path) -> None:
        """An attempt goes to this deployment."""
        self.path = path
        self.attempts += 1
        self._asked = True
        self._before = NO_USAGE
        self._turns = ()

    def go_on(self, used: Usage) -> None:
        """The same attempt goes on: its provider had paused, and has used so much until then."""
        self._asked = True
        self._turns = (*self._turns, used.minus(self._before))
        self._before = used

    @property
    def is_owed(self) -> bool:
        """Whether there is an attempt of which nothing is noted yet, and that its provider may charge for."""
        return self._asked and not self.free

    def spend(self, usage: Usage) -> None:
        """The present attempt has brought the answer."""
        if not self._asked or self.free or self.path is None:
            self.usage = usage  # no provider charges for it
        else:
            self._charge(self.path, usage)
        self._asked = False

    def lose(self, usage: Usage | None) -> None:
        """The present attempt is over without the whole answer; its provider will charge for so much all the same."""
        self._asked = False
        if usage is not None and self.path is not None:
            self._charge(self.path, usage)

    def break_off(
        self,
        error: errors.TidegateError,
        call: Call,
        sent: bool,
        status: int,
        stream: Stream | None,
        said: "Sequence[bytes]",
    ) -> None:
        """The same of an attempt with `call` that ended with `error`. Whether the request was `sent`, and what came of it: the
        `status`, 0 before there was one, and a `stream`, or what was `said` in another form."""
        usage: Usage | None
        try:
            before = None if self._before is NO_USAGE else self._before
            usage = _spent(error, call, sent, status, stream, said, before)
        except Exception as bug:  # a stream that is in disorder may not know what it used
            self._gateway.log.error("exchange_failed", exc_info=bug, request_id=self.request_id.decode("latin-1"))
            usage = estimated_usage(call, 0)
        self.lose(usage)

    def _charge(self, path: Path, usage: Usage) -> None:
        """Every time that the provider was asked has a price of its own, which may depend on how much that was."""
        deployment = path.destination
        last = usage.minus(self._before) if self._turns else usage
        if last.estimated and (allowance := self._budgeted()) is not None:
            ledger, at = self._gateway.ledger, self.admitted_at
            last = within(
                last, allowance.most(deployment), lambda guess: ledger.cost_of((Charge(deployment, guess),), at)
            )
        self.charges += self._parts(path, last)

    def _parts(self, path: Path, last: Usage) -> list[Charge]:
        """What the present attempt was charged before its provider paused, and what it has used since."""
        turns = self._turns
        if not turns:
            return [Charge(path.destination, last, path.name)]
        return [
            Charge(path.destination, one, path.name) for one in (*turns, last) if one.used_something or one.estimated
        ]

    # -- settlement ---------------------------------------------------------------------------------------------

    def settle(self, status: int, ending: str, error: str) -> None:
        """The request has ended: what it did not use is free again, and its row is written soon."""
        self.is_settled = True
        self.status, self.ending, self.error = status, ending, error
        if not self.ended_at:
            self.ended_at = time.perf_counter()
        self.settled_at = time.time()
        charges, usage = self.charges, self.usage
        if charges:
            usage = charges[0].usage
            if len(charges) > 1:
                for charge in charges[1:]:
                    usage = usage.plus(charge.usage)
            self.usage = usage
        gateway = self._gateway
        gateway.ledger.settle(self)
        reservation = self.reservation
        if reservation is None:
            return
        if not self.attempts and (status >= 400 or ending in _UNANSWERED):  # nothing was sent on
            reservation.settle(0, 0, requests=0)
        else:
            cost = None if self._costs is None else self._cost(usage)
            reservation.settle(usage.input_tokens + usage.output_tokens if charges else 0, cost)
        if gateway.stream_queue.most:
            gateway.stream_queue.freed()

    def _cost(self, usage: Usage) -> int | None:
        """What that has cost in nano-dollars; None where it is unknown, or not known yet."""
        ledger, charges, path = self._gateway.ledger, self.charges, self.path
        if (
            len(charges) == 1
            and path is not None
            and charges[0].deployment is path.destination
            and not ledger.is_loading
            and (price := path.bound.price(ledger.prices, self.admitted_at)) is not None
        ):
            self.priced = priced = price.charge(usage)
            return priced[0]
        return ledger.cost_of(charges, self.admitted_at)

    # -- what the ledger asks for -------------------------------------------------------------------------------

    def row(self) -> LedgerRow:
        """The row in the ledger, without its price."""
        return self._row(self.usage, self.settled_at)

    def open_row(self) -> LedgerRow:
        """The row while the request runs."""
        row = self._row(NO_USAGE if self.free else _read(self._request_bytes), None)
        return row if self.path is None else self._gateway.ledger.priced(row, self.path.destination)

    def _row(self, usage: Usage, settled_at: float | None) -> LedgerRow:
        principal, path = self.principal, self.path
        begun, first, ended = self.started_at, self.first_event_at, self.ended_at
        if path is None:
            deployment = provider = ""
        else:
            deployment, provider = path.name, path.destination.provider
        # By their places, in the order of the class: by name it takes three times as long.
        entry = UsageEntry(
            self.request_id.decode("latin-1"),
            self.endpoint,
            self.status,
            self.ending,
            _milliseconds(ended - begun) if ended else 0.0,
            _milliseconds(first - begun) if first else None,
            self.streams,
            principal.key,
            principal.organization,
            principal.project,
            self.end_user,
            self.model,
            deployment,
            self.attempts,
            usage.input_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
            usage.cache_write_1h_tokens,
            usage.input_audio_tokens,
            usage.input_image_tokens,
            usage.output_audio_tokens,
            usage.output_image_tokens,
            usage.seconds,
            usage.characters,
            usage.estimated,
            error=self.error,
            client=self.client,
            failed=self.failed,
        )
        return LedgerRow(
            number=self.number,
            tenant=tenant_of(principal),
            admitted_at=self.admitted_at,
            settled_at=settled_at,
            entry=entry,
            key_id=principal.key_id or principal.key,
            provider=provider,
            response_id=self.answer_id,
            tags=principal.tags,
        )


def _read(request_bytes: int) -> Usage:
    """What a provider has read at least, by the size of the request alone: the row of each request that runs for a while has it,
    and few are ever settled by it."""
    return Usage(input_tokens=estimate_tokens(request_bytes), estimated=True)


def _spent(
    error: errors.TidegateError,
    call: Call,
    sent: bool,
    status: int,
    stream: Stream | None,
    said: "Sequence[bytes]",
    before: Usage | None,
) -> Usage | None:
    """What the provider has counted counts, else an estimate of what it has read and said. A provider that failed before
    it said anything charges for nothing; where we left it, it goes on with what it has read (docs, usage-and-prices)."""
    if status not in (0, 200) or not (status or sent):
        return before
    left = not isinstance(error, errors.ProviderError) or isinstance(error, errors.UpstreamTimeout)
    if not status or stream is None or said:
        if not left and not (said and isinstance(error, errors.UpstreamBroken)):
            return before
        guess = estimated_usage(call, said_bytes(said, sum(map(len, said))) if said else 0)
        return guess if before is None else before.plus(guess)
    usage = stream.usage()
    if before is not None:
        return msgspec.structs.replace(usage, estimated=True)
    spoke = stream.speaks if isinstance(stream, ContinuableStream) else stream.committed
    if usage.estimated and not left and not spoke:
        return None
    return usage


def _milliseconds(seconds: float) -> float:
    """Rounded to the microsecond; `round` takes twice as long."""
    return int(seconds * 1e6 + 0.5) / 1000
