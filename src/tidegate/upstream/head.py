"""The head of an answer: bytes, of which a field is read when somebody asks for it.

Providers send twenty or thirty fields, of which two or three matter here. The parser, which is strict, has accepted all
of the head by then: every line ends with CRLF, none is folded, and no CR, LF or NUL stands in a name or a value
(RFC 9112 §5). So a name is found behind LF, and its value ends with the line; a test holds what is found against
what the parser has seen. How long the body is, and whether the connection goes on, is for the parser alone to say.
"""

import re

__all__ = ["CODED", "LENGTH", "WRAPPED", "Headers", "field", "fields_of", "head_of", "last_of", "rest_of"]

Headers = list[tuple[bytes, bytes]]
"""Header fields in the order they came, names in lower case."""


def field(name: bytes) -> re.Pattern[bytes]:
    """What finds the values of the fields whose names match `name`, a pattern that has no groups."""
    return re.compile(rb"\n(?:%b):[ \t]*([^\r\n]*)" % name, re.IGNORECASE)


CODED = re.compile(rb"\n(?:content-encoding:|transfer-encoding:(?![ \t]*chunked[ \t]*\r))", re.IGNORECASE)
"""Finds a content coding, and a transfer coding other than chunked."""

WRAPPED = re.compile(rb"\ntransfer-encoding:(?![ \t]*chunked[ \t]*\r)", re.IGNORECASE)
"""Finds a transfer coding other than chunked."""

LENGTH = re.compile(rb"\n(?:content-length|transfer-encoding):", re.IGNORECASE)
"""Finds what tells the end of a body; where there is nothing, it ends with its connection."""

_ANY = re.compile(rb"\n([^:\r\n]+):[ \t]*([^\r\n]*)")


def head_of(data: bytes) -> bytes:
    """The complete head that `data` begins with: status line and fields. Blank lines before it count for nothing (RFC 9112
    §2.2)."""
    data = data.lstrip(b"\r\n")
    return data[: data.index(b"\r\n\r\n") + 2]


def rest_of(data: bytes) -> bytes:
    """What follows that head."""
    return data.lstrip(b"\r\n").partition(b"\r\n\r\n")[2]


def fields_of(head: bytes) -> Headers:
    """All of them."""
    return [(name.lower(), value) for name, value in _ANY.findall(head)]


def last_of(head: bytes, name: re.Pattern[bytes]) -> bytes:
    """The last value of a :func:`field`; empty where there is none."""
    found: list[bytes] = name.findall(head)
    return found[-1] if found else b""
