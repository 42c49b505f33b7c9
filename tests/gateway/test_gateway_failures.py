"""What becomes of a request when the provider fails: a status before the first event, an honest ending after it."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.support.api import ENDPOINTS, Api, Reply
from tests.support.canned import Canned
from tests.support.grammar import check_stream
from tests.support.running import Running

STREAM = [False, True]

STATUSES: list[tuple[int, int, str, bool]] = [
    # provider's status, client's status, code, whether the SDK may repeat it
    (400, 400, "", False),
    (401, 502, "upstream_auth", False),
    (402, 429, "insufficient_quota", False),
    (403, 502, "upstream_auth", False),
    (404, 404, "model_not_found", False),
    (405, 502, "upstream_refused", False),
    (408, 504, "upstream_timeout", True),
    (409, 503, "server_error", True),
    (413, 413, "", False),
    (418, 502, "upstream_refused", False),
    (422, 400, "", False),
    (429, 429, "rate_limit_exceeded", True),
    (500, 502, "server_error", True),
    (501, 502, "server_error", True),
    (502, 502, "server_error", True),
    (503, 503, "server_is_overloaded", True),
    (504, 504, "upstream_timeout", True),
    (529, 503, "server_is_overloaded", True),
]


def failed(api: Api, endpoint: str, model: str, *, stream: bool, **members: Any) -> Reply:
    """An answer that is an error; the usage entry is checked along with it."""
    reply = api.ask(endpoint, model, stream=stream, **members)
    assert reply.status >= 400, reply.content
    assert reply.error["message"]
    entry = api.gateway.usage(reply.request_id)
    assert (entry["status"], entry["endpoint"], entry["stream"]) == (reply.status, endpoint, stream)
    assert entry["ending"] == ("refused" if reply.status in (400, 404, 413) else "failed")
    assert entry.get("error") == reply.error["code"]
    assert entry["deployment"] == reply.headers["tidegate-deployment"]
    return reply


@pytest.mark.fault("FAULT-STATUS")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize(("given", "told", "code", "again"), STATUSES, ids=[str(row[0]) for row in STATUSES])
def test_statuses_of_the_provider_have_one_mapping(
    api: Api, endpoint: str, stream: bool, given: int, told: int, code: str, again: bool
) -> None:
    for body in ("json", "html", "text", "empty"):
        reply = failed(api, endpoint, f"sim/echo?status={given}&body={body}", stream=stream)
        assert reply.status == told
        if (given, body) == (403, "html"):  # no API writes web pages: the network in front of it does
            assert reply.error["code"] == "upstream_denied"
        elif (given, body) != (529, "json"):  # there the provider has a code of its own
            assert (reply.error["code"] or "") == code
        if told >= 500:
            assert reply.headers.get("x-should-retry", "true") == ("true" if again else "false")
        assert "<html" not in reply.error["message"]
        if told >= 500 or body != "json":
            assert "'sim'" in reply.error["message"]


@pytest.mark.fault("FAULT-TYPED-400")
@pytest.mark.parametrize("stream", STREAM)
def test_what_the_provider_says_about_the_request_is_passed_on(api: Api, stream: bool) -> None:
    model = "sim/echo?status=400&code=context_length_exceeded&type=invalid_request_error&message=Too+long."
    error = failed(api, "chat", model, stream=stream).error
    assert error["message"] == "Too long."
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")


@pytest.mark.fault("FAULT-STATUS")
@pytest.mark.security("SEC-API10-REDACT")
@pytest.mark.parametrize("status", [401, 403])
def test_what_the_provider_says_about_our_credential_is_not(api: Api, status: int) -> None:
    reply = failed(api, "chat", f"sim/echo?status={status}&message=Incorrect+key+sk-secret", stream=False)
    assert b"sk-secret" not in reply.content.replace(reply.headers["tidegate-deployment"].encode(), b"")
    assert "refused the gateway's credential" in reply.error["message"]


def _date(seconds: float) -> str:
    return quote_plus(format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True))


LATER, EARLIER = "{later}", "{earlier}"
"""Stand for dates, which only the running test can know."""


@pytest.mark.fault("FAULT-RATE-LIMITED")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        ("retry_after=7", 7, 7),
        ("retry_after=0.2", 1, 1),
        ("retry_after_ms=1500", 2, 2),
        ("retry_after=9&retry_after_ms=250", 1, 1),
        ("retry_after=9&retry_after_ms=soon", 9, 9),
        (f"retry_after={LATER}", 100, 300),
        (f"retry_after={EARLIER}", 0, 0),
        ("retry_after=-5", 0, 0),
        ("retry_after=99999999", 3540, 3600),  # what is left of it: the machine may stand still between two
        ("retry_after=1e999", 3600, 3600),
        ("retry_after=soon", None, None),
        ("retry_after=nan", None, None),
        ("retry_after_ms=nan", None, None),
        ("retry_after=", None, None),
        ("body=json", None, None),
    ],
)
def test_retry_after_is_passed_on_as_whole_seconds(
    api: Api, endpoint: str, options: str, least: int | None, most: int | None
) -> None:
    options = options.replace(LATER, _date(300)).replace(EARLIER, _date(-300))
    for status in (429, 503):
        value = failed(api, endpoint, f"sim/echo?status={status}&{options}", stream=True).headers.get("retry-after")
        if least is None or most is None:
            assert value is None
        else:
            assert value is not None
            assert least <= int(value) <= most


@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", STREAM)
def test_a_provider_that_refuses_connections_is_502(api: Api, endpoint: str, stream: bool) -> None:
    reply = failed(api, endpoint, "closed/m", stream=stream)
    assert (reply.status, reply.error["code"]) == (502, "upstream_unreachable")
    assert "closed" in reply.error["message"]


# What a provider may do before its first event, and what the client gets. Streams only differ where it says so.
EARLY = [
    ("fault=close_head", 502, "upstream_broken"),
    ("fault=not_http", 502, "upstream_broken"),
    ("fault=many_headers", 502, "upstream_broken"),
    ("fault=both_lengths", 502, "upstream_broken"),
    ("fault=html200", 502, "upstream_broken"),
    ("fault=empty200", 502, "upstream_broken"),
    ("fault=redirect", 502, "upstream_broken"),
    ("fault=reset&after=0", 502, "upstream_broken"),
    ("fault=close&after=0", 502, "upstream_broken"),
    ("fault=eof&after=0", 502, "upstream_broken"),
    ("fault=garbage&after=0", 502, "upstream_broken"),
    ("fault=bad_chunk_size&after=0", 502, "upstream_broken"),
    ("fault=gzip_bomb", 502, "upstream_broken"),
]


@pytest.mark.fault("FAULT-ODD-200", "FAULT-BOMB")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize(("fault", "status", "code"), EARLY, ids=[row[0] for row in EARLY])
def test_a_failure_before_the_first_event_is_a_status(
    api: Api, endpoint: str, stream: bool, fault: str, status: int, code: str
) -> None:
    reply = failed(api, endpoint, f"sim/lorem?{fault}", stream=stream)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert "'sim'" in reply.error["message"]


@pytest.mark.fault("FAULT-BROKEN-JSON", "FAULT-ODD-200")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "fault", ["json200", "error", "failed", "truncated_json", "cut", "garbage", "badutf8", "longline"]
)
def test_a_broken_answer_in_one_body_is_502(api: Api, endpoint: str, fault: str) -> None:
    reply = failed(api, endpoint, f"sim/lorem?fault={fault}", stream=False)
    assert reply.status == 502


@pytest.mark.fault("FAULT-IN-BAND")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("code", "status"),
    [("rate_limit_exceeded", 429), ("server_is_overloaded", 503), ("context_length_exceeded", 400), ("x", 502)],
)
def test_an_error_in_the_stream_before_the_first_event_has_its_real_status(
    api: Api, endpoint: str, code: str, status: int
) -> None:
    kind = "invalid_request_error" if status == 400 else "server_error"
    reply = failed(api, endpoint, f"sim/lorem?fault=error&after=0&code={code}&type={kind}&message=no", stream=True)
    assert (reply.status, reply.error["code"]) == (status, code)


@pytest.mark.fault("FAULT-SLOW-FIRST")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_provider_that_never_answers_is_504_that_names_the_clock(api: Api, endpoint: str) -> None:
    started = time.monotonic()
    streamed = failed(api, endpoint, "sim/lorem?fault=stall_head", stream=True)
    assert (streamed.status, streamed.error["code"]) == (504, "upstream_timeout")
    assert "first_event clock" in streamed.error["message"]
    assert time.monotonic() - started < 1.7
    stalled = failed(api, endpoint, "sim/lorem?fault=stall", stream=False)
    assert stalled.status == 504
    assert "idle clock" in stalled.error["message"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_error_status_counts_even_if_its_body_never_ends(api: Api, endpoint: str) -> None:
    answer = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 4\r\ncontent-length: 500\r\n\r\n{"
    with Canned(answer) as provider, Running(f"[server]\nport = 0\n{provider.toml()}") as gateway, Api(gateway) as own:
        for stream in STREAM:
            reply = own.ask(endpoint, "canned/m", stream=stream)
            assert (reply.status, reply.headers["retry-after"]) == (429, "4")


LATE = [
    "fault=reset",
    "fault=close",
    "fault=cut",
    "fault=eof",
    "fault=stall",
    "fault=garbage",
    "fault=badutf8",
    "fault=longline",
    "fault=bad_chunk_size",
    "fault=error",
    "fault=error&only=1",
    "fault=error&shape=flat",
    "fault=failed",
    "finish=none",
    # All in one read: what came whole before the failure must neither be lost nor numbered twice.
    "fault=error&burst=1",
    "fault=garbage&burst=1",
    "fault=badutf8&burst=1",
    "fault=eof&burst=1",
]


@pytest.mark.fault("FAULT-STALL", "FAULT-CUT", "FAULT-UTF8")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("fault", LATE)
def test_a_failure_after_the_first_event_is_an_honest_ending(api: Api, endpoint: str, fault: str) -> None:
    reply = api.ask(endpoint, f"sim/lorem?chunks=4&{fault}", stream=True)
    assert reply.status == 200
    assert reply.text.startswith(" 0 lorem")
    assert b"data: [DONE]" not in reply.content
    if endpoint == "responses":
        assert reply.kinds[-2:] == ["error", "response.failed"]
        announced, end = reply.events[-2], reply.events[-1]["response"]
        assert announced["message"] == announced["error"]["message"]
        assert announced["code"] == announced["error"]["code"]
        assert end["status"] == "failed"
        assert end["error"]["code"] in ("server_error", "rate_limit_exceeded")
        assert [event["sequence_number"] for event in reply.events] == list(range(len(reply.events)))
    else:
        assert set(reply.events[-1]) == {"error"}
        assert not any(choice["finish_reason"] for event in reply.events[:-1] for choice in event["choices"])
    entry = api.gateway.usage(reply.request_id)
    assert (entry["status"], entry["ending"]) == (200, "failed")
    assert entry["error"]
    assert entry["output_tokens"] > 0
    assert entry["attempts"] == 1


TOLERATED = [
    "fault=wrong_type",
    "fault=no_type",
    "fault=gzip",
    "fault=dup_finish",
    "fault=dup_role",
    "fault=extra_after_end",
    "fault=seq_jump",
    "fault=seq_stuck",
    "fault=headless",
    "fault=unknown",
    "fault=keepalive",
    "fault=continue100",
    "fault=close_keepalive",
    "fault=unsolicited",
    "fault=head_slow",
    "fault=stale",
    "crlf=1",
    "comments=5",
    "framing=close",
    "framing=length",
    "done=0",
]


@pytest.mark.fault("FAULT-MALFORMED-SSE", "FAULT-DISORDER")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("oddity", TOLERATED)
@pytest.mark.parametrize("stream", STREAM)
def test_an_odd_provider_is_understood(api: Api, endpoint: str, oddity: str, stream: bool) -> None:
    reply = api.ask(endpoint, f"sim/lorem?chunks=4&{oddity}", stream=stream)
    assert reply.status == 200, reply.content
    assert reply.text == "".join(f" {at} lorem ipsum d" for at in range(4))
    if stream and endpoint == "responses" and "unknown" not in oddity:
        end = check_stream([frame for frame in reply.frames if frame.event != "keepalive"])
        assert end["status"] == "completed"
    elif stream and endpoint != "responses":
        assert reply.frames[-1].data == b"[DONE]"
    assert api.gateway.usage(reply.request_id)["ending"] == "completed"


@pytest.mark.security("SEC-SMUGGLE-UPSTREAM")
def test_bytes_after_a_whole_answer_do_not_reach_the_next_client(api: Api) -> None:
    for _ in range(5):
        reply = api.ask("responses", "sim/echo?fault=unsolicited", say="mine")
        assert (reply.status, reply.text) == (200, "mine")
        assert b"stolen" not in reply.content


@pytest.mark.fault("FAULT-MALFORMED-SSE")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_stream_that_ends_without_its_last_byte_but_after_a_real_finish_is_whole(api: Api, endpoint: str) -> None:
    """The terminal event has come; that the connection then broke changes nothing."""
    after = {"responses": 10, "chat": 4, "completions": 3}[endpoint]
    reply = api.ask(endpoint, f"sim/lorem?chunks=2&fault=reset&after={after}", stream=True)
    assert api.gateway.usage(reply.request_id)["ending"] == "completed", reply.content
