"""Limits that gateways count together, on a real server: also while it is killed, stopped, emptied or slow."""

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, SSLConnection

from tests.access.clock import FakeClock
from tests.support.valkey import ValkeyServer
from tidegate.access.engines import redis_tls, redis_url
from tidegate.access.limits import Reservation, Used
from tidegate.access.memory import MemoryLimiter
from tidegate.access.scopes import Scope
from tidegate.access.valkey import ValkeyLimiter
from tidegate.config.limits import Limits, Windows
from tidegate.config.secret import Secret
from tidegate.wire.errors import BudgetExhausted, LimitsUnavailable, RateLimited, StorageUnavailable


@pytest.fixture(scope="module")
def shared() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def server(shared: ValkeyServer) -> Iterator[ValkeyServer]:
    """Empty, and there."""
    shared.command("FLUSHALL")
    yield shared
    if shared._process is None:
        shared.start()


class PlainBooks:
    """What the ledger would say."""

    def __init__(self, used: Used = (0, 0, 0)) -> None:
        self.amounts = used
        self.fails = False
        self.asked: list[str] = []

    async def used(self, scope: Scope, since: float, before: float) -> Used:
        assert since < before
        self.asked.append(scope.id)
        if self.fails:
            raise StorageUnavailable("The database is away.")
        return self.amounts


@asynccontextmanager
async def limiter(server: ValkeyServer, **settings: Any) -> AsyncIterator[ValkeyLimiter]:
    warned: list[str] = []
    given = {"timeout_s": 0.5, "refuses": False, "gateways": 1, "prefix": "t", **settings}
    found = ValkeyLimiter(server.url, warn=lambda event, **_: warned.append(event), **given)
    found.warned = warned  # type: ignore[attr-defined]
    try:
        yield found
    finally:
        await found.close()


async def reserve(engine: ValkeyLimiter, scope: Scope, tokens: int = 0, cost: int = 0) -> Reservation:
    held = engine.gate((scope,)).reserve(tokens, cost)
    return await held if asyncio.iscoroutine(held) else held


def scope(name: str = "k", **limits: Any) -> Scope:
    return Scope("key", name, Limits(**limits))


async def drained(engine: ValkeyLimiter) -> None:
    if engine._sender is not None:
        await engine._sender


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def test_two_gateways_count_together_and_overrun_no_budget(server: ValkeyServer) -> None:
    one = scope(cost=Windows(month=50e-9))

    async def main() -> None:
        async with limiter(server, timeout_s=5) as first, limiter(server, timeout_s=5) as second:
            tries = [reserve(engine, one, cost=1) for engine in (first, second) for _ in range(100)]
            found = await asyncio.gather(*tries, return_exceptions=True)
            admitted = [held for held in found if not isinstance(held, BaseException)]
            assert len(admitted) == 50
            assert all(isinstance(held, RateLimited) for held in found if isinstance(held, BaseException))
            for held in admitted:
                held.settle(0, 1)
                held.settle(0, 1)
            await drained(first)
            await drained(second)
            with pytest.raises(BudgetExhausted, match=r"used \$0\.00000005, this request"):
                await reserve(second, one, cost=1)

    run(main())


def test_further_attempts_of_requests_overrun_no_budget_either(server: ValkeyServer) -> None:
    """Whoever lacks room for one more is refused, keeps what it has, and needs no place of its own."""
    one = scope(cost=Windows(month=50e-9, minute=50e-9), streams=30, requests=Windows(minute=30))

    async def more(engine: ValkeyLimiter, cost: int) -> Reservation:
        held = engine.gate((one,)).more(cost)
        return await held if asyncio.iscoroutine(held) else held

    async def main() -> None:
        async with limiter(server, timeout_s=5) as first, limiter(server, timeout_s=5) as second:
            held = await asyncio.gather(*(reserve(first, one, cost=1) for _ in range(30)))
            tries = [more(engine, 1) for engine in (first, second) for _ in range(50)]
            found = await asyncio.gather(*tries, return_exceptions=True)
            further = [each for each in found if not isinstance(each, BaseException)]
            assert len(further) == 20
            assert all(isinstance(each, RateLimited) for each in found if isinstance(each, BaseException))
            for each in held:
                each.settle(0, 1)
            for each in further:
                each.settle(0, 0, requests=0)
            await drained(first)
            await drained(second)
            standings = {each.kind + each.window: each for each in await second.standings([one])}
            assert [(each.used, each.reserved) for each in standings.values()] == [(30, 0), (30, 0), (30, 0), (0, 0)]
        async with limiter(server, gateways=2) as alone:
            server.kill()
            held_alone = await reserve(alone, one, cost=20)
            with pytest.raises(RateLimited):
                await more(alone, 6)
            (await more(alone, 5)).settle(0, 5, requests=0)
            held_alone.settle(0, 20)

    run(main())


