"""Thought: reasoning in the form in which only its provider can tell whether it is genuine."""

import base64
import hashlib
from typing import Any

_SEAL = b"sealed by the tide: "
_CIPHERTEXT = "gAAAAA"
"""How OpenAI's encrypted content begins."""


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


def encrypt(item_id: str, thinking: str) -> str:
    """A thought as OpenAI seals it, with the item that it belongs to."""
    return f"{_CIPHERTEXT}B{base64.urlsafe_b64encode(f'{item_id}:{thinking}'.encode()).decode()}"


def is_encrypted(data: Any) -> bool:
    """Whether `data` may be OpenAI's, whichever of its models sealed it."""
    return isinstance(data, str) and data.startswith(_CIPHERTEXT)
