"""What a client asks for in the headers of its request."""

import re
from collections.abc import Iterable, Mapping

from tidegate.access.keys import Principal
from tidegate.config.units import Duration
from tidegate.dialects.profile import PROFILES, Profile
from tidegate.gateway.snapshot import Snapshot
from tidegate.wire.errors import InvalidRequest

__all__ = ["profile_for", "profile_named", "relayed", "resume_grace", "total_clock"]

RELAYED_FIELD_BYTES = 4096
"""Longest header of a client that is passed on."""

GRACE_LIMIT_S = 3600.0
"""Longest time that a stream goes on without its client."""

_FIT_FOR_A_HEADER = re.compile(rb"[\x20-\x7e]*")


def profile_named(given: bytes) -> Profile:
    """The profile that `tidegate-profile` names. Raises InvalidRequest."""
    chosen = PROFILES.get(given.decode("latin-1").strip().lower())
    if chosen is None:
        raise InvalidRequest(
            f"The header 'tidegate-profile' must be one of {', '.join(PROFILES)}.", code="invalid_profile"
        )
    return chosen


def profile_for(given: str | None, principal: Principal, snapshot: Snapshot) -> Profile:
    """What a caller who sends `given` in `tidegate-profile`, if anything, wants answers to look like. Raises
    InvalidRequest."""
    if given is not None:
        return profile_named(given.encode("latin-1"))
    return PROFILES[principal.profile] if principal.profile else snapshot.profile


def total_clock(given: bytes) -> float | None:
    """The seconds of `tidegate-timeout`, which lowers the total clock and never raises it. Raises InvalidRequest."""
    try:
        return Duration.parse(given.decode("latin-1")).seconds()
    except ValueError as error:
        raise InvalidRequest(f"The header 'tidegate-timeout' must be {error}.", code="invalid_timeout") from None


def resume_grace(given: bytes) -> float:
    """The seconds of `tidegate-resume-grace`. Raises InvalidRequest."""
    try:
        seconds = Duration.parse(given.decode("latin-1")).seconds()
    except ValueError as error:
        raise InvalidRequest(f"The header 'tidegate-resume-grace' must be {error}.", code="invalid_grace") from None
    if seconds is None or seconds > GRACE_LIMIT_S:
        raise InvalidRequest(
            f"The header 'tidegate-resume-grace' must be at most {GRACE_LIMIT_S:g}s.", code="invalid_grace"
        )
    return seconds


def relayed(headers: Mapping[bytes, bytes], names: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Those of the client's headers that a provider of the same dialect gets. Raises InvalidRequest for one that cannot
    go on as it is."""
    found = []
    for name in names:
        value = headers.get(name)
        if value is None:
            continue
        if len(value) > RELAYED_FIELD_BYTES or not _FIT_FOR_A_HEADER.fullmatch(value):
            raise InvalidRequest(
                f"The header '{name.decode('ascii')}' must be printable ASCII of at most {RELAYED_FIELD_BYTES} "
                "characters.",
                code="invalid_header",
            )
        found.append((name, value))
    return found
