"""Reading a request body against its Struct, with errors in the words of the API.

Every rejection is an InvalidRequest whose `param` names the member and whose message says what would be right.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest

__all__ = ["WORDS", "convert", "invalid", "missing", "nearest", "parse", "parse_plain", "too_deep", "unknown"]

T = TypeVar("T")

WORDS = "words"
"""In the `extra` of a `Meta`: says in words what is expected, where a range of numbers would tell nobody."""

PLAIN_BYTES = 256 * 1024
"""What is longer holds up the loop long enough when it is decoded once."""

_type_info = cache(inspect.type_info)
_SEGMENT = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_GOT = re.compile(r", got `(?P<got>[^`]+)`$")
_UNKNOWN = re.compile(r"^Invalid enum value (?P<value>.+)$", re.DOTALL)
_FORM = re.compile(rb"--|[A-Za-z_]+=")
_HINTS = {
    "messages": "This is /v1/chat/completions; 'input' belongs to /v1/responses, 'prompt' to /v1/completions.",
    "prompt": "This is /v1/completions; 'messages' belongs to /v1/chat/completions, 'input' to /v1/responses.",
}
_NOUNS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def parse_plain(body: bytes, using: msgspec.json.Decoder[T]) -> T | None:
    """The body, if it is one of those that `using` knows and not too long to be decoded twice; else None, and nothing is said
    of why."""
    if len(body) > PLAIN_BYTES:
        return None
    try:
        if not body.isascii():
            jsonio.check_utf8(body)
        return using.decode(body)
    except (jsonio.InvalidJSON, *jsonio.UNREADABLE):
        return None


def parse(
    body: bytes, using: msgspec.json.Decoder[T], hints: Mapping[str, str] = _HINTS, what: str = "request body"
) -> T:
    """Decode and validate a request body, or `what` else it is. `hints` are sentences about members that may be missing
    because another endpoint was meant. Raises InvalidRequest."""
    if not body:
        raise InvalidRequest(f"The {what} is empty; it must be a JSON object.", code="invalid_json")
    try:
        if body.isascii():
            return using.decode(body)
    except Exception:  # noqa: S110 - it is decoded once more, to say what is wrong
        pass
    try:
        jsonio.check_utf8(body)
        return jsonio.decode(body, using)
    except jsonio.InvalidJSON as error:
        form = " It looks like a form; this endpoint takes JSON." if _FORM.match(body) else ""
        raise InvalidRequest(f"The {what} is not valid JSON: {error}.{form}", code="invalid_json") from None
    except jsonio.SchemaMismatch as error:
        if not error.path:
            raise InvalidRequest(f"The {what} must be a JSON object.", code="invalid_json") from None
        if error.missing:
            raise missing(error.path, hints.get(error.path, "")) from None
        if error.unknown:
            raise unknown(error.path, _names_beside(using.type, error.path)) from None
        raise _mismatch(using.type, error) from None


def convert(values: Mapping[str, Any], into: type[T]) -> T:
    """Validate what came as text, such as the fields of a form. Raises InvalidRequest."""
    try:
        return jsonio.convert(values, into)
    except jsonio.SchemaMismatch as error:
        if error.missing:
            raise missing(error.path) from None
        if error.unknown:
            raise unknown(error.path, _names_beside(into, error.path)) from None
        raise _mismatch(into, error) from None


def missing(param: str, hint: str = "") -> InvalidRequest:
    """A required member is absent."""
    message = f"Missing required parameter: '{param}'."
    return InvalidRequest(f"{message} {hint}" if hint else message, param=param, code="missing_required_parameter")


def unknown(param: str, known: Iterable[str] = ()) -> InvalidRequest:
    """A member that there is not, where such are forbidden; `known` are those that there could be in its place."""
    shown = param if len(param) <= 100 else f"{param[:100]}…"
    head, dot, name = shown.rpartition(".")
    near = nearest(name, known)
    hint = f" Did you mean '{head}{dot}{near}'?" if near else ""
    return InvalidRequest(f"Unknown parameter: '{shown}'.{hint}", param=shown, code="unknown_parameter")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like this one, or an empty string when none is like it."""
    names = list(known)
    folded = {candidate.lower(): candidate for candidate in names}
    found = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def invalid(param: str, why: str, code: str = "invalid_value") -> InvalidRequest:
    """A member has a value that is not allowed; `why` is a sentence that says what is."""
    return InvalidRequest(f"Invalid '{param}': {why}", param=param, code=code)


