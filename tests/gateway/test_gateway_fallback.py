"""Another deployment may answer until the first event has reached the client, and never after it."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.api import ENDPOINTS, Api
from tests.support.grammar import check_stream
from tests.support.running import Running

TOML = """
[server]
port = 0
[routing]
retries = 0
eject_after = 0
[providers.sim]
base_url = "{sim}"
timeouts = { first_event = "500ms", idle = "500ms" }
[providers.second]
kind = "sim"
base_url = "{sim}"
timeouts = { first_event = "500ms", idle = "500ms" }
[providers.closed]
kind = "sim"
base_url = "http://127.0.0.1:9/v1"
models = ["m"]
[providers.openai]
base_url = "{sim}"
credentials = ["sk-upstream-0123456789abcdef0123456789"]
[models.unreachable]
target = "closed/m"
fallback = ["second/echo"]
[models.overloaded]
target = "sim/echo?status=503"
fallback = ["sim/echo?status=500", "second/echo"]
[models.late]
target = "sim/echo?fault=stall_head"
fallback = ["second/echo"]
[models.opened]
target = "sim/lorem?fault=close&after=2"
fallback = ["second/lorem?chunks=8&gap=120"]
[models.opened-at-once]
target = "sim/lorem?fault=error&after=2&burst=1"
fallback = ["second/echo"]
[models.inband]
target = "sim/lorem?fault=error&after=0"
fallback = ["second/echo"]
[models.broken]
target = "sim/lorem?fault=reset"
fallback = ["second/echo"]
[models.refused]
target = "sim/echo?status=400"
fallback = ["second/echo"]
[models.hopeless]
target = "sim/echo?status=429&retry_after=9"
fallback = ["closed/m", "sim/echo?status=503&retry_after=3"]
[models.hopeless-stream]
target = "sim/echo?status=429&retry_after=8"
fallback = ["closed/m", "sim/echo?status=503&retry_after=3"]
[models.picky]
target = "sim/echo?status=503"
fallback = ["openai/echo", "second/echo"]
[models.only-picky]
target = "sim/echo?status=503"
fallback = ["openai/echo"]
[models.twice]
target = "sim/echo?status=503"
fallback = ["sim/echo?status=503", "second/echo?status=503"]
[models.weighted]
targets = [{ model = "sim/echo", weight = 3 }, { model = "second/echo", weight = 1 }, { model = "closed/m", weight = 0 }]
[models.nested]
targets = [{ model = "half", weight = 1 }, { model = "closed/m", weight = 0 }]
[models.half]
targets = [{ model = "sim/echo", weight = 1 }, { model = "second/echo", weight = 1 }]
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def api(gateway: Running) -> Iterator[Api]:
    with Api(gateway) as client:
        assert client.get("/v1/models").status == 200
        yield client


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("alias", "attempts"), [("unreachable", 2), ("overloaded", 3)])
def test_the_next_deployment_answers_as_if_nothing_had_happened(
    api: Api, endpoint: str, stream: bool, alias: str, attempts: int
) -> None:
    reply = api.ask(endpoint, alias, say="ebb", stream=stream)
    assert (reply.status, reply.text) == (200, "ebb")
    assert reply.headers["tidegate-deployment"] == "second/echo"
    assert reply.headers["tidegate-attempts"] == str(attempts)
    entry = api.gateway.usage(reply.request_id)
    assert (entry["attempts"], entry["deployment"], entry["ending"]) == (attempts, "second/echo", "completed")
    assert entry["model"] == alias
    shown = reply.events[-1 if endpoint == "responses" else 0] if stream else reply.json
    assert shown.get("response", shown)["model"] == "echo"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_dead_provider_is_seen_behind_the_one_that_answers(api: Api, endpoint: str) -> None:
    """Its attempts count for itself, and the request line says what went wrong there."""
    before = {provider: _attempts(api, endpoint, provider) for provider in ("closed", "second")}
    reply = api.ask(endpoint, "unreachable", say="ebb")
    entry = api.gateway.usage(reply.request_id)
    assert (reply.status, entry["ending"], entry.get("error", "")) == (200, "completed", "")
    assert entry["failed"] == [
        {
            "deployment": "closed/m",
            "error": "upstream_unreachable",
            "reason": "no connection to 127.0.0.1:9: Connection refused",
        }
    ]
    assert _attempts(api, endpoint, "closed") - before["closed"] == Counter(failed=1)
    assert _attempts(api, endpoint, "second") - before["second"] == Counter(answered=1)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("alias", "failed"),
    [
        (
            "overloaded",
            [("status=503", "server_is_overloaded", "status 503"), ("status=500", "server_error", "status 500")],
        ),
        ("late", [("stall_head", "upstream_timeout", "no event within 0.5 s (first_event clock)")]),
        ("inband", [("fault=error", "server_error", "an error within the answer that means status 502")]),
    ],
)
def test_the_request_line_names_each_failed_attempt(
    api: Api, endpoint: str, alias: str, failed: list[tuple[str, str, str]]
) -> None:
    entry = api.gateway.usage(api.ask(endpoint, alias, say="ebb", stream=True).request_id)
    assert (entry["ending"], entry["attempts"]) == ("completed", len(failed) + 1)
    for told, (script, error, reason) in zip(entry["failed"], failed, strict=True):
        assert script in told.pop("deployment")
        assert told == {"error": error, "reason": reason}


