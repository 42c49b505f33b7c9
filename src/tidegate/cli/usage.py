"""`tidegate usage`: what was used and what it cost, read from the database of the configuration."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from tidegate.cli.cell import cell
from tidegate.cli.options import config_option

if TYPE_CHECKING:
    from rich.table import Table

    from tidegate.access.reports import Query
    from tidegate.config.schema import Config
    from tidegate.storage.ledger import ReportRow
    from tidegate.storage.reader import Reader

__all__ = ["usage"]

SUMS = 100
"""Most rows of sums when nobody says."""

BAR = 16
"""Most characters of the bar behind a row."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


@click.command()
@config_option
@click.option(
    "--by", default="model", show_default=True, help="Dimensions to sum by, with commas: project,key,day and so on."
)
@click.option("--from", "since", help="Begin: 2026-11-01, 2026-11-01T10:00:00Z, 24h or 7d (ago). [default: 30d]")
@click.option("--to", "until", help="End, in the same forms. [default: now]")
@click.option("--only", multiple=True, metavar="NAME=VALUE", help="Only this, such as project=search; may be repeated.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), help="Most rows. [default: 100 sums, or with --entries all entries]"
)
@click.option("--entries", is_flag=True, help="Every single request instead of sums.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print as CSV.")
@click.option("--rebuild", is_flag=True, help="Make the sums anew from the single requests first.")
def usage(
    path: str | None,
    by: str,
    since: str | None,
    until: str | None,
    only: tuple[str, ...],
    limit: int | None,
    *,
    entries: bool,
    as_json: bool,
    as_csv: bool,
    rebuild: bool,
) -> None:
    """Report what was used and what it cost."""
    from tidegate.access.reports import read_query
    from tidegate.cli import UsageError, load_config
    from tidegate.storage.records import StorageUnusable
    from tidegate.wire.errors import TidegateError

    if as_json and as_csv:
        raise UsageError("Choose one of --json and --csv.")
    given = {"group_by": by, "limit": str(limit or SUMS), "format": "csv" if as_csv else "json"}
    if since is not None:
        given["from"] = since
    if until is not None:
        given["to"] = until
    for one in only:
        name, equals, value = one.partition("=")
        if not equals or name in ("group_by", "from", "to", "format", "limit"):
            raise UsageError(f"--only takes NAME=VALUE, such as project=search; got '{one}'.")
        given[name] = value
    try:
        query = read_query(given, time.time())
        config = load_config(path, will_have_keys=True)
        if entries:
            asyncio.run(_run_entries(config, query, limit, rebuild=rebuild))
        else:
            asyncio.run(_run_report(config, query, as_json=as_json, rebuild=rebuild))
    except (TidegateError, StorageUnusable) as error:
        raise UsageError(str(getattr(error, "message", error))) from None


async def _run_entries(config: "Config", query: "Query", limit: int | None, *, rebuild: bool) -> None:
    async with _reader(config, rebuild=rebuild) as reader:
        if not (await reader.usage_entries(query.since, query.until, query.only, limit=1)).rows:
            await _check_names(config, reader, query)
        await _print_entries(reader, query, limit, as_csv=query.format == "csv")


async def _check_names(config: "Config", reader: "Reader", query: "Query") -> None:
    """Nothing was used. Raises UsageError where that is no wonder, since nobody has the name that was asked for."""
    from functools import partial

    from tidegate.access.administration import nobody_named
    from tidegate.access.directory import Directory
    from tidegate.cli import UsageError
    from tidegate.storage import access

    directory = Directory()
    directory.apply(await reader.look(partial(access.changes, 0)))
    projects = frozenset(key.project for key in config.keys)
    error = nobody_named(directory, projects, query.only.organization or "", query.only.project or "")
    if error is not None:
        raise UsageError(f"{error.message.removesuffix('.')}, and nothing was used under that name in this time.")


async def _run_report(config: "Config", query: "Query", *, as_json: bool, rebuild: bool) -> None:
    from tidegate.access import reports

    async with _reader(config, rebuild=rebuild) as reader:
        rows = await reader.usage_report(query.by, query.since, query.until, query.only, limit=query.limit + 1)
        if not any(row.requests for row in rows):
            await _check_names(config, reader, query)
        if query.format == "csv":
            shown = reports.report_rows(query, rows[: query.limit])
            _write(reports.csv_lines(reports.report_columns(query), shown, head=True))
            return
        [whole] = await reader.usage_report((), query.since, query.until, query.only, limit=1)
        if as_json:
            _write(reports.report_object(query, rows, whole) + b"\n")
        else:
            _print_table(query, rows, whole)


