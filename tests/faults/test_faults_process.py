"""What befalls the process: it is killed, told to stop, told to read its file again, and the machine's clock is set."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.clients import CLIENTS, ask, ended, judge, receive, request
from tests.faults.served import STREAMING, Sim, Under, streaming
from tests.faults.witnesses import Booked, Witnesses, calls_made, fetch, figures
from tests.support.raw import Raw
from tests.support.running import wait_for
from tests.support.shifted import WallClock

LONG = "sim/lorem?chunks=500&gap=20"
SHORT = "sim/lorem?chunks=15&gap=20"
SHORT_S = 0.28
DAY_S = 86400.0


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with Sim() as there:
        yield there


def all_of(ending: str, **more: Any) -> list[Booked]:
    """One request in each API."""
    return [Booked(ending, endpoint=client, **more) for client in STREAMING]


@pytest.mark.fault("FAULT-KILLED")
def test_a_kill_cuts_everybody_off_and_the_next_start_closes_the_books(
    sim: Sim, tmp_path: Path, witnesses: Witnesses
) -> None:
    with Under(sim, tmp_path) as gateway:
        with streaming(gateway, LONG, "killed") as answers:
            assert wait_for(lambda: len(gateway.entries()) == len(STREAMING))
            killed_at = gateway.signal(signal.SIGKILL)
        seen = {client: answer.result() for client, answer in answers.items()}
        witnesses.upstream(sim.calls("killed"), closed=len(STREAMING), since=killed_at)
        gateway.stop()
        gateway.start()
        name = seen["responses"].headers["tidegate-stream"]
        kept = json.loads(fetch(gateway, f"/v1/responses/{name}")[1])
        with witnesses.hearing("client"):
            assert not [client for client, answer in seen.items() if answer.whole or ended(answer.body)]
            assert kept["status"] == "failed"
            assert kept["error"]["message"].startswith("gateway_interrupted")
        told = all_of("interrupted", status=0, error="gateway_interrupted", estimated=True)
        ids = [answer.headers["x-request-id"] for answer in seen.values()]
        witnesses.ledger(gateway.settled(len(told)), *told, ids=ids)
        witnesses.metrics({}, figures(gateway))  # this process has seen no request


@pytest.mark.fault("FAULT-SIGTERM")
def test_a_process_that_is_told_to_stop_ends_every_stream_in_the_form_of_its_api(
    sim: Sim, tmp_path: Path, witnesses: Witnesses
) -> None:
    with Under(sim, tmp_path, server='drain_delay = "900ms"\ndrain = "200ms"') as gateway:
        with streaming(gateway, LONG, "stopped") as answers:
            before = figures(gateway)
            told_at = gateway.signal(signal.SIGTERM)
            assert wait_for(lambda: fetch(gateway, "/readyz")[0] == 503)
            last = ask(gateway, "chat", "sim/echo", "last-one", stream=True)
            after = figures(gateway)
        seen = {client: answer.result() for client, answer in answers.items()}
        over_at = time.monotonic()
        assert over_at - told_at >= 1.0
        with witnesses.hearing("client"):
            for client, answer in seen.items():
                verdict = judge(client, answer, stream=True)
                assert verdict.ending == "failed"
                assert client == "messages" or verdict.code == "gateway_shutting_down"
                assert "shutting down" in verdict.message
            assert judge("chat", last, stream=True).text == "last-one"
        witnesses.upstream(sim.calls("stopped"), closed=len(STREAMING), since=over_at)
        witnesses.upstream(sim.calls("last-one"), answered=1)
        gateway.stop()
        assert gateway.process.process.returncode == 0
        done = Booked("completed", endpoint="chat")
        # Nobody can ask any more when the others have ended: while they ran they were counted as running.
        witnesses.metrics(before, after, done, more={"tidegate_exchanges_running": 0})
        assert after["tidegate_exchanges_running"] == len(STREAMING)
        told = all_of("failed", error="gateway_shutting_down", estimated=True)
        ids = [answer.headers["x-request-id"] for answer in [*seen.values(), last]]
        witnesses.ledger(gateway.entries(), *told, done, ids=ids)


@pytest.mark.fault("FAULT-CLOCK")
def test_a_clock_that_is_set_while_streams_run_is_noticed_by_nobody(
    sim: Sim, tmp_path: Path, witnesses: Witnesses
) -> None:
    clock = WallClock(tmp_path / "clock")
    with Under(sim, tmp_path, module=("tests.support.shifted", str(clock.file))) as gateway:
        before = figures(gateway)
        with streaming(gateway, SHORT, "jumped") as answers:
            for ahead in (DAY_S, -DAY_S, 3600.0, 0.0):
                clock.set(ahead)
                time.sleep(0.04)
        seen = {client: answer.result() for client, answer in answers.items()}
        with witnesses.hearing("client"):
            assert {judge(client, one, stream=True).ending for client, one in seen.items()} == {"completed"}
        witnesses.upstream(sim.calls("jumped"), answered=len(STREAMING))
        told = all_of("completed")
        entries = gateway.settled(len(told))
        witnesses.ledger(entries, *told, ids=[answer.headers["x-request-id"] for answer in seen.values()])
        assert all(SHORT_S * 1000 < entry.duration_ms < 10_000 for entry in entries)
        after = figures(gateway)
        witnesses.metrics(before, after, *told)
        for client in STREAMING:
            assert SHORT_S < after[f'tidegate_request_seconds_sum{{endpoint="{client}",provider="sim"}}'] < 10


KEYS = {name: f"key-of-{name}-0123456789abcdef0123456789" for name in ("app", "web")}
KEY = '[[keys]]\nname = "{name}"\nsecret = "{secret}"\n'
APP, WEB = (KEY.format(name=name, secret=secret) for name, secret in KEYS.items())
OTHER = '[providers.other]\nkind = "sim"\nbase_url = "{sim}"\n'
ALIAS = '[models.fast]\ntarget = "{target}/lorem?chunks=15&gap=20"\n'


def bearer(name: str) -> tuple[str]:
    return (f"authorization: Bearer {KEYS[name]}",)


@pytest.mark.fault("FAULT-RELOAD")
def test_what_runs_ends_on_the_configuration_that_it_began_with(sim: Sim, tmp_path: Path, witnesses: Witnesses) -> None:
    other = OTHER.replace("{sim}", sim.base_url)
    with Under(sim, tmp_path, ALIAS.format(target="sim")) as gateway:
        before = figures(gateway)
        with streaming(gateway, "fast", "before-reload") as first:
            gateway.configure("[models.fast]\ntarget = 7\n")
            gateway.signal(signal.SIGHUP)
            assert wait_for(lambda: gateway.events("reload_refused"))
            gateway.configure(other + ALIAS.format(target="other"))
            gateway.signal(signal.SIGHUP)
            assert wait_for(lambda: gateway.events("reloaded"))
            with streaming(gateway, "fast", "after-reload") as second:
                pass
        with witnesses.hearing("client"):
            for target, answers in (("sim", first), ("other", second)):
                for client, answer in answers.items():
                    assert judge(client, answer.result(), stream=True).ending == "completed"
                    assert answer.result().headers["tidegate-deployment"].startswith(f"{target}/")
        for marker in ("before-reload", "after-reload"):
            witnesses.upstream(sim.calls(marker), answered=len(STREAMING))
        told = [*all_of("completed"), *all_of("completed", provider="other")]
        witnesses.ledger(gateway.settled(len(told)), *told)
        witnesses.metrics(before, figures(gateway), *told)


@pytest.mark.fault("FAULT-KEY-REVOKED")
def test_a_key_that_is_taken_away_opens_nothing_from_then_on(sim: Sim, tmp_path: Path, witnesses: Witnesses) -> None:
    """In no API, on connections that are open; what it had begun is not held against it."""
    with Under(sim, tmp_path, APP + WEB) as gateway:
        before = figures(gateway)
        open_ = {client: Raw(gateway) for client in CLIENTS}
        try:
            with streaming(gateway, SHORT, "still-known", headers=bearer("app")) as answers:
                gateway.configure(WEB)
                gateway.signal(signal.SIGHUP)
                assert wait_for(lambda: gateway.events("reloaded"))
                with witnesses.hearing("client"):
                    for client, raw in open_.items():
                        sent = request(client, "sim/lorem", "unknown-key", stream=False, headers=bearer("app"))
                        refusal = receive(raw.send(sent))
                        verdict = judge(client, refusal, stream=False)
                        assert (refusal.status, verdict.ending) == (401, "refused")
                        assert client == "messages" or verdict.code == "invalid_api_key"
                    # Who has another key is served as before.
                    served = ask(gateway, "chat", "sim/echo", "known-key", stream=False, headers=bearer("web"))
                    assert judge("chat", served, stream=False).text == "known-key"
            seen = {client: answer.result() for client, answer in answers.items()}
            assert {judge(client, one, stream=True).ending for client, one in seen.items()} == {"completed"}
        finally:
            for raw in open_.values():
                raw.sock.close()
        witnesses.upstream(sim.calls("unknown-key"))
        witnesses.upstream(sim.calls("still-known"), answered=len(STREAMING))
        done = [*all_of("completed"), Booked("completed", endpoint="chat")]
        refused = [Booked("refused", 401, endpoint=client, provider="", attempts=0) for client in CLIENTS]
        witnesses.ledger(gateway.settled(len(done)), *done)
        witnesses.metrics(before, figures(gateway), *done, *refused)


@pytest.mark.fault("FAULT-LEAK")
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to count files")
def test_nothing_stays_of_streams_that_ended_broke_or_were_left(sim: Sim, tmp_path: Path, witnesses: Witnesses) -> None:
    scripts = {"sim/lorem?chunks=3": "completed", "sim/lorem?chunks=4&fault=reset": "failed", LONG: ""}
    rounds = 4
    with Under(sim, tmp_path) as gateway:
        files = Path(f"/proc/{gateway.process.process.pid}/fd")
        busy = 'tidegate_upstream_connections{provider="sim",state="busy"}'
        for client in STREAMING:
            ask(gateway, client, "sim/lorem", "warm", stream=True)
        gateway.settled(len(STREAMING))
        before = gateway.since()
        known = len(list(files.iterdir()))
        left_at = {}
        with witnesses.hearing("client"):
            for at in range(rounds):
                for client in STREAMING:
                    for script, ending in scripts.items():
                        with Raw(gateway) as raw:
                            marker = f"{ending or 'left'}-{client}-{at}"
                            raw.send(request(client, script, marker, stream=True))
                            if ending:
                                assert judge(client, receive(raw), stream=True).ending == ending
                                continue
                            while b"ipsum" not in raw.buffer:
                                raw.more()
                            left_at[marker] = time.monotonic()
        for marker, at_s in left_at.items():
            witnesses.upstream(sim.calls(marker), closed=1, since=at_s)
        count = rounds * len(STREAMING)
        # What broke, the provider has ended itself.
        witnesses.upstream(sim.calls("completed-") + sim.calls("failed-"), answered=2 * count)
        told = rounds * [
            *all_of("completed"),
            *all_of("failed", error="upstream_broken", estimated=True),
            *all_of("client_gone", error="client_gone", estimated=True),
        ]
        witnesses.ledger(before.entries(len(told)), *told)
        made = {
            calls_made(client, outcome, "sim"): rounds
            for client in STREAMING
            for outcome in ("answered", "failed", "left")
        }
        gone = ("tidegate_exchanges_running", "tidegate_reservations_open", "tidegate_storage_queued_bytes", busy)
        after = wait_for(lambda: none_left(before.after, gone)) or before.after
        witnesses.metrics(before.before, after, *told, attempts=made)
        assert {name: after[name] for name in gone} == dict.fromkeys(gone, 0.0)
        assert wait_for(lambda: len(list(files.iterdir())) <= known), "files stay open"


def none_left(found: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {} if any(found[name] for name in names) else found
