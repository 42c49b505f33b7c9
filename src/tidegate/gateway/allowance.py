"""What one request may spend, over all its attempts: what was reserved when it was admitted, and more for each further
attempt that the first reservation does not cover."""

from collections.abc import Coroutine, Mapping
from types import CoroutineType
from typing import Any, cast

from tidegate.access.limits import Gate, Reservation

__all__ = ["Allowance"]


class Allowance:
    """The reservations of one request."""

    __slots__ = ("_bounds", "_first", "_gate", "_held", "_more", "_taken")

    def __init__(self, gate: Gate, first: Reservation, bounds: Mapping[int, int]) -> None:
        """`bounds` has what an attempt at each deployment of the plan costs at most, by the identity of its path; it is empty
        where no budget holds."""
        self._gate = gate
        self._first = first
        self._bounds = bounds
        self._held = self._taken = max(bounds.values(), default=0)
        self._more: list[tuple[Reservation, int]] = []

    def cover(self, path: object, spent_nano: int) -> Coroutine[Any, Any, None] | None:
        """Have enough for one more attempt at a deployment, when so much is spent. None: there is. Raises RateLimited,
        BudgetExhausted and LimitsUnavailable, here or when awaited."""
        lacking = spent_nano + self._bounds.get(id(path), 0) - self._held
        if lacking <= 0:
            return None
        found = self._gate.more(lacking)
        if isinstance(found, CoroutineType):
            return self._wait(found, lacking)
        self._keep(cast("Reservation", found), lacking)
        return None

    async def _wait(self, found: Coroutine[Any, Any, Reservation], nano: int) -> None:
        self._keep(await found, nano)

    def _keep(self, found: Reservation, nano: int) -> None:
        self._more.append((found, nano))
        self._held += nano

    @property
    def is_bounded(self) -> bool:
        """Whether a budget holds for the request."""
        return bool(self._bounds)

    def settle(self, tokens: int, cost_nano: int | None, *, requests: int = 1) -> None:
        """See :class:`tidegate.access.limits.Reservation`. Each reservation is used up before the next one; what goes beyond
        all of them is charged to the last."""
        left = cost_nano
        parts = [(self._first, self._taken), *self._more]
        for place, (reservation, nano) in enumerate(parts):
            is_last = place == len(parts) - 1
            share = left if left is None or is_last else min(left, nano)
            reservation.settle(0 if place else tokens, share, requests=0 if place else requests)
            if left is not None and share is not None:
                left -= share

    def fields(self) -> bytes:
        return self._first.fields()