@pytest.mark.parametrize("stream", [False, True])
def test_the_request_line_names_them_too_where_nobody_answered(api: Api, stream: bool) -> None:
    before = {provider: _attempts(api, "chat", provider) for provider in ("sim", "second")}
    reply = api.ask("chat", "twice", stream=stream)
    entry = api.gateway.usage(reply.request_id)
    assert (reply.status, entry["error"], entry["attempts"]) == (503, "server_is_overloaded", 2)
    assert [(told["deployment"], told["reason"]) for told in entry["failed"]] == [
        ("sim/echo?status=503", "status 503"),
        ("second/echo?status=503", "status 503"),
    ]
    assert _attempts(api, "chat", "sim") - before["sim"] == Counter(failed=1)
    assert _attempts(api, "chat", "second") - before["second"] == Counter(failed=1)


def test_what_the_request_is_to_blame_for_is_refused_and_no_failure(api: Api) -> None:
    before = _attempts(api, "chat", "sim")
    entry = api.gateway.usage(api.ask("chat", "refused").request_id)
    assert [told["reason"] for told in entry["failed"]] == ["status 400"]
    assert _attempts(api, "chat", "sim") - before == Counter(refused=1)


def test_a_request_without_a_failed_attempt_says_nothing_of_them(api: Api) -> None:
    assert "failed" not in api.gateway.usage(api.ask("chat", "second/echo").request_id)


def test_the_reason_of_a_failed_attempt_holds_no_word_of_the_providers(api: Api) -> None:
    """Providers repeat what they were asked."""
    for script in (
        "status=503",
        "status=400",
        "fault=error&after=0",
        "fault=json200",
        "fault=html200",
        "fault=garbage",
    ):
        reply = api.ask("chat", f"sim/lorem?{script}&message=echoed-secret-words", stream=True)
        [told] = api.gateway.usage(reply.request_id)["failed"]
        assert "echoed-secret-words" not in told["reason"] + told["error"]


def _attempts(api: Api, endpoint: str, provider: str) -> Counter[str]:
    """At one provider, by how they ended."""
    found: Counter[str] = Counter()
    start = f'tidegate_attempts_total{{endpoint="{endpoint}",outcome="'
    for line in api.get("/metrics").content.decode().splitlines():
        if line.startswith(start) and f'provider="{provider}"' in line:
            found[line.removeprefix(start).partition('"')[0]] = round(float(line.rpartition(" ")[2]))
    return found


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("alias", ["late", "inband"])
def test_a_stream_falls_back_when_nothing_or_an_error_comes_first(api: Api, endpoint: str, alias: str) -> None:
    reply = api.ask(endpoint, alias, say="ebb", stream=True)
    assert (reply.status, reply.text) == (200, "ebb")
    assert reply.headers["tidegate-attempts"] == "2"
    if endpoint == "responses":
        assert check_stream(reply.frames)["status"] == "completed"


