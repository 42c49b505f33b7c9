"""Where the text of a Gemini answer comes from: groundingMetadata and citationMetadata → `url_citation` annotations.

Google counts positions in bytes of UTF-8, the Responses API in characters.
"""

from collections.abc import Iterator

import msgspec

from tidegate.wire import jsonio

__all__ = ["annotations"]


class _Source(msgspec.Struct):
    uri: str = ""
    title: str = ""


class _Chunk(msgspec.Struct, rename="camel"):
    web: _Source | None = None
    retrieved_context: _Source | None = None
    maps: _Source | None = None


class _Segment(msgspec.Struct, rename="camel"):
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


def annotations(
    grounding: msgspec.Raw, citations: msgspec.Raw, text: str | None, span: tuple[int, int], *, exact: bool
) -> Iterator[msgspec.Raw]:
    """The annotations of a message.

    `text` is all that the candidate said, where it was kept, and `span` the characters of it that are the message. Without
    it positions are right when the text is ASCII (`exact`); else an annotation spans the whole message. What cannot be read is left out: it must not cost the answer.
    """
    places = _Places(text, span, exact=exact)
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
                        yield places.citation(source.uri, source.title, segment.start_index, segment.end_index)
    if citations:
        try:
            cited = _citations.decode(citations)
        except jsonio.UNREADABLE:
            return
        for one in (*cited.citations, *cited.citation_sources):
            if one.uri:
                yield places.citation(one.uri, one.title, one.start_index, one.end_index)


class _Places:
    """Byte positions of one message as positions of characters."""

    def __init__(self, text: str | None, span: tuple[int, int], *, exact: bool) -> None:
        self._encoded = None if text is None or exact else text.encode()
        self._start, self._characters = span
        self._exact = exact

    def citation(self, url: str, title: str, start: int, end: int | None) -> msgspec.Raw:
        if self._exact:
            first, last = start, self._characters if end is None else end
        elif self._encoded is not None:
            first = self._at(start)
            last = self._characters if end is None else self._at(end)
        else:
            first, last = 0, self._characters
        first = min(max(first, self._start), self._characters) - self._start
        last = max(min(last, self._characters) - self._start, first)
        return jsonio.raw(
            {"type": "url_citation", "start_index": first, "end_index": last, "url": url, "title": title or url}
        )

    def _at(self, position: int) -> int:
        assert self._encoded is not None
        return len(self._encoded[: max(0, position)].decode("utf-8", "ignore"))
