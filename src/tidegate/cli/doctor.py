"""`tidegate doctor`: the examination of the server package, as a report for people or for machines."""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tidegate.cli.options import config_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tidegate.server.doctor.finding import Finding, Report

__all__ = ["doctor", "render"]

WIDTH = 120
"""Of a report that goes to a file or a pipe."""

MARKS = {
    "ok": ("✔", "+", "green"),
    "warning": ("▲", "!", "yellow"),
    "failed": ("✘", "x", "red"),
    "skipped": ("–", "-", "dim"),
}
"""Of each status: the mark, the one for terminals that have no such characters, and the colour."""


@click.command()
@config_option
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    help="Longest wait for each provider, the database, and every other check, in seconds.",
)
@click.option("--provider", "only", multiple=True, metavar="NAME", help="Look at this provider only. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def doctor(path: str | None, timeout: float, only: tuple[str, ...], as_json: bool) -> None:
    """Look for what keeps the gateway from working. Exit status 1 when something does."""
    import asyncio

    import msgspec
    from rich.console import Console

    from tidegate import cli
    from tidegate.server.doctor.examination import UnknownProvider, examine
    from tidegate.server.doctor.world import World
    from tidegate.telemetry import log

    log.configure("error", "console", sys.stderr)
    world = World(load=lambda: cli.read_config(path), environment=os.environ)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    status = console.status("Looking …") if sys.stdout.isatty() and not as_json else None

    def progress(waiting: tuple[str, ...]) -> None:
        if status is not None:
            status.update(f"Waiting for {', '.join(waiting)} …" if waiting else "Looking …")

    try:
        with status or contextlib.nullcontext():
            report = asyncio.run(examine(world, timeout_s=timeout, only=only, progress=progress))
    except UnknownProvider as error:
        raise cli.UsageError(str(error)) from None
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        render(report, console)
    sys.stdout.flush()
    sys.exit(0 if report.ok else 1)


def render(report: "Report", console: "Console") -> None:
    """Print the report: one line per check, and below it what to do."""
    from rich.table import Table

    encoding = console.encoding
    group = None
    table = Table.grid(padding=(0, 2, 0, 0))
    for run in _runs(report.checks):
        if _group(run[0]) != group:
            if group is not None:
                console.print(table)
                console.print()
            group = _group(run[0])
            console.print(group, style="bold", markup=False)
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(width=1)
            table.add_column(width=21, no_wrap=True)
            table.add_column(overflow="fold", ratio=1)
        _add(table, run, encoding)
    console.print(table)
    console.print()
    console.print(_summary(report), markup=False)


def _runs(findings: "Sequence[Finding]") -> "list[list[Finding]]":
    """The findings, each by itself, but neighbours together that were skipped for the same reason."""
    runs: list[list[Finding]] = []
    for finding in findings:
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and last.status == finding.status == "skipped"
            and (last.found, _group(last)) == (finding.found, _group(finding))
        ):
            runs[-1].append(finding)
        else:
            runs.append([finding])
    return runs


def _add(table: "Table", run: "Sequence[Finding]", encoding: str) -> None:
    from rich.text import Text

    plain = not encoding.lower().startswith("utf")

    def shown(text: str, style: str = "") -> Text:
        return Text(text.encode(encoding, "replace").decode(encoding), style)

    finding = run[0]
    rich_mark, plain_mark, colour = MARKS[finding.status]
    muted = "dim" if finding.status == "skipped" else ""
    name = _name(finding)
    if len(run) > 1:
        name += f" {'-' if plain else '…'} {_name(run[-1])}"
    table.add_row(shown(plain_mark if plain else rich_mark, colour), shown(name, muted), shown(finding.found, muted))
    if finding.advice:
        table.add_row("", "", shown(f"{'->' if plain else '→'} {finding.advice}", "bold"))


def _name(finding: "Finding") -> str:
    """The check's name, without what its group says already."""
    return finding.check.removeprefix("provider_").removeprefix("database_").replace("_", " ")


def _group(finding: "Finding") -> str:
    if finding.subject:
        return f"Provider {finding.subject}"
    if finding.check.startswith("database"):
        return "Database"
    if finding.check == "valkey":
        return "Shared limits"
    return "All together" if finding.check in ("model_names", "system_clock") else "This machine"


def _summary(report: "Report") -> str:
    counts = {status: sum(one.status == status for one in report.checks) for status in MARKS}
    seconds = report.duration_ms / 1000
    if not counts["failed"] and not counts["warning"]:
        verdict = "Nothing is wrong"
    else:
        parts = []
        if counts["failed"]:
            parts.append(f"{counts['failed']} failed")
        if counts["warning"]:
            parts.append(f"{counts['warning']} warning{'' if counts['warning'] == 1 else 's'}")
        verdict = ", ".join(parts)
    return f"{verdict}; {len(report.checks)} checks in {seconds:.1f} s, Tidegate {report.version}"
