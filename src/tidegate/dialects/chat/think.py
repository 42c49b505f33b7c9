"""Reasoning that a server leaves in the answer's text, between `<think>` and `</think>` at its start."""

__all__ = ["ThinkSplitter"]

_OPEN = "<think>"
_CLOSE = "</think>"


class ThinkSplitter:
    """Text in any split → what is reasoning and what is answer.

    Held back is only what may be part of a tag, and white space of which it is not known yet whether an answer follows.
    White space around the tags belongs to neither.
    """

    __slots__ = ("_held", "_state", "plain")

    def __init__(self) -> None:
        self._held = ""
        self._state = "before"
        self.plain = False
        """No tag can come any more: what follows is all answer, and need not be fed."""

    def feed(self, text: str) -> tuple[str, str]:
        """Reasoning and answer that `text` completes."""
        text = self._held + text
        self._held = ""
        if self._state == "before":
            opening = text.lstrip()
            if len(opening) < len(_OPEN) and _OPEN.startswith(opening):
                self._held = text
                return "", ""
            if not opening.startswith(_OPEN):
                self.plain = True
                return "", text
            self._state = "opened"
            text = opening[len(_OPEN) :]
        if self._state == "opened":
            text = text.lstrip()
            if not text:
                return "", ""
            self._state = "inside"
        if self._state == "inside":
            thought, closed, text = text.partition(_CLOSE)
            if not closed:
                kept = _kept(thought)
                self._held = thought[kept:]
                return thought[:kept], ""
            self._state = "closed"
            return thought.rstrip(), self._answer(text)
        return "", self._answer(text)

    def eof(self) -> tuple[str, str]:
        """The same for what was held back; `</think>` never came if there is reasoning in it."""
        held, self._held = self._held, ""
        return (held.rstrip(), "") if self._state == "inside" else ("", held)

    def _answer(self, text: str) -> str:
        text = text.lstrip()
        self.plain = bool(text)
        return text


def _kept(text: str) -> int:
    """Where the white space, or the part of a closing tag, begins that `text` ends with."""
    end = len(text)
    for size in range(min(len(_CLOSE) - 1, end), 0, -1):
        if text.endswith(_CLOSE[:size]):
            end -= size
            break
    return len(text[:end].rstrip())
