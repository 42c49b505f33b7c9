"""Bad days, over real sockets: what is asked again, what is left alone, and for how long."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.canned import json_answer, sse_answer
from tests.support.deployment import ANSWER, Deployment, error, fine, labelled, metric
from tests.support.running import Running, wait_for
from tidegate.routing.retry import BASE_S


def two(first: Deployment, second: Deployment, routing: str = "", alias: str = "") -> str:
    return (
        f"[server]\nport = 0\n[routing]\n{routing}\n{first.toml('first')}{second.toml('second')}"
        f'[models.a]\ntarget = "first/m"\nfallback = ["second/m"]\n{alias}\n'
    )


@pytest.mark.fault("FAULT-STATUS")
def test_a_failure_is_mended_by_asking_the_same_deployment_again() -> None:
    with (
        Deployment(lambda number, _: error("503 Unavailable") if number == 1 else ANSWER) as first,
        Deployment(fine) as second,
        Running(two(first, second)) as gateway,
        Api(gateway) as api,
    ):
        reply = api.ask("chat", "a")
        assert (reply.status, reply.text) == (200, "fine")
        assert (reply.headers["tidegate-deployment"], reply.headers["tidegate-attempts"]) == ("first/m", "2")
        assert (len(first.calls), len(second.calls)) == (2, 0)
        assert labelled(api, 'tidegate_retries_total{provider="first"}') == 1
        assert gateway.usage(reply.request_id)["attempts"] == 2


@pytest.mark.fault("FAULT-STATUS")
@pytest.mark.parametrize("status", ["500 X", "502 X", "503 X", "504 X", "529 X", "408 X", "409 X"])
def test_retries_are_bounded_and_then_the_next_deployment_answers(status: str) -> None:
    with (
        Deployment(lambda *_: error(status)) as first,
        Deployment(fine) as second,
        Running(two(first, second, "retries = 2\neject_after = 0")) as gateway,
        Api(gateway) as api,
    ):
        reply = api.ask("chat", "a")
        assert (reply.status, reply.headers["tidegate-attempts"]) == (200, "4")
        assert (len(first.calls), len(second.calls)) == (3, 1)


@pytest.mark.fault("FAULT-STATUS")
@pytest.mark.parametrize("status", ["400 X", "404 X", "413 X", "422 X"])
def test_what_the_request_is_to_blame_for_is_asked_once(status: str) -> None:
    with (
        Deployment(lambda *_: error(status)) as first,
        Deployment(fine) as second,
        Running(two(first, second)) as gateway,
        Api(gateway) as api,
    ):
        assert api.ask("chat", "a").status >= 400
        assert (len(first.calls), len(second.calls)) == (1, 0)


def test_a_retry_waits_as_long_as_the_provider_asks_and_not_longer_than_makes_sense() -> None:
    def answer(number: int, _: str) -> bytes:
        if number == 1:
            return error("503 X", "retry-after-ms: 300\r\n")
        return ANSWER if number == 2 else error("503 X", "retry-after: 30\r\n")

    with (
        Deployment(answer) as first,
        Deployment(fine) as second,
        Running(two(first, second)) as gateway,
        Api(gateway) as api,
    ):
        assert api.ask("chat", "a").headers["tidegate-deployment"] == "first/m"
        assert first.calls[1].at - first.calls[0].at >= 0.3
        started = time.monotonic()
        assert api.ask("chat", "a").headers["tidegate-deployment"] == "second/m"
        assert time.monotonic() - started < 2
        assert len(first.calls) == 3


def test_the_total_clock_is_not_overrun_by_a_wait() -> None:
    with (
        Deployment(lambda *_: error("503 X", "retry-after: 2\r\n")) as first,
        Running("[server]\nport = 0\n" + first.toml("first") + '[models.a]\ntarget = "first/m"\n') as gateway,
        Api(gateway) as api,
    ):
        started = time.monotonic()
        assert api.ask("chat", "a", headers={"tidegate-timeout": "1s"}).status == 503
        assert time.monotonic() - started < 1
        assert len(first.calls) == 1


@pytest.mark.fault("FAULT-CLIENT-GONE")
def test_a_client_that_leaves_during_the_wait_ends_it_and_gives_its_share_of_retries_back() -> None:
    with (
        Deployment(lambda *_: error("503 X", "retry-after-ms: 600\r\n")) as first,
        Running("[server]\nport = 0\n" + first.toml("first")) as gateway,
        Api(gateway) as api,
    ):
        body = b'{"model":"first/m","messages":[{"role":"user","content":"x"}]}'
        for number in range(1, 5):
            with socket.create_connection(("127.0.0.1", gateway.port)) as client:
                client.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nx-request-id: left-%d\r\n"
                    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body)
                )
                deadline = time.monotonic() + 5
                while labelled(api, 'tidegate_retries_total{provider="first"}') < number:
                    assert time.monotonic() < deadline
            assert gateway.usage(f"left-{number}")["status"] == 499
        assert labelled(api, 'tidegate_attempts_total{endpoint="chat",outcome="failed",provider="first"}') == 4
        assert labelled(api, "tidegate_retries_denied_total") == 0
        time.sleep(0.8)  # until the waits would have been over
        assert len(first.calls) == 4


@pytest.mark.fault("FAULT-SLOW-FIRST")
@pytest.mark.parametrize("stream", [False, True])
def test_attempts_share_one_total_clock(stream: bool) -> None:
    """It runs from the request on, and not anew for whoever is asked next."""

    def slow(*_: object) -> bytes:
        time.sleep(0.8)
        return error("503 X")

    def stalled(*_: object) -> bytes:
        time.sleep(2.5)
        return ANSWER

    with (
        Deployment(slow) as first,
        Deployment(stalled) as second,
        Running(two(first, second, "retries = 0")) as gateway,
        Api(gateway) as api,
    ):
        begun = time.monotonic()
        reply = api.ask("chat", "a", stream=stream, headers={"tidegate-timeout": "1s"})
        took = time.monotonic() - begun
        assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
        assert "within 1 s (total clock)" in reply.error["message"]
        assert (reply.headers["tidegate-deployment"], reply.headers["tidegate-attempts"]) == ("second/m", "2")
        assert 1.0 <= took < 1.6


@pytest.mark.fault("FAULT-HERD")
def test_a_herd_that_fails_retries_no_more_than_its_share() -> None:
    """Many requests fail at once: a tenth of them may try again, the others are told."""
    barrier = threading.Barrier(60)

    def answer(number: int, _: str) -> bytes:
        if number <= 60:
            barrier.wait(10)
        return error("503 X")

    with (
        Deployment(answer) as first,
        Running(
            "[server]\nport = 0\n[routing]\nretry_budget = 0.1\neject_after = 0\n" + first.toml("first")
        ) as gateway,
        Api(gateway) as api,
        ThreadPoolExecutor(60) as pool,
    ):
        statuses = list(pool.map(lambda _: api.ask("chat", "first/m").status, range(60)))
        assert statuses == [503] * 60
        assert 60 < len(first.calls) <= 60 + 6
        assert metric(api, "tidegate_retries_denied_total") >= 54 - 6


@pytest.mark.fault("FAULT-HERD")
@pytest.mark.alone
def test_those_who_failed_together_do_not_come_back_together() -> None:
    """The waits are drawn from the whole range, so that a provider that recovers is not run over once more. A machine that stands
    still for a tenth of a second makes a crowd of anybody, and does so now and then; without chance there is one each time."""
    herd, rounds = 30, 4
    calls = 3 * herd
    """Of a round: each asks, and comes back twice."""
    barrier = threading.Barrier(herd)

    def answer(number: int, _: str) -> bytes:
        if (number - 1) % calls < herd:
            barrier.wait(10)
        return error("503 X")

    with (
        Deployment(answer) as first,
        Running(
            "[server]\nport = 0\n[routing]\nretries = 2\nretry_budget = 1.0\neject_after = 0\n" + first.toml("first")
        ) as gateway,
        Api(gateway) as api,
        ThreadPoolExecutor(herd) as pool,
    ):
        crowds = []
        for number in range(rounds):
            assert list(pool.map(lambda _: api.ask("chat", "first/m").status, range(herd))) == [503] * herd
            back = sorted(call.at for call in first.calls[number * calls + herd :])
            assert len(back) == 2 * herd
            # Waits of up to 0.1 s and then of up to 0.2 s: without chance they would be two crowds.
            assert back[-1] - back[0] > BASE_S
            crowds.append(max(sum(at <= other < at + BASE_S / 3 for other in back) for at in back))
            if crowds[-1] < herd * 0.9:
                break
        assert crowds[-1] < herd * 0.9, crowds


# --- failover ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-CONNECT")
def test_a_deployment_that_refuses_connections_costs_less_than_50_ms() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with (
        Deployment(fine) as second,
        Running(
            f'[server]\nport = 0\n[providers.first]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
            f'models = ["m"]\n{second.toml("second")}[models.a]\ntarget = "first/m"\nfallback = ["second/m"]\n'
        ) as gateway,
        Api(gateway) as api,
    ):
        direct = min(_timed(lambda: api.ask("chat", "second/m")) for _ in range(5))
        around = min(_timed(lambda: api.ask("chat", "a")) for _ in range(4))
        assert around - direct < 0.05
        assert api.ask("chat", "a").headers["tidegate-attempts"] == "2"
        # That was the fifth failure in a row: the deployment is asked last now.
        assert api.ask("chat", "a").headers["tidegate-attempts"] == "1"


@pytest.mark.fault("FAULT-SLOW-FIRST")
def test_a_deployment_that_stalls_costs_its_first_event_clock() -> None:
    toml = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
timeouts = { first_event = "400ms" }
[models.a]
target = "sim/echo?fault=stall_head"
fallback = ["sim/echo"]
"""
    with Running(toml) as gateway, Api(gateway) as api:
        started = time.monotonic()
        reply = api.ask("chat", "a", stream=True)
        took = time.monotonic() - started
        assert 0.4 <= took < 0.4 + 0.25 + 0.15  # the clock, a bucket of the wheel, and the machine
        assert (reply.headers["tidegate-deployment"], reply.headers["tidegate-attempts"]) == ("sim/echo", "2")


