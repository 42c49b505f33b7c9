"""At which service tier an answer was made, where its provider says so."""

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.events import Event, Served

__all__ = ["served"]

_WORDS = {"auto": "", "standard": "default"}
"""Words that say nothing, or that OpenAI has another one for."""


class _Object(msgspec.Struct, gc=False):
    service_tier: str | None = None


_object = jsonio.decoder(_Object)


def served(value: bytes | msgspec.Raw) -> list[Event]:
    """The event of an object with the member `service_tier`; none where it says nothing."""
    try:
        given = _object.decode(value).service_tier or ""
    except jsonio.UNREADABLE:
        return []
    tier = _WORDS.get(given, given)
    return [Served(tier)] if tier else []
