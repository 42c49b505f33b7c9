"""The encoder against the grammar: whatever a lawful provider says, in whatever order, and wherever it stops."""

import json
from typing import Any

import msgspec
import openai
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from openai.lib.streaming.responses._responses import ResponseStreamState

from tests.dialects import common
from tests.dialects.responses.client import encoder
from tests.support.api import Frame, read_frames
from tests.support.grammar import check_stream
from tidegate.wire import errors
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Finished,
    Laws,
    MediaDelta,
    MessageEnd,
    Opaque,
    Ping,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)

WORDS = st.sampled_from(["潮", "汐", " tide", "🌊", "", "\n", '"', "é", "\\"])
CITATION = msgspec.Raw(
    msgspec.json.encode({"type": "url_citation", "start_index": 0, "end_index": 1, "url": "u", "title": "t"})
)
SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "潮"}}
CHOICES = st.integers(0, 1)


class ProviderAndClient(RuleBasedStateMachine):
    """The provider's moves are the rules; events gather and are encoded in reads of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()
        self.laws = Laws()
        self.waiting: list[Event] = []
        self.ended_choices: set[int] = set()
        self.calls: dict[int, int] = {}
        self.next_call = 0
        self.opaque = 0
        self.thinking: set[int] = set()
        self.ended = False
        self.failed = False
        # what was said, and what the client has seen
        self.said: dict[str, str] = {}
        self.seen: list[dict[str, Any]] = []
        self.frames: list[Frame] = []
        self.accumulator: ResponseStreamState[Any] = ResponseStreamState(
            input_tools=openai.omit, text_format=openai.omit
        )

    # -- the provider -----------------------------------------------------------------------------------------------

    def say(self, event: Event) -> None:
        self.laws.check(event)
        self.waiting.append(event)

    def end_thought(self, choice: int, encrypted: str = "") -> None:
        if choice in self.thinking or encrypted:
            if choice not in self.thinking:
                self.say(MessageEnd(choice))
            self.thinking.discard(choice)
            self.say(ReasoningEnd(None, encrypted, choice))
            self.count("seals", encrypted[:1])

    def count(self, kind: str, text: str) -> None:
        self.said[kind] = self.said.get(kind, "") + text

    def is_open(self, choice: int) -> bool:
        return not self.ended and choice not in self.ended_choices

    @initialize()
    def begin(self) -> None:
        self.say(Started("tide-1"))

    @precondition(lambda self: not self.ended)
    @rule(word=WORDS, choice=CHOICES)
    def text(self, word: str, choice: int) -> None:
        if self.is_open(choice):
            self.end_thought(choice)
            self.say(TextDelta(word, choice))
            self.count(f"text{choice}", word)

    @precondition(lambda self: not self.ended)
    @rule(word=WORDS, choice=CHOICES)
    def refusal(self, word: str, choice: int) -> None:
        if self.is_open(choice):
            self.end_thought(choice)
            self.say(RefusalDelta(word, choice))
            self.count("refusal", "".join(sorted(word)))

    @precondition(lambda self: not self.ended)
    @rule(choice=CHOICES)
    def message_ends(self, choice: int) -> None:
        if self.is_open(choice):
            self.say(MessageEnd(choice))

    @precondition(lambda self: not self.ended)
    @rule(choice=CHOICES)
    def annotation(self, choice: int) -> None:
        if self.is_open(choice):
            self.say(Annotation(CITATION, choice))
            self.count("annotations", "x")

    @precondition(lambda self: not self.ended)
    @rule(word=WORDS, summary=st.booleans(), part=st.integers(0, 2), choice=CHOICES)
    def think(self, word: str, summary: bool, part: int, choice: int) -> None:
        if self.is_open(choice):
            if choice not in self.thinking:
                self.say(MessageEnd(choice))
            self.thinking.add(choice)
            self.say(ReasoningDelta(word, "summary" if summary else "text", part, choice))
            self.count(f"thought{choice}", word)

    @precondition(lambda self: not self.ended)
    @rule(encrypted=st.sampled_from(["", "tgr1_x"]), choice=CHOICES)
    def thought_ends(self, encrypted: str, choice: int) -> None:
        if self.is_open(choice):
            self.end_thought(choice, encrypted)

    @precondition(lambda self: not self.ended and self.next_call < 5)
    @rule(custom=st.booleans(), choice=CHOICES)
    def call(self, custom: bool, choice: int) -> None:
        if self.is_open(choice):
            self.end_thought(choice)
            self.calls[self.next_call] = choice
            self.say(ToolCallStart(self.next_call, f"call_{self.next_call}", "f", custom, "", choice))
            self.next_call += 1

    @precondition(lambda self: not self.ended and self.calls)
    @rule(word=WORDS, which=st.integers(0, 9))
    def arguments(self, word: str, which: int) -> None:
        index = sorted(self.calls)[which % len(self.calls)]
        self.say(ToolCallDelta(index, word))
        self.count(f"call_{index}", word)

    @precondition(lambda self: not self.ended and self.calls)
    @rule(which=st.integers(0, 9))
    def call_ends(self, which: int) -> None:
        index = sorted(self.calls)[which % len(self.calls)]
        del self.calls[index]
        self.say(ToolCallEnd(index))

    @precondition(lambda self: not self.ended and not self.ended_choices)
    @rule(image=st.booleans())
    def whole_item(self, image: bool) -> None:
        self.end_thought(0)
        if image:
            self.say(MediaDelta("image/webp", "aGk="))
        else:
            self.opaque += 1
            item = {**SEARCH, "id": f"ws_{self.opaque}"}
            self.say(Opaque("web_search_call", msgspec.Raw(msgspec.json.encode(item))))
        self.count("whole", "x")

    @precondition(lambda self: not self.ended)
    @rule(usage=st.booleans())
    def beside(self, usage: bool) -> None:
        self.say(UsageReport(Usage(1, 2)) if usage else Ping())

    @precondition(lambda self: not self.ended)
    @rule(choice=CHOICES, reason=st.sampled_from(["stop", "length", "content_filter", "tool_calls", "refusal"]))
    def choice_ends(self, choice: int, reason: Any) -> None:
        if self.is_open(choice):
            self.ended_choices.add(choice)
            self.end_thought(choice)
            self.say(ChoiceEnd(reason, choice))

    # -- the reads and the end ----------------------------------------------------------------------------------------

    @rule()
    def deliver(self) -> None:
        self.read(self.encoder.encode(self.waiting))
        self.waiting = []

    @precondition(lambda self: not self.ended)
    @rule()
    def silence(self) -> None:
        self.deliver()
        self.read(self.encoder.ping())

    @precondition(lambda self: not self.ended)
    @rule()
    def finish(self) -> None:
        for index in sorted(self.calls):
            self.say(ToolCallEnd(index))
        self.calls = {}
        for choice in (0, 1):
            if choice not in self.ended_choices:
                self.choice_ends(choice, "stop")
        self.ended = True
        self.say(Finished())
        self.deliver()

    @precondition(lambda self: not self.ended)
    @rule()
    def break_off(self) -> None:
        self.deliver()
        self.ended = self.failed = True
        self.read(self.encoder.fail(errors.UpstreamBroken("Provider 'lab': it broke.")))

    # -- the client ---------------------------------------------------------------------------------------------------

    def read(self, out: bytes) -> None:
        for frame in read_frames(out):
            if not frame.data:
                continue
            event = json.loads(frame.data)
            typed = common.check_event(event)
            if event["type"] == "keepalive":
                assert event["sequence_number"] == len(self.seen) - 1
                continue
            self.frames.append(frame)
            self.seen.append(event)
            self.accumulator.handle_event(typed)

    @invariant()
    def numbers_have_no_gap(self) -> None:
        assert [event["sequence_number"] for event in self.seen] == list(range(len(self.seen)))
        assert self.encoder.committed == (len(self.seen) > 2)

    @invariant()
    def no_word_waits(self) -> None:
        if not self.waiting:
            told: dict[str, str] = {}
            for event in self.seen:
                if event["type"].endswith(".delta"):
                    told[event["type"]] = told.get(event["type"], "") + event["delta"]
            said = sum(len(text) for kind, text in self.said.items() if kind not in ("annotations", "seals", "whole"))
            made = sum(event["type"].endswith("arguments.delta") and event["delta"] == "{}" for event in self.seen)
            assert sum(map(len, told.values())) == said + 2 * made

    @invariant()
    def the_end_is_whole(self) -> None:
        if not self.ended or self.waiting:
            return
        response = check_stream(self.frames)
        assert (response["status"] == "failed") == self.failed
        items = response["output"]
        incomplete = [item for item in items if item.get("status") == "incomplete"]
        if not self.failed:
            assert len(incomplete) <= 2, "at most one for each choice"
            assert not incomplete or response["status"] == "incomplete"
        parts = [part for item in items if item["type"] == "message" for part in item["content"]]
        assert sum(len(part.get("annotations", ())) for part in parts) == len(self.said.get("annotations", ""))
        shown = sum(len(part["text"]) for part in parts if part["type"] == "output_text")
        assert shown == sum(len(self.said.get(f"text{choice}", "")) for choice in (0, 1))
        whole = [item for item in items if item["type"] in ("web_search_call", "image_generation_call")]
        assert len(whole) == len(self.said.get("whole", ""))
        seals = [item for item in items if "encrypted_content" in item]
        assert len(seals) == len(self.said.get("seals", ""))


TestProviderAndClient = ProviderAndClient.TestCase
TestProviderAndClient.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
