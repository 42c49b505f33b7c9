"""Responses that are kept: created, retrieved, picked up again, continued and deleted with the official SDK."""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from tests.stored.conftest import MODELS
from tests.support.api import Api
from tests.support.running import Running
from tidegate.dialects.responses.includes import INCLUDES

providers = pytest.mark.parametrize("provider", MODELS.values(), ids=MODELS.keys())


@pytest.fixture(scope="module")
def api(keeping: Running) -> Iterator[Api]:
    with Api(keeping) as found:
        yield found


def dumped(events: Any) -> list[dict[str, Any]]:
    return [event.model_dump() for event in events]


def ended(client: openai.OpenAI, response: Response, timeout: float = 10) -> Response:
    until = time.monotonic() + timeout
    while response.status in ("queued", "in_progress"):
        assert time.monotonic() < until, response.status
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    return response


@pytest.mark.row("S6")
@providers
def test_a_response_is_read_again_as_it_was_given(client: openai.OpenAI, provider: str) -> None:
    given = client.responses.create(model=f"{provider}/tools", input="北京天气？", metadata={"a": "b"})
    assert given.to_dict()["store"] is True
    assert client.responses.retrieve(given.id).model_dump() == given.model_dump()


@pytest.mark.row("S6")
@providers
def test_a_stream_is_picked_up_behind_every_event(client: openai.OpenAI, api: Api, provider: str) -> None:
    events: list[ResponseStreamEvent] = list(client.responses.create(model=f"{provider}/zh", input="你好", stream=True))
    first = events[0]
    assert first.type == "response.created"
    whole = dumped(events)
    assert dumped(client.responses.retrieve(first.response.id, stream=True)) == whole
    for after in range(len(events)):
        assert (
            dumped(client.responses.retrieve(first.response.id, stream=True, starting_after=after))
            == whole[after + 1 :]
        )
    with client.responses.stream(response_id=first.response.id, starting_after=3) as again:
        assert [event.type for event in again][-1] == "response.completed"
    assert client.responses.retrieve(first.response.id).model_dump() == whole[-1]["response"]


@providers
def test_a_stream_is_the_same_bytes_again(keeping: Running, provider: str) -> None:
    with Api(keeping) as api:
        first = api.post("/v1/responses", {"model": f"{provider}/reasoning", "input": "?", "stream": True})
        created = json.loads(first.content.split(b"data: ", 1)[1].split(b"\n", 1)[0])
        again = api.get(f"/v1/responses/{created['response']['id']}?stream=true")
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
        skipping = api.get(f"/v1/responses/{created['response']['id']}?stream=true", headers={"last-event-id": "0"})
        assert first.content.endswith(skipping.content)
        assert len(first.content) > len(skipping.content) > 0


def test_behind_the_last_event_a_stream_ends_at_once(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="openai/echo", input="hi", stream=True))
    assert events[0].type == "response.created"
    for after in (len(events) - 1, len(events), 10_000):
        assert list(client.responses.retrieve(events[0].response.id, stream=True, starting_after=after)) == []


@pytest.mark.row("S39")
@providers
def test_a_turn_builds_on_the_ones_before_it(keeping: Running, client: openai.OpenAI, provider: str) -> None:
    one = client.responses.create(model=f"{provider}/echo", input="first words")
    two = client.responses.create(model=f"{provider}/echo", input="second words", previous_response_id=one.id)
    assert two.previous_response_id == one.id
    client.responses.create(model=f"{provider}/echo", input="third words", previous_response_id=two.id)
    sent = json.dumps(json.loads(keeping.sim.requests[-1].body), ensure_ascii=False)
    places = [sent.index(words) for words in ("first words", "second words", "third words")]
    assert places == sorted(places)
    assert "previous_response_id" not in sent
    items = client.responses.input_items.list(two.id, order="asc").data
    assert [item.type for item in items] == ["message", "message", "message"]


@providers
def test_a_tool_is_answered_without_sending_its_call_again(client: openai.OpenAI, provider: str) -> None:
    tools: Any = [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False}]
    asked = client.responses.create(model=f"{provider}/tools", input="weather?", tools=tools)
    calls = [item for item in asked.output if item.type == "function_call"]
    assert calls
    outputs: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "18°C"} for call in calls]
    told = client.responses.create(model=f"{provider}/echo", input=outputs, tools=tools, previous_response_id=asked.id)
    assert told.status == "completed"
    with pytest.raises(openai.BadRequestError, match="No tool output found for function call"):
        client.responses.create(model=f"{provider}/echo", input="go on", previous_response_id=asked.id)


