"""Limits as the engines see them: which amounts are held against which limits, and what a caller is told.

An engine (:mod:`tidegate.access.memory`, :mod:`tidegate.access.valkey`) makes a :class:`Gate` of the scopes that a
request counts against. The gate reserves an amount of each kind before the request is sent on, in all scopes and windows
or in none, and the reservation is settled once to what was really used.
"""

import math
from collections import Counter
from collections.abc import Coroutine, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from tidegate.access.scopes import Scope
from tidegate.storage.records import Usage
from tidegate.wire.errors import BudgetExhausted, RateLimited

__all__ = [
    "COST",
    "KINDS",
    "LARGEST",
    "NANO",
    "REQUESTS",
    "SLOT_S",
    "STREAMS",
    "TOKENS",
    "WINDOW_S",
    "Books",
    "Clock",
    "Gate",
    "Kind",
    "Limiter",
    "Reservation",
    "Rule",
    "Standing",
    "Used",
    "Violation",
    "Window",
    "dollars",
    "duration",
    "limit_fields",
    "limit_line",
    "long_duration",
    "refusal",
    "rules_of",
    "standing",
    "worst",
]

Kind = Literal["requests", "tokens", "cost", "streams"]
Window = Literal["minute", "day", "month", ""]

KINDS: Final[tuple[Kind, ...]] = ("requests", "tokens", "cost", "streams")
REQUESTS, TOKENS, COST, STREAMS = range(4)
"""Places in :data:`KINDS`, and of the amounts of a request."""

NANO: Final = 1_000_000_000
"""Money is counted in nano-dollars inside."""

SLOT_S: Final = 1
WINDOW_S: Final = 60
"""The running minute is counted in slots of a second. A slot counts until none of it lies within the last minute."""

HELD_RETRY_S: Final = 1.0
"""After what time is worth asking again when only requests under way stand in the way: they may end at any moment."""

LARGEST: Final = 2**62
"""What is beyond it limits nobody."""

Used = tuple[int, int, int]
"""Requests, tokens and nano-dollars."""


class Clock(Protocol):
    """Time as the engines want it. Durations never jump; calendar windows follow the wall."""

    def monotonic(self) -> float:
        """Seconds of a clock that never jumps."""

    def wall(self) -> float:
        """Unix time in seconds."""


class Books(Protocol):
    """Where the use of a day or a month stands that a process has not counted itself."""

    async def used(self, scope: Scope, since: float, before: float) -> Used:
        """What the ledger holds of the requests that were admitted between two Unix times. Raises StorageUnavailable."""


class Rule(NamedTuple):
    """One limit of one scope."""

    scope: Scope
    kind: int
    window: Window
    limit: int
    """In whole requests or tokens, or in nano-dollars."""


class Violation(NamedTuple):
    """A rule that stands in the way of a request."""

    rule: Rule
    used: int
    """Together with what requests under way have reserved."""
    held: int
    """That part of `used` which they may give back."""
    asked: int
    wait_s: float
    """Until the request would pass; infinite where it never can."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How one limit stands."""

    level: str
    id: str
    name: str
    kind: Kind
    window: Window
    limit: int
    used: int
    """What is settled."""
    reserved: int
    """What requests under way may use at most."""
    reset_s: float
    """Until a day or month ends; of a minute until nothing that counts now counts any more, 0 where nothing does."""
    alone: bool = False
    """The server in which gateways count together does not answer: these are the figures of this gateway, and the limit is
    its share."""

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used - self.reserved)


def standing(rule: Rule, used: int, reserved: int, reset_s: float) -> Standing:
    """How a rule stands."""
    return Standing(
        level=rule.scope.level,
        id=rule.scope.id,
        name=rule.scope.name or rule.scope.id,
        kind=KINDS[rule.kind],
        window=rule.window,
        limit=rule.limit,
        used=used,
        reserved=reserved,
        reset_s=reset_s,
    )


