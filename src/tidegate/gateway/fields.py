"""Our own headers of an answer."""

from collections.abc import Iterable

from tidegate.dialects.profile import PROFILES, Profile

__all__ = ["answer_fields"]

DROPPED_NAMES_LIMIT = 64
DROPPED_NAME_LIMIT = 100
"""Most names in `tidegate-dropped`, and most characters of one."""

_PROFILE_NAMES = {name: name.encode("ascii") for name in PROFILES}


def answer_fields(
    path: bytes, attempts: int, profile: Profile, processing_s: float, limits: bytes, dropped: tuple[str, ...]
) -> bytes:
    """The header lines that every answer has which a provider gave. `path` are those that name the deployment, up to the
    number of attempts; `limits` are the provider's own."""
    return b"%b%d\r\ntidegate-profile: %b\r\nopenai-processing-ms: %d\r\n%b%b" % (
        path,
        attempts,
        _PROFILE_NAMES[profile.name],
        processing_s * 1000,
        limits,
        _dropped_field(dropped) if dropped else b"",
    )


def _dropped_field(names: Iterable[str]) -> bytes:
    """The header that names what the provider was not told. Names may be the client's own: only what fits a header."""
    shown = [name for name in names if name.isascii() and name.isprintable() and len(name) <= DROPPED_NAME_LIMIT]
    return b"tidegate-dropped: %b\r\n" % ", ".join(shown[:DROPPED_NAMES_LIMIT]).encode("ascii")