def test_end_users_are_found_whoever_counted_them(server: ValkeyServer) -> None:
    limits = Limits(requests=Windows(minute=5, day=9), streams=3)
    users = [Scope("end_user", f"default/p/{name}", limits) for name in ("ann", "b:o:b", "c%2Fd")]

    async def main() -> None:
        async with limiter(server, prefix="t[1]*") as first, limiter(server, prefix="t[1]*") as second:
            for user in users:
                held = first.gate((), user).reserve(0, 0)
                assert asyncio.iscoroutine(held)
                (await held).settle(0, 0)
            await reserve(first, scope(requests=Windows(minute=5)))
            assert sorted(await second.end_users(10)) == [user.id for user in users]
            assert len(await second.end_users(2)) == 2

    run(main())


def test_what_was_not_used_comes_back_and_what_was_overrun_is_charged(server: ValkeyServer) -> None:
    one = scope(tokens=Windows(minute=100, day=150))

    async def main() -> None:
        async with limiter(server) as engine:
            held = await reserve(engine, one, tokens=90)
            with pytest.raises(RateLimited, match="tokens per minute"):
                await reserve(engine, one, tokens=20)
            held.settle(10, 0)
            await drained(engine)
            held = await reserve(engine, one, tokens=20)
            held.settle(120, 0)
            await drained(engine)
            standings = await engine.standings([one])
            assert [(each.window, each.used, each.reserved) for each in standings] == [
                ("minute", 130, 0),
                ("day", 130, 0),
            ]
            with pytest.raises(RateLimited) as refused:
                await reserve(engine, one, tokens=1)
            assert refused.value.retry_after is not None
            assert 55 < refused.value.retry_after <= 61

    run(main())


def test_headers_and_refusals_are_those_of_the_engine_in_memory(server: ValkeyServer) -> None:
    one = scope(requests=Windows(minute=2), streams=5)

    async def main() -> None:
        async with limiter(server) as engine:
            held = await reserve(engine, one)
            assert b"x-ratelimit-limit-requests: 2\r\nx-ratelimit-remaining-requests: 1\r\n" in held.fields()
            held = await reserve(engine, one)
            assert b"x-ratelimit-remaining-requests: 0\r\n" in held.fields()
            with pytest.raises(
                RateLimited, match=r"limit 2, used 0, reserved by requests under way 2|limit 2, used 2"
            ) as refused:
                await reserve(engine, one)
            assert dict(refused.value.headers())[b"x-ratelimit-remaining-requests"] == b"0"
            assert engine.refused == {("key", "requests"): 1}

    run(main())


def test_requests_under_way_are_counted_together(server: ValkeyServer) -> None:
    one = scope(streams=1)

    async def main() -> None:
        async with limiter(server) as first, limiter(server) as second:
            held = await reserve(first, one)
            with pytest.raises(RateLimited, match="under way"):
                await reserve(second, one)
            held.settle(0, 0)
            await drained(first)
            await reserve(second, one)

    run(main())


def test_a_day_begins_with_what_the_books_know_also_after_the_server_was_emptied(server: ValkeyServer) -> None:
    one = scope(cost=Windows(day=100e-9), requests=Windows(month=1000))
    books = PlainBooks((7, 0, 90))

    async def main() -> None:
        async with limiter(server, books=books) as engine:
            held = await reserve(engine, one, cost=10)
            held.settle(0, 4)
            await drained(engine)
            asked = len(books.asked)
            with pytest.raises((BudgetExhausted, RateLimited)):
                await reserve(engine, one, cost=10)
            assert len(books.asked) == asked  # once is enough
            server.command("FLUSHALL")
            books.amounts = (8, 0, 94)
            with pytest.raises(BudgetExhausted):
                await reserve(engine, one, cost=10)
            await reserve(engine, one, cost=6)
            assert len(books.asked) == 2 * asked

    run(main())


def test_a_budget_waits_for_the_books_and_other_limits_do_not(server: ValkeyServer) -> None:
    books = PlainBooks()
    books.fails = True

    async def main() -> None:
        async with limiter(server, books=books) as engine:
            with pytest.raises(LimitsUnavailable, match="cannot be read from the database"):
                await reserve(engine, scope(cost=Windows(day=1)))
            await reserve(engine, scope(requests=Windows(day=1)))

    run(main())


