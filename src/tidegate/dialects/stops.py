"""`stop` for providers that have no such parameter: the answer is cut where a stop sequence begins."""

from collections.abc import Iterable

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    MessageEnd,
    ReasoningDelta,
    RefusalDelta,
    Served,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    UsageReport,
)

__all__ = ["StopFilter"]


class _Token(msgspec.Struct):
    token: str = ""
    bytes: list[int] | None = None


_token = jsonio.decoder(_Token)


class StopFilter:
    """Canonical events in, the same out up to a stop sequence; `cut` is true from there on.

    Text that may be the beginning of a stop sequence is held back until the next event tells; everything else goes on at
    once, a source too, which interrupts no text. Log probabilities go with the text of their tokens; a token that a stop
    sequence cuts has none. With several choices, each is cut by itself, and the answer ends when all that began are. Figures
    of the provider pass in any case.
    """

    def __init__(self, stops: Iterable[str], *, choices: int = 1) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._choices = choices
        self._held: dict[int, str] = {}
        self._logprobs: dict[int, list[msgspec.Raw]] = {}
        """Of the tokens that end in the held text."""
        self._cut: set[int] = set()
        self._open_calls: dict[int, int] = {}
        """The choice of each call that is open."""
        self.cut = False
        """The answer is complete although the provider goes on: its call is to be ended."""
        self._unsaid: list[str] = []

    def unsaid(self) -> str:
        """What was said and cut off since the last time. The provider charges for it."""
        if not self._unsaid:
            return ""
        text = "".join(self._unsaid)
        self._unsaid.clear()
        return text

    def feed(self, events: Iterable[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if self.cut:
                if isinstance(event, UsageReport | Served):
                    out.append(event)
                else:
                    self._drop(event)
                continue
            if isinstance(event, TextDelta):
                self._on_text(event, out)
                continue
            choice = getattr(event, "choice", None)
            if choice is not None:
                if choice in self._cut:
                    self._drop(event)
                    continue
                if choice in self._held and not isinstance(event, Annotation):
                    # What follows is no text of this message: the beginning of a stop sequence was none.
                    self._release(choice, out)
            if isinstance(event, ToolCallStart):
                self._open_calls[event.index] = event.choice
            elif isinstance(event, ToolCallDelta | ToolCallEnd):
                if event.index not in self._open_calls:  # of a choice that is cut
                    self._drop(event)
                    continue
                if isinstance(event, ToolCallEnd):
                    del self._open_calls[event.index]
            elif isinstance(event, Finished | Failed):
                for held in list(self._held):
                    self._release(held, out)
            out.append(event)
        return out

    def _on_text(self, event: TextDelta, out: list[Event]) -> None:
        choice = event.choice
        if choice in self._cut:
            self._drop(event)
            return
        text = self._held.pop(choice, "") + event.text
        logprobs = self._logprobs.pop(choice, [])
        logprobs.extend(event.logprobs or ())
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # The sequence that is complete first, whatever the split of the text; of two, the longer one.
            at, stop = min(found, key=lambda one: (one[0] + len(one[1]), one[0]))
            if at:
                out.append(TextDelta(text[:at], choice, logprobs[: _whole(logprobs, text[at:])] or None))
            self._unsaid.append(text[at:])
            self._end(choice, stop, out)
            return
        keep = self._undecided(text)
        held = text[len(text) - keep :]
        whole = _whole(logprobs, held)
        if keep < len(text):
            out.append(TextDelta(text[: len(text) - keep], choice, logprobs[:whole] or None))
            del logprobs[:whole]
        if held:
            self._held[choice] = held
        if logprobs:
            self._logprobs[choice] = logprobs

    def _drop(self, event: Event) -> None:
        if isinstance(event, TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta):
            self._unsaid.append(event.text)

    def _undecided(self, text: str) -> int:
        """How many characters at the end may be the beginning of a stop sequence."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(text)), longest, -1):
                if stop.startswith(text[len(text) - size :]):
                    longest = size
                    break
        return longest

    def _release(self, choice: int, out: list[Event]) -> None:
        out.append(TextDelta(self._held.pop(choice), choice, self._logprobs.pop(choice, None)))

    def _end(self, choice: int, stop: str, out: list[Event]) -> None:
        self._cut.add(choice)
        out.append(MessageEnd(choice))
        for index in sorted(index for index, owner in self._open_calls.items() if owner == choice):
            out.append(ToolCallEnd(index))
            del self._open_calls[index]
        self.cut = len(self._cut) >= self._choices
        out.append(ChoiceEnd("stop", choice, stop))


def _whole(logprobs: list[msgspec.Raw], tail: str) -> int:
    """How many of the tokens end before the last characters `tail` of their text. In bytes: a token may be a part of a
    character."""
    left, count = len(tail.encode("utf-8", "surrogatepass")), len(logprobs)
    while left > 0 and count:
        count -= 1
        left -= _size(logprobs[count])
    return count


def _size(entry: msgspec.Raw) -> int:
    try:
        found = jsonio.decode(entry, _token)
    except jsonio.SchemaMismatch:  # of no token that could be let through by itself
        return 0
    return len(found.token.encode("utf-8", "surrogatepass")) if found.bytes is None else len(found.bytes)
