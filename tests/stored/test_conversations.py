"""Conversations with the official SDK."""

import json
import re
from typing import Any

import openai
import pytest

from tests.stored.conftest import MODELS
from tests.support.api import Api
from tests.support.running import Running

providers = pytest.mark.parametrize("provider", MODELS.values(), ids=MODELS.keys())

HELLO: Any = {"type": "message", "role": "user", "content": "hello"}


def texts(items: Any) -> list[str]:
    return [part.text for item in items for part in item.content]


def test_a_conversation_is_made_read_changed_and_deleted(client: openai.OpenAI) -> None:
    made = client.conversations.create(metadata={"topic": "tides"}, items=[HELLO])
    assert made.id.startswith("conv_")
    assert made.metadata == {"topic": "tides"}
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "ebb"})
    assert (changed.id, changed.metadata) == (made.id, {"topic": "ebb"})
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    with pytest.raises(openai.NotFoundError, match=f"Conversation with id '{made.id}' not found"):
        client.conversations.retrieve(made.id)


def test_items_are_added_listed_read_and_deleted(client: openai.OpenAI) -> None:
    made = client.conversations.create(items=[HELLO])
    added = client.conversations.items.create(
        made.id, items=[{"role": "user", "content": f"number {number}"} for number in range(4)]
    )
    assert texts(added.data) == [f"number {number}" for number in range(4)]
    whole = ["hello", *(f"number {number}" for number in range(4))]
    assert texts(client.conversations.items.list(made.id, order="asc", limit=2)) == whole
    assert texts(client.conversations.items.list(made.id)) == whole[::-1]
    one = client.conversations.items.retrieve(added.data[1].id or "", conversation_id=made.id)
    assert texts([one]) == ["number 1"]
    left = client.conversations.items.delete(added.data[1].id or "", conversation_id=made.id)
    assert left.id == made.id
    assert "number 1" not in texts(client.conversations.items.list(made.id))
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(added.data[1].id or "", conversation_id=made.id)


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/responses"])
def test_an_id_of_an_item_that_no_index_takes_is_refused(keeping: Running, path: str) -> None:
    name = "items" if path == "/v1/conversations" else "input"
    with Api(keeping) as api:
        longest = api.post(path, {"model": "lab/echo", name: [{**HELLO, "id": "m" * 640}]})
        longer = api.post(path, {"model": "lab/echo", name: [HELLO, {**HELLO, "id": "m" * 641}]})
    assert longest.status == 200
    assert longer.status == 400
    assert longer.error["param"] == f"{name}[1].id"
    assert "640" in longer.error["message"]


@providers
def test_responses_go_on_in_a_conversation(keeping: Running, client: openai.OpenAI, provider: str) -> None:
    made = client.conversations.create(items=[HELLO])
    one = client.responses.create(model=f"{provider}/echo", input="first words", conversation=made.id)
    assert one.conversation is not None
    assert one.conversation.id == made.id
    events = list(
        client.responses.create(
            model=f"{provider}/echo", input="second words", conversation={"id": made.id}, stream=True
        )
    )
    assert events[-1].type == "response.completed"
    sent = json.dumps(json.loads(keeping.sim.requests[-1].body))
    assert "conversation" not in sent
    places = [sent.index(words) for words in ("hello", "first words", "second words")]
    assert places == sorted(places)
    items: list[Any] = [one for one in client.conversations.items.list(made.id, order="asc") if one.type == "message"]
    assert [one.role for one in items] == ["user", "user", "assistant", "user", "assistant"]
    assert texts([one for one in items if one.role == "user"]) == ["hello", "first words", "second words"]


@providers
@pytest.mark.parametrize("store", [True, False])
def test_who_goes_on_from_a_response_of_a_conversation_has_what_that_was_asked_with(
    keeping: Running, client: openai.OpenAI, provider: str, store: bool
) -> None:
    """And nothing that was added since."""
    made = client.conversations.create(items=[HELLO])
    client.responses.create(model=f"{provider}/echo", input="first words", conversation=made.id)
    second = client.responses.create(model=f"{provider}/echo", input="second words", conversation=made.id)
    client.conversations.items.create(made.id, items=[{"role": "user", "content": "came later"}])
    client.responses.create(model=f"{provider}/echo", input="third words", conversation=made.id)
    branch = client.responses.create(
        model=f"{provider}/echo", input="a branch", previous_response_id=second.id, store=store
    )
    sent = keeping.sim.requests[-1].body.decode()
    places = [sent.index(words) for words in ("hello", "first words", "second words", "a branch")]
    assert places == sorted(places)
    assert "came later" not in sent
    assert "third words" not in sent
    asked = ["hello", "first words", "second words"]
    shown = list(client.responses.input_items.list(second.id, order="asc", limit=2))
    assert texts_of_users(shown) == asked
    assert [item.id for item in client.responses.input_items.list(second.id, limit=2)] == [item.id for item in shown][
        ::-1
    ]
    if store:
        assert texts_of_users(client.responses.input_items.list(branch.id, order="asc", limit=3)) == [
            *asked,
            "a branch",
        ]


