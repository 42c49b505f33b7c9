"""Every statement is understood by both engines, and none reads a table from end to end."""

import re
import sqlite3
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.storage.stage import Place, run
from tidegate.storage import (
    access,
    conversations,
    crypto,
    idempotency,
    items,
    journal,
    ledger,
    processes,
    reseal,
    retention,
    runs,
    tenants,
)
from tidegate.storage.statement import Insert, Sql

MODULES = (
    access,
    conversations,
    crypto,
    idempotency,
    items,
    journal,
    ledger,
    processes,
    reseal,
    retention,
    runs,
    tenants,
)
LARGE = {
    "runs",
    "items",
    "segments",
    "conversations",
    "conversation_items",
    "idempotency",
    "ledger",
    "virtual_keys",
    "key_texts",
    "audit",
}


def found(value: object) -> Iterator[Sql]:
    """Every statement in a module's constants, however they are kept."""
    if isinstance(value, Sql):
        yield value
    elif isinstance(value, Insert):
        yield from (value.one, value.several)
    elif isinstance(value, dict):
        for each in value.values():
            yield from found(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from found(each)


def statements(module: ModuleType) -> list[Sql]:
    return [sql for name, value in vars(module).items() if name != "__builtins__" for sql in found(value)]


def test_the_search_finds_statements_in_all_places() -> None:
    assert all(statements(module) for module in MODULES)
    assert sum(len(statements(module)) for module in MODULES) > 60


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_no_statement_reads_a_large_table_from_end_to_end(sqlite: Place, module: ModuleType) -> None:
    async def scenario() -> None:
        async with sqlite.open():
            pass

    run(scenario)
    connection = sqlite3.connect(sqlite.path)
    for sql in statements(module):
        text = sql.texts["sqlite"]
        aliases = {alias: table for table, alias in re.findall(r"\b(?:FROM|JOIN) (\w+) (\w+)\b", text)}
        for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", [None] * len(sql.names)).fetchall():
            scanned = re.match(r"SCAN (\w+)(?! .*USING)", row[3])
            if scanned:
                table = aliases.get(scanned[1], scanned[1])
                assert table not in LARGE, f"{row[3]}: {text}"
    connection.close()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_postgresql_knows_the_type_of_every_value(postgresql: Place, module: ModuleType) -> None:
    async def scenario() -> None:
        import asyncpg

        connection = await asyncpg.connect(postgresql.url)
        try:
            for sql in statements(module):
                prepared = await connection.prepare(sql.texts["postgresql"])
                assert len(prepared.get_parameters()) == len(sql.names)
        finally:
            await connection.close()

    run(scenario)


def test_values_without_numbers_reach_the_places_of_their_names() -> None:
    sql = Sql("SELECT :d, :a, :d, :c, :a, :b")
    step = sql(a="A", b="B", c="C", d="D")
    connection = sqlite3.connect(":memory:")
    assert connection.execute(sql.texts["sqlite"], step.values).fetchall() == [("D", "A", "D", "C", "A", "B")]
    connection.close()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_only_a_value_that_comes_again_has_a_number(module: ModuleType) -> None:
    # Python 3.12 and newer look through all numbered values for each that they bind: the ledger's row took twice its time.
    for sql in statements(module):
        text = sql.texts["sqlite"]
        places, numbers = len(re.findall(r"\?(?!\d)", text)), re.findall(r"\?(\d+)", text)
        assert places == len(sql.names), text
        # Of the values that the rows of a window have alike, each is bound once in the place of sixteen times.
        assert len(set(numbers)) <= (16 if sql is ledger._WRITE_ALIKE else 3), text


@pytest.mark.security("SEC-INJ-SQL")
def test_a_statement_is_bound_by_name_and_never_by_text() -> None:
    sql = Sql("SELECT :b, :a, :b WHERE {now} > 0")
    assert sql.names == ("b", "a")
    assert sql.texts["sqlite"].startswith("SELECT ?, ?, ?1 WHERE ((julianday(")
    assert sql.texts["postgresql"].startswith("SELECT $1, $2, $1 WHERE CAST(extract(")
    assert sql(a=1, b="'; DROP TABLE runs; --").values == ("'; DROP TABLE runs; --", 1)
    with pytest.raises(TypeError, match="takes b, a; it was given a"):
        sql(a=1)
    with pytest.raises(KeyError):
        sql(a=1, c=2)
