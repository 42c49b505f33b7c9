"""What the gateway keeps of answers, decided as requests come; and the answers that are being given."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence

import msgspec

from tidegate.access.keys import Principal
from tidegate.config.schema import Storage as Settings
from tidegate.dialects.dialect import AnyRequest, Call
from tidegate.dialects.gemini.request import GeminiRequest
from tidegate.dialects.gemini.resume import ARRAY
from tidegate.dialects.responses.prompt import PromptRequest
from tidegate.dialects.responses.request import ResponsesRequest
from tidegate.dialects.responses.state import Kept, References
from tidegate.gateway.archive import Archive, interrupted
from tidegate.gateway.history import History, look_up
from tidegate.gateway.idempotency import KEPT_S as CLAIM_KEPT_S
from tidegate.gateway.idempotency import Claim, Claims, Repeat, claim_named, take
from tidegate.gateway.ids import IdSupply
from tidegate.gateway.quota import Quota
from tidegate.gateway.recording import Recording, new_item_id
from tidegate.gateway.snapshot import Path
from tidegate.gateway.tenant import tenant_of
from tidegate.storage.records import Item, NewRun, Tenant
from tidegate.storage.records import Run as StoredWriter
from tidegate.storage.storage import Storage
from tidegate.streams.journal import Journal
from tidegate.streams.run import Run
from tidegate.wire.errors import UnsupportedParameter

__all__ = ["NOTHING", "Keeper", "Plan"]

GRACE_KEPT_S = 3600.0
"""How long a stream stays readable that was kept only for a client that may come back."""


_REPEATABLE = frozenset({"chat", "completions", "messages", "gemini", "embeddings"})
"""Endpoints, beside Responses, whose streams can be picked up again and whose requests can be repeated: those with
answers in text."""

_stream_ids = IdSupply(b"strm_", 24, dated=True)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of an answer, beside going to its client."""

    run: Recording | None = None
    references: References | None = None
    """What must be found before there can be an answer."""
    claim: Claim | None = None
    """The idempotency key that must be free."""
    quota_of: str = ""
    """The key whose quota must have room, once it is known that the request runs: a repetition stores nothing."""
    background: bool = False
    grace_s: float = 0.0


NOTHING = Plan()
"""Nothing is kept, and nothing looked up."""


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
        self.archive = Archive(storage, self._running, self.journal.runs)
        storage.on_cancel = self._on_cancel
        storage.on_taken = self._on_taken

    @staticmethod
    def now() -> float:
        """Unix time in seconds."""
        return time.time()

    # -- a request comes ----------------------------------------------------------------------------------------

    def may_keep(self, request: AnyRequest, headers: Mapping[bytes, bytes], grace_s: float | None) -> bool:
        """Whether there may be anything to keep or to look up: see :meth:`plan`, which knows."""
        return (
            (isinstance(request, PromptRequest) and request.asks_for_state)
            or b"idempotency-key" in headers
            or bool(self._grace_s if grace_s is None else grace_s)
        )

    def plan(
        self,
        request: AnyRequest,
        headers: Mapping[bytes, bytes],
        body: bytes,
        call: Call,
        principal: Principal,
        dialect: str,
        address: str,
        model: str,
        paths: Sequence[Path],
        grace_s: float | None,
    ) -> Plan:
        """What is to be kept of the answer, and what must be looked up for it. `address` is what was asked beside the body;
        `grace_s` what the client asks for, if anything. Raises InvalidRequest, and StorageUnavailable where there is no room
        for what must be kept."""
        key = headers.get(b"idempotency-key")
        is_prompt = isinstance(request, PromptRequest)
        if grace_s is None:
            grace_s = self._grace_s
        if is_prompt and not all(path.destination.gateway_state for path in paths):
            return NOTHING  # the provider holds the state
        quota_of = "" if key is None else principal.key_id
        if not isinstance(request, ResponsesRequest):
            endpoint = dialect.replace(":", "/").partition("/")[0]  # what is behind is an operation
            if endpoint not in _REPEATABLE and not is_prompt:
                return NOTHING
            run: Recording | None = None
            if isinstance(request, GeminiRequest) and request.is_array:
                dialect = ARRAY
            if request.wants_stream and (grace_s or key is not None):
                run = self._stream_only(principal, dialect, model, paths, is_claimed=key is not None)
            claim = None
            if key is not None:
                own = "" if ":" in address else dialect  # such an address, of Google's API, names the model
                claim = self._claim(key, principal, address, body, call, run, own, streams=request.wants_stream)
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
            claim = self._claim(key, principal, address, body, call, run, dialect, streams=bool(typed.stream))
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
        if plan.references is None:
            return None
        found = await look_up(self.storage, self.archive, plan.references, tenant)
        if plan.run is not None:
            plan.run.build_on(found)
        return found

    @staticmethod
    def _claim(
        key: bytes,
        principal: Principal,
        address: str,
        body: bytes,
        call: Call,
        run: Recording | None,
        dialect: str,
        *,
        streams: bool,
    ) -> Claim:
        run_id = call.response_id if run is None else run.public_id
        tenant = tenant_of(principal)
        return claim_named(key, tenant, principal.key_id, address, body, run_id, streams=streams, dialect=dialect)

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
            background=bool(request.typed.background),
            created_at=self.now(),
            kept_s=self._retention_s,
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
            kept_s=self.claims_kept_s if is_claimed else self._graces_kept_s,
        )
        return Recording(self, new, (), None)

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
        self.archive.forget(recording.public_id)

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
            recording.exchange.stop(interrupted("the gateway was taken for dead, and the answer was ended."))
