"""Transcripts in one body: what they say, and what the provider counted."""

import msgspec

from tidegate.dialects.failure import from_error_object
from tidegate.dialects.usage import read_usage_object
from tidegate.wire import jsonio
from tidegate.wire.errors import WireError
from tidegate.wire.events import Usage

__all__ = ["Segment", "Transcript", "read_transcript", "read_usage"]


class Segment(msgspec.Struct):
    """Of a transcript that tells speakers apart; one of `verbose_json` has a number for its id, and no speaker."""

    id: str | int | None = None
    start: float | None = None
    end: float | None = None
    text: str | None = None
    speaker: str | None = None


class Transcript(msgspec.Struct):
    """A whole answer in JSON, whichever of the three forms it has."""

    text: str | None = None
    segments: list[Segment] | None = None
    duration: float | str | None = None
    """`vLLM` writes it as text."""
    logprobs: msgspec.Raw = jsonio.EMPTY
    languages: msgspec.Raw = jsonio.EMPTY
    usage: msgspec.Raw = jsonio.EMPTY
    error: msgspec.Raw = jsonio.EMPTY

    def counted(self) -> Usage | None:
        """What the provider says that was used; the length of the audio where it tells no more."""
        found = read_usage(self.usage)
        if found is None:
            seconds = _seconds(self.duration)
            found = Usage(seconds=seconds) if seconds else None
        return found


class _Duration(msgspec.Struct):
    type: str | None = None
    seconds: float | None = None


_transcript = jsonio.decoder(Transcript)
_duration = jsonio.decoder(_Duration)


def read_transcript(body: bytes, provider: str) -> Transcript:
    """Raises WireError for what is no transcript, and TidegateError for an error that came with status 200."""
    try:
        jsonio.check_utf8(body)
        found = jsonio.decode(body, _transcript)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None
    if not jsonio.is_blank(found.error):
        raise from_error_object(found.error, provider)
    if found.text is None:
        raise WireError("the provider's answer has no 'text'")
    return found


def read_usage(value: msgspec.Raw) -> Usage | None:
    """A `usage` object in tokens (of either API's names) or in seconds; None when there is none to speak of."""
    if jsonio.is_blank(value):
        return None
    try:
        found = jsonio.decode(value, _duration)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return read_usage_object(value)
    if found.type == "duration" or found.seconds is not None:
        seconds = _seconds(found.seconds)
        return Usage(seconds=seconds) if seconds else None
    return read_usage_object(value)


def _seconds(value: float | str | None) -> float:
    try:
        seconds = float(value or 0)
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < 1e9 else 0.0
