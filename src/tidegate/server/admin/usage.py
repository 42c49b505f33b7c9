"""Reports of usage over HTTP, and the ledger's rows for export."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response, StreamingResponse

from tidegate.access.keys import Principal
from tidegate.access.reports import (
    ENTRY_COLUMNS,
    Query,
    csv_lines,
    entry_object,
    read_query,
    report_columns,
    report_object,
    report_rows,
)
from tidegate.server.admin.call import Call
from tidegate.storage.ledger import Entries, UsageFilter
from tidegate.storage.storage import Storage
from tidegate.wire import jsonio
from tidegate.wire.errors import NotFound

__all__ = ["EntriesQuery", "ReportQuery", "UsageEntries", "UsageReport", "entries", "report"]

PAGE: Final = 500
"""Rows that are in memory at once while the ledger is exported."""

_CSV: Final = "text/csv; charset=utf-8"

_Only = Annotated[str | None, Meta(description="Only this.")]


class EntriesQuery(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}
):
    """Which entries."""

    since: Annotated[
        str | None, Meta(description="Begin, such as 2026-11-01, 24h or 7d (ago). Unset: 30 days before the end.")
    ] = None
    until: Annotated[str | None, Meta(description="End, in the same forms. Unset: now.")] = None
    format: Annotated[Literal["json", "csv"], Meta(description="`json` or `csv`.")] = "json"
    organization: _Only = None
    project: _Only = None
    key: _Only = None
    key_id: _Only = None
    end_user: _Only = None
    model: _Only = None
    provider: _Only = None
    deployment: _Only = None
    endpoint: _Only = None
    ending: _Only = None


class ReportQuery(
    EntriesQuery, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}
):
    """Which sums."""

    group_by: Annotated[str, Meta(description="Dimensions, with commas. Empty: one sum.")] = ""
    limit: Annotated[int, Meta(description="Most rows.", ge=1, le=10_000)] = 1000


class UsageReport(msgspec.Struct, kw_only=True, rename={"since": "from", "until": "to"}):
    """Sums by the dimensions that were asked for."""

    object: str
    since: str
    until: str
    group_by: list[str]
    data: list[dict[str, Any]]
    total: dict[str, Any]
    has_more: bool


class UsageEntries(msgspec.Struct, kw_only=True):
    """Every single request."""

    object: str
    data: list[dict[str, Any]]


async def report(call: Call) -> Response:
    """Sums by the dimensions in `group_by`."""
    storage, query = _read(call)
    rows = await storage.usage_report(query.by, query.since, query.until, query.only, limit=query.limit + 1)
    if query.format == "csv":
        lines = csv_lines(report_columns(query), report_rows(query, rows[: query.limit]), head=True)
        return Response(lines, media_type=_CSV)
    [whole] = await storage.usage_report((), query.since, query.until, query.only, limit=1)
    return Response(report_object(query, rows, whole), media_type="application/json")


async def entries(call: Call) -> Response:
    """Every row, as it comes out of the database."""
    storage, query = _read(call)
    first = await storage.usage_entries(query.since, query.until, query.only, limit=PAGE)
    body = _as_csv(storage, query, first) if query.format == "csv" else _as_json(storage, query, first)
    return StreamingResponse(body, media_type=_CSV if query.format == "csv" else "application/json")


def _read(call: Call) -> tuple[Storage, Query]:
    """Admins see everything; who has no more than a virtual key sees what that key used."""
    storage, caller = call.gateway.storage, call.caller
    if storage is None:
        raise NotFound("This gateway keeps no ledger: storage.url is off.", code="storage_off")
    mine = UsageFilter()
    if isinstance(caller, Principal):
        mine = UsageFilter(organization=caller.organization, project=caller.project, key_id=caller.key_id or caller.key)
    return storage, read_query(dict(call.request.query_params), time.time(), mine)


async def _pages(storage: Storage, query: Query, page: Entries) -> AsyncIterator[Entries]:
    yield page
    while page.behind is not None:
        page = await storage.usage_entries(query.since, query.until, query.only, after=page.behind, limit=PAGE)
        yield page


async def _as_csv(storage: Storage, query: Query, first: Entries) -> AsyncIterator[bytes]:
    head = True
    async for page in _pages(storage, query, first):
        yield csv_lines(ENTRY_COLUMNS, map(entry_object, page.rows), head=head)
        head = False


async def _as_json(storage: Storage, query: Query, first: Entries) -> AsyncIterator[bytes]:
    before = b'{"object":"list","data":[\n'
    async for page in _pages(storage, query, first):
        if page.rows:
            yield before + b",\n".join([jsonio.encode(entry_object(row)) for row in page.rows])
            before = b",\n"
    yield (before if before.startswith(b"{") else b"") + b"\n]}\n"
