"""The matrices are whole: each row has a test that names it, each test a row, and no excuse is made up."""

from pathlib import Path

import pytest

from scripts.matrix import EXCUSES, FAULTS, LANGUAGES, MATRICES, SECURITY, Matrix, Row

EXCUSE = EXCUSES["en"]

matrices = pytest.mark.parametrize("matrix", MATRICES, ids=[one.mark for one in MATRICES])


def table(*rows: str) -> str:
    return "# M\n\n| id | threat | what | test |\n|---|---|---|---|\n" + "".join(f"| {row} |\n" for row in rows)


@pytest.mark.parametrize("language", LANGUAGES)
@matrices
def test_every_row_is_proven_and_the_column_is_that_of_the_tests(matrix: Matrix, language: str) -> None:
    text, known = matrix.table(language), matrix.ids()
    proven = matrix.proofs(known)
    assert matrix.problems(matrix.rows(text), known, proven, EXCUSES[language]) == []
    assert text == matrix.synced(text, proven, EXCUSES[language]), "run `make rows`"


@matrices
def test_every_row_has_a_test_that_hears_all_witnesses(matrix: Matrix) -> None:
    assert matrix.unwitnessed(matrix.ids()) == []


def test_a_row_whose_tests_do_not_take_the_fixture_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        """import pytest

pytestmark = pytest.mark.fault("FAULT-A")

@pytest.mark.fault("FAULT-B")
def test_b(gateway): ...

@pytest.mark.fault("FAULT-C")
def test_c(gateway, witnesses): ...

@pytest.mark.skip
@pytest.mark.fault("FAULT-D")
def test_d(witnesses): ...
"""
    )
    known = ["FAULT-A", "FAULT-B", "FAULT-C", "FAULT-D"]
    assert FAULTS.unwitnessed(known, tmp_path) == ["FAULT-A", "FAULT-B", "FAULT-D"]
    assert SECURITY.unwitnessed(known, tmp_path) == []


@pytest.mark.parametrize(("matrix", "least"), [(SECURITY, 80), (FAULTS, 36)], ids=["security", "fault"])
def test_both_languages_have_the_same_rows_in_the_same_order(matrix: Matrix, least: int) -> None:
    english, chinese = ([row.id for row in matrix.rows(matrix.table(language))] for language in LANGUAGES)
    assert english == chinese
    assert len(english) == len(set(english)) >= least
    assert set(matrix.not_offered) <= set(english)


@pytest.mark.parametrize(
    ("matrix", "id_", "other"), [(SECURITY, "SEC-A-B", "SEC-A-C"), (FAULTS, "FAULT-A", "FAULT-B-C")]
)
def test_a_row_without_a_test_is_a_problem(matrix: Matrix, id_: str, other: str) -> None:
    rows = matrix.rows(table(f"{id_} | t | w | `test_x.py`", f"{other} | t | w | "))
    assert matrix.problems(rows, [id_, other], {id_: ["test_x.py"]}, EXCUSE) == [
        f'{other}: no test has pytest.mark.{matrix.mark}("{other}")'
    ]


def test_a_row_that_one_language_lacks_has_alone_or_has_twice_is_a_problem() -> None:
    rows = [Row(id_, "t", "w", "") for id_ in ("FAULT-A", "FAULT-A", "FAULT-C")]
    proven = {"FAULT-A": ["test_x.py"], "FAULT-C": ["test_x.py"]}
    assert FAULTS.problems(rows, ["FAULT-A", "FAULT-B"], proven, EXCUSE) == [
        "FAULT-A: stands twice",
        "FAULT-B: is missing in this language",
        "FAULT-C: stands in this language only",
    ]


@matrices
def test_a_test_that_names_no_row_is_refused(matrix: Matrix, tmp_path: Path) -> None:
    source = f'import pytest\n\n\n@pytest.mark.{matrix.mark}("{matrix.prefix}-OF-NOBODY")\ndef test_a():\n    pass\n'
    (tmp_path / "test_x.py").write_text(source)
    with pytest.raises(ValueError, match=rf"line 4: .*{matrix.page} has no such row"):
        matrix.proofs(matrix.ids(), tmp_path)


@pytest.mark.parametrize(
    ("id_", "proven", "says"),
    [
        ("SEC-A-B", {}, "may do without a test"),
        ("SEC-WEB-CSRF", {"SEC-WEB-CSRF": ["test_x.py"]}, "has a test"),
        ("SEC-WEB-CSRF", {}, ""),
    ],
)
def test_an_excuse_counts_only_for_what_does_not_exist(id_: str, proven: dict[str, list[str]], says: str) -> None:
    found = SECURITY.problems([Row(id_, "t", "w", "not offered: no dashboard")], [id_], proven, EXCUSE)
    assert [says in problem for problem in found] == ([True] if says else [])


def test_an_excuse_ends_when_the_feature_comes() -> None:
    matrix = Matrix("security", "security-matrix.md", "SEC", {"SEC-WEB-CSRF": "server/app"})
    rows = [Row("SEC-WEB-CSRF", "t", "w", "not offered: no dashboard")]
    assert matrix.problems(rows, ["SEC-WEB-CSRF"], {}, EXCUSE) == [
        "SEC-WEB-CSRF: is said not to be offered, but there is src/tidegate/server/app.py; mark the test that proves the row"
    ]


@pytest.mark.parametrize("row", ["SEC-a-b | t | w | ", "SEC- | t | w | ", "SEC-A-B | t | w", "SEC-A-B | t | w | x | y"])
def test_a_row_of_another_shape_is_refused(row: str) -> None:
    with pytest.raises(ValueError, match="no row of the matrix"):
        SECURITY.rows(table(row))


def test_syncing_writes_the_tests_and_leaves_excuses_alone() -> None:
    before = table("SEC-A-B | t | w | old", "SEC-WEB-CSRF | t | w | not offered: no dashboard")
    after = SECURITY.synced(before, {"SEC-A-B": ["test_x.py", "sub/test_y.py"]}, EXCUSE)
    assert after.splitlines()[4:] == [
        "| SEC-A-B | t | w | `test_x.py`, `sub/test_y.py` |",
        "| SEC-WEB-CSRF | t | w | not offered: no dashboard |",
    ]
