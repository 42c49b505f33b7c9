"""Faults of the reply: each takes the reply that would be right and gives the one that is sent. What each does is said in `FAULTS`."""

import zlib
from collections.abc import Iterator

import msgspec

from tidegate.sim import responses
from tidegate.sim.case import Case
from tidegate.sim.errors import envelope
from tidegate.sim.reply import Ending, Reply, error_reply, json_reply, plain_reply
from tidegate.sim.sse import comment, frame
from tidegate.sim.stream_faults import spoil

BLOCK = 64 * 1024
LONG_LINE_BYTES = 16 * 1024 * 1024
BOMB_BYTES = 64 * 1024 * 1024

HTML = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


# The body breaks off.


def _sent(case: Case, reply: Reply) -> list[bytes]:
    frames = list(reply.frames)
    if reply.stream:
        return frames[: case.options.comments + case.after]
    body = b"".join(frames)
    return [body[: len(body) // 2]] if case.after else []


def _broken(case: Case, reply: Reply, ending: Ending) -> Reply:
    frames = list(reply.frames)
    if reply.framing == "length" and reply.announced_length is None:
        reply.announced_length = sum(map(len, frames))
    reply.frames = _sent(case, reply)
    reply.complete = False
    reply.ending = ending
    return reply


def stall(case: Case, reply: Reply) -> Reply:
    return _broken(case, reply, Ending.HANG)


def reset(case: Case, reply: Reply) -> Reply:
    return _broken(case, reply, Ending.RESET)


def cut(case: Case, reply: Reply) -> Reply:
    frames = list(reply.frames)
    broken = _broken(case, reply, Ending.CLOSE)
    at = case.options.comments + case.after
    if reply.stream and at < len(frames):
        next_frame = frames[at]
        broken.frames = [*broken.frames, next_frame[: len(next_frame) // 2]]
    return broken


def close(case: Case, reply: Reply) -> Reply:
    return _broken(case, reply, Ending.CLOSE)


def eof(case: Case, reply: Reply) -> Reply:
    reply.frames = _sent(case, reply)
    return reply


def bad_chunk_size(case: Case, reply: Reply) -> Reply:
    reply.frames = _sent(case, reply)
    reply.framing = "chunked"
    reply.complete = False
    reply.tail = b"zz\r\nthis is no chunk\r\n"
    reply.ending = Ending.HANG
    return reply


def truncated_json(case: Case, reply: Reply) -> Reply:
    return eof(case, reply)


# There is too much of it.


def ping(case: Case, reply: Reply) -> Reply:
    def frames(first: list[bytes]) -> Iterator[bytes]:
        yield from first
        while True:
            yield comment("ping", case.options)

    if case.stream is not None:
        reply.frames = frames(_sent(case, reply))
        reply.framing = "chunked"
        reply.gap_ms = 100
        return reply
    return stall_head(case, reply)


def endless(case: Case, reply: Reply) -> Reply:
    stream = case.stream
    if stream is None:
        return longline(case, reply)
    event = stream.events[max(stream.to_content - 1, 0)]
    number = case.sequence(case.after)

    def frames(first: list[bytes], number: int) -> Iterator[bytes]:
        yield from first
        while True:
            if isinstance(event.data, dict) and "sequence_number" in event.data:
                event.data = {**event.data, "sequence_number": number}
                number += 1
            yield frame(event, case.options)

    reply.frames = frames(_sent(case, reply), number)
    reply.framing = "chunked"
    return reply


def longline(case: Case, reply: Reply) -> Reply:
    size = case.options.total or LONG_LINE_BYTES

    def frames(first: list[bytes]) -> Iterator[bytes]:
        yield from first
        yield b'data: {"delta":"' if reply.stream else b'{"output":"'
        for at in range(0, size, BLOCK):
            yield b"x" * min(BLOCK, size - at)

    reply.frames = frames(_sent(case, reply) if reply.stream else [])
    reply.framing = "chunked"
    return reply


def many_headers(_case: Case, reply: Reply) -> Reply:
    reply.headers.extend((f"x-filler-{i}", "x" * 80) for i in range(1000))
    return reply


# It is something else.


def _json_error(case: Case, status: int) -> Reply:
    options = case.options
    message = options.message or "The server had an error while processing your request."
    said = envelope(case.prompt.endpoint, 500, message, kind=options.type, code=options.code)
    return error_reply(said, status)


def json200(case: Case, _reply: Reply) -> Reply:
    return _json_error(case, 200)


def html200(_case: Case, _reply: Reply) -> Reply:
    return plain_reply("text/html", HTML)


def empty200(_case: Case, reply: Reply) -> Reply:
    reply.frames = []
    return reply


def wrong_type(_case: Case, reply: Reply) -> Reply:
    reply.headers = [(name, "text/plain" if name == "content-type" else value) for name, value in reply.headers]
    return reply


def no_type(_case: Case, reply: Reply) -> Reply:
    reply.headers = [(name, value) for name, value in reply.headers if name != "content-type"]
    return reply


def redirect(case: Case, _reply: Reply) -> Reply:
    moved = plain_reply("text/plain", b"moved", 302)
    moved.headers.append(("location", case.options.location))
    return moved


def gzip(_case: Case, reply: Reply) -> Reply:
    def frames(plain: list[bytes]) -> Iterator[bytes]:
        packer = zlib.compressobj(wbits=31)
        for piece in plain:
            yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
        yield packer.flush()

    reply.frames = frames(list(reply.frames))
    reply.headers.append(("content-encoding", "gzip"))
    return reply


def gzip_bomb(case: Case, reply: Reply) -> Reply:
    size = case.options.total or BOMB_BYTES

    def frames() -> Iterator[bytes]:
        packer = zlib.compressobj(level=9, wbits=31)
        for at in range(0, size, BLOCK):
            yield packer.compress(b" " * min(BLOCK, size - at))
        yield packer.flush()

    reply.frames = frames()
    reply.framing = "chunked"
    reply.headers.append(("content-encoding", "gzip"))
    return reply


# The connection and HTTP itself.


def stall_head(_case: Case, _reply: Reply) -> Reply:
    return Reply(silent=True, ending=Ending.HANG)


def close_head(_case: Case, _reply: Reply) -> Reply:
    return Reply(silent=True, ending=Ending.CLOSE)


def stale(case: Case, reply: Reply) -> Reply:
    return close_head(case, reply) if case.reused else reply


def not_http(_case: Case, reply: Reply) -> Reply:
    reply.preface = b"\x15\x03\x01\x00\x02\x02\x46"
    reply.ending = Ending.CLOSE
    return reply


def head_slow(_case: Case, reply: Reply) -> Reply:
    reply.head_pieces = 16
    reply.gap_ms = 20
    return reply


def continue100(_case: Case, reply: Reply) -> Reply:
    reply.preface = b"HTTP/1.1 100 Continue\r\n\r\n"
    return reply


def close_keepalive(_case: Case, reply: Reply) -> Reply:
    reply.ending = Ending.CLOSE
    return reply


def unsolicited(_case: Case, reply: Reply) -> Reply:
    reply.tail = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{"stolen":true}'
    return reply


def both_lengths(_case: Case, reply: Reply) -> Reply:
    reply.framing = "chunked"
    reply.announced_length = 5
    return reply


# The counterparts of event faults for answers that are not streamed.


def error_body(case: Case, reply: Reply) -> Reply:
    return reply if case.stream is not None else _json_error(case, 500)


def failed_body(case: Case, reply: Reply) -> Reply:
    if case.stream is not None:
        return reply
    if case.prompt.endpoint != "responses":
        return _json_error(case, 200)
    event = responses.failure(case.options, case.stamp, case.prompt, 0, announced=False)[0]
    assert isinstance(event.data, dict)
    return json_reply(msgspec.json.encode(event.data["response"]))


def garbage_body(case: Case, reply: Reply) -> Reply:
    return reply if case.stream is not None else json_reply(b"{'this is': not JSON")


def badutf8_body(case: Case, reply: Reply) -> Reply:
    return reply if case.stream is not None else json_reply(spoil(b"".join(reply.frames)))
