"""Each way in which a provider can be out of reach is told apart, over real sockets, and none hangs the report."""

import asyncio
import datetime as dt
import json
import socket
import ssl
import threading
import time
from pathlib import Path

import msgspec
import pytest
import trustme

from tests.doctor.stage import KEY, Told, Vendor, told
from tests.support.running import Running
from tests.upstream.stage import Certificates, Provider, full_listener
from tests.upstream.test_upstream_proxy import Tunnelling
from tidegate.config.load import load
from tidegate.server.doctor.examination import examine
from tidegate.server.doctor.finding import Report
from tidegate.server.doctor.world import World, in_thread


def silent(port: int) -> str:
    return f'[providers.lab]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:{port}/v1"\n'


def test_a_provider_in_good_health(certificates: Certificates) -> None:
    bundle = f'ca_bundle = "{certificates.bundle}"'
    with Vendor("m1", "m2", context=certificates.server()) as vendor:
        seen = told(vendor.toml(more=bundle))
    assert seen.statuses("lab") == ["ok"] * 5
    assert seen.report.ok
    assert "127.0.0.1" in seen("provider_address", "lab").details["addresses"]
    tls = seen("provider_tls", "lab")
    assert tls.details["days"] > 14
    assert "valid until" in tls.found
    assert "ca_bundle" in tls.found
    models = seen("provider_models", "lab")
    assert models.details["models"] == 2
    assert 0 < models.details["latency_ms"] < 2000
    assert seen("provider_credentials", "lab").found == "the credential is accepted"
    assert seen("system_clock").status == "ok"


def test_an_expired_certificate(certificates: Certificates) -> None:
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    with Vendor(context=certificates.server(not_after=past)) as vendor:
        seen = told(vendor.toml(more=f'ca_bundle = "{certificates.bundle}"'))
        assert vendor.asked == [], "no credential is sent"
    assert seen.statuses("lab") == ["ok", "ok", "failed", "skipped", "skipped"]
    tls = seen("provider_tls", "lab")
    assert "certificate has expired" in tls.found
    assert "It expired on 2020-01-01" in tls.advice
    assert not seen.report.ok


def test_a_certificate_that_expires_soon(certificates: Certificates) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=3, hours=1)
    with Vendor("m", context=certificates.server(not_after=soon)) as vendor:
        seen = told(vendor.toml(more=f'ca_bundle = "{certificates.bundle}"'))
    tls = seen("provider_tls", "lab")
    assert (tls.status, tls.details["days"]) == ("warning", 3)
    assert "expires in 3 days" in tls.advice
    assert seen.report.ok, "a warning is no failure"


def test_a_self_signed_certificate(tmp_path: Path) -> None:
    lone = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = tmp_path / "lone.pem"
    lone.private_key_pem.write_to_path(str(pem))
    lone.cert_pem.write_to_path(str(pem), append=True)
    context.load_cert_chain(str(pem))
    with Vendor(context=context) as vendor:
        tls = told(vendor.toml())("provider_tls", "lab")
        assert vendor.asked == []
    assert tls.status == "failed"
    assert "self-signed" in tls.advice
    assert "ca_bundle" in tls.advice


def test_an_authority_that_nobody_knows_and_a_name_that_is_another(certificates: Certificates) -> None:
    with Vendor(context=certificates.server()) as vendor:
        tls = told(vendor.toml())("provider_tls", "lab")
    assert "unable to get local issuer" in tls.found
    assert "ca_bundle" in tls.advice
    with Vendor(context=certificates.server("other.example")) as vendor:
        tls = told(vendor.toml(more=f'ca_bundle = "{certificates.bundle}"'))("provider_tls", "lab")
    assert "Hostname mismatch" in tls.found
    assert "other.example" in tls.advice


def test_a_refused_port_and_a_name_that_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    seen = told(silent(port) + '[providers.far]\nkind = "openai-compatible"\nbase_url = "http://nowhere.invalid/v1"\n')
    assert seen.statuses("lab") == ["ok", "failed", "skipped", "skipped", "skipped"]
    assert "Connection refused" in seen("provider_connection", "lab").found
    assert seen.statuses("far") == ["failed", *["skipped"] * 4]
    assert "nowhere.invalid cannot be resolved" in seen("provider_address", "far").found


def test_a_black_hole_ends_at_the_deadline_and_holds_up_nobody(certificates: Certificates) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as hole,  # the kernel accepts, and nobody answers
        full_listener() as full,
        Vendor("m") as vendor,
    ):
        port = hole.getsockname()[1]
        toml = (
            silent(port)
            + silent(full).replace("lab", "full")
            + silent(port).replace("lab", "tls").replace("http:", "https:")
        )
        waits: list[tuple[str, ...]] = []
        begun = time.monotonic()
        seen = told(toml + vendor.toml("well"), timeout_s=0.5, progress=waits.append)
        took = time.monotonic() - begun
    assert took < 3
    assert seen.statuses("lab") == ["ok", "ok", "skipped", "failed", "skipped"]
    assert "no answer within" in seen("provider_models", "lab").found
    assert seen.statuses("full") == ["ok", "failed", "skipped", "skipped", "skipped"]
    assert seen.statuses("tls") == ["ok", "ok", "failed", "skipped", "skipped"]
    assert seen("provider_credentials", "well").status == "ok"
    assert {"lab", "full", "tls"} <= {name for names in waits for name in names}, "whoever is waited for is named"
    assert waits[-1] == ()


