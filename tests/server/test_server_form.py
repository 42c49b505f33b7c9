"""Reading a form: any split of the bytes gives the same, and what is no form is a 400 that says so."""

import asyncio
import itertools
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.server.form import FIELDS_BYTES, FIELDS_LIMIT, FormReader
from tidegate.server.spool import Spools
from tidegate.wire import errors
from tidegate.wire.forms import Form

BOUNDARY = b"----WebKitFormBoundary7MA4YWxkTrZu0gW"
TYPE = b"multipart/form-data; boundary=" + BOUNDARY


class Tide:
    """Files here are small: the disk is not asked, and nobody is held back."""

    def hold(self) -> None:
        raise AssertionError

    go_on = hold

    def not_kept(self, error: errors.TidegateError) -> None:
        raise AssertionError(error)


@pytest.fixture(scope="module")
def spools() -> Iterator[Spools]:
    loop = asyncio.new_event_loop()
    made = Spools(loop, "")
    yield made
    assert not made.open
    made.close()
    loop.close()


def field(name: str, value: str | bytes) -> bytes:
    text = value if isinstance(value, bytes) else value.encode()
    return b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (BOUNDARY, name.encode(), text)


def file(data: bytes = b"sound", disposition: str = 'name="file"; filename="a.mp3"', kind: str = "audio/mpeg") -> bytes:
    head = f"Content-Disposition: form-data; {disposition}\r\n" + (f"Content-Type: {kind}\r\n" if kind else "")
    return b"--%b\r\n%b\r\n%b\r\n" % (BOUNDARY, head.encode(), data)


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def read(spools: Spools, *pieces: bytes, content_type: bytes | None = TYPE) -> Form:
    """The form that arrives in these pieces. Raises TidegateError."""
    reader = FormReader(content_type, spools, Tide())
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.close()
        found: list[Form | errors.TidegateError] = []
        reader.finish(found.append)
        form = found[0]
        assert isinstance(form, Form)
        if form.file is not None:
            kept = form.file.at_hand(0, form.file.size)
            assert kept is not None
            assert form.file.beginning == kept[:32]
        return form
    finally:
        reader.release()


def content(spools: Spools, *pieces: bytes) -> tuple[object, ...]:
    """All that a form says."""
    reader = FormReader(TYPE, spools, Tide())
    for piece in pieces:
        reader.feed(piece)
    reader.close()
    found: list[Form | errors.TidegateError] = []
    reader.finish(found.append)
    form = found[0]
    assert isinstance(form, Form)
    assert form.file is not None
    said = (form.fields, form.file.name, form.file.content_type, form.file.at_hand(0, form.file.size))
    reader.release()
    return said


def refused(spools: Spools, *pieces: bytes, content_type: bytes | None = TYPE) -> errors.TidegateError:
    with pytest.raises(errors.TidegateError) as caught:
        read(spools, *pieces, content_type=content_type)
    assert caught.value.http_status in (400, 413)
    assert caught.value.param
    return caught.value


# Data with all that could be taken for a delimiter.
TRICKY = b"\r\n--\r\n----WebKitFormBoundary7MA4YWxkTrZu0g\r\n" + b"\r\n--" + BOUNDARY[:-1] + b"\x00\xff--" + BOUNDARY
WHOLE = body(field("model", "whisper-1"), file(TRICKY), field("prompt", "潮汐"), field("include[]", "logprobs"))
SAID = ((("model", "whisper-1"), ("prompt", "潮汐"), ("include[]", "logprobs")), "a.mp3", "audio/mpeg", TRICKY)


def test_a_form_is_read_whole_and_byte_by_byte(spools: Spools) -> None:
    assert content(spools, WHOLE) == SAID
    assert content(spools, *(WHOLE[at : at + 1] for at in range(len(WHOLE)))) == SAID


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_any_split_gives_the_same_form(spools: Spools, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(WHOLE)]
    assert content(spools, *(WHOLE[a:b] for a, b in itertools.pairwise(bounds) if a < b)) == SAID


