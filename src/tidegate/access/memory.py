"""Limits counted in this process: exact for the gateway that is alone.

The running minute is a sum over slots of a second, so that no sixty seconds ever see more than the limit, whatever borders
of minutes lie in them. Days and months are those of the calendar (UTC). What a day or a month has seen before this process
began to count is asked of the books, beside the requests: only a request that a budget holds for waits for it.
"""

import asyncio
import calendar
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from tidegate.access.limits import (
    COST,
    HELD_RETRY_S,
    KINDS,
    LARGEST,
    REQUESTS,
    SLOT_S,
    STREAMS,
    TOKENS,
    WINDOW_S,
    Books,
    Clock,
    Rule,
    Standing,
    Used,
    Violation,
    Window,
    limit_line,
    refusal,
    rules_of,
    standing,
    worst,
)
from tidegate.access.scopes import Scope, end_user_of, end_user_scope
from tidegate.config.limits import NO_LIMITS
from tidegate.storage.records import Usage
from tidegate.wire.errors import LimitsUnavailable, Overloaded, StorageUnavailable, TidegateError

__all__ = ["END_USERS", "MemoryLimiter", "SystemClock", "window_bounds"]

END_USERS: Final = 10_000
"""How many end users of one project are told apart at once."""

SEED_WAIT_S: Final = 2.0
"""How long a request under a budget waits for what was used before; what comes later counts for those after it."""

SEED_AGAIN_S: Final = 1.0
"""After what time the books are asked again that did not answer."""

GATES: Final = 4096
"""How many gates are remembered; one that was forgotten is made anew, and counts on where the old one stopped."""

IDLE_LOOKED_AT: Final = 16
"""How many of the end users who were seen longest ago are looked at for one to forget."""

CREDIT_SHARE: Final = 16
"""No credit takes more than one part in so many of what a limit leaves: near its limit a gate counts request by request."""

CREDIT: Final = 256
"""Nor is it for more than so many requests like the one that asks for it."""

SHARED: Final = 1024
"""Where nobody can be forgotten, the end users beyond the others share so many counts."""

ENTRY_LATE_S: Final = 5.0
"""How long an entry of the books may take to be there. Nobody is forgotten before."""

_MINUTE_S: Final = WINDOW_S + SLOT_S


