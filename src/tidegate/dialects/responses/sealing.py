"""OpenAI's own encrypted reasoning, inside our envelope on its way to the client, and out of it on its way back.

Without it a conversation that changes its provider would hand one provider's ciphertext to another, which answers 400. So
it does to plain reasoning, which others tell and OpenAI takes from nobody.
"""

from typing import Any

import msgspec

from tidegate.dialects.dialect import Destination
from tidegate.dialects.envelope import PREFIX, Envelopes
from tidegate.dialects.responses.compacted import COMPACTION, Place, read_compaction, summary_message
from tidegate.wire import jsonio
from tidegate.wire.events import Seal

__all__ = ["opened_input", "sealed_event", "sealed_output"]


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    encrypted_content: str | None = None


class _Event(msgspec.Struct, gc=False):
    item: _Item | None = None


_event = jsonio.decoder(_Event)
_items = jsonio.decoder(list[_Item])
_UNREADABLE = (jsonio.InvalidJSON, jsonio.SchemaMismatch)


def sealed_event(data: bytes, envelopes: Envelopes, destination: Destination) -> bytes | None:
    """An `output_item` event whose item has encrypted content, with that in an envelope; None for any other."""
    try:
        item = jsonio.decode(data, _event).item
    except _UNREADABLE:
        return None  # whoever forwards the event says what is wrong with it
    if item is None or not item.encrypted_content:
        return None
    members = jsonio.members(data)
    members["item"] = _sealed(members["item"], item.encrypted_content, envelopes, destination)
    return jsonio.encode(members)


def sealed_output(output: msgspec.Raw, envelopes: Envelopes, destination: Destination) -> msgspec.Raw:
    """The output of a response, with all encrypted content in envelopes."""
    try:
        known = jsonio.decode(output, _items)
    except _UNREADABLE:
        return output
    if not any(item.encrypted_content for item in known):
        return output
    return jsonio.raw(
        [
            _sealed(raw, item.encrypted_content, envelopes, destination) if item.encrypted_content else raw
            for raw, item in zip(jsonio.elements(output), known, strict=True)
        ]
    )


def opened_input(
    value: msgspec.Raw, envelopes: Envelopes | None, destination: Destination, compaction_at: Place
) -> tuple[msgspec.Raw, tuple[str, ...]]:
    """The input with this provider's own ciphertext where envelopes stood, and without reasoning that another one made;
    the names of what is left out. Plain ciphertext goes on as it is. Raises InvalidRequest for a compaction item that the
    provider cannot read."""
    items: list[Any] = []
    compactions = 0
    left_out: dict[str, None] = {}
    known = jsonio.decode(value, _items)
    for raw, item in zip(jsonio.elements(value), known, strict=True):
        text = item.encrypted_content
        if item.type == COMPACTION:
            found = read_compaction(text, compaction_at(compactions), envelopes, destination)
            compactions += 1
            if found.kind == "summary":
                items.append(summary_message(found.data))
            else:
                items.append({**jsonio.members(raw), "encrypted_content": found.data})
            continue
        if item.type == "reasoning" and not text and destination.gateway_state and destination.encrypted_reasoning:
            left_out["reasoning_items"] = None
            continue
        if not text or not text.startswith(PREFIX):
            items.append(raw)
            continue
        seal = envelopes.open(text, provider=destination.provider) if envelopes is not None else None
        if seal is None or seal.kind != "encrypted":
            left_out["reasoning.encrypted_content"] = None
            plain = jsonio.members(raw)
            del plain["encrypted_content"]
            # A provider that seals nothing may still read the words.
            if not destination.encrypted_reasoning and any(_is_said(plain, name) for name in ("content", "summary")):
                items.append(plain)
            continue
        items.append({**jsonio.members(raw), "encrypted_content": seal.data})
    return jsonio.raw(items), tuple(left_out)


def _is_said(item: jsonio.Members, name: str) -> bool:
    return bytes(item.get(name, jsonio.NULL)) not in (b"null", b"[]")


def _sealed(item: msgspec.Raw, text: str, envelopes: Envelopes, destination: Destination) -> msgspec.Raw:
    seal = Seal(kind="encrypted", data=text)
    envelope = envelopes.seal(seal, provider=destination.provider, model=destination.model)
    return jsonio.raw({**jsonio.members(item), "encrypted_content": envelope})
