"""Canonical request → the body for a provider of Responses."""

import json
from typing import Any

import msgspec
import pytest

from tests.dialects import common
from tests.dialects.common import destination
from tidegate.dialects.codec import Losses
from tidegate.dialects.dialect import Destination
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.dialects.websearch import FORCED
from tidegate.providers.openai import OPENAI
from tidegate.wire import errors
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
    Reasoning,
    TextPart,
    Tool,
    ToolChoice,
)

TO = destination(stores=True, encrypted_reasoning=True, refuses=OPENAI.refuses["responses"])


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def request(*items: Item, **members: Any) -> CanonicalRequest:
    return CanonicalRequest(model="m", items=list(items), **members)


def encode(asked: CanonicalRequest, to: Destination = TO, *, allowed: bool = False) -> tuple[dict[str, Any], list[str]]:
    losses = Losses(asked, to, allowed=allowed)
    body = json.loads(ResponsesUpstream().encode_request(asked, to, losses))
    losses.check()
    return body, list(losses.dropped)


def written(*items: Item, to: Destination = TO) -> list[Any]:
    found: list[Any] = encode(request(*items), to)[0]["input"]
    return found


HELLO = Message(role="user", content=[TextPart(text="Hi")])


class TestItems:
    def test_messages(self) -> None:
        assert written(
            Message(role="system", content=[TextPart(text="Be brief.")]),
            HELLO,
            Message(role="assistant", id="msg_1", phase="commentary", content=[TextPart(text="Hello")]),
        ) == [
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
                "phase": "commentary",
            },
        ]

    def test_parts(self) -> None:
        (message,) = written(
            Message(
                role="user",
                content=[
                    ImagePart(url="https://x/y.png"),
                    ImagePart(file_id="file-1", detail="low"),
                    FilePart(data="data:application/pdf;base64,aGk="),
                    FilePart(url="https://x/y.pdf"),
                    FilePart(file_id="file-2"),
                    FilePart(text="abc", filename="a.txt"),
                    OpaquePart(type="input_audio", value=raw({"type": "input_audio"})),
                ],
            )
        )
        assert message["content"] == [
            {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"},
            {"type": "input_image", "file_id": "file-1", "detail": "low"},
            {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "document.pdf"},
            {"type": "input_file", "file_url": "https://x/y.pdf"},
            {"type": "input_file", "file_id": "file-2"},
            {"type": "input_text", "text": "a.txt\n\nabc"},
            {"type": "input_audio"},
        ]

    @pytest.mark.parametrize("file", [FilePart(url="https://x/y.pdf"), FilePart(file_id="file-2")])
    def test_only_data_has_a_name(self, file: FilePart) -> None:
        file.filename = "a.pdf"
        body, lost = encode(request(Message(role="user", content=[file])))
        assert "a.pdf" not in str(body)
        assert lost == ["filename"]

    @pytest.mark.parametrize(
        "part", [AudioPart(data="aGk=", format="wav"), OpaquePart(type="video_url", value=raw({"type": "video_url"}))]
    )
    def test_parts_that_this_api_has_not_are_refused(self, part: Any) -> None:
        asked = request(Message(role="user", content=[part]), names={"items": "messages"})
        with pytest.raises(errors.UnsupportedParameter) as caught:
            encode(asked)
        assert caught.value.param == "messages"
        assert encode(asked, allowed=True)[1] == ["messages"]

    def test_calls_and_results(self) -> None:
        assert written(
            FunctionCall(call_id="a", name="f", arguments="", id="fc_1"),
            FunctionOutput(call_id="a", content=[TextPart(text="7")]),
            FunctionCall(call_id="b", name="patch", arguments="*** x", custom=True),
            FunctionOutput(call_id="b", content=[ImagePart(url="data:image/png;base64,aGk=")], custom=True),
            FunctionOutput(call_id="b", content=[]),
            FunctionCall(call_id="c", name="tide", namespace="sea", arguments="{}"),
        ) == [
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "7"},
            {"type": "custom_tool_call", "call_id": "b", "name": "patch", "input": "*** x"},
            {
                "type": "custom_tool_call_output",
                "call_id": "b",
                "output": [{"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"}],
            },
            {"type": "function_call_output", "call_id": "b", "output": ""},
            {"type": "function_call", "call_id": "c", "name": "sea__tide", "arguments": "{}"},
        ]

    def test_a_seal_goes_back_as_it_came(self) -> None:
        item = Reasoning(summary=["h"], id="rs_1", seal=Seal(kind="encrypted", data="gAAA+/="))
        body, dropped = encode(request(item, HELLO))
        assert body["input"][0] == {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "h"}],
            "encrypted_content": "gAAA+/=",
        }
        assert body["include"] == ["reasoning.encrypted_content"]
        assert dropped == []

    def test_reasoning_without_a_seal_is_of_no_use_to_a_provider_that_seals(self) -> None:
        item = Reasoning(content=["hm"])
        body, dropped = encode(request(item, HELLO))
        assert len(body["input"]) == 1
        assert dropped == ["reasoning_items"]
        assert written(item, to=destination())[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]

    def test_hosted_items_lose_ids_that_would_be_looked_up(self) -> None:
        search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
        compaction = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
        assert written(
            OpaqueItem(type="web_search_call", value=raw(search)), OpaqueItem(type="compaction", value=raw(compaction))
        ) == [search, {"type": "compaction", "encrypted_content": "x"}]

    @pytest.mark.parametrize("carrier", ["anthropic_blocks", "google_parts"])
    def test_searches_of_other_providers_are_left_out(self, carrier: str) -> None:
        item = OpaqueItem(type="web_search_call", value=raw({"type": "web_search_call", carrier: []}))
        body, dropped = encode(request(HELLO, item))
        assert len(body["input"]) == 1
        assert dropped == ["web_search_call"]

    @pytest.mark.parametrize("kind", ["anthropic:server_tool_use", "google:executableCode"])
    def test_items_of_other_apis_are_left_out_and_named(self, kind: str) -> None:
        body, dropped = encode(request(HELLO, OpaqueItem(type=kind, value=raw({"type": kind}))))
        assert len(body["input"]) == 1
        assert dropped == [f"items[].{kind.partition(':')[2]}"]


