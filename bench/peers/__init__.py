"""Gateways of others, measured beside ours when they are there: LiteLLM (from PyPI) and Portkey (from npm).

Each is installed on demand into .cache/bench, at the version that its file here pins, and started on one core in front of
the same upstream. In the form measured here neither counts usage nor writes anything down; LiteLLM holds requests against
one key, Portkey asks for none.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.processes import Child
from bench.targets import Lab, Target, free_port, until_answered
from bench.workloads import KEY, whole_request

__all__ = ["PEERS", "Peer"]

READY_S = 120.0
_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parent.parent / ".cache" / "bench"

_LITELLM = """\
model_list:
  - model_name: "plain/*"
    litellm_params: {{ model: "openai/*", api_base: "http://127.0.0.1:{plain}/v1", api_key: "sk-bench" }}
general_settings: {{ master_key: "{key}" }}
litellm_settings: {{ telemetry: false }}
"""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """How one of them is installed and started."""

    name: str
    pinned: Path
    """The file that says which version, and with which the installation must have been made."""
    probe: str
    """A path that it answers by itself."""
    install: Callable[[Path], list[list[str]]]
    """The commands that install it into a folder."""
    command: Callable[[Path, Lab, Path, int], list[str]]
    """How it is run: where it is installed, the lab, a folder for files, the port."""
    environment: dict[str, str] = {}
    fields: Callable[[Lab], bytes] = lambda _: b""
    """Header fields that it wants with each request."""

    @property
    def folder(self) -> Path:
        return _CACHE / self.name.lower()

    @property
    def version(self) -> str:
        found = re.search(r'(?:==|gateway": ")([0-9.]+)', self.pinned.read_text())
        return found.group(1) if found else ""

    @property
    def is_installed(self) -> bool:
        stamp = self.folder / ".complete"
        return stamp.exists() and stamp.read_text() == self.pinned.read_text()

    def make(self) -> None:
        """Installs it. Raises RuntimeError with what the installer said."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for command in self.install(self.folder):
            try:
                done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
            except FileNotFoundError:
                raise RuntimeError(f"{self.name} cannot be installed without {command[0]}") from None
            if done.returncode:
                raise RuntimeError(f"{self.name} cannot be installed: {(done.stderr or done.stdout).strip()[-600:]}")
        (self.folder / ".complete").write_text(self.pinned.read_text())

    def start(self, lab: Lab) -> Target:
        """Returns once it passes a question on. Raises RuntimeError, with its log, when it does not."""
        folder = lab.new_folder(self.name.lower())
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with (folder / "log").open("wb") as log:
            child = Child(
                self.command(self.folder, lab, folder, port),
                core=lab.cores.tested,
                environment=environment | self.environment,
                cwd=str(folder),
                stdout=log,
                stderr=log,
            )
        lab.stack.enter_context(child)
        target = Target(self.name, child, port, 0, probe=self.probe, fields=self.fields(lab))
        question = target.dressed(whole_request("chat", "plain"))
        until_answered(self.name, child, port, question, lambda: (folder / "log").read_text()[-2000:], READY_S)
        return target


def _install_litellm(folder: Path) -> list[list[str]]:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(_HERE / "litellm.txt")]
    return [[sys.executable, "-m", "venv", str(folder)], pip]


def _run_litellm(installed: Path, lab: Lab, folder: Path, port: int) -> list[str]:
    config = folder / "config.yaml"
    config.write_text(_LITELLM.format(plain=lab.plain, key=KEY))
    here = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return [str(installed / "bin" / "litellm"), "--config", str(config), *here]


def _install_portkey(folder: Path) -> list[list[str]]:
    copies = [str(_HERE / "portkey" / name) for name in ("package.json", "package-lock.json")]
    return [
        ["cp", *copies, str(folder)],
        ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"],
    ]


def _run_portkey(installed: Path, lab: Lab, folder: Path, port: int) -> list[str]:
    program = installed / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return ["node", str(program), f"--port={port}", "--headless"]


def _portkey_fields(lab: Lab) -> bytes:
    return b"x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:%d/v1\r\n" % lab.plain


PEERS = (
    Peer(
        name="LiteLLM",
        pinned=_HERE / "litellm.txt",
        probe="/health/liveliness",
        install=_install_litellm,
        command=_run_litellm,
        # What it would fetch from elsewhere at its start it brings along as well.
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
    ),
    Peer(
        name="Portkey",
        pinned=_HERE / "portkey" / "package.json",
        probe="/",
        install=_install_portkey,
        command=_run_portkey,
        environment={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"},
        fields=_portkey_fields,
    ),
)
