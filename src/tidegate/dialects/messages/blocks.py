"""Content blocks of a client's Messages request, and what they are in the canonical form."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import msgspec

from tidegate.dialects.leftovers import Leftovers
from tidegate.dialects.messages.native import carrying, search_item
from tidegate.dialects.validation import invalid
from tidegate.dialects.websearch import CALL
from tidegate.wire import jsonio
from tidegate.wire.items import (
    FilePart,
    FunctionCall,
    FunctionOutput,
    ImagePart,
    Item,
    Message,
    OpaqueItem,
    OpaquePart,
    Part,
    Reasoning,
    Role,
    TextPart,
    data_url,
)

__all__ = ["Blocks", "ContentBlock", "InputMessage", "Reader", "Source"]


class Source(msgspec.Struct):
    """Where an image or a document is."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: msgspec.Raw = msgspec.field(default_factory=jsonio.absent)


class ContentBlock(msgspec.Struct):
    """One block. Which members it has depends on its type; of a type that we do not know, all members travel on."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.field(default_factory=jsonio.absent)
    tool_use_id: str | None = None
    tool_name: str | None = None
    content: msgspec.Raw = msgspec.field(default_factory=jsonio.absent)
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    title: str | None = None
    context: str | None = None
    citations: msgspec.Raw = msgspec.field(default_factory=jsonio.absent)
    cache_control: jsonio.Members | None = None


class InputMessage(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[ContentBlock]


class Citation(msgspec.Struct):
    url: str | None = None
    title: str | None = None


class Enabled(msgspec.Struct):
    enabled: bool | None = None


_block_list = jsonio.decoder(list[ContentBlock])
_text = jsonio.decoder(str)
_citations = jsonio.decoder(list[Citation])
_enabled = jsonio.decoder(Enabled)


class Blocks:
    """The blocks of one list, each with its own bytes, and where the list stands in the request."""

    def __init__(self, blocks: list[ContentBlock], content: msgspec.Raw, path: str) -> None:
        """`content` is the list as it came."""
        self._blocks = blocks
        self._content = content
        self._raws: list[msgspec.Raw] | None = None
        self.path = path

    def __iter__(self) -> Iterator[tuple[ContentBlock, "_Own", str]]:
        for place, block in enumerate(self._blocks):
            yield block, partial(self._own, place), f"{self.path}[{place}]"

    def _own(self, place: int) -> msgspec.Raw:
        """Few blocks are wanted as they came."""
        if self._raws is None:
            self._raws = jsonio.elements(self._content)
        return self._raws[place]


_Own = Callable[[], msgspec.Raw]


class Reader:
    """Reads blocks. `left` has the names of what was left behind."""

    def __init__(self) -> None:
        self.left = Leftovers()

    def user(self, blocks: Blocks, role: Role) -> list[Item]:
        """The items of a message of the user, or of the system: tool results are items of their own."""
        items: list[Item] = []
        parts: list[Part] = []
        for block, raw, path in blocks:
            if block.type != "tool_result":
                parts.extend(self._parts_of(block, raw, path))
                continue
            if parts:
                items.append(Message(role=role, content=parts))
                parts = []
            items.append(self._result(block, path))
        if parts:
            items.append(Message(role=role, content=parts))
        return items

    def assistant(self, blocks: Blocks) -> list[Item]:
        """The items of a message of the assistant, in their order. Texts that follow each other are one message, and so are
        a search of the web and what it found."""
        items: list[Item] = []
        searches: dict[str, msgspec.Raw] = {}
        for block, raw, path in blocks:
            item: Item
            match block.type:
                case "server_tool_use" if block.name == "web_search":
                    searches[block.id or ""] = raw()
                    continue
                case "web_search_tool_result" if block.tool_use_id in searches:
                    own = block.tool_use_id or ""
                    item = OpaqueItem(type=CALL, value=search_item(own, searches.pop(own), raw()))
                case "tool_use":
                    text = bytes(block.input).decode()
                    item = FunctionCall(call_id=block.id or "", name=block.name or "", arguments=text)
                case "thinking":
                    # Nobody but its provider can check a signature: without it the text is worth nothing there.
                    said = [block.thinking] if block.thinking else []
                    item = Reasoning(summary=said, encrypted=block.signature or "")
                case "redacted_thinking":
                    item = Reasoning(encrypted=block.data or "")
                case "text" | "image" | "document" | "search_result":
                    parts = self._parts_of(block, raw, path)
                    if items and isinstance(items[-1], Message):
                        items[-1].content.extend(parts)
                        continue
                    item = Message(role="assistant", content=parts)
                case kind:
                    own = block.id or block.tool_use_id or ""
                    kind = f"anthropic:{kind}"
                    item = OpaqueItem(type=kind, value=carrying(kind, own, [raw()]))
            items.append(item)
        items.extend(OpaqueItem(type=CALL, value=search_item(own, use, None)) for own, use in searches.items())
        return items

    def parts(self, blocks: Blocks) -> list[Part]:
        return [part for block, raw, path in blocks for part in self._parts_of(block, raw, path)]

    def _parts_of(self, block: ContentBlock, raw: _Own, path: str) -> list[Part]:
        """Mostly one part: a document's context is a text before it. Raises InvalidRequest."""
        marked = block.cache_control is not None
        source = block.source
        match block.type:
            case "text":
                return [TextPart(text=block.text or "", annotations=_annotations(block), breakpoint=marked)]
            case "image" if isinstance(source, Source):
                if source.type == "file":
                    return [ImagePart(file_id=source.file_id or "", breakpoint=marked)]
                if source.type == "url":
                    return [ImagePart(url=source.url or "", breakpoint=marked)]
                if source.type == "base64":
                    return [ImagePart(url=data_url(source.media_type or "", source.data or ""), breakpoint=marked)]
            case "document" if isinstance(source, Source):
                return self._document(block, source, path)
            case "tool_reference" if block.tool_name:
                # What a client that searches its own tools has found; without a search they are all loaded.
                return [TextPart(text=f"The tool '{block.tool_name}' can be called now.", breakpoint=marked)]
            case "search_result":
                inner = self._inner(block.content, f"{path}.content")
                said = "\n".join(part.text for part in inner if isinstance(part, TextPart))
                head = "\n".join(filter(None, (block.title, source if isinstance(source, str) else "")))
                marked = marked or any(isinstance(part, TextPart) and part.breakpoint for part in inner)
                return [TextPart(text=f"{head}\n\n{said}", breakpoint=marked)]
            case _:
                pass
        return [OpaquePart(type=block.type, value=raw(), at=path)]

    def _document(self, block: ContentBlock, source: Source, path: str) -> list[Part]:
        marked = block.cache_control is not None
        title = block.title or ""
        if _is_enabled(block.citations):
            self.left.hint("citations")
        before: list[Part] = [TextPart(text=block.context)] if block.context else []
        match source.type:
            case "base64":
                data = data_url(source.media_type or "", source.data or "")
                return [*before, FilePart(data=data, filename=title, breakpoint=marked)]
            case "url":
                return [*before, FilePart(url=source.url or "", filename=title, breakpoint=marked)]
            case "file":
                return [*before, FilePart(file_id=source.file_id or "", filename=title, breakpoint=marked)]
            case "text":
                return [*before, FilePart(text=source.data or "", filename=title, breakpoint=marked)]
            case "content":
                inner = self._inner(source.content, f"{path}.source.content")
                return [*before, *([TextPart(text=title)] if title else []), *inner]
            case kind:
                raise invalid(f"{path}.source.type", f"'{kind}' is no source that can be carried to another API.")

    def _result(self, block: ContentBlock, path: str) -> FunctionOutput:
        content = [] if jsonio.is_null(block.content) else self._inner(block.content, f"{path}.content")
        if block.cache_control is not None:
            if content and not isinstance(content[-1], OpaquePart) and hasattr(content[-1], "breakpoint"):
                content[-1].breakpoint = True
            else:
                self.left.hint("cache_control")
        return FunctionOutput(call_id=block.tool_use_id or "", content=content, is_error=block.is_error is True)

    def _inner(self, content: msgspec.Raw, path: str) -> list[Part]:
        """A text, or the blocks within a block. Raises InvalidRequest."""
        try:
            if bytes(content).lstrip()[:1] == b'"':
                return [TextPart(text=jsonio.decode(content, _text))]
            return self.parts(Blocks(jsonio.decode(content, _block_list), content, path))
        except (jsonio.SchemaMismatch, jsonio.InvalidJSON) as error:
            inner = getattr(error, "path", "")
            place = f"{path}{inner}" if inner.startswith("[") else path
            raise invalid(place, "expected a string or an array of content blocks.", "invalid_type") from None


def _annotations(block: ContentBlock) -> list[msgspec.Raw]:
    """Citations with an address. Those of documents point into a request that another API does not have."""
    try:
        cited = [] if jsonio.is_null(block.citations) else jsonio.decode(block.citations, _citations)
    except jsonio.SchemaMismatch:
        return []
    end = len(block.text or "")
    return [
        jsonio.raw(
            {"type": "url_citation", "start_index": 0, "end_index": end, "url": one.url, "title": one.title or ""}
        )
        for one in cited
        if one.url
    ]


def _is_enabled(citations: msgspec.Raw) -> bool:
    try:
        return not jsonio.is_null(citations) and jsonio.decode(citations, _enabled).enabled is True
    except jsonio.SchemaMismatch:
        return False
