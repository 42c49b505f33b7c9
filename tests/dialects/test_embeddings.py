"""Embeddings: what is validated, forwarded, translated and mended."""

import base64
import json
import struct
from typing import Any

import pytest

from tests.dialects.common import call
from tidegate.dialects.dialect import Destination, Quirks
from tidegate.dialects.embeddings import EmbeddingsDialect, EmbeddingsRequest
from tidegate.wire.errors import InvalidRequest, TidegateError, UnsupportedParameter, WireError

PLAIN = Destination(provider="lab", model="embed", endpoint="embeddings")
GEMINI = Destination(
    provider="gemini", model="gemini-embedding-001", endpoint="embeddings", quirks=Quirks(embeddings_of_gemini=True)
)


def request(**members: Any) -> EmbeddingsRequest:
    return EmbeddingsDialect().parse(json.dumps({"model": "lab/embed", **members}).encode())


def answer(*vectors: Any, **members: Any) -> bytes:
    data = [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(vectors)]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return json.dumps({"object": "list", "data": data, "model": "embed", "usage": usage, **members}).encode()


@pytest.mark.parametrize("given", ["text", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_every_form_of_input_goes_on_as_it_came(given: Any) -> None:
    sent = json.loads(request(input=given, dimensions=8, unknown=1).forward(PLAIN))
    assert sent == {"model": "embed", "input": given, "dimensions": 8, "unknown": 1}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": 7}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_bad_requests_name_the_member(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request(**members)
    assert caught.value.param == param


def test_a_whole_answer_goes_on_untouched() -> None:
    body = answer([0.1, 0.2], [0.3, 0.4])
    done = request(input=["a", "b"]).complete(body, call(), PLAIN)
    assert done.body == body
    assert done.usage.input_tokens == 5


def test_numbers_become_base64_where_the_client_asked_for_it_and_the_engine_does_not_know_it() -> None:
    done = request(input="a", encoding_format="base64").complete(answer([0.5, -2.0]), call(), PLAIN)
    (vector,) = json.loads(done.body)["data"]
    assert struct.unpack("<2f", base64.b64decode(vector["embedding"])) == (0.5, -2.0)


def test_what_an_engine_leaves_out_is_filled_in() -> None:
    done = request(input=["a", "b"]).complete(b'{"data":[{"embedding":[1]},{"embedding":[2]}]}', call(), PLAIN)
    found = json.loads(done.body)
    assert found["object"] == "list"
    assert [(one["index"], one["object"], one["embedding"]) for one in found["data"]] == [
        (0, "embedding", [1]),
        (1, "embedding", [2]),
    ]
    assert done.usage.estimated
    assert found["usage"]["prompt_tokens"] == done.usage.input_tokens > 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":7}', b'{"data":[]}', b'{"data":[{}]}', b"<html>"])
def test_what_is_no_answer_is_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError):
        request(input="a").complete(body, call(), PLAIN)


def test_an_error_in_a_body_with_status_200_is_an_error() -> None:
    with pytest.raises(TidegateError) as caught:
        request(input="a").complete(b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}', call(), PLAIN)
    assert caught.value.http_status == 429


def test_gemini_gets_its_own_form_and_answers_in_ours() -> None:
    asked = request(input=["a", "海"], dimensions=2)
    sent = json.loads(asked.forward(GEMINI))
    assert sent["requests"][1] == {
        "model": "models/gemini-embedding-001",
        "outputDimensionality": 2,
        "content": {"parts": [{"text": "海"}]},
    }
    done = asked.complete(b'{"embeddings":[{"values":[0.5,1]},{"values":[2,3]}]}', call(), GEMINI)
    found = json.loads(done.body)
    assert [one["embedding"] for one in found["data"]] == [[0.5, 1], [2, 3]]
    assert found["model"] == "gemini-embedding-001"
    with pytest.raises(WireError):
        asked.complete(b'{"embeddings":[]}', call(), GEMINI)


def test_tokens_cannot_go_to_gemini() -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        request(input=[1, 2]).forward(GEMINI)
    assert caught.value.param == "input"


def test_what_gemini_counted_is_what_is_charged() -> None:
    asked = request(input="a" * 400)
    told = b'{"embeddings":[{"values":[0.5]}],"usageMetadata":{"promptTokenCount":4,"promptTokenDetails":[]}}'
    done = asked.complete(told, call(), GEMINI)
    assert (done.usage.input_tokens, done.usage.estimated) == (4, False)
    assert json.loads(done.body)["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


@pytest.mark.parametrize(
    "odd", ['{"promptTokenCount":null}', '{"promptTokenCount":"4"}', '"x"', '{"promptTokenCount":1e30}']
)
def test_odd_figures_of_gemini_cost_no_answer_and_nobody_a_fortune(odd: str) -> None:
    told = f'{{"embeddings":[{{"values":[0.5]}}],"usageMetadata":{odd}}}'.encode()
    done = request(input="a" * 400).complete(told, call(), GEMINI)
    assert (done.usage.input_tokens, done.usage.estimated) == (100, True)


@pytest.mark.parametrize(
    ("given", "tokens"),
    [("a" * 400, 100), (["海" * 4, "b" * 4], 4), ([1, 2, 3], 3), ([[1, 2], [3]], 3)],
)
def test_what_nobody_counted_is_estimated_from_the_texts_alone(given: Any, tokens: int) -> None:
    asked = request(input=given, user="u" * 1000, encoding_format="float")
    vectors = ["[1]"] * asked.count
    done = asked.complete(b'{"data":[%b]}' % ",".join(f'{{"embedding":{v}}}' for v in vectors).encode(), call(), PLAIN)
    assert (done.usage.input_tokens, done.usage.estimated) == (tokens, True)


def test_members_that_gemini_is_not_told_are_named() -> None:
    asked = request(input="a", encoding_format="base64", user="u", input_type="query", truncate=None)
    asked.forward(GEMINI)
    assert asked.dropped == ("user", "input_type")
