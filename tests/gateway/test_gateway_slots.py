"""So much at once and no more: slots of a provider, the queue before them, and who is none the wiser."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.api import Api, Reply
from tests.support.deployment import ANSWER, Deployment, error, fine, labelled
from tests.support.raw import Raw, post
from tests.support.running import Running, wait_for

CHAT = "/v1/chat/completions"
BODY = b'{"model":"first/m","messages":[{"role":"user","content":"x"}]}'


class Held:
    """Answers that wait until they are let go, and how many of them there were at once."""

    def __init__(self) -> None:
        self._gates: list[threading.Event] = []
        self._lock = threading.Lock()
        self._over = False
        self.now = 0
        self.most = 0

    def __call__(self, number: int, credential: str) -> bytes:
        gate = threading.Event()
        with self._lock:
            if self._over:
                return ANSWER
            self._gates.append(gate)
            self.now += 1
            self.most = max(self.most, self.now)
        gate.wait(20)
        with self._lock:
            self.now -= 1
        return ANSWER

    def let_go(self, count: int = 1000, *, over: bool = False) -> None:
        """The first `count` of them; `over`: those who come later are not held, either."""
        with self._lock:
            self._over = over
            gates, self._gates = self._gates[:count], self._gates[count:]
        for gate in gates:
            gate.set()


class Bench:
    """A gateway before one provider that is held, and another that is not."""

    def __init__(self, api: Api, held: Held, first: Deployment, second: Deployment, pool: ThreadPoolExecutor) -> None:
        self.api = api
        self.held = held
        self.first = first
        self.second = second
        self._pool = pool

    def ask(self, model: str = "first/m", **headers: str) -> "Future[Reply]":
        return self._pool.submit(lambda: self.api.ask("chat", model, headers=headers))

    def requests(self, state: str) -> int:
        return int(labelled(self.api, f'tidegate_provider_requests{{provider="first",state="{state}"}}'))

    def stands_at(self, running: int, waiting: int) -> bool:
        return (self.requests("running"), self.requests("waiting")) == (running, waiting)

    def knows_first(self, known: bool) -> bool:
        return (b'tidegate_provider_requests{provider="first"' in self.api.get("/metrics").content) is known

    def turned_away(self, reason: str) -> int:
        return int(labelled(self.api, f'tidegate_turned_away_total{{provider="first",reason="{reason}"}}'))

    def fill(self, running: int, waiting: int) -> "list[Future[Reply]]":
        """So many requests under way at the first provider, and so many behind them."""
        asked = []
        for number in range(running + waiting):
            asked.append(self.ask())
            now = (min(number + 1, running), max(0, number + 1 - running))
            assert wait_for(partial(self.stands_at, *now)), now
        assert wait_for(lambda: self.held.now == running)
        return asked


@contextmanager
def bench(settings: str, more: str = "", path: Path | None = None) -> Iterator[Bench]:
    held = Held()
    with (
        Deployment(held) as first,
        Deployment(fine) as second,
        Running(
            f"[server]\nport = 0\n[routing]\neject_after = 0\nretries = 0\n{first.toml('first', more=settings)}"
            f"{second.toml('second')}"
            '[models.a]\ntarget = "first/m"\nfallback = ["second/m"]\n'
            '[models.b]\ntargets = [{ model = "first/m", weight = 9999 }, { model = "second/m" }]\n' + more,
            path=path,
        ) as gateway,
        Api(gateway) as api,
        ThreadPoolExecutor(64) as pool,
    ):
        try:
            yield Bench(api, held, first, second, pool)
        finally:
            held.let_go(over=True)


@pytest.mark.fault("FAULT-POOL")
def test_one_that_waits_is_one_request() -> None:
    with bench('max_concurrent = 1\nqueue = 1\nqueue_timeout = "10s"') as there:
        there.fill(1, 1)
        told = there.ask().result(5).error["message"]
        assert (
            "has 1 request under way, as many as it may have (providers.first.max_concurrent), and 1 waits for it;"
            in told
        )


@pytest.mark.fault("FAULT-POOL")
def test_what_is_over_waits_for_its_turn_and_what_is_over_that_is_turned_away() -> None:
    with bench('max_concurrent = 2\nqueue = 2\nqueue_timeout = "10s"') as there:
        asked = there.fill(2, 2)
        reply = there.ask().result(5)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.error["code"] == "gateway_overloaded"
        assert "providers.first.max_concurrent" in reply.error["message"]
        assert reply.headers["tidegate-attempts"] == "0"
        entry = there.api.gateway.usage(reply.request_id)
        assert (entry["status"], entry["attempts"], entry["deployment"]) == (503, 0, "first/m")
        told = there.api.post(
            "/v1/messages", {"model": "first/m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
        )
        assert (told.status, told.json["error"]["type"]) == (529, "overloaded_error")
        assert there.turned_away("full") == 2
        # One that ends makes room for the one that has waited longest.
        there.held.let_go(1)
        assert asked[0].result(5).status == 200
        assert wait_for(lambda: there.requests("waiting") == 1)
        assert wait_for(lambda: there.held.now == 2)
        there.held.let_go()
        assert wait_for(lambda: there.held.now == 1 and there.requests("waiting") == 0)
        there.held.let_go()
        assert [one.result(5).status for one in asked] == [200] * 4
        assert there.held.most == 2
        assert (there.requests("running"), there.requests("waiting"), there.turned_away("late")) == (0, 0, 0)


def test_who_has_waited_in_vain_goes_to_the_next_deployment() -> None:
    with bench('max_concurrent = 1\nqueue_timeout = "300ms"') as there:
        there.fill(1, 0)
        started = time.monotonic()
        reply = there.ask("a").result(5)
        took = time.monotonic() - started
        assert (reply.status, reply.headers["tidegate-deployment"]) == (200, "second/m")
        assert reply.headers["tidegate-attempts"] == "1"
        assert there.api.gateway.usage(reply.request_id)["failed"] == [
            {"deployment": "first/m", "error": "gateway_overloaded", "reason": "not asked"}
        ]
        assert 0.3 <= took < 0.3 + 0.25 + 0.3  # the clock, a bucket of the wheel, and the machine
        alone = there.ask().result(5)
        assert (alone.status, alone.headers["retry-after"]) == (503, "1")
        assert "queue clock" in alone.error["message"]
        assert there.turned_away("late") == 2
        assert len(there.first.calls) == 1


def test_without_a_queue_the_next_deployment_is_asked_at_once() -> None:
    with bench("max_concurrent = 1\nqueue = 0") as there:
        there.fill(1, 0)
        for model in ("a", "b"):
            started = time.monotonic()
            reply = there.ask(model).result(5)
            assert time.monotonic() - started < 0.2
            assert (reply.status, reply.headers["tidegate-deployment"]) == (200, "second/m")


def test_a_target_that_counts_alike_takes_over_without_a_wait() -> None:
    with bench('max_concurrent = 1\nqueue_timeout = "10s"') as there:
        there.fill(1, 0)
        started = time.monotonic()
        assert {there.ask("b").result(5).headers["tidegate-deployment"] for _ in range(4)} == {"second/m"}
        assert time.monotonic() - started < 1
        assert there.requests("waiting") == 0


def test_the_total_clock_ends_the_wait_as_well() -> None:
    with bench('max_concurrent = 1\nqueue_timeout = "10s"') as there:
        there.fill(1, 0)
        reply = there.ask("a", **{"tidegate-timeout": "200ms"}).result(5)
        assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
        assert "total clock" in reply.error["message"]
        assert len(there.second.calls) == 0


def test_a_client_that_leaves_gives_up_its_place_and_its_slot() -> None:
    with bench('max_concurrent = 1\nqueue = 2\nqueue_timeout = "10s"') as there:
        gateway = there.api.gateway
        with Raw(gateway) as running, Raw(gateway) as waiting:
            running.send(post(BODY, "x-request-id: running", path=CHAT))
            assert wait_for(lambda: there.held.now == 1)
            waiting.send(post(BODY, "x-request-id: waiting", path=CHAT))
            assert wait_for(lambda: there.requests("waiting") == 1)
            waiting.reset()
            assert wait_for(lambda: there.requests("waiting") == 0, 1.0)
            entry = gateway.usage("waiting")
            assert (entry["status"], entry["attempts"]) == (499, 0)
            last = there.ask()
            assert wait_for(lambda: there.requests("waiting") == 1)
            running.reset()
            assert wait_for(lambda: len(there.first.calls) == 2, 1.0)
        there.held.let_go()
        assert last.result(5).status == 200
        assert wait_for(lambda: there.requests("running") == 0)


def test_a_stream_keeps_its_slot_to_its_end() -> None:
    toml = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
max_concurrent = 1
queue_timeout = "10s"
"""
    with Running(toml) as gateway, Api(gateway) as api, ThreadPoolExecutor(4) as pool, Raw(gateway) as raw:
        raw.send(post(b'{"model":"sim/lorem?chunks=50&gap=100","input":"x","stream":true}'))
        assert raw.until(b"output_text.delta")
        asked = [pool.submit(api.ask, "responses", "sim/echo", say="ebb", stream=True) for _ in range(3)]
        sample = 'tidegate_provider_requests{provider="sim",state="waiting"}'
        assert wait_for(lambda: labelled(api, sample) == 3)
        raw.reset()
        assert [one.result(5).text for one in asked] == ["ebb"] * 3
        assert labelled(api, sample) == 0


