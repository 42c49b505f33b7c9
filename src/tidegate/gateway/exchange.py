"""One request from admission to settlement: admit → plan → attempt → commit → relay → settle.

Nothing here waits. Each step runs in the callback that makes it possible, so that no task or queue stands between the
provider's bytes and the client's.
"""

import email.utils
import math
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tidegate.access.keys import Principal
from tidegate.access.usage import UsageEntry
from tidegate.config.units import Duration
from tidegate.dialects.dialect import Answer, Call, Dialect, Outcome, Request, Stream, estimated_usage
from tidegate.dialects.failure import from_status
from tidegate.dialects.profile import PROFILES
from tidegate.dialects.validation import invalid, missing
from tidegate.gateway.downstream import Downstream
from tidegate.gateway.snapshot import Path, Snapshot
from tidegate.upstream.attempt import Attempt
from tidegate.upstream.connection import Clocks, Headers
from tidegate.wire import errors
from tidegate.wire.events import Usage

if TYPE_CHECKING:
    from tidegate.gateway.gateway import Gateway

__all__ = ["ANSWER_LIMIT", "ERROR_LIMIT", "Exchange"]

ANSWER_LIMIT = 256 * 1024 * 1024
"""Longest answer in one body, in bytes."""

ERROR_LIMIT = 1024 * 1024
"""Longest error body that is read."""

RETRY_AFTER_LIMIT_S = 3600.0

END_USER_LIMIT = 256
"""Most characters of the end user's name that the usage entry keeps."""

RATE_LIMIT_FIELDS_BYTES = 4096
"""Most bytes of a provider's rate-limit headers that are passed on."""

MODEL_NAME_LIMIT = 1024
"""Longest model name, in characters: names are compared with others, remembered, logged and told back."""

DEFAULT_SEND_STALL_S = 30.0

_NO_USAGE = Usage()


