"""The Responses stream against a small model of the grammar: whatever an upstream does, and whenever it stops."""

import json
from typing import Any

import openai
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from openai.lib.streaming.responses._responses import ResponseStreamState

from tests.dialects import common
from tests.dialects.common import destination, frame
from tidegate.dialects.dialect import Outcome
from tidegate.wire import sse

PART = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
WORDS = st.sampled_from(["潮", "汐", " tide", "🌊", "", "\n", '"', "é"])


class UpstreamAndClient(RuleBasedStateMachine):
    """The upstream's moves are the rules; the client reads along and holds every frame to the grammar."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = common.open_stream("responses")
        self.number = 0
        self.attempts = 1
        self.kinds: dict[int, str] = {}
        self.open: dict[int, str] = {}
        self.has_part: set[int] = set()
        self.texts: dict[int, str] = {}
        self.items: dict[int, dict[str, Any]] = {}
        self.odd = False
        # what the client has seen
        self.decoder = sse.FrameDecoder()
        self.seen: list[dict[str, Any]] = []
        self.told: dict[int, str] = {}
        self.accumulator: ResponseStreamState[Any] = ResponseStreamState(
            input_tools=openai.omit, text_format=openai.omit
        )

    # -- the upstream -----------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.stream.outcome is None

    def send(self, kind: str, **members: Any) -> None:
        data = {"type": kind, "sequence_number": self.number, **members}
        self.number += 1
        self.read(self.stream.feed(frame(data, "" if self.odd else kind)))

    @initialize(jump=st.booleans())
    def begin(self, jump: bool) -> None:
        self.number = 7 if jump else 0

    @precondition(lambda self: self.running)
    @rule(kind=st.sampled_from(["response.created", "response.queued", "response.in_progress"]))
    def announce(self, kind: str) -> None:
        self.send(kind, response={"id": "up_1", "status": "in_progress", "model": "tide-1"})

    @precondition(lambda self: self.running and len(self.kinds) < 6)
    @rule(kind=st.sampled_from(["message", "function_call", "reasoning", "web_search_call"]))
    def open_item(self, kind: str) -> None:
        at = len(self.kinds)
        self.kinds[at] = self.open[at] = kind
        self.texts[at] = ""
        self.send("response.output_item.added", output_index=at, item=self.item(at, "in_progress"))

    @precondition(lambda self: self.running and self.open)
    @rule(word=WORDS, choice=st.integers(0, 10))
    def say(self, word: str, choice: int) -> None:
        at = sorted(self.open)[choice % len(self.open)]
        where: dict[str, Any] = {"item_id": f"it_{at}", "output_index": at}
        match self.open[at]:
            case "message":
                if at not in self.has_part:
                    self.has_part.add(at)
                    self.send("response.content_part.added", **where, content_index=0, part=PART)
                self.send("response.output_text.delta", **where, content_index=0, delta=word, logprobs=[])
            case "function_call":
                self.send("response.function_call_arguments.delta", **where, delta=word)
            case "reasoning":
                if at not in self.has_part:
                    self.has_part.add(at)
                    part = {"type": "summary_text", "text": ""}
                    self.send("response.reasoning_summary_part.added", **where, summary_index=0, part=part)
                self.send("response.reasoning_summary_text.delta", **where, summary_index=0, delta=word)
            case _:
                self.send("response.web_search_call.searching", **where)
                return
        self.texts[at] += word

    @precondition(lambda self: self.running and self.open)
    @rule(choice=st.integers(0, 10))
    def close_item(self, choice: int) -> None:
        at = sorted(self.open)[choice % len(self.open)]
        self.items[at] = self.item(at, "completed")
        del self.open[at]
        self.send("response.output_item.done", output_index=at, item=self.items[at])

    def item(self, at: int, status: str) -> dict[str, Any]:
        head = {"id": f"it_{at}", "type": self.kinds[at]}
        text = self.texts[at]
        match self.kinds[at]:
            case "message":
                content = [{**PART, "text": text}] if at in self.has_part else []
                return {**head, "role": "assistant", "status": status, "content": content}
            case "function_call":
                return {**head, "call_id": f"call_{at}", "name": "f", "arguments": text, "status": status}
            case "reasoning":
                return {**head, "summary": [{"type": "summary_text", "text": text}] if at in self.has_part else []}
            case _:
                return {**head, "status": status, "action": {"type": "search", "query": "潮"}}

    @precondition(lambda self: self.running)
    @rule()
    def keep_alive(self) -> None:
        self.read(self.stream.feed(b": ping\n\n") + self.stream.ping())

    @precondition(lambda self: self.running)
    @rule()
    def forget_how_to_write_events(self) -> None:
        self.odd = True

    @precondition(lambda self: self.running)
    @rule(
        kind=st.sampled_from(["completed", "incomplete"]),
        output=st.sampled_from(["whole", None, []]),
        usage=st.booleans(),
    )
    def end(self, kind: str, output: Any, usage: bool) -> None:
        for at in sorted(self.open):
            self.items[at] = self.item(at, "completed")
            del self.open[at]
            self.send("response.output_item.done", output_index=at, item=self.items[at])
        said = [self.items[at] for at in sorted(self.items)] if output == "whole" else output
        counted = {"usage": {"input_tokens": 1, "output_tokens": 2}} if usage else {}
        self.send(f"response.{kind}", response={"id": "up_1", "status": kind, "output": said, **counted})
        assert self.stream.outcome == Outcome(kind)
        assert self.seen[-1]["response"]["output"] == [self.items[at] for at in sorted(self.items)]

    @precondition(lambda self: self.running)
    @rule(how=st.sampled_from(["error", "failed", "eof", "garbage", "cut"]))
    def break_off(self, how: str) -> None:
        match how:
            case "error":
                self.send("error", code="server_error", message="no")
            case "failed":
                self.send(
                    "response.failed", response={"status": "failed", "error": {"code": "server_error", "message": "no"}}
                )
            case "garbage":
                self.read(self.stream.feed(b"data: {oops\n\n"))
            case "eof":
                self.read(self.stream.eof())
            case _:
                self.read(self.stream.feed(b'event: x\ndata: {"type":'))
                self.read(self.stream.eof())
        found = self.stream.outcome
        assert found is not None
        assert found.error is not None
        if not self.stream.committed and self.attempts < 3:
            self.attempts += 1
            self.stream.outcome = None
            self.stream.attempt(destination(provider=f"spare-{self.attempts}"))
            self.number, self.odd = 0, False
        else:
            self.read(self.stream.fail(found.error))

    @precondition(lambda self: not self.running)
    @rule()
    def talk_on(self) -> None:
        assert (
            self.stream.feed(common.numbered({"type": "response.output_text.delta", "delta": "x"}, start=self.number))
            == b""
        )
        assert self.stream.eof() == b""

    # -- the client ---------------------------------------------------------------------------------------------------

    def read(self, out: bytes) -> None:
        for one in self.decoder.feed(out):
            if not one.data:
                continue
            event = json.loads(one.data)
            assert one.event.decode() == event["type"]
            typed = common.check_event(event)
            if event["type"] == "keepalive":
                assert event["sequence_number"] == len(self.seen) - 1
                continue
            assert event["sequence_number"] == len(self.seen)
            self.seen.append(event)
            if event["type"].endswith(".delta"):
                at = event["output_index"]
                self.told[at] = self.told.get(at, "") + event["delta"]
            self.accumulator.handle_event(typed)

    @invariant()
    def the_stream_begins_as_it_must(self) -> None:
        kinds = [event["type"] for event in self.seen[:2]]
        assert kinds == ["response.created", "response.in_progress"][: len(kinds)]
        assert not self.stream.committed or len(kinds) == 2

    @invariant()
    def nothing_is_late_and_nothing_is_lost(self) -> None:
        assert self.told == {at: text for at, text in self.texts.items() if at in self.told}
        assert all(not text or self.told[at] == text for at, text in self.texts.items())

    @invariant()
    def there_is_one_end_and_it_is_the_last(self) -> None:
        ends = [
            event["type"]
            for event in self.seen
            if event["type"] in ("response.completed", "response.incomplete", "response.failed")
        ]
        if self.running:
            assert not ends
        else:
            assert ends == [self.seen[-1]["type"]]
            assert self.seen[-1]["response"]["status"] == ends[0].removeprefix("response.")
            assert self.seen[-1]["response"]["usage"]["total_tokens"] >= 0


TestUpstreamAndClient = UpstreamAndClient.TestCase
TestUpstreamAndClient.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
