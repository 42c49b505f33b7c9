"""Media behind URLs that clients choose: what is fetched, and where no URL may lead."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tidegate.upstream import media
from tidegate.upstream.addresses import refusal
from tidegate.upstream.media import EgressPolicy, MediaFetcher
from tidegate.upstream.wheel import Wheel
from tidegate.wire.errors import InvalidRequest

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))

NEVER = [
    "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254",
    "fd20:ce::254", "169.254.1.1", "fe80::1", "fe80::1%eth0", "224.0.0.1", "239.255.255.250", "ff02::1", "0.0.0.0",
    "0.1.2.3", "::", "::ffff:169.254.169.254", "::ffff:0:0", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    "2001:0:53aa:64c:0:fbff:ac15:fffe", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "::127.0.0.1",
    "::10.0.0.1", "2a00::5efe:a00:1", "2a00::200:5efe:a00:1", "nonsense", "",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1",
    "198.18.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "fec0::1", "2001:1ff::1", "3fff::1", "198.51.100.7", "203.0.113.9", "::1", "fc00::1", "fd12:3456::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:192.168.1.1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"]


@pytest.mark.security("SEC-API7-ADDRESS")
@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_allowed(address: str) -> None:
    assert refusal(address, allow_private=False)
    assert refusal(address, allow_private=True)


@pytest.mark.security("SEC-API7-ADDRESS")
@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_a_choice(address: str) -> None:
    assert refusal(address, allow_private=False)
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert refusal(address, allow_private=False) is None


class Site:
    """An HTTP server that answers each path with fixed bytes, and keeps what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[bytes] = []
        self.port = 0
        self.cut = 0
        self.closed = asyncio.Event()

    def page(self, path: str, head: str, body: bytes = b"") -> str:
        """Its URL under a name that only the test's resolver knows."""
        self.pages[path] = f"HTTP/1.1 {head}\r\nconnection: close\r\n\r\n".encode() + body
        return f"http://site.test:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        path = head.split(b" ")[1].decode()
        answer = self.pages.get(path)
        try:
            if answer is not None:
                writer.write(answer)
                writer.write_eof()
            await reader.read()  # until the other side has closed
        except ConnectionError:
            self.cut += 1
        finally:
            writer.close()
            self.closed.set()


def resolver(names: dict[str, list[str]]) -> Callable[[str, int], Any]:
    turns: dict[str, int] = {}

    async def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        addresses = names.get(host)
        if addresses is None:
            return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        turn = turns[host] = turns.get(host, -1) + 1
        address = addresses[min(turn, len(addresses) - 1)]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in address.split(",")
        ]

    return resolve


@asynccontextmanager
async def fetching(
    policy: EgressPolicy | None = None, names: dict[str, list[str]] | None = None
) -> AsyncIterator[tuple[Site, MediaFetcher]]:
    site = Site()
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    async with await asyncio.start_server(site.serve, "127.0.0.1", 0) as server:
        site.port = server.sockets[0].getsockname()[1]
        known = {"site.test": ["127.0.0.1"], **(names or {})}
        yield site, MediaFetcher(policy or EgressPolicy(allow_private=True), loop, wheel, resolver=resolver(known))
        if site.asked:
            await site.closed.wait()
        server.close()
    await asyncio.sleep(0)
    wheel.close()


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


