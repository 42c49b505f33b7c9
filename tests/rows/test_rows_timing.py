"""Rows S74 and S75: nothing waits, and every wait has a deadline of its own."""

import itertools
import json
import socket
import statistics
import time
from typing import Any

import httpx
import pytest

from tests.support.api import ENDPOINTS, PATHS, Api, request_body
from tests.support.canned import Canned, sse_answer
from tests.support.running import Running
from tests.upstream.stage import full_listener
from tidegate.config.load import load
from tidegate.providers.record import Clocks

CLOCKED = """
[server]
port = 0
[providers.total]
kind = "sim"
base_url = "{sim}"
timeouts = { total = "700ms" }
[models.slow]
targets = [{ model = "total/lorem?delay=900", timeouts = { total = "5s", first_event = "300ms" } }]
"""


@pytest.mark.row("S74")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("after", [4, 7])
def test_every_chunk_arrives_while_the_next_one_is_still_unsent(api: Api, endpoint: str, after: int) -> None:
    """The provider sends `after` events and then nothing: all of them must be here although none follows."""
    body = request_body(endpoint, f"patient/lorem?fault=stall&after={after}", stream=True)
    received = b""
    started = time.monotonic()
    with api.http.stream("POST", PATHS[endpoint], json=body) as response:
        for data in response.iter_raw():
            received += data
            if received.count(b"\n\n") == after:
                break
    assert received.count(b"\n\n") == after
    assert received.endswith(b"\n\n")
    assert time.monotonic() - started < 2


@pytest.mark.alone
@pytest.mark.row("S74")
def test_frames_are_not_collected_into_fewer_writes(api: Api) -> None:
    times = []
    with api.http.stream(
        "POST", "/v1/responses", json=request_body("responses", "sim/lorem?chunks=5&gap=60", stream=True)
    ) as response:
        for data in response.iter_raw():
            times += [time.monotonic()] * data.count(b"response.output_text.delta\ndata")
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) == 4
    assert all(gap > 0.02 for gap in gaps), gaps


@pytest.mark.row("S75")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_stream_without_a_first_event_gets_504_that_names_the_clock(api: Api, endpoint: str) -> None:
    for model in ("hasty/lorem?delay=5000", "hasty/lorem?head_delay=5000", "hasty/lorem?fault=stall_head"):
        started = time.monotonic()
        reply = api.ask(endpoint, model, stream=True)
        assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
        assert "first_event clock" in reply.error["message"]
        assert "0.6 s" in reply.error["message"]
        assert "'hasty'" in reply.error["message"]
        assert 0.5 < time.monotonic() - started < 2


@pytest.mark.row("S75")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_stream_that_falls_silent_is_ended_by_the_idle_clock(api: Api, endpoint: str) -> None:
    started = time.monotonic()
    reply = api.ask(endpoint, "hasty/lorem?fault=stall", stream=True)
    error = reply.events[-1]["response"]["error"] if endpoint == "responses" else reply.events[-1]["error"]
    assert "idle clock" in error["message"]
    assert 0.5 < time.monotonic() - started < 2
    assert api.gateway.usage(reply.request_id)["error"] == "upstream_timeout"


@pytest.mark.row("S75")
def test_a_healthy_stream_may_last_longer_than_every_clock_but_the_total(api: Api) -> None:
    started = time.monotonic()
    reply = api.ask("responses", "hasty/lorem?chunks=10&gap=150", stream=True)
    assert reply.kinds[-1] == "response.completed"
    assert time.monotonic() - started > 1.4


@pytest.mark.row("S75")
def test_pings_of_the_provider_keep_a_stream_alive(api: Api) -> None:
    body = request_body("responses", "hasty/lorem?fault=ping&gap=100", stream=True)
    started = time.monotonic()
    with api.http.stream("POST", "/v1/responses", json=body) as response:
        for _ in response.iter_raw():
            if time.monotonic() - started > 1.5:
                break
    assert time.monotonic() - started > 1.5


@pytest.mark.row("S75")
def test_total_is_a_clock_of_its_own_and_a_deployment_may_have_its_own_clocks() -> None:
    with Running(CLOCKED) as gateway, Api(gateway) as api:
        whole = api.ask("responses", "total/lorem?head_delay=3000")
        assert (whole.status, whole.error["code"]) == (504, "upstream_timeout")
        assert "total clock" in whole.error["message"]
        stream = api.ask("responses", "total/lorem?chunks=50&gap=50", stream=True)
        assert "total clock" in stream.events[-1]["response"]["error"]["message"]
        # A deployment has clocks of its own, which win over its provider's.
        slow = api.ask("responses", "slow", stream=True)
        assert slow.status == 504
        assert "0.3 s (first_event clock)" in slow.error["message"]


