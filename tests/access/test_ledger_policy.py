"""What is charged for each way in which a request can end (docs/en/usage-and-prices.md), in every API."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.access.books import ASK, KEY, LEDGER, Books, prices_of
from tests.support.forms import noise
from tests.support.running import Running, wait_for

UPSTREAMS = ("sim", "lab", "anthropic", "gemini")
ESTIMATES = {"completions": 4}
"""Of the question that all ask, of sixteen bytes; where it is a turn, four tokens more."""
PAIRS = [(api, upstream) for api in ASK for upstream in UPSTREAMS if api != "completions" or upstream == "sim"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def books(folder: Path) -> Iterator[Books]:
    with Running(LEDGER.replace("{data}", str(folder))) as gateway:
        found = Books(gateway)
        yield found
        found.close()


@pytest.mark.parametrize(("api", "upstream"), PAIRS)
def test_a_whole_answer_costs_what_the_provider_counts(books: Books, api: str, upstream: str) -> None:
    for stream in (False, True):
        row = books.row(books.ask(api, f"{upstream}/echo", stream=stream))
        claim = books.gateway.sim.requests[-1].claim
        assert claim is not None
        assert (row.entry.ending, row.entry.status, row.entry.estimated) == ("completed", 200, False)
        assert (row.entry.input_tokens, row.entry.output_tokens) == (claim.input_tokens, claim.output_tokens)
        assert row.cost_nano
        assert prices_of(row)["source"] == f'prices."{upstream}/*"'
        assert (row.entry.stream, row.provider, row.entry.attempts) == (stream, upstream, 1)
        assert (row.tenant.organization, row.tenant.project, row.entry.key) == ("default", "harbour", "app")
        assert row.entry.duration_ms > 0
        assert row.entry.first_event_ms is not None


@pytest.mark.fault("FAULT-KILLED")
def test_the_row_of_a_request_is_there_while_it_runs_also_when_no_other_does(books: Books, folder: Path) -> None:
    model = "sim/lorem?chunks=90&gap=20"
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    books.settled()

    def row() -> list[Any]:
        with closing(sqlite3.connect(folder / "tidegate.db")) as database:  # asking the gateway would have it written
            return database.execute("SELECT ending, settled_at FROM ledger WHERE model = ?", (model,)).fetchall()

    with books.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        said = answer.iter_bytes()
        next(said)
        assert wait_for(row, 0.5) == [("open", None)]


@pytest.mark.fault("FAULT-USAGE")
@pytest.mark.parametrize(("api", "upstream"), PAIRS)
def test_an_answer_without_figures_costs_an_estimate_that_says_so(books: Books, api: str, upstream: str) -> None:
    for stream in (False, True):
        row = books.row(books.ask(api, f"{upstream}/echo?usage=absent", stream=stream))
        assert (row.entry.ending, row.entry.estimated) == ("completed", True)
        assert row.entry.input_tokens == ESTIMATES.get(api, 8), "of the text, and not of the JSON around it"
        assert row.entry.output_tokens > 0
        assert row.cost_nano


@pytest.mark.parametrize(("api", "upstream"), PAIRS)
def test_an_empty_reply_costs_what_the_provider_counts_of_it(books: Books, api: str, upstream: str) -> None:
    for stream in (False, True):
        row = books.row(books.ask(api, f"{upstream}/echo?text=", stream=stream))
        claim = books.gateway.sim.requests[-1].claim
        assert claim is not None
        assert claim.output_tokens == 0
        assert (row.entry.ending, row.entry.estimated, row.entry.output_tokens) == ("completed", False, 0)
        assert row.entry.input_tokens == claim.input_tokens > 0
        assert row.cost_nano


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.parametrize(("api", "upstream"), PAIRS)
def test_a_client_that_leaves_costs_what_was_read_and_said_until_then(books: Books, api: str, upstream: str) -> None:
    row = books.row(books.ask(api, f"{upstream}/lorem?chunks=80&gap=25", stream=True, leave=True))
    assert (row.entry.ending, row.entry.estimated, row.entry.error) == ("client_gone", True, "client_gone")
    assert row.entry.input_tokens > 0
    assert row.entry.output_tokens < 80
    assert row.cost_nano


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.parametrize("api", ASK)
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_first_word_costs_the_prompt(books: Books, api: str, stream: bool) -> None:
    books.http.timeout = httpx.Timeout(0.15)
    before = len(books.gateway.sim.requests)
    with pytest.raises(httpx.TimeoutException):
        books.ask(api, "sim/lorem?head_delay=400", stream=stream)
    books.http.timeout = httpx.Timeout(20)
    assert len(books.gateway.sim.requests) == before + 1
    row = wait_for(lambda: [one for one in books.rows() if one.entry.model == "sim/lorem?head_delay=400"][-1])
    row = books.row(row.entry.request_id)
    assert (row.entry.ending, row.entry.status, row.entry.estimated) == ("client_gone", 499, True)
    assert row.entry.input_tokens > 0
    assert row.entry.output_tokens == 0
    assert row.cost_nano


@pytest.mark.fault("FAULT-USAGE")
@pytest.mark.parametrize(("api", "upstream"), PAIRS)
@pytest.mark.parametrize("fault", ["eof", "reset", "error"])
def test_an_answer_that_breaks_costs_what_was_said_before(books: Books, api: str, upstream: str, fault: str) -> None:
    row = books.row(books.ask(api, f"{upstream}/lorem?chunks=9&fault={fault}&after=6", stream=True))
    assert (row.entry.ending, row.entry.estimated) == ("failed", True)
    assert row.entry.input_tokens > 0
    assert row.entry.output_tokens > 0
    assert row.cost_nano


@pytest.mark.fault("FAULT-USAGE")
@pytest.mark.parametrize("api", ["responses", "chat", "messages", "gemini", "embeddings"])
def test_a_whole_answer_that_breaks_costs_the_words_of_it_and_not_what_stands_around_them(
    books: Books, api: str
) -> None:
    """Of 400 bytes a dozen are words."""
    upstream = {"messages": "anthropic", "gemini": "gemini"}.get(api, "sim")
    row = books.row(books.ask(api, f"{upstream}/echo?fault=eof", say="tide " * 12))
    assert (row.entry.ending, row.entry.estimated) == ("failed", True)
    assert row.entry.input_tokens > 0
    assert row.entry.output_tokens <= 20


@pytest.mark.parametrize(("api", "upstream"), PAIRS)
@pytest.mark.parametrize(
    "script", ["echo?status=500", "echo?status=429", "echo?status=400", "lorem?fault=error&after=0"]
)
def test_a_provider_that_fails_before_it_says_anything_costs_nothing(
    books: Books, api: str, upstream: str, script: str
) -> None:
    row = books.row(books.ask(api, f"{upstream}/{script}", stream=True))
    assert row.entry.ending in ("failed", "refused")
    assert (row.cost_nano, row.entry.estimated, row.entry.attempts) == (0, False, 1)
    assert (row.entry.input_tokens, row.entry.output_tokens) == (0, 0)


@pytest.mark.parametrize("api", ASK)
def test_a_provider_that_is_given_up_costs_the_prompt_and_one_that_is_not_reached_nothing(
    books: Books, api: str
) -> None:
    row = books.row(books.ask(api, "sim/lorem?head_delay=900", stream=True))
    assert (row.entry.ending, row.entry.estimated, row.entry.output_tokens) == ("failed", True, 0)
    assert row.cost_nano
    row = books.row(books.ask(api, "closed/m", stream=True))
    assert (row.entry.ending, row.entry.estimated, row.cost_nano) == ("failed", False, 0)


def test_what_several_deployments_charge_is_added_up(tmp_path: Path) -> None:
    toml = LEDGER.replace("{data}", str(tmp_path)) + (
        '[models.slow]\ntarget = "lab/lorem?head_delay=900"\nfallback = ["anthropic/echo"]\n'
    )
    with Running(toml) as gateway:
        books = Books(gateway)
        row = books.row(books.ask("chat", "slow", stream=True))
        assert (row.entry.ending, row.entry.deployment, row.entry.attempts) == ("completed", "anthropic/echo", 2)
        first, second = row.parts
        assert (first.deployment, first.estimated, first.output_tokens) == ("lab/lorem?head_delay=900", True, 0)
        assert (second.deployment, second.estimated) == ("anthropic/echo", False)
        assert first.cost_nano == first.input_tokens * 1000
        assert second.cost_nano == second.input_tokens * 3000 + second.output_tokens * 15000
        assert row.cost_nano == first.cost_nano + second.cost_nano
        assert row.entry.input_tokens == first.input_tokens + second.input_tokens
        assert row.entry.estimated
        [line] = [line for line in gateway.log_lines if line["event"] == "request"] or [
            gateway.usage(row.entry.request_id)
        ]
        assert line["cost"] == row.cost_nano / 1e9
        books.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_repeat_costs_nothing_and_names_the_answer_that_it_repeats(books: Books, api: str, stream: bool) -> None:
    headers = {"idempotency-key": f"k-{api}-{stream}"}
    first = books.row(books.ask(api, "sim/echo", stream=stream, headers=headers))
    again = books.row(books.ask(api, "sim/echo", stream=stream, headers=headers))
    assert (first.entry.ending, again.entry.ending) == ("completed", "repeated")
    assert first.cost_nano
    assert (again.cost_nano, again.entry.input_tokens, again.entry.attempts) == (0, 0, 0)
    assert again.response_id == first.response_id != ""


def test_what_is_refused_before_it_is_admitted_has_no_row(books: Books) -> None:
    before = len(books.rows())
    for api, model, more in (
        ("chat", "nobody/has-this", {}),
        ("responses", "sim/echo", {"temperature": 9}),
        ("responses", "sim/echo", {"previous_response_id": "resp_nobody"}),
    ):
        books.ask(api, model, **more)
        assert books.status in (400, 404)
    wrong = Books(books.gateway, "wrong-0123456789abcdef0123456789abcd")
    wrong.ask("chat", "sim/echo")
    assert wrong.status == 401
    wrong.close()
    assert len(books.rows()) == before


def test_two_requests_with_one_id_are_two_rows(books: Books) -> None:
    for _ in range(2):
        books.ask("chat", "sim/echo", headers={"x-request-id": "the-clients-own"})
    rows = wait_for(lambda: found if len(found := _rows_of(books, "the-clients-own")) == 2 else [])
    assert [row.entry.ending for row in rows] == ["completed", "completed"]
    assert rows[0].number != rows[1].number


def _rows_of(books: Books, request_id: str) -> list[Any]:
    return [row for row in books.rows() if row.entry.request_id == request_id and row.settled_at]


@pytest.mark.fault("FAULT-CATALOGUE")
def test_an_unknown_price_is_unknown(books: Books) -> None:
    row = books.row(books.ask("chat", "unpriced/echo"))
    assert (row.cost_nano, row.entry.cost, bytes(row.prices)) == (None, None, b"null")
    assert row.entry.input_tokens > 0
    assert "cost" not in books.gateway.usage(row.entry.request_id)
    metrics = books.http.get("/metrics").text
    assert 'tidegate_unpriced_total{endpoint="chat",provider="unpriced"} 1.0' in metrics


def test_metrics_add_up_to_the_rows(books: Books) -> None:
    rows = books.settled()
    metrics = books.http.get("/metrics").text
    told = sum(
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith("tidegate_cost_dollars_total")
    )
    assert told == pytest.approx(sum(row.cost_nano or 0 for row in rows) / 1e9)


def test_counting_tokens_and_asking_for_nothing_is_free(books: Books) -> None:
    reply = books.http.post("/v1/responses/input_tokens", json={"model": "sim/echo", "input": "How many?"})
    assert reply.json()["input_tokens"] > 0
    row = books.row(reply.headers["x-request-id"])
    assert (row.entry.endpoint, row.cost_nano, row.entry.input_tokens) == ("responses/input_tokens", 0, 0)


def test_speech_transcripts_and_embeddings_cost_what_they_are_counted_in(books: Books) -> None:
    row = books.row(books.ask("embeddings", "sim/echo", say="some words to place"))
    assert row.cost_nano == row.entry.input_tokens * 2000 > 0
    row = books.row(books.ask("speech", "sim/echo", say="你好, tide"))
    assert row.entry.characters == len("你好, tide")
    assert row.cost_nano == row.entry.input_tokens * 2000 + row.entry.output_tokens * 8000 + 8 * 15_000
    answer = books.http.post(
        "/v1/audio/transcriptions",
        data={"model": "sim/echo", "response_format": "verbose_json"},
        files={"file": ("a.wav", noise(48_000), "audio/wav")},
    )
    assert answer.status_code == 200, answer.text
    row = books.row(answer.headers["x-request-id"])
    assert row.entry.audio_seconds > 0
    assert row.cost_nano is not None
    assert row.cost_nano > 0


def test_the_catalogue_prices_what_the_configuration_does_not(tmp_path: Path) -> None:
    toml = LEDGER.replace("{data}", str(tmp_path)).replace(
        "[providers.unpriced]\n",
        '[providers.listed]\nkind = "openai-compatible"\nbase_url = "{sim}"\n'
        'speaks = ["chat"]\nprice_list = "anthropic"\n[providers.unpriced]\n',
    )
    model = "listed/echo?message=claude-v2"  # the sim reads the script before the question mark, the catalogue the end
    with Running(toml) as gateway:
        books = Books(gateway)
        started = time.perf_counter()
        request_id = books.ask("chat", model)
        assert time.perf_counter() - started < 0.5, "the request must not wait for the prices"
        row = wait_for(lambda: [one for one in books.rows() if one.settled_at], 20)[0]
        assert row.entry.request_id == request_id
        assert row.cost_nano == row.entry.input_tokens * 8000 + row.entry.output_tokens * 24000
        shown = prices_of(row)
        assert shown["source"].startswith("genai-prices ")
        assert (shown["input"], shown["output"]) == (8.0, 24.0)
        books.close()


def test_without_storage_the_log_tells_what_a_request_cost() -> None:
    toml = LEDGER.replace('data_dir = "{data}"\n', "") + '[storage]\nurl = "off"\n'
    with Running(toml) as gateway:
        with httpx.Client(base_url=gateway.origin, headers={"authorization": f"Bearer {KEY}"}) as client:
            reply = client.post(
                "/v1/chat/completions",
                json={"model": "lab/echo", "messages": [{"role": "user", "content": "hi"}]},
            )
        line = gateway.usage(reply.headers["x-request-id"])
        assert line["cost"] == (line["input_tokens"] * 1000 + line["output_tokens"] * 3000) / 1e9
