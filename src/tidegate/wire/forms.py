"""Forms with a file (multipart/form-data, RFC 7578), and request bodies that are not all in memory.

A file may be larger than memory, and an attempt at another provider needs it again from the start. So nobody here holds
its bytes: a *source* knows its size and gives any piece of itself, now or later.
"""

import base64
import re
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import msgspec

from tidegate.wire.errors import TidegateError
from tidegate.wire.events import BYTES_PER_TOKEN

__all__ = ["FILE", "Base64", "Blob", "Form", "Part", "Read", "Source", "Then", "Upload", "multipart"]

FILE = "file"
"""The name under which OpenAI's forms carry their file."""

AUDIO_BYTES_PER_TOKEN = 1600
"""For estimates: OpenAI counts ten tokens for a second of audio, which has 16,000 bytes at the usual 128 kbit/s."""

_ESCAPES = {ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A", ord("\\"): "%5C"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*;[\x20-\x7e]*)?")

T = TypeVar("T")

Read = Callable[[int, int], bytes]
"""The bytes between two places of a file, fewer only where it ends. Raises OSError."""

Then = Callable[[bytes | TidegateError], None]
"""Told the bytes that were asked for, or why there are none."""


class Source(Protocol):
    """Bytes that can be read in pieces, as often as need be."""

    @property
    def size(self) -> int: ...

    def at_hand(self, start: int, stop: int) -> bytes | None:
        """The bytes from `start` up to `stop`, at most as many as there are; None where they must be fetched."""

    def fetch(self, start: int, stop: int, then: Then) -> None:
        """The same where :meth:`at_hand` has nothing. Returns at once; `then` is called later, on the event loop."""


class Blob(Source, Protocol):
    """A file that a client has sent."""

    @property
    def name(self) -> str:
        """As the client gave it: fit for nothing but showing and sending on."""

    @property
    def content_type(self) -> str:
        """As the client gave it; empty when it gave none."""

    @property
    def beginning(self) -> bytes:
        """Its first bytes, at most 32."""

    def examine(self, work: "Callable[[Read], T]", then: "Callable[[T | TidegateError], None]") -> None:
        """Have `work` done on the file, which reads what it wants of it, off the event loop; `then` is told on the loop what
        it returned, or why the file cannot be read."""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What stood in a client's form: its fields in their order, and its file."""

    fields: tuple[tuple[str, str], ...]
    file: Blob | None
    boundary: str
    """For sending the parts on: the gateway made it up, so that no part holds it."""

    @property
    def text_bytes(self) -> int:
        """About as many bytes as a text has that costs as many tokens, for estimates."""
        audio = 0 if self.file is None else self.file.size // AUDIO_BYTES_PER_TOKEN * BYTES_PER_TOKEN
        return audio + sum(len(value) for _, value in self.fields)


Part = bytes | Source


class Upload(msgspec.Struct, frozen=True):
    """A request body that is sent in pieces: its parts in their order."""

    content_type: bytes
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(len(part) if isinstance(part, bytes) else part.size for part in self.parts)


class Base64:
    """A source as its base64 text (RFC 4648 §4), encoded as it is read."""

    __slots__ = ("_plain",)

    def __init__(self, plain: Source) -> None:
        self._plain = plain

    @property
    def size(self) -> int:
        return (self._plain.size + 2) // 3 * 4

    def at_hand(self, start: int, stop: int) -> bytes | None:
        found = self._plain.at_hand(*_groups(start, stop))
        return None if found is None else _encoded(found, start, stop)

    def fetch(self, start: int, stop: int, then: Then) -> None:
        def encode(found: bytes | TidegateError) -> None:
            then(_encoded(found, start, stop) if isinstance(found, bytes) else found)

        self._plain.fetch(*_groups(start, stop), encode)


def multipart(fields: Iterable[tuple[str, str]], blob: Blob, boundary: str) -> Upload:
    """A form with `blob` as its file, which comes last: a provider knows what is wanted before the audio comes.

    No name can end its header: quotes and line ends are percent-encoded, as browsers do (WHATWG HTML, "multipart form
    data").
    """
    head = bytearray()
    for name, value in fields:
        head += b'--%b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n' % (boundary.encode(), _quoted(name))
        head += value.encode("utf-8") + b"\r\n"
    head += b'--%b\r\ncontent-disposition: form-data; name="%b"; filename="%b"\r\ncontent-type: %b\r\n\r\n' % (
        boundary.encode(),
        FILE.encode(),
        _quoted(blob.name or FILE),
        _media_type(blob.content_type),
    )
    tail = b"\r\n--%b--\r\n" % boundary.encode()
    return Upload(b"multipart/form-data; boundary=%b" % boundary.encode(), (bytes(head), blob, tail))


def _quoted(text: str) -> bytes:
    return _CONTROL.sub("_", text.translate(_ESCAPES)).encode("utf-8", "replace")


def _media_type(text: str) -> bytes:
    return text.encode("ascii") if _MEDIA_TYPE.fullmatch(text) else b"application/octet-stream"


def _groups(start: int, stop: int) -> tuple[int, int]:
    """Where the plain bytes stand whose encoding holds the characters from `start` up to `stop`."""
    return start // 4 * 3, (stop + 3) // 4 * 3


def _encoded(plain: bytes, start: int, stop: int) -> bytes:
    text = base64.b64encode(plain)
    skipped = start % 4
    return text[skipped : skipped + stop - start]
