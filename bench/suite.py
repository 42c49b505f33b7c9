"""The published tables, but for the soak: what each measures, and how."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from bench.client import MeasurementFailed, ask
from bench.footprint import hold, measure_start
from bench.orders import HoldOrder, Percentiles, StreamsOrder, TalksOrder
from bench.processes import most_descriptors, rss_bytes
from bench.runner import Job, Runner
from bench.tables import BASE, OURS, Line
from bench.targets import SPARE, Target
from bench.workloads import DIALECTS, Dialect, get, stream_request
from bench.works import CONNECTIONS, Work

__all__ = ["SUITE", "Kind"]

PEERS_S = 1.5
"""The slowest of them answers some hundred requests in that time."""
LEAVING = 5000
CLOSED_WITHIN_S = 10.0
SLOW = 100
TALK_MS = 20
TALK_FRAMES = 20
TALKS_PER_S = 20
_PROVIDERS: dict[Dialect, str] = {
    "chat": "chatonly",
    "responses": "responsesonly",
    "messages": "messages",
    "gemini": "gemini",
}
_TITLES: dict[Dialect, str] = {"chat": "chat", "responses": "Responses", "messages": "Messages", "gemini": "Gemini"}


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a table is about; `run` measures it."""

    slug: str
    title: str
    zh: str
    drawn: str = ""
    run: Callable[[Runner], Sequence[Line]]
    remarks: tuple[tuple[str, str], ...] = ()


# -- CPU time per unit ------------------------------------------------------------------------------------------------


def _cpu(runner: Runner, work: Work, zh: str, *, peers: bool = False) -> Job:
    """CPU time of a work, and requests per second where the load waits for answers only."""
    seconds = runner.chunk_s if work.unit == "chunk" else runner.request_s
    if peers:
        seconds = max(seconds, PEERS_S)
    closed = work.unit == "request" and not work.rate

    def measure(target: Target) -> list[float]:
        report = runner.window(work.order(target, runner.lab.cores.tested, warmup_s=0.3, seconds=seconds))
        figures = [report.cpu_s / report.units * 1e6]
        return [*figures, report.units / report.seconds] if closed else figures

    lines = [Line(name=work.name, zh=zh, unit="µs", budget=work.budget)]
    if closed:
        lines.append(Line(name=work.name, zh=zh, unit="requests/s", compared=False))
    return Job(lines=lines, measure=measure, peers=peers)


PACES = (1000, 3000, 6000)
"""Requests per second at which both servers do the same work."""
PACE = 3000
"""The one of them at which every dialect is measured."""


def _requests(runner: Runner) -> list[Line]:
    jobs = []
    for dialect in DIALECTS:
        title = _TITLES[dialect]
        work = Work(name=title, unit="request", dialect=dialect, provider=_provider(dialect), budget="request")
        jobs.append(_cpu(runner, work, title, peers=dialect == "chat"))
    stored = Work(name="Responses, stored", unit="request", dialect="responses", store=True)
    headers = Work(name="chat, the SDK's headers", unit="request", dialect="chat", sdk_headers=True)
    large = Work(name="chat, 60 KB", unit="request", dialect="chat", extra_bytes=60_000)
    jobs += [
        _cpu(runner, stored, "Responses，存储"),
        *(_paced(runner, dialect, rate) for dialect in DIALECTS for rate in (PACES if dialect == "chat" else (PACE,))),
        _cpu(runner, headers, "chat，SDK 的请求头"),
        _cpu(runner, large, "chat，60 KB"),
    ]
    return runner.measure(jobs)


def _paced(runner: Runner, dialect: Dialect, rate: int) -> Job:
    title = _TITLES[dialect]
    name, provider = f"{title}, {rate:,}/s", _provider(dialect)
    work = Work(name=name, unit="request", dialect=dialect, provider=provider, rate=rate, budget="request")
    return _cpu(runner, work, f"{title}，每秒 {rate:,} 次")


def _provider(dialect: Dialect) -> str:
    return "plain" if dialect in ("chat", "responses") else _PROVIDERS[dialect]


