"""Faults of the framing of a stream: forms that WHATWG's rules for event streams allow, and few providers use. Each takes the reply
that would be right and gives the one that is sent; a reply that is no event stream stays as it is."""

import json
from collections.abc import Callable

from tidegate.sim.case import Case
from tidegate.sim.reply import Reply

BOM = b"\xef\xbb\xbf"


def _each(case: Case, reply: Reply, change: Callable[[bytes], bytes]) -> Reply:
    if case.stream is not None:
        reply.frames = [change(frame) for frame in reply.frames]
    return reply


def bom(case: Case, reply: Reply) -> Reply:
    if case.stream is not None:
        first, *rest = reply.frames
        reply.frames = [BOM + first, *rest]
    return reply


def cr_only(case: Case, reply: Reply) -> Reply:
    return _each(case, reply, lambda frame: frame.replace(b"\n", b"\r"))


def no_space(case: Case, reply: Reply) -> Reply:
    return _each(case, reply, lambda frame: frame.replace(b"event: ", b"event:", 1).replace(b"data: ", b"data:", 1))


def more_fields(case: Case, reply: Reply) -> Reply:
    return _each(case, reply, lambda frame: b": tide\nid: 1\nretry: 1000\nripple: 1\nripple\n" + frame)


def multiline(case: Case, reply: Reply) -> Reply:
    return _each(case, reply, _in_lines)


def _in_lines(frame: bytes) -> bytes:
    """JSON in several `data:` lines: its parts are joined by line feeds, which JSON does not mind."""
    head, _, data = frame.partition(b"data: ")
    try:
        written = json.dumps(json.loads(data), ensure_ascii=False, indent=0).encode()
    except ValueError:
        return frame
    return head + b"".join(b"data: " + line + b"\n" for line in written.split(b"\n")) + b"\n"


def no_blank_line(case: Case, reply: Reply) -> Reply:
    if case.stream is not None:
        *rest, last = reply.frames
        reply.frames = [*rest, last.rstrip(b"\r\n")]
    return reply
