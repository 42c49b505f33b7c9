"""A client's Messages request: what is refused, what goes on untouched, and what it is in canonical form."""

import json
from typing import Any

import pytest

from tests.dialects.common import call
from tests.dialects.messages.streams import destination
from tidegate.dialects.messages import MessagesDialect, MessagesRequest
from tidegate.wire.errors import InvalidRequest, UnsupportedParameter
from tidegate.wire.items import (
    FilePart,
    FunctionCall,
    FunctionOutput,
    HostedTool,
    ImagePart,
    Message,
    OpaqueItem,
    OpaquePart,
    Reasoning,
    TextPart,
    Tool,
    ToolChoice,
)

MINIMAL: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "潮汐"}]}


def body(**members: Any) -> bytes:
    given = {**MINIMAL, **members}
    return json.dumps({name: value for name, value in given.items() if value is not ...}, ensure_ascii=False).encode()


def parse(**members: Any) -> MessagesRequest:
    return MessagesDialect().parse(body(**members))


def said(role: str, *blocks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": list(blocks)}]


def text(value: str, **members: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **members}


# -- validation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": ...}, "messages"),
        ({"messages": []}, "messages"),
        ({"max_tokens": ...}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": said("user", {"type": "text"})}, "messages[0].content[0].text"),
        ({"messages": said("user", {"type": "image"})}, "messages[0].content[0].source"),
        (
            {"messages": said("user", {"type": "image", "source": {"type": "base64", "data": "x"}})},
            "messages[0].content[0].source.media_type",
        ),
        ({"messages": said("user", {"type": "tool_result"})}, "messages[0].content[0].tool_use_id"),
        ({"messages": said("assistant", {"type": "tool_use", "id": "a", "name": "f"})}, "messages[0].content[0].input"),
        ({"messages": said("assistant", {"type": "thinking", "thinking": "x"})}, "messages[0].content[0].signature"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "required"}}, "tool_choice.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"system": [{"type": "text"}]}, "system[0].text"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_is_wrong_is_named(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as found:
        parse(**members)
    assert found.value.param == param
    assert param in found.value.message


@pytest.mark.parametrize("bad", [b"", b"{", b"[]", b'{"messages":"\xff"}'])
def test_what_is_no_object_is_refused(bad: bytes) -> None:
    with pytest.raises(InvalidRequest):
        MessagesDialect().parse(bad)


def test_surface() -> None:
    request = parse(stream=True, metadata={"user_id": "u1"})
    assert (request.model, request.stream, request.wants_stream, request.end_user) == ("m", True, True, "u1")


# -- the same dialect -------------------------------------------------------------------------------------------


def test_only_model_and_stream_are_replaced() -> None:
    given = body(
        system=[text("潮", cache_control={"type": "ephemeral", "ttl": "1h"})],
        betas=["x"],
        context_management={"edits": []},
        thinking={"type": "adaptive", "display": "omitted"},
        messages=[
            *said("user", text("a")),
            *said("assistant", {"type": "foam", "height": 1.0e-3, "content": 3}),
            *said("system", text("now")),
            *said("user", {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference"}]}),
        ],
    )
    sent = json.loads(MessagesDialect().parse(given).forward(destination(model="claude-y")))
    assert sent == {**json.loads(given), "model": "claude-y", "stream": False}


def test_numbers_and_blanks_go_on_as_they_came() -> None:
    given = body(tools=[{"name": "f", "input_schema": {"maximum": 1}}]).replace(
        b'{"maximum": 1}', b'{ "maximum" : 1.0e3}'
    )
    assert b'{ "maximum" : 1.0e3}' in MessagesDialect().parse(given).forward(destination())


def test_thoughts_that_another_provider_signed_do_not_go_to_this_one() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "tgr1_abc"},
        {"type": "redacted_thinking", "data": "tgr1_def"},
        {"type": "thinking", "thinking": "tgr1_", "signature": "c2ln"},
        text("so"),
    ]
    request = parse(
        messages=[*said("user", text("tgr1_")), *said("assistant", *blocks), *said("assistant", *blocks[:2])]
    )
    sent = json.loads(request.forward(destination()))
    assert request.dropped == ("thinking",)
    assert sent["messages"] == [*said("user", text("tgr1_")), *said("assistant", *blocks[2:])]


def test_a_missing_conversation_is_explained_for_this_endpoint() -> None:
    with pytest.raises(InvalidRequest, match="/v1/messages"):
        parse(messages=...)


def test_what_the_deployment_refuses_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedParameter) as found:
        parse(top_k=3).forward(destination(refuses=frozenset({"top_k"})))
    assert found.value.param == "top_k"


def test_a_limit_of_zero_fills_the_cache_and_goes_only_to_the_same_api() -> None:
    request = parse(max_tokens=0)
    assert json.loads(request.forward(destination()))["max_tokens"] == 0
    with pytest.raises(InvalidRequest):
        request.canonical()


# -- the canonical form -----------------------------------------------------------------------------------------