def _chunks(runner: Runner) -> list[Line]:
    jobs = [
        _cpu(
            runner,
            Work(name="chat, 1,000/s", unit="chunk", dialect="chat", rate=1000),
            "chat，每秒 1,000 块",
            peers=True,
        )
    ]
    jobs.append(
        _cpu(
            runner,
            Work(name="chat, 4,000/s", unit="chunk", dialect="chat", rate=4000, budget="chunk"),
            "chat，每秒 4,000 块",
        )
    )
    for dialect in DIALECTS:
        title, provider = _TITLES[dialect], _provider(dialect)
        work = Work(
            name=f"{title}, 10,000/s", unit="chunk", dialect=dialect, provider=provider, rate=10_000, budget="chunk"
        )
        jobs.append(_cpu(runner, work, f"{title}，每秒 10,000 块"))
    journal = Work(
        name="Responses, 10,000/s, journal on",
        unit="chunk",
        dialect="responses",
        rate=10_000,
        store=True,
        budget="chunk, journal on",
    )
    jobs.append(_cpu(runner, journal, "Responses，每秒 10,000 块，写日志"))
    return runner.measure(jobs)


def _translation(runner: Runner) -> list[Line]:
    jobs = []
    for provider in DIALECTS:
        for client in DIALECTS:
            if client != provider:
                # A provider's dialect comes first: it is the one whose frames nginx relays.
                name = f"{_TITLES[provider]} → {_TITLES[client]}"
                work = Work(
                    name=name,
                    unit="chunk",
                    dialect=client,
                    provider=_PROVIDERS[provider],
                    baseline=provider,
                    rate=10_000,
                    budget="chunk, chat → Responses",
                )
                jobs.append(_cpu(runner, work, name))
    return runner.measure(jobs)


def _tls(runner: Runner) -> list[Line]:
    request = Work(name="request, chat, 1,000/s", unit="request", dialect="chat", secure=True, rate=1000)
    works = [(request, "请求，chat，每秒 1,000 次")]
    paced: tuple[tuple[Dialect, int], ...] = (("chat", 4000), ("chat", 10_000), ("responses", 10_000))
    for dialect, rate in paced:
        title = _TITLES[dialect]
        work = Work(name=f"chunk, {title}, {rate:,}/s", unit="chunk", dialect=dialect, secure=True, rate=rate)
        works.append((work, f"数据块，{title}，每秒 {rate:,} 块"))
    return runner.measure([_cpu(runner, work, zh) for work, zh in works])


# -- delays -----------------------------------------------------------------------------------------------------------

