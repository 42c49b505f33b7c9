"""Two gateways that count in one Valkey, over real sockets: together, while it is killed, and when it is back."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from tests.support.running import Running, wait_for
from tests.support.valkey import ValkeyServer
from tidegate.cli import main

SECRET = "key-0123456789abcdef0123456789abcd"

TOML = """
[server]
port = 0
data_dir = "{data}"
[providers.sim]
base_url = "{sim}"
[prices."sim/*"]
input = 0
output = 1000
[limits]
valkey = "{valkey}"
timeout = "2s"
gateways = 2
when_unavailable = "{mode}"
[[keys]]
name = "app"
secret = "key-0123456789abcdef0123456789abcd"
limits = { cost = { month = 0.5 }, requests = { day = 1000 } }
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as found:
        yield found


def running(server: ValkeyServer, folder: Path, mode: str) -> Running:
    return Running(TOML.replace("{data}", str(folder)).replace("{valkey}", server.url).replace("{mode}", mode))


async def ask(client: httpx.AsyncClient, gateway: Running, model: str) -> httpx.Response:
    body = {"model": model, "input": "Hi", "max_output_tokens": 10}
    return await client.post(f"{gateway.url}/responses", json=body)


@pytest.mark.security("SEC-API4-BUDGET")
def test_parallel_requests_through_two_gateways_spend_no_more_than_one_budget(
    server: ValkeyServer, tmp_path: Path
) -> None:
    async def run(gateways: list[Running]) -> list[httpx.Response]:
        headers = {"authorization": f"Bearer {SECRET}"}
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(headers=headers, limits=limits, timeout=20) as client:
            model = "sim/echo?delay=1500&text=one+two+three+four+five+six+seven+eight"
            return await asyncio.gather(*(ask(client, gateway, model) for gateway in gateways for _ in range(100)))

    with running(server, tmp_path / "one", "refuse") as one, running(server, tmp_path / "two", "refuse") as two:
        replies = asyncio.run(run([one, two]))
        assert Counter(reply.status_code for reply in replies) == {200: 50, 429: 150}
        tokens = sum(reply.json()["usage"]["output_tokens"] for reply in replies if reply.status_code == 200)
        headers = {"authorization": f"Bearer {SECRET}"}

        def settled() -> bool:
            answer = httpx.get(f"{two.origin}/admin/v1/budgets", headers=headers).json()["data"]
            cost = next(one for one in answer if one["kind"] == "cost")
            return bool(cost["reserved"] == 0 and cost["used"] == pytest.approx(tokens / 1000))

        assert wait_for(settled)
        reply = next(reply for reply in replies if reply.status_code == 200)
        assert reply.headers["x-ratelimit-limit-requests"] == "1000"


@pytest.mark.fault("FAULT-VALKEY")
@pytest.mark.security("SEC-API4-OUTAGE")
def test_a_valkey_that_dies_fails_no_request_and_is_found_again(server: ValkeyServer, tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer {SECRET}"}
    with running(server, tmp_path, "local") as gateway, httpx.Client(headers=headers, timeout=20) as client:

        def status(**members: object) -> int:
            body = {"model": "sim/echo", "input": "Hi", "max_output_tokens": 10, **members}
            return client.post(f"{gateway.url}/responses", json=body).status_code

        server.command("FLUSHALL")
        assert status() == 200
        server.kill()
        try:
            assert [status() for _ in range(5)] == [200] * 5
            assert status(max_output_tokens=300) == 429  # over its half of the budget
        finally:
            server.start()
        assert wait_for(lambda: status(max_output_tokens=300) == 200, timeout=5)
    events = [line["event"] for line in gateway.log_lines]
    # Once each time; on a machine that stands still for a moment it may be lost twice.
    assert events.count("limits_alone") == events.count("limits_together") >= 1


@pytest.mark.fault("FAULT-VALKEY")
def test_while_valkey_is_down_a_gateway_tells_what_it_has_counted_itself(server: ValkeyServer, tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer {SECRET}"}
    body = {"model": "sim/echo", "input": "Hi", "max_output_tokens": 10}
    with running(server, tmp_path, "local") as gateway, httpx.Client(headers=headers, timeout=20) as client:

        def told() -> dict[str, Any]:
            return dict(client.get(f"{gateway.origin}/admin/v1/budgets").json())

        server.command("FLUSHALL")
        assert told()["alone"] is False
        server.kill()
        try:
            assert [client.post(f"{gateway.url}/responses", json=body).status_code for _ in range(3)] == [200] * 3
            assert wait_for(lambda: told()["data"][0]["used"] == 3)
            answer = told()
        finally:
            server.start()
        assert wait_for(lambda: not told()["alone"], timeout=5)
    assert answer["alone"] is True
    [requests, cost] = answer["data"]
    assert (requests["limit"], requests["used"], requests["remaining"]) == (500, 3, 497), "of its half"
    assert (cost["limit"], cost["used"]) == (0.25, pytest.approx(0.003))


@pytest.mark.fault("FAULT-VALKEY")
def test_where_nobody_can_tell_how_limits_stand_no_figures_are_shown(server: ValkeyServer, tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer {SECRET}"}
    with running(server, tmp_path, "refuse") as gateway:
        server.kill()
        try:
            answer = httpx.get(f"{gateway.origin}/admin/v1/budgets", headers=headers)
        finally:
            server.start()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "limits_unavailable")
    assert "Valkey does not answer" in answer.json()["error"]["message"]


@pytest.mark.fault("FAULT-VALKEY")
@pytest.mark.parametrize(
    ("mode", "words"), [("local", "at GET /admin/v1/budgets"), ("refuse", "requests with limits are refused")]
)
def test_the_command_says_that_valkey_does_not_answer(
    server: ValkeyServer, tmp_path: Path, mode: str, words: str
) -> None:
    toml = TOML.replace("{data}", str(tmp_path)).replace("{valkey}", server.url).replace("{mode}", mode)
    (tmp_path / "tidegate.toml").write_text(toml.replace("{sim}", "http://127.0.0.1:9"), "utf-8")

    def told() -> Result:
        return CliRunner().invoke(main, ["budget", "--json", "--config", str(tmp_path / "tidegate.toml")])

    with running(server, tmp_path, mode):  # which makes the database
        assert told().exit_code == 0
        server.kill()
        try:
            done = told()
        finally:
            server.start()
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Valkey does not answer" in done.stderr
    assert words in done.stderr
