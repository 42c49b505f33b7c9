"""The usage ledger: one row for each request, written when it is admitted and completed once when it is settled, and the
sums of the settled rows by the hour.

A row's number is given by the process that admits the request, so that writing it twice makes one row. What a process
leaves open is settled as `interrupted` by whoever finds that it is gone. Sums are written in the transaction that settles:
they never disagree with the rows.
"""

from collections.abc import Callable, Sequence
from functools import cache
from string import ascii_lowercase
from typing import Any, Final

import msgspec

from tidegate.storage import tenants
from tidegate.storage.entry import UsageEntry
from tidegate.storage.records import OpenUsage, Part, Tenant, Usage
from tidegate.storage.statement import Row, Sql, Work, fewest
from tidegate.storage.sums import HOUR_S, KEPT, SUMS, Place, Sums, kept_text
from tidegate.wire import jsonio

__all__ = [
    "DIMENSIONS",
    "Entries",
    "Estimate",
    "ReportRow",
    "UsageFilter",
    "admit",
    "close_orphans",
    "entries",
    "expire",
    "has_orphans",
    "rebuild",
    "report",
    "settle",
    "write",
]

PROCESS_SHIFT: Final = 40
"""Bits of a row's number below those that name the process."""

DIMENSIONS: Final = (
    "hour",
    "day",
    "organization",
    "project",
    "key",
    "key_id",
    "end_user",
    "model",
    "provider",
    "deployment",
    "endpoint",
    "ending",
)
"""What reports group by."""

Estimate = Callable[[OpenUsage], Usage]
"""How a row is settled whose process is gone."""


class UsageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are meant: all of these that are set must be the same. Who may see only a part has that set."""

    organization: str | None = None
    project: str | None = None
    key: str | None = None
    key_id: str | None = None
    end_user: str | None = None
    model: str | None = None
    provider: str | None = None
    deployment: str | None = None
    endpoint: str | None = None
    ending: str | None = None


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the requests that have the same in all dimensions of the report."""

    by: tuple[str, ...]
    """In the order in which the dimensions were named; times in seconds since 1970."""
    requests: int
    attempts: int
    estimated: int
    """Requests whose usage had to be estimated, at least in part."""
    unpriced: int
    """Requests whose cost is unknown; `cost_nano` is without them."""
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    audio_seconds: float
    characters: int
    duration_ms: float
    cost_nano: int


class Entries(msgspec.Struct, frozen=True):
    """A page of rows, and where the next one begins; None behind the last."""

    rows: list[Usage]
    behind: tuple[float, int] | None


class _Detail(msgspec.Struct, omit_defaults=True, gc=False):
    """What no report asks for, as JSON in one column."""

    request_id: str
    client: str = ""
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    prices: msgspec.Raw = msgspec.Raw(b"null")
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    parts: tuple[Part, ...] = ()


_detail = jsonio.decoder(_Detail)

_COLUMNS: Final = (
    "number",
    "tenant",
    "key",
    "key_id",
    "end_user",
    "model",
    "provider",
    "deployment",
    "endpoint",
    "stream",
    "status",
    "ending",
    "error",
    "attempts",
    "response_id",
    "admitted_at",
    "settled_at",
    "duration_ms",
    "first_event_ms",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_seconds",
    "characters",
    "estimated",
    "cost_nano",
    "detail",
)
"""In the order of the table: then SQLite need not sort the values of each row."""
_ALIKE: Final = (
    "tenant",
    "key",
    "key_id",
    "end_user",
    "model",
    "provider",
    "deployment",
    "endpoint",
    "stream",
    "status",
    "ending",
    "error",
    "attempts",
    "audio_seconds",
    "characters",
    "estimated",
)
"""What rows of one key, model and ending have the same. To bind a value takes SQLite longer than to store it."""
_ENTRY: Final = tuple([name for name in _COLUMNS if name in UsageEntry.__struct_fields__])
"""Those of them that are members of the entry."""
_CHANGED: Final = tuple([name for name in _COLUMNS if name not in ("number", "tenant", "admitted_at")])
"""What the end of a request may change. By the time of its admission rows are found: an index that stays as it is."""


def _insert(rows: int, behind: str = "", alike: Sequence[str] = ()) -> Sql:
    """Write so many rows. What they have `alike` is given with the first of them."""
    values = [
        ", ".join([f":{name}" if name in alike else f":{name}_{letter}" for name in _COLUMNS])
        for letter in ascii_lowercase[:rows]
    ]
    return Sql(f"INSERT INTO ledger ({', '.join(_COLUMNS)}) VALUES ({'), ('.join(values)}) {behind}")


_SELECT: Final = f"""
    SELECT t.organization, t.project, {", ".join(f"l.{name}" for name in _COLUMNS)}
"""

