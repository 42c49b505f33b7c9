"""Ids are never given twice and cannot be guessed."""

import re
import time

import pytest

from tidegate.gateway.ids import BATCH, IdSupply


@pytest.mark.fault("FAULT-CLOCK")
@pytest.mark.security("SEC-API1-IDS")
def test_every_id_is_new() -> None:
    supply = IdSupply(b"req_", 16)
    taken = [supply.take() for _ in range(3 * BATCH + 1)]
    assert len(set(taken)) == len(taken)
    assert all(re.fullmatch(rb"req_[0-9a-f]{32}", one) for one in taken)


@pytest.mark.security("SEC-API1-IDS")
def test_an_id_that_a_database_keeps_begins_with_the_time_and_cannot_be_guessed_either() -> None:
    before = int(time.time())
    supply = IdSupply(b"resp_", 24, dated=True)
    taken = [supply.take() for _ in range(3 * BATCH + 1)]
    assert all(re.fullmatch(rb"resp_[0-9a-f]{48}", one) for one in taken)
    assert all(before <= int(one[5:13], 16) <= time.time() for one in taken)
    assert len({one[13:] for one in taken}) == len(taken)  # 160 bits


def test_what_was_made_ready_can_be_thrown_away() -> None:
    """As in a new process, which has it from its parent."""
    supply = IdSupply(b"", 8)
    supply.take()
    ready = set(supply._ready)
    supply.forget()
    assert not ready & {supply.take() for _ in range(BATCH)}
