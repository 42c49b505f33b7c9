"""How limits and budgets stand, over HTTP."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from tidegate.access.keys import Principal
from tidegate.access.standings import Budgets, Level, budgets
from tidegate.server.admin.call import Call

__all__ = ["END_USERS", "BudgetsQuery", "list_budgets"]

END_USERS: Final = 1000
"""Most end users that are shown at once; any other is found by its id."""


class BudgetsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which limits."""

    level: Annotated[Level | None, Meta(description="Only limits of this level.")] = None
    id: Annotated[str | None, Meta(description="Only limits of this organization, project, key or end user.")] = None


async def list_budgets(call: Call) -> Budgets:
    """Every limit with what is used, reserved and left of it. The holder of a key sees those that hold for it."""
    query = call.query(BudgetsQuery)
    gateway, caller = call.gateway, call.caller
    keys = gateway.snapshot.keys
    everyone = list(caller.scopes) if isinstance(caller, Principal) else keys.limited()
    scopes = [scope for scope in everyone if query.level in (None, scope.level) and query.id in (None, scope.id)]
    has_more = False
    if not isinstance(caller, Principal) and query.level in (None, "end_user"):
        names = await gateway.limiter.end_users(END_USERS + 1) if query.id is None else [query.id]
        has_more = len(names) > END_USERS
        scopes += filter(None, map(keys.end_user, names[:END_USERS]))
    return budgets(await gateway.limiter.standings(scopes), has_more=has_more)
