"""From a client's dialect to a provider's and back, through the canonical form.

Only for attempts whose provider speaks another dialect, or lacks something that is made up for here: a request in one
dialect that a provider speaks as well goes on as the client's own bytes, and never comes this way.
"""

from collections.abc import Iterable, Mapping

import msgspec

from tidegate.dialects.codec import BridgedRequest, Collector, Losses, StreamDecoder, StreamEncoder, UpstreamDialect
from tidegate.dialects.dialect import Answer, Call, Destination, Events, Outcome, Stream, estimated_usage
from tidegate.dialects.envelope import PREFIX, Envelopes
from tidegate.dialects.links import reachable, to_fetch, with_content
from tidegate.dialects.messages.decoder import MessagesDecoder
from tidegate.dialects.messages.encoder import MessagesEncoder
from tidegate.dialects.messages.relay import MessagesStream
from tidegate.dialects.messages.request import MessagesRequest
from tidegate.dialects.messages.upstream import going_on, with_content_before
from tidegate.dialects.names import with_names
from tidegate.dialects.responses.compacted import COMPACTION, Place, read_compaction, told
from tidegate.dialects.responses.encoder import ResponsesEncoder
from tidegate.dialects.responses.prompt import PromptRequest
from tidegate.dialects.responses.request import ResponsesRequest
from tidegate.dialects.responses.stream import ResponsesStream
from tidegate.dialects.responses.toolsearch import as_functions
from tidegate.dialects.shapes import placed
from tidegate.dialects.stops import StopFilter
from tidegate.dialects.terms import in_clients_terms
from tidegate.dialects.thoughts import without_torn
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    Paused,
    Ping,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Seal,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    estimate_tokens,
)
from tidegate.wire.items import CanonicalRequest, HostedTool, Item, Message, OpaqueItem, Reasoning, TextPart

__all__ = ["MOST_PAUSES", "Bridge", "BridgedStream", "Watch"]

_BEGINS = (ResponsesStream, ResponsesEncoder)
_CUT = frozenset({"length", "content_filter", "refusal"})
"""Reasons with which an answer is not complete."""
_SHOWN = Seal(kind="shown", data="")
_NO_USAGE = Usage()

MOST_PAUSES = 5
"""How often a provider that pauses is asked to go on with one answer. Anthropic's pauses after ten steps of its tools."""


