"""An error that the provider reports is not undone by an ending that follows it."""

import pytest

from tests.dialects.common import call, destination
from tidegate.dialects.responses import ResponsesDialect

CREATED = b'event: response.created\ndata: {"type":"response.created","response":{"id":"r"},"sequence_number":0}\n\n'
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x","sequence_number":1}\n\n'
ERROR = b'event: error\ndata: {"type":"error","code":"server_error","message":"broken","sequence_number":2}\n\n'
COMPLETED = (
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"r","status":"completed",'
    b'"output":[]},"sequence_number":3}\n\n'
)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_an_error_before_a_completed_event_ends_the_stream_as_failed_however_it_is_split(size: int) -> None:
    stream = ResponsesDialect().parse(b'{"model":"m","input":"x","stream":true}').open(call())
    stream.attempt(destination())
    data = CREATED + DELTA + ERROR + DELTA + COMPLETED
    out = b""
    for at in range(0, len(data), size):
        out += stream.feed(data[at : at + size])
        if stream.outcome is not None:
            break
    assert stream.outcome is not None
    assert stream.outcome.status == "failed"
    assert stream.outcome.error is not None
    assert stream.outcome.error.message.endswith("broken")
    assert b"response.completed" not in out
    assert out.count(b"event: response.output_text.delta") == 1
