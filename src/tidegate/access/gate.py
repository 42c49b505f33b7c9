"""The gate that a caller's requests pass, where limits are counted in this process."""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tidegate.access.limits import (
    COST,
    HELD_RETRY_S,
    KINDS,
    LARGEST,
    REQUESTS,
    SLOT_S,
    STREAMS,
    TOKENS,
    Rule,
    Used,
    Violation,
    limit_line,
    refusal,
    rules_of,
    worst,
)
from tidegate.access.meters import Calendar, Cell, Counts, Meter, Minute
from tidegate.access.scopes import Scope
from tidegate.wire.errors import LimitsUnavailable, TidegateError

if TYPE_CHECKING:
    from tidegate.access.memory import MemoryLimiter

__all__ = ["SEED_AGAIN_S", "SEED_WAIT_S", "Credit", "MemoryGate"]

SEED_WAIT_S: Final = 2.0
"""How long a request under a budget waits for what was used before; what comes later counts for those after it."""

SEED_AGAIN_S: Final = 1.0
"""After what time the books are asked again that did not answer."""

CREDIT_SHARE: Final = 16
"""No credit takes more than one part in so many of what a limit leaves: near its limit a gate counts request by request."""

CREDIT: Final = 256
"""Nor is it for more than so many requests like the one that asks for it."""


class _Reservation:
    """See :class:`tidegate.access.limits.Reservation`."""

    __slots__ = ("_amounts", "_cells", "_gate", "_settled")

    def __init__(self, gate: "MemoryGate | _Costs", amounts: Used, cells: list[Cell]) -> None:
        self._gate = gate
        self._amounts = amounts
        self._cells = cells
        """One for each meter of the gate, in their order."""
        self._settled = False

    def settle(self, tokens: int, cost_nano: int | None, *, requests: int = 1) -> None:
        if not self._settled:
            self._settled = True
            amounts = self._amounts
            actual = (requests, tokens, amounts[COST] if cost_nano is None else cost_nano)
            _settle(self._gate, self._cells, amounts, actual)

    def fields(self) -> bytes:
        return self._gate.fields()


def _take(meters: Sequence[tuple[Meter, int, int]], amounts: Sequence[int]) -> list[Cell]:
    """Count what is reserved in each meter; the cells where it is counted, in their order."""
    cells = []
    for meter, kind, _ in meters:
        amount = amounts[kind]
        cell = meter.cell
        cell.amount += amount
        cell.held += amount
        meter.used += amount
        cells.append(cell)
    return cells


def _settle(gate: "MemoryGate | _Costs", cells: list[Cell], amounts: Used, actual: Used) -> None:
    """What was reserved in `cells` has become what was used."""
    gate.limiter.alone -= 1
    for account, _ in gate.streams:
        account.streams -= 1
    clock = gate.limiter.clock
    user = gate.user
    if user is not None:
        user.open -= 1
        user.touched = clock.monotonic()
    for (meter, kind, _), cell in zip(gate.meters, cells, strict=True):
        reserved = amounts[kind]
        cell.held -= reserved
        change = actual[kind] - reserved
        if change > 0:
            now = clock.wall() if meter.__class__ is Calendar else clock.monotonic()
            if now >= meter.until:
                meter.roll(now)
            meter.cell.amount += change
            meter.used += change
        elif change and not cell.dead:
            cell.amount += change
            meter.used += change