@pytest.mark.fault("FAULT-VALKEY")
def test_flushed_scripts_are_loaded_again(server: ValkeyServer) -> None:
    one = scope(requests=Windows(minute=10), tokens=Windows(minute=100))

    async def main() -> None:
        async with limiter(server) as engine:
            held = await reserve(engine, one, tokens=50)
            server.command("SCRIPT FLUSH")
            held.settle(1, 0)
            await reserve(engine, one, tokens=5)
            server.command("SCRIPT FLUSH")
            (await reserve(engine, one, tokens=5)).settle(1, 0)
            await drained(engine)
            standings = await engine.standings([one])
            assert [each.used + each.reserved for each in standings] == [3, 7]

    run(main())


@pytest.mark.fault("FAULT-VALKEY")
def test_a_server_that_is_gone_leaves_each_gateway_its_share(server: ValkeyServer) -> None:
    one = scope(requests=Windows(minute=10))

    async def main() -> None:
        async with limiter(server, gateways=2) as engine:
            await reserve(engine, one)
            server.kill()
            for _ in range(5):
                await reserve(engine, one)
            with pytest.raises(RateLimited, match="limit 5"):
                await reserve(engine, one)
            assert engine.warned.count("limits_alone") == 1  # type: ignore[attr-defined]

    run(main())


@pytest.mark.fault("FAULT-VALKEY")
@pytest.mark.security("SEC-API4-OUTAGE")
def test_a_server_that_comes_and_goes_gives_nobody_a_minute_or_a_place_twice(server: ValkeyServer) -> None:
    """And what a day has seen is asked anew each time: others have counted in between."""
    one = scope(requests=Windows(minute=10, day=40), streams=10)
    clock, books = FakeClock(), PlainBooks((20, 0, 0))

    async def passes(engine: ValkeyLimiter, most: int) -> int:
        for count in range(most):
            try:
                held.append(await reserve(engine, one))
            except RateLimited:
                return count
        return most

    async def seeded(engine: ValkeyLimiter) -> None:
        await engine.local.standings([one])

    async def back(engine: ValkeyLimiter) -> None:
        server.start()
        clock.advance(1.5)
        (await reserve(engine, scope("other", requests=Windows(minute=99)))).settle(0, 0)
        assert engine.warned[-1] == "limits_together"  # type: ignore[attr-defined]

    held: list[Reservation] = []

    async def main() -> None:
        async with limiter(server, gateways=2, clock=clock, books=books) as engine:
            for _ in range(2):
                server.kill()
                assert await passes(engine, 2) == 2
                await back(engine)
            server.kill()
            assert await passes(engine, 9) == 1  # the fifth of its half, in this minute
            clock.advance(61)
            assert await passes(engine, 9) == 0  # and all of them are still under way
            while held:
                held.pop().settle(0, 0)
            await back(engine)
            books.amounts = (34, 0, 0)
            server.kill()
            await reserve(engine, scope("other", requests=Windows(minute=99)))
            await seeded(engine)
            assert await passes(engine, 9) == 3  # half of the six that are left of the day
            await back(engine)

    run(main())


@pytest.mark.fault("FAULT-VALKEY")
@pytest.mark.security("SEC-API4-OUTAGE")
def test_a_server_that_is_gone_refuses_where_that_is_asked_for(server: ValkeyServer) -> None:
    async def main() -> None:
        async with limiter(server, refuses=True) as engine:
            one = scope(requests=Windows(minute=10))
            await reserve(engine, one)
            server.kill()
            with pytest.raises(LimitsUnavailable):
                await reserve(engine, one)

    run(main())


@pytest.mark.fault("FAULT-VALKEY")
def test_what_was_used_alone_is_told_when_the_server_is_back(server: ValkeyServer) -> None:
    one = scope(cost=Windows(month=100e-9))

    async def main() -> None:
        async with limiter(server, timeout_s=0.1) as engine:
            kept = await reserve(engine, one, cost=40)
            server.freeze()
            try:
                begun = time.monotonic()
                alone = await reserve(engine, one, cost=30)
                assert time.monotonic() - begun < 0.5
                alone.settle(0, 20)
                kept.settle(0, 35)
            finally:
                server.thaw()
            await drained(engine)
            await asyncio.sleep(1.2)  # what the frozen server was still told is taken back once more
            await drained(engine)
            [standing] = await engine.standings([one])
            assert (standing.used, standing.reserved) == (55, 0)
            assert engine.warned == ["limits_alone", "limits_together"]  # type: ignore[attr-defined]

    run(main())


