"""The usage entry: one for each request, whatever happened."""

import msgspec

__all__ = ["UsageEntry"]


class UsageEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a request was, who made it, how it ended and what it used. Written once, when the request is settled.

    Members with a default are left out of the log line when they say nothing; figures are always in it.
    """

    request_id: str
    endpoint: str
    status: int
    """HTTP status that the client saw; 499 when it left before one was sent."""
    ending: str
    """completed, incomplete, failed, refused, cancelled, repeated or client_gone."""
    duration_ms: float
    first_event_ms: float | None = None
    """Until the first event for the client; for an answer in one body, until that."""
    stream: bool
    key: str = ""
    project: str = ""
    end_user: str = ""
    model: str = ""
    """The name that the client sent."""
    deployment: str = ""
    attempts: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    audio_seconds: float = 0.0
    """Length of the audio, where the provider counts that instead of tokens."""
    estimated: bool
    error: str = ""
    """Code of the error that the client was told, or that ended the answer."""
    client: str = ""
