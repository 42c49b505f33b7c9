"""`Idempotency-Key`: a request that is sent twice runs once, and both get the same answer."""

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from tidegate.dialects.dialect import JSON
from tidegate.storage.news import POLL_S
from tidegate.storage.records import Claim as Taken
from tidegate.storage.records import Tenant
from tidegate.wire.errors import IdempotencyConflict, InvalidRequest, StorageUnavailable, TidegateError

if TYPE_CHECKING:
    from tidegate.gateway.downstream import Downstream
    from tidegate.gateway.keeper import Keeper

__all__ = ["KEPT_S", "Claim", "Claimed", "Claims", "Repeat", "claim_named", "not_stored", "take"]

KEPT_S = 24 * 3600.0
"""How long an answer can be had again, where nothing that is stored is removed earlier."""

LONGEST_PAUSE_S = 1.0
"""How often is asked at least whether the first request has its answer, where another gateway is giving it."""

_NAME = re.compile(rb"[\x21-\x7e]{1,255}")


class Claim(msgspec.Struct, frozen=True):
    """What a request asks for: `name` is the caller's key, `digest` what must be the same in every repetition."""

    tenant: Tenant
    key: str
    """The virtual key that the answer counts for."""
    name: str
    digest: bytes
    run_id: str
    streams: bool
    """Whether the client asked for a stream."""
    former: bytes = b""
    """The digest by which an earlier version may have taken the key for the same request: its keys hold for a day beyond
    an upgrade."""


class Repeat(msgspec.Struct, frozen=True):
    """What another request with this key has left: an answer in one body, or frames in the journal of a run."""

    run_id: str
    answer: bytes | None
    content_type: bytes = JSON


def claim_named(
    given: bytes,
    tenant: Tenant,
    key: str,
    address: str,
    body: bytes,
    run_id: str,
    *,
    streams: bool,
    dialect: str = "",
) -> Claim:
    """The claim that the header `given` makes. `address` is where `body` was sent: in some APIs it says what is asked for, and in
    the others there is one for each `dialect`, which stood in its place before. Raises InvalidRequest."""
    if not _NAME.fullmatch(given):
        raise InvalidRequest(
            "The header 'Idempotency-Key' must be 1 to 255 printable ASCII characters without spaces.",
            code="invalid_idempotency_key",
        )
    former = _digest(dialect, body) if dialect else b""
    return Claim(tenant, key, given.decode("ascii"), _digest(address, body), run_id, streams, former)


def _digest(where: str, body: bytes) -> bytes:
    return hashlib.sha256(where.encode() + b"\0" + body).digest()


def not_stored() -> StorageUnavailable:
    """Why there is nothing to repeat, though the first request was answered."""
    return StorageUnavailable(
        "The answer to the first request with this Idempotency-Key is not in store, and cannot be given again. "
        "Send the request with another key."
    )


class Claims:
    """The keys that requests of this process hold, whose answers have not begun. Who waits for one is told by the one who
    gives it, and asks the database nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, list[asyncio.Future[Repeat | None]]] = {}
        """By the id of the run."""

    def hold(self, run_id: str) -> None:
        """The run has its key."""
        self._waiting[run_id] = []

    def tell(self, run_id: str, repeat: Repeat | None) -> None:
        """What there is to repeat from now on; None where nothing came of the run."""
        for waiter in self._waiting.pop(run_id, ()):
            if not waiter.done():
                waiter.set_result(repeat)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._waiting

    async def wait(self, run_id: str) -> Repeat | None:
        """For a run that holds its key: what it is told."""
        waiter: asyncio.Future[Repeat | None] = self._loop.create_future()
        self._waiting[run_id].append(waiter)
        return await waiter


async def take(keeper: "Keeper", claim: Claim) -> Repeat | None:
    """None when the key was free and is this request's now; else what there is to repeat, as soon as there is.

    Raises IdempotencyConflict when the key stands for another request.
    """
    claims = keeper.claims
    pause = POLL_S
    found: Taken | None = None
    while True:
        if found is None:
            found = await keeper.storage.claim(
                claim.tenant,
                claim.name,
                digest=claim.digest,
                run_id=claim.run_id,
                kept_s=keeper.claims_kept_s,
                key=claim.key,
            )
        if found.is_new:
            claims.hold(claim.run_id)
            return None
        if found.digest not in (claim.digest, claim.former):
            raise IdempotencyConflict(
                f"The idempotency key '{claim.name}' was used for another request. Take a new key for a new request."
            )
        if found.run_id in claims:
            repeat = await claims.wait(found.run_id)
            if repeat is not None:
                return repeat
            found = None  # it was given back
            continue
        if found.status is not None and found.answer:
            content_type, _, answer = found.answer.partition(b"\n")
            return Repeat(found.run_id, answer, content_type)
        run = await keeper.storage.get_run(claim.tenant, found.run_id)
        if run is not None and run.stream and claim.streams:
            return Repeat(found.run_id, None)
        if run is not None and run.background:
            return Repeat(found.run_id, await keeper.archive.response(found.run_id, claim.tenant))
        if run is None and found.status is not None:
            again = await keeper.storage.look_at_claim(claim.tenant, claim.name)
            if again is not None and again.run_id == found.run_id:  # else it was deleted in between, with its key
                raise not_stored()
            found = again
            continue
        await asyncio.sleep(pause)  # it is under way elsewhere
        pause = min(2 * pause, LONGEST_PAUSE_S)
        found = await keeper.storage.look_at_claim(claim.tenant, claim.name)


class Claimed:
    """See :class:`tidegate.gateway.downstream.Downstream`: notes what the client is given, for those who ask again."""

    __slots__ = ("_claim", "_has_answer", "_keeper", "downstream", "ping", "write")

    def __init__(self, downstream: "Downstream", keeper: "Keeper", claim: Claim) -> None:
        self.downstream = downstream
        """The client itself."""
        self._keeper = keeper
        self._claim = claim
        self._has_answer = False
        self.write = downstream.write
        self.ping = downstream.ping

    def release(self) -> None:
        """Nothing came of it, or it was left in the middle, and nobody wants to have that again: the next one with this
        key runs."""
        claim = self._claim
        self._keeper.storage.release_claim(claim.tenant, claim.name, claim.run_id)
        self._keeper.claims.tell(claim.run_id, None)

    def start(self, fields: bytes, content_type: bytes, first: bytes) -> None:
        self._settle(b"", Repeat(self._claim.run_id, None))
        self.downstream.start(fields, content_type, first)

    def end(self, data: bytes = b"") -> None:
        self.downstream.end(data)

    def cut(self) -> None:
        self.downstream.cut()

    def drop(self) -> None:
        if not self._has_answer:
            self.release()
        self.downstream.drop()

    def respond(self, status: int, fields: bytes, body: bytes, content_type: bytes = JSON) -> None:
        self._settle(b"%b\n%b" % (content_type, body), Repeat(self._claim.run_id, body, content_type))
        self.downstream.respond(status, fields, body, content_type)

    def refuse(self, error: TidegateError, fields: bytes = b"") -> None:
        if not self._has_answer:
            self.release()
        self.downstream.refuse(error, fields)

    def _settle(self, answer: bytes, repeat: Repeat) -> None:
        claim = self._claim
        self._has_answer = True
        self._keeper.storage.settle_claim(claim.tenant, claim.name, claim.run_id, 200, answer)
        self._keeper.quota.add(claim.tenant, claim.key, len(answer))
        self._keeper.claims.tell(claim.run_id, repeat)
