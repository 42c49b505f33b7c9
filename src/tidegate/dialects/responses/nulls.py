"""Optional members that Open Responses' schema does not accept as null are left out (protocol §2)."""

import msgspec

from tidegate.wire import jsonio

__all__ = ["strip"]

_NOT_NULL = frozenset({"phase", "logprobs", "encrypted_content", "content", "verbosity"})
_INSIDE = frozenset({"response", "output", "item", "part", "content", "text"})
"""Where such members stand. Everything else (schemas, metadata, arguments) belongs to the client and stays as it is."""


def strip(data: bytes) -> bytes:
    """`data`, a JSON object, without those members where they are null. Raises as :func:`jsonio.members` does."""
    return bytes(_clean(msgspec.Raw(data)))


def _clean(value: msgspec.Raw) -> msgspec.Raw:
    opening = bytes(memoryview(value)[:1])
    if opening == b"{":
        content = jsonio.members(value)
        kept = {
            name: _clean(inner) if name in _INSIDE else inner
            for name, inner in content.items()
            if inner != jsonio.NULL or name not in _NOT_NULL
        }
        return jsonio.raw(kept)
    if opening == b"[":
        return jsonio.raw([_clean(inner) for inner in jsonio.elements(value)])
    return value
