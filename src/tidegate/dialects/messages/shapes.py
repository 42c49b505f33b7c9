"""What is read of the objects in a Messages request (https://platform.claude.com/docs/en/api/messages)."""

from collections.abc import Mapping
from typing import Final

from tidegate.dialects.shapes import OneOf, Says, Shape

__all__ = ["MEMBERS", "MESSAGES", "TOOLS"]

_CACHE: Final = {"cache_control": Shape("type", ttl=Says("5m"))}
_SOURCES: Final = {
    "base64": Shape("media_type data"),
    "url": Shape("url"),
    "file": Shape("file_id"),
}
_TEXT: Final = Shape("text citations", **_CACHE)
_IMAGE: Final = Shape(source=OneOf("type", _SOURCES), **_CACHE)
_LEAVES: Final = {"text": _TEXT, "image": _IMAGE, "tool_reference": Shape("tool_name", **_CACHE)}


def _document(content: OneOf) -> Shape:
    sources = {**_SOURCES, "text": Shape("media_type data"), "content": Shape(content=content)}
    return Shape("title context citations", source=OneOf("type", sources), **_CACHE)


def _found(content: OneOf) -> Shape:
    return Shape("source title", content=content, **_CACHE)


# Blocks stand within blocks no deeper than a result holds a document that holds texts.
_IN_DOCUMENT: Final = OneOf("type", _LEAVES)
_HELD: Final = {**_LEAVES, "document": _document(_IN_DOCUMENT), "search_result": _found(_IN_DOCUMENT)}
_BLOCKS: Final = OneOf(
    "type",
    {
        **_HELD,
        "tool_use": Shape("id name input", caller=Says({"type": "direct"})),
        "tool_result": Shape("tool_use_id is_error", content=OneOf("type", _HELD), **_CACHE),
        "thinking": Shape("thinking signature"),
        "redacted_thinking": Shape("data"),
    },
)

MESSAGES: Final = Shape("role", content=_BLOCKS)

TOOLS: Final = OneOf("type", {"custom": Shape("name description input_schema strict", **_CACHE)}, otherwise="custom")

MEMBERS: Final[Mapping[str, Shape | OneOf]] = {
    "metadata": Shape("user_id"),
    "output_config": Shape("effort", format=Shape("type schema")),
    "system": _BLOCKS,
    "thinking": Shape("type budget_tokens display"),
    "tool_choice": OneOf(
        "type",
        {
            "auto": Shape("disable_parallel_tool_use"),
            "any": Shape("disable_parallel_tool_use"),
            "tool": Shape("name disable_parallel_tool_use"),
            "none": Shape("disable_parallel_tool_use"),
        },
    ),
}
"""Other members of the request that are objects, or lists of them."""
