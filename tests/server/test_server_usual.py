"""A request whose head is that of the one before is known again without the parser. Nobody can tell: whatever comes is read
exactly as by a reader that remembers nothing."""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.conftest import KEY
from tests.support.raw import HELLO, chunk, get, post
from tests.support.running import Running, wait_for
from tests.support.transport import Client
from tidegate.access.keys import KEY_HEADERS, KeyRing
from tidegate.config.load import load
from tidegate.config.schema import KeyConfig
from tidegate.config.secret import Secret
from tidegate.gateway.dialects import CLIENT_DIALECTS
from tidegate.gateway.gateway import Gateway
from tidegate.server.incoming import Incoming
from tidegate.server.reader import TRIES, Reader
from tidegate.server.usual import HEAD_LIMIT, UsualHead
from tidegate.wire.errors import TidegateError

MAX_BODY = 2048
MAX_HEAD = 1024
TOML = f"""
[server]
max_body = "{MAX_BODY}B"
max_header_bytes = "{MAX_HEAD}B"
[providers.sim]
kind = "sim"
base_url = "http://127.0.0.1:9/v1"
models = ["echo"]
[[keys]]
name = "app"
secret = "{KEY}"
"""
OTHER = KEY[:-1] + "e"


@pytest.fixture(scope="module")
def house() -> Iterator[Gateway]:
    loop = asyncio.new_event_loop()
    try:
        yield Gateway(loop, load(TOML, "tidegate.toml", {}), environment={}, request_log=None)
    finally:
        loop.close()


_clients = itertools.count()


class Parsed(Reader):
    """Counts the heads that the parser reads."""

    heads = 0

    def on_headers_complete(self) -> None:
        self.heads += 1
        super().on_headers_complete()


class Reading:
    """A reader and all that comes out of it."""

    def __init__(self, gateway: Gateway, *, tries: int = TRIES, most: int = 1000) -> None:
        """It is stopped in the middle of a read by the answer to request number `most`."""
        self.client = f"client {next(_clients)}"  # who failed too often is held back for what others did
        self.now = 100.0
        self.most = most
        self.got: list[object] = []
        self.ids: list[bytes] = []
        hot = {one.path.encode("ascii"): one for one in CLIENT_DIALECTS}
        app = SimpleNamespace(gateway=gateway, hot=hot, websockets=frozenset({b"/v1/responses"}), spools=None)
        clock = SimpleNamespace(time=lambda: self.now)
        self.reader = Parsed(self, cast("Any", app), cast("Any", clock), tries=tries)

    def receive(self, incoming: Incoming) -> None:
        self.ids.append(incoming.request_id)
        self.got.append(seen(incoming))
        if len(self.got) == self.most:
            self.reader.stop()

    def upgrade(self, incoming: Incoming, rest: bytes) -> None:
        self.got.append((seen(incoming), rest))

    def hold(self) -> None:
        raise AssertionError("there is no disk here")

    go_on = hold

    def feed(self, *reads: bytes) -> "Reading":
        for read in reads:
            self.now += 1.0
            self.reader.feed(read)
        return self

    @property
    def state(self) -> tuple[object, ...]:
        """All that the rest of the server looks at."""
        half = self.reader.incoming
        due = None if half is None else self.reader.deadline(half)
        return self.got, self.reader.deaf, self.reader.heard_at, due, None if half is None else seen(half)


def seen(incoming: Incoming) -> dict[str, object]:
    """Everything in it, but for its id if that is one of ours."""
    found = msgspec.structs.asdict(incoming) | {"body": bytes(incoming.body), "head_bytes": incoming.measure_head()}
    found["fields"] = list(incoming.fields.items())
    if re.fullmatch(rb"req_[0-9a-f]{32}", incoming.request_id):
        found["request_id"] = "ours"
    refusal: TidegateError | None = incoming.refusal
    if refusal is not None:
        found["refusal"] = (type(refusal), str(refusal), refusal.code, refusal.param)
    return found


SDK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n"
    b"Authorization: Bearer %b\r\nX-Stainless-Async: false\r\nContent-Length: %b\r\nAccept: */*\r\n%b\r\n%b"
)


