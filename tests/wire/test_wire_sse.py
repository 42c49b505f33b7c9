"""Server-sent events: the WHATWG rules, in any split, in linear time and bounded memory."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.wire import sse

STREAMS = {
    "line feeds": b"data: a\n\ndata: b\n\n",
    "carriage returns": b"data: a\r\rdata: b\r\r",
    "both": b"data: a\r\n\r\ndata: b\r\n\r\n",
    "mixed": b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\r",
    "byte order mark": b"\xef\xbb\xbfdata: a\n\n",
    "mark within": b"data: a\n\n\xef\xbb\xbfdata: b\n\n",
    "half a mark": b"\xef\xbbdata: a\n\n",
    "comments": b": keep-alive\n\n:\n\ndata: a\n: inside\ndata: b\n\n",
    "field without colon": b"data\n\nevent\ndata: x\n\n",
    "no space": b"data:a\n\ndata:  b\n\n",
    "several lines": b"data: {\ndata:   1\ndata: }\n\n",
    "id and retry": b"id: 1\nretry: 3\nevent: e\ndata: x\n\n",
    "unknown field": b"colour: blue\ndata: x\n\n",
    "empty data": b"data:\n\ndata: \n\n",
    "event without data": b"event: ping\n\n",
    "two events": b"event: a\nevent: b\ndata: x\n\n",
    "event after data": b"data: x\nevent: late\n\n",
    "blank lines": b"\n\n\n\ndata: a\n\n\n\n\n",
    "colon in value": b"data: a: b: c\n\n",
    "chinese": "event: 潮\ndata: 汐🌊\r\n\r\n".encode(),
    "tail": b"data: a\n\ndata: b",
    "tail with a line end": b"data: a\n\ndata: b\n",
    "capital": b"Data: a\n\n",
    "long": b"data: " + b"x" * 5000 + b"\n\n",
}


def decode(*reads: bytes) -> list[tuple[bytes, bytes]]:
    decoder = sse.FrameDecoder()
    frames = [frame for read in reads for frame in decoder.feed(read)]
    tail = decoder.eof()
    return [(frame.event, frame.data) for frame in (*frames, *([tail] if tail else []))]


def told(found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without frames of comments and blank lines, which may fall together differently."""
    return [one for one in found if one != (b"", b"")]