class Reservation(Protocol):
    """What one request may use."""

    def settle(self, tokens: int, cost_nano: int | None, *, requests: int = 1) -> None:
        """The request has ended and has used so much. The first call counts. A cost that is not known leaves what was
        reserved for it; what goes beyond the reservation is charged in full. Without `requests` nothing was sent on, and
        it counts for none."""

    def fields(self) -> bytes:
        """The header lines that tell the client how its limits stand."""


class Gate(Protocol):
    """What the requests of one caller have to pass."""

    tokens: bool
    """Whether tokens are counted, so that the caller of `reserve` has to say how many there may be."""
    cost: bool

    def reserve(self, tokens: int, cost_nano: int) -> "Reservation | Coroutine[Any, Any, Reservation]":
        """Admit one request that may use so much. Raises RateLimited and BudgetExhausted, here or when awaited."""

    def more(self, cost_nano: int) -> "Reservation | Coroutine[Any, Any, Reservation]":
        """Set aside more cost for a request that was admitted, and counts as one all the same. Raises as `reserve` does."""


class Limiter(Protocol):
    """An engine."""

    def gate(self, scopes: tuple[Scope, ...], end_user: Scope | None = None) -> Gate:
        """The gate for requests that count against `scopes`, and against those of one end user. Raises Overloaded when
        no more end users can be told apart."""

    async def standings(self, scopes: Sequence[Scope]) -> list[Standing]:
        """How every limit of these scopes stands. Raises LimitsUnavailable where nobody can tell."""

    async def end_users(self, most: int) -> list[str]:
        """The ids of end users of whom something is counted, at most so many."""

    def unlimited(self, level: str, id: str) -> None:  # noqa: A002
        """What is used from now on is not counted: this one has no limits any more."""

    def interrupted(self, usages: Sequence[Usage]) -> None:
        """The ledger has settled these requests of a process that is gone. Until then it had what was estimated when they
        were admitted, and budgets may have begun with that."""

    def forget_gates(self) -> None:
        """Keys and configuration are others now: whoever comes has other scopes."""

    @property
    def open(self) -> int:
        """Reservations that are not settled."""

    refused: Counter[tuple[str, str]]
    """How many requests were refused, by level and kind."""

    async def close(self) -> None: ...


def rules_of(scope: Scope) -> list[Rule]:
    """Every limit of a scope. Fractions of a request, a token or a nano-dollar are no use to anybody."""
    limits = scope.limits
    found = []
    for kind, windows, unit in ((REQUESTS, limits.requests, 1), (TOKENS, limits.tokens, 1), (COST, limits.cost, NANO)):
        each: tuple[tuple[Window, float | None], ...] = (
            ("minute", windows.minute),
            ("day", windows.day),
            ("month", windows.month),
        )
        for window, limit in each:
            if limit is not None:
                found.append(Rule(scope, kind, window, min(LARGEST, math.floor(min(limit, LARGEST) * unit + 1e-6))))
    if limits.streams is not None:
        found.append(Rule(scope, STREAMS, "", limits.streams))
    return found


def dollars(nano: int) -> str:
    """An amount of money as people write it, without rounding anything away."""
    text = f"{nano // NANO}.{nano % NANO:09d}"
    return f"${text[:-7]}{text[-7:].rstrip('0')}"


