"""A client sends the same head with every request of a connection, but for the digits of content-length. So the next one
is known again by its bytes, and neither parsed nor judged anew.

A parser is a machine: between two messages it is always in the same state, and from there the same bytes bring it to the
same fields and the same end of the head. Other digits of content-length are another number, as long as they are digits,
and nothing else; and what the judge made of the fields holds as long as the snapshot does. Whatever is cut within its
head, spelled differently or has a field that is never the same (`traceparent`, `x-request-id`) goes through the parser.
"""

import re
from hmac import compare_digest
from typing import TYPE_CHECKING

from tidegate.server.incoming import Incoming, request_ids

if TYPE_CHECKING:
    from tidegate.gateway.snapshot import Snapshot

__all__ = ["UsualHead"]

HEAD_LIMIT = 8 * 1024
"""Longest head that is remembered, in bytes: each open connection may hold one."""

_DIGITS = 9
_NUMBER = rb"(0|[1-9][0-9]{0,%d})\r\n" % (_DIGITS - 1)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*" + _NUMBER, re.IGNORECASE)
_number_at = re.compile(_NUMBER).match


class UsualHead:
    """What is known of every request that begins with the head of this one."""

    __slots__ = (
        "_after",
        "_before",
        "_dialect",
        "_expires",
        "_fields",
        "_headers",
        "_limit",
        "_place",
        "_principal",
        "_start",
        "_url",
        "snapshot",
    )

    def __init__(self, before: bytes, after: bytes, incoming: Incoming, snapshot: "Snapshot") -> None:
        """The head of `incoming` is `before`, the digits of content-length, and `after`."""
        self._before = before
        self._after = after
        self._start = len(before)
        self._url = incoming.url
        self._headers = incoming.headers
        self._place = [name for name, _ in incoming.headers].index(b"content-length")
        self._fields = incoming.fields
        self._limit = incoming.body_limit
        self._dialect = incoming.dialect
        self._principal = incoming.principal
        self._expires = incoming.principal is not None and incoming.principal.expires_at is not None
        self.snapshot = snapshot
        """By which it was judged."""

    @classmethod
    def of(cls, read: bytes, incoming: Incoming, snapshot: "Snapshot", max_head: int) -> "UsualHead | None":
        """What to remember of a request with nothing unusual in its head, which the parser has just found at the beginning
        of `read`. None if the connection does not go on; if the bytes are not plainly a line for each field, or the length
        not plainly a number; if another number could make the head longer than `max_head`."""
        if incoming.dialect is None or not incoming.keep_alive:
            return None
        head = read[: read.find(b"\r\n\r\n") + 4]
        length = _LENGTH.search(head)
        lines = len(incoming.headers) + 2
        if length is None or not lines == head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r"):
            return None
        if len(head) > HEAD_LIMIT or incoming.measure_head() + _DIGITS > max_head:
            return None
        start, end = length.span(1)
        return cls(head[:start], head[end:], incoming, snapshot)

    def begin(self, read: bytes, begun_at: float) -> tuple[Incoming, int] | None:
        """The request that `read` begins with, with what there is of its body, and where in `read` the body ends, or would
        end. None if the head is not this one, or announces more than is taken.

        Heads hold keys: they are compared without telling by the time it takes how much of one was right.
        """
        start = self._start
        after = self._after
        number = _number_at(read, start)
        if number is None:
            return None
        digits = number[1]
        length = int(digits)
        at = start + len(digits)
        body_at = at + len(after)
        if (
            length > self._limit
            or not compare_digest(read[:start], self._before)
            or not compare_digest(read[at:body_at], after)
            or (self._expires and self._has_expired())
        ):
            return None
        headers = self._headers.copy()
        headers[self._place] = (b"content-length", digits)
        fields = self._fields.copy()
        fields[b"content-length"] = digits
        end = body_at + length
        body = read[body_at:end]
        incoming = Incoming(
            url=self._url,
            headers=headers,
            method=b"POST",
            fields=fields,
            body=body,
            body_limit=self._limit,
            body_bytes=len(body),
            begun_at=begun_at,
            keep_alive=True,
            dialect=self._dialect,
            principal=self._principal,
            request_id=request_ids.take(),
        )
        return incoming, end

    def _has_expired(self) -> bool:
        """Whether the key has: the snapshot changes only some time after that."""
        return self._principal is not None and self.snapshot.keys.has_expired(self._principal)
