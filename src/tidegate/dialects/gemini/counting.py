"""`POST /v1beta/models/{model}:countTokens`: how many tokens a prompt has.

A provider of Google's counts itself. For any other the gateway estimates, as for Anthropic's API (see
`messages.counting`).
"""

import base64
from collections.abc import Iterator

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, refuse_unsupported
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.extent import NOTHING
from tidegate.dialects.gemini.canonical import standard_base64
from tidegate.dialects.gemini.foreign import without_envelopes
from tidegate.dialects.gemini.schema import Blob, Content, GeminiBody, Part, Tool, listed
from tidegate.dialects.gemini.spelling import camel_case, told_as_written
from tidegate.dialects.leftovers import unknown
from tidegate.dialects.thoughts import are_sent
from tidegate.dialects.validation import invalid, missing, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import WireError
from tidegate.wire.events import Usage, estimate_tokens

__all__ = ["GeminiCountBody", "GeminiCountRequest", "parse_count"]

IMAGE_TOKENS = 258
"""For one tile of an image (ai.google.dev/gemini-api/docs/tokens)."""

MEDIA_BYTES_PER_TOKEN = 400
"""Base64 of anything else for one token: a page of a PDF has some 100 KB of it, and counts as one tile."""

_WHOLE = ("generateContentRequest", "generate_content_request")
_COUNTED = ("contents", "systemInstruction", "tools")


class GeminiCountBody(msgspec.Struct, rename="camel"):
    """The documented members: `contents`, or a whole request. Those that we do not know travel on to Google."""

    contents: list[Content] | Content | None = None
    generate_content_request: GeminiBody | None = None
    system_instruction: Content | str | None = None
    tools: list[Tool] | Tool | None = None


_KNOWN = frozenset({*GeminiCountBody.__struct_encode_fields__, "model"})
_KNOWN_WITHIN = frozenset({*GeminiBody.__struct_encode_fields__, "model"})


class _Counted(msgspec.Struct, rename="camel"):
    total_tokens: int


_decoder = jsonio.decoder(GeminiCountBody)
_counted = jsonio.decoder(_Counted)


class GeminiCountRequest:
    """A validated request for a count (see :class:`tidegate.dialects.dialect.Standalone`)."""

    __slots__ = ("_body", "_camel", "dropped", "envelopes", "model", "stream", "typed")

    wants_stream = False
    wants_stop = False
    end_user = None
    extent = NOTHING
    affinity = ""

    def __init__(self, body: bytes, camel: bytes, typed: GeminiCountBody, model: str) -> None:
        """`camel` is `body` in camel case."""
        self._body = body
        self._camel = camel
        self.dropped: tuple[str, ...] = ()
        self.envelopes: Envelopes | None = None
        self.typed = typed
        self.model: str | None = model or None
        self.stream: bool | None = None

    def is_remarkable(self, names_files: bool) -> bool:
        return False

    def reads(self) -> int | None:
        return 0

    def surcharge(self) -> str | None:
        return None

    def forward(self, destination: Destination) -> bytes:
        members = jsonio.members(self._body)
        left_out = self._own(members, destination)
        for name in _WHOLE:
            if not jsonio.is_null(members.get(name, jsonio.NULL)):
                whole = jsonio.members(members[name])
                left_out = self._own(whole, destination) or left_out
                members[name] = jsonio.raw(whole)
        self.dropped = (*(("thoughtSignature",) if left_out else ()), *refuse_unsupported(members, destination))
        return jsonio.encode(members)

    def _own(self, members: jsonio.Members, destination: Destination) -> bool:
        """Puts in the provider's name of the model, and takes out what Google cannot read. Whether there was such."""
        contents, left_out = without_envelopes(jsonio.encode(members), destination.model)
        if contents is not None:
            members["contents"] = contents
        if "model" in members:
            members["model"] = jsonio.raw(f"models/{destination.model}")
        return left_out

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        try:
            jsonio.decode(body, _counted)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"the provider's answer cannot be read: {error}") from None
        return Answer(body, Usage(), "completed")

    def estimate(self, destination: Destination) -> Answer:
        """Texts, calls and schemas by their bytes in JSON; what is base64 by what it stands for. Of earlier thoughts count
        those that `destination` gets again."""
        members = jsonio.members(self._camel)
        self.dropped = unknown(members, _KNOWN)
        whole = members.get(_WHOLE[0], jsonio.NULL)
        if not jsonio.is_null(whole):
            inner = jsonio.members(whole)
            self.dropped += unknown(inner, _KNOWN_WITHIN, f"{_WHOLE[0]}.")
            members.update(inner)
        size = sum(len(bytes(members[name])) for name in _COUNTED if name in members)
        tokens = 0
        for blob in _blobs(listed(_contents(self.typed))):
            size -= len(blob.data)
            tokens += IMAGE_TOKENS if blob.mime_type.startswith("image/") else len(blob.data) // MEDIA_BYTES_PER_TOKEN
        size -= self._unread(destination)
        counted = max(1, tokens + estimate_tokens(size))
        return Answer(jsonio.encode({"totalTokens": counted}), Usage(estimated=True), "completed")

    def _unread(self, destination: Destination) -> int:
        """Bytes of signatures, and of thoughts that do not go to `destination`. A thought's signature stands on the last
        of its parts, or on the part behind it (see `gemini.canonical`)."""
        unread = waiting = 0
        for part in _parts(listed(_contents(self.typed))):
            signature = part.thought_signature or ""
            unread += len(signature)
            if part.thought is True and part.text is not None:
                waiting += len(jsonio.encode(part.text)) - 2
                if not signature:
                    continue
            if not are_sent(_carried(signature), self.envelopes, destination, "gemini"):
                unread += waiting
            waiting = 0
        return unread if destination.reads_thoughts else unread + waiting


def _carried(signature: str) -> str:
    """The envelope that our encoder put into base64; a signature of Google's own as it is."""
    try:
        return base64.b64decode(standard_base64(signature), validate=True).decode("ascii")
    except ValueError:
        return signature


def _parts(contents: list[Content]) -> Iterator[Part]:
    for content in contents:
        yield from listed(content.parts)


def _contents(typed: GeminiCountBody) -> list[Content] | Content | None:
    return typed.contents if typed.generate_content_request is None else typed.generate_content_request.contents


def _blobs(contents: list[Content]) -> Iterator[Blob]:
    """Data in the conversation, also in the results of functions."""
    for part in _parts(contents):
        if part.inline_data is not None:
            yield part.inline_data
        if part.function_response is not None:
            for one in part.function_response.parts or ():
                if one.inline_data is not None:
                    yield one.inline_data


def parse_count(body: bytes, *, model: str) -> GeminiCountRequest:
    """Decode and validate. Raises InvalidRequest."""
    camel = camel_case(body)
    with told_as_written(body, camel):
        typed = parse(camel, _decoder)
        if typed.contents is not None and typed.generate_content_request is not None:
            raise invalid("generateContentRequest", "it cannot be used together with 'contents'.")
        if typed.contents is None and typed.generate_content_request is None:
            raise missing("contents")
        if not listed(_contents(typed)):
            raise invalid("contents", "expected at least one content.")
    return GeminiCountRequest(body, camel, typed, model)
