"""The usage entry of a request that no exchange answers for."""

from tidegate.storage.entry import UsageEntry
from tidegate.wire.errors import TidegateError

__all__ = ["refused"]


def refused(
    error: TidegateError, status: int, *, request_id: bytes, endpoint: str, client: str, ending: str = "refused"
) -> UsageEntry:
    """The entry of a request that ended before anything was asked of a provider."""
    return UsageEntry(
        request_id=request_id.decode("latin-1"),
        endpoint=endpoint,
        status=status,
        ending=ending,
        duration_ms=0.0,
        stream=False,
        attempts=0,
        input_tokens=0,
        cached_tokens=0,
        cache_write_tokens=0,
        output_tokens=0,
        reasoning_tokens=0,
        estimated=False,
        error=error.code or "",
        client=client,
    )