class Exchange:
    """See the module. Made when the head of a request is there; :meth:`run` starts it when the body is."""

    __slots__ = (
        "_attempt",
        "_attempts",
        "_call",
        "_collected",
        "_collected_bytes",
        "_dialect",
        "_downstream",
        "_end_user",
        "_first_event_at",
        "_gateway",
        "_headers",
        "_heard",
        "_limits",
        "_model",
        "_path",
        "_paused",
        "_plan",
        "_principal",
        "_received_at",
        "_request",
        "_retry_after",
        "_settled",
        "_snapshot",
        "_started",
        "_started_at",
        "_status",
        "_step",
        "_stream",
        "_total_s",
        "_usage",
        "client",
        "request_id",
        "wheel_slot",
    )

    def __init__(
        self,
        gateway: "Gateway",
        downstream: Downstream,
        dialect: Dialect,
        principal: Principal,
        headers: Mapping[bytes, bytes],
        *,
        request_id: bytes,
        client: str,
    ) -> None:
        self._gateway = gateway
        self._snapshot: Snapshot = gateway.snapshot
        self._downstream = downstream
        self._dialect = dialect
        self._principal = principal
        self._headers = headers
        self.request_id = request_id
        self.client = client
        self._received_at = gateway.loop.time()
        self._started_at = time.perf_counter()
        self._request: Request | None = None
        self._end_user = ""
        self._call: Call | None = None
        self._stream: Stream | None = None
        self._model = ""
        self._plan: list[Path] = []
        self._step = 0
        self._path: Path | None = None
        self._attempt: Attempt | None = None
        self._attempts = 0
        self._status = 0
        self._collected: list[bytes] | None = None
        self._collected_bytes = 0
        self._retry_after: float | None = None
        self._limits = b""
        self._heard = False
        self._started = False
        self._paused = False
        self._settled = False
        self._first_event_at = 0.0
        self._total_s: float | None = None
        self._usage: Usage = _NO_USAGE
        self.wheel_slot = -1

    # -- what the server calls ----------------------------------------------------------------------------------

    def run(self, body: bytes) -> None:
        """The body is there: answer it."""
        self._gateway.exchanges.add(self)
        try:
            self._admit(body)
            self._next_attempt()
        except errors.TidegateError as error:
            self._refuse(error)
        except Exception as bug:
            self._on_bug(bug)

    def client_gone(self) -> None:
        """The client has left: the upstream call ends now (promise P6)."""
        if self._settled:
            return
        self._drop_attempt()
        self._settle(499 if not self._started else 200, "client_gone", errors.ClientGone.default_code)

    def pause(self) -> None:
        """The client does not keep up: stop reading from the provider."""
        self._paused = True
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        self._paused = False
        if self._attempt is not None:
            self._attempt.resume()

    def stop(self, error: errors.TidegateError) -> None:
        """End it now, in the form of the dialect; used when draining runs out of time."""
        if not self._settled:
            self._break(error)

    @property
    def send_stall(self) -> float:
        """Seconds that the client may refuse to read."""
        return self._path.clocks.send_stall if self._path is not None else DEFAULT_SEND_STALL_S

    # -- admit and plan -----------------------------------------------------------------------------------------

    def _admit(self, body: bytes) -> None:
        snapshot = self._snapshot
        principal = self._principal
        request = self._dialect.parse(body)
        self._request = request
        self._end_user = (request.end_user or "")[:END_USER_LIMIT]
        model = request.model or principal.model or snapshot.default_model
        if not model:
            raise missing("model", "No default model is configured; GET /v1/models lists what there is.")
        if len(model) > MODEL_NAME_LIMIT:
            raise invalid("model", f"expected a name of at most {MODEL_NAME_LIMIT} characters.")
        self._model = model
        principal.authorise(model)
        profile = snapshot.profile
        name = self._headers.get(b"tidegate-profile")
        if name is not None:
            chosen = PROFILES.get(name.decode("latin-1").strip().lower())
            if chosen is None:
                raise errors.InvalidRequest(
                    f"The header 'tidegate-profile' must be one of {', '.join(PROFILES)}.", code="invalid_profile"
                )
            profile = chosen
        elif principal.profile:
            profile = PROFILES[principal.profile]
        self._plan = snapshot.plan(model, self._dialect.name, self._dialect.path)
        self._read_timeout()
        self._call = Call(
            response_id="resp_" + os.urandom(24).hex(),
            created_at=int(time.time()),
            wall_clock=_unix_time,
            profile=profile,
            request_bytes=len(body),
        )
        if request.wants_stream:
            self._stream = request.open(self._call)

    def _read_timeout(self) -> None:
        """`tidegate-timeout` lowers the total clock, never raises it."""
        given = self._headers.get(b"tidegate-timeout")
        if given is None:
            return
        try:
            self._total_s = Duration.parse(given.decode("latin-1")).seconds()
        except ValueError as error:
            raise errors.InvalidRequest(
                f"The header 'tidegate-timeout' must be {error}.", code="invalid_timeout"
            ) from None

    # -- attempt ------------------------------------------------------------------------------------------------

    def _next_attempt(self) -> None:
        path = self._plan[self._step]
        self._step += 1
        request = self._request
        assert request is not None
        body = request.forward(path.destination)
        stream = self._stream
        self._path = path
        self._attempts += 1
        self._status = 0
        self._collected = None
        self._collected_bytes = 0
        self._retry_after = None
        self._limits = b""
        self._heard = False
        if stream is not None:
            stream.attempt(path.destination)
        given = path.clocks if stream is not None else path.unstreamed
        self._attempt = Attempt(
            path.upstream.pool,
            self._gateway.loop,
            path.upstream.request(self._dialect.name, body, stream=stream is not None, model=path.destination.model),
            self,
            self._clocks(given.connect, given.first_event, given.idle, given.total),
            wait_for_event=stream is not None,
        )
        self._attempt.start()

    def _clocks(self, connect: float, first_event: float | None, idle: float | None, total: float | None) -> Clocks:
        """All attempts share one total clock: it starts with the request."""
        if self._total_s is not None and (total is None or self._total_s < total):
            total = self._total_s
        total_at = None if total is None else self._received_at + total
        return Clocks(connect=connect, first_event=first_event, idle=idle, total_at=total_at, total_s=total)

    def _drop_attempt(self) -> None:
        if self._attempt is not None:
            self._attempt.abort()
            self._attempt = None

    # -- what the upstream says ---------------------------------------------------------------------------------

    def upstream_head(self, status: int, headers: Headers) -> None:
        try:
            self._read_head(status, headers)
        except Exception as bug:
            self._on_bug(bug)

    def _read_head(self, status: int, headers: Headers) -> None:
        self._status = status
        content_type = b""
        limits: list[bytes] = []
        room = RATE_LIMIT_FIELDS_BYTES
        for name, value in headers:
            if name == b"content-type":
                content_type = value
            elif name.startswith(b"x-ratelimit-"):
                room -= len(name) + len(value)
                if room > 0:
                    limits.append(b"x-upstream-%b: %b\r\n" % (name[2:], value))
            elif name == b"retry-after" and self._retry_after is None:
                self._retry_after = _retry_after(value)
            elif name == b"retry-after-ms" and (exact := _milliseconds(value)) is not None:
                self._retry_after = exact
        self._limits = b"".join(limits)
        # An answer without content type, or with an odd one, is still read as the stream that was asked for; only JSON
        # and HTML are certainly none.
        plain = content_type.startswith((b"application/json", b"text/html", b"application/problem+json"))
        if status != 200 or self._stream is None or plain:
            self._collected = []
        if self._paused and self._attempt is not None:
            self._attempt.pause()

    def upstream_body(self, data: bytes) -> None:
        if self._collected is not None:
            self._collect(data)
            return
        stream = self._stream
        attempt = self._attempt
        if stream is None or attempt is None:
            return
        try:
            if not self._heard:
                self._heard = True  # pings count: whoever sends them is there, and from now on the idle clock runs
                attempt.saw_event()
            out = stream.feed(data)
            if stream.outcome is not None:
                self._on_outcome(stream.outcome, out)
            elif out:
                if self._started:
                    self._downstream.write(out)
                else:
                    self._start(out)
                if stream.committed:
                    self._request = None  # no other attempt will need it, and it may be large
        except errors.WireError as error:
            self._on_failure(errors.UpstreamBroken(f"Provider '{self._provider}': {error}"))
        except Exception as bug:
            self._on_bug(bug)

    def upstream_end(self) -> None:
        try:
            if self._collected is not None or self._stream is None:
                self._on_collected()
                return
            out = self._stream.eof()
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

    # -- relay --------------------------------------------------------------------------------------------------

    def _start(self, first: bytes) -> None:
        self._started = True
        self._first_event_at = time.perf_counter()
        self._downstream.start(self._fields(), first)
        self._gateway.wheel.watch(self, self._gateway.loop.time() + self._ping_after)
        if self._paused and self._attempt is not None:
            self._attempt.pause()

    @property
    def _ping_after(self) -> float:
        return float(self._snapshot.config.server.stream_ping)

    def check(self, now: float) -> float | None:
        """The wheel's look: a client that has heard nothing for a while gets a keep-alive (see `Watched`).

        Silence is measured at the upstream connection, which notes the time of each read anyway.
        """
        attempt = self._attempt
        if self._settled or attempt is None or self._stream is None:
            return None
        due = attempt.last_read + self._ping_after
        if now < due:
            return due
        if not self._paused:
            self._downstream.write(self._stream.ping())
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
        self._usage = self._stream.usage()
        if self._attempt is not None:
            self._attempt.release()
            self._attempt = None
        if not self._started:
            self._start(out)
            out = b""
        self._settle(200, outcome.status)
        self._downstream.end(out)

    def _on_failure(self, error: errors.TidegateError) -> None:
        """An attempt failed. Before the commit point the next deployment may answer; after it the client is told."""
        self._drop_attempt()
        if self._path is not None:
            error.redact(self._path.upstream.redacted)
        committed = self._stream is not None and self._stream.committed
        out_of_time = isinstance(error, errors.UpstreamTimeout) and error.clock == "total"
        while (
            self._step < len(self._plan) and error.may_retry and not committed and not out_of_time and not self._settled
        ):
            if self._stream is not None:
                self._stream.outcome = None
            try:
                self._next_attempt()
                return
            except errors.CallerError:
                continue  # this deployment cannot honour the request; what went wrong is still the first failure
        self._break(error)

    def _break(self, error: errors.TidegateError) -> None:
        self._drop_attempt()
        if not self._started:
            self._refuse(error)
            return
        assert self._stream is not None
        out = self._stream.fail(error)
        self._usage = self._stream.usage()
        self._settle(200, "failed", error.code or "")
        self._downstream.end(out)

    # -- answers in one body ------------------------------------------------------------------------------------

    def _collect(self, data: bytes) -> None:
        assert self._collected is not None
        self._collected.append(data)
        self._collected_bytes += len(data)
        limit = ANSWER_LIMIT if self._status == 200 else ERROR_LIMIT
        if self._collected_bytes <= limit:
            return
        if self._status == 200:
            self._on_failure(
                errors.UpstreamBroken(f"Provider '{self._provider}' sent more than {limit} bytes in one answer.")
            )
        else:
            self._on_failure(self._error_of_status(b""))

    def _on_collected(self) -> None:
        body = b"".join(self._collected or ())
        self._collected = None
        assert self._request is not None
        assert self._call is not None
        assert self._path is not None
        self._attempt = None
        if self._status != 200:
            self._on_failure(self._error_of_status(body))
            return
        if self._stream is not None:
            error = from_status(500, body, self._provider)
            self._on_failure(
                errors.UpstreamBroken(
                    f"Provider '{self._provider}' answered with a body that is no event stream although a stream was "
                    f"asked for. {error.message}"
                )
            )
            return
        try:
            answer = self._request.complete(body, self._call, self._path.destination)
        except errors.WireError as error:
            self._on_failure(errors.UpstreamBroken(f"Provider '{self._provider}': {error}."))
        except errors.TidegateError as error:
            self._on_failure(error)
        else:
            self._respond(answer)

    def _error_of_status(self, body: bytes) -> errors.TidegateError:
        if 200 <= self._status < 400:
            what = "no answer to this request" if self._status < 300 else "a redirect; redirects are not followed"
            return errors.UpstreamBroken(
                f"Provider '{self._provider}' answered with status {self._status}, which is {what}."
            )
        return from_status(self._status, body, self._provider, self._retry_after)

    def _respond(self, answer: Answer) -> None:
        self._usage = answer.usage
        self._first_event_at = time.perf_counter()
        fields = self._fields()
        if answer.usage.estimated:
            fields += b"tidegate-usage: estimated\r\n"
        self._settle(200, answer.status)
        self._downstream.respond(200, fields, answer.body)

    # -- settle -------------------------------------------------------------------------------------------------

    def _refuse(self, error: errors.TidegateError) -> None:
        """Nothing has been sent yet: the error is the answer."""
        self._drop_attempt()
        self._settle(error.http_status, "refused" if error.fault == "caller" else "failed", error.code or "")
        self._downstream.refuse(error, self._fields())

    def _on_bug(self, bug: Exception) -> None:
        """Our own mistake must not look like a parser error, and must not hang: it is logged and told as a 500."""
        self._gateway.log.error("exchange_failed", exc_info=bug, request_id=self.request_id.decode("latin-1"))
        self._drop_attempt()
        if not self._settled:
            self._break_quietly(errors.Internal("The gateway failed on this request; its log has the details."))

    def _break_quietly(self, error: errors.Internal) -> None:
        try:
            self._break(error)
        except Exception:
            self._gateway.log.exception("ending_failed", request_id=self.request_id.decode("latin-1"))
            self._settle(500, "failed", error.code or "")
            self._downstream.drop()  # a clean end would pass for a finished answer

    def _settle(self, status: int, ending: str, error: str = "") -> None:
        """Exactly once for each request, whatever happened."""
        if self._settled:
            return
        self._settled = True
        self._gateway.exchanges.discard(self)
        self._gateway.wheel.forget(self)
        try:
            self._record(status, ending, error)
        except Exception as bug:
            # A mistake in the books must not keep the answer from the client.
            self._gateway.log.error("exchange_failed", exc_info=bug, request_id=self.request_id.decode("latin-1"))

    def _record(self, status: int, ending: str, error: str) -> None:
        gateway = self._gateway
        now = time.perf_counter()
        if ending == "client_gone":
            self._usage = self._partial_usage()
        usage = self._usage
        path = self._path
        first = self._first_event_at
        gateway.settle(
            UsageEntry(
                request_id=self.request_id.decode("latin-1"),
                endpoint=self._dialect.name,
                status=status,
                ending=ending,
                duration_ms=round((now - self._started_at) * 1000, 3),
                first_event_ms=round((first - self._started_at) * 1000, 3) if first else None,
                stream=self._stream is not None,
                key=self._principal.key,
                project=self._principal.project,
                end_user=self._end_user,
                model=self._model,
                deployment=path.name.decode("ascii") if path is not None else "",
                attempts=self._attempts,
                input_tokens=usage.input_tokens,
                cached_tokens=usage.cached_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                output_tokens=usage.output_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                estimated=usage.estimated,
                error=error,
                client=self.client,
            ),
            path.destination.provider if path is not None else "",
        )

    def _partial_usage(self) -> Usage:
        """What a call has used up that nobody waited for: the provider will charge for it all the same."""
        if self._stream is not None and self._started:
            return self._stream.usage()
        if self._attempts == 0 or self._call is None:
            return _NO_USAGE
        return estimated_usage(self._call.request_bytes, self._collected_bytes if self._status == 200 else 0)

    @property
    def _provider(self) -> str:
        return self._path.destination.provider if self._path is not None else ""

    def _fields(self) -> bytes:
        """Our own response headers."""
        if self._path is None or self._call is None:
            return b""
        return (
            b"tidegate-deployment: %b\r\ntidegate-attempts: %d\r\ntidegate-profile: %b\r\nopenai-processing-ms: %d\r\n%b"
            % (
                self._path.name,
                self._attempts,
                self._call.profile.name.encode("ascii"),
                (time.perf_counter() - self._started_at) * 1000,
                self._limits,
            )
        )


def _unix_time() -> int:
    return int(time.time())


def _milliseconds(value: bytes) -> float | None:
    try:
        return _capped(float(value) / 1000)
    except ValueError:
        return None


def _retry_after(value: bytes) -> float | None:
    """Seconds, or a date (RFC 9110 §10.2.3); None for what is neither. Capped at an hour, never negative."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value.decode("latin-1")).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return None
    return _capped(seconds)


def _capped(seconds: float) -> float | None:
    return None if math.isnan(seconds) else min(max(0.0, seconds), RETRY_AFTER_LIMIT_S)
