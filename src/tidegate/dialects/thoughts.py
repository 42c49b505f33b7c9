"""Which of a conversation's earlier thoughts a provider reads again (protocol §5.4): estimates count no others."""

from typing import Final

from tidegate.dialects.dialect import Destination, Endpoint
from tidegate.dialects.envelope import PREFIX, Envelopes

__all__ = ["are_sent"]

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
