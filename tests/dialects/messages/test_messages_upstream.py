"""A canonical request as the body for a provider that speaks the Messages API."""

import json
from typing import Any

import pytest

from tests.dialects.messages.streams import destination
from tidegate.dialects.codec import Losses
from tidegate.dialects.dialect import Destination, Traits
from tidegate.dialects.messages import MessagesDialect, MessagesUpstream
from tidegate.providers.anthropic import ANTHROPIC
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, UnsupportedParameter
from tidegate.wire.events import Seal
from tidegate.wire.items import (
    AudioPart,
    CanonicalRequest,
    FilePart,
    FunctionCall,
    FunctionOutput,
    HostedTool,
    ImagePart,
    Item,
    Message,
    OpaqueItem,
    OpaquePart,
    OutputFormat,
    Part,
    Reasoning,
    RefusalPart,
    Role,
    TextPart,
    Tool,
    ToolChoice,
)

NAMES = {
    "items": "input",
    "effort": "reasoning.effort",
    "format": "text.format",
    "max_output_tokens": "max_output_tokens",
}


def claude(model: str, **members: Any) -> Destination:
    """Anthropic's own, as the provider record has it."""
    return destination(
        provider="anthropic",
        model=model,
        traits=ANTHROPIC.traits_of(model),
        max_output_tokens=ANTHROPIC.max_output_of(model),
        **members,
    )


OLD = claude("claude-sonnet-4-5")
MIDDLE = claude("claude-opus-4-6")
NEW = claude("claude-opus-4-8")


def user(text: str = "hi", **members: Any) -> Message:
    return says("user", TextPart(text=text, **members))


def says(role: Role, *parts: Part) -> Message:
    return Message(role=role, content=list(parts))


def words(role: Role, text: str) -> Message:
    return says(role, TextPart(text=text))


def call(call_id: str, name: str = "f", arguments: str = "{}", **members: Any) -> FunctionCall:
    return FunctionCall(call_id=call_id, name=name, arguments=arguments, **members)


def result(call_id: str, text: str = "ok", **members: Any) -> FunctionOutput:
    return FunctionOutput(call_id=call_id, content=[TextPart(text=text)], **members)


def request(*items: Item, **members: Any) -> CanonicalRequest:
    return CanonicalRequest(model="m", items=list(items) or [user()], **{"names": NAMES, **members})


def encode(
    asked: CanonicalRequest, to: Destination = OLD, *, allowed: bool = False
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body, checked by reading it as a client's, and what was left out."""
    losses = Losses(asked, to, allowed=allowed)
    body = MessagesUpstream().encode_request(asked, to, losses)
    losses.check()
    MessagesDialect().parse(body)
    return json.loads(body), tuple(losses.dropped)


def sent(asked: CanonicalRequest, to: Destination = OLD) -> dict[str, Any]:
    body, dropped = encode(asked, to)
    assert dropped == ()
    return body


def refused(asked: CanonicalRequest, to: Destination = OLD) -> str:
    """The parameter that the 400 names; with losses allowed, it is dropped and named as well."""
    with pytest.raises(UnsupportedParameter) as found:
        encode(asked, to)
    assert found.value.param is not None
    _, dropped = encode(asked, to, allowed=True)
    assert found.value.param in dropped
    return found.value.param


TOOL = Tool(name="f", parameters=jsonio.raw({"type": "object"}))


# -- the limit --------------------------------------------------------------------------------------------------


def test_every_request_has_a_limit() -> None:
    assert sent(request(max_output_tokens=5))["max_tokens"] == 5
    assert sent(request(), OLD)["max_tokens"] == 64_000
    assert sent(request(), destination())["max_tokens"] == 8192


def test_a_plain_question() -> None:
    assert sent(request(instructions="be brief", stream=True)) == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 64_000,
        "system": "be brief",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }


# -- turns ------------------------------------------------------------------------------------------------------


def test_leading_system_messages_are_the_system_prompt() -> None:
    body = sent(request(words("system", "b"), words("developer", "c"), user(), instructions="a"))
    assert [block["text"] for block in body["system"]] == ["a", "b", "c"]
    assert [message["role"] for message in body["messages"]] == ["user"]


def test_a_later_system_message_is_hoisted_and_said_to_be() -> None:
    body, dropped = encode(request(user(), words("assistant", "a"), words("developer", "b"), user()))
    assert body["system"] == "b"
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert dropped == ("input[].role",)


