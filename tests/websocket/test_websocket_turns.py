"""Responses over WebSocket: the same events as over HTTP, in lanes."""

import json
import re
import time
from collections import Counter
from typing import Any

import pytest

from tests.support.api import Api, Frame
from tests.support.grammar import check_stream
from tests.support.running import Running, wait_for
from tests.support.sockets import TERMINAL, Socket, check_error, check_message

TOOL = {"type": "function", "name": "tide", "parameters": {"type": "object", "properties": {}}, "strict": False}

ANSWERS: dict[str, dict[str, Any]] = {
    "text": {"model": "sim/echo", "input": "Hello there, you"},
    "chinese in split characters": {"model": "sim/zh?split=2", "input": "x"},
    "reasoning": {"model": "sim/reasoning", "input": "x"},
    "tools": {"model": "sim/tools?parallel=2", "input": "x", "tools": [TOOL]},
    "refusal": {"model": "sim/refusal", "input": "x"},
    "cut by a limit": {"model": "sim/lorem", "input": "x", "max_output_tokens": 3},
    "all in one write": {"model": "sim/lorem?burst=1", "input": "x"},
    "lines that end with CR LF": {"model": "sim/lorem?crlf=1", "input": "x"},
    "broken": {"model": "sim/lorem?fault=cut", "input": "x"},
    "an error within the stream": {"model": "sim/lorem?fault=error&after=6", "input": "x"},
}

VARYING = re.compile(r'"(?:id|item_id|call_id)":"[^"]*"|"(?:created_at|completed_at)":\d+|,"headers":\{[^}]*\}')


def as_frames(messages: list[str]) -> list[Frame]:
    """Messages in the form in which the grammar reads them."""
    return [Frame(b"", json.loads(message)["type"], message.encode()) for message in messages]


def messages_of(client: Socket, **members: Any) -> list[str]:
    client.create(**members)
    messages = [client.raw()]
    while json.loads(messages[-1])["type"] not in TERMINAL:
        messages.append(client.raw())
    return messages


@pytest.mark.parametrize("members", ANSWERS.values(), ids=list(ANSWERS))
def test_every_answer_has_the_grammar_and_the_types_of_the_official_api(
    gateway: Running, members: dict[str, Any]
) -> None:
    with Socket(gateway) as client:
        messages = messages_of(client, **members)
        for message in messages:
            check_message(json.loads(message))
        response = check_stream(as_frames(messages), cut="fault" in members["model"])
        assert response["id"].startswith("resp_")
        # The connection is none the worse for it.
        assert client.response(input="again")["status"] == "completed"


@pytest.mark.parametrize("members", ANSWERS.values(), ids=list(ANSWERS))
def test_each_message_is_the_data_of_the_event_over_http_byte_for_byte(
    gateway: Running, members: dict[str, Any]
) -> None:
    with Socket(gateway) as client, Api(gateway) as api:
        told = [VARYING.sub("", message) for message in messages_of(client, **members)]
        streamed = api.ask("responses", stream=True, **members).frames
        assert told == [VARYING.sub("", frame.data.decode()) for frame in streamed]


def test_what_http_tells_in_headers_stands_in_the_first_event(gateway: Running) -> None:
    with Socket(gateway) as client:
        first, *others = client.turn(input="x")
        headers = first["headers"]
        assert headers["tidegate-deployment"] == "sim/echo"
        assert headers["tidegate-attempts"] == "1"
        assert not [event for event in others if "headers" in event]
    entry = gateway.usage(headers["x-request-id"])
    assert entry["endpoint"] == "responses"
    assert entry["ending"] == "completed"
    assert entry["stream"] is True
    assert entry["output_tokens"] > 0
    assert entry["client"] == "127.0.0.1"


