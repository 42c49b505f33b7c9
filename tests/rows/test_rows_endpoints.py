"""Rows S1–S3, S14–S17: the endpoints and how a model is named."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import ENDPOINTS, PATHS, Api
from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.running import Running
from tidegate.sim.scripts import ZH

NO_DEFAULT = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
"""

KEYED = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
[[keys]]
name = "with"
secret = "key-with-a-model-0123456789abcdefghij"
model = "sim/zh"
[[keys]]
name = "without"
secret = "key-without-a-model-0123456789abcdefg"
"""


@pytest.mark.row("S1")
def test_responses_takes_a_json_body_at_exactly_this_path(api: Api) -> None:
    reply = api.post("/v1/responses", b'{"model": "sim/echo", "input": "ebb and flow"}')
    assert (reply.status, reply.json["object"], reply.text) == (200, "response", "ebb and flow")
    assert api.upstream.path == "/v1/responses"
    for spelled in ("/v1/responses/", "/V1/responses", "/v1//responses"):
        other = api.post(spelled, {"model": "sim/echo", "input": "x"})
        assert other.status == 404
        assert "location" not in other.headers


@pytest.mark.row("S2")
@pytest.mark.parametrize("stream", [False, True])
def test_completions_answer_streaming_and_not(api: Api, stream: bool) -> None:
    reply = api.ask("completions", say="ebb and flow", stream=stream)
    assert (reply.status, reply.text) == (200, "ebb and flow")
    assert api.upstream.path == "/v1/completions"
    objects = {event["object"] for event in reply.events} if stream else {reply.json["object"]}
    assert objects == {"text_completion"}
    assert reply.headers["content-type"].startswith("text/event-stream" if stream else "application/json")


@pytest.mark.row("S3")
@pytest.mark.parametrize("stream", [False, True])
def test_chat_completions_answer_streaming_and_not(api: Api, stream: bool) -> None:
    reply = api.ask("chat", say="ebb and flow", stream=stream)
    assert (reply.status, reply.text) == (200, "ebb and flow")
    assert api.upstream.path == "/v1/chat/completions"
    objects = {event["object"] for event in reply.events} if stream else {reply.json["object"]}
    assert objects == {"chat.completion.chunk" if stream else "chat.completion"}
    assert reply.headers["content-type"].startswith("text/event-stream" if stream else "application/json")


@pytest.mark.row("S14")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_request_without_model_is_refused_where_no_default_is_configured(endpoint: str) -> None:
    with Running(NO_DEFAULT) as gateway, Api(gateway) as api:
        reply = api.ask(endpoint, None)
        assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "model", "missing_required_parameter")
        assert reply.error["type"] == "invalid_request_error"
        assert api.calls == 0


@pytest.mark.row("S14")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_unknown_model_is_a_404_that_names_it_and_what_is_near(api: Api, endpoint: str) -> None:
    calls = api.calls
    reply = api.ask(endpoint, "resoning")
    assert (reply.status, reply.error["param"], reply.error["code"]) == (404, "model", "model_not_found")
    assert "'resoning'" in reply.error["message"]
    assert "'reasoning'" in reply.error["message"]
    assert api.calls == calls


@pytest.mark.row("S14")
def test_a_model_that_the_provider_does_not_have_is_its_own_404(api: Api) -> None:
    reply = api.ask("responses", "sim/no-such-model")
    assert (reply.status, reply.error["param"], reply.error["code"]) == (404, "model", "model_not_found")
    assert "no-such-model" in reply.error["message"]


@pytest.mark.row("S15")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_without_model_the_configured_default_answers(api: Api, endpoint: str) -> None:
    reply = api.ask(endpoint, None, say="the default hears")
    assert (reply.status, reply.text) == (200, "the default hears")
    assert api.sent["model"] == "echo"


@pytest.mark.row("S15")
def test_without_model_the_default_of_the_key_answers() -> None:
    with Running(KEYED) as gateway:
        with Api(gateway, authorization="Bearer key-with-a-model-0123456789abcdefghij") as api:
            assert "潮汐之门" in api.ask("responses", None).text
            assert api.sent["model"] == "zh"
        with Api(gateway, authorization="Bearer key-without-a-model-0123456789abcdefg") as api:
            assert api.ask("responses", None).error["param"] == "model"


@pytest.mark.row("S16")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("model", ["sim/zh", "zh", "openai/zh"])
def test_a_name_resolves_with_and_without_its_provider(api: Api, endpoint: str, model: str) -> None:
    reply = api.ask(endpoint, model)
    assert reply.status == 200
    assert "潮汐之门" in reply.text
    assert api.sent["model"] == "zh"
    assert api.upstream.path == PATHS[endpoint]
    provider = "openai" if model == "openai/zh" else "sim"
    assert reply.headers["tidegate-deployment"] == f"{provider}/zh"
    assert ("authorization" in api.upstream.headers) == (provider == "openai")


@pytest.mark.row("S17", "S47")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_model_in_answers_has_no_provider_prefix(api: Api, endpoint: str) -> None:
    assert api.ask(endpoint, "sim/echo").json["model"] == "echo"
    streamed = api.ask(endpoint, "sim/echo", stream=True).events
    named = [event["response"]["model"] for event in streamed if "response" in event]
    named += [event["model"] for event in streamed if "model" in event]
    assert set(named) == {"echo"}
    assert len(named) >= 3


TWO_LISTS = """
[server]
port = 0
[providers.openai]
base_url = "{sim}"
credentials = ["sk-upstream-0123456789abcdef0123456789"]
models = ["echo"]
"""


@pytest.mark.row("S16")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_whole_id_with_a_slash_goes_to_the_one_provider_that_lists_it(endpoint: str) -> None:
    """`openai/gpt-oss-20b` is what a local engine calls its model, and `openai/echo` a model of the provider."""
    local = '[providers.local]\nkind = "sim"\nbase_url = "{sim}"\nmodels = ["openai/gpt-oss-20b", "openai/echo"]\n'
    with Running(TWO_LISTS + local) as gateway, Api(gateway) as api:
        api.ask(endpoint, "openai/gpt-oss-20b")  # the simulator has no such script: what counts is who was asked
        assert api.sent["model"] == "openai/gpt-oss-20b"
        assert "authorization" not in api.upstream.headers
        reply = api.ask(endpoint, "openai/echo")
        assert (reply.status, reply.headers["tidegate-deployment"]) == (200, "openai/echo")
        assert api.sent["model"] == "echo"
        assert "authorization" in api.upstream.headers


@pytest.mark.row("S15")
def test_the_default_of_the_key_goes_before_the_one_for_everybody() -> None:
    with Running(KEYED + '[defaults]\nmodel = "sim/echo"\n') as gateway:
        for key, model in (("with-a-model-0123456789abcdefghij", "zh"), ("without-a-model-0123456789abcdefg", "echo")):
            with Api(gateway, authorization=f"Bearer key-{key}") as api:
                assert api.ask("responses", None).status == 200
                assert api.sent["model"] == model


@pytest.mark.row("S14")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_alias_is_among_the_names_that_are_near(endpoint: str) -> None:
    with Running(NO_DEFAULT + '[models.harbour-pilot]\ntarget = "sim/echo"\n') as gateway, Api(gateway) as api:
        reply = api.ask(endpoint, "harbor-pilot")
        assert (reply.status, reply.error["param"]) == (404, "model")
        assert "Did you mean 'harbour-pilot'" in reply.error["message"]
        assert api.calls == 0


BRIDGED = """
[server]
port = 0
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
[providers.claude]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789abcdef"]
"""


@pytest.fixture(scope="module")
def bridged() -> Iterator[Api]:
    """A gateway whose providers speak other dialects than most of its clients."""
    with Running(BRIDGED) as gateway, Api(gateway) as client:
        yield client


@pytest.mark.row("S24", "S56")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("provider", ["lab", "claude"])
@pytest.mark.parametrize(("given", "told"), [(..., False), (False, False), (True, True)])
def test_a_provider_of_another_dialect_is_told_whether_to_stream(
    bridged: Api, endpoint: str, provider: str, given: Any, told: bool
) -> None:
    reply = bridged.ask(endpoint, f"{provider}/zh?split=1", stream=given)
    assert (reply.status, reply.text) == (200, ZH)
    assert "\ufffd" not in reply.content.decode()
    assert bridged.sent["stream"] is told


@pytest.mark.row("S17", "S47")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_names_no_model_gets_the_name_without_its_prefix(endpoint: str, stream: bool) -> None:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    said = {"role": "assistant", "content": "ebb"}
    whole = json_answer(
        {"id": "c", "object": "chat.completion", "created": 1, "choices": [{**choice, "message": said}]}
    )
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "choices": [{**choice, "delta": said}]}
    answer = sse_answer(chunk, b"data: [DONE]\n\n") if stream else whole
    with (
        Canned(answer) as provider,
        Running("[server]\nport = 0\n" + provider.toml(kind="openai-compatible", more='speaks = ["chat"]')) as gateway,
        Api(gateway) as api,
    ):
        reply = api.ask(endpoint, "canned/m", stream=stream)
    assert (reply.status, reply.text) == (200, "ebb")
    objects = [event.get("response", event) for event in reply.events] if stream else [reply.json]
    assert {one["model"] for one in objects if "object" in one} == {"m"}