def test_a_name_server_that_does_not_answer_holds_up_neither_report_nor_exit() -> None:
    released = threading.Event()

    async def hanging(host: str, port: int) -> list[tuple[object, ...]]:
        await in_thread(lambda: released.wait(30))
        return []

    begun = time.monotonic()
    seen = told(silent(9), timeout_s=0.3, resolver=hanging)
    took = time.monotonic() - begun
    released.set()
    assert took < 2
    assert "name server" in seen("provider_address", "lab").advice


def test_a_refused_credential_is_named_by_place_and_never_shown() -> None:
    with Vendor("m", keys=("sk-good-0123456789",)) as vendor:
        toml = vendor.toml().replace(f'"{KEY}"', '"sk-good-0123456789", "${OTHER}"')
        seen = told(toml, environment={"OTHER": KEY})
    found = seen("provider_credentials", "lab")
    assert found.status == "failed"
    assert found.details == {"credentials": 2, "refused": [2]}
    assert "credential 2 of 2 is refused (status 401)" in found.found
    assert "[redacted]" in found.found, "the provider repeated it"
    assert "environment OTHER" in found.advice
    whole = msgspec.json.encode(seen.report).decode()
    assert KEY not in whole
    assert "sk-good" not in whole
    assert "\\u001b" not in whole


@pytest.mark.parametrize(
    ("status", "check", "expected", "words"),
    [
        (403, "provider_credentials", "failed", "its rights"),
        (404, "provider_models", "warning", "models = "),
        (429, "provider_models", "warning", "Try again later"),
        (503, "provider_models", "failed", "status page"),
        (400, "provider_models", "failed", "base_url"),
    ],
)
def test_other_refusals_are_told_apart(status: int, check: str, expected: str, words: str) -> None:
    with Vendor("m", status=status) as vendor:
        found = told(vendor.toml())(check, "lab")
    assert found.status == expected
    assert words in found.advice
    assert f"{status}" in found.found or status == 429


def test_a_missing_credential_and_a_list_for_everybody() -> None:
    with Vendor("m") as asks, Vendor("m", keys=None) as free:
        toml = asks.toml("asks").replace(f'credentials = ["{KEY}"]', "") + free.toml("free")
        toml += free.toml("bare").replace(f'credentials = ["{KEY}"]', "")
        seen = told(toml)
        assert {given for _, given in asks.asked} == {""}
    assert seen("provider_credentials", "asks").status == "failed"
    assert "providers.asks.credentials" in seen("provider_credentials", "asks").advice
    assert seen("provider_credentials", "free").status == "skipped", "that it was given the list proves nothing"
    assert seen("provider_credentials", "bare").status == "ok"


def test_an_answer_that_is_no_list_of_models() -> None:
    with Vendor(keys=None, body=b"<html>It works!</html>") as vendor:
        found = told(vendor.toml())("provider_models", "lab")
    assert found.status == "failed"
    assert "base_url" in found.advice


def test_a_slow_provider_is_a_warning() -> None:
    with Vendor("m", delay_s=2.05) as vendor:
        found = told(vendor.toml())("provider_models", "lab")
    assert found.status == "warning"
    assert found.details["latency_ms"] > 2000


@pytest.mark.parametrize(("off", "status"), [(3600.0, "warning"), (-3600.0, "warning"), (5.0, "ok")])
def test_a_wrong_clock_is_seen_in_the_providers_answers(off: float, status: str) -> None:
    with Vendor("m", clock_off_s=off) as vendor:
        found = told(vendor.toml())("system_clock")
    assert found.status == status
    assert abs(found.details["offset_s"] + off) < 3
    if status == "warning":
        assert ("behind" if off > 0 else "ahead of") in found.found


def test_one_provider_with_a_wrong_clock_is_outvoted() -> None:
    with Vendor("m", clock_off_s=86400) as wrong, Vendor("m") as one, Vendor("m") as two:
        assert told(wrong.toml("a") + one.toml("b") + two.toml("c"))("system_clock").status == "ok"


def test_no_credential_is_sent_to_a_metadata_service() -> None:
    sent: list[str] = []

    async def lying(host: str, port: int) -> list[tuple[object, ...]]:
        sent.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    toml = (
        '[providers.lab]\nkind = "openai-compatible"\nbase_url = "http://llm.example/v1"\ncredentials = ["x1234567"]\n'
    )
    seen = told(toml, resolver=lying)
    assert sent == ["llm.example"]
    assert seen.statuses("lab") == ["failed", *["skipped"] * 4]
    assert "metadata service" in seen("provider_address", "lab").found