@pytest.mark.row("S75")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_answer_in_one_body_is_not_held_to_the_first_event_clock(api: Api, endpoint: str) -> None:
    reply = api.ask(endpoint, "hasty/lorem?head_delay=1200")
    assert reply.status == 200


@pytest.mark.row("S75")
def test_a_request_may_lower_the_total_clock(api: Api) -> None:
    started = time.monotonic()
    reply = api.ask("responses", "sim/lorem?head_delay=5000", headers={"tidegate-timeout": "400ms"})
    assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
    assert "0.4 s (total clock)" in reply.error["message"]
    assert time.monotonic() - started < 2
    with Running(CLOCKED) as gateway, Api(gateway) as clocked:
        # It cannot raise it.
        held = clocked.ask("responses", "total/lorem?head_delay=3000", headers={"tidegate-timeout": "5s"})
        assert held.status == 504
        assert "0.7 s (total clock)" in held.error["message"]
    wrong = api.ask("responses", headers={"tidegate-timeout": "soon"})
    assert (wrong.status, wrong.error["code"]) == (400, "invalid_timeout")


@pytest.mark.row("S75")
def test_thirty_seconds_is_the_default_of_first_event_and_idle_and_no_stream_has_a_total(api: Api) -> None:
    config = load('[providers.openai]\ncredentials = ["k"]\n', "tidegate.toml", {})
    clocks = config.providers["openai"].record().clocks_for("gpt-5.2", stream=True)
    assert (clocks.first_event, clocks.idle, clocks.total) == (30, 30, None)
    assert clocks == Clocks()
    whole = config.providers["openai"].record().clocks_for("gpt-5.2", stream=False)
    assert whole.total == 600


@pytest.mark.row("S75")
def test_a_client_sees_the_first_event_at_once_even_when_the_clock_is_long(api: Api) -> None:
    body = request_body("chat", "patient/lorem?fault=stall&after=1", stream=True)
    with api.http.stream("POST", PATHS["chat"], json=body, timeout=httpx.Timeout(3)) as response:
        assert response.status_code == 200
        assert next(response.iter_raw()).startswith(b"data: {")


TICKS: dict[str, dict[str, Any]] = {
    "responses": {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "delta": "tick"},
    "chat": {"choices": [{"index": 0, "delta": {"content": "tick"}, "finish_reason": None}]},
    "completions": {"choices": [{"index": 0, "text": "tick", "finish_reason": None}]},
}


class Ticking(Canned):
    """A provider that notes when it sends each of its chunks."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(sse_answer())
        self._chunk = f"data: {json.dumps(TICKS[endpoint])}\n\n".encode()
        self.sent: list[float] = []

    def _answer(self, connection: socket.socket) -> None:
        super()._answer(connection)
        self.sent = []
        for _ in range(30):
            time.sleep(0.01)
            self.sent.append(time.monotonic())
            connection.sendall(self._chunk)


def median_delay(api: Api, url: str, endpoint: str, provider: Ticking) -> float:
    """Seconds from where a chunk is sent to where it is received, for the chunk in the middle."""
    received: list[float] = []
    with api.http.stream("POST", url + PATHS[endpoint], json=request_body(endpoint, "canned/m", stream=True)) as reply:
        for data in reply.iter_raw():
            received += [time.monotonic()] * data.count(b'"tick"')
    return statistics.median(there - here for here, there in zip(provider.sent, received, strict=True))


@pytest.mark.alone
@pytest.mark.row("S74")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_gateway_adds_less_than_five_milliseconds_to_a_chunk(endpoint: str) -> None:
    """The best of five runs counts: a busy machine spoils some of them, a gateway that waits spoils them all."""
    with (
        Ticking(endpoint) as provider,
        Running(f"[server]\nport = 0\n{provider.toml()}") as gateway,
        Api(gateway) as api,
    ):
        added: list[float] = []
        while len(added) < 5 and min(added, default=1) >= 0.005:
            direct = median_delay(api, provider.url.removesuffix("/v1"), endpoint, provider)
            added.append(median_delay(api, gateway.origin, endpoint, provider) - direct)
    assert min(added) < 0.005, added


@pytest.mark.row("S75")
@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_takes_no_connection_is_given_up_by_the_connect_clock(stream: bool) -> None:
    with full_listener() as port:
        toml = f"""
        [server]
        port = 0
        [providers.far]
        kind = "sim"
        base_url = "http://127.0.0.1:{port}/v1"
        models = ["m"]
        timeouts = {{ connect = "400ms" }}
        """
        with Running(toml) as gateway, Api(gateway) as api:
            started = time.monotonic()
            reply = api.ask("responses", "far/m", stream=stream)
            assert 0.3 < time.monotonic() - started < 2
    assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
    assert "'far'" in reply.error["message"]
    assert "0.4 s (connect clock)" in reply.error["message"]
