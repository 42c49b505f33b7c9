"""Content in typed parts, as Mistral's models that reason have it (https://docs.mistral.ai/capabilities/reasoning): every client
gets a text and thoughts."""

import json
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.dialects import common
from tests.dialects.chat import playing
from tests.dialects.crossing import ASKS, Crossing
from tests.dialects.responses.client import final
from tidegate.dialects.dialect import WholeRequest


def thinking(*texts: str, **members: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text} for text in texts], **members}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


STREAM = playing.stream(
    {"role": "assistant", "content": ""},
    {"content": [thinking("潮 ")]},
    {"content": [thinking("moves", " ")]},
    {"content": [{"type": "thinking", "thinking": "twice"}]},
    {"content": [thinking(closed=True), text("Twice")]},
    {"content": [text(" a ")]},
    {"content": "day"},
)
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
WHOLE = playing.answer(
    {"content": [thinking("潮 moves", " twice", closed=True), text("Twice a "), text("day")]}, usage=USAGE
)
SAID, THOUGHT = "Twice a day", "潮 moves twice"


def told(client: str, out: bytes, *, stream: bool) -> tuple[str, str]:
    """Text and thoughts, as the client sees them."""
    match client:
        case "responses":
            response = final(out) if stream else json.loads(out)
            items = {item["type"]: item for item in response["output"]}
            assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
            return items["message"]["content"][0]["text"], items["reasoning"]["content"][0]["text"]
        case "completions":
            chunks = common.events(out) if stream else [json.loads(out)]
            return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]), ""
        case "messages":
            if not stream:
                thought, answer = json.loads(out)["content"]
                return answer["text"], thought["thinking"]
            deltas = [event["delta"] for event in common.events(out) if event["type"] == "content_block_delta"]
            return "".join(one.get("text", "") for one in deltas), "".join(one.get("thinking", "") for one in deltas)
        case _:
            chunks = common.events(out) if stream else [json.loads(out)]
            parts = [part for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
            return (
                "".join(part["text"] for part in parts if not part.get("thought")),
                "".join(part["text"] for part in parts if part.get("thought")),
            )


@pytest.mark.parametrize("client", [client for client in ASKS if client != "chat"])
def test_a_client_of_another_api_gets_text_and_thoughts(client: str) -> None:
    thought = "" if client == "completions" else THOUGHT
    for split in ([STREAM], common.bytewise(STREAM)):
        assert told(client, Crossing(client, "chat", stream=True).streamed(split), stream=True) == (SAID, thought)
    assert told(client, Crossing(client, "chat", stream=False).whole(WHOLE), stream=False) == (SAID, thought)


def completed(stream: bytes) -> dict[str, Any]:
    """The message that the official client adds up."""
    state = ChatCompletionStreamState()
    out = common.play(common.open_stream("chat", to=playing.provider()), [stream])
    for event in common.events(out):
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    return state.get_final_completion().choices[0].message.to_dict()


def of_whole(body: bytes) -> dict[str, Any]:
    request: Any = common.DIALECTS["chat"].parse(common.body("chat"))
    whole: WholeRequest = request
    answer = whole.complete(body, common.call(), playing.provider())
    return ChatCompletion.model_validate_json(answer.body).choices[0].message.to_dict()


def test_the_official_client_of_chat_adds_up_a_text() -> None:
    for message in (completed(STREAM), of_whole(WHOLE)):
        assert (message["content"], message["reasoning_content"]) == (SAID, THOUGHT)


def test_thoughts_that_have_a_member_already_are_not_told_twice() -> None:
    message = of_whole(playing.answer({"content": [thinking("hm"), text("x")], "reasoning_content": "told"}))
    assert (message["content"], message["reasoning_content"]) == ("x", "told")


def test_an_empty_member_hides_no_thoughts() -> None:
    message = of_whole(playing.answer({"content": [thinking("hm"), text("x")], "reasoning_content": ""}))
    assert (message["content"], message["reasoning_content"]) == ("x", "hm")


def test_a_refusal_among_parts_is_a_refusal() -> None:
    content = [{"type": "refusal", "refusal": "No."}]
    message = of_whole(playing.answer({"content": content}))
    assert (message["content"], message["refusal"]) == (None, "No.")
    said = Crossing("responses", "chat", stream=False).whole(playing.answer({"content": content}, usage=USAGE))
    assert [part["type"] for part in json.loads(said)["output"][0]["content"]] == ["refusal"]


def test_thoughts_alone_are_no_empty_text() -> None:
    message = of_whole(playing.answer({"content": [thinking("hm")]}, "length"))
    assert (message["content"], message["reasoning_content"]) == (None, "hm")


def test_what_has_no_member_in_the_api_stays_as_it_came() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}}
    for other in ({"type": "reference", "reference_ids": [1]}, image):
        content = [text("A"), other, text("B")]
        request: Any = common.DIALECTS["chat"].parse(common.body("chat"))
        body = playing.answer({"content": content}, usage=USAGE)
        answer = request.complete(body, common.call(), playing.provider())
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == content