def test_each_response_is_a_request_of_its_own(gateway: Running) -> None:
    with Socket(gateway) as client:
        ids = [client.turn(input="x")[0]["headers"]["x-request-id"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert [gateway.usage(one)["status"] for one in ids] == [200, 200, 200]


@pytest.mark.parametrize("profile", ["openresponses", "kkiai"])
def test_what_belongs_to_event_streams_only_is_left_out_in_every_profile(gateway: Running, profile: str) -> None:
    with Socket(gateway, headers={"tidegate-profile": profile}) as client:
        messages = messages_of(client, input="x")
        check_stream(as_frames(messages))
        client.create(input="next")
        assert client.event()["type"] == "response.created"  # no `[DONE]` came in between


def test_the_names_of_a_profile_hold_for_the_whole_connection(gateway: Running) -> None:
    with Socket(gateway, headers={"tidegate-profile": "openresponses"}) as client:
        for _ in range(2):
            kinds = [event["type"] for event in client.turn("sim/reasoning?raw=1", input="x")]
            assert "response.reasoning.delta" in kinds
            assert "response.reasoning_text.delta" not in kinds


def test_the_total_clock_of_the_upgrade_holds_for_each_response(gateway: Running) -> None:
    with Socket(gateway, headers={"tidegate-timeout": "300ms"}) as client:
        for _ in range(2):
            began = time.monotonic()
            error = client.error("sim/lorem?head_delay=9000", input="x")
            assert (error["status"], error["code"]) == (504, "upstream_timeout")
            assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "extra",
    [
        {"stream": True},
        {"stream": False},
        {"stream": None},
        {"stream_options": {"include_obfuscation": False}},
        {"background": False},
        {"client_metadata": {"a": "b"}, "prompt_cache_key": "k"},
        {"stream_id": None, "previous_response_id": None, "generate": None},
    ],
)
def test_members_that_say_nothing_here_are_tolerated(gateway: Running, extra: dict[str, Any]) -> None:
    with Socket(gateway) as client:
        assert client.response(input="x", **extra)["status"] == "completed"
    sent = gateway.sim.requests[-1].json
    assert sent["stream"] is True
    assert not {"type", "generate", "stream_id"} & set(sent)


def test_members_that_nobody_knows_travel_on(gateway: Running) -> None:
    with Socket(gateway) as client:
        client.response(input="x", brand_new={"a": 1})
    assert gateway.sim.requests[-1].json["brand_new"] == {"a": 1}


# -- lanes ------------------------------------------------------------------------------------------------------------


def test_every_event_of_a_lane_with_a_name_carries_it(gateway: Running) -> None:
    with Socket(gateway) as client:
        for name in ("a", "A_b-c.1", "x" * 256):
            events = client.turn(input="x", stream_id=name)
            assert {event["stream_id"] for event in events} == {name}
            assert [check_message(event).stream_id for event in events] == [name] * len(events)
        assert not [event for event in client.turn(input="x") if "stream_id" in event]


def test_a_lane_adds_its_name_to_an_event_and_nothing_else(gateway: Running) -> None:
    with Socket(gateway) as client:
        plain = [VARYING.sub("", one) for one in messages_of(client, model="sim/zh", input="x")]
        named = [VARYING.sub("", one) for one in messages_of(client, model="sim/zh", input="x", stream_id="n")]
    assert [one.replace(',"stream_id":"n"', "") for one in named] == plain


def test_lanes_run_side_by_side(gateway: Running) -> None:
    names = [None, "a", "b", "c"]
    with Socket(gateway) as client:
        began = time.monotonic()
        for name in names:
            client.create("sim/lorem?chunks=4&gap=100", input="x", stream_id=name if name else ...)
        events: list[Any] = []
        while sum(event["type"] in TERMINAL for event in events) < len(names):
            events.append(client.event())
        assert time.monotonic() - began < 2.5  # one after another they would take twice as long
    by_lane = {name: [event for event in events if event.get("stream_id") == name] for name in names}
    for lane in by_lane.values():
        assert [event["sequence_number"] for event in lane] == list(range(len(lane)))
    first_end = next(at for at, event in enumerate(events) if event["type"] in TERMINAL)
    assert len({event.get("stream_id") for event in events[:first_end]}) == len(names)


@pytest.mark.parametrize("name", [..., "one"])
def test_requests_of_one_lane_are_answered_one_after_another(gateway: Running, name: Any) -> None:
    texts = ["first", "second", "third", "fourth"]
    with Socket(gateway) as client:
        for text in texts:
            client.create("sim/echo?gap=5", input=text, stream_id=name)
        answers = [client.rest() for _ in texts]
    for text, events in zip(texts, answers, strict=True):
        assert events[0]["type"] == "response.created"
        assert len({event["response"]["id"] for event in events if "response" in event}) == 1
        assert events[-1]["response"]["output"][0]["content"][0]["text"] == text


def test_an_error_has_its_turn_in_the_lane_and_stops_nothing(gateway: Running) -> None:
    with Socket(gateway) as client:
        client.create("sim/echo?gap=20", input="first")
        client.create(input="second", temperature=7)
        client.create(input="third")
        first, second, third = client.rest(), client.rest(), client.rest()
    assert first[-1]["type"] == "response.completed"
    assert check_error(second[0])["param"] == "temperature"
    assert third[-1]["response"]["output"][0]["content"][0]["text"] == "third"


def test_at_most_sixteen_responses_are_under_way_and_the_others_wait(gateway: Running) -> None:
    with Socket(gateway) as client:
        before = len(gateway.sim.requests)
        for number in range(20):
            client.create("sim/lorem?chunks=1&delay=600", input="x", stream_id=f"lane{number}")
        assert wait_for(lambda: len(gateway.sim.requests) - before >= 16)
        time.sleep(0.15)
        assert len(gateway.sim.requests) - before == 16
        ends: Counter[str] = Counter()
        while sum(ends.values()) < 20:
            event = client.event()
            if event["type"] in TERMINAL:
                ends[event["stream_id"]] += 1
    assert set(ends.values()) == {1}


def test_a_connection_has_at_most_thirty_two_lanes_with_a_name(gateway: Running) -> None:
    with Socket(gateway) as client:
        for number in range(32):
            client.turn(generate=False, stream_id=f"lane{number}")
        error = client.error(input="x", stream_id="lane32")
        assert (error["status"], error["code"]) == (400, "websocket_stream_limit_reached")
        assert (error["param"], error["stream_id"]) == ("stream_id", "lane32")
        assert client.response(input="x", stream_id="lane7")["status"] == "completed"
        assert client.response(input="x")["status"] == "completed"


def test_a_lane_takes_sixty_four_waiting_requests(gateway: Running) -> None:
    with Socket(gateway) as client:
        client.create("sim/lorem?chunks=1&delay=900", input="x")
        wait_for(lambda: gateway.call(lambda: len(gateway.server.config.app.gateway.exchanges)))  # type: ignore[union-attr]
        for _ in range(65):
            client.create(generate=False)
        error = check_error(client.event())
        assert (error["status"], error["code"]) == (429, "too_many_pending_requests")
        ends = 0
        while ends < 65:
            ends += client.event()["type"] in TERMINAL
