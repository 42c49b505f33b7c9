"""What each route of the admin API does."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tidegate.access.keys import Principal
from tidegate.access.objects import (
    Admin,
    AdminWithText,
    AuditEntry,
    Deleted,
    Key,
    KeyWithText,
    Me,
    Name,
    Organization,
    Page,
    Project,
)
from tidegate.server.admin.call import Call

__all__ = ["KeysQuery", "Nothing", "PageQuery", "RevocableQuery"]

_After = Annotated[str | None, Meta(description="`last_id` of the page before. Unset: the first page.")]
_Limit = Annotated[int, Meta(description="Most entries of the page.", ge=1, le=100)]
_Revoked = Annotated[bool, Meta(description="Also what was revoked.")]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body that says nothing."""


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of a list."""

    after: _After = None
    limit: _Limit = 20


class RevocableQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of a list of what may be revoked."""

    revoked: _Revoked = False


class KeysQuery(RevocableQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of which keys."""

    organization: Annotated[Name | None, Meta(description="Only keys of this organization.")] = None
    project: Annotated[Name | None, Meta(description="Only keys of projects with this name.")] = None


async def me(call: Call) -> Me:
    caller = call.caller
    if isinstance(caller, Principal):
        limits: dict[Any, Any] = {scope.level: scope.limits for scope in caller.scopes}
        return Me(
            type="key",
            id=caller.key_id,
            name=caller.key,
            role=None,
            organization=caller.organization,
            project=caller.project,
            expires_at=None if caller.expires_at is None else int(caller.expires_at),
            model=caller.model,
            models=caller.models,
            endpoints=caller.endpoints,
            addresses=tuple(str(network) for network in caller.addresses),
            limits=limits,
        )
    admin = call.administration.admin(caller)
    return Me(
        type="admin",
        id=admin.id,
        name=admin.name,
        role=admin.role,
        organization=None,
        project=None,
        expires_at=admin.expires_at,
        model="",
        models=(),
        endpoints=(),
        addresses=(),
        limits={},
    )


# -- organizations --------------------------------------------------------------------------------------------------


async def list_organizations(call: Call) -> Page[Organization]:
    query = call.query(PageQuery)
    return call.administration.organizations(query.after, query.limit)


async def create_organization(call: Call) -> Organization:
    return await call.administration.create_organization(call.actor, call.body)


async def get_organization(call: Call) -> Organization:
    return call.administration.organization(call.path["organization"])


async def change_organization(call: Call) -> Organization:
    return await call.administration.change_organization(call.actor, call.path["organization"], call.body)


async def delete_organization(call: Call) -> Deleted:
    name = call.path["organization"]
    await call.administration.delete_organization(call.actor, name)
    return Deleted(name=name)


# -- projects -------------------------------------------------------------------------------------------------------


async def list_projects(call: Call) -> Page[Project]:
    query = call.query(PageQuery)
    return call.administration.projects(call.path["organization"], query.after, query.limit)


async def create_project(call: Call) -> Project:
    return await call.administration.create_project(call.actor, call.path["organization"], call.body)


async def get_project(call: Call) -> Project:
    return call.administration.project(call.path["organization"], call.path["project"])


async def change_project(call: Call) -> Project:
    return await call.administration.change_project(
        call.actor, call.path["organization"], call.path["project"], call.body
    )


async def delete_project(call: Call) -> Deleted:
    name = call.path["project"]
    await call.administration.delete_project(call.actor, call.path["organization"], name)
    return Deleted(name=name)


# -- keys -----------------------------------------------------------------------------------------------------------


async def list_keys(call: Call) -> Page[Key]:
    query = call.query(KeysQuery)
    return await call.administration.keys(
        query.organization or "", query.project or "", revoked=query.revoked, after=query.after, limit=query.limit
    )


async def create_key(call: Call) -> KeyWithText:
    return await call.administration.create_key(call.actor, call.body)


async def get_key(call: Call) -> Key:
    return await call.administration.key(call.path["id"])


async def change_key(call: Call) -> Key:
    return await call.administration.change_key(call.actor, call.path["id"], call.body)


async def rotate_key(call: Call) -> KeyWithText:
    return await call.administration.rotate_key(call.actor, call.path["id"], call.body.overlap_seconds)


async def revoke_key(call: Call) -> Key:
    return await call.administration.revoke_key(call.actor, call.path["id"])


# -- admins and audit -----------------------------------------------------------------------------------------------


async def list_admins(call: Call) -> Page[Admin]:
    query = call.query(RevocableQuery)
    return await call.administration.admins(revoked=query.revoked, after=query.after, limit=query.limit)


async def create_admin(call: Call) -> AdminWithText:
    return await call.administration.create_admin(call.actor, call.body)


async def revoke_admin(call: Call) -> Admin:
    return await call.administration.revoke_admin(call.actor, call.path["id"])


async def list_audit(call: Call) -> Page[AuditEntry]:
    query = call.query(PageQuery)
    return await call.administration.audit(query.after, query.limit)
