"""The security matrix (docs/en/security-matrix.md, docs/zh/security-matrix.md) and the tests that prove it.

A test names the rows it proves with `@pytest.mark.security("SEC-API7-REDIRECT")`: it fails when the defence of that row
is taken out. From those marks comes the last column of both tables. `python -m scripts.matrix --sync` writes it,
`--check` fails for a row without a test, a test without a row, or a column that is out of date.
"""

import argparse
import re
import sys
from dataclasses import dataclass

from scripts import marks
from scripts.marks import ROOT

TABLES = {ROOT / "docs/en/security-matrix.md": "not offered: ", ROOT / "docs/zh/security-matrix.md": "不提供："}
"""The tables, and how a row in them says that there is nothing to attack."""

NOT_OFFERED = {
    "SEC-API6-FLOWS": "server/signup",
    "SEC-WEB-CSRF": "console",
    "SEC-WEB-CONTENT": "console",
    "SEC-WEB-FRAMES": "console",
    "SEC-CACHE-TENANT": "gateway/cache",
    "SEC-MCP-TOOLS": "mcp",
    "SEC-HOOK-EGRESS": "gateway/webhooks",
}
"""Rows of what does not exist yet, each with the place in the source that ends the excuse when it comes to be."""

_ROW = re.compile(r"\|\s*SEC-")


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    id: str
    threat: str
    defence: str
    proof: str


def read_rows(table: str) -> list[Row]:
    """The rows of a table's Markdown text, in its order. Raises ValueError for one of another shape."""
    rows = []
    for line in table.splitlines():
        if _ROW.match(line):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) != 4 or not re.fullmatch(r"SEC(-[A-Z0-9]+){2,}", cells[0]):
                raise ValueError(f"no row of the matrix: {line[:60]}")
            rows.append(Row(*cells))
    return rows


def ids() -> list[str]:
    """The ids of all rows, in the order of the table."""
    return [row.id for row in read_rows(next(iter(TABLES)).read_text("utf-8"))]


def proofs(known: list[str]) -> dict[str, list[str]]:
    """For each row, the test files that name it. Raises ValueError for a test that names no row."""
    return marks.proofs("security", known, "docs/en/security-matrix.md has no such row")


def problems(rows: list[Row], proven: dict[str, list[str]], excuse: str) -> list[str]:
    """What is wrong with a table: rows that nothing proves, and excuses that do not count."""
    found = [f"{row.id}: stands twice" for number, row in enumerate(rows) if row in rows[:number]]
    for row in rows:
        excused = row.proof.startswith(excuse)
        if excused and row.id not in NOT_OFFERED:
            found.append(f"{row.id}: is not among the rows that may do without a test")
        elif excused and row.id in proven:
            found.append(f"{row.id}: has a test, so that it is offered")
        elif excused and (gone := _exists(NOT_OFFERED[row.id])):
            found.append(f"{row.id}: is said not to be offered, but there is {gone}; mark the test that proves the row")
        elif not excused and row.id not in proven:
            found.append(f'{row.id}: no test has pytest.mark.security("{row.id}")')
        if not row.threat or not row.defence:
            found.append(f"{row.id}: says nothing")
    return found


def _exists(place: str) -> str:
    path = ROOT / "src" / "tidegate" / place
    return next((one.relative_to(ROOT).as_posix() for one in (path, path.with_suffix(".py")) if one.exists()), "")


def synced(table: str, proven: dict[str, list[str]], excuse: str) -> str:
    """The table with the proof of every row as the tests have it; all other text stays."""
    lines = []
    for line in table.splitlines(keepends=True):
        for row in read_rows(line):
            if not row.proof.startswith(excuse):
                files = ", ".join(f"`{name}`" for name in proven.get(row.id, []))
                line = f"| {row.id} | {row.threat} | {row.defence} | {files} |\n"
        lines.append(line)
    return "".join(lines)


def main() -> int:
    """Write or check both tables; 0 when they are in line with the tests."""
    parser = argparse.ArgumentParser(description="keep the security matrix in line with the tests that name its rows")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--sync", action="store_true", help="write the proof of every row into both tables")
    what.add_argument("--check", action="store_true", help="say what is unproven or out of date, and fail if anything")
    arguments = parser.parse_args()
    proven = proofs(ids())
    wrong = []
    for path, excuse in TABLES.items():
        before = path.read_text("utf-8")
        after = synced(before, proven, excuse)
        name = path.relative_to(ROOT)
        wrong += [f"{name}: {problem}" for problem in problems(read_rows(before), proven, excuse)]
        if before != after and arguments.sync:
            path.write_text(after, "utf-8")
        elif before != after:
            wrong.append(f"{name}: the last column is out of date; run `make rows`")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
