"""The SDKs of OpenAI and Anthropic, with all that they build on an answer, at every kind of provider."""

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pydantic
import pytest
from anthropic import beta_tool

from tests.support.providers import FOUR, PATHS, PROVIDERS, asked_path
from tests.support.running import Running

PLACE = "lorem?text=%7B%22place%22%3A%22Bo%22%7D"


def asking() -> Any:
    """A request of Anthropic's; the SDK's runner adds to the list that it is given."""
    return {"max_tokens": 4000, "messages": [{"role": "user", "content": "How is it? 潮汐"}]}


class Weather(pydantic.BaseModel):
    place: str


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(FOUR) as running:
        yield running


@pytest.fixture(scope="module")
def gpt(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture(scope="module")
def claude(gateway: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.origin, api_key="unused", max_retries=0, timeout=20) as made:
        yield made


# -- OpenAI's ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_responses_parse(gpt: openai.OpenAI, gateway: Running, provider: str) -> None:
    answer = gpt.responses.parse(model=f"{provider}/{PLACE}", input="?", text_format=Weather)
    assert answer.output_parsed == Weather(place="Bo")
    assert PATHS[provider] in asked_path(gateway.sim.requests[-1])
    assert b'"place"' in gateway.sim.requests[-1].body


@pytest.mark.parametrize("provider", PROVIDERS)
def test_responses_stream_with_a_type(gpt: openai.OpenAI, provider: str) -> None:
    with gpt.responses.stream(model=f"{provider}/{PLACE}", input="?", text_format=Weather) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_parsed == Weather(place="Bo")
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds


@pytest.mark.parametrize("provider", PROVIDERS)
def test_responses_parse_the_arguments_of_calls(gpt: openai.OpenAI, provider: str) -> None:
    tool: Any = openai.pydantic_function_tool(Weather, name="tide")
    with gpt.responses.stream(model=f"{provider}/tools?parallel=2", input="?", tools=[tool]) as stream:
        for _ in stream:
            pass
        calls = [item for item in stream.get_final_response().output if item.type == "function_call"]
    assert [call.parsed_arguments for call in calls] == [Weather(place="sim 0"), Weather(place="sim 1")]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_chat_parse(gpt: openai.OpenAI, provider: str) -> None:
    answer = gpt.chat.completions.parse(
        model=f"{provider}/{PLACE}", messages=[{"role": "user", "content": "?"}], response_format=Weather
    )
    assert answer.choices[0].message.parsed == Weather(place="Bo")
    assert answer.usage is not None


@pytest.mark.parametrize("provider", PROVIDERS)
def test_chat_stream_with_a_type_and_calls(gpt: openai.OpenAI, provider: str) -> None:
    asked: Any = {"messages": [{"role": "user", "content": "?"}], "stream_options": {"include_usage": True}}
    with gpt.chat.completions.stream(model=f"{provider}/{PLACE}", response_format=Weather, **asked) as stream:
        assert [event.type for event in stream][-1] in ("content.done", "chunk")
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Weather(place="Bo")
    assert final.usage is not None
    tool = openai.pydantic_function_tool(Weather, name="tide")
    with gpt.chat.completions.stream(model=f"{provider}/tools?parallel=2", tools=[tool], **asked) as calling:
        for _ in calling:
            pass
        message = calling.get_final_completion().choices[0].message
    assert [call.function.parsed_arguments for call in message.tool_calls or ()] == [
        Weather(place="sim 0"),
        Weather(place="sim 1"),
    ]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_thoughts_travel_through_chat(gpt: openai.OpenAI, gateway: Running, provider: str) -> None:
    """A client that sends the whole message back, its unknown members too, must be welcome at every provider."""
    asked: Any = [{"role": "user", "content": "?"}]
    first = gpt.chat.completions.create(model=f"{provider}/reasoning", messages=asked).choices[0].message
    assert first.content == "The answer is 42."
    history: Any = [*asked, first.to_dict(), {"role": "user", "content": "And now?"}]
    for other in PROVIDERS:
        again = gpt.chat.completions.create(model=f"{other}/echo", messages=history)
        assert again.choices[0].message.content == "And now?"
        assert b"tgr1_" not in gateway.sim.requests[-1].body, other


# -- Anthropic's ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_messages_stream(claude: anthropic.Anthropic, gateway: Running, provider: str) -> None:
    with claude.messages.stream(model=f"{provider}/echo", system="Be brief.", **asking()) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert [block.to_dict() for block in final.content] == [{"type": "text", "text": "How is it? 潮汐"}]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert final.usage.input_tokens > 0
    assert final.usage.output_tokens > 0
    assert PATHS[provider] in asked_path(gateway.sim.requests[-1])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_loop_that_the_sdk_runs(claude: anthropic.Anthropic, provider: str, stream: bool) -> None:
    asked: list[str] = []

    @beta_tool
    def tide(harbour: str) -> str:
        """The tide in a harbour.

        Args:
            harbour: its name
        """
        asked.append(harbour)
        return "high 🌊"

    runner = claude.beta.messages.tool_runner(
        model=f"{provider}/tools?parallel=2", tools=[tide], stream=stream, **asking()
    )
    final: Any = runner.until_done()
    assert asked == ["sim 0", "sim 1"]
    assert final.stop_reason == "end_turn"
    assert "high 🌊" in final.content[-1].text


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_conversation_that_nobody_keeps_is_never_gone_on_with(claude: anthropic.Anthropic, provider: str) -> None:
    """The SDK's runner asks for it, and sends all of the conversation where it is told that there is none."""
    for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}):
        for stream in (False, True):
            with pytest.raises(anthropic.BadRequestError) as refused:
                claude.messages.create(
                    model=f"{provider}/echo", stream=stream, extra_body={"thread": thread}, **asking()
                )
            body: Any = refused.value.body
            assert body["error"]["details"]["error_code"] == "thread_unsupported_request"
            assert "thread" in body["error"]["message"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_thinking_and_what_is_asked_after_it(claude: anthropic.Anthropic, provider: str) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with claude.messages.stream(model=f"{provider}/reasoning", thinking=thinking, **asking()) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[-1].to_dict() == {"type": "text", "text": "The answer is 42."}
    if provider in ("anthropic", "openai"):  # the others sign no thought, and an unsigned one is none
        assert final.content[0].type == "thinking"
        assert "thinking" in kinds
        assert final.content[0].thinking.startswith("The question")
        assert final.content[0].signature
    history: Any = [
        *asking()["messages"],
        {"role": "assistant", "content": [block.to_dict() for block in final.content]},
        {"role": "user", "content": "And now?"},
    ]
    for other in PROVIDERS:
        again = claude.messages.create(model=f"{other}/echo", max_tokens=4000, messages=history, stream=False)
        assert again.content[-1].to_dict() == {"type": "text", "text": "And now?"}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_messages_parse(claude: anthropic.Anthropic, provider: str) -> None:
    answer = claude.messages.parse(model=f"{provider}/{PLACE}", output_format=Weather, **asking())
    assert answer.parsed_output == Weather(place="Bo")
    with claude.messages.stream(model=f"{provider}/{PLACE}", output_format=Weather, **asking()) as stream:
        assert stream.get_final_message().parsed_output == Weather(place="Bo")
