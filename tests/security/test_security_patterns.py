"""Text of any kind is looked at in time that grows with its length and no faster (ReDoS, hash floods)."""

import re
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from pkgutil import walk_packages
from re import _constants, _parser
from typing import Any

import pytest

import tidegate
from tests.support.forms import form, upload
from tests.support.raw import Raw, post
from tests.support.running import Running

LENGTH = 20_000
LIMIT_S = 0.5
"""For one pattern on one text of `LENGTH` characters, on a busy machine. What backtracks takes minutes."""

OPTIONAL = ("tidegate.local_audio", "tidegate.storage.postgres", "tidegate.__main__", "tidegate.sim.__main__")


def patterns() -> dict[str, "re.Pattern[Any]"]:
    """Every compiled pattern of every module, whatever it is called."""
    every = {}
    for found in walk_packages(tidegate.__path__, "tidegate."):
        if found.name.startswith(OPTIONAL) or found.name.endswith("migrations.env"):
            continue
        module = import_module(found.name)
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                every[f"{found.name}.{name}"] = value
    return every


GUARDED = {
    "tidegate.config.units._DURATION_PART": "sees thirty characters at most",
    "tidegate.config.units._SIZE": "sees thirty characters at most",
    "tidegate.dialects.validation._SEGMENT": "sees paths that the decoder writes",
    "tidegate.config.locate": "sees the operator's own file",
    "tidegate.config.substitute": "sees the operator's own file",
}
PATTERNS = {name: one for name, one in patterns().items() if not name.startswith(tuple(GUARDED))}


def used(name: str) -> set[str]:
    """How a pattern is looked for: one that is matched at the start of a text need not be fast anywhere else."""
    module, _, own = name.rpartition(".")
    calls = set(re.findall(rf"\b{own}\.(\w+)", Path(import_module(module).__file__ or "").read_text("utf-8")))
    return (calls & {"match", "fullmatch"}) | ({"search"} if calls - {"match", "fullmatch"} or not calls else set())


def alphabet(pattern: "re.Pattern[Any]") -> list[str]:
    """Characters and short texts that the pattern has something to say about, and one that it has not."""
    binary = isinstance(pattern.pattern, bytes)
    text = pattern.pattern.decode("latin-1") if binary else pattern.pattern
    parsed = _parser.parse(text, pattern.flags & ~re.UNICODE if binary else pattern.flags)
    found = {chr(code) for code in _codes(parsed) if code < (0x100 if binary else 0x3000)}
    return [*sorted(found)[:24], "\x01"]


def _codes(parsed: Any) -> Iterator[int]:
    """All literals, and an end of each range, in a parsed pattern."""
    for operation, argument in parsed:
        if operation in (_constants.LITERAL, _constants.NOT_LITERAL):
            yield argument
        elif operation is _constants.IN:
            yield from _codes(argument)
        elif operation is _constants.RANGE:
            yield argument[0]
        elif operation is _constants.CATEGORY:
            yield from map(ord, "0a _" if argument is not _constants.CATEGORY_DIGIT else "0")
        elif operation is _constants.BRANCH:
            for branch in argument[1]:
                yield from _codes(branch)
        elif operation is _constants.SUBPATTERN:
            yield from _codes(argument[3])
        elif operation in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
            yield from _codes(argument[2])
        elif operation in (_constants.ASSERT, _constants.ASSERT_NOT):
            yield from _codes(argument[1])


@pytest.mark.security("SEC-DOS-PATTERN")
@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_backtracks_beyond_measure(name: str) -> None:
    """Long runs of each character that a pattern knows, and of pairs of them, with an end that does not fit."""
    pattern = PATTERNS[name]
    looks = used(name)
    letters = alphabet(pattern)
    seeds = [*letters, *(a + b for a, b in pairwise(letters))]
    begun = time.perf_counter()
    for seed in seeds:
        text: Any = seed * (LENGTH // len(seed)) + "\x00!"
        if isinstance(pattern.pattern, bytes):
            text = text.encode("latin-1", "replace")
        for look in looks:
            started = time.perf_counter()
            getattr(pattern, look)(text)
            assert time.perf_counter() - started < LIMIT_S, (name, seed, look)
        if time.perf_counter() - begun > 10:
            pytest.fail(f"{name} takes too long altogether")


@pytest.mark.security("SEC-DOS-PATTERN")
def test_a_pattern_that_does_is_noticed() -> None:
    bad = re.compile(r"(?:a+)+$")
    started = time.perf_counter()
    bad.match("a" * 22 + "!")
    assert time.perf_counter() - started > 0.02
    assert "a" in alphabet(bad)


@pytest.mark.security("SEC-DOS-HASH")
def test_names_of_members_are_hashed_with_a_secret() -> None:
    """A hundred thousand names that collide for a known hash are as good as any others (and Python seeds its own)."""
    assert sys.hash_info.algorithm.startswith("siphash")
    assert not hasattr(sys.flags, "hash_randomization") or sys.flags.hash_randomization == 1


@pytest.mark.security("SEC-DOS-HASH")
def test_whole_numbers_that_collide_are_no_names(gateway: Running) -> None:
    """Python hashes whole numbers without a secret; in JSON the names of members are text."""
    step = 2**61 - 1
    members = b",".join(b'"%d":1' % (number * step) for number in range(1, 50_000))
    begun = time.monotonic()
    with Raw(gateway) as client:
        answer = client.ask(post(b'{"model":"sim/echo","input":"x","odd":{%b}}' % members))
    assert answer.status == 200
    assert time.monotonic() - begun < 3


@pytest.mark.security("SEC-DOS-PATTERN")
@pytest.mark.parametrize("value", ["0" * 50_000 + "!", "1." * 25_000, "+" * 50_000, "1e" * 25_000])
def test_a_number_in_a_form_holds_nobody_up(gateway: Running, value: str) -> None:
    begun = time.monotonic()
    with Raw(gateway) as client:
        assert client.ask(upload(form(b"x", temperature=value))).status == 400
    assert time.monotonic() - begun < 2
