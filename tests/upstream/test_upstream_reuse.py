"""Keep-alive: which connection is taken, which one is not taken back, and the one retry of a stale one."""

import asyncio
import time

import pytest

from tests.upstream.stage import LOOPS, OK, Answer, Peer, Provider, Stage, answering, run, saying, sockets, until
from tidegate.sim import SimServer
from tidegate.upstream.attempt import STALE_S
from tidegate.upstream.connection import Connection
from tidegate.upstream.pool import IDLE_LIMIT_S
from tidegate.wire import errors

CHAT = b'{"model":"%b","messages":[{"role":"user","content":"x"}],"stream":true}'


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_is_used_again(loop: str) -> None:
    async def scenario() -> None:
        async with Provider(answering(OK)) as provider, Stage(provider.url) as stage:
            for _ in range(20):
                assert (await stage.fetch()).body == b"ok"
            assert len(provider.peers) == 1
            assert (stage.pool.open_count, stage.pool.idle_count) == (1, 1)

    run(scenario, loop)


def test_the_newest_idle_connection_is_taken_first() -> None:
    async def scenario() -> None:
        async with Provider(answering(OK)) as provider, Stage(provider.url) as stage:
            burst = [stage.ask() for _ in range(5)]
            for answer in burst:
                await answer.over()
            assert stage.pool.idle_count == 5
            oldest = next(iter(stage.pool._idle))
            for _ in range(10):
                await stage.fetch()
            assert len(provider.peers) == 5
            assert next(iter(stage.pool._idle)) is oldest

    run(scenario)


def test_a_receiver_may_start_the_next_attempt_when_it_hears_the_end() -> None:
    async def scenario() -> None:
        async with Provider(answering(OK)) as provider, Stage(provider.url) as stage:
            second = Answer()
            first = Answer()
            first.on_end = lambda: (stage.ask(answer=second), None)[1]
            stage.ask(answer=first)
            await first.over()
            assert (await second.over()).body == b"ok"
            assert len(provider.peers) == 1
            assert (stage.pool.open_count, stage.pool.idle_count) == (1, 1)

    run(scenario)


class Stale:
    """Answers the first request of a connection, and lets the second one down."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.requests: list[tuple[int, bytes]] = []

    async def __call__(self, peer: Peer) -> None:
        self.requests.append((peer.number, await peer.request()))
        peer.send(OK)
        if peer.number > 0:
            await peer.gone()
            return
        if self.how == "idle-fin":
            return
        if self.how == "idle-rst":
            await peer.writer.drain()
            await asyncio.sleep(0.02)
            peer.reset()
            return
        self.requests.append((peer.number, await peer.request()))
        if self.how == "rst":
            peer.reset()
        elif self.how == "byte":
            peer.send(b"H")
        elif self.how == "interim":
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self.how == "status-line":
            peer.send(b"HTTP/1.1 200 OK\r\n")
        elif self.how == "garbage":
            peer.send(b"\0\0")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["idle-fin", "idle-rst", "fin", "rst"])
def test_a_stale_connection_is_replaced_once_before_any_byte(how: str, loop: str) -> None:
    async def scenario() -> None:
        script = Stale(how)
        async with Provider(script) as provider, Stage(provider.url) as stage:
            await stage.fetch(b'{"n":1}')
            if how.startswith("idle"):
                await until(lambda: stage.pool.idle_count == 0)
                assert stage.pool.open_count == 0
            answer = await stage.fetch(b'{"n":2}')
            assert (answer.status, answer.body, answer.error) == (200, b"ok", None)
            assert len(provider.peers) == 2
            assert script.requests[-1][0] == 1
            assert script.requests[-1][1].endswith(b'{"n":2}')
            assert stage.pool.open_count == 1

    run(scenario, loop)


def test_a_connection_that_closes_in_the_very_moment_is_replaced_too() -> None:
    """The FIN is in the socket, the loop has not read it yet."""

    async def scenario() -> None:
        async with Provider(Stale("idle-fin")) as provider, Stage(provider.url) as stage:
            first = Answer()
            second = Answer()

            def at_once() -> None:
                time.sleep(0.05)  # the loop stands still; the provider's FIN is on its way meanwhile
                stage.ask(answer=second)

            first.on_end = at_once
            stage.ask(answer=first)
            assert (await second.over()).body == b"ok"
            assert len(provider.peers) == 2

    run(scenario)


@pytest.mark.parametrize("how", ["byte", "interim", "status-line", "garbage"])
def test_after_one_byte_there_is_no_second_try(how: str) -> None:
    async def scenario() -> None:
        async with Provider(Stale(how)) as provider, Stage(provider.url) as stage:
            await stage.fetch()
            answer = await stage.fetch()
            assert isinstance(answer.error, errors.UpstreamBroken)
            assert len(provider.peers) == 1

    run(scenario)


def test_a_fresh_connection_that_breaks_is_not_tried_again() -> None:
    async def scenario() -> None:
        async with Provider(saying()) as provider, Stage(provider.url) as stage:
            answer = await stage.fetch()
            assert "before its answer was complete" in answer.message
            assert len(provider.peers) == 1

    run(scenario)


def test_the_second_connection_is_the_last() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            peer.send(OK)
            await peer.request()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            await stage.fetch()
            answer = await stage.fetch()
            assert isinstance(answer.error, errors.UpstreamBroken)
            assert len(provider.peers) == 2

    run(scenario)


def test_a_clock_is_never_a_reason_to_try_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            await stage.fetch()
            answer = await stage.fetch(first_event=0.2)
            assert isinstance(answer.error, errors.UpstreamTimeout)
            assert len(provider.peers) == 1

    run(scenario)


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_request_that_was_worked_at_is_not_sent_again_unseen(how: str) -> None:
    """A provider that dies over it may have been asked for money already: whether it is asked again is for the routing."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.request()
        await asyncio.sleep(STALE_S + 0.1)
        if how == "rst":
            peer.reset()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            await stage.fetch()
            answer = await stage.fetch()
            assert isinstance(answer.error, errors.UpstreamBroken)
            assert len(provider.peers) == 1

    run(scenario)