def duration(seconds: float) -> str:
    """A length of time in the form of OpenAI's headers, such as `6m0s` or `120ms`."""
    milliseconds = max(0, math.ceil(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    whole = math.ceil(milliseconds / 1000)
    hours, rest = divmod(whole, 3600)
    minutes, whole = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{whole}s"
    return f"{minutes}m{whole}s" if minutes else f"{whole}s"


def long_duration(seconds: float) -> str:
    """A length of time for people: what takes a day or more is in days and hours."""
    if seconds < 24 * 3600:
        return duration(seconds)
    days, hours = divmod(math.ceil(seconds / 3600), 24)
    return f"{days}d{hours}h" if hours else f"{days}d"


def _reset(seconds: float) -> bytes:
    """The same for a header. What is over a second is rounded up to whole ones, so that there are few of them."""
    return duration(seconds).encode("ascii") if seconds < 1 else _whole_duration(math.ceil(seconds))


@lru_cache(maxsize=4096)
def _whole_duration(seconds: int) -> bytes:
    return duration(seconds).encode("ascii")


_TOLD: Final = {REQUESTS: b"requests", TOKENS: b"tokens"}


def limit_line(kind: int, limit: int, reset_s: float) -> bytes:
    """The `x-ratelimit-*` lines of one kind, with a place (`%d`) for what remains: limit, and seconds until all of it is
    back."""
    name = _TOLD[kind]
    return b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %b\r\n" % (
        name,
        limit,
        name,
        name,
        _reset(reset_s),
    )


def limit_fields(tightest: Sequence[tuple[int, int, float] | None]) -> bytes:
    """The lines for requests and tokens: limit, what remains, and seconds until all of it is back, each of the limit that
    leaves least; None where there is no limit."""
    return b"".join(
        limit_line(kind, limit, reset_s) % max(0, remaining)
        for kind, found in zip(_TOLD, tightest, strict=True)
        if found is not None
        for limit, remaining, reset_s in (found,)
    )


def worst(violations: Sequence[Violation]) -> Violation:
    """Of all that stands in the way what lasts longest."""
    return max(violations, key=lambda violation: (violation.wait_s, violation.rule.kind))


def refusal(one: Violation, fields: bytes) -> RateLimited | BudgetExhausted:
    """What a caller is told whose request may not pass now, with the header lines that say how its limits stand."""
    rule = one.rule
    kind = KINDS[rule.kind]
    limits = "end_user_limits" if rule.scope.level == "end_user" else "limits"
    whose = rule.scope.shown
    if not rule.limit and rule.kind != COST:
        setting = f"{limits}.streams" if rule.kind == STREAMS else f"{limits}.{kind}.{rule.window}"
        return RateLimited(
            f"The limit of {whose} lets no request pass: {setting} is 0.",
            kind="requests" if rule.kind == STREAMS else kind,
            fields=fields,
        )
    if rule.kind == STREAMS:
        return RateLimited(
            f"Rate limit reached for {whose} on requests under way at once ({limits}.streams): "
            f"limit {rule.limit}, under way {one.used}. Send the request again when one of them has ended.",
            kind="requests",
            retry_after=None if math.isinf(one.wait_s) else one.wait_s,
            fields=fields,
            busy=None if math.isinf(one.wait_s) else (rule.scope.level, rule.scope.id),
        )
    shown = dollars if rule.kind == COST else str
    figures = f"limit {shown(rule.limit)}, used {shown(one.used - one.held)}"
    if one.held:
        figures += f", reserved by requests under way {shown(one.held)}"
    figures += f", this request may use {shown(one.asked)}"
    setting = f"{limits}.{kind}.{rule.window}"
    never = math.isinf(one.wait_s)
    waits_for_others = one.used - one.held + one.asked <= rule.limit
    if rule.kind == COST and rule.window != "minute" and not waits_for_others:
        until = "" if never else f" It is renewed in {long_duration(one.wait_s)}."
        return BudgetExhausted(
            f"The budget of {whose} does not allow this request: cost per {rule.window} ({setting}): {figures}.{until}",
            retry_after=None if never else one.wait_s,
            fields=fields,
        )
    if never:
        return RateLimited(
            f"The request is too large for {whose} on {kind} per {rule.window} ({setting}): {figures}. "
            "Make it smaller, or lower its maximum of output tokens.",
            kind=kind,
            fields=fields,
        )
    return RateLimited(
        f"Rate limit reached for {whose} on {kind} per {rule.window} ({setting}): {figures}. "
        f"Please try again in {duration(one.wait_s)}.",
        kind=kind,
        retry_after=one.wait_s,
        fields=fields,
    )
