"""Which deployment a name leads to, and what `GET /v1/models` says about it."""

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.support.api import Api, Reply
from tests.support.canned import Canned, json_answer
from tests.support.running import Running, wait_for
from tidegate.gateway.relisting import Relisting

TOML = """
[server]
port = 0
[providers.first]
kind = "sim"
base_url = "{sim}"
models = ["echo", "Qwen/Qwen3-8B", "second/echo"]
[providers.second]
kind = "sim"
base_url = "{sim}"
models = ["echo", "zh", "lorem"]
[providers.open]
kind = "openai-compatible"
base_url = "http://127.0.0.1:9/v1"
[providers.talker]
kind = "sim"
base_url = "{sim}"
speaks = ["chat"]
models = ["only-chat", "zh"]
[models.fast]
target = "second/zh"
[models.echo]
target = "second/echo"
[models."vendor/name"]
target = "first/echo"
"""
SOME = "key-some-0123456789abcdef0123456789a"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def api(gateway: Running) -> Iterator[Api]:
    with Api(gateway) as client:
        assert client.get("/v1/models").status == 200
        yield client


def led(reply: Reply) -> str:
    return reply.headers["tidegate-deployment"]


@pytest.mark.row("S16")
@pytest.mark.parametrize(
    ("name", "deployment"),
    [
        ("fast", "second/zh"),  # an alias
        ("echo", "second/echo"),  # an alias wins over a known id
        ("vendor/name", "first/echo"),  # also with a slash
        ("Qwen/Qwen3-8B", "first/Qwen/Qwen3-8B"),  # a known id with a slash that is no provider
        ("lorem", "second/lorem"),  # a bare id
        ("zh", "second/zh"),  # a bare id of several, in the order of the configuration
        ("second/zh", "second/zh"),
        ("first/echo", "first/echo"),
        ("first/Qwen/Qwen3-8B", "first/Qwen/Qwen3-8B"),
        ("second/echo", "second/echo"),  # a provider that has the rest wins over another one's whole id
        ("second/unlisted", "second/unlisted"),  # the provider's own 404 is reported
        ("open/whatever/it/is", "open/whatever/it/is"),
        ("bare-and-unknown", "open/bare-and-unknown"),  # one provider's list is not known
    ],
)
def test_the_order_of_resolution(api: Api, name: str, deployment: str) -> None:
    assert led(api.ask("completions", name)) == deployment


def test_a_bare_name_goes_to_a_provider_that_speaks_the_endpoint(api: Api) -> None:
    assert led(api.ask("completions", "only-chat")) == "talker/only-chat"
    reply = api.post("/v1/embeddings", {"model": "only-chat", "input": "text"})
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "unsupported_endpoint", "model")
    assert "/v1/embeddings ('embeddings'). It speaks: chat (" in reply.error["message"]
    assert "'talker'" in reply.error["message"]


@pytest.mark.parametrize("name", ["nobody/has-this", "sekond/zh", "first/", "/echo", "", " "])
def test_a_name_that_leads_nowhere_is_a_404_or_400(api: Api, name: str) -> None:
    reply = api.ask("completions", name)
    assert reply.status in (400, 404, 502)
    if reply.status == 404:
        assert (reply.error["code"], reply.error["param"]) == ("model_not_found", "model")
        assert f"'{name}'" in reply.error["message"]


def test_a_404_names_what_is_near_or_who_could_be_meant(api: Api) -> None:
    assert "'second/zh'" in api.ask("completions", "sekond/zh").error["message"]
    assert "'first/…'" in api.ask("completions", "qqq/zzzzzzzzzzz").error["message"]


@pytest.mark.parametrize("endpoint", ["responses", "chat"])
def test_a_model_that_its_provider_does_not_have_is_told_with_the_provider(api: Api, endpoint: str) -> None:
    reply = api.ask(endpoint, "second/ech")
    assert reply.status == 404
    message = reply.json["error"]["message"]
    assert message.startswith("The model 'second/ech' does not exist")
    assert "Did you mean 'second/echo'" in message


def test_a_very_long_name_is_refused_without_a_search(api: Api) -> None:
    started = time.monotonic()
    for name in ("x/" + "y" * 5_000_000, "open/" + "z" * 2000):
        reply = api.ask("completions", name)
        assert (reply.status, reply.error["param"]) == (400, "model")
        assert len(reply.content) < 500
    assert time.monotonic() - started < 2


