"""Runs: their beginning, their one ending, and what is read of them."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tidegate.storage import conversations, items, processes, tenants
from tidegate.storage.crypto import Box, Keyring
from tidegate.storage.records import (
    Chain,
    Ending,
    HistoryIncomplete,
    HistoryTooLarge,
    Item,
    Link,
    Ref,
    Run,
    Status,
    StoredItem,
    StoredRun,
    Tenant,
)
from tidegate.storage.statement import Insert, Rows, Sql, Work

__all__ = [
    "Beginning",
    "Finish",
    "begin",
    "box_of",
    "chain",
    "finish",
    "get",
    "keep_answer",
    "request_cancel",
]


class Beginning(NamedTuple):
    """A run to be written, with its input items."""

    run: Run
    inputs: Sequence[Item]
    size: int
    """Bytes that it takes while it waits."""


class Finish(NamedTuple):
    """A run's ending with its output items, and what it adds to its conversation."""

    run: Run
    ending: Ending
    outputs: Sequence[Item]
    append: Sequence[Item]
    size: int


_BEGIN = Insert(
    "runs",
    (
        "number", "id", "tenant", "key", "dialect", "model", "deployment", "status", "background", "stream", "created_at",
        "completed_at", "expires_at", "owner", "cancel_requested", "previous", "previous_id", "conversation",
        "conversation_id", "error_code", "last_sequence", "bytes", "sealed", "usage", "request", "answer", "error",
    ),
    {"expires_at": "{now} + :expires_at"},
)  # fmt: skip
_FINISH = Sql("""
    UPDATE runs SET status = :status, completed_at = :completed_at, usage = :usage, answer = :answer, error = :error,
        error_code = :error_code, last_sequence = :last_sequence, bytes = :bytes,
        deployment = CASE WHEN :deployment = '' THEN deployment ELSE :deployment END
    WHERE number = :number AND completed_at IS NULL
    RETURNING number, tenant
""")
# A run that was deleted while it was live: its writer has stopped, so that its last rows can go.
_RELEASE = Sql("UPDATE doomed SET owner = NULL WHERE kind = 'run' AND number = :number")

_OWN: Final = "t.organization = :organization AND t.project = :project"
_GET = Sql(f"""
    SELECT r.number, r.id, r.key, r.dialect, r.model, r.deployment, r.status, r.background, r.stream, r.created_at,
        r.completed_at, r.expires_at, r.previous_id, r.conversation_id, r.error_code, r.last_sequence, r.bytes,
        r.sealed, r.usage, r.request, r.answer, r.error
    FROM runs r JOIN tenants t ON t.number = r.tenant WHERE r.id = :id AND {_OWN}
""")
_REQUEST_CANCEL = Sql(f"""
    UPDATE runs SET cancel_requested = 1 WHERE id = :id AND tenant = {tenants.NUMBER} AND completed_at IS NULL
    RETURNING owner
""")

# Of a run that was closed for a dead process: the seal of its row, if nobody has written its answer yet.
_UNANSWERED = Sql(f"""
    SELECT sealed FROM runs WHERE number = :number AND error_code = '{processes.INTERRUPTED}' AND answer = :empty
""")
_ANSWER = Sql("UPDATE runs SET answer = :answer WHERE number = :number AND sealed = :sealed AND answer = :empty")

_LINE: Final = f"""
    WITH RECURSIVE line (number, previous, tenant, depth, conversation) AS (
        SELECT r.number, r.previous, r.tenant, 0, r.conversation
        FROM runs r JOIN tenants t ON t.number = r.tenant WHERE r.id = :id AND {_OWN}
        UNION ALL
        SELECT p.number, p.previous, p.tenant, line.depth + 1, p.conversation
        FROM line JOIN runs p ON p.number = line.previous AND p.tenant = line.tenant
    )
"""
_LINKS = Sql(f"""
    {_LINE} SELECT r.number, r.id, r.status, r.previous,
        (SELECT coalesce(sum(length(i.content)), 0) FROM items i WHERE i.run = line.number), r.previous_id,
        r.conversation, r.conversation_id, {items.SEEN}
    FROM line JOIN runs r ON r.number = line.number ORDER BY line.depth DESC
""")
_LINE_ITEMS = Sql(f"""
    {_LINE} SELECT i.run, i.position, i.output, i.id, i.sealed, i.content
    FROM line JOIN items i ON i.run = line.number ORDER BY line.depth DESC, i.position
""")


