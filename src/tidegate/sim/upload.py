"""Upload: a form with a file, read as it comes (RFC 7578). The file is counted and hashed, and never kept."""

import hashlib
import re
from typing import Any

from tidegate.sim.errors import Refusal

PATHS = {"/v1/audio/transcriptions": "transcribe", "/v1/audio/translations": "translate"}
"""Where forms are taken, and what their answers are called."""

MAX_HEAD_BYTES = 16 * 1024
MAX_FIELD_BYTES = 8 * 1024 * 1024

_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary=(?:"([^"]+)"|([^\s;]+))', re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r';\s*(name|filename)="([^"]*)"')


class Upload:
    """One form. What of it has come so far can be looked at while more of it comes."""

    def __init__(self, content_type: str) -> None:
        """Raises Refusal for a content type that is no form's."""
        found = _BOUNDARY.match(content_type)
        if found is None:
            raise Refusal(400, f"Expected multipart/form-data, got {content_type!r}.", code="invalid_content_type")
        self._mark = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter is like the others
        self._within = False
        self._field = ""
        self._value: bytearray | None = None
        self._hash = hashlib.sha256()
        self.fields: list[tuple[str, str]] = []
        self.name: str | None = None
        """The file's; None while none has begun."""
        self.content_type = ""
        self.size = 0
        self.complete = False
        self.headers: list[str] = []
        """The header block of every part, as it came."""

    @property
    def sha256(self) -> str:
        """Of the file, as far as it has come."""
        return self._hash.hexdigest()

    def field(self, name: str) -> str | None:
        """The last value of a field."""
        return next((value for key, value in reversed(self.fields) if key == name), None)

    @property
    def as_object(self) -> dict[str, Any]:
        """The fields as JSON would have them; what came more than once, or with brackets, is a list."""
        found: dict[str, Any] = {}
        for name, value in self.fields:
            if name.endswith("[]"):
                found.setdefault(name[:-2], []).append(value)
            else:
                found[name] = value
        return found

    def feed(self, data: bytes) -> None:
        """The next bytes of the body. Raises Refusal for what is no form."""
        if self.complete:
            return
        buffer = self._buffer
        buffer += data
        while not self.complete:
            if self._within:
                at = buffer.find(self._mark)
                if at < 0:
                    self._take(len(buffer) - len(self._mark) + 1)
                    return
                self._take(at)
                self._end_part()
            if not buffer.startswith(self._mark) and len(buffer) >= len(self._mark):
                raise Refusal(400, "There was an error parsing the body: no boundary where one has to be.")
            end = len(self._mark) + 2
            if len(buffer) < end:
                return
            if buffer[end - 2 : end] == b"--":
                self.complete = True
                buffer.clear()
                return
            at = buffer.find(b"\r\n\r\n")
            if at < 0:
                if len(buffer) > MAX_HEAD_BYTES:
                    raise Refusal(400, "There was an error parsing the body: the head of a part is too long.")
                return
            self._begin_part(bytes(buffer[end:at]).decode("utf-8", "replace"))
            del buffer[: at + 4]

    def _begin_part(self, head: str) -> None:
        self.headers.append(head)
        given = dict(_PARAMETER.findall(head))
        self._within = True
        self._field = given.get("name", "")
        if "filename" in given:
            self.name = given["filename"]
            said = re.search(r"^content-type:\s*(.+?)\s*$", head, re.IGNORECASE | re.MULTILINE)
            self.content_type = said[1] if said else ""
            self._value = None
        else:
            self._value = bytearray()

    def _take(self, count: int) -> None:
        if count <= 0:
            return
        if self._value is None:
            self.size += count
            self._hash.update(self._buffer[:count])
        else:
            self._value += self._buffer[:count]
            if len(self._value) > MAX_FIELD_BYTES:
                raise Refusal(400, "There was an error parsing the body: a field is too long.")
        del self._buffer[:count]

    def _end_part(self) -> None:
        self._within = False
        if self._value is not None:
            self.fields.append((self._field, self._value.decode("utf-8", "replace")))
            self._value = None
