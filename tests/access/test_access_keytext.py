"""A key of ours can be told from anything else, and a mistake in it from an unknown one."""

import re

import pytest

from tidegate.access.keytext import ADMIN, PATTERN, VIRTUAL, id_of, is_well_formed, new_id, new_text, prefix_of

ID = "4nXk0PzY7dQw2LsB"


@pytest.mark.parametrize("prefix", [VIRTUAL, ADMIN])
def test_a_key_has_the_form_that_scanners_look_for(prefix: str) -> None:
    text = new_text(prefix, ID)
    assert re.fullmatch(PATTERN, text)
    assert re.search(PATTERN, f"Authorization: Bearer {text}\n")
    assert text.startswith(prefix + ID)
    assert (prefix_of(text.encode()), id_of(text.encode()), is_well_formed(text.encode())) == (prefix, ID, True)


def test_every_mistake_of_one_character_is_noticed() -> None:
    text = new_text(VIRTUAL, ID)
    for place in range(len(VIRTUAL), len(text)):
        wrong = text[:place] + ("a" if text[place] != "a" else "b") + text[place + 1 :]
        assert not is_well_formed(wrong.encode()), place
    swapped = text[:30] + text[31] + text[30] + text[32:]
    assert swapped == text or not is_well_formed(swapped.encode())
    for cut in (text[:-1], text + "a", text.upper(), f" {text}", f"{text}\n"):
        assert not is_well_formed(cut.encode())


@pytest.mark.parametrize("other", [b"", b"tg-", b"sk-" + b"a" * 65, b"tg-" + b"a" * 64 + b"!", b"tg-\xff" + b"a" * 64])
def test_what_is_no_key_of_ours_has_no_id(other: bytes) -> None:
    assert (id_of(other), is_well_formed(other)) == ("", False)


def test_no_two_keys_are_alike() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000
    assert len({new_text(VIRTUAL, ID) for _ in range(1000)}) == 1000