async def refused(fetcher: MediaFetcher, url: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await fetcher.fetch(url, param="input[0].content[1].image_url")
    assert caught.value.param == "input[0].content[1].image_url"
    return caught.value


def test_an_image_comes_back_as_a_data_url_and_nothing_of_ours_goes_along() -> None:
    async def scenario() -> None:
        async with fetching() as (site, fetcher):
            url = site.page("/a.png?sig=1", "200 OK\r\ncontent-type: image/png; x=y", PNG)
            found = await fetcher.fetch(url, param="image_url")
            assert found == "data:image/png;base64," + base64.b64encode(PNG).decode()
            assert b"authorization" not in site.asked[0].lower()
            assert b"cookie" not in site.asked[0].lower()

    run(scenario)


@pytest.mark.security("SEC-API7-ADDRESS")
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/a.png",
        "http://127.1:{port}/a.png",
        "http://2130706433:{port}/a.png",
        "http://0x7f000001:{port}/a.png",
        "http://0177.0.0.1:{port}/a.png",
        "http://[::ffff:127.0.0.1]:{port}/a.png",
        "http://localhost:{port}/a.png",
        "http://site.test:{port}/a.png",
        "http://metadata.test/latest/meta-data/",
        "http://mixed.test:{port}/a.png",
    ],
)
def test_no_spelling_of_a_private_address_is_fetched(url: str) -> None:
    async def scenario() -> None:
        names = {"metadata.test": ["169.254.169.254"], "mixed.test": ["8.8.8.8,127.0.0.1"]}
        async with fetching(EgressPolicy(), names) as (site, fetcher):
            site.page("/a.png", "200 OK\r\ncontent-type: image/png", PNG)
            error = await refused(fetcher, url.format(port=site.port))
            assert "not allowed" in error.message
            assert not site.asked

    run(scenario)


@pytest.mark.security("SEC-API7-SCHEME")
@pytest.mark.parametrize(
    "url",
    [
        "ftp://site.test/a.png",
        "file:///etc/passwd",
        "gopher://site.test/",
        "//site.test/a.png",
        "http://",
        "http://user:pass@site.test/a.png",
        "http://site.test:99999/",
        "http://si te.test/",
        "http://site.test\r\nhost: evil/",
        "javascript:alert(1)",
    ],
)
def test_other_schemes_and_odd_urls_are_refused(url: str) -> None:
    async def scenario() -> None:
        async with fetching() as (site, fetcher):
            await refused(fetcher, url)
            assert not site.asked

    run(scenario)


@pytest.mark.security("SEC-API7-REDIRECT")
def test_each_redirect_is_checked_again() -> None:
    async def scenario() -> None:
        names = {"inner.test": ["169.254.169.254"]}
        async with fetching(names=names) as (site, fetcher):
            url = site.page("/go", "302 Found\r\nlocation: http://inner.test/latest")
            error = await refused(fetcher, url)
            assert "metadata" in error.message

    run(scenario)


@pytest.mark.security("SEC-API7-REDIRECT")
def test_a_redirect_is_followed_but_not_for_ever() -> None:
    async def scenario() -> None:
        async with fetching() as (site, fetcher):
            site.page("/there", "200 OK\r\ncontent-type: image/gif", b"GIF89a")
            assert (await fetcher.fetch(site.page("/go", "301 Moved\r\nlocation: /there"), param="x")).endswith(
                "R0lGODlh"
            )
            error = await refused(fetcher, site.page("/loop", "302 Found\r\nlocation: /loop"))
            assert "redirects more than 5 times" in error.message

    run(scenario)


@pytest.mark.security("SEC-API7-REBIND")
def test_a_name_that_answers_differently_the_second_time_gains_nothing() -> None:
    async def scenario() -> None:
        names = {"rebind.test": ["127.0.0.1", "169.254.169.254"]}
        async with fetching(names=names) as (site, fetcher):
            site.page("/a.png", "200 OK\r\ncontent-type: image/png", PNG)
            assert await fetcher.fetch(f"http://rebind.test:{site.port}/a.png", param="x")
            assert "metadata" in (await refused(fetcher, f"http://rebind.test:{site.port}/a.png")).message

    run(scenario)


@pytest.mark.security("SEC-API7-TYPE")
@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("404 Not Found", "status 404"),
        ("302 Found", "no location"),
        ("200 OK\r\ncontent-type: text-html", "content type is 'text-html'"),
        ("200 OK", "content type is 'unknown'"),
        ("200 OK\r\ncontent-type: application/octet-stream", "content type"),
    ],
)
def test_what_is_no_media_is_said_plainly(head: str, says: str) -> None:
    async def scenario() -> None:
        async with fetching() as (site, fetcher):
            error = await refused(fetcher, site.page("/x?secret=1", head, b"body"))
            assert says in error.message
            assert "secret" not in error.message
            assert error.code == "failed_to_download_image"

    run(scenario)


