"""Embeddings through the official SDK, from providers of OpenAI's form and from Gemini."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from google import genai
from google.genai import types
from openai.types import CreateEmbeddingResponse

from tests.conformance.providers import calls_of
from tests.support.api import Api
from tests.support.running import Running
from tidegate.sim.embeddings import vector

TOML = """
[server]
port = 0
[routing]
retries = 0
eject_after = 0
[providers.openai]
base_url = "{sim}"
credentials = ["sk-0123456789abcdef"]
[providers.google]
kind = "gemini"
base_url = "{sim}beta"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
[providers.chatty]
kind = "openai-compatible"
base_url = "{sim}"
[providers.sim]
[models.spare]
target = "openai/echo?status=503"
fallback = ["google/echo"]
"""
PROVIDERS = ["openai", "google", "sim"]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as made:
        yield made


def vectors(answer: CreateEmbeddingResponse) -> list[list[float]]:
    assert answer.object == "list"
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    return [one.embedding for one in answer.data]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_texts_have_their_vectors_in_order(client: openai.OpenAI, provider: str) -> None:
    """The SDK asks for base64 unless told otherwise, and unpacks it."""
    model = f"{provider}/echo"
    assert vectors(client.embeddings.create(model=model, input="潮汐")) == [vector("潮汐")]
    several = client.embeddings.create(model=model, input=["a", "潮", "a"], dimensions=3, encoding_format="float")
    assert vectors(several) == [vector("a", 3), vector("潮", 3), vector("a", 3)]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_errors_keep_their_meaning(client: openai.OpenAI, provider: str) -> None:
    for status, kind in ((429, openai.RateLimitError), (503, openai.InternalServerError)):
        with pytest.raises(kind):
            client.embeddings.create(model=f"{provider}/echo?status={status}", input="a")


def test_tokens_go_where_they_are_understood(client: openai.OpenAI) -> None:
    assert len(vectors(client.embeddings.create(model="openai/echo", input=[[1, 2], [3]]))) == 2
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="google/echo", input=[1, 2])
    assert caught.value.param == "input"


def test_gemini_stands_in_for_openai(gateway: Running) -> None:
    with Api(gateway) as api:
        reply = api.post("/v1/embeddings", {"model": "spare", "input": "a", "user": "me"})
        assert reply.json["data"][0]["embedding"] == vector("a")
        assert reply.headers["tidegate-deployment"] == "google/echo"
        assert reply.headers["tidegate-dropped"] == "user"
        assert calls_of(gateway)[-1].path.endswith(":batchEmbedContents")
        entry = gateway.usage(reply.request_id)
    assert (entry["endpoint"], entry["attempts"], entry["ending"], entry["output_tokens"]) == (
        "embeddings",
        2,
        "completed",
        0,
    )


def test_a_provider_without_embeddings_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="chatty/echo", input="a")
    assert caught.value.code == "unsupported_endpoint"


@pytest.fixture(scope="module")
def google(gateway: Running) -> genai.Client:
    return genai.Client(api_key="unused", http_options=types.HttpOptions(base_url=gateway.origin))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_clients_of_geminis_api_get_the_same_vectors(google: genai.Client, provider: str) -> None:
    answer = google.models.embed_content(
        model=f"{provider}/echo", contents=["a", "潮汐"], config=types.EmbedContentConfig(output_dimensionality=3)
    )
    assert [one.values for one in answer.embeddings or []] == [vector("a", 3), vector("潮汐", 3)]


def test_one_text_of_geminis_api_has_one_vector_and_what_it_is_for_is_named_where_it_is_lost(gateway: Running) -> None:
    ask = {"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY", "output_dimensionality": 2}
    with Api(gateway) as api:
        for provider, dropped in (("openai", "taskType"), ("google", None)):
            reply = api.post(f"/v1beta/models/{provider}/echo:embedContent", ask)
            assert reply.json == {"embedding": {"values": vector("a", 2)}, "usageMetadata": {"promptTokenCount": 1}}
            assert reply.headers.get("tidegate-dropped") == dropped
        assert api.sent["requests"][0]["taskType"] == "RETRIEVAL_QUERY"


def test_unknown_members_of_geminis_api_are_named_where_they_are_lost(gateway: Running) -> None:
    texts = [{"content": {"parts": [{"text": text}]}, "autoTruncate": False, "title": None} for text in "ab"]
    with Api(gateway) as api:
        reply = api.post("/v1beta/models/openai/echo:batchEmbedContents", {"requests": texts})
        assert reply.headers["tidegate-dropped"] == "autoTruncate"
        assert (
            "tidegate-dropped"
            not in api.post("/v1beta/models/google/echo:batchEmbedContents", {"requests": texts}).headers
        )
        assert api.sent["requests"][1]["autoTruncate"] is False


@pytest.mark.parametrize(
    ("method", "ask", "named"),
    [
        ("embedContent", {}, "content"),
        ("embedContent", {"content": {"parts": []}}, "content.parts"),
        ("embedContent", {"content": {"parts": [{"text": ""}]}}, "content.parts"),
        ("embedContent", {"content": {"parts": [{"inlineData": {}}]}}, "content.parts"),
        ("batchEmbedContents", {"requests": []}, "requests"),
        ("batchEmbedContents", {"requests": [{"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 0}]}, "0"),
    ],
)
def test_bad_requests_of_geminis_api_are_told_in_its_form(
    gateway: Running, method: str, ask: dict[str, Any], named: str
) -> None:
    with Api(gateway) as api:
        reply = api.post(f"/v1beta/models/openai/echo:{method}", ask)
        assert (reply.status, reply.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert named in reply.json["error"]["message"]


def test_texts_of_different_length_of_vector_cannot_go_where_one_holds_for_all(gateway: Running) -> None:
    texts = [{"content": {"parts": [{"text": "a"}]}, "outputDimensionality": size} for size in (2, 3)]
    with Api(gateway) as api:
        reply = api.post("/v1beta/models/openai/echo:batchEmbedContents", {"requests": texts})
        assert reply.status == 400
        assert "outputDimensionality" in reply.json["error"]["message"]
