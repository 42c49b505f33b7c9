"""Images and files that a request only points to: what a provider can have of them.

Google keeps files, and videos of its own, under addresses that nobody else can fetch. An id of a file means something to the
API that gave it, and nothing to any other.
"""

from collections.abc import Mapping
from typing import Final, TypeGuard

import msgspec

from tidegate.dialects.codec import Losses
from tidegate.dialects.dialect import Destination
from tidegate.wire.items import CanonicalRequest, FilePart, FunctionOutput, ImagePart, Item, Message, Part

__all__ = ["is_googles", "reachable", "to_fetch", "with_content"]

_GOOGLES: Final = (
    "gs://",
    "https://generativelanguage.googleapis.com/",
    "https://www.youtube.com/",
    "https://youtube.com/",
    "https://youtu.be/",
)
"""Addresses that `fileData` takes; Google fetches no others."""

_SHOWN: Final = 200
"""Most characters of an address in an error."""


def is_googles(url: str) -> bool:
    """Whether only Google can have what stands there."""
    return url.startswith(_GOOGLES)


def to_fetch(request: CanonicalRequest, destination: Destination) -> list[str]:
    """Addresses whose content `destination` wants in their place, each once."""
    found = [
        part.url
        for item in request.items
        for part in _parts(item)
        if _is_link(part) and _wants_bytes(part, destination) and part.url.startswith(("https://", "http://"))
    ]
    return list(dict.fromkeys(url for url in found if not is_googles(url)))


def _wants_bytes(part: ImagePart | FilePart, destination: Destination) -> bool:
    """Chat messages take an image by its address, and a file only as data."""
    return not destination.fetches_urls or (destination.endpoint == "chat" and isinstance(part, FilePart))


def with_content(item: Item, content: Mapping[str, str], destination: Destination) -> Item:
    """`item` with what its addresses were fetched as, where `destination` wants that. `content` are data URLs."""
    if not isinstance(item, Message | FunctionOutput) or not any(_is_link(part) for part in item.content):
        return item
    return msgspec.structs.replace(item, content=[_with_bytes(part, content, destination) for part in item.content])


def _with_bytes(part: Part, content: Mapping[str, str], destination: Destination) -> Part:
    if not _is_link(part) or part.url not in content or not _wants_bytes(part, destination):
        return part
    if isinstance(part, ImagePart):
        return msgspec.structs.replace(part, url=content[part.url])
    return msgspec.structs.replace(part, url="", data=content[part.url])


def reachable(items: list[Item], request: CanonicalRequest, destination: Destination, losses: Losses) -> list[Item]:
    """The items without what `destination` cannot have, which is refused. `request` is whose items they are."""
    kept: list[Item] = []
    for item in items:
        if isinstance(item, Message | FunctionOutput):
            content = [part for part in item.content if _can_be_had(part, request, destination, losses)]
            if len(content) < len(item.content):
                if not content and isinstance(item, Message):
                    continue
                item = msgspec.structs.replace(item, content=content)
        kept.append(item)
    return kept


def _can_be_had(part: Part, request: CanonicalRequest, destination: Destination, losses: Losses) -> bool:
    if not isinstance(part, ImagePart | FilePart):
        return True
    why = ""
    if part.file_id and not _knows_files(request.client, destination):
        why = f"The file '{part.file_id[:_SHOWN]}' is kept elsewhere: an id belongs to the API that gave it. Send its data."
    elif is_googles(part.url) and destination.endpoint != "gemini":
        why = f"'{_shown(part.url)}' is kept by Google, and no other provider can fetch it. Send its data."
    elif part.url and not part.url.startswith(("data:", "https://", "http://", *_GOOGLES)):
        why = f"'{_shown(part.url)}' is no address that can be fetched; http, https and data URLs are."
    if why:
        losses.refuse("items", why)
    return not why


def _knows_files(client: str, destination: Destination) -> bool:
    """Whether ids that a client of this dialect has may be those of the deployment."""
    if client == destination.endpoint:
        return True
    return client in ("responses", "chat") and destination.quirks.openai_chat


def _shown(url: str) -> str:
    """Enough to know it by; queries hold signatures."""
    return url.partition("?")[0][:_SHOWN]


def _parts(item: Item) -> list[Part]:
    return item.content if isinstance(item, Message | FunctionOutput) else []


def _is_link(part: Part) -> TypeGuard[ImagePart | FilePart]:
    return isinstance(part, ImagePart | FilePart) and bool(part.url) and not part.url.startswith("data:")