def _timed(what: Callable[[], object]) -> float:
    started = time.monotonic()
    what()
    return time.monotonic() - started


@pytest.mark.fault("FAULT-IN-BAND")
@pytest.mark.parametrize(
    ("frame", "attempts"),
    [
        ({"error": {"code": "server_error", "message": "oops"}}, "3"),
        ({"error": {"code": "rate_limit_exceeded", "message": "slow"}}, "2"),
        ({"error": {"code": "invalid_api_key", "message": "no"}}, "2"),
    ],
)
def test_an_error_hidden_in_a_success_counts_as_what_it_is(frame: dict[str, object], attempts: str) -> None:
    with (
        Deployment(lambda *_: sse_answer(frame)) as first,
        Running(
            f'[server]\nport = 0\n{first.toml("first")}[providers.sim]\nbase_url = "{{sim}}"\n'
            '[models.a]\ntarget = "first/m"\nfallback = ["sim/echo"]\n'
        ) as gateway,
        Api(gateway) as api,
    ):
        reply = api.ask("chat", "a", say="ebb", stream=True)
        assert (reply.status, reply.text, reply.headers["tidegate-attempts"]) == (200, "ebb", attempts)


# --- what is left alone --------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-HERD")
def test_a_deployment_that_keeps_failing_is_ejected_and_one_request_finds_out_that_it_is_back() -> None:
    broken = threading.Event()
    broken.set()

    def answer(number: int, _: str) -> bytes:
        if broken.is_set():
            return error("500 X")
        time.sleep(0.2)  # long enough for others to come while the probe is under way
        return ANSWER

    with (
        Deployment(answer) as first,
        Deployment(fine) as second,
        Running(two(first, second, 'retries = 0\neject_after = 3\neject_for = "400ms"')) as gateway,
        Api(gateway) as api,
        ThreadPoolExecutor(8) as pool,
    ):
        assert [api.ask("chat", "a").headers["tidegate-attempts"] for _ in range(6)] == ["2", "2", "2", "1", "1", "1"]
        assert len(first.calls) == 3
        assert labelled(api, 'tidegate_unfit{provider="first",state="ejected"}') == 1
        assert labelled(api, 'tidegate_health_changes_total{change="ejected",provider="first"}') == 1
        assert [line["deployment"] for line in gateway.log_lines if line["event"] == "deployment_ejected"] == [
            "first/m"
        ]
        time.sleep(0.45)
        assert api.ask("chat", "a").headers["tidegate-attempts"] == "2"  # the probe failed: out for 0.8 s
        time.sleep(0.45)
        assert api.ask("chat", "a").headers["tidegate-attempts"] == "1"
        broken.clear()
        time.sleep(0.45)
        replies = list(pool.map(lambda _: api.ask("chat", "a").headers["tidegate-deployment"], range(8)))
        assert sorted(replies) == ["first/m"] + ["second/m"] * 7
        assert api.ask("chat", "a").headers["tidegate-deployment"] == "first/m"
        assert labelled(api, 'tidegate_unfit{provider="first",state="ejected"}') == 0


