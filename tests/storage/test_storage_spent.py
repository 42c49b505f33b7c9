"""What somebody has used within a day or a month, to the second, from the sums by the hour and the rows of the last one."""

import pytest

from tests.storage.stage import OURS, THEIRS, Place, run
from tests.storage.test_storage_ledger import NOON, usage
from tidegate.storage.spent import Level

WHO: dict[Level, dict[str, str]] = {
    "organization": {"organization": "acme"},
    "project": {"organization": "acme", "project": "harbour"},
    "key": {"key_id": "key_app"},
    "end_user": {"organization": "acme", "project": "harbour", "end_user": "ann"},
}


def test_spans_begin_at_an_hour_and_end_at_any_time(place: Place) -> None:
    async def scenario() -> None:
        async with place.open() as storage:
            for at, tenant, members in (
                (NOON - 1, OURS, {}),
                (NOON, OURS, {"end_user": "ann"}),
                (NOON + 3600, OURS, {"key": "other"}),
                (NOON + 7200, THEIRS, {"end_user": "ann"}),
                (NOON + 7210, OURS, {"ending": "repeated", "cost_nano": 0}),
                (NOON + 7220, OURS, {"cost_nano": None}),
                (NOON + 7230, OURS, {"end_user": "ann"}),
            ):
                given = usage(storage.usage_number(), tenant=tenant, at=at, **members)
                storage.settle_usage(given)

            async def spent(level: Level, before: float) -> tuple[int, int, int]:
                return await storage.usage_spent(level, WHO[level], NOON, before)

            assert await spent("organization", NOON + 7230) == (4, 480, 4500)
            assert await spent("organization", NOON + 7231) == (5, 600, 6000)
            assert await spent("project", NOON + 7231) == (4, 480, 4500)
            assert await spent("key", NOON + 7231) == (4, 480, 4500)
            assert await spent("end_user", NOON + 7231) == (2, 240, 3000)
            assert await spent("end_user", NOON) == (0, 0, 0)
            assert await storage.usage_spent("key", {"key_id": "nobody"}, NOON, NOON + 7231) == (0, 0, 0)

    run(scenario)


@pytest.mark.security("SEC-API4-FORGET")
def test_what_nobody_has_settled_yet_counts_as_it_was_estimated(place: Place) -> None:
    """Its process may have been killed, and the next one counts from its own start on."""

    async def scenario() -> None:
        async with place.open() as storage:
            for at in (NOON - 1, NOON, NOON + 3700, NOON + 7300):
                open_row = usage(storage.usage_number(), at=at, settled=False, ending="open")
                storage.admit_usage(open_row.number, lambda given=open_row: given)  # type: ignore[misc]
            for level, who in WHO.items():
                if level != "end_user":
                    assert await storage.usage_spent(level, who, NOON, NOON + 3700) == (1, 120, 1500)
                    assert await storage.usage_spent(level, who, NOON, NOON + 7301) == (3, 360, 4500)

    run(scenario)
