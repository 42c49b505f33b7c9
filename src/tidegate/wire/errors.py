"""The errors that a client can be told about.

    TidegateError
    ├── CallerError                 the request is at fault
    │   ├── InvalidRequest          400
    │   │   ├── UnsupportedParameter
    │   │   └── AmbiguousRequest    400, framing that two servers could read differently (RFC 9112 §11.2)
    │   ├── InvalidKey              401
    │   ├── Forbidden               403
    │   ├── NotFound                404
    │   │   └── ModelNotFound
    │   ├── MethodNotAllowed        405
    │   ├── RequestTimeout          408
    │   ├── Conflict                409
    │   ├── BodyTooLarge            413
    │   ├── TargetTooLong           414
    │   ├── UnsupportedEncoding     415
    │   ├── ExpectationFailed       417
    │   ├── IdempotencyConflict     422
    │   ├── UpgradeRefused          426
    │   │   └── WebSocketVersion
    │   ├── QueueFull               429, too many requests wait on one connection
    │   ├── StorageQuotaExceeded    429, a key has stored what it may
    │   ├── RateLimited             429, a limit of requests, tokens, cost or streams is reached
    │   ├── BudgetExhausted         429, a budget has no room for the request
    │   ├── CostUnbounded           403, nobody can say what the request may cost, and a budget must know
    │   ├── TooManyFailures         429, an address came too often without a known key
    │   ├── HeadersTooLarge         431
    │   └── ClientGone              499, never sent, only recorded
    │       └── Cancelled
    ├── ProviderError               the provider, or the way to it, is at fault
    │   ├── UpstreamUnreachable     502
    │   ├── UpstreamBroken          502
    │   │   └── UpstreamRedirected
    │   ├── UpstreamAuth            502
    │   │   └── UpstreamDenied      502, the credential is good, but not for this model, or not from here
    │   ├── UpstreamFailed          502, 503, or the status that the answer maps to
    │   ├── UpstreamRateLimited     429
    │   └── UpstreamTimeout         504, names the clock
    └── GatewayError                we are at fault
        ├── Internal                500
        ├── ShuttingDown            503
        ├── Overloaded              503
        ├── StorageUnavailable      503
        ├── OwnerSilent             503
        ├── LimitsUnavailable       503
        └── InsufficientStorage     507

Every class fixes the HTTP status, the OpenAI `type` and `code`, the Anthropic type, whether another attempt may help,
and whose fault it is. `WireError` stands outside: it says that bytes were not what a dialect promises; the gateway
turns it into an `UpstreamBroken`.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from tidegate.wire import jsonio

__all__ = [
    "AmbiguousRequest",
    "BodyTooLarge",
    "BudgetExhausted",
    "CallerError",
    "Cancelled",
    "ClientGone",
    "Conflict",
    "CostUnbounded",
    "ExpectationFailed",
    "Forbidden",
    "GatewayError",
    "HeadersTooLarge",
    "IdempotencyConflict",
    "InsufficientStorage",
    "Internal",
    "InvalidKey",
    "InvalidRequest",
    "LimitsUnavailable",
    "MethodNotAllowed",
    "ModelNotFound",
    "NotFound",
    "Overloaded",
    "OwnerSilent",
    "ProviderError",
    "QueueFull",
    "RateLimited",
    "RequestTimeout",
    "ShuttingDown",
    "StorageQuotaExceeded",
    "StorageUnavailable",
    "TargetTooLong",
    "TidegateError",
    "TooManyFailures",
    "UnsupportedEncoding",
    "UnsupportedParameter",
    "UpgradeRefused",
    "UpstreamAuth",
    "UpstreamBroken",
    "UpstreamDenied",
    "UpstreamFailed",
    "UpstreamRateLimited",
    "UpstreamRedirected",
    "UpstreamTimeout",
    "UpstreamUnreachable",
    "WebSocketVersion",
    "WireError",
]

Fault = Literal["caller", "provider", "gateway"]

_SDKS_RETRY = frozenset({409, 429})
"""Statuses below 500 that the official SDKs repeat by themselves (protocol §1.8), but for 408, where they should."""


class WireError(ValueError):
    """Bytes that are not what the dialect says. The only exception that a stream decoder raises."""


class TidegateError(Exception):
    """Base of everything that a client can be told.

    `message` is for the caller: what was wrong, where, and what would be right. `param` names the request member.
    `retry_after` is in seconds. `details` is an object that programs read, where the client's API has one. Instances may
    narrow the class's `code`, and the status where a provider's own
    status is passed on.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    anthropic_type: ClassVar[str] = "api_error"
    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "gateway"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.param = param
        self.code = code if code is not None else self.default_code
        self.retry_after = retry_after

    @property
    def http_status(self) -> int:
        return self.status

    @property
    def openai_type(self) -> str:
        return self.type

    @property
    def may_retry(self) -> bool:
        """Whether another deployment, or the same one later, may answer the same request."""
        return self.retryable

    @property
    def refuses(self) -> bool:
        """Whether the request is at fault, by our own judgement or by the provider's."""
        return self.fault == "caller"

    def redact(self, clean: Callable[[str], str]) -> None:
        """Pass every text that a provider may have written through `clean`."""
        self.message = clean(self.message)
        self.param = None if self.param is None else clean(self.param)
        self.code = None if self.code is None else clean(self.code)
        if self.details is not None:
            self.details = jsonio.anything(clean(jsonio.encode(self.details).decode()).encode())

    def body(self) -> bytes:
        """The OpenAI envelope: always these four keys (protocol: error object)."""
        return jsonio.encode(
            {
                "error": {
                    "message": self.message,
                    "type": self.openai_type,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Response headers that belong to the error.

        `x-should-retry` is what the official SDKs obey before the status: without it they would repeat a 502, or an
        exhausted quota, that cannot get better.
        """
        result: list[tuple[bytes, bytes]] = []
        if self.retry_after is not None and math.isfinite(self.retry_after):
            result.append((b"retry-after", b"%d" % max(0, math.ceil(self.retry_after))))
        if not self.may_retry and (self.http_status >= 500 or self.http_status in _SDKS_RETRY):
            result.append((b"x-should-retry", b"false"))
        return result


class CallerError(TidegateError):
    """The request is at fault; repeating it unchanged cannot help."""

    status = 400
    type = "invalid_request_error"
    anthropic_type = "invalid_request_error"
    fault: ClassVar[Fault] = "caller"


class InvalidRequest(CallerError):
    """400: malformed, missing, of the wrong type or out of range. `param` says which member."""


class UnsupportedParameter(InvalidRequest):
    """400: a member that is legal in the dialect but that the chosen provider cannot honour."""

    default_code = "unsupported_parameter"


class AmbiguousRequest(InvalidRequest):
    """400: HTTP framing that two servers could read differently; the connection is closed."""

    default_code = "ambiguous_request"


class InvalidKey(CallerError):
    """401: no key, or one that we do not know."""

    status = 401
    default_code = "invalid_api_key"
    anthropic_type = "authentication_error"

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"www-authenticate", b"Bearer")]


class Forbidden(CallerError):
    """403: known, but not allowed to do this."""

    status = 403
    default_code = "forbidden"
    anthropic_type = "permission_error"


class NotFound(CallerError):
    """404: no such path or object."""

    status = 404
    default_code = "not_found"
    anthropic_type = "not_found_error"


class ModelNotFound(NotFound):
    """404: no deployment answers to this model name."""

    default_code = "model_not_found"


class MethodNotAllowed(CallerError):
    """405: the path exists, the method does not."""

    status = 405
    default_code = "method_not_allowed"

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"allow", self.allowed.encode("ascii"))]


class RequestTimeout(CallerError):
    """408: the client was too slow in sending its request."""

    status = 408
    default_code = "request_timeout"
    anthropic_type = "timeout_error"


class Conflict(CallerError):
    """409: what is there stands against what was asked."""

    status = 409
    default_code = "conflict"


class BodyTooLarge(CallerError):
    """413: the body is over the cap."""

    status = 413
    default_code = "body_too_large"
    anthropic_type = "request_too_large"


class TargetTooLong(CallerError):
    """414: the request target is over the cap (RFC 9112 §3 demands this status)."""

    status = 414
    default_code = "target_too_long"


class UnsupportedEncoding(CallerError):
    """415: a compressed request body."""

    status = 415
    default_code = "unsupported_content_encoding"


class ExpectationFailed(CallerError):
    """417: an expectation other than `100-continue` (RFC 9110 §10.1.1)."""

    status = 417
    default_code = "expectation_failed"


class UpgradeRefused(CallerError):
    """426: a WebSocket was asked for where only HTTP is spoken. Codex takes it as the sign to go on with POST.

    The status demands the header `upgrade` with what would be right (RFC 9110 §15.5.22).
    """

    status = 426
    default_code = "websocket_not_offered"

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade")]


class WebSocketVersion(UpgradeRefused):
    """426: a WebSocket of a version that nobody speaks any more; the header says which one is (RFC 6455 §4.2.2)."""

    default_code = "websocket_version_not_supported"

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            *CallerError.headers(self),
            (b"upgrade", b"websocket"),
            (b"sec-websocket-version", b"13"),
            (b"connection", b"upgrade"),
        ]


class QueueFull(CallerError):
    """429: as many requests wait on the connection as may."""

    status = 429
    default_code = "too_many_pending_requests"
    anthropic_type = "rate_limit_error"


class HeadersTooLarge(CallerError):
    """431: the header block is over the cap (RFC 6585 §5)."""

    status = 431
    default_code = "headers_too_large"


class IdempotencyConflict(CallerError):
    """422: an idempotency key stands for another request."""

    status = 422
    default_code = "idempotency_key_reused"


class StorageQuotaExceeded(CallerError):
    """429: a key has as much in store as it may have. Waiting does not help."""

    status = 429
    type = "insufficient_quota"
    default_code = "storage_quota_exceeded"


def _lines(fields: bytes) -> list[tuple[bytes, bytes]]:
    lines = (line.partition(b": ") for line in fields.split(b"\r\n") if line)
    return [(name, value) for name, _, value in lines]


RETRY_WORTH_S = 120.0
"""The longest wait that the official SDKs sit out (protocol §1.8)."""


class RateLimited(CallerError):
    """429: a limit of ours is reached. `kind` is what there is too much of, and the `type` that OpenAI gives. Without
    `retry_after` the request can never pass as it is."""

    status = 429
    default_code = "rate_limit_exceeded"
    anthropic_type = "rate_limit_error"

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        fields: bytes,
        retry_after: float | None = None,
        busy: tuple[str, str] | None = None,
    ) -> None:
        """`fields` are header lines that say how the caller's limits stand. `busy`: level and id of whom only requests
        under way stand in the way, so that there is room as soon as one ends."""
        super().__init__(message, retry_after=retry_after)
        self.kind = kind
        self.fields = fields
        self.busy = busy

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), *_lines(self.fields)]

    @property
    def openai_type(self) -> str:
        return self.kind

    @property
    def may_retry(self) -> bool:
        return self.retry_after is not None and self.retry_after <= RETRY_WORTH_S


class BudgetExhausted(CallerError):
    """429: a budget of ours has no room for the request."""

    status = 429
    type = "insufficient_quota"
    default_code = "insufficient_quota"
    anthropic_type = "rate_limit_error"

    def __init__(self, message: str, *, fields: bytes, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.fields = fields

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), *_lines(self.fields)]


class CostUnbounded(CallerError):
    """403: a budget holds for the caller, and nobody can say what the request may cost at most: the configuration lacks a
    price or a maximum. The message names what to add."""

    status = 403
    default_code = "cost_unbounded"
    anthropic_type = "permission_error"


class TooManyFailures(CallerError):
    """429: an address came too often without a key that is known."""

    status = 429
    type = "rate_limit_error"
    default_code = "too_many_unknown_keys"
    anthropic_type = "rate_limit_error"


class ClientGone(CallerError):
    """499: the client left before the answer was complete. Recorded, never sent."""

    status = 499
    default_code = "client_gone"


class Cancelled(ClientGone):
    """499: the caller wants the answer no more, and said so. Recorded, never sent."""

    default_code = "cancelled"


class ProviderError(TidegateError):
    """The provider, or the network on the way to it, is at fault."""

    status = 502
    type = "server_error"
    retryable = True
    fault: ClassVar[Fault] = "provider"


class UpstreamUnreachable(ProviderError):
    """502: no connection: refused, name not resolved, TLS not trusted, proxy refused."""

    default_code = "upstream_unreachable"


class UpstreamBroken(ProviderError):
    """502: the answer was cut, or is not what the dialect promises."""

    default_code = "upstream_broken"


class UpstreamRedirected(UpstreamBroken):
    """502: the status is neither a success nor an error, most likely a redirect; the same address will say the same."""


class UpstreamAuth(ProviderError):
    """502: the provider refused *our* credential. The caller's key is not at fault."""

    default_code = "upstream_auth"
    retryable = False


class UpstreamDenied(UpstreamAuth):
    """502: the provider knows our credential, and still does not answer. `what` it denies: this `model` to this credential,
    or anything to the `place` that the gateway calls from."""

    default_code = "upstream_denied"

    def __init__(self, message: str, what: Literal["model", "place"]) -> None:
        super().__init__(message)
        self.what = what


class UpstreamTimeout(ProviderError):
    """504: one of the clocks fired. `clock` is connect, first_event, idle or total."""

    status = 504
    default_code = "upstream_timeout"
    anthropic_type = "timeout_error"

    def __init__(self, message: str, clock: str) -> None:
        super().__init__(message)
        self.clock = clock


class UpstreamRateLimited(ProviderError):
    """429: the provider's limit, passed on with its Retry-After."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"
    anthropic_type = "rate_limit_error"


class UpstreamFailed(ProviderError):
    """An error answer of the provider, passed on with the status and type that it maps to."""

    default_code = "server_error"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str,  # noqa: A002 - the wire's own name
        retryable: bool,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.code = code
        self._status = status
        self._type = type
        self._retryable = retryable

    @property
    def http_status(self) -> int:
        return self._status

    @property
    def openai_type(self) -> str:
        return self._type

    @property
    def may_retry(self) -> bool:
        return self._retryable

    @property
    def refuses(self) -> bool:
        return 400 <= self._status < 500 and self._status != 429  # that one is about our quota


class GatewayError(TidegateError):
    """We are at fault."""


class Internal(GatewayError):
    """500: a bug of ours. The message never holds details; the log does."""

    default_code = "internal_error"


class ShuttingDown(GatewayError):
    """503: draining. Another gateway, or this one when it has been started again, answers the same request."""

    status = 503
    default_code = "gateway_shutting_down"
    retryable = True

    def __init__(
        self,
        message: str = "The gateway is shutting down; send the request again.",
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = 1.0,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, retry_after=retry_after, details=details)


class Overloaded(GatewayError):
    """503: a cap of ours is reached."""

    status = 503
    default_code = "gateway_overloaded"
    anthropic_type = "overloaded_error"
    retryable = True


class StorageUnavailable(GatewayError):
    """503: the gateway's own database does not answer, and what was asked needs it."""

    status = 503
    default_code = "storage_unavailable"
    anthropic_type = "overloaded_error"
    retryable = True


class OwnerSilent(GatewayError):
    """503: the gateway that gives the answer does not react; it may be dead, and then others end what it ran."""

    status = 503
    default_code = "owner_silent"
    anthropic_type = "overloaded_error"
    retryable = True


class LimitsUnavailable(GatewayError):
    """503: what was used so far cannot be found out, and the configuration says to refuse then."""

    status = 503
    default_code = "limits_unavailable"
    anthropic_type = "overloaded_error"
    retryable = True


class InsufficientStorage(GatewayError):
    """507: an upload cannot be kept, or read again (RFC 4918 §11.5). Sending it again at once would not help."""

    status = 507
    default_code = "insufficient_storage"
