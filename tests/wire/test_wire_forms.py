"""Forms with a file as they are sent on, and sources that are read in pieces."""

import base64
import email.parser
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from typing import TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.wire import errors
from tidegate.wire.forms import Base64, Form, Read, Then, Upload, multipart

T = TypeVar("T")

BOUNDARY = "tidegate-0123456789abcdef0123456789abcdef"


class Bytes:
    """A file in memory, or one whose pieces have to be fetched."""

    def __init__(self, data: bytes, name: str = "speech.mp3", content_type: str = "audio/mpeg", *, far: bool = False):
        self._data = data
        self._far = far
        self.name = name
        self.content_type = content_type
        self.beginning = data[:32]
        self.size = len(data)

    def at_hand(self, start: int, stop: int) -> bytes | None:
        return None if self._far else self._data[start:stop]

    def fetch(self, start: int, stop: int, then: Then) -> None:
        then(self._data[start:stop])

    def examine(self, work: Callable[[Read], T], then: Callable[[T | errors.TidegateError], None]) -> None:
        then(work(lambda start, stop: self._data[start:stop]))


class Lost(Bytes):
    def fetch(self, start: int, stop: int, then: Then) -> None:
        then(errors.InsufficientStorage("gone"))


def read(upload: Upload) -> bytes:
    """All of a body, with the length that is announced."""
    pieces = []
    for part in upload.parts:
        piece = part if isinstance(part, bytes) else part.at_hand(0, part.size)
        assert piece is not None
        pieces.append(piece)
    body = b"".join(pieces)
    assert len(body) == upload.size
    return body


def parts_of(upload: Upload) -> list[EmailMessage]:
    """The parts, as the standard library's parser of MIME sees them."""
    text = b"content-type: " + upload.content_type + b"\r\n\r\n" + read(upload)
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(text)
    assert not message.defects
    return cast("list[EmailMessage]", list(message.iter_parts()))


def test_a_form_goes_on_with_its_fields_in_order_and_the_file_last() -> None:
    parts = parts_of(multipart([("model", "whisper"), ("include[]", "logprobs")], Bytes(b"\x00\xffsound"), BOUNDARY))
    assert [part.get_param("name", header="content-disposition") for part in parts] == ["model", "include[]", "file"]
    assert [part.get_payload(decode=True) for part in parts] == [b"whisper", b"logprobs", b"\x00\xffsound"]
    assert parts[2].get_filename() == "speech.mp3"
    assert parts[2].get_content_type() == "audio/mpeg"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('a"; name="model', "a%22; name=%22model"),
        ("a\r\ncontent-type: text/html\r\n\r\n<script>", "a%0D%0Acontent-type: text/html%0D%0A%0D%0A<script>"),
        ("a\\", "a%5C"),
        ("潮汐.mp3", "潮汐.mp3"),
        ("a\x00b", "a_b"),
        ("", "file"),
    ],
)
def test_a_file_name_never_ends_its_header(name: str, shown: str) -> None:
    head = multipart([], Bytes(b"x", name), BOUNDARY).parts[0]
    assert isinstance(head, bytes)
    assert f'filename="{shown}"\r\ncontent-type: audio/mpeg\r\n\r\n'.encode() in head
    assert head.count(b"\r\n") == 4


@pytest.mark.parametrize(
    ("given_type", "sent"),
    [
        ("audio/ogg; codecs=opus", b"audio/ogg; codecs=opus"),
        ("", b"application/octet-stream"),
        ("audio/mpeg\r\nx: y", b"application/octet-stream"),
        ("nonsense", b"application/octet-stream"),
    ],
)
def test_a_content_type_goes_on_if_it_is_one(given_type: str, sent: bytes) -> None:
    head = multipart([], Bytes(b"x", content_type=given_type), BOUNDARY).parts[0]
    assert isinstance(head, bytes)
    assert head.endswith(b"\r\ncontent-type: " + sent + b"\r\n\r\n")


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=50)), max_size=5), st.text(max_size=30))
def test_no_text_makes_a_form_of_other_parts(fields: list[tuple[str, str]], name: str) -> None:
    clean = [(a.encode("utf-8", "ignore").decode(), b.encode("utf-8", "ignore").decode()) for a, b in fields]
    body = read(multipart(clean, Bytes(b"sound", name), BOUNDARY))
    parts = body.split(f"--{BOUNDARY}".encode())
    assert len(parts) == len(clean) + 3
    for part, (_, value) in zip(parts[1:], clean, strict=False):
        head, _, rest = part.partition(b"\r\n\r\n")
        assert head.count(b"\r\n") == 1
        assert rest == value.encode() + b"\r\n"


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 300), st.booleans())
def test_base64_of_any_piece_is_that_piece_of_the_base64(data: bytes, start: int, length: int, far: bool) -> None:
    text = base64.b64encode(data)
    source = Base64(Bytes(data, far=far))
    assert source.size == len(text)
    stop = min(start + length, source.size)
    found: list[bytes | errors.TidegateError | None] = [source.at_hand(start, stop)]
    if far:
        assert found == [None]
        source.fetch(start, stop, found.append)
    assert found[-1] == text[start:stop]


def test_what_cannot_be_read_cannot_be_encoded() -> None:
    found: list[bytes | errors.TidegateError] = []
    Base64(Lost(b"sound", far=True)).fetch(0, 4, found.append)
    assert isinstance(found[0], errors.InsufficientStorage)


def test_audio_is_estimated_by_its_length_and_not_as_text() -> None:
    minute = Bytes(b"x" * 960_000)  # at 128 kbit/s
    form = Form(fields=(("prompt", "abcd"),), file=minute, boundary=BOUNDARY)
    assert form.text_bytes == 600 * 4 + 4