_SIZES: Final = (16, 4, 1)
"""Rows that one statement writes."""
_WINDOW: Final = _SIZES[0]
_WRITE: Final = tuple([_insert(rows) for rows in _SIZES])
_WRITE_ALIKE = _insert(_WINDOW, alike=_ALIKE)
_ADMIT: Final = tuple([_insert(rows, "ON CONFLICT (number) DO NOTHING") for rows in _SIZES])
_KEEP_FIRST: Final = f"""
    ON CONFLICT (number) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _CHANGED)}
    WHERE ledger.settled_at IS NULL RETURNING number
"""
_SETTLE: Final = tuple([_insert(rows, _KEEP_FIRST) for rows in _SIZES])
_ORPHANS = Sql(f"""
    {_SELECT}, r.last_sequence FROM ledger l JOIN tenants t ON t.number = l.tenant
    LEFT JOIN runs r ON r.id = l.response_id
    WHERE l.settled_at IS NULL AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.number = l.number >> {PROCESS_SHIFT})
    ORDER BY l.number LIMIT :count
""")
_ORPHAN = Sql(f"""
    SELECT 1 FROM ledger l
    WHERE l.settled_at IS NULL AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.number = l.number >> {PROCESS_SHIFT})
    LIMIT 1
""")
_EXPIRE = Sql("""
    DELETE FROM ledger WHERE number IN (
        SELECT l.number FROM ledger l
        WHERE l.admitted_at < {now} - :age AND l.settled_at IS NOT NULL ORDER BY l.admitted_at LIMIT :count
    ) RETURNING number
""")

_FIRST = Sql("""
    SELECT l.admitted_at FROM ledger l WHERE l.admitted_at >= :since ORDER BY l.admitted_at LIMIT 1
""")
_SEVERAL = Sql(f"""
    {_SELECT} FROM ledger l JOIN tenants t ON t.number = l.tenant
    WHERE l.admitted_at >= :begin AND l.admitted_at < :behind AND l.settled_at IS NOT NULL AND l.attempts > 1
""")
_FORGET_HOUR = Sql("DELETE FROM usage_hours WHERE hour = :hour")
_SUM_HOUR = Sql(f"""
    INSERT INTO usage_hours (hour, tenant, key, provider, {", ".join((*KEPT, *SUMS))})
    SELECT :hour, l.tenant, max(l.key), min(l.provider), {", ".join(f"l.{name}" for name in KEPT)},
        count(*), sum(l.attempts), sum(l.estimated), sum(CASE WHEN l.cost_nano IS NULL THEN 1 ELSE 0 END),
        {", ".join(f"sum(l.{name})" for name in SUMS[4:-1])}, coalesce(sum(l.cost_nano), 0)
    FROM ledger l
    WHERE l.admitted_at >= :begin AND l.admitted_at < :behind AND l.settled_at IS NOT NULL
    GROUP BY l.tenant, {", ".join(f"l.{name}" for name in KEPT)}
""")


# -- writing ----------------------------------------------------------------------------------------------------


def admit(usages: Sequence[Usage]) -> Work[None]:
    """Write rows at admission. One that is there already stays as it is."""
    sums = Sums((yield from _numbers(usages)))
    yield from fewest(_ADMIT, _values(sums, usages))


def write(usages: Sequence[Usage]) -> Work[None]:
    """Write rows that are admitted and settled at once, and add them to the sums. Their numbers are new. They keep their order,
    and are not sorted by what they have alike: numbers ascend, and a table that is not appended to has half empty pages."""
    sums = Sums((yield from _numbers(usages)))
    unlike: list[Any] = []
    for at in range(0, len(usages), _WINDOW):
        window = usages[at : at + _WINDOW]
        first = window[0]
        kind = _kind(first)
        if len(window) < _WINDOW or any(_kind(usage) != kind for usage in window):
            unlike += _values(sums, window, are_settled=True)
            continue
        yield from fewest(_WRITE, unlike)
        place = sums.of(first)
        unlike, alike = [], [*_row(place, first)]
        sums.add(place, first)
        for usage in window[1:]:
            sums.add(place, usage)
            alike += _own(usage)
        yield _WRITE_ALIKE.many([alike])
    yield from fewest(_WRITE, unlike)
    yield from sums.write()


def settle(usages: Sequence[Usage]) -> Work[None]:
    """Complete rows, each once, and add them to the sums; one that was not admitted is written whole."""
    sums = Sums((yield from _numbers(usages)))
    rows = yield from fewest(_SETTLE, _values(sums, usages))
    fresh = {number for (number,) in rows}
    for usage in usages:
        if usage.number in fresh:
            sums.add(sums.of(usage), usage)
    yield from sums.write()