class Credit:
    """What a gate has reserved at once for the requests of the present second: each of them touches this alone, and not every
    meter. What is left of it goes back when the second is over, and at once when somebody else would be refused for it."""

    __slots__ = (
        "_all_places",
        "_taken",
        "both",
        "cells",
        "cost",
        "gate",
        "is_open",
        "limiter",
        "lines",
        "monotonic",
        "places",
        "requests",
        "settled_cost",
        "settled_tokens",
        "tokens",
        "told",
        "until",
    )

    def __init__(
        self, gate: "MemoryGate", cells: list[Cell], taken: Used, left: Sequence[int], places: int, until: float
    ) -> None:
        """`taken` is what is reserved of each kind, and `left` what the first request leaves of it."""
        self.gate = gate
        self.limiter = gate.limiter
        self.monotonic = gate.monotonic
        self.cells = cells
        self.requests, self.tokens, self.cost = left
        self.places = places
        """For how many requests that are under way at once, beside the first."""
        self.until = until
        """When the second is over, or as soon as it is closed."""
        self.settled_tokens = 0
        self.settled_cost = 0
        self.is_open = True
        self.lines = b""
        """The header lines with what remains left open."""
        self.told: list[tuple[int, int, Meter]] = []
        """What they tell of requests and of tokens: the kind, the limit and its meter."""
        self.both: tuple[int, Meter, int, Meter] | None = None
        """The same, where there are both: as usual."""
        self._taken = taken[REQUESTS]
        self._all_places = 1 + places

    @property
    def drawn(self) -> int:
        """How many requests have drawn on it and are under way."""
        return self._all_places - self.places

    def lose(self) -> None:
        """One of them is from now on counted by itself."""
        self._taken -= 1
        self._all_places -= 1
        self.limiter.alone += 1

    def close(self) -> None:
        """Give back what is left."""
        self.is_open = False
        self.until = -math.inf
        gate, limiter = self.gate, self.limiter
        gate.credit = None
        limiter.credits.discard(self)
        limiter.alone += self.drawn
        left = (self.requests, self.tokens, self.cost)
        free = (self._taken - self.drawn, self.tokens + self.settled_tokens, self.cost + self.settled_cost)
        for (meter, kind, _), cell in zip(gate.meters, self.cells, strict=True):
            back = left[kind]
            cell.held -= free[kind]
            if not cell.dead:
                cell.amount -= back
                meter.used -= back
        for account, _ in gate.streams:
            account.streams -= self.places

    def fields(self) -> bytes:
        """What it has left remains, as what its meters leave does."""
        if self.both is not None:  # as below, without a loop
            limit, meter, token_limit, token_meter = self.both
            requests = limit - meter.used + self.requests
            tokens = token_limit - token_meter.used + self.tokens
            return self.lines % (requests if requests > 0 else 0, tokens if tokens > 0 else 0)
        own = (self.requests, self.tokens)
        return self.lines % tuple([max(0, limit - meter.used + own[kind]) for kind, limit, meter in self.told])


class _Drawn(msgspec.Struct, gc=False):
    """What one request has of a credit. See :class:`tidegate.access.limits.Reservation`."""

    credit: Credit
    tokens: int
    cost: int
    is_settled: bool = False

    def settle(self, tokens: int, cost_nano: int | None, *, requests: int = 1) -> None:
        if self.is_settled:
            return
        self.is_settled = True
        credit, reserved, dearest = self.credit, self.tokens, self.cost
        cost = dearest if cost_nano is None else cost_nano
        if not credit.is_open or (tokens > reserved and credit.gate.tokens) or (cost > dearest and credit.gate.cost):
            if credit.is_open:
                credit.lose()
            _settle(credit.gate, credit.cells, (1, reserved, dearest), (requests, tokens, cost))
            return
        credit.places += 1
        if not requests:
            credit.requests += 1
        credit.tokens += reserved - tokens
        credit.cost += dearest - cost
        credit.settled_tokens += tokens
        credit.settled_cost += cost

    def fields(self) -> bytes:
        credit = self.credit
        return credit.fields() if credit.monotonic() < credit.until else credit.gate.fields()


class _Costs:
    """What a gate has of limits of cost: for a request that has passed it and needs more."""

    __slots__ = ("gate", "limiter", "meters", "streams", "user")

    def __init__(self, gate: "MemoryGate") -> None:
        self.gate = gate
        self.limiter = gate.limiter
        self.meters = [one for one in gate.meters if one[1] == COST]
        self.streams: list[tuple[Counts, Rule]] = []
        self.user: Counts | None = None

    def reserve(self, cost_nano: int) -> "_Reservation":
        clock = self.limiter.clock
        now, wall = clock.monotonic(), clock.wall()
        for meter, _, limit in self.meters:
            at = wall if meter.__class__ is Calendar else now
            if at >= meter.until:
                meter.roll(at)
            if meter.used + cost_nano > limit:
                if self.limiter.collect():
                    return self.reserve(cost_nano)
                raise self.gate.refusal((0, 0, cost_nano), only=COST)
        self.limiter.alone += 1
        amounts = (0, 0, cost_nano)
        return _Reservation(self, amounts, _take(self.meters, amounts))

    def fields(self) -> bytes:
        return self.gate.fields()


