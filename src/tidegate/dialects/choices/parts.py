"""The content of an answer in typed parts, as Mistral's models that reason have it, where the API has a text.

`text`, `thinking` and `reference` are Mistral's (https://docs.mistral.ai/capabilities/reasoning), `image_url` is other engines',
and `refusal` is how OpenAI writes the history.
"""

from typing import Any

import msgspec

__all__ = ["Parts", "read_parts"]


class Parts(msgspec.Struct):
    text: str = ""
    thought: str = ""
    refusal: str = ""
    images: list[Any] = []
    others: bool = False
    """There are parts that are none of these."""


def read_parts(content: list[Any]) -> Parts:
    """What the parts say. A part of any type that has a text says that."""
    texts: list[str] = []
    thoughts: list[str] = []
    found = Parts()
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "thinking":
            inner = part.get("thinking")
            thoughts += map(_text, inner if isinstance(inner, list) else [inner])
        elif kind == "image_url":
            found.images.append(part)
        elif kind == "refusal":
            refused = part.get("refusal")
            found.refusal += refused if isinstance(refused, str) else ""
        else:
            found.others = found.others or not (isinstance(part, str) or kind == "text")
            texts.append(_text(part))
    found.text = "".join(texts)
    found.thought = "".join(thoughts)
    return found


def _text(part: Any) -> str:
    said = part.get("text") if isinstance(part, dict) else part
    return said if isinstance(said, str) else ""
