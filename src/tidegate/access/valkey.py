"""Limits that several gateways count together, in Valkey or Redis.

A request waits for one atomic script before it is sent on; what it used is told afterwards, in batches that nobody waits
for. While the server does not answer within its time, each gateway counts for itself against its share, or requests with
limits are refused: `limits.when_unavailable`.
"""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from tidegate.access.engines import redis_tls
from tidegate.access.limits import (
    COST,
    HELD_RETRY_S,
    KINDS,
    STREAMS,
    TOKENS,
    Books,
    Clock,
    Reservation,
    Rule,
    Standing,
    Used,
    Violation,
    limit_fields,
    refusal,
    rules_of,
    standing,
    worst,
)
from tidegate.access.memory import GATES, MemoryLimiter, SystemClock
from tidegate.access.meters import window_bounds
from tidegate.access.scopes import Scope
from tidegate.access.scripts import RESERVE, SEED, SETTLE
from tidegate.storage.records import Usage
from tidegate.wire import jsonio
from tidegate.wire.errors import LimitsUnavailable, StorageUnavailable

__all__ = ["ValkeyLimiter"]

CONNECTIONS: Final = 32
"""Most connections to the server."""

AGAIN_S: Final = 1.0
"""How long a server that did not answer is left alone."""

BATCH: Final = 128
"""Most settlements that are sent together."""

WAITING: Final = 100_000
"""Most settlements that wait for the server; the oldest are lost beyond, and leave what was reserved."""

UNDO_TRIES: Final = 3
"""How often a reservation is taken back that the server may still be about to make."""

SCAN_S: Final = 5.0
"""How long the server is looked through for end users."""

_READ: Final = b"1"


def _escaped(text: str) -> str:
    """Text that stands for itself in a pattern."""
    return "".join(f"\\{one}" if one in "*?[]\\^-" else one for one in text)


class _Down(Exception):
    """The server did not answer in time."""


class _Reply(msgspec.Struct):
    ok: bool
    rules: list[tuple[float, float, float, float]]
    now: float
    unseeded: Any = None


class _Message(msgspec.Struct):
    """A settlement on its way."""

    name: str
    amounts: tuple[int, int, int]
    record: bytes = b""
    """What the server is to take for the reservation, where it has none."""
    tries: int = 1


_reply = jsonio.decoder(_Reply)


class _Held:
    """See :class:`tidegate.access.limits.Reservation`."""

    __slots__ = ("_fields", "_limiter", "_name")

    def __init__(self, limiter: "ValkeyLimiter", name: str, fields: bytes) -> None:
        self._limiter: ValkeyLimiter | None = limiter
        self._name = name
        self._fields = fields

    def settle(self, tokens: int, cost_nano: int | None, *, requests: int = 1) -> None:
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.open -= 1
            limiter.send(_Message(self._name, (requests, tokens, -1 if cost_nano is None else cost_nano)))

    def fields(self) -> bytes:
        return self._fields


class _Alone:
    """A reservation that was made without the server, which is told of it when it is back."""

    __slots__ = ("_cost", "_gate", "_own")

    def __init__(self, gate: "_Gate", own: Reservation, cost_nano: int) -> None:
        self._gate: _Gate | None = gate
        self._own = own
        self._cost = cost_nano

    def settle(self, tokens: int, cost_nano: int | None, *, requests: int = 1) -> None:
        self._own.settle(tokens, cost_nano, requests=requests)
        gate, self._gate = self._gate, None
        if gate is None:
            return
        limiter = gate.limiter
        limiter.open -= 1
        mark = -1 if limiter.books is None else -2
        record = [
            (key, rule.window, rule.kind, 0, mark)
            for key, rule in zip(gate.keys, gate.rules, strict=True)
            if rule.window in ("day", "month")
        ]
        if record:
            cost = self._cost if cost_nano is None else cost_nano
            limiter.send(_Message(limiter.name(), (requests, tokens, cost), jsonio.encode(record)))

    def fields(self) -> bytes:
        return self._own.fields()


