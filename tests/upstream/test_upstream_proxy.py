"""Proxies: which one is asked, in which form, with which credential, and what its refusals become."""

import asyncio
import base64
import ssl

import pytest

from tests.upstream.stage import (
    CANARY,
    LOOPS,
    OK,
    SLACK_S,
    Certificates,
    Peer,
    Provider,
    Stage,
    answering,
    run,
    until,
)
from tidegate.upstream.egress import tls_context
from tidegate.upstream.provider import ProviderUnusable
from tidegate.upstream.proxy import Proxy, proxy_from_environment
from tidegate.wire import errors

USER = "user:p%40ss-canary"
BASIC = "Basic " + base64.b64encode(b"user:p@ss-canary").decode()


class Tunnelling:
    """A proxy that answers CONNECT with `answer`, and joins the ends when that is a yes."""

    def __init__(self, port: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.port = port
        self.answer = answer
        self.heads: list[bytes] = []
        self.passed = bytearray()

    async def __call__(self, peer: Peer) -> None:
        self.heads.append(await peer.request())
        peer.send(self.answer)
        if not self.answer.startswith(b"HTTP/1.1 200"):
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def up() -> None:
            while data := await peer.reader.read(65536):
                self.passed += data
                writer.write(data)

        async def down() -> None:
            while data := await reader.read(65536):
                peer.send(data)

        ends = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            writer.transport.abort()
            await asyncio.gather(*ends, return_exceptions=True)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("secure", [False, True])
def test_plain_http_names_the_whole_address(secure: bool, loop: str, certificates: Certificates) -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            heads.append(await peer.request())
            peer.send(OK)

    async def scenario() -> None:
        context = certificates.server() if secure else None
        async with Provider(script, context=context) as proxy:
            scheme = "https" if secure else "http"
            async with Stage(
                "http://provider.example:81/base/v1",
                proxy=f"{scheme}://{USER}@localhost:{proxy.port}",
                ca_bundle=certificates.bundle,
            ) as stage:
                for _ in range(2):
                    assert (await stage.fetch()).body == b"ok"
        assert len(heads) == 2
        assert heads[0].startswith(b"POST http://provider.example:81/base/v1/chat/completions HTTP/1.1\r\n")
        assert b"\r\nhost: provider.example:81\r\n" in heads[0]
        assert f"\r\nproxy-authorization: {BASIC}\r\n".encode() in heads[0]
        assert len(proxy.peers) == 1

    run(scenario, loop)


@pytest.mark.security("SEC-CRED-PROXY")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("secure", [False, True])
def test_https_goes_through_a_tunnel_that_hides_the_credential(
    secure: bool, loop: str, certificates: Certificates
) -> None:
    async def scenario() -> None:
        async with Provider(answering(OK), context=certificates.server("provider.example")) as provider:
            script = Tunnelling(provider.port)
            context = certificates.server() if secure else None
            async with Provider(script, context=context) as proxy:
                scheme = "https" if secure else "http"
                async with Stage(
                    "https://provider.example/v1",
                    proxy=f"{scheme}://{USER}@localhost:{proxy.port}",
                    ca_bundle=certificates.bundle,
                ) as stage:
                    for _ in range(3):
                        assert (await stage.fetch()).body == b"ok"
                    assert (await stage.fetch(b"x" * 3_000_000)).body == b"ok"
                    assert stage.pool.idle_count == 1
                    stage.upstream.close()
                    await until(lambda: not proxy.tasks)
                assert script.heads == [
                    b"CONNECT provider.example:443 HTTP/1.1\r\nhost: provider.example:443\r\n"
                    + f"proxy-authorization: {BASIC}\r\n\r\n".encode()
                ]
                assert CANARY.encode() not in script.passed
                assert b"chat/completions" not in script.passed

    run(scenario, loop)


@pytest.mark.security("SEC-CRED-PROXY")
@pytest.mark.parametrize("loop", LOOPS)
def test_the_tunnel_ends_at_the_provider_we_meant(loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        async with (
            Provider(answering(OK), context=certificates.server("evil.example")) as provider,
            Provider(Tunnelling(provider.port)) as proxy,
            Stage(
                "https://provider.example/v1",
                proxy=f"http://localhost:{proxy.port}",
                ca_bundle=certificates.bundle,
            ) as stage,
        ):
            answer = await stage.fetch()
            assert "certificate of provider.example is not trusted: Hostname mismatch" in answer.message
            assert stage.pool.open_count == 0

    run(scenario, loop)


@pytest.mark.security("SEC-CRED-PROXY")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required p@ss-canary\r\n\r\n", "it answered CONNECT with status 407."),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nno!", "it answered CONNECT with status 502."),
        (b"HTTP/1.1 302 Found\r\nlocation: http://x\r\n\r\n", "it answered CONNECT with status 302."),
        (b"SSH-2.0-x\r\n\r\n", "its answer to CONNECT is not HTTP."),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "its answer to CONNECT is not HTTP."),
        (b"HTTP/1.1 200 OK\r\n\r\n\x15\x03", "it sent bytes of its own into the tunnel."),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "it answered CONNECT with status 100."),
        (b"HTTP/1.1 407 No\r\nx: " + b"a" * 20_000, "its answer to CONNECT is too long."),
        (b"HTTP/1.1 4", "it closed the connection."),
        (b"", "it closed the connection."),
    ],
)
def test_a_proxy_that_refuses_the_tunnel_is_told_as_such(answer: bytes, words: str, loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer)

    async def scenario() -> None:
        async with (
            Provider(script) as proxy,
            Stage("https://provider.example/v1", proxy=f"http://{USER}@localhost:{proxy.port}") as stage,
        ):
            told = await stage.fetch()
            assert isinstance(told.error, errors.UpstreamUnreachable)
            assert told.message == f"Provider 'lab': the proxy refused the tunnel: {words}"
            assert "canary" not in told.message

    run(scenario, loop)


