"""Embeddings through the official SDK, from providers of OpenAI's form and from Gemini."""

from collections.abc import Iterator

import openai
import pytest
from openai.types import CreateEmbeddingResponse

from tests.conformance.providers import calls_of
from tests.support.api import Api
from tests.support.running import Running
from tidegate.sim.embeddings import vector

TOML = """
[server]
port = 0
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
[models.spare]
target = "openai/echo?status=503"
fallback = ["google/echo"]
"""
PROVIDERS = ["openai", "google"]


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