class _Gate:
    """See :class:`tidegate.access.limits.Gate`."""

    __slots__ = ("_end_user", "_scopes", "_texts", "cost", "keys", "limiter", "rules", "tokens")

    def __init__(
        self, limiter: "ValkeyLimiter", scopes: tuple[Scope, ...], end_user: Scope | None, *, only: int | None = None
    ) -> None:
        """`only`: with limits of this kind alone."""
        self.limiter = limiter
        self._scopes = scopes
        self._end_user = end_user
        everyone = scopes if end_user is None else (*scopes, end_user)
        self.rules: list[Rule] = [rule for scope in everyone for rule in rules_of(scope) if only in (None, rule.kind)]
        self.keys = [limiter.key(rule) for rule in self.rules]
        self._texts = [
            (rule.window.encode(), b"%d" % rule.kind, b"%d" % rule.limit, rule.kind == COST) for rule in self.rules
        ]
        self.tokens = any(rule.kind == TOKENS for rule in self.rules)
        self.cost = any(rule.kind == COST for rule in self.rules)

    def reserve(self, tokens: int, cost_nano: int) -> Reservation | Coroutine[Any, Any, Reservation]:
        if self.limiter.is_alone():
            return self._alone(tokens, cost_nano)
        return self.ask_for((1, tokens, cost_nano))

    def more(self, cost_nano: int) -> Reservation | Coroutine[Any, Any, Reservation]:
        if self.limiter.is_alone():
            return self._alone_more(cost_nano)
        return _Gate(self.limiter, self._scopes, self._end_user, only=COST).ask_for((0, 0, cost_nano))

    async def ask(self, name: str, amounts: Used, *, dry: bool = False, seeded: str = "all") -> _Reply:
        """One run of the script. Which windows must be seeded: `all`, those of a `cost`, or `none`. Raises _Down."""
        given: list[bytes] = [_READ if dry else b"0", *(b"%d" % amount for amount in amounts)]
        for window, kind, limit, costs in self._texts:
            needs = seeded == "all" or (seeded == "cost" and costs)
            given += (window, kind, limit, b"1" if needs else b"0")
        found = await self.limiter.run(RESERVE, [name, *self.keys], given)
        return jsonio.decode(found, _reply)

    async def ask_for(self, amounts: Used) -> Reservation:
        """Reserve so much, together with all other gateways."""
        limiter = self.limiter
        name = limiter.name()
        try:
            reply = await self.ask(name, amounts)
            if reply.unseeded:
                seeded = await self.seed(reply)
                reply = await self.ask(name, amounts, seeded=seeded)
        except _Down:
            limiter.undo(name)
            return await self._when_alone(amounts)
        except BaseException:
            limiter.undo(name)  # nobody will settle what it may have reserved
            raise
        fields = self._fields(reply, amounts if reply.ok else (0, 0, 0))
        if not reply.ok:
            if reply.unseeded:
                raise LimitsUnavailable(
                    "What the budget has been used for so far cannot be read from the database; send the request again.",
                    retry_after=HELD_RETRY_S,
                )
            one = worst(self._violations(reply, amounts))
            limiter.refused[one.rule.scope.level, KINDS[one.rule.kind]] += 1
            raise refusal(one, fields)
        limiter.open += 1
        return _Held(limiter, name, fields)

    async def seed(self, reply: _Reply) -> str:
        """Have the server told what the books know; which windows must be seeded from now on. Raises _Down."""
        books = self.limiter.books
        for place, number, begin in reply.unseeded:
            rule = self.rules[int(place)]
            used: Used = (0, 0, 0)
            if books is not None:
                try:
                    used = await books.used(rule.scope, float(begin), reply.now)
                except StorageUnavailable as error:
                    self.limiter.warning(
                        "limits_unseeded", level=rule.scope.level, scope=rule.scope.id, reason=error.message
                    )
                    return "cost"
            given = [rule.window.encode(), b"%d" % int(number), *(b"%d" % amount for amount in used)]
            await self.limiter.run(SEED, [self.keys[int(place)]], given)
        return "all"

    def _alone(self, tokens: int, cost_nano: int) -> Reservation | Coroutine[Any, Any, Reservation]:
        limiter = self.limiter
        self._check_may_be_alone()
        held = limiter.local.gate(self._scopes, self._end_user).reserve(tokens, cost_nano)
        if asyncio.iscoroutine(held):
            return self._when_seeded(held, cost_nano)
        limiter.open += 1
        return _Alone(self, held, cost_nano)

    async def _when_seeded(self, held: Coroutine[Any, Any, Reservation], cost_nano: int) -> Reservation:
        own = await held
        self.limiter.open += 1
        return _Alone(self, own, cost_nano)

    async def _when_alone(self, amounts: Used) -> Reservation:
        requests, tokens, cost_nano = amounts
        if not requests:
            return self._alone_more(cost_nano)
        held = self._alone(tokens, cost_nano)
        return await held if asyncio.iscoroutine(held) else held

    def _alone_more(self, cost_nano: int) -> Reservation:
        limiter = self.limiter
        self._check_may_be_alone()
        held = limiter.local.gate(self._scopes, self._end_user).more(cost_nano)
        limiter.open += 1
        return _Alone(self, held, cost_nano)

    def _check_may_be_alone(self) -> None:
        if self.limiter.refuses:
            raise LimitsUnavailable(
                "The limits of this key cannot be looked up now; send the request again.", retry_after=1
            )

    def _violations(self, reply: _Reply, amounts: Used) -> list[Violation]:
        found = []
        for rule, (used, held, wait_s, _) in zip(self.rules, reply.rules, strict=True):
            if wait_s:
                asked = 1 if rule.kind == STREAMS else amounts[rule.kind]
                found.append(Violation(rule, int(used), int(held), asked, float("inf") if wait_s < 0 else wait_s))
        return found

    def _fields(self, reply: _Reply, amounts: Used) -> bytes:
        tightest: list[tuple[int, int, float] | None] = [None, None]
        for rule, (used, _, _, reset_s) in zip(self.rules, reply.rules, strict=True):
            if rule.kind > TOKENS:
                continue
            remaining = rule.limit - int(used) - amounts[rule.kind]
            best = tightest[rule.kind]
            if best is None or remaining < best[1]:
                tightest[rule.kind] = (rule.limit, remaining, reset_s)
        return limit_fields(tightest)


