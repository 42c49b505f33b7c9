"""What a request builds on, once it was found."""

import msgspec

__all__ = ["History"]


class History(msgspec.Struct, frozen=True):
    """Earlier turns, and items that are referred to one by one."""

    items: list[bytes]
    """The items before its own, in order."""
    named: dict[str, bytes]
    """Items that it names, by id."""
