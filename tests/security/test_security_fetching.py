"""URLs that clients choose: whatever they are spelled like, they lead nowhere inside (server-side request forgery)."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.raw import Raw, Response, post
from tests.support.running import Running

TOML = """
[server]
port = 0
[providers.google]
kind = "gemini"
base_url = "{sim}"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
[[keys]]
name = "app"
secret = "sk-fetch-0123456789abcdef0123456789abcdef"
[egress]
timeout = "3s"
"""
KEY = "sk-fetch-0123456789abcdef0123456789abcdef"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)

LOOPBACK = [
    "127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1",
    "017700000001", "0x7f.0x0.0x0.0x1", "00000177.0.0.1", "127.0.0.1.", "localhost", "LOCALHOST", "localhost.",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::7f00:1]",
    "[2002:7f00:1::]", "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2a00::5efe:7f00:1]",
    "[2001:0:7f00:1::1]", "0.0.0.0", "0", "0x0", "[::]", "[::ffff:0.0.0.0]", "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1",
]  # fmt: skip
PRIVATE = [
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.254", "167772161",
    "0xa000001", "012.0.0.1", "100.64.0.1", "100.127.255.254", "198.18.0.1", "198.19.255.254", "192.0.0.1", "192.0.0.8",
    "192.0.2.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "255.255.255.255", "224.0.0.1", "239.255.255.250",
    "0.1.2.3", "[fc00::1]", "[fd00::1]", "[fdff:ffff::1]", "[fe80::1]", "[febf::1]", "[ff02::1]", "[ff0e::1]",
    "[2001:db8::1]", "[100::1]", "[fec0::1]", "[3fff::1]", "[5f00::1]", "192.88.99.1", "[::ffff:10.0.0.1]", "[::ffff:192.168.1.1]", "[2002:a00:1::]", "[2002:c0a8:101::1]",
    "[64:ff9b::a00:1]", "[64:ff9b:1::c0a8:101]", "[::10.0.0.1]", "[2a00::200:5efe:a00:1]",
    "[2001:0:4136:e378:8000:63bf:f5ff:fffe]",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "169.254.170.2", "169.254.0.1", "168.63.129.16", "100.100.100.200", "192.0.0.192", "2852039166",
    "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "025177524776", "169.254.43518", "169.16689662",
    "2822734096", "100.0x64.0x64.0xc8", "[fd00:ec2::254]", "[fd20:ce::254]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]",
    "[::ffff:168.63.129.16]", "[::ffff:100.100.100.200]", "[2002:a9fe:a9fe::]", "[64:ff9b::169.254.169.254]",
    "[64:ff9b::a83f:8110]", "[64:ff9b:1::6464:64c8]", "[::169.254.169.254]", "[2a00::5efe:a9fe:a9fe]",
    "[2001:0:4136:e378:8000:63bf:5601:5601]", "[fe80::a9fe:a9fe]", "[FD00:EC2::254]", "[fd00:ec2:0:0:0:0:0:254]",
]  # fmt: skip
ODD = [
    "file:///etc/passwd", "FILE:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:{port}/_GET%20/", "dict://127.0.0.1:{port}/",
    "ldap://127.0.0.1/", "tftp://127.0.0.1/", "jar:http://127.0.0.1!/", "netdoc:///etc/passwd", "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "ws://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http:127.0.0.1:{port}", "http:/127.0.0.1:{port}/",
    "http://", "http:///a.png", "http://user@127.0.0.1:{port}/", "http://user:pass@127.0.0.1:{port}/", "http://1.1.1.1@127.0.0.1:{port}/",
    "http://1.1.1.1:80@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@1.1.1.1/", "http://127.0.0.1:{port}?@1.1.1.1/",
    "http://1.1.1.1 @127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@1.1.1.1/", "http://1.1.1.1\\@127.0.0.1:{port}/",
    "http://127.0.0.1%2f@1.1.1.1:{port}/", "http://[::1", "http://[127.0.0.1]:{port}/", "http://127.0.0.1:99999/",
    "http://127.0.0.1:{port}\r\nHost: evil/", "http://127.0.0.1\t:{port}/", "\thttp://127.0.0.1:{port}/", "http://[fe80::1%25lo]:{port}/",
    "http://%31%32%37.0.0.1:{port}/", "http://127.0.0.1%00.example.com:{port}/", "javascript:alert(1)", "about:blank", "", " ",
]  # fmt: skip
URLS = [
    *(f"http://{host}:{{port}}/a.png" for host in LOOPBACK),
    *(f"http://{host}/a.png" for host in PRIVATE),
    *(f"http://{host}/latest/meta-data/iam/" for host in METADATA),
    *ODD,
]


class Trap(http.server.BaseHTTPRequestHandler):
    """A service inside, which nobody outside may reach."""

    heads: list[str]
    pages: dict[str, tuple[int, dict[str, str]]]

    def do_GET(self) -> None:
        self.heads.append(f"{self.requestline}\n{self.headers}")
        status, fields = self.pages.get(self.path, (200, {"content-type": "image/png"}))
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(PNG)

    def log_message(self, *args: Any) -> None:
        """To nobody."""


class Both(http.server.ThreadingHTTPServer):
    """On both families, so that every spelling of this machine would reach it."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


