"""What the gateway keeps of answers, and finds again: stored responses, their journals, and the turns before them."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec

from tidegate.access.keys import Principal
from tidegate.config.schema import Storage as Settings
from tidegate.dialects.dialect import AnyRequest, Call, Stream
from tidegate.dialects.gemini import error_body as google_error
from tidegate.dialects.responses.interrupted import CODE as INTERRUPTED
from tidegate.dialects.responses.interrupted import Remains, broken_off
from tidegate.dialects.responses.prompt import ITEM_ID_LIMIT, PromptRequest, previous_not_found
from tidegate.dialects.responses.replay import replayed
from tidegate.dialects.responses.request import ResponsesRequest
from tidegate.dialects.responses.state import Kept, References
from tidegate.dialects.resume import Resume
from tidegate.gateway.dialects import CLIENT_DIALECTS
from tidegate.gateway.history import History
from tidegate.gateway.idempotency import KEPT_S as CLAIM_KEPT_S
from tidegate.gateway.idempotency import Claim, Claims, Repeat, claim_named, not_stored, take
from tidegate.gateway.ids import IdSupply
from tidegate.gateway.progress import Progress
from tidegate.gateway.quota import Quota
from tidegate.gateway.snapshot import Path
from tidegate.gateway.tenant import tenant_of
from tidegate.storage.records import (
    ENDED,
    Ending,
    HistoryIncomplete,
    HistoryTooLarge,
    Item,
    NewRun,
    Page,
    Ref,
    Status,
    StoredItem,
    StoredRun,
    Tenant,
)
from tidegate.storage.records import Run as StoredWriter
from tidegate.storage.storage import Storage
from tidegate.streams.follow import PIECE_BYTES, Deleted, follow, replay
from tidegate.streams.journal import Journal
from tidegate.streams.run import Run
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import (
    Internal,
    InvalidRequest,
    NotFound,
    StorageUnavailable,
    TidegateError,
    UnsupportedParameter,
)

if TYPE_CHECKING:
    from tidegate.gateway.exchange import Exchange

__all__ = ["NOTHING", "Keeper", "Plan", "new_item_id"]

T = TypeVar("T")
P = ParamSpec("P")

GRACE_KEPT_S = 3600.0
"""How long a stream stays readable that was kept only for a client that may come back."""

LATE_S = 0.2
"""How long what another gateway has just answered may take to be found: it writes behind its answers."""

OUTAGE_S = 60.0
"""How long a stream that is being read waits for a database that fails. Then the connection breaks, without an ending."""

OUTAGE_PAUSE_S = 0.5
"""How often it asks meanwhile."""

CANCEL_S = 10.0
"""How long a cancelled run of another process may take to end."""

_REPEATABLE = frozenset({"chat", "completions", "messages", "gemini", "embeddings"})
"""Endpoints, beside Responses, whose streams can be picked up again and whose requests can be repeated: those with
answers in text."""

_SAID = frozenset({"completed", "incomplete"})
"""Statuses of answers that a conversation goes on from."""

_RESPONSE = "resp_"
"""How the ids of responses begin; streams that are kept for their frames alone have others."""

_NO_ITEMS = jsonio.raw([])
_STATUSES: dict[str, Status] = {status: status for status in ENDED}
_stream_ids = IdSupply(b"strm_", 24)
_item_ids: dict[str, IdSupply] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of an answer, beside going to its client."""

    run: "Recording | None" = None
    references: References | None = None
    """What must be found before there can be an answer."""
    claim: Claim | None = None
    """The idempotency key that must be free."""
    quota_of: str = ""
    """The key whose quota must have room, once it is known that the request runs: a repetition stores nothing."""
    background: bool = False
    grace_s: float = 0.0


def new_item_id(prefix: str) -> str:
    """A fresh id for an item, such as `msg_…`."""
    supply = _item_ids.get(prefix)
    if supply is None:
        supply = _item_ids[prefix] = IdSupply(prefix.encode() + b"_", 24)
    return supply.take().decode("ascii")


NOTHING = Plan()
"""Nothing is kept, and nothing looked up."""


