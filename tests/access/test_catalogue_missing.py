"""The catalogue of prices cannot be read: what it would have priced is unknown, not free, and all else goes on."""

import asyncio
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import Gateway
from tidegate.sim import SimServer

FREE, BUDGETED = "key-without-a-budget-0123456789ab", "key-with-a-budget-0123456789abcd"

TOML = f"""
[server]
port = {{port}}
data_dir = "{{data}}"
[logging]
format = "json"
[providers.listed]
kind = "openai-compatible"
base_url = "{{sim}}"
speaks = ["chat"]
price_list = "openai"
models = ["echo"]
[providers.own]
kind = "openai-compatible"
base_url = "{{sim}}"
speaks = ["chat"]
models = ["echo"]
max_input = {{ "*" = 10_000 }}
[prices."own/*"]
input = 1
output = 2
[[keys]]
name = "free"
secret = "{FREE}"
[[keys]]
name = "budgeted"
secret = "{BUDGETED}"
limits = {{ cost = {{ day = 5 }} }}
"""


@pytest.mark.fault("FAULT-CATALOGUE")
def test_without_a_catalogue_costs_are_unknown_and_budgets_refuse_what_has_no_price(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / "genai_prices").mkdir(parents=True)
    (broken / "genai_prices" / "__init__.py").write_text('raise ImportError("the prices are gone")\n')

    async def scene() -> None:
        async with SimServer() as sim:
            toml = TOML.replace("{sim}", sim.base_url).replace("{data}", str(tmp_path))
            gateway = Gateway(toml, tmp_path, path=(broken,))
            await gateway.start()
            try:
                async with httpx.AsyncClient(base_url=gateway.origin, timeout=10) as client:
                    assert (await ask(client, FREE, "listed/echo")).status_code == 200
                    assert (await ask(client, FREE, "own/echo")).status_code == 200
                    async with asyncio.timeout(10):
                        while True:  # until then a budget asks to come again
                            if "prices_unknown" in gateway.log:
                                break
                            await asyncio.sleep(0.05)
                    calls = len(sim.requests)
                    refused = await ask(client, BUDGETED, "listed/echo")
                    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "price_unknown")
                    assert '[prices."listed/echo"]' in refused.json()["error"]["message"]
                    assert len(sim.requests) == calls
                    assert (await ask(client, BUDGETED, "own/echo")).status_code == 200
                    metrics = (await client.get("/metrics")).text
            finally:
                await gateway.stop()
        assert re.search(r'^tidegate_unpriced_total{endpoint="chat",provider="listed"} 1.0$', metrics, re.MULTILINE)
        assert re.search(r'^tidegate_unpriced_total{endpoint="chat",provider="own"} 0.0$', metrics, re.MULTILINE)
        (listed, nothing), *own = costs(tmp_path)
        assert (listed, nothing) == ("listed/echo", None)
        assert [(model, cost > 0) for model, cost in own] == [("own/echo", True), ("own/echo", True)]
        lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith('{"')]
        (told,) = [line for line in lines if line["event"] == "prices_unknown"]
        assert (told["level"], told["reason"]) == ("warning", "ImportError: the prices are gone")
        (served,) = [line for line in lines if line.get("model") == "listed/echo" and line["status"] == 200]
        assert "cost" not in served

    asyncio.run(scene())


async def ask(client: httpx.AsyncClient, key: str, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
    return await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})


def costs(folder: Path) -> list[tuple[Any, ...]]:
    """What each request cost in billionths of a dollar, as the ledger has it; None where nobody knows."""
    database = sqlite3.connect(folder / "tidegate.db")
    try:
        return database.execute("SELECT model, cost_nano FROM ledger ORDER BY number").fetchall()
    finally:
        database.close()
