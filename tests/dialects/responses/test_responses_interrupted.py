"""Endings of stored streams that cannot go on to their own."""

import json
from typing import Any

import pytest

from tests.support.api import read_frames
from tidegate.dialects.responses.interrupted import Remains, broken_off
from tidegate.wire.errors import NotFound

BEGUN = json.dumps({"id": "resp_1", "status": "in_progress", "output": [], "error": None}).encode()
GONE = NotFound("The stream was deleted while it was read.", code="stream_deleted")


def frame(number: int, kind: str = "response.output_text.delta", *, named: bool = True, **members: Any) -> bytes:
    data = json.dumps({"type": kind, **members, "sequence_number": number})
    return (f"event: {kind}\n" if named else "").encode() + f"data: {data}\n\n".encode()


@pytest.mark.parametrize(
    ("last", "after", "number"),
    [
        (frame(6) + frame(7), None, 8),
        (frame(7), 3, 8),
        (b"", 4, 5),
        (b"", None, 0),
        # The client has seen more than was written before the process died.
        (frame(7), 12, 13),
    ],
)
def test_a_stream_that_breaks_off_counts_on_from_what_its_client_has_seen(
    last: bytes, after: int | None, number: int
) -> None:
    error, failed = read_frames(broken_off(BEGUN, last, after, GONE))
    assert (error.event, failed.event) == ("error", "response.failed")
    assert (error.json["sequence_number"], failed.json["sequence_number"]) == (number, number + 1)
    assert error.json["code"] == error.json["error"]["code"] == "stream_deleted"
    response = failed.json["response"]
    assert (response["id"], response["status"], response["output"]) == ("resp_1", "failed", [])
    assert response["error"] == {"code": "server_error", "message": f"stream_deleted: {GONE.message}"}


def test_behind_a_real_ending_nothing_is_added() -> None:
    for kind in ("response.completed", "response.incomplete", "response.failed"):
        assert broken_off(BEGUN, frame(1) + frame(2, kind, response={"id": "resp_1"}), None, GONE) == b""


def test_a_stream_without_event_lines_ends_without_them() -> None:
    frames = read_frames(broken_off(BEGUN, frame(1, named=False), None, GONE))
    assert [one.event for one in frames] == ["", ""]
    remains = Remains()
    remains.feed(frame(1, named=False))
    assert b"event:" not in remains.closing(BEGUN, None)
