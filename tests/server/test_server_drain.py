"""Being told to stop: what runs may finish, what cannot is ended in its own form, nothing is cut (promise P9)."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.raw import Raw, frames, get, post
from tests.support.running import SIM_ONLY, Running, wait_for

BODIES = {
    "/v1/responses": '"input":"x"',
    "/v1/chat/completions": '"messages":[{"role":"user","content":"x"}]',
    "/v1/completions": '"prompt":"x"',
}


def draining(grace: str) -> Running:
    return Running(SIM_ONLY.replace("[server]", f'[server]\ndrain = "{grace}"'))


def ask(path: str, options: str, *, stream: bool = True) -> bytes:
    return post(f'{{"model":"sim/lorem?{options}",{BODIES[path]},"stream":{str(stream).lower()}}}'.encode(), path=path)


def stop(gateway: Running) -> float:
    """Begin draining; returns when that was."""
    gateway.server.should_exit = True
    assert wait_for(lambda: _refused(gateway.port))
    return time.monotonic()


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_running_streams_finish_within_the_grace_period_and_the_gateway_does_not_wait_longer() -> None:
    with draining("20s") as gateway:
        with Raw(gateway) as client:
            client.send(ask("/v1/responses", "chunks=8&gap=100")).until(b"output_text.delta")
            client.buffer = b""
            stopped = stop(gateway)
            assert client.rest().endswith(b"\r\n0\r\n\r\n")
        gateway._thread.join(5)
        assert not gateway._thread.is_alive()
        assert time.monotonic() - stopped < 4


def test_an_answer_that_begins_while_draining_announces_the_close() -> None:
    with draining("20s") as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "chunks=2&head_delay=800"))
        wait_for(lambda: any(one.method == "POST" for one in gateway.sim.requests))
        stop(gateway)
        answer = client.response()
        assert b"response.completed" in frames(answer.body)[-1].partition(b"\n")[0]
        assert answer.closes
        assert client.rest() == b""


def test_a_waiting_connection_learns_that_the_gateway_is_not_ready_and_is_closed() -> None:
    with draining("20s") as gateway, Raw(gateway) as asking, Raw(gateway) as idle:
        assert asking.ask(get("/readyz")).status == 200
        assert idle.ask(get("/healthz")).status == 200
        gateway.server.should_exit = True
        wait_for(lambda: gateway.call(lambda: gateway.server.config.app.gateway.draining))  # type: ignore[union-attr]
        answer = asking.ask(get("/readyz"))
        assert (answer.status, answer.json) == (503, {"status": "draining"})
        assert answer.closes
        assert asking.rest() == b""
        started = time.monotonic()
        assert idle.rest() == b""
        assert time.monotonic() - started < 2


def test_requests_that_wait_in_the_pipeline_are_answered_before_the_close() -> None:
    with draining("20s") as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "chunks=2&delay=500") + get("/healthz") + ask("/v1/responses", "chunks=2"))
        wait_for(lambda: any(one.method == "POST" for one in gateway.sim.requests))
        stop(gateway)
        answers = [client.response() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert [answer.closes for answer in answers] == [False, False, True]
        assert client.rest() == b""


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_that_runs_out_of_grace_is_ended_in_the_form_of_its_dialect(path: str) -> None:
    with draining("200ms") as gateway, Raw(gateway) as client:
        client.send(ask(path, "chunks=1000&gap=20"))
        head = client.response(head_only=True)
        client.chunk()
        stopped = stop(gateway)
        body = b""
        while piece := client.chunk():  # the empty chunk is a whole end, not a cut
            body += piece
        assert client.rest() == b""
        assert time.monotonic() - stopped < 3
    ending = frames(body)[-2:]
    if path == "/v1/responses":
        assert [one.partition(b"\n")[0] for one in ending] == [b"event: error", b"event: response.failed"]
        failed = json.loads(ending[1].partition(b"data: ")[2])
        assert failed["response"]["status"] == "failed"
        assert "gateway_shutting_down" in str(failed["response"]["error"])
    else:
        assert b"[DONE]" not in body
        error = json.loads(ending[1].partition(b"data: ")[2])["error"]
        assert error["code"] == "gateway_shutting_down"
    (line,) = [one for one in gateway.log_lines if one.get("request_id") == head["x-request-id"]]
    assert line["ending"] == "failed"
    assert line["error"] == "gateway_shutting_down"


def test_an_answer_in_one_body_that_runs_out_of_grace_is_a_503() -> None:
    with draining("200ms") as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "delay=60000", stream=False))
        wait_for(lambda: any(one.method == "POST" for one in gateway.sim.requests))
        stop(gateway)
        answer = client.response()
        assert answer.status == 503
        assert answer.code == "gateway_shutting_down"
        assert answer.closes


def test_without_grace_the_endings_still_reach_the_clients() -> None:
    with draining("0s") as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "chunks=1000&gap=20")).until(b"output_text.delta")
        gateway.server.should_exit = True
        rest = client.rest()
        assert b"event: response.failed\n" in rest
        assert rest.endswith(b"0\r\n\r\n")


def test_sigterm_drains_a_process(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text(f'[server]\nport = 0\ndrain = "300ms"\ndata_dir = "{tmp_path}"\n[providers.sim]\n')
    command = [sys.executable, "-m", "tidegate", "serve", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}) as process:
        assert process.stdout is not None
        found = re.search(rb":(\d+)$", process.stdout.readline().strip())
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=10) as client:
            client.sendall(ask("/v1/responses", "chunks=1000&gap=20"))
            received = client.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
            process.send_signal(signal.SIGTERM)
            while data := client.recv(65536):
                received += data
        assert b"event: response.failed\n" in received
        assert received.endswith(b"0\r\n\r\n")
        _, errors = process.communicate(timeout=10)
        assert process.returncode in (0, -signal.SIGTERM)
        assert b"Traceback" not in errors