def _numbers(usages: Sequence[Usage]) -> Work[dict[Tenant, int]]:
    """Those of the tenants."""
    return (yield from tenants.enrol_all([usage.tenant for usage in usages]))


def has_orphans() -> Work[bool]:
    """Whether a process that is gone has left rows open."""
    return bool((yield _ORPHAN()))


def close_orphans(limit: int, estimate: Estimate) -> Work[Sequence[Usage]]:
    """Settle up to `limit` rows of processes that are gone; those that were open."""
    rows = yield _ORPHANS(count=limit)
    usages = [estimate(OpenUsage(usage=_usage(row), last_sequence=row[-1])) for row in rows]
    if usages:
        yield from settle(usages)
    return usages


def expire(limit: int, age_s: float) -> Work[int]:
    """Remove up to `limit` settled rows that are older; how many. The sums stay."""
    return len((yield _EXPIRE(count=limit, age=age_s)))


def rebuild(since: float) -> Work[float | None]:
    """Make the sums of the first hour anew that has rows admitted at or after `since`; when it ends, None where there is
    none. Sums of hours without rows stay: their rows may have expired."""
    rows = yield _FIRST(since=since)
    if not rows:
        return None
    hour = int(rows[0][0] // HOUR_S)
    begin, behind = float(hour * HOUR_S), float((hour + 1) * HOUR_S)
    yield _FORGET_HOUR(hour=hour)
    yield _SUM_HOUR(hour=hour, begin=begin, behind=behind)
    usages = [usage for row in (yield _SEVERAL(begin=begin, behind=behind)) if (usage := _usage(row)).parts]
    sums = Sums((yield from _numbers(usages)))
    for usage in usages:
        sums.share(sums.of(usage), usage)
    yield from sums.write()
    return behind


def _kind(usage: Usage) -> tuple[Any, ...]:
    """Rows that have the same are counted in the same place, and the same in the columns of `_ALIKE`."""
    entry, tenant = usage.entry, usage.tenant
    return (
        usage.admitted_at // HOUR_S,
        tenant.organization,
        tenant.project,
        entry.key,
        usage.key_id,
        entry.end_user,
        entry.model,
        usage.provider,
        entry.deployment,
        entry.endpoint,
        entry.stream,
        entry.status,
        entry.ending,
        entry.error,
        entry.attempts,
        entry.audio_seconds,
        entry.characters,
        entry.estimated,
    )


def _values(sums: Sums, usages: Sequence[Usage], *, are_settled: bool = False) -> list[Any]:
    """All of these rows. Those that are settled are added to the sums."""
    values: list[Any] = []
    for usage in usages:
        place = sums.of(usage)
        if are_settled:
            sums.add(place, usage)
        values += _row(place, usage)
    return values


def _row(place: Place, usage: Usage) -> tuple[Any, ...]:
    """In the order of `_COLUMNS`."""
    entry = usage.entry
    error = entry.error
    return (
        usage.number,
        place.tenant,
        entry.key,
        usage.key_id,
        place.end_user,
        place.model,
        usage.provider,
        place.deployment,
        entry.endpoint,
        1 if entry.stream else 0,
        entry.status,
        entry.ending,
        kept_text(error) if error else "",
        entry.attempts,
        usage.response_id,
        usage.admitted_at,
        usage.settled_at,
        entry.duration_ms,
        entry.first_event_ms,
        entry.input_tokens,
        entry.cached_tokens,
        entry.cache_write_tokens,
        entry.output_tokens,
        entry.reasoning_tokens,
        entry.audio_seconds,
        entry.characters,
        1 if entry.estimated else 0,
        usage.cost_nano,
        _encoded(usage),
    )


def _own(usage: Usage) -> tuple[Any, ...]:
    """The same without the columns of `_ALIKE`."""
    entry = usage.entry
    return (
        usage.number,
        usage.response_id,
        usage.admitted_at,
        usage.settled_at,
        entry.duration_ms,
        entry.first_event_ms,
        entry.input_tokens,
        entry.cached_tokens,
        entry.cache_write_tokens,
        entry.output_tokens,
        entry.reasoning_tokens,
        usage.cost_nano,
        _encoded(usage),
    )


def _encoded(usage: Usage) -> bytearray:
    """The detail. Of bytes SQLite's driver asks each time whether they are to be adapted."""
    entry = usage.entry
    detail = _Detail(
        entry.request_id,
        entry.client,
        entry.cache_write_1h_tokens,
        entry.input_audio_tokens,
        entry.input_image_tokens,
        entry.output_audio_tokens,
        entry.output_image_tokens,
        usage.prices,
        usage.tags,
        usage.parts,
    )
    return bytearray(jsonio.encode(detail))


def _usage(row: Row) -> Usage:
    """The row of `_SELECT`."""
    organization, project, *rest = row
    values = dict(zip(_COLUMNS, rest, strict=False))
    detail = jsonio.decode(bytes(values["detail"]), _detail)
    members = {name: values[name] for name in _ENTRY}
    members["stream"], members["estimated"] = bool(members["stream"]), bool(members["estimated"])
    cost_nano = values["cost_nano"]
    return Usage(
        number=values["number"],
        tenant=Tenant(organization, project),
        admitted_at=values["admitted_at"],
        settled_at=values["settled_at"],
        entry=UsageEntry(
            request_id=detail.request_id,
            organization=organization,
            project=project,
            client=detail.client,
            cache_write_1h_tokens=detail.cache_write_1h_tokens,
            input_audio_tokens=detail.input_audio_tokens,
            input_image_tokens=detail.input_image_tokens,
            output_audio_tokens=detail.output_audio_tokens,
            output_image_tokens=detail.output_image_tokens,
            cost=None if cost_nano is None else cost_nano / 1e9,
            **members,
        ),
        key_id=values["key_id"],
        provider=values["provider"],
        response_id=values["response_id"],
        cost_nano=cost_nano,
        prices=detail.prices,
        tags=detail.tags,
        parts=detail.parts,
    )


# -- reading ----------------------------------------------------------------------------------------------------

_REAL: Final[dict[str, Callable[[Any], Any]]] = {"audio_seconds": float, "duration_ms": float}
_EXPRESSIONS: Final = {
    "hour": f"u.hour * {HOUR_S}",
    "day": f"u.hour / 24 * {24 * HOUR_S}",
    "organization": "t.organization",
    "project": "t.project",
}


def report(by: Sequence[str], since: float, until: float, only: UsageFilter, limit: int) -> Work[list[ReportRow]]:
    """Sums by dimensions (of `DIMENSIONS`), over the whole hours from that of `since` up to `until`: in the order of
    time where that is a dimension, else the dearest first."""
    sql = _report(tuple(by), _set_members(only))
    first, behind = int(since // HOUR_S), -int(-until // HOUR_S)
    rows = yield sql(first=first, behind=behind, count=limit, **_given(only))
    count = len(by)
    return [
        ReportRow(
            by=tuple(str(value) for value in row[:count]),
            # One engine adds whole numbers up to decimals.
            **{name: _REAL.get(name, int)(value) for name, value in zip(SUMS, row[count:], strict=True)},
        )
        for row in rows
    ]


def entries(
    since: float, until: float, only: UsageFilter, *, after: tuple[float, int] | None = None, limit: int = 500
) -> Work[Entries]:
    """Rows admitted from `since` up to `until`, oldest first; `after` is where the page before ended."""
    begin, number = after or (since, -1)
    rows = yield _entries(_set_members(only))(begin=begin, number=number, until=until, count=limit + 1, **_given(only))
    found = [_usage(row) for row in rows[:limit]]
    behind = (found[-1].admitted_at, found[-1].number) if len(rows) > limit else None
    return Entries(found, behind)


@cache
def _report(by: tuple[str, ...], only: tuple[str, ...]) -> Sql:
    """The names are of `DIMENSIONS`; values are bound."""
    chosen = [_expression(name) for name in by]
    ordered = [_expression(name) for name in by if name in ("hour", "day")]
    order = ordered or ["sum(u.cost_nano) DESC", "sum(u.requests) DESC", *chosen]
    return Sql(f"""
        SELECT {"".join(f"{one}, " for one in chosen)}{", ".join(f"coalesce(sum(u.{name}), 0)" for name in SUMS)}
        FROM usage_hours u JOIN tenants t ON t.number = u.tenant
        WHERE u.hour >= :first AND u.hour < :behind{"".join(f" AND {_expression(name)} = :{name}" for name in only)}
        {"GROUP BY " + ", ".join(chosen) if chosen else ""} ORDER BY {", ".join(order)} LIMIT :count
    """)


def _expression(name: str) -> str:
    return _EXPRESSIONS.get(name) or f"u.{name}"


@cache
def _entries(only: tuple[str, ...]) -> Sql:
    tenant = ("organization", "project")
    conditions = [f" AND {'t' if name in tenant else 'l'}.{name} = :{name}" for name in only]
    return Sql(f"""
        {_SELECT} FROM ledger l JOIN tenants t ON t.number = l.tenant
        WHERE (l.admitted_at, l.number) > (:begin, :number) AND l.admitted_at < :until{"".join(conditions)}
        ORDER BY l.admitted_at, l.number LIMIT :count
    """)


def _set_members(only: UsageFilter) -> tuple[str, ...]:
    return tuple(name for name in UsageFilter.__struct_fields__ if getattr(only, name) is not None)


def _given(only: UsageFilter) -> dict[str, str]:
    return {name: kept_text(getattr(only, name)) for name in _set_members(only)}
