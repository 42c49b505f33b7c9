"""A response that has begun: what one attempt leaves to the next when only our own frames went out."""

import msgspec

from tidegate.dialects.responses.envelope import Envelope

__all__ = ["Begun"]


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """The frames that a client has got, or will get first: the next attempt goes on behind them.

    `ResponsesStream` and `ResponsesEncoder` both give it (`hand_over`) and take it (`go_on`), so that a fallback may
    change between relay and bridge.
    """

    envelope: Envelope
    """It has fixed the identity that every later snapshot repeats."""
    stage: int
    """0: nothing sent, 1: created sent, 2: in_progress sent."""
    sequence: int
    """The next `sequence_number`."""
    held: bytes = b""
    """Our frames that were made and have not gone out yet."""
