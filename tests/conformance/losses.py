"""What a dialect cannot carry, in one place: the tests read it, and docs/en/translation.md tells it to users."""

from typing import Final

__all__ = ["HIDDEN_THOUGHTS", "SILENT_REFUSALS"]

HIDDEN_THOUGHTS: Final = frozenset({("messages", "chat"), ("messages", "gemini"), ("chat", "gemini")})
"""Client and provider between which thoughts are not told. The thinking of Anthropic's API is signed, and chat and Gemini
sign none; a chat client has no way to ask for thoughts, and Gemini tells them only to those who ask."""

SILENT_REFUSALS: Final = frozenset({"gemini"})
"""Providers whose refusals have no text."""
