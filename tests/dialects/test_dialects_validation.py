"""What a caller reads about a wrong body: which member, and what would be right."""

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from tests.dialects.common import DIALECTS, body
from tidegate.dialects import validation
from tidegate.wire.errors import InvalidRequest


def refused(dialect: str, text: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        DIALECTS[dialect].parse(text)
    return caught.value


MESSAGE = {"role": "user", "content": "x"}
CALL = {"type": "function_call", "name": "f", "arguments": "{}"}

# dialect, members, param, message
WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("responses", {"temperature": 2.1}, "temperature", "expected a number between 0 and 2."),
    ("responses", {"temperature": -0.1}, "temperature", "expected a number between 0 and 2."),
    ("responses", {"temperature": "1"}, "temperature", "expected a number between 0 and 2, got a string."),
    ("responses", {"temperature": True}, "temperature", "expected a number between 0 and 2, got a boolean."),
    ("responses", {"top_p": 1.5}, "top_p", "expected a number between 0 and 1."),
    ("responses", {"frequency_penalty": -2.5}, "frequency_penalty", "expected a number between -2 and 2."),
    ("responses", {"presence_penalty": 3}, "presence_penalty", "expected a number between -2 and 2."),
    ("responses", {"max_output_tokens": 0}, "max_output_tokens", "expected an integer of at least 1."),
    ("responses", {"max_output_tokens": 1.5}, "max_output_tokens", "expected an integer of at least 1, got a number."),
    ("responses", {"top_logprobs": 21}, "top_logprobs", "expected an integer between 0 and 20."),
    ("responses", {"n": 0}, "n", "expected an integer of at least 1."),
    ("responses", {"stop": [1]}, "stop[0]", "expected a string, got an integer."),
    ("responses", {"stop": 5}, "stop", "expected a string or an array, got an integer."),
    ("responses", {"stream": "true"}, "stream", "expected a boolean, got a string."),
    ("responses", {"store": 1}, "store", "expected a boolean, got an integer."),
    ("responses", {"model": 5}, "model", "expected a string, got an integer."),
    ("responses", {"input": []}, "input", "expected a string or an array of at least 1 item."),
    ("responses", {"input": 5}, "input", "expected a string or an array of at least 1 item, got an integer."),
    ("responses", {"input": ["x"]}, "input[0]", "expected an object, got a string."),
    ("responses", {"input": [{"role": "boss", "content": "x"}]}, "input[0].role", "'boss' is not allowed; expected one of 'assistant', "),
    ("responses", {"input": [MESSAGE, {"role": "user", "content": 5}]}, "input[1].content", "expected a string or an array, got an integer."),
    ("responses", {"input": [MESSAGE, {"role": "user", "content": [{"type": "input_text", "text": 5}]}]}, "input[1].content[0].text", "expected a string, got an integer."),
    ("responses", {"tools": [{}]}, "tools[0].type", "Missing required parameter: 'tools[0].type'."),
    ("responses", {"tools": [{"type": "function", "name": "f"}, {"type": 5}]}, "tools[1].type", "expected a string, got an integer."),
    ("responses", {"tools": {}}, "tools", "expected an array, got an object."),
    ("responses", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name", "Responses tools are flat"),
    ("responses", {"tool_choice": "maybe"}, "tool_choice", "expected one of 'none', 'auto', 'required', or an object."),
    ("responses", {"tool_choice": {}}, "tool_choice.type", "Missing required parameter: 'tool_choice.type'."),
    ("responses", {"text": {"format": {"type": "yaml"}}}, "text.format.type", "'yaml' is not allowed; expected one of 'json_object', 'json_schema', 'text'."),
    ("responses", {"text": {"format": {"type": "json_schema"}}}, "text.format.name", "Missing required parameter: 'text.format.name'."),
    ("responses", {"text": {"verbosity": "loud"}}, "text.verbosity", "expected one of 'high', 'low', 'medium'."),
    ("responses", {"reasoning": {"effort": "huge"}}, "reasoning.effort", "expected one of 'high', 'low', 'max', 'medium', 'minimal', 'none', 'xhigh'."),
    ("responses", {"truncation": "some"}, "truncation", "expected one of 'auto', 'disabled'."),
    ("responses", {"metadata": {"a": 5}}, "metadata", "expected each value to be a string of at most 512 characters, got an integer."),
    ("responses", {"metadata": {str(i): "x" for i in range(17)}}, "metadata", "expected an object of at most 16 members, each with a name of at most 64 characters."),
    ("responses", {"include": ["a", 5]}, "include[1]", "expected a string, got an integer."),
    ("responses", {"stream_options": {"include_obfuscation": False}}, "stream_options", "it is only allowed when 'stream' is true."),
    ("responses", {"previous_response_id": "r", "conversation": "c"}, "previous_response_id", "it cannot be used together with 'conversation'."),
    ("responses", {"input": [{"type": "message", "content": "x"}]}, "input[0].role", "Missing required parameter"),
    ("responses", {"input": [{"role": "user"}]}, "input[0].content", "Missing required parameter"),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text", "Missing required parameter"),
    ("responses", {"input": [CALL]}, "input[0].call_id", "Missing required parameter"),
    ("responses", {"input": None}, "input", "Missing required parameter: 'input'."),
    ("chat", {"messages": []}, "messages", "expected an array of at least 1 item."),
    ("chat", {"messages": None}, "messages", "expected an array of at least 1 item, got null."),
    ("chat", {"messages": [{"content": "x"}]}, "messages[0].role", "Missing required parameter: 'messages[0].role'."),
    ("chat", {"messages": [{"role": "user"}]}, "messages[0].content", "Missing required parameter"),
    ("chat", {"messages": [MESSAGE, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id", "Missing required parameter"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "Missing required parameter"),
    ("chat", {"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type", "Missing required parameter"),
    ("chat", {"n": 129}, "n", "expected an integer between 1 and 128."),
    ("chat", {"tools": [{"type": "function"}]}, "tools[0].function", "Missing required parameter"),
    ("chat", {"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "Missing required parameter"),
    ("chat", {"logit_bias": {"50256": -101}}, "logit_bias", "expected each value to be a number between -100 and 100."),
    ("chat", {"stop": 5}, "stop", "expected a string or an array, got an integer."),
    ("chat", {"top_logprobs": -1}, "top_logprobs", "expected an integer between 0 and 20."),
    ("chat", {"stream_options": {"include_usage": True}}, "stream_options", "it is only allowed when 'stream' is true."),
    ("chat", {"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage", "expected a boolean, got a string."),
    ("completions", {"prompt": None}, "prompt", "expected a string or an array of at least 1 item, got null."),
    ("completions", {"prompt": []}, "prompt", "expected a string or an array of at least 1 item."),
    ("completions", {"prompt": [{}]}, "prompt[0]", "expected a string or an integer or an array, got an object."),
    ("completions", {"logprobs": 6}, "logprobs", "expected an integer between 0 and 5."),
    ("completions", {"best_of": 0}, "best_of", "expected an integer between 1 and 20."),
    ("completions", {"max_tokens": -1}, "max_tokens", "expected an integer of at least 0."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "members", "param", "said"), WRONG, ids=[f"{one[0]} {one[2]} {at}" for at, one in enumerate(WRONG)]
)
def test_a_wrong_member_is_named_with_what_would_be_right(
    dialect: str, members: dict[str, Any], param: str, said: str
) -> None:
    error = refused(dialect, body(dialect, **members))
    assert error.param == param
    assert said in error.message
    assert f"'{param}'" in error.message
    assert error.http_status == 400
    assert error.code in (
        "invalid_value",
        "invalid_type",
        "missing_required_parameter",
        "mutually_exclusive_parameters",
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "The request body is empty; it must be a JSON object."),
        (b"{", "is not valid JSON: the text ends before the JSON value does."),
        (b'{"model": "x",\n  oops}', "at line 2, column 3"),
        (b"[]", "must be a JSON object."),
        (b'"x"', "must be a JSON object."),
        (b"null", "must be a JSON object."),
        (b'{"unread": "\xff", "input": "x"}', "not valid UTF-8 at line 1, column 13"),
        (b'{"temperature": NaN}', "invalid character at line 1"),
        (b'{"deep": ' + b"[" * 2_000_000, "nested too deeply"),
        (b'{"user": "\\ud800 and more text"}', "surrogate"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused_with_its_place(dialect: str, text: bytes, said: str) -> None:
    error = refused(dialect, text)
    assert said in error.message
    assert (error.http_status, error.param, error.code) == (400, None, "invalid_json")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_null_is_as_good_as_absent(dialect: str) -> None:
    required = {"responses": {"input"}, "chat": {"messages"}, "completions": {"prompt"}}[dialect]
    names = set(DIALECTS[dialect].parse(body(dialect)).typed.__struct_fields__) - required  # type: ignore[attr-defined]
    DIALECTS[dialect].parse(body(dialect, **dict.fromkeys(names)))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "members",
    [
        {"temperature": 0},
        {"temperature": 2},
        {"temperature": 2.0},
        {"top_p": 0},
        {"top_p": 1},
        {"frequency_penalty": -2},
        {"presence_penalty": 2.0},
        {"n": 1},
        {"n": 5},
        {"stop": "x"},
        {"stop": ["a", "b"]},
        {"stop": []},
        {"user": ""},
        {"stream": False},
    ],
)
def test_the_ends_of_ranges_are_inside(dialect: str, members: dict[str, Any]) -> None:
    DIALECTS[dialect].parse(body(dialect, **members))


def test_large_bounds_are_written_out() -> None:
    class Order(msgspec.Struct):
        count: Annotated[int, Meta(ge=0, le=10**12)]

    with pytest.raises(InvalidRequest) as caught:
        validation.convert({"count": -1}, Order)
    assert caught.value.message == "Invalid 'count': expected an integer between 0 and 1000000000000."
