"""A client's history on its way to a provider of its own API, without what is not that provider's (protocol §5.4).

A conversation may have been with another provider before. Its thoughts came to the client with signatures of this
gateway, and its sources as citations of this gateway's, to both of which Anthropic answers 400. It does as well where words
stand behind a call, which other providers say.
"""

import re
from typing import Any, Final

import msgspec

from tidegate.dialects.dialect import Destination
from tidegate.dialects.envelope import PREFIX, Envelopes
from tidegate.dialects.messages.blocks import ContentBlock, InputMessage
from tidegate.wire import jsonio

__all__ = ["open_envelopes"]

_MARK: Final = PREFIX.encode()
_INDEX: Final = b'"encrypted_index"'
_OWN_CITATION: Final = re.compile(rb'"encrypted_index"\s*:\s*""')
"""Anthropic's own citations of the web always have an index; those that the encoder makes have none."""
_ANYBODYS: Final = frozenset({"text", "tool_use", "thinking", "redacted_thinking"})
"""Blocks that an answer of another provider has."""
_CLEARS_THINKING: Final = "clear_thinking"


class _Typed(msgspec.Struct):
    type: str = ""


class _Management(msgspec.Struct):
    edits: list[_Typed] | None = None


class _Citation(msgspec.Struct):
    encrypted_index: str | None = None


_typed = jsonio.decoder(_Typed)
_citations = jsonio.decoder(list[_Citation])
_management = jsonio.decoder(_Management)


def open_envelopes(
    members: jsonio.Members, messages: list[InputMessage], envelopes: Envelopes | None, destination: Destination
) -> tuple[str, ...]:
    """Put the provider's own thoughts in the place of their envelopes, and take out all others, and the citations that this
    gateway made; returns the names of what is lost. Thoughts that were only shown are none of it. `messages` are those of `members`."""
    if any(_goes_on_behind_calls(message) for message in messages):
        messages = _with_calls_last(members, messages)
    text = bytes(members["messages"])
    if text.find(_MARK) < 0 and (text.find(_INDEX) < 0 or _OWN_CITATION.search(text) is None):
        return ()
    history = _History(envelopes, destination)
    kept = [
        history.message(raw, message)
        for raw, message in zip(jsonio.elements(members["messages"]), messages, strict=True)
    ]
    members["messages"] = jsonio.raw([message for message in kept if message is not None])
    if len(messages) > 1 and _begins_with(messages[-1], "tool_result") and history.headless[-2]:
        names = _without_thinking(members, lost=history.lost)
    else:
        names = ("thinking",) if history.lost else ()
    return (*names, "citations") if history.cited else names


def _goes_on_behind_calls(message: InputMessage) -> bool:
    """Where Anthropic has run tools itself, it knows what it said."""
    if message.role != "assistant" or isinstance(message.content, str):
        return False
    called = behind = False
    for block in message.content:
        if block.type not in _ANYBODYS:
            return False
        behind = behind or (called and block.type == "text")
        called = called or block.type == "tool_use"
    return behind


def _with_calls_last(members: jsonio.Members, messages: list[InputMessage]) -> list[InputMessage]:
    """The messages with all words before the calls, in `members` too. All else keeps its place."""
    raws: list[Any] = list(jsonio.elements(members["messages"]))
    messages = list(messages)
    for place, message in enumerate(messages):
        if _goes_on_behind_calls(message):
            blocks = [one for one in message.content if isinstance(one, ContentBlock)]
            first = next(at for at, block in enumerate(blocks) if block.type == "tool_use")
            order = sorted(range(len(blocks)), key=lambda at: at >= first and blocks[at].type != "text")
            own = jsonio.members(raws[place])
            content = jsonio.elements(own["content"])
            raws[place] = {**own, "content": [content[at] for at in order]}
            messages[place] = msgspec.structs.replace(message, content=[blocks[at] for at in order])
    members["messages"] = jsonio.raw(raws)
    return messages