class SystemClock:
    """The machine's own time."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


def window_bounds(window: Window, wall: float) -> tuple[int, int]:
    """Beginning and end of the calendar window that holds this Unix time."""
    if window == "day":
        begin = math.floor(wall / 86400) * 86400
        return begin, begin + 86400
    now = time.gmtime(wall)
    year, month = now.tm_year, now.tm_mon
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return calendar.timegm((year, month, 1, 0, 0, 0)), calendar.timegm((*following, 1, 0, 0, 0))


class _Cell:
    """What was counted within one slot, or within one calendar window."""

    __slots__ = ("amount", "dead", "ends", "held")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.amount = 0
        self.held = 0
        """That part of the amount which is reserved, and not settled."""
        self.dead = False


class _Minute:
    """The sum of the last minute of one kind."""

    __slots__ = ("cell", "cells", "until", "used")

    def __init__(self) -> None:
        self.cell = _Cell(-math.inf)
        """That of the present slot, until `until`."""
        self.cells: deque[_Cell] = deque()
        self.used = 0
        self.until = -math.inf
        """When the slot ends; then :meth:`roll` begins the next one."""

    def roll(self, now: float) -> None:
        cells = self.cells
        while cells and cells[0].ends <= now:
            cell = cells.popleft()
            cell.dead = True
            self.used -= cell.amount
        slot = now // SLOT_S * SLOT_S
        self.cell = _Cell(slot + _MINUTE_S)
        cells.append(self.cell)
        self.until = slot + SLOT_S

    @property
    def held(self) -> int:
        return sum(cell.held for cell in self.cells)

    def wait(self, needed: int, now: float) -> float:
        """Until so much of what counts now counts no more."""
        for cell in self.cells:
            needed -= cell.amount
            if needed <= 0:
                return max(0.0, cell.ends - now)
        return 0.0

    def reset(self, now: float) -> float:
        """Until nothing of what counts now counts any more."""
        for cell in reversed(self.cells):
            if cell.amount:
                return max(0.0, cell.ends - now)
        return 0.0


class _Calendar:
    """The sum of a day or a month of one kind."""

    __slots__ = ("before", "begin", "cell", "counted_from", "seeded", "until", "used", "window")

    def __init__(self, window: Window, wall: float, *, seeded: bool) -> None:
        self.window = window
        self.begin, self.until = window_bounds(window, wall)
        self.cell = _Cell(self.until)
        self.used = 0
        self.seeded = seeded
        """Whether what was used before this process began to count is in it."""
        self.before = 0
        """How much that was, as far as the books knew."""
        self.counted_from = wall

    def roll(self, wall: float) -> None:
        self.cell.dead = True
        self.begin, self.until = window_bounds(self.window, wall)
        self.cell = _Cell(self.until)
        self.used = self.before = 0
        self.seeded = True  # the whole of the new window is counted here

    @property
    def held(self) -> int:
        return self.cell.held

    def reset(self, wall: float) -> float:
        return max(0.0, self.until - wall) if self.used else 0.0


_Meter = _Minute | _Calendar


class _Account:
    """All that is counted of one scope."""

    __slots__ = ("gate", "meters", "open", "scope", "seeding", "stale", "streams", "touched")

    def __init__(self) -> None:
        self.meters: dict[tuple[int, Window], _Meter] = {}
        self.streams = 0
        self.open = 0
        """Requests of an end user that are under way."""
        self.touched = 0.0
        """When an end user was last seen."""
        self.gate: tuple[tuple[Scope, ...], Scope, _Gate] | None = None
        """That of an end user, for as long as it is asked for with the same limits."""
        self.seeding: asyncio.Task[None] | None = None
        self.scope: Scope | None = None
        """As which the books were asked for it; None where they were not."""
        self.stale = False
        """The books know more than when they were asked."""


class _Reservation:
    """See :class:`tidegate.access.limits.Reservation`."""

    __slots__ = ("_amounts", "_cells", "_gate", "_settled")

    def __init__(self, gate: "_Gate | _Costs", amounts: Used, cells: list[_Cell]) -> None:
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


def _settle(gate: "_Gate | _Costs", cells: list[_Cell], amounts: Used, actual: Used) -> None:
    """What was reserved in `cells` has become what was used."""
    gate.limiter.open -= 1
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
            now = clock.wall() if meter.__class__ is _Calendar else clock.monotonic()
            if now >= meter.until:
                meter.roll(now)
            meter.cell.amount += change
            meter.used += change
        elif change and not cell.dead:
            cell.amount += change
            meter.used += change


class _Credit:
    """What a gate has reserved at once for the requests of the present second: each of them touches this alone, and not every
    meter. What is left of it goes back when the second is over, and at once when somebody else would be refused for it."""

    __slots__ = (
        "cells",
        "cost",
        "gate",
        "is_open",
        "limiter",
        "places",
        "requests",
        "settled",
        "tokens",
        "told",
        "until",
    )

    def __init__(self, gate: "_Gate", cells: list[_Cell], left: list[int], places: int, until: float) -> None:
        """`left` is what it has of each kind."""
        self.gate = gate
        self.limiter = gate.limiter
        self.cells = cells
        self.requests, self.tokens, self.cost = left
        self.places = places
        """For how many requests that are under way at once."""
        self.until = until
        self.settled = [0, 0, 0]
        """What requests have used for good."""
        self.is_open = True
        self.told: tuple[bytes, int, int] = (b"", 0, 0)
        """The header lines with what remains left open; and what remained of requests and of tokens before the credit was
        taken, less what was taken: -1 of what no line tells."""

    def close(self) -> None:
        """Give back what is left."""
        self.is_open = False
        gate = self.gate
        gate.credit = None
        self.limiter.credits.discard(self)
        left = (self.requests, self.tokens, self.cost)
        settled = self.settled
        for (meter, kind, _), cell in zip(gate.meters, self.cells, strict=True):
            back = left[kind]
            cell.held -= back + settled[kind]
            if not cell.dead:
                cell.amount -= back
                meter.used -= back
        for account, _ in gate.streams:
            account.streams -= self.places

    def fields(self) -> bytes:
        lines, requests, tokens = self.told
        if requests < 0:
            return lines if tokens < 0 else lines % (tokens + self.tokens)
        if tokens < 0:
            return lines % (requests + self.requests)
        return lines % (requests + self.requests, tokens + self.tokens)


class _Drawn:
    """What one request has of a credit. See :class:`tidegate.access.limits.Reservation`."""

    __slots__ = ("_cost", "_credit", "_settled", "_tokens")

    def __init__(self, credit: _Credit, tokens: int, cost_nano: int) -> None:
        self._credit = credit
        self._tokens = tokens
        self._cost = cost_nano
        self._settled = False

    def settle(self, tokens: int, cost_nano: int | None, *, requests: int = 1) -> None:
        if self._settled:
            return
        self._settled = True
        credit, reserved, dearest = self._credit, self._tokens, self._cost
        cost = dearest if cost_nano is None else cost_nano
        gate = credit.gate
        if not credit.is_open or (tokens > reserved and gate.tokens) or (cost > dearest and gate.cost):
            _settle(gate, credit.cells, (1, reserved, dearest), (requests, tokens, cost))
            return
        credit.limiter.open -= 1
        credit.requests += 1 - requests
        credit.tokens += reserved - tokens
        credit.cost += dearest - cost
        credit.places += 1
        settled = credit.settled
        settled[0] += requests
        settled[1] += tokens
        settled[2] += cost

    def fields(self) -> bytes:
        credit = self._credit
        return credit.fields() if credit.is_open else credit.gate.fields()


class _Costs:
    """What a gate has of limits of cost: for a request that has passed it and needs more."""

    __slots__ = ("gate", "limiter", "meters", "streams", "user")

    def __init__(self, gate: "_Gate") -> None:
        self.gate = gate
        self.limiter = gate.limiter
        self.meters = [one for one in gate.meters if one[1] == COST]
        self.streams: list[tuple[_Account, Rule]] = []
        self.user: _Account | None = None

    def reserve(self, cost_nano: int) -> "_Reservation":
        clock = self.limiter.clock
        now, wall = clock.monotonic(), clock.wall()
        for meter, _, limit in self.meters:
            at = wall if meter.__class__ is _Calendar else now
            if at >= meter.until:
                meter.roll(at)
            if meter.used + cost_nano > limit:
                if self.limiter.collect():
                    return self.reserve(cost_nano)
                raise self.gate.refusal((0, 0, cost_nano), only=COST)
        cells = []
        for meter, _, _ in self.meters:
            cell = meter.cell
            cell.amount += cost_nano
            cell.held += cost_nano
            meter.used += cost_nano
            cells.append(cell)
        self.limiter.open += 1
        return _Reservation(self, (0, 0, cost_nano), cells)

    def fields(self) -> bytes:
        return self.gate.fields()


class _Gate:
    """See :class:`tidegate.access.limits.Gate`."""

    __slots__ = (
        "calendars",
        "cost",
        "credit",
        "limiter",
        "meters",
        "minutes",
        "owned",
        "rules",
        "streams",
        "tokens",
        "told",
        "unseeded",
        "user",
    )

    def __init__(
        self, limiter: "MemoryLimiter", owned: Sequence[tuple[Scope, _Account]], user: _Account | None = None
    ) -> None:
        self.limiter = limiter
        self.owned = owned
        self.user = user
        self.streams: list[tuple[_Account, Rule]] = []
        self.minutes: list[tuple[_Minute, int, int]] = []
        self.calendars: list[tuple[_Calendar, int, int]] = []
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
                if isinstance(meter, _Minute):
                    self.minutes.append((meter, rule.kind, rule.limit))
                else:
                    self.calendars.append((meter, rule.kind, rule.limit))
                rules[isinstance(meter, _Minute)].append(rule)
        self.meters: list[tuple[_Meter, int, int]] = [*self.minutes, *self.calendars]
        self.rules = [*rules[True], *rules[False]]
        self.told = [
            (told, [(meter, limit) for meter, kind, limit in self.meters if kind == told])
            for told in (REQUESTS, TOKENS)
        ]
        """What the header lines tell of."""
        self.tokens = any(kind == TOKENS for _, kind, _ in self.meters)
        self.cost = any(kind == COST for _, kind, _ in self.meters)
        self.unseeded = [one for one in owned if _is_unseeded(one[1])]
        self.credit: _Credit | None = None

    def reserve(self, tokens: int, cost_nano: int) -> "_Held | Coroutine[Any, Any, _Held]":
        credit = self.credit
        if (
            credit is not None
            and tokens <= credit.tokens
            and cost_nano <= credit.cost
            and credit.requests
            and credit.places
            and self.limiter.clock.monotonic() < credit.until
        ):
            credit.requests -= 1
            credit.tokens -= tokens
            credit.cost -= cost_nano
            credit.places -= 1
            self.limiter.open += 1
            return _Drawn(credit, tokens, cost_nano)
        if self.unseeded:
            self.unseeded = [one for one in self.unseeded if _is_unseeded(one[1])]
            for scope, account in self.unseeded:
                self.limiter.seed(scope, account)
            if self.cost and any(_lacks_cost(account) for _, account in self.unseeded):
                return self._when_seeded(tokens, cost_nano)
        return self._reserve(tokens, cost_nano)

    def _reserve(self, tokens: int, cost_nano: int) -> "_Held":
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
        limiter.open += 1
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
        for account, _ in self.streams:
            account.streams += 1
        return _Reservation(self, amounts, self._take(amounts))

    def _take(self, amounts: Sequence[int]) -> list[_Cell]:
        cells = []
        for meter, kind, _ in self.meters:
            amount = amounts[kind]
            cell = meter.cell
            cell.amount += amount
            cell.held += amount
            meter.used += amount
            cells.append(cell)
        return cells

    def _drawn(self, tokens: int, cost_nano: int, more: list[int], places: int, now: float, wall: float) -> _Drawn:
        """A request that passes, with a credit for others of the same second."""
        remaining = [self._tightest(meters, now, wall) for _, meters in self.told]
        taken = (1 + more[REQUESTS], tokens + more[TOKENS], cost_nano + more[COST])
        cells = self._take(taken)
        for account, _ in self.streams:
            account.streams += 1 + places
        until = min([minute.until for minute, _, _ in self.minutes], default=now + SLOT_S)
        until = min([until, *(now + day.until - wall for day, _, _ in self.calendars)])
        credit = self.credit = _Credit(self, cells, more, places, until)
        self.limiter.credits.add(credit)
        lines, left = b"", [-1, -1]
        for (kind, _), found in zip(self.told, remaining, strict=True):
            if found is not None:
                limit, least, meter = found
                lines += limit_line(kind, limit, meter.reset(wall if isinstance(meter, _Calendar) else now))
                left[kind] = least - taken[kind]
        credit.told = lines, left[REQUESTS], left[TOKENS]
        return _Drawn(credit, tokens, cost_nano)

    @staticmethod
    def _tightest(meters: Sequence[tuple[_Meter, int]], now: float, wall: float) -> tuple[int, int, _Meter] | None:
        """Limit, what remains, and the meter, of the one that leaves least."""
        found: tuple[int, int, _Meter] | None = None
        for meter, limit in meters:
            at = wall if meter.__class__ is _Calendar else now
            if at >= meter.until:
                meter.roll(at)
            remaining = limit - meter.used
            if found is None or remaining < found[1]:
                found = limit, remaining, meter
        return found

    def more(self, cost_nano: int) -> _Reservation:
        return _Costs(self).reserve(cost_nano)

    async def _when_seeded(self, tokens: int, cost_nano: int) -> "_Held":
        waits = [account.seeding for _, account in self.unseeded if account.seeding is not None]
        if waits:
            await asyncio.wait(waits, timeout=SEED_WAIT_S)
        if any(_lacks_cost(account) for _, account in self.unseeded):
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
            now = wall if isinstance(meter, _Calendar) else monotonic
            if now >= meter.until:
                meter.roll(now)
            asked = amounts[kind]
            if meter.used + asked <= limit:
                continue
            held = meter.held
            if asked > limit:
                wait = math.inf
            elif isinstance(meter, _Minute):
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
        clock = self.limiter.clock
        now = clock.monotonic()
        if self.credit is not None:
            if now < self.credit.until:
                return self.credit.fields()
            self.credit.close()
        wall = clock.wall() if self.calendars else 0.0
        lines = b""
        for kind, meters in self.told:
            found = self._tightest(meters, now, wall)
            if found is not None:
                limit, remaining, meter = found
                reset_s = meter.reset(wall if meter.__class__ is _Calendar else now)
                lines += limit_line(kind, limit, reset_s) % max(0, remaining)
        return lines


_Held = _Reservation | _Drawn


def _is_unseeded(account: _Account) -> bool:
    return any(isinstance(meter, _Calendar) and not meter.seeded for meter in account.meters.values())


def _counts(account: _Account) -> bool:
    return any(meter.used for meter in account.meters.values())


def _lacks_cost(account: _Account) -> bool:
    return any(
        kind == COST and isinstance(meter, _Calendar) and not meter.seeded
        for (kind, _), meter in account.meters.items()
    )


class MemoryLimiter:
    """See :class:`tidegate.access.limits.Limiter`. Lives on one event loop."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        books: Books | None = None,
        warn: Callable[..., object] | None = None,
        end_users: int = END_USERS,
        share: int = 1,
    ) -> None:
        """Without `books` days and months begin with the process. `share` is the number of gateways that each limit is
        shared out among; `warn` is told of books that do not answer."""
        self.clock: Clock = clock or SystemClock()
        self.open = 0
        self.refused: Counter[tuple[str, str]] = Counter()
        self._books = books
        self.warning = warn or _unheard
        self._end_users = end_users
        self._share = share
        self._accounts: dict[tuple[str, str], _Account] = {}
        self._users: dict[str, OrderedDict[str, _Account]] = {}
        self._gates: dict[int, tuple[tuple[Scope, ...], _Gate]] = {}
        self.credits: set[_Credit] = set()
        """Those that are open."""

    def gate(self, scopes: tuple[Scope, ...], end_user: Scope | None = None) -> _Gate:
        if end_user is not None:
            user = self._user(end_user)
            user.touched = self.clock.monotonic()
            known_gate = user.gate
            if known_gate is not None and known_gate[0] is scopes and known_gate[1].limits is end_user.limits:
                return known_gate[2]
            owned = [(scope, self.account(scope)) for scope in scopes]
            gate = _Gate(self, [*owned, (end_user, user)], user)
            user.gate = (scopes, end_user, gate)
            return gate
        known = self._gates.get(id(scopes))
        if known is not None:
            return known[1]
        if len(self._gates) >= GATES:
            self.forget_gates()
        gate = _Gate(self, [(scope, self.account(scope)) for scope in scopes])
        self._gates[id(scopes)] = (scopes, gate)  # which keeps the tuple, so that no other gets its id
        return gate

    async def standings(self, scopes: Sequence[Scope]) -> list[Standing]:
        found = []
        await self._seeded_all(scopes)
        self.collect()
        monotonic, wall = self.clock.monotonic(), self.clock.wall()
        for scope in scopes:
            account = self.account(scope)
            for rule in rules_of(scope):
                used = held = 0
                reset_s = 0.0
                if rule.kind == STREAMS:
                    held = account.streams
                else:
                    meter = self.meter(account, rule)
                    now = wall if isinstance(meter, _Calendar) else monotonic
                    if now >= meter.until:
                        meter.roll(now)
                    held = meter.held
                    used = meter.used - held
                    reset_s = meter.until - wall if isinstance(meter, _Calendar) else meter.reset(now)
                found.append(standing(rule, used, held, reset_s))
        return found

    async def end_users(self, most: int) -> list[str]:
        found: list[str] = []
        for users in self._users.values():
            found += [name for name, account in users.items() if account.open or _counts(account)]
        return found[:most]

    def unlimited(self, level: str, id: str) -> None:  # noqa: A002
        account = self._accounts.get((level, id))
        if account is not None:
            self.forget_others(account, ())

    def interrupted(self, usages: Sequence[Usage]) -> None:
        for account in {id(one): one for usage in usages for one in self._charged(usage)}.values():
            if account.scope is not None:
                account.stale = True
                self.seed(account.scope, account)

    def forget_gates(self) -> None:
        self.collect()
        self._gates.clear()

    async def close(self) -> None:
        """Stop asking the books."""
        tasks = [account.seeding for account in self._all_accounts() if account.seeding is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def collect(self) -> bool:
        """Take back what credits have left; whether there were any."""
        found = list(self.credits)
        for credit in found:
            credit.close()
        return bool(found)

    # -- for gates ----------------------------------------------------------------------------------------------

    def account(self, scope: Scope) -> _Account:
        if scope.level == "end_user":
            return self._user(scope)
        key = (scope.level, scope.id)
        found = self._accounts.get(key)
        if found is None:
            found = self._accounts[key] = _Account()
        return found

    def meter(self, account: _Account, rule: Rule) -> _Meter:
        """The count behind a rule. One that was there goes on, whatever the limit was before."""
        key = (rule.kind, rule.window)
        found = account.meters.get(key)
        if found is None:
            if rule.window == "minute":
                found = _Minute()
            else:
                found = _Calendar(rule.window, self.clock.wall(), seeded=self._books is None)
            account.meters[key] = found
        return found

    def forget_others(self, account: _Account, rules: Sequence[Rule]) -> None:
        """Days and months that no rule holds any more: what is used from now on is not counted in them, so that the books
        must be asked should such a rule come back."""
        if self._books is None:
            return
        wanted = {(rule.kind, rule.window) for rule in rules}
        for key, meter in list(account.meters.items()):
            if isinstance(meter, _Calendar) and key not in wanted:
                del account.meters[key]

    def shared(self, rule: Rule) -> int:
        """What this process may let pass under a rule."""
        if self._share == 1:
            return rule.limit
        share = rule.limit // self._share
        return max(1, share) if rule.limit and rule.kind not in (TOKENS, COST) else share

    def seed(self, scope: Scope, account: _Account) -> None:
        """Ask the books what the calendar windows of a scope have seen before."""
        account.scope = scope
        if account.seeding is None:
            account.seeding = asyncio.get_running_loop().create_task(self._seed(scope, account))

    # -- inside -------------------------------------------------------------------------------------------------

    async def _seeded_all(self, scopes: Sequence[Scope]) -> None:
        waits = []
        for scope in scopes:
            account = self.account(scope)
            for rule in rules_of(scope):
                if rule.kind != STREAMS:
                    self.meter(account, rule)
            if _is_unseeded(account):
                self.seed(scope, account)
                if account.seeding is not None:
                    waits.append(account.seeding)
        if waits:
            await asyncio.wait(waits, timeout=SEED_WAIT_S)

    async def _seed(self, scope: Scope, account: _Account) -> None:
        assert self._books is not None
        limits = {(rule.kind, rule.window): rule.limit for rule in rules_of(scope)}
        again, account.stale = account.stale, False
        try:
            waiting = {
                kind: meter
                for kind, meter in account.meters.items()
                if isinstance(meter, _Calendar) and (not meter.seeded or (again and meter.begin < meter.counted_from))
            }
            # Meters of one window may have begun to count at different times: limits come with reloads.
            for begin, counted_from in {(meter.begin, meter.counted_from) for meter in waiting.values()}:
                used = await self._books.used(scope, begin, counted_from)
                for (kind, window), meter in waiting.items():
                    if meter.begin != begin or meter.counted_from != counted_from or (meter.seeded and not again):
                        continue
                    before = self._seeded(used[kind], limits.get((kind, window), 0))
                    meter.cell.amount += before - meter.before
                    meter.used += before - meter.before
                    meter.before = before
                    meter.seeded = True
        except StorageUnavailable as error:
            self.warning("limits_unseeded", level=scope.level, scope=scope.id, reason=error.message)
            account.stale |= again
            await asyncio.sleep(SEED_AGAIN_S)  # nobody asks again before
        finally:
            account.seeding = None
        if account.stale:
            self.seed(scope, account)

    def _charged(self, usage: Usage) -> list[_Account]:
        """Whom a request counts against, as far as something is counted of them."""
        tenant = usage.tenant
        project = f"{tenant.organization}/{tenant.project}"
        names = (("organization", tenant.organization), ("project", project), ("key", usage.key_id))
        found = [self._accounts.get(name) for name in names]
        users = self._users.get(project)
        if users and usage.entry.end_user:
            scope = end_user_scope(tenant.organization, tenant.project, usage.entry.end_user, NO_LIMITS)
            found.append(users.get(scope.id))
        return [account for account in found if account is not None]

    def _seeded(self, used: int, limit: int) -> int:
        """What to begin with, so that each gateway has its share of what is left."""
        if self._share == 1:
            return used
        return limit // self._share - max(0, limit - used) // self._share

    def _user(self, scope: Scope) -> _Account:
        """The account of an end user. It may forget another one who has nothing that would be lost."""
        project, _ = end_user_of(scope)
        users = self._users.setdefault(project, OrderedDict())
        found = users.get(scope.id)
        if found is not None:
            users.move_to_end(scope.id)
            return found
        if len(users) >= self._end_users and not self._forget_one(users):
            if self._books is not None:
                raise Overloaded(
                    f"More than {self._end_users} end users of project '{project}' are busy at once, and no more can be "
                    "told apart. Set limits.end_users higher.",
                    retry_after=WINDOW_S,
                )
            name = f"{project}#{hash(scope.id) % SHARED}"
            return self._accounts.setdefault(("end_users", name), _Account())
        found = users[scope.id] = _Account()
        return found

    def _forget_one(self, users: OrderedDict[str, _Account]) -> bool:
        """Whether there was one whose budget does not come back by it: nothing of him counts, or the books know it all."""
        for place, (name, account) in enumerate(users.items()):
            if place >= IDLE_LOOKED_AT:
                return False
            if self._is_idle(account):
                del users[name]
                return True
        return False

    def _is_idle(self, account: _Account) -> bool:
        monotonic, wall = self.clock.monotonic(), self.clock.wall()
        if account.open or account.seeding is not None or monotonic - account.touched < ENTRY_LATE_S:
            return False
        for meter in account.meters.values():
            now = wall if isinstance(meter, _Calendar) else monotonic
            if now >= meter.until:
                meter.roll(now)
            if meter.used and (self._books is None or isinstance(meter, _Minute)):
                return False
        return True

    def _all_accounts(self) -> list[_Account]:
        users = [account for users in self._users.values() for account in users.values()]
        return [*self._accounts.values(), *users]


def _unheard(event: str, **_: object) -> None:
    """Nobody wants to be told."""
