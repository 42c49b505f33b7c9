"""Embeddings for clients of Gemini's API (`:embedContent`, `:batchEmbedContents`), from any provider that has them."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tidegate.dialects.dialect import Answer, Call, Destination
from tidegate.dialects.embeddings import MOST_INPUTS, EmbeddingsBody, EmbeddingsRequest
from tidegate.dialects.gemini.spelling import camel_case
from tidegate.dialects.leftovers import unknown
from tidegate.dialects.validation import invalid, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import UnsupportedParameter

__all__ = ["EmbedBody", "EmbedManyBody", "GeminiEmbeddingsRequest", "parse_embeddings"]


class _Part(msgspec.Struct):
    text: str | None = None


class _Content(msgspec.Struct):
    parts: Annotated[list[_Part], Meta(min_length=1)]


class EmbedBody(msgspec.Struct, rename="camel"):
    """One text. `taskType` and `title` say what the vector is for."""

    content: _Content
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: Annotated[int, Meta(ge=1)] | None = None


class EmbedManyBody(msgspec.Struct):
    """Several texts, each with members of its own."""

    requests: Annotated[list[EmbedBody], Meta(min_length=1)]


_FOR_OTHERS = frozenset({"content", "model", "outputDimensionality"})
"""Members whose meaning reaches a provider of another API."""

_one = jsonio.decoder(EmbedBody)
_many = jsonio.decoder(EmbedManyBody)
_raw_many = jsonio.decoder(dict[str, list[jsonio.Members]])


class _Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw


class _Vectors(msgspec.Struct, gc=False):
    data: list[_Vector]


_vectors = jsonio.decoder(_Vectors)


class GeminiEmbeddingsRequest(EmbeddingsRequest):
    """A validated request. For a provider of Gemini's API its members go on as they came, for any other they are those of
    OpenAI's; `many` tells which of the two methods was asked for."""

    __slots__ = ("_asked", "_many", "_own")

    def __init__(self, own: list[jsonio.Members], asked: list[EmbedBody], model: str, *, many: bool) -> None:
        self._own = own
        self._asked = asked
        self._many = many
        texts: list[str | int | list[int]] = [_text(one, place) for place, one in enumerate(asked)]
        typed = EmbeddingsBody(input=texts, model=model or None, dimensions=asked[0].output_dimensionality)
        body: dict[str, Any] = {"input": texts}
        if typed.dimensions is not None:
            body["dimensions"] = typed.dimensions
        super().__init__(jsonio.encode(body), typed)

    def forward(self, destination: Destination) -> bytes:
        if destination.quirks.embeddings_of_gemini:
            self.dropped = ()
            name = jsonio.raw(f"models/{destination.model}")
            return jsonio.encode({"requests": [{**one, "model": name} for one in self._own]})
        if len({one.output_dimensionality for one in self._asked}) > 1:
            raise UnsupportedParameter(
                "Unsupported parameter: 'outputDimensionality' has to be the same for all texts, since provider "
                f"'{destination.provider}' takes one for all.",
                param="requests[].outputDimensionality",
            )
        body = super().forward(destination)
        lost = [name for one in self._own for name in unknown(one, _FOR_OTHERS)]
        self.dropped = (*self.dropped, *dict.fromkeys(lost))
        return body

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        answer = super().complete(body, call, destination)
        found = [{"values": one.embedding} for one in jsonio.decode(answer.body, _vectors).data]
        shown: dict[str, Any] = {"embeddings": found} if self._many else {"embedding": found[0]}
        shown["usageMetadata"] = {"promptTokenCount": answer.usage.input_tokens}
        return Answer(jsonio.encode(shown), answer.usage, answer.status)


def parse_embeddings(body: bytes, *, model: str, many: bool) -> GeminiEmbeddingsRequest:
    """Decode and validate. Raises InvalidRequest."""
    body = camel_case(body)
    if not many:
        asked = parse(body, _one)
        return GeminiEmbeddingsRequest([jsonio.members(body)], [asked], model, many=False)
    several = parse(body, _many).requests
    if len(several) > MOST_INPUTS:
        raise invalid("requests", f"expected at most {MOST_INPUTS} texts.")
    own = [jsonio.members(one) for one in jsonio.elements(jsonio.members(body)["requests"])]
    return GeminiEmbeddingsRequest(own, several, model, many=True)


def _text(asked: EmbedBody, place: int) -> str:
    pieces = [part.text for part in asked.content.parts]
    text = "".join(piece for piece in pieces if piece is not None)
    if None in pieces or not text:
        raise invalid(f"requests[{place}].content.parts", "expected texts that are not empty.")
    return text
