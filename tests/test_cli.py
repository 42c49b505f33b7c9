"""The command line, as a program of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("keys", [True, False], ids=["with keys", "without"])
def test_the_line_to_try_gets_an_answer(tmp_path: Path, keys: bool) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TIDEGATE_API_KEY": KEY, "NO_PROXY": "*"}
    (tmp_path / "tidegate.toml").write_text(CONFIG if keys else CONFIG.partition("[[keys]]")[0], "utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "tidegate", "serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as process:
        try:
            _, _, command = announced(process).partition("Try it:\n")
            assert ("$TIDEGATE_API_KEY" in command) is keys
            done = subprocess.run(
                ["sh", "-c", command], capture_output=True, text=True, timeout=30, env=environment, check=True
            )
        finally:
            process.terminate()
    assert "event: response.completed" in done.stdout
