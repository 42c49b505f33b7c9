"""One request from admission to settlement: admit → plan → attempt → commit → relay → settle.

Nothing here waits. Each step runs in the callback that makes it possible, so that no task or queue stands between the
provider's bytes and the client's.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from tidegate.access.keys import Principal
from tidegate.access.limits import Reservation
from tidegate.dialects.bridge import Bridge, BridgedStream
from tidegate.dialects.codec import BridgedRequest
from tidegate.dialects.continuation import ContinuableBridge, ContinuableStream
from tidegate.dialects.dialect import (
    Answer,
    AnyRequest,
    Call,
    Dialect,
    FormDialect,
    FormRequest,
    Outcome,
    Request,
    SealedRequest,
    Standalone,
    Stream,
    StreamingRequest,
    WholeRequest,
)
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.extent import text_bytes
from tidegate.dialects.failure import from_status, lacks_path, no_stream
from tidegate.dialects.models import MODEL_NAME_LIMIT, take_models
from tidegate.dialects.profile import PROFILES
from tidegate.dialects.prompt_size import SHORT_BYTES
from tidegate.dialects.responses.prompt import PromptRequest
from tidegate.dialects.validation import invalid, missing, too_deep
from tidegate.gateway.account import Account
from tidegate.gateway.asked import profile_named, relayed, resume_grace, total_clock
from tidegate.gateway.continuation import continuable, goes_on_at, has_text
from tidegate.gateway.dialects import UPSTREAM_DIALECTS
from tidegate.gateway.downstream import Downstream
from tidegate.gateway.errand import Errand
from tidegate.gateway.failed import failed_attempt, passed_over
from tidegate.gateway.fields import answer_fields
from tidegate.gateway.history import History
from tidegate.gateway.idempotency import Repeat
from tidegate.gateway.ids import IdSupply, following
from tidegate.gateway.keeper import NOTHING
from tidegate.gateway.keeping import Keeping
from tidegate.gateway.recourse import Recourse
from tidegate.gateway.router import Trial
from tidegate.gateway.snapshot import Path, Snapshot
from tidegate.gateway.tenant import tenant_of
from tidegate.gateway.told import content_type, rate_limits, wait_told
from tidegate.routing.retry import verdict
from tidegate.upstream.attempt import Attempt
from tidegate.upstream.connection import Clocks
from tidegate.upstream.wheel import UNWATCHED
from tidegate.wire import errors, jsonio
from tidegate.wire.events import Usage
from tidegate.wire.forms import Form, Upload

if TYPE_CHECKING:
    from tidegate.dialects.codec import UpstreamDialect
    from tidegate.dialects.responses.request import ResponsesRequest
    from tidegate.gateway.gateway import Gateway
    from tidegate.gateway.keeper import Keeper

__all__ = ["ANSWER_LIMIT", "ERROR_LIMIT", "Exchange"]

ANSWER_LIMIT = 256 * 1024 * 1024
"""Longest answer in one body, in bytes."""

ERROR_LIMIT = 1024 * 1024
"""Longest error body that is read."""

LONG_BYTES = 256 * 1024
"""A request of so many bytes, with what comes before it, may have thousands of items: translated on the loop, it would hold up
everybody else for a tenth of a second."""

DEFAULT_SEND_STALL_S = 30.0

AFFINITY_DIGITS = 4
"""So many of the last digits of a response's id are those of the response that it builds on."""

T = TypeVar("T")

_response_ids = IdSupply(b"resp_", 24, dated=True)


