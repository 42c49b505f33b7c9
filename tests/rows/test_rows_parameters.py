"""Rows S26–S42: the parameters of /v1/responses."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import ENDPOINTS, Api
from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.running import Running

BARE = {"id": "r1", "object": "response", "created_at": 1, "status": "completed", "output": []}
"""What the least of all engines answers: nothing is echoed unless the gateway does it."""

RANGES: list[tuple[str, list[Any], list[Any], str]] = [
    # parameter, values that are taken, values that are refused, words of the refusal
    ("temperature", [0, 0.7, 1, 2, 2.0], [-0.1, 2.1, -1, 1e9], "a number between 0 and 2"),
    ("top_p", [0, 0.5, 1], [-0.01, 1.01, 2], "a number between 0 and 1"),
    ("frequency_penalty", [-2, 0, 0.5, 2], [-2.1, 2.1, 3], "a number between -2 and 2"),
    ("presence_penalty", [-2, 0, 0.5, 2], [-2.1, 2.1, 3], "a number between -2 and 2"),
    ("max_output_tokens", [1, 16, 4096], [0, -1], "an integer of at least 1"),
    ("n", [1, 2], [0, -1], "an integer of at least 1"),
    ("max_tool_calls", [1], [0], "an integer of at least 1"),
    ("top_logprobs", [0, 20], [-1, 21], "an integer between 0 and 20"),
]

TOOL = {"type": "function", "name": "tide", "description": "d", "parameters": {"type": "object", "properties": {}}}


def taken(api: Api, **members: Any) -> Any:
    """What the provider was told, after an answer that the client got; the answer is checked to say the same."""
    reply = api.ask("responses", **members)
    assert reply.status == 200, reply.content
    return {name: api.sent.get(name, ...) for name in members}


def refused(api: Api, **members: Any) -> Any:
    return api.refused(**members)


def check_range(api: Api, name: str) -> None:
    _, good, bad, words = next(row for row in RANGES if row[0] == name)
    for value in good:
        assert taken(api, **{name: value}) == {name: value}
    for value in bad:
        error = refused(api, **{name: value})
        assert (error["param"], error["code"]) == (name, "invalid_value")
        assert words in error["message"]
    for value in ("1", [], {}, True):
        assert refused(api, **{name: value})["param"] == name
    assert name not in taken_without(api)


def taken_without(api: Api) -> Any:
    assert api.ask("responses").status == 200
    return api.sent


def echoed(**members: Any) -> Any:
    """The response object of an engine that echoes nothing."""
    with Canned(json_answer(BARE)) as provider:
        toml = f"[server]\nport = 0\n{provider.toml()}"
        with Running(toml) as gateway, Api(gateway) as api:
            reply = api.ask("responses", "canned/m", **members)
            assert reply.status == 200, reply.content
            for name in provider.requests[0]:
                assert name in {"model", "stream", "input", *members}, f"{name} was added upstream"
            return reply.json


@pytest.mark.row("S26")
def test_temperature(api: Api) -> None:
    check_range(api, "temperature")
    assert echoed(temperature=0.25)["temperature"] == 0.25
    assert echoed()["temperature"] == 1


@pytest.mark.row("S27")
def test_top_p(api: Api) -> None:
    check_range(api, "top_p")
    assert echoed(top_p=0.25)["top_p"] == 0.25
    assert echoed()["top_p"] == 1


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("frequency_penalty", marks=pytest.mark.row("S28")),
        pytest.param("presence_penalty", marks=pytest.mark.row("S29")),
    ],
)
def test_penalties_are_forwarded_or_refused_by_name(api: Api, name: str) -> None:
    check_range(api, name)
    assert echoed(**{name: -1.5})[name] == -1.5
    assert echoed()[name] == 0
    check_refusal(api, "openai", name, 0.5)
    # Zero says what happens anyway: it is no reason to refuse, and nothing the provider has to be told.
    for neutral in (0, 0.0, None):
        members: dict[str, Any] = {name: neutral}
        assert api.ask("responses", "openai/echo", **members).status == 200
        assert name not in api.sent


def check_refusal(api: Api, provider: str, name: str, value: Any, endpoint: str = "responses") -> None:
    """An upstream that does not take a parameter: 400 that names it, streaming or not, and no call."""
    calls = api.calls
    for stream in (False, True):
        reply = api.ask(endpoint, f"{provider}/echo", stream=stream, **{name: value})
        error = reply.error
        assert (reply.status, error["param"], error["code"]) == (400, name, "unsupported_parameter")
        assert f"'{name}'" in error["message"]
        assert f"'{provider}'" in error["message"]
        assert error["type"] == "invalid_request_error"
    assert api.calls == calls


@pytest.mark.row("S30")
def test_max_output_tokens_is_enforced_forwarded_and_a_cut_answer_is_incomplete(api: Api) -> None:
    check_range(api, "max_output_tokens")
    cut = api.ask("responses", "sim/lorem?chunks=40", max_output_tokens=5).json
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (cut["max_output_tokens"], cut["completed_at"]) == (5, None)
    streamed = api.ask("responses", "sim/lorem?chunks=40", max_output_tokens=5, stream=True)
    assert streamed.kinds[-1] == "response.incomplete"
    assert "response.completed" not in streamed.kinds
    end = streamed.events[-1]["response"]
    assert (end["status"], end["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    check_refusal(api, "narrow", "max_output_tokens", 9)


@pytest.mark.row("S30", "S49")
@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_calls_a_cut_answer_completed_is_corrected(stream: bool) -> None:
    toml = '[server]\nport = 0\n[providers.engine]\nkind = "transformers"\nbase_url = "{sim}"\n'
    model = "engine/lorem?chunks=40&finish=stop"  # its limit cuts, its status does not say so
    with Running(toml) as gateway, Api(gateway) as api:
        reply = api.ask("responses", model, max_output_tokens=5, stream=stream)
        end = reply.events[-1]["response"] if stream else reply.json
        assert (end["status"], end["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
        if stream:
            assert reply.kinds[-1] == "response.incomplete"
        whole = api.ask("responses", model, max_output_tokens=5000, stream=stream)
        assert (whole.events[-1]["response"] if stream else whole.json)["status"] == "completed"


@pytest.mark.row("S31")
def test_stop_is_a_string_or_a_list_forwarded_or_made_up_for(api: Api) -> None:
    for value in ("END", ["END", "STOP"]):
        reply = api.ask("responses", input="before END after", stop=value)
        assert (reply.status, reply.text) == (200, "before ")
        assert api.sent["stop"] == value
    for wrong in (1, {"a": "b"}, [1], True):
        assert refused(api, stop=wrong)["param"].startswith("stop")
    for endpoint, provider, value in (("responses", "openai", "END"), ("chat", "narrow", ["END"])):
        for stream in (False, True):
            reply = api.ask(endpoint, f"{provider}/echo", say="before END after", stop=value, stream=stream)
            assert (reply.status, reply.text) == (200, "before "), reply.content
            assert "stop" not in api.sent
    check_refusal(api, "narrow", "stop", "END", "completions")
    nothing: Any
    for nothing in ([], None):
        assert api.ask("responses", "openai/echo", stop=nothing).status == 200
        assert "stop" not in api.sent


@pytest.mark.row("S32")
def test_n_gives_that_many_message_items_or_is_refused_by_name(api: Api) -> None:
    check_range(api, "n")
    answer = api.ask("responses", input="again", n=3).json
    assert [item["content"][0]["text"] for item in answer["output"]] == ["again"] * 3
    assert len({item["id"] for item in answer["output"]}) == 3
    streamed = api.ask("responses", input="again", n=3, stream=True)
    assert streamed.kinds.count("response.output_item.done") == 3
    assert len(streamed.events[-1]["response"]["output"]) == 3
    check_refusal(api, "openai", "n", 2)
    check_refusal(api, "narrow", "n", 2, "chat")
    assert api.ask("responses", "openai/echo", n=1).status == 200
    assert "n" not in api.sent


@pytest.mark.row("S33")
def test_text_format_has_three_types(api: Api) -> None:
    schema = {"type": "json_schema", "name": "tide", "schema": {"type": "object"}, "strict": True}
    for form in ({"type": "text"}, {"type": "json_object"}, schema):
        assert taken(api, text={"format": form}) == {"text": {"format": form}}
        assert echoed(text={"format": form})["text"]["format"] == form
    assert echoed()["text"]["format"] == {"type": "text"}
    error = refused(api, text={"format": {"type": "xml"}})
    assert error["param"] == "text.format.type"
    assert "'json_object', 'json_schema', 'text'" in error["message"]
    assert refused(api, text={"format": {}})["param"] == "text.format.type"
    assert refused(api, text={"format": {"type": "json_schema"}})["param"] == "text.format.name"
    assert refused(api, text={"format": {**schema, "name": ""}})["param"] == "text.format.name"
    assert refused(api, text={"format": "text"})["param"] == "text.format"
    check_refusal(api, "narrow", "text", {"format": schema})


@pytest.mark.row("S34")
def test_text_verbosity_has_three_values(api: Api) -> None:
    for value in ("low", "medium", "high"):
        assert taken(api, text={"verbosity": value}) == {"text": {"verbosity": value}}
        assert echoed(text={"verbosity": value})["text"] == {"format": {"type": "text"}, "verbosity": value}
    error = refused(api, text={"verbosity": "loud"})
    assert error["param"] == "text.verbosity"
    assert "'high', 'low', 'medium'" in error["message"]


@pytest.mark.row("S35")
def test_reasoning_effort(api: Api) -> None:
    for value in ("none", "minimal", "low", "medium", "high", "xhigh", "max"):
        assert taken(api, reasoning={"effort": value}) == {"reasoning": {"effort": value}}
    assert echoed(reasoning={"effort": "low"})["reasoning"] == {"effort": "low", "summary": None}
    assert refused(api, reasoning={"effort": "hard"})["param"] == "reasoning.effort"
    assert refused(api, reasoning="hard")["param"] == "reasoning"
    check_refusal(api, "narrow", "reasoning", {"effort": "low"})


@pytest.mark.row("S36")
def test_reasoning_summary(api: Api) -> None:
    for value in ("auto", "concise", "detailed"):
        assert taken(api, reasoning={"summary": value}) == {"reasoning": {"summary": value}}
    assert echoed(reasoning={"summary": "auto"})["reasoning"] == {"effort": None, "summary": "auto"}
    error = refused(api, reasoning={"summary": "long"})
    assert error["param"] == "reasoning.summary"
    assert "'auto', 'concise', 'detailed'" in error["message"]


@pytest.mark.row("S37")
def test_tools_are_validated_forwarded_and_echoed(api: Api) -> None:
    error = refused(api, tools=[{}])
    assert (error["param"], error["code"]) == ("tools[0].type", "missing_required_parameter")
    assert refused(api, tools=[TOOL, {}])["param"] == "tools[1].type"
    assert refused(api, tools=[{"type": "function"}])["param"] == "tools[0].name"
    assert refused(api, tools=[TOOL, {"type": "custom", "name": ""}])["param"] == "tools[1].name"
    assert refused(api, tools=[{"type": 3}])["param"] == "tools[0].type"
    assert refused(api, tools=TOOL)["param"] == "tools"
    tools = [TOOL, {"type": "web_search", "search_context_size": "low"}]
    answer = api.ask("responses", "sim/tools", tools=tools).json
    assert api.sent["tools"] == tools
    assert [(item["type"], item["name"]) for item in answer["output"]] == [("function_call", "tide")]
    assert echoed(tools=tools)["tools"] == tools
    assert echoed()["tools"] == []


@pytest.mark.row("S38")
def test_tool_choice_is_a_string_or_an_object(api: Api) -> None:
    for value in ("none", "auto", "required", {"type": "function", "name": "tide"}, {"type": "web_search_preview"}):
        assert taken(api, tools=[TOOL], tool_choice=value)["tool_choice"] == value
        assert echoed(tools=[TOOL], tool_choice=value)["tool_choice"] == value
    assert echoed()["tool_choice"] == "auto"
    error = refused(api, tools=[TOOL], tool_choice="sometimes")
    assert error["param"] == "tool_choice"
    assert "'none', 'auto', 'required'" in error["message"]
    assert refused(api, tool_choice={"name": "tide"})["param"] == "tool_choice.type"
    assert refused(api, tool_choice=4)["param"] == "tool_choice"


@pytest.mark.row("S40")
@pytest.mark.parametrize("endpoint", ["responses", "chat", "completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_user_is_forwarded_and_stands_in_the_usage_entry(api: Api, endpoint: str, stream: bool) -> None:
    reply = api.ask(endpoint, user="customer-17", stream=stream)
    assert api.sent["user"] == "customer-17"
    assert api.gateway.usage(reply.request_id)["end_user"] == "customer-17"
    assert "end_user" not in api.gateway.usage(api.ask(endpoint).request_id)
    assert api.ask(endpoint, user=17).error["param"] == "user"


@pytest.mark.row("S40")
def test_user_is_refused_by_name_where_the_upstream_lacks_it(api: Api) -> None:
    check_refusal(api, "narrow", "user", "customer-17")


EVERYTHING: dict[str, Any] = {
    "instructions": "Be brief.",
    "temperature": 0.5,
    "top_p": 0.9,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "max_output_tokens": 400,
    "stop": ["END"],
    "n": 1,
    "text": {"format": {"type": "json_object"}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "tools": [TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "user": "customer-17",
    "metadata": {"trace": "17"},
    "truncation": "auto",
    "top_logprobs": 2,
    "max_tool_calls": 3,
    "service_tier": "auto",
    "safety_identifier": "s-1",
    "prompt_cache_key": "k-1",
}


@pytest.mark.row("S41")
@pytest.mark.parametrize("stream", [False, True])
def test_all_parameters_in_one_body(api: Api, stream: bool) -> None:
    reply = api.ask("responses", input="all of it", stream=stream, store=True, **EVERYTHING)
    assert (reply.status, reply.text) == (200, "all of it")
    assert api.sent == {**EVERYTHING, "model": "echo", "input": "all of it", "stream": stream}
    shown = echoed(**EVERYTHING)
    expected = {name: value for name, value in EVERYTHING.items() if name not in ("stop", "n", "service_tier")}
    assert {name: shown[name] for name in expected} == expected


@pytest.mark.row("S41")
def test_a_parameter_that_nobody_knows_travels_on(api: Api) -> None:
    """Clients add their own (Codex: client_metadata); the provider decides."""
    assert taken(api, client_metadata={"a": 1}, top_k=5) == {"client_metadata": {"a": 1}, "top_k": 5}


@pytest.mark.row("S42")
@pytest.mark.parametrize(("name", "good", "bad", "words"), RANGES, ids=[row[0] for row in RANGES])
def test_every_range_is_enforced_among_all_the_others(
    api: Api, name: str, good: list[Any], bad: list[Any], words: str
) -> None:
    body = {"input": "x", **EVERYTHING}
    for value in bad:
        error = refused(api, **{**body, name: value})
        assert error["param"] == name
        assert words in error["message"]
    for value in good:
        assert api.ask("responses", **{**body, name: value}).status == 200


@pytest.mark.row("S42")
@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"metadata": {str(key): "v" for key in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {"k": 5}}, "metadata"),
        ({"truncation": "sometimes"}, "truncation"),
        ({"safety_identifier": "s" * 129}, "safety_identifier"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
        ({"instructions": 5}, "instructions"),
        ({"include": "all"}, "include"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "previous_response_id"),
        ({"store": "no"}, "store"),
        ({"prompt": {}}, "prompt.id"),
    ],
)
def test_other_wrong_values_are_refused_by_name(api: Api, members: dict[str, Any], param: str) -> None:
    assert re.sub(r"\[.*", "", refused(api, **members)["param"]) == param


@pytest.mark.row("S42")
@pytest.mark.parametrize(
    ("endpoint", "members", "param"),
    [
        ("chat", {"temperature": 2.5}, "temperature"),
        ("chat", {"top_p": -1}, "top_p"),
        ("chat", {"n": 0}, "n"),
        ("chat", {"max_tokens": 0}, "max_tokens"),
        ("chat", {"max_completion_tokens": 0}, "max_completion_tokens"),
        ("chat", {"frequency_penalty": 3}, "frequency_penalty"),
        ("chat", {"presence_penalty": -3}, "presence_penalty"),
        ("chat", {"top_logprobs": 21}, "top_logprobs"),
        ("chat", {"logit_bias": {"5": 101}}, "logit_bias"),
        ("chat", {"tools": [{}]}, "tools[0].type"),
        ("chat", {"tools": [{"type": "function"}]}, "tools[0].function"),
        ("chat", {"response_format": {}}, "response_format.type"),
        ("completions", {"temperature": -1}, "temperature"),
        ("completions", {"top_p": 2}, "top_p"),
        ("completions", {"n": 0}, "n"),
        ("completions", {"max_tokens": -1}, "max_tokens"),
        ("completions", {"logprobs": 6}, "logprobs"),
        ("completions", {"best_of": 0}, "best_of"),
    ],
)
def test_ranges_hold_on_the_other_endpoints(api: Api, endpoint: str, members: dict[str, Any], param: str) -> None:
    assert api.refused(endpoint, **members)["param"] == param


@pytest.mark.row("S30", "S49")
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_whose_last_message_was_cut_is_incomplete_whatever_its_status(stream: bool) -> None:
    part = {"type": "output_text", "text": "ebb", "annotations": []}
    whole = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    usage: dict[str, Any] = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    usage["input_tokens_details"] = {"cached_tokens": 0, "cache_write_tokens": 0}
    usage["output_tokens_details"] = {"reasoning_tokens": 0}
    output = [whole, {**whole, "id": "msg_2", "status": "incomplete"}]
    answer = {**BARE, "model": "m", "output": output, "usage": usage}
    said = sse_answer({"type": "response.completed", "response": answer}) if stream else json_answer(answer)
    with Canned(said) as provider, Running(f"[server]\nport = 0\n{provider.toml()}") as gateway, Api(gateway) as api:
        reply = api.ask("responses", "canned/m", stream=stream)
    end = reply.events[-1]["response"] if stream else reply.json
    assert (end["status"], end["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert end["completed_at"] is None
    assert not stream or reply.kinds[-1] == "response.incomplete"


@pytest.mark.row("S31")
@pytest.mark.parametrize("provider", ["sim", "openai"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("chunks", [1, 3, 26])
def test_a_stop_sequence_is_found_however_the_answer_is_split(
    api: Api, provider: str, stream: bool, chunks: int
) -> None:
    """`openai` has no such parameter on Responses: there the gateway cuts."""
    said = "before the END of it after"
    for stop in ("END of it", ["nowhere", "END of it"]):
        reply = api.ask("responses", f"{provider}/echo?chunks={chunks}", say=said, stop=stop, stream=stream)
        assert (reply.status, reply.text) == (200, "before the ")
    near = api.ask("responses", f"{provider}/echo?chunks={chunks}", say="before the END of", stop="END of it")
    assert near.text == "before the END of"


LENIENT = """
[server]
port = 0
[providers.narrow]
kind = "sim"
base_url = "{sim}"
[providers.narrow.refuses]
responses = ["user", "temperature", "n"]
[models.lenient]
target = "narrow/echo"
unsupported = "drop"
"""


@pytest.mark.row("S42")
@pytest.mark.parametrize("stream", [False, True])
def test_where_it_is_allowed_all_that_is_dropped_is_named_in_a_header(stream: bool) -> None:
    with Running(LENIENT) as gateway, Api(gateway) as api:
        asked: dict[str, Any] = {"user": "customer-17", "temperature": 0.5, "n": 2, "top_p": 0.5}
        reply = api.ask("responses", "lenient", stream=stream, **asked)
        assert reply.status == 200
        assert reply.headers["tidegate-dropped"] == "user, temperature, n"
        assert {name: api.sent.get(name, ...) for name in asked} == {
            "user": ...,
            "temperature": ...,
            "n": ...,
            "top_p": 0.5,
        }
        assert "tidegate-dropped" not in api.ask("responses", "lenient", stream=stream, top_p=0.5).headers
        check_refusal(api, "narrow", "temperature", 0.5)


BRIDGED = """
[server]
port = 0
[providers.openai]
base_url = "{sim}"
speaks = ["responses"]
credentials = ["sk-upstream-0123456789abcdef0123456789"]
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
[providers.google]
kind = "gemini"
base_url = "{sim}beta"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
"""


@pytest.fixture(scope="module")
def bridged() -> Iterator[Api]:
    """A gateway with a provider of each dialect that has sampling for all of its models."""
    with Running(BRIDGED) as gateway, Api(gateway) as client:
        yield client


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("temperature", marks=pytest.mark.row("S26")),
        pytest.param("top_p", marks=pytest.mark.row("S27")),
    ],
)
@pytest.mark.parametrize("value", [0, 0.5, 1])
@pytest.mark.parametrize(
    ("endpoint", "provider"),
    [(client, one) for client in ENDPOINTS for one in ("openai", "lab", "google")],
)
def test_sampling_reaches_providers_of_every_dialect_also_when_it_is_nothing(
    bridged: Api, endpoint: str, provider: str, name: str, value: float
) -> None:
    members: dict[str, Any] = {name: value}
    reply = bridged.ask(endpoint, f"{provider}/echo", say="ebb", **members)
    assert (reply.status, reply.text) == (200, "ebb")
    assert "tidegate-dropped" not in reply.headers
    told = bridged.sent["generationConfig"] if provider == "google" else bridged.sent
    assert told["topP" if provider == "google" and name == "top_p" else name] == value