def by_the_book(data: bytes) -> list[tuple[bytes, bytes]]:
    """The algorithm of WHATWG HTML §9.2.6, and the tail as if its blank line had come."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    found = []
    event, lines = b"", list[bytes]()
    for line in [*re.split(rb"\r\n|\n|\r", data), b"", b""]:
        if not line:
            found.append((event, b"\n".join(lines)))
            event, lines = b"", []
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            event = value
        elif name == b"data":
            lines.append(value)
    return told(found)


def splits(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.fault("FAULT-MALFORMED-SSE")
@pytest.mark.parametrize("data", STREAMS.values(), ids=STREAMS)
def test_a_stream_is_read_by_the_book(data: bytes) -> None:
    assert told(decode(data)) == by_the_book(data)


@pytest.mark.fault("FAULT-MALFORMED-SSE")
@pytest.mark.parametrize("data", STREAMS.values(), ids=STREAMS)
def test_a_stream_byte_by_byte_is_the_same_stream(data: bytes) -> None:
    assert told(decode(*(data[at : at + 1] for at in range(len(data))))) == told(decode(data))


PIECES = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\r\r",
        b"\r\n\r\n",
        b"data",
        b"data: ",
        b"data:x",
        b"event: e",
        b":",
        b" ",
        b"id: 1",
        *[b"\xef\xbb\xbf", "潮汐".encode(), b"{", b"retry", b"\x00", b"\xff"],
    ]
)


@pytest.mark.fault("FAULT-MALFORMED-SSE")
@given(st.lists(PIECES, max_size=40).map(b"".join), st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_bytes_in_any_split_are_read_by_the_book(data: bytes, cuts: list[int]) -> None:
    reads = splits(data, cuts)
    assert told(decode(*reads)) == by_the_book(data)
    decoder = sse.FrameDecoder()
    frames = [frame for read in reads for frame in decoder.feed(read)]
    tail = decoder.eof()
    raw = b"".join(_with_line_feeds(frame.raw) for frame in (*frames, *([tail] if tail else [])))
    # A line feed that follows a carriage return in the next read is not handed out, nor a byte order mark, nor a tail of
    # blanks. Beyond that every byte is.
    assert raw.rstrip(b"\n ") == _with_line_feeds(data.removeprefix(b"\xef\xbb\xbf")).rstrip(b"\n ")


def _with_line_feeds(data: bytes) -> bytes:
    return re.sub(rb"\r\n|\r", b"\n", data)


@given(
    st.lists(st.sampled_from([b"data: a\n\n", b": c\n\n", b"event: e\ndata: b\ndata: c\n\n"])),
    st.lists(st.integers(0, 300)),
)
@settings(max_examples=100, deadline=None)
def test_the_raw_bytes_of_frames_are_the_bytes_that_came(frames: list[bytes], cuts: list[int]) -> None:
    data = b"".join(frames)
    decoder = sse.FrameDecoder()
    found = [frame.raw for read in splits(data, cuts) for frame in decoder.feed(read)]
    assert found == frames
    assert decoder.eof() is None


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\r\n\r", b"\n\r", b"\r\n\n"])
def test_a_frame_is_handed_out_with_the_read_that_completes_it(end: bytes) -> None:
    decoder = sse.FrameDecoder()
    assert [frame.data for frame in decoder.feed(b"data: a" + end)] == [b"a"]
    assert [frame.data for frame in decoder.feed(b"data: b" + end)] == [b"b"]


def test_a_line_feed_that_comes_late_begins_no_frame() -> None:
    decoder = sse.FrameDecoder()
    assert len(decoder.feed(b"data: a\r\n\r")) == 1
    assert decoder.feed(b"\n") == []
    assert [frame.raw for frame in decoder.feed(b"data: b\n\n")] == [b"data: b\n\n"]


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_byte_order_mark_is_ignored_wherever_it_is_cut(cut: int) -> None:
    data = b"\xef\xbb\xbfdata: a\n\n"
    assert decode(data[:cut], data[cut:]) == [(b"", b"a")]


def test_empty_reads_change_nothing() -> None:
    assert decode(b"", b"data: a", b"", b"\n", b"", b"\n", b"") == [(b"", b"a")]


def test_a_tail_of_blanks_is_no_frame() -> None:
    decoder = sse.FrameDecoder()
    decoder.feed(b"data: a\n\n \n")
    assert decoder.eof() is None


@pytest.mark.fault("FAULT-ENDLESS")
@pytest.mark.parametrize("lines", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("piece", [1, 7, 1000, 10**6])
def test_a_frame_over_the_limit_is_refused_however_it_comes(lines: bytes, piece: int) -> None:
    limit = 100
    data = b"data: ok" + lines * 2 + b"data: " + b"x" * 200 + lines * 2
    decoder = sse.FrameDecoder(limit)
    frames = []

    def feed_all() -> None:
        for at in range(0, len(data), piece):
            frames.extend(decoder.feed(data[at : at + piece]))

    with pytest.raises(sse.FrameError, match="longer than 100 bytes") as caught:
        feed_all()
    assert [frame.data for frame in (*frames, *caught.value.frames)] == [b"ok"]


def test_a_frame_of_exactly_the_limit_passes() -> None:
    frame = b"data: " + b"x" * 92 + b"\n\n"
    for piece in (1, 100):
        decoder = sse.FrameDecoder(100)
        found = [one for at in range(0, 100, piece) for one in decoder.feed(frame[at : at + piece])]
        assert [one.raw for one in found] == [frame]


def test_many_frames_in_one_read_may_be_longer_than_the_limit_together() -> None:
    assert len(sse.FrameDecoder(100).feed(b"data: x\n\n" * 50)) == 50


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("piece", [1, 16, 1460])
def test_work_grows_with_the_bytes_and_not_with_their_square(line_end: bytes, piece: int) -> None:
    def seconds(size: int) -> float:
        data = b"data: " + b"x" * size + line_end * 2
        pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
        decoder = sse.FrameDecoder()
        started = time.process_time()
        frames = [frame for one in pieces for frame in decoder.feed(one)]
        assert len(frames) == 1
        return time.process_time() - started

    size = 1 << 15 if piece == 1 else 1 << 19
    small = min(seconds(size) for _ in range(2))
    large = min(seconds(size * 4) for _ in range(2))
    # Linear is 4, quadratic is 16.
    assert large < 9 * small + 0.05


def test_eight_megabytes_in_small_pieces_are_read_in_a_moment() -> None:
    data = b"data: " + b"x" * (8 * 1024 * 1024 - 16) + b"\n\n"
    decoder = sse.FrameDecoder()
    started = time.process_time()
    frames = [frame for at in range(0, len(data), 64) for frame in decoder.feed(data[at : at + 64])]
    assert len(frames) == 1
    assert frames[0].raw == data
    assert time.process_time() - started < 5


@given(
    st.binary(max_size=60).map(lambda text: re.sub(rb"\r\n|\r", b"\n", text)),
    st.binary(max_size=20).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b"").lstrip(b" ")),
)
@settings(max_examples=100, deadline=None)
def test_what_is_encoded_is_decoded(data: bytes, event: bytes) -> None:
    frame = sse.encode(data, event)
    assert decode(b": lead\n\n", frame)[1:] == [(event, data)]


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_line_ends_in_data_never_end_a_frame(data: bytes) -> None:
    (found,) = decode(b"", sse.encode(data, b"e"))
    assert found == (b"e", re.sub(rb"\r\n|\r", b"\n", data))


@pytest.mark.parametrize("text", [b"", b"keep-alive"])
def test_a_comment_says_nothing(text: bytes) -> None:
    assert told(decode(sse.comment(text))) == []
    assert sse.comment(text).startswith(b":")