@providers
def test_a_response_in_the_background_is_polled_followed_and_cancelled(client: openai.OpenAI, provider: str) -> None:
    queued = client.responses.create(model=f"{provider}/echo", input="hi", background=True)
    assert queued.status == "queued"
    assert queued.background is True
    done = ended(client, queued)
    assert done.status == "completed"
    assert done.output_text
    streamed = list(client.responses.create(model=f"{provider}/echo", input="hi", background=True, stream=True))
    assert streamed[0].type == "response.created"
    assert dumped(client.responses.retrieve(streamed[0].response.id, stream=True)) == dumped(streamed)
    slow = client.responses.create(model=f"{provider}/demo", input="hi", background=True)
    assert client.responses.cancel(slow.id).status == "cancelled"
    assert client.responses.cancel(slow.id).status == "cancelled"
    assert client.responses.retrieve(slow.id).status == "cancelled"


@providers
def test_a_response_that_goes_on_shows_what_it_has_said(client: openai.OpenAI, provider: str) -> None:
    """What is finished, and of what is open the text so far, as often as somebody asks."""
    model = f"{provider}/lorem?chunks=60&gap=20"
    name = client.responses.create(model=model, input="hi", background=True).id
    texts: list[str] = []
    until = time.monotonic() + 10
    while (found := client.responses.retrieve(name)).status in ("queued", "in_progress"):
        assert time.monotonic() < until
        if found.output:
            (item,) = found.output
            assert item.type == "message"
            texts.append(found.output_text)
        time.sleep(0.1)
    assert found.status == "completed"
    assert len(set(texts)) > 2
    assert all(found.output_text.startswith(text) for text in texts)
    assert texts == sorted(texts, key=len)


def test_only_responses_in_the_background_can_be_cancelled(client: openai.OpenAI) -> None:
    given = client.responses.create(model="openai/echo", input="hi")
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.cancel(given.id)
    assert caught.value.code == "not_in_background"


def test_what_is_deleted_is_gone(client: openai.OpenAI) -> None:
    given = client.responses.create(model="openai/echo", input="hi")
    client.responses.delete(given.id)
    for call in (
        lambda: client.responses.retrieve(given.id),
        lambda: client.responses.delete(given.id),
        lambda: client.responses.input_items.list(given.id),
    ):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{given.id}' not found"):
            call()
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="openai/echo", input="x", previous_response_id=given.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


def test_a_chain_with_a_hole_names_what_is_gone(client: openai.OpenAI) -> None:
    first = client.responses.create(model="openai/echo", input="one")
    second = client.responses.create(model="openai/echo", input="two", previous_response_id=first.id)
    third = client.responses.create(model="openai/echo", input="three", previous_response_id=second.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="openai/echo", input="four", previous_response_id=third.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
    message = caught.value.body["message"]  # type: ignore[index]
    assert message.startswith(f"Previous response with id '{first.id}' not found. It was deleted, and '{second.id}'")
    assert "send the whole conversation as 'input'" in message
    assert third.id not in message
    for one in (second, third):
        with pytest.raises(openai.NotFoundError) as missing:
            client.responses.input_items.list(one.id)
        assert missing.value.code == "previous_response_not_found"
        assert f"'{first.id}' was deleted, and '{second.id}' continues it" in missing.value.message


@providers
def test_a_response_that_goes_on_cannot_be_continued_yet(client: openai.OpenAI, provider: str) -> None:
    """What it will say would be missing."""
    slow = client.responses.create(model=f"{provider}/lorem?chunks=1000&gap=20", input="hi", background=True)
    for store in (True, False):
        with pytest.raises(openai.BadRequestError, match=f"'{slow.id}' is still in progress") as caught:
            client.responses.create(model="lab/echo", input="and?", previous_response_id=slow.id, store=store)
        assert (caught.value.code, caught.value.param) == ("previous_response_in_progress", "previous_response_id")
    client.responses.cancel(slow.id)
    ended(client, slow)
    assert client.responses.create(model="lab/echo", input="and?", previous_response_id=slow.id).output_text


@pytest.mark.row("S39")
def test_store_false_keeps_nothing_and_still_reads(client: openai.OpenAI) -> None:
    kept = client.responses.create(model="openai/echo", input="kept")
    given = client.responses.create(model="openai/echo", input="hi", store=False, previous_response_id=kept.id)
    assert given.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(given.id)


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "background-unstored"}, {"tidegate-resume-grace": "5s"}])
def test_what_runs_in_the_background_has_to_be_stored(api: Api, headers: dict[str, str]) -> None:
    body = {"model": "openai/echo", "input": "hi", "store": False, "background": True}
    for stream in (False, True):
        refused = api.post("/v1/responses", {**body, "stream": stream}, headers=headers)
        assert (refused.status, refused.error["param"]) == (400, "background")
        assert refused.error["message"].endswith("'background' needs a stored response, and 'store' is false.")


