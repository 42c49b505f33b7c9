"""Fixtures for all tests, and how they share the machine."""

import gc
import os
import shutil
from collections.abc import Generator, Iterator
from typing import Any

import hypothesis
import pytest

# What judges for tests tells what it compared, as they do. Said before anything imports it.
pytest.register_assert_rewrite(
    *(f"tests.faults.{name}" for name in ("clients", "playing", "served", "witnesses")),
)

from tests.support.running import Running  # noqa: E402
from tests.support.turns import Turns  # noqa: E402

_TURNS = pytest.StashKey[Turns]()
_FOLDER = pytest.StashKey[str]()

# How long an example takes says more of the machine than of what is tested: a test that never ends is pytest's to stop.
# The same examples in every run, so that a change is judged by what it changes; `make fuzz` looks for new ones.
hypothesis.settings.register_profile(
    "tidegate",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize="TIDEGATE_FUZZ" not in os.environ,
)
hypothesis.settings.load_profile("tidegate")


@pytest.fixture(scope="session")
def gateway() -> Iterator[Running]:
    """A gateway with the simulator behind it, shared by tests that change nothing."""
    with Running() as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """All that is made here stays: looking for garbage in it, now and in every test, costs nearly half of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


# -- several processes ------------------------------------------------------------------------------------------------


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All tests run in one process more than there are cores, as many of them wait; a part of them in this one."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return min((os.cpu_count() or 1) + 1, 8)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None):
        config.stash[_FOLDER] = Turns.make_folder()
    elif folder := getattr(config, "workerinput", {}).get("turns"):
        config.stash[_TURNS] = Turns(folder)


def pytest_configure_node(node: Any) -> None:
    node.workerinput["turns"] = node.config.stash[_FOLDER]


def pytest_unconfigure(config: pytest.Config) -> None:
    if _TURNS in config.stash:
        config.stash[_TURNS].close()
    if _FOLDER in config.stash:
        shutil.rmtree(config.stash[_FOLDER])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Keeps what is marked `alone` from running beside anything else. No test's clock has begun when it waits here."""
    turns = item.config.stash.get(_TURNS, None)
    if turns is None:
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    turns.begin(alone=alone)
    try:
        return (yield)
    finally:
        turns.end(stay=alone and nextitem is not None and nextitem.get_closest_marker("alone") is not None)
