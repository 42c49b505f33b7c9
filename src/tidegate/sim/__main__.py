"""`python -m tidegate.sim --port 9100`: a sim in a process of its own."""

import argparse
import sys

from tidegate.sim import CannotListen, listing, serve


def main(arguments: list[str] | None = None) -> int:
    """Runs the sim, or prints what it can do. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tidegate.sim", description="Play model providers on a local port.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=9100, help="port to listen on, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=SCRIPT",
        help="a further name for a script; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="print all scripts, options and faults")
    asked = parser.parse_args(arguments)
    if asked.list:
        sys.stdout.write(listing() + "\n")
        return 0
    models = dict(pair.partition("=")[::2] for pair in asked.model)
    try:
        serve(asked.host, asked.port, _announce, models=models)
    except CannotListen as error:
        sys.stderr.write(f"{error} Choose another port with --port.\n")
        return 1
    return 0


def _announce(base_url: str) -> None:
    sys.stdout.write(f"sim plays at {base_url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
