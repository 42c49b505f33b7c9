"""The clocks: each fires in its time, names itself, and closes the connection."""

import asyncio
import socket

import pytest

from tests.upstream.stage import (
    CHUNKED,
    LOOPS,
    OK,
    SLACK_S,
    Answer,
    Peer,
    Provider,
    Stage,
    full_listener,
    run,
    saying,
    until,
)
from tidegate.providers.record import SILENT_REASONING_S
from tidegate.providers.registry import REGISTRY
from tidegate.wire import errors


def timed_out(answer: Answer, clock: str, started: float, seconds: float) -> None:
    error = answer.error
    assert isinstance(error, errors.UpstreamTimeout), answer.message
    assert error.clock == clock
    assert error.http_status == 504
    assert f"{seconds:g} s ({clock} clock)." in error.message
    assert error.message.startswith("Provider 'lab': ")
    assert seconds - 0.01 <= answer.finished_at - started <= seconds + SLACK_S


@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("stream", [True, False])
def test_connect_when_nobody_picks_up(stream: bool, loop: str) -> None:
    async def scenario() -> None:
        with full_listener() as port:
            async with Stage(f"http://127.0.0.1:{port}/v1") as stage:
                started = stage.loop.time()
                answer = await stage.fetch(stream=stream, connect=0.3)
                timed_out(answer, "connect", started, 0.3)
                assert stage.pool.open_count == 0

    run(scenario, loop)


@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.parametrize("loop", LOOPS)
def test_connect_when_tls_never_comes(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url.replace("http:", "https:")) as stage:
            started = stage.loop.time()
            answer = await stage.fetch(connect=0.3)
            timed_out(answer, "connect", started, 0.3)
            await until(lambda: provider.peers[0].closed_at)
            assert provider.peers[0].closed_at

    run(scenario, loop)


@pytest.mark.fault("FAULT-CONNECT")
def test_connect_when_the_name_is_never_resolved() -> None:
    async def nothing(host: str, port: int) -> list[tuple[object, ...]]:
        await asyncio.sleep(0.6)
        return []

    async def scenario() -> None:
        async with Stage("http://provider.example/v1", resolver=nothing) as stage:
            started = stage.loop.time()
            timed_out(await stage.fetch(connect=0.3), "connect", started, 0.3)
            await asyncio.sleep(0.4)

    run(scenario)


@pytest.mark.fault("FAULT-SLOW-FIRST")
def test_first_event_when_a_stream_has_no_answer() -> None:
    async def scenario() -> None:
        async with Provider(saying(hold=True)) as provider, Stage(provider.url) as stage:
            started = stage.loop.time()
            timed_out(await stage.fetch(first_event=0.4, idle=0.1), "first_event", started, 0.4)
            await until(lambda: provider.peers[0].closed_at)
            assert provider.peers[0].closed_at

    run(scenario)


@pytest.mark.fault("FAULT-SLOW-FIRST")
def test_first_event_is_not_put_off_by_head_bytes_or_an_interim_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        for byte in CHUNKED + b"ffff\r\n" + b" " * 500:
            peer.send(bytes((byte,)))
            await asyncio.sleep(0.01)

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            started = stage.loop.time()
            timed_out(await stage.fetch(first_event=0.4, idle=0.1), "first_event", started, 0.4)

    run(scenario)


def test_first_event_also_bounds_a_stream_request_that_is_refused_slowly() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 500 Oh\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(1000):
            peer.send(b"x")
            await asyncio.sleep(0.02)

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            started = stage.loop.time()
            timed_out(await stage.fetch(first_event=0.4, idle=0.3), "first_event", started, 0.4)

    run(scenario)


@pytest.mark.fault("FAULT-SLOW-FIRST")
def test_an_answer_in_one_body_may_take_its_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.5)
        peer.send(OK)
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            assert (await stage.fetch(stream=False, first_event=0.1, idle=0.1)).body == b"ok"

    run(scenario)


@pytest.mark.fault("FAULT-STALL")
def test_idle_after_the_head_of_an_answer_in_one_body() -> None:
    """The look that was planned for the total clock must move to the idle clock."""

    async def scenario() -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
        async with Provider(saying(head, b"h", hold=True)) as provider, Stage(provider.url) as stage:
            started = stage.loop.time()
            answer = await stage.fetch(stream=False, idle=0.4, total=600)
            timed_out(answer, "idle", started, 0.4)
            assert "silent for" in answer.message
            assert answer.body == b"h"

    run(scenario)


@pytest.mark.fault("FAULT-STALL")
def test_idle_after_the_first_event_although_first_event_was_longer() -> None:
    async def scenario() -> None:
        async with Provider(saying(CHUNKED, b"2\r\nok\r\n", hold=True)) as provider, Stage(provider.url) as stage:
            answer = Answer()
            answer.on_body = lambda: answer.attempt.saw_event()
            started = stage.loop.time()
            stage.ask(answer=answer, first_event=300, idle=0.4)
            timed_out(await answer.over(), "idle", started, 0.4)

    run(scenario)


def test_every_byte_puts_idle_off() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED)
        for _ in range(10):
            peer.send(b"3\r\n:\n\n\r\n")
            await asyncio.sleep(0.1)
        peer.send(b"0\r\n\r\n")
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            answer = Answer()
            answer.on_body = lambda: answer.attempt.saw_event()
            stage.ask(answer=answer, idle=0.4)
            assert (await answer.over()).body == b":\n\n" * 10

    run(scenario)


