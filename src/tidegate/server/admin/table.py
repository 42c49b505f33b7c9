"""The routes of the admin API, and who may use each."""

from typing import Any, Final

from tidegate.access.objects import (
    Admin,
    AdminWithText,
    AuditEntry,
    Deleted,
    Key,
    KeyChange,
    KeyWithText,
    Me,
    NewAdmin,
    NewKey,
    NewOrganization,
    NewProject,
    Organization,
    OrganizationChange,
    Page,
    Project,
    ProjectChange,
    Rotation,
)
from tidegate.access.standings import Budgets
from tidegate.server.admin import budget, handlers, usage
from tidegate.server.admin.call import Call, Entry
from tidegate.server.admin.handlers import KeysQuery, Nothing, PageQuery, RevocableQuery
from tidegate.server.admin.openapi import document

__all__ = ["PREFIX", "TABLE"]

PREFIX: Final = "/admin/v1"


async def _openapi(call: Call) -> dict[str, Any]:
    return document(PREFIX, TABLE)


_ORGANIZATIONS: Final = "/organizations"
_ORGANIZATION: Final = "/organizations/{organization}"
_PROJECTS: Final = "/organizations/{organization}/projects"
_PROJECT: Final = "/organizations/{organization}/projects/{project}"

TABLE: Final[tuple[Entry, ...]] = (
    Entry("GET", "/me", "key", handlers.me, "Whom the key of this request belongs to", Me),
    Entry("GET", "/openapi.json", "viewer", _openapi, "This description", dict[str, Any]),
    Entry(
        "GET",
        _ORGANIZATIONS,
        "viewer",
        handlers.list_organizations,
        "List the organizations",
        Page[Organization],
        query=PageQuery,
    ),
    Entry(
        "POST",
        _ORGANIZATIONS,
        "owner",
        handlers.create_organization,
        "Make an organization",
        Organization,
        body=NewOrganization,
        status=201,
    ),
    Entry("GET", _ORGANIZATION, "viewer", handlers.get_organization, "Show an organization", Organization),
    Entry(
        "PATCH",
        _ORGANIZATION,
        "owner",
        handlers.change_organization,
        "Change an organization",
        Organization,
        body=OrganizationChange,
    ),
    Entry("DELETE", _ORGANIZATION, "owner", handlers.delete_organization, "Delete an organization", Deleted),
    Entry(
        "GET",
        _PROJECTS,
        "viewer",
        handlers.list_projects,
        "List an organization's projects",
        Page[Project],
        query=PageQuery,
    ),
    Entry("POST", _PROJECTS, "admin", handlers.create_project, "Make a project", Project, body=NewProject, status=201),
    Entry("GET", _PROJECT, "viewer", handlers.get_project, "Show a project", Project),
    Entry("PATCH", _PROJECT, "admin", handlers.change_project, "Change a project", Project, body=ProjectChange),
    Entry("DELETE", _PROJECT, "admin", handlers.delete_project, "Delete a project", Deleted),
    Entry("GET", "/keys", "viewer", handlers.list_keys, "List the virtual keys", Page[Key], query=KeysQuery),
    Entry("POST", "/keys", "admin", handlers.create_key, "Make a virtual key", KeyWithText, body=NewKey, status=201),
    Entry("GET", "/keys/{id}", "viewer", handlers.get_key, "Show a virtual key", Key),
    Entry("PATCH", "/keys/{id}", "admin", handlers.change_key, "Change a virtual key", Key, body=KeyChange),
    Entry(
        "POST",
        "/keys/{id}/rotate",
        "admin",
        handlers.rotate_key,
        "Give a virtual key a new text",
        KeyWithText,
        body=Rotation,
        body_optional=True,
    ),
    Entry(
        "POST",
        "/keys/{id}/revoke",
        "admin",
        handlers.revoke_key,
        "Take a virtual key out of use",
        Key,
        body=Nothing,
        body_optional=True,
    ),
    Entry("GET", "/admins", "owner", handlers.list_admins, "List the admins", Page[Admin], query=RevocableQuery),
    Entry(
        "POST", "/admins", "owner", handlers.create_admin, "Make an admin key", AdminWithText, body=NewAdmin, status=201
    ),
    Entry(
        "POST",
        "/admins/{id}/revoke",
        "owner",
        handlers.revoke_admin,
        "Take an admin key out of use",
        Admin,
        body=Nothing,
        body_optional=True,
    ),
    Entry("GET", "/audit", "owner", handlers.list_audit, "Read the audit log", Page[AuditEntry], query=PageQuery),
    Entry(
        "GET",
        "/budgets",
        "key",
        budget.list_budgets,
        "Show what is used and left of each limit; a virtual key sees those that hold for it",
        Budgets,
        query=budget.BudgetsQuery,
    ),
    Entry(
        "GET",
        "/usage",
        "key",
        usage.report,
        "Report usage and cost; a virtual key sees its own",
        usage.UsageReport,
        query=usage.ReportQuery,
        reads_query=True,
        also=("text/csv",),
    ),
    Entry(
        "GET",
        "/usage/entries",
        "key",
        usage.entries,
        "Export the entries of the ledger; a virtual key sees its own",
        usage.UsageEntries,
        query=usage.EntriesQuery,
        reads_query=True,
        also=("text/csv",),
    ),
)
