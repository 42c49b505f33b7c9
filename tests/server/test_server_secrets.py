"""No prompt, answer, key or credential in any log, metric or error (promise P8): canaries are planted and looked for."""

from collections.abc import Iterator

import pytest

from tests.support.raw import Raw, Response, get, post, request
from tests.support.running import SIM_ONLY, Running, wait_for

KEY = "sk-canarykey-0123456789abcdef0123456789"
WRONG_KEY = "sk-canarywrong-0123456789abcdef012345678"
CREDENTIAL = "sk-canarycredential-0123456789abcdef01234"
EXTRA = "canaryextraheader"
PROMPT = "canaryprompt"
COOKIE = "canarycookie"
SECRETS = (KEY, WRONG_KEY, CREDENTIAL, EXTRA, COOKIE)

TOML = (
    SIM_ONLY.replace('[defaults]\nmodel = "sim/echo"\n[providers.sim]', "[logging]\nlevel = 'debug'\n[providers.sim]")
    + f"""
kind = "openai-compatible"
speaks = ["responses"]
credentials = ["{CREDENTIAL}"]
headers = {{ x-extra = "{EXTRA}" }}
[providers.nowhere]
kind = "openai-compatible"
base_url = "http://127.0.0.1:9/v1"
speaks = ["responses"]
credentials = ["{CREDENTIAL}"]
[[keys]]
name = "app"
secret = "{KEY}"
"""
)

MODELS = [
    "sim/echo",
    "sim/lorem?chunks=2",
    "sim/lorem?status=401",
    "sim/lorem?status=400",
    "sim/lorem?status=500&body=html",
    "sim/lorem?fault=reset",
    "sim/lorem?fault=garbage",
    "sim/lorem?fault=truncated_json",
    "sim/lorem?fault=error",
    "sim/lorem?fault=not_http",
    "sim/lorem?fault=html200",
    "nowhere/model",
    "unknown/model",
]


@pytest.fixture(scope="module")
def planted() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


def ask(gateway: Running, sent: bytes) -> Response:
    with Raw(gateway) as client:
        return client.ask(sent)


@pytest.fixture(scope="module")
def answers(planted: Running) -> list[Response]:
    """Answers to everything that can be asked, right and wrong."""
    key = (f"Authorization: Bearer {KEY}", f"Cookie: session={COOKIE}")
    wrong = (f"Authorization: Bearer {WRONG_KEY}", f"x-api-key: {WRONG_KEY}", f"Cookie: {COOKIE}")
    found = []
    for model in MODELS:
        for stream in (b"true", b"false"):
            body = b'{"model":"%b","input":"%b","stream":%b}' % (model.encode(), PROMPT.encode(), stream)
            found.append(ask(planted, post(body, *key)))
    for body in (
        b'{"model":"sim/echo","input":"%b"' % PROMPT.encode(),
        b'{"model":"sim/echo","input":"%b","temperature":"%b"}' % (PROMPT.encode(), PROMPT.encode()),
        b'{"model":"sim/echo","input":{"%b":"%b"}}' % (PROMPT.encode(), PROMPT.encode()),
        b'"%b"' % PROMPT.encode(),
        PROMPT.encode(),
    ):
        found.append(ask(planted, post(body, *key)))
        assert found[-1].status == 400
    found.append(ask(planted, post(b"{}", *wrong)))
    found.append(ask(planted, get("/v1/models", *wrong)))
    found.append(ask(planted, get("/nowhere", *key)))
    found.append(ask(planted, get("/healthz", *wrong, "X: \x01")))
    found.append(ask(planted, request("POST", "/v1/responses", *wrong, f"Authorization: Bearer {KEY}")))
    found.append(ask(planted, request("GET", "/v1/models", f"Authorization: Bearer {KEY}", f"x-api-key: {WRONG_KEY}")))
    return found


@pytest.mark.security("SEC-LOG-CANARY")
def test_no_secret_and_no_prompt_reaches_a_log(planted: Running, answers: list[Response]) -> None:
    assert wait_for(lambda: len([one for one in planted.log_lines if one["event"] == "request"]) >= 2 * len(MODELS))
    log = planted._log.getvalue()
    for canary in (*SECRETS, PROMPT):
        assert canary not in log


@pytest.mark.security("SEC-LOG-METRICS")
def test_no_secret_and_no_prompt_reaches_the_metrics(planted: Running, answers: list[Response]) -> None:
    metrics = ask(planted, get("/metrics")).body.decode()
    assert "tidegate" in metrics
    for canary in (*SECRETS, PROMPT):
        assert canary not in metrics


@pytest.mark.security("SEC-LOG-CANARY")
def test_no_secret_reaches_an_answer_and_no_prompt_an_error(answers: list[Response]) -> None:
    assert {answer.status for answer in answers} >= {200, 400, 401, 404, 502}
    for answer in answers:
        whole = (answer.head + answer.body).decode()
        for canary in SECRETS:
            assert canary not in whole
        if answer.status >= 400:
            assert PROMPT not in answer.error["message"]


@pytest.mark.security("SEC-CRED-CLIENT")
def test_the_credential_did_reach_the_provider_and_the_key_did_not(planted: Running, answers: list[Response]) -> None:
    calls = [one for one in planted.sim.requests if one.method == "POST"]
    assert calls
    for call in calls:
        assert call.headers["authorization"] == f"Bearer {CREDENTIAL}"
        assert call.headers["x-extra"] == EXTRA
        assert KEY not in str(call.headers)
        assert COOKIE not in str(call.headers)
