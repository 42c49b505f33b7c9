"""Where the sources of a text stand: the canonical form counts within the message, as the Responses API does; chat and
Gemini within all that their choice has said."""

from typing import Any

import msgspec

from tidegate.wire import jsonio

__all__ = ["Spoken", "moved"]


class Spoken:
    """How much of a choice was said, and where its last message begins. Whoever says a text adds to `size`."""

    __slots__ = ("_before", "_border", "size")

    def __init__(self) -> None:
        self.size = 0
        """Characters so far."""
        self._border = 0
        """Those before the last end of a message."""
        self._before = 0
        """Those before the message that ended there."""

    def end(self) -> None:
        """The message is over, if one is open: what is said from now on belongs to another."""
        if self.size > self._border:
            self._before, self._border = self._border, self.size

    @property
    def begin(self) -> int:
        """Characters before the open message; before the last one, whose sources may still come, if none is open."""
        return self._border if self.size > self._border else self._before


def moved(value: msgspec.Raw, by: int) -> Any:
    """What is in an annotation, with its places `by` characters further on; those before the text are at its beginning."""
    content = jsonio.anything(value)
    if by and isinstance(content, dict):
        for name in ("start_index", "end_index"):
            place = content.get(name)
            if isinstance(place, int):
                content[name] = max(0, place + by)
    return content