class MemoryGate:
    """See :class:`tidegate.access.limits.Gate`."""

    __slots__ = (
        "calendars",
        "cost",
        "credit",
        "limiter",
        "meters",
        "minutes",
        "monotonic",
        "owned",
        "rules",
        "streams",
        "tokens",
        "told",
        "unseeded",
        "user",
    )

    def __init__(
        self, limiter: "MemoryLimiter", owned: Sequence[tuple[Scope, Counts]], user: Counts | None = None
    ) -> None:
        self.limiter = limiter
        self.monotonic = limiter.clock.monotonic
        self.owned = owned
        self.user = user
        self.streams: list[tuple[Counts, Rule]] = []
        self.minutes: list[tuple[Minute, int, int]] = []
        self.calendars: list[tuple[Calendar, int, int]] = []
        rules: dict[bool, list[Rule]] = {True: [], False: []}
        for scope, account in owned:
            found = rules_of(scope)
            limiter.forget_others(account, found)
            for whole in found:
                rule = whole._replace(limit=limiter.shared(whole))
                if rule.kind == STREAMS:
                    self.streams.append((account, rule))
                    continue
                meter = limiter.meter(account, rule)
                if isinstance(meter, Minute):
                    self.minutes.append((meter, rule.kind, rule.limit))
                else:
                    self.calendars.append((meter, rule.kind, rule.limit))
                rules[isinstance(meter, Minute)].append(rule)
        self.meters: list[tuple[Meter, int, int]] = [*self.minutes, *self.calendars]
        self.rules = [*rules[True], *rules[False]]
        self.told = [
            (told, [(meter, limit) for meter, kind, limit in self.meters if kind == told])
            for told in (REQUESTS, TOKENS)
        ]
        """What the header lines tell of."""
        self.tokens = any(kind == TOKENS for _, kind, _ in self.meters)
        self.cost = any(kind == COST for _, kind, _ in self.meters)
        self.unseeded = [one for one in owned if one[1].is_unseeded]
        self.credit: Credit | None = None

    def reserve(self, tokens: int, cost_nano: int) -> "Held | Coroutine[Any, Any, Held]":
        credit = self.credit
        if (
            credit is not None
            and tokens <= credit.tokens
            and cost_nano <= credit.cost
            and credit.requests
            and credit.places
            and self.monotonic() < credit.until
        ):
            credit.requests -= 1
            credit.tokens -= tokens
            credit.cost -= cost_nano
            credit.places -= 1
            return _Drawn(credit, tokens, cost_nano)
        if self.unseeded:
            self.unseeded = [one for one in self.unseeded if one[1].is_unseeded]
            for scope, account in self.unseeded:
                self.limiter.seed(scope, account)
            if self.cost and any(account.lacks_cost for _, account in self.unseeded):
                return self._when_seeded(tokens, cost_nano)
        return self._reserve(tokens, cost_nano)

    def _reserve(self, tokens: int, cost_nano: int) -> "Held":
        if self.credit is not None:
            self.credit.close()
        amounts = (1, tokens, cost_nano)
        limiter = self.limiter
        clock = limiter.clock
        now, wall = clock.monotonic(), clock.wall()
        room = [LARGEST, LARGEST, LARGEST]
        """What the meters of each kind would let pass."""
        for minute, kind, limit in self.minutes:
            if now >= minute.until:
                minute.roll(now)
            room[kind] = min(room[kind], limit - minute.used)
        for day, kind, limit in self.calendars:
            if wall >= day.until:
                day.roll(wall)
            room[kind] = min(room[kind], limit - day.used)
        places = min([rule.limit - account.streams for account, rule in self.streams], default=LARGEST)
        if not places or room[REQUESTS] < 1 or room[TOKENS] < tokens or room[COST] < cost_nano:
            if limiter.collect():
                return self._reserve(tokens, cost_nano)
            raise self.refusal(amounts)
        # It passes, and nothing was counted so far.
        if self.user is None:
            more = [
                left if left == LARGEST else min(left // CREDIT_SHARE, CREDIT * amount)
                for left, amount in zip(room, amounts, strict=True)
            ]
            more_places = min(places // CREDIT_SHARE, CREDIT)
            if more_places and all(more[kind] >= amounts[kind] for kind in (REQUESTS, TOKENS, COST)):
                return self._drawn(tokens, cost_nano, more, more_places, now, wall)
        else:
            self.user.open += 1
        limiter.alone += 1
        for account, _ in self.streams:
            account.streams += 1
        return _Reservation(self, amounts, _take(self.meters, amounts))

    def _drawn(self, tokens: int, cost_nano: int, more: list[int], places: int, now: float, wall: float) -> _Drawn:
        """A request that passes, with a credit for others of the same second."""
        remaining = [self._tightest(meters, now, wall) for _, meters in self.told]
        taken = (1 + more[REQUESTS], tokens + more[TOKENS], cost_nano + more[COST])
        cells = _take(self.meters, taken)
        for account, _ in self.streams:
            account.streams += 1 + places
        until = min([minute.until for minute, _, _ in self.minutes], default=now + SLOT_S)
        until = min([until, *(now + day.until - wall for day, _, _ in self.calendars)])
        credit = self.credit = Credit(self, cells, taken, more, places, until)
        self.limiter.credits.add(credit)
        for (kind, _), found in zip(self.told, remaining, strict=True):
            if found is not None:
                limit, _, meter = found
                credit.lines += limit_line(kind, limit, meter.reset(wall if isinstance(meter, Calendar) else now))
                credit.told.append((kind, limit, meter))
        if len(credit.told) == len(self.told):
            (_, limit, meter), (_, token_limit, token_meter) = credit.told
            credit.both = (limit, meter, token_limit, token_meter)
        return _Drawn(credit, tokens, cost_nano)

    @staticmethod
    def _tightest(meters: Sequence[tuple[Meter, int]], now: float, wall: float) -> tuple[int, int, Meter] | None:
        """Limit, what remains, and the meter, of the one that leaves least."""
        found: tuple[int, int, Meter] | None = None
        for meter, limit in meters:
            at = wall if meter.__class__ is Calendar else now
            if at >= meter.until:
                meter.roll(at)
            remaining = limit - meter.used
            if found is None or remaining < found[1]:
                found = limit, remaining, meter
        return found

    def more(self, cost_nano: int) -> _Reservation:
        return _Costs(self).reserve(cost_nano)

    async def _when_seeded(self, tokens: int, cost_nano: int) -> "Held":
        waits = [account.seeding for _, account in self.unseeded if account.seeding is not None]
        if waits:
            await asyncio.wait(waits, timeout=SEED_WAIT_S)
        if any(account.lacks_cost for _, account in self.unseeded):
            raise LimitsUnavailable(
                "What the budget has been used for so far cannot be read from the database; send the request again.",
                retry_after=SEED_AGAIN_S,
            )
        return self._reserve(tokens, cost_nano)

    def refusal(self, amounts: Used, *, only: int | None = None) -> TidegateError:
        """All that stands in the way, put into one error. `only`: of limits of this kind."""
        clock = self.limiter.clock
        monotonic, wall = clock.monotonic(), clock.wall()
        found = []
        for (meter, kind, limit), rule in zip(self.meters, self.rules, strict=True):
            if only is not None and kind != only:
                continue
            now = wall if isinstance(meter, Calendar) else monotonic
            if now >= meter.until:
                meter.roll(now)
            asked = amounts[kind]
            if meter.used + asked <= limit:
                continue
            held = meter.held
            if asked > limit:
                wait = math.inf
            elif isinstance(meter, Minute):
                wait = meter.wait(meter.used + asked - limit, now)
            else:
                wait = HELD_RETRY_S if meter.used - held + asked <= limit else meter.until - now
            found.append(Violation(rule, meter.used, held, asked, wait))
        for account, rule in self.streams if only is None else ():
            if account.streams >= rule.limit:
                wait = HELD_RETRY_S if rule.limit else math.inf
                found.append(Violation(rule, account.streams, account.streams, 1, wait))
        one = worst(found)
        self.limiter.refused[one.rule.scope.level, KINDS[one.rule.kind]] += 1
        return refusal(one, self.fields())

    def fields(self) -> bytes:
        now = self.monotonic()
        if self.credit is not None:
            if now < self.credit.until:
                return self.credit.fields()
            self.credit.close()
        wall = self.limiter.clock.wall() if self.calendars else 0.0
        lines = b""
        for kind, meters in self.told:
            found = self._tightest(meters, now, wall)
            if found is not None:
                limit, remaining, meter = found
                reset_s = meter.reset(wall if meter.__class__ is Calendar else now)
                lines += limit_line(kind, limit, reset_s) % max(0, remaining)
        return lines


Held = _Reservation | _Drawn
