"""`POST /v1/responses/compact`: a conversation made shorter.

The answer is the user's messages and one compaction item, which stands for all the rest (protocol §1.1). A provider that
has this operation makes the item itself. For any other the gateway asks the same model for a summary, in whatever dialect
it speaks, and seals that into the item.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, estimated_usage, refuse_unsupported
from tidegate.dialects.extent import Extent
from tidegate.dialects.responses.canonical import canonical_request
from tidegate.dialects.responses.compacted import COMPACTION
from tidegate.dialects.responses.encoder import ResponsesEncoder
from tidegate.dialects.responses.output import item_id
from tidegate.dialects.responses.prompt import PromptBody, PromptRequest, check_prompt
from tidegate.dialects.responses.request import ResponsesBody, parse_request
from tidegate.dialects.responses.sealing import sealed_output
from tidegate.dialects.responses.state import kept_items
from tidegate.dialects.usage import read_usage_object
from tidegate.dialects.validation import invalid, missing, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import UpstreamBroken, WireError
from tidegate.wire.events import Seal
from tidegate.wire.items import (
    CanonicalRequest,
    FunctionCall,
    FunctionOutput,
    Item,
    Message,
    OpaqueItem,
    Output,
    Reasoning,
    TextPart,
)

__all__ = ["CompactBody", "CompactRequest", "parse_compact"]

_INSTRUCTION: Final = """\
Stop here and write a summary of the conversation above. It will take the conversation's place: whoever goes on from here, \
another model perhaps, will read the user's messages and your summary, and nothing else of what was said or done.

Write down, in this order, whatever there is of it:
1. What the user wants in the end, and every requirement, preference and limit they have stated that still holds.
2. What has been done so far and what came of it: answers given, decisions with their reasons, what was tried and did not \
work.
3. Facts that are needed to go on, exactly as they were: names, figures, paths, addresses, code, error messages, and what \
tools have returned.
4. Where things stand now, and what remains to be done, the next step first.

Keep to what was said: add nothing, answer no question of the conversation, and carry out nothing in it. Leave out \
pleasantries and whatever was replaced later. Write in the language of the conversation, as briefly as completeness allows. \
Reply with the summary alone."""


class CompactBody(PromptBody):
    """The documented members (protocol §1.1). Members that we do not know travel on unread."""

    prompt_cache_key: str | None = None
    service_tier: str | None = None
    stream: bool | None = None


class _Compacted(msgspec.Struct):
    """As much of a provider's answer as must be there."""

    output: list[msgspec.Raw]
    usage: msgspec.Raw = jsonio.NULL


class _Kind(msgspec.Struct):
    type: str = ""


_decoder = jsonio.decoder(CompactBody)
_compacted = jsonio.decoder(_Compacted)
_kind = jsonio.decoder(_Kind)


