"""The sums of the ledger by the hour, and what the rows of one transaction add to them."""

from collections.abc import Mapping
from operator import attrgetter
from string import ascii_lowercase
from typing import Any, Final

from tidegate.storage.records import Tenant, Usage
from tidegate.storage.statement import Sql, Work, fewest

__all__ = ["COUNTS", "HOUR_S", "KEPT", "SUMS", "Place", "Sums", "kept_text"]

HOUR_S: Final = 3600

TEXT_BYTES: Final = 640
"""Most bytes of a text from outside. The sums are found by three of them, and a row of an index has room for 2704."""

KEPT: Final = ("key_id", "end_user", "model", "deployment", "endpoint", "ending")
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
SUMS: Final = (*COUNTS, "duration_ms", "cost_nano")
_USED: Final = COUNTS[COUNTS.index("input_tokens") :]
"""Those of them that belong to where it was used, like the cost; all else is the request's, and stands where it ended."""
_COLUMNS: Final = ("hour", "tenant", *KEPT, "key", "provider", *SUMS)


def _add(rows: int) -> Sql:
    """Add to the sums of so many groups."""
    groups = [", ".join([f":{name}_{letter}" for name in _COLUMNS]) for letter in ascii_lowercase[:rows]]
    return Sql(f"""
        INSERT INTO usage_hours ({", ".join(_COLUMNS)}) VALUES ({"), (".join(groups)})
        ON CONFLICT (hour, tenant, {", ".join(KEPT)})
        DO UPDATE SET key = excluded.key, {", ".join(f"{name} = usage_hours.{name} + excluded.{name}" for name in SUMS)}
    """)


_ADD: Final = (_add(16), _add(4), _add(1))
_sums_of = attrgetter(*SUMS)

Group = tuple[int, int, str, str, str, str, str, str]
"""Of which sums a row is a part: the hour, the tenant, and `KEPT`."""


def kept_text(text: str) -> str:
    """Text from outside as it is kept. PostgreSQL takes no U+0000, and no long text in the key of a table: nobody may be
    spared an entry by either."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if len(text) <= TEXT_BYTES // 4 else text.encode()[:TEXT_BYTES].decode(errors="ignore")


class Place:
    """What is added to the sums of one group."""

    __slots__ = ("deployment", "end_user", "group", "has_moved", "key", "model", "provider", "tenant", *SUMS)

    def __init__(self, group: Group, key: str, provider: str) -> None:
        self.group = group
        _, self.tenant, _, self.end_user, self.model, self.deployment, _, _ = group
        self.key = key
        self.provider = provider
        self.requests = self.attempts = self.estimated = self.unpriced = 0
        self.input_tokens = self.cached_tokens = self.cache_write_tokens = 0
        self.output_tokens = self.reasoning_tokens = 0
        self.audio_seconds = 0.0
        self.characters = 0
        self.duration_ms = 0.0
        self.cost_nano = 0
        self.has_moved = False
        """Something was counted elsewhere instead, or here."""

    def add(self, usage: Usage) -> None:
        """Count a settled row."""
        entry = usage.entry
        self.requests += 1
        self.attempts += entry.attempts
        self.estimated += entry.estimated
        self.input_tokens += entry.input_tokens
        self.cached_tokens += entry.cached_tokens
        self.cache_write_tokens += entry.cache_write_tokens
        self.output_tokens += entry.output_tokens
        self.reasoning_tokens += entry.reasoning_tokens
        self.audio_seconds += entry.audio_seconds
        self.characters += entry.characters
        self.duration_ms += entry.duration_ms
        if usage.cost_nano is None:
            self.unpriced += 1
        else:
            self.cost_nano += usage.cost_nano

    def move(self, name: str, count: float, other: "Place") -> None:
        """Count in `other` what is counted here."""
        self.has_moved = other.has_moved = True
        setattr(self, name, getattr(self, name) - count)
        setattr(other, name, getattr(other, name) + count)


class Sums:
    """What the rows of one transaction add to the sums."""

    def __init__(self, numbers: Mapping[Tenant, int]) -> None:
        """`numbers` are those of the tenants."""
        self._numbers = numbers
        self._found: dict[tuple[Any, ...], Place] = {}
        """By the dimensions as the rows have them: most rows have the same as some other."""
        self._places: dict[Group, Place] = {}

    def of(self, usage: Usage) -> Place:
        """Where a row is counted."""
        entry = usage.entry
        dimensions = (
            usage.admitted_at // HOUR_S,
            usage.tenant,
            usage.key_id,
            entry.end_user,
            entry.model,
            entry.deployment,
            entry.endpoint,
            entry.ending,
        )
        place = self._found.get(dimensions)
        if place is None:
            hour, tenant, key_id, end_user, model, deployment, endpoint, ending = dimensions
            kept = kept_text(end_user), kept_text(model), kept_text(deployment)
            group = (int(hour), self._numbers[tenant], key_id, *kept, endpoint, ending)
            place = self._found[dimensions] = self._at(group, entry.key, usage.provider)
        return place

    def add(self, place: Place, usage: Usage) -> None:
        """Count a row that is settled, where it belongs."""
        place.add(usage)
        if usage.parts:
            self.share(place, usage)

    def share(self, place: Place, usage: Usage) -> None:
        """Move what was used at other deployments than the last one, whose place is the row's, to theirs."""
        hour, tenant, key_id, end_user, model, last, endpoint, ending = place.group
        for part in usage.parts:
            deployment = kept_text(part.deployment)
            if deployment != last:
                group = (hour, tenant, key_id, end_user, model, deployment, endpoint, ending)
                theirs = self._at(group, usage.entry.key, part.provider)
                for name in _USED:
                    place.move(name, getattr(part, name), theirs)
                if usage.cost_nano is not None:
                    place.move("cost_nano", part.cost_nano or 0, theirs)

    def write(self) -> Work[None]:
        """Add them, in one order, so that two processes never wait for each other."""
        places = [place for _, place in sorted(self._places.items()) if place.requests or place.has_moved]
        values: list[Any] = []
        for place in places:
            values += (*place.group, place.key, place.provider, *_sums_of(place))
        yield from fewest(_ADD, values)

    def _at(self, group: Group, key: str, provider: str) -> Place:
        place = self._places.get(group)
        if place is None:
            place = self._places[group] = Place(group, key, provider)
        return place