def test_a_later_system_message_stays_where_the_model_takes_it() -> None:
    body = sent(request(user(), words("developer", "b"), words("assistant", "a"), user(), words("system", "c")), NEW)
    assert [message["role"] for message in body["messages"]] == ["user", "system", "assistant", "user", "system"]


def test_neighbours_of_one_role_are_one_message() -> None:
    body = sent(request(user("a"), user("b"), words("assistant", "c"), words("assistant", "d"), user("e")))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert [block["text"] for block in body["messages"][0]["content"]] == ["a", "b"]


def test_parallel_calls_are_one_message_and_so_are_their_results() -> None:
    body = sent(
        request(
            user(),
            words("assistant", "I look."),
            call("a", arguments='{"x": 1.50}'),
            call("b"),
            result("b", "2"),
            result("a", "1", is_error=True),
            user("go on"),
            tools=[TOOL],
        )
    )
    _, step, results = body["messages"]
    assert [block["type"] for block in step["content"]] == ["text", "tool_use", "tool_use"]
    assert step["content"][1]["input"] == {"x": 1.5}
    assert results["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True},
        {"type": "tool_result", "tool_use_id": "b", "content": "2"},
        {"type": "text", "text": "go on"},
    ]


def test_results_stand_first_even_when_something_was_said_between() -> None:
    body = sent(request(user(), call("a"), user("wait"), words("assistant", "yes?"), result("a"), tools=[TOOL]))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [block["type"] for block in body["messages"][2]["content"]] == ["tool_result", "text"]


def test_words_behind_a_call_stand_before_it() -> None:
    """Other APIs have them there; this one answers 400 unless the calls are the last of a message."""
    body = sent(
        request(
            user(),
            words("assistant", "first"),
            call("a"),
            words("assistant", "second"),
            call("b"),
            words("assistant", "third"),
            result("a", "1"),
            result("b", "2"),
            words("assistant", "fourth"),
            user("go on"),
            tools=[TOOL],
        )
    )
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    step = body["messages"][1]["content"]
    assert [block.get("text", block.get("id")) for block in step] == ["first", "second", "third", "a", "b"]
    assert body["messages"][3]["content"] == "fourth"


def test_a_call_without_result_is_named() -> None:
    with pytest.raises(InvalidRequest, match="No tool output found for function call a") as found:
        encode(request(user(), call("a"), user("well?"), tools=[TOOL]))
    assert found.value.param == "input"


def test_a_result_without_call_is_named() -> None:
    with pytest.raises(InvalidRequest, match="call_id b") as found:
        encode(request(user(), call("a"), result("a"), result("b"), tools=[TOOL]))
    assert found.value.param == "input"


def test_ids_that_repeat_are_told_apart() -> None:
    body = sent(request(user(), call("0"), result("0", "x"), call("0"), result("0", "y"), tools=[TOOL]))
    first, second = body["messages"][2]["content"][0], body["messages"][4]["content"][0]
    assert (first["content"], second["content"]) == ("x", "y")
    assert first["tool_use_id"] != second["tool_use_id"]
    assert body["messages"][3]["content"][0]["id"] == second["tool_use_id"]


def test_ids_are_written_in_letters_that_the_api_takes() -> None:
    body = sent(request(user(), call("functions.f:0"), result("functions.f:0"), tools=[TOOL]))
    assert (
        body["messages"][1]["content"][0]["id"] == body["messages"][2]["content"][0]["tool_use_id"] == "functions_f_0"
    )


@pytest.mark.parametrize(
    ("arguments", "given"),
    [("", {}), ("{}", {}), ('{"a":[1]}', {"a": [1]}), ("[1]", {"_raw": "[1]"}), ('{"a', {"_raw": '{"a'})],
)
def test_arguments_are_an_object(arguments: str, given: dict[str, Any]) -> None:
    body = sent(request(user(), call("a", arguments=arguments), result("a"), tools=[TOOL]))
    assert body["messages"][1]["content"][0]["input"] == given


