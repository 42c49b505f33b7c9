"""Whether a frame of a provider's stream holds nothing but words, thoughts, and what belongs around them.

Decoders tell of a call when they know its name, of sources when the text is over, and of some things never. Whoever asks
whether an answer is plain text so far has to know as soon as anything else has begun.
"""

from typing import Any, Final

from tidegate.wire import jsonio

__all__ = ["is_plain"]

_frame = jsonio.decoder(Any).decode

_WORDS: Final = frozenset(
    {
        "response.queued",
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.completed",
        "response.incomplete",
        "response.failed",
    }
)
"""Events of the Responses API (protocol §1.7) that an answer of mere words has; those of its thoughts are told by their name."""

_THOUGHTS: Final = "response.reasoning"

_ITEMS: Final = ("message", "reasoning")
_PARTS: Final = ("output_text", "reasoning_text", "summary_text")

_BEYOND: Final = ("tool_calls", "function_call", "audio", "images", "annotations")
"""Members of a chat delta that are more than text, where there is anything in them."""

_GEMINI_TEXT: Final = frozenset({"text", "thought", "thoughtSignature"})
_GEMINI_SOURCES: Final = ("groundingMetadata", "citationMetadata", "urlContextMetadata")


def is_plain(data: bytes) -> bool:
    """`data` is that of one frame, of whatever dialect. What cannot be read says nothing."""
    try:
        frame = _frame(data)
    except jsonio.UNREADABLE:
        return True
    if not isinstance(frame, dict):
        return True
    kind = frame.get("type")
    if isinstance(kind, str):
        if kind.startswith("response."):
            return _is_plain_event(kind, frame)
        if kind == "content_block_delta":
            return _member(frame, "delta").get("type") != "citations_delta"
    return not any(map(_is_more, _objects(frame, "choices"))) and not any(
        map(_is_more_of, _objects(frame, "candidates"))
    )


def _is_plain_event(kind: str, frame: dict[str, Any]) -> bool:
    match kind:
        case "response.output_item.added" | "response.output_item.done":
            return _member(frame, "item").get("type") in _ITEMS
        case "response.content_part.added" | "response.content_part.done":
            return _member(frame, "part").get("type") in _PARTS
        case _:
            return kind in _WORDS or kind.startswith(_THOUGHTS)


def _is_more(choice: dict[str, Any]) -> bool:
    """A choice of a chat chunk."""
    said = _member(choice, "delta") or _member(choice, "message")
    return any(said.get(name) for name in _BEYOND)


def _is_more_of(candidate: dict[str, Any]) -> bool:
    """A candidate of Gemini's."""
    return any(candidate.get(name) for name in _GEMINI_SOURCES) or any(
        not part.keys() <= _GEMINI_TEXT for part in _objects(_member(candidate, "content"), "parts")
    )


def _member(given: dict[str, Any], name: str) -> dict[str, Any]:
    found = given.get(name)
    return found if isinstance(found, dict) else {}


def _objects(given: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = given.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
