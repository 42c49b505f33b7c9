"""What one request may spend, over all its attempts: what was reserved when it was admitted, and more for each further
attempt that the first reservation does not cover."""

from collections.abc import Coroutine, Sequence
from types import CoroutineType
from typing import Any, cast

from tidegate.access.limits import Gate, Reservation
from tidegate.access.prices import Deployed
from tidegate.gateway.snapshot import Path

__all__ = ["Allowance"]


class Allowance:
    """The reservations of one request."""

    __slots__ = ("_first", "_gate", "_held", "_more", "_taken", "costs", "plan")

    def __init__(self, gate: Gate, first: Reservation, plan: Sequence[Path], costs: Sequence[int]) -> None:
        """`costs` are what an attempt at each deployment of the plan costs at most; the first reservation is for the
        dearest."""
        self._gate = gate
        self._first = first
        self.plan = plan
        self.costs = costs
        self._held = self._taken = max(costs, default=0)
        self._more: list[tuple[Reservation, int]] = []

    def most(self, deployment: Deployed) -> int:
        """What an attempt at a deployment costs at most."""
        for path, cost in zip(self.plan, self.costs, strict=True):
            if (path.destination.provider, path.destination.model) == (deployment.provider, deployment.model):
                return cost
        return self._taken

    def cover(self, deployment: Deployed, spent_nano: int) -> Coroutine[Any, Any, None] | None:
        """Have enough for one more attempt at a deployment, when so much is spent. None: there is. Raises RateLimited,
        BudgetExhausted and LimitsUnavailable, here or when awaited."""
        lacking = spent_nano + self.most(deployment) - self._held
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