def too_deep() -> InvalidRequest:
    """The body was read as a whole, but a part of it is more than the stack takes where it is looked at."""
    return InvalidRequest("The request body is not valid JSON: the text is nested too deeply.", code="invalid_json")


def _mismatch(type_: Any, error: jsonio.SchemaMismatch) -> InvalidRequest:
    expected = _describe_path(type_, error.path)
    # The decoder does not say which key of a mapping it is.
    param, within, _ = error.path.partition("[...]")
    if within:
        expected = f"each value to be {expected}"
    unknown = _UNKNOWN.match(error.what)
    if unknown:
        return invalid(param, f"{unknown.group('value')} is not allowed; expected {expected}.")
    got = _GOT.search(error.what)
    if got:
        noun = _NOUNS.get(got.group("got"), got.group("got"))
        return invalid(param, f"expected {expected}, got {noun}.", "invalid_type")
    return invalid(param, f"expected {expected}.")


def _names_beside(type_: Any, path: str) -> Sequence[str]:
    """The members that the schema has where `path` names one that it has not."""
    here = _type_info(type_)
    for segment in _SEGMENT.findall(path.rpartition(".")[0]):
        found = _step(here, segment)
        if found is None:
            return ()
        here = found
    return [field.encode_name for one in _options(here) for field in getattr(one, "fields", ())]


def _describe_path(type_: Any, path: str) -> str:
    """Words for what the schema allows at `path`."""
    here = _type_info(type_)
    for segment in _SEGMENT.findall(path):
        found = _step(here, segment)
        if found is None:
            return "a value that the API documents for it"
        here = found
    return _describe(here)


def _step(here: inspect.Type, segment: str) -> inspect.Type | None:
    for option in _options(here):
        if segment.startswith("["):
            if isinstance(option, inspect.ListType | inspect.VarTupleType):
                return option.item_type
            if isinstance(option, inspect.DictType):
                return option.value_type
        elif isinstance(option, inspect.StructType):
            for field in option.fields:
                if field.encode_name == segment:
                    return field.type
    return None


def _options(type_: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(type_, inspect.Metadata):
        return (type_,) if WORDS in (type_.extra or {}) else _options(type_.type)
    if isinstance(type_, inspect.UnionType):
        return tuple(option for each in type_.types for option in _options(each))
    return (type_,)


def _describe(type_: inspect.Type) -> str:
    options = [_describe_one(option) for option in _options(type_) if not isinstance(option, inspect.NoneType)]
    return " or ".join(options)


def _number(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


def _describe_one(type_: inspect.Type) -> str:
    if isinstance(type_, inspect.Metadata):
        return str((type_.extra or {})[WORDS])
    if isinstance(type_, inspect.LiteralType):
        return "one of " + ", ".join(f"'{value}'" for value in type_.values)
    if isinstance(type_, inspect.IntType | inspect.FloatType):
        noun = "an integer" if isinstance(type_, inspect.IntType) else "a number"
        if type_.ge is not None and type_.le is not None:
            return f"{noun} between {_number(type_.ge)} and {_number(type_.le)}"
        if type_.ge is not None:
            return f"{noun} of at least {_number(type_.ge)}"
        if type_.le is not None:
            return f"{noun} of at most {_number(type_.le)}"
        return noun
    if isinstance(type_, inspect.StrType):
        if type_.pattern is not None:
            return f"a string of at most {type_.max_length} characters that matches {type_.pattern}"
        if type_.max_length is not None:
            least = f"{type_.min_length} to" if type_.min_length else "at most"
            return f"a string of {least} {type_.max_length} characters"
        return "a string"
    if isinstance(type_, inspect.ListType | inspect.VarTupleType):
        bounds = []
        if type_.min_length:
            bounds.append(f"at least {_items(type_.min_length)}")
        if type_.max_length is not None:
            bounds.append(f"at most {_items(type_.max_length)}")
        return f"an array of {' and '.join(bounds)}" if bounds else "an array"
    if isinstance(type_, inspect.BoolType):
        return "a boolean"
    if isinstance(type_, inspect.DictType) and type_.max_length is not None:
        names = _options(type_.key_type)[0]
        longest = names.max_length if isinstance(names, inspect.StrType) else None
        bound = "" if longest is None else f", each with a name of at most {longest} characters"
        return f"an object of at most {type_.max_length} members{bound}"
    return "an object"


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"