def test_plain_members() -> None:
    found = parse(
        system="be brief",
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop_sequences=["a", "b"],
        stream=True,
        metadata={"user_id": "u"},
        service_tier="standard_only",
    ).canonical()
    assert (found.instructions, found.max_output_tokens, found.temperature, found.top_p) == ("be brief", 100, 0.5, 0.9)
    assert (found.top_k, found.stop, found.stream, found.user) == (5, ("a", "b"), True, "u")
    assert found.service_tier == "default"
    assert found.items == [Message(role="user", content=[TextPart(text="潮汐")])]
    assert found.names["max_output_tokens"] == "max_tokens"


def test_system_blocks_keep_their_breakpoints() -> None:
    found = parse(system=[text("a"), text("b", cache_control={"type": "ephemeral"})]).canonical()
    assert found.items[0] == Message(role="system", content=[TextPart(text="a"), TextPart(text="b", breakpoint=True)])


def test_a_system_message_in_the_conversation_stays_where_it_is() -> None:
    found = parse(messages=[*said("user", text("a")), *said("system", text("b")), *said("assistant", text("c"))])
    assert [item.role for item in found.canonical().items if isinstance(item, Message)] == [
        "user",
        "system",
        "assistant",
    ]


def test_images_and_documents() -> None:
    found = parse(
        messages=said(
            "user",
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            {
                "type": "document",
                "title": "t.pdf",
                "context": "about",
                "citations": {"enabled": True},
                "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
            },
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
            {"type": "document", "source": {"type": "content", "content": [text("inner")]}},
            {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}},
            {"type": "search_result", "source": "https://s", "title": "S", "content": [text("hit")]},
            {"type": "foam", "height": 3},
        )
    ).canonical()
    (message,) = found.items
    assert isinstance(message, Message)
    assert message.content[:-1] == [
        ImagePart(url="data:image/png;base64,aGk="),
        ImagePart(url="https://a/b.png"),
        ImagePart(file_id="file_1"),
        TextPart(text="about"),
        FilePart(data="data:application/pdf;base64,aGk=", filename="t.pdf"),
        FilePart(text="words"),
        TextPart(text="inner"),
        FilePart(url="https://a/b.pdf"),
        TextPart(text="S\nhttps://s\n\nhit"),
    ]
    last = message.content[-1]
    assert isinstance(last, OpaquePart)
    assert (last.type, json.loads(bytes(last.value))) == ("foam", {"type": "foam", "height": 3})
    assert found.hints == ("citations",)


def test_a_breakpoint_within_a_search_result_is_one_of_its_text() -> None:
    hit = {**text("hit"), "cache_control": {"type": "ephemeral"}}
    asked = said("user", {"type": "search_result", "source": "https://s", "title": "S", "content": [hit]})
    (message,) = parse(messages=asked).canonical().items
    assert isinstance(message, Message)
    assert message.content == [TextPart(text="S\nhttps://s\n\nhit", breakpoint=True)]


def test_an_agents_step() -> None:
    found = parse(
        messages=[
            *said("user", text("weather?")),
            *said(
                "assistant",
                {"type": "thinking", "thinking": "hm", "signature": "tgr1_abc"},
                {"type": "redacted_thinking", "data": "tgr1_def"},
                text("I "),
                text("look."),
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"city": "上海", "n": 1.50}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ),
            *said(
                "user",
                {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "is_error": True,
                    "content": [text("no"), {"type": "image", "source": {"type": "url", "url": "https://i"}}],
                    "cache_control": {"type": "ephemeral"},
                },
                text("and now?"),
            ),
        ]
    ).canonical()
    assert found.items == [
        Message(role="user", content=[TextPart(text="weather?")]),
        Reasoning(summary=["hm"], encrypted="tgr1_abc"),
        Reasoning(encrypted="tgr1_def"),
        Message(role="assistant", content=[TextPart(text="I "), TextPart(text="look.")]),
        FunctionCall(call_id="t1", name="f", arguments='{"city": "上海", "n": 1.5}'),
        FunctionCall(call_id="t2", name="g", arguments="{}"),
        FunctionOutput(call_id="t1", content=[TextPart(text="sunny")]),
        FunctionOutput(
            call_id="t2",
            content=[TextPart(text="no"), ImagePart(url="https://i", breakpoint=True)],
            is_error=True,
        ),
        Message(role="user", content=[TextPart(text="and now?")]),
    ]


def test_a_broken_tool_result_is_named() -> None:
    bad = {"type": "tool_result", "tool_use_id": "t1", "content": [{"text": "no type"}]}
    with pytest.raises(InvalidRequest) as found:
        parse(messages=said("user", bad)).canonical()
    assert found.value.param is not None
    assert found.value.param.startswith("messages[0].content[0].content")


