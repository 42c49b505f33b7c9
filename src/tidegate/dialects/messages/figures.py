"""Usage in the terms of Anthropic's API, whose `input_tokens` leave out what was read from the cache or written to it."""

from typing import Any

import msgspec

from tidegate.dialects.usage import MOST_TOKENS, credible
from tidegate.wire import jsonio
from tidegate.wire.events import Usage

__all__ = ["Figures", "as_messages"]

_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class _Details(msgspec.Struct, gc=False):
    thinking_tokens: float | None = None


class _Written(msgspec.Struct, gc=False):
    ephemeral_1h_input_tokens: float | None = None


class _UsageObject(msgspec.Struct, gc=False):
    input_tokens: float | None = None
    output_tokens: float | None = None
    cache_read_input_tokens: float | None = None
    cache_creation_input_tokens: float | None = None
    output_tokens_details: _Details | None = None
    cache_creation: _Written | None = None


_usage_object = jsonio.decoder(_UsageObject)


class Figures:
    """What a provider has said so far of one answer. Each `usage` object is cumulative: what it says stands, what it
    leaves out, or what can be no count, stays (protocol §5.3)."""

    __slots__ = ("_counts", "_hour", "_thinking")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._thinking = 0
        self._hour = 0

    @property
    def found(self) -> bool:
        """Whether there are figures to speak of: no prompt has no tokens, so that nothing but zeros is no count."""
        return any(self._counts.values())

    @property
    def _count_input(self) -> bool:
        return any(count for name, count in self._counts.items() if name != "output_tokens")

    def complete(self, *, counted: bool) -> bool:
        """Whether nothing is left to estimate. `counted`: the output was, to its end."""
        return counted and self._count_input

    def read(self, value: msgspec.Raw) -> bool:
        """Takes in a `usage` object; true when it counts the output. A member of a wrong type counts as absent."""
        if jsonio.is_null(value):
            return False
        try:
            given = jsonio.decode(value, _usage_object)
        except jsonio.InvalidJSON:
            return False
        except jsonio.SchemaMismatch:
            given = _loosely(value)
        for name in _COUNTS:
            count = getattr(given, name)
            if count is not None and credible(count):
                self._counts[name] = int(count)
        if given.output_tokens_details is not None and given.output_tokens_details.thinking_tokens is not None:
            self._thinking = int(min(max(given.output_tokens_details.thinking_tokens, 0), MOST_TOKENS))
        if given.cache_creation is not None and given.cache_creation.ephemeral_1h_input_tokens is not None:
            self._hour = int(min(max(given.cache_creation.ephemeral_1h_input_tokens, 0), MOST_TOKENS))
        return given.output_tokens is not None and credible(given.output_tokens)

    def completed(self, guess: Usage, *, counted: bool) -> Usage:
        """The usage, with what the provider has not counted from `guess`. What it said of the output before it was
        `counted` is only its beginning."""
        if not self.found:
            return guess
        known = self.usage()
        return msgspec.structs.replace(
            known,
            input_tokens=known.input_tokens if self._count_input else guess.input_tokens,
            output_tokens=known.output_tokens if counted else guess.output_tokens,
            estimated=True,
        )

    def usage(self) -> Usage:
        counts = self._counts
        read = counts.get("cache_read_input_tokens", 0)
        written = counts.get("cache_creation_input_tokens", 0)
        return Usage(
            input_tokens=counts.get("input_tokens", 0) + read + written,
            output_tokens=counts.get("output_tokens", 0),
            cached_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=self._thinking,
            cache_write_1h_tokens=min(self._hour, written),
        )


def as_messages(usage: Usage) -> jsonio.Raw:
    """The `usage` object of a message."""
    return jsonio.raw(
        {
            "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
            "cache_creation_input_tokens": usage.cache_write_tokens,
            "cache_read_input_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        }
    )


def _loosely(value: msgspec.Raw) -> _UsageObject:
    found = _UsageObject()
    try:
        content = jsonio.anything(value)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return found
    if not isinstance(content, dict):
        return found
    for name in _COUNTS:
        setattr(found, name, _number(content.get(name)))
    details = content.get("output_tokens_details")
    if isinstance(details, dict):
        found.output_tokens_details = _Details(_number(details.get("thinking_tokens")))
    written = content.get("cache_creation")
    if isinstance(written, dict):
        found.cache_creation = _Written(_number(written.get("ephemeral_1h_input_tokens")))
    return found


def _number(value: Any) -> float | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST_TOKENS
    return float(value) if fits else None
