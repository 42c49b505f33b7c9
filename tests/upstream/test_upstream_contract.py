"""Whatever a provider does, a receiver hears: a head at most once, then bodies, then exactly one ending."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.upstream.stage import Answer, Peer, Provider, Stage, run, until

HEADS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nconnection: close\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 407 No\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 200 O",
]
BODIES = [b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"zz\r\n", b"\r\n", b"\0", b"5;a=b\r\nhel"]


@pytest.fixture(scope="module", autouse=True)
def _fine_wheel() -> Iterator[None]:
    """Narrow buckets, because most of these exchanges end with a clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidegate.upstream.wheel.BUCKET_S", 0.02)
        yield


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(HEADS)),
        st.tuples(st.just("send"), st.sampled_from(BODIES)),
        st.tuples(st.just("send"), st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("wait"), st.just(b"")),
        st.tuples(st.just("request"), st.just(b"")),
    ),
    max_size=8,
)
endings = st.sampled_from(["close", "reset", "hold"])
client = st.sampled_from(["listen", "abort", "release", "abort-at-head", "release-at-body", "again-at-end", "pause"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, endings, st.lists(client, min_size=1, max_size=4), st.booleans())
def test_the_receivers_contract(script: list[tuple[str, bytes]], ending: str, clients: list[str], stream: bool) -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        for what, data in script:
            if what == "send":
                peer.send(data)
            elif what == "wait":
                await peer.writer.drain()
                await asyncio.sleep(0.001)
            elif not peer.reader.at_eof():
                await peer.request()
        if ending == "reset":
            await peer.writer.drain()
            peer.reset()
        elif ending == "hold":
            await peer.gone()

    async def scenario() -> None:
        async with Provider(play) as provider, Stage(provider.url) as stage:
            everyone: list[Answer] = []
            for how in clients:
                answer = Answer()
                everyone.append(answer)
                behave(how, answer, stage, everyone)
                stage.ask(answer=answer, stream=stream, first_event=0.05, idle=0.05, total=0.15)
                if how in ("abort", "release"):
                    await until(lambda: answer.status, 0.01)  # noqa: B023
                    getattr(answer.attempt, how)()
                    answer.quiet = True
                elif how == "pause":
                    answer.attempt.pause()
                    await asyncio.sleep(0.002)
                    answer.attempt.resume()
            for answer in everyone:
                await until(lambda: answer.quiet or answer.finished_at, 5)  # noqa: B023
                assert answer.quiet or answer.finished_at
            await until(lambda: stage.pool.open_count == stage.pool.idle_count)
            assert stage.pool.open_count == stage.pool.idle_count
            for answer in everyone:
                assert not answer.wrong, answer.wrong
                assert not (answer.ended and answer.error)

    run(scenario)


def behave(how: str, answer: Answer, stage: Stage, everyone: list[Answer]) -> None:
    def abort() -> None:
        answer.attempt.abort()
        answer.quiet = True

    def release() -> None:
        answer.attempt.release()
        answer.quiet = True

    def again() -> None:
        if len(everyone) < 8:
            following = Answer()
            everyone.append(following)
            stage.ask(answer=following, first_event=0.05, idle=0.05, total=0.15)

    actions: dict[str, tuple[str, Any]] = {
        "abort-at-head": ("on_head", abort),
        "release-at-body": ("on_body", release),
        "again-at-end": ("on_end", again),
    }
    if how in actions:
        setattr(answer, *actions[how])
