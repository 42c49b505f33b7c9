"""How an answer is told from its connection: every way of RFC 9112 to end a message, and the ways that are none."""

import asyncio

import pytest

from tests.upstream.stage import CHUNKED, OK, Peer, Provider, Stage, answering, run, saying, until
from tidegate.sim import SimServer
from tidegate.upstream.connection import HEADER_LIMIT


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


GOOD = {
    "content-length": (OK, 200, b"ok", True),
    "empty": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b"", True),
    "chunked": (CHUNKED + b"2\r\nok\r\n3\r\nabc\r\n0\r\n\r\n", 200, b"okabc", True),
    "chunked-upper-case": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        b"ok",
        True,
    ),
    "extensions-and-trailers": (
        CHUNKED + b'2;a=b;c="d e"\r\nok\r\n0;z\r\nx-sum: 1\r\nx-more: 2\r\n\r\n',
        200,
        b"ok",
        True,
    ),
    "no-content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "not-modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", 304, b"", True),
    "no-reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", True),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", True),
    "early-hints": (b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + OK, 200, b"ok", True),
    "until-eof": (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end", False),
    "until-eof-empty": (b"HTTP/1.1 200 OK\r\n\r\n", 200, b"", False),
    "close": (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", False),
    "http-1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", False),
    "http-1.0-until-eof": (b"HTTP/1.0 200 OK\r\n\r\nok", 200, b"ok", False),
    "http-1.0-kept": (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", True),
    "upgrade-not-taken": (
        b"HTTP/1.1 200 OK\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok",
        200,
        b"ok",
        True,
    ),
    "error-status": (b"HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno", 500, b"no", True),
    "odd-status": (b"HTTP/1.1 999 Oh\r\ncontent-length: 2\r\n\r\nno", 999, b"no", True),
}


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", GOOD)
def test_an_answer_ends_where_http_says(name: str, size: int) -> None:
    raw, status, body, kept = GOOD[name]

    async def scenario() -> None:
        held = kept and "close" not in name
        async with Provider(saying(*pieces_of(raw, size), hold=held)) as provider, Stage(provider.url) as stage:
            answer = await stage.fetch(stream=False)
            assert (answer.error, answer.status, answer.body) == (None, status, body)
            assert stage.pool.idle_count == kept
            assert stage.pool.open_count == kept
            assert b"x-sum" not in dict(answer.headers)

    run(scenario)


BAD = {
    "truncated": (b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf", b"half", "before its answer was complete"),
    "truncated-chunk": (CHUNKED + b"10\r\nhalf", b"half", "before its answer was complete"),
    "no-last-chunk": (CHUNKED + b"2\r\nok\r\n", b"ok", "before its answer was complete"),
    "half-a-head": (b"HTTP/1.1 200 OK\r\ncontent-le", b"", "before its answer was complete"),
    "only-continue": (b"HTTP/1.1 100 Continue\r\n\r\n", b"", "before its answer was complete"),
    "nothing": (b"", b"", "before its answer was complete"),
    "both-lengths": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"",
        "not valid HTTP",
    ),
    "two-lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", b"", "not valid HTTP"),
    "negative-length": (b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok", b"", "not valid HTTP"),
    "bad-chunk-size": (CHUNKED + b"2\r\nok\r\nxyz\r\nno\r\n", b"ok", "not valid HTTP"),
    "huge-chunk-size": (CHUNKED + b"fffffffffffffffff\r\n", b"", "not valid HTTP"),
    "gzip-coding": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"", "coding"),
    "not-http": (b"SSH-2.0-OpenSSH_9.6\r\n", b"", "not valid HTTP"),
    "tls-alert": (b"\x15\x03\x01\x00\x02\x02\x46", b"", "not valid HTTP"),
    "folded-header": (b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok", b"", "not valid HTTP"),
    "nul-in-header": (b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok", b"", "not valid HTTP"),
    "impossible-status": (b"HTTP/1.1 099 X\r\ncontent-length: 2\r\n\r\nok", b"", "impossible status 099"),
    "switching": (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n\x81\x00",
        b"",
        "switched protocols",
    ),
    "switching-to-nothing": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"", "switched protocols"),
}


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("name", BAD)
def test_a_broken_answer_is_told_after_what_was_good_of_it(name: str, size: int) -> None:
    raw, body, words = BAD[name]

    async def scenario() -> None:
        async with Provider(saying(*pieces_of(raw, size))) as provider, Stage(provider.url) as stage:
            answer = await stage.fetch()
            assert words in answer.message
            assert answer.message.startswith("Provider 'lab': ")
            assert (answer.error and answer.error.code) == "upstream_broken"
            assert answer.body == body
            assert stage.pool.open_count == 0
            assert len(provider.peers) == 1

    run(scenario)


FLOODS = {
    "header-line": (b"HTTP/1.1 200 OK\r\nx: ", b"a" * 4096, "response head is longer than 65536"),
    "header-name": (b"HTTP/1.1 200 OK\r\n", b"a" * 4096, "response head is longer than 65536"),
    "status-line": (b"HTTP/1.1 200 ", b"a" * 4096, "response head is longer than 65536"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 700, "response head is longer than 65536"),
    "interim": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, "response head is longer than 65536"),
    "blank-lines": (b"", b"\r\n" * 2048, "response head is longer than 65536"),
    "chunk-extension": (CHUNKED + b"2;a=", b"b" * 4096, "of chunk framing"),
    "trailer-line": (CHUNKED + b"2\r\nok\r\n0\r\nx: ", b"a" * 4096, "of chunk framing"),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\n", b"a: b\r\n" * 700, "longer than 65536|chunk framing"),
}


