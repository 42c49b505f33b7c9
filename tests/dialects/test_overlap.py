"""What is said again where a text is gone on with, and what only looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.dialects.overlap import LONGEST, Overlap, repeated


@pytest.mark.parametrize(
    ("before", "after", "rest"),
    [
        # Said again: all of it, its last sentence, the word that was torn.
        ("Ebb and flow.", "Ebb and flow. Then slack.", " Then slack."),
        ("Tide", "Tide tables", " tables"),
        ("It rises. The moon pulls at", "The moon pulls at the sea.", " the sea."),
        ("the quick bro", "brown fox", "wn fox"),
        ("潮汐是由月球的引力引起的，每天", "由月球的引力引起的，每天两次。", "两次。"),
        ("It is all there already, word for word.", "It is all there already, word for word.", ""),
        # Not said again: letters, words and lines that meet by chance.
        ("hel", "lo", "lo"),
        ("0.33", "33", "33"),
        ("it is very", " very good", " very good"),
        ("| a | b |\n| ---------------- |", " ---------------- |", " ---------------- |"),
        ("--------------------", "----------", "----------"),
        ("ha ", "ha ha", "ha ha"),
        ("哈哈", "哈哈大笑", "哈哈大笑"),
        ("one two three", "four five", "four five"),
    ],
)
def test_only_what_can_be_no_coincidence_is_left_out(before: str, after: str, rest: str) -> None:
    assert after[repeated(before, after) :] == rest


def test_blanks_that_were_not_shown_are_not_said_twice() -> None:
    for after, rest in ((" And", "And"), ("And", "And"), ("  And", " And"), ("\nAnd", "\nAnd")):
        overlap = Overlap("Before. ", " ")
        assert overlap.feed(after) + overlap.end() == rest


def test_words_wait_only_while_they_may_be_said_again() -> None:
    before = "The moon pulls at the sea, and the sea follows it."
    overlap = Overlap(before)
    assert overlap.feed("and the ") == ""
    assert overlap.feed("land") == "and the land"
    assert overlap.feed("and the ") == "and the "
    overlap = Overlap("ab" * LONGEST)
    assert overlap.feed("ba" * (LONGEST // 2)) == ""
    assert overlap.feed("ba").startswith("baba")


@given(
    before=st.text("abc \n汐", max_size=60),
    pieces=st.lists(st.text("abc \n汐", max_size=12), max_size=12),
    back=st.integers(0, 60),
)
def test_it_does_not_matter_how_the_words_come(before: str, pieces: list[str], back: int) -> None:
    pieces = [before[len(before) - min(back, len(before)) :], *pieces]
    overlap = Overlap(before)
    out = "".join(map(overlap.feed, pieces)) + overlap.end()
    after = "".join(pieces)
    assert after.endswith(out)
    assert before.endswith(after[: len(after) - len(out)]) or after[: len(after) - len(out)] == before
    whole = Overlap(before)
    assert whole.feed(after) + whole.end() == out