def test_the_list_holds_aliases_and_every_model_of_every_provider(api: Api) -> None:
    body = api.get("/v1/models").json
    assert body["object"] == "list"
    assert [(one["id"], one["owned_by"]) for one in body["data"]] == [
        ("fast", "tidegate"),
        ("echo", "tidegate"),
        ("vendor/name", "tidegate"),
        ("first/echo", "first"),
        ("first/Qwen/Qwen3-8B", "first"),
        ("first/second/echo", "first"),
        ("second/echo", "second"),
        ("second/zh", "second"),
        ("second/lorem", "second"),
        ("talker/only-chat", "talker"),
        ("talker/zh", "talker"),
    ]
    openai = {"id", "created", "owned_by", "object"}
    anthropic = {"id", "type", "display_name", "created_at", "lifecycle"}
    assert all(set(one) == openai | anthropic for one in body["data"])
    assert all(one["object"] == "model" and isinstance(one["created"], int) for one in body["data"])


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("fast", "tidegate"),
        ("first/Qwen/Qwen3-8B", "first"),
        ("Qwen/Qwen3-8B", "first"),
        ("Qwen%2FQwen3-8B", "first"),
        ("second/lorem", "second"),
        ("lorem", "second"),
    ],
)
def test_one_model_is_found_by_every_name_that_requests_may_use(api: Api, name: str, owner: str) -> None:
    body = api.get(f"/v1/models/{name}").json
    assert (body["id"], body["owned_by"], body["object"]) == (name.replace("%2F", "/"), owner, "model")


def test_one_model_that_is_not_there_is_a_404(api: Api) -> None:
    for name in ("second/nothing", "nobody/has-this"):
        reply = api.get(f"/v1/models/{name}")
        assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("listed", "ids"),
    [
        ({"object": "list", "data": [{"id": "a", "created": 1.5, "owned_by": None}, {"id": "b"}]}, ["a", "b"]),
        ({"data": []}, []),
        ({"models": []}, None),
        (
            {"models": [{"name": "models/a"}, {"name": "tuned/b", "supportedGenerationMethods": ["embedContent"]}]},
            ["a"],
        ),
        ([], None),
        (b"<html>", None),
        ({"data": [{"id": 5}]}, None),
    ],
)
def test_a_provider_with_an_odd_list_does_not_spoil_the_others(listed: Any, ids: list[str] | None) -> None:
    with Canned(json_answer(listed)) as provider:
        odd = f'[providers.odd]\nkind = "sim"\nbase_url = "{provider.url}"\n'
        with (
            Running(f"[server]\nport = 0\n{odd}[providers.sim]\nbase_url = '{{sim}}'\n") as gateway,
            Api(gateway) as api,
        ):
            names = [one["id"] for one in api.get("/v1/models").json["data"]]
    assert "sim/echo" in names
    assert [name for name in names if name.startswith("odd/")] == [f"odd/{one}" for one in ids or ()]


def test_a_provider_that_comes_up_later_is_known_from_its_first_answer_on() -> None:
    """Its list was a 503 at the start. A mistyped bare name goes to it until it is known, and not any longer."""
    down = json_answer({"error": {"message": "Loading."}}, "503 Service Unavailable")
    listed = json_answer({"object": "list", "data": [{"id": "late-one"}]})
    answer = json_answer(
        {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Up."}, "finish_reason": "stop"}],
        }
    )
    with Canned(down) as provider:
        late = f'[providers.late]\nkind = "openai-compatible"\nspeaks = ["chat"]\nbase_url = "{provider.url}"\n'
        with Running(f"[server]\nport = 0\n{late}") as gateway, Api(gateway) as api:
            assert api.get("/v1/models").json["data"] == []
            provider.say(answer, listed)
            assert api.ask("chat", "mistyped").text == "Up."
            names = wait_for(lambda: [one["id"] for one in api.get("/v1/models").json["data"]])
            assert names == ["late/late-one"]
            assert api.ask("chat", "mistyped").status == 404
            assert len(provider.requests) == 2
    assert [line["models"] for line in gateway.log_lines if line["event"] == "model_list_found"] == [1]


