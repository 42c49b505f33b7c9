"""Budgets and requests that are charged more than once: retries, fallbacks, providers that pause. Whatever the provider
counts, a budget is not passed."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.access.books import Books
from tests.conformance.test_bridged_pauses import BODIES, FIRST, SECOND, turn
from tests.support.canned import Canned
from tests.support.running import Running, wait_for
from tests.support.valkey import ValkeyServer

SECRET = "key-0123456789abcdef0123456789ab-one"
PRICE = 0.001
"""Of each token that is put out; those that are read cost nothing."""

TOML = """
[server]
port = 0
data_dir = "{data}"
[routing]
retries = 2
eject_after = 0
[providers.first]
kind = "openai-compatible"
speaks = ["responses"]
base_url = "{first}"
timeouts = { first_event = "FIRST" }
[providers.second]
kind = "openai-compatible"
speaks = ["responses"]
base_url = "{second}"
[models.chain]
target = "first/m"
fallback = ["second/m"]
[prices."*"]
input = 0
output = 1000
[[keys]]
name = "budget"
secret = "key-0123456789abcdef0123456789ab-one"
limits = { cost = { month = BUDGET } }
"""


class Upstream:
    """`play` says what becomes of each request, by its number: how many tokens are put out, and whether the
    answer breaks off behind them before anything was said; fewer than none: it says nothing for too long. It counts what it
    would charge."""

    def __init__(self, play: Callable[[int], tuple[int, bool]]) -> None:
        self._lock = threading.Lock()
        self.charged = 0
        self.requests = 0
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                with upstream._lock:
                    tokens, breaks = play(upstream.requests)
                    upstream.requests += 1
                    upstream.charged += tokens
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                if tokens < 0:
                    time.sleep(0.8)
                    return
                for frame in frames(tokens, breaks):
                    self.wfile.write(f"event: {frame['type']}\ndata: {json.dumps(frame)}\n\n".encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def frames(tokens: int, breaks: bool) -> Iterator[dict[str, Any]]:
    response: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "model": "m",
        "status": "in_progress",
        "output": [],
    }
    usage = {"input_tokens": 3, "output_tokens": tokens, "total_tokens": 3 + tokens}
    yield {"type": "response.created", "sequence_number": 0, "response": response}
    if breaks:
        error = {"code": "server_error", "message": "Overloaded"}
        failed = {**response, "status": "failed", "error": error, "usage": usage}
        yield {"type": "response.failed", "sequence_number": 1, "response": failed}
        return
    part = {"type": "output_text", "text": "High.", "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    place = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    yield {
        "type": "response.output_item.added",
        "sequence_number": 1,
        "output_index": 0,
        "item": {**item, "status": "in_progress", "content": []},
    }
    yield {"type": "response.content_part.added", "sequence_number": 2, **place, "part": {**part, "text": ""}}
    yield {"type": "response.output_text.delta", "sequence_number": 3, **place, "delta": "High."}
    yield {"type": "response.output_text.done", "sequence_number": 4, **place, "text": "High."}
    yield {"type": "response.content_part.done", "sequence_number": 5, **place, "part": part}
    yield {"type": "response.output_item.done", "sequence_number": 6, "output_index": 0, "item": item}
    done = {**response, "status": "completed", "output": [item], "usage": usage}
    yield {"type": "response.completed", "sequence_number": 7, "response": done}


BODY = {"model": "chain", "max_output_tokens": 10, "stream": True, "input": "How is the tide?", "store": False}


@contextmanager
def chain(
    folder: Path, first: Upstream, second: Upstream, budget: float, more: str = "", *, first_event: str = "20s"
) -> Iterator[Running]:
    toml = (
        TOML.replace("{data}", str(folder))
        .replace("{first}", first.url)
        .replace("{second}", second.url)
        .replace("BUDGET", str(budget))
        .replace("FIRST", first_event)
    )
    with first, second, Running(toml + more) as gateway:
        yield gateway


async def ask_all(gateway: Running, count: int) -> list[tuple[int, str]]:
    """Status and text of each answer."""

    async def one(client: httpx.AsyncClient) -> tuple[int, str]:
        answer = await client.post("/v1/responses", json=BODY, headers={"x-api-key": SECRET})
        return answer.status_code, answer.text

    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=gateway.origin, limits=limits, timeout=30, trust_env=False) as client:
        return list(await asyncio.gather(*(one(client) for _ in range(count))))


def used(gateway: Running) -> float:
    answer = httpx.get(f"{gateway.origin}/admin/v1/budgets", headers={"x-api-key": SECRET}, trust_env=False)
    [month] = [one for one in answer.json()["data"] if one["window"] == "month"]
    assert month["reserved"] == 0
    return float(month["used"])


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture(params=["alone", "shared"])
def more(request: pytest.FixtureRequest) -> str:
    """Where limits are counted."""
    if request.param == "alone":
        return ""
    server: ValkeyServer = request.getfixturevalue("valkey")
    server.command("FLUSHALL")
    return f'[limits]\nvalkey = "{server.url}"\ntimeout = "2s"\n'


@pytest.mark.security("SEC-API4-BUDGET")
def test_two_hundred_requests_that_are_retried_and_fall_back_spend_no_more_than_the_budget(
    more: str, tmp_path: Path
) -> None:
    """The budget has room for 50 attempts of 10 tokens. Two of three answers of the first provider break off
    behind 7 tokens, which it charges all the same."""
    first = Upstream(lambda number: (10, False) if number % 3 == 2 else (7, True))
    second = Upstream(lambda _: (10, False))
    with chain(tmp_path, first, second, 50 * 10 * PRICE, more) as gateway:
        statuses: Counter[int] = Counter()
        for _ in range(2):  # what the first ones give back lets others pass
            found = asyncio.run(ask_all(gateway, 200))
            statuses.update(status for status, _ in found)
        charged = first.charged + second.charged
        assert 0 < charged * PRICE <= 0.5
        assert charged * PRICE > 0.4, "nearly all of it can be spent"
        assert first.requests + second.requests > statuses[200], "some were charged more than once"
        assert statuses[429] > 200
        assert wait_for(lambda: used(gateway) == pytest.approx(charged * PRICE))


def test_each_provider_is_shown_what_it_charges(tmp_path: Path) -> None:
    """The first breaks off behind 7 tokens, three times; the second charges 10, and its price is another."""
    prices = '[prices."second/m"]\ninput = 0\noutput = 0\n'
    first, second = Upstream(lambda _: (7, True)), Upstream(lambda _: (10, False))
    with chain(tmp_path, first, second, 1.0, prices) as gateway:
        [(status, _)] = asyncio.run(ask_all(gateway, 1))
        assert status == 200
        spent = pytest.approx(first.charged * PRICE)

        def report() -> dict[str, Any]:
            answer = httpx.get(
                f"{gateway.origin}/admin/v1/usage?group_by=provider", headers={"x-api-key": SECRET}, trust_env=False
            )
            return {
                row["provider"]: (row["requests"], row["output_tokens"], row["cost"]) for row in answer.json()["data"]
            }

        assert wait_for(report) == {"first": (0, first.charged, spent), "second": (1, 10, 0)}
        metrics = httpx.get(f"{gateway.origin}/metrics", trust_env=False).text
        labels = 'endpoint="responses",provider='
        cost, tokens = "tidegate_cost_dollars_total", "tidegate_tokens_total"
        assert float(_number(metrics, f'{cost}{{{labels}"first"}}')) == spent
        assert _number(metrics, f'{cost}{{{labels}"second"}}') == "0.0"
        assert (
            float(_number(metrics, f'{tokens}{{endpoint="responses",kind="output",provider="first"}}')) == first.charged
        )
        assert _number(metrics, f'{tokens}{{endpoint="responses",kind="output",provider="second"}}') == "10.0"
        assert f'tidegate_requests_total{{{labels}"first"' not in metrics


def _number(metrics: str, name: str) -> str:
    [found] = [line.removeprefix(name).strip() for line in metrics.splitlines() if line.startswith(name)]
    return found


@pytest.mark.security("SEC-API4-BUDGET")
def test_an_attempt_for_which_there_is_no_room_is_not_made_and_the_first_failure_is_told(
    more: str, tmp_path: Path
) -> None:
    """Room for one attempt and a half: the second would need the whole of another one."""
    first, second = Upstream(lambda _: (7, True)), Upstream(lambda _: (10, False))
    with chain(tmp_path, first, second, 1.5 * 10 * PRICE, more) as gateway:
        [(status, text)] = asyncio.run(ask_all(gateway, 1))
        assert "Overloaded" in text
        assert "response.failed" in text or status >= 500
        assert (first.requests, second.requests) == (1, 0)
        assert wait_for(lambda: used(gateway) == pytest.approx(7 * PRICE))


@pytest.mark.security("SEC-API4-BUDGET")
@pytest.mark.parametrize(("budget", "is_made"), [(2.0, True), (1.5, False)])
def test_an_attempt_that_was_left_may_have_cost_all_that_it_could(budget: float, is_made: bool, tmp_path: Path) -> None:
    """Nobody knows whether the provider goes on with what it has read."""
    first, second = Upstream(lambda _: (-1, True)), Upstream(lambda _: (10, False))
    with chain(tmp_path, first, second, budget * 10 * PRICE, first_event="300ms") as gateway:
        [(status, text)] = asyncio.run(ask_all(gateway, 1))
        assert (first.requests, second.requests) == (1, is_made)
        if not is_made:
            assert status == 504
            assert "first_event" in text
        assert wait_for(lambda: used(gateway) == pytest.approx(10 * PRICE * is_made))


def test_an_attempt_that_cost_nothing_leaves_its_room_to_the_next(more: str, tmp_path: Path) -> None:
    """A budget for one attempt, and a first provider that is not there."""
    first, second = Upstream(lambda _: (0, True)), Upstream(lambda _: (10, False))
    with chain(tmp_path, first, second, 10 * PRICE, more) as gateway:
        [(status, _)] = asyncio.run(ask_all(gateway, 1))
        assert status == 200
        assert (first.requests, second.requests) == (3, 1)
        assert wait_for(lambda: used(gateway) == pytest.approx(10 * PRICE))


@pytest.mark.security("SEC-API4-BUDGET")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("budget", "goes_on"), [(0.65, True), (0.64, False)])
def test_a_provider_that_pauses_goes_on_only_if_the_budget_has_room(
    budget: float, goes_on: bool, stream: bool, more: str, tmp_path: Path
) -> None:
    """Each turn may put out 60 tokens, and each paid 5 so far: both need 65."""
    toml = f"""