def test_a_history_with_calls_brings_their_tools() -> None:
    body = sent(request(user(), call("a", "g"), result("a")))
    assert body["tools"] == [{"name": "g", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


def test_what_the_api_refuses_at_the_edges_is_mended() -> None:
    body = sent(request(user(), says("user", TextPart(text="")), words("assistant", "so \n")))
    assert body["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]


@pytest.mark.parametrize("before", [[], [words("assistant", "so")]], ids=["alone", "behind a text"])
def test_a_thought_at_the_end_of_a_turn_is_left_out_and_named(before: list[Item]) -> None:
    seal = Seal(kind="signature", data="s", text="t")
    body, dropped = encode(request(user(), *before, Reasoning(seal=seal), user("more")))
    assert "thinking" not in json.dumps(body)
    assert dropped == ("reasoning_items",)


@pytest.mark.parametrize(
    ("instructions", "given", "system", "question", "named"),
    [
        ("", ["be brief"], None, "be brief", "input[].role"),
        ("be kind", ["be brief"], "be kind", "be brief", "input[].role"),
        ("say the tide", [], None, "say the tide", "instructions"),
        ("say the tide", [" "], None, "say the tide", "instructions"),
    ],
)
def test_the_last_of_instructions_without_a_question_is_the_question(
    instructions: str, given: list[str], system: str | None, question: str, named: str
) -> None:
    asked = request(instructions=instructions)
    asked.items = [words("system", one) for one in given]
    body, dropped = encode(asked)
    assert (body.get("system"), body["messages"]) == (system, [{"role": "user", "content": question}])
    assert dropped == (named,)


def test_a_request_without_any_words_is_refused() -> None:
    with pytest.raises(InvalidRequest) as found:
        encode(request(words("system", " ")))
    assert found.value.param == "input"


def test_instructions_with_an_image_are_refused() -> None:
    said = says("system", TextPart(text="x"), ImagePart(url="https://a.example/a.png"))
    assert refused(request(said, user())) == "input"


def test_what_a_format_is_for_stands_in_its_schema() -> None:
    form = OutputFormat(type="json_schema", name="n", description="the tide", schema=jsonio.raw({"type": "object"}))
    body = sent(request(format=form), NEW)
    schema = {"description": "the tide", "type": "object"}
    assert body["output_config"]["format"] == {"type": "json_schema", "schema": schema}


def test_refusals_of_the_past_are_text() -> None:
    body = sent(request(user(), says("assistant", RefusalPart(refusal="no")), user()))
    assert body["messages"][1]["content"] == "no"


# -- reasoning --------------------------------------------------------------------------------------------------


def test_sealed_blocks_come_back_byte_for_byte_before_their_call() -> None:
    body = sent(
        request(
            user(),
            Reasoning(summary=["rewritten"], seal=Seal(kind="signature", data="c2ln", text="let me\tsee 潮")),
            Reasoning(seal=Seal(kind="redacted", data="b3A=")),
            call("a"),
            result("a"),
            tools=[TOOL],
        )
    )
    assert body["messages"][1]["content"][:2] == [
        {"type": "thinking", "thinking": "let me\tsee 潮", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3A="},
    ]
    assert body["messages"][1]["content"][2]["type"] == "tool_use"


@pytest.mark.parametrize(
    "seal",
    [None, Seal(kind="encrypted", data="x"), Seal(kind="thought_signature", data="x"), Seal(kind="signature", data="")],
)
def test_reasoning_of_others_is_never_signed(seal: Seal | None) -> None:
    body, dropped = encode(request(user(), Reasoning(summary=["hm"], seal=seal), words("assistant", "a"), user()))
    assert body["messages"][1] == {"role": "assistant", "content": "a"}
    assert dropped == ("reasoning_items",)


def test_blocks_of_server_tools_come_back_as_they_were() -> None:
    blocks = [{"type": "server_tool_use", "id": "s"}, {"type": "web_search_tool_result", "tool_use_id": "s"}]
    item = OpaqueItem(type="web_search_call", value=jsonio.raw({"type": "web_search_call", "anthropic_blocks": blocks}))
    body = sent(request(user(), item, words("assistant", "a"), user()))
    assert body["messages"][1]["content"] == [*blocks, {"type": "text", "text": "a"}]


def test_items_of_other_apis_are_refused() -> None:
    item = OpaqueItem(type="shell_call", value=jsonio.raw({"type": "shell_call"}))
    assert refused(request(user(), item, user())) == "input"


def test_what_a_provider_ran_itself_is_left_out_of_a_history_and_named() -> None:
    item = OpaqueItem(type="code_interpreter_call", value=jsonio.raw({"type": "code_interpreter_call"}))
    assert encode(request(user(), item, user()))[1] == ("input[].code_interpreter_call",)


@pytest.mark.parametrize(
    ("effort", "to", "thinking", "level"),
    [
        ("low", OLD, {"type": "enabled", "budget_tokens": 2048}, None),
        ("high", OLD, {"type": "enabled", "budget_tokens": 16384}, None),
        ("none", OLD, {"type": "disabled"}, None),
        ("", OLD, None, None),
        ("minimal", NEW, {"type": "adaptive"}, "low"),
        ("high", NEW, {"type": "adaptive"}, "high"),
        ("xhigh", MIDDLE, {"type": "adaptive"}, "max"),
        ("xhigh", NEW, {"type": "adaptive"}, "xhigh"),
        ("none", NEW, {"type": "disabled"}, None),
        ("max", claude("claude-opus-4-5"), {"type": "enabled", "budget_tokens": 32000}, "high"),
    ],
)
def test_effort(effort: str, to: Destination, thinking: dict[str, Any] | None, level: str | None) -> None:
    body, dropped = encode(request(effort=effort), to)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == level
    assert dropped == (() if level in (None, effort) else ("reasoning.effort",)), "the nearest one is not the same"


def test_how_much_is_told_of_a_thought_is_named() -> None:
    _, dropped = encode(request(effort="low", reasoning_summary="detailed"), NEW)
    assert dropped == ("reasoning_summary",)


def test_a_summary_asks_for_the_text_of_thoughts() -> None:
    body = sent(request(effort="low", reasoning_summary="auto"), NEW)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    body, dropped = encode(request(reasoning_summary="auto"), OLD)
    assert ("thinking" in body, dropped) == (False, ("reasoning_summary",))


def test_thoughts_are_asked_for_where_the_client_has_no_word_for_it() -> None:
    always = claude("claude-fable-5")
    told = {"type": "adaptive", "display": "summarized"}
    assert sent(request(effort="low", shows_thoughts=True), NEW)["thinking"] == told
    assert sent(request(shows_thoughts=True), always)["thinking"] == told
    assert encode(request(effort="none", shows_thoughts=True), always)[0]["thinking"] == {"type": "adaptive"}
    for to in (NEW, OLD):
        assert "thinking" not in sent(request(shows_thoughts=True), to)
    forced = request(tools=[TOOL], tool_choice=ToolChoice(mode="required"), shows_thoughts=True)
    assert "thinking" not in sent(forced, always)


def test_models_that_always_think_do_the_least_and_say_so() -> None:
    body, dropped = encode(request(effort="none"), claude("claude-fable-5"))
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})
    assert dropped == ("reasoning.effort",)


def test_models_that_do_not_think_leave_the_effort_out_and_say_so() -> None:
    body, dropped = encode(request(effort="high"), claude("claude-3-5-haiku-20241022"))
    assert "thinking" not in body
    assert dropped == ("reasoning.effort",)


def test_a_budget_leaves_room_for_the_answer() -> None:
    body = sent(request(effort="high", max_output_tokens=4000))
    assert body["thinking"]["budget_tokens"] == 3200
    body, dropped = encode(request(effort="high", max_output_tokens=1000))
    assert "thinking" not in body
    assert dropped == ("reasoning.effort",)


def test_a_budget_of_the_client_is_kept_where_there_are_budgets() -> None:
    assert sent(request(reasoning_budget=5000))["thinking"]["budget_tokens"] == 5000
    assert sent(request(reasoning_budget=0))["thinking"] == {"type": "disabled"}
    body, dropped = encode(request(reasoning_budget=5000), NEW)
    assert (body["output_config"]["effort"], dropped) == ("medium", ("reasoning_budget",))


def test_a_wish_to_think_is_the_usual_thinking_or_has_a_name() -> None:
    assert sent(request(reasons=True))["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    body = sent(request(reasons=True), NEW)
    assert (body["thinking"], "output_config" in body) == ({"type": "adaptive"}, False)
    names = {"reasons": "enable_thinking"}
    never = claude("claude-3-5-haiku-20241022")
    assert encode(request(reasons=True, names=names), never)[1] == ("enable_thinking",)
    forced = request(reasons=True, names=names, tools=[TOOL], tool_choice=ToolChoice(mode="required"))
    for to in (OLD, NEW):
        assert encode(forced, to)[1] == ("enable_thinking",)


def test_a_breakpoint_within_a_result_marks_the_result() -> None:
    marked = FunctionOutput(call_id="a", content=[TextPart(text="ok", breakpoint=True)])
    (block,) = sent(request(user(), call("a"), marked, tools=[TOOL]))["messages"][-1]["content"]
    assert block == {
        "type": "tool_result",
        "tool_use_id": "a",
        "cache_control": {"type": "ephemeral"},
        "content": "ok",
    }


def test_a_step_whose_thoughts_are_gone_goes_on_without() -> None:
    body, dropped = encode(request(user(), call("a"), result("a"), tools=[TOOL], effort="high"))
    assert "thinking" not in body
    assert dropped == ("reasoning.effort",)


def test_a_forced_call_comes_without_thinking() -> None:
    choice = ToolChoice(mode="required")
    for more, names in (
        ({"effort": "high"}, {"reasoning.effort"}),
        ({"effort": "high", "reasoning_summary": "auto"}, {"reasoning.effort", "reasoning.summary"}),
        ({"reasoning_summary": "auto"}, {"reasoning.summary"}),
        ({"reasoning_budget": 5000, "reasoning_summary": "auto"}, {"reasoning_budget", "reasoning.summary"}),
        ({"effort": "none", "reasoning_summary": "auto"}, set()),
    ):
        names_of_all = {**NAMES, "reasoning_summary": "reasoning.summary"}
        asked = request(tools=[TOOL], tool_choice=choice, names=names_of_all, **more)
        body, dropped = encode(asked, NEW)
        assert (body["thinking"], set(dropped)) == ({"type": "disabled"}, names)
        body, dropped = encode(asked, OLD)
        assert (body.get("thinking", {"type": "disabled"}), set(dropped)) == ({"type": "disabled"}, names)


def test_a_summary_of_thoughts_that_a_forced_call_keeps_back_is_named() -> None:
    always = claude("claude-opus-5-5")
    asked = request(tools=[TOOL], tool_choice=ToolChoice(mode="required"), reasoning_summary="auto")
    body, dropped = encode(asked, always)
    assert ("thinking" in body, dropped) == (False, ("reasoning_summary",))


# -- sampling ---------------------------------------------------------------------------------------------------


def test_sampling() -> None:
    body = sent(request(temperature=0.3, top_k=5))
    assert (body["temperature"], body["top_k"]) == (0.3, 5)
    assert refused(request(temperature=1.5)) == "temperature"


@pytest.mark.parametrize(
    ("model", "one"),
    [
        ("claude-3-5-sonnet-20241022", False),
        ("claude-3-7-sonnet-20250219", False),
        ("claude-opus-4-20250514", False),
        ("claude-opus-4-1-20250805", True),
        ("claude-sonnet-4-5", True),
        ("claude-haiku-4-5-20251001", True),
        ("claude-opus-4-5-20251101", True),
        ("claude-sonnet-4-6", True),
        ("glm-5", False),
    ],
)
def test_some_models_take_a_temperature_or_a_top_p_but_not_both(model: str, one: bool) -> None:
    to, both = claude(model), request(temperature=0.3, top_p=0.9)
    for alone in ({"temperature": 0.3, "top_p": 1.0}, {"temperature": 1.0, "top_p": 0.9}):
        assert {"temperature", "top_p"} & sent(request(**alone), to).keys() == {n for n, v in alone.items() if v < 1}
    if not one:
        assert (sent(both, to)["temperature"], sent(both, to)["top_p"]) == (0.3, 0.9)
        return
    with pytest.raises(UnsupportedParameter, match=r"'top_p' is not supported .* or a temperature") as caught:
        encode(both, to)
    assert caught.value.param == "top_p"
    body, dropped = encode(both, to, allowed=True)
    assert (body["temperature"], "top_p" in body, dropped) == (0.3, False, ("top_p",))


def test_the_default_temperature_says_nothing() -> None:
    assert "temperature" not in sent(request(temperature=1.0), NEW)
    assert refused(request(temperature=0.5), NEW) == "temperature"


def test_thinking_has_no_temperature() -> None:
    body, dropped = encode(request(temperature=0.5, top_k=3, top_p=0.5, effort="high"))
    assert not {"temperature", "top_k", "top_p"} & body.keys()
    assert dropped == ("temperature", "top_k", "top_p")


@pytest.mark.parametrize(
    "members",
    [
        {"n": 2},
        {"seed": 1},
        {"frequency_penalty": 0.5},
        {"presence_penalty": 0.5},
        {"top_logprobs": 0},
        {"logit_bias": jsonio.raw({"1": 2})},
        {"stop": ("\n",)},
    ],
)
def test_what_the_api_has_not_is_refused_by_name(members: dict[str, Any]) -> None:
    assert refused(request(**members)) == next(iter(members))


def test_defaults_of_what_it_has_not_say_nothing() -> None:
    sent(request(n=1, frequency_penalty=0.0, presence_penalty=0.0, logit_bias=jsonio.raw({}), verbosity="medium"))


def test_what_changes_no_answer_is_left_out_and_named() -> None:
    _, dropped = encode(request(verbosity="low", metadata={"a": "b"}, service_tier="flex", hints=("x",)))
    assert dropped == ("x", "verbosity", "metadata", "service_tier")


def test_user_tier_and_stops() -> None:
    body = sent(request(user="u", safety_identifier="s", service_tier="default", stop=("a", "b")))
    assert body["metadata"] == {"user_id": "s"}
    assert body["service_tier"] == "standard_only"
    assert body["stop_sequences"] == ["a", "b"]


def test_what_the_deployment_refuses_is_refused() -> None:
    to = destination(refuses=frozenset({"top_k", "metadata"}))
    assert refused(request(top_k=2), to) == "top_k"


# -- content ----------------------------------------------------------------------------------------------------


def test_images_and_documents() -> None:
    parts: list[Part] = [
        ImagePart(url="data:image/png;base64,aGk="),
        ImagePart(url="https://a/b.png"),
        FilePart(data="data:application/pdf;base64,aGk=", filename="a.pdf"),
        FilePart(data="data:text/plain;base64,5r2u"),
        FilePart(url="https://a/b.pdf"),
        FilePart(text="words"),
    ]
    body = sent(request(Message(role="user", content=parts)))
    assert body["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "潮"}},
        {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
    ]


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(file_id="file-1"),
        ImagePart(url="data:image/tiff;base64,aGk="),
        FilePart(file_id="file-1"),
        FilePart(data="data:application/zip;base64,aGk="),
        AudioPart(data="aGk=", format="wav"),
        OpaquePart(type="foam", value=jsonio.raw({})),
    ],
)
def test_what_it_cannot_see_is_refused(part: Part) -> None:
    assert refused(request(says("user", TextPart(text="x"), part))) == "input"


@pytest.mark.parametrize("part", [ImagePart(url="data:image/png,x"), FilePart(data="data:text/plain;base64,*")])
def test_broken_data_is_invalid(part: Part) -> None:
    with pytest.raises(InvalidRequest):
        encode(request(says("user", part)))


def test_a_result_may_have_an_image() -> None:
    output = FunctionOutput(call_id="a", content=[TextPart(text="see"), ImagePart(url="https://i")])
    body = sent(request(user(), call("a"), output, tools=[TOOL]))
    assert [block["type"] for block in body["messages"][2]["content"][0]["content"]] == ["text", "image"]


def test_an_empty_result_is_a_result() -> None:
    body = sent(request(user(), call("a"), FunctionOutput(call_id="a", content=[]), tools=[TOOL]))
    assert body["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "a"}]


def test_breakpoints_mark_their_blocks_and_four_at_most() -> None:
    marked = [user(str(n), breakpoint=True) for n in range(3)]
    body = sent(request(*marked, tools=[Tool(name="f", breakpoint=True)]))
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral"}
    assert all("cache_control" in block for block in body["messages"][0]["content"])
    body, dropped = encode(request(*marked, user("3", breakpoint=True), tools=[Tool(name="f", breakpoint=True)]))
    assert "cache_control" not in body["tools"][0]
    assert dropped == ("breakpoint",)


def test_a_cache_key_without_breakpoints_caches_the_whole_prefix() -> None:
    assert sent(request(prompt_cache_key="k"))["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in sent(request(user(breakpoint=True), prompt_cache_key="k"))
    assert "cache_control" not in sent(request())


# -- tools ------------------------------------------------------------------------------------------------------


def test_tools() -> None:
    schema = jsonio.raw({"properties": {"b": {}, "a": {}}})
    tools: list[Tool | HostedTool] = [
        Tool(name="f", description="d", parameters=schema, strict=True),
        Tool(name="g", strict=False),
        Tool(name="p", description="patch", custom=True, format=jsonio.raw({"type": "grammar", "syntax": "lark"})),
        HostedTool(
            type="web_search", value=jsonio.raw({"type": "web_search", "filters": {"allowed_domains": ["a.b"]}})
        ),
        HostedTool(type="code_execution_20250825", value=jsonio.raw({"type": "code_execution_20250825", "name": "c"})),
    ]
    body, dropped = encode(request(tools=tools))
    assert dropped == ("grammar",)
    f, g, p, search, code = body["tools"]
    assert f == {
        "name": "f",
        "description": "d",
        "input_schema": {"type": "object", "properties": {"b": {}, "a": {}}},
        "strict": True,
    }
    assert g == {"name": "g", "input_schema": {"type": "object"}}
    assert p["input_schema"]["required"] == ["input"]
    assert "lark" in p["description"]
    assert search == {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.b"]}
    assert code == {"type": "code_execution_20250825", "name": "c"}


def test_a_search_of_the_web_keeps_what_the_api_has_of_it() -> None:
    value = {
        "type": "web_search",
        "filters": {"blocked_domains": ["a.b"]},
        "user_location": {"type": "approximate", "city": "Kiel"},
        "search_context_size": "low",
        "external_web_access": True,
    }
    body, dropped = encode(request(tools=[HostedTool(type="web_search", value=jsonio.raw(value))]))
    assert body["tools"] == [
        {
            "type": "web_search_20250305",
            "name": "web_search",
            "blocked_domains": ["a.b"],
            "user_location": {"type": "approximate", "city": "Kiel"},
        }
    ]
    assert dropped == ("tools[].search_context_size",)
    value["filters"] = {"blocked_domains": ["a.b"], "allowed_domains": ["c.d"]}
    both = request(tools=[HostedTool(type="web_search_preview", value=jsonio.raw(value))])
    assert refused(both) == "tools[].filters.blocked_domains"
    google = HostedTool(type="googleSearch", value=jsonio.raw({"googleSearch": {"timeRangeFilter": {}}}))
    assert refused(request(tools=[google])) == "tools[].googleSearch.timeRangeFilter"


def test_a_search_of_the_past_that_is_not_anthropics_is_left_out() -> None:
    item = OpaqueItem(type="web_search_call", value=jsonio.raw({"type": "web_search_call", "id": "ws_1"}))
    body, dropped = encode(request(user("a"), item, words("assistant", "b"), user("c")))
    assert [message["content"] for message in body["messages"]] == ["a", "b", "c"]
    assert dropped == ("web_search_call",)


def test_a_custom_tool_of_plain_text_has_nothing_to_be_told_of_its_format() -> None:
    tool = Tool(name="p", description="patch", custom=True, format=jsonio.raw({"type": "text"}))
    assert sent(request(tools=[tool]))["tools"][0]["description"] == "patch"


def test_other_hosted_tools_are_refused() -> None:
    tool = HostedTool(type="file_search", value=jsonio.raw({"type": "file_search"}))
    with pytest.raises(UnsupportedParameter) as found:
        encode(request(tools=[tool]))
    assert found.value.param == "tools"
    assert encode(request(tools=[tool]), allowed=True)[1] == ("tools.file_search",)


@pytest.mark.parametrize(
    ("choice", "sent_choice", "names"),
    [
        (ToolChoice(mode="auto"), {"type": "auto"}, ["f", "g"]),
        (ToolChoice(mode="none"), {"type": "none"}, ["f", "g"]),
        (ToolChoice(mode="required"), {"type": "any"}, ["f", "g"]),
        (ToolChoice(mode="function", names=("g",)), {"type": "tool", "name": "g"}, ["f", "g"]),
        (ToolChoice(mode="allowed", names=("g",)), {"type": "auto"}, ["g"]),
        (ToolChoice(mode="allowed", names=("g",), required=True), {"type": "any"}, ["g"]),
    ],
)
def test_choices(choice: ToolChoice, sent_choice: dict[str, Any], names: list[str]) -> None:
    body = sent(request(tools=[TOOL, Tool(name="g")], tool_choice=choice))
    assert body["tool_choice"] == sent_choice
    assert [tool["name"] for tool in body["tools"]] == names


def test_one_call_at_a_time() -> None:
    body = sent(request(tools=[TOOL], parallel_tool_calls=False))
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert "tool_choice" not in sent(request(tools=[TOOL], parallel_tool_calls=True))
    assert "tool_choice" not in sent(request(parallel_tool_calls=False))


def test_a_choice_needs_tools() -> None:
    assert "tool_choice" not in sent(request(tool_choice=ToolChoice(mode="auto")))
    assert refused(request(tool_choice=ToolChoice(mode="required"))) == "tool_choice"


def test_custom_calls_of_the_past_are_wrapped() -> None:
    body = sent(
        request(
            user(),
            call("a", "p", "free text", custom=True),
            FunctionOutput(call_id="a", content=[TextPart(text="ok")], custom=True),
            tools=[Tool(name="p", custom=True)],
        )
    )
    assert body["messages"][1]["content"][0]["input"] == {"input": "free text"}


def test_output_formats() -> None:
    schema = jsonio.raw({"type": "object", "additionalProperties": False})
    form = OutputFormat(type="json_schema", name="x", schema=schema, strict=True)
    body = sent(request(format=form, effort="low"), NEW)
    assert body["output_config"] == {
        "format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}},
        "effort": "low",
    }
    assert refused(request(format=OutputFormat(type="json_object"))) == "text.format"
    assert refused(request(format=form), claude("claude-3-7-sonnet-20250219")) == "text.format"
    assert "output_config" not in sent(request(format=OutputFormat(type="text")))


# -- the provider's models --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "thinking", "most"),
    [
        ("claude-3-haiku-20240307", "none", 4_096),
        ("claude-3-5-sonnet-20241022", "none", 8_192),
        ("claude-3-7-sonnet-20250219", "budget", 64_000),
        ("claude-opus-4-20250514", "budget", 32_000),
        ("claude-sonnet-4-20250514", "budget", 64_000),
        ("claude-opus-4-1-20250805", "budget", 32_000),
        ("claude-haiku-4-5-20251001", "budget", 64_000),
        ("claude-opus-4-5-20251101", "budget", 64_000),
        ("claude-sonnet-4-6", "adaptive", 128_000),
        ("claude-opus-4-8", "adaptive", 128_000),
        ("claude-sonnet-5", "adaptive", 128_000),
        ("claude-haiku-5-5", "adaptive", 128_000),
        ("claude-opus-9", "adaptive", 128_000),
        ("eu.anthropic.claude-opus-9-v1:0", "adaptive", 128_000),
        ("glm-5", "budget", None),
    ],
)
def test_the_record_knows_the_generations(model: str, thinking: str, most: int | None) -> None:
    assert ANTHROPIC.traits_of(model).thinking == thinking
    assert ANTHROPIC.max_output_of(model) == most


def test_a_model_that_is_no_claude_takes_what_the_api_has_always_had() -> None:
    to = claude("glm-5")
    assert to.traits == Traits()
    body = sent(request(user(), temperature=0.5, top_p=0.9, top_k=3), to)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.5, 0.9, 3)
    assert claude("claude-opus-9").traits == claude("claude-opus-4-8").traits, "a Claude to come is like the newest"


@pytest.mark.parametrize(
    ("model", "always"),
    [("claude-fable-5-1", True), ("claude-mythos-5", True), ("claude-opus-5-5", True), ("claude-opus-5", False)],
)
def test_some_models_always_think(model: str, always: bool) -> None:
    assert ANTHROPIC.traits_of(model).always_thinks is always
    assert Traits().always_thinks is False


def test_the_phase_of_a_message_is_named() -> None:
    said = Message(role="assistant", content=[TextPart(text="a")], phase="commentary")
    assert encode(request(user(), said, user()))[1] == ("phase",)


def test_a_budget_says_how_much_is_thought_also_beside_an_effort() -> None:
    both = request(user(), effort="low", reasoning_budget=3000, max_output_tokens=8000)
    body, dropped = encode(both)
    assert body["thinking"]["budget_tokens"] == 3000
    assert dropped == ("reasoning.effort",)


def test_a_budget_that_has_no_room_is_cut_and_named() -> None:
    body, dropped = encode(request(user(), reasoning_budget=6000, max_output_tokens=5000))
    assert body["thinking"]["budget_tokens"] == 4000
    assert dropped == ("reasoning_budget",)


def test_calls_of_one_id_get_an_id_each_however_many_they_are() -> None:
    items: list[Item] = [Message(role="user", content=[TextPart(text="?")])]
    for turn in range(4):
        items += [
            FunctionCall(call_id="c", name="f", arguments="{}"),
            FunctionOutput(call_id="c", content=[TextPart(text=f"{turn}")]),
        ]
    body = sent(CanonicalRequest(model="m", items=items, names=NAMES))
    blocks = [block for message in body["messages"][1:] for block in message["content"]]
    assert [block["id"] for block in blocks if block["type"] == "tool_use"] == ["c", "c_2", "c_3", "c_4"]
    results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    assert results == ["c", "c_2", "c_3", "c_4"]
