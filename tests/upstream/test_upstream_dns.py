"""Names and addresses: off the loop, every address in its turn (RFC 8305), losers closed."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.upstream.stage import LOOPS, OK, Provider, Stage, answering, full_listener, run, until
from tidegate.upstream.egress import ATTEMPT_DELAY_S, Resolver
from tidegate.wire import errors

Found = list[tuple[Any, ...]]


def to(*addresses: tuple[str, int]) -> Resolver:
    """A resolver that knows these addresses for every name."""

    async def resolve(host: str, port: int) -> Found:
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, number))
            for address, number in addresses
        ]

    return resolve


def failing(error: Exception) -> Resolver:
    async def resolve(host: str, port: int) -> Found:
        raise error

    return resolve


@pytest.mark.parametrize("loop", LOOPS)
def test_the_other_family_answers_when_the_first_refuses(loop: str) -> None:
    async def scenario() -> None:
        async with Provider(answering(OK)) as provider:
            resolver = to(("::1", provider.port), ("127.0.0.1", provider.port))
            async with Stage("http://provider.example/v1", resolver=resolver) as stage:
                started = stage.loop.time()
                assert (await stage.fetch()).body == b"ok"
                assert stage.loop.time() - started < ATTEMPT_DELAY_S

    run(scenario, loop)


@pytest.mark.alone
@pytest.mark.parametrize("loop", LOOPS)
def test_a_dead_address_costs_a_quarter_of_a_second_and_is_closed(loop: str) -> None:
    async def scenario() -> None:
        with full_listener() as dead:
            async with Provider(answering(OK)) as provider:
                resolver = to(("127.0.0.1", dead), ("127.0.0.1", dead), ("127.0.0.1", provider.port))
                async with Stage("http://provider.example/v1", resolver=resolver) as stage:
                    started = stage.loop.time()
                    assert (await stage.fetch()).body == b"ok"
                    spent = stage.loop.time() - started
                    assert 2 * ATTEMPT_DELAY_S - 0.02 <= spent < 2 * ATTEMPT_DELAY_S + 0.3
                    assert stage.pool.open_count == 1

    run(scenario, loop)


def test_families_take_turns() -> None:
    """Twelve dead IPv6 addresses do not stand before the first IPv4 address."""

    async def scenario() -> None:
        async with Provider(answering(OK)) as provider:
            with full_listener() as dead:
                mapped = [("::ffff:127.0.0.1", dead)] * 12
                resolver = to(*mapped, ("127.0.0.1", provider.port))
                async with Stage("http://provider.example/v1", resolver=resolver) as stage:
                    started = stage.loop.time()
                    assert (await stage.fetch()).body == b"ok"
                    assert stage.loop.time() - started < ATTEMPT_DELAY_S + 0.3

    run(scenario)


@pytest.mark.fault("FAULT-CONNECT")
def test_when_all_addresses_fail_the_last_reason_is_told() -> None:
    async def scenario() -> None:
        async with Stage("http://provider.example:81/v1", resolver=to(("127.0.0.1", 9), ("127.0.0.1", 9))) as stage:
            answer = await stage.fetch()
            assert isinstance(answer.error, errors.UpstreamUnreachable)
            assert answer.message == "Provider 'lab': no connection to provider.example:81: Connection refused."

    run(scenario)


@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.parametrize(
    ("resolver", "words"),
    [
        (failing(socket.gaierror(socket.EAI_NONAME, "Name or service not known")), "Name or service not known."),
        (failing(socket.gaierror(socket.EAI_AGAIN, "Temporary failure")), "Temporary failure."),
        (failing(UnicodeError("label too long")), "not a valid host name."),
    ],
)
def test_a_name_that_is_not_found_is_told(resolver: Resolver, words: str) -> None:
    async def scenario() -> None:
        async with Stage("http://provider.example/v1", resolver=resolver) as stage:
            for _ in range(2):
                answer = await stage.fetch()
                assert isinstance(answer.error, errors.UpstreamUnreachable)
                assert answer.message == f"Provider 'lab': the name 'provider.example' cannot be resolved: {words}"

    run(scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_systems_resolver_says_no_too(loop: str) -> None:
    async def scenario() -> None:
        async with Stage("http://nowhere.invalid/v1") as stage:
            answer = await stage.fetch()
            assert "the name 'nowhere.invalid' cannot be resolved: " in answer.message

    run(scenario, loop)


def test_no_address_at_all_is_told() -> None:
    async def scenario() -> None:
        async with Stage("http://provider.example/v1", resolver=to()) as stage:
            assert (await stage.fetch()).message.endswith("no connection to provider.example:80: no address.")

    run(scenario)


def test_a_resolver_with_a_bug_leaves_nobody_waiting() -> None:
    async def scenario() -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context["exception"]))
        async with Stage("http://provider.example/v1", resolver=failing(KeyError("canary"))) as stage:
            answer = await stage.fetch()
            assert answer.error is not None
            assert answer.error.http_status == 500
            assert "canary" not in answer.message
            assert isinstance(problems[0], KeyError)

    run(scenario)


@pytest.mark.fault("FAULT-HERD")
def test_a_burst_asks_once_and_nobody_takes_the_answer_from_another() -> None:
    asked = 0
    gate: list[asyncio.Event] = []

    async def scenario() -> None:
        async with Provider(answering(OK)) as provider:

            async def resolve(host: str, port: int) -> Found:
                nonlocal asked
                asked += 1
                await gate[0].wait()
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", provider.port))]

            gate.append(asyncio.Event())
            async with Stage("http://provider.example/v1", resolver=resolve) as stage:
                answers = [stage.ask() for _ in range(50)]
                await until(lambda: asked)
                answers[0].attempt.abort()
                await asyncio.sleep(0.01)
                gate[0].set()
                for answer in answers[1:]:
                    assert (await answer.over()).body == b"ok"
                assert asked == 1
                # The next one asks again: an answer is shared, not kept.
                for connection in list(stage.pool._idle):
                    connection.abort()
                await stage.fetch()
                assert asked == 2

    run(scenario)


@pytest.mark.fault("FAULT-LOOP-BLOCKED")
@pytest.mark.alone
@pytest.mark.parametrize("loop", LOOPS)
def test_the_system_is_asked_off_the_loop(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loop == "uvloop":
        pytest.skip("uvloop asks in libuv's threads, where nothing can be put in its place")
    threads: list[threading.Thread] = []
    system: Callable[..., Any] = socket.getaddrinfo

    def slow(*args: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        time.sleep(0.2)
        return system("127.0.0.1", args[1], type=socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def scenario() -> None:
        async with Stage("http://provider.example:9/v1") as stage:
            answer = stage.ask()
            begin = time.perf_counter()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert time.perf_counter() - begin < 0.1
            await answer.over()
            assert threads
            assert threads[0] is not threading.main_thread()

    run(scenario, loop)


def test_keep_alive_probes_are_on() -> None:
    """A model may think for minutes; a NAT table that forgets the connection would leave us waiting."""

    async def scenario() -> None:
        async with Provider(answering(OK)) as provider, Stage(provider.url) as stage:
            await stage.fetch()
            connection = next(iter(stage.pool._idle))
            assert connection._transport is not None
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(scenario)