@pytest.mark.fault("FAULT-HERD")
def test_stragglers_of_the_crowd_that_failed_keep_nobody_out() -> None:
    """They had begun before the ejection, and fail when it is over: it neither lasts for longer, nor does it double."""
    late = threading.Event()

    def answer(number: int, _: str) -> bytes:
        if number <= 3:
            late.wait(10)
        return error("500 X") if number <= 6 else ANSWER

    with (
        Deployment(answer) as first,
        Deployment(fine) as second,
        Running(two(first, second, 'retries = 0\neject_after = 3\neject_for = "400ms"')) as gateway,
        Api(gateway) as api,
        ThreadPoolExecutor(3) as pool,
    ):
        stragglers = [pool.submit(lambda: api.ask("chat", "a").headers["tidegate-deployment"]) for _ in range(3)]
        assert wait_for(lambda: len(first.calls) == 3)
        assert [api.ask("chat", "a").headers["tidegate-attempts"] for _ in range(4)] == ["2", "2", "2", "1"]
        time.sleep(0.45)
        late.set()
        assert [one.result(5) for one in stragglers] == ["second/m"] * 3
        assert api.ask("chat", "a").headers["tidegate-deployment"] == "first/m"
        assert labelled(api, 'tidegate_health_changes_total{change="ejected",provider="first"}') == 1


