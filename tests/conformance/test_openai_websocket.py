"""The official SDK's own WebSocket client, and the sequence in which Codex uses the mode."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.resources.responses.responses import AsyncResponsesConnection, ResponsesConnection
from websockets.exceptions import InvalidStatus

from tests.conformance.test_openai_sdk import run
from tests.support.agents import CODEX_HEADERS, codex
from tests.support.providers import FOUR, PROVIDERS
from tests.support.running import Running
from tests.support.sockets import Socket, check_message

TOOL: Any = {
    "type": "function",
    "name": "tide",
    "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    "strict": True,
}
ENDS = {"response.completed", "response.failed", "response.incomplete", "error"}


@pytest.fixture(scope="module")
def four() -> Iterator[Running]:
    with Running(FOUR) as running:
        yield running


@pytest.fixture(scope="module")
def sdk(four: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=four.url, api_key="unused", max_retries=0, timeout=20) as found:
        yield found


def rest(connection: ResponsesConnection) -> list[Any]:
    """The events up to the end of a response."""
    events: list[Any] = []
    for event in connection:
        events.append(event)
        if event.type in ENDS:
            break
    return events


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_sdk_goes_on_from_call_to_output(sdk: openai.OpenAI, provider: str) -> None:
    with sdk.responses.connect() as connection:
        connection.response.create(
            model=f"{provider}/tools", input="When is high water?", tools=[TOOL], store=False, stream_id="main"
        )
        first = rest(connection)[-1].response
        (call,) = [item for item in first.output if item.type == "function_call"]
        connection.response.create(
            model=f"{provider}/tools",
            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "at noon"}],
            previous_response_id=first.id,
            tools=[TOOL],
            store=False,
            stream_id="main",
        )
        events = rest(connection)
        assert {event.stream_id for event in events} == {"main"}
        last = events[-1].response
        assert last.previous_response_id == first.id
        assert "at noon" in last.output_text


def test_the_asynchronous_sdk_runs_lanes_side_by_side_and_forks(four: Running) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        async def until_done(connection: AsyncResponsesConnection, lanes: set[str]) -> dict[str, Any]:
            done: dict[str, Any] = {}
            async for event in connection:
                lane = getattr(event, "stream_id", None)
                assert lane in lanes
                if event.type == "response.completed":
                    done[str(lane)] = event.response
                    if set(done) == lanes:
                        break
                assert event.type not in ENDS - {"response.completed"}
            return done

        async with client.responses.connect() as connection:
            for lane in ("planner", "research"):
                await connection.response.create(model=f"anthropic/lorem?text={lane}", input="go", stream_id=lane)
            done = await until_done(connection, {"planner", "research"})
            parent = done["planner"].id
            for lane in ("critic", "planner"):
                await connection.response.create(
                    model="openai/echo", input=f"from {lane}", stream_id=lane, previous_response_id=parent
                )
            done = await until_done(connection, {"critic", "planner"})
            assert {name: one.output_text for name, one in done.items()} == {
                "critic": "from critic",
                "planner": "from planner",
            }

    run(four, use)


def test_the_sdk_reads_the_errors(sdk: openai.OpenAI) -> None:
    with sdk.responses.connect() as connection:
        connection.response.create(model="openai/echo", input="x", previous_response_id="resp_unknown")
        (event,) = rest(connection)
        assert event.type == "error"
        assert event.status == 400
        assert event.error.code == "previous_response_not_found"
        connection.response.create(model="openai/echo?status=429&retry_after=3", input="x", stream_id="a")
        (event,) = rest(connection)
        assert (event.status, event.stream_id) == (429, "a")
        assert event.error.headers["retry-after"] == "3"
        connection.response.steer(previous_response_id="resp_unknown", input="y")
        failed = connection.recv()
        assert failed.type == "response.steer.failed"
        assert failed.error.code == "steering_not_supported"
        connection.response.create(model="openai/lorem?fault=cut", input="x")
        kinds = [event.type for event in rest(connection)]
        assert kinds[-1] == "error"
        assert connection.recv().type == "response.failed"


def test_the_sdk_is_refused_with_the_status_of_http() -> None:
    keyed = FOUR + '[[keys]]\nname = "app"\nsecret = "sk-test-0123456789abcdef0123456789abcdef"\n'
    with (
        Running(keyed) as gateway,
        openai.OpenAI(base_url=gateway.url, api_key="wrong", max_retries=0) as client,
        pytest.raises(InvalidStatus, match="401"),
    ):
        client.responses.connect().enter()


def test_the_sdk_comes_back_when_an_idle_connection_was_closed() -> None:
    short = FOUR.replace("[server]", '[server]\nwebsocket_idle = "200ms"')
    codes: list[Any] = []

    def ask_again(event: Any) -> None:
        codes.append(event.close_code)
        connection.response.create(model="openai/echo", input="once more")  # it waits for the new connection

    with (
        Running(short) as gateway,
        openai.OpenAI(base_url=gateway.url, api_key="unused") as client,
        client.responses.connect(on_reconnecting=ask_again, initial_delay=0.01) as connection,
    ):
        connection.response.create(model="openai/echo", input="x")
        assert rest(connection)[-1].type == "response.completed"
        assert rest(connection)[-1].response.output_text == "once more"
    assert codes == [1001]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_sequence_of_codex(four: Running, provider: str) -> None:
    """A warm-up with tools and instructions, then only what is new, with the identifier of what came before."""
    model = f"{provider}/tools?tool=exec_command&args=%7B%22cmd%22%3A%22ls%22%7D"
    headers = {name: value for name, value in CODEX_HEADERS.items() if name not in ("accept", "content-type")}
    whole = codex(
        model, prompt="List the files", tools=[one for one in codex(model)["tools"] if one["type"] == "function"]
    )
    with Socket(four, headers={**headers, "openai-beta": "responses_websockets=2026-02-06"}) as client:

        def ask(**members: Any) -> Any:
            client.send({"type": "response.create", **whole, **members})
            events = client.rest()
            for event in events:
                check_message(event)
            assert events[-1]["type"] == "response.completed", events[-1]
            return events[-1]["response"]

        warm = ask(input=whole["input"][:1], generate=False)
        assert warm["output"] == []
        first = ask(input=whole["input"][1:], previous_response_id=warm["id"])
        (call,) = [item for item in first["output"] if item["type"] == "function_call"]
        assert call["name"] == "exec_command"
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "tide.txt"}
        second = ask(input=[output], previous_response_id=first["id"])
        assert "message" in [item["type"] for item in second["output"]]
    sent = four.sim.requests[-1].body.decode()
    places = [sent.find(part) for part in ("You are a coding agent", "List the files", "exec_command", "tide.txt")]
    assert -1 not in places
    assert "previous_response_id" not in json.loads(sent)
