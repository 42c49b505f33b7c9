"""A request may bring its own fallbacks: the list `models`, in OpenRouter's form, in every dialect whose body is JSON."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.canned import Canned, json_answer
from tests.support.running import Running
from tests.support.sockets import Socket

ALL, SOME = "key-all-0123456789abcdef0123456789ab", "key-some-0123456789abcdef0123456789a"
TOML = f"""
[server]
port = 0
[defaults]
model = "sim/lorem"
[routing]
retries = 0
eject_after = 0
[providers.sim]
base_url = "{{sim}}"
[providers.second]
kind = "sim"
base_url = "{{sim}}"
[providers.closed]
kind = "sim"
base_url = "http://127.0.0.1:9/v1"
models = ["m"]
[providers.talks]
kind = "sim"
base_url = "{{sim}}"
speaks = ["chat"]
[models.two]
target = "closed/m"
fallback = ["sim/echo?status=503"]
[[keys]]
name = "all"
secret = "{ALL}"
[[keys]]
name = "some"
secret = "{SOME}"
models = ["closed/*", "second/echo"]
"""
SAID = [{"role": "user", "content": "ebb"}]
DIALECTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/responses", {"input": "ebb"}),
    ("/v1/chat/completions", {"messages": SAID}),
    ("/v1/completions", {"prompt": "ebb"}),
    ("/v1/messages", {"messages": SAID, "max_tokens": 50}),
    ("/v1/embeddings", {"input": "ebb"}),
    ("/v1/audio/speech", {"input": "ebb", "voice": "alloy"}),
    ("/v1beta/models/closed/m:generateContent", {"contents": [{"parts": [{"text": "ebb"}]}]}),
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def api(gateway: Running) -> Iterator[Api]:
    with Api(gateway, authorization=f"Bearer {ALL}") as client:
        assert client.get("/v1/models").status == 200
        yield client


@pytest.mark.parametrize(("path", "members"), DIALECTS, ids=[path for path, _ in DIALECTS])
def test_the_next_name_of_the_list_answers_and_no_provider_sees_the_list(
    api: Api, path: str, members: dict[str, Any]
) -> None:
    model = {} if "closed/m" in path else {"model": "closed/m"}
    reply = api.post(path, {**model, **members, "models": ["sim/echo?status=503", "second/echo"]})
    assert reply.status == 200, reply.content
    assert reply.headers["tidegate-deployment"] == "second/echo"
    assert reply.headers["tidegate-attempts"] == "3"
    assert "models" not in api.sent
    assert "models" not in reply.content.decode("latin-1")
    assert api.gateway.usage(reply.request_id)["model"] == "closed/m"


def test_over_a_websocket_no_provider_sees_the_list_either(gateway: Running) -> None:
    with Socket(gateway, headers={"authorization": f"Bearer {ALL}"}) as client:
        response = client.response("closed/m", input="over the socket", models=["sim/echo?status=503", "second/echo"])
    assert response["output"][0]["content"][0]["text"] == "over the socket"
    sent = [one.body for one in gateway.sim.requests if b"over the socket" in one.body]
    assert len(sent) == 2
    assert not any(b"models" in body for body in sent)


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_alias_falls_back_on_comes_before_the_list(api: Api, stream: bool) -> None:
    reply = api.ask("chat", "two", say="ebb", stream=stream, models=["two", "closed/m", "second/echo"])
    assert (reply.status, reply.text) == (200, "ebb")
    # A deployment that stands in the plan twice is asked once.
    assert (reply.headers["tidegate-deployment"], reply.headers["tidegate-attempts"]) == ("second/echo", "3")


def test_without_a_model_the_list_begins_with_it(api: Api) -> None:
    reply = api.ask("chat", None, models=["second/echo", "closed/m"])
    assert (reply.status, reply.headers["tidegate-deployment"]) == (200, "second/echo")
    assert api.gateway.usage(reply.request_id)["model"] == "second/echo"


@pytest.mark.parametrize("models", [None, []])
def test_an_empty_list_says_nothing(api: Api, models: list[str] | None) -> None:
    assert api.ask("chat", "second/echo", models=models).headers["tidegate-deployment"] == "second/echo"
    assert "models" not in api.sent
    assert api.ask("chat", "closed/m", models=models).status == 502
    assert api.ask("chat", None, models=models).headers["tidegate-deployment"] == "sim/lorem"


def test_a_list_whose_name_is_written_in_escapes_is_one_all_the_same(api: Api) -> None:
    body = b'{"model":"closed/m","\\u006dodels":["second/echo"],"messages":[{"role":"user","content":"ebb"}]}'
    reply = api.post("/v1/chat/completions", body, headers={"content-type": "application/json"})
    assert (reply.status, reply.headers["tidegate-deployment"]) == (200, "second/echo")
    assert "models" not in api.sent


@pytest.mark.parametrize(
    ("error", "code"),
    [("context_length_exceeded", "context_length_exceeded"), ("content_filter", "content_filter"), ("x", "x")],
)
def test_who_brings_a_list_wants_another_model_after_these_refusals_as_well(error: str, code: str) -> None:
    refusal = json_answer({"error": {"message": "no", "code": error, "type": "invalid_request_error"}}, "400 X")
    with (
        Canned(refusal) as picky,
        Running(
            f'[server]\nport = 0\n[providers.picky]\nkind = "openai-compatible"\nbase_url = "{picky.url}"\nmodels = ["m"]\n'
            '[providers.sim]\nbase_url = "{sim}"\n'
        ) as gateway,
        Api(gateway) as api,
    ):
        assert api.ask("chat", "picky/m").error["code"] == code
        reply = api.ask("chat", "picky/m", models=["sim/echo"])
        assert reply.status == (400 if error == "x" else 200)


@pytest.mark.parametrize(
    ("models", "param"),
    [
        ("second/echo", "models"),
        ([1], "models[0]"),
        (["second/echo", ""], "models[1]"),
        (["x" * 1025], "models[0]"),
        ([f"second/{number}" for number in range(17)], "models"),
    ],
)
@pytest.mark.parametrize("endpoint", ["responses", "chat"])
def test_a_list_that_is_none_is_refused_by_its_place(api: Api, endpoint: str, models: object, param: str) -> None:
    assert api.refused(endpoint, "second/echo", models=models)["param"] == param


def test_a_name_that_leads_nowhere_is_named(api: Api) -> None:
    reply = api.ask("chat", "second/echo", models=["closed/m", "nosuch"])
    assert (reply.status, reply.error["param"], reply.error["code"]) == (404, "models[1]", "model_not_found")


def test_a_name_whose_provider_does_not_have_the_endpoint_is_named(api: Api) -> None:
    reply = api.post("/v1/embeddings", {"model": "second/echo", "input": "x", "models": ["talks/echo"]})
    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "models[0]", "unsupported_endpoint")


def test_a_key_may_fall_back_only_on_what_it_may_use(gateway: Running) -> None:
    with Api(gateway, authorization=f"Bearer {SOME}") as api:
        assert api.ask("chat", "closed/m", models=["second/echo"]).status == 200
        calls = api.calls
        for models, members in ((["second/echo", "sim/echo"], {"model": "closed/m"}), (["sim/echo"], {})):
            reply = api.post("/v1/chat/completions", {**members, "messages": SAID, "models": models})
            assert (reply.status, reply.error["code"]) == (403, "model_not_allowed")
            assert reply.error["param"] == f"models[{len(models) - 1}]"
        assert api.calls == calls
