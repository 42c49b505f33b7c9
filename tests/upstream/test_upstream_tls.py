"""TLS with the provider: whom we trust, what we say when we do not, and endings that are none."""

import asyncio
import contextlib
import datetime as dt
import gc
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.upstream.stage import (
    CANARY,
    CHUNKED,
    LOOPS,
    OK,
    Answer,
    Certificates,
    Peer,
    Provider,
    Stage,
    answering,
    run,
    until,
)
from tidegate.sim import SimServer
from tidegate.upstream.egress import tls_context
from tidegate.upstream.provider import ProviderUnusable
from tidegate.upstream.tls import Tls
from tidegate.wire import errors


def refused(answer: Answer, words: str) -> None:
    assert isinstance(answer.error, errors.UpstreamUnreachable), answer.message
    assert answer.error.http_status == 502
    assert words in answer.message
    assert answer.message.startswith("Provider 'lab': the TLS ")
    assert CANARY not in answer.message


@pytest.mark.parametrize("loop", LOOPS)
def test_an_authority_of_our_own_is_accepted(loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        async with (
            Provider(answering(OK), context=certificates.server()) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            for _ in range(3):
                assert (await stage.fetch()).body == b"ok"
            assert len(provider.peers) == 1

    run(scenario, loop)


@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.parametrize("loop", LOOPS)
def test_an_unknown_authority_is_refused(loop: str, certificates: Certificates) -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.request())

    async def scenario() -> None:
        async with Provider(script, context=certificates.server()) as provider, Stage(provider.url) as stage:
            refused(await stage.fetch(), "certificate of localhost is not trusted: unable to get local issuer")
            assert not heard

    run(scenario, loop)


@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.security("SEC-CRED-TLS")
def test_a_self_signed_certificate_is_refused(tmp_path: Path) -> None:
    lone = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = tmp_path / "lone.pem"
    lone.private_key_pem.write_to_path(str(pem))
    lone.cert_pem.write_to_path(str(pem), append=True)
    context.load_cert_chain(str(pem))

    async def scenario() -> None:
        async with Provider(answering(OK), context=context) as provider, Stage(provider.url) as stage:
            refused(await stage.fetch(), "self-signed certificate" if ssl.OPENSSL_VERSION_INFO >= (3,) else "self")

    run(scenario)


@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.security("SEC-CRED-TLS")
@pytest.mark.parametrize("loop", LOOPS)
def test_another_hosts_certificate_is_refused(loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        async with (
            Provider(answering(OK), context=certificates.server("other.example")) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            refused(await stage.fetch(), "not trusted: Hostname mismatch, certificate is not valid for 'localhost'.")

    run(scenario, loop)


@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.security("SEC-CRED-TLS")
def test_an_expired_certificate_is_refused(certificates: Certificates) -> None:
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)

    async def scenario() -> None:
        async with (
            Provider(answering(OK), context=certificates.server(not_after=past)) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            refused(await stage.fetch(), "certificate has expired")

    run(scenario)


@pytest.mark.parametrize(("name", "good"), [("127.0.0.1", True), ("localhost", False)])
def test_an_address_is_verified_as_an_address(name: str, good: bool, certificates: Certificates) -> None:
    async def scenario() -> None:
        async with (
            Provider(answering(OK), context=certificates.server(name)) as provider,
            Stage(f"https://127.0.0.1:{provider.port}/v1", ca_bundle=certificates.bundle) as stage,
        ):
            answer = await stage.fetch()
            if good:
                assert answer.body == b"ok"
            else:
                refused(answer, "IP address mismatch")

    run(scenario)


def test_the_name_is_indicated_and_http_1_1_offered(certificates: Certificates) -> None:
    names: list[str | None] = []
    chosen: list[str | None] = []
    context = certificates.server("provider.example")
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda _, name, __: names.append(name)

    async def script(peer: Peer) -> None:
        chosen.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answering(OK)(peer)

    async def scenario() -> None:
        async with Provider(script, context=context) as provider:

            async def here(host: str, port: int) -> list[tuple[object, ...]]:
                assert host == "provider.example"
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", provider.port))]

            async with Stage("https://Provider.Example/v1", ca_bundle=certificates.bundle, resolver=here) as stage:
                assert (await stage.fetch()).body == b"ok"
        assert names == ["provider.example"]
        assert chosen == ["http/1.1"]

    run(scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_without_tls_is_told_as_such(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url.replace("http:", "https:")) as stage:
            refused(await stage.fetch(), "handshake with localhost failed")

    run(scenario, loop)


@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_server_that_leaves_during_the_handshake_is_told_as_such(how: str, loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        if how == "rst":
            peer.reset()

    async def scenario() -> None:
        async with Provider(script) as provider, Stage(provider.url.replace("http:", "https:")) as stage:
            refused(await stage.fetch(), "handshake with localhost failed")

    run(scenario, loop)


class Rude:
    """A TLS server on a plain socket that can leave without close_notify, which the loops' own servers never do."""

    def __init__(self, context: ssl.SSLContext, *pieces: bytes, polite: bool) -> None:
        self._context = context
        self._pieces = pieces
        self._polite = polite

    async def __call__(self, peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)

        async def turn() -> None:
            peer.send(outgoing.read())
            incoming.write(await peer.reader.read(65536))

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await turn()
        while True:
            try:
                tls.read(65536)
                break
            except ssl.SSLWantReadError:
                await turn()
        for piece in self._pieces:
            tls.write(piece)
        if self._polite:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.unwrap()
        peer.send(outgoing.read())
        await peer.writer.drain()


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("polite", [True, False])
def test_an_answer_that_ends_with_the_connection_needs_close_notify(
    polite: bool, paused: bool, loop: str, certificates: Certificates
) -> None:
    """RFC 9112 §9.8: without it anybody on the way may have cut the answer."""

    async def scenario() -> None:
        script = Rude(certificates.server(), b"HTTP/1.1 200 OK\r\n\r\nall", polite=polite)
        async with (
            Provider(script) as provider,
            Stage(provider.url.replace("http:", "https:"), ca_bundle=certificates.bundle) as stage,
        ):
            answer = Answer()
            if paused:
                answer.on_head = lambda: answer.attempt.pause()
            stage.ask(answer=answer, stream=False, idle=0.5)
            if paused:
                await until(lambda: answer.status)  # a resume before the pause would leave it paused for ever
                await asyncio.sleep(0.1)
                answer.attempt.resume()
            await answer.over()
            assert answer.body == b"all"
            assert answer.ended == polite
            if not polite:
                assert isinstance(answer.error, errors.UpstreamBroken | errors.UpstreamTimeout)

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("raw", [OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"])
def test_an_answer_that_says_where_it_ends_needs_none(raw: bytes, loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        script = Rude(certificates.server(), raw, polite=False)
        async with (
            Provider(script) as provider,
            Stage(provider.url.replace("http:", "https:"), ca_bundle=certificates.bundle) as stage,
        ):
            assert (await stage.fetch()).body == b"ok"

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_new_connection_takes_the_session_of_an_earlier_one_up_again(
    version: ssl.TLSVersion, loop: str, certificates: Certificates
) -> None:
    reused: list[bool] = []
    context = certificates.server()
    context.minimum_version = context.maximum_version = version

    async def script(peer: Peer) -> None:
        reused.append(peer.writer.get_extra_info("ssl_object").session_reused)
        await peer.request()
        peer.send(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
        await peer.writer.drain()

    async def scenario() -> None:
        async with (
            Provider(script, context=context) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            for _ in range(3):
                assert (await stage.fetch()).body == b"ok"
        assert reused == [False, True, True]

    run(scenario, loop)


class Watched(ssl.SSLObject):
    """Counts how often a client's session is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        Watched.looks += name == "session" and not self.server_side
        return super().__getattribute__(name)


@pytest.mark.parametrize(("tickets", "reused"), [(2, [False] + 11 * [True]), (0, 12 * [False])])
def test_a_session_is_looked_at_only_when_one_is_needed(
    tickets: int, reused: list[bool], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before Python 3.13 each look loses 5 KB for good: an hour of everything grew by 60 MB.
    monkeypatch.setattr(ssl.SSLContext, "sslobject_class", Watched)
    Watched.looks = 0
    context = certificates.server()
    context.num_tickets = tickets
    found: list[bool] = []

    async def script(peer: Peer) -> None:
        found.append(peer.writer.get_extra_info("ssl_object").session_reused)
        await peer.request()
        peer.send(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
        await peer.writer.drain()

    async def scenario() -> None:
        async with (
            Provider(script, context=context) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            for _ in range(12):
                assert (await stage.fetch()).body == b"ok"

    run(scenario)
    assert found == reused
    assert Watched.looks == 1


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", [1, 7])
def test_tls_comes_in_pieces_of_any_size(size: int, loop: str, certificates: Certificates) -> None:
    """Through a relay that hands on so many bytes at a time."""
    body = bytes(range(256)) * 9

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                if at % 64 == 0:
                    await asyncio.sleep(0)
        writer.close()

    async def scenario() -> None:
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        async with Provider(answering(answer), context=certificates.server()) as provider:

            async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                there, back = await asyncio.open_connection("127.0.0.1", provider.port)
                there_sock = back.get_extra_info("socket")
                there_sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.gather(relay(reader, back), relay(there, writer))

            server = await asyncio.start_server(between, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with Stage(f"https://localhost:{port}/v1", ca_bundle=certificates.bundle) as stage:
                assert (await stage.fetch()).body == body
            server.close()

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_many_records_of_one_read_are_delivered_together(loop: str, certificates: Certificates) -> None:
    chunks = [b"5\r\nchunk\r\n"] * 40

    async def scenario() -> None:
        script = Rude(certificates.server(), CHUNKED, *chunks, b"0\r\n\r\n", polite=True)
        async with (
            Provider(script) as provider,
            Stage(provider.url.replace("http:", "https:"), ca_bundle=certificates.bundle) as stage,
        ):
            answer = await stage.fetch()
            assert answer.body == b"chunk" * 40
            assert len(answer.bodies) <= 3

    run(scenario, loop)


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_no_tls_in_the_midst_of_an_answer_breaks_it(loop: str, certificates: Certificates) -> None:
    async def script(peer: Peer) -> None:
        await Rude(certificates.server(), CHUNKED + b"2\r\nok\r\n", polite=False)(peer)
        peer.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        await peer.writer.drain()
        await peer.reader.read()

    async def scenario() -> None:
        async with (
            Provider(script) as provider,
            Stage(provider.url.replace("http:", "https:"), ca_bundle=certificates.bundle) as stage,
        ):
            answer = await stage.fetch()
            assert answer.body == b"ok"
            assert isinstance(answer.error, errors.UpstreamBroken), answer.message

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_left_of_a_connection_that_has_ended(loop: str, certificates: Certificates) -> None:
    """Without the garbage collector, which looks at the old only now and then."""
    closing = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)

    def left() -> int:
        return sum(isinstance(one, Tls) for one in gc.get_objects())

    async def scenario() -> None:
        async with (
            Provider(answering(closing), context=certificates.server()) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            gc.collect()
            before = left()
            for _ in range(5):
                assert (await stage.fetch()).body == b"ok"
            await until(lambda: left() == before)

    gc.disable()
    try:
        run(scenario, loop)
    finally:
        gc.enable()


def test_the_simulator_streams_over_tls(certificates: Certificates) -> None:
    async def scenario() -> None:
        async with SimServer(ssl_context=certificates.server()) as sim:
            url = sim.base_url.replace("127.0.0.1", "localhost")
            async with Stage(url, ca_bundle=certificates.bundle) as stage:
                body = b'{"model":"lorem?chunks=200","messages":[{"role":"user","content":"x"}],"stream":true}'
                for _ in range(2):
                    assert (await stage.fetch(body)).body.endswith(b"data: [DONE]\n\n")
                assert sim.connections_total == 1
                reset = await stage.fetch(body.replace(b"?chunks=200", b"?fault=reset"))
                assert isinstance(reset.error, errors.UpstreamBroken)

    run(scenario)


def test_a_bundle_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")

    async def scenario() -> None:
        for bundle in (str(tmp_path / "absent.pem"), str(empty), str(tmp_path)):
            with pytest.raises(ProviderUnusable, match=r"providers\.lab\.ca_bundle: .* cannot be used"):
                Stage("https://h.example/v1", ca_bundle=bundle)

    run(scenario)


def test_verification_is_on_and_the_systems_roots_are_read_once() -> None:
    context = tls_context(None)
    assert context is tls_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
