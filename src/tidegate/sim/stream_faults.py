"""Faults of the events: each changes a stream in place, before it is rendered. What each does is said in `FAULTS`."""

import copy
import itertools
from typing import Any

import msgspec

from tidegate.sim import chat, gemini, messages, responses, speech, transcription
from tidegate.sim.case import Case
from tidegate.sim.sse import Event, Stream

GARBAGE = b'{"type":"response.output_text.delta","delta":"oh'
UNKNOWN_EVENT = "response.tidal_wave.rising"


def _failure(case: Case, stream: Stream, *, announced: bool) -> None:
    sequence = case.sequence(case.after)
    if case.prompt.endpoint == "responses":
        end = responses.failure(case.options, case.stamp, case.prompt, sequence, announced=announced)
    elif case.prompt.endpoint == "gemini":
        end = gemini.failure(case.options, case.stamp, case.prompt, in_chunk=not announced)
    elif case.prompt.endpoint == "messages":
        end = messages.failure(case.options)
    elif case.prompt.endpoint == "speech":
        end = speech.failure(case.options)
    elif case.prompt.endpoint == "transcription":
        end = transcription.failure(case.options)
    else:
        end = chat.failure(case.options, case.stamp, case.prompt, in_chunk=not announced)
    stream.events[case.after :] = end


def error(case: Case, stream: Stream) -> None:
    _failure(case, stream, announced=True)


def failed(case: Case, stream: Stream) -> None:
    _failure(case, stream, announced=False)


def _insert(event: Event, case: Case, stream: Stream) -> None:
    """Puts a numbered event into a responses stream and moves the numbers behind it."""
    _shift(case, stream, 1)
    stream.events.insert(case.after, event)


def _shift(case: Case, stream: Stream, by: int) -> None:
    for event in stream.events[case.after :]:
        if isinstance(event.data, dict) and "sequence_number" in event.data:
            event.data = {**event.data, "sequence_number": event.data["sequence_number"] + by}


def keepalive(case: Case, stream: Stream) -> None:
    if case.prompt.endpoint == "responses":
        name = "keepalive"
        _insert(Event({"type": name, "sequence_number": case.sequence(case.after)}, name), case, stream)


def unknown(case: Case, stream: Stream) -> None:
    name = UNKNOWN_EVENT
    if case.prompt.endpoint == "responses":
        _insert(Event({"type": name, "sequence_number": case.sequence(case.after), "height": 3}, name), case, stream)
    elif case.prompt.endpoint == "gemini":
        stream.events.insert(case.after, Event({"tidalWave": {"height": 3}}))
    elif case.prompt.endpoint == "messages":
        stream.events.insert(case.after, Event({"type": name, "height": 3, "index": "high"}, name))
    elif case.prompt.endpoint == "speech":
        stream.events.insert(case.after, Event({"type": name, "height": 3, "audio": {"height": 3}}))
    elif case.prompt.endpoint == "transcription":
        stream.events.insert(case.after, Event({"type": name, "height": 3}))
    else:
        stream.events.insert(case.after, Event({"object": name, "height": 3, "choices": []}))


def garbage(case: Case, stream: Stream) -> None:
    name = {"responses": "response.output_text.delta", "messages": "content_block_delta"}.get(case.prompt.endpoint)
    stream.events.insert(case.after, Event(GARBAGE, name))


def spoil(data: bytes) -> bytes:
    """JSON with bytes in its first text that are not UTF-8."""
    for mark in (b'"delta":"', b'"content":"', b'"text":"'):
        head, found, rest = data.partition(mark)
        if found:
            return head + found + b"\xff\xc3(" + rest
    return data + b"\xff"


def badutf8(case: Case, stream: Stream) -> None:
    for event in stream.events[case.after : case.after + 1]:
        if isinstance(event.data, dict):
            event.data = spoil(msgspec.json.encode(event.data))


def seq_jump(case: Case, stream: Stream) -> None:
    _shift(case, stream, 7)