@pytest.mark.fault("FAULT-RATE-LIMITED")
def test_a_credential_that_is_limited_rests_until_the_provider_says() -> None:
    def answer(number: int, credential: str) -> bytes:
        return error("429 X", "retry-after-ms: 700\r\n") if credential == "key-a" and number == 1 else ANSWER

    with (
        Deployment(answer) as first,
        Running("[server]\nport = 0\n" + first.toml("first", "key-a", "key-b")) as gateway,
        Api(gateway) as api,
    ):
        reply = api.ask("chat", "first/m")
        assert (reply.status, reply.headers["tidegate-attempts"]) == (200, "2")
        assert [call.credential for call in first.calls] == ["key-a", "key-b"]
        assert [api.ask("chat", "first/m").status for _ in range(4)] == [200] * 4
        assert {call.credential for call in first.calls[2:]} == {"key-b"}
        time.sleep(0.75)
        assert [api.ask("chat", "first/m").status for _ in range(4)] == [200] * 4
        assert {call.credential for call in first.calls[6:]} == {"key-a", "key-b"}
        assert [line["credential"] for line in gateway.log_lines if line["event"] == "credential_cooling"] == [0]


@pytest.mark.fault("FAULT-RATE-LIMITED")
def test_the_request_line_names_who_has_asked_not_to_be_called() -> None:
    with (
        Deployment(lambda *_: error("429 X", "retry-after: 30\r\n")) as first,
        Deployment(fine) as second,
        Running(two(first, second, "retries = 0")) as gateway,
        Api(gateway) as api,
    ):
        told = [gateway.usage(api.ask("chat", "a").request_id)["failed"] for _ in range(2)]
        assert [(one["deployment"], one["error"], one["reason"]) for [one] in told] == [
            ("first/m", "x", "status 429"),
            ("first/m", "rate_limit_exceeded", "not asked"),
        ]
        assert len(first.calls) == 1