def test_input_items_come_in_pages(client: openai.OpenAI) -> None:
    given = client.responses.create(
        model="openai/echo", input=[{"role": "user", "content": f"number {number}"} for number in range(5)]
    )
    page = client.responses.input_items.list(given.id, limit=2)
    assert page.has_more
    texts = [item.to_dict()["content"] for item in page]
    assert texts == [[{"type": "input_text", "text": f"number {number}"}] for number in reversed(range(5))]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?stream=maybe", "stream"),
        ("?stream=true&starting_after=-1", "starting_after"),
        ("?stream=true&starting_after=x", "starting_after"),
        ("?stream=true&starting_after=٣", "starting_after"),
        ("/input_items?limit=0", "limit"),
        ("/input_items?limit=٣", "limit"),
        ("/input_items?limit=101", "limit"),
        ("/input_items?order=up", "order"),
        ("?include=reasoning.thoughts", "include"),
        ("?include[]=reasoning.encrypted_content&include[]=everything", "include"),
        ("/input_items?include[]=everything", "include"),
    ],
)
def test_a_bad_query_is_named(api: Api, query: str, param: str) -> None:
    given = (
        api.post("/v1/responses", {"model": "openai/echo", "input": "hi", "stream": True}).frames[0].json["response"]
    )
    answer = api.get(f"/v1/responses/{given['id']}{query}")
    assert answer.status == 400
    assert answer.error["param"] == param


@providers
@pytest.mark.parametrize("script", ["zh", "reasoning", "tools", "lorem?finish=length"])
def test_an_answer_in_one_body_is_read_as_a_stream(client: openai.OpenAI, provider: str, script: str) -> None:
    given = client.responses.create(model=f"{provider}/{script}", input="你好")
    events = list(client.responses.retrieve(given.id, stream=True))
    whole = dumped(events)
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert whole[-1]["type"] == f"response.{given.status}"
    assert whole[-1]["response"] == given.model_dump()
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == given.output_text
    for after in range(len(events) + 1):
        assert dumped(client.responses.retrieve(given.id, stream=True, starting_after=after)) == whole[after + 1 :]
    with client.responses.stream(response_id=given.id, starting_after=2) as again:
        assert [event.type for event in again][-1] == f"response.{given.status}"


@pytest.mark.parametrize("provider", ["openai", "lab", "anthropic"])
@pytest.mark.parametrize("script", ["zh", "reasoning", "tools"])
def test_a_replayed_answer_has_the_events_of_one_that_streamed(
    client: openai.OpenAI, provider: str, script: str
) -> None:
    """But for the deltas, which are whole. Gemini's streams are left out: they sign words that have been said already."""
    given = client.responses.create(model=f"{provider}/{script}", input="你好")
    replayed = [event.type for event in client.responses.retrieve(given.id, stream=True)]
    streamed = [
        event.type for event in client.responses.create(model=f"{provider}/{script}", input="你好", stream=True)
    ]
    kinds = [kind for kind, before in zip(streamed, ["", *streamed], strict=False) if kind != before]
    assert replayed == kinds


@providers
def test_what_is_kept_is_shown_whole_whatever_is_included(client: openai.OpenAI, provider: str) -> None:
    given = client.responses.create(model=f"{provider}/reasoning", input="?", reasoning={"effort": "low"})
    for include in INCLUDES:
        again = client.responses.retrieve(given.id, include=[cast("Any", include)])
        assert again.model_dump() == given.model_dump()
    assert client.responses.input_items.list(given.id, include=cast("Any", list(INCLUDES))).data
    held = client.conversations.create(items=[{"type": "message", "role": "user", "content": "hi"}])
    assert client.conversations.items.list(held.id, include=["reasoning.encrypted_content"]).data
    with pytest.raises(openai.BadRequestError, match="'everything'") as caught:
        client.conversations.items.list(held.id, include=[cast("Any", "everything")])
    assert caught.value.param == "include"