def ask(body: bytes = HELLO, length: bytes | None = None, *, key: str = KEY, more: bytes = b"") -> bytes:
    """As the official SDK asks."""
    return SDK % (key.encode(), b"%d" % len(body) if length is None else length, more, body)


def bodies(reading: Reading) -> list[object]:
    return [cast("dict[str, object]", one)["body"] for one in reading.got]


def refusals(reading: Reading) -> list[object]:
    return [cast("dict[str, Any]", one)["refusal"] for one in reading.got]


def both(house: Gateway, *reads: bytes) -> Reading:
    """What a reader makes of these reads, which is what another one makes of them that remembers nothing."""
    reading, plain = Reading(house).feed(*reads), Reading(house, tries=0).feed(*reads)
    assert reading.state == plain.state
    assert plain.reader.heads >= reading.reader.heads
    return reading


# --- what is known again -----------------------------------------------------------------------------------------


def test_the_same_head_is_parsed_once_whatever_the_length(house: Gateway) -> None:
    sizes = [0, 5, 99, MAX_BODY, 1, 0, 1000]
    reading = both(house, *(ask(b"x" * size) for size in sizes))
    assert bodies(reading) == [b"x" * size for size in sizes]
    assert reading.reader.heads == 1
    assert len(set(reading.ids)) == len(sizes)


@pytest.mark.parametrize("name", KEY_HEADERS, ids=lambda name: name.decode())
def test_a_key_is_known_again_wherever_it_stands(house: Gateway, name: bytes) -> None:
    """As Anthropic's and Google's SDKs ask."""
    mine = GOOD.replace(b"Authorization: Bearer", name + b":")
    wrong = mine.replace(KEY.encode(), OTHER.encode())
    assert both(house, mine, mine, mine).reader.heads == 1
    good = [True, True, False]
    assert [refusal is None for refusal in refusals(both(house, mine, mine, wrong, mine))][:3] == good
    assert [refusal is None for refusal in refusals(both(house, GOOD, mine, wrong, GOOD))][:3] == good
    for more in (b"Authorization: Bearer %b\r\n" % KEY.encode(), name + b": %b\r\n" % KEY.encode()):
        both(house, mine, mine, mine.replace(b"Accept:", more + b"Accept:"), mine)


@pytest.mark.parametrize("at", [None, 1, 20], ids=["behind the head", "after a byte", "after twenty"])
def test_a_body_may_come_in_later_reads(house: Gateway, at: int | None) -> None:
    """The official SDKs of Python send head and body in two writes."""
    one, two = ask(b"a" * 30), ask(b"b" * 40)
    cut = two.index(b"\r\n\r\n") + 4 + (at or 0)
    reading = both(house, one, two[:cut], two[cut:-1], two[-1:], ask(b"c"))
    assert bodies(reading) == [b"a" * 30, b"b" * 40, b"c"]
    assert reading.reader.heads == 1


def test_a_request_behind_one_that_is_known_again_is_parsed(house: Gateway) -> None:
    reading = both(
        house, ask(b"1"), ask(b"2") + ask(b"3") + get("/healthz") + ask(b"4")[:-1], b"4" + ask(b"5"), ask(b"6")
    )
    assert bodies(reading) == [b"1", b"2", b"3", b"", b"4", b"5", b"6"]


def test_a_head_of_which_the_first_read_had_only_a_part_is_known_from_its_next_on(house: Gateway) -> None:
    sent = ask()
    reading = both(house, sent[:50], sent[50:], sent, sent)
    assert bodies(reading) == [HELLO] * 3
    assert reading.reader.heads == 2


def test_heads_that_always_differ_are_no_longer_remembered(house: Gateway) -> None:
    traced = [ask(more=b"traceparent: 00-%032x-01\r\n" % number) for number in range(2 * TRIES)]
    reading = both(house, *traced, ask(), ask())
    assert reading.reader.heads == len(reading.got)
    # One that comes again in time counts for all before it.
    reading = both(house, *traced[: TRIES - 1], ask(), ask(), *traced[: TRIES - 1], ask(), ask())
    assert reading.reader.heads == len(reading.got) - 2


