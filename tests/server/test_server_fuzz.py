"""Whatever bytes come, and however they are cut: the same answers, none of them a 5xx, and nothing left behind."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.raw import HELLO, chunk, get, post, request
from tests.support.running import Running, wait_for
from tests.support.transport import Client

FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CHUNKED = (
    request("POST", "/v1/responses", "Transfer-Encoding: chunked")
    + chunk(HELLO[:9])
    + chunk(HELLO[9:])
    + b"0\r\nX-T: 1\r\n\r\n"
)
REQUESTS = [
    post(HELLO),
    post(b'{"model":"sim/lorem?chunks=2","input":"x","stream":true}'),
    post(b"{"),
    post(HELLO, "Expect: 100-continue"),
    post(HELLO, "Connection: Upgrade", "Upgrade: h2c"),
    post(HELLO, path="/nowhere"),
    CHUNKED,
    get("/healthz"),
    request("HEAD", "/healthz"),
    request("DELETE", "/v1/models"),
]
ENDING = [b"", b"garbage\r\n\r\n", get("/healthz", "Connection: close"), get("/healthz", host="evil.example")]


def statuses(gateway: Running, pieces: list[bytes]) -> list[int]:
    """What is answered to these reads, as soon as nothing is under way any more."""
    with Client(gateway) as client:
        connection = client.connection
        for piece in pieces:
            gateway.call(lambda piece=piece: connection.data_received(piece))  # type: ignore[misc]
        assert wait_for(lambda: connection._running is None and not connection._queue, 5), pieces
        writes = client.transport.writes
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d\d\d) ", b"".join(writes))]


def failures(gateway: Running) -> list[object]:
    return [line for line in gateway.log_lines if line.get("level") == "error"]


@FUZZ
@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6), st.sampled_from(ENDING), st.data())
def test_where_the_reads_are_cut_makes_no_difference(
    gateway: Running, requests: list[bytes], ending: bytes, data: st.DataObject
) -> None:
    sent = b"".join(requests) + ending
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True) if end > start]
    # An interim answer depends on how much of the body has come (RFC 9110 §10.1.1).
    final = [[status for status in statuses(gateway, parts) if status != 100] for parts in ([sent], pieces)]
    assert final[0] == final[1]
    assert len(final[0]) == len(requests) + (ending != b"")


@pytest.mark.security("SEC-DOS-FUZZ")
@FUZZ
@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3), st.data())
def test_no_mutation_of_a_request_is_our_fault(gateway: Running, requests: list[bytes], data: st.DataObject) -> None:
    before = len(failures(gateway))
    sent = bytearray(b"".join(requests))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(sent) - 1))
        match data.draw(st.sampled_from(["change", "insert", "delete", "repeat"])):
            case "change":
                sent[at] = data.draw(st.integers(0, 255))
            case "insert":
                sent[at:at] = data.draw(
                    st.sampled_from([b"\r\n", b"\n", b" ", b"\0", b":", b"\xff", b"0", b"\r\n\r\n", b"Host: x\r\n"])
                )
            case "delete" if len(sent) > 20:
                del sent[at : at + data.draw(st.integers(1, 10))]
            case _:
                sent[at:at] = sent[at : at + 20]
    assert all(status < 500 for status in statuses(gateway, [bytes(sent)])), bytes(sent)
    assert len(failures(gateway)) == before
