"""The usage ledger: one row for each request, written when it is admitted and completed once when it is settled, and the
sums of the settled rows by the hour.

A row's number is given by the process that admits the request, so that writing it twice makes one row. What a process
leaves open is settled as `interrupted` by whoever finds that it is gone. Sums are written in the transaction that settles:
they never disagree with the rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

import msgspec

from tidegate.storage import tenants
from tidegate.storage.entry import UsageEntry
from tidegate.storage.records import OpenUsage, Part, Tenant, Usage
from tidegate.storage.statement import Row, Sql, Work
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
    "kept_text",
    "rebuild",
    "report",
    "settle",
    "write",
]

HOUR_S: Final = 3600

PROCESS_SHIFT: Final = 40
"""Bits of a row's number below those that name the process."""

TEXT_BYTES: Final = 640
"""Most bytes of a text from outside. The sums are found by three of them, and a row of an index has room for 2704."""

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


class _Detail(msgspec.Struct, kw_only=True, omit_defaults=True):
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

_ENTRY: Final = (
    "key",
    "end_user",
    "model",
    "deployment",
    "endpoint",
    "stream",
    "status",
    "ending",
    "error",
    "attempts",
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
)
"""Columns that are members of the entry. `_values` has them in this order."""
_OTHERS: Final = ("number", "key_id", "provider", "response_id", "admitted_at", "settled_at", "cost_nano", "detail")
_COLUMNS: Final = (*_OTHERS, *_ENTRY)
_INSERT: Final = f"""
    INSERT INTO ledger (tenant, {", ".join(_COLUMNS)})
    VALUES (:tenant, {", ".join(f":{name}" for name in _COLUMNS)})
"""
_SELECT: Final = f"""
    SELECT t.organization, t.project, {", ".join(f"l.{name}" for name in _COLUMNS)}
"""

_WRITE = Sql(_INSERT)
_LETTERS: Final = "abcdefghijklmnop"
_WRITE_MANY = Sql(f"""
    INSERT INTO ledger (tenant, {", ".join(_COLUMNS)})
    VALUES {", ".join(f"({', '.join(f':{name}_{letter}' for name in ('tenant', *_COLUMNS))})" for letter in _LETTERS)}
""")
"""As many rows as there are letters. Between two executions the driver lets other threads have the interpreter, and waits
for it again: for one row each time costs more than the row."""
_ADMIT = Sql(f"{_INSERT} ON CONFLICT (number) DO NOTHING")
_SETTLE = Sql(f"""
    {_INSERT} ON CONFLICT (number) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "number")}
    WHERE ledger.settled_at IS NULL RETURNING number
""")
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

