"""Requests that build on responses of the same connection, with nothing stored."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.canned import Canned, sse_answer
from tests.support.providers import FOUR
from tests.support.running import SIM_ONLY, Running
from tests.support.sockets import Socket

TOOL = {"type": "function", "name": "tide", "parameters": {"type": "object", "properties": {}}, "strict": False}
MODELS = ("openai", "compatible", "anthropic", "gemini")


@pytest.fixture(scope="module")
def four() -> Iterator[Running]:
    """A gateway with a provider of every dialect."""
    with Running(FOUR) as running:
        yield running


@pytest.fixture
def client(four: Running) -> Iterator[Socket]:
    with Socket(four) as found:
        yield found


def words(sent: Any) -> str:
    """The body that a provider got, as text."""
    return json.dumps(sent, ensure_ascii=False)


def in_order(text: str, *parts: str) -> bool:
    """Whether the parts stand in `text` one behind the other."""
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
    return True


# -- what is built on -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", MODELS)
def test_a_conversation_goes_on_without_being_stored_on_any_provider(
    four: Running, client: Socket, provider: str
) -> None:
    previous: str | None = None
    for number in range(4):
        response = client.response(
            f"{provider}/lorem?text=answer{number}",
            input=f"question{number}",
            store=False,
            previous_response_id=previous if previous else ...,
        )
        assert response["previous_response_id"] == previous
        assert response["store"] is False
        previous = response["id"]
    sent = four.sim.requests[-1].json
    assert in_order(words(sent), *(f"{who}{n}" for n in range(3) for who in ("question", "answer")), "question3")
    assert not {"previous_response_id", "conversation"} & set(sent)


@pytest.mark.parametrize("provider", MODELS)
def test_calls_of_tools_and_their_outputs_are_part_of_it(four: Running, client: Socket, provider: str) -> None:
    first = client.response(f"{provider}/tools", input="when?", tools=[TOOL], store=False)
    (call,) = [item for item in first["output"] if item["type"] == "function_call"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "at noon"}
    second = client.response(
        f"{provider}/tools", input=[output], tools=[TOOL], store=False, previous_response_id=first["id"]
    )
    assert "message" in [item["type"] for item in second["output"]]
    assert in_order(words(four.sim.requests[-1].json), "when?", '"tide"', "at noon")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_reasoning_comes_back_to_the_provider_that_made_it(four: Running, client: Socket, provider: str) -> None:
    first = client.response(
        f"{provider}/reasoning",
        input="why?",
        store=False,
        reasoning={"effort": "low"},
        include=["reasoning.encrypted_content"],
    )
    (thought,) = [item for item in first["output"] if item["type"] == "reasoning"]
    assert thought["encrypted_content"]
    client.response(f"{provider}/reasoning", input="and?", store=False, previous_response_id=first["id"])
    sent = words(four.sim.requests[-1].json)
    assert '"reasoning"' in sent or '"thinking"' in sent
    assert thought["encrypted_content"] not in sent  # it is opened on the way


def test_a_conversation_may_cross_providers(four: Running, client: Socket) -> None:
    previous: Any = ...
    for number, provider in enumerate(MODELS * 2):
        model = f"{provider}/lorem?text=answer{number}"
        previous = client.response(model, input=f"question{number}", previous_response_id=previous)["id"]
    assert in_order(
        words(four.sim.requests[-1].json), *(f"{who}{n}" for n in range(7) for who in ("question", "answer"))
    )


def test_instructions_and_tools_are_not_carried_over(four: Running, client: Socket) -> None:
    first = client.response("openai/echo", input="x", instructions="Be brief.", tools=[TOOL])
    client.response("openai/echo", input="y", previous_response_id=first["id"])
    assert not {"instructions", "tools"} & set(four.sim.requests[-1].json)


def test_a_response_may_be_built_on_more_than_once_and_from_every_lane(four: Running, client: Socket) -> None:
    root = client.response("openai/lorem?text=root", input="begin", stream_id="main")
    left = client.response("openai/lorem?text=left", input="go left", stream_id="main", previous_response_id=root["id"])
    right = client.response(
        "openai/lorem?text=right", input="go right", stream_id="fork", previous_response_id=root["id"]
    )
    client.response("openai/echo", input="end", previous_response_id=left["id"])
    assert "right" not in words(four.sim.requests[-1].json)
    client.response("openai/echo", input="end", stream_id="third", previous_response_id=right["id"])
    sent = words(four.sim.requests[-1].json)
    assert in_order(sent, "begin", "root", "go right", "right", "end")
    assert "left" not in sent


def test_an_answer_that_was_cut_by_a_limit_can_be_built_on(four: Running, client: Socket) -> None:
    first = client.response("openai/lorem", input="x", max_output_tokens=3)
    assert first["status"] == "incomplete"
    assert client.response("openai/echo", input="go on", previous_response_id=first["id"])["status"] == "completed"


def test_a_request_waits_in_its_lane_for_the_response_that_it_builds_on(four: Running, client: Socket) -> None:
    client.create("openai/lorem?text=early&delay=150", input="one")
    begun = client.event()["response"]["id"]
    client.create("openai/echo", input="two", previous_response_id=begun)
    client.rest()
    assert client.rest()[-1]["type"] == "response.completed"
    assert in_order(words(four.sim.requests[-1].json), "one", "early", "two")


def test_a_single_item_can_be_referred_to(four: Running, client: Socket) -> None:
    first = client.response("openai/lorem?text=remember", input="x")
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    client.response("openai/echo", input=[reference, {"role": "user", "content": "and?"}])
    assert in_order(words(four.sim.requests[-1].json), "remember", "and?")
    error = client.error("openai/echo", input=[{"type": "item_reference", "id": "msg_unknown"}])
    assert (error["status"], error["code"], error["param"]) == (404, "not_found", "input[0].id")


def test_usage_without_a_report_is_estimated_from_the_whole_conversation(four: Running, client: Socket) -> None:
    first = client.response("openai/lorem?usage=absent", input="word " * 2000)
    second = client.response("openai/lorem?usage=absent", input="x", previous_response_id=first["id"])
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"] > 2000


# -- warm-up ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [[], ..., "beforehand", [{"role": "user", "content": "beforehand"}]])
def test_a_request_that_generates_nothing_yields_an_id_and_asks_no_provider(
    four: Running, client: Socket, given: Any
) -> None:
    calls = len(four.sim.requests)
    events = client.turn("openai/echo", input=given, generate=False, tools=[TOOL], store=False)
    assert [event["type"] for event in events] == ["response.created", "response.in_progress", "response.completed"]
    assert [event["sequence_number"] for event in events] == [0, 1, 2]
    response = events[-1]["response"]
    assert response["output"] == []
    assert response["usage"]["total_tokens"] == 0
    assert response["model"] == "echo"
    assert len(four.sim.requests) == calls
    entry = four.usage(events[0]["headers"]["x-request-id"])
    assert (entry["ending"], entry["attempts"], entry["input_tokens"]) == ("completed", 0, 0)

    client.response("openai/echo", input="now", previous_response_id=response["id"], store=False)
    sent = words(four.sim.requests[-1].json["input"])
    assert "now" in sent
    assert ("beforehand" in sent) is (given not in ([], ...))


def test_what_was_given_beforehand_can_be_answered_without_more(four: Running, client: Socket) -> None:
    beside: list[dict[str, Any]] = [{}, {"input": []}]
    for more in beside:
        warm = client.response("openai/echo", input="all of it", generate=False)
        client.response("openai/echo", previous_response_id=warm["id"], **more)
        assert "all of it" in words(four.sim.requests[-1].json["input"])


def test_nothing_upon_nothing_is_refused(client: Socket) -> None:
    warm = client.response("openai/echo", input=[], generate=False)
    error = client.error("openai/echo", previous_response_id=warm["id"])
    assert (error["status"], error["code"], error["param"]) == (400, "missing_required_parameter", "input")


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"model": "nobody/knows", "input": "x"}, "model_not_found"),
        ({"model": "openai/echo", "input": "x", "temperature": 9}, "invalid_value"),
        ({"model": "openai/echo", "previous_response_id": "resp_unknown"}, "previous_response_not_found"),
    ],
)
def test_a_request_that_generates_nothing_must_be_right_all_the_same(
    client: Socket, members: dict[str, Any], code: str
) -> None:
    assert client.error(generate=False, **members)["code"] == code


# -- what is not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", MODELS)
def test_an_unknown_response_is_told_in_the_official_words(client: Socket, provider: str) -> None:
    error = client.error(f"{provider}/echo", input="x", previous_response_id="resp_unknown", stream_id="a")
    assert error["status"] == 400
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "previous_response_not_found"
    assert error["param"] == "previous_response_id"
    assert error["message"] == "Previous response with id 'resp_unknown' not found."
    assert error["stream_id"] == "a"


def test_another_connection_knows_nothing_of_it(four: Running, client: Socket) -> None:
    response = client.response("openai/echo", input="x")
    with Socket(four) as other:
        error = other.error("openai/echo", input="x", previous_response_id=response["id"])
        assert error["code"] == "previous_response_not_found"


def test_a_response_that_failed_cannot_be_built_on(client: Socket) -> None:
    events = client.turn("openai/lorem?fault=cut", input="x")
    assert events[-1]["type"] == "response.failed"
    error = client.error("openai/echo", input="x", previous_response_id=events[-1]["response"]["id"])
    assert error["code"] == "previous_response_not_found"


def test_a_conversation_is_not_kept_here(client: Socket) -> None:
    error = client.error("openai/echo", input="x", conversation="conv_1")
    assert (error["status"], error["code"], error["param"]) == (404, "not_found", "conversation")


def test_an_output_needs_its_call_and_a_call_its_output(client: Socket) -> None:
    first = client.response("openai/tools", input="x", tools=[TOOL], stream_id="a")
    (call,) = [item for item in first["output"] if item["type"] == "function_call"]
    error = client.error("openai/echo", input="no output", previous_response_id=first["id"])
    assert error["status"] == 400
    assert error["message"] == f"No tool output found for function call {call['call_id']}."
    strange = {"type": "function_call_output", "call_id": "call_strange", "output": "y"}
    error = client.error("openai/echo", input=[strange], previous_response_id=first["id"])
    assert "No tool call found for function call output with call_id call_strange." in error["message"]


# -- what is forgotten ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "members", "status"),
    [
        ("openai/echo", {"temperature": 9}, 400),
        ("openai/echo?status=400", {}, 400),
        ("openai/echo?status=500", {}, 502),
        ("openai/echo?status=429", {}, 429),
    ],
)
def test_a_continuation_that_fails_takes_what_it_built_on_with_it(
    client: Socket, model: str, members: dict[str, Any], status: int
) -> None:
    first = client.response("openai/echo", input="x", stream_id="a")
    error = client.error(model, input="y", stream_id="a", previous_response_id=first["id"], **members)
    assert error["status"] == status
    error = client.error("openai/echo", input="y", stream_id="a", previous_response_id=first["id"])
    assert error["code"] == "previous_response_not_found"


def test_a_branch_that_fails_leaves_the_lane_that_it_came_from(client: Socket) -> None:
    first = client.response("openai/echo", input="x", stream_id="a")
    client.error("openai/echo?status=500", input="y", stream_id="b", previous_response_id=first["id"])
    assert client.response("openai/echo", input="y", stream_id="a", previous_response_id=first["id"])


def test_a_failure_after_the_beginning_takes_nothing_with_it(client: Socket) -> None:
    first = client.response("openai/echo", input="x")
    events = client.turn("openai/lorem?fault=cut", input="y", previous_response_id=first["id"])
    assert events[-1]["type"] == "response.failed"
    assert client.response("openai/echo", input="y", previous_response_id=first["id"])


def test_what_is_remembered_has_a_limit() -> None:
    small = SIM_ONLY.replace("[server]", '[server]\nwebsocket_cache = "64KiB"')
    with Running(small) as gateway, Socket(gateway) as client:
        text = "word " * 2000
        ids = [client.response(input=text, generate=False)["id"] for _ in range(12)]  # each takes 10 KB
        known = []
        for one in ids:
            events = client.turn(input="y", generate=False, previous_response_id=one, stream_id="look")
            known.append(events[-1]["type"] == "response.completed")
        assert known[0] is False
        assert known[-1] is True
        # What is too large by itself is answered, and not remembered.
        big = client.response(input="word " * 20000, generate=False)
        assert client.error(input="y", previous_response_id=big["id"])["code"] == "previous_response_not_found"


# -- a provider that keeps state --------------------------------------------------------------------------------------

STATEFUL = """
[server]
port = 0
[providers.canned]
kind = "openai"
credentials = ["sk-x"]
state = "provider"
base_url = "{url}"
models = ["m"]
"""


def stored(name: str, *, store: bool) -> bytes:
    item = {
        "type": "message",
        "id": f"msg_{name}",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": f"answer {name}", "annotations": []}],
    }
    response = {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "output": [],
        "store": store,
        "status": "in_progress",
    }
    return sse_answer(
        {"type": "response.created", "sequence_number": 0, "response": response},
        {"type": "response.in_progress", "sequence_number": 1, "response": response},
        {
            "type": "response.output_item.added",
            "sequence_number": 2,
            "output_index": 0,
            "item": {**item, "content": []},
        },
        {"type": "response.output_item.done", "sequence_number": 3, "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "sequence_number": 4,
            "response": {**response, "status": "completed", "output": [item]},
        },
        named=True,
    )


def test_what_the_provider_keeps_is_left_to_it() -> None:
    with (
        Canned(stored("one", store=True)) as provider,
        Running(STATEFUL.replace("{url}", provider.url)) as gateway,
        Socket(gateway) as client,
    ):
        first = client.response("canned/m", input="x")
        assert first["id"] == "resp_one"
        client.response("canned/m", input="y", previous_response_id=first["id"])
        assert provider.requests[-1]["previous_response_id"] == "resp_one"
        assert provider.requests[-1]["input"] == "y"
        client.response("canned/m", input="z", previous_response_id="resp_of_another_day")
        assert provider.requests[-1]["previous_response_id"] == "resp_of_another_day"


def test_what_the_provider_does_not_keep_is_remembered_here() -> None:
    with (
        Canned(stored("one", store=False)) as provider,
        Running(STATEFUL.replace("{url}", provider.url)) as gateway,
        Socket(gateway) as client,
    ):
        first = client.response("canned/m", input="x", store=False)
        client.response("canned/m", input="y", store=False, previous_response_id=first["id"])
        assert "previous_response_id" not in provider.requests[-1]
        assert in_order(words(provider.requests[-1]["input"]), '"x"', "answer one", '"y"')
