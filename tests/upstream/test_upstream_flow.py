"""Back-pressure both ways, and how an exchange is let go: release, abort, and what the provider sees of it."""

import asyncio
import time

import pytest

from tests.upstream.stage import (
    CHUNKED,
    LOOPS,
    OK,
    Answer,
    Certificates,
    Peer,
    Provider,
    Stage,
    answering,
    full_listener,
    run,
    saying,
    sockets,
    until,
)
from tidegate.upstream.connection import DRAIN_LIMIT_S


class Endless:
    """Sends chunks as fast as they are taken, and counts them."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED)
        chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        while True:
            peer.send(chunk)
            await peer.writer.drain()
            self.sent += 0x4000
            await asyncio.sleep(0)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
def test_a_pause_reaches_the_provider_and_resume_starts_it_again(
    tls: bool, loop: str, certificates: Certificates
) -> None:
    async def scenario() -> None:
        script = Endless()
        context = certificates.server() if tls else None
        async with (
            Provider(script, context=context) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            answer = stage.ask()
            await until(lambda: len(answer.body) > 200_000)
            answer.attempt.pause()
            received, sent = len(answer.bodies), -1
            while (
                sent != script.sent
            ):  # until all buffers between are full; a pause without effect ends in the time limit
                sent = script.sent
                await asyncio.sleep(0.15)
            assert len(answer.bodies) == received
            answer.attempt.resume()
            await until(lambda: script.sent > sent + 2_000_000)
            assert script.sent > sent + 2_000_000
            assert answer.error is None
            answer.attempt.abort()

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("framed", [True, False])
def test_what_came_before_the_end_is_delivered_after_a_pause(
    framed: bool, tls: bool, loop: str, certificates: Certificates
) -> None:
    body = bytes(range(256)) * 1200

    async def scenario() -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) if framed else b"HTTP/1.1 200 OK\r\n\r\n"
        context = certificates.server() if tls else None
        async with (
            Provider(saying(head, body), context=context) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            answer = Answer()
            answer.on_head = lambda: answer.attempt.pause()
            stage.ask(answer=answer)
            await until(lambda: answer.status)
            await asyncio.sleep(0.1)
            assert not answer.ended
            for _ in range(20):
                answer.attempt.resume()
                await asyncio.sleep(0.005)
                answer.attempt.pause()
            answer.attempt.resume()
            await answer.over()
            assert (answer.error, answer.body == body) == (None, True)

    run(scenario, loop)


def test_a_pause_before_there_is_a_connection_holds() -> None:
    async def scenario() -> None:
        async with Provider(answering(OK)) as provider, Stage(provider.url) as stage:
            answer = stage.ask()
            answer.attempt.pause()
            await asyncio.sleep(0.1)
            assert not answer.status
            answer.attempt.resume()
            assert (await answer.over()).body == b"ok"
            assert stage.pool.idle_count == 1
            # The connection is not paused for whom it serves next.
            assert (await stage.fetch()).body == b"ok"

    run(scenario)


def test_a_pause_holds_on_the_connection_that_replaces_a_stale_one() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        if peer.number > 0:
            await peer.gone()
        else:
            await peer.request()
            peer.reset()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            await stage.fetch()
            answer = stage.ask()
            answer.attempt.pause()
            await until(lambda: len(provider.peers) == 2, 0.3)
            answer.attempt.resume()
            await until(lambda: len(provider.peers) == 2)
            answer.attempt.pause()
            await asyncio.sleep(0.1)
            answer.attempt.resume()
            assert (await answer.over()).body == b"ok"

    run(scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_pause_and_resume_after_the_provider_left_are_harmless(loop: str) -> None:
    async def scenario() -> None:
        async with Provider(saying(CHUNKED, b"2\r\nok\r\n")) as provider, Stage(provider.url) as stage:
            answer = Answer()

            def again() -> None:
                answer.attempt.pause()
                answer.attempt.resume()

            answer.on_end = again
            stage.ask(answer=answer)
            await answer.over()
            for act in (answer.attempt.pause, answer.attempt.resume, answer.attempt.release, answer.attempt.abort):
                act()
            await asyncio.sleep(0.02)
            assert "closed the connection" in answer.message

    run(scenario, loop)


@pytest.mark.alone
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
def test_a_large_request_arrives_whole_and_holds_up_nobody(tls: bool, loop: str, certificates: Certificates) -> None:
    body = bytes(range(256)) * (32 * 4096)  # 32 MiB

    async def script(peer: Peer) -> None:
        assert (await peer.request()).endswith(b"\r\n\r\n" + body)
        peer.send(OK)
        await peer.gone()

    async def scenario() -> None:
        context = certificates.server() if tls else None
        async with (
            Provider(script, context=context) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            begin = time.perf_counter()
            stage.ask().attempt.abort()
            await asyncio.sleep(0)
            assert time.perf_counter() - begin < 0.1
            answer = await stage.fetch(body, first_event=15)
            assert answer.body == b"ok", answer.error
            assert stage.pool.idle_count == 1

    run(scenario, loop)


@pytest.mark.alone
def test_handing_over_a_large_request_takes_no_time(certificates: Certificates) -> None:
    """TLS would encrypt all of it before the loop turns again."""

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.request()
            peer.send(OK)
        await peer.gone()

    async def scenario() -> None:
        async with (
            Provider(script, context=certificates.server()) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            await stage.fetch()
            body = bytes(64 * 1024 * 1024)
            begin = time.process_time()
            answer = stage.ask(body)
            spent = time.process_time() - begin
            answer.attempt.abort()
            assert spent < 0.03, f"{spent:.3f} s"

    run(scenario)


def test_an_answer_before_the_request_is_sent_counts_and_costs_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            answer = await stage.fetch(b"x" * 32 * 1024 * 1024)
            assert (answer.status, answer.body, answer.error) == (413, b"big", None)
            assert stage.pool.open_count == 0

    run(scenario)


# -- letting go -----------------------------------------------------------------------------------------------------


def test_a_released_connection_is_used_again_when_the_rest_comes_soon() -> None:
    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            peer.send(CHUNKED + b"2\r\nok\r\n")
            await asyncio.sleep(0.1)
            peer.send(b"5\r\nrest!\r\n0\r\n\r\n")
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            for _ in range(2):
                answer = stage.ask()
                await until(lambda: answer.bodies)  # noqa: B023
                answer.attempt.release()
                answer.quiet = True
                await until(lambda: stage.pool.idle_count == 1)
                assert (answer.body, answer.ended, answer.wrong) == (b"ok", False, [])
            assert len(provider.peers) == 1

    run(scenario)


@pytest.mark.parametrize("paused", [True, False])
def test_a_released_connection_is_closed_when_the_rest_does_not_come(paused: bool) -> None:
    async def scenario() -> None:
        async with Provider(saying(CHUNKED, b"2\r\nok\r\n", hold=True)) as provider, Stage(provider.url) as stage:
            answer = stage.ask()
            await until(lambda: answer.bodies)
            if paused:
                answer.attempt.pause()
            released = stage.loop.time()
            answer.attempt.release()
            answer.quiet = True
            await until(lambda: provider.peers[0].closed_at)
            closed = provider.peers[0].closed_at
            assert closed is not None
            assert DRAIN_LIMIT_S - 0.01 <= closed - released <= DRAIN_LIMIT_S + 0.6
            assert stage.pool.open_count == 0
            assert not answer.wrong

    run(scenario)


@pytest.mark.parametrize("where", ["head", "body", "end"])
@pytest.mark.parametrize("how", ["abort", "release"])
@pytest.mark.parametrize("raw", [OK, CHUNKED + b"2\r\nok\r\n3\r\nabc\r\n0\r\n\r\n", CHUNKED + b"2\r\nok\r\nxyz\r\n"])
def test_letting_go_inside_a_callback_silences_the_rest_of_the_same_read(raw: bytes, how: str, where: str) -> None:
    async def scenario() -> None:
        async with Provider(answering(raw)) as provider, Stage(provider.url) as stage:
            answer = Answer()

            def let_go() -> None:
                getattr(answer.attempt, how)()
                answer.quiet = True

            setattr(answer, f"on_{where}", let_go)
            stage.ask(answer=answer)
            await until(lambda: answer.quiet)
            await asyncio.sleep(0.05)
            assert not answer.wrong
            good = b"xyz" not in raw
            assert stage.pool.idle_count == (good and (how == "release" or where == "end"))
            if good:
                assert (await stage.fetch()).error is None

    run(scenario)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
def test_an_abort_is_seen_by_the_provider_at_once(tls: bool, loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        context = certificates.server() if tls else None
        async with (
            Provider(saying(CHUNKED, b"2\r\nok\r\n", hold=True), context=context) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            for paused in (False, True):
                answer = stage.ask()
                await until(lambda: answer.bodies)  # noqa: B023
                if paused:
                    answer.attempt.pause()
                asked = stage.loop.time()
                answer.attempt.abort()
                answer.quiet = True
                assert stage.pool.open_count == 0
                peer = provider.peers[-1]
                await until(lambda: peer.closed_at)  # noqa: B023
                assert peer.closed_at is not None
                assert peer.closed_at - asked < 0.5
                assert not answer.wrong

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_abort_while_connecting_leaves_nothing(loop: str) -> None:
    async def scenario() -> None:
        with full_listener() as port:
            async with Stage(f"http://127.0.0.1:{port}/v1") as stage:
                before = sockets()
                for delay in (None, 0, 0.02):
                    answer = stage.ask()
                    if delay is not None:
                        await asyncio.sleep(delay)
                    answer.attempt.abort()
                    answer.quiet = True
                    await until(lambda: sockets() == before)
                    assert sockets() == before
                    assert not answer.wrong

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_abort_during_the_handshake_is_seen_at_once(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url.replace("http:", "https:")) as stage:
            answer = stage.ask()
            await until(lambda: provider.peers)
            await asyncio.sleep(0.05)
            asked = stage.loop.time()
            answer.attempt.abort()
            await until(lambda: provider.peers[0].closed_at)
            closed = provider.peers[0].closed_at
            assert closed is not None
            assert closed - asked < 0.5

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
def test_an_abort_at_any_moment_of_opening_leaves_nothing(tls: bool, loop: str, certificates: Certificates) -> None:
    """The cancellation may meet a connection that stands already."""

    async def scenario() -> None:
        context = certificates.server() if tls else None
        async with (
            Provider(answering(OK), context=context) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            for turns in range(60):
                answer = stage.ask()
                for _ in range(turns % 20):
                    await asyncio.sleep(0)
                if turns >= 20:
                    await asyncio.sleep(0.0002 * (turns - 20))
                answer.attempt.abort()
                answer.quiet = True
            await until(lambda: stage.pool.open_count == stage.pool.idle_count)
            stage.upstream.close()
            await until(lambda: not provider.tasks)
            assert stage.pool.open_count == 0
            assert not provider.tasks

    run(scenario, loop)


def test_a_receiver_that_fails_is_our_bug_and_is_told_as_one() -> None:
    async def scenario() -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context["exception"]))
        async with Provider(answering(OK)) as provider, Stage(provider.url) as stage:
            answer = Answer()

            def fail() -> None:
                raise ZeroDivisionError("secret detail")

            answer.on_head = fail
            stage.ask(answer=answer)
            await answer.over()
            assert answer.error is not None
            assert answer.error.http_status == 500
            assert "secret" not in answer.message
            assert isinstance(problems[0], ZeroDivisionError)
            assert stage.pool.open_count == 0

    run(scenario)