def texts_of_users(items: Any) -> list[str]:
    return texts([item for item in items if item.type == "message" and item.role == "user"])


def test_a_conversation_that_is_gone_is_named_to_who_goes_on_from_a_response_in_it(client: openai.OpenAI) -> None:
    made = client.conversations.create(items=[HELLO])
    given = client.responses.create(model="lab/echo", input="hi", conversation=made.id)
    behind = client.responses.create(model="lab/echo", input="and", previous_response_id=given.id)
    client.conversations.delete(made.id)
    for one in (given, behind):
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="lab/echo", input="so", previous_response_id=one.id)
        assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
        assert f"Conversation with id '{made.id}' not found. It was deleted, and '{given.id}'" in caught.value.message
        with pytest.raises(openai.NotFoundError, match=f"'{made.id}' was deleted, and '{given.id}' continues it"):
            client.responses.input_items.list(one.id)
    empty = client.conversations.create()
    alone = client.responses.create(model="lab/echo", input="hi", conversation=empty.id)
    client.conversations.delete(empty.id)
    assert client.responses.create(model="lab/echo", input="so", previous_response_id=alone.id).output_text


def pages(api: Api, path: str, order: str, limit: int) -> list[str]:
    """The texts of users, page by page, as far as it goes on."""
    found: list[Any] = []
    after = ""
    while len(found) < 50:
        page = api.get(f"{path}?order={order}&limit={limit}{after}").json
        found += page["data"]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert len({item["id"] for item in found}) == len(found)
    return [part["text"] for item in found if item["role"] == "user" for part in item["content"]]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_items_that_come_with_the_same_id_are_all_found_page_by_page(
    keeping: Running, client: openai.OpenAI, limit: int
) -> None:
    """In one request, in a later one of the chain, and in a conversation."""
    same = [{**HELLO, "id": "msg_same", "content": words} for words in ("one", "two", "three")]
    made = client.conversations.create()
    with Api(keeping) as api:

        def ask(**members: Any) -> str:
            given = api.post("/v1/responses", {"model": "lab/echo", **members})
            assert given.status == 200
            return str(given.json["id"])

        last = ask(input=same, previous_response_id=ask(input=same))
        ask(input=same, conversation=made.id)
        ask(input=[*same, {"type": "item_reference", "id": "msg_same"}], conversation=made.id)
        words = ["one", "two", "three"] * 2
        for path in (f"/v1/responses/{last}/input_items", f"/v1/conversations/{made.id}/items"):
            assert pages(api, path, "asc", limit) == words
            assert pages(api, path, "desc", limit) == words[::-1]


@pytest.mark.parametrize("name", ["号_1", "a b_1", "x" * 9])
def test_an_id_that_comes_again_gives_way_to_one_of_ours_whatever_it_is_like(keeping: Running, name: str) -> None:
    """Clients choose what ids begin with; nothing of that is kept beside the items."""
    same = [{**HELLO, "id": name, "content": words} for words in ("one", "two", "three")]
    with Api(keeping) as api:
        first = api.post("/v1/responses", {"model": "lab/echo", "input": same})
        assert first.status == 200
        last = api.post("/v1/responses", {"model": "lab/echo", "input": same, "previous_response_id": first.json["id"]})
        assert last.status == 200, last.content
        found = api.get(f"/v1/responses/{last.json['id']}/input_items?order=asc&limit=100").json["data"]
        ids = [item["id"] for item in found if item["role"] == "user"]
        assert len(ids) == len(set(ids)) == 6
        assert all(re.fullmatch("(msg|item)_[0-9a-f]{48}", one) for one in ids if one != name), ids


def test_an_id_that_a_conversation_has_already_is_refused(keeping: Running, client: openai.OpenAI) -> None:
    named = {**HELLO, "id": "msg_named"}
    with Api(keeping) as api:
        made = api.post("/v1/conversations", {"items": [named]}).json["id"]
        again = api.post(f"/v1/conversations/{made}/items", {"items": [HELLO, named]})
        twice = api.post("/v1/conversations", {"items": [HELLO, named, named]})
        other = api.post("/v1/conversations", {"items": [named]})
    assert (again.status, again.error["param"]) == (400, "items[1].id")
    assert "'msg_named' already; leave the id out" in again.error["message"]
    assert (twice.status, twice.error["param"]) == (400, "items[2].id")
    assert other.status == 200  # it names one item of each
    assert len(client.conversations.items.list(made).data) == 1


def test_what_failed_is_not_added_to_a_conversation(client: openai.OpenAI) -> None:
    made = client.conversations.create()
    list(
        client.responses.with_raw_response.create(
            model="openai/lorem?fault=reset&after=3", input="hi", conversation=made.id, stream=True
        ).http_response.iter_raw()
    )
    assert client.conversations.items.list(made.id).data == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [{"role": "user"}]}, "items[0].content"),
        ({"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0]"),
        ({"items": [HELLO] * 21}, "items"),
        ({"items": "hello"}, "items"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
    ],
)
def test_bad_conversations_are_refused_by_name(keeping: Running, body: Any, param: str) -> None:
    with Api(keeping) as api:
        answer = api.post("/v1/conversations", body)
    assert answer.status == 400
    assert answer.error["param"].startswith(param)


