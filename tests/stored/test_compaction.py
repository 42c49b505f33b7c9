"""Prompts are counted and conversations compacted with the official SDK, at providers of every dialect."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import CompactedResponse

from tests.stored.conftest import MODELS
from tests.support.api import Api
from tests.support.running import Running

ALL = {**MODELS, "responses alone": "plain"}
"""`plain` speaks Responses, and has nothing behind the endpoint."""
SUMMARISING = {dialect: name for dialect, name in ALL.items() if name != "openai"}
SUMMARY = "She asked for a boat; the answer was a red one."

every = pytest.mark.parametrize("provider", ALL.values(), ids=ALL.keys())
summarising = pytest.mark.parametrize("provider", SUMMARISING.values(), ids=SUMMARISING.keys())

TALK: list[Any] = [
    {"role": "user", "content": "I want a boat"},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "secret thoughts"}]},
    {"type": "function_call", "call_id": "call_1", "name": "find_boats", "arguments": '{"colour":"red"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "boat number 42"},
    {"role": "assistant", "content": "Number 42 is red."},
    {"role": "user", "content": "Take it"},
]


@pytest.fixture(scope="module")
def api(keeping: Running) -> Iterator[Api]:
    with Api(keeping) as found:
        yield found


def newest(keeping: Running) -> str:
    """The body that the provider got last."""
    return json.dumps(json.loads(keeping.sim.requests[-1].body), ensure_ascii=False)


def summarised(provider: str) -> str:
    return f"{provider}/echo?text={SUMMARY}"


def compacted(client: openai.OpenAI, provider: str) -> CompactedResponse:
    model = "openai/echo" if provider == "openai" else summarised(provider)
    return client.responses.compact(model=model, input=TALK)


def items(found: CompactedResponse) -> list[Any]:
    return [item.to_dict(warnings=False) for item in found.output]  # the SDK has no type for the user's messages here


# -- counting ---------------------------------------------------------------------------------------------------


@every
def test_a_prompt_is_counted(client: openai.OpenAI, provider: str) -> None:
    short = client.responses.input_tokens.count(model=f"{provider}/echo", input="Hello there")
    assert short.object == "response.input_tokens"
    long = client.responses.input_tokens.count(
        model=f"{provider}/echo", input="Hello there " * 100, instructions="Be brief. " * 50
    )
    assert 0 < short.input_tokens < 20
    assert 300 < long.input_tokens < 700


@every
def test_what_a_prompt_builds_on_is_counted(client: openai.OpenAI, provider: str) -> None:
    first = client.responses.create(model=f"{provider}/echo?text=ok", input="words " * 500)
    alone = client.responses.input_tokens.count(model=f"{provider}/echo", input="and now?")
    both = client.responses.input_tokens.count(
        model=f"{provider}/echo", input="and now?", previous_response_id=first.id
    )
    assert both.input_tokens > alone.input_tokens + 700
    held = client.conversations.create(items=[{"type": "message", "role": "user", "content": "words " * 500}])
    there = client.responses.input_tokens.count(model=f"{provider}/echo", input="and now?", conversation=held.id)
    assert there.input_tokens > alone.input_tokens + 700


def test_only_a_provider_that_counts_is_asked(keeping: Running, api: Api) -> None:
    before = len(keeping.sim.requests)
    body = {"input": "Hello", "tools": [{"type": "function", "name": "f", "parameters": {}}], "personality": "calm"}
    counted = api.post("/v1/responses/input_tokens", {"model": "openai/echo", **body})
    assert counted.json == {"object": "response.input_tokens", "input_tokens": 2}
    assert "tidegate-usage" not in counted.headers
    sent = list(keeping.sim.requests)[before:]
    assert [one.path for one in sent] == ["/v1/responses/input_tokens"]
    assert sent[0].json == {"model": "echo", **body}
    for provider in SUMMARISING.values():
        estimated = api.post("/v1/responses/input_tokens", {"model": f"{provider}/echo", **body})
        assert estimated.headers["tidegate-usage"] == "estimated"
    assert len(keeping.sim.requests) == before + 1


@summarising
def test_pictures_and_files_are_estimated_by_what_they_stand_for(client: openai.OpenAI, provider: str) -> None:
    data = base64.b64encode(b"x" * 200_000).decode()

    def count(*parts: Any) -> int:
        content = [{"type": "input_text", "text": "What is this?"}, *parts]
        given: Any = [{"role": "user", "content": content}]
        return client.responses.input_tokens.count(model=f"{provider}/echo", input=given).input_tokens

    alone = count()
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{data}", "detail": "auto"}
    assert 1500 < count(image) - alone < 1700
    assert 1500 < count({**image, "image_url": "https://example.com/a.png"}) - alone < 1700
    assert 5000 < count({"type": "input_file", "filename": "a.pdf", "file_data": data}) - alone < 8000
    sealed: Any = {"type": "reasoning", "summary": [], "encrypted_content": data}
    given: Any = [sealed, {"role": "user", "content": "What is this?"}]
    assert client.responses.input_tokens.count(model=f"{provider}/echo", input=given).input_tokens < 60


@every
@pytest.mark.parametrize(
    ("member", "status", "param"),
    [
        ({"previous_response_id": "resp_none"}, 400, "previous_response_id"),
        ({"conversation": "conv_none"}, 404, "conversation"),
        ({"previous_response_id": "resp_1", "conversation": "conv_1"}, 400, "previous_response_id"),
        ({"input": [{"type": "item_reference", "id": "msg_none"}]}, 404, "input[0].id"),
        ({"input": [{"role": "user"}]}, 400, "input[0].content"),
        ({"tools": [{"type": "function"}]}, 400, "tools[0].name"),
        ({"tool_choice": "sometimes"}, 400, "tool_choice"),
        ({"personality": "x" * 65}, 400, "personality"),
        ({"truncation": "perhaps"}, 400, "truncation"),
        ({"text": {"format": {"type": "json_schema"}}}, 400, "text.format.name"),
    ],
)
def test_what_cannot_be_counted_is_named(api: Api, provider: str, member: Any, status: int, param: str) -> None:
    answer = api.post("/v1/responses/input_tokens", {"model": f"{provider}/echo", "input": "x", **member})
    assert (answer.status, answer.error["param"]) == (status, param)


# -- compacting -------------------------------------------------------------------------------------------------


@every
def test_a_conversation_is_compacted_to_the_users_words_and_one_item(client: openai.OpenAI, provider: str) -> None:
    found = compacted(client, provider)
    assert found.object == "response.compaction"
    assert found.id.startswith("resp_")
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens > 0
    *users, last = items(found)
    assert [(item["type"], item["role"]) for item in users] == [("message", "user")] * 2
    assert "I want a boat" in json.dumps(users[0])
    assert last["type"] == "compaction"
    assert last["id"].startswith("cmp_")
    assert SUMMARY not in json.dumps(last)
    assert len({item["id"] for item in items(found)}) == 3


@summarising
def test_the_model_is_asked_for_a_summary_of_all_that_was_said(
    keeping: Running, client: openai.OpenAI, provider: str
) -> None:
    client.responses.compact(model=summarised(provider), input=TALK, instructions="You sell boats.")
    sent = newest(keeping)
    told = ["I want a boat", "find_boats", "boat number 42", "Number 42 is red.", "Take it", "summary"]
    places = [sent.index(words) for words in told]
    assert places == sorted(places)
    assert "You sell boats." in sent
    assert "secret thoughts" not in sent
    assert '"tools"' not in sent


@summarising
def test_a_compacted_conversation_goes_on_at_any_provider(
    keeping: Running, client: openai.OpenAI, provider: str
) -> None:
    given = items(compacted(client, provider))
    for other in ALL.values():
        question: Any = [*given, {"role": "user", "content": "And then?"}]
        told = client.responses.create(model=f"{other}/echo", input=question)
        assert told.status == "completed"
        sent = newest(keeping)
        assert sent.index("Take it") < sent.index(SUMMARY) < sent.index("And then?")
        assert '"compaction"' not in sent
        assert '"tgr1_' not in sent
        events = list(client.responses.create(model=f"{other}/echo", input=question, stream=True))
        assert events[-1].type == "response.completed"
        counted = client.responses.input_tokens.count(model=f"{other}/echo", input=question)
        assert counted.input_tokens < 200


def test_a_providers_own_item_goes_back_to_it_as_it_came(keeping: Running, client: openai.OpenAI) -> None:
    given = items(compacted(client, "openai"))
    assert given[-1]["encrypted_content"].startswith("tgr1_")
    client.responses.create(model="openai/echo", input=[*given, {"role": "user", "content": "And then?"}])
    sent = keeping.sim.requests[-1].json["input"]
    assert [item["type"] for item in sent[:3]] == ["message", "message", "compaction"]
    assert sent[2]["encrypted_content"].startswith("gAAAAA")


@summarising
def test_a_providers_own_item_goes_to_nobody_else(client: openai.OpenAI, provider: str) -> None:
    given = items(compacted(client, "openai"))
    with pytest.raises(openai.BadRequestError, match="Send it to a model of 'openai'") as caught:
        client.responses.create(model=f"{provider}/echo", input=[*given, {"role": "user", "content": "And then?"}])
    assert caught.value.param == "input[2].encrypted_content"
    assert caught.value.code == "invalid_encrypted_content"
    assert given[-1]["id"] in caught.value.message
    with pytest.raises(openai.BadRequestError, match="Send it to a model of 'openai'"):
        client.responses.compact(model=f"{provider}/echo", input=given)


@every
def test_an_item_that_nobody_can_open_is_refused(client: openai.OpenAI, provider: str) -> None:
    kept = items(compacted(client, "lab"))[-1]
    broken: Any = {**kept, "encrypted_content": kept["encrypted_content"][:-8] + "AAAAAAAA"}
    with pytest.raises(openai.BadRequestError, match=f"'{kept['id']}' cannot be opened") as caught:
        client.responses.create(model=f"{provider}/echo", input=[broken, {"role": "user", "content": "hi"}])
    assert caught.value.param == "input[0].encrypted_content"
    bare: Any = [{"type": "compaction"}, {"role": "user", "content": "hi"}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=f"{provider}/echo", input=bare)
    assert caught.value.param == "input[0].encrypted_content"


@summarising
def test_ciphertext_from_elsewhere_is_refused_where_nobody_reads_it(client: openai.OpenAI, provider: str) -> None:
    given: Any = [{"type": "compaction", "encrypted_content": "gAAAAAB"}, {"role": "user", "content": "hi"}]
    assert client.responses.create(model="openai/echo", input=given).status == "completed"
    with pytest.raises(openai.BadRequestError, match="was not made here"):
        client.responses.create(model=f"{provider}/echo", input=given)


@every
def test_what_is_kept_is_compacted_and_built_on(keeping: Running, client: openai.OpenAI, provider: str) -> None:
    first = client.responses.create(model=f"{provider}/echo?text=The first answer", input="The first question")
    model = "openai/echo" if provider == "openai" else summarised(provider)
    found = client.responses.compact(model=model, previous_response_id=first.id)
    assert "The first question" in newest(keeping)
    assert "The first answer" in newest(keeping)
    assert [item["type"] for item in items(found)] == ["message", "compaction"]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(found.id)
    given: Any = [*items(found), {"role": "user", "content": "The second question"}]
    second = client.responses.create(model=f"{provider}/echo", input=given)
    client.responses.create(model=f"{provider}/echo", input="The third question", previous_response_id=second.id)
    sent = newest(keeping)
    mark = "gAAAAA" if provider == "openai" else SUMMARY
    places = [sent.index(words) for words in ("The first question", mark, "The second question", "The third question")]
    assert places == sorted(places)
    if provider == "openai":
        with pytest.raises(openai.BadRequestError, match="Send it to a model of 'openai'") as caught:
            client.responses.create(model="lab/echo", input="x", previous_response_id=second.id)
        assert caught.value.param == "previous_response_id"


@summarising
def test_what_was_compacted_is_compacted_again(keeping: Running, client: openai.OpenAI, provider: str) -> None:
    given = items(compacted(client, "lab"))
    again = client.responses.compact(model=f"{provider}/echo?text=Shorter still.", input=given)
    assert SUMMARY in newest(keeping)
    assert [item["type"] for item in items(again)] == ["message", "message", "compaction"]
    client.responses.create(model="anthropic/echo", input=items(again))
    assert "Shorter still." in newest(keeping)
    assert SUMMARY not in newest(keeping)


@pytest.mark.parametrize(
    ("option", "word"), [("finish=length", "length"), ("text=", "no text"), ("finish=content_filter", "content_filter")]
)
def test_half_a_summary_is_no_compaction(client: openai.OpenAI, option: str, word: str) -> None:
    with pytest.raises(openai.InternalServerError, match=word) as caught:
        client.responses.compact(model=f"lab/echo?{option}", input=TALK)
    assert caught.value.code == "upstream_broken"


@every
def test_a_compaction_is_settled(keeping: Running, api: Api, provider: str) -> None:
    model = "openai/echo" if provider == "openai" else summarised(provider)
    answer = api.post("/v1/responses/compact", {"model": model, "input": TALK})
    entry = keeping.usage(answer.headers["x-request-id"])
    assert entry["endpoint"] == "responses/compact"
    assert entry["input_tokens"] == answer.json["usage"]["input_tokens"] > 0
    assert entry["output_tokens"] == answer.json["usage"]["output_tokens"] > 0


@every
@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": "x"}, 400, "model"),
        ({"model": "echo"}, 400, "input"),
        ({"model": "echo", "input": []}, 400, "input"),
        ({"model": "echo", "input": "x", "stream": True}, 400, "stream"),
        ({"model": "echo", "previous_response_id": "resp_none"}, 400, "previous_response_id"),
        ({"model": "echo", "input": [{"type": "item_reference", "id": "msg_none"}]}, 404, "input[0].id"),
    ],
)
def test_what_cannot_be_compacted_is_named(api: Api, provider: str, body: Any, status: int, param: str) -> None:
    if "model" in body:
        body = {**body, "model": f"{provider}/{body['model']}"}
    answer = api.post("/v1/responses/compact", body)
    assert (answer.status, answer.error["param"]) == (status, param)


def test_a_failed_compaction_is_the_providers_error(api: Api) -> None:
    for provider in ALL.values():
        answer = api.post("/v1/responses/compact", {"model": f"{provider}/echo?status=429", "input": TALK})
        assert answer.status == 429
    answer = api.post("/v1/responses/input_tokens", {"model": "openai/echo?status=429", "input": TALK})
    assert answer.status == 429


WITHOUT_STORE = """
[server]
port = 0
[routing]
retries = 0
eject_after = 0
[storage]
url = "off"
[providers.openai]
base_url = "{sim}"
credentials = ["sk-0123456789abcdef"]
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
[providers.relay]
kind = "openai"
base_url = "{sim}"
credentials = ["sk-0123456789abcdef"]
operations = { responses = [] }
[models.own-first]
targets = [{ model = "openai/echo?status=500" }]
fallback = ["lab/echo?text=Short."]
[models.own-last]
targets = [{ model = "lab/echo?finish=length" }]
fallback = ["openai/echo"]
"""


def test_a_compaction_falls_back_between_providers_that_have_it_and_others() -> None:
    with Running(WITHOUT_STORE) as running, Api(running) as api:

        def paths(model: str) -> list[str]:
            before = len(running.sim.requests)
            answer = api.post("/v1/responses/compact", {"model": model, "input": TALK})
            assert answer.status == 200
            assert [item["type"] for item in answer.json["output"]] == ["message", "message", "compaction"]
            return [one.path for one in list(running.sim.requests)[before:]]

        assert paths("own-first") == ["/v1/responses/compact", "/v1/chat/completions"]
        assert paths("own-last") == ["/v1/chat/completions", "/v1/responses/compact"]
        assert paths("relay/echo?text=Short.") == ["/v1/responses"]


def test_without_a_store_what_a_prompt_builds_on_is_refused_and_the_rest_works() -> None:
    with Running(WITHOUT_STORE) as running, Api(running) as api:
        for path in ("compact", "input_tokens"):
            for model in ("openai/echo", "lab/echo?text=Short."):
                body = {"model": model, "input": "x"}
                assert api.post(f"/v1/responses/{path}", body).status == 200
                answer = api.post(f"/v1/responses/{path}", {**body, "previous_response_id": "resp_1"})
                assert (answer.status, answer.error["code"]) == (400, "previous_response_not_found")


def test_a_key_stands_for_one_kind_of_request(api: Api) -> None:
    body = {"model": summarised("lab"), "input": TALK}
    headers = {"idempotency-key": "one-for-compacting"}
    first = api.post("/v1/responses/compact", body, headers=headers)
    again = api.post("/v1/responses/compact", body, headers=headers)
    assert again.content == first.content
    assert again.headers["tidegate-repeated"] == "true"
    assert api.post("/v1/responses", body, headers=headers).status == 422