@pytest.mark.security("SEC-API7-CAPS")
def test_size_and_time_have_limits() -> None:
    async def scenario() -> None:
        policy = EgressPolicy(allow_private=True, max_bytes=100, timeout_s=0.3)
        async with fetching(policy) as (site, fetcher):
            url = site.page("/big", "200 OK\r\ncontent-type: image/png", PNG)
            assert "longer than 100 bytes" in (await refused(fetcher, url)).message
            assert "egress.timeout" in (await refused(fetcher, f"http://site.test:{site.port}/silent")).message

    run(scenario)


@pytest.mark.security("SEC-API7-SWITCH")
def test_fetching_can_be_switched_off() -> None:
    async def scenario() -> None:
        async with fetching(EgressPolicy(fetch=False)) as (site, fetcher):
            error = await refused(fetcher, "https://example.com/a.png")
            assert "egress.fetch_media" in error.message
            assert not site.asked

    run(scenario)


@pytest.mark.parametrize("location", ["http://[", "http://[::1", "http://site.test:x/", "http://]/"])
def test_a_redirect_to_what_is_no_url_is_the_fault_of_the_url(location: str) -> None:
    async def scenario() -> None:
        async with fetching() as (site, fetcher):
            assert "no" in (await refused(fetcher, site.page("/go", f"302 Found\r\nlocation: {location}"))).message

    run(scenario)


@pytest.mark.security("SEC-API7-CAPS")
def test_one_request_makes_us_fetch_only_so_much() -> None:
    """A gateway must not be the amplifier of somebody who has found a door."""

    async def scenario() -> None:
        async with fetching() as (site, fetcher):
            many = [f"http://site.test:{site.port}/{number}.png" for number in range(media.URLS_LIMIT + 1)]
            with pytest.raises(InvalidRequest, match="101 URLs"):
                await fetcher.fetch_all(many, param="input")
            assert not site.asked

    run(scenario)


def test_few_urls_are_fetched_at_once_and_all_within_one_time() -> None:
    async def scenario() -> None:
        async with fetching(EgressPolicy(allow_private=True, timeout_s=0.4)) as (site, fetcher):
            urls = [f"http://site.test:{site.port}/silent{number}" for number in range(12)]
            begun = asyncio.get_running_loop().time()
            with pytest.raises(InvalidRequest, match=r"egress\.timeout"):
                await fetcher.fetch_all(urls, param="input")
            assert asyncio.get_running_loop().time() - begun < 2
            assert len(site.asked) == media.AT_ONCE

    run(scenario)


def test_the_files_of_a_request_have_a_size_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "TOTAL_BYTES", 1000)

    async def scenario() -> None:
        async with fetching(EgressPolicy(allow_private=True, max_bytes=500)) as (site, fetcher):
            head = "200 OK\r\ncontent-type: image/png"
            urls = [site.page(f"/{number}.png", head, PNG) for number in range(10)]
            assert set(await fetcher.fetch_all(urls[:3], param="input")) == set(urls[:3])
            with pytest.raises(InvalidRequest, match="more than 1000 bytes together"):
                await fetcher.fetch_all(urls, param="input")

    run(scenario)


@pytest.mark.security("SEC-API7-CAPS")
def test_names_that_nobody_answers_for_do_not_take_all_threads_of_the_lookup() -> None:
    async def scenario() -> None:
        asked = 0
        release = asyncio.Event()

        async def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
            nonlocal asked
            asked += 1
            await release.wait()
            raise OSError

        loop = asyncio.get_running_loop()
        wheel = Wheel(loop)
        fetcher = MediaFetcher(EgressPolicy(timeout_s=0.2), loop, wheel, resolver=resolve)
        for _ in range(2):
            with pytest.raises(InvalidRequest, match=r"egress\.timeout"):
                await fetcher.fetch_all([f"http://{number}.test/" for number in range(4)], param="input")
        assert asked == media.LOOKUPS
        release.set()
        await asyncio.sleep(0.05)
        wheel.close()

    run(scenario)