class CompactRequest(PromptRequest[CompactBody]):
    """A validated request (see :class:`tidegate.dialects.codec.BridgedRequest`)."""

    __slots__ = ()

    wants_stop = False
    end_user = None
    extent = Extent()

    def forward(self, destination: Destination) -> bytes:
        members = self._whole()
        members["model"] = jsonio.raw(destination.model)
        members.pop("stream", None)
        left_out = self._fit(members, destination)
        self.dropped = (*left_out, *refuse_unsupported(members, destination))
        return jsonio.encode(members)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        try:
            found = jsonio.decode(body, _compacted)
            kinds = [jsonio.decode(item, _kind).type for item in found.output]
            members = jsonio.members(body)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"the provider's answer cannot be read: {error}") from None
        if kinds.count(COMPACTION) != 1:
            raise WireError(f"the provider's answer has {kinds.count(COMPACTION)} compaction items instead of one")
        if destination.gateway_state:
            members["id"] = jsonio.raw(call.response_id)
            members["created_at"] = jsonio.raw(call.created_at)
            if self.envelopes is not None:
                members["output"] = sealed_output(members["output"], self.envelopes, destination)
        usage = read_usage_object(found.usage) or estimated_usage(call, sum(map(len, found.output)))
        return Answer(jsonio.encode(members), usage, "completed")

    # -- by a summary -------------------------------------------------------------------------------------------

    def canonical(self) -> CanonicalRequest:
        """The conversation with what was done in it put into words, and the question for a summary behind it. There are no
        tools: calls without any are refused by some APIs. Members that this operation does not have are read as those of a
        response, as agents send them."""
        self._refuse_state_we_lack(None)
        members = self._whole()
        members.pop("stream", None)
        parse_request(jsonio.encode(members), generates=False)
        typed = ResponsesBody(
            model=self.typed.model,
            instructions=self.typed.instructions,
            prompt_cache_key=self.typed.prompt_cache_key,
            service_tier=self.typed.service_tier,
        )
        asked = canonical_request(members, typed)
        question = Message(role="user", content=[TextPart(text=_INSTRUCTION)])
        asked.items = [*_in_words(asked.items), question]
        asked.tools = []
        return asked

    def encoder(self, call: Call) -> ResponsesEncoder:
        raise AssertionError("a compaction does not stream")

    def encode_answer(self, output: Output, call: Call, destination: Destination) -> bytes:
        """Raises UpstreamBroken where the model did not write a whole summary."""
        choice = output.choices[0] if output.choices else None
        summary = "" if choice is None else _said(choice.items).strip()
        if choice is None or choice.reason != "stop" or not summary:
            reason = "no text" if choice is None or not summary else f"one that broke off ({choice.reason})"
            raise UpstreamBroken(
                f"Provider '{destination.provider}' was asked for a summary of the conversation, and gave {reason}. The "
                "conversation is as it was."
            )
        assert self.envelopes is not None
        sealed = self.envelopes.seal(
            Seal(kind="summary", data=summary), provider=destination.provider, model=destination.model
        )
        items: list[Any] = [msgspec.Raw(item) for item in self._users(call)]
        own = item_id(call.response_id, COMPACTION, len(items))
        items.append({"id": own, "type": COMPACTION, "encrypted_content": sealed})
        return jsonio.encode(
            {
                "id": call.response_id,
                "object": "response.compaction",
                "created_at": call.created_at,
                "output": items,
                "usage": output.usage.as_responses(),
            }
        )

    def _users(self, call: Call) -> Iterable[bytes]:
        """The user's messages in full form."""
        count = 0

        def new_id(prefix: str) -> str:
            nonlocal count
            count += 1
            return item_id(call.response_id, "message" if prefix == "msg" else prefix, count - 1)

        items = kept_items(self._whole().get("input"), self.typed.input, new_id)
        if isinstance(self.typed.input, str):
            return [content for _, content in items]
        return [
            content
            for item, (_, content) in zip(self.typed.input or (), items, strict=True)
            if item.role == "user" and item.type in (None, "message")
        ]


def _in_words(items: Iterable[Item]) -> Iterable[Item]:
    """Messages as they are; what was called, and what came back, as messages."""
    for item in items:
        match item:
            case Message():
                yield item
            case FunctionCall():
                yield _message("assistant", f"[Called the tool {item.name} ({item.call_id}) with: {item.arguments}]")
            case FunctionOutput():
                head = TextPart(text=f"[What the tool call {item.call_id} returned:]")
                yield Message(role="user", content=[head, *item.content])
            case Reasoning():
                continue  # what the model thought on its way is in what it said and did
            case OpaqueItem(type=kind) if kind == COMPACTION:
                yield item
            case OpaqueItem():
                yield _message("assistant", f"[{item.type}: {_without_ciphertext(item.value)}]")


def _without_ciphertext(value: msgspec.Raw) -> str:
    """The item as JSON, without what is no text: ids, ciphertext and generated images."""
    members = jsonio.members(value)
    return jsonio.encode(
        {name: one for name, one in members.items() if name not in ("id", "type", "encrypted_content", "result")}
    ).decode()


def _message(role: Any, text: str) -> Message:
    return Message(role=role, content=[TextPart(text=text)])


def _said(items: Iterable[Item]) -> str:
    return "\n\n".join(
        part.text
        for item in items
        if isinstance(item, Message)
        for part in item.content
        if isinstance(part, TextPart) and part.text
    )


def parse_compact(body: bytes) -> CompactRequest:
    """Decode and validate. Raises InvalidRequest."""
    typed = parse(body, _decoder, {})
    if not typed.model:
        raise missing("model", "A conversation is compacted by the model that goes on with it.")
    if typed.input is None and typed.previous_response_id is None and typed.conversation is None:
        raise missing("input", "There is nothing to compact without 'input' or 'previous_response_id'.")
    if typed.stream:
        raise invalid("stream", "a compaction comes in one body.")
    check_prompt(typed)
    return CompactRequest(body, typed)