class TestParameters:
    def test_all_that_the_api_has(self) -> None:
        asked = request(
            HELLO,
            instructions="Be brief.",
            stream=True,
            max_output_tokens=90,
            temperature=0.5,
            top_p=0.9,
            parallel_tool_calls=False,
            user="u",
            safety_identifier="s",
            metadata={"a": "b"},
            service_tier="flex",
            prompt_cache_key="k",
            effort="high",
            reasoning_summary="auto",
            verbosity="low",
            format=OutputFormat(type="json_schema", name="x", schema=raw({"type": "object"}), strict=True),
            top_logprobs=3,
        )
        body, dropped = encode(asked)
        del body["input"]
        assert body == {
            "model": "tide-1",
            "instructions": "Be brief.",
            "stream": True,
            "store": False,
            "max_output_tokens": 90,
            "temperature": 0.5,
            "top_p": 0.9,
            "parallel_tool_calls": False,
            "user": "u",
            "safety_identifier": "s",
            "service_tier": "flex",
            "prompt_cache_key": "k",
            "reasoning": {"effort": "high", "summary": "auto"},
            "text": {
                "format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True},
                "verbosity": "low",
            },
            "top_logprobs": 3,
            "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        }
        assert dropped == ["metadata"], "which the gateway keeps for its own responses only"

    def test_what_nobody_asked_for_is_not_there(self) -> None:
        assert set(encode(request(HELLO), destination())[0]) == {"model", "input", "stream"}
        assert encode(request(HELLO))[0]["stream"] is False

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("stop", ("x",)),
            ("n", 2),
            ("seed", 7),
            ("top_k", 40),
            ("frequency_penalty", 0.5),
            ("presence_penalty", -1.0),
            ("logit_bias", raw({"1": 2})),
        ],
    )
    def test_what_the_api_lacks_is_refused_by_the_clients_name(self, name: str, value: Any) -> None:
        asked = request(HELLO, names={name: f"their_{name}"}, **{name: value})
        with pytest.raises(errors.UnsupportedParameter) as caught:
            encode(asked)
        assert caught.value.param == f"their_{name}"
        assert encode(asked, allowed=True)[1] == [f"their_{name}"]

    def test_values_that_say_nothing_are_not_refused(self) -> None:
        asked = request(HELLO, frequency_penalty=0.0, presence_penalty=0.0, logit_bias=raw({}), stop=(), n=1)
        assert encode(asked)[1] == []

    def test_a_deployment_that_takes_less(self) -> None:
        to = destination(refuses=frozenset({"text", "tool_choice", "prompt_cache_key", "reasoning"}))
        assert encode(request(HELLO, prompt_cache_key="k", reasoning_summary="auto"), to)[1] == [
            "reasoning_summary",
            "prompt_cache_key",
        ]
        assert "tool_choice" not in encode(request(HELLO, tool_choice=ToolChoice(mode="auto")), to)[0]
        for member in ({"effort": "high"}, {"verbosity": "low"}, {"tool_choice": ToolChoice(mode="required")}):
            with pytest.raises(errors.UnsupportedParameter):
                encode(request(HELLO, **member), to)

    @pytest.mark.parametrize(
        ("budget", "effort"), [(0, "none"), (512, "minimal"), (2000, "low"), (10000, "medium"), (32000, "high")]
    )
    def test_a_budget_of_reasoning_is_an_effort(self, budget: int, effort: str) -> None:
        body, dropped = encode(request(HELLO, reasoning_budget=budget))
        assert body["reasoning"] == {"effort": effort}
        assert dropped == (["reasoning_budget"] if budget else [])

    def test_a_wish_for_reasoning_is_the_usual_effort_or_has_a_name(self) -> None:
        asked = request(HELLO, reasons=True, names={"reasons": "thinking"})
        assert encode(asked)[0]["reasoning"] == {"effort": "medium"}
        body, dropped = encode(asked, msgspec.structs.replace(TO, refuses=frozenset({"reasoning"})))
        assert ("reasoning" in body, dropped) == (False, ["thinking"])


