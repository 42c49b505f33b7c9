"""Stored responses over WebSocket: what is kept may be built on from everywhere, and read over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.stored.conftest import KEPT, MODELS
from tests.support.api import Api
from tests.support.running import Running, wait_for
from tests.support.sockets import Socket

providers = pytest.mark.parametrize("provider", MODELS.values(), ids=MODELS.keys())


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("data")
    with Running(KEPT.replace("{data}", str(folder))) as running:
        yield running


@pytest.fixture(scope="module")
def http(keeping: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=keeping.url, api_key="unused", max_retries=0, timeout=20) as found:
        yield found


@pytest.fixture
def client(keeping: Running) -> Iterator[Socket]:
    with Socket(keeping) as found:
        yield found


def sent(gateway: Running) -> str:
    """The newest body that reached a provider, as text."""
    return json.dumps(gateway.sim.requests[-1].json, ensure_ascii=False)


def in_order(text: str, *parts: str) -> bool:
    """Whether the parts stand in `text` one behind the other."""
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
    return True


def not_found(client: Socket, response_id: str) -> bool:
    return bool(
        client.error("openai/echo", input="x", previous_response_id=response_id)["code"]
        == "previous_response_not_found"
    )


@providers
def test_a_response_is_read_over_http_as_it_was_given(client: Socket, http: openai.OpenAI, provider: str) -> None:
    given = client.response(f"{provider}/zh", input="潮汐")
    assert given["store"] is True
    assert http.responses.retrieve(given["id"]).to_dict() == given


def test_its_events_can_be_read_again_without_what_belongs_to_the_connection(keeping: Running, client: Socket) -> None:
    events = client.turn("openai/reasoning", input="why?", stream_id="main")
    with Api(keeping) as api:
        again = api.get(f"/v1/responses/{events[0]['response']['id']}?stream=true").events
    for event in events:
        del event["stream_id"]
    del events[0]["headers"]
    assert again == events


@providers
def test_one_conversation_goes_on_over_http_and_over_any_connection(
    keeping: Running, client: Socket, http: openai.OpenAI, provider: str
) -> None:
    first = http.responses.create(model=f"{provider}/lorem?text=answer1", input="question1")
    second = client.response(f"{provider}/lorem?text=answer2", input="question2", previous_response_id=first.id)
    with Socket(keeping) as other:
        third = other.response(f"{provider}/lorem?text=answer3", input="question3", previous_response_id=second["id"])
    http.responses.create(model=f"{provider}/echo", input="question4", previous_response_id=third["id"])
    assert in_order(sent(keeping), "question1", "answer1", "question2", "answer2", "question3", "answer3", "question4")


def test_what_is_not_stored_builds_on_what_is(keeping: Running, client: Socket, http: openai.OpenAI) -> None:
    stored = http.responses.create(model="openai/lorem?text=answer1", input="question1")
    second = client.response(
        "openai/lorem?text=answer2", input="question2", store=False, previous_response_id=stored.id
    )
    third = client.response(
        "openai/lorem?text=answer3", input="question3", store=False, previous_response_id=second["id"]
    )
    assert third["store"] is False
    assert in_order(sent(keeping), "question1", "answer1", "question2", "answer2", "question3")
    for response in (second, third):
        with pytest.raises(openai.NotFoundError):
            http.responses.retrieve(response["id"])
    with Socket(keeping) as other:
        assert not_found(other, third["id"])


def test_what_is_stored_keeps_all_that_it_builds_on(keeping: Running, client: Socket, http: openai.OpenAI) -> None:
    first = client.response("openai/lorem?text=answer1", input="question1", store=False)
    second = client.response(
        "openai/lorem?text=answer2", input="question2", store=False, previous_response_id=first["id"]
    )
    stored = client.response("openai/lorem?text=answer3", input="question3", previous_response_id=second["id"])
    assert stored["previous_response_id"] == second["id"]
    items = http.responses.input_items.list(stored["id"], order="asc", limit=100).data
    assert in_order(
        json.dumps([item.to_dict() for item in items]), "question1", "answer1", "question2", "answer2", "question3"
    )
    assert len({item.id for item in items}) == len(items) == 5
    http.responses.create(model="openai/echo", input="question4", previous_response_id=stored["id"])
    assert in_order(sent(keeping), "question1", "answer1", "question2", "answer2", "question3", "answer3", "question4")


def test_what_was_deleted_is_not_found(client: Socket, http: openai.OpenAI) -> None:
    stored = client.response("openai/echo", input="secret")
    http.responses.delete(stored["id"])
    assert not_found(client, stored["id"])


def test_a_response_that_failed_is_kept_as_failed(client: Socket, http: openai.OpenAI) -> None:
    events = client.turn("openai/lorem?fault=cut", input="x", stream_id="a")
    failed = http.responses.retrieve(events[-1]["response"]["id"])
    assert failed.status == "failed"


def test_turns_are_added_to_a_conversation(keeping: Running, client: Socket, http: openai.OpenAI) -> None:
    conversation = http.conversations.create(items=[{"type": "message", "role": "user", "content": "question0"}])
    for number in (1, 2):
        response = client.response(
            f"openai/lorem?text=answer{number}", input=f"question{number}", conversation=conversation.id, stream_id="c"
        )
        assert response["conversation"] == {"id": conversation.id}
    assert in_order(sent(keeping), "question0", "question1", "answer1", "question2")
    items = http.conversations.items.list(conversation.id, order="asc").data
    assert in_order(
        json.dumps([item.to_dict() for item in items]), "question0", "question1", "answer1", "question2", "answer2"
    )


def test_items_are_found_wherever_they_are(keeping: Running, client: Socket) -> None:
    stored = client.response("openai/lorem?text=stored", input="x")
    local = client.response("openai/lorem?text=remembered", input="x", store=False)
    references = [{"type": "item_reference", "id": one["output"][0]["id"]} for one in (local, stored)]
    answer = client.response("openai/echo", input=[*references, {"role": "user", "content": "and?"}], store=False)
    assert in_order(sent(keeping), "remembered", "stored", "and?")
    client.response("openai/echo", input=references[1:], store=False, previous_response_id=answer["id"])
    assert in_order(sent(keeping), "remembered", "stored", "and?", "stored")
    error = client.error("openai/echo", input=[{"type": "item_reference", "id": "msg_unknown"}])
    assert (error["status"], error["code"], error["param"]) == (404, "not_found", "input[0].id")


def test_a_warm_up_is_stored_too(keeping: Running, client: Socket, http: openai.OpenAI) -> None:
    calls = len(keeping.sim.requests)
    warm = client.response("openai/echo", input="beforehand", generate=False)
    assert len(keeping.sim.requests) == calls
    kept = http.responses.retrieve(warm["id"])
    assert kept.to_dict() == warm
    assert (kept.status, kept.output) == ("completed", [])
    http.responses.create(model="openai/echo", input="now", previous_response_id=warm["id"])
    assert in_order(sent(keeping), "beforehand", "now")
    second = client.response("openai/echo", input="more", generate=False, previous_response_id=warm["id"])
    client.response("openai/echo", input="now", previous_response_id=second["id"])
    assert in_order(sent(keeping), "beforehand", "more", "now")


def test_a_warm_up_can_be_read_again_as_the_events_that_it_came_in(keeping: Running, client: Socket) -> None:
    events = client.turn("openai/echo", input="beforehand", generate=False)
    del events[0]["headers"]
    with Api(keeping) as api:
        assert api.get(f"/v1/responses/{events[0]['response']['id']}?stream=true").events == events


@providers
def test_what_was_compacted_goes_on_over_a_connection(
    keeping: Running, client: Socket, http: openai.OpenAI, provider: str
) -> None:
    asked = http.responses.compact(model=f"{provider}/echo?text=a-red-boat", input="I want a boat")
    item = asked.output[-1].to_dict(warnings=False)
    first = client.response(f"{provider}/echo", input=[item, {"role": "user", "content": "Take it"}], store=False)
    again = [item, {"role": "user", "content": "Row it"}]
    client.response(f"{provider}/echo", input=again, store=False, previous_response_id=first["id"])
    compacted = keeping.sim.requests[-1].json["input"][0]["encrypted_content"] if provider == "openai" else "a-red-boat"
    assert in_order(sent(keeping), compacted, "Take it", compacted, "Row it")


@providers
def test_a_compaction_that_nobody_can_open_is_named_where_the_client_put_it(client: Socket, provider: str) -> None:
    first = client.response(f"{provider}/echo", input="I want a boat", store=False)
    broken = [{"role": "user", "content": "Take it"}, {"type": "compaction", "encrypted_content": "tgr1_broken"}]
    error = client.error(f"{provider}/echo", input=broken, store=False, previous_response_id=first["id"])
    assert (error["status"], error["code"]) == (400, "invalid_encrypted_content")
    assert error["param"] == "input[1].encrypted_content"


def test_with_a_grace_the_answer_goes_on_without_its_client(keeping: Running, http: openai.OpenAI) -> None:
    with Socket(keeping, headers={"tidegate-resume-grace": "20s"}) as client:
        client.create("openai/lorem?chunks=6&gap=60", input="x")
        response_id = client.event()["response"]["id"]
        client.event()
    assert wait_for(lambda: http.responses.retrieve(response_id).status == "completed", 8)
    assert http.responses.retrieve(response_id).output_text


def test_without_one_it_ends_and_says_so(keeping: Running, http: openai.OpenAI) -> None:
    with Socket(keeping) as client:
        client.create("openai/lorem?chunks=500&gap=20", input="left alone")
        response_id = client.event()["response"]["id"]
        client.event()
        (call,) = [one for one in keeping.sim.requests if b"left alone" in one.body]
    assert wait_for(lambda: call.closed_by_peer_at)
    assert wait_for(lambda: http.responses.retrieve(response_id).status in ("failed", "cancelled"))


def test_a_failed_continuation_takes_nothing_stored_with_it(client: Socket) -> None:
    stored: Any = client.response("openai/echo", input="x", stream_id="a")
    client.error("openai/echo?status=500", input="y", stream_id="a", previous_response_id=stored["id"])
    assert client.response("openai/echo", input="y", stream_id="a", previous_response_id=stored["id"])


def test_an_idempotency_key_of_the_handshake_is_about_no_response(keeping: Running) -> None:
    """It means one request (protocol §1.8); a connection carries many."""
    with Socket(keeping, headers={"idempotency-key": "once"}) as client:
        first = client.response("openai/echo", input="one")
        second = client.response("openai/echo", input="two")
    assert first["id"] != second["id"]
    assert second["output"][0]["content"][0]["text"] == "two"
