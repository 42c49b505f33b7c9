"""Names of tools that a client's API takes and a provider's refuses.

Clients build them from those of servers and plugins (Claude Code: `mcp__plugin_…__…`), and what is too long for one API, or
has letters that it does not take, is usual in another. The provider gets another name, the same in every request, and the
client gets its own back.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

from tidegate.dialects.dialect import Endpoint
from tidegate.wire.items import CanonicalRequest, FunctionCall, FunctionOutput, Item, Tool

__all__ = ["LONGEST_NAME", "shortened", "with_names"]

LONGEST_NAME: Final = 64
"""Most characters of a function's name that all providers take (protocol §1.4)."""

Named = TypeVar("Named", Tool, FunctionCall, FunctionOutput)

_DIGEST: Final = 8

_USUAL: Final = (re.compile(r"[A-Za-z0-9_-]{1,64}"), re.compile(r"[^A-Za-z0-9_-]"))
"""What a name is, and what no part of one is. OpenAI's and Anthropic's, and of servers that speak like them."""

_GOOGLES: Final = (re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}"), re.compile(r"[^A-Za-z0-9_.:-]"))
"""ai.google.dev/api/caching#FunctionDeclaration"""


def shortened(name: str, whole: str = "") -> str:
    """`name`, as short as it has to be, with a digest of `whole` (else of itself), so that it stays the tool's own."""
    digest = hashlib.sha256((whole or name).encode("utf-8", "replace")).hexdigest()[:_DIGEST]
    return f"{name[: LONGEST_NAME - _DIGEST - 1]}_{digest}"


def with_names(request: CanonicalRequest, endpoint: Endpoint) -> tuple[CanonicalRequest, dict[str, str]]:
    """The request with names that `endpoint` takes, and the client's own by those."""
    taken, refused = _GOOGLES if endpoint == "gemini" else _USUAL
    others: dict[str, str] = {}
    for name in _names(request):
        if name not in others and not taken.fullmatch(name):
            plain = refused.sub("_", name)
            others[name] = shortened(plain if plain[:1].isalpha() or endpoint != "gemini" else f"_{plain}", name)
    if not others:
        return request, others
    choice = request.tool_choice
    if choice is not None:
        choice = msgspec.structs.replace(choice, names=tuple(others.get(name, name) for name in choice.names))
    renamed = msgspec.structs.replace(
        request,
        tools=[_renamed(tool, others) if isinstance(tool, Tool) else tool for tool in request.tools],
        items=[_item(item, others) for item in request.items],
        tool_choice=choice,
    )
    return renamed, {other: name for name, other in others.items()}


def _names(request: CanonicalRequest) -> Iterator[str]:
    for tool in request.tools:
        if isinstance(tool, Tool):
            yield tool.name
    for item in request.items:
        if isinstance(item, FunctionCall):
            yield item.name


def _renamed(one: Named, others: dict[str, str]) -> Named:
    name = others.get(one.name)
    return one if name is None else msgspec.structs.replace(one, name=name)


def _item(item: Item, others: dict[str, str]) -> Item:
    if isinstance(item, FunctionCall):
        return _renamed(item, others)
    return _renamed(item, others) if isinstance(item, FunctionOutput) else item