def box_of(run: Run, keyring: Keyring) -> Box | None:
    """What seals the content of a run that this process writes; made once."""
    if keyring.current and run.box is None:
        run.box = keyring.box(keyring.current, "run", run.number, run.new.tenant)
    return run.box  # type: ignore[return-value]


def _pairs(rows: Rows) -> list[tuple[int, int]]:
    return [(number, tenant) for number, tenant in rows]


def _seal(box: Box | None, content: bytes, place: str) -> bytes:
    return box.seal(content, place) if box is not None and content else content


_Ended = tuple[Status, float | None, bytes, bytes, bytes, str, int | None, int, str]
"""How a run stands: the values of `_FINISH` in its order, without the number."""
_LIVE: Final[_Ended] = ("in_progress", None, b"", b"", b"", "", None, 0, "")


def _ended(run: Run, ending: Ending, box: Box | None) -> _Ended:
    return (
        ending.status,
        ending.completed_at,
        ending.usage,
        _seal(box, ending.answer, "answer"),
        _seal(box, ending.error, "error"),
        ending.error_code,
        run.last if run.last >= 0 else None,
        run.size,
        ending.deployment,
    )


def begin(
    beginnings: Sequence[Beginning], finishes: Sequence[Finish], owner: int, keyring: Keyring
) -> Work[dict[int, int]]:
    """Write runs with their input items. Those that have ended since are written as they ended, once: their numbers, with
    those of their tenants. Their output items are left to :func:`finish`."""
    found = yield from tenants.enrol_all([run.new.tenant for run, _, _ in beginnings])
    endings = {each.run.number: each.ending for each in finishes}
    rows = []
    for run, _, _ in beginnings:
        new = run.new
        box = box_of(run, keyring)
        previous, conversation = new.previous, new.conversation
        ending = endings.get(run.number)
        now = _LIVE if ending is None else _ended(run, ending, box)
        status, completed_at, usage, answer, error, error_code, last_sequence, size, deployment = now
        rows.append(
            (
                run.number,
                new.id,
                found[new.tenant],
                new.key,
                new.dialect,
                new.model,
                deployment or new.deployment,
                status,
                int(new.background),
                int(new.stream),
                new.created_at,
                completed_at,
                new.kept_s,
                owner,
                0,
                previous.number if previous else None,
                previous.id if previous else "",
                conversation.number if conversation else None,
                conversation.id if conversation else "",
                error_code,
                last_sequence,
                size,
                box.number if box else 0,
                usage,
                _seal(box, new.request, "request"),
                answer,
                error,
            )
        )
    yield from _BEGIN.rows(rows)
    yield from items.add(
        [
            (run, found[run.new.tenant], inputs, run.new.first_position, False)
            for run, inputs, _ in beginnings
            if inputs
        ],
        keyring,
    )
    return {run.number: found[run.new.tenant] for run, _, _ in beginnings if run.number in endings}


def finish(finishes: Sequence[Finish], written: Mapping[int, int], keyring: Keyring) -> Work[list[Run]]:
    """End runs, each once, but for those that :func:`begin` has `written` as they ended: the ones that had ended before, or
    were deleted, are left as they are and returned."""
    rows = [
        (*_ended(run, ending, box_of(run, keyring)), run.number)
        for run, ending, _, _, _ in finishes
        if run.number not in written
    ]
    numbers = dict(written)
    if rows:
        numbers.update(_pairs((yield _FINISH.many(rows))))
    ended = [each for each in finishes if each.run.number in numbers]
    yield from items.add(
        [
            (each.run, numbers[each.run.number], each.outputs, each.run.outputs_at, True)
            for each in ended
            if each.outputs
        ],
        keyring,
    )
    yield from tenants.account((numbers[each.run.number], each.run.new.key, each.run.size, 1) for each in ended)
    for each in ended:
        if each.append and each.run.new.conversation is not None:
            yield from conversations.add(each.run.new.conversation, each.run.new.tenant, each.append, keyring)
    refused = [each.run for each in finishes if each.run.number not in numbers]
    if refused:
        yield _RELEASE.many([(run.number,) for run in refused])
    return refused


