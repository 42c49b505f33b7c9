"""How much an organization, a project, a key or an end user has used within a span of time, from the ledger."""

from typing import Final, Literal

from tidegate.storage.statement import Sql, Work
from tidegate.storage.sums import HOUR_S, kept_text

__all__ = ["Level", "Spent", "spent"]

Level = Literal["organization", "project", "key", "end_user"]
Spent = tuple[int, int, int]
"""Requests, tokens and nano-dollars."""

_PROJECT: Final = "t.organization = :organization AND t.project = :project"
_WHO: Final[dict[Level, str]] = {
    "organization": "t.organization = :organization",
    "project": _PROJECT,
    "key": "{row}.key_id = :key_id",
    "end_user": f"{_PROJECT} AND {{row}}.end_user = :end_user",
}


def _sql(who: str) -> Sql:
    return Sql(f"""
        SELECT coalesce(sum(requests), 0), coalesce(sum(tokens), 0), coalesce(sum(cost), 0) FROM (
            SELECT sum(u.requests) AS requests, sum(u.input_tokens + u.output_tokens) AS tokens, sum(u.cost_nano) AS cost
            FROM usage_hours u JOIN tenants t ON t.number = u.tenant
            WHERE u.hour >= :first AND u.hour < :present AND u.ending <> 'repeated' AND {who.format(row="u")}
            UNION ALL
            SELECT count(*), sum(l.input_tokens + l.output_tokens), sum(l.cost_nano)
            FROM ledger l JOIN tenants t ON t.number = l.tenant
            WHERE l.admitted_at >= :begin AND l.admitted_at < :before
            AND l.ending <> 'repeated' AND {who.format(row="l")}
            UNION ALL
            SELECT count(*), sum(l.input_tokens + l.output_tokens), sum(l.cost_nano)
            FROM ledger l JOIN tenants t ON t.number = l.tenant
            WHERE l.settled_at IS NULL AND l.admitted_at >= :since AND l.admitted_at < :begin AND {who.format(row="l")}
        ) parts
    """)


_SPENT: Final = {level: _sql(who) for level, who in _WHO.items()}


def spent(level: Level, who: dict[str, str], since: float, before: float) -> Work[Spent]:
    """Sums over the requests that were admitted from `since`, the beginning of an hour, up to `before`. `who` has
    what the level needs of organization, project, key_id and end_user. Repeated answers cost nothing and do not count. Those that are
    not settled count as estimated at their admission: their process may be gone, and nobody else counts them."""
    present = int(before // HOUR_S)
    rows = yield _SPENT[level](
        first=int(since // HOUR_S),
        present=present,
        since=float(since),
        begin=float(max(since, present * HOUR_S)),
        before=float(before),
        **{name: kept_text(value) for name, value in who.items()},
    )
    requests, tokens, cost = rows[0]
    return int(requests), int(tokens), int(cost)