def test_blocks_of_server_tools_are_kept_as_items() -> None:
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
    (_, item) = parse(messages=[*said("user", text("a")), *said("assistant", use)]).canonical().items
    assert isinstance(item, OpaqueItem)
    assert item.type == "web_search_call"
    assert json.loads(bytes(item.value))["anthropic_blocks"] == [use]
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "x", "url": "https://a.b"}]}
    items = parse(messages=[*said("user", text("a")), *said("assistant", use, found, text("b"))]).canonical().items
    assert isinstance(items[1], OpaqueItem)
    item = json.loads(bytes(items[1].value))
    assert item["anthropic_blocks"] == [use, found]
    assert item["action"] == {"type": "search", "query": "x", "sources": [{"type": "url", "url": "https://a.b"}]}
    fetch = {**use, "name": "web_fetch"}
    (_, item) = parse(messages=[*said("user", text("a")), *said("assistant", fetch)]).canonical().items
    assert isinstance(item, OpaqueItem)
    assert item.type == "anthropic:server_tool_use"


def test_tools_that_a_client_has_found_itself_are_told() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {}}
    found = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": [{"type": "tool_reference", "tool_name": "tide"}],
    }
    items = parse(messages=[*said("user", text("a")), *said("assistant", use), *said("user", found)]).canonical().items
    assert items[-1] == FunctionOutput(call_id="t1", content=[TextPart(text="The tool 'tide' can be called now.")])


def test_tools_and_choice() -> None:
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    found = parse(
        tools=[
            {"name": "f", "description": "d", "input_schema": schema, "strict": True, "input_examples": [{}]},
            {"type": "custom", "name": "g", "input_schema": {}, "cache_control": {"type": "ephemeral"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        ],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    ).canonical()
    f, g, search = found.tools
    assert isinstance(f, Tool)
    assert (f.name, f.description, f.strict, json.loads(bytes(f.parameters))) == ("f", "d", True, schema)
    assert isinstance(g, Tool)
    assert g.breakpoint
    assert isinstance(search, HostedTool)
    assert search.type == "web_search_20250305"
    assert json.loads(bytes(search.value))["max_uses"] == 3
    assert found.tool_choice == ToolChoice(mode="required")
    assert found.parallel_tool_calls is False
    assert found.hints == ("tools[].input_examples",)


@pytest.mark.parametrize(
    ("choice", "known"),
    [
        ({"type": "auto"}, ToolChoice(mode="auto")),
        ({"type": "none"}, ToolChoice(mode="none")),
        ({"type": "tool", "name": "f"}, ToolChoice(mode="function", names=("f",))),
    ],
)
def test_choices(choice: dict[str, Any], known: ToolChoice) -> None:
    assert parse(tools=[{"name": "f", "input_schema": {}}], tool_choice=choice).canonical().tool_choice == known


def test_thinking_and_effort() -> None:
    found = parse(thinking={"type": "adaptive"}, output_config={"effort": "xhigh"}).canonical()
    assert (found.effort, found.reasoning_summary, found.reasoning_budget) == ("xhigh", "auto", None)
    found = parse(thinking={"type": "enabled", "budget_tokens": 2000, "display": "omitted"}).canonical()
    assert (found.effort, found.reasoning_summary, found.reasoning_budget) == ("", "", 2000)
    found = parse(thinking={"type": "disabled"}).canonical()
    assert (found.effort, found.names["effort"]) == ("none", "thinking")


def test_an_output_format() -> None:
    found = parse(output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}}).canonical()
    assert found.format is not None
    assert (found.format.type, json.loads(bytes(found.format.schema))) == ("json_schema", {"type": "object"})


def test_what_has_no_canonical_form_is_named() -> None:
    found = parse(
        betas=["x"],
        container="c",
        context_management={},
        cache_control={"type": "ephemeral"},
        speed=None,
        guided_json={},
        metadata={"user_id": "u", "novelty": 1},
        output_config={"effort": "low", "task_budget": 1},
        thinking={"type": "adaptive", "novelty": 1},
        tool_choice={"type": "auto", "novelty": 1},
    )
    canonical = found.canonical()
    assert set(canonical.refused) == {"container", "guided_json"}
    assert set(canonical.hints) == {
        "betas",
        "context_management",
        "cache_control",
        "metadata.novelty",
        "output_config.task_budget",
        "thinking.novelty",
        "tool_choice.novelty",
    }


def test_a_request_of_a_coding_agent_is_read() -> None:
    """The shape that Claude Code sends (protocol §4.2)."""
    found = parse(
        model="claude-opus-4-8",
        max_tokens=32000,
        stream=True,
        system=[text("a"), text("b", cache_control={"type": "ephemeral"}), text("c")],
        tools=[{"name": f"tool_{n}", "description": "d", "input_schema": {"type": "object"}} for n in range(24)],
        thinking={"type": "adaptive"},
        output_config={"effort": "high"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        metadata={"user_id": "user_1"},
        messages=[*said("user", text("hi")), *said("system", text("a hint", cache_control={"type": "ephemeral"}))],
    )
    assert len(found.canonical().tools) == 24
    assert found.open(call()) is not None
