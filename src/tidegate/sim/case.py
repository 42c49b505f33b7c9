"""Case: one request on its way to an answer, as the faults see it."""

import msgspec

from tidegate.sim.options import Options
from tidegate.sim.prompt import Prompt
from tidegate.sim.sse import Stream
from tidegate.sim.stamp import Stamp


class Case(msgspec.Struct, kw_only=True):
    """`stream` is None if the answer is not streamed."""

    prompt: Prompt
    options: Options
    stamp: Stamp
    stream: Stream | None
    reused: bool
    """Whether the connection has answered a request before."""

    @property
    def after(self) -> int:
        if self.options.after is not None:
            return self.options.after
        return self.stream.to_content if self.stream is not None else 1

    def sequence(self, at: int) -> int:
        """The sequence number that an event at position `at` would have."""
        events = self.stream.events[:at] if self.stream is not None else []
        numbers = [event.data.get("sequence_number") for event in events if isinstance(event.data, dict)]
        return max((number for number in numbers if isinstance(number, int)), default=-1) + 1
