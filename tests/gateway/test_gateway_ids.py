"""Ids are never given twice and cannot be guessed."""

import re

import pytest

from tidegate.gateway.ids import BATCH, IdSupply


@pytest.mark.fault("FAULT-CLOCK")
@pytest.mark.security("SEC-API1-IDS")
def test_every_id_is_new() -> None:
    supply = IdSupply(b"req_", 16)
    taken = [supply.take() for _ in range(3 * BATCH + 1)]
    assert len(set(taken)) == len(taken)
    assert all(re.fullmatch(rb"req_[0-9a-f]{32}", one) for one in taken)


def test_what_was_made_ready_can_be_thrown_away() -> None:
    """As in a new process, which has it from its parent."""
    supply = IdSupply(b"", 8)
    supply.take()
    ready = set(supply._ready)
    supply.forget()
    assert not ready & {supply.take() for _ in range(BATCH)}
