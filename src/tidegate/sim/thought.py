"""Thought: reasoning in the form in which only its provider can tell whether it is genuine."""

import base64
import hashlib
from typing import Any

_SEAL = b"sealed by the tide: "


def sign(thinking: str) -> str:
    """The signature of a thought: the same text has the same one, and no other text has it."""
    return base64.b64encode(hashlib.sha256(_SEAL + thinking.encode()).digest()).decode()


def redact(thinking: str) -> str:
    """A thought that nobody but the sim can read."""
    return base64.b64encode(_SEAL + thinking.encode()).decode()


def is_redacted(data: Any) -> bool:
    """Whether `data` is a thought of the sim's own."""
    try:
        return base64.b64decode(data, validate=True).startswith(_SEAL)
    except (ValueError, TypeError):
        return False