@pytest.mark.parametrize("alias", ["opened", "opened-at-once"])
def test_after_our_own_opening_events_a_fallback_goes_on_in_the_same_stream(api: Api, alias: str) -> None:
    """created and in_progress are the gateway's; the client sees them once, then the second deployment's answer, which
    may take longer than the first-event clock."""
    reply = api.ask("responses", alias, stream=True)
    end = check_stream(reply.frames)
    assert end["status"] == "completed"
    assert reply.text
    entry = api.gateway.usage(reply.request_id)
    assert (entry["attempts"], entry["ending"]) == (2, "completed")
    assert entry["deployment"].startswith("second/")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_after_the_first_content_nobody_else_answers(api: Api, endpoint: str) -> None:
    calls = api.calls
    reply = api.ask(endpoint, "broken", stream=True)
    assert api.calls == calls + 1
    assert b"data: [DONE]" not in reply.content
    entry = api.gateway.usage(reply.request_id)
    assert (entry["attempts"], entry["ending"]) == (1, "failed")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("alias", "status"), [("refused", 400)])
def test_what_no_other_deployment_can_mend_is_told_at_once(
    api: Api, endpoint: str, stream: bool, alias: str, status: int
) -> None:
    calls = api.calls
    assert api.ask(endpoint, alias, stream=stream).status == status
    assert api.calls == calls + 1


@pytest.mark.parametrize("stream", [False, True])
def test_when_all_fail_the_last_failure_is_told(api: Api, stream: bool) -> None:
    reply = api.ask("chat", "hopeless-stream" if stream else "hopeless", stream=stream)
    assert (reply.status, reply.headers["retry-after"]) == (503, "3")
    assert reply.headers["tidegate-attempts"] == "3"
    assert reply.headers["tidegate-deployment"] == "sim/echo?status=503&retry_after=3"


def test_a_fallback_that_cannot_honour_the_request_is_passed_over(api: Api) -> None:
    reply = api.ask("responses", "picky", say="ebb", n=2)
    assert (reply.status, reply.text) == (200, "ebbebb")
    assert reply.headers["tidegate-deployment"] == "second/echo"
    assert reply.headers["tidegate-attempts"] == "2"
    assert [(told["deployment"], told["reason"]) for told in api.gateway.usage(reply.request_id)["failed"]] == [
        ("sim/echo?status=503", "status 503"),
        ("openai/echo", "not asked"),
    ]
    alone = api.ask("responses", "only-picky", n=2)
    assert (alone.status, alone.error["code"]) == (503, "server_is_overloaded")


def test_one_deployment_is_not_asked_twice_for_one_request(api: Api) -> None:
    calls = api.calls
    assert api.ask("chat", "twice").status == 503
    assert api.calls == calls + 2


def test_the_total_clock_is_shared_by_all_attempts(api: Api) -> None:
    calls = api.calls
    reply = api.ask("responses", "late", stream=True, headers={"tidegate-timeout": "300ms"})
    assert reply.status == 504
    assert "total clock" in reply.error["message"]
    assert api.calls == calls + 1


@pytest.mark.parametrize(("alias", "least", "most"), [("weighted", 55, 95), ("nested", 25, 75), ("half", 25, 75)])
def test_weights_share_the_traffic(api: Api, alias: str, least: int, most: int) -> None:
    seen = Counter(api.ask("completions", alias).headers["tidegate-deployment"] for _ in range(100))
    assert set(seen) == {"sim/echo", "second/echo"}
    assert least <= seen["sim/echo"] <= most
