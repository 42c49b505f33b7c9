"""What is read of the objects in a Responses request (protocol §1.2, §1.4, §1.5)."""

from collections.abc import Mapping
from typing import Final

from tidegate.dialects.shapes import OneOf, Says, Shape

__all__ = ["INPUT", "ITEMS", "MEMBERS", "TOOLS"]

_WHOLE: Final = {"status": Says("completed")}
_CALLER: Final = {**_WHOLE, "caller": Says({"type": "direct"})}
_MARK: Final = {"prompt_cache_breakpoint": Shape("mode")}
_TEXT: Final = Shape("text annotations logprobs", **_MARK)
_PART: Final = OneOf(
    "type",
    {
        "input_text": _TEXT,
        "output_text": _TEXT,
        "text": _TEXT,
        "reasoning_text": _TEXT,
        "summary_text": _TEXT,
        "refusal": Shape("refusal"),
        "input_image": Shape("image_url file_id detail", **_MARK),
        "input_file": Shape("file_data file_url file_id filename", **_MARK),
        "input_audio": Shape(input_audio=Shape("data format")),
    },
)
_THOUGHT: Final = Shape("type text")
_MESSAGE: Final = Shape("type id role phase", content=_PART, **_WHOLE)
_OUTPUT: Final = Shape("type id call_id name namespace", output=_PART, **_CALLER)

ITEMS: Final[Mapping[str, Shape]] = {
    "": _MESSAGE,
    "message": _MESSAGE,
    "function_call": Shape("type id call_id name namespace arguments", **_CALLER),
    "custom_tool_call": Shape("type id call_id name namespace input", **_CALLER),
    "function_call_output": _OUTPUT,
    "custom_tool_call_output": _OUTPUT,
    "reasoning": Shape("type id encrypted_content", summary=_THOUGHT, content=_THOUGHT, **_WHOLE),
    "additional_tools": Shape("type id role tools", **_WHOLE),
}
"""By type. Items of other types are carried as they are, or refused."""
INPUT: Final = OneOf("type", {kind: shape for kind, shape in ITEMS.items() if kind})
"""All of them at once, where each says its type."""

_FUNCTIONS: Final = {
    "function": Shape("name description parameters strict"),
    "custom": Shape("name description", format=OneOf("type", {"text": Shape(), "grammar": Shape("syntax definition")})),
}
TOOLS: Final = OneOf("type", {**_FUNCTIONS, "namespace": Shape("name description", tools=OneOf("type", _FUNCTIONS))})

_FORCED: Final = Shape()

MEMBERS: Final[Mapping[str, Shape | OneOf]] = {
    "stream_options": Shape(include_obfuscation=Says(False)),
    "text": Shape("verbosity", format=Shape("type name description schema strict")),
    "tool_choice": OneOf(
        "type",
        {
            "function": Shape("name namespace"),
            "custom": Shape("name namespace"),
            "allowed_tools": Shape("mode", tools=Shape("type name namespace")),
            "web_search": _FORCED,
            "web_search_2025_08_26": _FORCED,
            "web_search_preview": _FORCED,
            "web_search_preview_2025_03_11": _FORCED,
        },
    ),
}
"""Other members of the request that are objects."""
