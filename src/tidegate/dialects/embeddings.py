"""OpenAI embeddings (`POST /v1/embeddings`), to providers of the same API and to Gemini's `batchEmbedContents`."""

import base64
import struct
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.dialect import (
    Answer,
    Call,
    Destination,
    Endpoint,
    OpenAIErrors,
    refuse_unsupported,
)
from tidegate.dialects.extent import NOTHING, Extent
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.leftovers import unknown
from tidegate.dialects.usage import credible, read_usage_object
from tidegate.dialects.validation import invalid, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import UnsupportedParameter, WireError
from tidegate.wire.events import Usage, estimate_tokens

__all__ = ["EmbeddingsBody", "EmbeddingsDialect", "EmbeddingsRequest"]

MOST_INPUTS = 2048
"""Most texts of one request, by OpenAI's documentation."""


class EmbeddingsBody(msgspec.Struct):
    """The documented members with their ranges. The input may be a text, texts, tokens, or lists of tokens."""

    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None


_decoder = jsonio.decoder(EmbeddingsBody)

_FOR_GEMINI = frozenset(EmbeddingsBody.__struct_fields__) - {"user"}
"""Members whose meaning reaches Gemini."""


class EmbeddingsRequest:
    """A validated request of this dialect."""

    __slots__ = ("_body", "dropped", "model", "stream", "typed")

    def __init__(self, body: bytes, typed: EmbeddingsBody) -> None:
        self._body = body
        self.dropped: tuple[str, ...] = ()
        self.typed = typed
        self.model = typed.model
        self.stream: bool | None = False

    @property
    def wants_stream(self) -> bool:
        return False

    @property
    def wants_stop(self) -> bool:
        return False

    @property
    def end_user(self) -> str | None:
        return self.typed.user

    @property
    def affinity(self) -> str:
        return ""

    @property
    def extent(self) -> Extent:
        return NOTHING

    def is_remarkable(self, names_files: bool) -> bool:
        return False

    def reads(self) -> int | None:
        return 0

    def surcharge(self) -> str | None:
        return None

    @property
    def count(self) -> int:
        """How many vectors are asked for; a list of tokens is one text."""
        given = self.typed.input
        return 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)

    def forward(self, destination: Destination) -> bytes:
        if destination.quirks.embeddings_of_gemini:
            return self._for_gemini(destination)
        members = jsonio.members(self._body)
        members["model"] = jsonio.raw(destination.model)
        self.dropped = refuse_unsupported(members, destination)
        return jsonio.encode(members)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        try:
            if destination.quirks.embeddings_of_gemini:
                return self._from_gemini(body, call, destination)
            return self._as_it_came(body, call, destination)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"the provider's answer cannot be read: {error}") from None

    def _as_it_came(self, body: bytes, call: Call, destination: Destination) -> Answer:
        jsonio.check_utf8(body)
        members = jsonio.members(body)
        error = members.get("error", jsonio.NULL)
        if not jsonio.is_null(error):
            raise from_error_object(error, destination.provider)
        vectors = jsonio.decode(body, _vectors).data
        if len(vectors) != self.count:
            raise WireError(f"the provider's answer has {len(vectors)} embeddings for {self.count} texts")
        usage = read_usage_object(members.get("usage", jsonio.NULL))
        whole = usage is not None and self._is_whole(members, vectors)
        if usage is None:
            usage = self._estimate()
        if whole:
            return Answer(body, usage, "completed")
        kept = [_encoded(vector.embedding, self.typed.encoding_format) for vector in vectors]
        return Answer(_answer(kept, destination.model, usage), usage, "completed")

    def _is_whole(self, members: jsonio.Members, vectors: "list[_Vector]") -> bool:
        """Whether the answer can go on untouched: engines leave out members, or do not know base64."""
        if any(name not in members for name in ("object", "model")):
            return False
        texts = self.typed.encoding_format == "base64"
        return all(
            vector.index == place and vector.object == "embedding" and _is_text(vector.embedding) == texts
            for place, vector in enumerate(vectors)
        )

    def _for_gemini(self, destination: Destination) -> bytes:
        given = self.typed.input
        texts = [given] if isinstance(given, str) else given
        if any(not isinstance(text, str) for text in texts):
            raise UnsupportedParameter(
                f"Unsupported parameter: 'input' as tokens is not supported by provider '{destination.provider}' "
                f"(model '{destination.model}'). Send texts.",
                param="input",
            )
        name = f"models/{destination.model}"
        self.dropped = unknown(jsonio.members(self._body), _FOR_GEMINI)
        one: dict[str, Any] = {"model": name}
        if self.typed.dimensions is not None:
            one["outputDimensionality"] = self.typed.dimensions
        return jsonio.encode({"requests": [{**one, "content": {"parts": [{"text": text}]}} for text in texts]})

    def _from_gemini(self, body: bytes, call: Call, destination: Destination) -> Answer:
        error = jsonio.members(body).get("error", jsonio.NULL)
        if not jsonio.is_null(error):
            raise from_error_object(error, destination.provider)
        answer = jsonio.decode(body, _gemini)
        found = answer.embeddings
        if len(found) != self.count:
            raise WireError(f"the provider's answer has {len(found)} embeddings for {self.count} texts")
        counted = _prompt_tokens(answer.usage_metadata)
        usage = Usage(input_tokens=counted) if counted else self._estimate()
        kept = [_encoded(vector.values, self.typed.encoding_format) for vector in found]
        return Answer(_answer(kept, destination.model, usage), usage, "completed")

    def _estimate(self) -> Usage:
        """By the texts alone: what stands around them costs nothing."""
        given = self.typed.input
        texts = [given] if isinstance(given, str) else given
        # A list of tokens is counted already.
        counted = sum(1 if isinstance(one, int) else len(one) for one in texts if not isinstance(one, str))
        size = sum(len(one.encode("utf-8", "replace")) for one in texts if isinstance(one, str))
        return Usage(input_tokens=counted + estimate_tokens(size), estimated=True)


