"""The bytes of response heads."""

import http

from tidegate.wire.errors import TidegateError

__all__ = ["CLOSE", "CONTINUE", "body_head", "empty_head", "error_fields", "status_line", "stream_head"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii")) for status in http.HTTPStatus
}


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def stream_head(date: bytes, request_id: bytes, fields: bytes, content_type: bytes, *, chunked: bool) -> bytes:
    """The head of a stream. `x-accel-buffering` keeps nginx from collecting it; without chunks (HTTP/1.0) the end
    of the connection is the end of the answer."""
    return (
        b"HTTP/1.1 200 OK\r\n%bcontent-type: %b\r\ncache-control: no-store\r\n"
        b"x-accel-buffering: no\r\nx-request-id: %b\r\n%b%b\r\n"
        % (date, content_type, request_id, fields, b"transfer-encoding: chunked\r\n" if chunked else b"")
    )


def body_head(status: int, date: bytes, request_id: bytes, fields: bytes, content_type: bytes, length: int) -> bytes:
    """The head of an answer in one body."""
    return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n" % (
        _STATUS_LINES.get(status) or status_line(status),
        date,
        content_type,
        length,
        request_id,
        fields,
    )


def empty_head(date: bytes, request_id: bytes, fields: bytes) -> bytes:
    """Status 204: a head is the whole answer."""
    return b"%b%bx-request-id: %b\r\n%b\r\n" % (status_line(204), date, request_id, fields)


def error_fields(error: TidegateError) -> bytes:
    """The headers that an error brings."""
    return b"".join(b"%b: %b\r\n" % field for field in error.headers())