class TestTools:
    FUNCTION = Tool(name="f", description="d", parameters=raw({"type": "object"}))
    CUSTOM = Tool(name="patch", custom=True, format=raw({"type": "text"}))

    def test_functions_and_custom_tools(self) -> None:
        body, _ = encode(request(HELLO, tools=[self.FUNCTION, Tool(name="g", strict=True), self.CUSTOM]))
        assert body["tools"] == [
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": False},
            {"type": "function", "name": "g", "parameters": {"type": "object", "properties": {}}, "strict": True},
            {"type": "custom", "name": "patch", "format": {"type": "text"}},
        ]

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            (ToolChoice(mode="auto"), "auto"),
            (ToolChoice(mode="none"), "none"),
            (ToolChoice(mode="required"), "required"),
            (ToolChoice(mode="function", names=("f",)), {"type": "function", "name": "f"}),
            (ToolChoice(mode="function", names=("patch",)), {"type": "custom", "name": "patch"}),
            (
                ToolChoice(mode="allowed", names=("f", "patch"), required=True),
                {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}],
                },
            ),
        ],
    )
    def test_choices(self, choice: ToolChoice, expected: Any) -> None:
        body, _ = encode(request(HELLO, tools=[self.FUNCTION, self.CUSTOM], tool_choice=choice))
        assert body["tool_choice"] == expected

    @pytest.mark.parametrize(
        ("kind", "given", "expected"),
        [
            ("mcp", {"type": "mcp", "server_label": "x"}, {"type": "mcp", "server_label": "x"}),
            (
                "web_search_20250305",
                {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["x.org"], "max_uses": 3},
                {"type": "web_search", "filters": {"allowed_domains": ["x.org"]}},
            ),
            (
                "web_search_options",
                {
                    "search_context_size": "low",
                    "user_location": {"type": "approximate", "approximate": {"country": "DE"}},
                },
                {
                    "type": "web_search",
                    "search_context_size": "low",
                    "user_location": {"type": "approximate", "country": "DE"},
                },
            ),
            ("google_search", {}, {"type": "web_search"}),
        ],
    )
    def test_hosted_tools(self, kind: str, given: Any, expected: Any) -> None:
        body, _ = encode(request(HELLO, tools=[HostedTool(type=kind, value=raw(given))]))
        assert body["tools"] == [expected]

    @pytest.mark.parametrize(
        ("kind", "chosen"),
        [
            ("web_search_20250305", {"type": "web_search"}),
            ("web_search_preview", {"type": "web_search_preview"}),
            ("file_search", {"type": "function", "name": "web_search"}),
        ],
    )
    def test_a_search_can_be_forced(self, kind: str, chosen: Any) -> None:
        tool = HostedTool(type=kind, value=raw({"type": kind, "name": "web_search", "max_uses": 3}))
        body, dropped = encode(request(HELLO, tools=[tool], tool_choice=FORCED))
        assert body["tool_choice"] == chosen
        assert dropped == (["tools[].max_uses"] if kind == "web_search_20250305" else [])

    def test_hosted_tools_of_other_apis_are_refused(self) -> None:
        asked = request(HELLO, tools=[HostedTool(type="text_editor_20250728", value=raw({}))])
        with pytest.raises(errors.UnsupportedParameter) as caught:
            encode(asked)
        assert caught.value.param == "tools"


def test_a_request_of_this_dialect_survives_the_canonical_form() -> None:
    members: dict[str, Any] = {
        "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "a"}]},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "潮汐"},
                    {"type": "input_image", "image_url": "https://x/y.png", "detail": "high"},
                    {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
                ],
            },
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"a": 1}'},
            {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "7"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "x"}] * 2},
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** x"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"},
            {
                "type": "web_search_call",
                "id": "ws_1",
                "status": "completed",
                "action": {"type": "search", "query": "x"},
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "b", "annotations": []},
                    {"type": "refusal", "refusal": "n"},
                ],
                "phase": "final_answer",
            },
        ],
        "tools": [
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
            {"type": "custom", "name": "patch", "description": "p", "format": {"type": "text"}},
            {"type": "web_search", "search_context_size": "low"},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "patch"}]},
        "text": {"format": {"type": "json_object"}, "verbosity": "high"},
        "reasoning": {"effort": "low", "summary": "concise"},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "temperature": 0.5,
        "top_p": 0.5,
        "max_output_tokens": 100,
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "prompt_cache_key": "k",
        "user": "u",
    }
    asked = ResponsesDialect().parse(common.body("responses", model="tide-1", stream=True, **members)).canonical()
    body, dropped = encode(asked, destination())
    assert dropped == []
    assert body == {"model": "tide-1", "stream": True, **members}