class Bridge:
    """One request on its way to providers of other dialects: what it asks in canonical form, and for whom envelopes are
    opened and made."""

    def __init__(self, request: BridgedRequest, call: Call, envelopes: Envelopes) -> None:
        self._request: BridgedRequest | None = request
        self._call = call
        self._envelopes = envelopes
        self._speaks_responses = isinstance(request, PromptRequest)
        """Whether what is no envelope may be OpenAI's own: other clients' signatures are of other providers."""
        self._compaction_at: Place | None = request.compaction_at if isinstance(request, PromptRequest) else None
        self.signs_all = isinstance(request, MessagesRequest)
        """Whether the client's API knows no thought without a signature."""
        self._canonical: CanonicalRequest | None = None
        self._fetched: dict[str, str] = {}
        self.called: dict[str, str] = {}
        """The client's names of tools by those that the present provider has for them, where they differ."""
        self._stops: tuple[str, ...] = ()
        self._asked: CanonicalRequest | None = None
        self._dialect: UpstreamDialect | None = None
        self._ready: tuple[UpstreamDialect, Destination, tuple[bytes, tuple[str, ...]] | TidegateError] | None = None
        """What was prepared: for whom, and what is sent there, or why nothing can be."""
        self._body = b""
        """What was sent, where the provider may pause."""
        self._said: list[msgspec.Raw] = []
        """What it has said before it paused."""
        self._pauses = 0
        self._used = _NO_USAGE
        """What it has used up before that, where answers come in one body."""
        self.next_body = b""
        """What the provider has to be sent, so that it goes on; whoever sends it takes it away."""

    @property
    def used(self) -> Usage:
        """What the provider has used up before it paused, where answers come in one body."""
        return self._used

    @property
    def canonical(self) -> CanonicalRequest:
        """What the client asked for. Raises InvalidRequest for what no canonical form can hold."""
        if self._canonical is None:
            assert self._request is not None
            self._canonical = self._request.canonical()
        return self._canonical

    def check(self) -> None:
        """Find the caller's mistakes before anything is made of the request. Raises as `canonical` does."""
        self._canonical = self.canonical

    def media(self, destination: Destination) -> list[str]:
        """URLs whose content the provider wants in their place, each once. Raises as `canonical` does."""
        return [url for url in to_fetch(self.canonical, destination) if url not in self._fetched]

    def fetched(self, content: Mapping[str, str]) -> None:
        """Data URLs by the URLs that they were fetched from."""
        self._fetched.update(content)

    def prepare(self, dialect: UpstreamDialect, destination: Destination) -> None:
        """Do ahead what `media` and the next `forward` will be asked for. Of a long request that takes long, so that it may be
        done on another thread, while nobody else has to do with this bridge. What is wrong with the request they tell."""
        try:
            if not self.media(destination):
                self._ready = (dialect, destination, self._made(dialect, destination))
        except TidegateError as error:
            self._ready = (dialect, destination, error)

    def forward(self, dialect: UpstreamDialect, destination: Destination) -> tuple[bytes, tuple[str, ...]]:
        """The body for `destination`, which speaks `dialect`, and the names of what was left out.

        Raises InvalidRequest, and UnsupportedParameter for what the deployment cannot honour.
        """
        ready, self._ready = self._ready, None
        if ready is None or ready[0] is not dialect or ready[1] is not destination:
            return self._made(dialect, destination)
        if isinstance(ready[2], TidegateError):
            raise ready[2]
        return ready[2]

    def _made(self, dialect: UpstreamDialect, destination: Destination) -> tuple[bytes, tuple[str, ...]]:
        canonical = self.canonical
        losses = Losses(canonical, destination, allowed=destination.drops)
        items = self._for(destination, canonical.items, losses)
        if self._fetched:
            items = [with_content(item, self._fetched, destination) for item in items]
        items = reachable(items, canonical, destination, losses)
        asked = msgspec.structs.replace(canonical, model=destination.model, items=items)
        if destination.endpoint != "responses":
            asked = as_functions(asked, losses.hint)
        asked, self.called = with_names(asked, destination.endpoint)
        self._stops = ()
        if asked.stop and not _has_stop(destination):
            self._stops, asked.stop = asked.stop, ()
        self._asked = asked
        self._dialect = dialect
        try:
            body = dialect.encode_request(asked, destination, losses)
        except InvalidRequest:
            losses.check()  # without what is refused there may be nothing left to ask
            raise
        losses.check()
        if canonical.names.get("n", "n") in losses.dropped:
            asked.n = 1  # whoever reads the answer counts the choices
        if isinstance(self._request, ResponsesRequest):
            self._request.leave_out(losses.tools, losses.dropped)
        pauses = destination.endpoint == "messages" and any(isinstance(tool, HostedTool) for tool in asked.tools)
        self._body = body if pauses else b""
        self._said = []
        self._pauses = 0
        self._used = _NO_USAGE
        self.next_body = b""
        return body, placed(losses.dropped)

    def paused(self, events: list[Event]) -> list[Event]:
        """`events` without the pause in which they end. The provider is to go on (`next_body`), unless it has paused too
        often: then the answer is cut here."""
        *events, pause = events
        assert isinstance(pause, Paused)
        self._said = pause.content
        self._pauses += 1
        if not self._body or not self._said or self._pauses > MOST_PAUSES:
            return [*events, ChoiceEnd("length"), Finished()]
        self.next_body = going_on(self._body, self._said)
        return events

    def let_go(self) -> None:
        """No other attempt will come: a long prompt must not stay in memory as long as its answer streams."""
        self._request = None
        self._compaction_at = None
        self._canonical = None
        self._fetched.clear()
        if self._asked is not None:
            self._asked.items = []

    @property
    def crossed(self) -> bool:
        """Whether the present attempt is in another dialect."""
        return self._dialect is not None

    def leave(self) -> None:
        """The present attempt is in the client's own dialect."""
        self._dialect = None

    def open(self, native: Stream) -> "BridgedStream":
        """The stream towards the client; `native` relays the attempts that need no bridge."""
        return BridgedStream(self, native, self._call)

    def encoder(self) -> StreamEncoder:
        assert self._request is not None
        return self._request.encoder(self._call)

    def decoder(self, destination: Destination) -> StreamDecoder:
        assert self._dialect is not None
        assert self._asked is not None
        return self._dialect.decoder(destination, self._asked)

    def stop_filter(self) -> StopFilter | None:
        """What cuts the present attempt's answer where its provider has no `stop`."""
        if not self._stops:
            return None
        assert self._asked is not None
        return StopFilter(self._stops, choices=self._asked.n)

    def complete(self, body: bytes, destination: Destination) -> Answer | None:
        """The client's body for an answer that came as one (see `WholeRequest.complete`); None where the provider has
        paused."""
        assert self._dialect is not None
        assert self._asked is not None
        try:
            events = self._dialect.decode_answer(
                with_content_before(body, self._said) if self._said else body, destination, self._asked
            )
        except TidegateError as error:
            self.tell(error)
            raise
        if self._said:
            events = [
                UsageReport(self._used.plus(one.usage)) if isinstance(one, UsageReport) else one for one in events
            ]
        if isinstance(events[-1], Paused):
            events = self.paused(events)
            if self.next_body:
                self._used = next((one.usage for one in events if isinstance(one, UsageReport)), self._used)
                return None
        watch = Watch(self, destination, self._call)
        stops = self.stop_filter()
        if stops is not None:
            events = stops.feed(events)
            watch.count(stops.unsaid())
        collector = Collector()
        for event in watch.pass_on(events, ended=True):
            collector.add(event)
        output = collector.output()
        assert self._request is not None
        return Answer(self._request.encode_answer(output, self._call, destination), watch.usage(), watch.status)

    def tell(self, error: TidegateError) -> None:
        """Puts what the provider says of the present attempt's request into the client's terms."""
        if self._dialect is not None and self._asked is not None:
            in_clients_terms(error, self._dialect.name, self._asked)

    def sealed(self, seal: Seal, destination: Destination) -> str:
        """What the client gets of a seal. OpenAI's own encrypted content is sealed like all others: it fits only there."""
        return self._envelopes.seal(seal, provider=destination.provider, model=destination.model)

    def _for(self, destination: Destination, given: Iterable[Item], losses: Losses) -> list[Item]:
        """The items with what `destination` can read of envelopes. Raises InvalidRequest for a compaction item of which it
        can read nothing."""
        items: list[Item] = []
        broken: set[int] = set()
        compactions = 0
        for item in given:
            if isinstance(item, OpaqueItem) and item.type == COMPACTION and self._compaction_at is not None:
                items.append(self._unfolded(item, self._compaction_at(compactions), destination))
                compactions += 1
            elif (own := self._opened(item, destination, losses)) is not None:
                if isinstance(item, Reasoning) and self._is_broken(item):
                    broken.add(len(items))
                items.append(own)
        return without_torn(items, broken) if broken and destination.endpoint == "messages" else items

    def _is_broken(self, item: Reasoning) -> bool:
        """Whether nobody can tell any more whose thought it is."""
        return item.encrypted.startswith(PREFIX) and self._envelopes.read(item.encrypted) is None

    def _unfolded(self, item: OpaqueItem, at: tuple[str, str], destination: Destination) -> Item:
        """A compaction item, as its provider made it, or the message that any other model reads."""
        members = jsonio.members(item.value)
        seal = read_compaction(
            jsonio.string(members.get("encrypted_content", jsonio.NULL)), at, self._envelopes, destination
        )
        if seal.kind == "summary":
            return Message(role="user", content=[TextPart(text=told(seal.data))])
        return OpaqueItem(type=COMPACTION, value=jsonio.raw({**members, "encrypted_content": seal.data}))

    def _opened(self, item: Item, destination: Destination, losses: Losses) -> Item | None:
        """A reasoning item with what its envelope holds for this provider, and without what is another's (protocol §5.4).
        None for one that was only shown, where nobody reads its words: nothing is lost with it."""
        if not isinstance(item, Reasoning):
            return item
        if item.seal is not None and destination.endpoint != "gemini":  # a chat client had it from Google itself
            losses.hint("thought_signature")
            return None
        if not item.encrypted:
            return item
        seal: Seal | None = None
        if item.encrypted.startswith(PREFIX):
            seal = self._envelopes.open(item.encrypted, provider=destination.provider)
        elif self._speaks_responses and destination.endpoint == "responses" and destination.encrypted_reasoning:
            seal = Seal(kind="encrypted", data=item.encrypted)
        if seal is not None and seal.kind == "shown":
            words = item.content or item.summary
            return Reasoning(content=words, id=item.id) if destination.reads_thoughts else None
        if seal is not None and seal.kind == "summary":
            seal = None  # what stands for a conversation is no thought
        if seal is None:
            losses.hint("reasoning.encrypted_content")
        return msgspec.structs.replace(item, encrypted="", seal=seal)


