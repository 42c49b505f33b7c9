"""Which ids the marks of tests name: the link between a table of the documentation and the tests that prove its lines."""

import ast
from collections.abc import Container
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"


def marked(source: str, mark: str, known: Container[str], which: str, fixture: str = "") -> set[str]:
    """The ids in every `pytest.mark.<mark>(...)` that marks a test, a test class, a parameter set or the module.

    A test that is always skipped, or expected to fail, proves nothing. With `fixture`, no test counts but those that take
    it themselves. Raises ValueError for an id that is not `known`; `which` says in its message what would be right.
    """
    found: set[str] = set()
    _collect(ast.parse(source).body, found, _Wanted(mark, known, which, fixture))
    return found


def proofs(
    mark: str, known: Container[str], which: str, tests: Path = TESTS, *, fixture: str = ""
) -> dict[str, list[str]]:
    """For each id, the test files that name it, relative to the tests' folder; `fixture` as for `marked`."""
    found: dict[str, list[str]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        name = path.relative_to(tests).as_posix()
        try:
            ids = marked(path.read_text("utf-8"), mark, known, which, fixture)
        except ValueError as error:
            raise ValueError(f"tests/{name}, {error}") from error
        for one in ids:
            found.setdefault(one, []).append(name)
    return found


class _Wanted:
    def __init__(self, mark: str, known: Container[str], which: str, fixture: str) -> None:
        self._mark = f"mark.{mark}"
        self._known = known
        self._which = which
        self._fixture = fixture

    def counts(self, test: ast.stmt) -> bool:
        """Whether the marks of this statement count."""
        if not self._fixture:
            return True
        if not isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
        arguments = (*test.args.posonlyargs, *test.args.args, *test.args.kwonlyargs)
        return any(one.arg == self._fixture for one in arguments)

    def ids(self, node: ast.AST) -> set[str]:
        found = set()
        for inner in ast.walk(node):
            if not (isinstance(inner, ast.Call) and _dotted(inner.func).endswith(self._mark)):
                continue
            for argument in inner.args:
                if not (isinstance(argument, ast.Constant) and argument.value in self._known):
                    raise ValueError(f"line {inner.lineno}: {ast.unparse(inner)}: {self._which}")
                found.add(str(argument.value))
        return found


def _collect(statements: list[ast.stmt], found: set[str], wanted: _Wanted) -> None:
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            decorators = statement.decorator_list
            if not statement.name.lower().startswith("test") or any(_is_moot(each) for each in decorators):
                continue
            if wanted.counts(statement):
                for decorator in decorators:
                    found |= wanted.ids(decorator)
            if isinstance(statement, ast.ClassDef):
                _collect(statement.body, found, wanted)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and wanted.counts(statement):
            found |= wanted.ids(statement)


def _is_moot(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return _dotted(target).endswith(("mark.skip", "mark.xfail"))


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