def test_a_failed_stream_is_read_as_it_failed(api: Api) -> None:
    first = api.post("/v1/responses", {"model": "openai/lorem?fault=reset&after=4", "input": "hi", "stream": True})
    assert [frame.event for frame in first.frames[-2:]] == ["error", "response.failed"]
    run_id = first.frames[0].json["response"]["id"]
    assert api.get(f"/v1/responses/{run_id}").json == first.frames[-1].json["response"]
    assert api.get(f"/v1/responses/{run_id}?stream=true").content == first.content


def test_a_stream_whose_client_left_is_cancelled_and_stays_readable(keeping: Running, api: Api) -> None:
    with api.http.stream("POST", "/v1/responses", json={"model": "openai/demo", "input": "hi", "stream": True}) as left:
        seen = b"".join(piece for piece, _ in zip(left.iter_raw(), range(5), strict=False))
    run_id = json.loads(seen.split(b"data: ", 1)[1].split(b"\n", 1)[0])["response"]["id"]
    until = time.monotonic() + 5
    while (found := api.get(f"/v1/responses/{run_id}").json)["status"] == "in_progress":
        assert time.monotonic() < until
        time.sleep(0.02)
    assert found["status"] == "cancelled"
    again = api.get(f"/v1/responses/{run_id}?stream=true")
    assert again.content.startswith(seen)
    assert again.frames[-1].json["response"] == found


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_stream_with_a_grace_goes_on_without_its_client(api: Api, path: str) -> None:
    question = {"messages": [{"role": "user", "content": "hi"}]} if path != "/v1/responses" else {"input": "hi"}
    body = {"model": "lab/echo?text=one two three four five six&chunks=6&gap=100", "stream": True, "max_tokens": 99}
    if path == "/v1/responses":
        del body["max_tokens"]
    grace = {"tidegate-resume-grace": "5s"}
    with api.http.stream("POST", path, json={**body, **question}, headers=grace) as left:
        name = left.headers["tidegate-stream"]
        seen = b"".join(piece for piece, _ in zip(left.iter_raw(), range(2), strict=False))
    whole = api.get(f"/v1/streams/{name}")
    assert whole.content.startswith(seen)
    assert b"six" in whole.content
    count = seen.count(b"data: ")
    rest = api.get(f"/v1/streams/{name}?starting_after={count - 1}")
    assert seen + rest.content == whole.content


def test_the_events_of_messages_are_counted_without_pings(api: Api) -> None:
    body = {
        "model": "anthropic/echo",
        "stream": True,
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "one two three"}],
    }
    whole = api.post("/v1/messages", body, headers={"tidegate-resume-grace": "5s"})
    assert b"event: ping" in whole.content
    frames = [one for one in whole.frames if one.event != "ping"]
    for seen in range(len(frames)):
        rest = api.get(f"/v1/streams/{whole.headers['tidegate-stream']}?starting_after={seen}")
        assert [one.raw for one in rest.frames if one.event != "ping"] == [one.raw for one in frames[seen + 1 :]]


def test_an_answer_goes_on_for_its_followers_and_ends_with_the_last_of_them(keeping: Running, api: Api) -> None:
    """Its own client leaves first, and asked for no grace."""
    body = {"model": "lab/lorem?chunks=1000&gap=20", "input": "hi", "stream": True}
    with Api(keeping) as other:
        with api.http.stream("POST", "/v1/responses", json=body) as own:
            name = own.headers["tidegate-stream"]
            follower = other.http.stream("GET", f"/v1/responses/{name}?stream=true")
            followed = follower.__enter__()
            pieces = followed.iter_raw()
            next(pieces)
        left_at = time.monotonic()
        while time.monotonic() - left_at < 1.2:  # longer than it takes to look twice whether there is anybody
            next(pieces)
        assert api.get(f"/v1/responses/{name}").json["status"] == "in_progress"
        follower.__exit__(None, None, None)
    until = time.monotonic() + 1.5
    while (found := api.get(f"/v1/responses/{name}").json)["status"] == "in_progress":
        assert time.monotonic() < until
        time.sleep(0.02)
    assert found["status"] == "cancelled"


