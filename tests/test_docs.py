"""The documentation is complete in both languages, its table of rows is true, and nothing committed names a private place."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from scripts import rows

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

# Written in pieces, so that this file does not hold what it looks for.
REGISTRIES = tuple(
    "".join(pieces)
    for pieces in (
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("npmjs", ".org"),
        ("npmjs", ".com"),
        ("npmmirror", ".com"),
        ("deb.debian", ".org"),
        ("archive.ubuntu", ".com"),
        ("docker", ".io"),
        ("ghcr", ".io"),
        ("quay", ".io"),
        ("crates", ".io"),
        ("proxy.golang", ".org"),
    )
)
MACHINE_PATHS = (str(ROOT),)
"""Where this checkout happens to lie is nobody else's business."""

PRIVATE = re.compile(
    "|".join([*(re.escape(host) for host in REGISTRIES), *(rf"(?<![\w.-]){re.escape(path)}" for path in MACHINE_PATHS)])
)
UNFINISHED_WORK = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def committed_files() -> list[Path]:
    """What git holds or would hold: tracked files, and new ones that are not ignored."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def matching_lines(paths: list[Path], pattern: re.Pattern[str]) -> list[str]:
    """Each line of a text file that the pattern matches, with where it is."""
    found = []
    for path in paths:
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    return found


def dependency_names() -> set[str]:
    """Every direct dependency of pyproject.toml, at run time, optional, or for development."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras: dict[str, list[str]] = pyproject["project"].get("optional-dependencies", {})
    groups: dict[str, list[str | dict[str, str]]] = pyproject["dependency-groups"]
    wanted = [*pyproject["project"]["dependencies"]]
    wanted += [each for group in extras.values() for each in group]
    wanted += [each for group in groups.values() for each in group if isinstance(each, str)]
    return {re.split(r"[^A-Za-z0-9_.-]", each, maxsplit=1)[0] for each in wanted}


# --- both languages ----------------------------------------------------------------------------------------------


@pytest.mark.row("S57")
def test_every_page_exists_in_both_languages() -> None:
    english = {path.relative_to(DOCS / "en").as_posix() for path in (DOCS / "en").rglob("*.md")}
    chinese = {path.relative_to(DOCS / "zh").as_posix() for path in (DOCS / "zh").rglob("*.md")}
    assert english == chinese
    assert english
    for path in (ROOT / "README.zh-CN.md", *(DOCS / "zh").rglob("*.md")):
        text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text("utf-8"), flags=re.DOTALL)
        assert len(re.findall(r"[\u4e00-\u9fff]", text)) > 50, f"{path.relative_to(ROOT)} is not in Chinese"
    assert (ROOT / "README.md").is_file()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_dependency_is_explained(language: str) -> None:
    page = (DOCS / language / "dependencies.md").read_text("utf-8")
    explained = set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    assert explained == dependency_names()


# --- the table of rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", rows.TABLES, ids=["en", "zh"])
def test_every_row_stands_in_the_table_once(table: Path) -> None:
    assert [row.id for row in rows.read_rows(table.read_text("utf-8"))] == list(rows.ROWS)


def test_both_languages_have_the_same_states() -> None:
    english, chinese = (
        [(row.id, row.state) for row in rows.read_rows(path.read_text("utf-8"))] for path in rows.TABLES
    )
    assert english == chinese


@pytest.mark.parametrize("table", rows.TABLES, ids=["en", "zh"])
def test_a_working_row_has_a_test_that_names_it(table: Path) -> None:
    proven = rows.proofs()
    unproven = [
        row.id for row in rows.read_rows(table.read_text("utf-8")) if row.state != rows.PLANNED and row.id not in proven
    ]
    assert not unproven, f"marked working, but no test has pytest.mark.row for: {', '.join(unproven)}"


@pytest.mark.parametrize("table", rows.TABLES, ids=["en", "zh"])
def test_states_and_proofs_are_those_of_the_tests(table: Path) -> None:
    text = table.read_text("utf-8")
    assert text == rows.synced(text, rows.proofs()), "run `make rows`"


def test_marks_are_found_on_tests_classes_parameters_and_modules() -> None:
    source = """
pytestmark = [pytest.mark.row("S1")]
CASES: list[object] = [pytest.param(1, marks=pytest.mark.row("S2", "S3"))]
@pytest.mark.row("S4")
async def test_a(): ...
@mark.row("S5")
class TestB:
    @pytest.mark.parametrize("x", [pytest.param(1, marks=[pytest.mark.row("S6")])])
    def test_c(self): ...
"""
    assert rows.marked_rows(source) == {"S1", "S2", "S3", "S4", "S5", "S6"}


@pytest.mark.parametrize(
    "source",
    [
        '# pytest.mark.row("S1")\n"""pytest.mark.row("S1")"""',
        'def test_a():\n    pytest.mark.row("S1")',
        '@pytest.mark.row("S1")\ndef build(): ...',
        '@pytest.mark.skip(reason="x")\n@pytest.mark.row("S1")\ndef test_a(): ...',
        '@pytest.mark.xfail\n@pytest.mark.row("S1")\ndef test_a(): ...',
        '@pytest.mark.arrow("S1")\ndef test_a(): ...',
    ],
)
def test_what_runs_as_no_test_proves_no_row(source: str) -> None:
    assert rows.marked_rows(source) == set()


@pytest.mark.parametrize("argument", ['"S92"', '"S01"', '"31"', "31", "ROW"])
def test_a_mark_that_names_no_row_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match="write row ids out"):
        rows.marked_rows(f"@pytest.mark.row({argument})\ndef test_a(): ...")


def test_syncing_sets_state_and_proof_and_keeps_the_rest() -> None:
    table = "# Rows\n\n| row | p | s | w |\n|---|---|---|---|\n| S1 | a | planned |  |\n| S2 | b | working | `test_x.py` |\n"
    table += "| S3 | c | planned |  |\n"
    after = rows.synced(table, {"S1": ["test_a.py", "sub/test_b.py"], "S3": ["test_a.py"]}, unfinished={"S3"})
    assert after.splitlines()[4:] == [
        "| S1 | a | working | `test_a.py`, `sub/test_b.py` |",
        "| S2 | b | planned |  |",
        "| S3 | c | planned | `test_a.py` |",
    ]
    assert after.splitlines()[:4] == table.splitlines()[:4]


# --- what is committed -------------------------------------------------------------------------------------------


def test_no_committed_file_names_a_registry_or_a_private_path() -> None:
    assert matching_lines(committed_files(), PRIVATE) == []


def test_no_source_holds_unfinished_work() -> None:
    assert matching_lines([path for path in committed_files() if ROOT / "src" in path.parents], UNFINISHED_WORK) == []


@pytest.mark.parametrize("secret", [*REGISTRIES, *MACHINE_PATHS])
def test_a_private_place_is_recognised(secret: str) -> None:
    assert PRIVATE.search(f"see {secret}/x")


@pytest.mark.parametrize(
    "innocent", ["homework/main.py", "network/shared", "/v1/responses", "pypi", "python:3.13-slim"]
)
def test_an_innocent_text_is_left_alone(innocent: str) -> None:
    assert not PRIVATE.search(innocent)