def test_a_proxy_that_refuses_a_plain_request_is_not_the_provider() -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"

    async def scenario() -> None:
        async with (
            Provider(answering(refusal)) as proxy,
            Stage("http://provider.example/v1", proxy=f"http://localhost:{proxy.port}") as stage,
        ):
            answer = await stage.fetch()
            assert isinstance(answer.error, errors.UpstreamUnreachable)
            assert answer.message == "Provider 'lab': the proxy refused the request with status 407."
            assert answer.status == 0

    run(scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_proxy_that_does_not_answer_is_a_matter_of_the_connect_clock(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async def scenario() -> None:
        async with (
            Provider(script) as proxy,
            Stage("https://provider.example/v1", proxy=f"http://localhost:{proxy.port}") as stage,
        ):
            started = stage.loop.time()
            answer = await stage.fetch(connect=0.3)
            assert isinstance(answer.error, errors.UpstreamTimeout)
            assert answer.error.clock == "connect"
            assert 0.29 <= answer.finished_at - started <= 0.3 + SLACK_S
            await until(lambda: proxy.peers[0].closed_at)
            assert proxy.peers[0].closed_at
            # The same when the client leaves meanwhile.
            left = stage.ask()
            await until(lambda: len(proxy.peers) == 2)
            await asyncio.sleep(0.05)
            left.attempt.abort()
            await until(lambda: proxy.peers[1].closed_at)
            assert proxy.peers[1].closed_at

    run(scenario, loop)


def test_a_proxy_that_is_not_there_is_told_as_such() -> None:
    async def scenario() -> None:
        async with Stage("https://provider.example/v1", proxy=f"http://{USER}@127.0.0.1:9") as stage:
            answer = await stage.fetch()
            assert answer.message == (
                "Provider 'lab': the proxy cannot be reached: no connection to 127.0.0.1:9: Connection refused."
            )

    run(scenario)


@pytest.mark.parametrize("target", ["http", "https"])
def test_a_proxy_with_a_certificate_we_do_not_trust_gets_nothing(target: str, certificates: Certificates) -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.reader.read(10))

    async def scenario() -> None:
        async with (
            Provider(script, context=certificates.server()) as proxy,
            Stage(f"{target}://provider.example/v1", proxy=f"https://{USER}@localhost:{proxy.port}") as stage,
        ):
            answer = await stage.fetch()
            assert answer.message.startswith(
                "Provider 'lab': the proxy cannot be reached: the TLS certificate of localhost is not trusted"
            )
        assert not any(heard)

    run(scenario)


def test_the_setting_of_a_provider_wins_over_the_environment() -> None:
    async def scenario() -> None:
        async with Provider(answering(OK)) as proxy:
            environment = {"HTTP_PROXY": "http://127.0.0.1:9"}
            async with Stage(
                "http://provider.example/v1", environment=environment, proxy=f"http://127.0.0.1:{proxy.port}"
            ) as stage:
                assert (await stage.fetch()).body == b"ok"
            async with Stage("http://[::ffff:127.0.0.1]:9/v1", environment=environment, proxy="none") as stage:
                assert "no connection to ::ffff:127.0.0.1:9" in (await stage.fetch()).message
            async with Stage(
                "http://provider.example/v1", environment={"http_proxy": f"127.0.0.1:{proxy.port}"}
            ) as stage:
                assert (await stage.fetch()).body == b"ok"

    run(scenario)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"proxy": "socks5://user:canary@h:1"}, "providers.lab.proxy names a proxy of the kind 'socks5'"),
        ({"proxy": "http://user:canary@"}, "providers.lab.proxy names no host"),
        ({"proxy": "http://user:canary@h:99999"}, "providers.lab.proxy is not an address"),
        (
            {"environment": {"ALL_PROXY": "socks5h://user:canary@h:1"}},
            "providers.lab: the environment variable ALL_PROXY names a proxy of the kind 'socks5h'",
        ),
    ],
)
def test_a_proxy_that_cannot_work_is_refused_at_the_start(settings: dict[str, object], words: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ProviderUnusable) as caught:
            Stage("http://provider.example/v1", **settings)  # type: ignore[arg-type]
        assert words in str(caught.value)
        assert "canary" not in str(caught.value)

    run(scenario)


