"""The fields of an answer's head are read from its bytes: always those that the parser has seen in them, and no others."""

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.upstream.stage import Answer, Stage
from tidegate.upstream.connection import Connection
from tidegate.upstream.head import Headers

NAMES = (
    b"content-type",
    b"connection",
    b"Content-Length",
    b"TRANSFER-Encoding",
    b"Content-Encoding",
    b"x-RateLimit-a",
    b"x",
    b"",
)
VALUES = (
    b"close",
    b"chunked",
    b"Chunked",
    b"gzip, chunked",
    b"xchunked",
    b"chunked x",
    b"2",
    b"",
    b"a\tb",
    b"caf\xe9",
    b"a: b",
)
PADS = (b"", b" ", b"\t", b" \t ")
# What ends a line, and what others might take for an end, a fold, or a part of the value.
ENDS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n ",
    b"\r\n\t",
    b"\n\r",
    b"\r\r\n",
    b"\x0b\r\n",
    b"\x0c\r\n",
    b"\0\r\n",
    b"\x85\r\n",
)
STATUSES = (b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.0 200 ", b"HTTP/1.1 204 x: y", b"HTTP/1.1 500 \xe9")
INTERIM = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\ncontent-type: a\r\nx: b\r\n\r\n")
BLANKS = (b"", b"\r\n", b"\n", b"\r\n\r\n", b"\r")
BODIES = (b"", b"ok", b"2\r\nok\r\n0\r\n\r\n", b"2\r\nok\r\n0\r\nx: sum\r\n\r\n", b"x: y\r\n\r\n", b"\r\n\r\nx: y\r\n")

mostly_plain = st.sampled_from((*(b"\r\n",) * 60, *ENDS))
line = st.builds(
    b"%b%b:%b%b%b".__mod__,
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from((*(b"",) * 40, b" ")),
        st.sampled_from(PADS),
        st.one_of(st.sampled_from(VALUES), st.binary(max_size=4)),
        st.sampled_from(PADS),
    ),
)
heads = st.builds(
    lambda blank, interim, status, lines, body: (
        blank + b"".join(interim) + b"".join(map(b"%b%b".__mod__, [status, *lines])) + b"\r\n" + body
    ),
    st.sampled_from((*(b"",) * 5, *BLANKS)),
    st.lists(st.sampled_from((*INTERIM, *BLANKS)), max_size=3),
    st.tuples(st.sampled_from(STATUSES), mostly_plain),
    st.lists(st.tuples(line, mostly_plain), max_size=5),
    st.sampled_from(BODIES),
)
anything = st.lists(st.sampled_from((*STATUSES, *NAMES, *ENDS, *BODIES, b":", b" ", b"2")), max_size=12).map(b"".join)


class Seen:
    """What the parser itself tells of an answer, field by field."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.fields: Headers = []
        self.status = 0
        self.complete = self.broken = False
        self._parser = httptools.HttpResponseParser(self)
        try:
            for piece in pieces:
                self._parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.broken = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if not self.status and (status := self._parser.get_status_code()) >= 200:
            self.status = status

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True
        else:
            self.fields = []

    @property
    def codings(self) -> list[bytes]:
        values = b",".join(value for name, value in self.fields if name == b"content-encoding").lower().split(b",")
        return [coding for value in values if (coding := value.strip()) not in (b"", b"identity")]

    @property
    def refused(self) -> str:
        """Why its receiver does not hear of it, although it is valid."""
        if any(name == b"transfer-encoding" and value.strip().lower() != b"chunked" for name, value in self.fields):
            return "transfer coding"
        return "" if self.codings in ([], [b"gzip"], [b"x-gzip"], [b"deflate"]) else "content-encoding"

    @property
    def until_eof(self) -> bool:
        names = {name for name, _ in self.fields}
        return self.status not in (204, 304) and not names & {b"content-length", b"transfer-encoding"}


class Silent:
    """The transport of a connection that is fed by hand."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None: ...


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def heard(loop: asyncio.AbstractEventLoop, pieces: list[bytes]) -> Answer:
    """What a receiver hears of an answer that comes in these reads, and is over then."""

    async def play() -> Answer:
        stage = Stage("http://lab/v1")
        connection = Connection(stage.pool, loop)
        connection.connection_made(cast("asyncio.Transport", cast("Any", Silent())))
        stage.pool.put(connection)
        answer = stage.ask(stream=False)
        for piece in pieces:
            connection.data_received(piece)
        connection.eof_received()
        stage.wheel.close()
        return answer

    return loop.run_until_complete(play())


@pytest.mark.security("SEC-SMUGGLE-UPSTREAM")
@example(b"\r\n" + INTERIM[1] + STATUSES[0] + b"\r\nx: 1\r\nX:\t2 \r\n\r\nx: 3\r\n\r\n", [1, 30])
@example(b"\r\n\r\n" + STATUSES[0] + b"\r\nx: 1\r\n\r\n", [])
@example(b"\r\n\r\n" + INTERIM[1] + b"\r\n\r\n" + STATUSES[0] + b"\r\ncontent-length: 0\r\n\r\n", [])
@example(STATUSES[0] + b"\r\ntransfer-encoding: chunked x\r\n\r\n2\r\nok\r\n", [])
@example(STATUSES[0] + b"\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", [])
@example(STATUSES[0] + b"\r\nconnection: close\r\ncontent-length: 5\r\n\r\nok", [])
@example(STATUSES[3] + b"\r\nconnection: close\r\n\r\n", [])
@example(STATUSES[0] + b"\r\nTransfer-Encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", [])
@example(STATUSES[0] + b"\r\ntransfer-encoding:  chunked \r\n\r\n0\r\n\r\n", [])
@example(STATUSES[0] + b"\nx: 1\r\n\r\n", [])
@given(st.one_of(heads, anything), st.lists(st.integers(1, 60), max_size=4))
def test_the_fields_are_those_that_the_parser_has_seen(
    loop: asyncio.AbstractEventLoop, data: bytes, sizes: list[int]
) -> None:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    pieces = [piece for piece in (*pieces, data) if piece] or [b"\r\n"]
    seen, answer = Seen(pieces), heard(loop, pieces)
    if not seen.status or seen.refused:
        assert (answer.status, answer.bodies, answer.ended) == (0, [], False)
        assert not seen.status or seen.refused in answer.message
        return
    assert (answer.status, answer.headers) == (seen.status, seen.fields)
    assert seen.codings or answer.ended == (seen.complete or (seen.until_eof and not seen.broken))


def test_enough_of_the_answers_above_have_a_head(loop: asyncio.AbstractEventLoop) -> None:
    """The test before this one must not run on refusals alone."""
    usual = STATUSES[0] + b"\r\n" + b"".join(b"%b: %b\r\n" % (name, b"2") for name in (NAMES[0], NAMES[2])) + b"\r\nok"
    assert heard(loop, [usual]).headers == [(b"content-type", b"2"), (b"content-length", b"2")]