@pytest.mark.fault("FAULT-RATE-LIMITED")
def test_while_everybody_has_named_a_time_nobody_is_called() -> None:
    with (
        Deployment(lambda number, _: error("429 X", "retry-after-ms: 600\r\n") if number == 1 else ANSWER) as first,
        Running("[server]\nport = 0\n" + first.toml("first")) as gateway,
        Api(gateway) as api,
    ):
        assert api.ask("chat", "first/m").status == 429
        reply = api.ask("chat", "first/m")
        assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (429, "rate_limit_exceeded", "1")
        assert (reply.headers["tidegate-deployment"], reply.headers["tidegate-attempts"]) == ("first/m", "0")
        assert "limits the rate" in reply.error["message"]
        assert len(first.calls) == 1
        time.sleep(0.65)
        assert api.ask("chat", "first/m").status == 200


@pytest.mark.fault("FAULT-STATUS")
def test_a_refused_credential_is_passed_over_and_somebody_is_told() -> None:
    with (
        Deployment(lambda _, credential: error("401 X") if credential == "key-a" else ANSWER) as first,
        Running("[server]\nport = 0\n" + first.toml("first", "key-a", "key-b")) as gateway,
        Api(gateway) as api,
    ):
        assert [api.ask("chat", "first/m").status for _ in range(6)] == [200] * 6
        assert [call.credential for call in first.calls].count("key-a") == 1
        told = [line for line in gateway.log_lines if line["event"] == "credential_refused"]
        assert [(line["provider"], line["credential"], line["level"]) for line in told] == [("first", 0, "error")]
        assert labelled(api, 'tidegate_unfit{provider="first",state="refused"}') == 1
        assert not any("key-a" in str(line) for line in gateway.log_lines)


@pytest.mark.fault("FAULT-STATUS")
def test_a_refused_credential_leads_to_the_fallback_at_once_and_is_not_asked_again() -> None:
    with (
        Deployment(lambda *_: error("403 X")) as first,
        Deployment(fine) as second,
        Running(two(first, second)) as gateway,
        Api(gateway) as api,
    ):
        assert [api.ask("chat", "a").headers["tidegate-attempts"] for _ in range(3)] == ["2", "1", "1"]
        assert api.ask("chat", "first/m").error["code"] == "upstream_auth"


