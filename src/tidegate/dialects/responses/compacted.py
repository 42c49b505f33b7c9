"""A compaction item: what stands in a conversation for all that came before it (protocol §1.9).

One that a provider made holds its ciphertext, which only that provider can read. One that the gateway made holds a summary
in words, which goes to any provider as a message. Neither is ever left out: without it the model would answer as if
nothing had been said, so that what cannot be opened is refused.
"""

from collections.abc import Callable
from typing import Any, Final

from tidegate.dialects.dialect import Destination
from tidegate.dialects.envelope import PREFIX, Envelopes
from tidegate.wire.errors import InvalidRequest
from tidegate.wire.events import Seal

__all__ = ["COMPACTION", "Place", "read_compaction", "summary_message", "told"]

COMPACTION: Final = "compaction"

Place = Callable[[int], tuple[str, str]]
"""Where the n-th compaction item of an input stands, for errors: the parameter, and the item in words."""

_HEAD: Final = (
    "The earlier part of this conversation was compacted to save space. This summary of it was written by the assistant "
    "and stands for everything that was said and done before; go on from it without mentioning it.\n\n"
)


def told(summary: str) -> str:
    """The text in which a model is told the summary."""
    return _HEAD + summary


def summary_message(summary: str) -> dict[str, Any]:
    """The item that a provider of this API gets in the place of one of the gateway's own. The user says it: a message of
    the system would be moved to the front by other APIs, ahead of what it is about."""
    return {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": told(summary)}],
    }


def read_compaction(
    encrypted: str | None, at: tuple[str, str], envelopes: Envelopes | None, destination: Destination
) -> Seal:
    """What is in the item, for `destination`: a `summary`, or its own `encrypted` content. `at` is as :data:`Place` gives
    it. Raises InvalidRequest for what this provider cannot read."""
    text = encrypted or ""
    own = destination.endpoint == "responses"
    if not text.startswith(PREFIX):
        if own and (destination.encrypted_reasoning or not destination.gateway_state):
            return Seal(kind="encrypted", data=text)
        raise _unreadable(
            at, f"it was not made here, and provider '{destination.provider}' cannot read what others made."
        )
    found = envelopes.read(text) if envelopes is not None else None
    if found is None or found.seal.kind not in ("summary", "encrypted"):
        raise _unreadable(at, "it is damaged, or another project's, or this gateway has another key now.")
    if found.seal.kind == "encrypted" and not (own and found.provider == destination.provider):
        raise _unreadable(
            at,
            f"provider '{found.provider}' made it, and nobody else can read it, but the request goes to provider "
            f"'{destination.provider}'. Send it to a model of '{found.provider}'.",
        )
    return found.seal


def _unreadable(at: tuple[str, str], why: str) -> InvalidRequest:
    param, item = at
    return InvalidRequest(f"{item} cannot be opened: {why}", param=param, code="invalid_encrypted_content")
