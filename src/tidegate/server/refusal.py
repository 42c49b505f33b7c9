"""The usage entry of a request that no exchange answers for."""

from tidegate.storage.entry import UsageEntry, unused
from tidegate.wire.errors import TidegateError

__all__ = ["refused"]


def refused(
    error: TidegateError, status: int, *, request_id: bytes, endpoint: str, client: str, ending: str = "refused"
) -> UsageEntry:
    """The entry of a request that ended before anything was asked of a provider."""
    return unused(
        request_id=request_id.decode("latin-1"),
        endpoint=endpoint,
        status=status,
        ending=ending,
        error=error.code or "",
        client=client,
    )
