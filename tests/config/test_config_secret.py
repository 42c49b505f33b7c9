"""A secret is given away by `reveal()` and by nothing else."""

import copy
import json
import pickle

import msgspec
import pytest

from tidegate.config.secret import Secret

TEXT = "sk-canary-0123456789abcdefghij"
SECRET = Secret(TEXT)


@pytest.mark.security("SEC-LOG-SECRET")
@pytest.mark.parametrize(
    "shown",
    [
        repr(SECRET),
        str(SECRET),
        f"{SECRET}",
        f"{SECRET!r:>40}",
        f"{SECRET:>40}",
        "%s" % SECRET,  # noqa: UP031 - one of the ways a value reaches a log
        repr([SECRET]),
        repr({"a": SECRET}),
    ],
)
def test_no_way_of_showing_it_shows_any_of_it(shown: str) -> None:
    assert "canary" not in shown
    assert "ghij" not in shown
    assert "****" in shown


def test_the_mask_for_people_keeps_four_characters_of_a_long_one_and_none_of_a_short_one() -> None:
    assert SECRET.masked() == "********ghij"
    assert Secret("short").masked() == "********"


@pytest.mark.security("SEC-LOG-SECRET")
@pytest.mark.parametrize(
    "encode", [pickle.dumps, copy.deepcopy, msgspec.json.encode, msgspec.msgpack.encode, json.dumps]
)
def test_nothing_serialises_it(encode: "object") -> None:
    with pytest.raises(TypeError):
        encode(SECRET)  # type: ignore[operator]


def test_it_does_not_change() -> None:
    with pytest.raises(AttributeError):
        SECRET._text = "other"


def test_equal_texts_are_equal_secrets_and_a_text_is_not_a_secret() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert SECRET != TEXT
    assert hash(Secret("a")) == hash(Secret("a"))


def test_it_is_true_when_it_holds_something() -> None:
    assert Secret("a")
    assert not Secret("")


def test_its_digest_is_that_of_the_text() -> None:
    assert Secret("test").sha256().hex().startswith("9f86d081884c7d65")