@pytest.fixture(scope="module")
def trap() -> Iterator[Both]:
    Trap.heads, Trap.pages = [], {}
    try:
        server = Both(("::", 0), Trap)
    except OSError:  # no IPv6 on this machine
        server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Trap)  # type: ignore[assignment]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def inward() -> Iterator[Running]:
    """One that is allowed to fetch from its own network."""
    with Running(TOML.replace("[egress]", "[egress]\nallow_private = true")) as running:
        yield running


def chat(url: str) -> tuple[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]}


def responses(url: str) -> tuple[str, Any]:
    part = {"type": "input_image", "image_url": url}
    return "/v1/responses", {"input": [{"role": "user", "content": [part]}]}


def responses_file(url: str) -> tuple[str, Any]:
    part = {"type": "input_file", "file_url": url}
    return "/v1/responses", {"input": [{"role": "user", "content": [part]}]}


def messages(url: str) -> tuple[str, Any]:
    part = {"type": "image", "source": {"type": "url", "url": url}}
    return "/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": [part]}]}


SHAPES = [chat, responses, responses_file, messages]


def ask(gateway: Running, shape: Any, url: str, **fields: str) -> Response:
    path, body = shape(url)
    headers = [f"Authorization: Bearer {KEY}", *(f"{name}: {value}" for name, value in fields.items())]
    with Raw(gateway) as client:
        return client.ask(post(json.dumps({"model": "google/echo", **body}).encode(), *headers, path=path))


@pytest.mark.security("SEC-API7-ADDRESS")
@pytest.mark.parametrize("shape", SHAPES)
def test_no_url_leads_inside_whatever_it_is_spelled_like(gateway: Running, trap: Both, shape: Any) -> None:
    assert len(URLS) > 140
    Trap.heads.clear()
    before = len([one for one in gateway.sim.requests if one.method == "POST"])
    port = trap.server_address[1]
    with Raw(gateway) as client:
        for url in URLS:
            path, body = shape(url.replace("{port}", str(port)))
            sent = json.dumps({"model": "google/echo", **body}).encode()
            reply = client.ask(post(sent, f"Authorization: Bearer {KEY}", path=path))
            assert reply.status == 400, (url, reply.status, reply.body[:200])
            for tried in (b"PNG", b"answered", b"no connection", b"took longer"):
                assert tried not in reply.body, (url, reply.body)
    assert not Trap.heads
    assert len([one for one in gateway.sim.requests if one.method == "POST"]) == before


@pytest.mark.security("SEC-API7-ADDRESS")
def test_the_trap_is_one(inward: Running, trap: Both) -> None:
    """Where it is allowed, the same spellings do reach it."""
    Trap.heads.clear()
    for host in ("127.0.0.1", "2130706433", "localhost"):
        reply = ask(inward, chat, f"http://{host}:{trap.server_address[1]}/a.png")
        assert reply.status == 200, reply.body
    assert len(Trap.heads) == 3


@pytest.mark.security("SEC-API7-METADATA")
@pytest.mark.parametrize("host", METADATA)
def test_a_metadata_service_is_never_asked_even_where_private_addresses_are(inward: Running, host: str) -> None:
    reply = ask(inward, chat, f"http://{host}/latest/meta-data/")
    assert reply.status == 400
    assert reply.code == "invalid_image_url"
    assert "not allowed" in reply.error["message"]


@pytest.mark.security("SEC-API7-REDIRECT")
def test_every_hop_is_checked_and_there_are_five(inward: Running, gateway: Running, trap: Both) -> None:
    origin = f"http://127.0.0.1:{trap.server_address[1]}"
    for number in range(8):
        Trap.pages[f"/hop{number}"] = (302, {"location": f"/hop{number + 1}"})
    Trap.pages["/hop8"] = (200, {"content-type": "image/png"})
    assert ask(inward, chat, f"{origin}/hop3").status == 200
    refusal = ask(inward, chat, f"{origin}/hop2")
    assert (refusal.status, refusal.code) == (400, "failed_to_download_image")
    for number, target in enumerate(("http://169.254.169.254/latest", "//100.100.100.200/", "http://[fd00:ec2::254]/")):
        Trap.pages[f"/to{number}"] = (307, {"location": target})
        refusal = ask(inward, chat, f"{origin}/to{number}")
        assert (refusal.status, refusal.code) == (400, "invalid_image_url")
        assert "not allowed" in refusal.error["message"]
    for number, target in enumerate(("file:///etc/passwd", "gopher://127.0.0.1/", "http://user:pass@127.0.0.1/")):
        Trap.pages[f"/odd{number}"] = (302, {"location": target})
        assert ask(inward, chat, f"{origin}/odd{number}").code == "invalid_image_url"


@pytest.mark.security("SEC-API7-BARE")
def test_nothing_of_ours_or_of_the_client_goes_along_on_any_hop(inward: Running, trap: Both) -> None:
    Trap.heads.clear()
    port = trap.server_address[1]
    Trap.pages["/from"] = (302, {"location": f"http://localhost:{port}/away.png", "set-cookie": "canary=1"})
    url = f"http://127.0.0.1:{port}/from?signature=canary"
    Trap.pages["/from?signature=canary"] = Trap.pages["/from"]
    fields = {"Cookie": "canary=2", "X-Forwarded-For": "10.9.8.7", "Referer": "http://canary/", "X-Canary": "canary"}
    assert ask(inward, chat, url, **fields).status == 200
    first, second = Trap.heads
    for head in (first, second):
        names = {line.partition(":")[0].lower() for line in head.splitlines()[1:] if line}
        assert names == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert "canary" not in second
    assert KEY not in first + second
