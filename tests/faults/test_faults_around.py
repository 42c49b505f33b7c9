"""What befalls all requests at once: a loop that stands still, a herd, prices that nobody knows, a Valkey that is gone."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.clients import Answer, ask, judge, receive, request
from tests.faults.playing import reached
from tests.faults.served import STREAMING, streaming
from tests.faults.witnesses import Booked, Since, Witnesses, calls_made, entries_in
from tests.support.raw import Raw, get
from tests.support.running import Running, wait_for
from tests.support.valkey import ValkeyServer

SHORT = "sim/lorem?chunks=15&gap=20"
KEYS = {name: f"key-of-{name}-0123456789abcdef0123456789" for name in ("free", "bound")}

OVERLOADED = "server_is_overloaded"
"""What the simulator calls its 503."""

BASE = """
[server]
port = 0
data_dir = "{data}"
[providers.sim]
base_url = "{sim}"
"""


@contextmanager
def running(folder: Path, more: str) -> Iterator[tuple[Running, Since]]:
    with Running(BASE.replace("{data}", str(folder)) + more) as gateway:
        yield gateway, Since(gateway, lambda: entries_in(folder))


SHORTLY: dict[str, dict[str, Any]] = {
    "responses": {"max_output_tokens": 20},
    "chat": {"max_tokens": 20},
    "completions": {"max_tokens": 20},
    "messages": {"max_tokens": 20},
    "gemini": {"generationConfig": {"maxOutputTokens": 20}},
}
"""How each API asks for a short answer: a budget wants to know what an answer may cost."""


def all_of(ending: str, status: int = 200, **more: Any) -> list[Booked]:
    """One request in each API."""
    return [
        Booked(ending, 529 if status == 503 and client == "messages" else status, endpoint=client, **more)
        for client in STREAMING
    ]


def ask_all(gateway: Running, model: str, marker: str, key: str = "") -> dict[str, Answer]:
    headers = bearer(key) if key else ()
    return {
        client: ask(gateway, client, model, f"{marker}-{client}", stream=False, headers=headers, **SHORTLY[client])
        for client in STREAMING
    }


def calls(gateway: Running, marker: str) -> list[Any]:
    return [call for client in STREAMING for call in reached(gateway, f"{marker}-{client}")]


def told_of(gateway: Running, event: str) -> list[Any]:
    return [line for line in gateway.log_lines if line["event"] == event]


def refused(seen: dict[str, Answer], status: int, code: str) -> None:
    """All of them, each in the form of its API."""
    for client, answer in seen.items():
        verdict = judge(client, answer, stream=False)
        told = 529 if status == 503 and client == "messages" else status
        assert (answer.status, verdict.ending) == (told, "refused"), answer.body
        assert client == "messages" or verdict.code == code


@pytest.mark.fault("FAULT-LOOP-BLOCKED")
def test_streams_outlive_a_loop_that_stands_still(tmp_path: Path, witnesses: Witnesses) -> None:
    with running(tmp_path, "") as (gateway, since):
        with streaming(gateway, SHORT, "blocked") as answers:
            gateway.loop.call_soon_threadsafe(lambda: wait_for(lambda: told_of(gateway, "loop_blocked"), 10))
            with Raw(gateway) as probe:
                assert probe.send(get("/healthz")).silent(0.4)
        seen = {client: answer.result() for client, answer in answers.items()}
        with witnesses.hearing("client"):
            assert {judge(client, one, stream=True).ending for client, one in seen.items()} == {"completed"}
        witnesses.upstream(calls(gateway, "blocked"), answered=len(STREAMING))
        told = all_of("completed")
        witnesses.ledger(since.entries(len(told)), *told)
        assert wait_for(lambda: told_of(gateway, "loop_free"))
        witnesses.metrics(since.before, since.after, *told, more={"tidegate_loop_blocked_total": 1})
        assert since.after["tidegate_loop_lag_seconds_sum"] > 0.8


@pytest.mark.fault("FAULT-HERD")
def test_a_herd_that_fails_together_asks_a_fifth_more_and_every_call_is_counted(
    tmp_path: Path, witnesses: Witnesses
) -> None:
    each = 8
    with running(tmp_path, "[routing]\nretries = 1\nretry_budget = 0.2\neject_after = 0\n") as (gateway, since):
        with ExitStack() as stack:
            herd = [(client, stack.enter_context(Raw(gateway))) for client in STREAMING * each]
            for client, raw in herd:
                raw.send(request(client, "sim/lorem?status=503&delay=300", "herd", stream=False))
            seen = [(client, receive(raw)) for client, raw in herd]
        count = len(seen)
        reaching = reached(gateway, "herd")
        again = len(reaching) - count
        with witnesses.hearing("client"):
            for client, answer in seen:
                refused({client: answer}, 503, OVERLOADED)
            assert sum(int(answer.headers["tidegate-attempts"]) for _, answer in seen) == len(reaching)
        with witnesses.hearing("upstream"):
            assert 0 < again <= count / 5
        witnesses.upstream(reaching, answered=len(reaching))
        entries = since.entries(count)
        assert sum(entry.booked.attempts for entry in entries) == len(reaching)
        once = [entry._replace(booked=entry.booked._replace(attempts=1)) for entry in entries]
        told = all_of("failed", 503, error=OVERLOADED, used=False) * each
        witnesses.ledger(once, *told, ids=[answer.headers["x-request-id"] for _, answer in seen])
        made: dict[str, int] = {}
        for entry in entries:
            name = calls_made(entry.booked.endpoint, "failed", "sim")
            made[name] = made.get(name, 0) + entry.booked.attempts
        retried = {'tidegate_retries_total{provider="sim"}': again, "tidegate_retries_denied_total": count - again}
        witnesses.metrics(since.before, since.after, *told, attempts=made, more=retried)


UNPRICED = f"""
[providers.lab]
kind = "openai-compatible"
base_url = "{{sim}}"
speaks = ["chat"]
[[keys]]
name = "free"
secret = "{KEYS["free"]}"
[[keys]]
name = "bound"
secret = "{KEYS["bound"]}"
limits = {{ cost = {{ day = 5 }} }}
"""


@pytest.mark.fault("FAULT-CATALOGUE")
def test_what_has_no_price_is_booked_without_one_and_refused_under_a_budget(
    tmp_path: Path, witnesses: Witnesses
) -> None:
    with running(tmp_path, UNPRICED) as (gateway, since):
        assert wait_for(lambda: ask_all(gateway, "lab/lorem", "before", "bound")["chat"].status == 403)
        since = Since(gateway, lambda: entries_in(tmp_path))
        served = ask_all(gateway, "lab/lorem", "unpriced", "free")
        barred = ask_all(gateway, "lab/lorem", "budgeted", "bound")
        with witnesses.hearing("client"):
            assert {judge(client, one, stream=False).ending for client, one in served.items()} == {"completed"}
            refused(barred, 403, "price_unknown")
        witnesses.upstream(calls(gateway, "unpriced"), answered=len(STREAMING))
        witnesses.upstream(calls(gateway, "budgeted"))
        entries = since.entries(len(STREAMING))
        done = all_of("completed", provider="lab")
        no = all_of("refused", 403, error="price_unknown", provider="", attempts=0, used=False)
        witnesses.ledger(entries, *done)
        assert {entry.cost_nano for entry in entries} == {None}
        unpriced = {f'tidegate_unpriced_total{{endpoint="{client}",provider="lab"}}': 1 for client in STREAMING}
        witnesses.metrics(since.before, since.after, *done, *no, more=unpriced)


LIMITED = f"""
[limits]
valkey = "{{valkey}}"
timeout = "1s"
gateways = 2
when_unavailable = "{{mode}}"
[[keys]]
name = "free"
secret = "{KEYS["free"]}"
[[keys]]
name = "bound"
secret = "{KEYS["bound"]}"
limits = {{ requests = {{ day = 20 }} }}
"""
"""A key without limits, and one with 20 requests a day, of which each gateway may let pass half when it is alone."""


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def bearer(key: str) -> tuple[str]:
    return (f"authorization: Bearer {KEYS[key]}",)


def standings(gateway: Running) -> float:
    """How many of the requests of its day the bound key has used, as far as the gateway knows now."""
    headers = {"authorization": f"Bearer {KEYS['bound']}"}
    (found,) = httpx.get(f"{gateway.origin}/admin/v1/budgets", headers=headers, trust_env=False).json()["data"]
    return float(found["used"])


@pytest.mark.fault("FAULT-VALKEY")
def test_without_valkey_a_gateway_goes_on_with_its_share_and_tells_of_it_afterwards(
    valkey: ValkeyServer, tmp_path: Path, witnesses: Witnesses
) -> None:
    valkey.command("FLUSHALL")
    more = LIMITED.replace("{valkey}", valkey.url).replace("{mode}", "local")
    with running(tmp_path, more) as (gateway, since):
        with streaming(gateway, SHORT, "outlived", headers=bearer("bound")) as answers:  # five of twenty
            valkey.kill()
            try:
                first = ask_all(gateway, "sim/lorem", "alone", "bound")
                streams = {client: answer.result() for client, answer in answers.items()}
                standings(gateway)  # by then it knows what was used when it was not alone: 15 were left, 7 for itself
                second = ask_all(gateway, "sim/lorem", "over", "bound")
            finally:
                valkey.start()
        passed = dict(list(second.items())[:2])
        barred = dict(list(second.items())[2:])
        with witnesses.hearing("client"):
            assert {judge(client, one, stream=True).ending for client, one in streams.items()} == {"completed"}
            for seen in (first, passed):
                assert {judge(client, one, stream=False).ending for client, one in seen.items()} == {"completed"}
            refused(barred, 429, "rate_limit_exceeded")
            assert wait_for(lambda: standings(gateway) == 12, 10), "what was used alone was not told, or told twice"
        for marker in ("outlived", "alone"):
            witnesses.upstream(calls(gateway, marker), answered=len(STREAMING))
        witnesses.upstream(calls(gateway, "over"), answered=len(passed))
        done = [*all_of("completed") * 2, *all_of("completed")[: len(passed)]]
        no = all_of("refused", 429, provider="", attempts=0)[len(passed) :]
        witnesses.ledger(since.entries(len(done)), *done)
        counted = {'tidegate_limit_refusals_total{kind="requests",level="key"}': len(barred)}
        witnesses.metrics(since.before, since.after, *done, *no, more=counted)
        assert [len(told_of(gateway, event)) for event in ("limits_alone", "limits_together")] == [1, 1]


@pytest.mark.fault("FAULT-VALKEY")
def test_without_valkey_what_has_limits_is_refused_where_that_is_wanted_and_nothing_else(
    valkey: ValkeyServer, tmp_path: Path, witnesses: Witnesses
) -> None:
    valkey.command("FLUSHALL")
    more = LIMITED.replace("{valkey}", valkey.url).replace("{mode}", "refuse")
    with running(tmp_path, more) as (gateway, since):
        with streaming(gateway, SHORT, "going-on", headers=bearer("bound")) as answers:
            valkey.kill()
            try:
                barred = ask_all(gateway, "sim/lorem", "no-limits", "bound")
                free = ask_all(gateway, "sim/lorem", "free-of-them", "free")
            finally:
                valkey.start()
        with witnesses.hearing("client"):
            streams = {client: answer.result() for client, answer in answers.items()}
            assert {judge(client, one, stream=True).ending for client, one in streams.items()} == {"completed"}
            assert {judge(client, one, stream=False).ending for client, one in free.items()} == {"completed"}
            refused(barred, 503, "limits_unavailable")
            assert all("retry-after" in answer.headers for answer in barred.values())
        for marker in ("going-on", "free-of-them"):
            witnesses.upstream(calls(gateway, marker), answered=len(STREAMING))
        witnesses.upstream(calls(gateway, "no-limits"))
        done = all_of("completed") * 2
        witnesses.ledger(since.entries(len(done)), *done)
        witnesses.metrics(since.before, since.after, *done, *all_of("failed", 503, provider="", attempts=0))
