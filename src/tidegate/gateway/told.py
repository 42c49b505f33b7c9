"""What a provider says in the headers of its answer, as far as it concerns the client."""

import email.utils
import math
import re
import time

from tidegate.upstream.head import field, fields_of, last_of

__all__ = ["content_type", "rate_limits", "wait_told"]

RETRY_AFTER_LIMIT_S = 3600.0

RATE_LIMIT_FIELDS_BYTES = 4096
"""Most bytes of a provider's rate-limit headers that are passed on."""

_CONTENT_TYPE = field(rb"content-type")
_RATE_LIMIT = re.compile(rb"\nx-(ratelimit-[^:\r\n]*):[ \t]*([^\r\n]*)", re.IGNORECASE)


def content_type(head: bytes) -> bytes:
    """As the provider gave it; empty where it gave none."""
    return last_of(head, _CONTENT_TYPE)


def rate_limits(head: bytes) -> bytes:
    """The header lines with which the client gets the provider's rate limits, as many as there is room for."""
    found = _RATE_LIMIT.findall(head)
    if not found:
        return b""
    lines = b"".join([b"x-upstream-%b: %b\r\n" % (name.lower(), value) for name, value in found])
    if len(lines) <= RATE_LIMIT_FIELDS_BYTES:
        return lines
    return lines[: lines.rfind(b"\n", 0, RATE_LIMIT_FIELDS_BYTES) + 1]


def wait_told(head: bytes) -> float | None:
    """Seconds after which the provider wants to be asked again. Milliseconds, where it gives them, are exact."""
    found: float | None = None
    for name, value in fields_of(head):
        if name == b"retry-after" and found is None:
            found = _retry_after(value)
        elif name == b"retry-after-ms":
            try:
                exact = _capped(float(value) / 1000)
            except ValueError:
                continue
            if exact is not None:
                found = exact
    return found


def _retry_after(value: bytes) -> float | None:
    """Seconds, or a date (RFC 9110 §10.2.3); None for what is neither. Capped at an hour, never negative."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value.decode("latin-1")).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return None
    return _capped(seconds)


def _capped(seconds: float) -> float | None:
    return None if math.isnan(seconds) else min(max(0.0, seconds), RETRY_AFTER_LIMIT_S)
