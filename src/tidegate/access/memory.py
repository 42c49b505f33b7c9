"""Limits counted in this process: exact for the gateway that is alone.

What a day or a month has seen before this process began to count is asked of the books, beside the requests: only a request
that a budget holds for waits for it.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from tidegate.access.gate import SEED_AGAIN_S, SEED_WAIT_S, Credit, MemoryGate
from tidegate.access.limits import (
    COST,
    STREAMS,
    TOKENS,
    WINDOW_S,
    Books,
    Clock,
    Rule,
    Standing,
    rules_of,
    standing,
)
from tidegate.access.meters import Calendar, Counts, Meter, Minute
from tidegate.access.scopes import Scope, end_user_of, end_user_scope
from tidegate.config.limits import NO_LIMITS
from tidegate.storage.records import Usage
from tidegate.wire.errors import Overloaded, StorageUnavailable

__all__ = ["END_USERS", "MemoryLimiter", "SystemClock"]

END_USERS: Final = 10_000
"""How many end users of one project are told apart at once."""

GATES: Final = 4096
"""How many gates are remembered; one that was forgotten is made anew, and counts on where the old one stopped."""

IDLE_LOOKED_AT: Final = 16
"""How many of the end users who were seen longest ago are looked at for one to forget."""

SHARED: Final = 1024
"""Where nobody can be forgotten, the end users beyond the others share so many counts."""

ENTRY_LATE_S: Final = 5.0
"""How long an entry of the books may take to be there. Nobody is forgotten before."""


class SystemClock:
    """The machine's own time."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


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
        self.alone = 0
        """How many requests are under way that draw on no credit."""
        self.refused: Counter[tuple[str, str]] = Counter()
        self._books = books
        self.warning = warn or _unheard
        self._end_users = end_users
        self._share = share
        self._accounts: dict[tuple[str, str], Counts] = {}
        self._users: dict[str, OrderedDict[str, Counts]] = {}
        self._gates: dict[int, tuple[tuple[Scope, ...], MemoryGate]] = {}
        self.credits: set[Credit] = set()
        """Those that are open."""

    @property
    def open(self) -> int:
        return self.alone + sum(credit.drawn for credit in self.credits)

    def gate(self, scopes: tuple[Scope, ...], end_user: Scope | None = None) -> MemoryGate:
        if end_user is not None:
            user = self._user(end_user)
            user.touched = self.clock.monotonic()
            known_gate = user.gate
            if known_gate is not None and known_gate[0] is scopes and known_gate[1].limits is end_user.limits:
                return known_gate[2]
            owned = [(scope, self.account(scope)) for scope in scopes]
            gate = MemoryGate(self, [*owned, (end_user, user)], user)
            user.gate = (scopes, end_user, gate)
            return gate
        known = self._gates.get(id(scopes))
        if known is not None:
            return known[1]
        if len(self._gates) >= GATES:
            self.forget_gates()
        gate = MemoryGate(self, [(scope, self.account(scope)) for scope in scopes])
        self._gates[id(scopes)] = (scopes, gate)  # which keeps the tuple, so that no other gets its id
        return gate

    async def standings(self, scopes: Sequence[Scope]) -> list[Standing]:
        """The limit of each is what this process may let pass."""
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
                    now = wall if isinstance(meter, Calendar) else monotonic
                    if now >= meter.until:
                        meter.roll(now)
                    held = meter.held
                    used = meter.used - held
                    reset_s = meter.until - wall if isinstance(meter, Calendar) else meter.reset(now)
                found.append(standing(rule._replace(limit=self.shared(rule)), used, held, reset_s))
        return found

    async def end_users(self, most: int) -> list[str]:
        found: list[str] = []
        for users in self._users.values():
            found += [name for name, account in users.items() if account.open or account.counts]
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

    def forget_calendars(self) -> None:
        """Others count days and months from now on, and the books hear of it: should they count here again, the books are
        asked anew. Minutes and places go on; so do days and months where there are no books."""
        if self._books is None:
            return
        self.forget_gates()  # which hold on to what they count
        for account in self._all_accounts():
            account.meters = {key: one for key, one in account.meters.items() if not isinstance(one, Calendar)}
            account.gate = account.scope = None
            account.stale = False

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

    def account(self, scope: Scope) -> Counts:
        if scope.level == "end_user":
            return self._user(scope)
        key = (scope.level, scope.id)
        found = self._accounts.get(key)
        if found is None:
            found = self._accounts[key] = Counts()
        return found

    def meter(self, account: Counts, rule: Rule) -> Meter:
        """The count behind a rule. One that was there goes on, whatever the limit was before."""
        key = (rule.kind, rule.window)
        found = account.meters.get(key)
        if found is None:
            if rule.window == "minute":
                found = Minute()
            else:
                found = Calendar(rule.window, self.clock.wall(), seeded=self._books is None)
            account.meters[key] = found
        return found

    def forget_others(self, account: Counts, rules: Sequence[Rule]) -> None:
        """Days and months that no rule holds any more: what is used from now on is not counted in them, so that the books
        must be asked should such a rule come back."""
        if self._books is None:
            return
        wanted = {(rule.kind, rule.window) for rule in rules}
        for key, meter in list(account.meters.items()):
            if isinstance(meter, Calendar) and key not in wanted:
                del account.meters[key]

    def shared(self, rule: Rule) -> int:
        """What this process may let pass under a rule."""
        if self._share == 1:
            return rule.limit
        share = rule.limit // self._share
        return max(1, share) if rule.limit and rule.kind not in (TOKENS, COST) else share

    def seed(self, scope: Scope, account: Counts) -> None:
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
            if account.is_unseeded:
                self.seed(scope, account)
                if account.seeding is not None:
                    waits.append(account.seeding)
        if waits:
            await asyncio.wait(waits, timeout=SEED_WAIT_S)

    async def _seed(self, scope: Scope, account: Counts) -> None:
        assert self._books is not None
        limits = {(rule.kind, rule.window): rule.limit for rule in rules_of(scope)}
        again, account.stale = account.stale, False
        try:
            waiting = {
                kind: meter
                for kind, meter in account.meters.items()
                if isinstance(meter, Calendar) and (not meter.seeded or (again and meter.begin < meter.counted_from))
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

    def _charged(self, usage: Usage) -> list[Counts]:
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

    def _user(self, scope: Scope) -> Counts:
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
            return self._accounts.setdefault(("end_users", name), Counts())
        found = users[scope.id] = Counts()
        return found

    def _forget_one(self, users: OrderedDict[str, Counts]) -> bool:
        """Whether there was one whose budget does not come back by it: nothing of him counts, or the books know it all."""
        for place, (name, account) in enumerate(users.items()):
            if place >= IDLE_LOOKED_AT:
                return False
            if self._is_idle(account):
                del users[name]
                return True
        return False

    def _is_idle(self, account: Counts) -> bool:
        monotonic, wall = self.clock.monotonic(), self.clock.wall()
        if account.open or account.seeding is not None or monotonic - account.touched < ENTRY_LATE_S:
            return False
        for meter in account.meters.values():
            now = wall if isinstance(meter, Calendar) else monotonic
            if now >= meter.until:
                meter.roll(now)
            if meter.used and (self._books is None or isinstance(meter, Minute)):
                return False
        return True

    def _all_accounts(self) -> list[Counts]:
        users = [account for users in self._users.values() for account in users.values()]
        return [*self._accounts.values(), *users]


def _unheard(event: str, **_: object) -> None:
    """Nobody wants to be told."""