def test_long_heads_are_not_remembered_if_a_longer_number_could_make_them_too_long(house: Gateway) -> None:
    room = MAX_HEAD - len(ask(b"x")) - 10
    for size in range(room - 20, room + 40):
        more = b"X-Filler: " + b"y" * size + b"\r\n"
        both(house, ask(b"x", more=more), ask(b"x" * 1500, more=more), ask(b"x", more=more))


# --- what is not -------------------------------------------------------------------------------------------------

GOOD = ask()
LENGTH = b"Content-Length: %d\r\n" % len(HELLO)
SMUGGLED = get("/healthz")

OTHERS = {
    "length with a plus": GOOD.replace(LENGTH, b"Content-Length: +%d\r\n" % len(HELLO)),
    "length with a minus": GOOD.replace(LENGTH, b"Content-Length: -%d\r\n" % len(HELLO)),
    "length with zeros in front": GOOD.replace(LENGTH, b"Content-Length: 00%d\r\n" % len(HELLO)),
    "length of two zeros": ask(b"", b"00"),
    "length with a blank behind": GOOD.replace(LENGTH, b"Content-Length: %d \r\n" % len(HELLO)),
    "length with a tab behind": GOOD.replace(LENGTH, b"Content-Length: %d\t\r\n" % len(HELLO)),
    "length with two blanks in front": GOOD.replace(LENGTH, b"Content-Length:  %d\r\n" % len(HELLO)),
    "length without a blank": GOOD.replace(LENGTH, b"Content-Length:%d\r\n" % len(HELLO)),
    "length with an underscore": ask(b"x" * 10, b"1_0"),
    "length with a comma": ask(HELLO, b"%d,%d" % (len(HELLO), len(HELLO))),
    "length in other digits": ask(b"x" * 3, "٣".encode()),
    "length in hexadecimal": ask(b"x" * 10, b"0xa"),
    "no length": ask(b"", b""),
    "length of ten digits": ask(b"x" * 10, b"1000000000"),
    "length of 5000 digits": ask(b"x" * 10, b"9" * 5000),
    "length with a bare line feed": GOOD.replace(LENGTH, LENGTH.replace(b"\r", b"")),
    "length with a bare carriage return": GOOD.replace(LENGTH, LENGTH.replace(b"\n", b"")),
    "length with NUL": GOOD.replace(LENGTH, LENGTH.replace(b"\r", b"\0\r")),
    "length folded": GOOD.replace(LENGTH, LENGTH.replace(b": ", b":\r\n ")),
    "line folded": GOOD.replace(b"Accept: */*", b"Accept: */*\r\n ;q=1"),
    "body over the limit": ask(b"x" * (MAX_BODY + 1)),
    "second length": ask(more=LENGTH),
    "coding added": ask(more=b"Transfer-Encoding: chunked\r\n"),
    "coding in its place": GOOD.replace(LENGTH, b"Transfer-Encoding: chunked\r\n").replace(HELLO, chunk(HELLO) + b"0\r\n\r\n"),
    "other case": GOOD.replace(b"Content-Length", b"content-length"),
    "other order": GOOD.replace(LENGTH, b"").replace(b"Host:", LENGTH + b"Host:"),
    "other target": GOOD.replace(b"/chat/completions", b"/responses"),
    "other host": GOOD.replace(b"localhost", b"localhose"),
    "other version": GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "close": GOOD.replace(b"keep-alive", b"close"),
    "an expectation": ask(more=b"Expect: 100-continue\r\n"),
    "an offer": ask(more=b"Upgrade: h2c\r\n").replace(b"keep-alive", b"upgrade"),
    "an id": ask(more=b"X-Request-Id: mine\r\n"),
    "a key beside": ask(more=b"x-api-key: %b\r\n" % OTHER.encode()),
    "the key elsewhere": GOOD.replace(b"Authorization: Bearer", b"x-api-key:"),
    "a wrong key elsewhere": ask(key=OTHER).replace(b"Authorization: Bearer", b"x-goog-api-key:"),
    "wrong key": ask(key=OTHER),
    "shorter key": ask(key=KEY[:-1]),
    "longer key": ask(key=KEY + "0"),
    "empty line before": b"\r\n" + GOOD,
    "line feed before": b"\n" + GOOD,
    "garbage": b"garbage\r\n\r\n",
    "nothing more than a head": get("/healthz"),
    "only the part before the digits": GOOD[: GOOD.index(b"Content-Length: ") + 16],
    "cut in the digits": GOOD[: GOOD.index(b"Content-Length: ") + 17],
    "cut behind the digits": GOOD[: GOOD.index(b"Content-Length: ") + 18],
}  # fmt: skip


