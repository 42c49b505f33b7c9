"""What is allowed: one answer, held against what its providers really said."""

from typing import Final
from urllib.parse import unquote

from tests.chaos.book import Book, Record
from tests.chaos.caller import Answer
from tests.chaos.dialect import Said
from tests.chaos.fault import Fault, Truth
from tests.chaos.provider import CALLS
from tests.chaos.truth import truth
from tests.chaos.world import Seen, World
from tidegate.sim import SimRequest
from tidegate.sim.claims import Claim, claim_in

__all__ = ["CLOSED_WITHIN_S", "Judge", "claims"]

CLOSED_WITHIN_S: Final = 2.0
"""How soon a provider must see that its client has left: a second is promised, another is this machine's."""

CLOCK_S: Final = 0.003

SLOW_S: Final = 2.0
"""A little less than the total clock of every provider."""

_KINDS: Final[dict[Truth, frozenset[str]]] = {
    "completed": frozenset({"completed"}),
    "incomplete": frozenset({"incomplete"}),
    "failed": frozenset({"failed", "error"}),
    "broken": frozenset({"failed", "error"}),
}

_AMBIGUOUS: Final[dict[str, frozenset[str]]] = {
    # Whether an answer under another name is believed is the gateway's choice; that it is whole or an error is not.
    "odd type": frozenset({"completed", "error"}),
}

_MISTAKES: Final = frozenset({"internal_error"})


class Judge:
    """Judges for one run."""

    def __init__(self, world: World, book: Book) -> None:
        self._world = world
        self._book = book

    def answer(self, record: Record, said: Said, seen: list[tuple[str, Seen]], text: str) -> None:
        """A whole answer, or what counts as one."""
        book, step = self._book, record.step
        record.kind, record.code = said.kind, said.code
        record.attempts = sum(bool(one.written) for _, one in seen)
        if step.fault.truth is None:
            record.claim = claims(seen)
        book.reach(f"ending {said.kind}", f"api {record.api}{' stream' if record.stream else ''}")
        if said.code in _MISTAKES or said.code.startswith("internal"):
            book.wrong("a mistake of the gateway's", record)
        if len(seen) > 1:
            same = [f"{name} {_model(one)}" for name, one in seen]
            book.reach("retry" if same[-1] == same[-2] else "fallback")
        if said.kind == "cut":
            if not (record.shaken or (record.api == "speech" and not record.stream)):
                book.wrong("the answer has no ending", record)
            return
        if record.shaken and said.kind in ("failed", "error"):
            return
        last = seen[-1][1].started_at if seen else 0.0
        # What came within the clock's tick may stand in another order.
        ends = [one for one in seen if one[1].started_at > last - CLOCK_S]
        found: set[Truth] = {self._truth(step.fault, request) for _, request in ends} or {"failed"}
        allowed = _AMBIGUOUS.get(step.fault.name) or frozenset().union(*(_KINDS[one] for one in found))
        if said.kind not in allowed and not self._excused(said, ends):
            what = ", ".join(f"{name} ({_model(one)})" for name, one in seen) or "nobody"
            book.wrong(f"its client was told {said.kind} ({said.code}), while {what} had said {found}", record)
        self._text(record, said, text)

    def _truth(self, fault: Fault, request: Seen) -> Truth:
        if fault.truth is not None and fault.options.partition("&")[0] in unquote(_model(request)):
            return fault.truth
        return truth(bytes(request.written))

    def _excused(self, said: Said, ends: list[tuple[str, Seen]]) -> bool:
        """A provider that went away took with it what it had said; and one that took as long as the total clock allows may
        have said the last of it just as that ran out."""
        if said.kind not in ("failed", "error"):
            return False
        if any(request.finished_at and request.finished_at - request.started_at > SLOW_S for _, request in ends):
            return True
        return any(name == "tide" and self._world.was_away(request.started_at) for name, request in ends)

    def _text(self, record: Record, said: Said, text: str) -> None:
        step = record.step
        if record.api in ("speech", "embeddings") or step.fault.name in (
            "odd type",
            "unknown event",
            "more behind the end",
        ):
            return
        script = step.fault.options
        if script in CALLS:
            told = [call or "{}" for call in said.calls]  # in chat no arguments may be an empty text
            if said.kind == "completed" and told != CALLS[script]:
                self._book.wrong(f"calls with {said.calls} in place of {CALLS[script]}", record)
            return
        whole = said.kind == "completed"
        if whole and said.text != text:
            self._book.wrong(f"the text is {said.text!r} in place of {text!r}", record)
        elif not whole and said.kind != "error" and not _begins(said.text, text, step.fault):
            self._book.wrong(f"the text {said.text!r} is no beginning of {text!r}", record)

    def left(self, record: Record, answer: Answer, seen: list[tuple[str, Seen]]) -> None:
        """The client has gone: so must the call to the provider be."""
        self._book.reach("client left")
        record.claim = claims(seen)
        for name, request in seen:
            if request.finished_at is not None or (name == "tide" and self._world.was_away(request.started_at)):
                continue
            closed = request.closed_by_peer_at
            if closed is None:
                self._book.wrong(f"{name} still talks to a client that has left", record)
            elif closed - answer.ended_at > CLOSED_WITHIN_S and not record.shaken:
                self._book.wrong(f"{name} was left {closed - answer.ended_at:.2f} s after the client had gone", record)


def _begins(said: str, text: str, fault: Fault) -> bool:
    if fault.name == "endless":  # one piece again and again
        return True
    return text.startswith(said)


def _model(request: Seen) -> str:
    """The name by which the provider was asked."""
    if isinstance(request, SimRequest) and request.upload is not None:
        return request.upload.field("model") or ""
    body = bytes(request.body)
    _, found, rest = body.partition(b'"model":')
    if found:
        return rest.lstrip().partition(b'"')[2].partition(b'"')[0].decode("utf-8", "replace")
    return request.path.partition("/models/")[2]


def claims(seen: list[tuple[str, Seen]]) -> Claim | None:
    """What providers said that one request used; None if none said anything."""
    found = [one for one in (claim_in(bytes(request.written)) for _, request in seen) if one is not None]
    if not found:
        return None
    total = Claim()
    for one in found:
        total = total.plus(one)
    return total
