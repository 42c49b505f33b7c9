"""One list of models for the clients of three APIs."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

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
ANTHROPIC = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
GOOGLE = {"x-goog-api-key": KEY}


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


def test_anthropics_client_pages_forward_and_back(running: Running) -> None:
    with anthropic.Anthropic(base_url=running.origin, api_key=KEY, max_retries=0) as client:
        page = client.models.list(limit=2)
        assert [one.id for one in page.data] == NAMES[:2]
        assert (page.has_more, page.first_id, page.last_id) == (True, NAMES[0], NAMES[1])
        rest = page.get_next_page()
        assert [one.id for one in rest.data] == NAMES[2:]
        assert (rest.has_more, rest.first_id, rest.last_id) == (False, NAMES[2], NAMES[2])

        before = client.models.list(limit=1, before_id=NAMES[2])
        assert ([one.id for one in before.data], before.has_more) == ([NAMES[1]], True)
        assert [one.id for one in before] == [NAMES[1], NAMES[0]]
        assert [one.id for one in client.models.list(limit=1000)] == NAMES
        end = client.models.list(after_id=NAMES[-1])
        assert (end.data, end.has_more, end.first_id, end.last_id) == ([], False, None, None)


def test_googles_client_pages(running: Running) -> None:
    client = google_client(running)
    pager = client.models.list(config={"page_size": 2})
    assert [one.name for one in pager.page] == [f"models/{name}" for name in NAMES[:2]]
    assert [one.name for one in pager.next_page()] == [f"models/{name}" for name in NAMES[2:]]
    with pytest.raises(IndexError):
        pager.next_page()
    assert [one.name for one in client.models.list(config={"page_size": 1})] == [f"models/{name}" for name in NAMES]


def test_a_long_list_comes_in_the_pages_that_each_api_documents() -> None:
    """20 models for Anthropic's clients and 50 for Google's, unless they say otherwise; OpenAI's clients do not page."""
    names = [f"sim/m{number:04}" for number in range(1200)]
    bare = [name.removeprefix("sim/") for name in names]
    toml = f'[server]\nport = 0\n[providers.sim]\nbase_url = "{{sim}}"\nmodels = {json.dumps([*bare, bare[0]])}\n'
    with Running(toml) as running:
        with openai.OpenAI(base_url=running.url, api_key="none", max_retries=0) as client:
            assert [one.id for one in client.models.list()] == names
        with anthropic.Anthropic(base_url=running.origin, api_key="none", max_retries=0) as client:
            assert len(client.models.list().data) == 20
            assert len(client.models.list(limit=1000).data) == 1000
            assert [one.id for one in client.models.list(limit=500)] == names
        googles = google_client(running)
        assert len(googles.models.list().page) == 50
        assert len(googles.models.list(config={"page_size": 5000}).page) == 1000
        assert [one.name for one in googles.models.list(config={"page_size": 1000})] == [
            f"models/{name}" for name in names
        ]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "two"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"after_id": "sim/nothing"}, "after_id"),
        ({"before_id": "sim/nothing"}, "before_id"),
        ({"before_id": "fast", "after_id": "fast"}, "before_id"),
    ],
)
def test_a_page_that_anthropics_client_cannot_mean(running: Running, query: dict[str, str], param: str) -> None:
    answer = httpx.get(f"{running.url}/models", params=query, headers=ANTHROPIC)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert f"'{param}'" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"pageSize": "-1"}, "pageSize"),
        ({"pageSize": "two"}, "pageSize"),
        ({"pageSize": "2.5"}, "pageSize"),
        ({"page_size": "two"}, "pageSize"),
        ({"pageToken": "sim/echo"}, "pageToken"),
        ({"pageToken": "bm90aGluZw"}, "pageToken"),
        ({"pageToken": "_w"}, "pageToken"),
        ({"pageToken": "é"}, "pageToken"),
    ],
)
def test_a_page_that_googles_client_cannot_mean(running: Running, query: dict[str, str], param: str) -> None:
    answer = httpx.get(f"{running.origin}/v1beta/models", params=query, headers=GOOGLE)
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert f"'{param}'" in answer.json()["error"]["message"]


@pytest.mark.parametrize("query", [{"pageSize": "0"}, {"pageSize": ""}, {"pageToken": ""}, {"page_size": "50"}])
def test_an_empty_page_parameter_of_googles_says_nothing(running: Running, query: dict[str, str]) -> None:
    answer: dict[str, Any] = httpx.get(f"{running.origin}/v1beta/models", params=query, headers=GOOGLE).json()
    assert [one["name"] for one in answer["models"]] == [f"models/{name}" for name in NAMES]
    assert "nextPageToken" not in answer


def test_the_description_of_the_api_names_what_a_page_is_asked_for_by(running: Running) -> None:
    paths = httpx.get(f"{running.origin}/openapi.json").json()["paths"]
    told = {
        path: {one["name"] for one in paths[path]["get"]["parameters"]} for path in ("/v1/models", "/v1beta/models")
    }
    assert told == {"/v1/models": {"limit", "after_id", "before_id"}, "/v1beta/models": {"pageSize", "pageToken"}}


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