def test_a_stream_that_has_begun_and_waits_for_another_provider_is_kept_alive() -> None:
    toml = """
[server]
port = 0
stream_ping = "1s"
[routing]
retries = 0
[providers.sim]
base_url = "{sim}"
[providers.slow]
kind = "sim"
base_url = "{sim}"
max_concurrent = 1
queue_timeout = "1500ms"
[models.a]
target = "sim/lorem?fault=error&after=2"
fallback = ["slow/echo", "sim/echo"]
"""
    with Running(toml) as gateway, Api(gateway) as api, Raw(gateway) as raw:
        raw.send(post(b'{"model":"slow/echo?fault=stall_head","input":"x","stream":true}'))
        sample = 'tidegate_provider_requests{provider="slow",state="running"}'
        assert wait_for(lambda: labelled(api, sample) == 1)
        reply = api.ask("responses", "a", say="ebb", stream=True)
        assert reply.text == "ebb"
        assert reply.kinds[:2] == ["response.created", "response.in_progress"]
        assert reply.kinds[2] == "keepalive"
        assert reply.kinds.count("response.completed") == 1
        assert gateway.usage(reply.request_id)["deployment"] == "sim/echo"


def test_a_retry_gives_its_slot_up_while_it_waits() -> None:
    with (
        Deployment(lambda number, _: error("503 X", "retry-after-ms: 400\r\n") if number == 1 else ANSWER) as first,
        Running(f"[server]\nport = 0\n{first.toml('first', more='max_concurrent = 1')}") as gateway,
        Api(gateway) as api,
        ThreadPoolExecutor(2) as pool,
    ):
        slow = pool.submit(api.ask, "chat", "first/m")
        assert wait_for(lambda: labelled(api, 'tidegate_retries_total{provider="first"}') == 1)
        started = time.monotonic()
        assert api.ask("chat", "first/m").status == 200
        assert time.monotonic() - started < 0.3
        reply = slow.result(5)
        assert (reply.status, reply.headers["tidegate-attempts"]) == (200, "2")


