"""Compressed answers that nobody asked for: read within limits, and never half."""

import gzip
import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.upstream.stage import CHUNKED, Provider, Stage, run, saying, until
from tidegate.sim import SimServer
from tidegate.upstream.encoding import BodyDecoder, decoder_for
from tidegate.wire import errors

TEXT = json.dumps([{"index": n, "text": "潮汐 tide 🌊 " * 3} for n in range(200)]).encode()


def deflate(data: bytes, *, raw: bool) -> bytes:
    squeeze = zlib.compressobj(wbits=-15 if raw else 15)
    return squeeze.compress(data) + squeeze.flush()


FORMATS = {
    "gzip": ("gzip", gzip.compress(TEXT)),
    "x-gzip": ("X-GZip", gzip.compress(TEXT)),
    "zlib": ("deflate", deflate(TEXT, raw=False)),
    "raw": ("deflate", deflate(TEXT, raw=True)),
    "identity": ("identity", TEXT),
    "empty-coding": ("", TEXT),
    "with-identity": ("identity, gzip , identity", gzip.compress(TEXT)),
}


def answer(coding: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [1, 100, 10**9])
def test_what_comes_compressed_is_read(name: str, size: int) -> None:
    coding, body = FORMATS[name]
    raw = answer(coding, body)
    head = len(raw) - len(body)
    if size == 1:
        pieces = [raw[:head], *(raw[at : at + 1] for at in range(head, head + 20)), raw[head + 20 :]]
    else:
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]

    async def scenario() -> None:
        async with Provider(saying(*pieces, hold=True)) as provider, Stage(provider.url) as stage:
            told = await stage.fetch()
            assert (told.error, told.body == TEXT) == (None, True)
            assert stage.pool.idle_count == 1

    run(scenario)


def test_a_compressed_stream_is_read_as_it_comes() -> None:
    squeeze = zlib.compressobj(wbits=31)
    pieces = []
    for number in range(5):
        piece = squeeze.compress(b"data: %d\n\n" % number) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")

    async def scenario() -> None:
        async with Provider(saying(head, *pieces, hold=True)) as provider, Stage(provider.url) as stage:
            told = stage.ask()
            await until(lambda: len(told.body) >= 45)
            assert told.body == b"".join(b"data: %d\n\n" % number for number in range(5))
            assert len(told.bodies) == 5
            told.attempt.abort()

    run(scenario)


BAD = {
    "brotli": (answer("br", b"x"), "answered with content-encoding 'br' although identity was asked for."),
    "zstd": (answer("zstd", b"x"), "answered with content-encoding 'zstd' although"),
    "two": (answer("gzip, gzip", b"x"), "answered with content-encoding 'gzip, gzip' although"),
    "two-lines": (
        answer("gzip", b"x").replace(b"\r\n\r\n", b"\r\ncontent-encoding: deflate\r\n\r\n"),
        "answered with content-encoding 'gzip, deflate' although",
    ),
    "endless-name": (answer("x" * 5000, b"x"), "content-encoding '" + "x" * 40 + "' although"),
    "cut": (answer("gzip", gzip.compress(TEXT)[:-9]), "its compressed answer was cut."),
    "cut-deflate": (answer("deflate", deflate(TEXT, raw=True)[:-3]), "its compressed answer was cut."),
    "one-byte": (answer("deflate", b"\x78"), "its compressed answer was cut."),
    "not-gzip": (answer("gzip", TEXT), "its compressed answer is damaged"),
    "bad-checksum": (answer("gzip", gzip.compress(TEXT)[:-8] + b"\0" * 8), "its compressed answer is damaged"),
    "more": (answer("gzip", gzip.compress(TEXT) + b"more"), "its compressed answer goes on after its end."),
    "more-later": (answer("deflate", deflate(TEXT, raw=True) + b"more"), "its compressed answer goes on after"),
    "bomb": (answer("gzip", gzip.compress(bytes(64 * 1024 * 1024))), "grows more than 200-fold."),
    "bomb-deflate": (answer("deflate", deflate(bytes(64 * 1024 * 1024), raw=True)), "grows more than 200-fold."),
}


@pytest.mark.fault("FAULT-BOMB")
@pytest.mark.security("SEC-BOMB-UPSTREAM")
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_told(name: str) -> None:
    raw, words = BAD[name]

    async def scenario() -> None:
        async with Provider(saying(raw, hold=True)) as provider, Stage(provider.url) as stage:
            told = await stage.fetch()
            assert isinstance(told.error, errors.UpstreamBroken)
            assert words in told.message
            assert told.message.startswith("Provider 'lab': ")
            assert len(told.body) <= 1024 * 1024 + len(raw) * 200

    run(scenario)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified", b"200 OK\r\ncontent-length: 0"])
def test_an_empty_body_is_not_a_cut_one(status: bytes) -> None:
    async def scenario() -> None:
        raw = b"HTTP/1.1 %b\r\ncontent-encoding: gzip\r\n\r\n" % status
        async with Provider(saying(raw, hold=True)) as provider, Stage(provider.url) as stage:
            told = await stage.fetch()
            assert (told.error, told.body) == (None, b"")

    run(scenario)


@pytest.mark.parametrize(("fault", "good"), [("gzip", True), ("gzip_bomb", False)])
def test_the_simulators_compressed_answers(fault: str, good: bool) -> None:
    async def scenario() -> None:
        async with SimServer() as sim, Stage(sim.base_url) as stage:
            body = b'{"model":"lorem?fault=%b","messages":[{"role":"user","content":"x"}],"stream":true}'
            told = await stage.fetch(body % fault.encode())
            assert (told.error is None) == good
            assert (b"[DONE]" in told.body) == good

    run(scenario)


@given(st.sampled_from(["gzip", "deflate"]), st.booleans(), st.binary(max_size=3000), st.randoms())
def test_any_split_gives_the_same(coding: str, raw: bool, data: bytes, chance: random.Random) -> None:
    body = gzip.compress(data) if coding == "gzip" else deflate(data, raw=raw)
    decoder = decoder_for(b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\n" % coding.encode())
    assert decoder is not None
    out = b""
    while body:
        size = chance.randint(1, len(body))
        out += decoder.feed(body[:size])
        body = body[size:]
    assert out == data
    assert decoder.complete


@given(st.sampled_from([31, 15]), st.lists(st.binary(min_size=1, max_size=50), max_size=20))
def test_garbage_raises_nothing_but_the_error(window: int, pieces: list[bytes]) -> None:
    decoder = BodyDecoder(window)
    try:
        for piece in pieces:
            decoder.feed(piece)
    except errors.UpstreamBroken:
        pass