def test_a_large_request_is_sent_whole_once_more() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.request()
            peer.send(OK)
            await peer.reader.readexactly(100_000)  # a part of the second one
            peer.reset()
            return
        got.append(await peer.request())
        peer.send(OK)
        await peer.gone()

    got: list[bytes] = []
    body = bytes(range(256)) * 8192

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            await stage.fetch()
            assert (await stage.fetch(body)).body == b"ok"
            assert got[0].endswith(b"\r\n\r\n" + body)
            assert len(provider.peers) == 2

    run(scenario)


@pytest.mark.parametrize("fault", ["stale", "close_keepalive", "unsolicited"])
def test_the_simulators_unreliable_connections_go_unnoticed(fault: str) -> None:
    async def scenario() -> None:
        async with SimServer() as sim, Stage(sim.base_url) as stage:
            for _ in range(6):
                answer = await stage.fetch(CHAT % f"echo?fault={fault}".encode())
                assert answer.error is None
                assert answer.body.count(b"[DONE]") == 1

    run(scenario)


@pytest.mark.fault("FAULT-POOL")
def test_at_the_cap_further_requests_are_refused_and_told_when_to_come_back() -> None:
    async def scenario() -> None:
        async with Provider(saying(hold=True)) as provider, Stage(provider.url, limit=2) as stage:
            busy = [stage.ask(), stage.ask()]
            await until(lambda: stage.pool.open_count == 2)
            answer = await stage.fetch()
            assert isinstance(answer.error, errors.Overloaded)
            assert answer.error.http_status == 503
            assert (b"retry-after", b"1") in answer.error.headers()
            assert answer.message == "Provider 'lab': all 2 connections are in use."
            for one in busy:
                one.attempt.abort()
            await until(lambda: stage.pool.open_count == 0)
            again = stage.ask()
            await until(lambda: stage.pool.open_count == 1)
            assert again.error is None
            again.attempt.abort()

    run(scenario)


@pytest.mark.fault("FAULT-POOL")
def test_connections_that_are_being_opened_count_for_the_cap() -> None:
    async def scenario() -> None:
        async with Provider(answering(OK)) as provider, Stage(provider.url, limit=3) as stage:
            answers = [stage.ask() for _ in range(10)]
            for answer in answers:
                await answer.over()
            refused = [one for one in answers if isinstance(one.error, errors.Overloaded)]
            assert len(refused) == 7
            assert len(provider.peers) == 3

    run(scenario)


