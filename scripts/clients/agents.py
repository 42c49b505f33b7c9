"""The agents: how each is started so that it talks to the gateway and to nobody else."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["AGENTS", "Agent", "AgentMissing", "Said"]

NOWHERE = "http://127.0.0.1:9"
"""Where everything goes that is not for the loopback interface."""

TIMEOUT_S = 90


class AgentMissing(RuntimeError):
    """An agent is not installed, or does not start on this machine."""


class Said:
    """What one run of an agent put out."""

    def __init__(self, done: "subprocess.CompletedProcess[str]", events: list[dict[str, Any]]) -> None:
        self.status = done.returncode
        self.events = events
        """The JSON lines that it wrote."""
        self.errors = done.stderr

    def __str__(self) -> str:
        shown = [event for event in self.events if event.get("type") not in ("system", "thread.started")]
        return f"status {self.status}: {json.dumps(shown, ensure_ascii=False)[-400:]} {self.errors[-300:]}"


class Agent(Protocol):
    """One coding agent, with a home of its own."""

    version: str
    folder: Path
    """Where it works."""

    def ask(self, origin: str, model: str, prompt: str) -> Said:
        """One turn without anybody at the terminal, with every tool allowed."""

    def answer(self, said: Said) -> str:
        """The last thing it told its user."""


class _Base:
    def __init__(self, program: Path, home: Path) -> None:
        if not program.exists():
            raise AgentMissing(f"{program} is not there; its package has no program for this platform")
        self._program = program
        self._home = home
        self.folder = home / "work"
        self.folder.mkdir(parents=True)
        done = self._run(["--version"])
        if done.returncode != 0:
            raise AgentMissing(f"{program} --version ends with status {done.returncode}: {done.stderr[-300:]}")
        self.version = done.stdout.strip().removeprefix("codex-cli ").split(" ")[0]

    def _run(self, arguments: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "TMPDIR": str(self.folder),
            "TERM": "dumb",
            "HTTP_PROXY": NOWHERE,
            "HTTPS_PROXY": NOWHERE,
            "ALL_PROXY": NOWHERE,
            "NO_PROXY": "127.0.0.1",
            **environment,
        }
        return subprocess.run(
            [str(self._program), *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )


class Codex(_Base):
    """Codex CLI, `codex exec`."""

    websockets = False
    """It asks over WebSocket, and over HTTP only when that fails."""

    def __init__(self, agents: Path, home: Path) -> None:
        places = sorted(agents.glob("node_modules/@openai/codex-*/vendor/*/bin/codex"))
        super().__init__(places[0] if places else agents / "codex", home)

    def ask(self, origin: str, model: str, prompt: str) -> Said:
        settings = {
            "model": model,
            "model_provider": "tidegate",
            "model_providers.tidegate.name": "Tidegate",
            "model_providers.tidegate.base_url": f"{origin}/v1",
            "model_providers.tidegate.env_key": "TIDEGATE_API_KEY",
            "model_providers.tidegate.wire_api": "responses",
            "model_providers.tidegate.supports_websockets": self.websockets,
            "analytics.enabled": False,
            "check_for_update_on_startup": False,
            "features.plugins": False,
        }
        arguments = [
            "exec",
            "--json",
            "--skip-git-repo-check",
            "--sandbox",
            "danger-full-access",
            "-C",
            str(self.folder),
        ]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={json.dumps(value)}"]
        done = self._run([*arguments, prompt], CODEX_HOME=str(self._codex_home), TIDEGATE_API_KEY="unused")
        return Said(done, _lines(done.stdout))

    @property
    def _codex_home(self) -> Path:
        home = self._home / ".codex"
        home.mkdir(exist_ok=True)
        return home

    def answer(self, said: Said) -> str:
        items = [event["item"] for event in said.events if event["type"] == "item.completed"]
        return next((item["text"] for item in reversed(items) if item["type"] == "agent_message"), "")


class CodexOverWebSocket(Codex):
    """The same program, with `supports_websockets`."""

    websockets = True


class ClaudeCode(_Base):
    """Claude Code, `claude -p`."""

    def __init__(self, agents: Path, home: Path) -> None:
        places = sorted(agents.glob("node_modules/@anthropic-ai/claude-code-*/claude"))
        super().__init__(places[0] if places else agents / "claude", home)

    def ask(self, origin: str, model: str, prompt: str) -> Said:
        arguments = ["-p", prompt, "--output-format", "stream-json", "--verbose", "--allowedTools", "Bash", "Write"]
        done = self._run(
            arguments,
            ANTHROPIC_BASE_URL=origin,
            ANTHROPIC_AUTH_TOKEN="unused",  # noqa: S106 - the gateway has no keys
            ANTHROPIC_MODEL=model,
            ANTHROPIC_DEFAULT_HAIKU_MODEL=model,
            CLAUDE_CONFIG_DIR=str(self._home / ".claude"),
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            CLAUDE_CODE_MAX_RETRIES="0",
            DISABLE_TELEMETRY="1",
            DISABLE_AUTOUPDATER="1",
        )
        return Said(done, _lines(done.stdout))

    def answer(self, said: Said) -> str:
        results = [event for event in said.events if event["type"] == "result"]
        return str(results[-1].get("result", "")) if results else ""


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


AGENTS: Final[dict[str, Callable[[Path, Path], Agent]]] = {
    "codex": Codex,
    "codex-ws": CodexOverWebSocket,
    "claude-code": ClaudeCode,
}
