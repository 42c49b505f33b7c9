"""Which of a conversation's earlier thoughts a provider reads again (protocol §5.4): estimates count no others."""

from collections.abc import Container
from typing import Final

import msgspec

from tidegate.dialects.dialect import Destination, Endpoint
from tidegate.dialects.envelope import PREFIX, Envelopes
from tidegate.wire.items import FunctionOutput, Item, Message, Reasoning

__all__ = ["are_sent", "without_torn"]

_WITH_WORDS: Final = frozenset({"signature", "encrypted", "reasoning_details", "reasoning_content"})
"""Kinds of seals whose providers get the words back with them."""


def are_sent(carried: str, envelopes: Envelopes | None, destination: Destination, own: Endpoint) -> bool:
    """Whether the words of a thought go to `destination`. `carried` is what the client has to send back with them, in its
    dialect `own`: an envelope, what a provider of that dialect signed, or nothing."""
    if destination.reads_thoughts:
        return True
    if not carried.startswith(PREFIX):
        return bool(carried) and destination.endpoint == own
    seal = envelopes.open(carried, provider=destination.provider) if envelopes is not None else None
    return seal is not None and (seal.kind in _WITH_WORDS or seal.anchor == "thought")


def without_torn(items: list[Item], broken: Container[int]) -> list[Item]:
    """`items` without the seals of thoughts that stand in one turn of the model with one whose envelope is `broken` (the
    places of such): Anthropic takes all thoughts of a turn, or none."""
    out = list(items)
    turn: list[int] = []
    torn = False
    for place, item in enumerate([*items, None]):
        if item is None or isinstance(item, FunctionOutput) or (isinstance(item, Message) and item.role != "assistant"):
            for at in turn if torn else ():
                thought = out[at]
                assert isinstance(thought, Reasoning)
                out[at] = msgspec.structs.replace(thought, seal=None)
            turn, torn = [], False
        elif isinstance(item, Reasoning):
            turn.append(place)
            torn = torn or place in broken
    return out
