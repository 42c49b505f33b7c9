"""Each fault, as the client of the sim meets it on the wire."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from tidegate.sim import FAULTS, SimServer, listing

BOTH = ["responses", "chat", "completions"]
TERMINAL = {"response.completed", "response.incomplete", "response.failed"}


def finished(endpoint: str, data: list[Any]) -> bool:
    """Whether a stream came to its proper end."""
    if endpoint == "responses":
        return any(event["type"] in TERMINAL for event in data)
    return "[DONE]" in data


def test_every_fault_is_described_and_listed() -> None:
    text = listing()
    assert all(fault.summary and f"  {name} " in text for name, fault in FAULTS.items())


@pytest.mark.parametrize("fault", sorted(FAULTS))
@pytest.mark.parametrize("endpoint", BOTH)
@pytest.mark.parametrize("stream", [True, False])
def test_no_fault_breaks_the_sim_itself(tools: Any, fault: str, endpoint: str, stream: bool) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        wire.send(endpoint, tools.body(endpoint, f"echo?fault={fault}&total=1000", stream=stream))
        seen = await wire.receive(0.1, limit=200_000)
        assert b"The sim is broken" not in seen.raw
        await wire.close()
        assert (await tools.ask(sim, "chat", "echo")).status == 200

    tools.run(scenario)


@pytest.mark.parametrize(
    ("fault", "ended"), [("stall", "quiet"), ("reset", "reset"), ("cut", "eof"), ("close", "eof"), ("eof", "complete")]
)
@pytest.mark.parametrize("endpoint", BOTH)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_stream_breaks_off_after_so_many_frames(
    tools: Any, fault: str, ended: str, endpoint: str, after: int
) -> None:
    seen = tools.once(endpoint, f"lorem?fault={fault}&after={after}", stream=True)
    assert (seen.status, seen.ended, len(seen.frames)) == (200, ended, after)
    assert not finished(endpoint, seen.data)
    assert bool(seen.body.rpartition(b"\n\n")[2]) is (fault == "cut")


@pytest.mark.parametrize(("endpoint", "frames"), [("responses", 5), ("chat", 2), ("completions", 1)])
def test_without_after_the_first_content_is_sent(tools: Any, endpoint: str, frames: int) -> None:
    seen = tools.once(endpoint, "lorem?fault=stall", stream=True)
    assert len(seen.frames) == frames
    assert b" 0 lorem" in seen.frames[-1]


@pytest.mark.parametrize(("fault", "ended"), [("stall", "quiet"), ("reset", "reset"), ("cut", "eof"), ("close", "eof")])
def test_a_body_that_is_not_streamed_breaks_off_in_the_middle(tools: Any, fault: str, ended: str) -> None:
    seen = tools.once("chat", f"lorem?fault={fault}")
    assert seen.ended == ended
    assert 0 < len(seen.body) < int(seen.header("content-length"))
    assert tools.once("chat", f"lorem?fault={fault}&after=0").body == b""


def test_truncated_json_is_complete_for_http_only(tools: Any) -> None:
    seen = tools.once("chat", "lorem?fault=truncated_json")
    assert (seen.ended, seen.header("content-length")) == ("complete", str(len(seen.body)))
    with pytest.raises(json.JSONDecodeError):
        json.loads(seen.body)


def test_an_error_in_a_responses_stream_is_followed_by_failed(tools: Any) -> None:
    events = tools.once("responses", "lorem?fault=error&code=rate_limit_exceeded&message=slow+down", stream=True).data
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-2]["error"]["message"] == "slow down"
    assert events[-1]["response"]["error"] == {"code": "rate_limit_exceeded", "message": "slow down"}
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    flat = tools.once("responses", "lorem?fault=error&only=1&shape=flat", stream=True).data
    assert set(flat[-1]) == {"type", "sequence_number", "code", "message", "param"}
    silent = tools.once("responses", "lorem?fault=failed&after=2", stream=True).types
    assert silent == ["response.created", "response.in_progress", "response.failed"]


def test_an_error_in_a_chat_stream_ends_it(tools: Any) -> None:
    events = tools.once("chat", "lorem?fault=error", stream=True).data
    assert set(events[-1]) == {"error"}
    assert set(events[-1]["error"]) == {"message", "type", "param", "code"}
    assert tools.once("chat", "lorem?fault=error&done=1", stream=True).data[-1] == "[DONE]"
    chunk = tools.once("chat", "lorem?fault=failed", stream=True).data[-1]
    assert chunk["choices"][0]["finish_reason"] == "error"
    assert chunk["error"]["code"] == "server_error"


def test_errors_of_answers_that_are_not_streamed(tools: Any) -> None:
    assert tools.once("chat", "lorem?fault=error").status == 500
    failed = json.loads(tools.once("responses", "lorem?fault=failed").body)
    assert (failed["object"], failed["status"], failed["error"]["code"]) == ("response", "failed", "server_error")


def test_frames_that_cannot_be_read(tools: Any) -> None:
    garbage = tools.once("responses", "lorem?fault=garbage&after=4", stream=True).frames
    with pytest.raises(json.JSONDecodeError):
        json.loads(garbage[4].partition(b"data: ")[2])
    assert b"response.completed" in garbage[-1]
    for endpoint in BOTH:
        bad = tools.once(endpoint, "lorem?fault=badutf8", stream=True)
        broken = [frame for frame in bad.frames if b"\xff" in frame]
        assert len(broken) == 1
    with pytest.raises(UnicodeDecodeError):
        tools.once("chat", "lorem?fault=badutf8").body.decode()


def test_sequence_numbers_that_jump_or_stand_still(tools: Any) -> None:
    jump = [
        event["sequence_number"] for event in tools.once("responses", "lorem?fault=seq_jump&after=4", stream=True).data
    ]
    assert jump[:6] == [0, 1, 2, 3, 11, 12]
    stuck = [
        event["sequence_number"] for event in tools.once("responses", "lorem?fault=seq_stuck&after=4", stream=True).data
    ]
    assert stuck[:6] == [0, 1, 2, 3, 3, 4]


@pytest.mark.parametrize("fault", ["keepalive", "unknown", "dup_role"])
def test_added_events_are_numbered_without_a_gap(tools: Any, fault: str) -> None:
    events = tools.once("responses", f"lorem?fault={fault}", stream=True).data
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert len(events) == 1 + len(tools.once("responses", "lorem", stream=True).data)


def test_events_that_come_twice_too_late_or_never(tools: Any) -> None:
    assert tools.once("responses", "lorem?fault=dup_finish", stream=True).types[-2:] == ["response.completed"] * 2
    finishes = [
        event["choices"][0]["finish_reason"]
        for event in tools.once("chat", "lorem?fault=dup_finish", stream=True).data[:-1]
    ]
    assert finishes.count("stop") == 2
    late = tools.once("chat", "lorem?fault=extra_after_end", stream=True).data
    assert late[-2] == "[DONE]"
    assert late[-1]["choices"][0]["delta"]["content"]
    assert tools.once("responses", "lorem?fault=extra_after_end", stream=True).types[-2:] == [
        "response.completed",
        "response.output_text.delta",
    ]
    assert tools.once("responses", "lorem?fault=headless", stream=True).types[0] == "response.output_item.added"
    first = tools.once("chat", "lorem?fault=headless", stream=True).data[0]
    assert "role" not in first["choices"][0]["delta"]
    roles = [
        event["choices"][0]["delta"].get("role")
        for event in tools.once("chat", "lorem?fault=dup_role", stream=True).data[:-1]
    ]
    assert roles[:3] == ["assistant", "assistant", None]


@pytest.mark.parametrize("fault", ["endless", "longline"])
def test_a_stream_without_an_end_is_held_back_by_a_client_that_does_not_read(tools: Any, fault: str) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        wire.send("responses", tools.body("responses", f"lorem?fault={fault}&total=100000000", stream=True))
        seen = await wire.receive(1.0, limit=3_000_000)
        assert len(seen.raw) >= 3_000_000
        await asyncio.sleep(0.2)
        connection = next(iter(sim._house.open))
        assert connection._transport.get_write_buffer_size() < 1_000_000
        wire.writer.transport.abort()
        await asyncio.sleep(0.05)
        assert sim.connections == 0
        assert sim.requests[0].closed_by_peer_at is not None

    tools.run(scenario)


def test_an_endless_stream_stays_numbered(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        wire.send("responses", tools.body("responses", "lorem?fault=endless", stream=True))
        seen = await wire.receive(1.0, limit=100_000)
        assert [event["sequence_number"] for event in seen.data] == list(range(len(seen.data)))
        await wire.close()

    tools.run(scenario)


def test_a_long_line_has_its_size(tools: Any) -> None:
    body = tools.once("chat", "lorem?fault=longline&total=300000&after=1", stream=True).body
    assert len(body.rpartition(b"\n")[2]) == len(b'data: {"delta":"') + 300_000


def test_pings_go_on_and_nothing_else_comes(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        wire.send("chat", tools.body("chat", "lorem?fault=ping&after=1&gap=5", stream=True))
        seen = await wire.receive(1.0, limit=2000)
        assert seen.frames.count(b": ping") > 100
        assert len(seen.data) == 1
        await wire.close()

    tools.run(scenario)


def test_success_that_is_none(tools: Any) -> None:
    for stream in (True, False):
        wrong = tools.once("chat", "lorem?fault=json200", stream=stream)
        assert (wrong.status, wrong.header("content-type"), set(json.loads(wrong.body))) == (
            200,
            "application/json",
            {"error"},
        )
        page = tools.once("chat", "lorem?fault=html200", stream=stream)
        assert (page.status, page.header("content-type")) == (200, "text/html")
        empty = tools.once("chat", "lorem?fault=empty200", stream=stream)
        assert (empty.status, empty.body, empty.ended) == (200, b"", "complete")
        assert tools.once("chat", "lorem?fault=wrong_type", stream=stream).header("content-type") == "text/plain"
        assert tools.once("chat", "lorem?fault=no_type", stream=stream).header("content-type") is None


def test_a_redirect_names_its_target(tools: Any) -> None:
    seen = tools.once("chat", "lorem?fault=redirect&location=http%3A%2F%2F10.0.0.1%2F", stream=True)
    assert (seen.status, seen.header("location")) == (302, "http://10.0.0.1/")


def test_compressed_bodies(tools: Any) -> None:
    seen = tools.once("chat", "echo?fault=gzip", stream=True)
    assert seen.header("content-encoding") == "gzip"
    assert gzip.decompress(seen.body).endswith(b"data: [DONE]\n\n")
    bomb = tools.once("chat", "echo?fault=gzip_bomb&total=5000000")
    assert len(bomb.body) < 10_000
    assert len(gzip.decompress(bomb.body)) == 5_000_000


def test_heads_that_never_come_or_come_wrong(tools: Any) -> None:
    assert (tools.once("chat", "lorem?fault=stall_head").raw, tools.once("chat", "lorem?fault=stall_head").ended) == (
        b"",
        "quiet",
    )
    assert (tools.once("chat", "lorem?fault=close_head").raw, tools.once("chat", "lorem?fault=close_head").ended) == (
        b"",
        "eof",
    )
    assert tools.once("chat", "lorem?fault=not_http").ended == "invalid"
    assert tools.once("chat", "lorem?fault=bad_chunk_size", stream=True).ended == "invalid"
    assert tools.once("chat", "lorem?fault=both_lengths").raw.count(b"content-length: 5\r\n") == 1
    assert len(tools.once("chat", "lorem?fault=many_headers").raw.partition(b"\r\n\r\n")[0]) > 64 * 1024
    early = tools.once("chat", "lorem?fault=continue100", stream=True)
    assert early.raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert early.data[-1] == "[DONE]"


def test_a_slow_head_trickles(tools: Any) -> None:
    seen = tools.once("chat", "lorem?fault=head_slow&gap=4", stream=True)
    head = len(seen.raw.partition(b"\r\n\r\n")[0])
    assert seen.reads[-1] - seen.reads[0] >= head / 16 * 0.003
    assert seen.data[-1] == "[DONE]"


def test_a_connection_that_dies_between_two_requests(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        for fault, second in (("close_keepalive", "eof"), ("stale", "eof")):
            wire = await tools.open(sim)
            for ended in ("complete", second):
                wire.send("chat", tools.body("chat", f"echo?fault={fault}"))
                seen = await wire.receive()
                assert seen.ended == ended
                assert seen.header("connection") is None
            assert seen.raw == b""
            await wire.close()

    tools.run(scenario)


def test_an_answer_that_nobody_asked_for_follows(tools: Any) -> None:
    seen = tools.once("chat", "echo?fault=unsolicited")
    assert seen.ended == "complete"
    assert seen.raw.endswith(b'{"stolen":true}')


@pytest.mark.parametrize(("status", "code", "kind"), [
    (400, None, "invalid_request_error"),
    (401, "invalid_api_key", "invalid_request_error"),
    (404, "model_not_found", "invalid_request_error"),
    (429, "rate_limit_exceeded", "requests"),
    (500, "server_error", "server_error"),
    (503, "server_is_overloaded", "service_unavailable_error"),
    (529, "server_error", "server_error"),
])  # fmt: skip
def test_any_status_has_the_error_envelope(tools: Any, status: int, code: str | None, kind: str) -> None:
    seen = tools.once("responses", f"lorem?status={status}", stream=True)
    error = json.loads(seen.body)["error"]
    assert (seen.status, list(error)) == (status, ["message", "type", "param", "code"])
    assert (error["code"], error["type"]) == (code, kind)


def test_error_bodies_and_headers_of_other_kinds(tools: Any) -> None:
    assert tools.once("chat", "lorem?status=502&body=html").body.startswith(b"<!doctype html>")
    assert tools.once("chat", "lorem?status=502&body=empty").body == b""
    assert tools.once("chat", "lorem?status=502&body=text&message=down").body == b"down"
    told = tools.once(
        "chat", "lorem?status=400&code=context_length_exceeded&type=x&retry_after=Wed,+21+Oct+2015&retry_after_ms=7"
    )
    assert (told.header("retry-after"), told.header("retry-after-ms")) == ("Wed, 21 Oct 2015", "7")
    error = json.loads(told.body)["error"]
    assert (error["code"], error["type"]) == ("context_length_exceeded", "x")


def test_times_lets_later_requests_succeed(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        assert [(await tools.ask(sim, "chat", "echo?status=503&times=2")).status for _ in range(4)] == [
            503,
            503,
            200,
            200,
        ]
        streams = [await tools.ask(sim, "chat", "echo?fault=eof&times=1", stream=True) for _ in range(2)]
        assert [finished("chat", seen.data) for seen in streams] == [False, True]

    tools.run(scenario)


FORMS = {
    # how the first frame of a chat stream begins
    "bom": b"\xef\xbb\xbfdata: {",
    "cr_only": b"data: {",
    "no_space": b"data:{",
    "more_fields": b": tide\nid: 1\nretry: 1000\nripple: 1\nripple\ndata: {",
    "multiline": b"data: {\ndata: ",
    "no_blank_line": b"data: {",
}


@pytest.mark.parametrize("fault", FORMS)
def test_a_stream_may_be_framed_in_every_form(tools: Any, fault: str) -> None:
    body = tools.once("chat", f"echo?fault={fault}", stream=True).body
    assert body.startswith(FORMS[fault])
    assert (b"\n" in body) is (fault != "cr_only")
    assert body.endswith(
        {"cr_only": b"data: [DONE]\r\r", "no_space": b"data:[DONE]\n\n", "no_blank_line": b"data: [DONE]"}.get(
            fault, b"data: [DONE]\n\n"
        )
    )


@pytest.mark.parametrize(
    ("fault", "indexes", "ids"),
    [
        ("call_no_id", [0, 0, 0, 1, 1, 1], 0),
        ("call_no_index", [None] * 6, 2),
        ("call_same_index", [0] * 6, 2),
        ("call_interleaved", [0, 1, 0, 1, 0, 1], 2),
        ("call_whole", [0, 1], 2),
    ],
)
def test_calls_may_come_in_every_form(tools: Any, fault: str, indexes: list[int | None], ids: int) -> None:
    function = {"name": "tide", "parameters": {"type": "object", "properties": {"harbour": {"type": "string"}}}}
    offered = [{"type": "function", "function": function}]
    seen = tools.once("chat", f"tools?parallel=2&chunks=2&fault={fault}", stream=True, tools=offered)
    deltas = [event["choices"][0]["delta"] for event in seen.data if event != "[DONE]" and event["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [call.get("index") for call in calls] == indexes
    assert len({call["id"] for call in calls if "id" in call}) == ids
    assert "".join(call["function"]["arguments"] for call in calls).count("sim") == 2