@settings(max_examples=300)
@given(st.data())
def test_a_mangled_form_is_read_or_refused_and_nothing_else(spools: Spools, data: st.DataObject) -> None:
    mangled = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(mangled)))
        match data.draw(st.sampled_from(["change", "cut", "insert", "repeat"])):
            case "change" if at < len(mangled):
                mangled[at] = data.draw(st.integers(0, 255))
            case "cut":
                del mangled[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                mangled[at:at] = data.draw(st.binary(min_size=1, max_size=20))
            case "repeat":
                mangled[at:at] = mangled[at : at + data.draw(st.integers(1, 200))]
    size = data.draw(st.integers(1, 100))
    refusal: errors.TidegateError | None = None
    try:
        read(spools, *(bytes(mangled[at : at + size]) for at in range(0, len(mangled), size)))
    except errors.TidegateError as error:
        refusal = error
    if refusal is not None:
        assert refusal.http_status in (400, 413)
        assert refusal.param
        assert refusal.message.isprintable()


@pytest.mark.parametrize(
    "content_type",
    [
        b"Multipart/Form-Data; Boundary=" + BOUNDARY,
        b'multipart/form-data; charset=utf-8; boundary="' + BOUNDARY + b'"',
        b"MULTIPART/FORM-DATA;boundary=" + BOUNDARY + b"; x=y",
        b'multipart/form-data ; BOUNDARY="' + BOUNDARY + b'"  ',
    ],
)
def test_a_content_type_is_read_in_any_spelling(spools: Spools, content_type: bytes) -> None:
    assert read(spools, WHOLE, content_type=content_type).fields == SAID[0]


@pytest.mark.parametrize(
    ("content_type", "code", "word"),
    [
        (None, "missing_required_parameter", "no content type"),
        (b"application/json", "missing_required_parameter", "application/json"),
        (b"application/x-www-form-urlencoded", "missing_required_parameter", "x-www-form-urlencoded"),
        (b"multipart/form-data", "invalid_form", "no 'boundary'"),
        (b"multipart/form-data; boundary=", "invalid_form", "no 'boundary'"),
        (b"multipart/form-data; boundary=" + b"x" * 71, "invalid_form", "impossible 'boundary'"),
        (b'multipart/form-data; boundary="a\x01b"', "invalid_form", "impossible 'boundary'"),
    ],
)
def test_what_says_that_it_is_no_form_is_refused_at_once(
    spools: Spools, content_type: bytes | None, code: str, word: str
) -> None:
    error = refused(spools, content_type=content_type)
    assert (error.http_status, error.param, error.code) == (400, "file", code)
    assert word in error.message
    assert "multipart/form-data" in error.message


@pytest.mark.parametrize(
    ("broken", "param", "code"),
    [
        (b"", "file", "invalid_form"),
        (b'{"model": "whisper-1"}', "file", "invalid_form"),
        (WHOLE[:-30], "file", "invalid_form"),
        (body(file(), file()), "file", "invalid_value"),
        (body(file(disposition='name="audio"; filename="a.mp3"')), "audio", "invalid_value"),
        (body(field("file", "speech.mp3")), "file", "invalid_type"),
        (body(field("model", b"\xff\xfe")), "model", "invalid_value"),
        (body(b"--" + BOUNDARY + b"\r\n\r\nnameless\r\n"), "file", "invalid_form"),
        (body(b"--" + BOUNDARY + b"\r\nContent-Disposition: attachment\r\n\r\nx\r\n"), "file", "invalid_form"),
        (body(*(field(f"f{at}", "x") for at in range(FIELDS_LIMIT + 1))), f"f{FIELDS_LIMIT}", "invalid_value"),
        (body(b"--" + BOUNDARY + b"\r\nX-Long: " + b"x" * 5000 + b"\r\n\r\n"), "file", "invalid_form"),
        (body(b"--" + BOUNDARY + b"\r\n" + b"X: y\r\n" * 9 + b"\r\n"), "file", "invalid_form"),
    ],
)
def test_a_broken_form_is_refused_with_its_reason(spools: Spools, broken: bytes, param: str, code: str) -> None:
    error = refused(spools, broken)
    assert (error.http_status, error.param, error.code) == (400, param, code)


def test_fields_are_capped_together(spools: Spools) -> None:
    half = field("prompt", "x" * (FIELDS_BYTES // 2 + 1))
    error = refused(spools, half, half)
    assert (error.http_status, error.code, error.param) == (413, "body_too_large", "prompt")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (file(disposition='name="file"; filename=""'), ""),
        (file(disposition="name=file; filename=plain.mp3"), "plain.mp3"),
        (file(disposition='filename="first.mp3"; NAME="file"'), "first.mp3"),
        (file(disposition='name="file"; filename="潮汐.mp3"'), "潮汐.mp3"),
        (file(disposition="name=\"file\"; filename*=utf-8''%e6%bd%ae%e6%b1%90.mp3"), "潮汐.mp3"),
        (file(disposition='name="file"; filename="a;b.mp3"'), "a;b.mp3"),
        (file(disposition='name="file"'), ""),  # its content type says that it is no text
        (file(disposition='name="file"; filename="C:\\\\fakepath\\\\a.mp3"'), "a.mp3"),
    ],
)
def test_a_file_is_known_as_one_however_its_name_is_written(spools: Spools, part: bytes, name: str) -> None:
    form = read(spools, body(part))
    assert form.file is not None
    assert (form.file.name, form.file.size) == (name, 5)


def test_every_form_has_a_boundary_of_its_own_for_sending_it_on(spools: Spools) -> None:
    first, second = read(spools, WHOLE), read(spools, WHOLE)
    assert re.fullmatch(r"tidegate-[0-9a-f]{32}", first.boundary)
    assert first.boundary != second.boundary
