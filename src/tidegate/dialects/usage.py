"""What providers say about usage, in the names of either API → the neutral `Usage`."""

from typing import Any

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.events import Usage

__all__ = ["MOST_TOKENS", "UsageObject", "credible", "read_usage", "read_usage_object", "with_thoughts"]

MOST_TOKENS = 10**9
"""More tokens than this are no count of one answer but noise: a hundred times what any model takes."""


class Details(msgspec.Struct, gc=False):
    cached_tokens: float | None = None
    cache_write_tokens: float | None = None
    reasoning_tokens: float | None = None
    audio_tokens: float | None = None
    image_tokens: float | None = None


class UsageObject(msgspec.Struct, gc=False):
    """A `usage` object of Responses, chat or completions: some engines use the other API's names."""

    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    total_tokens: float | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None
    input_token_details: Details | None = None
    """What transcriptions call them."""
    prompt_cache_hit_tokens: float | None = None
    """Where some providers count cached tokens."""


_exact = jsonio.decoder(UsageObject)
_NO_DETAILS = Details()


def read_usage(found: UsageObject | None) -> Usage | None:
    """The figures of a `usage` object; None when there are none to speak of, or none that can be believed: then the
    gateway counts for itself, instead of charging nothing or a fortune."""
    if found is None:
        return None
    given = found.prompt_tokens if found.prompt_tokens is not None else found.input_tokens
    taken = found.completion_tokens if found.completion_tokens is not None else found.output_tokens
    if not (given or taken) or not (credible(given) and credible(taken)):  # no prompt has no tokens
        return None
    given_details = (
        found.prompt_tokens_details or found.input_tokens_details or found.input_token_details or _NO_DETAILS
    )
    taken_details = found.completion_tokens_details or found.output_tokens_details or _NO_DETAILS
    cached = given_details.cached_tokens
    thoughts = _count(taken_details.reasoning_tokens)
    return Usage(
        input_tokens=_count(given),
        output_tokens=with_thoughts(_count(given), _count(taken), thoughts, found.total_tokens),
        cached_tokens=_count(cached if cached is not None else found.prompt_cache_hit_tokens),
        cache_write_tokens=_count(given_details.cache_write_tokens),
        reasoning_tokens=thoughts,
        input_audio_tokens=_count(given_details.audio_tokens),
        input_image_tokens=_count(given_details.image_tokens),
        output_audio_tokens=_count(taken_details.audio_tokens),
        output_image_tokens=_count(taken_details.image_tokens),
    )


def with_thoughts(given: int, taken: int, thoughts: int, total: float | None) -> int:
    """The tokens that were put out, also where a provider counts those of thoughts beside them, as xAI does: then the total
    has them once more."""
    return taken + thoughts if thoughts and total == given + taken + thoughts else taken


def credible(value: float | None) -> bool:
    """Whether a provider that says this may have counted; it may have said nothing."""
    return value is None or 0 <= value <= MOST_TOKENS


def read_usage_object(value: bytes | msgspec.Raw) -> Usage | None:
    """The same from JSON. A member of a wrong type counts as absent: it must not cost the answer."""
    try:
        return read_usage(jsonio.decode(value, _exact))
    except jsonio.InvalidJSON:
        return None
    except jsonio.SchemaMismatch:
        return read_usage(_loosely(value))


def _loosely(value: bytes | msgspec.Raw) -> UsageObject | None:
    try:
        content = jsonio.anything(value)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None
    if not isinstance(content, dict):
        return None
    found = UsageObject()
    for name in UsageObject.__struct_fields__:
        inner = content.get(name)
        if not name.endswith("_details"):
            setattr(found, name, _number(inner))
        elif isinstance(inner, dict):
            setattr(found, name, Details(**{one: _number(inner.get(one)) for one in Details.__struct_fields__}))
    return found


def _number(value: Any) -> float | None:
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_TOKENS
        else None
    )


def _count(value: float | None) -> int:
    return 0 if value is None else int(min(max(value, 0), MOST_TOKENS))
