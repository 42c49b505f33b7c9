"""The security matrix is whole: each row has a test that names it, each test a row, and no excuse is made up."""

from pathlib import Path

import pytest

from scripts import matrix
from scripts.matrix import NOT_OFFERED, TABLES, Row

EXCUSE = "not offered: "


def table(*rows: str) -> str:
    return "# M\n\n| id | threat | what | test |\n|---|---|---|---|\n" + "".join(f"| {row} |\n" for row in rows)


@pytest.mark.parametrize("path", TABLES, ids=["en", "zh"])
def test_every_row_is_proven_and_the_column_is_that_of_the_tests(path: Path) -> None:
    text, proven = path.read_text("utf-8"), matrix.proofs(matrix.ids())
    assert matrix.problems(matrix.read_rows(text), proven, TABLES[path]) == []
    assert text == matrix.synced(text, proven, TABLES[path]), "run `make rows`"


def test_both_languages_have_the_same_rows() -> None:
    english, chinese = ([row.id for row in matrix.read_rows(path.read_text("utf-8"))] for path in TABLES)
    assert english == chinese
    assert len(english) == len(set(english)) > 80
    assert set(NOT_OFFERED) <= set(english)


def test_a_row_without_a_test_is_a_problem() -> None:
    rows = matrix.read_rows(table("SEC-A-B | t | w | `test_x.py`", "SEC-A-C | t | w | "))
    assert matrix.problems(rows, {"SEC-A-B": ["test_x.py"]}, EXCUSE) == [
        'SEC-A-C: no test has pytest.mark.security("SEC-A-C")'
    ]


@pytest.mark.parametrize(
    ("id_", "proven", "says"),
    [
        ("SEC-A-B", {}, "may do without a test"),
        ("SEC-WEB-CSRF", {"SEC-WEB-CSRF": ["test_x.py"]}, "has a test"),
        ("SEC-WEB-CSRF", {}, ""),
    ],
)
def test_an_excuse_counts_only_for_what_does_not_exist(id_: str, proven: dict[str, list[str]], says: str) -> None:
    found = matrix.problems([Row(id_, "t", "w", "not offered: no dashboard")], proven, EXCUSE)
    assert [says in problem for problem in found] == ([True] if says else [])


def test_an_excuse_ends_when_the_feature_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NOT_OFFERED, "SEC-WEB-CSRF", "server/app")
    found = matrix.problems([Row("SEC-WEB-CSRF", "t", "w", "not offered: no dashboard")], {}, EXCUSE)
    assert found == [
        "SEC-WEB-CSRF: is said not to be offered, but there is src/tidegate/server/app.py; mark the test that proves the row"
    ]


@pytest.mark.parametrize(
    "row", ["SEC-A | t | w | ", "SEC-a-b | t | w | ", "SEC-A-B | t | w", "SEC-A-B | t | w | x | y"]
)
def test_a_row_of_another_shape_is_refused(row: str) -> None:
    with pytest.raises(ValueError, match="no row of the matrix"):
        matrix.read_rows(table(row))


def test_syncing_writes_the_tests_and_leaves_excuses_alone() -> None:
    before = table("SEC-A-B | t | w | old", "SEC-WEB-CSRF | t | w | not offered: no dashboard")
    after = matrix.synced(before, {"SEC-A-B": ["test_x.py", "sub/test_y.py"]}, EXCUSE)
    assert after.splitlines()[4:] == [
        "| SEC-A-B | t | w | `test_x.py`, `sub/test_y.py` |",
        "| SEC-WEB-CSRF | t | w | not offered: no dashboard |",
    ]
