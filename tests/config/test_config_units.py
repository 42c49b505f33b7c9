"""Durations and sizes are read as people write them, and nothing else is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.config.units import Duration, Size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("15", 15.0),
        (" 5s ", 5.0),
        ("5S", 5.0),
        (0, 0.0),
        (2, 2.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_read(written: object, seconds: float) -> None:
    assert Duration.parse(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "s", "-5s", "5 s", "5sec", "1s2", "5x", "٥s", -1, math.inf, math.nan, True, None, [], "1e3s", "9" * 400 + "d"],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(written)


def test_off_has_no_seconds() -> None:
    assert Duration.parse("off").off
    assert Duration.parse("off").seconds() is None
    assert str(Duration.parse("off")) == "off"


@given(st.integers(0, 10**9))
def test_a_shown_duration_reads_back(milliseconds: int) -> None:
    duration = Duration(milliseconds / 1000)
    assert Duration.parse(str(duration)) == pytest.approx(duration, abs=1e-6)


@pytest.mark.parametrize(
    ("written", "count"),
    [("32MiB", 32 * 1024**2), ("64 KiB", 65536), ("1kB", 1000), ("2GB", 2 * 10**9), ("7b", 7), (512, 512)],
)
def test_a_size_is_read(written: object, count: int) -> None:
    assert Size.parse(written) == count


@pytest.mark.parametrize("written", ["", "MiB", "-1", -1, 1.5, True, "1.5MiB", "1TiB", None, "10", "9" * 400 + "GiB"])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="size"):
        Size.parse(written)


@given(st.integers(0, 2**40))
def test_a_shown_size_reads_back(count: int) -> None:
    assert Size.parse(str(Size(count))) == count