def get(tenant: Tenant, run_id: str, keyring: Keyring) -> Work[StoredRun | None]:
    """A run of this tenant; None for one that does not exist or belongs to another."""
    rows = yield _GET(id=run_id, organization=tenant.organization, project=tenant.project)
    if not rows:
        return None
    (
        number, id_, key, dialect, model, deployment, status, background, stream, created_at,
        completed_at, expires_at, previous_id, conversation_id, error_code, last_sequence, size,
        sealed, usage, request, answer, error,
    ) = rows[0]  # fmt: skip
    box = keyring.box(sealed, "run", number, tenant)

    def unseal(content: bytes, place: str) -> bytes:
        return box.open(content, place) if box is not None and content else content

    return StoredRun(
        ref=Ref(number, id_),
        tenant=tenant,
        key=key,
        dialect=dialect,
        model=model,
        deployment=deployment,
        status=status,
        background=bool(background),
        stream=bool(stream),
        created_at=created_at,
        completed_at=completed_at,
        expires_at=expires_at,
        previous_id=previous_id,
        conversation_id=conversation_id,
        request=unseal(request, "request"),
        usage=usage,
        answer=unseal(answer, "answer"),
        error=unseal(error, "error"),
        error_code=error_code,
        last_sequence=last_sequence,
        size=size,
    )


def keep_answer(run: StoredRun, answer: bytes, keyring: Keyring) -> Work[None]:
    """Keep the answer of a run that has ended without one. Once."""
    rows = yield _UNANSWERED(number=run.ref.number, empty=b"")
    for (sealed,) in rows:
        box = keyring.box(sealed, "run", run.ref.number, run.tenant)
        yield _ANSWER(number=run.ref.number, sealed=sealed, answer=_seal(box, answer, "answer"), empty=b"")


def request_cancel(tenant: Tenant, run_id: str) -> Work[int | None]:
    """Ask the process that runs it to cancel; the number of that, or None when there is nothing to cancel."""
    rows = yield _REQUEST_CANCEL(id=run_id, organization=tenant.organization, project=tenant.project)
    return int(rows[0][0]) if rows else None


def chain(tenant: Tenant, run_id: str, max_bytes: int, keyring: Keyring) -> Work[Chain | None]:
    """A run and all before it with their items; None when this tenant has no such run.

    Raises HistoryIncomplete when an earlier run was deleted, or the conversation that the first was asked with;
    HistoryTooLarge.
    """
    names = {"id": run_id, "organization": tenant.organization, "project": tenant.project}
    rows = yield _LINKS(**names)
    if not rows:
        return None
    if rows[0][3] is not None:
        raise HistoryIncomplete(rows[0][5], rows[0][1])
    first, conversation, conversation_id, seen = rows[0][1], *rows[0][6:]
    size = sum(int(row[4]) for row in rows)
    if conversation is not None and seen:
        before = yield from conversations.size_before(tenant, conversation, seen)
        if before is None:
            raise HistoryIncomplete(conversation_id, first)
        size += before
    if size > max_bytes:
        raise HistoryTooLarge(f"The history of '{run_id}' has {size} bytes; at most {max_bytes} can be continued.")
    before_all: list[StoredItem] = []
    if conversation is not None and seen:
        before_all = yield from conversations.items_before(tenant, conversation, seen, keyring)
    found: dict[int, list[StoredItem]] = {row[0]: [] for row in rows}
    boxes: dict[tuple[int, int], Box | None] = {}
    for number, position, output, id_, sealed, content in (yield _LINE_ITEMS(**names)):
        place = (sealed, number)
        if place not in boxes:
            boxes[place] = keyring.box(sealed, "run", number, tenant)
        found[number].append(items.opened(boxes[place], position, output, id_, content))
    return Chain([Link(Ref(row[0], row[1]), row[2], found[row[0]]) for row in rows], before_all)
