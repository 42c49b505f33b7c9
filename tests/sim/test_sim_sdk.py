"""The official SDK as a client of the sim, and its types as the judge of every event."""

import asyncio
import json
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI, NotFoundError, OpenAI, RateLimitError
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tidegate.sim import SCRIPTS, SimServer

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
FLAT_TOOL: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}
NESTED_TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CUSTOM_TOOL: Any = {"type": "custom", "name": "patch"}

MODELS = [
    *(name if name != "demo" else "demo?gap=0" for name in SCRIPTS),
    "reasoning?raw=1",
    "lorem?finish=content_filter",
]


def client(sim: SimServer) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=sim.base_url, api_key="none", max_retries=0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("n", [1, 3])
def test_every_responses_event_is_one_of_the_sdk_types(tools: Any, model: str, n: int) -> None:
    seen = tools.once("responses", model, stream=True, tools=[FLAT_TOOL], n=n, include=["reasoning.encrypted_content"])
    for event in seen.data:
        EVENT.validate_python(event, strict=True)
    assert seen.types[0] == "response.created"


def test_custom_tool_calls_and_logprobs_are_sdk_types(tools: Any) -> None:
    custom = tools.once("responses", "tools", stream=True, tools=[CUSTOM_TOOL])
    assert "response.custom_tool_call_input.delta" in custom.types
    probed = tools.once("responses", "echo", stream=True, include=["message.output_text.logprobs"], top_logprobs=2)
    deltas = [event for event in probed.data if event["type"] == "response.output_text.delta"]
    assert all(len(event["logprobs"][0]["top_logprobs"]) == 2 for event in deltas)
    for event in (*custom.data, *probed.data):
        EVENT.validate_python(event, strict=True)


@pytest.mark.parametrize("model", [model for model in MODELS if "finish" not in model])
@pytest.mark.parametrize("n", [1, 2])
def test_the_sdk_accumulates_a_responses_stream_into_the_same_response(tools: Any, model: str, n: int) -> None:
    async def scenario(sim: SimServer) -> None:
        async with client(sim) as openai:
            body = {"n": n}
            async with openai.responses.stream(model=model, input="hi", tools=[FLAT_TOOL], extra_body=body) as stream:
                text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
                final = await stream.get_final_response()
        assert final.status == "completed"
        assert final.output_text == text
        assert final.usage is not None
        assert final.usage.total_tokens == final.usage.input_tokens + final.usage.output_tokens
        Response.model_validate(
            final.model_dump(exclude_unset=True, exclude={"output": {"__all__": {"content": {"__all__": {"parsed"}}}}})
        )

    tools.run(scenario)


@pytest.mark.parametrize("model", MODELS)
def test_chat_streams_and_bodies_are_sdk_types_and_agree(tools: Any, model: str) -> None:
    async def scenario(sim: SimServer) -> None:
        asked: Any = {"model": model, "messages": [{"role": "user", "content": "hi"}], "tools": [NESTED_TOOL], "n": 2}
        async with client(sim) as openai:
            whole = await openai.chat.completions.create(**asked)
            ChatCompletion.model_validate_json(whole.model_dump_json(), strict=True)
            texts, arguments, finishes, usage = ["", ""], ["", ""], ["", ""], None
            async for chunk in await openai.chat.completions.create(
                **asked, stream=True, stream_options={"include_usage": True}
            ):
                ChatCompletionChunk.model_validate_json(chunk.model_dump_json(), strict=True)
                for choice in chunk.choices:
                    texts[choice.index] += choice.delta.content or choice.delta.refusal or ""
                    for call in choice.delta.tool_calls or ():
                        assert call.function is not None
                        arguments[choice.index] += call.function.arguments or ""
                    finishes[choice.index] = choice.finish_reason or finishes[choice.index]
                if not chunk.choices:
                    usage = chunk.usage
        assert usage == whole.usage
        for index, choice in enumerate(whole.choices):
            assert texts[index] == (choice.message.content or choice.message.refusal or "")
            assert finishes[index] == choice.finish_reason
            calls: Any = choice.message.tool_calls or []
            assert arguments[index] == "".join(call.function.arguments for call in calls)

    tools.run(scenario)


@pytest.mark.parametrize("model", MODELS)
def test_completions_streams_and_bodies_are_sdk_types_and_agree(tools: Any, model: str) -> None:
    async def scenario(sim: SimServer) -> None:
        async with client(sim) as openai:
            whole = await openai.completions.create(model=model, prompt=["one", "two"], logprobs=2)
            Completion.model_validate_json(whole.model_dump_json(), strict=True)
            texts = ["", ""]
            async for chunk in await openai.completions.create(model=model, prompt=["one", "two"], stream=True):
                texts[chunk.choices[0].index] += chunk.choices[0].text
        assert texts == [choice.text for choice in whole.choices]

    tools.run(scenario)


def test_the_synchronous_sdk_works_too(tools: Any) -> None:
    def use(base_url: str) -> tuple[str, str, list[str]]:
        with OpenAI(base_url=base_url, api_key="none", max_retries=0) as openai:
            response = openai.responses.create(model="echo", input="潮汐")
            with openai.responses.stream(model="zh", input="hi") as stream:
                final = stream.get_final_response()
            return response.output_text, final.output_text, [model.id for model in openai.models.list()]

    async def scenario(sim: SimServer) -> None:
        said, final, names = await asyncio.to_thread(use, sim.base_url)
        assert said == "潮汐"
        assert final.startswith("潮汐之门")
        assert names == list(SCRIPTS)

    tools.run(scenario)


def test_a_tool_loop_comes_to_its_end(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        async with client(sim) as openai:
            first = await openai.responses.create(model="tools?parallel=2", input="Weather?", tools=[FLAT_TOOL])
            calls = [item for item in first.output if item.type == "function_call"]
            assert len({call.call_id for call in calls}) == 2
            assert set(json.loads(calls[0].arguments)) == {"city", "days"}
            history: Any = [{"role": "user", "content": "Weather?"}, *(item.model_dump() for item in first.output)]
            history += [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls]
            second = await openai.responses.create(model="tools", input=history, tools=[FLAT_TOOL])
            assert second.output_text == "The tool said: rain"

    tools.run(scenario)


def test_errors_reach_the_sdk_as_its_own_exceptions(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        async with client(sim) as openai:
            with pytest.raises(NotFoundError) as missing:
                await openai.responses.create(model="gpt-0", input="hi")
            assert missing.value.code == "model_not_found"
            with pytest.raises(RateLimitError) as limited:
                await openai.responses.create(model="lorem?status=429&retry_after=2", input="hi")
            assert limited.value.response.headers["retry-after"] == "2"
            assert limited.value.code == "rate_limit_exceeded"
            with pytest.raises(APIStatusError):
                await openai.responses.create(model="lorem?status=503&body=html", input="hi")
            stream = await openai.responses.create(model="lorem?fault=error&message=boom", input="hi", stream=True)
            with pytest.raises(APIError, match="boom"):
                async for _ in stream:
                    pass

    tools.run(scenario)