_KEPT: Final = ("key_id", "end_user", "model", "deployment", "endpoint", "ending")
"""Dimensions of the sums, besides the hour and the tenant."""
COUNTS: Final = (
    "requests",
    "attempts",
    "estimated",
    "unpriced",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_seconds",
    "characters",
)
"""What the sums tell of as it is."""
_SUMS: Final = (*COUNTS, "duration_ms", "cost_nano")
_USED: Final = COUNTS[COUNTS.index("input_tokens") :]
"""Those of them that belong to where it was used, like the cost; all else is the request's, and stands where it ended."""
_ADD = Sql(f"""
    INSERT INTO usage_hours (hour, tenant, key, provider, {", ".join((*_KEPT, *_SUMS))})
    VALUES (:hour, :tenant, :key, :provider, {", ".join(f":{name}" for name in (*_KEPT, *_SUMS))})
    ON CONFLICT (hour, tenant, {", ".join(_KEPT)})
    DO UPDATE SET key = excluded.key, {", ".join(f"{name} = usage_hours.{name} + excluded.{name}" for name in _SUMS)}
""")
_Group = tuple[Any, ...]
_Sums = dict[_Group, list[Any]]
"""By group: the name of the key, the provider, and `_SUMS`."""
_FIRST = Sql("""
    SELECT l.admitted_at FROM ledger l WHERE l.admitted_at >= :since ORDER BY l.admitted_at LIMIT 1
""")
_SEVERAL = Sql(f"""
    {_SELECT}, l.tenant FROM ledger l JOIN tenants t ON t.number = l.tenant
    WHERE l.admitted_at >= :begin AND l.admitted_at < :behind AND l.settled_at IS NOT NULL AND l.attempts > 1
""")
_FORGET_HOUR = Sql("DELETE FROM usage_hours WHERE hour = :hour")
_SUM_HOUR = Sql(f"""
    INSERT INTO usage_hours (hour, tenant, key, provider, {", ".join((*_KEPT, *_SUMS))})
    SELECT :hour, l.tenant, max(l.key), min(l.provider), {", ".join(f"l.{name}" for name in _KEPT)},
        count(*), sum(l.attempts), sum(l.estimated), sum(CASE WHEN l.cost_nano IS NULL THEN 1 ELSE 0 END),
        {", ".join(f"sum(l.{name})" for name in _SUMS[4:-1])}, coalesce(sum(l.cost_nano), 0)
    FROM ledger l
    WHERE l.admitted_at >= :begin AND l.admitted_at < :behind AND l.settled_at IS NOT NULL
    GROUP BY l.tenant, {", ".join(f"l.{name}" for name in _KEPT)}
""")


