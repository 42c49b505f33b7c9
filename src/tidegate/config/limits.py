"""What a key, project, organization or end user may use: the same shape in the file, the database and the admin API."""

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["NO_LIMITS", "Limits", "Windows"]


class Windows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Most of something within the running minute, day and month (UTC); unset sets no limit."""

    minute: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="Most in a minute.")] = None
    day: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="Most in a day (UTC).")] = None
    month: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="Most in a calendar month (UTC).")] = None

    def __post_init__(self) -> None:
        """Whole numbers are shown as such: 600 requests are no 600.0."""
        for name in ("minute", "day", "month"):
            given = getattr(self, name)
            if isinstance(given, float) and given.is_integer():
                msgspec.structs.force_setattr(self, name, int(given))


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one key, project, organization or end user. A request is held against those of all it belongs to."""

    requests: Annotated[Windows, Meta(description="Requests.")] = Windows()
    tokens: Annotated[Windows, Meta(description="Input and output tokens together.")] = Windows()
    cost: Annotated[Windows, Meta(description="Cost in US dollars: the budget.")] = Windows()
    streams: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="Requests under way at once.")] = None


NO_LIMITS = Limits()
