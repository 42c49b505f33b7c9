"""The journal: segments of consecutive frames, appended, and read from any sequence number on."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tidegate.storage.crypto import Box, Keyring
from tidegate.storage.records import Journal, Run, Segment, Tenant
from tidegate.storage.runs import box_of
from tidegate.storage.statement import Sql, Work

__all__ = ["Append", "append", "read"]

ROWS: Final = 64
"""Segments whose sizes one step looks at."""


class Append(NamedTuple):
    """A segment to be written."""

    run: Run
    first: int
    last: int
    frames: bytes


_APPEND = Sql("""
    INSERT INTO segments (run, first, last, sealed, frames) VALUES (:run, :first, :last, :sealed, :frames)
""")
_STATUS = Sql("""
    SELECT r.number, r.status, r.error_code, r.last_sequence FROM runs r JOIN tenants t ON t.number = r.tenant
    WHERE r.id = :id AND t.organization = :organization AND t.project = :project
""")
_SIZES = Sql("""
    SELECT last, length(frames) FROM segments WHERE run = :run AND last > :after ORDER BY last LIMIT :count
""")
_READ = Sql("""
    SELECT first, last, sealed, frames FROM segments WHERE run = :run AND last > :after AND last <= :until ORDER BY last
""")


def append(segments: Sequence[Append], keyring: Keyring) -> Work[None]:
    """Write segments of any number of runs."""
    sealed = keyring.current
    if not sealed:
        yield _APPEND.many([(run.number, first, last, 0, frames) for run, first, last, frames in segments])
        return
    rows = []
    for run, first, last, frames in segments:
        box = box_of(run, keyring)
        assert box is not None
        rows.append((run.number, first, last, sealed, box.seal(frames, f"segment {first}")))
    yield _APPEND.many(rows)


def read(tenant: Tenant, run_id: str, after: int, max_bytes: int, keyring: Keyring) -> Work[Journal | None]:
    """The segments that hold frames behind `after`, up to about `max_bytes`; None when this tenant has no such run.

    The first segment may begin at or before `after`.
    """
    rows = yield _STATUS(id=run_id, organization=tenant.organization, project=tenant.project)
    if not rows:
        return None
    run, status, error_code, last_sequence = rows[0]
    segments: list[Segment] = []
    boxes: dict[int, Box | None] = {}
    size, has_more = 0, True
    while has_more and size < max_bytes:
        # Sizes first: a slow reader asks for little at a time, and all that follows is not to be fetched with it.
        sizes = yield _SIZES(run=run, after=after, count=ROWS)
        has_more = len(sizes) == ROWS
        until = after
        for number, (last, length) in enumerate(sizes, 1):
            until = last
            size += length
            if size >= max_bytes:
                has_more = has_more or number < len(sizes)
                break
        if not sizes:
            break
        rows = yield _READ(run=run, after=after, until=until)
        for first, last, sealed, content in rows:
            if sealed not in boxes:
                boxes[sealed] = keyring.box(sealed, "run", run, tenant)
            box = boxes[sealed]
            segments.append(Segment(first, last, content if box is None else box.open(content, f"segment {first}")))
        after = until
    return Journal(status, error_code, last_sequence, segments, has_more)
