"""What `tidegate doctor` prints: for people, for scripts, and while it waits."""

import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from tests.docs.pages import LANGUAGES, blocks, first_cells, pages, read, section
from tests.doctor.stage import KEY, Told, Vendor, told
from tests.storage.stage import Place
from tests.upstream.stage import Certificates
from tidegate.cli.doctor import MARKS, render
from tidegate.server.doctor.finding import CHECKS, Finding, Report
from tidegate.storage.migrate import HEAD

SIM = "[server]\nport = 0\n[providers.sim]\n"


def run(folder: Path, *arguments: str, config: str = SIM, **environment: str) -> "subprocess.CompletedProcess[str]":
    (folder / "tidegate.toml").write_text(config, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "tidegate", "doctor", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONUTF8": "1", "NO_PROXY": "*", **environment},
        check=False,
    )


def shown(report: Report, *, width: int = 160, encoding: str = "utf-8") -> str:
    """As it would be printed to a file of that encoding."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    render(report, Console(file=file, width=width, highlight=False))
    file.seek(0)
    return "\n".join(line.rstrip() for line in file.read().splitlines()) + "\n"


# -- the command ------------------------------------------------------------------------------------------------------


def test_a_machine_in_good_health_exits_with_0(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("This machine\n✔  configuration")
    assert "Provider sim\n–  address … credentials" in done.stdout
    assert "\x1b" not in done.stdout
    assert sorted(one.name for one in tmp_path.iterdir()) == ["tidegate.toml"], "it leaves nothing behind"


def test_a_failure_exits_with_1_and_is_json_for_scripts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    config = f'{SIM}[providers.lab]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
    done = run(tmp_path, "--json", config=config)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert report["source"] == "tidegate.toml"
    assert {one["check"] for one in report["checks"]} == set(CHECKS)
    assert {one["status"] for one in report["checks"]} <= {"ok", "warning", "failed", "skipped"}
    assert all(one["duration_ms"] >= 0 for one in report["checks"])
    assert [one["check"] for one in report["checks"] if one["status"] == "failed"] == ["provider_connection"]
    assert run(tmp_path, "--provider", "sim", config=config).returncode == 0


def test_faults_of_the_configuration_are_a_finding_and_an_unknown_provider_is_a_mistake(tmp_path: Path) -> None:
    done = run(tmp_path, config="[server]\nporte = 1\nhosst = 2\n")
    assert done.returncode == 1
    assert "server.porte" in done.stdout
    assert "server.hosst" in done.stdout
    done = run(tmp_path, "--provider", "simm")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean 'sim'?" in done.stderr
    done = run(tmp_path, "--config", "gone.toml", "--json")
    assert done.returncode == 1
    assert "gone.toml" in json.loads(done.stdout)["checks"][0]["found"]


def test_a_terminal_sees_who_is_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        port = hole.getsockname()[1]
        (tmp_path / "tidegate.toml").write_text(
            f'{SIM}[providers.lab]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
        )
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "doctor", "--timeout", "0.8"],
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "TERM": "xterm",
                "PYTHONUTF8": "1",
                "NO_PROXY": "*",
            },
        )
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:
            pass  # Linux says so when the other end is closed
        finally:
            os.close(ours)
            assert process.wait(20) == 1
    text = seen.decode()
    assert "Waiting for" in text
    assert re.search("Waiting for [^\x1b]*lab", text)
    assert text.index("Waiting for") < text.index("no answer within")
    assert "\x1b[31m✘" in text, "in colour"


def test_the_command_line_starts_without_what_the_report_needs() -> None:
    heavy = ("rich", "tidegate.server", "tidegate.upstream", "cryptography", "sqlite3")
    code = f"import sys, tidegate.cli; print([m for m in sys.modules if m.startswith({heavy!r})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path, certificates: Certificates) -> Told:
    """What the documentation shows."""
    from tests.storage.test_storage_doctor import make

    make(Place("sqlite", f"sqlite:///{tmp_path}/tidegate.db", path=tmp_path / "tidegate.db"))
    (tmp_path / "tidegate.db").chmod(0o600)
    tmp_path.chmod(0o700)
    bundle = f'ca_bundle = "{certificates.bundle}"'
    trusted, aged = certificates.server("llm.example.com"), certificates.server("old.example.com", not_after=_past())

    async def resolver(host: str, port: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with (
        Vendor("qwen3-8b", "qwen3-32b", context=trusted) as lab,
        Vendor(context=aged) as old,
        Vendor(keys=("another",), says="Incorrect API key: {given}") as third,
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        port = free.getsockname()[1]
        free.close()
        toml = f'[server]\nport = {port}\ndata_dir = "{tmp_path}"\n[defaults]\nmodel = "fast"\n'
        toml += lab.toml("lab", bundle, host="llm.example.com") + old.toml("old", bundle, host="old.example.com")
        toml += third.toml("third", host="127.0.0.1")
        toml += '[models.fast]\ntarget = "lab/qwen3-8b"\nfallback = ["lab/qwen3-23b"]\n'
        seen = told(toml, resolver=resolver, free_bytes=lambda _: 72 * 1024**3, file_limit=lambda: 65536)
    ports = {port: 8080, lab.port: 443, old.port: 443, third.port: 8000}
    text = msgspec.json.encode(seen.report).decode()
    for number, usual in ports.items():
        text = re.sub(rf"\b{number}\b", str(usual), text)
    for pattern, usual_text in (
        (re.escape(str(tmp_path)), "/var/lib/tidegate"),
        (r"is 127\.0\.0\.1", "is 10.0.0.5"),
        (r"connected to 127\.0\.0\.1", "connected to 10.0.0.5"),
        (r"127\.0\.0\.1:8000", "10.0.0.5:8000"),
        (r"\d+ ms", "12 ms"),
        (r"until \d{4}-\d\d-\d\d", "until 2027-03-01"),
        (r"trustme v[\d.]+", "Example Authority"),
        (rf"\b{HEAD}\b", "0003"),
        (r"SQLite [\d.]+", "SQLite 3.51.3"),
        (r"[\d.]+ [KM]iB", "3.2 MiB"),
        (r"\"version\":\"[\d.]+\"", '"version":"0.1.0"'),
        (r"(\"source\":\"[^\"]*\",\"duration_ms\":)[\d.]+", r"\g<1>400.0"),
    ):
        text = re.sub(pattern, usual_text, text)
    return Told(msgspec.json.decode(text, type=Report))


def _past() -> Any:
    import datetime as dt

    return dt.datetime(2026, 1, 31, tzinfo=dt.UTC)


def test_the_page_shows_what_is_printed(example: Told) -> None:
    [page] = [page for page in pages("en") if page.name == "doctor.md"]
    text = shown(example.report)
    assert text in [block.code for block in blocks(page)], text


def test_the_pages_json_has_the_members_of_a_report() -> None:
    [page] = [page for page in pages("en") if page.name == "doctor.md"]
    [block] = [block for block in blocks(page) if block.language == "json"]
    msgspec.json.decode(block.code, type=Report)
    report = json.loads(block.code)
    assert list(report) == list(Report.__struct_fields__)
    assert all(list(one) == list(Finding.__struct_fields__) for one in report["checks"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_check_and_status_is_documented(language: str) -> None:
    page = read(language, "doctor.md")
    assert first_cells(section(page, {"en": "Checks", "zh": "检查项"}[language])) == set(CHECKS)
    assert first_cells(section(page, {"en": "Report", "zh": "报告"}[language])) == set(MARKS)


def test_a_terminal_without_such_characters_gets_others(example: Told) -> None:
    text = shown(example.report, encoding="ascii")
    assert "x  tls" in text
    assert "-> It expired" in text


def test_a_narrow_terminal_loses_nothing(example: Told) -> None:
    text = shown(example.report, width=60)
    assert all(len(line) <= 60 for line in text.splitlines())
    joined = re.sub(r"\s+", "", text)
    assert re.sub(r"\s+", "", example("provider_tls", "old").advice) in joined
    assert KEY not in joined
