"""The bare relay passes on what it gets: a yardstick that cheats would make everything beside it look dear."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import script
from bench.client import Load, ask
from bench.orders import StreamsOrder, TalksOrder
from bench.processes import Child, Cores
from bench.targets import Lab, start_upstream
from bench.workloads import stream_request, whole_request

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are pinned to cores as Linux does it")


class Relay:
    def __init__(self, stack: ExitStack) -> None:
        core = min(os.sched_getaffinity(0))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lab = Lab(ROOT, folder, Cores(core, core), stack)
        start_upstream(lab)
        argv = [sys.executable, "-m", "bench.relay", str(lab.plain)]
        self.child = stack.enter_context(Child(argv, core=core, cwd=str(ROOT)))
        self.port = int(self.child.read_line("listening").split()[1])
        self.load = Load(core, str(ROOT))
        stack.enter_context(self.load.child)


@pytest.fixture(scope="module")
def relay() -> Iterator[Relay]:
    with ExitStack() as stack:
        yield Relay(stack)


def test_an_answer_comes_as_the_upstream_wrote_it(relay: Relay) -> None:
    status, answer = ask(relay.port, whole_request("responses", "plain"))
    assert status == 200
    assert answer.encode().endswith(b"\r\n\r\n" + script.WHOLE["responses"])


def test_streams_flow_and_their_frames_say_when_they_were_written(relay: Relay) -> None:
    stream = stream_request("chat", "plain", "flow-20")
    report = relay.load.run(StreamsOrder(relay.port, stream, 5, 0.05, 0.3, relay.child.pids(), 0, 1))
    assert report.units > 20
    assert report.delay.count > 20
    assert report.cpu_s > 0


def test_a_stream_that_ends_leaves_the_connection_for_the_next(relay: Relay) -> None:
    report = relay.load.run(TalksOrder(relay.port, stream_request("chat", "plain", "talk-10-4"), 40, 0.1, 0.4))
    assert report.units > 5
    assert 0 < report.first.p50 <= report.first.longest
    # Three more chunks, 10 ms apart, and the ending; on a busy machine several come in one read.
    assert report.gap.count > report.units
