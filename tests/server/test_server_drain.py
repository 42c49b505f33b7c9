"""Being told to stop: what runs may finish, what cannot is ended in its own form, nothing is cut (promise P9)."""

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.forms import TRANSCRIPTIONS, echo_of, form, noise, spools, upload
from tests.support.raw import Raw, Response, frames, get, post
from tests.support.running import SIM_ONLY, Running, wait_for

pytestmark = pytest.mark.fault("FAULT-SIGTERM")

GEMINI = "/v1beta/models/sim/lorem%3F{options}:streamGenerateContent?alt=sse"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/responses": {"input": "x"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"prompt": "x"},
    "/v1/messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9999},
    GEMINI: {"contents": [{"role": "user", "parts": [{"text": "x"}]}]},
}
each_dialect = pytest.mark.parametrize("path", BODIES, ids=["responses", "chat", "completions", "messages", "gemini"])
STOPPING = "The gateway is shutting down; send the request again."


def draining(grace: str, *, delay: str = "0s", folder: Path | None = None) -> Running:
    kept = "" if folder is None else f'\ndata_dir = "{folder}"'
    return Running(SIM_ONLY.replace("[server]", f'[server]\ndrain = "{grace}"\ndrain_delay = "{delay}"{kept}'))


def ask(path: str, options: str, *headers: str, stream: bool = True, **more: Any) -> bytes:
    body = {**BODIES[path], **more}
    if path != GEMINI:
        body |= {"model": f"sim/lorem?{options}", "stream": stream}
    target = path.replace("{options}", options.replace("&", "%26").replace("=", "%3D"))
    return post(json.dumps(body).encode(), *headers, path=target)


def begin(gateway: Running) -> float:
    """Tell it to stop; returns when it has noticed."""
    gateway.server.should_exit = True
    assert wait_for(lambda: gateway.call(lambda: gateway.server.config.app.gateway.draining))  # type: ignore[union-attr]
    return time.monotonic()


def stop(gateway: Running) -> float:
    """Begin draining; returns when nothing new is taken."""
    gateway.server.should_exit = True
    assert wait_for(lambda: _refused(gateway.port))
    return time.monotonic()


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def ended(gateway: Running) -> float:
    """Wait until it has stopped; returns when that was."""
    gateway._thread.join(10)
    assert not gateway._thread.is_alive()
    return time.monotonic()


def whole(client: Raw) -> bytes:
    """The rest of a chunked stream, which has to end well before the connection does."""
    body = b""
    while piece := client.chunk():  # the empty chunk is a whole end, not a cut
        body += piece
    assert client.rest() == b""
    return body


def check_refusal(answer: Response, path: str) -> None:
    """The gateway is shutting down, says the answer, in the form of the dialect."""
    assert answer["retry-after"] == "1"
    assert answer.closes
    assert answer.json["error"]["message"] == STOPPING
    if path == "/v1/messages":
        assert answer.status == 529
        assert (answer.json["type"], answer.json["error"]["type"]) == ("error", "overloaded_error")
    elif path == GEMINI:
        assert answer.status == 503
        assert (answer.json["error"]["code"], answer.json["error"]["status"]) == (503, "UNAVAILABLE")
    else:
        assert (answer.status, answer.code) == (503, "gateway_shutting_down")


# -- before anything ends ---------------------------------------------------------------------------------------------


def test_an_idle_gateway_stops_at_once_also_with_connections_that_are_kept() -> None:
    took = []
    for _ in range(3):
        with draining("20s") as gateway, Raw(gateway) as used, Raw(gateway) as other:
            assert used.ask(get("/healthz")).status == other.ask(post()).status == 200
            began = time.monotonic()
            gateway.server.should_exit = True
            assert used.rest() == other.rest() == b""
            took.append(ended(gateway) - began)
    assert min(took) < 0.3


