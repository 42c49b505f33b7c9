"""What is tried with each agent and each kind of provider."""

import json
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import quote

from scripts.clients.agents import Agent, Said
from tests.support.running import Running

__all__ = ["CHECKS", "PROVIDERS", "TOML", "Setting"]

PROVIDERS: Final = {
    "openai": "/v1/responses",
    "compatible": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": ":streamGenerateContent",
}
"""The providers, and the path by which the agent's requests must have reached each."""

CATALOG_MODEL: Final = "gpt-5.5"
"""A model of Codex's own catalog: with it Codex offers apply_patch as a tool of free text, and searches its tools."""
CODE_MODEL: Final = "gpt-6-sol"
"""One with which Codex sends its tools as an item of the input, in a namespace, and lets the model write JavaScript."""

PATCH: Final = "*** Begin Patch\n*** Add File: tide.txt\n+high water 🌊\n*** End Patch\n"


def script(tool: str, arguments: str) -> str:
    """The simulator's model that calls `tool` so, and then says what the tool said."""
    return f"tools?tool={tool}&args={quote(arguments, safe='')}"


def _aliases() -> str:
    """Codex knows a model by what is behind the last slash of its name."""
    targets = {CATALOG_MODEL: script("apply_patch", PATCH), CODE_MODEL: script("exec", "text(`tide ${6 * 7 + 1}`)")}
    return "".join(
        f'[models."{provider}/{name}"]\ntarget = {json.dumps(f"{provider}/{target}")}\n'
        for provider in PROVIDERS
        for name, target in targets.items()
    )


TOML: Final = f"""
[server]
port = 0
[defaults]
model = "openai/echo"
[providers.openai]
base_url = "{{sim}}"
credentials = ["sk-of-the-provider"]
[providers.compatible]
kind = "openai-compatible"
base_url = "{{sim}}"
speaks = ["chat"]
[providers.anthropic]
base_url = "{{sim}}"
credentials = ["sk-ant-of-the-provider"]
[providers.gemini]
base_url = "{{sim}}"
credentials = ["AIza-of-the-provider"]
{_aliases()}
"""


class Setting(NamedTuple):
    gateway: Running
    agents: dict[str, Agent]

    def ask(self, name: str, model: str, provider: str, prompt: str = "Say hello") -> tuple[Agent, Said]:
        """One turn; it must end well, and every request of it must have reached the provider in its own dialect."""
        agent = self.agents[name]
        before = len(self.gateway.sim.requests)
        said = agent.ask(self.gateway.origin, model, prompt)
        assert said.status == 0, str(said)
        made = [one for one in list(self.gateway.sim.requests)[before:] if one.method == "POST"]
        assert made, f"nothing reached the provider: {said}"
        assert "Falling back from WebSockets" not in json.dumps(said.events), str(said)
        for one in made:
            assert PROVIDERS[provider] in one.path, one.path
        return agent, said


Check = Callable[[Setting, str], str | None]


def hello(name: str) -> Check:
    def check(setting: Setting, provider: str) -> None:
        agent, said = setting.ask(name, f"{provider}/echo", provider, "Say hello: 潮汐 🌊")
        assert agent.answer(said).endswith("Say hello: 潮汐 🌊"), str(said)

    return check


def thinks(name: str) -> Check:
    def check(setting: Setting, provider: str) -> None:
        agent, said = setting.ask(name, f"{provider}/reasoning", provider)
        assert agent.answer(said) == "The answer is 42.", str(said)

    return check


def runs_a_command(name: str, tool: str, member: str) -> Check:
    called = script(tool, json.dumps({member: "echo tide $((42 + 1))"}))

    def check(setting: Setting, provider: str) -> None:
        agent, said = setting.ask(name, f"{provider}/{called}", provider)
        assert agent.answer(said).startswith("The tool said:"), str(said)
        assert "tide 43" in agent.answer(said), str(said)

    return check


def patches_a_file(name: str) -> Check:
    def check(setting: Setting, provider: str) -> None:
        written = setting.agents[name].folder / "tide.txt"
        written.unlink(missing_ok=True)
        agent, said = setting.ask(name, f"{provider}/{CATALOG_MODEL}", provider)
        assert "Success" in agent.answer(said), str(said)
        assert written.read_text("utf-8") == "high water 🌊\n"

    return check


def runs_code(name: str) -> Check:
    def check(setting: Setting, provider: str) -> None:
        agent, said = setting.ask(name, f"{provider}/{CODE_MODEL}", provider)
        assert "tide 43" in agent.answer(said), str(said)

    return check


def writes_a_file(setting: Setting, provider: str) -> None:
    written = setting.agents["claude-code"].folder / "tide.txt"
    written.unlink(missing_ok=True)
    called = script("Write", json.dumps({"file_path": str(written), "content": "high water 🌊\n"}, ensure_ascii=False))
    _, said = setting.ask("claude-code", f"{provider}/{called}", provider)
    assert written.exists(), str(said)
    assert written.read_text("utf-8") == "high water 🌊\n"


def keeps_the_version(setting: Setting, provider: str) -> str | None:
    """What Claude Code asks of Anthropic's API beyond its documented form must reach it."""
    setting.ask("claude-code", f"{provider}/echo", provider)
    headers = setting.gateway.sim.requests[-1].headers
    assert ("anthropic-beta" in headers) == (provider == "anthropic"), headers
    return headers.get("anthropic-beta")


CHECKS: Final[list[tuple[str, str, Check]]] = [
    *(
        check
        for codex in ("codex", "codex-ws")
        for check in (
            (codex, "one turn", hello(codex)),
            (codex, "a model that thinks first", thinks(codex)),
            (codex, "runs a command and reads its output", runs_a_command(codex, "exec_command", "cmd")),
            (codex, "patches a file with a tool of free text", patches_a_file(codex)),
            (codex, "runs code in a namespace of tools", runs_code(codex)),
        )
    ),
    ("claude-code", "one turn", hello("claude-code")),
    ("claude-code", "a model that thinks first", thinks("claude-code")),
    ("claude-code", "runs a command and reads its output", runs_a_command("claude-code", "Bash", "command")),
    ("claude-code", "writes a file", writes_a_file),
    ("claude-code", "its beta headers reach the provider whose they are", keeps_the_version),
]