@pytest.mark.parametrize("count", [0, 21])
def test_too_few_and_too_many_items_are_told_both_bounds(keeping: Running, client: openai.OpenAI, count: int) -> None:
    made = client.conversations.create()
    with Api(keeping) as api:
        answer = api.post(f"/v1/conversations/{made.id}/items", {"items": [HELLO] * count})
    assert answer.status == 400
    assert answer.error["message"] == "Invalid 'items': expected an array of at least 1 item and at most 20 items."


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/responses", "/v1/chat/completions"])
def test_names_and_values_of_metadata_are_as_long_as_in_the_official_api(keeping: Running, path: str) -> None:
    asked = {"model": "lab/echo", "messages": [{"role": "user", "content": "hi"}]}
    if path != "/v1/chat/completions":
        asked = {"model": "lab/echo", **({"input": "hi"} if path == "/v1/responses" else {})}
    with Api(keeping) as api:
        longest = api.post(path, {**asked, "metadata": {"k" * 64: "v" * 512}})
        longer = api.post(path, {**asked, "metadata": {"k" * 65: "v"}})
    assert longest.status == 200
    assert (longer.status, longer.error["param"]) == (400, "metadata")
    assert "16 members, each with a name of at most 64 characters" in longer.error["message"]


def test_an_item_of_a_conversation_can_be_referred_to_as_long_as_it_is_there(
    keeping: Running, client: openai.OpenAI
) -> None:
    """Also one that no response has added."""
    afar: Any = {**HELLO, "content": "from afar"}
    made = client.conversations.create(items=[afar])
    (item,) = client.conversations.items.list(made.id).data
    asked: Any = {"model": "lab/echo", "input": [{"type": "item_reference", "id": item.id}, HELLO], "store": False}
    client.responses.create(**asked)
    assert "from afar" in keeping.sim.requests[-1].body.decode()
    client.conversations.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=f"Item with id '{item.id}' not found"):
        client.responses.create(**asked)


def test_an_item_of_a_response_is_gone_with_it(client: openai.OpenAI) -> None:
    given = client.responses.create(model="lab/echo", input="hi")
    client.responses.delete(given.id)
    asked: Any = {"model": "lab/echo", "input": [{"type": "item_reference", "id": given.output[0].id}]}
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.create(**asked)


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("stream", [True, False])
@providers
def test_a_response_names_what_it_builds_on_whether_it_is_kept_or_not(
    keeping: Running, client: openai.OpenAI, provider: str, stream: bool, store: bool
) -> None:
    made = client.conversations.create(items=[HELLO])
    before = client.responses.create(model="openai/echo", input="hi")
    with Api(keeping) as api:
        body = {"model": f"{provider}/echo", "input": "hi", "store": store, "stream": stream}
        inside = api.post("/v1/responses", {**body, "conversation": made.id})
        behind = api.post("/v1/responses", {**body, "previous_response_id": before.id})
    one, other = (answer.events[-1]["response"] if stream else answer.json for answer in (inside, behind))
    assert (one["conversation"], one["previous_response_id"], one["store"]) == ({"id": made.id}, None, store)
    assert (other["previous_response_id"], other["store"]) == (before.id, store)


def test_what_is_no_conversation_is_not_found(keeping: Running, client: openai.OpenAI) -> None:
    with Api(keeping) as api:
        for method, path, body in (
            ("GET", "/v1/conversations/conv_1", None),
            ("POST", "/v1/conversations/conv_1", {"metadata": {}}),
            ("DELETE", "/v1/conversations/conv_1", None),
            ("GET", "/v1/conversations/conv_1/items", None),
            ("POST", "/v1/conversations/conv_1/items", {"items": [HELLO]}),
            ("GET", "/v1/conversations/conv_1/items/msg_1", None),
            ("DELETE", "/v1/conversations/conv_1/items/msg_1", None),
        ):
            answer = api.http.request(method, path, json=body)
            assert answer.status_code == 404, (method, path)
            assert answer.json()["error"]["message"] == "Conversation with id 'conv_1' not found."
    with pytest.raises(openai.NotFoundError, match="Conversation with id 'conv_1' not found"):
        client.responses.create(model="openai/echo", input="hi", conversation="conv_1")
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        client.responses.create(model="openai/echo", input="hi", conversation="conv_1", previous_response_id="resp_1")


def test_a_long_conversation_may_be_sent_at_once(client: openai.OpenAI) -> None:
    words = "tide " * 60_000
    made = client.conversations.create(items=[{"type": "message", "role": "user", "content": words}])
    assert texts(client.conversations.items.list(made.id)) == [words]
