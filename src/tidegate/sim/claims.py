"""What the sim has said in its answers that was used: its side of the bill, read from the bytes that it has written."""

import re
from typing import Any

import msgspec

__all__ = ["Claim", "claim_in"]

_DATA = re.compile(rb"^data: ?(\{.*\})\r?$", re.MULTILINE)
_BODY = re.compile(rb"\r\n\r\n(?:[0-9a-f]+\r\n)?(\{.*\})", re.DOTALL)


class Claim(msgspec.Struct, frozen=True):
    """Figures of one answer, or sums of several; `input_tokens` with those of the cache."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    seconds: float = 0.0

    def plus(self, other: "Claim") -> "Claim":
        """Both together."""
        return Claim(*(getattr(self, name) + getattr(other, name) for name in Claim.__struct_fields__))


def claim_in(written: bytes) -> Claim | None:
    """The last figures for a whole answer that a response, head and body, holds; None where it says none."""
    found: Claim | None = None
    events = _DATA.findall(written)
    for text in events or _BODY.findall(written):
        try:
            said = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # a fault's
            continue
        if said.get("type") != "message_start":  # that one counts only the prompt
            found = _read(said) or found
    return found


def _read(said: dict[str, Any]) -> Claim | None:
    google = said.get("usageMetadata")
    if google:
        thought = google.get("thoughtsTokenCount", 0)
        return Claim(
            1,
            google.get("promptTokenCount", 0),
            google.get("candidatesTokenCount", 0) + thought,
            google.get("cachedContentTokenCount", 0),
            reasoning_tokens=thought,
        )
    usage = said.get("usage") or (said.get("response") or {}).get("usage")
    if not usage:
        return None
    if "seconds" in usage:
        return Claim(1, seconds=usage["seconds"])
    given = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    taken = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    read, written = usage.get("cache_read_input_tokens", 0), usage.get("cache_creation_input_tokens", 0)
    return Claim(
        1,
        usage.get("prompt_tokens", usage.get("input_tokens", 0)) + read + written,
        usage.get("completion_tokens", usage.get("output_tokens", 0)),
        given.get("cached_tokens", 0) + read,
        given.get("cache_write_tokens", 0) + written,
        taken.get("reasoning_tokens", taken.get("thinking_tokens", 0)),
    )
