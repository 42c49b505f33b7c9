"""The table of promised rows (docs/en/rows.md, docs/zh/rows.md) and the tests that prove them.

A test names the rows it proves with `@pytest.mark.row("S31")`. From those marks come the last two columns of both tables:
the state, and where it is proven. `python -m scripts.rows --sync` writes them, `--check` says what is out of date.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from scripts import marks
from scripts.marks import ROOT

TABLES = tuple(ROOT / "docs" / language / "rows.md" for language in ("en", "zh"))

ROWS = tuple(f"S{number}" for number in range(1, 92))
WORKING, PLANNED = "working", "planned"
_WHICH = "write row ids out, from S1 to S91"

# Rows that are not finished, whatever tests already name them. Take a row out when its last part works.
UNFINISHED: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    id: str
    promise: str
    state: str
    proven: str


def read_rows(table: str) -> list[Row]:
    """The rows of a table's Markdown text, in its order."""
    return [
        Row(cells[0], cells[1], cells[2].strip("`"), cells[3])
        for line in table.splitlines()
        if re.match(r"\|\s*S\d", line) and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 4
    ]


def marked_rows(source: str) -> set[str]:
    """The rows that the marks of a test file name. Raises ValueError for an id that is no row."""
    return marks.marked(source, "row", ROWS, _WHICH)


def proofs() -> dict[str, list[str]]:
    """For each row, the test files that name it, relative to the tests' folder."""
    return marks.proofs("row", ROWS, _WHICH)


def synced(table: str, proven: dict[str, list[str]], unfinished: Iterable[str] = UNFINISHED) -> str:
    """The table with state and proof of every row as the tests have it; all other text stays."""
    lines = []
    for line in table.splitlines(keepends=True):
        for row in read_rows(line):
            files = proven.get(row.id, [])
            state = WORKING if files and row.id not in unfinished else PLANNED
            line = f"| {row.id} | {row.promise} | {state} | {', '.join(f'`{name}`' for name in files)} |\n"
        lines.append(line)
    return "".join(lines)


def main() -> int:
    """Write or check both tables; 0 when they are in line with the tests."""
    parser = argparse.ArgumentParser(description="keep the row tables in line with the tests that name rows")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--sync", action="store_true", help="write state and proof of every row into both tables")
    what.add_argument("--check", action="store_true", help="say what --sync would change, and fail if anything")
    arguments = parser.parse_args()
    proven = proofs()
    stale = False
    for path in TABLES:
        before = path.read_text("utf-8")
        after = synced(before, proven)
        for old, new in zip(read_rows(before), read_rows(after), strict=True):
            if old != new:
                print(f"{path.relative_to(ROOT)}: {old.id}: {old.state} ({old.proven}) -> {new.state} ({new.proven})")
        stale = stale or before != after
        if arguments.sync and before != after:
            path.write_text(after, "utf-8")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
