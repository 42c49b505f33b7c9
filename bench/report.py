"""The table on the terminal, and the files in bench/results/."""

import csv
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.results import Results, Row, rows

__all__ = ["show", "write"]

_STYLE = {"aim": "green", "reached": "green", "misses": "red"}


def show(results: Results, console: Console) -> None:
    """Print one table per gateway."""
    for gateway in results.gateways:
        table = Table(title=_title(results, gateway), title_justify="left", box=None, pad_edge=False, show_edge=False)
        for name, right in (
            ("work", False), ("unit", False), ("nginx", True), (gateway, True), ("ratio", True),
            ("of least", True), ("must reach", True),
            ("aim", True), ("verdict", False), ("note", False),
        ):  # fmt: skip
            table.add_column(name, justify="right" if right else "left", no_wrap=name != "note", overflow="fold")
        for row in rows(results, gateway):
            table.add_row(*_cells(row), style=_STYLE.get(row.verdict.partition(" ")[0]))
        console.print(table)
        console.print()
    for line in _remarks(results):
        console.print(line, highlight=False, markup=False)


def write(results: Results, folder: Path) -> Path:
    """Markdown, CSV and JSON; returns the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / results.began.replace(":", "").replace("-", "")[:15]
    stem.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    with stem.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["work", "target", "repeat", "us_per_unit", "units", "reads", "seconds", "cpu_s", "others_s",
                         "delay_p50_ms", "delay_p99_ms", "delay_longest_ms"])  # fmt: skip
        for one in results.samples:
            report, delay = one.report, one.report.delay
            writer.writerow([one.work, one.target, one.repeat, f"{one.us:.2f}", report.units, report.reads,
                             f"{report.seconds:.3f}", f"{report.cpu_s:.4f}", f"{report.others_s:.2f}",
                             f"{delay.p50:.3f}", f"{delay.p99:.3f}", f"{delay.longest:.3f}"])  # fmt: skip
    markdown = stem.with_suffix(".md")
    markdown.write_text(_markdown(results))
    return markdown


def _markdown(results: Results) -> str:
    lines = []
    for gateway in results.gateways:
        lines += [f"### {_title(results, gateway)}", ""]
        lines.append(f"| work | unit | nginx | {gateway} | ratio | of least | must reach | aim | verdict | note |")
        lines.append("|---|---|---|---|---|---|---|---|---|---|")
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows(results, gateway)]
        lines.append("")
    return "\n".join([*lines, *_remarks(results), ""])


def _cells(row: Row) -> list[str]:
    digits = 2 if row.unit in ("ms", "s") else 1
    shown = [one.show(digits) if one is not None else "-" for one in (row.nginx, row.gateway)]
    return [row.work, row.unit, *shown, row.ratio.show(2) if row.ratio is not None else "-",
        f"{row.least:.2f}" if row.least is not None else "-", row.must, row.aim,
            row.verdict, row.note]  # fmt: skip


def _title(results: Results, gateway: str) -> str:
    return f"{gateway} beside nginx, {results.began}"


def _remarks(results: Results) -> list[str]:
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    busy = [one.report.others_s / one.report.seconds for one in results.samples if one.target != "direct"]
    log = "on" if machine.nginx_access_log else "off"
    lines = [
        (
            "CPU time of the server under test, all its threads and processes, on one core; median [least-most] of "
            f"{len({one.repeat for one in results.samples})} repeats; ratios are of neighbours in time, 'of least' is the ratio of the least figures. Journal off: there is none yet."
        ),
        (
            f"nginx: {machine.nginx or 'none'}, one worker, proxy_buffering off, access log {log}. Tidegate: key, validation, "
            "metering, metrics, request log to a file."
        ),
        (
            f"Machine: {machine.processor}, {machine.cores} cores, {machine.kernel}, Python {machine.python}; {versions}; load "
            f"average at the start {machine.load_average:.1f}."
        ),
    ]
    if busy:
        lines.append(
            f"Others on the tested core: {sum(busy) / len(busy):.0%} of the time on average, {max(busy):.0%} at most. "
            "Above a tenth, caches are disturbed: take nothing under 25 % as a finding."
        )
    return lines