def test_a_refused_client_that_keeps_its_connection_holds_up_no_stop() -> None:
    """Its answer has left; only what it might still be sending is waited for."""
    with draining("10s") as gateway, Raw(gateway) as client:
        client.send(b"GET /admin/v1/usage HTTP/1.1\r\nHost: elsewhere.example.com\r\n\r\n")
        assert client.response().status == 403
        begun = begin(gateway)
        assert ended(gateway) - begun < 1.5


def test_during_the_delay_it_says_that_it_stops_and_serves_whoever_comes() -> None:
    with draining("20s", delay="700ms") as gateway, Raw(gateway) as kept:
        assert kept.ask(get("/readyz")).status == 200
        began = begin(gateway)
        with Raw(gateway) as fresh:
            answer = fresh.ask(get("/readyz"))
            assert (answer.status, answer.json) == (503, {"status": "draining"})
        for path in BODIES:
            with Raw(gateway) as fresh:
                answer = fresh.ask(ask(path, "chunks=2"))
                assert answer.status == 200
                assert answer.closes  # so that the client's next request goes to another gateway
                assert fresh.rest() == b""
        answer = kept.ask(post())
        assert answer.status == 200
        assert answer.closes
        assert kept.rest() == b""
        assert time.monotonic() - began < 0.7, "too slow to have seen the delay"
        assert stop(gateway) - began > 0.5


def test_a_connection_that_was_there_in_time_is_served_although_its_request_comes_late() -> None:
    with draining("20s") as gateway, Raw(gateway) as client, Raw(gateway) as busy:
        busy.send(ask("/v1/responses", "chunks=5&gap=100")).until(b"output_text.delta")
        assert wait_for(lambda: gateway.call(lambda: len(gateway.server.server_state.connections)) == 2)
        stop(gateway)
        answer = client.ask(post())
        assert answer.status == 200
        assert answer.closes
        assert client.rest() == b""


def test_running_streams_finish_within_the_grace_period_and_the_gateway_does_not_wait_longer() -> None:
    with draining("20s") as gateway:
        with Raw(gateway) as client:
            client.send(ask("/v1/responses", "chunks=4&gap=100")).until(b"output_text.delta")
            client.buffer = b""
            stopped = stop(gateway)
            assert client.rest().endswith(b"\r\n0\r\n\r\n")
        assert ended(gateway) - stopped < 4


def test_an_answer_that_begins_while_draining_announces_the_close() -> None:
    with draining("20s") as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "chunks=2&head_delay=800"))
        wait_for(lambda: any(one.method == "POST" for one in gateway.sim.requests))
        stop(gateway)
        answer = client.response()
        assert b"response.completed" in frames(answer.body)[-1].partition(b"\n")[0]
        assert answer.closes
        assert client.rest() == b""