class Recording:
    """See :class:`tidegate.gateway.recorder.Run`: one answer, written to the journal and, at its end, as items."""

    __slots__ = (
        "_inputs",
        "_keeper",
        "_kept",
        "_live",
        "_new",
        "_written",
        "conversation",
        "exchange",
        "previous",
        "public_id",
    )

    def __init__(self, keeper: "Keeper", new: NewRun, inputs: Sequence[Item], kept: Kept | None) -> None:
        """`kept` is where the response object stands; None for a stream that is kept as frames alone."""
        self._keeper = keeper
        self._new = new
        self._inputs = inputs
        self._kept = kept
        self._written: StoredWriter | None = None
        self._live: Run | None = None
        self.public_id = new.id
        self.previous: Ref | None = None
        self.conversation: Ref | None = None
        self.exchange: Exchange | None = None

    async def durable(self) -> None:
        """Until the run is on the disk. Raises StorageUnavailable."""
        assert self._written is not None
        await self._keeper.storage.durable(self._written)

    @property
    def number(self) -> int:
        """How storage calls it; 0 before it began, and where it could not be stored."""
        return self._written.number if self._written is not None else 0

    @property
    def followed(self) -> bool:
        return self._live is not None and self._live.followers > 0

    @property
    def whereabouts(self) -> str:
        if self._live is None:
            return ""
        path, query, count = f"/v1/streams/{self.public_id}", "", "frame that came, counted from 0"
        if self._kept is not None:
            path, query = f"/v1/responses/{self.public_id}", "stream=true&"
        if self._new.dialect == "responses":
            count = "event that came"
        return (
            f"What was said so far stands at GET {path}. "
            f"Where events were lost, they are at GET {path}?{query}starting_after=N, with N of the last {count}."
        )

    def begin(self, stream: Stream | None) -> None:
        keeper, kept = self._keeper, self._kept
        new = msgspec.structs.replace(
            self._new,
            previous=self.previous,
            conversation=self.conversation,
            stream=stream is not None,
            request=kept.response if kept is not None else b"",
        )
        self._written = keeper.storage.put_run(new, self._inputs)
        if stream is not None and not self._written.lost:
            self._live = keeper.open(self._written, self)

    def append(self, frames: bytes) -> None:
        if self._live is not None:  # else the storage has no room for it, and the answer goes on without
            self._live.append(frames)

    def finish(self, error: TidegateError | None) -> None:
        keeper, kept = self._keeper, self._kept
        assert self._written is not None
        if self._live is not None:
            keeper.journal.close(self._live)
        outputs: list[Item] = []
        answer = b""
        status: Status = "completed" if error is None else "failed"
        if kept is not None:
            status, outputs, answer = _taken_apart(kept.response)
        ending = Ending(
            status=status,
            completed_at=keeper.now(),
            answer=answer,
            error_code="" if error is None else error.code or "",
        )
        added = [*self._inputs, *outputs] if self.conversation is not None and status in _SAID else []
        keeper.storage.finish_run(self._written, ending, outputs, added)
        keeper.quota.add(self._new.tenant, self._new.key, self._written.size)
        keeper.forget(self)


