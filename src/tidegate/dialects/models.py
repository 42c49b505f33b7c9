"""The list `models` in a request's body: names to fall back on after `model`, in OpenRouter's form.

No dialect has such a member of its own. The gateway follows the list itself, so that it is taken out before a dialect
reads the body: a provider that knows the member would choose among models that the caller's key may not use.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from tidegate.dialects.validation import parse
from tidegate.wire import jsonio

__all__ = ["MODEL_NAME_LIMIT", "MOST_MODELS", "ModelsBody", "take_models"]

MODEL_NAME_LIMIT: Final = 1024
"""Longest model name, in characters: names are compared with others, remembered, logged and told back."""

MOST_MODELS: Final = 16
"""Most names of one list. Each is looked up and may become an attempt."""


class ModelsBody(msgspec.Struct):
    """What a body of any dialect may have besides its own members."""

    models: (
        Annotated[list[Annotated[str, Meta(min_length=1, max_length=MODEL_NAME_LIMIT)]], Meta(max_length=MOST_MODELS)]
        | None
    ) = None


_decoder = jsonio.decoder(ModelsBody)


def take_models(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The body without the member `models`, and the names that stand there. A body that cannot be read comes back as it
    is: its dialect says what is wrong with it. Raises InvalidRequest."""
    if body.find(b'"models"') < 0 and not jsonio.may_escape_letters(body):
        return body, ()
    try:
        members = jsonio.members(body)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return body, ()
    given = members.pop("models", None)
    if given is None:
        return body, ()
    found = parse(b'{"models":%b}' % bytes(given), _decoder).models
    return jsonio.encode(members), tuple(found or ())
