"""`make test-clients`: the real coding agents, through a real gateway, to the simulator as every kind of provider."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.clients.agents import AGENTS, AgentMissing
from scripts.clients.checks import CHECKS, PROVIDERS, TOML, Setting
from tests.support.running import Running


def main() -> int:
    """0 when every check held."""
    parser = argparse.ArgumentParser(prog="scripts/test-clients.sh", description=__doc__)
    parser.add_argument("names", nargs="*", help="only checks whose line contains one of these")
    parser.add_argument("--agents", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the agents' folder, and print its name")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-clients-"))
    try:
        report = run(options.agents.absolute(), folder, options.names)
    except AgentMissing as error:
        print(f"The agents cannot run here: {error}", file=sys.stderr)
        return 1
    finally:
        if options.keep:
            print(f"Kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(report, ensure_ascii=False, indent=1) if options.json else render(report))
    return 0 if report["failed"] == 0 else 1


def run(agents: Path, folder: Path, names: list[str]) -> dict[str, Any]:
    """Start the gateway, and try everything. Raises AgentMissing."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"  # the gateway's own way to the simulator
    began = time.monotonic()
    found = {name: make(agents, folder / name) for name, make in AGENTS.items()}
    checks = []
    with Running(TOML) as gateway:
        setting = Setting(gateway, found)
        for agent, title, function in CHECKS:
            for provider in PROVIDERS:
                line = f"{agent:<11}  {provider:<11}  {title}"
                if names and not any(name in line for name in names):
                    continue
                print(f"  {line}", file=sys.stderr)
                checks.append(
                    {"agent": agent, "provider": provider, "check": title, **tried(function, setting, provider)}
                )
    failed = sum(not one["passed"] for one in checks)
    return {
        "versions": {name: agent.version for name, agent in found.items()},
        "checks": checks,
        "passed": len(checks) - failed,
        "failed": failed,
        "seconds": round(time.monotonic() - began, 1),
    }


def tried(function: Any, setting: Setting, provider: str) -> dict[str, Any]:
    """One check; whatever it raises is its failure."""
    began = time.monotonic()
    try:
        note, passed = function(setting, provider) or "", True
    except Exception as error:
        note, passed = f"{type(error).__name__}: {error}", False
    return {"passed": passed, "note": " ".join(note.split())[:500], "seconds": round(time.monotonic() - began, 2)}


def render(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = ["  ".join(f"{name} {number}" for name, number in report["versions"].items()), ""]
    for one in report["checks"]:
        verdict = "pass" if one["passed"] else "FAIL"
        note = f"  [{one['note']}]" if one["note"] else ""
        lines.append(f"{verdict}  {one['agent']:<11}  {one['provider']:<11}  {one['check']}{note}")
    lines += ["", f"{report['passed']} passed, {report['failed']} failed, {report['seconds']} s"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
