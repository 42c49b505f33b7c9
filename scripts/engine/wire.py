"""Raw requests and raw frames: what is on the wire, before any SDK has had its say."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "completions": "/v1/completions"}
TIMEOUT = 120.0


@dataclass(frozen=True)
class Frame:
    """One frame of a stream."""

    event: str
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass(frozen=True)
class Reply:
    """A whole answer, streamed or not."""

    status: int
    content: bytes
    type: str

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def frames(self) -> list[Frame]:
        """The frames of a stream. Every line must be one of `event:`, `data:` and comments."""
        assert self.type.startswith("text/event-stream"), f"content-type {self.type}"
        found = []
        for unit in self.content.decode("utf-8").split("\n\n"):
            event, data = "", []
            for line in unit.split("\n"):
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    data.append(value)
                else:
                    assert not line or line.startswith(":"), f"stray line {line!r}"
            if data:
                found.append(Frame(event, "\n".join(data)))
        return found

    @property
    def events(self) -> list[Any]:
        """The JSON of every frame but `[DONE]`."""
        return [frame.json for frame in self.frames if frame.data != "[DONE]"]


@dataclass(frozen=True)
class Wire:
    """A server's address."""

    origin: str

    def post(self, endpoint: str, **members: Any) -> Reply:
        """One request to one of the three endpoints, read to its end."""
        answer = httpx.post(self.origin + PATHS[endpoint], json=members, timeout=TIMEOUT)
        return Reply(answer.status_code, answer.content, answer.headers.get("content-type", ""))

    def leave(self, endpoint: str, frames: int, **members: Any) -> int:
        """Begin a stream, go away after some frames, and return how many bytes came. The stream must not be over."""
        seen = 0
        with (
            httpx.Client(timeout=TIMEOUT) as client,
            client.stream("POST", self.origin + PATHS[endpoint], json={**members, "stream": True}) as answer,
        ):
            assert answer.status_code == 200
            for chunk in answer.iter_raw():
                seen += len(chunk)
                frames -= chunk.count(b"\n\n")
                assert b'finish_reason":"' not in chunk, "the answer was over"
                assert b"response.incomplete" not in chunk, "the answer was over"
                if frames <= 0:
                    break
            else:
                raise AssertionError("the answer was over before the client left")
        return seen


TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def grammar(reply: Reply) -> list[Any]:
    """Assert that a Responses stream keeps the grammar of the API, and return its events."""
    assert reply.status == 200, reply.content[:300]
    frames = reply.frames
    events = [frame.json for frame in frames]
    kinds = [event["type"] for event in events]
    assert [frame.event for frame in frames] == kinds, "an event line is missing or differs from data.type"
    assert kinds[:2] == ["response.created", "response.in_progress"], kinds[:2]
    assert [event["sequence_number"] for event in events] == list(range(len(events))), "gaps in sequence_number"
    assert kinds[-1] in TERMINAL, kinds[-1]
    assert sum(kind in TERMINAL for kind in kinds) == 1, "more than one terminal event"
    for event in (events[0], events[1], events[-1]):
        assert type(event["response"]["created_at"]) is int, "created_at is no integer"
        assert event["response"]["id"] == events[0]["response"]["id"], "the response changed its id"
    _items(events)
    return events


def _items(events: list[Any]) -> None:
    """Each item is opened once, filled, and finished as the terminal snapshot has it."""
    opened: dict[int, Any] = {}
    done: dict[int, Any] = {}
    texts: dict[tuple[str, int], str] = {}
    arguments: dict[str, str] = {}
    for event in events[2:-1]:
        kind, place = event["type"], event["output_index"]
        if kind == "response.output_item.added":
            assert place == len(opened), f"item opened at output_index {place}, not {len(opened)}"
            opened[place] = event["item"]
            assert event["item"]["status"] == "in_progress", event["item"]
            continue
        assert place in opened, f"{kind} before its item"
        assert place not in done, f"{kind} after its item's end"
        if kind == "response.output_item.done":
            assert event["item"]["id"] == opened[place]["id"], "the item changed its id"
            done[place] = event["item"]
            continue
        assert event["item_id"] == opened[place]["id"], f"{kind} names another item"
        part = (event["item_id"], event.get("content_index", -1))
        if kind == "response.content_part.added":
            texts[part] = ""
        elif kind in ("response.output_text.delta", "response.reasoning_text.delta"):
            texts[part] += event["delta"]
        elif kind in ("response.output_text.done", "response.reasoning_text.done"):
            assert texts[part] == event["text"], "deltas and text differ"
        elif kind == "response.function_call_arguments.delta":
            arguments[event["item_id"]] = arguments.get(event["item_id"], "") + event["delta"]
        elif kind == "response.function_call_arguments.done":
            assert arguments[event["item_id"]] == event["arguments"], "deltas and arguments differ"
    assert done.keys() == opened.keys(), "an item was not finished"
    assert events[-1]["response"]["output"] == [done[place] for place in sorted(done)], "snapshot and items differ"
