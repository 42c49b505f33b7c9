"""A gateway that is killed at any moment has kept every promise that it made.

`TIDEGATE_KILLS=200` kills it so often per engine; twice is enough for every day.
"""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.storage.stage import OURS, Place, eventually, frames_of, run

KILLS = int(os.environ.get("TIDEGATE_KILLS", "2"))
ROOT = Path(__file__).resolve().parents[2]


def kill_one(url: str, seed: int, after_s: float) -> list[str]:
    """Let it write for that long, kill it, and return its promises."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.killed", url, str(seed)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    lines: list[str] = []
    try:
        assert child.stdout.readline() == "ready\n"
        reader = threading.Thread(target=lambda: lines.extend(child.stdout or ()))
        reader.start()
        time.sleep(after_s)
    finally:
        child.kill()
        child.wait()
    reader.join()
    child.stdout.close()
    return [line for line in lines if line.endswith("\n")]


async def closed(place: Place) -> bool:
    return not await place.query("SELECT 1 FROM runs WHERE completed_at IS NULL")


@pytest.mark.fault("FAULT-KILLED")
def test_what_was_promised_before_a_kill_is_there_after_it(place: Place) -> None:
    promises: dict[str, tuple[int, str]] = {}

    async def check() -> None:
        async with place.open(lease_s=0.3) as storage:
            if place.engine == "sqlite":
                assert await place.query("PRAGMA integrity_check") == [("ok",)]
            await eventually(lambda: closed(place), within_s=30)
            for run_id, (count, status) in promises.items():
                found = await storage.get_run(OURS, run_id)
                assert found is not None, run_id
                assert found.status == status or (status, found.status) in {
                    ("in_progress", "completed"),
                    ("in_progress", "failed"),
                }
                assert found.last_sequence is not None
                assert found.last_sequence >= count - 1
            # Promised or not: what is there has no hole, no double, and one ending.
            for run_id, status, code, last in await place.query(
                "SELECT id, status, error_code, last_sequence FROM runs"
            ):
                journal = await storage.read_journal(OURS, run_id)
                assert journal is not None
                frames = b"".join(segment.frames for segment in journal.segments)
                assert frames == (frames_of(0, last) if last is not None else b"")
                assert (status, code) in {("completed", ""), ("failed", "gateway_interrupted")}
            orphans = "SELECT count(*) FROM {0} WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.number = {0}.run)"
            for table in ("items", "segments"):
                assert await place.query(orphans.format(table)) == [(0,)]

    draw = random.Random(3)
    for seed in range(KILLS):
        for line in kill_one(place.url, seed, draw.uniform(0.05, 0.4)):
            _, run_id, count, status = line.split()
            promises[run_id] = (int(count), status)
        run(check, within_s=60)
    assert len(promises) > 5 * KILLS
    assert {status for _, status in promises.values()} == {"in_progress", "completed"}