def test_a_reload_that_makes_room_calls_those_who_wait(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    with bench('max_concurrent = 1\nqueue_timeout = "10s"', path=path) as there:
        there.fill(1, 2)
        text = path.read_text("utf-8")
        path.write_text(text.replace("max_concurrent = 1", "max_concurrent = 2"), "utf-8")
        there.api.gateway.call(there.api.gateway.server._parts.reload)
        assert wait_for(lambda: there.held.now == 2)
        assert there.requests("waiting") == 1
        path.write_text(text.replace("max_concurrent = 1", ""), "utf-8")
        there.api.gateway.call(there.api.gateway.server._parts.reload)
        assert wait_for(lambda: there.held.now == 3)
        assert there.requests("waiting") == 0


@pytest.mark.fault("FAULT-RELOAD")
def test_a_provider_that_was_taken_out_for_a_moment_has_no_more_under_way_than_it_may(tmp_path: Path) -> None:
    """What it had begun runs on meanwhile, and counts when it is back."""
    path = tmp_path / "tidegate.toml"
    with bench('max_concurrent = 2\nqueue_timeout = "10s"', path=path) as there:
        running = there.fill(2, 0)
        reload = partial(there.api.gateway.call, there.api.gateway.server._parts.reload)
        text = path.read_text("utf-8")
        start, end = text.index("[providers.first]"), text.index("[providers.second]")
        without = text[:start] + text[end : text.index("[models.a]")]
        for content, known in ((without, False), (text, True)):
            path.write_text(content, "utf-8")
            reload()
            assert wait_for(partial(there.knows_first, known))
        assert there.requests("running") == 2
        waits = there.ask()
        assert wait_for(lambda: there.requests("waiting") == 1)
        assert there.held.most == 2
        there.held.let_go(1)
        assert wait_for(lambda: there.held.now == 2 and len(there.first.calls) == 3)
        there.held.let_go(over=True)
        assert [one.result(5).status for one in (*running, waits)] == [200] * 3
        assert there.requests("running") == 0


@pytest.mark.alone
def test_a_provider_that_stalls_with_a_full_queue_holds_up_nobody_elses_requests() -> None:
    toml = """
[server]
port = 0
[providers.first]
kind = "sim"
base_url = "{sim}"
max_concurrent = 8
queue = 40
queue_timeout = "30s"
timeouts = { first_event = "30s", total = "30s" }
[providers.second]
kind = "sim"
base_url = "{sim}"
max_concurrent = 8
"""
    body = b'{"model":"first/echo?fault=stall_head","messages":[{"role":"user","content":"x"}]}'

    def p99() -> float:
        """The best of three: whatever else the machine does only adds to it."""
        found = []
        for _ in range(3):
            times = []
            for _ in range(100):
                started = time.monotonic()
                assert api.ask("chat", "second/echo").status == 200
                times.append(time.monotonic() - started)
            found.append(sorted(times)[-2])
        return min(found)

    with Running(toml) as gateway, Api(gateway) as api, ExitStack() as stack:
        before = p99()
        for _ in range(48):
            stack.enter_context(Raw(gateway)).send(post(body, path=CHAT))
        sample = 'tidegate_provider_requests{provider="first",state="waiting"}'
        assert wait_for(lambda: labelled(api, sample) == 40)
        assert labelled(api, sample.replace("waiting", "running")) == 8
        assert api.ask("chat", "first/echo").status == 503
        during = p99()
        assert labelled(api, sample) == 40
        assert during < 1.5 * before + 0.003, (before, during)
