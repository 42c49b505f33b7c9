"""The engine's own wire, looked at without the gateway: which of the quirks we smooth are still there."""

from collections.abc import Callable
from typing import Any, Final

from scripts.engine.lines import CALL, CALLS, HELLO, THINK
from scripts.engine.wire import Reply, Wire

NAME: Final = "byheart"
TOOL: Final = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}


def _responses(raw: Wire, text: str = HELLO, **more: Any) -> Reply:
    return raw.post("responses", model=NAME, input=text, **more)


def _chat(raw: Wire, **more: Any) -> Reply:
    return raw.post("chat", model=NAME, messages=[{"role": "user", "content": HELLO}], **more)


def _kinds(reply: Reply) -> list[str]:
    return [event["type"] for event in reply.events]


def _places(reply: Reply) -> list[int]:
    return [event["output_index"] for event in reply.events if event["type"] == "response.output_item.added"]


QUIRKS: Final[list[tuple[str, str, Callable[[Wire], bool]]]] = [
    ("responses: a stream unless told otherwise", "stream always sent", lambda raw: bool(_responses(raw).frames)),
    (
        "responses: no event lines",
        "frames written anew",
        lambda raw: not any(frame.event for frame in _responses(raw).frames),
    ),
    (
        "responses: response.created says queued",
        "envelope is ours",
        lambda raw: _responses(raw).events[0]["response"]["status"] == "queued",
    ),
    (
        "responses: created_at is a float",
        "envelope is ours",
        lambda raw: isinstance(_responses(raw, stream=False).json["created_at"], float),
    ),
    (
        "responses: tools echoed as [], most members missing",
        "quirks.echoes_request",
        lambda raw: (
            _responses(raw, stream=False, tools=[TOOL]).json["tools"] == []
            and "temperature" not in _responses(raw, stream=False).json
        ),
    ),
    (
        "responses: an answer cut by the limit is completed",
        "cut_reported_as_completed",
        lambda raw: _responses(raw, stream=False, max_output_tokens=3).json["status"] == "completed",
    ),
    (
        "responses: a call announced whole, no argument deltas",
        "quirks.loose_items",
        lambda raw: "response.function_call_arguments.delta" not in _kinds(_responses(raw, CALL, tools=[TOOL])),
    ),
    (
        "responses: output_index skipped and repeated around calls",
        "quirks.loose_items",
        lambda raw: _places(_responses(raw, CALLS, tools=[TOOL])) != [0, 1, 2],
    ),
    (
        "responses: reasoning text without its part",
        "quirks.loose_items",
        lambda raw: _kinds(_responses(raw, THINK)).count("response.content_part.added") == 1,
    ),
    ("responses: stop, n, penalties get 422", "refuses", lambda raw: _responses(raw, n=1).status == 422),
    (
        "responses: input [] gets 500",
        "validated before",
        lambda raw: raw.post("responses", model=NAME, input=[]).status == 500,
    ),
    (
        "chat: no [DONE]",
        "sent after a real finish",
        lambda raw: b"[DONE]" not in _chat(raw, stream=True).content,
    ),
    (
        "chat: usage beside the finish reason, unasked, include_usage ignored",
        "quirks.loose_chunks",
        lambda raw: (
            "usage" in _chat(raw, stream=True).events[-1] and bool(_chat(raw, stream=True).events[-1]["choices"])
        ),
    ),
    (
        "chat: chunks without finish_reason",
        "quirks.loose_chunks",
        lambda raw: "finish_reason" not in _chat(raw, stream=True).events[0]["choices"][0],
    ),
    ("chat: n ignored in silence", "refuses", lambda raw: len(_chat(raw, n=2).json["choices"]) == 1),
    (
        "all: model comes back as <name>@main",
        "quirks.model_suffix",
        lambda raw: _chat(raw).json["model"] == f"{NAME}@main",
    ),
]
"""What the engine does, how it is smoothed, and how it is seen."""
