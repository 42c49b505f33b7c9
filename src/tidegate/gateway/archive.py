"""What was kept, by its id: responses and streams are shown, followed, cancelled and deleted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec

from tidegate.dialects.profile import Profile
from tidegate.dialects.responses.interrupted import CODE as INTERRUPTED
from tidegate.dialects.responses.interrupted import Remains
from tidegate.dialects.responses.replay import replayed
from tidegate.dialects.resume import ResponsesResume, Resume
from tidegate.gateway.dialects import resumed
from tidegate.gateway.idempotency import not_stored
from tidegate.gateway.progress import Progress
from tidegate.gateway.recording import Recording
from tidegate.storage.records import ENDED, HistoryIncomplete, Page, StoredItem, StoredRun, Tenant
from tidegate.storage.storage import Storage
from tidegate.streams.follow import PIECE_BYTES, Deleted, Torn, follow, joined, replay
from tidegate.streams.run import Run
from tidegate.wire import jsonio
from tidegate.wire.errors import Internal, InvalidRequest, NotFound, OwnerSilent, StorageUnavailable, TidegateError

__all__ = ["LATE_S", "RESPONSE", "Archive", "interrupted"]

T = TypeVar("T")
P = ParamSpec("P")

LATE_S = 0.2
"""How long what another gateway has just answered may take to be found: it writes behind its answers."""

OUTAGE_S = 60.0
"""How long a stream that is being read waits for a database that fails. Then the connection breaks, without an ending."""

OUTAGE_PAUSE_S = 0.5
"""How often it asks meanwhile."""

CANCEL_S = 1.0
"""How long a cancelled run of another process may take to end, once that knows of it."""

RESPONSE = "resp_"
"""How the ids of responses begin; streams that are kept for their frames alone have others."""


class Archive:
    """One per process, of all that any process keeps."""

    def __init__(self, storage: Storage, running: Mapping[str, Recording], live: Mapping[str, Run]) -> None:
        """`running` are the answers that this process gives, by their ids, and `live` their frames."""
        self._storage = storage
        self._running = running
        self._live = live
        self._progress = Progress(self._read)

    async def find(self, run_id: str, tenant: Tenant, *, dialect: str = "") -> StoredRun:
        """A run; with a `dialect`, one that is kept whole and not for its frames alone. Raises NotFound in the official
        words (protocol §1.8)."""
        if dialect and not run_id.startswith(RESPONSE):
            raise _not_found(run_id)
        found = await self.patiently(partial(self._storage.get_run, tenant, run_id))
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
            self._storage.keep_answer(run, answer)  # whoever asks again must not read the whole journal
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
        members["status"] = jsonio.raw(run.status)
        return remains.so_far(jsonio.encode(members))

    async def frames(
        self, run: StoredRun, tenant: Tenant, resume: Resume, profile: Profile, quiet_s: float
    ) -> AsyncIterator[bytes]:
        """What `resume` gives of a run, to its end, also where another process writes it; after `quiet_s` of silence a
        keep-alive. A response that did not stream has the frames that it might have come in, in the client's `profile`.
        The first piece is empty: from then on the client can be told that there is a stream."""
        yield b""
        try:
            async for piece in self._pieces(run, tenant, resume, profile, quiet_s):
                yield piece
        except (Deleted, NotFound, Torn) as reason:
            error: TidegateError = NotFound("The stream was deleted while it was read.", code="stream_deleted")
            if isinstance(reason, Torn):
                error = _damaged(run)
            closing = resume.broken(error)
            if closing:
                yield closing

    async def _pieces(
        self, run: StoredRun, tenant: Tenant, resume: Resume, profile: Profile, quiet_s: float
    ) -> AsyncIterator[bytes]:
        """See `frames`. Raises Deleted, NotFound, and Torn."""
        run_id = run.ref.id
        read = partial(_through_outages, partial(self._read, tenant, run_id))
        live = self._live.get(run_id)
        if live is not None:
            async for piece in follow(read, live, resume, quiet_s):
                yield piece
            return
        with self._storage.watch(run_id) as watch:
            has_ended = partial(_through_outages, partial(self._has_ended, tenant, run_id))
            async for piece in replay(read, has_ended, watch.changed, resume, quiet_s):
                yield piece
        ended = await _through_outages(self.find, run_id, tenant)
        closing = b""
        if isinstance(resume, ResponsesResume):
            if not ended.stream:
                frames = replayed(await self.response(run_id, tenant), resume.after, profile)
                while made := await asyncio.to_thread(_some, frames):  # of a long answer it takes long
                    yield made
            elif ended.error_code == INTERRUPTED:
                closing = (await self._remains(tenant, run_id)).closing(ended.request, resume.after)
        elif ended.error_code == INTERRUPTED:
            closing = resume.broken(
                interrupted(f"{INTERRUPTED}: the gateway was stopped before the answer was complete.")
            )
        if closing:
            yield closing

    async def frames_of(self, run_id: str, tenant: Tenant, profile: Profile, quiet_s: float) -> AsyncIterator[bytes]:
        """All frames of a run that is to be repeated, as :meth:`frames`. Raises StorageUnavailable where it was not kept."""
        try:
            run = await self.find(run_id, tenant)
        except NotFound:
            raise not_stored() from None
        resume = resumed(run.dialect, None, run.begun, profile)
        async for piece in self.frames(run, tenant, resume, profile, quiet_s):
            yield piece

    async def cancel(self, run_id: str, tenant: Tenant) -> bytes:
        """End a background response; what it is now. One that has ended stays as it is. Raises OwnerSilent."""
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
                await self._storage.request_cancel(tenant, run_id)
                await self._until_ended(tenant, run_id)
        return await self.response(run_id, tenant)

    async def delete(self, run_id: str, tenant: Tenant, *, dialect: str = "") -> None:
        """Remove a run (see `find`) with all that belongs to it; one that goes on ends. Raises NotFound."""
        await self.find(run_id, tenant, dialect=dialect)
        recording = self._running.get(run_id)
        if recording is not None and recording.exchange is not None:
            recording.exchange.cancel()
        if not await self._storage.delete_run(tenant, run_id):
            raise _not_found(run_id, dialect)

    async def input_items(
        self, run_id: str, tenant: Tenant, *, after: str | None, limit: int, descending: bool
    ) -> Page[StoredItem]:
        """A page of what the response was asked with. Raises NotFound, and CursorUnknown for an unknown `after`."""
        await self.find(run_id, tenant, dialect="responses")
        try:
            page = await self._storage.list_items(
                tenant, run_id, "context", after=after, limit=limit, descending=descending
            )
        except HistoryIncomplete as hole:
            raise NotFound(
                f"What the response was asked with is not whole: '{hole.gone}' was deleted, and '{hole.following}' "
                "continues it.",
                param="response_id",
                code="previous_response_not_found",
            ) from None
        if page is None:
            raise _not_found(run_id)
        return page

    async def outputs_of_dead(self, tenant: Tenant, run_id: str) -> list[bytes]:
        """The items that a client is shown of a response whose process died; empty for one that failed otherwise. They
        stand in its journal alone."""
        run = await self.find(run_id, tenant)
        if run.error_code != INTERRUPTED:
            return []
        members = jsonio.members(await self.response(run_id, tenant))
        return [bytes(item) for item in jsonio.elements(members["output"])]

    async def patiently(self, read: Callable[[], Awaitable[T | None]]) -> T | None:
        """What another gateway has just answered may not be there yet: it is looked for twice."""
        found = await read()
        if found is None and await self._storage.has_neighbours():
            await asyncio.sleep(LATE_S)
            found = await read()
        return found

    def forget(self, run_id: str) -> None:
        """The run has ended: it is read as a whole from now on."""
        self._progress.forget(run_id)

    # -- inside -------------------------------------------------------------------------------------------------

    async def _outputs(self, tenant: Tenant, run_id: str) -> list[bytes]:
        found: list[bytes] = []
        after: str | None = None
        while True:
            page = await self._storage.list_items(tenant, run_id, "output", after=after, limit=1000, descending=False)
            if page is None:
                raise _not_found(run_id)
            found += [item.content for item in page.data]
            if not page.has_more:
                return found
            after = page.data[-1].id

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
        except Torn:
            return remains  # up to there
        return remains

    async def _read(self, tenant: Tenant, run_id: str, place: int, limit: int) -> list[tuple[int, bytes]]:
        part = await self._storage.read_journal(tenant, run_id, after=place - 1, max_bytes=limit)
        if part is None:
            raise Deleted
        if not part.segments and part.last_sequence is not None and part.last_sequence >= place:
            raise Torn
        return joined([(one.first, one.frames) for one in part.segments], place)

    async def _has_ended(self, tenant: Tenant, run_id: str) -> bool:
        run = await self._storage.get_run(tenant, run_id)
        return run is None or run.status in ENDED

    async def _until_ended(self, tenant: Tenant, run_id: str) -> None:
        """Another process ends it. Raises OwnerSilent where it has not by the time at which each process has looked."""
        lease_s = self._storage.settings.lease_s
        wait_s = self._storage.settings.look_s + CANCEL_S
        with self._storage.watch(run_id) as watch:
            try:
                async with asyncio.timeout(wait_s):
                    while not await self._has_ended(tenant, run_id):
                        await watch.changed()
            except TimeoutError:
                raise OwnerSilent(
                    f"The gateway that gives this answer has not reacted within {wait_s:.1f} s. It is asked to cancel; if it "
                    f"has died, the response ends as failed when its lease of {lease_s:g} s has run out.",
                    retry_after=lease_s,
                ) from None


def _some(frames: Iterator[bytes]) -> bytes:
    """The next of the frames, about as many as a piece of a journal holds; empty behind the last one."""
    taken: list[bytes] = []
    size = 0
    for frame in frames:
        taken.append(frame)
        size += len(frame)
        if size >= PIECE_BYTES:
            break
    return b"".join(taken)


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


def interrupted(message: str) -> Internal:
    """Why an answer has no ending of its own: its process died, or was taken for dead."""
    error = Internal(message)
    error.code = INTERRUPTED
    return error


def _damaged(run: StoredRun) -> Internal:
    message = "A part of this stream is missing in the database, and it ends where that begins."
    if run.dialect == "responses" and run.answer:
        message += f" The whole answer stands at GET /v1/responses/{run.ref.id}."
    return Internal(message, code="stream_damaged")


def _not_found(run_id: str, dialect: str = "responses") -> NotFound:
    """In the official words, which know responses only."""
    if not dialect:
        return NotFound(f"Stream with id '{run_id}' not found.", param="stream_id")
    return NotFound(f"Response with id '{run_id}' not found.", param="response_id")
