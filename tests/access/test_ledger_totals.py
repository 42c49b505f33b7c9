"""What stands in the ledger is what the provider counted, to the token and to the cent."""

from collections import Counter
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.access.books import ASK, LEDGER, Books
from tests.support.running import Running
from tidegate.sim.claims import Claim

UPSTREAMS = ("sim", "lab", "anthropic", "gemini")
FIGURES = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")

RATES = {
    "sim": ("2.0", "0.2", "2.5", "8.0", "8.0"),
    "lab": ("1.0", "1.0", "1.0", "3.0", "3.0"),
    "anthropic": ("3.0", "0.3", "3.75", "15.0", "15.0"),
    "gemini": ("1.25", "1.25", "1.25", "10.0", "12.0"),
}


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    with Running(LEDGER.replace("{data}", str(tmp_path))) as gateway:
        found = Books(gateway)
        yield found
        found.close()


def nano(provider: str, claim: Claim) -> int:
    """The cost of an answer, by schoolbook arithmetic."""
    given, cached, written, taken, thought = map(Decimal, RATES[provider])
    plain = claim.input_tokens - claim.cached_tokens - claim.cache_write_tokens
    micro = (
        plain * given
        + claim.cached_tokens * cached
        + claim.cache_write_tokens * written
        + (claim.output_tokens - claim.reasoning_tokens) * taken
        + claim.reasoning_tokens * thought
    )
    return int((micro * 1000).quantize(Decimal(1), ROUND_HALF_UP))


def test_the_ledger_equals_the_providers_own_count(books: Books) -> None:
    """A day's traffic: every API, streams and not, faults, and clients that leave."""
    claims: Counter[str] = Counter()
    costs: Counter[str] = Counter()
    asked = 0

    def send(api: str, model: str, *, stream: bool, leave: bool = False, **more: Any) -> None:
        nonlocal asked
        before = len(books.gateway.sim.requests)
        books.ask(api, model, stream=stream, leave=leave, **more)
        asked += 1
        if leave:
            return
        provider = model.partition("/")[0]
        for request in list(books.gateway.sim.requests)[before:]:
            claim = request.claim
            if claim is not None:
                for name in FIGURES:
                    claims[name] += getattr(claim, name)
                costs["nano"] += nano("lab" if provider == "spare" else provider, claim)

    for api in ASK:
        for upstream in UPSTREAMS:
            if api == "completions" and upstream != "sim":
                continue
            for stream in (False, True):
                send(api, f"{upstream}/echo", stream=stream)
                send(api, f"{upstream}/lorem?chunks=7", stream=stream, say="Longer, with more in it. " * 9)
                for fault in ("error", "eof", "reset"):
                    send(api, f"{upstream}/lorem?fault={fault}", stream=stream)
                send(api, f"{upstream}/echo?status=500", stream=stream)
                send(api, f"{upstream}/lorem?finish=length", stream=stream)
            if api != "completions":
                send(api, f"{upstream}/reasoning", stream=True)
            send(api, f"{upstream}/lorem?chunks=60&gap=20", stream=True, leave=True)
    marked = {
        "role": "user",
        "content": [{"type": "text", "text": "word " * 400, "cache_control": {"type": "ephemeral"}}],
    }
    for stream in (False, True):
        send("messages", "anthropic/echo", stream=stream, messages=[marked])
        send("chat", "spare", stream=stream)

    rows = books.settled()
    assert len(rows) == asked > 250
    assert len({row.number for row in rows}) == asked
    reported = [row for row in rows if not row.entry.estimated]
    for name in FIGURES:
        assert sum(getattr(row.entry, name) for row in reported) == claims[name], name
    assert claims["cached_tokens"] > 0
    assert claims["cache_write_tokens"] > 0
    assert claims["reasoning_tokens"] > 0
    assert sum(row.cost_nano or 0 for row in reported) == costs["nano"]
    assert all(row.cost_nano is not None for row in rows)
    # What leaving clients and broken providers left is in it too, and says that it is a guess.
    guessed = [row for row in rows if row.entry.estimated]
    assert {row.entry.ending for row in guessed} == {"client_gone", "failed"}
    assert all(row.entry.input_tokens for row in guessed)
