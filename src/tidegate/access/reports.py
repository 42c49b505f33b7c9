"""What is asked of the ledger, and the form of the answer: JSON for programs, CSV for spreadsheets.

Money leaves the house here: nano-dollars become decimal dollars.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from tidegate.access.rates import NANO
from tidegate.storage.entry import unused
from tidegate.storage.ledger import DIMENSIONS, ReportRow, UsageFilter
from tidegate.storage.records import Tenant, Usage
from tidegate.storage.sums import COUNTS, HOUR_S
from tidegate.wire import jsonio
from tidegate.wire.errors import Forbidden, InvalidRequest

__all__ = [
    "ENTRY_COLUMNS",
    "MOST_ROWS",
    "Query",
    "csv_lines",
    "entry_object",
    "read_query",
    "report_columns",
    "report_object",
    "report_rows",
]

MOST_ROWS: Final = 10_000
"""Most rows of one report."""

DEFAULT_DAYS: Final = 30
"""How far back is looked when nobody says."""

LATEST: Final = 253_402_297_200.0
"""Begin of the last hour of the year 9999: no time behind it can be written."""

_RELATIVE: Final = re.compile(r"(\d{1,5})([hd])")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings that spreadsheets take for a formula, some only where wide letters are written."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: times are seconds since 1970, `only` what is looked at."""

    by: tuple[str, ...] = ()
    since: float
    until: float
    only: UsageFilter = UsageFilter()
    format: str = "json"
    limit: int = 1000


def read_query(given: Mapping[str, str], now: float, mine: UsageFilter | None = None) -> Query:
    """The query that stands in `given`: `group_by`, `from`, `to`, `format`, `limit`, and dimensions to look at. `mine` is
    all that the caller may see. Raises InvalidRequest and Forbidden."""
    mine = mine or UsageFilter()
    only: dict[str, str | None] = {}
    for name, value in given.items():
        if name in UsageFilter.__struct_fields__:
            only[name] = value
        elif name not in ("group_by", "from", "to", "format", "limit"):
            known = ", ".join(("group_by", "from", "to", "format", "limit", *UsageFilter.__struct_fields__))
            raise InvalidRequest(f"Unknown parameter: '{name}'. Known are: {known}.", param=name[:64])
    for name in UsageFilter.__struct_fields__:
        own = getattr(mine, name)
        if own is not None:
            if only.get(name, own) != own:
                raise Forbidden(f"'{name}' must be '{own}': you may see no other usage.", param=name)
            only[name] = own
    by = tuple(filter(None, (one.strip() for one in given.get("group_by", "").split(","))))
    for name in by:
        if name not in DIMENSIONS:
            raise InvalidRequest(
                f"Invalid 'group_by': '{name[:64]}' is no dimension. Dimensions are: {', '.join(DIMENSIONS)}.",
                param="group_by",
            )
    if len(set(by)) < len(by):
        raise InvalidRequest("Invalid 'group_by': a dimension stands there twice.", param="group_by")
    until = read_time(given["to"], now, "to") if "to" in given else now
    since = read_time(given["from"], now, "from") if "from" in given else max(0.0, until - DEFAULT_DAYS * 24 * HOUR_S)
    if since > until:
        raise InvalidRequest("Invalid 'from': it is later than 'to'.", param="from")
    format_ = given.get("format", "json")
    if format_ not in ("json", "csv"):
        raise InvalidRequest("Invalid 'format': expected 'json' or 'csv'.", param="format")
    limit = given.get("limit", "1000")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 9 and 1 <= int(limit) <= MOST_ROWS):
        raise InvalidRequest(f"Invalid 'limit': expected a whole number from 1 to {MOST_ROWS}.", param="limit")
    return Query(by=by, since=since, until=until, only=UsageFilter(**only), format=format_, limit=int(limit))


def read_time(text: str, now: float, param: str) -> float:
    """A time as people write it: `2026-11-01`, `2026-11-01T10:00:00Z`, seconds since 1970, or `24h` and `7d` ago. Without
    a zone it is UTC. Raises InvalidRequest."""
    relative = _RELATIVE.fullmatch(text)
    if relative is not None:
        return max(0.0, now - int(relative[1]) * (HOUR_S if relative[2] == "h" else 24 * HOUR_S))
    if text.isascii() and text.isdigit() and 9 <= len(text) <= 10:
        return float(text)
    try:
        found = datetime.fromisoformat(text)
        at = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
        if not 0 <= at < LATEST:
            raise ValueError("it lies outside of the years that times have")
        return at
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"Invalid '{param}': expected a time such as 2026-11-01, 2026-11-01T10:00:00Z, 24h or 7d (ago), or seconds since 1970.",
            param=param,
        ) from None


