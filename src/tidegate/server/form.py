"""A form that arrives (multipart/form-data, RFC 7578): bytes in, fields and one file out, with every cap they must keep."""

import logging
import re
import secrets
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from tidegate.dialects.validation import invalid, missing
from tidegate.server.spool import Spool, Spools, Tide
from tidegate.wire import errors
from tidegate.wire.forms import FILE, Form

__all__ = ["FIELDS_BYTES", "FIELDS_LIMIT", "FormReader"]

FIELDS_LIMIT = 256
"""Most fields of one form."""

FIELDS_BYTES = 8 * 1024 * 1024
"""Most bytes of all fields together; the longest that OpenAI knows are four short recordings of speakers."""

FIELD_HEADERS_LIMIT = 8
FIELD_HEADER_BYTES = 4096
"""Most header lines of a part, and most bytes of one."""

_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046 §5.1.1."""

_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*utf-8'[A-Za-z-]*'([^;\s]+)", re.IGNORECASE)

_HINT = "Send a form (multipart/form-data), with curl: -F file=@speech.mp3 -F model=…"

# It warns of every malformed form, with words of the client's own. The client is told, and that is enough.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class FormReader:
    """Reads one form. :meth:`feed` what comes, then :meth:`close`; :meth:`finish` when it is wanted, and :meth:`release` whatever happened."""

    def __init__(self, content_type: bytes | None, spools: Spools, tide: Tide) -> None:
        """Raises InvalidRequest for a content type that is no form's."""
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
            },
            max_header_count=FIELD_HEADERS_LIMIT,
            max_header_size=FIELD_HEADER_BYTES,
        )
        self._spools = spools
        self._tide = tide
        self._fields: list[tuple[str, str]] = []
        self._fields_bytes = 0
        self._file: Spool | None = None
        self._header_name = self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._value: list[bytes] | None = None
        """Of the field that is being read; None while a file is."""

    def feed(self, data: bytes) -> None:
        """The next bytes of the body. Raises InvalidRequest, which ends the reading."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise invalid(FILE, f"the form is broken: {error}.", "invalid_form") from None

    def close(self) -> None:
        """The body has come, or no more of it will: nobody need be held back any more."""
        if self._file is not None:
            self._file.close()

    def finish(self, then: Callable[[Form | errors.TidegateError], None]) -> None:
        """After :meth:`close`: `then` is told, perhaps at once, when all of it is kept, or that it cannot be.

        Raises InvalidRequest for a form that is not complete.
        """
        if self._parser.state != MultipartState.END:
            raise invalid(FILE, "the form ends before its last boundary.", "invalid_form")
        file = self._file
        form = Form(fields=tuple(self._fields), file=file, boundary=f"tidegate-{secrets.token_hex(16)}")
        if file is None:
            then(form)
        else:
            file.end(lambda error: then(form if error is None else error))

    def release(self) -> None:
        """What was uploaded is needed no more. May be called more than once."""
        if self._file is not None:
            self._file.release()
        self._parser.callbacks = {}  # they refer to this reader, and it to the parser

    # -- parser callbacks ---------------------------------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._header_name = self._header_value = b""

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition"))
        content_type = self._headers.get(b"content-type", b"").decode("latin-1").strip()
        if disposition != b"form-data" or b"name" not in options:
            raise invalid(FILE, "a part of the form has no 'content-disposition' with a name.", "invalid_form")
        self._name = _text(options[b"name"], FILE, "the name of a field")
        name = _file_name(options, self._headers[b"content-disposition"])
        if name is None and (self._name != FILE or content_type in ("", "text/plain")):
            self._begin_field()
            return
        if self._name != FILE:
            raise invalid(_shown(self._name), f"the only file of this form is '{FILE}'.")
        if self._file is not None:
            raise invalid(FILE, "there may be only one.")
        self._value = None
        self._file = self._spools.new(self._tide)
        self._file.name = name or ""
        self._file.content_type = content_type

    def _begin_field(self) -> None:
        if self._name == FILE:
            raise invalid(FILE, f"expected a file: its part has no file name. {_HINT}", "invalid_type")
        if len(self._fields) >= FIELDS_LIMIT:
            raise invalid(_shown(self._name), f"a form has at most {FIELDS_LIMIT} fields.")
        self._value = []

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._value is None:
            if self._file is not None:
                self._file.append(piece)
            return
        self._fields_bytes += len(piece)
        if self._fields_bytes > FIELDS_BYTES:
            raise errors.BodyTooLarge(
                f"The fields of the form have more than {FIELDS_BYTES} bytes together.", param=_shown(self._name)
            )
        self._value.append(piece)

    def _on_part_end(self) -> None:
        if self._value is not None:
            self._fields.append((self._name, _text(b"".join(self._value), _shown(self._name), "its text")))
            self._value = None


def _boundary(content_type: bytes | None) -> bytes:
    """Raises InvalidRequest."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        what = f"The content type is {_shown(kind.decode('latin-1'))!r}." if kind else "There is no content type."
        raise missing(FILE, f"{what} {_HINT}")
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        what = "an impossible" if boundary else "no"
        raise invalid(FILE, f"the content type has {what} 'boundary' (RFC 2046 §5.1.1). {_HINT}", "invalid_form")
    return boundary


def _file_name(options: dict[bytes, bytes], disposition: bytes) -> str | None:
    """None for a part that is no file. Some clients write a name only in the extended form of RFC 5987, which RFC 7578
    §4.2 does not want."""
    if b"filename" in options:
        return options[b"filename"].decode("utf-8", "replace")
    extended = _EXTENDED_NAME.search(disposition)
    return unquote_to_bytes(extended[1]).decode("utf-8", "replace") if extended else None


def _text(data: bytes, param: str, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(param, f"{what} is not valid UTF-8.") from None


def _shown(name: str) -> str:
    """A name of the client's own, fit to be told back."""
    shown = "".join(one if one.isprintable() else "\ufffd" for one in name[:100])
    return shown if len(name) <= 100 else f"{shown}…"
