"""Where a text that goes on behind another one begins by repeating its end.

A model that is asked to go on exactly where a text stopped often takes a run-up: it says the last sentence again, or the
word that was torn, or all of it from the start. What is repeated must not reach the client; what merely looks alike must.
"""

__all__ = ["LEAST_BYTES", "LONGEST", "Overlap", "repeated"]

LONGEST = 4096
"""Characters of a beginning that may wait for its end. Only a text that is said again from its very start may wait longer."""

LEAST_BYTES = 16
"""So many bytes of UTF-8 are no coincidence, unless they are all alike, as in the line of a table."""

LEAST_KINDS = 4
"""Different characters that such a repetition has."""

LEAST_WHOLE = 4
"""So many characters tell it where they are all that was said."""

LEAST_LETTERS = 3
"""So many letters of a torn word tell that it is begun again."""


class Overlap:
    """Pieces of the second text in, the same without the repetition out."""

    __slots__ = ("_before", "_blanks", "_held", "is_open")

    def __init__(self, before: str, blanks: str = "") -> None:
        """`blanks` stand at the end of `before`, and whoever goes on was not shown them."""
        self._before = before
        self._blanks = blanks
        self._held = ""
        self.is_open = True
        """What comes may still be a repetition."""

    def feed(self, piece: str) -> str:
        if not self.is_open:
            return piece
        held = self._held = self._held + piece
        if self._may_repeat(held):
            return ""
        return self.end()

    def end(self) -> str:
        """What has waited; all that comes later goes through as it is."""
        self.is_open = False
        held, self._held = self._held, ""
        if self._blanks:
            return held[_common(self._blanks, held) :]
        return held[repeated(self._before, held) :]

    def _may_repeat(self, held: str) -> bool:
        if self._blanks:
            return self._blanks.startswith(held)
        if self._before.startswith(held):
            return True
        return len(held) <= LONGEST and held in self._before


def repeated(before: str, after: str) -> int:
    """How many characters at the beginning of `after` say again what `before` ends with."""
    if len(before) >= LEAST_WHOLE and after.startswith(before):
        return len(before)
    for size in range(min(len(before), len(after), LONGEST), 0, -1):
        if before.endswith(after[:size]) and (_is_told(after[:size]) or _is_torn_word(before, after, size)):
            return size
    return 0


def _is_told(text: str) -> bool:
    return len(text.encode(errors="replace")) >= LEAST_BYTES and len(set(text)) >= LEAST_KINDS


def _is_torn_word(before: str, after: str, size: int) -> bool:
    """Whether the `size` characters are the beginning of the last word of `before`, and that word is said to its end."""
    start = len(before) - size
    return (
        size >= LEAST_LETTERS
        and after[:size].isalpha()
        and after[size : size + 1].isalpha()
        and (not start or not before[start - 1].isalnum())
    )


def _common(one: str, other: str) -> int:
    """Characters that both begin with."""
    size = 0
    while size < min(len(one), len(other)) and one[size] == other[size]:
        size += 1
    return size
