"""The matrices of the documentation, and the tests that prove them row by row.

Two pages list what may happen and what Tidegate does about it: the security matrix (docs/en/security-matrix.md) and the
fault matrix (docs/en/faults.md), each in both languages. A test names the rows it proves by a mark,
`@pytest.mark.security("SEC-API7-REDIRECT")` or `@pytest.mark.fault("FAULT-STALL")`: it fails when the defence of that
row is taken out. From those marks comes the last column of the tables. `python -m scripts.matrix --sync` writes it,
`--check` fails for a row without a test, a test without a row, a row that one language lacks, or a column that is out
of date.

Each row of the fault matrix also has a test that takes the fixture `witnesses` (tests/faults/witnesses.py), which passes
only if it has heard the client, the provider, the ledger and the metrics.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts import marks
from scripts.marks import ROOT

EXCUSES = {"en": "not offered: ", "zh": "不提供："}
"""The languages, and how a row in them says that there is nothing to attack."""

LANGUAGES = tuple(EXCUSES)


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    id: str
    threat: str
    defence: str
    proof: str


@dataclass(frozen=True)
class Matrix:
    """One page in all languages, and the mark by which tests name its rows."""

    mark: str
    page: str
    prefix: str
    """What the ids of its rows begin with."""
    not_offered: Mapping[str, str] = field(default_factory=dict)
    """Rows of what does not exist yet, each with the place in the source that ends the excuse when it comes to be."""
    fixture: str = ""
    """What a test of each row has to take."""

    def path(self, language: str) -> Path:
        """The page in one language."""
        return ROOT / "docs" / language / self.page

    def table(self, language: str) -> str:
        """The text of that page."""
        return self.path(language).read_text("utf-8")

    def rows(self, table: str) -> list[Row]:
        """The rows of a page's Markdown text, in its order. Raises ValueError for one of another shape."""
        rows = []
        for line in table.splitlines():
            if re.match(rf"\|\s*{self.prefix}-", line):
                cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
                if len(cells) != 4 or not re.fullmatch(rf"{self.prefix}(-[A-Z0-9]+)+", cells[0]):
                    raise ValueError(f"no row of the matrix: {line[:60]}")
                rows.append(Row(*cells))
        return rows

    def ids(self) -> list[str]:
        """The ids of all rows of the English page, in its order."""
        return [row.id for row in self.rows(self.table(LANGUAGES[0]))]

    def proofs(self, known: list[str], tests: Path = marks.TESTS) -> dict[str, list[str]]:
        """For each row, the test files that name it. Raises ValueError for a test that names no row."""
        return marks.proofs(self.mark, known, self._no_such_row, tests)

    def unwitnessed(self, known: list[str], tests: Path = marks.TESTS) -> list[str]:
        """The rows of which no test takes the fixture that one of them has to take."""
        if not self.fixture:
            return []
        heard = marks.proofs(self.mark, known, self._no_such_row, tests, fixture=self.fixture)
        return [id_ for id_ in known if id_ not in heard]

    @property
    def _no_such_row(self) -> str:
        return f"docs/{LANGUAGES[0]}/{self.page} has no such row"

    def problems(self, rows: list[Row], known: list[str], proven: Mapping[str, list[str]], excuse: str) -> list[str]:
        """What is wrong with a table: rows that nothing proves, excuses that do not count, rows that are not those of the
        English page."""
        there = [row.id for row in rows]
        found = [f"{row.id}: stands twice" for number, row in enumerate(rows) if row.id in there[:number]]
        found += [f"{id_}: is missing in this language" for id_ in known if id_ not in there]
        found += [f"{id_}: stands in this language only" for id_ in there if id_ not in known]
        for row in rows:
            excused = row.proof.startswith(excuse)
            if excused and row.id not in self.not_offered:
                found.append(f"{row.id}: is not among the rows that may do without a test")
            elif excused and row.id in proven:
                found.append(f"{row.id}: has a test, so that it is offered")
            elif excused and (gone := _exists(self.not_offered[row.id])):
                found.append(
                    f"{row.id}: is said not to be offered, but there is {gone}; mark the test that proves the row"
                )
            elif not excused and row.id not in proven:
                found.append(f'{row.id}: no test has pytest.mark.{self.mark}("{row.id}")')
            if not row.threat or not row.defence:
                found.append(f"{row.id}: says nothing")
        return found

    def synced(self, table: str, proven: Mapping[str, list[str]], excuse: str) -> str:
        """The table with the proof of every row as the tests have it; all other text stays."""
        lines = []
        for line in table.splitlines(keepends=True):
            for row in self.rows(line):
                if not row.proof.startswith(excuse):
                    files = ", ".join(f"`{name}`" for name in proven.get(row.id, []))
                    line = f"| {row.id} | {row.threat} | {row.defence} | {files} |\n"
            lines.append(line)
        return "".join(lines)


SECURITY = Matrix(
    mark="security",
    page="security-matrix.md",
    prefix="SEC",
    not_offered={
        "SEC-API6-FLOWS": "server/signup",
        "SEC-WEB-CSRF": "console",
        "SEC-WEB-CONTENT": "console",
        "SEC-WEB-FRAMES": "console",
        "SEC-CACHE-TENANT": "gateway/cache",
        "SEC-MCP-TOOLS": "mcp",
        "SEC-HOOK-EGRESS": "gateway/webhooks",
    },
)

FAULTS = Matrix(mark="fault", page="faults.md", prefix="FAULT", fixture="witnesses")

MATRICES = (SECURITY, FAULTS)


def _exists(place: str) -> str:
    path = ROOT / "src" / "tidegate" / place
    return next((one.relative_to(ROOT).as_posix() for one in (path, path.with_suffix(".py")) if one.exists()), "")


def main() -> int:
    """Write or check all tables; 0 when they are in line with the tests."""
    parser = argparse.ArgumentParser(description="keep the matrices in line with the tests that name their rows")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--sync", action="store_true", help="write the proof of every row into the tables")
    what.add_argument("--check", action="store_true", help="say what is unproven or out of date, and fail if anything")
    arguments = parser.parse_args()
    wrong = []
    for matrix in MATRICES:
        known = matrix.ids()
        proven = matrix.proofs(known)
        wrong += [f"{id_}: no test of it takes the fixture `{matrix.fixture}`" for id_ in matrix.unwitnessed(known)]
        for language, excuse in EXCUSES.items():
            path, before = matrix.path(language), matrix.table(language)
            after = matrix.synced(before, proven, excuse)
            name = path.relative_to(ROOT)
            wrong += [f"{name}: {one}" for one in matrix.problems(matrix.rows(before), known, proven, excuse)]
            if before != after and arguments.sync:
                path.write_text(after, "utf-8")
            elif before != after:
                wrong.append(f"{name}: the last column is out of date; run `make rows`")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