REFUSALS = {
    # what the provider says, the client's status without a fallback, and what is left alone
    "model": ({"message": "Project `p` does not have access to model `m`", "code": "model_not_found"}, 502, "cooling"),
    "place": ({"message": "Country, region, or territory not supported", "type": "request_forbidden"}, 502, ""),
    "filter": ({"message": "Content violates usage guidelines."}, 400, ""),
    "file": ({"message": "You do not have permission to access the File f or it may not exist."}, 404, ""),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_403_that_is_not_about_the_account_leaves_the_credential_where_it_was(what: str) -> None:
    said, status, state = REFUSALS[what]
    with (
        Deployment(lambda number, _: json_answer({"error": said}, "403 X") if number == 1 else ANSWER) as first,
        Running("[server]\nport = 0\n" + first.toml("first", "key-a")) as gateway,
        Api(gateway) as api,
    ):
        assert api.ask("chat", "first/m").status == status
        for kind in ("refused", "ejected", "cooling"):
            assert labelled(api, f'tidegate_unfit{{provider="first",state="{kind}"}}') == (kind == state)
        assert not any(line["event"] == "credential_refused" for line in gateway.log_lines)
        assert api.ask("chat", "first/other").status == 200


def test_a_credential_that_may_not_use_a_model_is_passed_over_for_that_model_alone() -> None:
    said = error("403 X", code="model_not_found")
    with (
        Deployment(lambda _, credential: said if credential == "key-a" else ANSWER) as first,
        Running("[server]\nport = 0\n" + first.toml("first", "key-a", "key-b")) as gateway,
        Api(gateway) as api,
    ):
        replies = [api.ask("chat", "first/m") for _ in range(5)]
        assert [reply.status for reply in replies] == [200] * 5
        assert sorted(reply.headers["tidegate-attempts"] for reply in replies) == ["1", "1", "1", "1", "2"]
        told = [line for line in gateway.log_lines if line["event"] == "credential_denied"]
        assert [(line["deployment"], line["credential"]) for line in told] == [("first/m", 0)]
        assert labelled(api, 'tidegate_health_changes_total{change="denied",provider="first"}') == 1
        before = [call.credential for call in first.calls].count("key-a")
        assert {api.ask("chat", "first/n").status for _ in range(2)} == {200}
        assert [call.credential for call in first.calls].count("key-a") == before + 1


def test_a_place_that_is_not_served_leads_to_another_provider_and_not_to_another_credential() -> None:
    said = json_answer({"error": {"type": "forbidden", "message": "Request not allowed"}}, "403 X")
    with (
        Deployment(lambda *_: said) as first,
        Deployment(fine) as second,
        Running(
            f"[server]\nport = 0\n[routing]\neject_after = 2\n{first.toml('first', 'key-a', 'key-b')}{second.toml('second')}"
            '[models.a]\ntarget = "first/m"\nfallback = ["second/m"]\n'
        ) as gateway,
        Api(gateway) as api,
    ):
        assert [api.ask("chat", "a").headers["tidegate-attempts"] for _ in range(3)] == ["2", "2", "1"]
        assert labelled(api, 'tidegate_unfit{provider="first",state="ejected"}') == 1


def test_a_provider_may_have_rules_of_its_own(tmp_path: Path) -> None:
    def toml(own: str) -> str:
        return (
            f"[server]\nport = 0\n[routing]\nretries = 2\neject_after = 0\n{first.toml('first', more=own)}{second.toml('second')}"
            '[models.a]\ntarget = "first/m"\nfallback = ["second/m"]\n'
        )

    with Deployment(lambda *_: error("500 X")) as first, Deployment(lambda *_: error("500 X")) as second:
        path = tmp_path / "tidegate.toml"
        own = 'routing = { retries = 0, eject_after = 2, eject_for = "1m" }'
        with Running(toml(own), path=path) as gateway, Api(gateway) as api:
            for _ in range(3):
                reply = api.ask("chat", "a")
                assert (reply.status, reply.headers["tidegate-attempts"]) == (502, "4")
            # At the third request the first one is ejected, and is asked last; the other never is.
            assert reply.headers["tidegate-deployment"] == "first/m"
            assert (len(first.calls), len(second.calls)) == (3, 9)
            assert labelled(api, 'tidegate_unfit{provider="first",state="ejected"}') == 1
            assert labelled(api, 'tidegate_unfit{provider="second",state="ejected"}') == 0
            assert labelled(api, 'tidegate_retries_total{provider="first"}') == 0
            path.write_text(toml(""), "utf-8")
            gateway.call(gateway.server._parts.reload)
            assert api.ask("chat", "first/m").headers["tidegate-attempts"] == "3"


# --- which one -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, list[Deployment]]]:
    with (
        Deployment(fine) as x,
        Deployment(fine) as y,
        Running(
            f"[server]\nport = 0\ndata_dir = '{tmp_path_factory.mktemp('data')}'\n{x.toml('x', 'key-a', 'key-b', 'key-c')}{y.toml('y')}"
            '[models.a]\ntargets = [{ model = "x/m" }, { model = "y/m" }]\n'
            '[models.loose]\ntargets = [{ model = "x/m" }, { model = "y/m" }]\nsticky = false\n'
            '[models.cheap]\ntargets = [{ model = "x/m", price = 3 }, { model = "y/m", price = 2.5 }]\n'
            'strategy = "cheapest"\n'
        ) as gateway,
        Api(gateway) as api,
    ):
        yield api, [x, y]


def served(api: Api, model: str, times: int, endpoint: str = "chat", **members: Any) -> set[str]:
    return {api.ask(endpoint, model, **members).headers["tidegate-deployment"] for _ in range(times)}


def test_the_same_cache_key_finds_the_same_target_and_credential(spread: tuple[Api, list[Deployment]]) -> None:
    api, (x, _) = spread
    found = [served(api, "a", 4, prompt_cache_key=f"k{at}") for at in range(8)]
    assert all(len(one) == 1 for one in found)
    assert set().union(*found) == {"x/m", "y/m"}
    assert served(api, "loose", 24, prompt_cache_key="k1") == {"x/m", "y/m"}
    before = len(x.calls)
    served(api, "x/m", 6, prompt_cache_key="k1")
    assert len({call.credential for call in x.calls[before:]}) == 1
    served(api, "x/m", 6)
    assert len({call.credential for call in x.calls[before + 6 :]}) == 3


def test_responses_that_build_on_one_another_go_to_the_same_target(spread: tuple[Api, list[Deployment]]) -> None:
    api, _ = spread
    firsts: set[str] = set()
    for _ in range(64):  # until both had one to begin: where a chain begins is drawn
        if len(firsts) == 2:
            break
        reply = api.ask("responses", "a", store=True)
        first = reply.headers["tidegate-deployment"]
        firsts.add(first)
        for _ in range(3):
            previous = reply.json["id"]
            reply = api.ask("responses", "a", store=True, previous_response_id=previous)
            assert reply.headers["tidegate-deployment"] == first
            assert reply.json["id"] != previous
            assert reply.json["id"][-4:] == previous[-4:]
            assert len(reply.json["id"]) == len(previous)
    assert firsts == {"x/m", "y/m"}


def test_the_cheapest_target_is_asked(spread: tuple[Api, list[Deployment]]) -> None:
    api, _ = spread
    assert served(api, "cheap", 8) == {"y/m"}


def test_the_cheapest_is_found_by_the_prices_of_the_catalogue_and_of_the_configuration() -> None:
    listed = 'price_list = "openai"'
    with (
        Deployment(fine) as x,
        Deployment(fine) as y,
        Running(
            f"[server]\nport = 0\n[routing]\neject_after = 0\n"
            f"{x.toml('x', more=listed)}{y.toml('y', more=listed)}"
            '[providers.closed]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["m"]\n'
            '[prices."closed/free"]\ninput = 0\noutput = 0\n[prices."x/half"]\ninput = 0\n'
            '[prices."x/cut"]\ninput = 0.001\noutput = 0.001\n'
            "[models]\n"
            'listed = { strategy = "cheapest", targets = [{ model = "x/nobody-knows", weight = 9999 }, { model = "x/gpt-4o" }, '
            '{ model = "y/gpt-4o-mini" }] }\n'
            'given = { strategy = "cheapest", targets = [{ model = "y/gpt-4o-mini" }, { model = "x/cut" }] }\n'
            'unknown-last = { strategy = "cheapest", targets = [{ model = "x/half", weight = 9999 }, '
            '{ model = "closed/free" }, { model = "y/gpt-4o" }] }\n'
        ) as gateway,
        Api(gateway) as api,
    ):
        parts = gateway.server._parts.gateway
        assert parts is not None
        assert wait_for(lambda: not parts.ledger.is_loading, 10), "the catalogue is read beside the start"
        assert served(api, "listed", 6) == {"y/gpt-4o-mini"}
        assert served(api, "given", 6) == {"x/cut"}
        # What is free comes first, and fails; what lacks a price for its output comes last.
        assert served(api, "unknown-last", 4) == {"y/gpt-4o"}
        assert api.ask("chat", "unknown-last").headers["tidegate-attempts"] == "2"


def test_the_other_target_stands_in_without_being_a_fallback() -> None:
    with (
        Deployment(lambda *_: error("429 X")) as x,
        Deployment(fine) as y,
        Running(
            f"[server]\nport = 0\n{x.toml('x')}{y.toml('y')}"
            '[models.a]\ntargets = [{ model = "x/m", weight = 9999 }, { model = "y/m" }]\n'
        ) as gateway,
        Api(gateway) as api,
    ):
        replies = [api.ask("chat", "a") for _ in range(3)]
        assert [(one.status, one.headers["tidegate-deployment"]) for one in replies] == [(200, "y/m")] * 3
        assert len(x.calls) == 1


def test_the_busy_one_is_spared() -> None:
    held = threading.Event()

    def slow(number: int, _: str) -> bytes:
        held.wait(10)
        return ANSWER

    with (
        Deployment(slow) as x,
        Deployment(fine) as y,
        Running(
            f"[server]\nport = 0\n{x.toml('x')}{y.toml('y')}"
            '[models.a]\ntargets = [{ model = "x/m" }, { model = "y/m" }]\nstrategy = "least-busy"\n'
        ) as gateway,
        Api(gateway) as api,
        ThreadPoolExecutor(4) as pool,
    ):
        hanging = pool.submit(lambda: api.ask("chat", "x/m"))
        while not x.calls:
            time.sleep(0.01)
        assert served(api, "a", 10) == {"y/m"}
        held.set()
        assert hanging.result(10).status == 200


@pytest.mark.fault("FAULT-TYPED-400")
@pytest.mark.parametrize(
    ("code", "condition"), [("context_length_exceeded", "context_length"), ("content_filter", "content_filter")]
)
def test_a_refusal_goes_to_the_next_model_only_where_the_alias_says_so(code: str, condition: str) -> None:
    for alias, status in ((f'fallback_on = ["{condition}"]', 200), ("", 400)):
        with (
            Deployment(lambda *_: error("400 X", code=code)) as first,
            Deployment(fine) as second,
            Running(two(first, second, alias=alias)) as gateway,
            Api(gateway) as api,
        ):
            assert api.ask("chat", "a").status == status
            assert len(first.calls) == 1


@pytest.mark.fault("FAULT-RELOAD")
def test_a_reload_keeps_what_is_known_of_providers_that_it_does_not_change(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    with (
        Deployment(lambda *_: error("500 X")) as first,
        Deployment(fine) as second,
        Running(two(first, second, "retries = 0\neject_after = 2"), path=path) as gateway,
        Api(gateway) as api,
    ):

        def reload(count: int) -> None:
            gateway.call(gateway.server._parts.reload)
            deadline = time.monotonic() + 5
            while sum(line["event"] == "reloaded" for line in gateway.log_lines) < count:
                assert time.monotonic() < deadline

        assert [api.ask("chat", "a").headers["tidegate-attempts"] for _ in range(3)] == ["2", "2", "1"]
        reload(1)
        assert api.ask("chat", "a").headers["tidegate-attempts"] == "1"
        path.write_text(
            path.read_text("utf-8")
            .replace("[models.a]", first.toml("first", "other-key") + "[models.a]", 1)
            .replace(first.toml("first"), "", 1),
            "utf-8",
        )
        reload(2)
        assert api.ask("chat", "a").headers["tidegate-attempts"] == "2"
        assert first.calls[-1].credential == "other-key"
