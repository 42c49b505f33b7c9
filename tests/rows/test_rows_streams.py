"""Rows S58–S66: the streams of /v1/responses, and the profiles that change their shape."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Api, Reply
from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.grammar import check_stream
from tests.support.running import SIM_ONLY, Running

TOOLS = [
    {"type": "function", "name": "tide", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
    {"type": "custom", "name": "write"},
]
SCRIPTS: dict[str, dict[str, Any]] = {
    "sim/echo": {},
    "sim/demo?gap=0": {},
    "sim/zh": {},
    "sim/reasoning": {},
    "sim/reasoning?raw=1": {},
    "sim/refusal": {},
    "sim/tools?parallel=4": {"tools": TOOLS},
    "sim/lorem": {"n": 3},
    "sim/lorem?finish=length": {},
    "sim/lorem?finish=content_filter": {},
    "sim/bench?chunks=20": {},
}

# What upstreams get wrong about framing, numbering and the opening events, and what a client must not notice.
UNTIDY = [
    "sim/lorem?events=0",
    "sim/lorem?seq=0",
    "sim/lorem?events=0&seq=0",
    "sim/lorem?crlf=1",
    "sim/lorem?comments=3",
    "sim/lorem?burst=1",
    "sim/lorem?split=1",
    "sim/lorem?done=1",
    "sim/lorem?framing=close",
    "sim/lorem?framing=length",
    "sim/lorem?fault=headless",
    "sim/lorem?fault=dup_role",
    "sim/lorem?fault=dup_finish",
    "sim/lorem?fault=extra_after_end",
    "sim/lorem?fault=seq_jump",
    "sim/lorem?fault=seq_stuck",
    "sim/lorem?fault=no_type",
    "sim/lorem?fault=wrong_type",
    "sim/lorem?fault=gzip",
    "sim/lorem?obfuscation=1",
]


def stream(api: Api, model: str, headers: dict[str, str] | None = None, **members: Any) -> Reply:
    reply = api.ask("responses", model, stream=True, headers=headers, **members)
    assert reply.status == 200, reply.content
    return reply


@pytest.mark.row("S58", "S59", "S60", "S62")
@pytest.mark.parametrize("model", SCRIPTS)
def test_every_script_streams_the_full_official_sequence(api: Api, model: str) -> None:
    reply = stream(api, model, **SCRIPTS[model])
    end = check_stream(reply.frames)
    assert end["status"] == ("incomplete" if "finish" in model else "completed")
    assert reply.frames[0].raw.startswith(b"event: response.created\ndata: {")
    # Two lines and a blank one, for every frame of the stream.
    assert all(
        frame.raw == f"event: {frame.event}\n".encode() + b"data: " + frame.data + b"\n\n" for frame in reply.frames
    )


@pytest.mark.row("S58", "S59", "S62")
@pytest.mark.parametrize("model", UNTIDY)
def test_whatever_the_framing_of_the_provider_the_client_sees_the_official_one(api: Api, model: str) -> None:
    reply = stream(api, model)
    end = check_stream([frame for frame in reply.frames if frame.event != "keepalive"])
    assert end["status"] == "completed"
    assert reply.text == end["output"][0]["content"][0]["text"] != ""


@pytest.mark.row("S60")
@pytest.mark.parametrize("model", ["sim/echo", "sim/echo?fault=headless", "sim/echo?minimal=1&events=0&seq=0"])
def test_created_comes_first_once_with_an_open_snapshot(api: Api, model: str) -> None:
    events = stream(api, model).events
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    opening = events[0]["response"]
    assert (opening["status"], opening["output"], opening["usage"]) == ("in_progress", [], None)
    assert sum(event["type"] == "response.created" for event in events) == 1


@pytest.mark.row("S61")
def test_text_deltas_carry_delta_and_their_place(api: Api) -> None:
    deltas = [
        event
        for event in stream(api, "sim/echo", say="ebb and flow").events
        if event["type"] == "response.output_text.delta"
    ]
    assert len(deltas) > 1
    assert "".join(event["delta"] for event in deltas) == "ebb and flow"
    for event in deltas:
        assert (event["output_index"], event["content_index"], event["logprobs"]) == (0, 0, [])
        assert event["item_id"].startswith("msg_")


@pytest.mark.row("S62", "S63")
@pytest.mark.parametrize("model", ["sim/echo", "sim/echo?usage=absent", "sim/echo?minimal=1", "sim/echo?done=1"])
def test_completed_comes_last_with_usage(api: Api, model: str) -> None:
    reply = stream(api, model)
    assert reply.kinds[-1] == "response.completed"
    assert reply.kinds.count("response.completed") == 1
    assert reply.content.endswith(reply.frames[-1].raw)
    usage = reply.events[-1]["response"]["usage"]
    assert set(usage) == {
        "input_tokens",
        "input_tokens_details",
        "output_tokens",
        "output_tokens_details",
        "total_tokens",
    }
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


@pytest.mark.row("S63")
@pytest.mark.parametrize(
    ("model", "status", "details"),
    [
        ("sim/lorem", "completed", None),
        ("sim/lorem?finish=length", "incomplete", {"reason": "max_output_tokens"}),
        ("sim/lorem?finish=content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_the_end_tells_the_reason_the_output_and_the_usage(api: Api, model: str, status: str, details: Any) -> None:
    reply = stream(api, model)
    end = reply.events[-1]["response"]
    assert (end["status"], end["incomplete_details"], end["error"]) == (status, details, None)
    assert end["usage"]["output_tokens"] > 0
    assert end["output"][0]["content"][0]["text"] == reply.text


@pytest.mark.row("S64")
@pytest.mark.parametrize("model", ["sim/echo", "sim/echo?done=1", "sim/echo?fault=eof&done=1"])
@pytest.mark.parametrize("profile", ["openai", "anyfast", "deepintshield", None])
def test_by_default_a_responses_stream_has_no_done(api: Api, model: str, profile: str | None) -> None:
    reply = stream(api, model, headers={"tidegate-profile": profile} if profile else None)
    assert b"[DONE]" not in reply.content
    assert reply.headers["tidegate-profile"] == (profile or "openai")


def check_done_with_names(reply: Reply) -> None:
    assert reply.frames[-1].raw == b"data: [DONE]\n\n"
    assert reply.content.count(b"[DONE]") == 1
    assert check_stream(reply.frames[:-1])["status"] == "completed"


def check_data_only(reply: Reply) -> None:
    assert reply.frames[-1].raw == b"data: [DONE]\n\n"
    assert b"event:" not in reply.content
    assert all(frame.raw == b"data: " + frame.data + b"\n\n" for frame in reply.frames)
    assert reply.kinds[0] == "response.created"
    assert reply.kinds[-1] == "response.completed"
    assert [event["sequence_number"] for event in reply.events] == list(range(len(reply.events)))


PROFILES = [("openresponses", check_done_with_names), ("kkiai", check_data_only)]


@pytest.mark.row("S65")
@pytest.mark.parametrize(("profile", "check"), PROFILES, ids=["openresponses", "kkiai"])
@pytest.mark.parametrize("model", ["sim/echo", "sim/echo?done=1", "sim/echo?seq=0", "sim/echo?fault=headless"])
def test_a_request_header_chooses_done_and_data_only(api: Api, profile: str, check: Any, model: str) -> None:
    reply = stream(api, model, headers={"tidegate-profile": profile})
    check(reply)
    assert reply.headers["tidegate-profile"] == profile


@pytest.mark.row("S65")
@pytest.mark.parametrize(("profile", "check"), PROFILES, ids=["openresponses", "kkiai"])
def test_the_configuration_chooses_for_everybody(profile: str, check: Any) -> None:
    toml = SIM_ONLY.replace('model = "sim/echo"', f'model = "sim/echo"\nprofile = "{profile}"')
    with Running(toml) as gateway, Api(gateway) as api:
        check(stream(api, "sim/echo"))
        assert b"[DONE]" not in stream(api, "sim/echo", headers={"tidegate-profile": "openai"}).content


@pytest.mark.row("S65")
def test_the_configuration_chooses_for_one_key() -> None:
    names = ("plain", "openresponses", "kkiai")
    keys = {name: f"key-{name}-0123456789abcdefghijklmnop" for name in names}
    tables = "".join(f'[[keys]]\nname = "{name}"\nsecret = "{key}"\n' for name, key in keys.items())
    for name in names[1:]:
        tables = tables.replace(f'name = "{name}"', f'name = "{name}"\nprofile = "{name}"')
    with Running(SIM_ONLY + tables) as gateway:
        for name, check in PROFILES:
            with Api(gateway, authorization=f"Bearer {keys[name]}") as api:
                check(stream(api, "sim/echo"))
        with Api(gateway, authorization=f"Bearer {keys['plain']}") as api:
            assert b"[DONE]" not in stream(api, "sim/echo").content


@pytest.mark.row("S65")
@pytest.mark.parametrize("fault", ["eof", "error", "reset"])
def test_a_broken_stream_never_ends_with_done(api: Api, fault: str) -> None:
    for profile in ("openresponses", "kkiai"):
        reply = stream(api, f"sim/lorem?fault={fault}&done=1", headers={"tidegate-profile": profile})
        assert b"[DONE]" not in reply.content
        assert reply.kinds[-2:] == ["error", "response.failed"]


@pytest.mark.row("S65")
def test_raw_reasoning_has_the_names_of_open_responses_there_only(api: Api) -> None:
    kinds = set(stream(api, "sim/reasoning?raw=1", headers={"tidegate-profile": "openresponses"}).kinds)
    assert {"response.reasoning.delta", "response.reasoning.done"} <= kinds
    assert not any(kind.startswith("response.reasoning_text") for kind in kinds)
    assert "response.reasoning_text.delta" in stream(api, "sim/reasoning?raw=1").kinds


@pytest.mark.row("S65")
def test_an_unknown_profile_is_refused_with_the_list(api: Api) -> None:
    reply = api.ask("responses", headers={"tidegate-profile": "klingon"})
    assert (reply.status, reply.error["code"]) == (400, "invalid_profile")
    assert "openresponses" in reply.error["message"]


@pytest.mark.row("S66")
def test_a_response_can_have_the_body_of_a_chat_completion(api: Api) -> None:
    header = {"tidegate-profile": "kkiai"}
    body = api.ask("responses", say="ebb", headers=header).json
    assert (body["object"], body["model"]) == ("chat.completion", "echo")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "ebb", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert isinstance(body["created"], int)
    called = api.ask("responses", "sim/tools", tools=TOOLS[:1], headers=header).json["choices"][0]
    assert called["finish_reason"] == "tool_calls"
    assert called["message"]["tool_calls"][0]["function"] == {"name": "tide", "arguments": '{"at": "sim 0"}'}
    cut = api.ask("responses", "sim/lorem", max_output_tokens=2, headers=header).json["choices"][0]
    assert cut["finish_reason"] == "length"
    refusal = api.ask("responses", "sim/refusal", headers=header).json["choices"][0]["message"]
    assert refusal["content"] is None
    assert refusal["refusal"].startswith("I'm sorry")
    several = api.ask("responses", say="ebb", n=2, headers=header).json["choices"]
    assert [choice["index"] for choice in several] == [0, 1]


@pytest.mark.row("S66")
def test_the_chat_body_is_off_by_default_and_can_be_set_for_a_key(api: Api) -> None:
    assert api.ask("responses").json["object"] == "response"
    secret = "key-for-kkiai-0123456789abcdefghijklmn"
    toml = f'{SIM_ONLY}\n[[keys]]\nname = "k"\nsecret = "{secret}"\nprofile = "kkiai"\n'
    with Running(toml) as gateway, Api(gateway, authorization=f"Bearer {secret}") as keyed:
        assert keyed.ask("responses").json["object"] == "chat.completion"
        other = keyed.ask("responses", headers={"tidegate-profile": "openai"})
        assert other.json["object"] == "response"


def from_engine(answer: bytes, *, stream: bool = True) -> Reply:
    """What a client sees when an engine answers with these bytes."""
    with Canned(answer) as provider, Running(f"[server]\nport = 0\n{provider.toml()}") as gateway, Api(gateway) as api:
        return api.ask("responses", "canned/m", stream=stream)


@pytest.mark.row("S59")
@pytest.mark.parametrize("name", ["message", "response.output_text.done", "response.completed"])
def test_a_frame_under_another_name_than_its_type_is_given_the_name_of_its_type(name: str) -> None:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    delta = {"type": "response.output_text.delta", **place, "delta": "ebb", "sequence_number": 2}
    opening = [{"type": f"response.{kind}", "response": {}} for kind in ("created", "in_progress")]
    misnamed = f"event: {name}\ndata: {json.dumps(delta)}\n\n".encode()
    end = {"type": "response.completed", "response": {"status": "completed", "output": []}}
    reply = from_engine(sse_answer(*opening, misnamed, end, named=True))
    assert reply.kinds == ["response.created", "response.in_progress", delta["type"], "response.completed"]
    assert [frame.event for frame in reply.frames] == reply.kinds
    assert reply.events[2] == delta


@pytest.mark.row("S63")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("details", [{}, {"incomplete_details": None}, {"incomplete_details": {}}])
def test_an_ending_cut_without_a_reason_is_given_one(details: dict[str, Any], stream: bool) -> None:
    cut = {"status": "incomplete", "output": [], **details}
    answer = sse_answer({"type": "response.incomplete", "response": cut}) if stream else json_answer(cut)
    reply = from_engine(answer, stream=stream)
    end = reply.events[-1]["response"] if stream else reply.json
    assert (end["status"], end["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@pytest.mark.row("S66")
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_the_chat_body_tells_why_the_answer_ended(api: Api, reason: str) -> None:
    body = api.ask("responses", f"sim/lorem?finish={reason}", headers={"tidegate-profile": "kkiai"}).json
    assert [choice["finish_reason"] for choice in body["choices"]] == [reason]


@pytest.mark.row("S66")
def test_the_chat_body_has_what_was_thought_and_what_it_cost(api: Api) -> None:
    response = api.ask("responses", "sim/reasoning").json
    body = api.ask("responses", "sim/reasoning", headers={"tidegate-profile": "kkiai"}).json
    thought, message = response["output"]
    said = body["choices"][0]["message"]
    assert said["reasoning_content"] == thought["summary"][0]["text"] != ""
    assert said["content"] == message["content"][0]["text"] != ""
    usage = response["usage"]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (
        usage["input_tokens"],
        usage["output_tokens"],
    )
    assert body["usage"]["completion_tokens_details"] == usage["output_tokens_details"]


BRIDGED = """
[server]
port = 0
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
"""


@pytest.fixture(scope="module")
def bridged() -> Iterator[Api]:
    """A gateway whose provider speaks chat."""
    with Running(BRIDGED) as gateway, Api(gateway) as client:
        yield client


@pytest.mark.row("S64", "S65")
def test_profiles_hold_for_providers_of_other_dialects() -> None:
    with Running(BRIDGED) as gateway, Api(gateway) as api:
        assert check_stream(stream(api, "lab/echo").frames)["status"] == "completed"
        assert b"[DONE]" not in stream(api, "lab/echo").content
        for profile, check in PROFILES:
            header = {"tidegate-profile": profile}
            check(stream(api, "lab/echo", headers=header))
            kinds = set(stream(api, "lab/reasoning", headers=header).kinds)
            renamed = {"response.reasoning.delta", "response.reasoning.done"}
            assert renamed & kinds == (renamed if profile == "openresponses" else set())
            assert ("response.reasoning_text.delta" in kinds) is (profile != "openresponses")
            for fault in ("eof", "error", "reset"):
                broken = stream(api, f"lab/lorem?fault={fault}", headers=header)
                assert broken.kinds[-2:] == ["error", "response.failed"]
                assert b"[DONE]" not in broken.content


@pytest.mark.row("S66")
@pytest.mark.parametrize("stream", [False, True])
def test_the_chat_body_is_for_whole_answers_of_any_provider(stream: bool) -> None:
    with Running(BRIDGED) as gateway, Api(gateway) as api:
        reply = api.ask("responses", "lab/echo", say="ebb", stream=stream, headers={"tidegate-profile": "kkiai"})
        assert reply.text == "ebb"
        if not stream:
            assert (reply.json["object"], reply.json["model"]) == ("chat.completion", "echo")


@pytest.mark.row("S62")
@pytest.mark.parametrize("fault", ["eof", "reset", "cut", "close", "garbage", "badutf8", "error", "failed"])
@pytest.mark.parametrize("gap", [0, 20])
@pytest.mark.parametrize("provider", ["sim", "lab"])
def test_a_broken_stream_is_numbered_without_a_gap_up_to_its_end(
    api: Api, bridged: Api, provider: str, fault: str, gap: int
) -> None:
    reply = stream(api if provider == "sim" else bridged, f"{provider}/lorem?fault={fault}&gap={gap}")
    assert reply.kinds[-2:] == ["error", "response.failed"]
    assert [event["sequence_number"] for event in reply.events] == list(range(len(reply.events)))


@pytest.mark.row("S61", "S62")
@pytest.mark.parametrize("size", [24, 5000])
@pytest.mark.parametrize("provider", ["sim", "lab"])
def test_deltas_of_any_size_are_the_text_of_the_ending(api: Api, bridged: Api, provider: str, size: int) -> None:
    reply = stream(api if provider == "sim" else bridged, f"{provider}/lorem?chunks=4&size={size}")
    deltas = [event for event in reply.events if event["type"] == "response.output_text.delta"]
    assert [len(event["delta"]) for event in deltas] == [size] * 4
    end = check_stream(reply.frames)
    assert "".join(event["delta"] for event in deltas) == end["output"][0]["content"][0]["text"]
    assert all((event["output_index"], event["content_index"], event["logprobs"]) == (0, 0, []) for event in deltas)
