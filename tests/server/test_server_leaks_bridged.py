"""After many clients of every API have come and gone at providers of every other, nothing of them is left."""

import gc
import json
import random
from itertools import product
from typing import Any

import pytest

from tests.conformance.providers import PROVIDERS, TOML
from tests.server.test_server_leaks import counts
from tests.support.raw import Raw, get, post
from tests.support.running import Running, wait_for
from tidegate.gateway.exchange import Exchange

SCRIPTS = (
    "lorem:chunks=20,gap=5",
    "lorem:fault=reset,after=1",
    "lorem:fault=cut",
    "lorem:fault=stall_head",
    "lorem:status=500",
    "tools",
    "reasoning:gap=2",
)
IMAGE = "http://127.0.0.1:9/a.png"
MESSAGES: list[Any] = [{"role": "user", "content": "Hello ENDING"}]
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "responses": ("/v1/responses", {"input": "Hello"}),
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "stop": ["END"]}),
    "image": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}]},
    ),
    "completions": ("/v1/completions", {"prompt": "Hello"}),
    "messages": ("/v1/messages", {"max_tokens": 9, "messages": MESSAGES}),
    "count": ("/v1/messages/count_tokens", {"messages": MESSAGES}),
}


def come_and_go(gateway: Running, times: int) -> None:
    """Clients that stay to the end, leave in the middle, or leave at once."""
    chance = random.Random(times)
    ways = list(product(BODIES, PROVIDERS, SCRIPTS, (True, False), ("stay", "leave", "run")))
    for endpoint, provider, script, stream, manner in chance.sample(ways, times):
        path, members = BODIES[endpoint]
        body = {**members, "model": f"{provider}/{script}"}
        if endpoint != "count":
            body["stream"] = stream
        with Raw(gateway) as client:
            client.send(post(json.dumps(body).encode(), path=path))
            if manner == "stay" and "stall" not in script:
                client.response()
            elif manner == "leave" and "stall" not in script:
                client.until(b"\r\n\r\n")
                client.reset()
            else:
                client.reset()


@pytest.mark.fault("FAULT-LEAK")
def test_nothing_is_left_of_bridged_requests() -> None:
    with Running(TOML + "[egress]\nallow_private = true\n") as gateway:
        with Raw(gateway) as client:
            client.ask(get("/v1/models"))
        wait_for(lambda: not gateway.server.server_state.connections)
        idle = counts(gateway)
        come_and_go(gateway, 300)
        assert wait_for(lambda: counts(gateway) == idle, 5), (counts(gateway), idle)
        pools = [one.pool for one in gateway.server.config.app.gateway.snapshot.upstreams.values()]  # type: ignore[union-attr]
        assert wait_for(lambda: all(pool.open_count == pool.idle_count for pool in pools))
        assert [line for line in gateway.log_lines if line["level"] in ("error", "critical")] == []


def test_nothing_is_left_of_streams_in_which_a_provider_reports_an_error() -> None:
    def exchanges() -> int:
        gc.collect()
        return sum(isinstance(one, Exchange) for one in gc.get_objects())

    with Running(TOML) as gateway:
        for endpoint, provider, fault in product(
            ("responses", "chat", "messages"), PROVIDERS, ("error,after=0", "error,after=5", "failed,after=5")
        ):
            path, members = BODIES[endpoint]
            body = {**members, "model": f"{provider}/lorem:fault={fault}", "stream": True}
            with Raw(gateway) as client:
                client.ask(post(json.dumps(body).encode(), path=path))
        assert wait_for(lambda: gateway.call(exchanges) == 0) or gateway.call(exchanges) == 0
