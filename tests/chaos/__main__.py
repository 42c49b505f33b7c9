"""`python -m tests.chaos`: see CONTRIBUTING.md."""

import argparse
import secrets
import sys
import time

import msgspec

from tests.chaos.report import report
from tests.chaos.run import Settings, run


def main() -> int:
    """Runs and reports. Returns the exit status: 0 if all was as it must be."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Everything goes wrong, and nothing may."
    )
    parser.add_argument("--seed", type=int, help="the plan; else a new one, which is printed")
    parser.add_argument("--requests", type=int, default=3000, help="steps (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=0.0, help="run for so long, in place of a number of steps")
    parser.add_argument(
        "--engine", choices=("sqlite", "postgresql"), default="sqlite", help="database (default: %(default)s)"
    )
    parser.add_argument("--kills", type=int, default=0, help="kill the gateway so many times (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=24, help="at once (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    asked = parser.parse_args()
    settings = Settings(
        seed=secrets.randbelow(10**9) if asked.seed is None else asked.seed,
        requests=asked.requests,
        minutes=asked.minutes,
        engine=asked.engine,
        kills=asked.kills,
        clients=asked.clients,
    )
    began = time.monotonic()

    def progress(line: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - began:6.1f} s] {line}\n")
        sys.stderr.flush()

    progress(f"seed {settings.seed}")
    result = run(settings, progress)
    sys.stdout.write((msgspec.json.encode(result).decode() if asked.json else report(result)) + "\n")
    return 0 if result.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