@pytest.mark.fault("FAULT-ENDLESS")
@pytest.mark.parametrize("name", FLOODS)
def test_what_is_endless_and_no_body_is_cut_at_the_cap(name: str) -> None:
    begin, more, words = FLOODS[name]
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.send(begin)
        while sent < 64 * 1024 * 1024:
            peer.send(more)
            sent += len(more)
            await peer.writer.drain()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            answer = await stage.fetch()
            assert any(one in answer.message for one in words.split("|"))
            assert stage.pool.open_count == 0

    run(scenario)
    assert sent < 16 * 1024 * 1024  # the rest is what the sockets' buffers hold


def test_a_long_head_in_one_read_is_refused_too() -> None:
    async def scenario() -> None:
        head = b"HTTP/1.1 200 OK\r\n" + b"x-a: %b\r\n" % (b"b" * 900) * 73
        assert len(head) > HEADER_LIMIT
        async with Provider(saying(head + b"content-length: 0\r\n\r\n")) as provider, Stage(provider.url) as stage:
            assert "response head is longer" in (await stage.fetch()).message

    run(scenario)


def test_a_long_stream_with_framing_in_reads_of_its_own_is_no_flood() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED)
        for _ in range(60):
            peer.send(b"2;" + b"x" * 2000 + b"\r\n")
            await asyncio.sleep(0.001)
            peer.send(b"ok\r\n")
            await asyncio.sleep(0.001)
        peer.send(b"0\r\n\r\n")
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            assert (await stage.fetch()).body == b"ok" * 60

    run(scenario)


@pytest.mark.security("SEC-SMUGGLE-UPSTREAM")
@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"H", b"junk", b"\0"])
@pytest.mark.parametrize("together", [True, False])
def test_bytes_after_the_end_are_in_no_answer_and_end_the_connection(extra: bytes, together: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if together:
            peer.send(OK + extra)
        else:
            peer.send(OK)
            await peer.writer.drain()
            await asyncio.sleep(0.03)
            peer.send(extra)
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            first = await stage.fetch()
            assert (first.status, first.body, first.error) == (200, b"ok", None)
            assert first.headers == [(b"content-length", b"2")]
            await until(lambda: stage.pool.open_count == 0)
            assert stage.pool.open_count == stage.pool.idle_count == 0
            second = await stage.fetch()
            assert second.body == b"ok"
            assert len(provider.peers) == 2

    run(scenario)


def test_header_fields_keep_order_and_repetition_with_names_in_lower_case() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-B: 1\r\nx-a:\r\nX-b:  two\r\nContent-Length: 0\r\n\r\n"

    async def scenario() -> None:
        async with Provider(answering(head)) as provider, Stage(provider.url) as stage:
            answer = await stage.fetch()
            assert answer.headers == [
                (b"x-b", b"1"),
                (b"x-a", b""),
                (b"x-b", b"two"),
                (b"content-length", b"0"),
            ]

    run(scenario)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("not_http", "not valid HTTP"),
        ("both_lengths", "not valid HTTP"),
        ("many_headers", "response head is longer"),
        ("bad_chunk_size", "not valid HTTP"),
        ("cut", "before its answer was complete"),
        ("close", "before its answer was complete"),
        ("reset", "before its answer was complete: Connection reset by peer"),
        ("close_head", "before its answer was complete"),
    ],
)
def test_the_simulators_faults_are_told_apart(fault: str, words: str) -> None:
    async def scenario() -> None:
        async with SimServer() as sim, Stage(sim.base_url) as stage:
            body = b'{"model":"lorem?fault=%b","messages":[{"role":"user","content":"x"}],"stream":true}'
            answer = await stage.fetch(body % fault.encode())
            assert words in answer.message
            assert stage.pool.open_count == 0
            good = await stage.fetch(body.replace(b"?fault=%b", b""))
            assert good.body.endswith(b"data: [DONE]\n\n")

    run(scenario)


def test_continue_from_the_simulator_is_not_the_answer() -> None:
    async def scenario() -> None:
        async with SimServer() as sim, Stage(sim.base_url) as stage:
            body = b'{"model":"echo?fault=continue100","messages":[{"role":"user","content":"x"}]}'
            answer = await stage.fetch(body, stream=False)
            assert answer.status == 200
            assert stage.pool.idle_count == 1

    run(scenario)
