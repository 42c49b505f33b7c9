"""Optional members that Open Responses' schema does not accept as null are left out (protocol §2)."""

from typing import Any

from tidegate.wire import jsonio

__all__ = ["strip"]

_NOT_NULL = frozenset({"phase", "logprobs", "encrypted_content", "content", "verbosity"})


def strip(data: bytes) -> bytes:
    """`data`, a JSON value, without those members where they are null."""
    return jsonio.encode(_clean(jsonio.anything(data)))


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _clean(inner) for name, inner in value.items() if inner is not None or name not in _NOT_NULL}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return value