_PERCENTILES = (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"))


def _delay_lines(name: str, zh: str, *, budgets: bool = False) -> list[Line]:
    return [
        Line(
            name=f"{name}, {shown}",
            zh=f"{zh}，{shown}",
            unit="ms",
            compared=False,
            budget=f"latency {shown}" if budgets and shown != "p99.9" else "",
        )
        for shown, _ in _PERCENTILES
    ]


def _figures(found: Percentiles) -> list[float]:
    return [float(getattr(found, name)) for _, name in _PERCENTILES]


def _latency(runner: Runner) -> list[Line]:
    seconds = 2.0 if runner.quick else 15.0
    core = runner.lab.cores.tested
    whole = Work(name="", unit="request", dialect="chat", rate=100, connections=4)

    def answer(target: Target) -> list[float]:
        order = whole.order(target, core, warmup_s=0.3, seconds=seconds)
        return _figures(runner.window(order).delay)

    def talk(target: Target) -> list[float]:
        question = target.dressed(stream_request("chat", "plain", f"talk-{TALK_MS}-{TALK_FRAMES}"))
        report = runner.window(TalksOrder(target.port, question, TALKS_PER_S, 0.6, seconds))
        return [*_figures(report.first), *_figures(report.gap)]

    lines = _delay_lines("time to the first chunk", "首块时间") + _delay_lines("gap between chunks", "块间隔")
    jobs = [
        Job(lines=_delay_lines("whole answer", "完整回答", budgets=True), measure=answer, peers=True, direct=True),
        Job(lines=lines, measure=talk, peers=True, direct=True),
    ]
    return runner.measure(jobs)


# -- many streams -----------------------------------------------------------------------------------------------------


def _streams(runner: Runner) -> list[Line]:
    few, many = (200, 1000) if runner.quick else (1000, 10_000)
    many = min(many, (most_descriptors() - 2 * SPARE) // 2)  # a stream has two connections
    core = runner.lab.cores.tested

    def memory(target: Target, streams: int, *, secure: bool) -> list[float]:
        return [hold(target, runner.load, streams=streams, secure=secure).kb_per_stream]

    def jitter(target: Target, streams: int, rate: int) -> list[float]:
        question = target.dressed(stream_request("chat", "plain", f"flow-{streams * 1000 // rate}"))
        order = StreamsOrder(target.port, question, streams, 1.0, runner.chunk_s * 2, target.pids(), core, 1)
        report = runner.window(order)
        return [*_figures(report.delay), report.cpu_s / report.units * 1e6]

    jobs = []
    for streams, secure, budget in (
        (few, False, "memory, plain upstream"),
        (few, True, "memory, TLS upstream"),
        (many, False, "memory, plain upstream"),
    ):
        upstream, zh = ("TLS upstream", "TLS 上游") if secure else ("plain upstream", "明文上游")
        line = Line(
            name=f"memory per stream, {streams:,} streams, {upstream}",
            zh=f"每条流的内存，{streams:,} 条流，{zh}",
            unit="KB",
            budget=budget,
        )
        measure = partial(memory, streams=streams, secure=secure)
        jobs.append(Job(lines=[line], measure=measure, fresh=True, peers=streams == few and not secure))
    for streams, rate in ((few, 5000), (many, 5000)):
        lines = _delay_lines(
            f"delay of a chunk, {streams:,} streams, {rate:,}/s", f"块延迟，{streams:,} 条流，每秒 {rate:,} 块"
        )
        name = f"CPU per chunk, {streams:,} streams, {rate:,}/s"
        lines.append(Line(name=name, zh=f"每块 CPU，{streams:,} 条流，每秒 {rate:,} 块", unit="µs"))
        jobs.append(Job(lines=lines, measure=partial(jitter, streams=streams, rate=rate), fresh=True))
    return runner.measure(jobs)


def _storm(runner: Runner) -> list[Line]:
    leaving = LEAVING // 5 if runner.quick else LEAVING

    def measure(target: Target) -> list[float]:
        question = target.dressed(stream_request("chat", "plain", "flow-2000"))
        runner.load.run(HoldOrder(target.port, question, leaving))
        runner.probe.begin(target)
        time.sleep(0.2)
        began_ns = runner.load.run(HoldOrder(target.port, question, 0)).began_ns
        until = time.monotonic() + CLOSED_WITHIN_S
        while (state := upstream_state(runner)).open and time.monotonic() < until:
            time.sleep(0.05)
        seen = runner.probe.end()
        if state.open:
            raise MeasurementFailed(f"{state.open:,} of {leaving:,} upstreams were open after {CLOSED_WITHIN_S:g} s")
        return [(state.closed_ns - began_ns) / 1e6, seen.longest]

    lines = [
        Line(
            name=f"{leaving:,} clients leave: until all upstreams are closed",
            zh=f"{leaving:,} 个客户端同时离开：到所有上游关闭",
            unit="ms",
            budget="closing",
        ),
        Line(name="longest wait of a small question meanwhile", zh="其间一个小请求的最长等待", unit="ms"),
    ]
    return runner.measure([Job(lines=lines, measure=measure, fresh=True, peers=True)])


class _State(msgspec.Struct):
    open: int
    closed_ns: int
    written: int


def upstream_state(runner: Runner) -> _State:
    """What the upstream says of its streams. Raises OSError."""
    _, answer = ask(runner.direct.port, get("/bench/state"))
    return msgspec.json.decode(answer.partition("\r\n\r\n")[2], type=_State)


def _slow(runner: Runner) -> list[Line]:
    def measure(target: Target) -> list[float]:
        question = target.dressed(stream_request("chat", "plain", "flood"))
        idle = target.dressed(stream_request("chat", "plain", "idle"))
        runner.load.run(HoldOrder(target.port, idle, 20))
        runner.load.run(HoldOrder(target.port, idle, 0))
        before, written = rss_bytes(target.pids()), upstream_state(runner).written
        runner.load.run(HoldOrder(target.port, question, SLOW, reading=False))
        last = -1
        until = time.monotonic() + CLOSED_WITHIN_S
        while (now := upstream_state(runner).written) != last and time.monotonic() < until:
            last = now
            time.sleep(0.7)
        after = rss_bytes(target.pids())
        runner.load.run(HoldOrder(target.port, question, 0))
        return [(after - before) / SLOW / 1024, (now - written) / SLOW / 1024]

    lines = [
        Line(
            name=f"memory per client that does not read, {SLOW} clients",
            zh=f"每个不读数据的客户端占用的内存，{SLOW} 个",
            unit="KB",
        ),
        Line(
            name="written by the upstream for each until it was held back",
            zh="上游被拦住之前为每个客户端写出的数据",
            unit="KB",
        ),
    ]
    return runner.measure([Job(lines=lines, measure=measure, fresh=True, peers=True)])


# -- start and stalls -------------------------------------------------------------------------------------------------


def _start(runner: Runner) -> list[Line]:
    lines = [
        Line(name="start to first answer", zh="启动到第一个回答", unit="s", compared=False, budget="start"),
        Line(name="CPU time until then", zh="其间的 CPU 时间", unit="s", compared=False),
        Line(name="memory then", zh="此时的内存", unit="MB", compared=False),
    ]
    names = runner.names(peers=True)
    for repeat in range(runner.repeats):
        for name in names if repeat % 2 == 0 else reversed(names):
            if name in lines[0].notes:
                continue
            try:
                found = measure_start(partial(runner.start, name))
            except RuntimeError as error:
                if name in (BASE, OURS):
                    raise
                for line in lines:
                    line.notes[name] = "did not start"
                runner.say(f"{name}: {error}")
                continue
            for line, value in zip(lines, (found.seconds, found.cpu_s, found.rss_mb), strict=True):
                line.values.setdefault(name, []).append(value)
            runner.say(f"start, repeat {repeat + 1}: {name} {found.seconds:.2f} s")
    return lines


def _stalls(runner: Runner) -> list[Line]:
    core = runner.lab.cores.tested
    streams = 200 if runner.quick else 1000
    chunk = Work(name="", unit="chunk", dialect="chat", rate=10_000)
    asked = Work(name="", unit="request", dialect="chat", rate=1000, connections=CONNECTIONS)

    def during(act: Callable[[Target], object]) -> Callable[[Target], list[float]]:
        def measure(target: Target) -> list[float]:
            runner.probe.begin(target)
            try:
                act(target)
            finally:
                seen = runner.probe.end()
            if not seen.count:
                raise MeasurementFailed("the small question was not answered")
            return [seen.longest, seen.p99]

        return measure

    def work(target: Target, one: Work) -> None:
        runner.window(one.order(target, core, warmup_s=0.3, seconds=runner.chunk_s * 2))

    def come_and_go(target: Target) -> None:
        question = target.dressed(stream_request("chat", "plain", "flow-1000"))
        runner.load.run(HoldOrder(target.port, question, streams))
        runner.load.run(HoldOrder(target.port, question, 0))

    jobs = []
    for name, zh, act in (
        ("nothing", "空闲", lambda _: time.sleep(runner.chunk_s)),
        ("10,000 chunks/s", "每秒 10,000 块", partial(work, one=chunk)),
        ("1,000 requests/s", "每秒 1,000 个请求", partial(work, one=asked)),
        (f"{streams:,} streams come and go", f"{streams:,} 条流到来并离开", come_and_go),
    ):
        lines = [
            Line(
                name=f"longest wait during: {name}",
                zh=f"最长等待：{zh}",
                unit="ms",
                compared=False,
                budget="stall" if name != "nothing" else "",
            ),
            Line(name=f"p99 during: {name}", zh=f"p99：{zh}", unit="ms", compared=False),
        ]
        jobs.append(Job(lines=lines, measure=during(act)))
    return runner.measure(jobs)


SUITE = (
    Kind(
        slug="requests",
        title="CPU time per request, and requests per second",
        zh="每个请求的 CPU 时间与每秒请求数",
        run=_requests,
    ),
    Kind(slug="chunks", title="CPU time per chunk, same dialect", zh="每个数据块的 CPU 时间（同方言）", run=_chunks),
    Kind(
        slug="translation",
        title="CPU time per chunk, provider's dialect → client's",
        zh="每个数据块的 CPU 时间（上游方言 → 客户端方言）",
        run=_translation,
        remarks=(("nginx relays the provider's frames as they are.", "nginx 原样转发上游的帧。"),),
    ),
    Kind(slug="tls", title="CPU time with a TLS upstream", zh="TLS 上游时的 CPU 时间", run=_tls),
    Kind(slug="latency", title="Added latency at low load", zh="低负载下增加的延迟", drawn="ms", run=_latency),
    Kind(slug="streams", title="Many open streams", zh="大量打开的流", drawn="KB", run=_streams),
    Kind(slug="storm", title="All clients leave at once", zh="所有客户端同时离开", drawn="ms", run=_storm),
    Kind(slug="slow", title="Clients that do not read", zh="不读数据的客户端", drawn="KB", run=_slow),
    Kind(slug="start", title="Start to first answer", zh="启动到第一个回答", drawn="s", run=_start),
    Kind(slug="stalls", title="Longest stall of the loop", zh="事件循环的最长停顿", drawn="ms", run=_stalls),
)