def test_idle_does_not_run_while_we_do_not_read() -> None:
    async def scenario() -> None:
        async with Provider(saying(CHUNKED, b"2\r\nok\r\n", hold=True)) as provider, Stage(provider.url) as stage:
            answer = Answer()
            answer.on_body = lambda: answer.attempt.saw_event()
            stage.ask(answer=answer, idle=0.3)
            await until(lambda: answer.bodies)
            answer.attempt.pause()
            await asyncio.sleep(0.9)
            assert answer.error is None
            resumed = stage.loop.time()
            answer.attempt.resume()
            timed_out(await answer.over(), "idle", resumed, 0.3)

    run(scenario)


def test_first_event_starts_again_after_we_did_not_read() -> None:
    async def scenario() -> None:
        async with Provider(saying(CHUNKED, hold=True)) as provider, Stage(provider.url) as stage:
            answer = stage.ask(first_event=0.3)
            answer.attempt.pause()
            await asyncio.sleep(0.8)
            assert answer.error is None
            resumed = stage.loop.time()
            answer.attempt.resume()
            timed_out(await answer.over(), "first_event", resumed, 0.3)

    run(scenario)


def test_a_head_that_trickles_is_bounded_for_an_answer_in_one_body() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.3)  # thinking is free
        peer.send(b"HTTP/1.1 200 OK\r\nx: ")
        while True:
            peer.send(b"a")
            await asyncio.sleep(0.02)

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            started = stage.loop.time() + 0.3
            answer = await stage.fetch(stream=False, idle=0.2, total=None)
            timed_out(answer, "idle", started, 0.2)
            assert "no complete head" in answer.message

    run(scenario)


def test_an_interim_answer_does_not_start_the_clock_of_the_head() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.8)
        peer.send(OK)
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            assert (await stage.fetch(stream=False, idle=0.2)).body == b"ok"

    run(scenario)


@pytest.mark.parametrize("stream", [True, False])
def test_total_ends_an_answer_that_never_stops(stream: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED)
        while True:
            peer.send(b"2\r\nok\r\n")
            await asyncio.sleep(0.02)

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            answer = Answer()
            answer.on_body = lambda: answer.attempt.saw_event()
            started = stage.loop.time()
            stage.ask(answer=answer, stream=stream, total=0.5)
            timed_out(await answer.over(), "total", started, 0.5)

    run(scenario)


def test_total_runs_while_we_do_not_read() -> None:
    async def scenario() -> None:
        async with Provider(saying(CHUNKED, b"2\r\nok\r\n", hold=True)) as provider, Stage(provider.url) as stage:
            started = stage.loop.time()
            answer = stage.ask(total=0.5)
            await until(lambda: answer.bodies)
            answer.attempt.pause()
            timed_out(await answer.over(), "total", started, 0.5)

    run(scenario)


def test_total_counts_while_connecting_and_when_it_is_over_before() -> None:
    async def scenario() -> None:
        with full_listener() as port:
            async with Stage(f"http://127.0.0.1:{port}/v1") as stage:
                started = stage.loop.time()
                timed_out(await stage.fetch(connect=5, total=0.3), "total", started, 0.3)
                answer = await stage.fetch(connect=5, total=-1.0)
                assert isinstance(answer.error, errors.UpstreamTimeout)
                assert answer.error.clock == "total"

    run(scenario)


def test_total_is_shared_by_a_stale_connection_and_its_successor() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            peer.send(OK)
            await peer.request()
            await asyncio.sleep(0.3)
        else:
            await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            await stage.fetch()
            started = stage.loop.time()
            timed_out(await stage.fetch(total=0.6), "total", started, 0.6)
            assert len(provider.peers) == 2

    run(scenario)


def test_a_slow_upload_is_not_the_providers_silence() -> None:
    """The first-event clock starts when the request is sent; while it is being taken only standing still counts."""
    body = b"x" * (6 * 1024 * 1024)

    async def script(peer: Peer) -> None:
        sock: socket.socket = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(8):
            await asyncio.sleep(0.1)
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await peer.reader.readexactly(700_000)
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await peer.reader.readexactly(100_000)
        peer.send(OK)
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            answer = await stage.fetch(body, first_event=0.5)
            assert answer.body == b"ok", answer.error

    run(scenario)


def test_a_provider_that_stops_taking_the_request_is_told_so() -> None:
    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(5)

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            started = stage.loop.time()
            answer = await stage.fetch(b"x" * 32 * 1024 * 1024, first_event=0.4)
            timed_out(answer, "first_event", started, 0.4)
            assert "took no more of the request" in answer.message

    run(scenario)


@pytest.mark.parametrize("model", ["o3-pro", "gpt-5-pro"])
def test_models_that_think_in_silence_get_ten_minutes(model: str) -> None:
    record = REGISTRY["openai"]
    for stream in (True, False):
        clocks = record.clocks_for(model, stream=stream)
        silent = record.is_silent(model)
        assert clocks.first_event == (SILENT_REASONING_S if silent else 30.0)
        assert clocks.idle == clocks.first_event
    assert SILENT_REASONING_S == 600.0
