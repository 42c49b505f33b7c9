"""The only door through which JSON enters and leaves.

Everything that reads or writes JSON goes through here, so that one set of rules holds everywhere: UTF-8 only, no NaN
or Infinity (RFC 8259 §6), and errors that say *where* the text is wrong in the words of the API.
"""

import json
import re
from typing import Any, TypeVar

import msgspec

__all__ = [
    "EMPTY",
    "FALSE",
    "NULL",
    "TRUE",
    "UNREADABLE",
    "InvalidJSON",
    "Members",
    "Raw",
    "SchemaMismatch",
    "TooDeep",
    "absent",
    "anything",
    "check_utf8",
    "convert",
    "decode",
    "decoder",
    "elements",
    "encode",
    "is_blank",
    "is_null",
    "may_escape_letters",
    "members",
    "one_line",
    "raw",
    "repeated",
    "string",
]

T = TypeVar("T")

Raw = msgspec.Raw
Members = dict[str, msgspec.Raw]
"""The members of one JSON object, each value kept as the bytes that came."""

EMPTY = msgspec.Raw(b"")
NULL = msgspec.Raw(b"null")
TRUE = msgspec.Raw(b"true")
FALSE = msgspec.Raw(b"false")

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises that is called directly, for bytes that it cannot read."""

_BLANKS = frozenset({b"", b"null", b"false", b'""', b"{}"})

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
"""The JSON of a value; `Raw` values are copied as they are."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_anything = msgspec.json.Decoder()
_string = msgspec.json.Decoder(str)