def test_requests_that_wait_in_the_pipeline_are_answered_before_the_close() -> None:
    with draining("20s") as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "chunks=2&delay=500") + get("/healthz") + ask("/v1/responses", "chunks=2"))
        wait_for(lambda: any(one.method == "POST" for one in gateway.sim.requests))
        stop(gateway)
        answers = [client.response() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert [answer.closes for answer in answers] == [False, False, True]
        assert client.rest() == b""


def test_new_requests_on_kept_connections_are_refused_in_the_form_of_their_dialect() -> None:
    with draining("20s") as gateway:
        clients = {path: Raw(gateway) for path in BODIES}
        for client in clients.values():
            client.send(ask("/v1/responses", "chunks=12&gap=50"))
        assert wait_for(lambda: len(gateway.sim.requests) >= len(clients))
        stop(gateway)
        for path, client in clients.items():
            client.send(ask(path, "chunks=2"))
            assert client.response().status == 200
            check_refusal(client.response(), path)
            assert client.rest() == b""
            client.sock.close()
        assert sum(one.method == "POST" for one in gateway.sim.requests) == len(clients)


def test_a_request_may_still_come_just_behind_a_last_answer_and_is_refused() -> None:
    with draining("20s") as gateway, Raw(gateway) as client, Raw(gateway) as silent:
        for one in (client, silent):
            one.send(ask("/v1/responses", "chunks=4&gap=100"))
        assert wait_for(lambda: len(gateway.sim.requests) >= 2)
        stop(gateway)
        assert client.response().status == silent.response().status == 200
        check_refusal(client.ask(post()), "/v1/responses")
        assert silent.rest() == b""


# -- out of grace -----------------------------------------------------------------------------------------------------


@each_dialect
def test_a_stream_that_runs_out_of_grace_is_ended_in_the_form_of_its_dialect(path: str) -> None:
    with draining("200ms") as gateway, Raw(gateway) as client:
        client.send(ask(path, "chunks=1000&gap=20"))
        head = client.response(head_only=True)
        first = client.chunk()
        stopped = stop(gateway)
        body = first + whole(client)
        assert time.monotonic() - stopped < 3
    ending = frames(body)[-2:]
    last = json.loads(ending[1].partition(b"data: ")[2])
    if path == "/v1/responses":
        assert [one.partition(b"\n")[0] for one in ending] == [b"event: error", b"event: response.failed"]
        assert body.count(b"event: response.failed\n") == body.count(b"event: error\n") == 1
        assert last["response"]["status"] == "failed"
        assert last["response"]["error"]["message"] == f"gateway_shutting_down: {STOPPING}"
    elif path == "/v1/messages":
        assert ending[1].startswith(b"event: error\n")
        assert body.count(b"event: error\n") == 1
        assert b"message_stop" not in body
        assert last["error"]["message"] == STOPPING
    elif path == GEMINI:
        assert (last["error"]["status"], last["error"]["message"]) == ("UNAVAILABLE", STOPPING)
        assert b"finishReason" not in body
    else:
        assert b"[DONE]" not in body
        assert b'"finish_reason":"' not in body
        assert last["error"]["code"] == "gateway_shutting_down"
        assert body.count(b'"error"') == 1
    (line,) = [one for one in gateway.log_lines if one.get("request_id") == head["x-request-id"]]
    assert line["ending"] == "failed"
    assert line["error"] == "gateway_shutting_down"


def test_an_answer_in_one_body_that_runs_out_of_grace_is_a_503() -> None:
    with draining("200ms") as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "delay=60000", stream=False))
        wait_for(lambda: any(one.method == "POST" for one in gateway.sim.requests))
        stop(gateway)
        check_refusal(client.response(), "/v1/responses")


def test_what_waits_behind_a_stream_that_runs_out_of_grace_is_refused_and_no_provider_is_asked() -> None:
    with draining("200ms") as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "chunks=1000&gap=20") + post())
        wait_for(lambda: any(one.method == "POST" for one in gateway.sim.requests))
        stop(gateway)
        assert b"event: response.failed\n" in client.response().body
        check_refusal(client.response(), "/v1/responses")
        assert sum(one.method == "POST" for one in gateway.sim.requests) == 1


def test_without_grace_the_endings_still_reach_the_clients() -> None:
    with draining("0s") as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "chunks=1000&gap=20")).until(b"output_text.delta")
        gateway.server.should_exit = True
        rest = client.rest()
        assert b"event: response.failed\n" in rest
        assert rest.endswith(b"0\r\n\r\n")


# -- uploads ----------------------------------------------------------------------------------------------------------

SOUND = noise(3 * 1024 * 1024)


