"""The input of a custom tool out of the arguments of the function that stood for it."""

import re

from tidegate.wire import jsonio

__all__ = ["Unwrapper"]

_BEGIN = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_UNITS = re.compile(
    r'(?:[^"\\]++'
    r"|\\[^u]"
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
)
"""As much of a JSON text as is whole: neither an escape nor a pair of two is cut."""
_LONGEST_UNIT = 12
_CONTROL = re.compile(r"[\x00-\x1f]")
_text = jsonio.decoder(str)


class Unwrapper:
    """`{"input": "…"}` in any split → the text, as far as it is known. Arguments of another shape come out at the end: the
    `input` among them, else the only text in them, or they themselves. What stands beside `input` is left out: the tool has
    one text for its input, which streams before anybody knows what follows."""

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._held = ""
        self._state = "before"

    def feed(self, piece: str) -> str:
        self._held += piece
        if self._state == "before":
            begun = _BEGIN.match(self._held)
            if begun is None:
                return ""
            self._held = self._held[begun.end() :]
            self._state = "inside"
        if self._state == "inside":
            return self._inside()
        return ""

    def eof(self) -> str:
        """What is left. A text that was cut comes out as far as it is readable."""
        held, self._held = self._held, ""
        if self._state != "before":
            return ""
        try:
            found = jsonio.anything(held.encode())
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch, UnicodeEncodeError):
            return held
        if isinstance(found, str):
            return found
        if not isinstance(found, dict):
            return held
        if isinstance(found.get("input"), str):
            return str(found["input"])
        texts = [value for value in found.values() if isinstance(value, str)]
        return texts[0] if len(texts) == 1 else "" if found == {} else held

    def _inside(self) -> str:
        held = self._held
        found = _UNITS.match(held)
        end = found.end() if found is not None else 0
        if held[end : end + 1] == '"':
            self._state = "after"
            self._held = ""
        elif len(held) - end >= _LONGEST_UNIT:
            self._held = ""  # no escape at all: as it stands
            return held
        else:
            self._held = held[end:]
        raw = _CONTROL.sub(_escaped, held[:end])
        try:
            return jsonio.decode(b'"%b"' % raw.encode(), _text)
        except jsonio.InvalidJSON:  # an escape that JSON does not have
            return held[:end]


def _escaped(found: re.Match[str]) -> str:
    """Servers that leave line ends and tabs as they are would else cost the whole call."""
    return f"\\u{ord(found.group()):04x}"
