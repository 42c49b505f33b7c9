"""OpenAI's agents framework, which keeps the loop of calls itself, at every kind of provider."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai.types.shared import Reasoning

from tests.support.providers import FOUR, PATHS, PROVIDERS, asked_path
from tests.support.running import Running
from tests.support.strict import check_event

QUIET = RunConfig(tracing_disabled=True)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    set_tracing_disabled(True)
    with Running(FOUR) as running:
        yield running


@function_tool
def tide(harbour: str) -> str:
    """The tide in a harbour."""
    return f"high in {harbour} 🌊"


class Weather(pydantic.BaseModel):
    place: str


def run(
    gateway: Running, agent: "Agent[Any]", model: str, *, chat: bool = False, stream: bool
) -> tuple[Any, list[str]]:
    """The result of a run, and the types of the events on the way."""

    async def whole() -> tuple[Any, list[str]]:
        async with openai.AsyncOpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as client:
            kind = OpenAIChatCompletionsModel if chat else OpenAIResponsesModel
            agent.model = kind(model, client)
            if not stream:
                return await Runner.run(agent, "How is it?", run_config=QUIET), []
            streamed = Runner.run_streamed(agent, "How is it?", run_config=QUIET)
            raw = [event async for event in streamed.stream_events() if event.type == "raw_response_event"]
            if not chat:  # those of chat are the framework's own
                for event in raw:
                    check_event(event.data.to_dict())
            return streamed, [str(event.data.type) for event in raw]

    return asyncio.run(whole())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_loop(gateway: Running, provider: str, stream: bool) -> None:
    agent = Agent(name="sailor", instructions="Ask for the tide.", tools=[tide])
    result, seen = run(gateway, agent, f"{provider}/tools?parallel=2", stream=stream)
    assert result.final_output == "The tool said: high in sim 1 🌊"
    kinds = [item.type for item in result.new_items if item.type != "reasoning_item"]
    assert kinds == ["tool_call_item"] * 2 + ["tool_call_output_item"] * 2 + ["message_output_item"]
    assert result.context_wrapper.usage.requests == 2
    assert result.context_wrapper.usage.output_tokens > 0
    assert asked_path(gateway.sim.requests[-1]).endswith(PATHS[provider])
    if stream:
        assert seen.count("response.completed") == 2
        assert "response.function_call_arguments.delta" in seen
        assert "response.output_text.delta" in seen


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_loop_over_chat(gateway: Running, provider: str, stream: bool) -> None:
    agent = Agent(name="sailor", instructions="Ask for the tide.", tools=[tide])
    result, _ = run(gateway, agent, f"{provider}/tools", chat=True, stream=stream)
    assert result.final_output == "The tool said: high in sim 0 🌊"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_handoff_with_thoughts(gateway: Running, provider: str) -> None:
    """The second agent gets the whole history of the first, its reasoning among it."""
    settings = ModelSettings(reasoning=Reasoning(effort="low", summary="auto"), store=False)
    second = Agent(name="second", model_settings=settings)
    result, _ = run(gateway, second, f"{provider}/reasoning", stream=True)
    assert result.final_output == "The answer is 42."
    history = result.to_input_list()
    agent = Agent(name="third", model_settings=settings)

    async def again() -> Any:
        async with openai.AsyncOpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as client:
            agent.model = OpenAIResponsesModel(f"{provider}/echo", client)
            return await Runner.run(agent, [*history, {"role": "user", "content": "And now?"}], run_config=QUIET)

    assert asyncio.run(again()).final_output == "And now?"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_typed_result(gateway: Running, provider: str) -> None:
    agent = Agent(name="typed", output_type=Weather)
    result, _ = run(gateway, agent, f"{provider}/lorem?text=%7B%22place%22%3A%22Bo%22%7D", stream=True)
    assert result.final_output == Weather(place="Bo")