def kept_text(text: str) -> str:
    """Text from outside as it is kept. PostgreSQL takes no U+0000, and no long text in the key of a table: nobody may be
    spared an entry by either."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if len(text) <= TEXT_BYTES // 4 else text.encode()[:TEXT_BYTES].decode(errors="ignore")


# -- writing ----------------------------------------------------------------------------------------------------


def admit(usages: Sequence[Usage]) -> Work[None]:
    """Write rows at admission. One that is there already stays as it is."""
    numbers = yield from tenants.enrol_all([usage.tenant for usage in usages])
    yield _ADMIT.many([_values(numbers[usage.tenant], usage) for usage in usages])


def write(usages: Sequence[Usage]) -> Work[None]:
    """Write rows that are admitted and settled at once, and add them to the sums. Their numbers are new."""
    numbers = yield from tenants.enrol_all([usage.tenant for usage in usages])
    rows = [_values(numbers[usage.tenant], usage) for usage in usages]
    group = len(_LETTERS)
    whole = len(rows) - len(rows) % group
    if whole:
        yield _WRITE_MANY.many([tuple(chain(*rows[at : at + group])) for at in range(0, whole, group)])
    if whole < len(rows):
        yield _WRITE.many(rows[whole:])
    yield from _add(usages, numbers)


def settle(usages: Sequence[Usage]) -> Work[None]:
    """Complete rows, each once, and add them to the sums; one that was not admitted is written whole."""
    numbers = yield from tenants.enrol_all([usage.tenant for usage in usages])
    rows = yield _SETTLE.many([_values(numbers[usage.tenant], usage) for usage in usages])
    fresh = {number for (number,) in rows}
    yield from _add([usage for usage in usages if usage.number in fresh], numbers)


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
    sums: _Sums = {}
    for row in (yield _SEVERAL(begin=begin, behind=behind)):
        usage = _usage(row)
        if usage.parts:
            _share(sums, _group(usage, row[-1]), usage)
    yield from _write_sums(sums)
    return behind


def _add(usages: Iterable[Usage], numbers: Mapping[Tenant, int]) -> Work[None]:
    sums: _Sums = {}
    for usage in usages:
        entry = usage.entry
        group = _group(usage, numbers[usage.tenant])
        found = sums.get(group)
        if found is None:
            found = sums[group] = [entry.key, usage.provider, *[0] * len(_SUMS)]
        found[2] += 1
        found[3] += entry.attempts
        found[4] += entry.estimated
        if usage.cost_nano is None:
            found[5] += 1
        else:
            found[14] += usage.cost_nano
        found[6] += entry.input_tokens
        found[7] += entry.cached_tokens
        found[8] += entry.cache_write_tokens
        found[9] += entry.output_tokens
        found[10] += entry.reasoning_tokens
        found[11] += entry.audio_seconds
        found[12] += entry.characters
        found[13] += entry.duration_ms
        if usage.parts:
            _share(sums, group, usage)
    yield from _write_sums(sums)


def _group(usage: Usage, tenant: int) -> _Group:
    """Of which sums a row is a part: the hour, the tenant, and `_KEPT`."""
    entry = usage.entry
    return (
        int(usage.admitted_at // HOUR_S),
        tenant,
        usage.key_id,
        kept_text(entry.end_user),
        kept_text(entry.model),
        kept_text(entry.deployment),
        entry.endpoint,
        entry.ending,
    )


def _share(sums: _Sums, group: _Group, usage: Usage) -> None:
    """Move what was used at other deployments than the last one, of whose `group` the row is, to theirs."""
    hour, tenant, key_id, end_user, model, last, endpoint, ending = group
    for part in usage.parts:
        deployment = kept_text(part.deployment)
        if deployment == last:
            continue
        theirs = (hour, tenant, key_id, end_user, model, deployment, endpoint, ending)
        moved = [0] * len(_SUMS)
        for name in _USED:
            moved[_SUMS.index(name)] = getattr(part, name)
        if usage.cost_nano is not None:
            moved[-1] = part.cost_nano or 0
        for place, provider, sign in ((group, usage.provider, -1), (theirs, part.provider, 1)):
            found = sums.setdefault(place, [usage.entry.key, provider, *[0] * len(_SUMS)])
            for at, value in enumerate(moved, 2):
                found[at] += sign * value


def _write_sums(sums: _Sums) -> Work[None]:
    if sums:
        # In one order, so that two processes never wait for each other.
        names = ("hour", "tenant", *_KEPT, "key", "provider", *_SUMS)
        places = [names.index(name) for name in _ADD.names]
        rows = [(*group, *sums[group]) for group in sorted(sums)]
        yield _ADD.many([tuple([row[place] for place in places]) for row in rows])


def _values(tenant: int, usage: Usage) -> tuple[Any, ...]:
    """In the order of `_INSERT`."""
    entry = usage.entry
    return (
        tenant,
        usage.number,
        usage.key_id,
        usage.provider,
        usage.response_id,
        usage.admitted_at,
        usage.settled_at,
        usage.cost_nano,
        jsonio.encode(
            _Detail(
                request_id=entry.request_id,
                client=entry.client,
                cache_write_1h_tokens=entry.cache_write_1h_tokens,
                input_audio_tokens=entry.input_audio_tokens,
                input_image_tokens=entry.input_image_tokens,
                output_audio_tokens=entry.output_audio_tokens,
                output_image_tokens=entry.output_image_tokens,
                prices=usage.prices,
                tags=usage.tags,
                parts=usage.parts,
            )
        ),
        entry.key,
        kept_text(entry.end_user),
        kept_text(entry.model),
        kept_text(entry.deployment),
        entry.endpoint,
        int(entry.stream),
        entry.status,
        entry.ending,
        kept_text(entry.error),
        entry.attempts,
        entry.duration_ms,
        entry.first_event_ms,
        entry.input_tokens,
        entry.cached_tokens,
        entry.cache_write_tokens,
        entry.output_tokens,
        entry.reasoning_tokens,
        entry.audio_seconds,
        entry.characters,
        int(entry.estimated),
    )


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
            **{name: _REAL.get(name, int)(value) for name, value in zip(_SUMS, row[count:], strict=True)},
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
        SELECT {"".join(f"{one}, " for one in chosen)}{", ".join(f"coalesce(sum(u.{name}), 0)" for name in _SUMS)}
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
