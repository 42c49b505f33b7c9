"""`POST /v1/responses/input_tokens`: how many tokens a prompt has.

A provider that has this operation counts itself. For any other the gateway estimates: no tokenizer is kept for each of the
models behind it, and one would have to run outside the event loop.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.dialect import Answer, Call, Destination, refuse_unsupported
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.extent import NOTHING
from tidegate.dialects.leftovers import unknown
from tidegate.dialects.responses.compacted import told
from tidegate.dialects.responses.prompt import PromptBody, PromptRequest, check_prompt
from tidegate.dialects.responses.request import Reasoning, Text, Tool, ToolChoice, check_text, check_tools
from tidegate.dialects.thoughts import are_sent
from tidegate.dialects.validation import invalid, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import WireError
from tidegate.wire.events import Usage, estimate_tokens

__all__ = ["InputTokensBody", "InputTokensRequest", "parse_input_tokens"]

IMAGE_TOKENS: Final = 1536
"""The most patches that OpenAI cuts an image into, which is then scaled down; a patch is a token (images guide)."""

FILE_BYTES_PER_TOKEN: Final = 40
"""Base64 of a PDF for one token: a page of some 80 KB has about 2,000, for its text and its picture."""

_COUNTED: Final = ("input", "instructions", "tools", "text")
_BINARY: Final = frozenset({"encrypted_content", "result"})
"""Members of items whose value is no text: what only a provider reads, and generated images."""


class InputTokensBody(PromptBody):
    """The documented members (protocol §1.1). Members that we do not know travel on unread."""

    parallel_tool_calls: bool | None = None
    personality: Annotated[str, Meta(max_length=64)] | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    tool_choice: str | ToolChoice | None = None
    tools: list[Tool] | None = None
    truncation: Literal["auto", "disabled"] | None = None


class _Counted(msgspec.Struct):
    input_tokens: Annotated[int, Meta(ge=0)]


_decoder = jsonio.decoder(InputTokensBody)
_counted = jsonio.decoder(_Counted)


class InputTokensRequest(PromptRequest[InputTokensBody]):
    """A validated request for a count (see :class:`tidegate.dialects.dialect.Standalone`)."""

    __slots__ = ()

    wants_stop = False
    end_user = None
    extent = NOTHING

    def forward(self, destination: Destination) -> bytes:
        members = self._whole()
        members["model"] = jsonio.raw(destination.model)
        left_out = self._fit(members, destination)
        self.dropped = (*left_out, *refuse_unsupported(members, destination))
        return jsonio.encode(members)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        try:
            found = jsonio.decode(body, _counted)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"the provider's answer cannot be read: {error}") from None
        return _answer(found.input_tokens, Usage())

    def estimate(self, destination: Destination) -> Answer:
        """Words, calls and schemas by their bytes in JSON; what is base64 by what it stands for. Of earlier thoughts count
        those that `destination` gets again. Raises NotFound and InvalidRequest for what the prompt builds on and is not
        there."""
        self._refuse_state_we_lack(None)
        members = self._whole()
        self.dropped = unknown(members, InputTokensBody.__struct_fields__)
        size = sum(len(members[name]) for name in _COUNTED if not jsonio.is_null(members.get(name, jsonio.EMPTY)))
        tally = _Tally(self.envelopes, destination)
        try:
            tally.look(jsonio.anything(members.get("input", jsonio.NULL)))
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise invalid("input", f"it cannot be read: {error}.") from None
        return _answer(max(1, tally.tokens + estimate_tokens(size - tally.binary)), Usage(estimated=True))


class _Tally:
    """What in a prompt is no text for the provider: its size, and the tokens that it stands for."""

    def __init__(self, envelopes: Envelopes | None, destination: Destination) -> None:
        self._envelopes = envelopes
        self._destination = destination
        self.binary = 0
        self.tokens = 0

    def look(self, value: Any) -> None:
        left = [value]  # and no recursion: how deep it goes is the client's choice
        while left:
            one = left.pop()
            if isinstance(one, list):
                left += one
            elif isinstance(one, dict):
                self._look_at(one)
                left += one.values()

    def _look_at(self, content: dict[str, Any]) -> None:
        kind = content.get("type")
        if kind == "input_image":
            self.tokens += IMAGE_TOKENS
        elif kind == "reasoning" and not self._is_read(content):
            self.binary += sum(map(_size, (*_said(content, "summary"), *_said(content, "content"))))
        for name, inner in content.items():
            if not isinstance(inner, str):
                continue
            if name in _BINARY:
                self.binary += len(inner)
                self.tokens += self._summary(inner)
            elif (kind, name) == ("input_image", "image_url") and inner.startswith("data:"):
                self.binary += len(inner)
            elif (kind, name) == ("input_file", "file_data"):
                self.binary += len(inner)
                self.tokens += len(inner) // FILE_BYTES_PER_TOKEN

    def _is_read(self, thought: dict[str, Any]) -> bool:
        carried = thought.get("encrypted_content")
        return are_sent(carried if isinstance(carried, str) else "", self._envelopes, self._destination, "responses")

    def _summary(self, sealed: str) -> int:
        """A compaction of the gateway's own is a message in the end."""
        found = self._envelopes.read(sealed) if self._envelopes is not None else None
        if found is None or found.seal.kind != "summary":
            return 0
        return estimate_tokens(len(told(found.seal.data).encode()))


def _said(thought: dict[str, Any], name: str) -> list[Any]:
    parts = thought.get(name)
    return [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _size(text: Any) -> int:
    """Bytes of a text within JSON."""
    return len(jsonio.encode(text)) - 2 if isinstance(text, str) else 0


def _answer(tokens: int, usage: Usage) -> Answer:
    body = jsonio.encode({"object": "response.input_tokens", "input_tokens": tokens})
    return Answer(body, usage, "completed")


def parse_input_tokens(body: bytes) -> InputTokensRequest:
    """Decode and validate. Raises InvalidRequest."""
    typed = parse(body, _decoder, {})
    check_prompt(typed)
    check_tools(typed.tools, typed.tool_choice)
    check_text(typed.text)
    return InputTokensRequest(body, typed)
