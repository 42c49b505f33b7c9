"""How limits and budgets stand, over HTTP."""

from typing import Annotated

import msgspec
from msgspec import Meta

from tidegate.access.keys import Principal
from tidegate.access.scopes import Scope
from tidegate.access.standings import Budgets, Level, budgets
from tidegate.server.admin.call import Call

__all__ = ["BudgetsQuery", "list_budgets"]


class BudgetsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which limits."""

    level: Annotated[Level | None, Meta(description="Only limits of this level.")] = None
    id: Annotated[str | None, Meta(description="Only limits of this organization, project or key.")] = None


async def list_budgets(call: Call) -> Budgets:
    """Every limit with what is used, reserved and left of it. The holder of a key sees those that hold for it."""
    query = call.query(BudgetsQuery)
    caller = call.caller
    principals = (caller,) if isinstance(caller, Principal) else call.gateway.snapshot.keys.principals
    scopes: dict[tuple[str, str], Scope] = {}
    for principal in principals:
        for scope in principal.scopes:
            if query.level in (None, scope.level) and query.id in (None, scope.id):
                scopes[scope.level, scope.id] = scope
    return budgets(await call.gateway.limiter.standings(list(scopes.values())))
