"""`make test-engine`: a real engine behind a real gateway, and a table of what held."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from scripts.engine import servers
from scripts.engine.checks import CHECKS, Setting
from scripts.engine.quirks import QUIRKS
from scripts.engine.record import record
from scripts.engine.servers import tell
from scripts.engine.wire import Wire

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """0 when every check held."""
    parser = argparse.ArgumentParser(prog="scripts/test-engine.sh", description=__doc__)
    parser.add_argument("--engine", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--record", action="store_true", help="write the test vectors anew")
    parser.add_argument("--keep", action="store_true", help="keep the folder with models and logs, and print its name")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-engine-"))
    try:
        report = run(options.engine.absolute(), folder, recording=options.record)
    except (servers.StartFailed, subprocess.CalledProcessError) as error:
        tell(f"The engine test could not run: {error}")
        return 1
    finally:
        if options.keep:
            tell(f"Models and logs are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(report, ensure_ascii=False, indent=1) if options.json else render(report))
    return 0 if report["failed"] == 0 else 1


def run(bin_: Path, folder: Path, *, recording: bool) -> dict[str, Any]:
    """Make the models, start both servers, and try everything. Raises StartFailed."""
    began = time.monotonic()
    tell("Making two tiny models (10 to 20 s)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    made = subprocess.run(
        [str(bin_ / "python"), "-m", "scripts.engine.model"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=(folder / "model.log").open("wb"),
        check=True,
    )
    versions = json.loads(made.stdout)
    engine, engine_url = servers.engine(bin_, folder)
    with engine:
        tell("Starting transformers serve")
        engine.wait(servers.answers(f"{engine_url}/health"), 120)
        with servers.gateway(folder, engine_url) as gateway:
            tell("Starting the gateway")
            url = gateway.wait(servers.announced(gateway), 20)
            gateway.wait(servers.answers(f"{url}/healthz"), 20)
            setting = Setting(engine, Wire(engine_url), Wire(url))
            checks = [tried(place, setting) for place in range(len(CHECKS))]
        quirks = [
            {"quirk": name, "smoothed": how, "seen": bool(attempt(lambda see=see: see(setting.raw)))}
            for name, how, see in QUIRKS
        ]
        if recording:
            for path in record(setting.raw, versions["transformers"]):
                tell(f"wrote {path.relative_to(ROOT)}")
    failed = sum(not one["passed"] for one in checks)
    names = {"tidegate": version("tidegate"), **versions, "openai": version("openai"), "python": sys.version.split()[0]}
    return {
        "versions": names,
        "checks": checks,
        "quirks": quirks,
        "passed": len(checks) - failed,
        "failed": failed,
        "seconds": round(time.monotonic() - began, 1),
    }


def tried(place: int, setting: Setting) -> dict[str, Any]:
    """One check; whatever it raises is its failure."""
    group, title, function = CHECKS[place]
    tell(f"  {place + 1}/{len(CHECKS)} {group}: {title}")
    began = time.monotonic()
    try:
        note, passed = function(setting) or "", True
    except Exception as error:
        note, passed = f"{type(error).__name__}: {error}", False
    return {
        "group": group,
        "check": title,
        "passed": passed,
        "note": " ".join(note.split())[:300],
        "seconds": round(time.monotonic() - began, 2),
    }


def attempt(look: Any) -> bool:
    """Whether the quirk is seen; an answer of another shape counts as not seen."""
    try:
        return bool(look())
    except (AssertionError, KeyError, IndexError, ValueError, httpx.HTTPError):
        return False


def render(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = ["  ".join(f"{name} {number}" for name, number in report["versions"].items()), ""]
    for one in report["checks"]:
        verdict = "pass" if one["passed"] else "FAIL"
        lines.append(f"{verdict}  {one['group']:<11}  {one['check']}" + (f"  [{one['note']}]" if one["note"] else ""))
    lines += ["", "On the engine's own wire, and how it is smoothed:"]
    for one in report["quirks"]:
        lines.append(f"{'seen' if one['seen'] else 'gone'}  {one['quirk']}  → {one['smoothed']}")
    lines += ["", f"{report['passed']} passed, {report['failed']} failed, {report['seconds']} s"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