class Keeper:
    """One per process; owns the journal of its running answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, storage: Storage, settings: Settings) -> None:
        self.loop = loop
        self.storage = storage
        self._grace_s = float(settings.resume_grace)
        self._retention_s = settings.retention.seconds()
        longest_s = math.inf if self._retention_s is None else self._retention_s
        self.claims_kept_s = min(CLAIM_KEPT_S, longest_s)
        self._graces_kept_s = min(GRACE_KEPT_S, longest_s)
        self._writers: dict[int, StoredWriter] = {}
        self._running: dict[str, Recording] = {}
        self.quota = Quota(loop, storage, int(settings.quota), is_shared=settings.url.startswith("postgres"))
        self.journal = Journal(loop, self)
        self.claims = Claims(loop)
        self._progress = Progress(self._read)
        storage.on_cancel = self._on_cancel
        storage.on_taken = self._on_taken

    @staticmethod
    def now() -> float:
        """Unix time in seconds."""
        return _now()

    # -- a request comes ----------------------------------------------------------------------------------------

    def plan(
        self,
        request: AnyRequest,
        headers: Mapping[bytes, bytes],
        body: bytes,
        call: Call,
        principal: Principal,
        dialect: str,
        model: str,
        paths: Sequence[Path],
        grace_s: float | None,
    ) -> Plan:
        """What is to be kept of the answer, and what must be looked up for it. `grace_s` is what the client asks for, if
        anything. Raises InvalidRequest."""
        key = headers.get(b"idempotency-key")
        is_prompt = isinstance(request, PromptRequest)
        if grace_s is None:
            grace_s = self._grace_s
        if not is_prompt and not grace_s and key is None:
            return NOTHING
        if is_prompt and not all(path.destination.gateway_state for path in paths):
            return NOTHING  # the provider holds the state
        quota_of = "" if key is None else principal.key_id
        if not isinstance(request, ResponsesRequest):
            endpoint = dialect.replace(":", "/").partition("/")[0]  # what is behind is an operation
            if endpoint not in _REPEATABLE and not is_prompt:
                return NOTHING
            run: Recording | None = None
            if request.wants_stream and (grace_s or key is not None):
                run = self._stream_only(principal, dialect, model, paths, is_claimed=key is not None)
            claim = None
            if key is not None:
                claim = self._claim(key, principal, dialect, body, call, run, streams=request.wants_stream)
            references = request.references if isinstance(request, PromptRequest) else None
            return Plan(run=run, references=references, claim=claim, quota_of=quota_of, grace_s=grace_s)
        typed = request.typed
        if typed.background and typed.store is False:
            raise UnsupportedParameter(
                "Unsupported parameter: 'background' needs a stored response, and 'store' is false.", param="background"
            )
        run = None
        if typed.store is not False:
            if not quota_of:
                self.quota.check(tenant_of(principal), principal.key_id)
            run = self._response(request, call, principal, model, paths)
        elif request.wants_stream and (grace_s or key is not None):
            run = self._stream_only(principal, dialect, model, paths, is_claimed=key is not None)
        claim = None
        if key is not None:
            claim = self._claim(key, principal, dialect, body, call, run, streams=bool(typed.stream))
        return Plan(
            run=run,
            references=request.references,
            claim=claim,
            quota_of=quota_of,
            background=bool(typed.background),
            grace_s=grace_s,
        )

    async def prepare(self, plan: Plan, tenant: Tenant) -> History | Repeat | None:
        """What has to be waited for: first whether the request runs at all, then what it builds on."""
        if plan.claim is not None and (repeat := await take(self, plan.claim)) is not None:
            return repeat
        if plan.quota_of:
            self.quota.check(tenant, plan.quota_of)
        return None if plan.references is None else await self._look_up(plan.references, tenant, plan.run)

    @staticmethod
    def _claim(
        key: bytes,
        principal: Principal,
        dialect: str,
        body: bytes,
        call: Call,
        run: "Recording | None",
        *,
        streams: bool,
    ) -> Claim:
        run_id = call.response_id if run is None else run.public_id
        return claim_named(key, tenant_of(principal), principal.key_id, dialect, body, run_id, streams=streams)

    def _response(
        self, request: ResponsesRequest, call: Call, principal: Principal, model: str, paths: Sequence[Path]
    ) -> Recording:
        kept = request.kept = Kept()
        inputs = [Item(name, content) for name, content in request.kept_items(new_item_id)]
        new = NewRun(
            id=call.response_id,
            tenant=tenant_of(principal),
            key=principal.key_id,
            dialect="responses",
            model=model,
            deployment=paths[0].name,
            status="queued" if request.typed.background else "in_progress",
            background=bool(request.typed.background),
            created_at=self.now(),
            expires_at=None if self._retention_s is None else self.now() + self._retention_s,
        )
        return Recording(self, new, inputs, kept)

    def _stream_only(
        self, principal: Principal, dialect: str, model: str, paths: Sequence[Path], *, is_claimed: bool
    ) -> Recording | None:
        """None where there is no room for what the client can do without."""
        if not is_claimed and self.quota.is_full(tenant_of(principal), principal.key_id):
            return None
        new = NewRun(
            id=_stream_ids.take().decode("ascii"),
            tenant=tenant_of(principal),
            key=principal.key_id,
            dialect=dialect,
            model=model,
            deployment=paths[0].name,
            created_at=self.now(),
            expires_at=self.now() + (self.claims_kept_s if is_claimed else self._graces_kept_s),
        )
        return Recording(self, new, (), None)

    async def _look_up(self, references: References, tenant: Tenant, run: Recording | None) -> History:
        items: list[bytes] = []
        try:
            if references.previous is not None:
                if not references.previous.startswith(_RESPONSE):
                    raise previous_not_found(references.previous)
                chain = await self._patiently(partial(self.storage.read_chain, tenant, references.previous))
                if chain is None:
                    raise previous_not_found(references.previous)
                last = chain.links[-1]
                if last.status not in ENDED:
                    raise InvalidRequest(
                        f"Previous response with id '{references.previous}' is still in progress.",
                        param="previous_response_id",
                        code="previous_response_in_progress",
                    )
                for link in chain.links:
                    items += [item.content for item in link.items]
                    if link.status == "failed" and not any(item.role == "output" for item in link.items):
                        items += await self._outputs_of_dead(tenant, link.ref.id)
                if run is not None:
                    run.previous = chain.ref
            elif references.conversation is not None:
                found = await self.storage.read_conversation(tenant, references.conversation)
                if found is None:
                    raise NotFound(f"Conversation with id '{references.conversation}' not found.", param="conversation")
                items = [item.content for item in found[1]]
                if run is not None:
                    run.conversation = found[0].ref
        except HistoryIncomplete as hole:
            raise previous_not_found(hole.gone, hole.following) from None
        except HistoryTooLarge as error:
            raise InvalidRequest(
                f"The turns before this one cannot be sent along: {error}.",
                param="previous_response_id" if references.previous else "conversation",
                code="context_length_exceeded",
            ) from None
        named = await self.storage.find_items(tenant, references.items) if references.items else {}
        return History(items, {name: item.content for name, item in named.items()})

    # -- a run is on its way ------------------------------------------------------------------------------------

    def open(self, written: StoredWriter, recording: Recording) -> Run:
        """The live run of a recording that begins."""
        self._writers[written.number] = written
        self._running[recording.public_id] = recording
        return self.journal.open(written.number, recording.public_id, written.new.tenant.project)

    def forget(self, recording: Recording) -> None:
        """A run has ended."""
        self._running.pop(recording.public_id, None)
        self._writers.pop(recording.number, None)
        self._progress.forget(recording.public_id)

    def append_segment(self, run: int, place: int, frames: bytes) -> None:
        """See :class:`tidegate.streams.journal.Segments`. Storage counts frames by number; ours are counted by byte."""
        writer = self._writers.get(run)
        if writer is not None:
            self.storage.append_segment(writer, place, place + len(frames) - 1, frames)

    def _on_cancel(self, run_id: str) -> None:
        """Another process was asked to cancel a run of ours."""
        recording = self._running.get(run_id)
        if recording is not None and recording.exchange is not None:
            recording.exchange.cancel()

    def _on_taken(self, run_id: str) -> None:
        """Others have ended it, for good: whoever reads it here must not see another ending."""
        recording = self._running.get(run_id)
        if recording is not None and recording.exchange is not None:
            recording.exchange.stop(_interrupted("the gateway was taken for dead, and the answer was ended."))

    # -- what is read -------------------------------------------------------------------------------------------

    async def find(self, run_id: str, tenant: Tenant, *, dialect: str = "") -> StoredRun:
        """A run; with a `dialect`, one that is kept whole and not for its frames alone. Raises NotFound in the official
        words (protocol §1.8)."""
        if dialect and not run_id.startswith(_RESPONSE):
            raise _not_found(run_id)
        found = await self._patiently(partial(self.storage.get_run, tenant, run_id))
        if found is None or (dialect and found.dialect != dialect):
            raise _not_found(run_id, dialect)
        return found

    async def response(self, run_id: str, tenant: Tenant) -> bytes:
        """The response object as it stands."""
        run = await self.find(run_id, tenant, dialect="responses")
        if run.status not in ENDED:
            return await self._so_far(run, tenant)
        self._progress.forget(run_id)
        if run.error_code == INTERRUPTED:
            if run.answer:
                return run.answer
            answer = (await self._remains(tenant, run_id)).response(run.request)
            self.storage.keep_answer(run, answer)  # whoever asks again must not read the whole journal
            return answer
        members = jsonio.members(run.answer)
        members["output"] = jsonio.raw([msgspec.Raw(item) for item in await self._outputs(tenant, run_id)])
        return jsonio.encode(members)

    async def _so_far(self, run: StoredRun, tenant: Tenant) -> bytes:
        """The response object of a run that goes on."""
        run_id = run.ref.id
        members = jsonio.members(run.request)
        try:
            remains = await self._progress.of(tenant, run_id)
        except Deleted:
            self._progress.forget(run_id)
            raise _not_found(run_id) from None
        has_begun = run_id in self._running or remains.last >= 0
        members["status"] = jsonio.raw("in_progress" if has_begun else run.status)
        return remains.so_far(jsonio.encode(members))

    async def frames(self, run: StoredRun, tenant: Tenant, after: int | None) -> AsyncIterator[bytes]:
        """The frames of a run behind event `after`, to its end, also where another process writes it. A response that did
        not stream has those that it might have come in."""
        last = b""
        try:
            async for piece in self._pieces(run, tenant, after):
                last = piece
                yield piece
        except (Deleted, NotFound):
            error = NotFound("The stream was deleted while it was read.", code="stream_deleted")
            if run.dialect == "responses":
                closing = broken_off(run.request, last, after, error)
            else:
                closing = _broken_off(run.dialect, last, error)
            if closing:
                yield closing

    async def _pieces(self, run: StoredRun, tenant: Tenant, after: int | None) -> AsyncIterator[bytes]:
        """See `frames`. Raises Deleted, and NotFound."""
        run_id = run.ref.id
        numbered = run.dialect == "responses"
        resume = Resume(after, numbered=numbered)
        read = partial(_through_outages, partial(self._read, tenant, run_id))
        live = self.journal.runs.get(run_id)
        if live is not None:
            async for piece in follow(read, live, resume):
                yield piece
            return
        last = b""
        with self.storage.watch(run_id) as watch:
            has_ended = partial(_through_outages, partial(self._has_ended, tenant, run_id))
            async for piece in replay(read, has_ended, watch.changed, resume):
                last = piece
                yield piece
        ended = await _through_outages(self.find, run_id, tenant)
        if numbered and not ended.stream:
            frames = replayed(await self.response(run_id, tenant), after)
            if frames:
                yield frames
        elif ended.error_code == INTERRUPTED:
            if numbered:
                closing = (await self._remains(tenant, run_id)).closing(ended.request, after)
            else:
                error = _interrupted(f"{INTERRUPTED}: the gateway was stopped before the answer was complete.")
                closing = _broken_off(run.dialect, last, error)
            if closing:
                yield closing

    async def frames_of(self, run_id: str, tenant: Tenant) -> AsyncIterator[bytes]:
        """All frames of a run that is to be repeated, as :meth:`frames`. Raises StorageUnavailable where it was not kept."""
        try:
            run = await self.find(run_id, tenant)
        except NotFound:
            raise not_stored() from None
        async for piece in self.frames(run, tenant, None):
            yield piece

    async def cancel(self, run_id: str, tenant: Tenant) -> bytes:
        """End a background response; what it is now. One that has ended stays as it is."""
        run = await self.find(run_id, tenant, dialect="responses")
        if not run.background:
            raise InvalidRequest(
                "Only responses created with 'background' set to true can be cancelled.", code="not_in_background"
            )
        if run.status not in ENDED:
            recording = self._running.get(run_id)
            if recording is not None and recording.exchange is not None:
                recording.exchange.cancel()
            else:
                await self.storage.request_cancel(tenant, run_id)
                await self._until_ended(tenant, run_id)
        return await self.response(run_id, tenant)

    async def delete(self, run_id: str, tenant: Tenant, *, dialect: str = "") -> None:
        """Remove a run (see `find`) with all that belongs to it; one that goes on ends. Raises NotFound."""
        await self.find(run_id, tenant, dialect=dialect)
        recording = self._running.get(run_id)
        if recording is not None and recording.exchange is not None:
            recording.exchange.cancel()
        if not await self.storage.delete_run(tenant, run_id):
            raise _not_found(run_id, dialect)

    async def input_items(
        self, run_id: str, tenant: Tenant, *, after: str | None, limit: int, descending: bool
    ) -> Page[StoredItem]:
        """A page of what the response was asked with. Raises NotFound, and CursorUnknown for an unknown `after`."""
        await self.find(run_id, tenant, dialect="responses")
        page = await self.storage.list_items(tenant, run_id, "context", after=after, limit=limit, descending=descending)
        if page is None:
            raise _not_found(run_id)
        return page

    # -- inside -------------------------------------------------------------------------------------------------

    async def _patiently(self, read: Callable[[], Awaitable[T | None]]) -> T | None:
        """What another gateway has just answered may not be there yet: it is looked for twice."""
        found = await read()
        if found is None and await self.storage.has_neighbours():
            await asyncio.sleep(LATE_S)
            found = await read()
        return found

    async def _outputs(self, tenant: Tenant, run_id: str) -> list[bytes]:
        found: list[bytes] = []
        after: str | None = None
        while True:
            page = await self.storage.list_items(tenant, run_id, "output", after=after, limit=1000, descending=False)
            if page is None:
                raise _not_found(run_id)
            found += [item.content for item in page.data]
            if not page.has_more:
                return found
            after = page.data[-1].id

    async def _outputs_of_dead(self, tenant: Tenant, run_id: str) -> list[bytes]:
        """The items that a client is shown of a response whose process died; empty for one that failed otherwise. They
        stand in its journal alone."""
        run = await self.find(run_id, tenant)
        if run.error_code != INTERRUPTED:
            return []
        members = jsonio.members(await self.response(run_id, tenant))
        return [bytes(item) for item in jsonio.elements(members["output"])]

    async def _remains(self, tenant: Tenant, run_id: str) -> Remains:
        """What is left of a run whose process died. Raises NotFound."""
        remains = Remains()
        place = 0
        try:
            while pieces := await self._read(tenant, run_id, place, PIECE_BYTES):
                for start, frames in pieces:
                    remains.feed(frames)
                    place = start + len(frames)
        except Deleted:
            raise _not_found(run_id) from None
        return remains

    async def _read(self, tenant: Tenant, run_id: str, place: int, limit: int) -> list[tuple[int, bytes]]:
        part = await self.storage.read_journal(tenant, run_id, after=place - 1, max_bytes=limit)
        if part is None:
            raise Deleted
        return [(one.first, one.frames) for one in part.segments]

    async def _has_ended(self, tenant: Tenant, run_id: str) -> bool:
        run = await self.storage.get_run(tenant, run_id)
        return run is None or run.status in ENDED

    async def _until_ended(self, tenant: Tenant, run_id: str) -> None:
        """Another process ends it."""
        with self.storage.watch(run_id) as watch, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                while not await self._has_ended(tenant, run_id):
                    await watch.changed()


async def _through_outages(read: Callable[P, Awaitable[T]], *args: P.args, **named: P.kwargs) -> T:
    """What `read` finds, for a client that has begun to read a stream."""
    waited_s = 0.0
    while True:
        try:
            return await read(*args, **named)
        except StorageUnavailable:
            if waited_s >= OUTAGE_S:
                raise
        await asyncio.sleep(OUTAGE_PAUSE_S)
        waited_s += OUTAGE_PAUSE_S


def _taken_apart(response: bytes) -> tuple[Status, list[Item], bytes]:
    """Status, output items, and the response object without them."""
    members = jsonio.members(response)
    status = jsonio.string(members["status"])
    outputs = [Item(_id_of(item), bytes(item)) for item in jsonio.elements(members["output"])]
    members["output"] = _NO_ITEMS
    return _STATUSES.get(status or "", "failed"), outputs, jsonio.encode(members)


def _id_of(item: msgspec.Raw) -> str:
    """The item's own id, or one of ours where the provider gave none by which it could be asked for."""
    members = jsonio.members(item)
    own = jsonio.string(members.get("id", jsonio.NULL))
    return own if own and len(own) <= ITEM_ID_LIMIT else new_item_id("item")


def _broken_off(dialect: str, last: bytes, error: TidegateError) -> bytes:
    """The frame that tells a client of a dialect without numbers that its stream was cut; empty where it had ended."""
    if last.rstrip().endswith(b"[DONE]") or b"event: message_stop" in last:
        return b""
    one = next(one for one in CLIENT_DIALECTS if one.name == dialect) if dialect != "gemini" else None
    body = google_error(error) if one is None else one.error_body(error, "")
    return sse.encode(body, b"error" if dialect == "messages" else b"")


def _interrupted(message: str) -> Internal:
    error = Internal(message)
    error.code = INTERRUPTED
    return error


def _not_found(run_id: str, dialect: str = "responses") -> NotFound:
    """In the official words, which know responses only."""
    if not dialect:
        return NotFound(f"Stream with id '{run_id}' not found.", param="stream_id")
    return NotFound(f"Response with id '{run_id}' not found.", param="response_id")


def _now() -> float:
    return time.time()