def test_a_provider_that_accepts_and_closes_does_not_use_up_the_cap() -> None:
    async def script(peer: Peer) -> None:
        peer.writer.transport.abort()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url, limit=3) as stage:
            for _ in range(20):
                answer = await stage.fetch()
                assert isinstance(answer.error, errors.UpstreamBroken | errors.UpstreamUnreachable)
            await until(lambda: stage.pool.open_count == 0)
            assert stage.pool.open_count == 0

    run(scenario)


def test_an_idle_connection_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 30 <= IDLE_LIMIT_S < 60
    monkeypatch.setattr("tidegate.upstream.pool.IDLE_LIMIT_S", 0.1)

    async def scenario() -> None:
        async with Provider(answering(OK)) as provider, Stage(provider.url) as stage:
            await stage.fetch(idle=0.05, first_event=0.05)
            assert stage.pool.idle_count == 1
            await until(lambda: stage.pool.open_count == 0, 1)
            assert stage.pool.open_count == stage.pool.idle_count == 0
            await until(lambda: not provider.tasks)
            assert not provider.tasks  # the provider has seen it

    run(scenario)


def test_the_surplus_of_a_burst_ages_out_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.upstream.pool.IDLE_LIMIT_S", 0.4)

    async def scenario() -> None:
        async with Provider(answering(OK)) as provider, Stage(provider.url) as stage:
            for answer in [stage.ask() for _ in range(20)]:
                await answer.over()
            assert stage.pool.idle_count == 20
            end = stage.loop.time() + 0.8
            while stage.loop.time() < end:
                await stage.fetch()
                await asyncio.sleep(0.05)
            assert stage.pool.open_count == 1
            assert len(provider.peers) == 20

    run(scenario)


def test_a_closed_pool_drops_what_is_idle_and_lets_the_busy_finish() -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
            await gate.wait()
            peer.send(b"lf")
        else:
            peer.send(OK)
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            busy = stage.ask()
            await until(lambda: busy.bodies)
            await stage.fetch()
            assert (stage.pool.open_count, stage.pool.idle_count) == (2, 1)
            stage.upstream.close()
            assert (stage.pool.open_count, stage.pool.idle_count) == (1, 0)
            await until(lambda: provider.peers[1].closed_at)
            gate.set()
            assert (await busy.over()).body == b"half"
            assert stage.pool.open_count == 0
            # An exchange that still holds the old snapshot may call: the connection is not kept.
            late = await stage.fetch()
            assert late.body == b"ok"
            assert stage.pool.open_count == 0

    run(scenario)


@pytest.mark.fault("FAULT-LEAK")
@pytest.mark.parametrize("loop", LOOPS)
def test_hundreds_of_cycles_leave_nothing_behind(loop: str) -> None:
    async def scenario() -> None:
        async with SimServer() as sim, Stage(sim.base_url) as stage:
            before = sockets()
            for number in range(25):
                models = (
                    b"echo",
                    b"lorem?fault=reset",
                    b"lorem?fault=cut",
                    b"lorem?fault=not_http",
                    b"lorem?fault=stale",
                    b"lorem?fault=unsolicited",
                    b"lorem?chunks=50",
                    b"lorem?fault=stall",
                )
                answers = [stage.ask(CHAT % model, first_event=5, idle=5) for model in models]
                await asyncio.sleep(0.003 * (number % 4))
                for answer in answers[-2:]:
                    answer.attempt.abort()
                    answer.quiet = True
                for answer in answers[:-2]:
                    await answer.over()
                assert not any(answer.wrong for answer in answers)
            await until(lambda: stage.pool.open_count == stage.pool.idle_count)
            assert stage.pool.open_count == stage.pool.idle_count <= 8
            stage.upstream.close()
            await until(lambda: sockets() <= before)
            assert sockets() <= before

    run(scenario, loop)


def test_dropping_thousands_of_idle_connections_is_linear() -> None:
    async def scenario() -> None:
        async with Stage("http://localhost:9/v1") as stage:
            idle = [Connection(stage.pool, stage.loop) for _ in range(10_000)]
            begin = time.process_time()
            for connection in idle:
                stage.pool.put(connection)
            stage.upstream.close()
            assert time.process_time() - begin < 0.5
            assert stage.pool.idle_count == 0

    run(scenario)
