"""What a Gemini model can do, as far as a request depends on it, read from its name.

Sources: https://ai.google.dev/gemini-api/docs/thinking, https://ai.google.dev/gemini-api/docs/openai (the table that maps
`reasoning_effort`) and https://ai.google.dev/gemini-api/docs/tool-combination.
"""

import re
from typing import Final

__all__ = ["GeminiModel"]

_NAME: Final = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?(?!\d)")
_NEWEST: Final = (999, 0)

_BUDGETS: Final = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}


class GeminiModel:
    """One model. A name without a version (`gemini-flash-latest`, a tuned model) is taken for one of the newest."""

    def __init__(self, name: str) -> None:
        self._name = name.lower()
        found = _NAME.search(self._name)
        self._version = (int(found[1]), int(found[2] or 0)) if found else _NEWEST

    @property
    def thinks(self) -> bool:
        """Reasoning can be asked for at all."""
        return self._version >= (2, 5) and "gemma" not in self._name

    @property
    def thinks_unasked(self) -> bool:
        """It reasons when nothing is said about it. To others, the wish for thoughts alone may be a 400."""
        sparing = ("lite", "image", "tts") if not self.has_levels else ("tts",)
        return self.thinks and not any(name in self._name.split("-") for name in sparing)

    @property
    def has_levels(self) -> bool:
        """Reasoning is set by `thinkingLevel`, not by `thinkingBudget`."""
        return self._version >= (3, 0)

    @property
    def demands_signatures(self) -> bool:
        """A function call in the history without `thoughtSignature` is a 400 (protocol §5.4)."""
        return self._version >= (3, 0)

    @property
    def takes_media_in_results(self) -> bool:
        """`functionResponse.parts` may hold images and documents."""
        return self._version >= (3, 0)

    @property
    def combines_tools(self) -> bool:
        """Google's own tools may stand beside functions, or beside a schema for the answer."""
        return self._version >= (3, 0)

    @property
    def can_stop_thinking(self) -> bool:
        return not self.has_levels and not self._is_pro

    def level(self, effort: str) -> str:
        """The nearest `thinkingLevel`: not every model has all of them."""
        if effort in ("none", "minimal"):
            spare = "flash" in self._name and (self._version < (3, 7) or "lite" in self._name)
            return "MINIMAL" if spare else "LOW"
        if effort == "medium" and self._version == (3, 0) and self._is_pro:
            return "HIGH"
        return {"low": "LOW", "medium": "MEDIUM"}.get(effort, "HIGH")

    def budget(self, effort: str) -> int:
        """The `thinkingBudget` of an effort."""
        if effort == "none":
            return 0
        return _BUDGETS.get(effort, 32_768 if self._is_pro else 24_576)

    @property
    def _is_pro(self) -> bool:
        return "pro" in self._name.split("-")
