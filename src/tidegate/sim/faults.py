"""Faults: everything that can go wrong with an answer on purpose, in one table.

A fault changes the events before they are rendered, or the reply after it. `after` counts the events that are sent before it strikes; by
default they reach up to the first delta with content, where a gateway has committed itself. Of a body that is not streamed `after=0` sends
nothing, anything else the first half.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from tidegate.sim import framing_faults, reply_faults, stream_faults
from tidegate.sim.case import Case
from tidegate.sim.reply import Reply
from tidegate.sim.sse import Stream


class Fault(msgspec.Struct, frozen=True):
    """What a fault does, in one line, and the function that does it."""

    summary: str
    on_events: Callable[[Case, Stream], None] | None = None
    on_reply: Callable[[Case, Reply], Reply] | None = None
    on_upload: Literal["stall", "reset", "refuse"] | None = None
    """What is done to an upload as soon as some of its file has come."""


FAULTS: dict[str, Fault] = {
    "stall": Fault("stops sending and holds the connection open", on_reply=reply_faults.stall),
    "reset": Fault("resets the connection (RST)", on_reply=reply_faults.reset),
    "eof": Fault("ends the body cleanly with no finish", on_reply=reply_faults.eof),
    "cut": Fault("closes the connection in the middle of a frame, the body's end untold", on_reply=reply_faults.cut),
    "close": Fault("closes the connection between two frames, the body's end untold", on_reply=reply_faults.close),
    "bad_chunk_size": Fault("sends a chunk size that is not a number", on_reply=reply_faults.bad_chunk_size),
    "truncated_json": Fault(
        "sends half of the body with a content-length that fits the half", on_reply=reply_faults.truncated_json
    ),
    "error": Fault(
        "an error in the stream: `error` then response.failed, data {error}, or an error event; not streamed: status 500",
        on_events=stream_faults.error,
        on_reply=reply_faults.error_body,
    ),
    "failed": Fault(
        "response.failed with no error before it, or a chunk with finish_reason error; not streamed: a failed response with status 200",
        on_events=stream_faults.failed,
        on_reply=reply_faults.failed_body,
    ),
    "garbage": Fault(
        "an event whose data is no JSON", on_events=stream_faults.garbage, on_reply=reply_faults.garbage_body
    ),
    "badutf8": Fault(
        "an event with bytes that are not UTF-8", on_events=stream_faults.badutf8, on_reply=reply_faults.badutf8_body
    ),
    "keepalive": Fault("a numbered keepalive event (responses)", on_events=stream_faults.keepalive),
    "unknown": Fault("an event of a type that nobody knows", on_events=stream_faults.unknown),
    "seq_jump": Fault("a hole in sequence_number (responses)", on_events=stream_faults.seq_jump),
    "seq_stuck": Fault("a sequence_number twice (responses)", on_events=stream_faults.seq_stuck),
    "headless": Fault("no created and in_progress, or no role chunk", on_events=stream_faults.headless),
    "dup_role": Fault("the role chunk, or in_progress, twice", on_events=stream_faults.dup_role),
    "dup_finish": Fault("the finish chunk, or the terminal event, twice", on_events=stream_faults.dup_finish),
    "extra_after_end": Fault(
        "a delta after the terminal event or after [DONE]", on_events=stream_faults.extra_after_end
    ),
    "call_no_id": Fault("calls whose deltas have no id (chat)", on_events=stream_faults.call_no_id),
    "call_no_index": Fault("calls whose deltas have no index (chat)", on_events=stream_faults.call_no_index),
    "call_same_index": Fault(
        "every call under index 0, told apart by id alone (chat)", on_events=stream_faults.call_same_index
    ),
    "call_interleaved": Fault(
        "the arguments of parallel calls by turns (chat)", on_events=stream_faults.call_interleaved
    ),
    "call_whole": Fault("each call in one delta (chat)", on_events=stream_faults.call_whole),
    "bom": Fault("a byte order mark before the stream", on_reply=framing_faults.bom),
    "cr_only": Fault("lines of the stream end with CR alone", on_reply=framing_faults.cr_only),
    "no_space": Fault("no blank behind the colon of a field", on_reply=framing_faults.no_space),
    "more_fields": Fault(
        "comments, ids, retry times and unknown fields in every frame", on_reply=framing_faults.more_fields
    ),
    "multiline": Fault("the JSON of a frame in several data lines", on_reply=framing_faults.multiline),
    "no_blank_line": Fault("the last frame without its line ends", on_reply=framing_faults.no_blank_line),
    "ping": Fault("nothing but comments, one for each gap (100 ms), for ever", on_reply=reply_faults.ping),
    "endless": Fault("the first delta over and over, for ever", on_reply=reply_faults.endless),
    "longline": Fault("a line of `total` bytes (16 MiB) with no end", on_reply=reply_faults.longline),
    "many_headers": Fault("a head of more than 64 KiB", on_reply=reply_faults.many_headers),
    "json200": Fault("status 200 with a JSON error body, streamed or not", on_reply=reply_faults.json200),
    "html200": Fault("status 200 with an HTML page", on_reply=reply_faults.html200),
    "empty200": Fault("status 200 with an empty body", on_reply=reply_faults.empty200),
    "wrong_type": Fault("the right body as text/plain", on_reply=reply_faults.wrong_type),
    "no_type": Fault("the right body with no content-type", on_reply=reply_faults.no_type),
    "redirect": Fault("status 302 to `location`", on_reply=reply_faults.redirect),
    "gzip": Fault("the body compressed though identity was asked for", on_reply=reply_faults.gzip),
    "gzip_bomb": Fault("`total` (64 MiB) blanks, compressed about a thousandfold", on_reply=reply_faults.gzip_bomb),
    "stall_head": Fault("reads the request and never answers", on_reply=reply_faults.stall_head),
    "close_head": Fault("reads the request and closes before any byte", on_reply=reply_faults.close_head),
    "stale": Fault("closes before any byte if the connection has been used before", on_reply=reply_faults.stale),
    "not_http": Fault("answers with bytes that are not HTTP", on_reply=reply_faults.not_http),
    "head_slow": Fault(
        "sends the head 16 bytes at a time, one piece for each gap (20 ms)", on_reply=reply_faults.head_slow
    ),
    "continue100": Fault("sends 100 Continue before the answer", on_reply=reply_faults.continue100),
    "close_keepalive": Fault(
        "closes after a whole answer that promised to keep the connection", on_reply=reply_faults.close_keepalive
    ),
    "unsolicited": Fault(
        "sends a second answer that nobody asked for behind the first", on_reply=reply_faults.unsolicited
    ),
    "upload_stall": Fault("reads no more of an upload, and holds the connection (transcription)", on_upload="stall"),
    "upload_reset": Fault("resets the connection in the middle of an upload (transcription)", on_upload="reset"),
    "upload_refused": Fault(
        "answers 413 in the middle of an upload, and closes at once (transcription)", on_upload="refuse"
    ),
    "both_lengths": Fault("announces content-length and chunked at once", on_reply=reply_faults.both_lengths),
}
