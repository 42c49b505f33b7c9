"""Every request is settled exactly once, whatever happened; the log line and the metrics say the same."""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import msgspec
import pytest

from tests.support.api import ENDPOINTS, Api
from tests.support.running import Running, wait_for
from tidegate.access.keys import Principal
from tidegate.gateway.account import Account
from tidegate.sim.faults import FAULTS
from tidegate.wire.events import Usage

TOML = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
timeouts = { first_event = "300ms", idle = "300ms", total = "1s" }
[providers.closed]
kind = "sim"
base_url = "http://127.0.0.1:9/v1"
models = ["m"]
[models.spare]
target = "closed/m"
fallback = ["sim/echo"]
[[keys]]
name = "app"
secret = "key-0123456789abcdef0123456789abcd"
project = "harbour"
"""

MODELS = [
    "sim/echo",
    "sim/lorem?finish=length",
    "sim/lorem?usage=absent",
    "sim/lorem?finish=none",
    *(f"sim/lorem?total=20000000&fault={fault}" for fault in FAULTS if fault not in ("ping", "endless")),
    *(f"sim/lorem?fault={fault}&after=0" for fault in ("reset", "eof", "error", "failed", "garbage", "stall", "cut")),
    *(f"sim/echo?status={status}" for status in (400, 401, 404, 429, 500, 503)),
    "sim/nothing",
    "closed/m",
    "spare",
    "nobody/has-this",
]


@pytest.fixture
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_one_entry_for_each_request_and_metrics_that_agree(gateway: Running, endpoint: str) -> None:
    with (
        Api(gateway, authorization="Bearer key-0123456789abcdef0123456789abcd") as api,
        ThreadPoolExecutor(8) as clients,
    ):
        api.get("/v1/models")
        asked = [
            clients.submit(api.ask, endpoint, model, stream=stream) for model in MODELS for stream in (False, True)
        ]
        ids = [each.result().request_id for each in asked]
        ids.append(api.ask(endpoint, temperature=9).request_id)
        ids.append(api.post(f"/v1/{endpoint}".replace("chat", "chat/completions"), b"{").request_id)
        lines = wait_for(lambda: found if len(found := _entries(gateway)) >= len(ids) else [], 5)
        assert Counter(line["request_id"] for line in lines) == Counter(ids)
        assert all(line["key"] == "app" and line["project"] == "harbour" for line in lines)
        metrics = api.get("/metrics").content.decode()
    assert _sum(metrics, "tidegate_requests_total") == Counter(str(line["status"]) for line in lines)
    assert _sum(metrics, "tidegate_endings_total") == Counter(line["ending"] for line in lines)
    for kind in ("input", "output", "reasoning", "cached"):
        told = sum(line.get(f"{kind}_tokens", 0) for line in lines)
        assert _sum(metrics, "tidegate_tokens_total", f'kind="{kind}"').total() == told
    assert _sum(metrics, "tidegate_attempts_total").total() == sum(line.get("attempts", 0) for line in lines)
    assert _sum(metrics, "tidegate_estimated_usage_total").total() == sum(bool(line.get("estimated")) for line in lines)
    assert _sum(metrics, "tidegate_request_seconds_count").total() == len(lines)
    assert "tidegate_exchanges_running 0.0" in metrics


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_a_refused_request_leaves_behind(gateway: Running, endpoint: str) -> None:
    with Api(gateway, authorization="Bearer key-0123456789abcdef0123456789abcd") as api:
        reply = api.ask(endpoint, "sim/echo", temperature=9)
        entry = gateway.usage(reply.request_id)
    assert (entry["status"], entry["ending"], entry["error"]) == (400, "refused", "invalid_value")
    assert (entry.get("attempts", 0), entry.get("input_tokens", 0)) == (0, 0)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_request_that_the_provider_refuses_is_no_failure_of_the_provider(gateway: Running, status: int) -> None:
    with Api(gateway, authorization="Bearer key-0123456789abcdef0123456789abcd") as api:
        entry = gateway.usage(api.ask("chat", f"sim/echo?status={status}").request_id)
    assert (entry["ending"], entry["attempts"]) == ("refused", 1)


def test_the_status_is_the_one_that_the_client_saw_in_its_own_api(gateway: Running) -> None:
    question = {"model": "sim/echo?status=503", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    with Api(gateway, authorization="Bearer key-0123456789abcdef0123456789abcd") as api:
        reply = api.post("/v1/messages", question)
        entry = gateway.usage(reply.request_id)
    assert reply.status == entry["status"] == 529


def test_nothing_that_was_said_and_no_secret_is_in_log_or_metrics(gateway: Running) -> None:
    with Api(gateway, authorization="Bearer key-0123456789abcdef0123456789abcd") as api:
        for model in ("sim/echo", "sim/echo?status=500", "sim/lorem?fault=eof"):
            for stream in (False, True):
                gateway.usage(api.ask("chat", model, say="my-secret-prompt", stream=stream).request_id)
        metrics = api.get("/metrics").content
    logged = "".join(map(str, gateway.log_lines))
    for secret in ("my-secret-prompt", "key-0123456789abcdef"):
        assert secret not in logged
        assert secret.encode() not in metrics


def _entries(gateway: Running) -> list[dict[str, Any]]:
    return [line for line in gateway.log_lines if line["event"] == "request"]


def _sum(metrics: str, name: str, label: str = "") -> Counter[str]:
    """The values of one metric, by its last label that is neither endpoint nor provider."""
    found: Counter[str] = Counter()
    for labels, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", metrics, re.MULTILINE):
        if label in labels:
            last = re.findall(r'(?:status|ending)="([^"]*)"', labels)
            found[last[0] if last else ""] += int(float(value))
    return +found


def test_every_figure_has_its_own_name_in_the_entry() -> None:
    principal = Principal(key="app", organization="acme", project="harbour")
    given: dict[str, Any] = {name: at for at, name in enumerate(Usage.__struct_fields__, 2) if name != "estimated"}
    usage = Usage(**given)
    account = Account(cast("Any", None), principal, b"req_1", "chat", "10.0.0.1", free=False)
    account.started_at = 5.0
    account.usage, account.model, account.end_user, account.error = usage, "m", "ada", "e"
    account.first_event_at, account.ended_at, account.status, account.attempts = 6.0, 7.0, 200, 3
    members = msgspec.structs.asdict(account.row().entry)
    figures = {"audio_seconds" if name == "seconds" else name: getattr(usage, name) for name in usage.__struct_fields__}
    assert members == figures | {
        "request_id": "req_1",
        "endpoint": "chat",
        "status": 200,
        "ending": "open",
        "duration_ms": 2000.0,
        "first_event_ms": 1000.0,
        "stream": False,
        "key": "app",
        "organization": "acme",
        "project": "harbour",
        "end_user": "ada",
        "model": "m",
        "deployment": "",
        "attempts": 3,
        "cost": None,
        "error": "e",
        "client": "10.0.0.1",
        "failed": (),
    }
