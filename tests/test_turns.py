"""A test that must be alone is: it waits for those that run, and those that come later wait for it."""

import threading
from pathlib import Path

from tests.support.turns import Turns


class Player:
    """A process of a test run, played by a thread: the system's locks go by open files."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self._turns = Turns(str(folder))
        self._may_end = threading.Event()
        self.has_begun = threading.Event()
        self._thread = threading.Thread(target=self._play, args=(alone,))
        self._thread.start()

    def _play(self, alone: bool) -> None:
        self._turns.begin(alone=alone)
        self.has_begun.set()
        self._may_end.wait(10)
        self._turns.end(stay=False)

    def waits(self) -> bool:
        return not self.has_begun.wait(0.05)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join(10)
        self._turns.close()


def test_a_test_that_must_be_alone_is_alone(tmp_path: Path) -> None:
    first, second = Player(tmp_path, alone=False), Player(tmp_path, alone=False)
    assert first.has_begun.wait(10)
    assert second.has_begun.wait(10), "tests that may run side by side do"
    alone = Player(tmp_path, alone=True)
    assert alone.waits()
    late = Player(tmp_path, alone=False)
    assert late.waits(), "those that come later would keep it waiting for ever"
    first.end()
    assert alone.waits()
    second.end()
    assert alone.has_begun.wait(10)
    assert late.waits()
    alone.end()
    assert late.has_begun.wait(10)
    late.end()


def test_one_that_is_alone_may_stay_so(tmp_path: Path) -> None:
    turns = Turns(str(tmp_path))
    turns.begin(alone=True)
    turns.end(stay=True)
    other = Player(tmp_path, alone=False)
    assert other.waits()
    turns.begin(alone=True)
    turns.end(stay=False)
    assert other.has_begun.wait(10)
    other.end()
    turns.close()