def test_a_public_provider_at_a_private_address_is_a_warning() -> None:
    async def lying(host: str, port: int) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]

    seen = told(f'[providers.openai]\ncredentials = ["{KEY}"]\n', resolver=lying)
    assert seen("provider_address", "openai").status == "warning"


def test_a_proxy_is_what_is_looked_up_and_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    toml = '[providers.lab]\nkind = "openai-compatible"\nbase_url = "https://llm.example/v1"\n'
    seen = told(toml, environment={"HTTPS_PROXY": f"http://user:pa55word@127.0.0.1:{port}"})
    assert seen("provider_address", "lab").found == f"through the proxy 127.0.0.1:{port}"
    assert "Does the proxy run" in seen("provider_connection", "lab").advice
    assert "pa55word" not in msgspec.json.encode(seen.report).decode()


def test_models_and_names_that_the_provider_does_not_list() -> None:
    with Vendor("qwen3-8b", "qwen3-32b") as vendor:
        toml = vendor.toml() + '[defaults]\nmodel = "fast"\n[models.fast]\ntarget = "lab/qwen3-8b"\n'
        assert told(toml)("model_names").found == "all 2 names lead to a model"
        seen = told(toml + 'fallback = ["lab/qwen3-23b"]\n' + vendor.toml("own", 'models = ["gone"]'))
        assert told(toml, only=("lab",)).report.checks[-1].check == "system_clock"
    found = seen("model_names")
    assert found.status == "warning"
    assert "models.fast.fallback[0]: `lab` does not list `qwen3-23b`; did you mean `qwen3-32b`?" in found.found
    assert seen("provider_models", "own").details["missing"] == ["gone"]


def test_what_tells_the_simulator_how_to_play_is_no_part_of_a_models_name() -> None:
    with Running() as gateway:
        seen = told(
            f'[providers.played]\nkind = "sim"\nbase_url = "{gateway.sim.base_url}"\nmodels = ["echo?status=503", "lorem"]\n'
            '[defaults]\nmodel = "played/lorem?chunks=3"\n'
        )
    assert seen("provider_models", "played").status == "ok"
    assert seen("model_names").status == "ok"


def test_a_name_that_nobody_can_check_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with Vendor("qwen3-8b") as vendor:
        found = told(
            f'{vendor.toml()}[providers.down]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
            '[defaults]\nmodel = "lab/qwen3-8b"\n[models.fast]\ntarget = "lab/qwen3-8b"\nfallback = ["down/big"]\n'
        )("model_names")
    assert (found.status, found.details["unverified"]) == ("ok", ["models.fast.fallback[0]"])
    assert found.found.splitlines() == [
        "2 of 3 names lead to a model",
        "models.fast.fallback[0]: `down/big` cannot be told, as `down` gives no list",
    ]


def test_a_default_that_leads_nowhere_fails() -> None:
    with Vendor("qwen3-8b") as vendor:
        found = told(vendor.toml() + '[defaults]\nmodel = "qwen9"\n')("model_names")
    assert found.status == "failed"
    assert "defaults.model" in found.found


def test_a_default_for_speech_that_its_provider_does_not_serve() -> None:
    with Vendor("tts") as vendor:
        toml = vendor.toml(more='speaks = ["chat"]') + '[defaults]\nspeech_model = "lab/tts"\n'
        assert "does not serve speech" in told(toml)("model_names").found


def test_only_the_named_provider_is_asked() -> None:
    with Vendor("m") as one, Vendor("m") as two:
        seen = told(one.toml("one") + two.toml("two"), only=("two",))
        assert one.asked == []
    assert {check.subject for check in seen.report.checks} == {"", "two"}
    assert json.loads(msgspec.json.encode(seen.report))["ok"] is True


def test_the_checks_of_told_stay_in_order() -> None:
    with Vendor("m") as vendor:
        seen: Told = told(vendor.toml("b") + vendor.toml("a"))
    subjects = [one.subject for one in seen.report.checks if one.subject]
    assert subjects == ["b"] * 5 + ["a"] * 5


def test_tls_is_verified_through_a_proxys_tunnel(certificates: Certificates) -> None:
    with Vendor("m", context=certificates.server("llm.example.com")) as vendor:
        toml = vendor.toml(more=f'ca_bundle = "{certificates.bundle}"', host="llm.example.com")

        async def scene() -> Report:
            async with Provider(Tunnelling(vendor.port)) as proxy:
                environment = {"HTTPS_PROXY": f"http://user:pa55word@127.0.0.1:{proxy.port}"}
                text = f'{toml}[storage]\nurl = "off"\n[server]\nport = 0\n'

                def read(path: str) -> str:
                    return Path(path).read_text("utf-8")

                world = World(load=lambda: load(text, "tidegate.toml", environment, read=read), environment=environment)
                return await examine(world, timeout_s=5.0)

        seen = Told(asyncio.run(scene()))
    assert seen.statuses("lab") == ["ok"] * 5
    assert "through the proxy" in seen("provider_address", "lab").found
    assert "valid until" in seen("provider_tls", "lab").found
