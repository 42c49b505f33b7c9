"""xAI counts thoughts beside `completion_tokens`, and in `total_tokens` all the same (https://docs.x.ai/docs, consumption and
rate limits): they are charged as output, and must be in the ledger."""

import json

import pytest

from tests.dialects import common
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.dialect import Destination
from tidegate.dialects.usage import read_usage_object

APART = {
    "prompt_tokens": 13,
    "completion_tokens": 1,
    "total_tokens": 400,
    "completion_tokens_details": {"reasoning_tokens": 386},
}


@pytest.mark.parametrize(
    ("usage", "output", "thoughts"),
    [
        (APART, 387, 386),
        ({**APART, "completion_tokens": 387}, 387, 386),  # as OpenAI counts
        ({**APART, "total_tokens": None}, 1, 386),
        ({**APART, "total_tokens": 14}, 1, 386),
        ({**APART, "completion_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 14}, 1, 0),
    ],
)
def test_thoughts_that_are_counted_apart_are_output_too(usage: dict[str, object], output: int, thoughts: int) -> None:
    found = read_usage_object(json.dumps(usage).encode())
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.reasoning_tokens) == (13, output, thoughts)


def test_an_answer_goes_on_as_it_came_and_is_charged_with_its_thoughts() -> None:
    request = ChatDialect().parse(json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode())
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": APART}
    sent = json.dumps(body).encode()
    answer = request.complete(sent, common.call(), Destination(provider="xai", model="m", endpoint="chat"))
    assert json.loads(answer.body)["usage"] == APART
    assert (answer.usage.output_tokens, answer.usage.reasoning_tokens) == (387, 386)