def seq_stuck(case: Case, stream: Stream) -> None:
    _shift(case, stream, -1)


def headless(case: Case, stream: Stream) -> None:
    start = stream.to_content - 1
    if case.prompt.endpoint == "responses":
        names = [event.name for event in stream.events]
        start = names.index("response.output_item.added") if "response.output_item.added" in names else 2
    del stream.events[:start]
    stream.to_content -= start


def _finish_at(stream: Stream) -> int:
    """Where the event stands that finishes the answer; the end, if none does."""
    for at, event in enumerate(stream.events):
        data = event.data
        if isinstance(data, dict):
            if event.name in ("response.completed", "response.incomplete", "response.failed", "message_stop"):
                return at
            if data.get("type") in ("speech.audio.done", "transcript.text.done"):
                return at
            if any(choice.get("finish_reason") for choice in data.get("choices", ())):
                return at
            if any(candidate.get("finishReason") for candidate in data.get("candidates", ())):
                return at
    return len(stream.events) - 1


def dup_finish(_case: Case, stream: Stream) -> None:
    at = _finish_at(stream)
    again = copy.deepcopy(stream.events[at])
    if isinstance(again.data, dict) and "sequence_number" in again.data:
        again.data["sequence_number"] += 1
    stream.events.insert(at + 1, again)


def dup_role(case: Case, stream: Stream) -> None:
    if case.prompt.endpoint in ("responses", "chat"):
        _dup(stream, 1 if case.prompt.endpoint == "responses" else 0)


def _dup(stream: Stream, at: int) -> None:
    stream.events.insert(at + 1, copy.deepcopy(stream.events[at]))
    for event in stream.events[at + 1 :]:
        if isinstance(event.data, dict) and "sequence_number" in event.data:
            event.data = {**event.data, "sequence_number": event.data["sequence_number"] + 1}
    stream.to_content += 1


def extra_after_end(case: Case, stream: Stream) -> None:
    extra = copy.deepcopy(stream.events[stream.to_content - 1])
    if isinstance(extra.data, dict) and "sequence_number" in extra.data:
        extra.data["sequence_number"] = case.sequence(len(stream.events))
    stream.events.append(extra)


# Calls, in the forms in which engines have been seen to send them.


def _calls(case: Case, stream: Stream) -> list[tuple[Event, dict[str, Any]]]:
    """The chunks that have a piece of a call, each with that piece."""
    found = []
    for event in stream.events if case.prompt.endpoint == "chat" else ():
        if isinstance(event.data, dict) and event.data["choices"]:
            found += [(event, call) for call in event.data["choices"][0]["delta"].get("tool_calls", ())]
    return found


def _columns(case: Case, stream: Stream) -> list[list[tuple[Event, dict[str, Any]]]]:
    """The same, for each call."""
    columns: dict[int, list[tuple[Event, dict[str, Any]]]] = {}
    for event, call in _calls(case, stream):
        columns.setdefault(call["index"], []).append((event, call))
    return list(columns.values())


def call_no_id(case: Case, stream: Stream) -> None:
    for _, call in _calls(case, stream):
        call.pop("id", None)


def call_no_index(case: Case, stream: Stream) -> None:
    for _, call in _calls(case, stream):
        call.pop("index", None)


def call_same_index(case: Case, stream: Stream) -> None:
    for _, call in _calls(case, stream):
        call["index"] = 0


def call_interleaved(case: Case, stream: Stream) -> None:
    turns = [one for turn in itertools.zip_longest(*_columns(case, stream)) for one in turn if one is not None]
    places = [stream.events.index(event) for event, _ in _calls(case, stream)]
    for at, (event, _) in zip(places, turns, strict=True):
        stream.events[at] = event


def call_whole(case: Case, stream: Stream) -> None:
    for (_, first), *rest in _columns(case, stream):
        for event, call in rest:
            first["function"]["arguments"] += call["function"]["arguments"]
            stream.events.remove(event)