def test_providers_without_a_list_are_asked_after_pauses_that_grow_until_each_has_told_it() -> None:
    unlisted = {"early", "late"}
    asked: list[tuple[float, list[str]]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        async def ask(names: frozenset[str]) -> None:
            asked.append((loop.time(), sorted(names)))
            unlisted.discard("early")
            if len(asked) == 4:
                unlisted.discard("late")
                done.set()

        relisting = Relisting(loop, lambda: frozenset(unlisted), ask, first_s=0.02, most_s=0.05)
        asked.append((loop.time(), []))
        relisting.begin()
        await asyncio.wait_for(done.wait(), 10)
        await asyncio.sleep(0.1)
        relisting.answered("late")
        await relisting.close()

    asyncio.run(scenario())
    assert [names for _, names in asked[1:]] == [["early", "late"], ["late"], ["late"]]
    pauses = [after - before for (before, _), (after, _) in pairwise(asked)]
    assert all(pause >= least for pause, least in zip(pauses, (0.019, 0.039, 0.049), strict=True))


def test_a_key_is_shown_only_the_models_that_it_may_use_in_every_api() -> None:
    allowed = '["fast", "first/*", "lorem", "zh"]'
    key = f'[[keys]]\nname = "some"\nsecret = "{SOME}"\nmodels = {allowed}\n'
    names = ["fast", "first/echo", "first/Qwen/Qwen3-8B", "first/second/echo", "zh", "lorem"]
    with Running(TOML + key) as gateway, Api(gateway) as api:
        for headers in ({"authorization": f"Bearer {SOME}"}, {"x-api-key": SOME, "anthropic-version": "2023-06-01"}):
            body = api.get("/v1/models", headers=headers).json
            assert [one["id"] for one in body["data"]] == names
            assert (body["first_id"], body["last_id"]) == ("fast", "lorem")
        for path in ("/v1/models", "/v1beta/models"):
            google = api.get(path, headers={"x-goog-api-key": SOME}).json
            assert [one["name"] for one in google["models"]] == [f"models/{name}" for name in names]
        mine = {"authorization": f"Bearer {SOME}"}
        for name in names:
            assert api.get(f"/v1/models/{name}", headers=mine).status == 200
            asked = api.post("/v1/completions", {"model": name, "prompt": "x"}, headers=mine)
            assert asked.status == (404 if "Qwen" in name or "second" in name else 200)  # the simulator's own 404
        hidden = api.get("/v1/models/second/zh", headers=mine)
        assert (hidden.status, hidden.error["code"]) == (403, "model_not_allowed")


@pytest.mark.parametrize(
    "answer",
    [
        json_answer({"detail": "Not Found"}, "404 Not Found"),
        json_answer({"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}, "404 Not Found"),
        json_answer({"error": {"message": "Invalid URL (POST /v1/responses)", "code": None}}, "404 Not Found"),
        json_answer(b"404 page not found", "404 Not Found"),
    ],
)
def test_a_404_of_the_path_says_which_setting_helps(answer: bytes) -> None:
    with Canned(answer) as provider:
        toml = provider.toml("lab", "vllm", 'speaks = ["responses", "chat"]')
        with Running(f"[server]\nport = 0\n{toml}") as gateway, Api(gateway) as api:
            reply = api.ask("responses", "lab/m")
            assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "unsupported_endpoint", "model")
            assert "Provider 'lab' does not serve /v1/responses" in reply.error["message"]
            assert 'set speaks = ["chat"] in [providers.lab]' in reply.error["message"]


@pytest.mark.parametrize(
    "error",
    [
        {"message": "model 'm' not found", "code": None},
        {"message": "The model `m` does not exist.", "code": 404},
        {"message": "Not found", "code": "model_not_found"},
        {},
        {"message": "<html><title>404 Not Found</title></html>"},
    ],
)
def test_a_404_of_the_model_stays_one(error: dict[str, Any]) -> None:
    with (
        Canned(json_answer({"error": error}, "404 Not Found")) as provider,
        Running(f"[server]\nport = 0\n{provider.toml('lab', 'vllm')}") as gateway,
        Api(gateway) as api,
    ):
        reply = api.ask("responses", "lab/m")
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")
