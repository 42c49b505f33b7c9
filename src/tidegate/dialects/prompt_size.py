"""About how many tokens the prompt in a short request is, for when no provider has counted it.

Of a long body nearly all is prompt, and a quarter of its bytes tells as much (see `extent.text_bytes`); of a short one most is
JSON around it.
"""

from typing import Any, Final

from tidegate.dialects.extent import IMAGE_TOKENS
from tidegate.wire import jsonio
from tidegate.wire.events import BYTES_PER_TOKEN, estimate_tokens

__all__ = ["SHORT_BYTES", "prompt_tokens"]

SHORT_BYTES: Final = 4096
"""A body of no more is short."""

TURN_TOKENS: Final = 4
"""What stands around a message in the form that the model reads: OpenAI's take three, and one for the role
(https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken)."""

_TURNS: Final = ("contents", "input", "messages")
_SYSTEM: Final = ("instructions", "system", "systemInstruction", "system_instruction")
_BARE: Final = ("prompt", "suffix")
_SCHEMAS: Final = ("functions", "response_format", "tools")
_AROUND: Final = frozenset(
    {
        "cache_control", "call_id", "detail", "format", "id", "media_type", "mimeType", "mime_type", "role", "status",
        "tool_call_id", "tool_use_id", "type",
    }
)  # fmt: skip
"""What no model reads as text."""
_OBJECTS: Final = frozenset({"args", "input", "response"})
"""Of calls and their results, in the APIs that have no strings for them: the names in them are read as well."""
_IMAGES: Final = frozenset({"image", "image_url", "input_image"})


def prompt_tokens(body: bytes) -> int:
    """One token for four bytes of the texts, calls and schemas in a request of any API, four for each turn, and 2,500 for each
    image."""
    try:
        members = jsonio.anything(body)
    except (
        jsonio.InvalidJSON,
        jsonio.SchemaMismatch,
    ):  # nested more deeply than a part of it that nobody looks at may be
        return estimate_tokens(len(body))
    size = turns = images = 0
    waiting: list[Any] = []
    for name in _TURNS:
        said = members.get(name)
        turns += len(said) if isinstance(said, list) else 1 if said else 0
        waiting.append(said)
    for name in _SYSTEM:
        if said := members.get(name):
            turns += 1
            waiting.append(said)
    waiting.extend(members.get(name) for name in _BARE)
    size += sum(len(jsonio.encode(members[name])) for name in _SCHEMAS if members.get(name))
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            size += len(one.encode())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            if _is_image(one):
                images += 1
                continue
            for name, value in one.items():
                if name in _OBJECTS and isinstance(value, dict):
                    size += len(jsonio.encode(value))
                elif name not in _AROUND:
                    waiting.append(value)
        elif isinstance(one, int) and not isinstance(one, bool):
            size += BYTES_PER_TOKEN  # a prompt may be tokens already
    return estimate_tokens(size) + TURN_TOKENS * turns + IMAGE_TOKENS * images


def _is_image(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    if isinstance(kind, str) and kind in _IMAGES:
        return True
    media = part.get("mimeType", part.get("mime_type"))
    return isinstance(media, str) and media.startswith("image/")
