"""Reports over HTTP and on the command line: sums by any dimension, each caller sees only what is theirs."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.access.books import LEDGER, Books
from tests.support.running import Running, wait_for
from tests.support.terminal import seen_on_terminal
from tidegate.access.reports import csv_lines

WEB = "web-0123456789abcdef0123456789abcd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def books(folder: Path) -> Iterator[Books]:
    with Running(LEDGER.replace("{data}", str(folder))) as gateway:
        found = Books(gateway)
        for _ in range(3):
            found.ask("chat", "lab/echo", user="=cmd()")
        found.ask("responses", "anthropic/echo", stream=True)
        found.ask("chat", "unpriced/echo")
        found.ask("chat", "lab/echo?status=500")
        other = Books(gateway, WEB)
        other.ask("chat", "lab/echo")
        other.close()
        found.settled()
        yield found
        found.close()


def get(books: Books, path: str, **query: str) -> Any:
    answer = books.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_report_sums_what_the_caller_used(books: Books) -> None:
    found = get(books, "/admin/v1/usage", group_by="deployment,ending")
    assert found["object"] == "usage.report"
    rows = {(row["deployment"], row["ending"]): row for row in found["data"]}
    assert set(rows) == {
        ("lab/echo", "completed"),
        ("anthropic/echo", "completed"),
        ("unpriced/echo", "completed"),
        ("lab/echo?status=500", "failed"),
    }
    assert rows["lab/echo", "completed"]["requests"] == 3
    ledger = books.rows(key="app")
    cost = sum(row.cost_nano or 0 for row in ledger if row.entry.deployment == "lab/echo")
    assert rows["lab/echo", "completed"]["cost"] == cost / 1e9
    assert rows["unpriced/echo", "completed"]["unpriced"] == 1
    assert found["total"]["requests"] == 6
    assert found["total"]["cost"] == sum(row.cost_nano or 0 for row in ledger) / 1e9
    assert [row["cost"] for row in found["data"]] == sorted((row["cost"] for row in found["data"]), reverse=True)


@pytest.mark.security("SEC-API1-USAGE")
def test_nobody_sees_the_usage_of_another_key(books: Books) -> None:
    for only in ({"key": "web"}, {"project": "airport"}, {"key_id": "web"}):
        for path in ("/admin/v1/usage", "/admin/v1/usage/entries"):
            answer = books.http.get(path, params=only)
            if "key" in only:
                assert answer.status_code == 200
                assert not answer.json()["data"] or answer.json()["data"][0]["requests"] == 0
            else:
                assert answer.status_code == 403
                assert answer.json()["error"]["code"] == "forbidden"
    assert books.http.get("/admin/v1/usage", headers={"authorization": "Bearer nobody"}).status_code == 401
    assert "web" not in json.dumps(get(books, "/admin/v1/usage", group_by="key,key_id,project"))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"group_by": "colour"}, "group_by"),
        ({"group_by": "key,key"}, "group_by"),
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-01"}, "to"),
        ({"from": "2026-11-02", "to": "2026-11-01"}, "from"),
        ({"format": "xml"}, "format"),
        ({"limit": "0"}, "limit"),
        ({"limit": "99999"}, "limit"),
        ({"colour": "red"}, "colour"),
        ({"to": "9999-12-31T23:59:59"}, "to"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"to": "0001-01-02"}, "to"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(books: Books, query: dict[str, str], param: str) -> None:
    answer = books.http.get("/admin/v1/usage", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_time_before_all_entries_is_no_mistake(books: Books) -> None:
    assert get(books, "/admin/v1/usage", **{"from": "99999d"})["from"] == "1970-01-01T00:00:00Z"
    assert get(books, "/admin/v1/usage", to="1970-01-02")["total"]["requests"] == 0


def test_text_that_no_database_takes_is_nobodys_usage(books: Books) -> None:
    assert get(books, "/admin/v1/usage", end_user="a\0b", group_by="end_user")["data"] == []
    assert get(books, "/admin/v1/usage/entries", model="\0")["data"] == []


def test_a_report_reaches_over_whole_hours_and_may_be_cut(books: Books) -> None:
    found = get(books, "/admin/v1/usage", **{"from": "1h", "group_by": "hour,model", "limit": "1"})
    assert (len(found["data"]), found["has_more"], found["total"]["requests"]) == (1, True, 6)
    assert found["from"].endswith(":00:00Z")
    assert found["data"][0]["hour"].endswith(":00:00Z")
    assert get(books, "/admin/v1/usage", **{"from": "2020-01-01", "to": "2020-02-01"})["total"]["requests"] == 0


@pytest.mark.security("SEC-INJ-CELL")
def test_the_entries_come_out_whole_in_both_forms(books: Books) -> None:
    found = get(books, "/admin/v1/usage/entries")["data"]
    assert [one["request_id"] for one in found] == [row.entry.request_id for row in books.rows(key="app")]
    assert found[0]["end_user"] == "=cmd()"
    assert found[0]["prices"]["input"] == 1.0
    assert found[0]["cost"] == books.rows(key="app")[0].cost_nano / 1e9  # type: ignore[operator]
    text = books.http.get("/admin/v1/usage/entries", params={"format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["request_id"] for row in rows] == [one["request_id"] for one in found]
    assert rows[0]["end_user"] == "'=cmd()", "a spreadsheet must not run what a client sent"
    assert rows[4]["cost"] == ""
    assert json.loads(rows[0]["prices"])["output"] == 3.0
    text = books.http.get("/admin/v1/usage", params={"format": "csv", "group_by": "endpoint"}).text
    assert {row["endpoint"]: row["requests"] for row in csv.DictReader(io.StringIO(text))} == {
        "chat": "5",
        "responses": "1",
    }


def test_a_csv_of_nothing_is_its_header(books: Books, folder: Path) -> None:
    whole = books.http.get("/admin/v1/usage/entries", params={"format": "csv"}).text.splitlines()
    nothing = {"format": "csv", "model": "none"}
    assert books.http.get("/admin/v1/usage/entries", params=nothing).text.splitlines() == whole[:1]
    assert tidegate(folder, "--entries", "--csv", "--only", "key=none").splitlines() == whole[:1]
    whole = books.http.get("/admin/v1/usage", params={"format": "csv", "group_by": "day,key"}).text.splitlines()
    assert whole[0].startswith("day,key,requests,")
    assert books.http.get("/admin/v1/usage", params={**nothing, "group_by": "day,key"}).text.splitlines() == whole[:1]
    assert tidegate(folder, "--by", "day,key", "--csv", "--only", "key=none").splitlines() == whole[:1]


def tidegate(folder: Path, *arguments: str, status: int = 0) -> str:
    config = folder / "tidegate.toml"
    config.write_text(LEDGER.replace("{data}", str(folder)).replace("{sim}", "http://127.0.0.1:9/v1"), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "usage", "--config", str(config), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--only", "organization=nope"), "There is no organization 'nope', and nothing was used under that name"),
        (("--only", "project=nope", "--csv"), "There is no project 'nope', and nothing"),
        (("--only", "project=nope", "--json"), "There is no project 'nope', and nothing"),
        (("--only", "project=nope", "--entries"), "There is no project 'nope', and nothing"),
    ],
)
def test_a_name_that_nobody_bears_is_no_empty_report(
    books: Books, folder: Path, given: tuple[str, ...], words: str
) -> None:
    assert words in tidegate(folder, *given, status=2)


def test_whoever_is_there_and_used_nothing_has_an_empty_report(books: Books, folder: Path) -> None:
    assert "Nothing was used" in tidegate(folder, "--only", "organization=default", "--only", "model=other")
    assert "Nothing was used" in tidegate(folder, "--only", "project=harbour", "--only", "model=other")


def test_the_command_line_reports_while_the_gateway_runs(books: Books, folder: Path) -> None:
    text = tidegate(folder, "--by", "project,deployment", "--from", "1d")
    assert "lab/echo" in text
    assert "harbour" in text
    assert "airport" in text
    assert "█" in text
    assert "the price is unknown" in text
    found = json.loads(tidegate(folder, "--by", "key", "--json"))
    assert {row["key"]: row["requests"] for row in found["data"]} == {"app": 6, "web": 1}
    rows = list(csv.DictReader(io.StringIO(tidegate(folder, "--by", "key", "--csv", "--only", "key=web", "--rebuild"))))
    assert [(row["key"], row["requests"]) for row in rows] == [("web", "1")]
    lines = tidegate(folder, "--entries").splitlines()
    assert [json.loads(line)["key"] for line in lines].count("app") == 6


def test_a_narrow_terminal_has_the_figures_before_the_bars(books: Books, folder: Path) -> None:
    def seen(columns: int) -> str:
        return seen_on_terminal(columns, "usage", "--by", "project,deployment,ending", folder=folder)

    assert "█" in seen(140)
    narrow = seen(80)
    assert "█" not in narrow
    assert "lab/echo" in narrow
    assert "completed" in narrow, "in one piece"


def test_the_command_line_gives_as_many_entries_as_it_is_asked_for(books: Books, folder: Path) -> None:
    whole = tidegate(folder, "--entries").splitlines()
    assert len(whole) == 7
    assert tidegate(folder, "--entries", "--limit", "3").splitlines() == whole[:3]
    assert len(tidegate(folder, "--entries", "--csv", "--limit", "1").splitlines()) == 2
    assert tidegate(folder, "--entries", "--limit", "600").splitlines() == whole


def test_the_command_line_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    assert "no dimension" in tidegate(folder, "--by", "colour", status=2)
    assert "--only takes NAME=VALUE" in tidegate(folder, "--only", "red", status=2)
    assert "no gateway has run with it yet" in tidegate(tmp_path, status=2)


def test_an_admin_sees_the_usage_of_all_and_a_keys_metadata_with_it(books: Books, folder: Path) -> None:
    config = folder / "tidegate.toml"
    tidegate(folder, "--by", "")
    made = subprocess.run(
        [sys.executable, "-m", "tidegate", "admins", "create", "ada", "--config", str(config), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    admin = {"authorization": f"Bearer {json.loads(made.stdout)['key']}"}

    def ask() -> Any:
        answer = books.http.get("/admin/v1/usage", params={"group_by": "project"}, headers=admin)
        return answer.json() if answer.status_code == 200 else None

    found = wait_for(ask)  # the gateway looks for new keys once a second
    assert {row["project"]: row["requests"] for row in found["data"]} == {"harbour": 6, "airport": 1}
    answer = books.http.post("/admin/v1/keys", json={"name": "tagged", "metadata": {"team": "tides"}}, headers=admin)
    assert answer.status_code == 201, answer.text
    tagged = Books(books.gateway, answer.json()["key"])
    row = tagged.row(tagged.ask("chat", "lab/echo"))
    tagged.close()
    assert (row.entry.key, row.key_id, bytes(row.tags)) == ("tagged", answer.json()["id"], b'{"team":"tides"}')


@pytest.mark.security("SEC-INJ-CELL")
def test_what_clients_send_is_text_in_a_table(books: Books, folder: Path) -> None:
    """Names of end users are theirs to choose: no markup, no commands to the terminal."""
    for name in ("[/b]", "[red]x", "a\x1b]0;title\x07b"):
        books.ask("chat", "lab/echo", user=name)
    books.settled()
    text = tidegate(folder, "--by", "end_user")
    assert "[/b]" in text
    assert "[red]x" in text
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.security("SEC-INJ-CELL")
@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_is_a_formula(begin: str) -> None:
    row = {"name": f'{begin}cmd|" /C calc"!A0', "cost": -1.5, "count": -2}
    lines = csv_lines(tuple(row), [row], head=False).decode()
    assert next(csv.reader(io.StringIO(lines, newline=""))) == [f'\'{begin}cmd|" /C calc"!A0', "-1.5", "-2"]