class ValkeyLimiter:
    """See :class:`tidegate.access.limits.Limiter`. Lives on one event loop."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        timeout_s: float,
        refuses: bool,
        gateways: int,
        warn: Callable[..., object],
        books: Books | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`refuses`: without the server no request with limits passes; else each of the `gateways` counts alone."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            **redis_tls(url),
        )
        self._redis = Redis.from_pool(pool)
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._gateways = gateways
        self._clock = clock or SystemClock()
        self._hashes: dict[str, str] = {}
        self._gates: dict[int, tuple[tuple[Scope, ...], _Gate]] = {}
        self._waiting: deque[_Message] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._local: MemoryLimiter | None = None
        self._down_until = 0.0
        self._closing = False
        self.books = books
        self.warning = warn
        self.refuses = refuses
        self.open = 0
        self.refused: Counter[tuple[str, str]] = Counter()

    def gate(self, scopes: tuple[Scope, ...], end_user: Scope | None = None) -> _Gate:
        if end_user is not None:
            return _Gate(self, scopes, end_user)
        known = self._gates.get(id(scopes))
        if known is not None:
            return known[1]
        if len(self._gates) >= GATES:
            self._gates.clear()
        gate = _Gate(self, scopes, None)
        self._gates[id(scopes)] = (scopes, gate)  # which keeps the tuple, so that no other gets its id
        return gate

    async def standings(self, scopes: Sequence[Scope]) -> list[Standing]:
        gate = _Gate(self, tuple(scopes), None)
        try:
            reply = await gate.ask(self.name(), (0, 0, 0), dry=True, seeded="none" if self.books is None else "all")
            if reply.unseeded:
                await gate.seed(reply)
                reply = await gate.ask(self.name(), (0, 0, 0), dry=True, seeded="none")
        except _Down:
            if self.refuses:
                raise LimitsUnavailable(
                    "How the limits stand cannot be looked up now: Valkey does not answer.", retry_after=1
                ) from None
            return [msgspec.structs.replace(one, alone=True) for one in await self.local.standings(scopes)]
        return [
            standing(
                rule,
                int(used - held),
                int(held),
                window_bounds(rule.window, reply.now)[1] - reply.now if rule.window in ("day", "month") else reset_s,
            )
            for rule, (used, held, _, reset_s) in zip(gate.rules, reply.rules, strict=True)
        ]

    async def end_users(self, most: int) -> list[str]:
        found: dict[str, None] = {}
        try:
            async with asyncio.timeout(SCAN_S):
                async for key in self._redis.scan_iter(match=f"{_escaped(self._prefix)}:[cms]:end_user:*", count=1000):
                    letter, _, name = key.decode("utf-8", "replace").removeprefix(f"{self._prefix}:").split(":", 2)
                    found[name.rpartition(":")[0] if letter == "m" else name] = None
                    if len(found) >= most:
                        break
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
            return await self.local.end_users(most)
        return list(found)

    def unlimited(self, level: str, id: str) -> None:  # noqa: A002
        """Nothing: the server keeps its counts, and what is used meanwhile is not in them."""

    def interrupted(self, usages: Sequence[Usage]) -> None:
        """The server has counted them itself, as far as it was there: what counts alone asks the books."""
        if self._local is not None:
            self._local.interrupted(usages)

    def forget_gates(self) -> None:
        self._gates.clear()
        if self._local is not None:
            self._local.forget_gates()

    async def close(self) -> None:
        """Tell the server what is settled, if it answers, and leave it."""
        self._closing = True
        if self._sender is not None:
            await asyncio.wait([self._sender], timeout=2 * self._timeout_s + AGAIN_S)
            self._sender.cancel()
            await asyncio.wait([self._sender])
        if self._local is not None:
            await self._local.close()
        await self._redis.aclose()

    # -- for gates ----------------------------------------------------------------------------------------------

    def name(self) -> str:
        """That of a new reservation."""
        return f"{self._prefix}:r:{os.urandom(12).hex()}"

    def key(self, rule: Rule) -> str:
        scope = rule.scope
        letter = "s" if rule.kind == STREAMS else "m" if rule.window == "minute" else "c"
        name = f"{self._prefix}:{letter}:{scope.level}:{scope.id}"
        return f"{name}:{rule.kind}" if letter == "m" else name

    def is_alone(self) -> bool:
        """Whether the server is left alone for now. Once in a while one request finds out for all."""
        if not self._down_until:
            return False
        now = self._clock.monotonic()
        if now < self._down_until:
            return True
        self._down_until = now + AGAIN_S
        return False

    @property
    def local(self) -> MemoryLimiter:
        """What counts while the server does not answer. It stays when that is over: a server that comes and goes gives
        nobody the share of a minute twice."""
        if self._local is None:
            self._local = MemoryLimiter(clock=self._clock, books=self.books, warn=self.warning, share=self._gateways)
            self._local.refused = self.refused
        return self._local

    async def run(self, script: str, keys: Sequence[str], given: Sequence[bytes]) -> Any:
        """One run of a script, within the time that a request waits. Raises _Down."""
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._evaluate(script, keys, given)
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
            raise _Down from None
        self._found()
        return found

    def undo(self, name: str) -> None:
        """Take back a reservation that may have been made, or may be about to."""
        self.send(_Message(name, (0, 0, 0), tries=UNDO_TRIES))

    def send(self, message: _Message) -> None:
        """Have the server told, as soon as it listens."""
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self.warning("limits_settlement_lost", reason="Valkey has not answered for too long")
        self._waiting.append(message)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all())

    # -- inside -------------------------------------------------------------------------------------------------

    async def _evaluate(self, script: str, keys: Sequence[str], given: Sequence[bytes]) -> Any:
        known = self._hashes.get(script) or await self._load(script)
        try:
            return await self._redis.evalsha(known, len(keys), *keys, *given)
        except NoScriptError:
            return await self._redis.evalsha(await self._load(script), len(keys), *keys, *given)

    async def _load(self, script: str) -> str:
        found = await self._redis.script_load(script)
        known = self._hashes[script] = found if isinstance(found, str) else found.decode()
        return known

    def _lost(self, error: BaseException) -> None:
        if self._down_until == 0.0:
            mode = "requests with limits are refused" if self.refuses else "each gateway counts for itself"
            self.warning("limits_alone", reason=f"Valkey: {error or type(error).__name__}", mode=mode)
        self._down_until = self._clock.monotonic() + AGAIN_S

    def _found(self) -> None:
        if self._down_until:
            self._down_until = 0.0
            if self._local is not None:
                self._local.forget_calendars()
            self.warning("limits_together", reason="Valkey answers again")

    async def _send_all(self) -> None:
        """Settle what waits, in batches, for as long as something does."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                async with asyncio.timeout(max(1.0, self._timeout_s)):
                    await self._send_batch(batch)
            except (RedisError, OSError, TimeoutError) as error:
                self._lost(error)
                self._waiting.extendleft(reversed(batch))
                if self._closing:
                    return
                await asyncio.sleep(AGAIN_S)

    async def _send_batch(self, batch: list[_Message]) -> None:
        """Settling twice does no harm: the second one finds no reservation. Only what was used alone counts twice where the
        answer to a batch is lost."""
        known = self._hashes.get(SETTLE) or await self._load(SETTLE)
        async with self._redis.pipeline(transaction=False) as pipeline:
            places = []
            count = 0
            for message in batch:
                if message.record:
                    pipeline.set(message.name, message.record, ex=60, nx=True)
                    count += 1
                pipeline.evalsha(known, 1, message.name, *(b"%d" % amount for amount in message.amounts))
                places.append(count)
                count += 1
            replies = await pipeline.execute(raise_on_error=False)
        failure = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if isinstance(failure, NoScriptError):
            self._hashes.pop(SETTLE, None)
        if failure is not None:
            raise failure
        self._found()
        for message, place in zip(batch, places, strict=True):
            if message.tries > 1 and not replies[place] and not self._closing:
                message.tries -= 1
                asyncio.get_running_loop().call_later(AGAIN_S, self.send, message)