class Watch:
    """Looks at the events of an answer as they pass: seals reasoning, keeps usage and the true status."""

    __slots__ = (
        "_bridge",
        "_bytes",
        "_call",
        "_counted",
        "_destination",
        "_thought",
        "_usage",
        "failure",
        "finished",
        "status",
    )

    def __init__(self, bridge: Bridge, destination: Destination, call: Call) -> None:
        self._bridge = bridge
        self._destination = destination
        self._call = call
        self._bytes = 0
        self._counted = 0
        """Those that had come before the last report of the provider."""
        self._thought = False
        """There are words in the reasoning that is open."""
        self._usage: Usage | None = None
        self.status = "completed"
        self.finished = False
        self.failure: TidegateError | None = None

    @property
    def provider(self) -> str:
        return self._destination.provider

    def count(self, text: str) -> None:
        self._bytes += len(text) if text.isascii() else len(text.encode())

    def usage(self) -> Usage:
        """The provider's figures. Of an answer that is not over they are those so far, and an estimate of what came behind
        them; a prompt of which it counted nothing is estimated."""
        told = self._usage
        if told is None:
            return estimated_usage(self._call, self._bytes)
        whole = not told.estimated and (self.finished or self._bytes == self._counted)
        if whole and told.input_tokens:
            return told
        since = 0 if whole else estimate_tokens(self._bytes - self._counted)
        prompt = told.input_tokens or self._call.prompt_tokens()
        return msgspec.structs.replace(
            told, input_tokens=prompt, output_tokens=told.output_tokens + since, estimated=True
        )

    def report(self) -> UsageReport:
        """All that the client's answer has used."""
        return UsageReport(self.usage())

    def pass_on(self, events: Iterable[Event], *, ended: bool = False) -> list[Event]:
        """`events` for the encoder: usage before the ending, and no failure among them. `ended`: no more will come, and
        what is whole without an ending ends here."""
        out: list[Event] = []
        for event in events:
            match event:
                case TextDelta(text=text) | RefusalDelta(text=text) | ToolCallDelta(text=text):
                    self.count(text)
                case ReasoningDelta(text=text):
                    self.count(text)
                    self._thought = self._thought or bool(text)
                case ReasoningEnd(seal=seal):
                    if seal is None and self._thought and self._bridge.signs_all:
                        seal = _SHOWN
                    self._thought = False
                    if seal is not None:
                        event = ReasoningEnd(None, self._bridge.sealed(seal, self._destination), event.choice)
                case ToolCallStart(name=name) if name in self._bridge.called:
                    event = msgspec.structs.replace(event, name=self._bridge.called[name])
                case UsageReport(usage=usage):
                    self._usage = usage
                    self._counted = self._bytes
                    if usage.estimated:
                        continue  # of the output nothing is counted yet
                    if not usage.input_tokens:
                        event = self.report()
                case ChoiceEnd(reason=reason) if reason in _CUT:
                    self.status = "incomplete"
                case Failed(error=error):
                    self._bridge.tell(error)
                    self.failure = error
                    return out
                case Ping():
                    continue  # the client is told of silence when it is silent, not when the provider is
                case Finished():
                    self.finished = True
                    if self._usage is None or self._usage.estimated:
                        out.append(UsageReport(self.usage()))
                case _:
                    pass
            out.append(event)
        if ended and not self.finished:
            if self._usage is None or self.usage().estimated:
                out.append(UsageReport(self.usage()))
            self.finished = True
            out.append(Finished())
        return out


