"""Google's JSON has two spellings of every member, `systemInstruction` and `system_instruction`; here it gets one, and what
the client is told has its own."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest

__all__ = ["as_written", "camel_case", "told_as_written"]

_OWN: Final = frozenset(
    {
        "args",
        "default",
        "enum",
        "example",
        "labels",
        "parameters",
        "parametersJsonSchema",
        "partMetadata",
        "response",
        "responseJsonSchema",
        "responseSchema",
        "schema",
    }
)
"""Members whose content is the user's own, so that its names are not Google's."""

_SNAKE: Final = re.compile(rb'"[a-z]+_[a-z_]+"\s*:')
_UNDERSCORE: Final = re.compile(r"_([a-z])")
_WORD: Final = re.compile(r"[A-Za-z]+")
_CAPITAL: Final = re.compile(r"[A-Z]")
_DEPTH: Final = 12
"""Google's own members stand no deeper, and each level is read once more."""


def camel_case(body: bytes) -> bytes:
    """`body` with Google's own members in camel case; the same bytes when they are so, or are no JSON object.

    Values stay as they came. Where both spellings stand side by side, the last one counts, as for a repeated member.
    """
    if _SNAKE.search(body) is None:
        return body
    try:
        return jsonio.encode(_renamed(msgspec.Raw(body), _DEPTH))
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return body


def as_written(name: str, body: bytes) -> str:
    """A member's `name`, or the place of one, in the spelling of `body`, where that has the other one alone."""

    def spelled(found: re.Match[str]) -> str:
        snake = _CAPITAL.sub(lambda capital: "_" + capital[0].lower(), found[0])
        here, there = f'"{found[0]}"'.encode(), f'"{snake}"'.encode()
        return snake if there in body and here not in body else found[0]

    return _WORD.sub(spelled, name)


@contextmanager
def told_as_written(body: bytes, camel: bytes) -> Iterator[None]:
    """Errors about `camel` name members as `body` has them."""
    try:
        yield
    except InvalidRequest as error:
        if camel is not body and error.param is not None:
            written = as_written(error.param, body)
            error.message = error.message.replace(f"'{error.param}'", f"'{written}'")
            error.param = written
        raise


def _renamed(value: msgspec.Raw, depth: int) -> Any:
    """Only objects and arrays are opened, and only as far as they are Google's."""
    text = bytes(value).lstrip()
    if depth == 0 or _SNAKE.search(text) is None:
        return value
    if text[:1] == b"{":
        members: dict[str, Any] = {}
        for name, inner in jsonio.members(value).items():
            name = _UNDERSCORE.sub(lambda found: found[1].upper(), name)
            members[name] = inner if name in _OWN else _renamed(inner, depth - 1)
        return members
    if text[:1] == b"[":
        return [_renamed(one, depth - 1) for one in jsonio.elements(value)]
    return value