@pytest.mark.security("SEC-SMUGGLE-MEMORY")
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_anything_else_is_for_the_parser(house: Gateway, other: bytes) -> None:
    reading = both(house, GOOD, GOOD, other)
    assert reading.reader.heads >= 2 or reading.reader.deaf or not cast("Incoming", reading.reader.incoming).method
    both(house, GOOD, GOOD, other, SMUGGLED, GOOD)
    for first in range(len(other)):
        both(house, GOOD, GOOD, other[:first], other[first:] + SMUGGLED, GOOD)
    both(house, GOOD, GOOD + other, other + GOOD, SMUGGLED)


@pytest.mark.security("SEC-SMUGGLE-MEMORY")
@pytest.mark.parametrize("first", OTHERS.values(), ids=OTHERS.keys())
def test_whatever_was_read_first_is_read_again_in_the_same_way(house: Gateway, first: bytes) -> None:
    both(house, first, first, first + SMUGGLED, GOOD)
    both(house, first + GOOD, GOOD, first)
    both(house, first + GOOD, first, GOOD)


@pytest.mark.security("SEC-SMUGGLE-MEMORY")
@pytest.mark.parametrize("more", [b"", b"X-Request-Id: mine\r\n"], ids=["usual", "unusual"])
@pytest.mark.parametrize("before", [b"", ask(b"1")], ids=["alone", "behind another one"])
def test_nothing_behind_the_last_request_of_a_connection_is_known_again(
    house: Gateway, more: bytes, before: bytes
) -> None:
    """The parser knows that it was the last."""
    last = before + ask(more=more).replace(b"keep-alive", b"close")
    *good, bad = refusals(both(house, GOOD, GOOD, last, GOOD))
    assert not any(good)
    assert "close" in str(bad)


@pytest.mark.security("SEC-SMUGGLE-MEMORY")
def test_only_heads_are_remembered_that_are_plainly_a_line_for_each_field(house: Gateway) -> None:
    """Whatever the parser were to let pass."""
    known = Reading(house)
    known.reader.feed(GOOD[:-1])
    incoming = known.reader.incoming
    assert incoming is not None

    def remembers(read: bytes) -> bool:
        return UsualHead.of(read, incoming, house.snapshot, MAX_HEAD) is not None

    assert remembers(GOOD)
    assert remembers(GOOD.replace(LENGTH, LENGTH.upper()))
    for end in (b"\n", b"\r", b"\r\n\n", b"\n\r\n", b"\r\r\n", b"\r\nx: y\r\n"):
        assert not remembers(GOOD.replace(b"keep-alive\r\n", b"keep-alive" + end))
        assert not remembers(GOOD.replace(LENGTH, LENGTH[:-2] + end))
        assert not remembers(end + GOOD)
    for name in ("length with zeros in front", "length with a plus", "no length", "length of ten digits"):
        assert not remembers(OTHERS[name])


def test_heads_beyond_a_limit_are_not_remembered(gateway: Running) -> None:
    """There is one of them for each open connection."""
    for size, parsed in ((HEAD_LIMIT - 1000, 1), (HEAD_LIMIT, 3)):
        sent = ask(b"{", more=b"X-Filler: " + b"y" * size + b"\r\n")
        with Client(gateway) as client:
            reader = counting(client)
            for _ in range(3):
                gateway.call(lambda: client.connection.data_received(sent))  # noqa: B023
            assert reader.heads == parsed