P = "http://proxy:1"


@pytest.mark.parametrize(
    ("scheme", "environment", "found"),
    [
        ("http", {"HTTP_PROXY": P}, ("HTTP_PROXY", P)),
        ("http", {"HTTPS_PROXY": P}, None),
        ("https", {"HTTPS_PROXY": P}, ("HTTPS_PROXY", P)),
        ("https", {"HTTP_PROXY": P}, None),
        ("https", {"ALL_PROXY": P}, ("ALL_PROXY", P)),
        ("https", {"all_proxy": P, "HTTPS_PROXY": "http://q"}, ("HTTPS_PROXY", "http://q")),
        ("https", {"https_proxy": P, "HTTPS_PROXY": "http://q"}, ("https_proxy", P)),
        ("https", {"https_proxy": "", "HTTPS_PROXY": "http://q"}, None),
        ("https", {"https_proxy": " ", "ALL_PROXY": P}, ("ALL_PROXY", P)),
        ("https", {"https_proxy": P, "NO_PROXY": "api.example.com"}, None),
        ("https", {"https_proxy": P, "no_proxy": "other", "NO_PROXY": "api.example.com"}, ("https_proxy", P)),
        ("https", {"https_proxy": P, "no_proxy": "", "NO_PROXY": "*"}, ("https_proxy", P)),
        ("https", {"Https_Proxy": P}, None),
        ("https", {}, None),
    ],
)
def test_the_environment_names_the_proxy(
    scheme: str, environment: dict[str, str], found: tuple[str, str] | None
) -> None:
    assert proxy_from_environment(scheme, "api.example.com", 443, environment) == found


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("*", "api.example.com", 443, True),
        ("api.example.com", "api.example.com", 443, True),
        ("API.Example.COM", "api.example.com", 443, True),
        ("example.com", "api.example.com", 443, True),
        (".example.com", "api.example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        ("ample.com", "api.example.com", 443, False),
        ("api.example.com.", "api.example.com", 443, True),
        ("example.org,example.com", "example.com", 443, True),
        (" example.org , example.com ", "example.com", 443, True),
        ("example.org example.com", "example.com", 443, True),
        ("example.com:443", "example.com", 443, True),
        ("example.com:8443", "example.com", 443, False),
        ("example.com:443", "api.example.com", 443, True),
        ("api.example.com", "example.com", 443, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3:80", "10.1.2.3", 80, True),
        ("10.1.2.3:81", "10.1.2.3", 80, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3/8", "10.9.9.9", 80, True),
        ("not/a-network", "10.1.2.3", 80, False),
        ("2.3", "10.1.2.3", 80, False),
        ("fd00::/8", "fd00::1", 80, True),
        ("fd00::1", "fd00::1", 80, True),
        ("fd00:0::1", "fd00::1", 80, True),
        ("[fd00::1]", "fd00::1", 80, True),
        ("[fd00::1]:80", "fd00::1", 80, True),
        ("[fd00::1]:81", "fd00::1", 80, False),
        ("10.0.0.0/8", "fd00::1", 80, False),
        ("", "example.com", 443, False),
        (",,", "example.com", 443, False),
        (".", "example.com", 443, False),
        ("", "localhost", 80, True),
        ("", "a.localhost", 80, True),
        ("", "127.0.0.1", 80, True),
        ("", "127.9.9.9", 80, True),
        ("", "::1", 80, True),
        ("", "10.1.2.3", 80, False),
    ],
)
def test_no_proxy_is_read_as_curl_and_go_read_it(no_proxy: str, host: str, port: int, direct: bool) -> None:
    found = proxy_from_environment("http", host, port, {"HTTP_PROXY": P, "NO_PROXY": no_proxy})
    assert (found is None) == direct


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://h", Proxy(False, "h", 80, None)),
        ("https://h", Proxy(True, "h", 443, None)),
        ("h:3128", Proxy(False, "h", 3128, None)),
        ("HTTP://H:1/", Proxy(False, "h", 1, None)),
        ("http://[::1]:3128", Proxy(False, "::1", 3128, None)),
        ("http://u@h", Proxy(False, "h", 80, "Basic dTo=")),
        (f"http://{USER}@h", Proxy(False, "h", 80, BASIC)),
    ],
)
def test_a_proxys_address_is_taken_apart(text: str, proxy: Proxy) -> None:
    assert Proxy.parse(text) == proxy


def test_context_of_a_secure_proxy_trusts_the_system_and_the_bundle(certificates: Certificates) -> None:
    both = tls_context(certificates.bundle, for_proxy=True)
    assert both.verify_mode is ssl.CERT_REQUIRED
    assert len(both.get_ca_certs()) == len(tls_context(None).get_ca_certs()) + 1
