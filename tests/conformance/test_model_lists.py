"""One list of models for the clients of three APIs."""

from collections.abc import Iterator
from datetime import UTC, datetime

import anthropic
import httpx
import openai
import pydantic
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google

from tests.support.running import Running

TOML = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
models = ["echo", "Qwen/Qwen3-8B"]
[models.fast]
target = "sim/echo"
[[keys]]
name = "app"
secret = "tg-0123456789abcdef0123456789abcdef"
"""
KEY = "tg-0123456789abcdef0123456789abcdef"
NAMES = ["fast", "sim/echo", "sim/Qwen/Qwen3-8B"]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with Running(TOML) as found:
        yield found


def google_client(running: Running, key: str = KEY) -> genai.Client:
    return genai.Client(api_key=key, http_options=google.HttpOptions(base_url=running.origin))


def test_openais_client(running: Running) -> None:
    with openai.OpenAI(base_url=running.url, api_key=KEY, max_retries=0) as client:
        listed = list(client.models.list())
        assert [one.id for one in listed] == NAMES
        assert client.models.retrieve("sim/Qwen/Qwen3-8B").owned_by == "sim"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("sim/nothing")


def test_anthropics_client(running: Running) -> None:
    with anthropic.Anthropic(base_url=running.origin, api_key=KEY, max_retries=0) as client:
        page = client.models.list()
        assert [one.id for one in client.models.list(limit=1)] == NAMES
        assert (page.has_more, page.first_id, page.last_id) == (False, NAMES[0], NAMES[-1])
        model = client.models.retrieve("sim/echo")
        assert (model.type, model.display_name, model.created_at) == (
            "model",
            "sim/echo",
            datetime.fromtimestamp(0, UTC),
        )
        pydantic.TypeAdapter(anthropic.types.ModelInfo).validate_python(model.model_dump())
        with pytest.raises(anthropic.NotFoundError) as missing:
            client.models.retrieve("sim/nothing")
        assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
        assert missing.value.body["request_id"] == missing.value.response.headers["x-request-id"]  # type: ignore[index]
    with (
        anthropic.Anthropic(base_url=running.origin, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError, match="not known to this gateway"),
    ):
        stranger.models.list()


def test_googles_client(running: Running) -> None:
    client = google_client(running)
    assert [one.name for one in client.models.list()] == [f"models/{name}" for name in NAMES]
    model = client.models.get(model="models/sim/Qwen/Qwen3-8B")
    assert model.display_name == "sim/Qwen/Qwen3-8B"
    assert model.supported_actions == ["generateContent", "streamGenerateContent"]
    with pytest.raises(google_errors.ClientError) as missing:
        client.models.get(model="sim/nothing")
    assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")
    stranger = google_client(running, "wrong")
    with pytest.raises(google_errors.ClientError) as refused:
        list(stranger.models.list())
    assert refused.value.code == 401


def test_the_key_may_stand_in_the_query_as_googles_clients_send_it(running: Running) -> None:
    assert httpx.get(f"{running.origin}/v1beta/models", params={"key": KEY}).status_code == 200
    assert httpx.get(f"{running.origin}/v1beta/models").status_code == 401
    answer = httpx.get(f"{running.url}/models", params={"key": KEY})
    assert [one["name"] for one in answer.json()["models"]] == [f"models/{name}" for name in NAMES]


def test_codex_finds_its_member_empty(running: Running) -> None:
    """What stands in `models` takes the place of Codex's own instructions."""
    answer = httpx.get(f"{running.url}/models?client_version=0.169.0", headers={"authorization": f"Bearer {KEY}"})
    assert answer.json()["models"] == []


def test_a_method_of_googles_that_is_not_there(running: Running) -> None:
    answer = httpx.post(
        f"{running.origin}/v1beta/models/sim/echo:batchGenerateContent", json={}, headers={"x-goog-api-key": KEY}
    )
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"
    assert "does not offer" in answer.json()["error"]["message"]


def test_head_says_that_somebody_is_there(running: Running) -> None:
    """Older builds of Claude Code ask before anything else, without a key."""
    answer = httpx.head(running.origin, headers={"user-agent": "Bun/1.4.0"})
    assert (answer.status_code, answer.content) == (200, b"")