class BridgedStream(Events):
    """See :class:`tidegate.dialects.dialect.Stream`. Each attempt either goes through the native stream of the client's
    dialect, or is decoded and encoded anew."""

    __slots__ = (
        "_bridge",
        "_call",
        "_decoder",
        "_encoder",
        "_held",
        "_native",
        "_stops",
        "_watch",
        "content_type",
        "outcome",
    )

    def __init__(self, bridge: Bridge, native: Stream, call: Call) -> None:
        self._bridge = bridge
        self._native = native
        self.content_type = native.content_type
        self._encoder: StreamEncoder | None = None
        """None until an attempt needs it: it holds what it will repeat of the request."""
        self._call = call
        self._held = b""
        """Frames of a read that ended in failure before commit: they go out before whatever comes next."""
        self._decoder: StreamDecoder | None = None
        """None while the attempt is the native stream's."""
        self._stops: StopFilter | None = None
        self._watch: Watch | None = None
        self.outcome: Outcome | None = None

    @property
    def committed(self) -> bool:
        return self._native.committed or (self._encoder is not None and self._encoder.committed)

    @property
    def cut(self) -> bool:
        """The answer was ended here, at a stop sequence, and not by the provider."""
        return self._decoder is not None and self._stops is not None and self._stops.cut

    def attempt(self, destination: Destination) -> None:
        if self._decoder is not None:
            self._hand_over(self._encoder, self._native)
        self.outcome = None
        self._decoder = None
        self._native.outcome = None
        self._native.attempt(destination)

    def attempt_bridged(self, destination: Destination) -> None:
        """The same for an attempt whose request `Bridge.forward` has made."""
        if self._encoder is None:
            self._encoder = self._bridge.encoder()
        if self._decoder is None:
            self._hand_over(self._native, self._encoder)
        self.outcome = None
        self._decoder = self._bridge.decoder(destination)
        self._stops = self._bridge.stop_filter()
        self._watch = self._watching(destination)
        self._encoder.attempt(destination)

    def _watching(self, destination: Destination) -> Watch:
        return Watch(self._bridge, destination, self._call)

    def feed(self, data: bytes) -> bytes:
        decoder = self._decoder
        if decoder is None:
            return self._of_native(self._native.feed(data))
        events = decoder.feed(data)
        if len(events) == 1:  # not the first, with which what is held goes out
            event = events[0]
            encoder, watch = self._encoder, self._watch
            if type(event) is TextDelta and self._stops is None and encoder is not None and watch is not None:
                watch.count(event.text)
                try:
                    return encoder.encode(events)
                except WireError:
                    return self._relay(events)
        return self._relay(events)

    def eof(self) -> bytes:
        if self._decoder is None:
            return self._of_native(self._native.eof())
        return self._relay(self._decoder.eof())

    def finish(self) -> bytes:
        if self._decoder is None:
            return self._of_native(self._native.finish())
        self._take_figures()  # of what comes with the end nothing is heard if it is none
        events = self._decoder.eof()
        return self._relay(events) if events and isinstance(events[-1], Finished) else b""

    def ping(self) -> bytes:
        encoder = self._encoder
        return self._native.ping() if self._decoder is None or encoder is None else encoder.ping()

    def tell_pings(self, passing: list[bytes]) -> None:
        self._native.tell_pings(passing)

    def fail(self, error: TidegateError) -> bytes:
        self.outcome = Outcome("failed", error)
        encoder = self._encoder
        if self._decoder is None or encoder is None:
            return self._native.fail(error)
        held, self._held = self._held, b""
        self._take_figures()
        if self._watch is not None:
            encoder.encode([self._watch.report()])
        return held + encoder.fail(error)

    def usage(self) -> Usage:
        if self._watch is None or self._decoder is None:
            return self._native.usage()
        self._take_figures()
        return self._watch.usage()

    def _take_figures(self) -> None:
        """Have the watch hear those that no event has yet."""
        if self._watch is not None and self._decoder is not None:
            self._watch.pass_on(self._decoder.unreported())

    def _of_native(self, out: bytes) -> bytes:
        self.outcome = self._native.outcome
        if self._held and out:
            out, self._held = self._held + out, b""
        return out

    def _relay(self, events: list[Event]) -> bytes:
        watch, encoder = self._watch, self._encoder
        assert watch is not None
        assert encoder is not None
        assert self._decoder is not None
        if not events or self.outcome is not None:
            return b""
        if isinstance(events[-1], Paused):
            events = self._bridge.paused(events)
        if self._stops is not None:
            events = self._stops.feed([*events, *self._decoder.unreported()])
            watch.count(self._stops.unsaid())
        try:
            out = encoder.encode(watch.pass_on(events, ended=self._stops is not None and self._stops.cut))
        except WireError as error:  # more than an answer may hold
            watch.failure = UpstreamBroken(f"Provider '{watch.provider}': {error}.")
            out = b""
        if self._held:
            out, self._held = self._held + out, b""
        if watch.failure is not None:
            self.outcome = Outcome("failed", watch.failure)
            if not encoder.committed:
                self._held = out
                return b""
        elif watch.finished:
            self.outcome = Outcome(watch.status)
        elif self._bridge.next_body:
            assert isinstance(self._decoder, MessagesDecoder)
            self._decoder.go_on()
        return out

    def _hand_over(self, last: object, next_: object) -> None:
        """What an attempt has begun without commit, the next one goes on with: Responses and Messages have such frames."""
        if isinstance(last, _BEGINS) and isinstance(next_, _BEGINS):
            begun = last.hand_over()
            held, self._held = self._held, b""
            next_.go_on(msgspec.structs.replace(begun, held=held + begun.held))
        elif isinstance(last, MessagesEncoder) and isinstance(next_, MessagesStream) and last.begun:
            next_.go_on()  # also where it is still held: then it goes out before the relay's first frame


def _has_stop(destination: Destination) -> bool:
    """Whether the deployment takes stop sequences by whatever name its dialect has for them."""
    return destination.endpoint != "responses" and "stop" not in destination.refuses
