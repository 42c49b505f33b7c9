"""`tidegate budget`: what is used and left of every limit."""

import asyncio
import os
import time
from typing import TYPE_CHECKING

import click

from tidegate.cli.options import config_option

if TYPE_CHECKING:
    from tidegate.access.keys import KeyRing
    from tidegate.access.limits import Standing
    from tidegate.access.scopes import Scope
    from tidegate.config.schema import Config
    from tidegate.storage.reader import Reader

__all__ = ["budget"]

COLUMNS = ("level", "name", "limit on", "per", "limit", "used", "reserved", "left", "renewed in")


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def budget(path: str | None, as_json: bool) -> None:
    """Show what is used and left of each limit.

    What gateways count together is read from Valkey. Else days and months are read from the ledger, which has what is
    settled; running minutes and requests under way are known to the gateway alone: GET /admin/v1/budgets.
    """
    from tidegate.access.standings import budgets
    from tidegate.cli import UsageError, load_config
    from tidegate.storage.records import StorageUnusable
    from tidegate.wire import jsonio
    from tidegate.wire.errors import TidegateError

    config = load_config(path)
    try:
        standings, hidden = asyncio.run(_standings(config))
    except (TidegateError, StorageUnusable) as error:
        raise UsageError(str(getattr(error, "message", error))) from None
    if as_json:
        click.echo(jsonio.encode(budgets(standings)).decode())
        return
    if not standings and not hidden:
        click.echo(
            "No limits are set: add limits to [[keys]], [projects.NAME] or [organizations.NAME], or give them with --limit."
        )
        return
    if standings:
        _print_table(standings)
    if hidden:
        click.echo(
            f"{'And ' if standings else ''}{hidden} per minute or of requests under way: how they stand the running gateway "
            "alone knows, GET /admin/v1/budgets."
        )


def _print_table(standings: "list[Standing]") -> None:
    from rich.console import Console
    from rich.table import Table

    from tidegate.access.standings import shown_row
    from tidegate.cli.cell import cell

    table = Table(*COLUMNS, box=None, pad_edge=False)
    for one in standings:
        table.add_row(*map(cell, shown_row(one)), style="red" if one.remaining == 0 else None)
    Console(width=400).print(table)  # a narrower terminal wraps the lines, and ids stay whole


async def _standings(config: "Config") -> "tuple[list[Standing], int]":
    """All limits that the file and the database set, and how many of them only the running gateway can tell of."""
    from tidegate.access.limits import rules_of
    from tidegate.cli import UsageError
    from tidegate.cli.place import say_database
    from tidegate.server.database import database_url
    from tidegate.storage.reader import Reader

    url = database_url(config, os.environ)
    if url is None:
        scopes = (await _ring(config, None)).limited()
        if scopes and config.limits.valkey is None:
            raise UsageError("This configuration keeps no ledger: storage.url is off, or there is no data folder.")
        return (await _from_valkey(config, scopes) if scopes else []), 0
    async with Reader.open(url) as reader:
        say_database(config)
        ring = await _ring(config, reader)
        scopes = ring.limited()
        if not scopes:
            return [], 0
        if config.limits.valkey is not None:
            return await _from_valkey(config, scopes), 0
        standings = await _from_ledger(reader, scopes)
        return standings, sum(len(rules_of(scope)) for scope in scopes) - len(standings)


async def _ring(config: "Config", reader: "Reader | None") -> "KeyRing":
    from functools import partial

    from tidegate.access.directory import Directory
    from tidegate.access.keys import KeyRing
    from tidegate.storage import access

    directory = Directory()
    if reader is not None:
        directory.apply(await reader.look(partial(access.changes, 0)))
    return KeyRing(config.keys, directory, projects=config.projects, organizations=config.organizations)


async def _from_valkey(config: "Config", scopes: "list[Scope]") -> "list[Standing]":
    import msgspec

    from tidegate.access.engines import make_limiter
    from tidegate.cli import UsageError
    from tidegate.wire.errors import LimitsUnavailable

    # Never `local`: what this process has counted itself is nothing.
    settings = msgspec.structs.replace(config.limits, when_unavailable="refuse")
    limiter = make_limiter(settings, None, lambda *_, **__: None)
    try:
        return await limiter.standings(scopes)
    except LimitsUnavailable:
        raise UsageError(
            "Valkey does not answer (limits.valkey), so that nobody can tell what the gateways have counted together. "
            "Each running gateway tells its own figures at GET /admin/v1/budgets."
            if config.limits.when_unavailable == "local"
            else "Valkey does not answer (limits.valkey), and nobody else knows how the limits stand: until it does, "
            "requests with limits are refused."
        ) from None
    finally:
        await limiter.close()


async def _from_ledger(reader: "Reader", scopes: "list[Scope]") -> "list[Standing]":
    from tidegate.access.books import LedgerBooks
    from tidegate.access.limits import STREAMS, rules_of, standing
    from tidegate.access.meters import window_bounds

    found = []
    now = time.time()
    books = LedgerBooks(reader)
    for scope in scopes:
        for rule in rules_of(scope):
            if rule.kind == STREAMS or rule.window == "minute":
                continue
            begin, end = window_bounds(rule.window, now)
            used = (await books.used(scope, begin, now))[rule.kind]
            found.append(standing(rule, used, 0, end - now))
    return found
