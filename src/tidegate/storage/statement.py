"""SQL that both engines read, and work that is written once and driven by either.

Work is a generator: it yields steps (a statement with its values), receives the rows, and returns its result. It never
touches a connection, so that the same lines run in SQLite's thread and on the event loop with PostgreSQL.

Why not SQLAlchemy at run time: importing it costs about as much as the whole start of the gateway, and each statement
many times what the drivers themselves cost. It describes the tables (`tables.py`) and writes the migrations.
"""

import re
from collections.abc import Generator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Literal, NamedTuple, TypeVar

__all__ = ["ROWS", "Dialect", "Insert", "Row", "Rows", "Sql", "Step", "Work", "fewest"]

Dialect = Literal["sqlite", "postgresql"]

Row = Sequence[Any]
"""One row; both drivers give something that is read by position."""

Rows = list[Row]

ROWS: Final = 500
"""Most rows that one transaction removes, closes or seals anew."""

T = TypeVar("T")
Work = Generator["Step", Rows, T]

_NAME: Final = re.compile(r":([a-z_]+)")
_LETTERS: Final = "abcdefghijklmnop"
"""One for each row that one execution adds."""

# What the engines spell differently. Times are seconds since 1970, by the clock of the database: processes on several
# hosts compare leases, and their own clocks may disagree.
_WORDS: Final[dict[Dialect, dict[str, str]]] = {
    "sqlite": {
        "{now}": "((julianday('now') - 2440587.5) * 86400.0)",
        "{skip_locked}": "",
        "{lock}": "",
    },
    "postgresql": {
        "{now}": "CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
        "{skip_locked}": "FOR UPDATE SKIP LOCKED",
        "{lock}": "FOR UPDATE",
    },
}


class Sql:
    """A statement with named values (`:name`), in the words of each engine. Made once, when its module is loaded.

    Values are always bound, never written into the text.
    """

    __slots__ = ("names", "returns", "texts")

    def __init__(self, text: str) -> None:
        self.names = tuple(dict.fromkeys(_NAME.findall(text)))
        self.returns = " RETURNING " in text
        order = {name: position for position, name in enumerate(self.names, 1)}
        self.texts: dict[Dialect, str] = {
            "sqlite": _spell(_for_sqlite(text), "sqlite"),
            "postgresql": _spell(_NAME.sub(lambda found: f"${order[found[1]]}", text), "postgresql"),
        }

    def __call__(self, **values: Any) -> "Step":
        """One execution. The names must be those of the text."""
        if len(values) != len(self.names):
            raise TypeError(f"the statement takes {', '.join(self.names)}; it was given {', '.join(values)}")
        return Step(self, tuple([values[name] for name in self.names]), False)

    def many(self, rows: Sequence[Row]) -> "Step":
        """One execution for each row of values, in the order of `names`; the rows that they return, together."""
        return Step(self, rows, True)


def fewest(statements: Sequence[Sql], values: list[Any]) -> Work[Rows]:
    """Execute statements of which each takes several rows, those with the most first and one for a single row last, as seldom
    as `values`, those of all rows, can be written with them; the rows that they return, together. Between two executions SQLite's
    driver lets other threads have the interpreter, and waits for it again: for one row each time that takes longer than the
    row."""
    found: Rows = []
    at = 0
    for sql in statements:
        size = len(sql.names)
        behind = len(values) - (len(values) - at) % size
        if at < behind:
            found += yield sql.many([values[begin : begin + size] for begin in range(at, behind, size)])
            at = behind
    return found


class Insert:
    """New rows of one table, several with each execution, see :func:`fewest`."""

    __slots__ = ("one", "several")

    def __init__(self, table: str, columns: Sequence[str], spelled: Mapping[str, str] | None = None) -> None:
        """`columns` are in the order of the table, so that SQLite need not sort them. `spelled` says how the value of a
        column is made where it is not bound as it is, as in `{"at": "{now} + :at"}`."""
        values = ", ".join([(spelled or {}).get(column, f":{column}") for column in columns])
        into = f"INSERT INTO {table} ({', '.join(columns)})"
        self.one = Sql(f"{into} VALUES ({values})")
        named = [_NAME.sub(rf":\g<1>_{letter}", values) for letter in _LETTERS]
        self.several = Sql(f"{into} VALUES {', '.join([f'({each})' for each in named])}")

    def rows(self, rows: "Sequence[tuple[Any, ...]]") -> "Work[None]":
        """Add rows, each with a value for every column."""
        yield from fewest((self.several, self.one), list(chain(*rows)))


class Step(NamedTuple):
    """What work asks of its driver."""

    sql: Sql
    values: Sequence[Any]
    is_many: bool


def _for_sqlite(text: str) -> str:
    """Values by place, `?`, and by number only where a name comes again.

    A number is a name to SQLite. Python asks for the name of every value that it binds, to warn of sequences given for
    names (since 3.12), and each answer is a search through all of them: with the ledger's columns 10 to 15 µs per row.
    """
    order: dict[str, int] = {}

    def place(found: re.Match[str]) -> str:
        name = found[1]
        if name in order:
            return f"?{order[name]}"
        order[name] = len(order) + 1
        return "?"

    return _NAME.sub(place, text)


def _spell(text: str, dialect: Dialect) -> str:
    for word, spelling in _WORDS[dialect].items():
        text = text.replace(word, spelling)
    return " ".join(text.split())
