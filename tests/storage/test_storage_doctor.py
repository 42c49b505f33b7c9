"""`tidegate doctor` on databases: what is wrong with them is told, and nothing in them is changed."""

import asyncio
import hashlib
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.stage import Told, told
from tests.storage.stage import Place
from tidegate.access.administration import Actor, Administration
from tidegate.access.objects import NewKey
from tidegate.access.pepper import Pepper
from tidegate.server.doctor.database import check_integrity
from tidegate.server.doctor.finding import Finding

CHECKS = (
    "database",
    "database_schema",
    "database_writable",
    "database_integrity",
    "database_keys",
    "database_clock",
    "database_notify",
)
PEPPER, OTHER = "pepper-0123456789abcdef0123456789", "another-pepper-0123456789abcdef01"

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000) SELECT i FROM n"


def examine(place: Place, *, timeout_s: float = 5.0) -> Told:
    return at(place.url, timeout_s=timeout_s)


def make_keys(place: Place) -> None:
    """One that is in use, and one that is revoked."""
    actor = Actor("test", "test")

    async def scene() -> None:
        async with place.open() as storage:
            administration = Administration(storage, [Pepper(PEPPER)])
            await administration.start()
            for name in ("app", "gone"):
                made = await administration.create_key(actor, NewKey(name=name))
            await administration.revoke_key(actor, made.id)

    asyncio.run(scene())


def at(url: str, *, timeout_s: float = 5.0, **world: Any) -> Told:
    return told(f'[storage]\nurl = "{url}"\n[providers.sim]\n', timeout_s=timeout_s, **world)


def make(place: Place) -> None:
    async def scene() -> None:
        async with place.open():
            pass

    asyncio.run(scene())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


# -- a file -----------------------------------------------------------------------------------------------------------


def test_a_file_in_good_health_is_left_as_it_is(sqlite: Place) -> None:
    make(sqlite)
    before = digest(sqlite.path), sorted(os.listdir(sqlite.path.parent))
    seen = examine(sqlite)
    assert [seen(check).status for check in CHECKS] == ["ok"] * 5 + ["skipped"] * 2
    assert seen("database").details["journal_mode"] == "wal"
    assert (digest(sqlite.path), sorted(os.listdir(sqlite.path.parent))) == before


def test_a_newer_schema(sqlite: Place) -> None:
    make(sqlite)
    change(sqlite.path, "UPDATE alembic_version SET version_num = '9999'")
    found = examine(sqlite)("database_schema")
    assert found.status == "failed"
    assert "9999" in found.found
    assert "newer version" in found.found


def test_an_older_schema_is_told_to_be_upgraded(sqlite: Place) -> None:
    make(sqlite)
    change(sqlite.path, "UPDATE alembic_version SET version_num = '0001'")
    found = examine(sqlite)("database_schema")
    assert found.status == "ok"
    assert "the next start brings it to" in found.found


def test_a_file_of_another_program(sqlite: Place) -> None:
    sqlite.path.parent.mkdir()
    change(sqlite.path, "CREATE TABLE songs (id)")
    assert "another program" in examine(sqlite)("database_schema").found


