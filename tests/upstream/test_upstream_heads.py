"""The requests that reach a provider: where they go, what their heads say, and with which credential."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.upstream.stage import CANARY, OK, Peer, Provider, Stage, run
from tidegate.config.schema import ProviderConfig
from tidegate.config.secret import Secret
from tidegate.upstream.fetch import fetch
from tidegate.upstream.provider import HEADS_KEPT, MODEL_KEPT, RELAYED_KEPT, ProviderUnusable, Upstream
from tidegate.upstream.wheel import Wheel
from tidegate.wire import errors

LOOP = asyncio.new_event_loop()
LOOP.close()


def upstream(base_url: str = "http://h/v1", *, kind: str = "openai-compatible", **settings: Any) -> Upstream:
    """Connects to nothing."""
    config = ProviderConfig(kind=kind, base_url=base_url, **settings)
    return Upstream("lab", config, LOOP, Wheel(LOOP), environment={})


def head_of(one: Upstream, *, stream: bool = True) -> tuple[str, dict[str, str]]:
    """Request line and fields; a field that stands twice fails."""
    head, _, rest = one.request("chat", b"{}", stream=stream).head.decode("latin-1").partition("\r\n\r\n")
    assert rest == "{}"
    line, *lines = head.split("\r\n")
    fields: dict[str, str] = {}
    for field in lines:
        name, value = field.split(": ", 1)
        assert name not in fields
        fields[name] = value
    return line, fields


@pytest.mark.parametrize(
    ("base_url", "host", "target"),
    [
        ("http://h/v1", "h", "/v1/chat/completions"),
        ("http://h:80/v1", "h", "/v1/chat/completions"),
        ("http://h:8000/v1", "h:8000", "/v1/chat/completions"),
        ("https://h:443/v1/", "h", "/v1/chat/completions"),
        ("https://h:80/v1//", "h:80", "/v1/chat/completions"),
        ("HTTPS://H.Example/v1", "h.example", "/v1/chat/completions"),
        ("http://h", "h", "/chat/completions"),
        ("http://h/", "h", "/chat/completions"),
        ("http://127.0.0.1:1/a/b/v1", "127.0.0.1:1", "/a/b/v1/chat/completions"),
        ("http://[::1]:8000/v1", "[::1]:8000", "/v1/chat/completions"),
        ("http://[::1]/v1", "[::1]", "/v1/chat/completions"),
        ("http://münchen.example/v1", "xn--mnchen-3ya.example", "/v1/chat/completions"),
        ("http://h/a b/潮/v1", "h", "/a%20b/%E6%BD%AE/v1/chat/completions"),
        ("http://h/a%20b;x=1/v1", "h", "/a%20b;x=1/v1/chat/completions"),
    ],
)
def test_an_address_becomes_host_and_target(base_url: str, host: str, target: str) -> None:
    line, fields = head_of(upstream(base_url))
    assert line == f"POST {target} HTTP/1.1"
    assert fields["host"] == host
    assert next(iter(fields)) == "host"


def test_a_key_goes_where_its_provider_looks_for_it() -> None:
    one = upstream("https://api.anthropic.com/v1", kind="anthropic", credentials=[Secret(CANARY)])
    head = one.request("messages", b"{}", stream=True).head.decode("latin-1")
    assert head.startswith("POST /v1/messages HTTP/1.1\r\n")
    assert f"\r\nx-api-key: {CANARY}\r\n" in head
    assert "\r\nanthropic-version: 2023-06-01\r\n" in head
    assert "authorization" not in head


@pytest.mark.parametrize(
    "base_url",
    ["ftp://h/v1", "h:8000", "http://", "http:///v1", "http://h:99999/v1", "http://a b/v1", "http://[::1/v1"],
)
def test_an_address_that_is_none_is_refused(base_url: str) -> None:
    with pytest.raises(ProviderUnusable, match=r"providers\.lab\.base_url is not an http\(s\) address"):
        upstream(base_url)


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ProviderUnusable) as caught:
        upstream("http://user:canary@h/v1")
    assert "canary" not in str(caught.value)


def test_the_fields_of_a_call() -> None:
    _, streamed = head_of(upstream(credentials=(Secret(CANARY),)))
    assert streamed["authorization"] == f"Bearer {CANARY}"
    assert streamed["accept"] == "text/event-stream"
    assert streamed["accept-encoding"] == "identity"
    assert streamed["content-type"] == "application/json"
    assert streamed["content-length"] == "2"
    assert streamed["user-agent"].startswith("tidegate/")
    _, whole = head_of(upstream(), stream=False)
    assert whole["accept"] == "application/json"
    assert "authorization" not in whole


def test_the_operators_headers_come_in_place_of_ours() -> None:
    headers = {"User-Agent": Secret("me"), "Accept-Encoding": Secret("gzip"), "X-Org": Secret("ü")}
    headers["Authorization"] = Secret("Token t")
    _, fields = head_of(upstream(headers=headers, credentials=(Secret(CANARY),)))
    assert fields["user-agent"] == "me"
    assert fields["accept-encoding"] == "gzip"
    assert fields["x-org"] == "ü"
    assert fields["authorization"] == "Token t"


@pytest.mark.security("SEC-INJ-CONFIG")
@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "connection", "a b", "", "x:", "x\n"])
def test_a_header_that_would_change_the_framing_is_refused(name: str) -> None:
    with pytest.raises(ProviderUnusable, match=r"providers\.lab: the header"):
        upstream(headers={name: Secret("canary")})


@pytest.mark.security("SEC-INJ-CONFIG")
@given(st.text(max_size=20), st.text(max_size=20))
def test_no_header_can_smuggle(name: str, value: str) -> None:
    try:
        one = upstream(headers={name: Secret(value)})
    except ProviderUnusable:
        return
    raw = one.request("chat", b"{}", stream=True).head
    assert raw.count(b"\r\n\r\n") == 1
    assert raw.replace(b"\r\n", b"").count(b"\n") == 0
    assert raw.replace(b"\r\n", b"").count(b"\r") == 0


@pytest.mark.security("SEC-INJ-CONFIG")
@given(st.text(min_size=1, max_size=30))
def test_no_credential_can_smuggle(credential: str) -> None:
    try:
        one = upstream(credentials=(Secret(credential),))
    except ProviderUnusable:
        return
    raw = one.request("chat", b"{}", stream=True).head
    assert raw.replace(b"\r\n", b"").count(b"\n") == 0


@pytest.mark.security("SEC-INJ-CONFIG")
@given(st.text(max_size=30))
def test_no_path_can_smuggle(path: str) -> None:
    one = upstream(paths={"chat": f"/{path}"})
    head = one.request("chat", b"{}", stream=True).head
    line = head.split(b"\r\n", 1)[0]
    assert line.count(b" ") == 2
    assert line.startswith(b"POST /v1/")
    assert line.endswith(b" HTTP/1.1")
    assert line.isascii()


@pytest.mark.parametrize("settings", [{"credentials": (Secret("canary\n"),)}, {"headers": {"x": Secret("canary\n")}}])
def test_what_cannot_be_sent_is_not_repeated(settings: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnusable) as caught:
        upstream(**settings)
    assert "canary" not in str(caught.value)


def test_credentials_take_turns() -> None:
    one = upstream(credentials=tuple(Secret(f"key-{n}") for n in "abc"))
    assert one.credentials == 3
    assert [one.turn() for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    for stream in (True, False):
        sent = [one.request("chat", b"{}", stream=stream, credential=at).head for at in range(3)]
        assert [b"Bearer key-%c\r\n" % letter in head for letter, head in zip(b"abc", sent, strict=True)] == [True] * 3


def test_a_provider_without_credentials_has_one_way_to_be_called() -> None:
    assert upstream().credentials == 1


def test_a_small_body_travels_with_its_head_and_a_large_one_is_not_copied() -> None:
    one = upstream()
    small = one.request("chat", b"x" * 1000, stream=True)
    assert not small.rest
    large = b"x" * 100_000
    sent = one.request("chat", large, stream=True)
    (body,) = sent.rest
    assert body is large
    assert sent.head.endswith(b"content-length: 100000\r\n\r\n")


def test_a_get_has_no_body() -> None:
    sent = upstream(credentials=(Secret(CANARY),)).get("/models")
    raw = sent.head
    assert not sent.rest
    assert raw.startswith(b"GET /v1/models HTTP/1.1\r\nhost: h\r\n")
    assert raw.endswith(b"\r\n\r\n")
    assert b"content-" not in raw


@pytest.mark.security("SEC-CRED-REDIRECT")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """The credential belongs to one origin; an answer cannot send it to another."""
    heard: list[bytes] = []

    async def thief(peer: Peer) -> None:
        heard.append(await peer.request())

    async def scenario() -> None:
        async with Provider(thief) as other:

            async def script(peer: Peer) -> None:
                await peer.request()
                peer.send(
                    f"HTTP/1.1 {status} Moved\r\nlocation: {other.url}/chat/completions\r\n"
                    "content-length: 0\r\n\r\n".encode()
                )
                await peer.gone()

            async with Provider(script) as provider, Stage(provider.url) as stage:
                answer = await stage.fetch()
                assert (answer.status, answer.error) == (status, None)
                await asyncio.sleep(0.02)
        assert not heard

    run(scenario)


# -- a whole answer for those who can wait --------------------------------------------------------------------------


def test_fetch_returns_status_and_body_and_keeps_the_connection() -> None:
    async def script(peer: Peer) -> None:
        while True:
            assert (await peer.request()).startswith(b"GET /v1/models HTTP/1.1\r\n")
            peer.send(OK)

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            for _ in range(3):
                answer = await fetch(stage.pool, stage.upstream.get("/models"), timeout_s=2)
                assert (answer.status, answer.body) == (200, b"ok")
            assert len(provider.peers) == 1
            assert stage.pool.idle_count == 1

    run(scenario)


def test_fetch_gives_up_in_time_at_the_cap_and_when_it_is_cancelled() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000)
        await peer.gone()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url) as stage:
            request = stage.upstream.get("/models")
            with pytest.raises(errors.UpstreamBroken, match="longer than 1000 bytes"):
                await fetch(stage.pool, request, timeout_s=2, body_limit=1000)
            with pytest.raises(errors.UpstreamTimeout):
                await fetch(stage.pool, request, timeout_s=0.2)
            task = asyncio.ensure_future(fetch(stage.pool, request, timeout_s=5))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert stage.pool.open_count == 0

    run(scenario)


def test_a_path_may_name_the_model_and_the_method() -> None:
    one = upstream(kind="gemini", credentials=(Secret(CANARY),))
    streamed = one.request("gemini", b"{}", stream=True, model="gemini-3-flash").head.decode()
    assert streamed.startswith("POST /v1/models/gemini-3-flash:streamGenerateContent?alt=sse HTTP/1.1\r\n")
    assert f"\r\nx-goog-api-key: {CANARY}\r\n" in streamed
    assert "authorization" not in streamed
    whole = one.request("gemini", b"{}", stream=False, model="gemini-3-flash").head.decode()
    assert whole.startswith("POST /v1/models/gemini-3-flash:generateContent HTTP/1.1\r\n")


@pytest.mark.security("SEC-INJ-PATH")
@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("../../admin", "..%2F..%2Fadmin"),
        ("a?key=x#y", "a%3Fkey%3Dx%23y"),
        ("a b\r\nx-evil: 1", "a%20b%0D%0Ax-evil%3A%201"),
        ("潮:汐@{method}", "%E6%BD%AE%3A%E6%B1%90%40%7Bmethod%7D"),
        ("50%", "50%25"),
    ],
)
def test_a_models_name_cannot_leave_its_place_in_the_path(model: str, target: str) -> None:
    raw = upstream(kind="gemini").request("gemini", b"{}", stream=False, model=model).head.decode()
    assert raw.startswith(f"POST /v1/models/{target}:generateContent HTTP/1.1\r\n")


def test_fields_of_clients_stand_in_the_heads_of_their_own_requests_alone() -> None:
    one = upstream(kind="anthropic", headers={"Anthropic-Beta": Secret("ours")}, credentials=[Secret(CANARY)])

    def head(*relayed: tuple[bytes, bytes]) -> str:
        return one.request("messages", b"{}", stream=False, relayed=relayed).head.decode()

    for _ in range(2):
        assert "\r\nanthropic-version: 2023-06-01\r\n" in head()
        for version in ("2024-01-01", "2025-01-01", "x" * (RELAYED_KEPT + 1)):
            sent = head((b"anthropic-version", version.encode()), (b"anthropic-beta", b"theirs"))
            assert f"\r\nanthropic-version: {version}\r\n" in sent
            assert sent.count("anthropic-version") == 1
            assert "\r\nanthropic-beta: ours\r\n" in sent
            assert sent.endswith("\r\ncontent-length: 2\r\n\r\n{}")


def test_heads_with_ever_new_fields_are_not_kept_for_ever() -> None:
    one = upstream(kind="anthropic")
    for number in range(3 * HEADS_KEPT):
        one.request("messages", b"{}", stream=False, relayed=[(b"anthropic-beta", b"%d" % number)])
    one.request("messages", b"{}", stream=False, relayed=[(b"anthropic-beta", b"x" * (RELAYED_KEPT + 1))])
    kept = vars(one)["_relaying"]
    assert 0 < len(kept) <= HEADS_KEPT
    assert all(len(head) < 2 * RELAYED_KEPT for head in kept.values())


def test_heads_for_ever_new_models_are_not_kept_for_ever() -> None:
    one = upstream(kind="gemini")
    for number in range(3 * HEADS_KEPT):
        one.request("gemini", b"{}", stream=False, model=f"m{number}")
    one.request("gemini", b"{}", stream=False, model="x" * (MODEL_KEPT + 1))
    kept = vars(one)["_named"]
    assert 0 < len(kept) <= HEADS_KEPT
    assert all(len(model) <= MODEL_KEPT for _, _, _, model in kept)
