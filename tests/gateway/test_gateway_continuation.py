"""A text that breaks off is gone on with by another deployment, where the alias says so, and in one and the same stream."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.support.api import Api, Reply, read_frames
from tests.support.canned import Canned, sse_answer
from tests.support.deployment import labelled
from tests.support.grammar import check_stream
from tests.support.providers import PATHS, PROVIDERS, asked_path
from tests.support.running import Running, wait_for
from tests.support.sockets import Socket
from tests.support.strict import check_event

TOML = """
[server]
port = 0
data_dir = "{data}"
[routing]
retries = 0
eject_after = 0
[providers.openai]
base_url = "{sim}"
credentials = ["sk-of-the-provider"]
timeouts = { first_event = "300ms", idle = "300ms" }
[providers.compatible]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
timeouts = { first_event = "300ms", idle = "300ms" }
[providers.anthropic]
base_url = "{sim}"
credentials = ["sk-ant-of-the-provider"]
[providers.gemini]
base_url = "{sim}"
credentials = ["AIza-of-the-provider"]
[providers.patient]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
routing = { retries = 1 }
[providers.stateful]
kind = "openai"
base_url = "{sim}"
credentials = ["sk-of-the-provider"]
state = "provider"
[models.stateful]
target = "stateful/lorem?chunks=12&fault=cut&after=7"
fallback = ["compatible/echo"]
continue_broken = true
[models.closed]
target = "openai/lorem?chunks=12&size=24&fault=cut&after=7"
fallback = ["compatible/lorem?chunks=12&size=24"]
[models.leading-on]
target = "thrice"
[models.same]
target = "patient/lorem?chunks=12&size=24&fault=cut&after=7&times=1"
continue_broken = true
[models.thrice]
target = "openai/lorem?chunks=12&size=24&fault=cut&after=7"
fallback = ["compatible/lorem?status=503", "anthropic/lorem?chunks=12&size=24&fault=cut&after=10", "gemini/lorem?chunks=12&size=24"]
continue_broken = true
[models.hopeless]
target = "openai/lorem?chunks=12&size=24&fault=cut&after=7"
fallback = ["compatible/lorem?status=503"]
continue_broken = true
[models.old-claude]
target = "compatible/lorem?text=The+tide+is+high.+&chunks=4&fault=cut&after=5"
fallback = ["anthropic/lorem?text=+And+low.&message=claude-sonnet-4-5"]
continue_broken = true
[models.new-claude]
target = "compatible/lorem?text=The+tide+is+high.+&chunks=4&fault=cut&after=5"
fallback = ["anthropic/lorem?text=And+low.&message=claude-sonnet-5"]
continue_broken = true
[models.slow]
target = "openai/lorem?chunks=12&size=24&fault=cut&after=7"
fallback = ["compatible/lorem?text=and+so+it+goes+on+and+on&chunks=12&gap=250"]
continue_broken = true
[models.torn]
target = "compatible/lorem?text=the+quick+bro&chunks=3&fault=cut&after=4"
fallback = ["openai/lorem?text=brown+fox&chunks=9"]
continue_broken = true
[models.filtered]
target = "compatible/lorem?chunks=12&fault=error&after=5&code=content_filter&type=invalid_request_error"
fallback = ["openai/echo"]
continue_broken = true
[models.done]
target = "openai/lorem?chunks=2&fault=cut&after=7"
fallback = ["compatible/echo"]
continue_broken = true
[models.part-done]
target = "openai/lorem?chunks=2&fault=cut&after=8"
fallback = ["compatible/echo"]
continue_broken = true
[models.block-done]
target = "anthropic/lorem?chunks=2&fault=cut&after=6"
fallback = ["compatible/echo"]
continue_broken = true
[models.silent]
target = "openai/lorem?chunks=2&fault=cut&after=4"
fallback = ["compatible/echo"]
continue_broken = true
[models.tools]
target = "openai/tools?fault=cut&after=5"
fallback = ["compatible/echo"]
continue_broken = true
[models.refusal]
target = "openai/refusal?chunks=6&fault=cut&after=7"
fallback = ["compatible/echo"]
continue_broken = true
[models.signed]
target = "anthropic/reasoning?chunks=9&fault=cut&after=32"
fallback = ["compatible/echo"]
continue_broken = true
[models.thinking]
target = "compatible/reasoning?chunks=3&fault=cut&after=21"
fallback = ["openai/reasoning?chunks=3"]
continue_broken = true
"""

FAULTS = ("cut", "stall", "error", "eof", "reset", "garbage")
TOML += "".join(
    f'[models.{first}-{second}-{fault}]\ntarget = "{first}/lorem?chunks=12&size=24&fault={fault}&after=7"\n'
    f'fallback = ["{second}/lorem?chunks=12&size=24"]\ncontinue_broken = true\n'
    for first in PROVIDERS
    for second in PROVIDERS
    for fault in FAULTS
)

WHOLE = "".join(f" {number} lorem ipsum dolor sit"[:24] for number in range(12))
CLIENTS = ("responses", "chat", "messages", "gemini")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(TOML.replace("{data}", str(tmp_path_factory.mktemp("data")))) as running:
        yield running


@pytest.fixture(scope="module")
def api(gateway: Running) -> Iterator[Api]:
    with Api(gateway) as client:
        assert client.get("/v1/models").status == 200
        yield client


def ask(api: Api, client: str, model: str, **members: Any) -> Reply:
    if client == "gemini":
        body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "?"}]}], **members}
        return api.post(f"/v1beta/models/{model}:streamGenerateContent?alt=sse", body)
    if client == "messages":
        body = {"model": model, "max_tokens": 4000, "stream": True, "messages": [{"role": "user", "content": "?"}]}
        return api.post("/v1/messages", {**body, **members})
    members = {"stream": True, **members}
    return api.ask(client, model, say="?", **members)


def text_of(client: str, reply: Reply) -> str:
    if client == "gemini":
        parts = [part for event in reply.events for one in event["candidates"] for part in one["content"]["parts"]]
        return "".join(part["text"] for part in parts)
    if client == "messages":
        return "".join(event["delta"]["text"] for event in reply.events if event["type"] == "content_block_delta")
    return reply.text


def usage_of(client: str, reply: Reply) -> tuple[int, int]:
    end = reply.events[-1]
    match client:
        case "responses":
            usage = end["response"]["usage"]
        case "chat":
            return end["usage"]["prompt_tokens"], end["usage"]["completion_tokens"]
        case "messages":
            usage = reply.events[-2]["usage"]
        case _:
            return end["usageMetadata"]["promptTokenCount"], end["usageMetadata"]["candidatesTokenCount"]
    return usage["input_tokens"], usage["output_tokens"]


def marks(reply: Reply) -> list[dict[str, Any]]:
    """What the comments say of who went on."""
    found = [frame.raw for frame in read_frames(reply.content) if b"tidegate-continued" in frame.raw]
    return [json.loads(raw.removeprefix(b": tidegate-continued ")) for raw in found]


def check_ending(client: str, reply: Reply) -> None:
    """One stream, with one beginning and one true ending."""
    match client:
        case "responses":
            response = check_stream(reply.frames)
            assert response["status"] == "completed"
            assert [item["type"] for item in response["output"]] == ["message"]
            assert response["output"][0]["content"][0]["text"] == text_of(client, reply)
            for event in reply.events:
                check_event(event)
        case "chat":
            assert reply.content.endswith(b"data: [DONE]\n\n")
            assert reply.content.count(b"[DONE]") == 1
            heads = {(event["id"], event["created"], event["model"]) for event in reply.events}
            assert len(heads) == 1
            said = [event["choices"][0] for event in reply.events if event["choices"]]
            assert [one["finish_reason"] for one in said if one["finish_reason"]] == ["stop"]
            assert sum("role" in one["delta"] for one in said) == 1
        case "messages":
            kinds = [kind for kind in reply.kinds if kind not in ("content_block_delta", "ping")]
            assert kinds == [
                "message_start",
                "content_block_start",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
            assert {event["index"] for event in reply.events if "index" in event} == {0}
        case _:
            assert len({(event["responseId"], event["modelVersion"]) for event in reply.events}) == 1
            reasons = [one.get("finishReason") for event in reply.events for one in event["candidates"]]
            assert [one for one in reasons if one] == ["STOP"]


@pytest.mark.parametrize("second", PROVIDERS)
@pytest.mark.parametrize("first", PROVIDERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_another_deployment_goes_on_in_the_same_stream(api: Api, client: str, first: str, second: str) -> None:
    extra = {"stream_options": {"include_usage": True}} if client == "chat" else {}
    reply = ask(api, client, f"{first}-{second}-cut", **extra)
    assert reply.status == 200
    assert text_of(client, reply) == WHOLE
    check_ending(client, reply)
    (mark,) = marks(reply)
    assert mark["deployment"] == f"{second}/lorem?chunks=12&size=24"
    assert mark["after"].startswith(f"{first}/lorem")
    assert (mark["error"], mark["usage"]) == ("upstream_broken", "estimated")
    assert WHOLE[: mark["characters"]].endswith("sit")
    if client == "responses":
        assert reply.events[-1]["response"]["tidegate"] == {"continued": [mark]}
    # The one that went on was shown the text so far, in its own dialect.
    known = {"openai": "/v1/responses", "compatible": "/v1/chat/completions", "anthropic": "/v1/messages"}
    path = asked_path(api.upstream)
    assert path == known.get(second, path) or (client, second) == ("chat", "openai")
    assert PATHS[second] in path or (client, second) == ("chat", "openai")
    assert WHOLE[: mark["characters"]] in json.dumps(api.sent)
    # Each is charged for its part, and the client is told the sum.
    entry = api.gateway.usage(reply.request_id)
    assert (entry["status"], entry["ending"], entry["attempts"]) == (200, "completed", 2)
    assert entry["deployment"] == f"{second}/lorem?chunks=12&size=24"
    assert entry["estimated"] is True
    assert usage_of(client, reply) == (entry["input_tokens"], entry["output_tokens"])


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.fault("FAULT-STALL")
@pytest.mark.fault("FAULT-IN-BAND")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("client", "first", "second"),
    [("responses", "openai", "compatible"), ("chat", "compatible", "openai"), ("messages", "compatible", "anthropic")],
)
def test_however_it_breaks_off(api: Api, client: str, first: str, second: str, fault: str) -> None:
    reply = ask(api, client, f"{first}-{second}-{fault}")
    assert text_of(client, reply) == WHOLE
    check_ending(client, reply)
    assert len(marks(reply)) == 1


def test_googles_array_is_one_document(api: Api) -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "?"}]}]}
    for first in ("gemini", "compatible"):
        reply = api.post(f"/v1beta/models/{first}-openai-cut:streamGenerateContent", body)
        said = [part["text"] for chunk in reply.json for one in chunk["candidates"] for part in one["content"]["parts"]]
        assert "".join(said) == WHOLE


def test_official_clients_notice_nothing(gateway: Running) -> None:
    with openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as gpt:
        with gpt.responses.stream(model="openai-anthropic-cut", input="?") as stream:
            final = stream.until_done().get_final_response()
        assert final.output_text == WHOLE
        assert final.to_dict()["tidegate"]
        with gpt.chat.completions.stream(
            model="compatible-gemini-cut", messages=[{"role": "user", "content": "?"}]
        ) as chunks:
            assert chunks.get_final_completion().choices[0].message.content == WHOLE
        text = "".join(
            chunk.choices[0].text
            for chunk in gpt.completions.create(model="compatible-gemini-cut", prompt="?", stream=True)
        )
        assert text == WHOLE
    with (
        anthropic.Anthropic(base_url=gateway.origin, api_key="unused", max_retries=0, timeout=20) as claude,
        claude.messages.stream(
            model="anthropic-openai-cut", max_tokens=4000, messages=[{"role": "user", "content": "?"}]
        ) as message,
    ):
        assert message.get_final_text() == WHOLE


@pytest.mark.parametrize("model", ["openai-compatible-cut", "compatible-openai-cut"])
def test_what_is_kept_has_no_seam(api: Api, model: str) -> None:
    reply = ask(api, "responses", model)
    response = reply.events[-1]["response"]
    assert response["store"] is True
    assert api.get(f"/v1/responses/{response['id']}").json == response
    whole = reply.events
    for after in range(len(whole)):
        rest = api.get(f"/v1/responses/{response['id']}?stream=true&starting_after={after}")
        assert rest.events == whole[after + 1 :]
    assert api.get(f"/v1/responses/{response['id']}?stream=true").content == reply.content


def test_in_the_background_it_goes_on_as_well(api: Api) -> None:
    begun = api.post("/v1/responses", {"model": "openai-compatible-cut", "input": "?", "background": True}).json
    address = f"/v1/responses/{begun['id']}"
    assert wait_for(lambda: api.get(address).json["status"] not in ("queued", "in_progress"))
    ended = api.get(address).json
    assert (ended["status"], ended["output"][0]["content"][0]["text"]) == ("completed", WHOLE)
    assert ended["tidegate"]["continued"][0]["error"] == "upstream_broken"
    assert api.ask("responses", "compatible/echo", say="And?", previous_response_id=begun["id"]).status == 200
    assert WHOLE in json.dumps(api.sent)


def test_a_stream_of_chat_is_picked_up_behind_the_break(api: Api) -> None:
    body = {"model": "compatible-openai-cut", "messages": [{"role": "user", "content": "?"}], "stream": True}
    reply = api.post("/v1/chat/completions", body, headers={"tidegate-resume-grace": "5"})
    name = reply.headers["tidegate-stream"]
    for after in (0, 4, 8, 11):
        rest = api.get(f"/v1/streams/{name}?starting_after={after}")
        assert rest.frames == reply.frames[after + 1 :]


def test_who_cannot_go_on_is_passed_over(api: Api) -> None:
    for client in CLIENTS:
        reply = ask(api, client, "thrice")
        assert text_of(client, reply) == WHOLE
        check_ending(client, reply)
        first, second = marks(reply)
        assert first["deployment"].startswith("anthropic/")
        assert (first["after"].partition("/")[0], second["after"].partition("/")[0]) == ("openai", "anthropic")
        assert second["characters"] > first["characters"]
        entry = api.gateway.usage(reply.request_id)
        assert (entry["attempts"], entry["ending"]) == (4, "completed")


def test_when_nobody_is_left_it_fails_as_it_broke_off(api: Api) -> None:
    reply = ask(api, "responses", "hopeless")
    response = check_stream(reply.frames, cut=True)
    assert response["status"] == "failed"
    assert "openai" in response["error"]["message"]
    assert marks(reply) == []
    entry = api.gateway.usage(reply.request_id)
    assert (entry["ending"], entry["error"], entry["attempts"]) == ("failed", "upstream_broken", 2)
    reply = ask(api, "chat", "hopeless")
    assert reply.events[-1]["error"]["code"] == "upstream_broken"
    assert b"[DONE]" not in reply.content


def test_the_same_deployment_goes_on_where_there_is_no_other(api: Api) -> None:
    reply = ask(api, "chat", "same")
    assert reply.text == WHOLE
    check_ending("chat", reply)
    assert api.gateway.usage(reply.request_id)["attempts"] == 2


@pytest.mark.parametrize("alias", ["closed", "leading-on"])
def test_an_alias_that_does_not_say_so_ends_there(api: Api, alias: str) -> None:
    """Even where it leads to one that does."""
    for client in CLIENTS:
        reply = ask(api, client, alias)
        assert marks(reply) == []
        assert b"upstream_broken" in reply.content or b"closed the connection" in reply.content
        assert WHOLE not in reply.content.decode()
        assert api.gateway.usage(reply.request_id)["attempts"] == 1


def test_words_to_begin_with_are_for_models_that_take_them(api: Api) -> None:
    reply = ask(api, "chat", "old-claude")
    assert reply.text == "The tide is high. And low."
    assert api.sent["messages"][-1] == {
        "role": "assistant",
        "content": [{"type": "text", "text": "The tide is high."}],
    } or api.sent["messages"][-1] == {"role": "assistant", "content": "The tide is high."}
    reply = ask(api, "chat", "new-claude")
    assert reply.text == "The tide is high. And low."
    assert [message["role"] for message in api.sent["messages"]] == ["user", "assistant", "user"]
    ask(api, "chat", "old-claude", reasoning_effort="high")
    assert api.sent["messages"][-1]["role"] == "user"


def test_a_torn_word_is_not_said_twice(api: Api) -> None:
    assert ask(api, "chat", "torn").text == "the quick brown fox"


def test_less_may_be_said_behind_what_was_said(api: Api) -> None:
    reply = ask(api, "chat", "compatible-openai-cut", max_completion_tokens=1000)
    assert marks(reply)[0]["characters"] == 144
    assert api.sent["max_completion_tokens"] == 1000 - 144 // 4


def test_what_the_next_one_cannot_have_is_named_or_it_is_passed_over(api: Api) -> None:
    reply = ask(api, "chat", "compatible-anthropic-cut", verbosity="low")
    assert reply.text == WHOLE
    assert marks(reply)[0]["dropped"] == ["verbosity"]
    reply = ask(api, "chat", "compatible-anthropic-cut", seed=7)
    assert marks(reply) == []
    assert reply.events[-1]["error"]["code"] == "upstream_broken"
    assert api.gateway.usage(reply.request_id)["attempts"] == 1


def test_thoughts_that_nobody_signed_are_shown_once(api: Api) -> None:
    reply = ask(api, "responses", "thinking")
    response = check_stream(reply.frames)
    assert response["status"] == "completed"
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert len(marks(reply)) == 1
    thought = "".join(event["delta"] for event in reply.events if event["type"] == "response.reasoning_text.delta")
    assert thought == response["output"][0]["content"][0]["text"]
    reply = ask(api, "chat", "thinking")
    after = reply.content.partition(b"tidegate-continued")[2]
    assert after
    assert b"reasoning_content" not in after


TOOL = {"type": "function", "name": "tide", "parameters": {"type": "object", "properties": {}}}
SCHEMA = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("client", "model", "members", "why"),
    [
        ("responses", "tools", {"tools": [TOOL]}, "not_plain_text"),
        ("responses", "refusal", {}, "not_plain_text"),
        ("messages", "signed", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "not_plain_text"),
        ("responses", "signed", {"reasoning": {"effort": "high"}}, "not_plain_text"),
        ("responses", "openai-openai-cut", {"text": {"format": SCHEMA}}, "request"),
        ("responses", "openai-openai-cut", {"top_logprobs": 2, "include": ["message.output_text.logprobs"]}, "request"),
        ("chat", "compatible-openai-cut", {"logprobs": True}, "request"),
        ("chat", "compatible-openai-cut", {"n": 2}, "request"),
        ("chat", "compatible-openai-cut", {"response_format": {"type": "json_object"}}, "request"),
        ("responses", "done", {}, "not_plain_text"),
        ("responses", "part-done", {}, "not_plain_text"),
        ("messages", "block-done", {}, "not_plain_text"),
        ("chat", "block-done", {}, "not_plain_text"),
        ("responses", "silent", {}, "nothing_said"),
        ("responses", "stateful", {}, "request"),
    ],
)
def test_what_is_more_than_text_fails_as_ever(
    api: Api, client: str, model: str, members: dict[str, Any], why: str
) -> None:
    first = model.partition("-")[0]
    if first not in (*PROVIDERS, "stateful"):
        first = "anthropic" if model in ("signed", "block-done") else "openai"
    sample = f'tidegate_answers_broken_off_total{{outcome="{why}",provider="{first}"}}'
    before = labelled(api, sample)
    reply = ask(api, client, model, **members)
    assert reply.status == 200
    assert b"upstream_broken" in reply.content or b"closed the connection" in reply.content
    assert marks(reply) == []
    if client == "responses":
        assert check_stream(reply.frames, cut=True)["status"] == "failed"
    entry = api.gateway.usage(reply.request_id)
    assert (entry["ending"], entry["attempts"]) == ("failed", 1)
    assert labelled(api, sample) == before + 1


def test_what_a_filter_has_stopped_stays_stopped(api: Api) -> None:
    calls = api.calls
    reply = ask(api, "chat", "filtered")
    assert reply.events[-1]["error"]["code"] == "content_filter"
    assert api.calls == calls + 1


def test_the_total_clock_holds_for_all_together(api: Api) -> None:
    body = {"model": "slow", "messages": [{"role": "user", "content": "?"}], "stream": True}
    reply = api.post("/v1/chat/completions", body, headers={"tidegate-timeout": "600ms"})
    assert len(marks(reply)) == 1
    assert "total" in reply.events[-1]["error"]["message"]


def test_log_and_metrics_tell_of_it(api: Api) -> None:
    sample = 'tidegate_answers_broken_off_total{outcome="continued",provider="gemini"}'
    before = labelled(api, sample)
    reply = ask(api, "responses", "gemini-gemini-eof")
    assert labelled(api, sample) == before + 1
    (line,) = [
        line
        for line in api.gateway.log_lines
        if line["event"] == "answer_broke_off" and line["request_id"] == reply.request_id
    ]
    assert (line["outcome"], line["error"]) == ("continued", "upstream_broken")
    assert line["deployment"].startswith("gemini/lorem")


def test_a_client_that_leaves_takes_whoever_goes_on_with_it(gateway: Running) -> None:
    body = httpx.Request(
        "POST", "http://x/", json={"model": "slow", "messages": [{"role": "user", "content": "?"}], "stream": True}
    ).content
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: gone-behind-the-break\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        received = b""
        while b"tidegate-continued" not in received:
            received += client.recv(65536)
        upstream = gateway.sim.requests[-1]
    left = gateway.call(lambda: gateway.loop.time())
    assert wait_for(lambda: upstream.closed_by_peer_at is not None)
    assert upstream.closed_by_peer_at is not None
    assert upstream.closed_by_peer_at - left < 1
    entry = gateway.usage("gone-behind-the-break")
    assert (entry["ending"], entry["attempts"], entry["estimated"]) == ("client_gone", 2, True)


def test_events_over_websocket_have_no_seam_either(gateway: Running) -> None:
    with Socket(gateway) as socket:
        events = socket.turn(model="openai-anthropic-cut", input="?", stream=True)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == WHOLE
    assert events[-1]["response"]["tidegate"]["continued"]


def chunk(text: str | None, reason: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }


def usage(prompt: int, completion: int) -> dict[str, Any]:
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**chunk(None), "choices": [], "usage": counted}


def test_what_each_has_counted_is_charged_once(tmp_path: Path) -> None:
    with (
        Canned(sse_answer(chunk("high "), {**chunk("tide"), "usage": usage(7, 2)["usage"]})) as first,
        Canned(sse_answer(chunk(" and low"), chunk(None, "stop"), usage(20, 3), b"data: [DONE]\n\n")) as second,
        Running(
            "[server]\nport = 0\n[routing]\nretries = 0\n"
            + first.toml("first", "openai-compatible", 'speaks = ["chat"]')
            + second.toml("second", "openai-compatible", 'speaks = ["chat"]')
            + '[models.a]\ntarget = "first/m"\nfallback = ["second/m"]\ncontinue_broken = true\n'
        ) as gateway,
        Api(gateway) as api,
    ):
        reply = ask(api, "responses", "a")
        assert reply.text == "high tide and low"
        response = check_stream(reply.frames)
        assert (response["usage"]["input_tokens"], response["usage"]["output_tokens"]) == (27, 5)
        assert "usage" not in marks(reply)[0]
        entry = gateway.usage(reply.request_id)
        assert (entry["input_tokens"], entry["output_tokens"], entry["estimated"]) == (27, 5, False)
        said = second.requests[-1]["messages"]
        assert [message["role"] for message in said] == ["user", "assistant", "user"]
        assert said[1]["content"] == "high tide"
        assert "exactly where it stops" in said[2]["content"]


BROKEN = sse_answer(chunk("high "), chunk("tide"))
REST = sse_answer(chunk(" and low"), chunk(None, "stop"), usage(20, 3), b"data: [DONE]\n\n")
SECRET = "key-0123456789abcdef0123456789ab-one"
ASKED = b'{"model":"a","stream":true,"max_completion_tokens":10,"messages":[{"role":"user","content":"?"}]}'
FRAMED = len(ASKED) + 2560
"""More tokens than the provider reads of that (docs, limits)."""


@pytest.mark.parametrize(
    ("input_price", "budget", "goes_on"),
    [
        (0, 0.015, False),
        (0, 0.02, True),
        # What was said has to be read as well.
        (100, 2 * (FRAMED * 0.0001 + 0.01 + 200 * 0.0001), False),
        (100, 2 * (FRAMED * 0.0001 + 0.01 + 600 * 0.0001), True),
    ],
)
def test_a_budget_covers_both_attempts_or_there_is_one(
    tmp_path: Path, input_price: int, budget: float, goes_on: bool
) -> None:
    with (
        Canned(BROKEN) as first,
        Canned(REST) as second,
        Running(
            f'[server]\nport = 0\ndata_dir = "{tmp_path}"\n[routing]\nretries = 0\n'
            f'[prices."*"]\ninput = {input_price}\noutput = 1000\n'
            f'[[keys]]\nname = "one"\nsecret = "{SECRET}"\nlimits = {{ cost = {{ month = {budget:.6f} }} }}\n'
            + first.toml("first", "openai-compatible", 'speaks = ["chat"]')
            + second.toml("second", "openai-compatible", 'speaks = ["chat"]')
            + '[models.a]\ntarget = "first/m"\nfallback = ["second/m"]\ncontinue_broken = true\n'
        ) as gateway,
        Api(gateway, authorization=f"Bearer {SECRET}") as api,
    ):
        reply = api.post("/v1/chat/completions", ASKED)
        assert len(second.requests) == goes_on
        if goes_on:
            assert reply.text == "high tide and low"
            assert reply.content.endswith(b"data: [DONE]\n\n")
        else:
            assert reply.text == "high tide"
            assert reply.events[-1]["error"]["code"] == "upstream_broken"
            assert b"[DONE]" not in reply.content