[server]
port = 0
data_dir = "{tmp_path}"
[prices."*"]
input = 0
output = 10000
[[keys]]
name = "budget"
secret = "{SECRET}"
limits = {{ cost = {{ month = {budget} }} }}
{more}"""
    answers = (turn(FIRST, "pause_turn", stream=stream), turn(SECOND, "tool_use", stream=stream))
    record = 'credentials = ["k-0123456789abcdef0123456789"]\nmax_input = { "*" = 100 }\ntool_rounds = { "*" = 1 }'
    with Canned(*answers) as provider, Running(toml + provider.toml(kind="anthropic", more=record)) as gateway:
        body = {**BODIES["responses"], "model": "canned/m", "stream": stream, "max_output_tokens": 60}
        answer = httpx.post(
            f"{gateway.origin}/v1/responses", json=body, headers={"x-api-key": SECRET}, timeout=20, trust_env=False
        )
        assert len(provider.requests) == 1 + goes_on
        if not goes_on:
            assert "limits.cost.month" in answer.text
            assert answer.status_code == (200 if stream else 429)
            assert ("response.failed" in answer.text) is stream
        else:
            assert answer.status_code == 200
            assert "It is high." in answer.text
        assert wait_for(lambda: used(gateway) == pytest.approx(0.1 if goes_on else 0.05))


GUESSED = """
[server]
port = 0
data_dir = "{data}"
[routing]
retries = 2
eject_after = 0
[providers.sim]
base_url = "{sim}"
[prices."*"]
input = 0
output = 1000
[[keys]]
name = "budget"
secret = "key-0123456789abcdef0123456789ab-one"
limits = { cost = { month = 0.5 } }
"""
LONG = "+".join(["Donaudampfschifffahrtsgesellschaft"] * 8)


@pytest.mark.security("SEC-API4-BUDGET")
@pytest.mark.parametrize(
    ("model", "stream"),
    [
        ("lorem?chunks=5&fault=eof", False),
        (f"echo?usage=absent&text={LONG}", False),
        (f"echo?usage=absent&text={LONG}", True),
    ],
    ids=["broken", "without figures", "stream without figures"],
)
def test_no_guess_says_more_than_the_request_could_use(model: str, stream: bool, more: str, tmp_path: Path) -> None:
    """Each attempt may put out 10 tokens, whatever the bytes of its answer look like."""
    with Running(GUESSED.replace("{data}", str(tmp_path)) + more) as gateway:

        async def run() -> None:
            body = {"model": f"sim/{model}", "input": "Hi", "max_output_tokens": 10, "stream": stream, "store": False}
            async with httpx.AsyncClient(base_url=gateway.origin, timeout=30, trust_env=False) as client:
                headers = {"x-api-key": SECRET}
                await asyncio.gather(*(client.post("/v1/responses", json=body, headers=headers) for _ in range(60)))

        asyncio.run(run())
        attempts = len(gateway.sim.requests)
        assert attempts >= 30
        assert wait_for(lambda: 0 < used(gateway) <= min(0.5, attempts * 10 * PRICE) + 1e-9)
        books = Books(gateway, SECRET)
        assert sum(row.cost_nano or 0 for row in books.settled()) / 1e9 == pytest.approx(used(gateway))
        books.close()
