"""What befalls the database: another program holds it, its disk is full, its server hangs or is gone, its schema is another."""

import asyncio
import json
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.clients import Answer, ask, judge
from tests.faults.served import STREAMING, Sim, Under, streaming
from tests.faults.witnesses import (
    QUERY,
    Booked,
    Entry,
    Figures,
    Since,
    Witnesses,
    calls_made,
    entries_in,
    entry_of,
    fetch,
)
from tests.storage.server import PostgresServer
from tests.support.running import wait_for

SHORT = "sim/lorem?chunks=15&gap=20"
LARGE = "tide " * 3_500_000
"""17 MB: three of them are more than may wait."""

WRITTEN_S = 0.15
"""By then what was begun is in the database."""

FIXTURES = Path(__file__).parents[1] / "storage" / "fixtures"
UNAVAILABLE = "storage_unavailable"


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with Sim() as there:
        yield there


def all_of(ending: str, status: int = 200, **more: Any) -> list[Booked]:
    """One request in each API."""
    return [Booked(ending, status, endpoint=client, **more) for client in STREAMING]


def ask_all(gateway: Under, model: str, marker: str) -> dict[str, Answer]:
    return {client: ask(gateway, client, model, f"{marker}-{client}", stream=False) for client in STREAMING}


def whole(*seen: dict[str, Answer], stream: bool) -> None:
    """All of them are, and say so."""
    for answers in seen:
        for client, answer in answers.items():
            assert judge(client, answer, stream=stream).ending == "completed", client


def is_ready(gateway: Under) -> bool:
    return fetch(gateway, "/readyz")[0] == 200


def stored(answer: Answer) -> str:
    """Where the response can be had again."""
    return f"/v1/responses/{json.loads(answer.body)['id']}"


def unavailable(answer: tuple[int, bytes]) -> bool:
    status, body = answer
    return (status, json.loads(body)["error"]["code"]) == (503, UNAVAILABLE)


def recovered(since: Since) -> Figures:
    """The metrics, when all that waited is written."""

    def look() -> Figures:
        now = since.after
        return now if now["tidegate_storage_failing"] == now["tidegate_storage_queued_bytes"] == 0 else {}

    found = wait_for(look, 10)
    assert found, since.after
    assert (found["tidegate_storage_lost_runs"], found["tidegate_storage_lost_usage"]) == (0, 0)
    return found


