"""A client's history on its way to Google, without what is not Google's (protocol §5.4).

A conversation may have been with another provider before: its calls have no `thoughtSignature`, or one that only this
gateway can read, and Google answers 400 to both.
"""

import base64
import binascii
from typing import Any, Final

from tidegate.dialects.envelope import PREFIX
from tidegate.dialects.gemini.contents import FOREIGN_SIGNATURE
from tidegate.dialects.gemini.model import GeminiModel
from tidegate.wire import jsonio

__all__ = ["without_envelopes"]

# What the base64 of an envelope begins with, whatever follows: five bytes fill six letters and a part of the next.
_MARK: Final = base64.b64encode(PREFIX.encode())[: len(PREFIX) * 8 // 6]
_SIGNATURES: Final = ("thoughtSignature", "thought_signature")
_CALLS: Final = ("functionCall", "function_call")

_contents = jsonio.decoder(list[jsonio.Members])
_parts = jsonio.decoder(list[jsonio.Members])
_text = jsonio.decoder(str)


def without_envelopes(body: bytes, model: str) -> tuple[jsonio.Raw | None, bool]:
    """The `contents` as Google can read them, None where they may go as they came; and whether a signature was left out."""
    demanded = body.find(b"unction") >= 0 and GeminiModel(model).demands_signatures
    if not demanded and body.find(_MARK) < 0:
        return None, False
    try:
        contents = jsonio.decode(jsonio.members(body).get("contents", jsonio.NULL), _contents)
    except jsonio.SchemaMismatch:
        return None, False  # one content that is no list, and so no history
    found = _History(demanded=demanded)
    rewritten = [found.content(content) for content in contents]
    return (jsonio.raw(rewritten) if found.changed else None), found.left_out


class _History:
    def __init__(self, *, demanded: bool) -> None:
        self._demanded = demanded
        self._said = False
        """The content before was the model's: clients keep each chunk of an answer as a content of its own."""
        self.changed = False
        self.left_out = False

    def content(self, content: jsonio.Members) -> Any:
        role = content.get("role", jsonio.NULL)
        is_models = bytes(role) == b'"model"'
        goes_on, self._said = self._said, is_models
        if not is_models or "parts" not in content:
            return content
        try:
            parts = jsonio.decode(content["parts"], _parts)
        except jsonio.SchemaMismatch:
            return content
        kept = [part for part in parts if not self._is_left_out(part)]
        first = next((part for part in kept if any(name in part for name in _CALLS)), None)
        if self._demanded and not goes_on and first is not None and not any(name in first for name in _SIGNATURES):
            first["thoughtSignature"] = jsonio.raw(FOREIGN_SIGNATURE)
            self.changed = True
        return {**content, "parts": kept or [{"text": ""}]}

    def _is_left_out(self, part: jsonio.Members) -> bool:
        """Takes an envelope off the part; True when nothing is left of it then."""
        name = next((name for name in _SIGNATURES if name in part and _is_envelope(part[name])), None)
        if name is None:
            return False
        del part[name]
        self.changed = self.left_out = True
        return part.keys() <= {"text"} and bytes(part.get("text", jsonio.NULL)) in (b'""', b"null")


def _is_envelope(value: jsonio.Raw) -> bool:
    try:
        text = jsonio.decode(value, _text)
        start = base64.urlsafe_b64decode(text[:8].replace("+", "-").replace("/", "_"))
    except (jsonio.SchemaMismatch, binascii.Error, ValueError):
        return False
    return start.startswith(PREFIX.encode())
