"""Embeddings: vectors that depend on the text alone, as OpenAI's API and Google's give them."""

import base64
import hashlib
import re
import struct
from typing import Any
from urllib.parse import unquote

import msgspec

from tidegate.sim.errors import Refusal

PATH = "/v1/embeddings"
DIMENSIONS = 8
MOST_DIMENSIONS = 4096

_ADDRESS = re.compile(r"/v1(?:beta)?/models/(?P<model>[^/]+):batchEmbedContents")


def address(path: str) -> str | None:
    """The model of a path of Google's; None if it is no path for embeddings."""
    found = _ADDRESS.fullmatch(path)
    return unquote(found["model"]) if found else None


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """The same text has the same vector, and another text another one. All numbers fit into 32 bits without loss."""
    numbers: list[float] = []
    block = 0
    while len(numbers) < dimensions:
        digest = hashlib.sha256(f"{block}:{text}".encode()).digest()
        numbers.extend((byte - 128) / 128 for byte in digest)
        block += 1
    return numbers[:dimensions]


def model_of(request: dict[str, Any]) -> str:
    """Raises Refusal."""
    model = request.get("model")
    if not isinstance(model, str):
        raise Refusal(400, "you must provide a model parameter", param="model", code="missing_required_parameter")
    return model


def openai(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request in OpenAI's form. Raises Refusal."""
    given = request.get("input")
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs or "" in inputs or [] in inputs:
        raise Refusal(400, "'$.input' is invalid.", param="input", code="invalid_value")
    if all(isinstance(one, int) for one in inputs):
        inputs = [inputs]
    dimensions = _dimensions(request.get("dimensions"))
    texts = [one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in inputs]
    packed = request.get("encoding_format") == "base64"
    vectors = [vector(text, dimensions) for text in texts]
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(numbers) if packed else numbers}
        for index, numbers in enumerate(vectors)
    ]
    tokens = sum(-(-len(text) // 4) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request["model"], "usage": usage}


def google(request: dict[str, Any], model: str) -> dict[str, Any]:
    """The answer to `batchEmbedContents`. Raises Refusal."""
    asked = request.get("requests")
    if not isinstance(asked, list) or not asked:
        raise Refusal(400, "* BatchEmbedContentsRequest.requests: requests is not specified")
    found = []
    for one in asked:
        if not isinstance(one, dict) or one.get("model") != f"models/{model}":
            raise Refusal(400, "* BatchEmbedContentsRequest.requests: each must name the model of the address")
        content = one.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        if not isinstance(parts, list):
            raise Refusal(400, "* EmbedContentRequest.content: content is empty")
        text = "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
        found.append({"values": vector(text, _dimensions(one.get("outputDimensionality")))})
    return {"embeddings": found}


def _dimensions(given: Any) -> int:
    if given is None:
        return DIMENSIONS
    if not isinstance(given, int) or not 1 <= given <= MOST_DIMENSIONS:
        raise Refusal(400, "Invalid value for 'dimensions'.", param="dimensions", code="invalid_value")
    return given


def _packed(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
