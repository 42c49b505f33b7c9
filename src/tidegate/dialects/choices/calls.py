"""Where the calls of an answer stand that comes in chunks: `tool_calls[].index`, by which clients put them together.

Google's chat endpoint leaves it out, and there are servers where every call is the first; clients break on the one and
join the arguments of all calls on the other.
"""

__all__ = ["CallPlaces"]


class CallPlaces:
    """The calls of one choice."""

    __slots__ = ("_ids", "_last", "_moved", "_next")

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}
        """Of the calls so far, by their place."""
        self._moved: dict[int, int] = {}
        """Where the call stands that the provider has at a place, if that was another's before."""
        self._next = 0
        self._last = 0

    def place(self, index: int | None, call_id: str, name: str) -> int:
        """Where the call stands that a piece belongs to: at `index`, unless that says nothing."""
        at = self._last if index is None else self._moved.get(index, index)
        known = self._ids.get(at)
        if (
            known is None
            or (name and call_id and known and call_id != known)
            or (name and not call_id and index is None)
        ):
            if index is None or known is not None:
                at = self._next
            if index is not None and at != index:
                self._moved[index] = at
            self._ids[at] = call_id
            self._next = max(self._next, at + 1)
        elif call_id and not known:
            self._ids[at] = call_id
        self._last = at
        return at
