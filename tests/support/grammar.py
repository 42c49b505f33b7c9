"""The order that the events of a Responses stream must have (the state machine of the official API)."""

from typing import Any

from tests.support.api import Frame

__all__ = ["check_stream"]

TERMINAL = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
_DELTAS = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.reasoning_text": "text",
    "response.reasoning_summary_text": "text",
    "response.code_interpreter_call_code": "code",
    "response.mcp_call_arguments": "arguments",
}
_SEARCH = ("in_progress", "searching", "completed")
_HOSTED = {
    "web_search_call": _SEARCH,
    "file_search_call": _SEARCH,
    "code_interpreter_call": ("in_progress", "code.done", "interpreting", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
    "mcp_list_tools": ("in_progress", "completed"),
    "mcp_call": ("in_progress", "arguments.done", "completed"),
}
"""The steps of items of hosted tools, in their order."""


def check_stream(frames: list[Frame], *, cut: bool = False) -> Any:
    """Checks a whole stream and returns the response object of its end. With `cut` items may have been left open: a broken
    stream whose frames are the provider's own ends where it broke."""
    events = [frame.json for frame in frames]
    for frame, event in zip(frames, events, strict=True):
        assert frame.event == event["type"], frame.raw
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    assert events[1]["type"] == "response.in_progress"
    assert all(event["response"]["status"] == "in_progress" for event in events[:2])
    end = events[-1]
    assert end["type"] in TERMINAL, end
    assert end["response"]["status"] == TERMINAL[end["type"]]
    assert {event["response"]["id"] for event in (*events[:2], end)} == {end["response"]["id"]}
    body = events[2:-1]
    if end["type"] == "response.failed" and body and body[-1]["type"] == "error":
        body.pop()
    assert not [event["type"] for event in body if event["type"] in TERMINAL or event["type"] == "error"]
    done = _check_items(body, cut=cut)
    if end["type"] != "response.failed":
        assert end["response"]["output"] == done
    return end["response"]


def _check_items(events: list[Any], *, cut: bool) -> list[Any]:
    open_items: dict[int, Any] = {}
    steps: dict[int, list[str]] = {}
    done: dict[int, Any] = {}
    parts: set[tuple[int, int, bool]] = set()
    texts: dict[tuple[Any, ...], str] = {}
    for event in events:
        kind = event["type"]
        if kind == "response.output_item.added":
            at = event["output_index"]
            assert at not in open_items
            assert at not in done
            assert at == len(open_items) + len(done)
            open_items[at] = event["item"]
            steps[at] = []
            assert event["item"].get("status", "in_progress") == "in_progress"
            continue
        at = event["output_index"]
        if kind == "response.output_text.annotation.added" and at in done:
            _annotate(done[at], event)
            continue
        item = open_items[at]
        if kind == "response.output_item.done":
            assert event["item"]["id"] == item["id"]
            assert event["item"]["type"] == item["type"]
            done[at] = event["item"]
            _check_steps(event["item"], steps[at])
            del open_items[at]
            continue
        assert event["item_id"] == item["id"]
        stem, _, verb = kind.rpartition(".")
        if stem.removeprefix("response.") in _HOSTED:
            assert item["type"] == stem.removeprefix("response.")
            steps[at] += [] if verb == "partial_image" else [verb]
            continue
        if stem == "response.output_text.annotation":
            assert (at, event["content_index"], False) in parts, f"{kind} before its part"
            continue
        if stem in ("response.content_part", "response.reasoning_summary_part"):
            place = (at, event.get("content_index", event.get("summary_index")), "summary" in stem)
            (parts.add if verb == "added" else parts.remove)(place)
            continue
        member = _DELTAS[stem]
        where = (stem, at, event.get("content_index"), event.get("summary_index"))
        if item["type"] in ("message", "reasoning"):
            place = (at, event.get("content_index", event.get("summary_index")), "summary" in stem)
            assert place in parts, f"{kind} before its part"
        if verb == "delta":
            assert event["delta"]
            texts[where] = texts.get(where, "") + event["delta"]
        else:
            assert verb == "done"
            assert event[member] == texts.get(where, "")
            steps[at].append(f"{member}.done")
    assert cut or not open_items, "items were left open"
    assert cut or not parts, "parts were left open"
    return [done[at] for at in sorted(done)]


def _check_steps(item: Any, steps: list[str]) -> None:
    wanted = _HOSTED.get(item["type"])
    if wanted is None:
        return
    if item.get("status") in ("failed", "incomplete"):
        wanted = (*wanted[:-1], "failed") if item["type"].startswith("mcp") else wanted[:-1]
    assert tuple(steps) == wanted, item["type"]


def _annotate(item: Any, event: Any) -> None:
    """A source that was named when its message was over: only the snapshot of the end can have it."""
    assert event["item_id"] == item["id"]
    annotations = item["content"][event["content_index"]]["annotations"]
    assert event["annotation_index"] == len(annotations)
    annotations.append(event["annotation"])
