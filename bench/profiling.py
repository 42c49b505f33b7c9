"""Where the gateway's time goes: a stack sample under steady load, and the system calls per unit of work."""

from pathlib import Path

from rich.console import Console

from bench.targets import Lab

__all__ = ["run"]


def run(lab: Lab, folder: Path, progress: Console, *, seconds: float) -> None:
    """todo"""