def test_a_head_is_judged_anew_when_the_snapshot_changes(house: Gateway) -> None:
    readings = [Reading(house).feed(GOOD, GOOD), Reading(house, tries=0).feed(GOOD, GOOD)]
    before = house.snapshot
    try:
        house.refresh_keys()
        for reading in readings:
            reading.feed(GOOD, GOOD)
        assert readings[0].reader.heads == 2
        house.snapshot = before.with_keys(KeyRing([KeyConfig(name="app", secret=Secret(OTHER))]))
        for reading in readings:
            reading.feed(GOOD, GOOD)
    finally:
        house.snapshot = before
    assert readings[0].state == readings[1].state
    assert [refusal is None for refusal in refusals(readings[0])] == [True] * 4 + [False]
    assert "401" in repr(readings[0].got[-1]) or "InvalidKey" in repr(readings[0].got[-1])


def test_nothing_is_taken_on_while_draining(house: Gateway) -> None:
    readings = [Reading(house).feed(GOOD, GOOD), Reading(house, tries=0).feed(GOOD, GOOD)]
    for reading in readings:
        reading.reader.refuses = True
        reading.feed(GOOD)
    assert readings[0].state == readings[1].state
    assert "ShuttingDown" in repr(refusals(readings[0])[-1])


@pytest.mark.parametrize("ending", ["give up", "shut", "stop", "close"])
@pytest.mark.parametrize("part", [0, 7])
def test_half_a_body_ends_like_any_other(house: Gateway, ending: str, part: int) -> None:
    sent = ask(b"x" * 10)
    cut = sent.index(b"\r\n\r\n") + 4 + part
    readings = [Reading(house, tries=tries).feed(sent, sent[:cut]) for tries in (TRIES, 0)]
    assert readings[0].reader.heads == 1
    for reading in readings:
        match ending:
            case "give up":
                assert reading.reader.incoming is not None
                reading.reader.restart_clock(reading.now)
                reading.reader.give_up(reading.reader.incoming)
            case "shut":
                reading.reader.shut()
            case "stop":
                reading.reader.stop()
            case _:
                reading.reader.close()
        reading.feed(b"x" * 10, sent)
    assert readings[0].state == readings[1].state


# --- whatever comes ----------------------------------------------------------------------------------------------

BODY = st.one_of(
    st.binary(max_size=30), st.sampled_from([HELLO, b"", ask(), SMUGGLED, b"\r\n", b"0\r\n\r\n", b"x" * 300])
)
LENGTHS = st.sampled_from(
    [b"+5", b"05", b"5 ", b" 5", b"5,5", b"", b"0", b"00", b"1", b"2049", b"99999999999", b"5\r", b"0x5"]
)
LINES = st.sampled_from(
    [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Expect: 100-continue\r\n", b"X-Request-Id: a\r\n",
     b"Connection: close\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b" folded\r\n", b"X: \n\r\n", b"Origin: null\r\n",
     b"Connection: close\r\nX-Request-Id: a\r\n", b"X-A: %b\r\n" % (b"y" * MAX_HEAD)]
)  # fmt: skip
USUAL = st.builds(ask, BODY)
ODD = st.one_of(
    st.builds(lambda body, length: ask(body, length), BODY, LENGTHS),
    st.builds(lambda body, more: ask(body, more=more), BODY, LINES),
    st.sampled_from([get("/healthz"), post(b"{}"), post(path="/nowhere"), b"\r\n", b"\r", *OTHERS.values()]),
    st.builds(
        lambda sent, at, what, gone: sent[: at % len(sent)] + what + sent[at % len(sent) + gone :],
        USUAL,
        st.integers(0, 500),
        st.one_of(st.binary(max_size=2), st.sampled_from([b"\r\n", b"\n", b" ", b"0", b"5", b"\0", b"\r\n\r\n"])),
        st.integers(0, 3),
    ),
)
REQUESTS = st.integers(0, 9).flatmap(lambda number: ODD if number == 9 else USUAL)
CUTS = st.sampled_from(["apart", "apart", "apart", "head", "head", "joined", "anywhere"])


