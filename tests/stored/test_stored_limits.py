"""Limits with a ledger behind them: what was spent outlives the process, and what is repeated costs nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.access.books import Books
from tests.support.api import Api
from tests.support.running import Running, wait_for
from tests.support.sockets import Socket

SECRET = "key-0123456789abcdef0123456789ab-{}"

TOML = """
[server]
port = 0
data_dir = "{data}"
[providers.sim]
base_url = "{sim}"
[providers.nowhere]
kind = "sim"
base_url = "http://127.0.0.1:9/v1"
[providers.full]
kind = "sim"
base_url = "{sim}"
max_concurrent = 1
queue = 1
[prices."sim/*"]
input = 0
output = 1000
[[keys]]
name = "once"
secret = "key-0123456789abcdef0123456789ab-once"
limits = { requests = { minute = 1 } }
[[keys]]
name = "spender"
secret = "key-0123456789abcdef0123456789ab-spender"
limits = { cost = { month = 0.03, day = 5 }, requests = { day = 100 } }
[[keys]]
name = "repeater"
secret = "key-0123456789abcdef0123456789ab-repeater"
limits = { requests = { minute = 1 } }
[[keys]]
name = "worker"
secret = "key-0123456789abcdef0123456789ab-worker"
limits = { streams = 1 }
[[keys]]
name = "socket"
secret = "key-0123456789abcdef0123456789ab-socket"
limits = { requests = { minute = 1 } }
[[keys]]
name = "free"
secret = "key-0123456789abcdef0123456789ab-free"
"""

TEN = "sim/echo?text=one+two+three+four+five+six+seven+eight"


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRET.format(name)}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def running(folder: Path) -> Running:
    return Running(TOML.replace("{data}", str(folder)))


def spend(api: Api) -> Any:
    return api.post("/v1/responses", {"model": TEN, "input": "Hi", "max_output_tokens": 15}, headers=key("spender"))


def test_a_budget_is_not_renewed_by_a_restart(folder: Path) -> None:
    with running(folder) as gateway, Api(gateway) as api:
        answers = [spend(api) for _ in range(4)]
        spent = [answer.json["usage"]["output_tokens"] for answer in answers if answer.status == 200]
        assert 1 <= len(spent) < 4
        assert answers[-1].error["code"] == "insufficient_quota"
    with running(folder) as gateway, Api(gateway) as api:
        again = spend(api)
        assert again.status == 429
        assert again.error["code"] == "insufficient_quota"
        assert f"used {shown_dollars(sum(spent))}" in again.error["message"]
        page = api.get("/admin/v1/budgets?level=key", headers=key("spender"))
        standings = {(one["kind"], one["window"]): one for one in page.json["data"]}
        assert standings["cost", "month"]["used"] == sum(spent) / 1000
        assert standings["requests", "day"]["used"] == len(spent)
        assert {one["id"] for one in page.json["data"]} == {"spender"}  # a key sees its own limits
        assert api.get("/admin/v1/budgets?key=x", headers=key("spender")).status == 400
        assert api.get("/admin/v1/budgets").status == 401
        shown = budget(folder)
        assert "spender" in shown
        assert shown_dollars(sum(spent)) in shown
        found = json.loads(budget(folder, "--json"))["data"]
        assert [(one["window"], one["remaining"]) for one in found if one["kind"] == "cost"] == [
            ("day", 5 - sum(spent) / 1000),
            ("month", round(0.03 - sum(spent) / 1000, 9)),
        ]


def shown_dollars(tokens: int) -> str:
    """What so many tokens cost here, in the words of messages and tables."""
    return f"${tokens / 1000:.3f}" if tokens % 10 else f"${tokens / 1000:.2f}"


def budget(folder: Path, *arguments: str) -> str:
    config = folder / "tidegate.toml"
    config.write_text(TOML.replace("{data}", str(folder)).replace("{sim}", "http://127.0.0.1:9/v1"), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "budget", "--config", str(config), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Any:
    with running(folder) as found:
        yield found


def test_a_repeated_answer_counts_against_nothing(gateway: Running) -> None:
    body = {"model": "sim/echo", "input": "Hi"}
    headers = {**key("repeater"), "idempotency-key": "once"}
    with Api(gateway) as api:
        first = api.post("/v1/responses", body, headers=headers)
        again = api.post("/v1/responses", body, headers=headers)
        assert (first.status, again.status) == (200, 200)
        assert again.headers["tidegate-repeated"] == "true"
        assert api.post("/v1/responses", body, headers=key("repeater")).status == 429


def test_a_background_response_counts_until_it_ends(gateway: Running) -> None:
    with Api(gateway) as api:
        body = {"model": "sim/lorem?chunks=40&gap=20", "input": "Hi", "background": True}
        begun = api.post("/v1/responses", body, headers=key("worker"))
        assert begun.status == 200
        assert begun.json["status"] == "queued"
        refused = api.post("/v1/responses", {"model": "sim/echo", "input": "Hi"}, headers=key("worker"))
        assert refused.status == 429
        assert wait_for(lambda: gateway.call(lambda: gateway.server._parts.gateway.limiter.open) == 0)  # type: ignore[union-attr]
        assert api.post("/v1/responses", {"model": "sim/echo", "input": "Hi"}, headers=key("worker")).status == 200


@pytest.mark.parametrize(
    ("model", "ending", "error"),
    [
        ("sim/echo?status=400", "refused", ""),
        ("sim/echo?status=500", "failed", "server_error"),
        ("nowhere/echo", "failed", "upstream_unreachable"),
    ],
)
def test_a_background_response_that_fails_has_the_status_that_its_client_saw(
    gateway: Running, model: str, ending: str, error: str
) -> None:
    books = Books(gateway, SECRET.format("free"))
    row = books.row(books.ask("responses", model, background=True))
    books.close()
    assert (books.status, row.entry.status, row.entry.ending, row.entry.error) == (200, 200, ending, error)


def test_a_background_response_that_asked_no_provider_counts_against_nothing(gateway: Running) -> None:
    with Api(gateway) as api:
        body = {"model": "full/lorem?chunks=60&gap=20", "input": "Hi", "background": True}
        assert api.post("/v1/responses", body, headers=key("free")).status == 200
        waiting = api.post("/v1/responses", {**body, "model": "full/echo"}, headers=key("once"))
        assert waiting.status == 200
        cancelled = api.post(f"/v1/responses/{waiting.json['id']}/cancel", {}, headers=key("once"))
        assert cancelled.json["status"] == "cancelled"
        assert wait_for(lambda: gateway.call(lambda: gateway.server._parts.gateway.limiter.open) == 0)  # type: ignore[union-attr]
        statuses = [
            api.post("/v1/responses", {"model": "sim/echo", "input": "Hi"}, headers=key("once")).status
            for _ in range(2)
        ]
        assert statuses == [200, 429]


def test_responses_on_a_websocket_pass_the_same_gate(gateway: Running) -> None:
    with Socket(gateway, headers=key("socket")) as client:
        client.turn(input="Hi", generate=False)  # asks no provider, and counts against nothing
        events = client.turn(input="Hi")
        assert events[-1]["type"] == "response.completed"
        assert events[0]["headers"]["x-ratelimit-limit-requests"] == "1"
        client.create(input="Hi")
        error = client.event()
        assert (error["type"], error["status"]) == ("error", 429)
        assert error["error"]["code"] == "rate_limit_exceeded"
        assert "retry-after" in error["error"]["headers"]


def test_who_has_no_limits_has_no_headers(gateway: Running) -> None:
    with httpx.Client(base_url=gateway.origin, headers=key("free")) as client:
        reply = client.post("/v1/responses", json={"model": "sim/echo", "input": "Hi"})
    assert reply.status_code == 200
    assert not [name for name in reply.headers if name.startswith("x-ratelimit")]
