"""`POST /v1/messages/count_tokens`: how many tokens a prompt has.

A provider that speaks this API counts itself. For any other the gateway estimates: no tokenizer is kept for each of the
models behind it, and one would have to run outside the event loop.
"""

from collections.abc import Iterable

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, refuse_unsupported
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.extent import NOTHING
from tidegate.dialects.leftovers import unknown
from tidegate.dialects.messages.blocks import ContentBlock, Source
from tidegate.dialects.messages.foreign import open_envelopes
from tidegate.dialects.messages.request import PromptBody, check_prompt
from tidegate.dialects.thoughts import are_sent
from tidegate.dialects.validation import parse
from tidegate.wire import jsonio
from tidegate.wire.errors import WireError
from tidegate.wire.events import Usage, estimate_tokens

__all__ = ["CountBody", "CountRequest", "parse_count"]

IMAGE_TOKENS = 1600
"""The most that Anthropic counts for an image, which is then scaled down (vision guide)."""

DOCUMENT_BYTES_PER_TOKEN = 40
"""Base64 of a PDF for one token: a page of some 80 KB has about 2,000 (PDF support guide: 1,500 to 3,000)."""

_COUNTED = ("system", "messages", "tools")
_THOUGHTS = ("thinking", "redacted_thinking")


class CountBody(PromptBody):
    """The documented members. Members that we do not know travel on unread."""


class _Counted(msgspec.Struct):
    input_tokens: int


_decoder = jsonio.decoder(CountBody)
_counted = jsonio.decoder(_Counted)
_blocks = jsonio.decoder(list[ContentBlock])


class CountRequest:
    """A validated request for a count (see :class:`tidegate.dialects.dialect.Standalone`)."""

    __slots__ = ("_body", "dropped", "envelopes", "model", "stream", "typed")

    wants_stream = False
    wants_stop = False
    end_user = None
    extent = NOTHING
    affinity = ""

    def __init__(self, body: bytes, typed: CountBody) -> None:
        self._body = body
        self.dropped: tuple[str, ...] = ()
        self.envelopes: Envelopes | None = None
        self.typed = typed
        self.model = typed.model
        self.stream: bool | None = None

    def is_remarkable(self, names_files: bool) -> bool:
        return False

    def reads(self) -> int | None:
        return 0

    def surcharge(self) -> str | None:
        return None

    def forward(self, destination: Destination) -> bytes:
        members = jsonio.members(self._body)
        members["model"] = jsonio.raw(destination.model)
        left_out = open_envelopes(members, self.typed.messages, self.envelopes, destination)
        self.dropped = (*left_out, *refuse_unsupported(members, destination))
        return jsonio.encode(members)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        try:
            jsonio.decode(body, _counted)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"the provider's answer cannot be read: {error}") from None
        return Answer(body, Usage(), "completed")

    def estimate(self, destination: Destination) -> Answer:
        """Texts, calls and schemas by their bytes in JSON; what is base64 by what it stands for. Of earlier thoughts count
        those that `destination` gets again."""
        members = jsonio.members(self._body)
        self.dropped = unknown(members, CountBody.__struct_fields__)
        size = sum(len(bytes(members[name])) for name in _COUNTED if name in members)
        tokens = 0
        for message in self.typed.messages:
            if isinstance(message.content, list):
                for source, image in _sources(message.content):
                    data = len(source.data or "") if source.type == "base64" else 0
                    size -= data
                    tokens += IMAGE_TOKENS if image else data // DOCUMENT_BYTES_PER_TOKEN
                for block in message.content:
                    if block.type in _THOUGHTS:
                        carried = block.signature or block.data or ""
                        size -= len(carried)
                        if block.thinking and not are_sent(carried, self.envelopes, destination, "messages"):
                            size -= len(jsonio.encode(block.thinking)) - 2
        counted = max(1, tokens + estimate_tokens(size))
        return Answer(jsonio.encode({"input_tokens": counted}), Usage(estimated=True), "completed")


def _sources(blocks: Iterable[ContentBlock]) -> Iterable[tuple[Source, bool]]:
    """Images, and documents (False), also in the results of tools."""
    for block in blocks:
        if isinstance(block.source, Source):
            yield block.source, block.type == "image"
        elif block.type == "tool_result" and bytes(block.content).lstrip().startswith(b"["):
            try:
                nested: list[ContentBlock] = jsonio.decode(block.content, _blocks)
                yield from _sources(nested)
            except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
                continue  # not blocks of this API: counted by their bytes


def parse_count(body: bytes) -> CountRequest:
    """Decode and validate. Raises InvalidRequest."""
    typed = parse(body, _decoder, {"messages": "This is /v1/messages/count_tokens."})
    check_prompt(typed)
    return CountRequest(body, typed)
