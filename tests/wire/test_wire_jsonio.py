"""The JSON door: what it refuses, where it says the mistake is, and what passes through untouched."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.wire import jsonio


class Inner(msgspec.Struct):
    type: str


class Outer(msgspec.Struct):
    tools: list[Inner] | None = None
    number: float = 0.0


OUTER = jsonio.decoder(Outer)

MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the text ends before the JSON value does"),
    "blank": (b" \n ", "the text ends before the JSON value does"),
    "truncated object": (b'{"number": 1', "the text ends before the JSON value does"),
    "truncated string": (b'{"number": "ab', "the text ends before the JSON value does"),
    "trailing": (b'{"number": 1} x', "trailing characters at line 1, column 16 (byte 15)"),
    "third line": (b'{\n "number": 1,\n  oops}', "object keys must be strings at line 3, column 3 (byte 18)"),
    "columns count characters": ('{"潮汐": oops}'.encode(), "invalid character at line 1, column 8 (byte 11)"),
    "NaN": (b'{"number": NaN}', "invalid character at line 1, column 12 (byte 11)"),
    "Infinity": (b'{"number": Infinity}', "invalid character at line 1, column 12 (byte 11)"),
    "minus Infinity": (b'{"other": -Infinity}', "invalid character at line 1, column 12 (byte 11)"),
    "single quotes": (b"{'a': 1}", "object keys must be strings at line 1, column 2 (byte 1)"),
    "trailing comma": (b'{"a": 1,}', "trailing comma in object at line 1, column 9 (byte 8)"),
    "control character": (b'{"a": "\x01"}', "invalid character at line 1, column 8 (byte 7)"),
    "leading zero": (b'{"a": 01}', "invalid number at line 1, column 8 (byte 7)"),
    "byte order mark": (b"\xef\xbb\xbf{}", "invalid character at line 1, column 1 (byte 0)"),
    "UTF-16": ('{"a": 1}'.encode("utf-16-le"), "object keys must be strings at line 1, column 2 (byte 1)"),
    "half a pair": (b'{"a": "\\ud83c"}', "half of a surrogate pair at line 1, column 8 (byte 7)"),
    "depth": (b"[" * 2_000_000, "the text is nested too deeply"),
    "depth in an object": (b'{"a":' * 2_000_000, "the text is nested too deeply"),
    "depth, closed": (b'{"a":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}", "the text is nested too deeply"),
}


@pytest.mark.parametrize("text", [text for text, _ in MALFORMED.values()], ids=list(MALFORMED))
@pytest.mark.parametrize("read", [jsonio.members, jsonio.anything, lambda data: jsonio.decode(data, OUTER)])
def test_malformed_text_is_refused_whoever_reads_it(text: bytes, read: Callable[[bytes], Any]) -> None:
    with pytest.raises((jsonio.InvalidJSON, jsonio.SchemaMismatch)):
        read(text)


@pytest.mark.parametrize(("text", "said"), MALFORMED.values(), ids=MALFORMED)
def test_the_place_is_named_exactly(text: bytes, said: str) -> None:
    with pytest.raises(jsonio.InvalidJSON) as caught:
        jsonio.members(text) if not text.startswith(b"[") else jsonio.anything(text)
    assert str(caught.value) == said


def test_invalid_utf8_is_refused_with_its_place_in_the_whole_text() -> None:
    with pytest.raises(jsonio.InvalidJSON, match=r"not valid UTF-8 at line 2, column 7 \(byte 8\)") as caught:
        jsonio.anything(b'{\n"a": "\xff"}')
    assert caught.value.position == 8


def test_invalid_utf8_is_found_in_members_that_nobody_reads() -> None:
    jsonio.check_utf8('{"a": "潮"}'.encode())
    with pytest.raises(jsonio.InvalidJSON, match="not valid UTF-8"):
        jsonio.check_utf8(b'{"a": "\xe6\xbd"}')


@pytest.mark.parametrize("text", [b"[]", b'"a"', b"1", b"null", b"true"])
def test_what_is_no_object_has_no_members(text: bytes) -> None:
    with pytest.raises(jsonio.SchemaMismatch) as caught:
        jsonio.members(text)
    assert caught.value.path == ""


def test_a_path_is_written_as_the_api_writes_it() -> None:
    with pytest.raises(jsonio.SchemaMismatch) as caught:
        jsonio.decode(b'{"tools": [{"type": "a"}, {"type": 5}]}', OUTER)
    assert caught.value.path == "tools[1].type"
    with pytest.raises(jsonio.SchemaMismatch) as caught:
        jsonio.decode(b'{"tools": [{}]}', OUTER)
    assert (caught.value.path, caught.value.missing) == ("tools[0].type", True)


def test_of_a_member_that_comes_twice_the_last_counts_everywhere() -> None:
    text = b'{"number": 1, "number": 2}'
    assert jsonio.decode(text, OUTER).number == 2
    assert bytes(jsonio.members(text)["number"]) == b"2"
    assert jsonio.anything(text) == {"number": 2}


@pytest.mark.parametrize(
    "value",
    [b"123456789012345678901234567890", b"1.10", b"1e2", b"1E+2", b"-0.0", b"1e999", b'"\\u6f6e"', b'{ "a" : [ 1 ] }'],
)
def test_a_value_that_is_carried_keeps_its_bytes(value: bytes) -> None:
    found = jsonio.members(b'{"a":  ' + value + b"  }")
    assert bytes(found["a"]) == value
    assert jsonio.encode(found) == b'{"a":' + value + b"}"
    assert jsonio.encode(jsonio.elements(b"[" + value + b" , 1]")) == b"[" + value + b",1]"


def test_null_and_absence_are_told_from_values() -> None:
    assert jsonio.is_null(jsonio.NULL)
    assert jsonio.is_null(jsonio.EMPTY)
    assert jsonio.is_null(jsonio.members(b'{"a": null }')["a"])
    assert not jsonio.is_null(jsonio.raw("null"))
    assert not jsonio.is_null(jsonio.FALSE)


def test_a_string_is_read_and_anything_else_is_none() -> None:
    assert jsonio.string(jsonio.raw("潮\n")) == "潮\n"
    others = jsonio.elements(b'[null, 1, {"a": "b"}, ["a"]]')
    assert [jsonio.string(one) for one in [*others, jsonio.EMPTY]] == [None] * 5
    assert jsonio.string(b'"\xff"') is None


def test_blank_is_what_says_nothing() -> None:
    blank = jsonio.elements(b'[null, false, "", {}]')
    assert all(map(jsonio.is_blank, [jsonio.EMPTY, *blank]))
    telling = jsonio.elements(b'[0, true, "null", [], {"a": null}]')
    assert not any(map(jsonio.is_blank, telling))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=100, deadline=None)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    assert jsonio.anything(jsonio.encode(value)) == value
    assert json.loads(jsonio.encode(value)) == value


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=5))
@settings(max_examples=100, deadline=None)
def test_members_put_together_again_are_the_same_object(value: dict[str, Any]) -> None:
    assert jsonio.encode(jsonio.members(jsonio.encode(value))) == jsonio.encode(value)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789eE+-.tfn\\u \n"', max_size=60).map(str.encode))
@settings(max_examples=100, deadline=None)
def test_bytes_of_any_kind_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    for read in (jsonio.members, jsonio.elements, jsonio.anything, lambda one: jsonio.decode(one, OUTER)):
        with contextlib.suppress(jsonio.InvalidJSON, jsonio.SchemaMismatch):
            read(data)


def test_one_line_takes_out_line_ends_and_nothing_else() -> None:
    text = b'{\r\n  "a": [1.50, 123456789012345678901234567890, 1e5],\n"b":"x\\n y"}'
    assert jsonio.one_line(text) == b'{"a":[1.50,123456789012345678901234567890,1e5],"b":"x\\n y"}'
    assert jsonio.one_line(b'{"a": 1}') == b'{"a": 1}'