@asynccontextmanager
async def _reader(config: "Config", *, rebuild: bool) -> "AsyncIterator[Reader]":
    from tidegate.cli import UsageError
    from tidegate.cli.place import say_database
    from tidegate.server.database import database_url
    from tidegate.storage.reader import Reader

    url = database_url(config, os.environ)
    if url is None:
        raise UsageError("This configuration keeps no ledger: storage.url is off, or there is no data folder.")
    async with Reader.open(url) as reader:
        say_database(config)
        if rebuild:
            count = await reader.rebuild_usage(config.ledger.retention.seconds())
            click.echo(f"Summed up {count} hours anew.", err=True)
        yield reader


async def _print_entries(reader: "Reader", query: "Query", limit: int | None, *, as_csv: bool) -> None:
    """One line of JSON for each request, or CSV: as it comes out of the database. Without `limit` all of them."""
    from tidegate.access import reports
    from tidegate.storage.statement import ROWS
    from tidegate.wire import jsonio

    after: tuple[float, int] | None = None
    head = True
    while True:
        count = ROWS if limit is None else min(limit, ROWS)
        page = await reader.usage_entries(query.since, query.until, query.only, after=after, limit=count)
        if as_csv:
            _write(reports.csv_lines(reports.ENTRY_COLUMNS, map(reports.entry_object, page.rows), head=head))
        else:
            _write(b"".join([jsonio.encode(reports.entry_object(row)) + b"\n" for row in page.rows]))
        head = False
        after = page.behind
        limit = None if limit is None else limit - len(page.rows)
        if after is None or limit == 0:
            return


def _print_table(query: "Query", rows: "list[ReportRow]", whole: "ReportRow") -> None:
    from rich.console import Console

    if not whole.requests:
        click.echo("Nothing was used in this time.")
        return
    table = _table(query, rows, whole, bars=True)
    width = Console().width if sys.stdout.isatty() else 160
    if _width(table) > width:  # figures go before pictures
        table = _table(query, rows, whole, bars=False)
    Console(width=max(width, _width(table)), highlight=False).print(table)
    if len(rows) > query.limit:
        click.echo(f"There are more rows; --limit shows up to 10000 of them, this was the first {query.limit}.")
    if whole.estimated:
        click.echo(f"Of {whole.estimated:,} requests the usage had to be estimated, at least in part.")
    if whole.unpriced:
        click.echo(
            f"Of {whole.unpriced:,} requests (marked +?) the price is unknown, and not in the sums: set it under [prices]."
        )


def _width(table: "Table") -> int:
    """That it has when nothing in it is wrapped."""
    from rich.console import Console

    return Console(width=2_000).measure(table).maximum


def _table(query: "Query", rows: "list[ReportRow]", whole: "ReportRow", *, bars: bool) -> "Table":
    from rich import box
    from rich.table import Table

    from tidegate.access import reports

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    for at, name in enumerate(query.by or ("",)):
        table.add_column(name, footer="" if at else "all", overflow="fold")
    for name, footer in (
        ("requests", f"{whole.requests:,}"),
        ("input", f"{whole.input_tokens:,}"),
        ("cached", f"{whole.cached_tokens:,}"),
        ("output", f"{whole.output_tokens:,}"),
        ("cost, US$", _money(whole)),
    ):
        table.add_column(name, footer=footer, justify="right", no_wrap=True)
    if bars:
        table.add_column("", min_width=BAR)
    most = max(row.cost_nano for row in rows) or 0
    busiest = max(row.requests for row in rows)
    for row, shown in zip(rows[: query.limit], reports.report_rows(query, rows), strict=False):
        part = row.cost_nano / most if most else row.requests / busiest
        table.add_row(
            *([cell(str(shown[name])) or "–" for name in query.by] or [""]),
            f"{row.requests:,}",
            f"{row.input_tokens:,}",
            f"{row.cached_tokens:,}",
            f"{row.output_tokens:,}",
            _money(row),
            *([_bar(part)] if bars else []),
        )
    return table


def _money(row: "ReportRow") -> str:
    return f"{row.cost_nano / 1e9:,.4f}{'+?' if row.unpriced else ''}"


def _bar(part: float) -> str:
    eighths = round(part * BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
