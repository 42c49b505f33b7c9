"""Endings of stored streams that cannot go on to their own."""

import json
from typing import Any

import pytest

from tests.support.api import read_frames
from tidegate.dialects.profile import PROFILES
from tidegate.dialects.responses.interrupted import Remains
from tidegate.dialects.resume import ResponsesResume
from tidegate.wire.errors import NotFound
from tidegate.wire.sse import FRAME_LIMIT

BEGUN = json.dumps({"id": "resp_1", "status": "in_progress", "output": [], "error": None}).encode()
GONE = NotFound("The stream was deleted while it was read.", code="stream_deleted")


def frame(number: int, kind: str = "response.output_text.delta", *, named: bool = True, **members: Any) -> bytes:
    data = json.dumps({"type": kind, **members, "sequence_number": number})
    return (f"event: {kind}\n" if named else "").encode() + f"data: {data}\n\n".encode()


def broken_off(written: bytes, after: int | None, profile: str = "openai") -> bytes:
    """How the stream ends for a client that asked for what is behind event `after`."""
    resume = ResponsesResume(after, BEGUN, PROFILES[profile])
    resume.feed(written)
    return resume.broken(GONE)


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
    error, failed = read_frames(broken_off(last, after))
    assert (error.event, failed.event) == ("error", "response.failed")
    assert (error.json["sequence_number"], failed.json["sequence_number"]) == (number, number + 1)
    assert error.json["code"] == error.json["error"]["code"] == "stream_deleted"
    response = failed.json["response"]
    assert (response["id"], response["status"], response["output"]) == ("resp_1", "failed", [])
    assert response["error"] == {"code": "server_error", "message": f"stream_deleted: {GONE.message}"}


def test_behind_a_real_ending_nothing_is_added() -> None:
    for kind in ("response.completed", "response.incomplete", "response.failed"):
        whole = frame(1) + frame(2, kind, response={"id": "resp_1"})
        # Also for a client that had all of it already, and was given nothing.
        for after in (None, 1, 2, 9):
            assert broken_off(whole, after) == b""
            assert broken_off(whole + b"data: [DONE]\n\n", after) == b""


def test_a_stream_without_event_lines_ends_without_them() -> None:
    for frames in (broken_off(frame(1, named=False), None), broken_off(b"", None, "kkiai")):
        assert [one.event for one in read_frames(frames)] == ["", ""]
    remains = Remains()
    remains.feed(frame(1, named=False))
    assert b"event:" not in remains.closing(BEGUN, None)


def test_a_stream_that_is_kept_for_its_frames_alone_knows_its_response_from_them() -> None:
    created = frame(0, "response.created", response={"id": "resp_2", "status": "in_progress"})
    for written, name in ((created + frame(1), "resp_2"), (b"", None)):
        resume = ResponsesResume(5, b"", PROFILES["openai"])
        resume.feed(written)
        response = read_frames(resume.broken(GONE))[-1].json["response"]
        assert (response.get("id"), response["status"]) == (name, "failed")


def test_what_was_written_is_read_however_long_its_frames_are() -> None:
    """A request that is longer than any frame of a provider may be is repeated in the first events."""
    long = "I" * (FRAME_LIMIT + 1024 * 1024)
    whole = frame(0, "response.created", response={"id": "resp_1", "instructions": long}) + frame(1, delta=long)
    remains = Remains()
    remains.feed(whole)
    assert remains.last == 1
    resume = ResponsesResume(0, BEGUN, PROFILES["openai"])
    assert resume.feed(whole) == frame(1, delta=long)
