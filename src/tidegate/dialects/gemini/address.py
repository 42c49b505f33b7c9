"""Where Google's clients send a request: the address names the model, the method, and the form of the stream."""

import re
from typing import Final
from urllib.parse import parse_qs, unquote

import msgspec

__all__ = ["Address", "read_address"]

_PATH: Final = re.compile(
    r"/v1(?:alpha|beta)?/models/(?P<model>.+):(?P<method>generateContent|streamGenerateContent)", re.DOTALL
)
"""Official clients say `v1` or `v1beta`, by their age; a model's name may have slashes and colons."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What `GeminiDialect.parse` wants to know beside the body."""

    model: str
    stream: bool
    alt: str = ""


def read_address(path: str, query: str) -> Address | None:
    """The parts of a target, percent signs undone; None when it is no call of this API that is offered here."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    given = parse_qs(query, errors="replace")
    alt = given.get("alt") or given.get("$alt") or [""]
    return Address(model=unquote(found["model"]), stream=found["method"] == "streamGenerateContent", alt=alt[-1])