def test_a_grace_without_a_client_ends(keeping: Running, api: Api) -> None:
    question = {"model": "lab/demo", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with api.http.stream(
        "POST", "/v1/chat/completions", json=question, headers={"tidegate-resume-grace": "300ms"}
    ) as left:
        name = left.headers["x-request-id"]
        next(left.iter_raw())
    assert keeping.usage(name, timeout=5)["ending"] == "client_gone"
    for bad in ("soon", "2h", "off"):
        answer = api.post("/v1/chat/completions", question, headers={"tidegate-resume-grace": bad})
        assert (answer.status, answer.error["code"]) == (400, "invalid_grace")


@pytest.mark.parametrize("provider", ["lab", "anthropic", "google"])
@pytest.mark.parametrize("how", [{"store": False}, {"store": True}, {"background": True}], ids=str)
def test_an_output_whose_call_was_never_sent_is_refused_by_its_id(
    keeping: Running, api: Api, provider: str, how: dict[str, bool]
) -> None:
    output = {"type": "function_call_output", "call_id": "call_lost", "output": "18°C"}
    asked = len(keeping.sim.requests)
    answer = api.post("/v1/responses", {"model": f"{provider}/echo", "input": [output], **how})
    assert (answer.status, answer.error["param"], answer.error["code"]) == (400, "input", None)
    assert answer.error["message"] == "No tool call found for function call output with call_id call_lost."
    assert len(keeping.sim.requests) == asked


def test_what_is_not_there_is_not_found(api: Api) -> None:
    for method, path in (
        ("GET", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1?stream=true"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("GET", "/v1/streams/resp_1"),
        ("DELETE", "/v1/streams/resp_1"),
    ):
        answer = api.http.request(method, path)
        assert answer.status_code == 404
        what, param = ("Stream", "stream_id") if "/streams/" in path else ("Response", "response_id")
        assert answer.json()["error"]["message"] == f"{what} with id 'resp_1' not found."
        assert answer.json()["error"]["param"] == param


def test_a_stream_that_is_deleted_is_gone(api: Api, data: Path) -> None:
    question = {"model": "lab/echo", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    kept = api.post("/v1/chat/completions", question, headers={"tidegate-resume-grace": "30s"})
    name = kept.headers["tidegate-stream"]
    assert api.get(f"/v1/streams/{name}").content == kept.content
    deleted = api.http.delete(f"/v1/streams/{name}")
    assert deleted.json() == {"id": name, "object": "stream", "deleted": True}
    for method in ("GET", "DELETE"):
        assert api.http.request(method, f"/v1/streams/{name}").status_code == 404
    with contextlib.closing(sqlite3.connect(data / "tidegate.db")) as database, database:
        assert database.execute("SELECT count(*) FROM doomed").fetchone() == (0,)
        orphans = "SELECT count(*) FROM segments WHERE run NOT IN (SELECT number FROM runs)"
        assert database.execute(orphans).fetchone() == (0,)


def test_a_stored_response_can_be_deleted_as_the_stream_that_it_is(client: openai.OpenAI, api: Api) -> None:
    given = client.responses.create(model="openai/echo", input="hi")
    assert api.http.delete(f"/v1/streams/{given.id}").status_code == 200
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(given.id)


def test_a_stream_that_is_deleted_while_it_goes_on_ends(keeping: Running, api: Api) -> None:
    question = {"model": "lab/demo?gap=50", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    grace = {"tidegate-resume-grace": "30s"}
    with api.http.stream("POST", "/v1/chat/completions", json=question, headers=grace) as going:
        assert api.http.delete(f"/v1/streams/{going.headers['tidegate-stream']}").status_code == 200
        rest = b"".join(going.iter_raw())
        request_id = going.headers["x-request-id"]
    assert b"[DONE]" not in rest
    assert b'"error"' in rest
    assert keeping.usage(request_id)["ending"] == "cancelled"


def test_a_stream_kept_for_its_frames_is_no_stored_response(client: openai.OpenAI, api: Api) -> None:
    body = {"model": "openai/echo", "input": "hi", "stream": True, "store": False}
    kept = api.post("/v1/responses", body, headers={"tidegate-resume-grace": "30s"})
    name = kept.headers["tidegate-stream"]
    assert api.get(f"/v1/streams/{name}").content == kept.content
    assert api.get(f"/v1/responses/{name}").status == 404
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="openai/echo", input="x", previous_response_id=name)
    assert caught.value.code == "previous_response_not_found"
    assert api.get(f"/v1/responses/resp_1/input_items?limit={'9' * 5000}").status == 400