def cut(requests: Sequence[tuple[bytes, str, int]]) -> list[bytes]:
    """The reads in which they come."""
    reads, held = [], b""
    for sent, how, at in requests:
        sent = held + sent
        held = b""
        end = sent.find(b"\r\n\r\n") + 4 if how == "head" else at % (len(sent) + 1)
        if how == "joined":
            held = sent
        elif how == "apart":
            reads.append(sent)
        else:
            reads += [sent[:end], sent[end:]]
    return [read for read in [*reads, held] if read]


@pytest.mark.security("SEC-SMUGGLE-MEMORY")
def test_whatever_comes_is_read_as_by_a_reader_that_remembers_nothing(house: Gateway) -> None:
    known = Counter[str]()
    before = house.snapshot

    @settings(max_examples=600)
    @given(
        st.lists(st.tuples(REQUESTS, CUTS, st.integers(0, 800)), min_size=2, max_size=12),
        st.dictionaries(st.integers(1, 12), st.sampled_from(["refresh", "drain", "restart"]), max_size=2),
        st.sampled_from([1000, 1000, 1000, 2, 3, 4]),
    )
    def check(requests: list[tuple[bytes, str, int]], happens: dict[int, str], most: int) -> None:
        house.snapshot = before
        reading, plain = Reading(house, most=most), Reading(house, most=most, tries=0)
        for number, read in enumerate([GOOD, *cut(requests)]):
            if happens.get(number) == "refresh":
                house.refresh_keys()
            for one in (reading, plain):
                if happens.get(number) == "drain":
                    one.reader.refuses = True
                elif happens.get(number) == "restart":
                    one.reader.restart_clock(one.now + 0.5)
                one.feed(read)
            assert reading.state == plain.state
        known["heads"] += plain.reader.heads - reading.reader.heads
        known["requests"] += len(plain.got)

    try:
        check()
    finally:
        house.snapshot = before
    assert known["heads"] > known["requests"] / 8, known


def test_the_bytes_that_are_answered_are_the_same(gateway: Running) -> None:
    """And so is what the connection counts."""
    model = b'{"model":"sim/echo","messages":[{"role":"user","content":"%b"}]}'
    sent = [
        ask(model % b"one"), ask(model % b"two three"), ask(b""), ask(b"{"), ask(model % b"four") + get("/healthz"),
        ask(model % b"five"), ask(model % b"six") + ask(model % b"seven"), ask(b"x", b"+1"),
    ]  # fmt: skip
    answers = [answered(gateway, sent, tries) for tries in (TRIES, 0)]
    assert answers[0] == answers[1]
    assert [status for status, _ in answers[0]] == [200, 200, 400, 400, 200, 200, 200, 200, 200, 400]


def counting(client: Client, tries: int = TRIES) -> Parsed:
    """Have the connection read by a reader that counts heads."""
    connection = client.connection
    reader = connection._reader = Parsed(connection, connection._app, client.gateway.loop, tries=tries)
    return reader


VARYING = re.compile(
    rb"(?<=-)[0-9a-f]{16,}|(?<=\"created\":)\d+|(?<=date: )[^\r]*|(?<=processing-ms: )\d+|(?<=x-request-id: )[^\r]*"
)


def answered(gateway: Running, sent: list[bytes], tries: int) -> list[tuple[int, bytes]]:
    """Status and bytes of each answer, without what differs each time."""
    found: list[bytes] = []
    with Client(gateway) as client:
        connection = client.connection
        reader = counting(client, tries)
        counted = gateway.server.server_state.total_requests
        for piece in sent:
            before, expected = len(client.transport.writes), piece.count(b" HTTP/1.1\r\n")
            gateway.call(lambda piece=piece: connection.data_received(piece))  # type: ignore[misc]
            assert wait_for(lambda: b"".join(client.transport.writes[before:]).count(b"HTTP/1.1 ") == expected)  # noqa: B023
            found += client.transport.writes[before:]
        assert gateway.server.server_state.total_requests - counted == 10
        assert reader.heads < 10 if tries else reader.heads >= 9
    parts = [b"HTTP/1.1 " + part for part in b"".join(found).split(b"HTTP/1.1 ")[1:]]
    return [(int(part[9:12]), VARYING.sub(b"*", part)) for part in parts]