def test_an_upload_that_is_under_way_is_taken_to_its_end(tmp_path: Path) -> None:
    with draining("20s", folder=tmp_path) as gateway, Raw(gateway) as client:
        request = upload(form(SOUND))
        client.send(request[: len(request) // 2])
        assert wait_for(lambda: gateway.call(lambda: len(spools(gateway).open)) == 1)
        stop(gateway)
        answer = client.ask(request[len(request) // 2 :])
        assert (answer.status, answer.json["text"]) == (200, echo_of(SOUND))
        assert answer.closes


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, "/v1/messages"])
def test_what_is_still_being_sent_when_the_grace_is_over_is_refused_and_not_cut(tmp_path: Path, path: str) -> None:
    with draining("200ms", folder=tmp_path) as gateway, Raw(gateway) as client:
        request = upload(form(SOUND)) if path == TRANSCRIPTIONS else ask(path, "chunks=2", pad="x" * 5000)
        client.send(request[: len(request) // 2])
        assert wait_for(lambda: gateway.call(lambda: len(gateway.server.server_state.connections)) == 1)
        stop(gateway)
        check_refusal(client.response(), path)
        assert client.rest() == b""
        ended(gateway)
        assert not gateway.server.config.app.spools.open  # type: ignore[union-attr]


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_a_stored_stream_names_where_it_is_read_again_and_is_found_there_as_it_ended(tmp_path: Path) -> None:
    with draining("200ms", folder=tmp_path) as gateway, Raw(gateway) as client:
        client.send(ask("/v1/responses", "chunks=1000&gap=20"))
        client.response(head_only=True)
        first = client.chunk()
        stop(gateway)
        body = first + whole(client)
    events = [json.loads(frame.partition(b"data: ")[2]) for frame in frames(body)]
    response = events[-1]["response"]
    message = response["error"]["message"]
    address = f"GET /v1/responses/{response['id']}"
    told = (
        "The gateway is shutting down, and the answer ends here. Send the request again. "
        f"What was said so far stands at {address}. "
        f"Where events were lost, they are at {address}?stream=true&starting_after=N, with N of the last event that came."
    )
    assert message == f"gateway_shutting_down: {told}"
    assert events[-2]["message"] == told
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    with draining("200ms", folder=tmp_path) as again, httpx.Client(base_url=again.origin, trust_env=False) as http:
        stored = http.get(f"/v1/responses/{response['id']}").json()
        assert stored == response
        (item,) = stored["output"]
        deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        assert (item["status"], item["content"][0]["text"]) == ("incomplete", "".join(deltas))
        for seen in (-1, 5, len(events) - 2):
            query = {"stream": "true", **({} if seen < 0 else {"starting_after": str(seen)})}
            rest = http.get(f"/v1/responses/{response['id']}", params=query)
            assert rest.content == b"".join(frames(body)[seen + 1 :])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"], ids=["chat", "messages"])
def test_a_stream_of_another_dialect_names_its_address_where_it_is_kept(tmp_path: Path, path: str) -> None:
    with draining("200ms", folder=tmp_path) as gateway, Raw(gateway) as client:
        client.send(ask(path, "chunks=1000&gap=20", "tidegate-resume-grace: 60s"))
        name = client.response(head_only=True)["tidegate-stream"]
        first = client.chunk()
        stop(gateway)
        body = first + whole(client)
    message = json.loads(frames(body)[-1].partition(b"data: ")[2])["error"]["message"]
    address = f"GET /v1/streams/{name}"
    assert message == (
        "The gateway is shutting down, and the answer ends here. Send the request again. "
        f"What was said so far stands at {address}. Where events were lost, they are at {address}?starting_after=N, "
        "with N of the last frame that came, counted from 0."
    )
    with draining("200ms", folder=tmp_path) as again, httpx.Client(base_url=again.origin, trust_env=False) as http:
        assert http.get(f"/v1/streams/{name}").content == body


def test_a_background_run_is_waited_for(tmp_path: Path) -> None:
    with draining("20s", folder=tmp_path) as gateway, Raw(gateway) as client:
        answer = client.ask(ask("/v1/responses", "chunks=6&gap=100", stream=False, background=True))
        assert answer.json["status"] == "queued"
        began = stop(gateway)
        assert 0.2 < ended(gateway) - began < 5
    with draining("0s", folder=tmp_path) as again, httpx.Client(base_url=again.origin, trust_env=False) as http:
        assert http.get(f"/v1/responses/{answer.json['id']}").json()["status"] == "completed"


@pytest.mark.parametrize(
    ("options", "stream"),
    [("delay=60000", False), ("chunks=1000&gap=20", False), ("chunks=1000&gap=20", True)],
    ids=["waiting", "polled", "streamed"],
)
def test_a_background_run_that_runs_out_of_grace_has_failed_for_that_reason(
    tmp_path: Path, options: str, stream: bool
) -> None:
    with draining("200ms", folder=tmp_path) as gateway, Raw(gateway) as client:
        answer = client.send(ask("/v1/responses", options, stream=stream, background=True)).response(head_only=stream)
        run = answer["tidegate-stream"] if stream else answer.json["id"]
        began = stop(gateway)
        assert ended(gateway) - began < 3
    with draining("0s", folder=tmp_path) as again, httpx.Client(base_url=again.origin, trust_env=False) as http:
        stored = http.get(f"/v1/responses/{run}").json()
        assert stored["status"] == "failed"
        assert stored["error"]["code"] == "server_error"
        assert stored["error"]["message"].startswith("gateway_shutting_down: ")
        assert f"GET /v1/responses/{run}." in stored["error"]["message"]
        events = [
            json.loads(frame.partition(b"data: ")[2])
            for frame in frames(http.get(f"/v1/responses/{run}?stream=true").content)
        ]
        assert events[-1]["type"] == "response.failed"
        assert events[-1]["response"] == stored
        deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        assert bool(deltas) == ("delay" not in options)
        assert "".join(item["content"][0]["text"] for item in stored["output"]) == "".join(deltas)
        assert sum(event["type"] == "response.failed" for event in events) == 1


@pytest.mark.parametrize("how", ["followed", "repeated"])
def test_what_another_gateway_gives_is_not_ended_here(tmp_path: Path, how: str) -> None:
    request = ask("/v1/responses", "chunks=90&gap=30", "idempotency-key: once")
    with draining("20s", folder=tmp_path) as gives, Raw(gives) as client:
        client.send(request)
        run = client.response(head_only=True)["tidegate-stream"]
        with draining("200ms", folder=tmp_path) as gateway, Raw(gateway) as other:
            assert wait_for(lambda: httpx.get(f"{gateway.url}/responses/{run}").status_code == 200)
            other.send(request if how == "repeated" else get(f"/v1/responses/{run}?stream=true"))
            assert other.response(head_only=True).status == 200
            part = other.chunk()
            stop(gateway)
            told = other.rest()
        assert b"response.failed" not in part + told
        assert b"HTTP/1.1" not in told
        assert not told.endswith(b"0\r\n\r\n")  # cut, so that nobody takes it for the whole
        client.until(b"event: response.completed\n")


@pytest.mark.parametrize("how", ["followed", "repeated"])
def test_whoever_reads_along_is_told_the_ending_too(tmp_path: Path, how: str) -> None:
    with draining("200ms", folder=tmp_path) as gateway, Raw(gateway) as client, Raw(gateway) as other:
        request = ask("/v1/responses", "chunks=1000&gap=20", "idempotency-key: once")
        client.send(request)
        run = client.response(head_only=True)["tidegate-stream"]
        first = client.chunk()
        other.send(request if how == "repeated" else get(f"/v1/responses/{run}?stream=true"))
        head = other.response(head_only=True)
        assert head.status == 200
        assert bool(head.all("tidegate-repeated")) == (how == "repeated")
        stop(gateway)
        bodies: list[bytes] = []
        reader = threading.Thread(target=lambda: bodies.append(whole(other)))
        reader.start()
        body = first + whole(client)
        assert b"Send the request again, with another Idempotency-Key. What was said so far" in body
        reader.join(5)
        assert frames(body)[-1].startswith(b"event: response.failed\n")
        assert bodies == [body]
