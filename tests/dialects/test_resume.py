"""Streams that are picked up again, and that end for their reader though they cannot go on."""

import json
from typing import Any

import pytest

from tests.support.api import read_frames
from tidegate.dialects.dialect import EVENT_STREAM
from tidegate.dialects.gemini.resume import ArrayResume, GeminiResume
from tidegate.dialects.profile import PROFILES
from tidegate.dialects.resume import ChunkResume, MessagesResume, ResponsesResume, Resume
from tidegate.wire import sse
from tidegate.wire.errors import Internal

ERROR = Internal("gateway_interrupted: cut.")


def data(content: Any, event: str = "") -> bytes:
    return sse.encode(json.dumps(content).encode(), event.encode())


def message(kind: str, **members: Any) -> bytes:
    return data({"type": kind, **members}, kind)


def candidate(text: str, reason: str | None = None, index: int = 0) -> dict[str, Any]:
    ending = {} if reason is None else {"finishReason": reason}
    return {"candidates": [{"index": index, "content": {"parts": [{"text": text}]}, **ending}]}


def array(*elements: Any, closed: bool = True) -> bytes:
    return b"[" + b",\r\n".join(json.dumps(one).encode() for one in elements) + (b"\n]" if closed else b"")


STOP = "event: message_stop"
CHUNK = data({"choices": [{"delta": {"content": "[DONE]"}, "finish_reason": None}]})
TOLD = data({"error": {"message": "no"}})
SAID = message("content_block_delta", delta={"type": "text_delta", "text": f"\n\n{STOP}\ndata: x"})

whole = pytest.mark.parametrize(
    ("resume", "frames"),
    [
        (ChunkResume, CHUNK + sse.DONE),
        (ChunkResume, CHUNK + TOLD),
        (MessagesResume, SAID + message("message_stop")),
        (MessagesResume, SAID + message("error", error={"message": "no"})),
        (GeminiResume, data(candidate("a")) + data(candidate("b", "STOP"))),
        (GeminiResume, data(candidate("a", "STOP")) + data({"usageMetadata": {"promptTokenCount": 1}})),
        (GeminiResume, data(candidate("a", "STOP", 1)) + data(candidate("b", "MAX_TOKENS"))),
        (GeminiResume, data({"promptFeedback": {"blockReason": "SAFETY"}})),
        (GeminiResume, data(candidate("a")) + TOLD),
        (ArrayResume, array(candidate("a"), candidate("b", "STOP"))),
        (ArrayResume, array(candidate("a"), {"error": {"message": "no"}})),
        (ArrayResume, b"[]"),
    ],
)
cut = pytest.mark.parametrize(
    ("resume", "frames"),
    [
        (ChunkResume, b""),
        (ChunkResume, CHUNK),
        (ChunkResume, CHUNK + b": keepalive\n\n"),
        (MessagesResume, b""),
        (MessagesResume, SAID),
        (MessagesResume, SAID + message("ping")),
        (MessagesResume, message("message_delta", delta={"stop_reason": "end_turn"})),
        (GeminiResume, b""),
        (GeminiResume, data(candidate("a", "FINISH_REASON_UNSPECIFIED"))),
        (GeminiResume, data(candidate("a", "STOP")) + data(candidate("b", index=1))),
        (ArrayResume, b""),
        (ArrayResume, array(candidate("a]"), candidate("b\n]"), closed=False)),
    ],
)
seen = pytest.mark.parametrize("after", [None, 0, 1, 9])


def told(out: bytes, resume: Resume) -> Any:
    """What the last frame, or the last element, of `out` says."""
    if resume.content_type == EVENT_STREAM:
        return read_frames(out)[-1].json
    return json.loads(out)[-1]


@whole
@seen
def test_nothing_is_added_behind_a_real_ending_whatever_of_it_goes_out(
    resume: type[ChunkResume], frames: bytes, after: int | None
) -> None:
    one = resume(after)
    one.feed(frames)
    assert one.broken(ERROR) == b""


@cut
@seen
def test_what_was_cut_ends_with_an_error_whatever_its_text_says(
    resume: type[ChunkResume], frames: bytes, after: int | None
) -> None:
    one = resume(after)
    out = one.feed(frames)
    assert told(out + one.broken(ERROR), one)["error"]["message"] == ERROR.message


@pytest.mark.parametrize("after", [None, -1, 0, 1, 2, 5])
@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_an_array_goes_on_as_an_array(after: int | None, pieces: int) -> None:
    elements = [candidate("a"), candidate("{[,\r\n]}"), candidate("c", "STOP")]
    frames = [array(elements[0], closed=False), *(b",\r\n" + json.dumps(one).encode() for one in elements[1:]), b"\n]"]
    if pieces == 1:
        frames = [b"".join(frames)]
    elif pieces == 2:
        frames = [b"".join(frames[:2]), b"".join(frames[2:])]
    resume = ArrayResume(after)
    out = b"".join(resume.feed(one) for one in frames)
    assert json.loads(out) == elements[0 if after is None else after + 1 :]
    if after is None:
        assert out == array(*elements)
    assert resume.content_type == b"application/json; charset=utf-8"


def test_an_array_that_lacks_only_its_bracket_gets_it() -> None:
    resume = ArrayResume(0)
    out = resume.feed(array(candidate("a"), candidate("b", "STOP"), closed=False))
    assert json.loads(out + resume.broken(ERROR)) == [candidate("b", "STOP")]


@pytest.mark.parametrize(
    ("profile", "after", "frames", "event"),
    [
        ("openai", None, b"", None),
        ("openai", 4, b"", "keepalive"),
        ("openai", None, data({"type": "response.created", "sequence_number": 4}, "response.created"), "keepalive"),
        ("kkiai", None, data({"type": "response.created", "sequence_number": 4}), ""),
        ("openresponses", None, data({"type": "response.created", "sequence_number": 4}, "response.created"), None),
    ],
)
def test_a_keepalive_of_a_response_repeats_the_last_number(
    profile: str, after: int | None, frames: bytes, event: str | None
) -> None:
    resume = ResponsesResume(after, b"{}", PROFILES[profile])
    resume.feed(frames)
    expected = b": keepalive\n\n"
    if event is not None:
        expected += sse.encode(b'{"type":"keepalive","sequence_number":4}', event.encode())
    assert resume.ping() == expected


@pytest.mark.parametrize(
    ("resume", "ping"),
    [
        (ChunkResume(None), b": keepalive\n\n"),
        (GeminiResume(None), b": keepalive\n\n"),
        (MessagesResume(None), b'event: ping\ndata: {"type": "ping"}\n\n'),
        (ArrayResume(None), b"\n"),
    ],
)
def test_a_keepalive_has_the_form_of_its_dialect(resume: Resume, ping: bytes) -> None:
    assert resume.ping() == ping