class EmbeddingsDialect(OpenAIErrors):
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    name: Endpoint = "embeddings"
    path = "/v1/embeddings"
    media_param = "input"
    body_type = EmbeddingsBody

    def parse(self, body: bytes) -> EmbeddingsRequest:
        typed = parse(body, _decoder)
        given = typed.input
        if given == "" or (isinstance(given, list) and ("" in given or [] in given)):
            raise invalid("input", "expected texts that are not empty.")
        if isinstance(given, list):
            kinds = {type(one) for one in given}
            if len(kinds) > 1:
                raise invalid("input", "expected texts, or tokens, or lists of tokens, and not a mixture.")
            if kinds != {int} and len(given) > MOST_INPUTS:
                raise invalid("input", f"expected at most {MOST_INPUTS} texts.")
        return EmbeddingsRequest(body, typed)


class _Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    index: int | None = None
    object: str | None = None


class _Vectors(msgspec.Struct, gc=False):
    data: list[_Vector]


class _GeminiVector(msgspec.Struct, gc=False):
    values: msgspec.Raw


class _Counted(msgspec.Struct, gc=False, rename="camel"):
    prompt_token_count: float | None = None


class _Gemini(msgspec.Struct, gc=False, rename="camel"):
    embeddings: list[_GeminiVector]
    usage_metadata: msgspec.Raw = jsonio.NULL
    """Not every model of Google's tells it."""


_vectors = jsonio.decoder(_Vectors)
_gemini = jsonio.decoder(_Gemini)
_counted = jsonio.decoder(_Counted)
_numbers = jsonio.decoder(list[float])


def _encoded(vector: msgspec.Raw, form: str | None) -> msgspec.Raw:
    """The vector in the form that was asked for: base64 of 32-bit floats, little-endian, or the numbers."""
    if form != "base64" or _is_text(vector):
        return vector
    numbers = jsonio.decode(vector, _numbers)
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    return jsonio.raw(base64.b64encode(packed).decode("ascii"))


def _is_text(value: msgspec.Raw) -> bool:
    return memoryview(value)[0] == ord('"')


def _answer(vectors: list[msgspec.Raw], model: str, usage: Usage) -> bytes:
    return jsonio.encode(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)
            ],
            "model": model,
            "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens},
        }
    )


def _prompt_tokens(metadata: msgspec.Raw) -> int:
    """What Google has counted; 0 where that cannot be read or believed, which must not cost the answer."""
    try:
        told = _counted.decode(metadata).prompt_token_count
    except jsonio.UNREADABLE:
        return 0
    return int(told) if told is not None and credible(told) else 0
