"""Where the text of a Gemini answer comes from: groundingMetadata and citationMetadata → `url_citation` annotations.

Google counts positions in bytes of UTF-8, the Responses API in characters. A segment's are those of the part that it names
by `partIndex`; without one they are those of all that the candidate said, also where that came in several parts.
Source: https://ai.google.dev/api/generate-content#Segment.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from tidegate.wire import jsonio

__all__ = ["Said", "annotations"]


class _Source(msgspec.Struct):
    uri: str = ""
    title: str = ""


class _Chunk(msgspec.Struct, rename="camel"):
    web: _Source | None = None
    retrieved_context: _Source | None = None
    maps: _Source | None = None


class _Segment(msgspec.Struct, rename="camel"):
    part_index: int = 0
    start_index: int = 0
    end_index: int | None = None


class _Support(msgspec.Struct, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] = []


class _Grounding(msgspec.Struct, rename="camel"):
    grounding_chunks: list[_Chunk] = []
    grounding_supports: list[msgspec.Raw] = []
    """Each is read by itself: one that cannot be costs no other."""


class _Citation(msgspec.Struct, rename="camel"):
    start_index: int = 0
    end_index: int | None = None
    uri: str = ""
    title: str = ""


class _Citations(msgspec.Struct, rename="camel"):
    citations: list[_Citation] = []
    citation_sources: list[_Citation] = []
    """The older name, which the Gemini API still has."""


_grounding = jsonio.decoder(_Grounding)
_support = jsonio.decoder(_Support)
_citations = jsonio.decoder(_Citations)


class Said(NamedTuple):
    """What a candidate said. Places are of characters in all of it."""

    text: str | None
    """None where it was not kept: places in it are known when it `is_ascii`."""
    is_ascii: bool
    message: tuple[int, int]
    """The last message, to which the annotations belong."""
    parts: list[tuple[int, int]]
    """Each part of Google's; empty is one that is no text of a message. None is known where `text` was not kept."""


def annotations(grounding: msgspec.Raw, citations: msgspec.Raw, said: Said) -> Iterator[msgspec.Raw]:
    """The annotations of a message. One whose place is not known spans it; what cannot be read is left out: it must not
    cost the answer."""
    if grounding:
        try:
            found = _grounding.decode(grounding)
        except jsonio.UNREADABLE:
            found = _Grounding()
        for given in found.grounding_supports:
            try:
                support = _support.decode(given)
            except jsonio.UNREADABLE:
                continue
            segment = support.segment or _Segment()
            for index in support.grounding_chunk_indices:
                if 0 <= index < len(found.grounding_chunks):
                    chunk = found.grounding_chunks[index]
                    source = chunk.web or chunk.retrieved_context or chunk.maps
                    if source is not None and source.uri:
                        yield _citation(source, said, _place(segment, said, segment.part_index))
    if citations:
        try:
            cited = _citations.decode(citations)
        except jsonio.UNREADABLE:
            return
        for one in (*cited.citations, *cited.citation_sources):
            if one.uri:
                yield _citation(one, said, _place(one, said))


def _place(given: _Segment | _Citation, said: Said, part: int = 0) -> tuple[int, int]:
    """The characters that are meant."""
    if part == 0:
        begin, end = 0, said.message[1]
    elif 0 < part < len(said.parts):
        begin, end = said.parts[part]
    else:
        begin = end = 0
    if begin == end or (said.text is None and not said.is_ascii):
        return said.message
    first, last = given.start_index, given.end_index
    if said.text is not None and not said.is_ascii:
        encoded = said.text[begin:end].encode()
        first = _characters(encoded, first)
        last = None if last is None else _characters(encoded, last)
    return begin + first, end if last is None else min(begin + last, end)


def _characters(encoded: bytes, position: int) -> int:
    return len(encoded[: max(0, position)].decode("utf-8", "ignore"))


def _citation(source: _Source | _Citation, said: Said, place: tuple[int, int]) -> msgspec.Raw:
    begin, end = said.message
    first = min(max(place[0], begin), end)
    last = max(min(place[1], end), first)
    title = source.title or source.uri
    members = {"type": "url_citation", "start_index": first - begin, "end_index": last - begin, "url": source.uri}
    return jsonio.raw({**members, "title": title})
