"""The table of promised rows (docs/en/rows.md, docs/zh/rows.md) and the tests that prove them.

A test names the rows it proves with `@pytest.mark.row("S31")`. From those marks come the last two columns of both tables:
the state, and where it is proven. `python -m scripts.rows --sync` writes them, `--check` says what is out of date.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLES = tuple(ROOT / "docs" / language / "rows.md" for language in ("en", "zh"))
TESTS = ROOT / "tests"

ROWS = tuple(f"S{number}" for number in range(1, 92))
WORKING, PLANNED = "working", "planned"

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
    """The ids in every `pytest.mark.row(...)` that marks a test, a test class, a parameter set or the module.

    A test that is always skipped, or expected to fail, proves nothing. Raises ValueError for an id that is no row.
    """
    found: set[str] = set()
    _collect(ast.parse(source).body, found)
    return found


def _collect(statements: list[ast.stmt], found: set[str]) -> None:
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            decorators = statement.decorator_list
            if not statement.name.lower().startswith("test") or any(_is_moot(each) for each in decorators):
                continue
            for decorator in decorators:
                found |= _ids(decorator)
            if isinstance(statement, ast.ClassDef):
                _collect(statement.body, found)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            found |= _ids(statement)


def _is_moot(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return _dotted(target).endswith(("mark.skip", "mark.xfail"))


def _ids(marked: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(marked):
        if not (isinstance(node, ast.Call) and _dotted(node.func).endswith("mark.row")):
            continue
        for argument in node.args:
            if not (isinstance(argument, ast.Constant) and argument.value in ROWS):
                raise ValueError(f"line {node.lineno}: {ast.unparse(node)}: write row ids out, from S1 to S91")
            found.add(str(argument.value))
    return found


def proofs(tests: Path = TESTS) -> dict[str, list[str]]:
    """For each row, the test files that name it, relative to the tests' folder."""
    found: dict[str, list[str]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        name = path.relative_to(tests).as_posix()
        try:
            rows = marked_rows(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"tests/{name}, {error}") from error
        for row in rows:
            found.setdefault(row, []).append(name)
    return found


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


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


if __name__ == "__main__":
    sys.exit(main())
