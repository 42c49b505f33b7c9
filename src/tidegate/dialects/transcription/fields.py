"""The fields of the two forms: their names, types and ranges (protocol §3.1), read from text."""

import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from tidegate.dialects.validation import convert, invalid
from tidegate.wire import jsonio

__all__ = ["SPOKEN_FORMATS", "Fields", "TranscriptionFields", "TranslationFields", "base_name", "read_fields"]

SPOKEN_FORMATS = frozenset({"json", "text", "diarized_json"})
"""Formats of which a stream is: it has the text and who spoke it, and no room for times."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_BRACKETS = re.compile(r"\[\d*\]$")

Temperature = Annotated[float, Meta(ge=0, le=1)]


class TranslationFields(msgspec.Struct, kw_only=True):
    """The fields of a translation, besides `file`."""

    model: str | None = None
    prompt: str | None = None
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] | None = None
    temperature: Temperature | None = None
    stream: bool | None = None


class TranscriptionFields(msgspec.Struct, kw_only=True):
    """The fields of a transcription, besides `file`."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] | None = None
    temperature: Temperature | None = None
    stream: bool | None = None
    timestamp_granularities: list[Literal["word", "segment"]] = []
    include: list[str] = []
    chunking_strategy: str | None = None


Fields = TranscriptionFields | TranslationFields
F = TypeVar("F", TranscriptionFields, TranslationFields)


def read_fields(given: Iterable[tuple[str, str]], into: type[F]) -> F:
    """Validate. Names that are not known say nothing here. Raises InvalidRequest, with `param` as the client wrote it."""
    known = {field.name: field for field in msgspec.structs.fields(into)}
    values: dict[str, Any] = {}
    for name, value in given:
        base = base_name(name)
        if base not in known:
            continue
        if known[base].default_factory is list:
            values.setdefault(base, []).append(value)
        elif name != base:
            raise invalid(name, f"'{base}' has one value, and no brackets.")
        elif base in values:
            raise invalid(base, "there may be only one.")
        else:
            values[base] = _number(value) if base == "temperature" else value
    fields = convert(values, into)
    if isinstance(fields, TranscriptionFields):
        _check(fields)
    elif fields.stream:
        raise invalid("stream", "translations do not stream; leave it out.")
    return fields


def base_name(name: str) -> str:
    """`include[]` and `include[0]` are other spellings of `include`."""
    return _BRACKETS.sub("", name)


def _check(fields: TranscriptionFields) -> None:
    form = fields.response_format or "json"
    if fields.timestamp_granularities and form != "verbose_json":
        raise invalid("timestamp_granularities", "it needs 'response_format' to be 'verbose_json'.")
    if fields.stream and form not in SPOKEN_FORMATS:
        raise invalid("response_format", f"a stream has no room for '{form}'; leave 'stream' out, or take 'json'.")
    strategy = fields.chunking_strategy
    if strategy is not None and strategy != "auto":
        try:
            jsonio.members(strategy.encode())
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            raise invalid("chunking_strategy", "expected 'auto' or a JSON object.") from None


def _number(text: str) -> float:
    """A decoder that is told to read text takes `nan` as well, which is in no range and out of none."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None or not math.isfinite(float(found[0])):
        raise invalid("temperature", "expected a number between 0 and 1.", "invalid_type")
    return float(found[0])
