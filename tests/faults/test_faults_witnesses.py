"""What makes the tests of this folder hear everybody."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.conftest import pytest_runtest_call
from tests.faults.witnesses import WITNESSES, Booked, Witnesses


def check(heard: Witnesses) -> None:
    """As behind a test that has passed."""
    item: Any = SimpleNamespace(funcargs={"witnesses": heard})
    call = pytest_runtest_call(item)
    next(call)
    with pytest.raises(StopIteration):
        call.send(None)


@pytest.mark.parametrize("missing", WITNESSES)
def test_a_test_that_has_not_heard_one_of_them_fails(missing: str) -> None:
    heard = Witnesses()
    for one in WITNESSES:
        if one != missing:
            with heard.hearing(one):
                pass
    with pytest.raises(pytest.fail.Exception, match=f"what these saw: {missing}$"):
        check(heard)
    with heard.hearing("client", "upstream", "ledger", "metrics"):
        pass
    check(heard)


def test_whose_word_does_not_hold_was_not_heard() -> None:
    heard = Witnesses()
    with pytest.raises(AssertionError):
        heard.ledger([], Booked("completed"))
    with pytest.raises(AssertionError):
        heard.metrics({}, {'tidegate_requests_total{endpoint="chat",provider="sim",status="200"}': 1.0})
    with pytest.raises(AssertionError):
        heard.upstream([], answered=1)
    assert heard.unheard == list(WITNESSES)