_LF, _CR, _BACKSLASH = b"\n\r\\"
"""Numbers: a search for one takes a sixth of the time of a search for a byte string, which Python tries as a number first."""
_ESCAPED_LETTER = re.compile(rb"\\u00[2-7]")
_AT_BYTE = re.compile(r"\(byte (\d+)\)")
_AT_PATH = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_HALF_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.+)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]+)`$")


class InvalidJSON(ValueError):
    """The bytes are not JSON. `position` is the offset of the first wrong byte, or None when only the end is missing."""

    def __init__(self, message: str, position: int | None) -> None:
        super().__init__(message)
        self.position = position


class TooDeep(InvalidJSON):
    """Nested beyond what the stack takes. How deep that is depends on who reads, and from where: what was read once, as a
    whole, may be too deep for whoever looks at a part of it later."""

    def __init__(self) -> None:
        super().__init__("the text is nested too deeply", None)


class SchemaMismatch(ValueError):
    """JSON, but not of the expected shape. `path` is in API notation, as in `tools[0].type`; empty for the root.

    `missing` is True when `path` names a required member that is absent, `unknown` when it names one that there is not.
    """

    def __init__(self, what: str, path: str, *, missing: bool = False, unknown: bool = False) -> None:
        super().__init__(f"{what} at {path}" if path else what)
        self.what = what
        self.path = path
        self.missing = missing
        self.unknown = unknown


def decoder(type_: type[T]) -> msgspec.json.Decoder[T]:
    """A reusable decoder for the hot path; decode with :func:`decode`, or directly where the caller maps the errors."""
    return msgspec.json.Decoder(type_)


def decode(data: bytes | msgspec.Raw, using: msgspec.json.Decoder[T]) -> T:
    """Decode `data`. Raises InvalidJSON or SchemaMismatch, nothing else."""
    try:
        return using.decode(data)
    except msgspec.ValidationError as error:
        raise _schema_mismatch(str(error)) from None
    except msgspec.DecodeError as error:
        raise _invalid(str(error), data) from None
    except UnicodeDecodeError:
        raise _not_utf8(data) from None
    except RecursionError:
        raise TooDeep from None


def convert(values: Any, into: type[T]) -> T:
    """Plain values, in which numbers and truth values may be text, as `into`. Raises SchemaMismatch."""
    try:
        return msgspec.convert(values, into, strict=False)
    except msgspec.ValidationError as error:
        raise _schema_mismatch(str(error)) from None


def members(data: bytes | msgspec.Raw) -> Members:
    """The members of one object, values untouched. Raises InvalidJSON or SchemaMismatch."""
    try:
        return _members.decode(data)
    except Exception:
        return decode(data, _members)  # once more, to say what is wrong


def elements(data: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """The elements of one array, untouched. Raises InvalidJSON or SchemaMismatch."""
    return decode(data, _elements)


def anything(data: bytes | msgspec.Raw) -> Any:
    """Decode into plain Python values. For cold paths and tests. Raises InvalidJSON, or SchemaMismatch for a number that
    Python has no float for."""
    return decode(data, _anything)


def string(value: bytes | msgspec.Raw) -> str | None:
    """The string that `value` is; None for anything else."""
    try:
        return _string.decode(value)
    except UNREADABLE:
        return None


def raw(value: Any) -> msgspec.Raw:
    """`value` as a JSON value ready to be placed among members."""
    return msgspec.Raw(_encoder.encode(value))


def repeated(data: bytes) -> str | None:
    """The name of a member that stands twice in one object, of which a decoder takes only the last. `data` must be JSON. For
    cold paths."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            found.append(next(name for place, name in enumerate(names) if name in names[:place]))

    try:
        json.loads(data, object_pairs_hook=look)
    except RecursionError:
        raise TooDeep from None
    return found[0] if found else None


def one_line(data: bytes) -> bytes:
    """The same JSON text without line ends, for a line of an event stream. `data` must be JSON."""
    if _LF in data or _CR in data:
        return msgspec.json.format(data, indent=-1)
    return data


def may_escape_letters(data: bytes) -> bool:
    """Whether a name in it may be written with escapes in place of its letters, so that a search would miss it: `\\u006d` is m."""
    if _BACKSLASH not in data:
        return False
    at = data.find(b"\\u00")  # a tenth of the time that the expression takes
    return at >= 0 and _ESCAPED_LETTER.search(data, at) is not None


def absent() -> msgspec.Raw:
    """`EMPTY`, as the factory of a member's default: the JSON schema of a Struct has no room for the value itself."""
    return EMPTY


def is_null(value: msgspec.Raw) -> bool:
    """True for an absent value (`EMPTY`) and for a JSON null."""
    text = bytes(value).strip()
    return not text or text == b"null"


def is_blank(value: msgspec.Raw) -> bool:
    """True for a value that says nothing: absent, null, false, or an empty string or object. Some engines send such
    members with every frame."""
    return bytes(value) in _BLANKS


def check_utf8(data: bytes) -> None:
    """Raises InvalidJSON unless all of `data` is UTF-8: a decoder does not look into members that it skips."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            raise _not_utf8(data) from None


def _not_utf8(data: bytes | msgspec.Raw) -> InvalidJSON:
    """The decoder counts from the start of the string that it was reading; callers want the place in the text."""
    try:
        bytes(data).decode()
    except UnicodeDecodeError as error:
        return _located("the text is not valid UTF-8", error.start, data)
    return InvalidJSON("the text is not valid UTF-8", None)


def _invalid(message: str, data: bytes | msgspec.Raw) -> InvalidJSON:
    if "truncated" in message:
        # The decoder also says this of half a surrogate pair that stands close to the end.
        half = _HALF_PAIR.search(bytes(data))
        if half is None:
            return InvalidJSON("the text ends before the JSON value does", None)
        return _located("half of a surrogate pair", half.start(), data)
    found = _AT_BYTE.search(message)
    what = _AT_BYTE.sub("", message).removeprefix("JSON is malformed: ").strip()
    return _located(what, int(found.group(1)), data) if found else InvalidJSON(what, None)


def _located(what: str, position: int, data: bytes | msgspec.Raw) -> InvalidJSON:
    """The error with its place as an editor counts it: lines and columns from 1, columns in characters."""
    before = bytes(data)[:position]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    return InvalidJSON(f"{what} at line {line}, column {column} (byte {position})", position)


def _schema_mismatch(message: str) -> SchemaMismatch:
    found = _AT_PATH.match(message)
    what = found.group("what") if found else message
    path = (found.group("path") or "" if found else "").removeprefix(".")
    absent = _MISSING.match(what)
    if absent:
        name = absent.group("name")
        return SchemaMismatch("a required member is missing", f"{path}.{name}" if path else name, missing=True)
    stranger = _UNKNOWN.match(what)
    if stranger:
        name = stranger.group("name")
        return SchemaMismatch("there is no such member", f"{path}.{name}" if path else name, unknown=True)
    return SchemaMismatch(what, path)