class Exchange:
    """See the module. Made when the head of a request is there; :meth:`run` starts it when the body is."""

    __slots__ = (
        "_account",
        "_affinity",
        "_attempt",
        "_bridge",
        "_call",
        "_collected",
        "_collected_bytes",
        "_dialect",
        "_downstream",
        "_dropped",
        "_errand",
        "_gateway",
        "_headers",
        "_heard",
        "_keeping",
        "_limits",
        "_mute_since",
        "_others",
        "_path",
        "_paused",
        "_plan",
        "_prepares",
        "_received_at",
        "_recourse",
        "_request",
        "_retry_after",
        "_snapshot",
        "_started",
        "_status",
        "_stream",
        "_total_s",
        "_trial",
        "_turn",
        "look_at",
    )

    def __init__(
        self,
        gateway: "Gateway",
        downstream: Downstream,
        dialect: Dialect,
        principal: Principal,
        headers: Mapping[bytes, bytes],
        request_id: bytes,
        client: str,
    ) -> None:
        self._gateway = gateway
        self._snapshot: Snapshot = gateway.snapshot
        self._downstream = downstream
        self._dialect = dialect
        self._headers = headers
        self._received_at = gateway.loop.time()
        endpoint = dialect.name + dialect.operation
        self._account = Account(gateway, principal, request_id, endpoint, client, free=dialect.estimates)
        self._request: AnyRequest | None = None
        """None while there is none, and when no other attempt will need it."""
        self._affinity = ""
        self._others: Sequence[str] = ()
        """Names that the request has besides `model`, to fall back on."""
        self._stream: Stream | None = None
        self._bridge: Bridge | None = None
        self._errand: Errand[Any] | None = None
        self._keeping: Keeping | None = None
        self._dropped: tuple[str, ...] = ()
        self._path: Path | None = None
        self._trial: Trial | None = None
        self._turn: Callable[[], None] | None = None
        """What follows as soon as the provider has a slot for it."""
        self._recourse: Recourse | None = None
        """Made when an attempt fails: few do."""
        self._attempt: Attempt | None = None
        self._status = 0
        """Of the answer to this attempt, as the five that follow; 0 before it is there."""
        self._collected: list[bytes] | None = None
        self._collected_bytes = 0
        self._retry_after: float | None = None
        self._limits = b""
        self._heard = False
        self._prepares = False
        self._started = False
        self._paused = False
        self._mute_since = 0.0
        """When the provider first said something of which the client has heard nothing; 0 if nothing of that kind came."""
        self.look_at = UNWATCHED

    def __repr__(self) -> str:
        return f"<Exchange {self._account.request_id.decode('latin-1')}>"  # the headers hold the client's key (P8)

    # -- what the server calls ----------------------------------------------------------------------------------

    def run(self, body: bytes | Form) -> None:
        """The body is there: answer it."""
        self._gateway.exchanges.add(self)
        try:
            if self._admit(body):
                self._begin()
        except errors.TidegateError as error:
            self._refuse(error)
        except Exception as bug:
            self._on_bug(bug)

    def prepare(self, body: bytes) -> None:
        """The body is there, of a request that is only made for others to build on: answer it without a provider."""
        self._prepares = self._account.free = True
        self.run(body)

    def client_gone(self) -> None:
        """The client has left: the upstream call ends now (promise P6), unless the answer is to go on without it."""
        if self._account.is_settled:
            return
        keeping = self._keeping
        if keeping is not None and keeping.goes_on(self._gateway.loop, self.client_gone):
            if self._paused:
                self.resume()
            return
        self._charge(errors.ClientGone("The client left before the answer was complete."))
        self._drop_attempt()
        self.settle(499 if not self._started else 200, "client_gone", errors.ClientGone.default_code)
        if keeping is not None:
            keeping.abandon()

    def cancel(self) -> None:
        """The answer is wanted no more (`POST /v1/responses/{id}/cancel`)."""
        if not self._account.is_settled:
            self.break_off(errors.Cancelled("The response was cancelled."))

    def pause(self) -> None:
        """The client does not keep up: stop reading from the provider."""
        self._paused = True
        if self._attempt is not None:
            self._attempt.pause()
        elif self._keeping is not None:
            self._keeping.pause()

    def resume(self) -> None:
        self._paused = False
        if self._attempt is not None:
            self._attempt.resume()
        elif self._keeping is not None:
            self._keeping.resume()

    def stop(self, error: errors.TidegateError) -> None:
        """End it now, in the form of the dialect; used when draining runs out of time."""
        if self._account.is_settled:
            return
        keeping = self._keeping
        if keeping is not None and keeping.has_repeated:
            # Another gateway may be giving the answer that is repeated here: it has no ending yet.
            self._drop_attempt()
            self.settle(200, "failed", error.code or "")
            self._downstream.drop()
            return
        if keeping is not None and isinstance(error, errors.ShuttingDown):
            keeping.point_to(error)
        self.break_off(error)

    @property
    def repeats(self) -> bool:
        """Whether another request has the answer, or is having it."""
        return self._keeping is not None and self._keeping.repeats

    @property
    def is_paused(self) -> bool:
        """Whether the client does not keep up."""
        return self._paused

    @property
    def is_settled(self) -> bool:
        """Whether it has ended."""
        return self._account.is_settled

    @property
    def send_stall(self) -> float:
        """Seconds that the client may refuse to read."""
        return self._path.send_stall if self._path is not None else DEFAULT_SEND_STALL_S

    # -- admit and plan -----------------------------------------------------------------------------------------

    def _admit(self, body: bytes | Form) -> bool:
        """Whether the request can go on at once; else an errand goes on with it."""
        snapshot, account, dialect = self._snapshot, self._account, self._dialect
        principal = account.principal
        request: AnyRequest | None
        others: Sequence[str] = ()
        if isinstance(body, bytes):
            size, most_bytes = text_bytes(body), len(body)
            short_body = body if most_bytes <= SHORT_BYTES else b""
            request = dialect.parse_plain(body)
            if request is None:
                own, others = take_models(body)
                request = dialect.parse(own)
        else:
            request, size, most_bytes = cast("FormDialect", dialect).parse_form(body), body.text_bytes, 0
            short_body = b""
        self._request = request
        if dialect.seals:
            cast("SealedRequest", request).envelopes = self._gateway.envelopes(principal)
        if end_user := request.end_user:
            account.named(end_user)
        model, param = request.model, "model"
        if not model and others:
            model, param = others[0], "models[0]"
        model = model or self._default_model()
        if not model:
            raise missing("model", "No default model is configured; GET /v1/models lists what there is.")
        if len(model) > MODEL_NAME_LIMIT:
            raise invalid("model", f"expected a name of at most {MODEL_NAME_LIMIT} characters.")
        account.model = model
        self._others = others
        if principal.models:
            principal.authorise(model, param)
            for place, other in enumerate(others):
                principal.authorise(other, f"models[{place}]")
        profile = snapshot.profile
        headers = self._headers
        name = headers.get(b"tidegate-profile")
        if name is not None:
            profile = profile_named(name)
        elif principal.profile:
            profile = PROFILES[principal.profile]
        response_id = _response_ids.take().decode("ascii")
        affinity = request.affinity
        if not affinity and isinstance(request, PromptRequest):
            # Answers that build on one another go to the same target: their ids carry from the first to the last what
            # decides between targets.
            previous = request.typed.previous_response_id
            response_id = response_id if previous is None else following(response_id, previous, AFFINITY_DIGITS)
            affinity = response_id[-AFFINITY_DIGITS:]
        self._affinity = affinity
        self._plan = self._planned(model, affinity, param)
        if others:
            plans = [self._planned(other, affinity, f"models[{place}]") for place, other in enumerate(others)]
            self._plan = snapshot.joined((self._plan, *plans), self._received_at)
        timeout = headers.get(b"tidegate-timeout")
        self._total_s = None if timeout is None else total_clock(timeout)
        given = headers.get(b"tidegate-resume-grace")
        grace_s = None if given is None else resume_grace(given)
        self._call = Call(
            response_id=response_id,
            created_at=int(time.time()),
            wall_clock=_unix_time,
            profile=profile,
            request_bytes=size,
            most_bytes=most_bytes,
            request_id=account.request_id,
            short_body=short_body,
        )
        keeper = self._gateway.keeper
        if (
            keeper is not None
            and isinstance(body, bytes)
            and keeper.may_keep(request, headers, grace_s)
            and not self._keep(keeper, request, body, grace_s)
        ):
            return False
        return self._open(request)

    def _planned(self, model: str, affinity: str, param: str) -> list[Path]:
        """The attempts for the name that the request has in `param`."""
        dialect, unsupported = self._dialect, self._account.principal.unsupported
        return self._snapshot.plan(
            model, dialect.name, dialect.path, unsupported, self._received_at, affinity, param=param
        )

    def _open(self, request: AnyRequest) -> bool:
        """All that the request builds on is there. Whether it can go on at once; else an errand goes on with it."""
        if isinstance(request, PromptRequest) and (before := request.settle()):
            call = self._call
            size, most = call.request_bytes + before, call.most_bytes + before
            self._call = msgspec.structs.replace(call, request_bytes=size, most_bytes=most)
        if not self._prepares:
            held = self._account.reserve(request, self._call, self._plan)
            if held is not None:
                self.wait_for(held, partial(self._on_reserved, request))
                return False
        return self._go_ahead(request)

    def _on_reserved(self, request: AnyRequest, found: Reservation | errors.TidegateError) -> None:
        with self.carrying_on():
            if isinstance(found, errors.TidegateError):
                raise found
            self._account.reservation = found
            if self._go_ahead(request):
                self._begin()

    def _go_ahead(self, request: AnyRequest) -> bool:
        """There is room for it. Whether it can go on at once; else an errand goes on with it."""
        if self._gateway.ledger.is_kept:
            self._account.enter(self._call, self._plan[0])
        if request.wants_stream:
            self._stream = cast("StreamingRequest", request).open(self._call)
            self._account.streams = True
        if not self._dialect.estimates:
            self._open_bridge(request)
        keeping = self._keeping
        if keeping is not None and keeping.recorder is not None:
            keeping.recorder.stream = self._stream
            if keeping.recorder.background:
                return self._begin_background(keeping, cast("ResponsesRequest", request))
        return True

    def _open_bridge(self, request: AnyRequest) -> None:
        if self._stream is not None and self._snapshot.continues(self._account.model) and has_text(self._dialect):
            self._build_bridge(cast("BridgedRequest", request), continuable)
            return
        operation = self._dialect.operation
        for path in self._plan:
            may_translate = operation or path.bridge is not None or (path.emulation is not None and request.wants_stop)
            if may_translate and self._translates_to(path, request) is not None:
                self._build_bridge(cast("BridgedRequest", request))
                break

    def _default_model(self) -> str:
        """The model of a request that names none. A key's own is one for text."""
        snapshot = self._snapshot
        name = self._dialect.name
        if name in snapshot.default_models:
            return snapshot.default_models[name]
        return self._account.principal.model or snapshot.default_model

    def _build_bridge(
        self, request: BridgedRequest, build: Callable[[BridgedRequest, Call, Envelopes], Bridge] = Bridge
    ) -> None:
        """Some attempt will go, or may go, to a provider of another dialect."""
        bridge = self._bridge = build(request, self._call, self._gateway.envelopes(self._account.principal))
        if self._stream is not None:
            self._stream = bridge.open(self._stream)

    # -- what is kept -------------------------------------------------------------------------------------------

    def _keep(self, keeper: "Keeper", request: AnyRequest, body: bytes, grace_s: float | None) -> bool:
        """Have the answer kept, where it is to be; whether the request can go on at once."""
        plan = keeper.plan(
            request,
            self._headers,
            body,
            self._call,
            self._account.principal,
            self._dialect.name + self._dialect.operation,
            self._dialect.path,
            self._account.model,
            self._plan,
            grace_s,
        )
        if plan is NOTHING:
            return True
        keeping = self._keeping = Keeping(keeper, plan, self._downstream)
        self._downstream = keeping.downstream
        if plan.run is not None:
            plan.run.exchange = self
            self._account.answer_id = plan.run.public_id
            if plan.background:
                cast("ResponsesRequest", request).detach()
        if plan.claim is None and plan.references is None:
            return True
        keeping.look_up(self, tenant_of(self._account.principal), partial(self._on_found, request))
        return False

    def _on_found(self, request: AnyRequest, found: History | Repeat | errors.TidegateError | None) -> None:
        with self.carrying_on():
            if isinstance(found, errors.TidegateError):
                raise found
            if isinstance(found, Repeat):
                self._repeat(request, found)
                return
            if found is not None:
                cast("PromptRequest[Any]", request).resolve(found.items, found.named)
            if self._open(request):
                self._begin()

    def _repeat(self, request: AnyRequest, found: Repeat) -> None:
        """Another request with the same idempotency key has had the answer, or is having it."""
        keeping, account = self._keeping, self._account
        assert keeping is not None
        account.repeats(found.run_id)
        self._downstream = keeping.client
        asked = cast("StreamingRequest", request)
        keeping.repeat(self, tenant_of(account.principal), found, asked, self._call, self._ping_after)

    def _begin_background(self, keeping: Keeping, request: "ResponsesRequest") -> bool:
        """Whether the call can go on at once."""
        if self._bridge is not None and self._translates_to(self._plan[0], request) is not None:
            self._bridge.check()
        queued = request.queued(self._call, self._plan[0].destination.model)
        return keeping.begin_background(self, queued, streams=bool(request.typed.stream))

    # -- what it waits for --------------------------------------------------------------------------------------

    def wait_for(
        self,
        work: Coroutine[Any, Any, T],
        then: Callable[[T | errors.TidegateError], None],
        *,
        within_s: float = math.inf,
        late: errors.TidegateError | None = None,
    ) -> None:
        """`then` is told the result of `work`, or why there is none; `late` where it takes longer than `within_s` from when
        the request came. Who is told goes on in :meth:`carrying_on`."""
        until = None if math.isinf(within_s) else self._received_at + within_s
        self._errand = Errand(self._gateway.loop, work, then, until=until, late=late)

    @contextlib.contextmanager
    def carrying_on(self) -> Iterator[None]:
        """What was waited for is there, and the exchange goes on: what is raised now ends it."""
        self._errand = None
        try:
            yield
        except errors.TidegateError as error:
            self.break_off(error)
        except Exception as bug:
            self._on_bug(bug)

    # -- attempt ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._prepares:
            path = self._path = self._plan[0]
            self._respond(cast("ResponsesRequest", self._request).prepared(self._call, path.destination))
        else:
            self.ask_first()

    def ask_first(self) -> None:
        """Begin the attempts."""
        self._path = self._account.path = self._plan[0]  # an answer names it, even if nobody may be asked
        if self._gateway.router.health.has_notes:
            self._pass_over_resting()
        path, bridge, request = self._plan[0], self._bridge, self._request
        if bridge is not None and request is not None and self._call.most_bytes >= LONG_BYTES:
            dialect = self._translates_to(path, request)
            if dialect is not None:
                work = asyncio.to_thread(bridge.prepare, dialect, path.destination)
                self.wait_for(work, partial(self._on_translated, path))
                return
        self._ask_covered(path)  # what was reserved covers the first attempt

    def _pass_over_resting(self) -> None:
        plan, self._plan = self._plan, self._snapshot.allowed(self._plan, self._gateway.loop.time())
        if len(plan) > len(self._plan):
            resting = errors.UpstreamRateLimited("It has asked not to be called for a while.")
            for path in plan:
                if path not in self._plan:
                    self.passed_over(path, resting)

    def _on_translated(self, path: Path, failed: errors.TidegateError | None) -> None:
        with self.carrying_on():
            if failed is not None:
                raise failed
            self.ask(path)

    def passed_over(self, path: Path, error: errors.TidegateError) -> None:
        """The deployment is not asked, because of `error`."""
        self._account.failed += (passed_over(path, error),)

    def ask(self, path: Path) -> None:
        """Raises what keeps the deployment from being asked, a budget among them."""
        cover = self._account.cover(path)
        if cover is None:
            self._ask_covered(path)
        else:
            self.wait_for(cover, partial(self._on_covered, path))

    def _on_covered(self, path: Path, failed: errors.TidegateError | None) -> None:
        with self.carrying_on():
            recourse = self._recourse
            assert recourse is not None  # only what was spent on attempts that failed has to be covered
            if failed is not None:
                recourse.fall_back(self)
                return
            try:
                self._ask_covered(path)
            except errors.CallerError:
                recourse.fall_back(self)

    def _ask_covered(self, path: Path) -> None:
        request, bridge = self._request, self._bridge
        if request is None and isinstance(bridge, ContinuableBridge):
            request = bridge.request
        assert request is not None
        if bridge is not None:
            self._cross(bridge, path, request)
            return
        if self._dialect.estimates and self._translates_to(path, request) is not None:
            self._path = path
            answer = cast("Standalone", request).estimate(path.destination)
            self._dropped = request.dropped
            self._respond(answer)
            return
        self._send_own(path, request)

    def _translates_to(self, path: Path, request: AnyRequest) -> "UpstreamDialect | None":
        """The dialect that the provider is asked in; None where it gets the client's own request. A provider that lacks
        the operation is asked for an answer in its stead."""
        if isinstance(self._stream, ContinuableStream) and self._stream.goes_on:
            return goes_on_at(path)
        operation = self._dialect.operation
        if operation and operation not in path.destination.operations:
            return UPSTREAM_DIALECTS[path.destination.endpoint]
        return path.bridge or (path.emulation if request.wants_stop else None)

    def _send_own(self, path: Path, request: AnyRequest) -> None:
        """An attempt in the client's own dialect."""
        body: bytes | Upload
        if self._dialect.takes_form:
            body = cast("FormRequest", request).upload(path.destination)
        else:
            body = cast("Request", request).forward(path.destination)
        self._dropped = request.dropped
        if self._stream is not None:
            self._stream.attempt(path.destination)
        names = self._dialect.relayed
        fields = relayed(self._headers, names) if names else ()
        self._send(path, body, fields, operation=self._dialect.operation)

    def _send(
        self,
        path: Path,
        body: bytes | Upload,
        fields: Sequence[tuple[bytes, bytes]] = (),
        *,
        operation: str = "",
        again: bool = False,
    ) -> None:
        """`again`: the same attempt goes on. Another one needs a slot of the provider's first, and waits for it if need be."""
        self._path = path
        if again or path.slots.take():
            self._start_attempt(path, body, fields, operation, again=again)
            return
        self._account.path = path
        self._turn = partial(self._start_attempt, path, body, fields, operation)
        path.slots.wait(self, self._received_at + self._total_of(path))

    def turn_came(self) -> None:
        """See :class:`tidegate.gateway.slots.Waiter`."""
        turn, self._turn = self._turn, None
        assert turn is not None
        with self.carrying_on():
            turn()

    def turn_missed(self, error: errors.TidegateError) -> None:
        self._turn = None
        path = self._path
        assert path is not None
        try:
            total_s = self._total_of(path)
            if self._gateway.loop.time() >= self._received_at + total_s:
                error = errors.UpstreamTimeout(
                    f"Provider '{self._provider}' had no room for the request within {total_s:g} s (total clock).",
                    "total",
                )
            self.passed_over(path, error)
            self._on_failure(error)
        except Exception as bug:
            self._on_bug(bug)

    def _start_attempt(
        self,
        path: Path,
        body: bytes | Upload,
        fields: Sequence[tuple[bytes, bytes]],
        operation: str,
        *,
        again: bool = False,
    ) -> None:
        streams = self._stream is not None and not path.destination.whole
        trial = self._trial
        if not again or trial is None:
            self._account.begin(path)
            series = self._gateway.metrics.series(self._account.endpoint, path.destination.provider)
            trial = self._trial = self._gateway.router.begin(path, self._affinity, series.attempts)
        if again or self._account.attempts > 1:
            self._status = self._collected_bytes = 0
            self._collected = self._retry_after = None
            self._limits = b""
            self._heard = False
        clocks = path.streamed if streams else path.unstreamed
        if self._total_s is not None:
            clocks = self._lowered(clocks, self._total_s)
        upstream = path.upstream
        endpoint, model = path.destination.endpoint, path.destination.model
        if isinstance(body, bytes):
            sent = upstream.request(
                endpoint,
                body,
                stream=streams,
                model=model,
                operation=operation,
                relayed=fields,
                credential=trial.credential,
            )
        else:
            sent = upstream.upload(endpoint, body, stream=streams, model=model, credential=trial.credential)
        attempt = self._attempt = Attempt(
            upstream.pool,
            self._gateway.loop,
            sent,
            self,
            clocks,
            self._received_at + clocks.total_s,
            streams,
        )
        attempt.start()

    def _cross(self, bridge: Bridge, path: Path, request: AnyRequest) -> None:
        """An attempt where some provider of the plan needs the bridge, perhaps this one."""
        dialect = self._translates_to(path, request)
        if dialect is None:
            self._send_own(path, request)
            bridge.leave()
        else:
            urls = bridge.media(path.destination)
            if urls:
                self._fetch(bridge, path, request, urls)
                return
            body, self._dropped = bridge.forward(dialect, path.destination)
            if self._stream is not None:
                cast("BridgedStream", self._stream).attempt_bridged(path.destination)
            self._send(path, body)

    def _go_on(self, bridge: Bridge) -> None:
        """The provider has paused in the middle of its own work: it is sent what it has said so far."""
        path = self._path
        assert path is not None
        body, bridge.next_body = bridge.next_body, b""
        used = bridge.used if self._stream is None else self._stream.usage()
        if self._attempt is not None:
            self._attempt.release()
            self._attempt = None
        try:
            cover = self._account.cover(path, used)
        except errors.TidegateError as error:
            self._on_pause_covered(path, body, used, error)
            return
        if cover is None:
            self._send_again(path, body, used)
        else:
            self.wait_for(cover, partial(self._on_pause_covered, path, body, used))

    def _on_pause_covered(self, path: Path, body: bytes, used: Usage, failed: errors.TidegateError | None) -> None:
        with self.carrying_on():
            if failed is not None:
                self._account.lose(used)
                raise failed
            self._send_again(path, body, used)

    def _send_again(self, path: Path, body: bytes, used: Usage) -> None:
        self._account.go_on(used)
        self._send(path, body, again=True)
        if self._paused and self._attempt is not None:
            self._attempt.pause()

    def _fetch(self, bridge: Bridge, path: Path, request: AnyRequest, urls: list[str]) -> None:
        """The provider takes only bytes: get what the client's URLs point to, then go on."""
        total = self._total_of(path)
        self.wait_for(
            self._gateway.media.fetch_all(urls, param=self._dialect.media_param),
            partial(self._on_fetched, bridge, path, request),
            within_s=total,
            late=errors.UpstreamTimeout(f"The media were not fetched within {total:g} s (total clock).", "total"),
        )

    def _on_fetched(
        self, bridge: Bridge, path: Path, request: AnyRequest, found: Mapping[str, str] | errors.TidegateError
    ) -> None:
        with self.carrying_on():
            if isinstance(found, errors.TidegateError):
                raise found
            bridge.fetched(found)
            self._cross(bridge, path, request)

    def _total_of(self, path: Path) -> float:
        """Seconds of the total clock for this request; infinite where it is off."""
        total = (path.unstreamed if self._stream is None else path.streamed).total
        return min((one for one in (total, self._total_s) if one is not None), default=math.inf)

    @staticmethod
    def _lowered(clocks: Clocks, total_s: float) -> Clocks:
        """The same clocks, with the total that the client asks for if it is shorter."""
        if clocks.total is not None and clocks.total <= total_s:
            return clocks
        return Clocks(connect=clocks.connect, first_event=clocks.first_event, idle=clocks.idle, total=total_s)

    def _drop_attempt(self) -> None:
        if self._errand is not None:
            self._errand.cancel()
            self._errand = None
        if self._recourse is not None:
            self._recourse.stop_waiting()
        if self._turn is not None:
            self._turn = None
            if self._path is not None:
                self._path.slots.leave(self)
        if self._attempt is not None:
            self._attempt.abort()
            self._attempt = None
        self._collected = None

    # -- what the upstream says ---------------------------------------------------------------------------------

    def upstream_head(self, status: int, head: bytes) -> None:
        try:
            self._status = status
            self._limits = rate_limits(head)
            if status >= 400:
                self._retry_after = wait_told(head)
            # An answer without content type, or with an odd one, is still read as the stream that was asked for; only
            # JSON and HTML are certainly none.
            stream = self._stream
            if (
                stream is None
                or status != 200
                or self._whole
                or (kind := content_type(head)).startswith(
                    (b"application/json", b"text/html", b"application/problem+json")
                )
            ):
                self._collected = []
            else:
                stream.head(kind)
            if self._paused and self._attempt is not None:
                self._attempt.pause()
        except Exception as bug:
            self._on_bug(bug)

    def upstream_body(self, data: bytes) -> None:
        collected = self._collected
        if collected is not None:
            collected.append(data)
            self._collected_bytes += len(data)
            if self._collected_bytes > ERROR_LIMIT:
                self._check_collected()
            return
        stream = self._stream
        attempt = self._attempt
        if stream is None or attempt is None:
            return
        try:
            if not self._heard:
                self._heard = True  # pings count: whoever sends them is there, and from now on the idle clock runs
                attempt.saw_event()
                if self._trial is not None:
                    self._trial.heard()
            out = stream.feed(data)
            if stream.outcome is not None:
                self._on_outcome(stream.outcome, out)
            elif out:
                self._mute_since = 0.0
                if self._started:
                    self._downstream.write(out)
                else:
                    self._start(out)
                if self._request is not None and stream.committed:
                    self._request = None  # no other attempt will need it, and it may be large
                    if self._recourse is not None:
                        self._recourse.give_back_budget()
                    if self._bridge is not None:
                        self._bridge.let_go()
            elif not self._mute_since:
                self._mute_since = attempt.last_read
            if self._bridge is not None and self._bridge.next_body:
                self._go_on(self._bridge)
        except errors.WireError as error:
            self._on_unreadable(error)
        except Exception as bug:
            self._on_bug(bug)

    def upstream_end(self) -> None:
        try:
            if self._collected is not None or self._stream is None:
                self._on_collected()
                return
            out = self._stream.eof()
            if self._bridge is not None and self._bridge.next_body:
                if self._started:
                    self._downstream.write(out)
                elif out:
                    self._start(out)
                self._go_on(self._bridge)
                return
            assert self._stream.outcome is not None
            self._on_outcome(self._stream.outcome, out)
        except Exception as bug:
            self._on_bug(bug)

    def upstream_failed(self, error: errors.TidegateError) -> None:
        try:
            stream = self._stream
            if stream is not None:
                out = stream.finish()
                if stream.outcome is not None and stream.outcome.error is None:
                    self._on_outcome(stream.outcome, out)
                    return
            if self._status >= 400:  # the status has said it all, whatever became of the body
                error = self._error_of_status(b"".join(self._collected or ()))
            self._on_failure(error)
        except Exception as bug:
            self._on_bug(bug)

    def _on_unreadable(self, error: errors.WireError) -> None:
        """What the provider has sent makes no sense. Nothing is raised here: it would leave a callback of the connection."""
        try:
            self._on_failure(errors.UpstreamBroken(f"Provider '{self._provider}': {error}"))
        except Exception as bug:
            self._on_bug(bug)

    # -- relay --------------------------------------------------------------------------------------------------

    def _start(self, first: bytes) -> None:
        self._started = True
        now = self._account.first_event_at = time.perf_counter()
        assert self._stream is not None
        self._downstream.start(self._fields(now), self._stream.content_type, first)
        self._gateway.wheel.watch(self, self._gateway.loop.time() + self._ping_after)
        if self._paused and self._attempt is not None:
            self._attempt.pause()

    @property
    def _ping_after(self) -> float:
        return float(self._snapshot.config.server.stream_ping)

    def check(self, now: float) -> float | None:
        """The wheel's look: a client that has heard nothing for a while gets a keep-alive (see `Watched`).

        Silence is measured at the upstream connection, which notes the time of each read anyway. What comes there may be
        nothing for the client, though: a ping, thoughts that are not shown, half of a call that goes out whole.
        """
        attempt = self._attempt
        if self._errand is not None and self._started:
            return now + self._ping_after
        if self._recourse is not None and self._recourse.waits:
            return now + self._ping_after
        if self._account.is_settled or self._stream is None:
            return None
        if self._turn is None:  # who waits for a provider hears nothing of it at all
            if attempt is None:
                return None
            due = (self._mute_since or attempt.last_read) + self._ping_after
            if now < due:
                return due
        if not self._paused and (ping := self._stream.ping()):
            self._downstream.ping(ping)
        return now + self._ping_after

    def _on_outcome(self, outcome: Outcome, out: bytes) -> None:
        if outcome.error is not None:
            if out and self._started:
                self._downstream.write(out)
            elif out and self._stream is not None and self._stream.committed:
                self._start(out)
            self._on_failure(outcome.error)
            return
        assert self._stream is not None
        self._account.spend(self._stream.usage())
        if self._attempt is not None:
            if self._bridge is not None and cast("BridgedStream", self._stream).cut:
                self._attempt.abort()  # the provider would go on
            else:
                self._attempt.release()
            self._attempt = None
        if not self._started:
            self._start(out)
            out = b""
        self.settle(200, outcome.status)
        self._downstream.end(out)

    def _on_failure(self, error: errors.TidegateError) -> None:
        """An attempt failed. Before the commit point the same deployment may be asked once more, or the next one; after
        it the client is told, unless the alias has others go on with what was said."""
        self._charge(error)
        self._drop_attempt()
        path, trial, recourse = self._path, self._trial, self._recourse
        assert path is not None
        if recourse is None:
            recourse = self._recourse = Recourse(self._gateway, self._plan, self._stream)
        else:
            recourse.give_back_budget()
        error.redact(path.upstream.redacted)
        if trial is not None and trial.failed(error):
            self._account.failed += (failed_attempt(trial.path, error, self._status),)
        if self._account.is_settled or (self._stream is not None and self._stream.committed):
            if not self._continues(path, error, recourse):
                self.break_off(error)
            return
        recourse.after(self, path, error, verdict(error, self._snapshot.fallback_on(self._account.model, self._others)))

    def _continues(self, path: Path, error: errors.TidegateError, recourse: Recourse) -> bool:
        """Whether the next deployment goes on with the answer, or the same one where no other is left. If none can after all,
        the client is told how the answer broke off."""
        stream, bridge, account = self._stream, self._bridge, self._account
        if account.is_settled or not isinstance(stream, ContinuableStream) or not isinstance(bridge, ContinuableBridge):
            return False
        if not self._gateway.continuations.begins(stream, path, error, account.request_id.decode("latin-1")):
            return False
        try:
            account.grow(bridge.request, stream.longer(self._call))
        except errors.TidegateError:
            return False  # a budget cannot tell what that may cost
        recourse.after_commit(self, path, error, stream.failure or error)
        return True

    def time_left(self, path: Path) -> float:
        """Seconds until the total clock runs out."""
        return self._received_at + self._total_of(path) - self._gateway.loop.time()

    def break_off(self, error: errors.TidegateError) -> None:
        """End it with `error`, in the form of the dialect."""
        error.__traceback__ = None  # the frames that it was raised through refer to it, and to the whole request
        self._charge(error)
        self._drop_attempt()
        if not self._started:
            self._refuse(error)
            return
        assert self._stream is not None
        out = self._stream.fail(error)
        self.settle(200, "cancelled" if isinstance(error, errors.Cancelled) else "failed", error.code or "")
        if self._stream.abrupt:
            self._downstream.cut()
        else:
            self._downstream.end(out)

    # -- answers in one body ------------------------------------------------------------------------------------

    def _check_collected(self) -> None:
        limit = ANSWER_LIMIT if self._status == 200 else ERROR_LIMIT
        if self._collected_bytes <= limit:
            return
        try:
            self._on_failure(
                errors.UpstreamBroken(f"Provider '{self._provider}' sent more than {limit} bytes in one answer.")
                if self._status == 200
                else self._error_of_status(b"")
            )
        except Exception as bug:
            self._on_bug(bug)

    def _on_collected(self) -> None:
        body = b"".join(self._collected or ())
        self._collected = [body]
        assert self._path is not None
        self._attempt = None
        if self._status != 200:
            self._on_failure(self._error_of_status(body))
            return
        if not body.lstrip().startswith((b"{", b"[")):
            self._collected_bytes = 0  # a page in the place of an answer: no model has said that
        if self._stream is not None:
            out = self._stream.unstreamed(body)
            if out is not None:
                assert self._stream.outcome is not None
                self._on_outcome(self._stream.outcome, out)
                return
            self._on_failure(no_stream(body, self._provider))
            return
        try:
            bridge = self._bridge
            if bridge is not None and bridge.crossed:
                whole = bridge.complete(body, self._path.destination)
                if whole is None:
                    self._go_on(bridge)
                    return
                answer = whole
            else:
                request = cast("WholeRequest", self._request)
                answer = request.complete(body, self._call, self._path.destination)
        except errors.WireError as error:
            self._on_failure(errors.UpstreamBroken(f"Provider '{self._provider}': {error}."))
        except errors.TidegateError as error:
            self._on_failure(error)
        else:
            self._collected = None
            self._respond(answer)

    def _error_of_status(self, body: bytes) -> errors.TidegateError:
        if 200 <= self._status < 400:
            what = "no answer to this request" if self._status < 300 else "a redirect; redirects are not followed"
            return errors.UpstreamRedirected(
                f"Provider '{self._provider}' answered with status {self._status}, which is {what}."
            )
        error = from_status(self._status, body, self._provider, self._retry_after)
        path = self._path
        if self._status == 404 and path is not None and lacks_path(body, path.upstream.path_of(path.destination)):
            return self._snapshot.without_path(path)
        if error.code == "model_not_found" and self._path is not None:
            error.message = self._snapshot.told_of_model(error.message, self._path.destination)
        if self._bridge is not None:
            self._bridge.tell(error)
        return error

    def _respond(self, answer: Answer) -> None:
        self._account.spend(answer.usage)
        now = self._account.first_event_at = time.perf_counter()
        fields = self._fields(now)
        if answer.usage.estimated:
            fields += b"tidegate-usage: estimated\r\n"
        self.settle(200, answer.status, now=now)
        self._downstream.respond(200, fields, answer.body, answer.content_type)

    # -- settle -------------------------------------------------------------------------------------------------

    def _refuse(self, error: errors.TidegateError) -> None:
        """Nothing of an answer has been sent yet: the error is the answer. Whoever asked for it in the background has had a
        200."""
        self._drop_attempt()
        keeping = self._keeping
        is_answered = keeping is not None and keeping.has_answered
        status = 200 if is_answered else self._dialect.error_status(error)
        self.settle(status, _ending(error), error.code or "")
        self._downstream.refuse(error, self._fields(time.perf_counter()))

    def _on_bug(self, bug: Exception) -> None:
        """Our own mistake must not look like a parser error, and must not hang: it is logged and told as a 500."""
        if isinstance(bug, RecursionError | jsonio.TooDeep) and not self._account.attempts:
            # Before anything was sent only the client's own text can be that deep.
            self._break_quietly(too_deep())
            return
        self._log_bug(bug)
        self._charge(errors.Internal("The gateway failed on this request."))
        self._drop_attempt()
        if not self._account.is_settled:
            self._break_quietly(errors.Internal("The gateway failed on this request; its log has the details."))

    def _log_bug(self, bug: Exception) -> None:
        request_id = self._account.request_id.decode("latin-1")
        self._gateway.log.error("exchange_failed", exc_info=bug, request_id=request_id)

    def _break_quietly(self, error: errors.TidegateError) -> None:
        try:
            self.break_off(error)
        except Exception:
            self._gateway.log.exception("ending_failed", request_id=self._account.request_id.decode("latin-1"))
            self.settle(500, "failed", error.code or "")
            self._downstream.drop()  # a clean end would pass for a finished answer

    def settle(self, status: int, ending: str, error: str = "", *, now: float | None = None) -> None:
        """Exactly once for each request, whatever happened. `now` is the performance counter, where it was just read."""
        account = self._account
        if account.is_settled:
            return
        gateway = self._gateway
        gateway.exchanges.discard(self)
        if self._recourse is not None:
            self._recourse.give_back_budget()
        if self._trial is not None:
            if ending in ("completed", "incomplete"):
                self._trial.succeeded()
            else:
                self._trial.left()
        if self._keeping is not None:
            self._keeping.settled()
        if self.look_at != UNWATCHED:
            gateway.wheel.forget(self)
        if now is not None:
            account.ended_at = now
        try:
            account.settle(status, ending, error)
        except Exception as bug:  # a mistake in the books must not keep the answer from the client
            self._log_bug(bug)

    def _charge(self, error: errors.TidegateError) -> None:
        """The present attempt, if there is one, is over without the whole answer."""
        if self._account.is_owed:
            sent = self._attempt is not None and self._attempt.sent
            said = self._collected if self._collected_bytes else None
            self._account.break_off(error, self._call, sent, self._status, self._stream, said or ())

    @property
    def _whole(self) -> bool:
        """The present deployment knows no streams."""
        return self._path is not None and self._path.destination.whole

    @property
    def _provider(self) -> str:
        return self._path.destination.provider if self._path is not None else ""

    def _fields(self, now: float) -> bytes:
        """Our own response headers."""
        path, account = self._path, self._account
        own = b"" if account.reservation is None else account.reservation.fields()
        if path is None:
            return own
        limits = own + self._limits
        return answer_fields(
            path.fields, account.attempts, self._call.profile, now - account.started_at, limits, self._dropped
        )


def _ending(error: errors.TidegateError) -> str:
    if isinstance(error, errors.Cancelled):
        return "cancelled"
    return "refused" if error.refuses else "failed"


def _unix_time() -> int:
    return int(time.time())