@pytest.mark.security("SEC-API4-LEAVE")
def test_a_client_that_leaves_while_its_request_waits_holds_nothing(server: ValkeyServer) -> None:
    one = scope(streams=1)

    async def main() -> None:
        async with limiter(server, timeout_s=5) as engine:
            await reserve(engine, scope("other", streams=9))  # the connection is there
            server.freeze()
            task = asyncio.ensure_future(reserve(engine, one))
            await asyncio.sleep(0.05)
            task.cancel()
            server.thaw()
            with pytest.raises(asyncio.CancelledError):
                await task
            await drained(engine)
            for _ in range(40):
                try:
                    await reserve(engine, one)
                except RateLimited:
                    await asyncio.sleep(0.1)
                else:
                    return
            raise AssertionError("its place was never free again")

    run(main())


def test_everything_expires_by_itself(server: ValkeyServer) -> None:
    async def main() -> None:
        async with limiter(server, prefix="mine") as engine:
            every = Windows(minute=9, day=9, month=9)
            await reserve(engine, scope(requests=every, tokens=every, cost=every, streams=9), tokens=1, cost=1)

    run(main())
    names = [line for line in server.command("KEYS", "*").decode().split("\r\n") if line and line[0] not in "*$"]
    assert len(names) == 6
    for name in names:
        assert name.startswith("mine:")
        assert int(server.command("TTL", name).strip()[1:]) > 0


def test_both_engines_decide_alike(server: ValkeyServer) -> None:
    """The same requests in the same order, at random: they are admitted, refused and counted by both in the same way."""
    chance = random.Random(7)
    every = {
        "requests": Windows(minute=25, day=40),
        "tokens": Windows(minute=900),
        "cost": Windows(day=300e-9, month=360e-9),
    }
    project = Scope("project", "o/p", Limits(**every, streams=6))
    callers = [
        (project, Scope("key", "a", Limits(tokens=Windows(day=500), streams=3))),
        (project, Scope("key", "b", Limits(cost=Windows(minute=90e-9)))),
        (project,),
    ]

    async def main() -> None:
        memory = MemoryLimiter()
        outcomes: Counter[str] = Counter()
        async with limiter(server, timeout_s=5) as engine:
            running: list[tuple[Reservation, Reservation]] = []
            for _ in range(250):
                if running and chance.random() < 0.5:
                    pair = running.pop(chance.randrange(len(running)))
                    used = chance.randrange(60), chance.choice([None, chance.randrange(30)])
                    requests = chance.choice([1, 1, 1, 0])
                    for held in pair:
                        held.settle(*used, requests=requests)
                    await drained(engine)
                    continue
                caller = callers[chance.randrange(3)]
                asked = chance.randrange(40), chance.randrange(20)
                answers: list[Any] = []
                for each in (memory, engine):
                    try:
                        given = each.gate(caller).reserve(*asked)
                        answers.append(await given if asyncio.iscoroutine(given) else given)
                    except (RateLimited, BudgetExhausted) as error:
                        answers.append(error)
                ours, theirs = answers
                assert type(ours) is type(theirs) or (
                    not isinstance(ours, Exception) and not isinstance(theirs, Exception)
                )
                if isinstance(ours, Exception):
                    outcomes[type(ours).__name__] += 1
                    # The server does not tell what of a minute is reserved from what is used.
                    assert str(ours).partition(", used")[0] == str(theirs).partition(", used")[0]
                else:
                    outcomes["admitted"] += 1
                    running.append((ours, theirs))
            scopes = list({one.id: one for caller in callers for one in caller}.values())
            counted = [
                [
                    (one.id, one.kind, one.window, one.limit, one.used + one.reserved)
                    for one in await each.standings(scopes)
                ]
                for each in (memory, engine)
            ]
            assert counted[0] == counted[1]
        assert outcomes["admitted"] > 20
        assert outcomes["RateLimited"] > 5
        assert outcomes["BudgetExhausted"] > 5

    run(main())


@pytest.mark.parametrize("address", ["rediss://h:6379/0", "valkeys://h"])
def test_over_tls_no_version_below_1_2_is_spoken(address: str) -> None:
    url = redis_url(Secret(address))
    connection = ConnectionPool.from_url(url, **redis_tls(url)).make_connection()  # type: ignore[no-untyped-call]
    assert isinstance(connection, SSLConnection)
    assert connection.ssl_context.get().minimum_version is ssl.TLSVersion.TLSv1_2
    assert redis_tls("redis://rediss:6379") == {}