def test_a_locked_file_is_readable_and_not_writable(sqlite: Place) -> None:
    make(sqlite)
    other = sqlite3.connect(sqlite.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        seen = examine(sqlite)
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert seen("database").status == "ok"
    assert seen("database_writable").status == "failed"
    assert "locked by another process" in seen("database_writable").found


@pytest.mark.parametrize("part", ["head", "middle"])
def test_a_damaged_file(sqlite: Place, part: str) -> None:
    make(sqlite)
    change(sqlite.path, f"CREATE TABLE large AS {NUMBERS}")
    with sqlite.path.open("r+b") as file:
        file.seek(0 if part == "head" else sqlite.path.stat().st_size * 3 // 4)
        file.write(b"\xa5" * (16 if part == "head" else 8192))
    seen = examine(sqlite)
    check = "database" if part == "head" else "database_integrity"
    assert seen(check).status == "failed"
    assert "damaged" in seen(check).found
    assert not seen.report.ok


def test_a_check_of_integrity_that_takes_too_long_is_broken_off(sqlite: Place) -> None:
    make(sqlite)
    change(sqlite.path, f"CREATE TABLE large AS {NUMBERS}")
    assert check_integrity(sqlite.path, 5.0).status == "ok"
    found = check_integrity(sqlite.path, 0.0)
    assert (found.status, "--timeout" in found.found) == ("skipped", True)


# -- any --------------------------------------------------------------------------------------------------------------


def test_keys_that_were_made_with_another_pepper_are_found(place: Place, tmp_path: Path) -> None:
    make_keys(place)

    def found(**environment: str) -> Finding:
        text = f'[storage]\nurl = "{place.url}"\n[server]\nport = 0\ndata_dir = "{tmp_path}/own"\n[providers.sim]\n'
        return told(text, environment=environment)("database_keys")

    own = found(TIDEGATE_PEPPER=PEPPER)
    assert (own.status, own.details) == ("ok", {"keys": 1, "of_another_pepper": 0})
    assert found(TIDEGATE_PEPPER=f"{OTHER}, {PEPPER}").status == "ok"
    for other in found(TIDEGATE_PEPPER=OTHER), found():  # without one a start makes a new one
        assert other.status == "failed"
        assert "1 of 1 keys were made with another pepper" in other.found
        assert "TIDEGATE_PEPPER" in other.advice
        assert "pepper.key" in other.advice
    assert not (tmp_path / "own").exists(), "looking makes none"
    assert found(TIDEGATE_PEPPER="short").status == "skipped", "secret_files tells of it"


# -- a server ---------------------------------------------------------------------------------------------------------


def test_a_server_in_good_health(postgresql: Place) -> None:
    seen = examine(postgresql)
    assert [seen(check).status for check in CHECKS] == ["ok", "ok", "ok", "skipped", "ok", "ok", "ok"]
    assert abs(seen("database_clock").details["offset_s"]) < 2
    assert "NOTIFY is heard" in seen("database_notify").found


def test_a_database_without_tables_stays_without(empty_postgresql: Place) -> None:
    seen = examine(empty_postgresql)
    assert "made at the first start" in seen("database_schema").found
    assert "may make the tables" in seen("database_writable").found
    assert "made at the first start" in examine(empty_postgresql)("database_schema").found


def test_a_clock_that_differs_from_the_servers(postgresql: Place) -> None:
    import time

    found = at(postgresql.url, now=lambda: time.time() + 30)("database_clock")
    assert found.status == "warning"
    assert "behind" in found.found


def test_a_user_for_reading_only(postgresql: Place) -> None:
    url = f"{postgresql.url}&options=-c%20default_transaction_read_only%3Don"
    assert "read-only" in at(url)("database_writable").found


def test_a_database_that_is_not_there(postgresql: Place) -> None:
    seen = at(postgresql.url.replace("/tidegate?", "/nowhere?"))
    assert "createdb" in seen("database").advice
    assert [seen(check).status for check in CHECKS] == ["failed"] + ["skipped"] * 6


def test_a_server_that_is_down_and_one_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        port = hole.getsockname()[1]
        seen = at(f"postgresql://tide:pa55word@127.0.0.1:{port}/x", timeout_s=0.4)
        assert "no answer within" in seen("database").found
    seen = at(f"postgresql://tide:pa55word@127.0.0.1:{port}/x")
    assert "cannot be reached" in seen("database").found
    assert "pa55word" not in str(seen.report)


@pytest.mark.parametrize("hosts", ["one.invalid,two.invalid", "one.invalid,"])
def test_several_servers_in_one_address_are_left_to_the_driver(hosts: str) -> None:
    found = at(f"postgresql://tide@{hosts}/x")("database")
    assert found.status == "failed"
    assert f"{hosts}, database x cannot be reached" in found.found


def test_what_a_killed_gateway_left_in_the_log_is_read(sqlite: Place) -> None:
    make(sqlite)
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "c.execute(\"UPDATE alembic_version SET version_num = '9999'\"); c.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(sqlite.path)], check=True, timeout=30)
    assert sqlite.path.with_name(f"{sqlite.path.name}-wal").stat().st_size > 0
    assert "9999" in examine(sqlite)("database_schema").found


def test_a_server_that_stands_still(postgresql: Place) -> None:
    with postgresql.server.freeze():
        seen = examine(postgresql, timeout_s=0.4)
    assert seen("database").status == "failed"
    assert "no answer within" in seen("database").found