@pytest.mark.fault("FAULT-DB-LOCKED")
def test_requests_do_not_wait_for_a_program_that_holds_the_database(
    sim: Sim, tmp_path: Path, witnesses: Witnesses
) -> None:
    with Under(sim, tmp_path) as gateway:
        since = gateway.since()
        with closing(sqlite3.connect(tmp_path / "tidegate.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with streaming(gateway, SHORT, "locked") as answers:
                quick = ask_all(gateway, "sim/lorem", "locked-out")
            streams = {client: answer.result() for client, answer in answers.items()}
            held = since.after
            assert held["tidegate_storage_queued_bytes"] > 0
            assert is_ready(gateway)
            assert since.entries(0) == []
            other.execute("ROLLBACK")
        with witnesses.hearing("client"):
            whole(streams, stream=True)
            whole(quick, stream=False)
        witnesses.upstream(sim.calls("locked"), answered=2 * len(STREAMING))
        told = all_of("completed") * 2
        ids = [answer.headers["x-request-id"] for answer in [*streams.values(), *quick.values()]]
        witnesses.ledger(since.entries(len(told)), *told, ids=ids)
        witnesses.metrics(since.before, held, *told)  # nor do they wait for it
        witnesses.metrics(since.before, recovered(since), *told)


@pytest.mark.fault("FAULT-DB-DOWN")
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the system cannot limit another process")
def test_a_full_disk_holds_up_nobody_and_what_waits_is_written_when_there_is_room(
    sim: Sim, tmp_path: Path, witnesses: Witnesses
) -> None:
    """The database can write nothing, and neither can the log."""

    def room(most: int) -> None:
        """From now on no file of the process grows beyond: what reaches for room is told that there is none."""
        resource.prlimit(gateway.process.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    with Under(sim, tmp_path) as gateway:
        admin = wait_for(lambda: re.search(r"tga-\w+", gateway.process.log), 10)
        assert admin
        before = ask(gateway, "responses", "sim/lorem", "before-it", stream=False)
        gateway.settled(1)
        since = gateway.since()
        with streaming(gateway, SHORT, "full-disk") as answers:
            room(0)
            quick = ask_all(gateway, "sim/lorem", "no-room")
            # Whatever they come to, and whatever the log has to say of them.
            refused = ask(gateway, "responses", "sim/lorem?status=401", "no-credential", stream=False)
            cut = ask(gateway, "responses", "sim/lorem?fault=cut", "cut-off", stream=True)
        streams = {client: answer.result() for client, answer in answers.items()}
        old, new = stored(before), stored(quick["responses"])
        with witnesses.hearing("client"):
            whole(streams, stream=True)
            whole(quick, stream=False)
            assert judge("responses", refused, stream=False).code == "upstream_auth"
            assert judge("responses", cut, stream=True).ending == "failed"
            # What needs the database is refused at once, in words; what is there already is read.
            assert fetch(gateway, old) == (200, before.body)
            assert unavailable(fetch(gateway, new))
            headers = {"authorization": f"Bearer {admin[0]}"}
            for path, body in (("/v1/conversations", {}), ("/admin/v1/keys", {"name": "new"})):
                answer = httpx.post(f"{gateway.origin}{path}", json=body, headers=headers, trust_env=False)
                assert unavailable((answer.status_code, answer.content))
            assert is_ready(gateway)
        full = since.after
        assert full["tidegate_storage_failing"] == 1
        assert full["tidegate_storage_queued_bytes"] > 0
        assert full["tidegate_log_lines_dropped"] > 0
        room(resource.RLIM_INFINITY)
        witnesses.upstream([*sim.calls("full-disk"), *sim.calls("no-room")], answered=2 * len(STREAMING))
        witnesses.upstream([*sim.calls("no-credential"), *sim.calls("cut-off")], answered=2)
        after = recovered(since)
        told = [
            *all_of("completed") * 2,
            Booked("failed", 502, "upstream_auth", used=False),
            Booked("failed", error="upstream_broken", estimated=True),
        ]
        witnesses.ledger(since.entries(len(told)), *told)
        made = {calls_made(client, "answered", "sim"): 2 for client in STREAMING}
        witnesses.metrics(since.before, after, *told, attempts={**made, calls_made("responses", "failed", "sim"): 2})
        with witnesses.hearing("client"):
            assert fetch(gateway, new) == (200, quick["responses"].body)
            name = streams["responses"].headers["tidegate-stream"]
            assert fetch(gateway, f"/v1/responses/{name}?stream=true") == (200, streams["responses"].body)
        assert gateway.events("storage_recovered")
        assert "Traceback" not in gateway.process.log


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    found = PostgresServer()
    try:
        found.start()
        yield found
    finally:
        found.close()


def on_postgres(sim: Sim, folder: Path, server: PostgresServer, name: str, mode: str) -> Under:
    """A gateway on a database of its own."""
    import asyncpg

    async def query(database: str, sql: str) -> list[Any]:
        connection = await asyncpg.connect(server.url(database))
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()

    def entries() -> list[Entry]:
        return [entry_of(row.values()) for row in asyncio.run(query(name, QUERY))]

    asyncio.run(query("template1", f"CREATE DATABASE {name}"))
    more = f'[storage]\nurl = "{server.url(name)}"\nwhen_unavailable = "{mode}"\n'
    return Under(sim, folder, more, entries=entries)


@pytest.mark.fault("FAULT-DB-DOWN")
def test_a_gateway_goes_on_while_its_server_hangs_and_while_it_is_gone(
    sim: Sim, tmp_path: Path, server: PostgresServer, witnesses: Witnesses
) -> None:
    with on_postgres(sim, tmp_path, server, "going_on", "fail_open") as gateway:
        since = gateway.since()
        with streaming(gateway, SHORT, "hanging") as answers, server.freeze():
            seen = [ask_all(gateway, "sim/lorem", "hung")]
            streams = {client: answer.result() for client, answer in answers.items()}
            held = since.after
            assert held["tidegate_storage_queued_bytes"] > 0
            assert is_ready(gateway)
        told = all_of("completed") * 2
        witnesses.metrics(since.before, held, *told)  # they had ended before anything was written
        witnesses.ledger(since.entries(len(told)), *told)

        with streaming(gateway, "sim/lorem?chunks=30&gap=20", "orphaned") as answers:
            time.sleep(WRITTEN_S)
            server.stop(signal.SIGQUIT)
            try:
                seen.append(ask_all(gateway, "sim/lorem", "crashed"))
                lost = stored(seen[1]["responses"])
                assert wait_for(lambda: since.after["tidegate_storage_failing"] == 1)
                with witnesses.hearing("client"):
                    assert unavailable(fetch(gateway, lost))
                    assert is_ready(gateway)
                orphans = {client: answer.result() for client, answer in answers.items()}
            finally:
                server.start()
        with witnesses.hearing("client"):
            whole(streams, orphans, stream=True)
            whole(*seen, stream=False)
            assert wait_for(lambda: fetch(gateway, lost) == (200, seen[1]["responses"].body), 10)
        for marker in ("hanging", "hung", "orphaned", "crashed"):
            witnesses.upstream(sim.calls(marker), answered=len(STREAMING))
        after = recovered(since)
        ids = [one.headers["x-request-id"] for answers_ in (streams, orphans, *seen) for one in answers_.values()]
        witnesses.ledger(since.entries(2 * len(told)), *told * 2, ids=ids)
        witnesses.metrics(since.before, after, *told * 2)
        assert len(gateway.events("storage_recovered")) == len(gateway.events("storage_failing")) == 1


AGAIN = ("idempotency-key: once",)
GRACE = ("tidegate-resume-grace: 9s",)
TO_BE_STORED: list[tuple[str, bool, dict[str, Any]]] = [
    ("responses", False, {}),
    ("responses", True, {}),
    ("responses", False, {"background": True}),
    ("chat", True, {"headers": GRACE}),
    ("messages", True, {"headers": AGAIN}),
]
"""APIs, whether they stream, and what else they say: answers of which something must be kept."""


@pytest.mark.fault("FAULT-DB-DOWN")
def test_what_could_not_be_stored_any_more_is_refused_where_that_is_wanted(
    sim: Sim, tmp_path: Path, server: PostgresServer, witnesses: Witnesses
) -> None:
    with on_postgres(sim, tmp_path, server, "closed", "fail_closed") as gateway:
        since = gateway.since()
        with streaming(gateway, SHORT, "closing") as answers:
            server.stop()
            try:
                large = [ask(gateway, "responses", "sim/lorem?chunks=1", LARGE, stream=False) for _ in range(3)]
                refused = [
                    (client, stream, ask(gateway, client, "sim/lorem", "to-be-stored", stream=stream, **more))
                    for client, stream, more in TO_BE_STORED
                ]
                passed = ask(gateway, "responses", "sim/lorem", "not-to-be", stream=False, store=False)
                assert is_ready(gateway)
                streams = {client: answer.result() for client, answer in answers.items()}
            finally:
                server.start()
        with witnesses.hearing("client"):
            whole(streams, stream=True)
            whole(*({"responses": one} for one in (*large, passed)), stream=False)
            for client, stream, answer in refused:
                assert answer.status == (529 if client == "messages" else 503)
                verdict = judge(client, answer, stream=stream)
                assert client == "messages" or verdict.code == UNAVAILABLE
                assert "no further response can be stored" in verdict.message
        witnesses.upstream(sim.calls("to-be-stored"))
        witnesses.upstream([*sim.calls("not-to-be"), *sim.calls("closing")], answered=1 + len(STREAMING))
        after = recovered(since)
        told = [*all_of("completed"), *[Booked("completed")] * (len(large) + 1)]
        no = [
            Booked("failed", answer.status, endpoint=client, provider="", attempts=0) for client, _, answer in refused
        ]
        witnesses.ledger(since.entries(len(told)), *told)
        witnesses.metrics(since.before, after, *told, *no)
        assert gateway.events("storage_full")


# -- the schema ------------------------------------------------------------------------------------------------------


def left_by(revision: str, path: Path) -> None:
    """A database as a version of old left it."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript((FIXTURES / f"{revision}.sqlite.sql").read_text("utf-8"))


@pytest.mark.fault("FAULT-DB-SCHEMA")
def test_a_database_that_is_not_ours_to_use_is_not_touched_and_nobody_is_served(
    sim: Sim, tmp_path: Path, witnesses: Witnesses
) -> None:
    """Newer, damaged, another program's: the start is refused in words."""
    newest = max(path.name[:4] for path in FIXTURES.glob("*.sqlite.sql"))

    def refuse(harm: str) -> None:
        folder = tmp_path / harm
        folder.mkdir()
        path = folder / "tidegate.db"
        gateway = Under(sim, folder)
        words = {"newer": "Start that version", "foreign": "another program", "damaged": "restore a backup"}[harm]
        if harm == "foreign":
            with closing(sqlite3.connect(path)) as database:
                database.execute("CREATE TABLE runs (number INTEGER)")
        else:
            left_by(newest, path)
            with closing(sqlite3.connect(path)) as database, database:
                database.execute("UPDATE alembic_version SET version_num = '9999'")
            if harm == "damaged":
                path.write_bytes(path.read_bytes()[:100] + b"\xff" * 3996 + path.read_bytes()[4096:])
        before = path.read_bytes()
        command = [sys.executable, "-m", "tidegate", "serve", "--config", str(folder / "gateway.toml")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
        with witnesses.hearing("client", "metrics"):  # there is nobody to ask
            assert ended.returncode not in (0, None)
            assert words in ended.stdout + ended.stderr
            for name in ("/v1/models", "/metrics"):
                with pytest.raises(ConnectionRefusedError):
                    fetch(gateway, name)
        with witnesses.hearing("ledger"):
            assert path.read_bytes() == before

    calls = len(sim.calls())
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(refuse, ("newer", "damaged", "foreign")))
    witnesses.upstream(sim.calls()[calls:])


@pytest.mark.fault("FAULT-DB-SCHEMA")
def test_an_older_database_is_upgraded_and_goes_on_with_its_ledger(
    sim: Sim, tmp_path: Path, witnesses: Witnesses
) -> None:
    oldest, *_ = sorted(path.name[:4] for path in FIXTURES.glob("*.sqlite.sql"))
    left_by(oldest, tmp_path / "tidegate.db")
    with Under(sim, tmp_path) as gateway:
        before = gateway.since()
        seen = ask_all(gateway, "sim/lorem", "upgraded")
        kept = fetch(gateway, stored(seen["responses"]))
        with witnesses.hearing("client"):
            whole(seen, stream=False)
            assert kept == (200, seen["responses"].body)
        witnesses.upstream(sim.calls("upgraded"), answered=len(STREAMING))
        told = all_of("completed")
        witnesses.ledger(before.entries(len(told)), *told)
        witnesses.metrics(before.before, before.after, *told)
    assert len(list(tmp_path.glob("*.backup"))) == 1
    assert entries_in(tmp_path)
