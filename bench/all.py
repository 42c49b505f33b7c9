"""`python -m bench.all [TABLE…]`: measure the published tables, and write them into the documentation.

Without names every table, the soak last. Each goes to docs/performance as JSON, CSV and SVG, and between its markers on the
pages docs/en/performance.md and docs/zh/performance.md. A trial (`--quick`) goes to bench/results instead.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markdown import Markdown

from bench.__main__ import leave, machine
from bench.peers import PEERS, Peer
from bench.processes import cores
from bench.runner import Runner
from bench.soak import SERIES_ZH, soak
from bench.suite import SUITE, Kind
from bench.tables import BASE, LANGUAGES, OURS, Language, Table
from bench.targets import NGINX_HINT, Lab

__all__ = ["NAMES", "fill", "main"]

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PUBLISHED = DOCS / "performance"
TRIALS = ROOT / "bench" / "results" / "tables"
SOAK = Kind(
    slug="soak",
    title="Soak: memory, descriptors and tasks",
    zh="长时间运行：内存、描述符与任务",
    run=lambda _: [],
)
NAMES = (*(kind.slug for kind in SUITE), SOAK.slug)
MERGED = 1.05
_END = "<!-- end -->"


def main() -> None:
    given = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, leave)
    progress = Console(stderr=True, quiet=given.silent)
    if given.render:
        _render(given.tables or NAMES)
        return
    into = Path(given.into).resolve() if given.into else TRIALS if given.quick else PUBLISHED
    kinds = [kind for kind in (*SUITE, SOAK) if not given.tables or kind.slug in given.tables]
    failed = []
    done: list[Table] = []
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, ExitStack() as stack:
            lab = Lab(ROOT, Path(folder), cores(), stack)
            os.sched_setaffinity(0, {lab.cores.rest})
            runner = Runner(
                lab,
                progress,
                quick=given.quick,
                repeats=given.repeats or (2 if given.quick else 5),
                patience=given.patience,
                source=given.source,
                peers=_peers(progress, wanted=given.peers, without=given.no_peers),
            )
            if runner.nginx is None:
                progress.print(f"[bold red]{NGINX_HINT}")
            for position, kind in enumerate(kinds, 1):
                runner.say(f"== {kind.title} ({position} of {len(kinds)})")
                try:
                    table = _measure(runner, kind, given)
                except RuntimeError as error:
                    failed.append(kind.slug)
                    progress.print(f"{kind.slug}: {error}", markup=False, style="red")
                    continue
                done.append(table)
                if table.failed:
                    failed.append(f"{kind.slug} (it grows)")
                _write(table, into, pages=into == PUBLISHED)
                progress.print(Markdown(table.markdown("en", f"{kind.slug}.en.svg")))
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; the tables measured until then are written")
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(done)).decode())
    shown = into.relative_to(ROOT) if into.is_relative_to(ROOT) else into
    progress.print(f"Written to {shown}.", markup=False)
    if failed:
        sys.exit(f"bench: failed: {', '.join(failed)}")


def _measure(runner: Runner, kind: Kind, given: argparse.Namespace) -> Table:
    runner.busy.clear()
    runner.merged = 1.0
    peers = {peer.name: peer.version for peer in runner.peers}
    about = machine(runner.nginx, access_log=False)
    table = Table(
        slug=kind.slug,
        title=kind.title,
        zh=kind.zh,
        began=datetime.now().astimezone().isoformat(timespec="minutes"),
        machine=about,
        versions={},
        repeats=runner.repeats,
        quick=given.quick,
        drawn=kind.drawn,
        remarks=list(kind.remarks),
    )
    if kind is SOAK:
        found = soak(runner, given.minutes or (1.0 if given.quick else 60.0))
        table.repeats = len(found.minutes)
        table.minutes, table.series, table.series_zh = found.minutes, found.series, SERIES_ZH
        table.remarks += found.remarks()
        table.failed = not found.is_flat
    else:
        table.lines = list(kind.run(runner))
    if runner.merged > MERGED:
        english = f"Up to {runner.merged:.2f} chunks came in one read, where a server or the load fell behind."
        table.remarks.append((english, f"服务器或负载落后时，一次读取最多带来 {runner.merged:.2f} 个数据块。"))
    beside = {BASE: about.nginx, **peers}
    table.versions = {name: beside[name] for name in table.servers() if name in beside and name != OURS}
    table.busy = list(runner.busy)
    return table


def _peers(progress: Console, *, wanted: bool, without: bool) -> list[Peer]:
    """The other gateways that are here, or that can be had when they are wanted."""
    found = []
    for peer in () if without else PEERS:
        if not peer.is_installed and wanted:
            progress.print(f"installing {peer.name} {peer.version} into .cache/bench", markup=False)
            try:
                peer.make()
            except RuntimeError as error:
                progress.print(str(error), markup=False, style="red")
        if peer.is_installed:
            found.append(peer)
    return found


def _write(table: Table, into: Path, *, pages: bool) -> None:
    into.mkdir(parents=True, exist_ok=True)
    (into / f"{table.slug}.json").write_bytes(msgspec.json.format(msgspec.json.encode(table)) + b"\n")
    (into / f"{table.slug}.csv").write_text(table.csv())
    for language in LANGUAGES:
        name = f"{table.slug}.{language}.svg"
        (into / name).write_text(table.svg(language), "utf-8")
        if pages:
            page = DOCS / language / "performance.md"
            page.write_text(fill(page.read_text("utf-8"), table, language), "utf-8")
        else:
            (into / f"{table.slug}.{language}.md").write_text(table.markdown(language, name) + "\n", "utf-8")


def _render(names: Sequence[str]) -> None:
    """Pages and plots anew from the data that lies there; nothing is measured."""
    for name in names:
        data = PUBLISHED / f"{name}.json"
        if data.exists():
            _write(msgspec.json.decode(data.read_bytes(), type=Table), PUBLISHED, pages=True)
            print(f"{name}: written anew")


def fill(page: str, table: Table, language: Language) -> str:
    """The page with the table between its markers. Raises RuntimeError when it has none."""
    marker = f"<!-- table: {table.slug} -->"
    before, found, rest = page.partition(marker)
    _, ended, after = rest.partition(_END)
    if not found or not ended:
        raise RuntimeError(f"docs/{language}/performance.md has no place for the table {table.slug}")
    text = table.markdown(language, f"../performance/{table.slug}.{language}.svg")
    return f"{before}{marker}\n\n{text}\n\n{_END}{after}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.all", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"only these: {', '.join(NAMES)}")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a trial: short windows, two repeats, fewer streams; all tables in about eight minutes",
    )
    parser.add_argument("--repeats", type=int, default=0, help="windows per work and server (default 5, quick 2)")
    parser.add_argument("--minutes", type=float, default=0.0, help="length of the soak (default 60, quick 1)")
    parser.add_argument("--peers", action="store_true", help="install LiteLLM and Portkey when they are missing")
    parser.add_argument("--no-peers", action="store_true", help="leave them out even when they are installed")
    parser.add_argument(
        "--patience", type=float, default=3.0, help="seconds to wait before each window for the tested core to be quiet"
    )
    parser.add_argument(
        "--source", default="", metavar="SRC", help="the src folder to measure, instead of the installed one"
    )
    parser.add_argument("--into", default="", metavar="FOLDER", help="where to write, instead of docs/performance")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: write pages and plots anew from docs/performance"
    )
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    parser.add_argument("--silent", action="store_true", help="no progress")
    given = parser.parse_args()
    unknown = [name for name in given.tables if name not in NAMES]
    if unknown:
        parser.error(f"no table {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return given


if __name__ == "__main__":
    main()