# -- reports ----------------------------------------------------------------------------------------------------


def report_rows(query: Query, rows: Iterable[ReportRow]) -> list[dict[str, Any]]:
    """The rows of a report as objects: dimensions, then sums."""
    return [_report_row(query.by, row) for row in rows]


def report_columns(query: Query) -> tuple[str, ...]:
    """The names of the members of every row, also where there is none."""
    return (*query.by, *COUNTS, "mean_duration_ms", "cost")


def report_object(query: Query, rows: Sequence[ReportRow], whole: ReportRow) -> bytes:
    """The whole report as JSON; `whole` sums all requests that are looked at, also where rows are left out."""
    begin, end = query.since // HOUR_S * HOUR_S, -(-query.until // HOUR_S) * HOUR_S
    return jsonio.encode(
        {
            "object": "usage.report",
            "from": _iso(begin),
            "to": _iso(end),
            "group_by": query.by,
            "data": report_rows(query, rows[: query.limit]),
            "total": _report_row((), whole),
            "has_more": len(rows) > query.limit,
        }
    )


def _report_row(by: Sequence[str], row: ReportRow) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in zip(by, row.by, strict=True):
        found[name] = _iso(float(value)) if name == "hour" else _iso(float(value))[:10] if name == "day" else value
    for name in COUNTS:
        found[name] = getattr(row, name)
    found["mean_duration_ms"] = round(row.duration_ms / row.requests, 3) if row.requests else 0.0
    found["cost"] = _dollars(row.cost_nano)
    return found


# -- entries ----------------------------------------------------------------------------------------------------


def entry_object(row: Usage) -> dict[str, Any]:
    """A row of the ledger as an object. What nobody knows is null: the cost, and of what has not ended, or whose gateway died,
    the status that the client saw and how long it took."""
    entry = row.entry
    return {
        "id": str(row.number),
        "request_id": entry.request_id,
        "organization": row.tenant.organization,
        "project": row.tenant.project,
        "key": entry.key,
        "key_id": row.key_id,
        "end_user": entry.end_user,
        "model": entry.model,
        "provider": row.provider,
        "deployment": entry.deployment,
        "endpoint": entry.endpoint,
        "stream": entry.stream,
        "status": entry.status or None,
        "ending": entry.ending,
        "error": entry.error,
        "attempts": entry.attempts,
        "response_id": row.response_id,
        "client": entry.client,
        "admitted_at": _iso(row.admitted_at),
        "settled_at": None if row.settled_at is None else _iso(row.settled_at),
        "duration_ms": entry.duration_ms or None,
        "first_event_ms": entry.first_event_ms,
        "input_tokens": entry.input_tokens,
        "cached_tokens": entry.cached_tokens,
        "cache_write_tokens": entry.cache_write_tokens,
        "cache_write_1h_tokens": entry.cache_write_1h_tokens,
        "input_audio_tokens": entry.input_audio_tokens,
        "input_image_tokens": entry.input_image_tokens,
        "output_tokens": entry.output_tokens,
        "reasoning_tokens": entry.reasoning_tokens,
        "output_audio_tokens": entry.output_audio_tokens,
        "output_image_tokens": entry.output_image_tokens,
        "audio_seconds": entry.audio_seconds,
        "characters": entry.characters,
        "estimated": entry.estimated,
        "cost": None if row.cost_nano is None else _dollars(row.cost_nano),
        "prices": row.prices,
        "tags": row.tags,
        "parts": [
            {
                "deployment": part.deployment,
                "input_tokens": part.input_tokens,
                "output_tokens": part.output_tokens,
                "estimated": part.estimated,
                "cost": None if part.cost_nano is None else _dollars(part.cost_nano),
            }
            for part in row.parts
        ],
    }


def csv_lines(columns: Sequence[str], objects: Iterable[Mapping[str, Any]], *, head: bool) -> bytes:
    """The objects as CSV (RFC 4180); with `head` the line of their names comes before, also where there is no object. What
    a spreadsheet would take for a formula gets an apostrophe in front."""
    text = io.StringIO()
    writer = csv.writer(text)
    if head:
        writer.writerow(columns)
    for one in objects:
        writer.writerow([_cell(one[name]) for name in columns])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    if isinstance(value, list | dict | msgspec.Raw):
        return jsonio.encode(value).decode()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _dollars(nano: int) -> float:
    return nano / NANO


def _iso(at: float) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    return moment.isoformat(timespec="seconds" if at == int(at) else "milliseconds").replace("+00:00", "Z")


ENTRY_COLUMNS: Final = tuple(entry_object(Usage(number=0, tenant=Tenant("", ""), admitted_at=0.0, entry=unused())))
"""The names of the members of every entry, also where there is none."""