class _History:
    def __init__(self, envelopes: Envelopes | None, destination: Destination) -> None:
        self._envelopes = envelopes
        self._provider = destination.provider
        self.lost = False
        """Something was left out that another provider wants back."""
        self.cited = False
        """Citations of this gateway's were left out."""
        self.headless: list[bool] = []
        """For each message, whether the thought that it began with was left out."""

    def message(self, raw: jsonio.Raw, message: InputMessage) -> Any:
        """The message for the provider; None when nothing is left of it."""
        content = message.content
        if isinstance(content, str) or not any(_is_enveloped(block) or _is_cited(block) for block in content):
            self.headless.append(False)
            return raw
        members = jsonio.members(raw)
        torn = any(_is_enveloped(block) and self._is_broken(block) for block in content)
        found = [
            self._kept(own, block, torn=torn)
            for own, block in zip(jsonio.elements(members["content"]), content, strict=True)
        ]
        self.headless.append(found[0] is None)
        kept = [block for block in found if block is not None]
        return {**members, "content": kept} if kept else None

    def _kept(self, own: jsonio.Raw, block: ContentBlock, *, torn: bool) -> Any:
        """The block for the provider; None for one that is left out. What is left of a message's thoughts when one is `torn`
        would not be what the provider has thought: it goes without them. What is in no envelope, the provider can judge."""
        if not _is_enveloped(block):
            return self._uncited(own, block)
        if torn:
            self.lost = True
            return None
        return self._opened(block)

    def _uncited(self, own: jsonio.Raw, block: ContentBlock) -> Any:
        if not _is_cited(block):
            return own
        self.cited = True
        members: dict[str, Any] = dict(jsonio.members(own))
        read = jsonio.decode(block.citations, _citations)
        known = zip(jsonio.elements(block.citations), read, strict=True)
        members["citations"] = [one for one, citation in known if citation.encrypted_index != ""]
        if not members["citations"]:
            del members["citations"]
        return members

    def _is_broken(self, block: ContentBlock) -> bool:
        """Whether nobody can tell any more whose thought it is."""
        envelope = _carried(block)
        return self._envelopes is None or envelope is None or self._envelopes.read(envelope) is None

    def _opened(self, block: ContentBlock) -> dict[str, Any] | None:
        envelope = _carried(block)
        seal = None
        if self._envelopes is not None and envelope is not None:
            seal = self._envelopes.open(envelope, provider=self._provider)
        if seal is not None and seal.kind == "signature":
            return {"type": "thinking", "thinking": seal.text, "signature": seal.data}
        if seal is not None and seal.kind == "redacted":
            return {"type": "redacted_thinking", "data": seal.data}
        self.lost = self.lost or seal is None or seal.kind != "shown"
        return None


def _without_thinking(members: jsonio.Members, *, lost: bool) -> tuple[str, ...]:
    """With a budget, a step that called tools goes on only from its own thoughts, which are another provider's: the request
    goes without thinking then, and without the edit that is only allowed beside it."""
    if _type_of(members.get("thinking", jsonio.NULL)) != "enabled":
        return ("thinking",) if lost else ()
    del members["thinking"]
    given = members.get("context_management", jsonio.NULL)
    try:
        edits = jsonio.decode(given, _management).edits or []
    except jsonio.SchemaMismatch:
        edits = []
    if not any(edit.type.startswith(_CLEARS_THINKING) for edit in edits):
        return ("thinking",)
    management = jsonio.members(given)
    known = zip(jsonio.elements(management["edits"]), edits, strict=True)
    left = [edit for edit, read in known if not read.type.startswith(_CLEARS_THINKING)]
    members["context_management"] = jsonio.raw({**management, "edits": left})
    return "thinking", "context_management"


def _type_of(value: jsonio.Raw) -> str:
    try:
        return jsonio.decode(value, _typed).type
    except jsonio.SchemaMismatch:
        return ""


def _begins_with(message: InputMessage, *kinds: str) -> bool:
    return not isinstance(message.content, str) and bool(message.content) and message.content[0].type in kinds


def _is_cited(block: ContentBlock) -> bool:
    """Whether the text has a citation that this gateway made."""
    if block.type != "text" or jsonio.is_null(block.citations):
        return False
    try:
        return any(one.encrypted_index == "" for one in jsonio.decode(block.citations, _citations))
    except jsonio.SchemaMismatch:
        return False


def _is_enveloped(block: ContentBlock) -> bool:
    carrier = _carried(block)
    return carrier is not None and carrier.startswith(PREFIX)


def _carried(block: ContentBlock) -> str | None:
    """What a thought carries for its provider."""
    return {"thinking": block.signature, "redacted_thinking": block.data}.get(block.type)
