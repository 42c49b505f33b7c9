"""No test of a row goes by on half of its witnesses."""

from collections.abc import Generator

import pytest

from tests.faults.witnesses import Witnesses


@pytest.fixture
def witnesses() -> Witnesses:
    """Those of one test, which must hear all four."""
    return Witnesses()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    heard = getattr(item, "funcargs", {}).get("witnesses")
    if heard is not None and heard.unheard:
        pytest.fail(f"it proves nothing of what these saw: {', '.join(heard.unheard)}", pytrace=False)
    return result
