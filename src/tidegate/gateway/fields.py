"""Our own headers of an answer."""

from collections.abc import Sequence

from tidegate.dialects.profile import PROFILES, Profile

__all__ = ["answer_fields", "header_value"]

DROPPED_NAMES_LIMIT = 64
DROPPED_NAME_LIMIT = 100
"""Most names in `tidegate-dropped`, and most characters of one. What is longer is cut, and said to be."""

_PROFILE_NAMES = {name: name.encode("ascii") for name in PROFILES}


def answer_fields(
    path: bytes, attempts: int, profile: Profile, processing_s: float, limits: bytes, dropped: tuple[str, ...]
) -> bytes:
    """The header lines that every answer has which a provider gave. `path` are those that name the deployment, up to the
    number of attempts; `limits` are those of the caller, and the provider's own."""
    return b"%b%d\r\ntidegate-profile: %b\r\nopenai-processing-ms: %d\r\n%b%b" % (
        path,
        attempts,
        _PROFILE_NAMES[profile.name],
        processing_s * 1000,
        limits,
        _dropped_field(dropped) if dropped else b"",
    )


def _dropped_field(names: Sequence[str]) -> bytes:
    """The header that names what the provider was not told. Names may be the client's own, and hold anything."""
    shown = [_shown(name) for name in names[:DROPPED_NAMES_LIMIT]]
    if len(names) > DROPPED_NAMES_LIMIT:
        shown.append(b"... and %d more" % (len(names) - DROPPED_NAMES_LIMIT))
    return b"tidegate-dropped: %b\r\n" % b", ".join(shown)


def _shown(name: str) -> bytes:
    """A comma would make two names of one."""
    value = header_value(name[: DROPPED_NAME_LIMIT + 1]).replace(b",", b"%2C")
    if len(value) <= DROPPED_NAME_LIMIT:
        return value
    cut = value[: DROPPED_NAME_LIMIT - 3]
    escape = cut.rfind(b"%", -2)
    return (cut if escape < 0 else cut[:escape]) + b"..."


def header_value(text: str) -> bytes:
    """`text` with everything outside printable ASCII percent-encoded: names come from clients (RFC 9110 §5.5)."""
    if text.isascii() and text.isprintable():
        return text.encode("ascii")
    return b"".join(
        bytes((byte,)) if 0x20 <= byte < 0x7F else b"%%%02X" % byte for byte in text.encode("utf-8", "replace")
    )
