"""Rows S68–S73: chat and text completions."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Api, Reply
from tests.support.canned import Canned, sse_answer
from tests.support.running import Running

CHOICES = ("chat", "completions")


def stream(api: Api, endpoint: str, model: str, **members: Any) -> Reply:
    reply = api.ask(endpoint, model, stream=True, **members)
    assert reply.status == 200, reply.content
    assert all(frame.event == "" for frame in reply.frames)
    return reply


def check_chunks(reply: Reply, kind: str) -> None:
    chunks = reply.events
    assert {chunk["object"] for chunk in chunks} == {kind}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all(chunk["choices"] for chunk in chunks), "a usage frame that nobody asked for"
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons[-1] == "stop"
    assert not any(reasons[:-1])


@pytest.mark.row("S68")
@pytest.mark.parametrize("prompt", ["ebb and flow", ["ebb", "flow"], [1, 2, 3], [[1, 2], [3]]])
def test_completions_take_every_form_of_prompt(api: Api, prompt: Any) -> None:
    reply = api.ask("completions", prompt=prompt)
    assert reply.status == 200
    assert api.sent["prompt"] == prompt
    assert len(reply.json["choices"]) == (len(prompt) if isinstance(prompt, list) and prompt != [1, 2, 3] else 1)


@pytest.mark.row("S68")
def test_completions_without_a_prompt_are_refused(api: Api) -> None:
    missing = api.refused("completions", prompt=...)
    assert (missing["param"], missing["code"]) == ("prompt", "missing_required_parameter")
    wrong: Any
    for wrong in (5, [], None):
        assert api.refused("completions", prompt=wrong)["param"] == "prompt"


@pytest.mark.row("S69")
def test_completions_stream_the_text_of_choices(api: Api) -> None:
    reply = stream(api, "completions", "sim/echo", say="ebb and flow")
    pieces = [chunk["choices"][0]["text"] for chunk in reply.events]
    assert len(pieces) > 2
    assert "".join(pieces) == "ebb and flow"
    check_chunks(reply, "text_completion")


@pytest.mark.row("S70", "S73")
@pytest.mark.parametrize("endpoint", CHOICES)
@pytest.mark.parametrize(
    "done", ["", "?done=0", "?done=0&framing=close", "?fault=extra_after_end", "?fault=dup_finish"]
)
def test_a_finished_stream_ends_with_one_done_also_where_the_engine_forgets_it(
    api: Api, endpoint: str, done: str
) -> None:
    reply = stream(api, endpoint, f"sim/echo{done}", say="ebb")
    assert reply.frames[-1].raw == b"data: [DONE]\n\n"
    assert reply.content.count(b"[DONE]") == 1
    assert reply.text == "ebb"


@pytest.mark.row("S70", "S73")
@pytest.mark.parametrize("endpoint", CHOICES)
@pytest.mark.parametrize(
    "model",
    [
        "sim/lorem?fault=eof",
        "sim/lorem?fault=eof&done=1",
        "sim/lorem?fault=reset",
        "sim/lorem?fault=cut",
        "sim/lorem?fault=close",
        "sim/lorem?fault=garbage",
        "sim/lorem?fault=badutf8",
        "sim/lorem?fault=error&done=1",
        "sim/lorem?fault=failed&done=1",
        "sim/lorem?finish=none",
        "sim/lorem?finish=none&done=1",
    ],
)
def test_there_is_no_done_without_a_real_finish(api: Api, endpoint: str, model: str) -> None:
    reply = stream(api, endpoint, model)
    assert b"data: [DONE]" not in reply.content
    error = reply.events[-1]["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "'sim'" in error["message"]
    assert not any(choice["finish_reason"] for chunk in reply.events[:-1] for choice in chunk["choices"])


@pytest.mark.row("S70", "S73")
@pytest.mark.parametrize("endpoint", CHOICES)
def test_with_several_choices_every_one_must_finish(api: Api, endpoint: str) -> None:
    whole = stream(api, endpoint, "sim/echo", n=3)
    assert whole.frames[-1].data == b"[DONE]"
    finished = {
        choice["index"] for chunk in whole.events for choice in chunk["choices"] if choice["finish_reason"] is not None
    }
    assert finished == {0, 1, 2}


@pytest.mark.row("S71")
def test_chat_takes_messages_and_forwards_them_as_they_are(api: Api) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": "https://e.com/a.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            "reasoning_content": "hm",
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
        {"role": "user", "content": "and?", "name": "ada"},
    ]
    reply = api.ask("chat", messages=messages)
    assert (reply.status, reply.text) == (200, "and?")
    assert api.sent["messages"] == messages


@pytest.mark.row("S71")
@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (..., "messages"),
        ([], "messages"),
        ("hi", "messages"),
        ([{}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 4}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
    ],
)
def test_wrong_messages_are_refused_by_their_place(api: Api, messages: Any, param: str) -> None:
    assert api.refused("chat", messages=messages)["param"] == param


@pytest.mark.row("S72")
def test_chat_streams_the_delta_content_of_choices(api: Api) -> None:
    reply = stream(api, "chat", "sim/echo", say="ebb and flow")
    chunks = reply.events
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    pieces = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert "".join(piece or "" for piece in pieces) == "ebb and flow"
    assert len([piece for piece in pieces if piece]) > 2
    check_chunks(reply, "chat.completion.chunk")


@pytest.mark.row("S72")
@pytest.mark.parametrize("asked", [True, False, None])
@pytest.mark.parametrize("endpoint", CHOICES)
@pytest.mark.parametrize("usage", ["present", "inline", "always", "absent"])
def test_usage_is_always_asked_for_and_shown_to_those_who_asked(
    api: Api, endpoint: str, asked: bool | None, usage: str
) -> None:
    members: dict[str, Any] = {} if asked is None else {"stream_options": {"include_usage": asked, "x": 1}}
    reply = stream(api, endpoint, f"sim/echo?usage={usage}", **members)
    assert api.sent["stream_options"] == ({"include_usage": True} if asked is None else {"include_usage": True, "x": 1})
    frames = [chunk for chunk in reply.events if not chunk["choices"]]
    assert len(frames) == (1 if asked else 0)
    if asked:
        assert frames[0] is not reply.events[0]
        assert frames[0]["usage"]["total_tokens"] > 0
        assert reply.events[-1]["usage"] == frames[0]["usage"]
    assert api.gateway.usage(reply.request_id).get("estimated", False) is (usage == "absent")


@pytest.mark.row("S73")
@pytest.mark.parametrize("endpoint", CHOICES)
@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_the_finish_reason_tells_the_truth(api: Api, endpoint: str, finish: str) -> None:
    reply = stream(api, endpoint, f"sim/lorem?finish={finish}")
    assert reply.events[-1]["choices"][0]["finish_reason"] == finish
    assert reply.frames[-1].data == b"[DONE]"
    assert api.gateway.usage(reply.request_id)["ending"] == "incomplete"
    body = api.ask(endpoint, f"sim/lorem?finish={finish}").json
    assert body["choices"][0]["finish_reason"] == finish


@pytest.mark.row("S70", "S73")
@pytest.mark.parametrize("endpoint", CHOICES)
def test_a_done_of_the_provider_does_not_end_a_choice_that_has_not_finished(endpoint: str) -> None:
    head = {"id": "c", "object": "chat.completion.chunk" if endpoint == "chat" else "text_completion"}
    said = {"delta": {"content": "ebb"}} if endpoint == "chat" else {"text": "ebb"}
    chunks: list[dict[str, Any]] = [
        {**head, "created": 1, "model": "m", "choices": [{"index": index, **said, "finish_reason": reason}]}
        for index, reason in ((0, None), (1, None), (0, "stop"))
    ]
    answer = sse_answer(*chunks, b"data: [DONE]\n\n")
    with Canned(answer) as provider, Running(f"[server]\nport = 0\n{provider.toml()}") as gateway, Api(gateway) as api:
        reply = stream(api, endpoint, "canned/m", n=2)
    assert reply.events[:-1] == chunks
    assert "'canned'" in reply.events[-1]["error"]["message"]
    assert b"[DONE]" not in reply.content


@pytest.mark.row("S70", "S73")
@pytest.mark.parametrize("endpoint", CHOICES)
def test_a_done_that_the_engine_forgot_is_not_added_while_a_choice_has_said_nothing(endpoint: str) -> None:
    said = {"delta": {"content": "ebb"}} if endpoint == "chat" else {"text": "ebb"}
    kind = "chat.completion.chunk" if endpoint == "chat" else "text_completion"
    head = {"id": "c", "object": kind, "created": 1, "model": "m"}
    answer = sse_answer({**head, "choices": [{"index": 0, **said, "finish_reason": "stop"}]})
    with Canned(answer) as provider, Running(f"[server]\nport = 0\n{provider.toml()}") as gateway, Api(gateway) as api:
        broken = stream(api, endpoint, "canned/m", n=2)
        whole = stream(api, endpoint, "canned/m", n=1)
    assert "'canned'" in broken.events[-1]["error"]["message"]
    assert b"[DONE]" not in broken.content
    assert whole.frames[-1].raw == b"data: [DONE]\n\n"


@pytest.mark.row("S69", "S72")
@pytest.mark.parametrize("endpoint", CHOICES)
@pytest.mark.parametrize("nothing", [{}, {"text": None, "delta": None}])
def test_every_choice_of_a_stream_has_its_content(endpoint: str, nothing: dict[str, Any]) -> None:
    """Some engines leave it out of the chunk that only tells the reason of the ending."""
    name, said, empty = ("delta", {"content": "ebb"}, {}) if endpoint == "chat" else ("text", "ebb", "")
    kind = "chat.completion.chunk" if endpoint == "chat" else "text_completion"
    head = {"id": "c", "object": kind, "created": 1, "model": "m"}
    answer = sse_answer(
        {**head, "choices": [{"index": 0, name: said, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, **nothing, "finish_reason": "stop"}]},
        b"data: [DONE]\n\n",
    )
    with Canned(answer) as provider, Running(f"[server]\nport = 0\n{provider.toml()}") as gateway, Api(gateway) as api:
        reply = stream(api, endpoint, "canned/m")
    assert [chunk["choices"][0][name] for chunk in reply.events] == [said, empty]
    assert reply.frames[-1].data == b"[DONE]"


BRIDGED = """
[server]
port = 0
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
[providers.claude]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789abcdef"]
"""


@pytest.fixture(scope="module")
def bridged() -> Iterator[Api]:
    """A gateway whose providers speak chat and Messages only."""
    with Running(BRIDGED) as gateway, Api(gateway) as client:
        yield client


@pytest.mark.row("S70", "S73")
@pytest.mark.parametrize("endpoint", CHOICES)
@pytest.mark.parametrize("provider", ["lab", "claude"])
def test_done_follows_a_real_finish_of_any_provider_and_nothing_else(
    bridged: Api, endpoint: str, provider: str
) -> None:
    whole = stream(bridged, endpoint, f"{provider}/echo", say="ebb")
    assert whole.text == "ebb"
    assert whole.frames[-1].raw == b"data: [DONE]\n\n"
    assert whole.content.count(b"[DONE]") == 1
    for fault in ("eof", "reset", "cut", "garbage", "error"):
        broken = stream(bridged, endpoint, f"{provider}/lorem?fault={fault}")
        assert b"[DONE]" not in broken.content
        assert f"'{provider}'" in broken.events[-1]["error"]["message"]
        assert not any(choice["finish_reason"] for chunk in broken.events[:-1] for choice in chunk["choices"])
