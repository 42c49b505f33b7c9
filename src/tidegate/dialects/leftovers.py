"""Members of a client's request from which nothing was read on the way into the canonical form.

Clients add members that are none of a provider's business (Codex its `client_metadata`), and APIs grow: what the gateway
does not know is no reason to refuse a request (protocol §1.2). It is left out and named. Only a member that is known, and
on which an answer depends, is refused. The same holds at every depth: what is inside messages, items, parts and tools is
looked through by :mod:`tidegate.dialects.shapes`.
"""

from collections.abc import Container, Iterable

import msgspec

from tidegate.dialects.dialect import says_nothing
from tidegate.dialects.shapes import OneOf, Shape, placed, unread
from tidegate.wire import jsonio

__all__ = ["ENGINE_MEMBERS", "Leftovers", "unknown"]

ENGINE_MEMBERS = frozenset(
    {
        "bad_words", "chat_template_kwargs", "grammar", "guided_choice", "guided_grammar", "guided_json", "guided_regex",
        "ignore_eos", "length_penalty", "min_p", "min_tokens", "repetition_penalty", "stop_token_ids",
        "structured_outputs", "top_a", "use_beam_search",
    }
)  # fmt: skip
"""Members of well-known engines, whatever of OpenAI's APIs they speak, on which an answer depends."""


class Leftovers:
    """`hints` and `refused` of one request (see :class:`tidegate.wire.items.CanonicalRequest`), each name once, in the
    order of the request."""

    def __init__(self) -> None:
        self.hints: dict[str, None] = {}
        self.refused: dict[str, None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The `hints`, with one name for what many items have (see :func:`tidegate.dialects.shapes.placed`)."""
        return placed(self.hints)

    def hint(self, name: str) -> None:
        self.hints[name] = None

    def refuse(self, name: str) -> None:
        self.refused[name] = None

    def read(
        self,
        members: Iterable[tuple[str, jsonio.Raw]],
        known: Container[str],
        refused: Container[str] = (),
        at: str = "",
    ) -> None:
        """Note all `members` of the object `at` but those that are `known`, and null. Nobody is refused for one that asks
        for nothing."""
        for name, value in members:
            if name in known or jsonio.is_null(value):
                continue
            if name not in refused:
                self.hints[at + name] = None
            elif not _asks_for_nothing(name, value):
                self.refused[at + name] = None

    def look(self, value: msgspec.Raw, shape: Shape | OneOf, at: str, *, numbered: bool = True) -> None:
        """Note what `shape` does not read of `value`, which stands `at`."""
        for name in unread(value, shape, at, numbered=numbered):
            self.hints[name] = None


def unknown(members: jsonio.Members, known: Container[str], at: str = "") -> tuple[str, ...]:
    """The names of the members of the object `at` that are not `known`; null says nothing."""
    left = Leftovers()
    left.read(members.items(), known, at=at)
    return left.names


def _asks_for_nothing(name: str, value: msgspec.Raw) -> bool:
    """Whether it is what happens anyway: off, empty, or what engines do unless told otherwise."""
    if says_nothing(name, value):
        return True
    given = jsonio.anything(value)
    return given is False or given in ([], "")
