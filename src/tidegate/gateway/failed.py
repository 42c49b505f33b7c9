"""What the request line says of an attempt that failed, and of a deployment that was passed over."""

import re
from typing import Final

from tidegate.gateway.snapshot import Path
from tidegate.storage.entry import FailedAttempt
from tidegate.wire import errors

__all__ = ["failed_attempt", "passed_over"]

REASON_LIMIT: Final = 160
"""Most characters of a reason."""

_QUOTED = re.compile(r"'[^']*'")
_DETAIL = re.compile(r"(?:\.|:)\s|[.:]$")
"""What comes behind it may be words of the provider."""


def failed_attempt(path: Path, error: errors.TidegateError, status: int) -> FailedAttempt:
    """`status` is that of the provider's answer, 0 where there was none. The reason holds no text of the provider's, which may
    repeat what it was asked and what it has said (docs, metrics-and-logs)."""
    return FailedAttempt(
        deployment=path.name,
        error=error.code or error.openai_type,
        reason=_reason(path.destination.provider, error, status)[:REASON_LIMIT],
    )


def passed_over(path: Path, error: errors.TidegateError) -> FailedAttempt:
    """A deployment that was not called, because of `error`: it has no room, rests, or cannot do what is asked."""
    return FailedAttempt(deployment=path.name, error=error.code or error.openai_type, reason="not asked")


def _reason(provider: str, error: errors.TidegateError, status: int) -> str:
    if status >= 400:
        return f"status {status}"
    said = error.message.removeprefix(f"Provider '{provider}'").lstrip(": ").removesuffix(".")
    match error:
        case errors.UpstreamUnreachable():
            return said
        case errors.UpstreamTimeout() if error.clock != "provider":
            return said
        case errors.UpstreamBroken():
            return _DETAIL.split(_QUOTED.sub("…", said), maxsplit=1)[0]
        case _:
            return f"an error within the answer that means status {error.http_status}"
