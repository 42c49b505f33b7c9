"""How limits stand, in the forms in which people and programs read it."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from tidegate.access.limits import NANO, Kind, Standing, dollars, long_duration

__all__ = ["Budget", "Budgets", "Level", "budgets", "shown_row"]

Level = Literal["organization", "project", "key", "end_user"]


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """One limit, and what is used and left of it. Money is in US dollars."""

    object: Literal["budget"] = "budget"
    level: str
    id: str
    name: str
    """That of a managed key; of everything else the id is a name."""
    kind: Kind
    window: Literal["minute", "day", "month"] | None
    """None of requests under way at once."""
    limit: float
    used: float
    reserved: float
    """What requests under way may use at most."""
    remaining: float
    resets_in_s: float


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit."""

    object: Literal["list"] = "list"
    data: tuple[Budget, ...]
    has_more: bool = False
    """There are more end users than are shown."""
    alone: bool = False
    """Valkey does not answer: the figures are what this gateway alone has counted, and each limit is its share
    (`limits.gateways`)."""


def budgets(standings: Iterable[Standing], *, has_more: bool = False) -> Budgets:
    """As the admin API sends it."""
    found = tuple(standings)
    return Budgets(data=tuple(map(_budget, found)), has_more=has_more, alone=any(one.alone for one in found))


def _budget(standing: Standing) -> Budget:
    def shown(amount: int) -> float:
        return amount / NANO if standing.kind == "cost" else amount

    return Budget(
        level=standing.level,
        id=standing.id,
        name=standing.name,
        kind=standing.kind,
        window=standing.window or None,
        limit=shown(standing.limit),
        used=shown(standing.used),
        reserved=shown(standing.reserved),
        remaining=shown(standing.remaining),
        resets_in_s=round(standing.reset_s, 3),
    )


def shown_row(standing: Standing) -> tuple[str, ...]:
    """The cells of a table's row: level, name, kind, window, limit, used, reserved, left, reset."""
    show = dollars if standing.kind == "cost" else "{:,}".format
    amounts = (standing.limit, standing.used, standing.reserved, standing.remaining)
    return (
        standing.level.replace("_", " "),
        standing.id if standing.name == standing.id else f"{standing.name} ({standing.id})",
        standing.kind,
        standing.window or "at once",
        *(show(amount) for amount in amounts),
        long_duration(standing.reset_s) if standing.reset_s else "-",
    )
