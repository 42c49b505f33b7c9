"""A provider's credential reaches the origin that it belongs to, and nothing else (P8)."""

import asyncio
import copy
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.api import Api
from tests.support.canned import Canned, json_answer
from tests.support.running import Running
from tests.upstream.stage import CANARY, OK, Answer, Peer, Provider, Stage, answering, run
from tidegate.config.schema import ProviderConfig
from tidegate.config.secret import Secret
from tidegate.upstream.attempt import Attempt
from tidegate.upstream.connection import Clocks
from tidegate.upstream.outgoing import Request
from tidegate.upstream.provider import ProviderUnusable, Upstream
from tidegate.upstream.wheel import Wheel
from tidegate.wire import errors

HOST = st.sampled_from(["h", "h.example", "evil.example", "127.0.0.1", "127.0.0.2", "[::1]", "münchen.example"])
ORIGIN = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https"]), HOST, st.sampled_from(["", ":80", ":443", ":8000"]), st.sampled_from(["", "/v1", "/@evil.example/v1", "/v1\\evil.example", "/%0d%0ahost:%20evil.example"]))  # fmt: skip
CREDENTIAL = f'credentials = ["{CANARY}"]'
LOOP = asyncio.new_event_loop()
LOOP.close()


async def attempt(stage: Stage, request: Any) -> Answer:
    """`request` over the connections of `stage`."""
    answer = Answer()
    answer.attempt = Attempt(
        stage.pool,
        stage.loop,
        request,
        answer,
        Clocks(connect=5, first_event=5, idle=5, total=5),
        stage.loop.time() + 5,
        wait_for_event=False,
    )
    answer.attempt.start()
    return await answer.over()


@pytest.mark.security("SEC-CRED-ORIGIN")
@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "kept connection"])
def test_a_request_made_for_one_origin_is_not_written_to_another(warm: bool) -> None:
    async def scenario() -> None:
        heard: list[bytes] = []

        async def listen(peer: Peer) -> None:
            while True:
                heard.append(await peer.request())
                peer.send(OK)

        async with (
            Provider(listen) as other,
            Provider(answering(OK)) as own,
            Stage(own.url, name="own") as mine,
            Stage(other.url, name="other", credentials=()) as theirs,
        ):
            if warm:
                assert (await theirs.fetch()).body == b"ok"
                heard.clear()
            answer = await attempt(theirs, mine.upstream.request("chat", b"{}", stream=False))
            assert isinstance(answer.error, errors.Internal)
            assert "another origin" in answer.error.message
            assert not heard
            assert (await theirs.fetch()).body == b"ok"
            assert CANARY.encode() not in b"".join(heard)
            made = mine.upstream.request("chat", b"{}", stream=False)
            assert CANARY not in repr(made)
            assert (await attempt(mine, made)).body == b"ok"

            # One whose maker does not say what it was made for is looked at.
            unmarked = Request(b"", made.head)
            answer = await attempt(theirs, unmarked)
            assert "another origin" in (answer.error.message if answer.error else "")
            assert CANARY.encode() not in b"".join(heard)
            assert (await attempt(mine, unmarked)).body == b"ok"

    run(scenario)


@pytest.mark.security("SEC-CRED-ORIGIN")
@given(ORIGIN, ORIGIN)
def test_of_two_origins_only_the_own_one_takes_a_request(own: str, other: str) -> None:
    """Whatever stands in an address: the host of the head is the host of the connections, and of no others."""

    def made(base_url: str) -> Upstream | None:
        config = ProviderConfig(kind="openai-compatible", base_url=base_url, credentials=(Secret(CANARY),))
        try:
            return Upstream("lab", config, LOOP, Wheel(LOOP), environment={})
        except ProviderUnusable:
            return None

    mine, theirs = made(own), made(other)
    if mine is None or theirs is None:
        return
    sent = mine.request("chat", b"{}", stream=True)
    assert sent.host_line is mine.pool.host_line
    head = sent.head
    assert head.startswith(mine.pool.host_line, head.find(b"\r\n"))
    assert head.lower().count(b"\r\nhost:") == 1
    assert head.count(CANARY.encode()) == 1
    fits = head.startswith(theirs.pool.host_line, head.find(b"\r\n"))
    assert fits == (mine.pool.host_line == theirs.pool.host_line)


REDIRECTS = ("301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect")


@pytest.mark.security("SEC-CRED-REDIRECT")
def test_a_provider_that_redirects_takes_the_credential_nowhere() -> None:
    with Canned(json_answer({})) as elsewhere:
        fields = f"location: {elsewhere.url}/chat/completions\r\n"
        with Canned(*(json_answer({}, status, fields=fields) for status in REDIRECTS)) as provider:
            toml = f"[server]\nport = 0\n{provider.toml(more=CREDENTIAL)}"
            with Running(toml) as gateway, Api(gateway) as api:
                for _ in REDIRECTS:
                    reply = api.ask("chat", "canned/m")
                    assert reply.status == 502
                    assert "location" not in reply.headers
        assert len(provider.requests) == len(REDIRECTS)
        assert not elsewhere.requests


METADATA = [
    "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254",
    "fd20:ce::254", "::ffff:169.254.169.254", "::ffff:a83f:8110", "2002:a9fe:a9fe::1", "2002:6464:64c8::",
    "64:ff9b::a9fe:a9fe", "64:ff9b::168.63.129.16", "64:ff9b:1::a9fe:a9fe", "::169.254.169.254",
    "2001:db8::5efe:a9fe:a9fe", "2001:0:4136:e378:8000:63bf:5601:5601",
]  # fmt: skip


@pytest.mark.security("SEC-API7-METADATA")
@pytest.mark.parametrize("address", METADATA)
def test_no_provider_is_a_metadata_service_whatever_its_name_resolves_to(address: str) -> None:
    """Also one that the operator has configured: the name may have been taken over since."""

    async def scenario() -> None:
        async def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
            return [(2, 1, 6, "", ("127.0.0.1", provider.port)), (2, 1, 6, "", (address, port))]

        async with Provider(answering(OK)) as provider, Stage("http://lab.example/v1", resolver=resolve) as stage:
            answer = await stage.fetch()
            assert "metadata service" in answer.message
            assert not provider.peers

    run(scenario)


@pytest.mark.security("SEC-API7-METADATA")
@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe"])
def test_a_metadata_address_as_base_url_is_answered_with_an_error_that_says_so(host: str) -> None:
    toml = f'[server]\nport = 0\n[providers.lab]\nkind = "openai-compatible"\nbase_url = "http://{host}/v1"\nmodels = ["m"]\n'
    with Running(toml) as gateway, Api(gateway) as api:
        reply = api.ask("chat", "lab/m")
    assert reply.status == 502
    assert "metadata service" in reply.error["message"]


@pytest.mark.security("SEC-LOG-SECRET")
def test_a_secret_cannot_be_copied_out_by_accident() -> None:
    secret = Secret("canary-0123456789abcdef0123456789")
    assert "canary" not in f"{secret} {secret!r} {secret!s:>40} {[secret]} { ({'a': secret}) }"
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError):
            encode(secret)
    for encode in (msgspec.json.encode, msgspec.to_builtins):
        with pytest.raises(TypeError):
            encode(ProviderConfig(kind="openai", base_url="https://h/v1", credentials=(secret,)))
    assert not hasattr(secret, "__dict__")
