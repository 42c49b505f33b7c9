"""The usage entry: one for each request, whatever happened. It is a line of the log, and a row of the ledger."""

from typing import Any

import msgspec

__all__ = ["FailedAttempt", "UsageEntry", "unused"]


class FailedAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt of a request that brought no answer."""

    deployment: str
    error: str
    """Code of the error."""
    reason: str
    """In a few words of ours."""

    def __str__(self) -> str:
        return f"{self.deployment}: {self.error} ({self.reason})"


def _figure(factory: type[int]) -> Any:
    """A member that the log line always has: only those are left out that are the default itself."""
    return msgspec.field(default_factory=factory)


class UsageEntry(msgspec.Struct, omit_defaults=True, gc=False):
    """What a request was, who made it, how it ended, what it used and what that cost. Written once, when the request is
    settled. In the ledger it stands from the admission on: `open` while the request runs, `interrupted` when that never ended.

    Members are left out of the log line when they say nothing; figures are always in it.
    """

    request_id: str
    endpoint: str
    status: int
    """HTTP status that the client saw; 499 when it left before one was sent, and 0 where nobody knows."""
    ending: str
    """completed, incomplete, failed, refused, cancelled, repeated, client_gone, interrupted or open."""
    duration_ms: float
    first_event_ms: float | None = None
    """Until the first event for the client; for an answer in one body, until that."""
    stream: bool = _figure(bool)
    key: str = ""
    organization: str = "default"
    project: str = ""
    end_user: str = ""
    model: str = ""
    """The name that the client sent."""
    deployment: str = ""
    attempts: int = _figure(int)
    input_tokens: int = _figure(int)
    cached_tokens: int = _figure(int)
    cache_write_tokens: int = _figure(int)
    output_tokens: int = _figure(int)
    reasoning_tokens: int = _figure(int)
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    audio_seconds: float = 0.0
    """Length of the audio, where the provider counts that instead of tokens."""
    characters: int = 0
    """Of the text to be spoken."""
    estimated: bool = _figure(bool)
    cost: float | None = None
    """In US dollars; none where a price is unknown."""
    error: str = ""
    """Code of the error that the client was told, or that ended the answer."""
    client: str = ""
    failed: tuple[FailedAttempt, ...] = ()
    """The attempts that failed, in their order; in the log line only."""


def unused(
    *, request_id: str = "", endpoint: str = "", status: int = 0, ending: str = "", error: str = "", client: str = ""
) -> UsageEntry:
    """The entry of a request that used nothing."""
    return UsageEntry(
        request_id=request_id,
        endpoint=endpoint,
        status=status,
        ending=ending,
        duration_ms=0.0,
        error=error,
        client=client,
    )
