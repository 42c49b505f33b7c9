"""The command line, as a program of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.terminal import seen_on_terminal
from tidegate.access.keytext import PATTERN

KEY = "0123456789abcdef0123456789abcdef"
CONFIG = """
[server]
port = 0
[defaults]
model = "sim/echo"
[providers.sim]
[[keys]]
name = "app"
secret = "${TIDEGATE_API_KEY}"
"""


def announced(process: "subprocess.Popen[str]") -> str:
    """What is printed once it listens, up to the end of the line to try."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith("  -d "):
        line = process.stdout.readline()
        assert line, "it ended before it listened"
        lines.append(line)
    return "".join(lines)


@pytest.mark.parametrize(
    ("keys", "options", "listening"),
    [
        (True, (), r"http://127\.0\.0\.1:\d+"),
        (False, (), r"http://127\.0\.0\.1:\d+"),
        (True, ("--host", "0.0.0.0"), r"http://0\.0\.0\.0:(\d+) \(all addresses\); here: http://127\.0\.0\.1:\1"),
    ],
    ids=["with keys", "without", "on all addresses"],
)
def test_the_line_to_try_gets_an_answer(tmp_path: Path, keys: bool, options: tuple[str, ...], listening: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TIDEGATE_API_KEY": KEY, "NO_PROXY": "*"}
    (tmp_path / "tidegate.toml").write_text(CONFIG if keys else CONFIG.partition("[[keys]]")[0], "utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "tidegate", "serve", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as process:
        try:
            told, _, command = announced(process).partition("Try it:\n")
            assert re.search(rf"^Tidegate \S+ listens on {listening}$", told, re.MULTILINE)
            assert re.search(PATTERN, told), "the first admin's key is shown"
            database = re.search(rf"^Process {process.pid}, data in (.+)$", told, re.MULTILINE)
            assert database is not None
            assert Path(database[1]).is_file()
            assert ("$TIDEGATE_API_KEY" in command) is keys
            done = subprocess.run(
                ["sh", "-c", command], capture_output=True, text=True, timeout=30, env=environment, check=True
            )
        finally:
            process.terminate()
    assert "event: response.completed" in done.stdout


class Shell:
    """`tidegate` commands in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *arguments: str, config: str = "") -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "TIDEGATE_DATA": str(self._folder)}
        if config:
            (self._folder / "tidegate.toml").write_text(config, "utf-8")
        return subprocess.run(
            [sys.executable, "-m", "tidegate", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=self._folder,
            env=environment,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def on_terminal(self, columns: int, *arguments: str) -> str:
        return seen_on_terminal(columns, *arguments, folder=self._folder, TIDEGATE_DATA=str(self._folder))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize(
    ("package", "extra", "settings"),
    [
        ("asyncpg", "postgres", '[storage]\nurl = "postgresql://tide:canary-word@127.0.0.1:9/tide"'),
        ("redis", "valkey", '[limits]\nvalkey = "redis://:canary-word@127.0.0.1:9/0"'),
    ],
)
def test_a_package_that_is_missing_is_a_fault_of_the_configuration(
    tmp_path: Path, package: str, extra: str, settings: str
) -> None:
    (tmp_path / "tidegate.toml").write_text(f"[server]\nport = 0\n{settings}\n[providers.sim]\n", "utf-8")
    without = f"import sys; sys.modules[{package!r}] = None; from tidegate.cli import main; main(prog_name='tidegate')"

    def told(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", without, *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert "canary" not in done.stderr
        return done.returncode, done.stderr

    for status, arguments in (1, ("config", "check")), (2, ("serve",)):
        code, words = told(*arguments)
        assert (code, f"pip install 'tidegate[{extra}]'" in words) == (status, True), words


def test_a_key_lives_its_life_on_the_command_line(shell: Shell) -> None:
    shown = shell("keys", "create", "app", "--limit", "requests.minute=60", "--metadata", "team=harbour")
    assert shown.returncode == 0
    assert "never again" in shown.stdout
    assert " requests.minute=60 " in shown.stdout, "as it was given"
    made = shell.json("keys", "show", "app")
    assert (made["limits"], made["metadata"]) == ({"requests": {"minute": 60}}, {"team": "harbour"})
    assert "key" not in made
    rotated = shell.json("keys", "rotate", made["id"], "--overlap", "1h")
    assert rotated["earlier"][0]["last4"] == made["last4"]
    assert re.search(rf"earlier +{made['last4']} until \d{{4}}-\d\d-\d\d ", shell("keys", "show", "app").stdout)
    changed = shell.json("keys", "update", "app", "--name", "web", "--clear", "limits", "--allow-model", "sim/*")
    assert (changed["name"], changed["limits"], changed["models"]) == ("web", {}, ["sim/*"])
    assert shell.json("keys", "revoke", "web")["status"] == "revoked"
    assert shell.json("keys", "list")["data"] == []
    assert "web" in shell("keys", "list", "--revoked").stdout
    actions = [entry["action"] for entry in shell.json("audit")["data"]]
    assert actions == ["key.revoke", "key.change", "key.rotate", "key.create"]


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (("keys", "show", "nobody"), "no key 'nobody'", 1),
        (
            ("keys", "create", "x", "--project", "nowhere"),
            "no project 'nowhere' in the organization 'default'. Make it first.",
            1,
        ),
        (("keys", "create", "x", "--limit", "requests.hour=3"), "per minute, day or month", 2),
        (("keys", "create", "x", "--limit", "requests"), "NAME=VALUE", 2),
        (("keys", "create", "x", "--limit", "cost=3"), "cost.minute=3, cost.day=3 or cost.month=3", 2),
        (("keys", "create", "x", "--organization", "nope"), "no organization 'nope'", 1),
        (("keys", "create", "x", "--expires-in", "3weeks"), 'such as "90d" or "12h"', 2),
        (("keys", "create", "x", "--expires-in", "90"), '90 of what? Give the unit, as in "90d"', 2),
        (("keys", "rotate", "x", "--overlap", "24"), '24 of what? Give the unit, as in "90d"', 2),
        (("projects", "delete", "nope"), "no project 'nope' in the organization 'default'.\n", 1),
        (("keys", "create", "x", "--allow-endpoint", "chats"), "endpoints", 2),
        (("keys", "create", "x", "--allow-address", "10.0.0.300"), "addresses[0]", 2),
        (("keys", "create", "x", "--profile", "opnai"), "profile", 2),
        (("keys", "create", "x", "--unsupported", "ignore"), "unsupported", 2),
        (("keys", "create", "x", "--limit", "request.minute=60"), "Did you mean 'limits.requests'?", 2),
        (("keys", "create", "x", "--limit", "requests.minute=many"), "limits.requests.minute", 2),
        (("keys", "rotate", "x", "--overlap", "91d"), "overlap_seconds", 2),
        (("projects", "create", "with space"), "name", 2),
        (("projects", "create", "x", "--end-user-limit", "token.day=1"), "Did you mean 'end_user_limits.tokens'?", 2),
        (("organizations", "create", "x", "--limit", "stream=1"), "Did you mean 'limits.streams'?", 2),
        (("keys", "update", "x", "--clear", "model", "--default-model", "m"), "another option", 2),
        (("organizations", "delete", "default"), "always there", 1),
        (("admins", "revoke", "nobody"), "no admin", 1),
        (("keys", "list", "--organization", "nope"), "no organization 'nope'", 1),
        (("keys", "list", "--project", "nope"), "no project 'nope'", 1),
        (
            ("keys", "list", "--organization", "default", "--project", "nope"),
            "no project 'nope' in the organization 'default'",
            1,
        ),
        (("projects", "list", "--organization", "nope"), "no organization 'nope'", 1),
        (("doctor", "--provider", "nope"), "nope", 2),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    shell: Shell, arguments: tuple[str, ...], words: str, status: int
) -> None:
    done = shell(*arguments)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (status, True, False), done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("keys", "create", "app"), 0),
        (("keys", "list", "--json"), 0),
        (("keys", "show", "nobody"), 1),
        (("organizations", "create", "acme"), 0),
        (("projects", "list"), 0),
        (("admins", "list"), 0),
        (("audit",), 0),
        (("usage", "--csv"), 0),
        (("usage", "--entries"), 0),
        (("budget", "--json"), 0),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, tuple) else str(given),
)
def test_a_command_says_in_which_database_it_has_looked(
    shell: Shell, tmp_path: Path, arguments: tuple[str, ...], status: int
) -> None:
    assert shell("projects", "list").returncode == 0  # which makes it
    done = shell(*arguments)
    place = f"in {tmp_path / 'tidegate.db'}"
    assert (done.returncode, done.stderr.splitlines().count(place)) == (status, 1), done.stderr
    assert place not in done.stdout


def test_a_limit_is_told_by_the_name_of_its_key(shell: Shell) -> None:
    made = shell.json("keys", "create", "app", "--limit", "cost.month=5", "--limit", "streams=3")
    shown = shell("budget").stdout
    assert f"app ({made['id']})" in shown
    assert re.search(r"\b(\d+d(\d+h)?|\d+h\d+m\d+s)$", shown.splitlines()[1].rstrip()), "when it is renewed"
    assert "And 1 per minute or of requests under way" in shown, "what only the gateway knows"
    assert shell("keys", "update", "app", "--limit", "requests.minute=9").returncode == 0
    assert shell("budget").stdout.startswith("1 per minute or of requests under way")
    assert shell("keys", "update", "app", "--clear", "limits").returncode == 0
    assert shell("budget").stdout.startswith("No limits are set")


def test_a_narrow_terminal_shows_ids_whole_and_no_figure_in_pieces(shell: Shell) -> None:
    made = shell.json("keys", "create", "app", "--limit", "cost.month=500")
    for listing in ("keys", "list"), ("budget",), ("audit",):
        seen = shell.on_terminal(60, *listing)
        assert made["id"] in seen
        assert "…" not in seen


@pytest.mark.parametrize(
    "arguments", [(), ("keys",), ("projects",), ("organizations",), ("admins",), ("audit",), ("config",)]
)
def test_no_sentence_of_the_help_is_cut(shell: Shell, arguments: tuple[str, ...]) -> None:
    shown = shell(*arguments, "--help").stdout
    assert "Usage:" in shown
    assert not [line for line in shown.splitlines()[1:] if line.endswith("...")]


def test_errors_are_json_where_json_is_asked_for(shell: Shell) -> None:
    done = shell("keys", "show", "nobody", "--json")
    assert json.loads(done.stderr)["error"]["code"] == "not_found"


@pytest.mark.row("S9")
def test_a_public_address_takes_a_managed_key_and_is_refused_without(shell: Shell) -> None:
    public = '[server]\nhost = "0.0.0.0"\nport = 0\n[providers.sim]\n'
    refused = shell("config", "check", config=public)
    assert (refused.returncode, "tidegate keys create" in refused.stderr) == (1, True)
    assert not list(shell._folder.glob("*.db")), "looking makes no database"
    assert shell("keys", "create", "app").returncode == 0
    assert shell("config", "check").returncode == 0
    assert shell("keys", "revoke", "app").returncode == 0
    assert shell("config", "check").returncode == 0, "whoever has no key is refused, so that it is safe"


def test_nothing_is_managed_where_nothing_is_kept(shell: Shell) -> None:
    done = shell("keys", "list", config='[storage]\nurl = "off"\n[providers.sim]\n')
    assert (done.returncode, "storage.url" in done.stderr) == (2, True)


def test_what_starts_a_gateway_does_not_load_what_manages_one() -> None:
    code = "import sys, tidegate.cli, tidegate.server.compose; print([n for n in sys.modules if 'server.admin' in n or n == 'rich' or n == 'sqlalchemy'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
