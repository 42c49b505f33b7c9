"""The sim as a server: connections, recorded requests, pace, back-pressure, refusals, and a process of its own."""

import asyncio
import errno
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from typing import Any

import httpx
import msgspec
import pytest
import trustme
import uvloop

from tidegate.sim import SCRIPTS, CannotListen, SimServer, describe_options
from tidegate.sim.options import OptionError, Options, read_options, split_model


def test_a_connection_serves_many_requests_and_all_are_recorded(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        for _ in range(3):
            wire.send("chat", tools.body("chat", "echo", stream=True))
            assert (await wire.receive()).ended == "complete"
        await tools.ask(sim, "responses", "echo")
        assert sim.connections_total == 2
        assert [request.connection_id for request in sim.requests] == [1, 1, 1, 2]
        first = sim.requests[0]
        assert (first.method, first.path, first.headers["x-test"]) == ("POST", "/v1/chat/completions", "a, b")
        assert first.json == tools.body("chat", "echo", stream=True)
        assert first.finished_at is not None
        assert first.finished_at >= first.started_at
        assert first.closed_by_peer_at is None
        await wire.close()

    tools.run(scenario)


def test_requests_that_arrive_together_are_answered_in_order(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        for model in ("lorem?text=one", "lorem?text=two&delay=20", "lorem?text=three"):
            wire.send("completions", tools.body("completions", model))
        raw = b""
        while raw.count(b'"object":"text_completion"') < 3:
            raw += await wire.reader.read(65536)
        assert re.findall(rb'"text":"(\w+)"', raw) == [b"one", b"two", b"three"]
        await wire.close()

    tools.run(scenario)


def test_only_so_many_requests_are_kept_and_none_if_asked(tools: Any) -> None:
    async def scenario(sim: SimServer) -> int:
        for _ in range(4):
            await tools.ask(sim, "chat", "echo")
        return len(sim.requests)

    assert tools.run(scenario, keep_requests=3) == 3
    assert tools.run(scenario, keep_requests=0) == 0


@pytest.mark.parametrize(
    "model", ["lorem?fault=stall", "lorem?fault=stall_head", "lorem?gap=50&chunks=1000", "lorem?delay=9000"]
)
@pytest.mark.parametrize("abrupt", [True, False])
def test_a_client_that_leaves_is_noticed_at_once(tools: Any, model: str, abrupt: bool) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        wire.send("responses", tools.body("responses", model, stream=True))
        await wire.receive(0.15, limit=500)
        left = asyncio.get_running_loop().time()
        if abrupt:
            wire.writer.transport.abort()
        else:
            await wire.close()
        await asyncio.sleep(0.05)
        request = sim.requests[0]
        assert request.closed_by_peer_at is not None
        assert 0 <= request.closed_by_peer_at - left < 0.05
        assert request.finished_at is None
        assert sim.connections == 0

    tools.run(scenario)


@pytest.mark.alone
def test_frames_keep_the_pace_that_was_asked(tools: Any) -> None:
    seen = tools.once("chat", "lorem?chunks=10&delay=60&gap=20", stream=True)
    gaps = [b - a for a, b in zip(seen.reads, seen.reads[1:], strict=False)]
    assert gaps[0] >= 0.055
    # 13 frames: 12 gaps. The due times do not drift, so the sum is near and never short.
    assert 0.235 <= seen.reads[-1] - seen.reads[1] < 0.6


def test_without_a_gap_frames_are_writes_of_their_own_and_burst_joins_them(tools: Any) -> None:
    model = "lorem?chunks=200&size=40"
    assert len(tools.once("chat", model, stream=True).reads) > 20
    assert len(tools.once("chat", f"{model}&burst=1&chunks=20".replace("chunks=200&", ""), stream=True).reads) == 1


def test_head_delay_and_delay_hold_back_the_right_thing(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        loop = asyncio.get_running_loop()
        for model, stream, head_waits in (
            ("echo?delay=80", True, False),
            ("echo?head_delay=80", True, True),
            ("echo?delay=80", False, True),
        ):
            begun = loop.time()
            seen = await tools.ask(sim, "chat", model, stream=stream)
            assert (seen.reads[0] - begun > 0.075) is head_waits
            assert seen.reads[-1] - begun > 0.075

    tools.run(scenario)


def test_bench_answers_are_built_once(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        model = "bench?chunks=5"
        first = await tools.ask(sim, "responses", model, stream=True)
        again = await tools.ask(sim, "responses", model, stream=True, temperature=0.1)
        assert first.raw == again.raw
        assert (await tools.ask(sim, "responses", model)).header("content-type") == "application/json"
        with_usage = await tools.ask(sim, "chat", model, stream=True, stream_options={"include_usage": True})
        without = await tools.ask(sim, "chat", model, stream=True)
        assert len(with_usage.frames) == len(without.frames) + 1
        assert (await tools.ask(sim, "chat", "bench?chunks=0")).status == 400
        statuses = [(await tools.ask(sim, "chat", "bench?status=503&times=1")).status for _ in range(3)]
        assert statuses == [503, 200, 200]
        assert (await tools.ask(sim, "chat", "bench?fault=cut", stream=True)).ended == "eof"
        short = await tools.ask(sim, "chat", "bench?chunks=6", stream=True, max_tokens=1, n=2)
        assert len(short.data) == 9

    tools.run(scenario, keep_requests=0)


def test_models_have_further_names(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        seen = await tools.ask(sim, "chat", "gpt-5.2")
        body = json.loads(seen.body)
        assert (body["model"], body["choices"][0]["message"]["content"]) == ("gpt-5.2", "hello")
        async with httpx.AsyncClient(base_url=sim.base_url, trust_env=False) as client:
            listed = (await client.get("models")).json()
            assert listed["object"] == "list"
            assert [model["id"] for model in listed["data"]] == [*SCRIPTS, "gpt-5.2"]
            one = (await client.get("models/gpt-5.2")).json()
            assert one == {"id": "gpt-5.2", "object": "model", "created": one["created"], "owned_by": "sim"}
            assert (await client.get("models/none")).json()["error"]["code"] == "model_not_found"

    tools.run(scenario, models={"gpt-5.2": "lorem?text=hello"})


@pytest.mark.parametrize(("endpoint", "body", "status", "param", "says"), [
    ("chat", b"{", 400, None, "parse the JSON body"),
    ("chat", b"[1]", 400, None, "not an object"),
    ("chat", b"", 400, None, "parse the JSON body"),
    ("chat", {"messages": []}, 400, "model", "Missing required parameter: 'model'"),
    ("chat", {"model": 3, "messages": []}, 400, "model", "expected a string"),
    ("chat", {"model": "echo"}, 400, "messages", "Missing required parameter: 'messages'"),
    ("chat", {"model": "echo", "messages": []}, 400, "messages", "empty array"),
    ("chat", {"model": "echo", "messages": "hi"}, 400, "messages", "an array"),
    ("responses", {"model": "echo"}, 400, "input", "Missing required parameter: 'input'"),
    ("responses", {"model": "echo", "input": 3}, 400, "input", "a string or an array"),
    ("responses", {"model": "echo", "input": "x", "stream": "yes"}, 400, "stream", "a boolean"),
    ("responses", {"model": "echo", "input": "x", "max_output_tokens": 0}, 400, "max_output_tokens", "below minimum"),
    ("responses", {"model": "echo", "input": "x", "stop": 1}, 400, "stop", "a string or an array"),
    ("chat", {"model": "echo", "messages": [{}], "n": 129}, 400, "n", "<= 128"),
    ("chat", {"model": "lorem?chunks=100000&size=100000", "messages": [{}]}, 400, "model", "at most"),
    ("completions", {"model": "echo", "prompt": {}}, 400, "prompt", "a string or an array"),
    ("chat", {"model": "gpt-0", "messages": [{}]}, 404, "model", "does not exist"),
    ("chat", {"model": "demo:latest", "messages": [{}]}, 404, "model", "does not exist"),
    ("chat", {"model": "echo?chunk=1", "messages": [{}]}, 400, "model", "no option 'chunk'"),
    ("chat", {"model": "echo?chunks=x", "messages": [{}]}, 400, "model", "$.chunks"),
    ("chat", {"model": "echo?fault=fire", "messages": [{}]}, 400, "model", "no fault 'fire'"),
    ("/v1/nowhere", {}, 404, None, "Invalid URL (POST /v1/nowhere)"),
    ("/chat/completions", {}, 404, None, "Invalid URL"),
])  # fmt: skip
def test_bad_requests_are_refused_as_openai_does(
    tools: Any, endpoint: str, body: Any, status: int, param: str | None, says: str
) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        wire.send(endpoint, body)
        seen = await wire.receive()
        error = json.loads(seen.body)["error"]
        assert (seen.status, error["param"], set(error)) == (status, param, {"message", "type", "param", "code"})
        assert error["type"] == "invalid_request_error"
        assert says in error["message"]
        await wire.close()

    tools.run(scenario)


def test_health_is_answered_and_other_methods_are_not(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        base = sim.base_url.removesuffix("/v1")
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            assert (await client.get("/healthz")).text == "ok\n"
            head = await client.head("/healthz")
            assert (head.status_code, head.headers["content-length"], head.content) == (200, "3", b"")
            assert (await client.get("/v1/responses")).status_code == 405
            assert (await client.delete("/v1/models")).status_code == 404

    tools.run(scenario)


def test_what_is_not_http_gets_400_and_a_closed_connection(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        wire.writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await wire.reader.read()).startswith(b"HTTP/1.1 400 ")
        await wire.close()

    tools.run(scenario)


def test_connection_close_is_honoured(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        wire.writer.write(b"GET /healthz HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n")
        assert (await wire.reader.read()).endswith(b"ok\n")
        await wire.close()

    tools.run(scenario)


def test_stopping_cuts_open_streams_and_frees_the_port(tools: Any) -> None:
    async def scenario(_: SimServer) -> None:
        sim = SimServer()
        await sim.start()
        wire = await tools.open(sim)
        wire.send("chat", tools.body("chat", "lorem?fault=stall", stream=True))
        await wire.receive(0.1)
        await sim.stop()
        await sim.stop()
        assert sim.connections == 0
        with pytest.raises(ConnectionError):
            await tools.open(sim)
        await wire.close()

    tools.run(scenario)


def test_a_taken_port_is_an_error(tools: Any) -> None:
    async def scenario(sim: SimServer) -> None:
        with pytest.raises(CannotListen, match="already in use"):
            await SimServer(port=sim.port).start()

    tools.run(scenario)


def test_tls_works_and_breaks_off_like_plain_text(tools: Any) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)

    async def scenario(sim: SimServer) -> None:
        assert sim.base_url.startswith("https://")
        for model, ended in (
            ("echo", "complete"),
            ("echo?fault=stall", "quiet"),
            ("echo?fault=cut", "eof"),
            ("echo?fault=reset", "reset"),
        ):
            wire = await tools.open(sim, client)
            wire.send("chat", tools.body("chat", model, stream=True))
            assert (await wire.receive()).ended == ended
            wire.writer.transport.abort()

    tools.run(scenario, ssl_context=server)


@pytest.mark.parametrize(("model", "ended"), [
    ("lorem?gap=1", "complete"),
    ("lorem?fault=reset", "reset"),
    ("lorem?fault=cut", "eof"),
    ("lorem?fault=stall", "quiet"),
])  # fmt: skip
def test_uvloop_plays_the_same(tools: Any, model: str, ended: str) -> None:
    async def main() -> None:
        async with SimServer() as sim:
            assert (await tools.ask(sim, "responses", model, stream=True)).ended == ended

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_model_name_is_read_in_both_forms() -> None:
    assert split_model("echo") == ("echo", {})
    assert split_model("echo?text=a%26b+c&gap=5") == ("echo", {"text": "a&b c", "gap": "5"})
    assert split_model("echo:text=a%2Cb,gap=5") == ("echo", {"text": "a,b", "gap": "5"})
    assert split_model("echo:latest") == ("echo:latest", {})
    for wrong in ("echo?gap", "echo?gap=1&gap=2"):
        with pytest.raises(OptionError):
            split_model(wrong)


def test_every_option_is_described_and_typed() -> None:
    described = describe_options()
    assert all(described.values())
    assert read_options({"gap": "1.5", "crlf": "1", "done": "0", "after": "0"}, {"size": 3}) == Options(
        gap=1.5, crlf=True, done=False, after=0, size=3
    )
    for wrong in (
        {"gap": "-1"},
        {"status": "99"},
        {"usage": "often"},
        {"parallel": "0"},
        {"delay": "nan"},
        {"after": "-1"},
    ):
        with pytest.raises(OptionError):
            read_options(wrong, {})
    for name, script in SCRIPTS.items():
        assert msgspec.convert(script.defaults, Options), name


MODULE = ("tidegate.sim",)
COMMAND = ("tidegate", "sim")
either = pytest.mark.parametrize("program", [MODULE, COMMAND], ids=" ".join)


def run_sim(*arguments: str, program: tuple[str, ...] = MODULE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@either
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_as_a_program_until_a_signal_and_says_nothing_at_the_end(
    program: tuple[str, ...], number: signal.Signals
) -> None:
    with run_sim("--port", "0", program=program) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().split()[-1]
        asked = {"model": "lorem?chunks=500&gap=100", "prompt": "", "stream": True}
        with httpx.stream("POST", f"{base_url}/completions", json=asked, trust_env=False) as reply:
            assert next(reply.iter_raw())
            process.send_signal(number)
            assert process.wait(10) == 0
        assert process.communicate() == ("", "")


def test_the_module_gives_scripts_further_names() -> None:
    with run_sim("--port", "0", "--model", "mine=lorem?text=hi") as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().split()[-1]
        reply = httpx.post(f"{base_url}/completions", json={"model": "mine", "prompt": ""}, trust_env=False)
        assert reply.json()["choices"][0]["text"] == "hi"
        process.terminate()


@either
def test_the_program_lists_what_it_can_do(program: tuple[str, ...]) -> None:
    with run_sim("--list", program=program) as process:
        out, _ = process.communicate(timeout=10)
        assert "demo" in out
        assert "stall_head" in out


@either
def test_a_taken_port_is_said_plainly_with_what_to_do(program: tuple[str, ...]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with run_sim("--port", str(port), program=program) as process:
            out, err = process.communicate(timeout=10)
    assert out == ""
    reason = os.strerror(errno.EADDRINUSE)
    said = f"Cannot listen on 127.0.0.1:{port}: {reason}. Choose another port with --port.\n"
    assert err.removeprefix("Error: ") == said
    assert process.returncode == (1 if program == MODULE else 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "203.0.113.7"), f"Cannot listen on 203.0.113.7:9100: {os.strerror(errno.EADDRNOTAVAIL)}."),
        (("--port", "70000"), "Cannot listen on 127.0.0.1:70000: "),
    ],
)
def test_an_address_that_cannot_be_bound_is_said_plainly(arguments: tuple[str, ...], said: str) -> None:
    with run_sim(*arguments) as process:
        _, err = process.communicate(timeout=10)
    assert err.startswith(said)
    assert err.count("\n") == 1
