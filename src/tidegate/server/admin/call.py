"""One request to the admin API, as its handlers see it: who sends it, and what it says, already checked."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tidegate.access.administration import Actor, Administration
from tidegate.access.keys import Principal
from tidegate.access.objects import ROLES, Role
from tidegate.gateway.gateway import Gateway
from tidegate.storage.access import AdminRow
from tidegate.wire.errors import Forbidden

__all__ = ["Call", "Entry", "Handler", "Needs", "check_role"]

S = TypeVar("S", bound=msgspec.Struct)

Needs = Literal["key", "viewer", "admin", "owner"]
"""What a route asks for: the least role, or any key, also a virtual one."""

_RANK: Final[Mapping[str, int]] = {name: rank for rank, name in enumerate(("key", *ROLES))}


class Call:
    """See the module."""

    __slots__ = ("_query", "administration", "body", "caller", "gateway", "path", "request", "request_id")

    def __init__(
        self,
        gateway: Gateway,
        administration: Administration,
        caller: AdminRow | Principal,
        request: Request,
        query: msgspec.Struct | None,
        body: msgspec.Struct | None,
    ) -> None:
        self.gateway = gateway
        self.administration = administration
        self.caller = caller
        self.request = request
        """For handlers that read the query by themselves."""
        self.path: Mapping[str, str] = request.path_params
        self._query = query
        self.body: Any = body
        """The body, as the Struct that the table names."""
        self.request_id: str = request.scope["state"]["request_id"]

    def query(self, kind: type[S]) -> S:
        """The query, as the Struct that the table names."""
        assert isinstance(self._query, kind)
        return self._query

    @property
    def actor(self) -> Actor:
        """Who makes the change. Only admins do."""
        assert isinstance(self.caller, AdminRow)
        return Actor(self.caller.id, self.caller.name, self.request_id)


Handler = Callable[[Call], Awaitable[msgspec.Struct | Mapping[str, Any] | Response]]
"""Gives what is to be sent as JSON, or the whole answer where that is no JSON, or too long to be in memory."""


class Entry(NamedTuple):
    """A route: its method, its path below `/admin/v1`, who may use it, and what goes in and out."""

    method: str
    path: str
    needs: Needs
    handler: Handler
    summary: str
    answer: Any
    body: type[msgspec.Struct] | None = None
    body_optional: bool = False
    query: type[msgspec.Struct] | None = None
    status: int = 200
    reads_query: bool = False
    """The handler reads the query by itself; `query` says only which names there are."""
    also: tuple[str, ...] = ()
    """Content types besides JSON in which the answer may come."""


def check_role(caller: AdminRow | Principal, needs: Needs) -> None:
    """Raises Forbidden when the caller may not use a route that asks for this."""
    role = cast("Role", caller.role) if isinstance(caller, AdminRow) else "key"
    if _RANK[role] < _RANK[needs]:
        who = "This is a virtual key, which" if role == "key" else f"Your role is '{role}', which"
        raise Forbidden(f"{who} may not do that; it takes the role '{needs}'.", code="role_not_sufficient")
