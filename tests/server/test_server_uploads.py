"""Uploads: what arrives is kept on disk, capped, and let go of, whatever becomes of the request."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.conftest import KEY
from tests.support.forms import BOUNDARY, TRANSCRIPTIONS, echo_of, form, noise, open_files, spools, upload
from tests.support.raw import HELLO, Raw, chunk, post
from tests.support.running import SIM_ONLY, Running, wait_for
from tidegate.server.spool import MEMORY_BYTES, UNWRITTEN_BYTES, Spools

MIB = 1024 * 1024
END = f"--{BOUNDARY}--\r\n"
LARGE = noise(5 * MIB + 123)

TOML = SIM_ONLY.replace(
    "[server]",
    """[server]
max_upload = "6MiB"
max_body = "64KiB"
body_timeout = "700ms"
data_dir = "{folder}"
""",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "not" / "there" / "yet"


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Running]:
    with Running(TOML.replace("{folder}", str(folder))) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left(gateway: Running) -> Iterator[None]:
    yield
    assert wait_for(lambda: open_files(gateway) == 0)
    assert wait_for(lambda: not deleted_files())


def deleted_files() -> list[str]:
    """Files without a name that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.endswith("(deleted)") and "/data" in target:
            found.append(target)
    return found


def slices(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("size", [1, MEMORY_BYTES, MEMORY_BYTES + 1, len(LARGE)])
def test_a_file_of_any_size_reaches_the_provider_whole(gateway: Running, size: int) -> None:
    with Raw(gateway) as client:
        answer = client.ask(upload(form(LARGE[:size])))
    assert (answer.status, answer.json["text"]) == (200, echo_of(LARGE[:size]))


def test_a_chunked_body_may_come_in_any_pieces(gateway: Running) -> None:
    data = LARGE[: 2 * MIB]
    with Raw(gateway) as client:
        client.send(upload(b"", chunked=True))
        for piece in slices(form(data), 50_001):
            client.send(chunk(piece))
        assert client.ask(b"0\r\n\r\n").json["text"] == echo_of(data)


def test_a_body_that_trickles_is_read(gateway: Running) -> None:
    body = form(b"sound")
    with Raw(gateway) as client:
        client.send(upload(b"", length=len(body)))
        for byte in slices(body, 1):
            client.send(byte)
        assert client.response().json["text"] == echo_of(b"sound")


@pytest.mark.security("SEC-API8-FILES")
def test_the_file_has_no_name_and_only_its_owner_could_have_read_it(gateway: Running, folder: Path) -> None:
    body = form(LARGE)
    with Raw(gateway) as client:
        client.send(upload(body[: 4 * MIB], length=len(body)))
        assert wait_for(deleted_files)
        kept = [one.name for one in folder.iterdir() if not one.name.startswith("tidegate.db")]
        assert sorted(kept) == ["envelope.key", "pepper.key"]
        assert folder.stat().st_mode & 0o077 == 0
        assert client.ask(body[4 * MIB :]).json["text"] == echo_of(LARGE)


def test_a_small_file_needs_no_disk(gateway: Running) -> None:
    body = form(LARGE[:MEMORY_BYTES])
    with Raw(gateway) as client:
        client.send(upload(body[:-10], length=len(body)))
        assert wait_for(lambda: open_files(gateway) == 1)
        assert deleted_files() == []
        assert client.ask(body[-10:]).status == 200


# -- caps ---------------------------------------------------------------------------------------------------------


def test_an_upload_that_is_announced_over_the_cap_is_refused_before_it_comes(gateway: Running) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(upload(b"", "Expect: 100-continue", length=6 * MIB + 1))
        assert (refusal.status, refusal.code, refusal.error["param"]) == (413, "body_too_large", "file")
        assert "6291456" in refusal.error["message"]
        assert "server.max_upload" in refusal.error["message"]
        assert refusal.closes


def test_an_upload_is_refused_while_it_comes(gateway: Running) -> None:
    """The client would go on sending for ever, and reads at the same time."""
    with Raw(gateway) as client:
        client.send(upload(b"", chunked=True) + chunk(form(b"x")[: -len(END) - 2]))
        sent = 0

        def send() -> None:
            nonlocal sent
            with contextlib.suppress(OSError):
                while True:
                    client.sock.sendall(chunk(b"x" * 65536))
                    sent += 65536

        sender = threading.Thread(target=send)
        sender.start()
        refusal = client.response()
        at_answer = sent
        assert open_files(gateway) == 0
        client.sock.shutdown(socket.SHUT_RDWR)
        sender.join(5)
    assert (refusal.status, refusal.code, refusal.closes) == (413, "body_too_large", True)
    assert at_answer < 64 * MIB


def test_the_cap_of_other_bodies_is_another(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(upload(form(b"x" * 100_000))).status == 200
        assert client.ask(post(HELLO + b" " * 100_000)).status == 413


def test_the_remembered_cap_is_that_of_the_path(gateway: Running) -> None:
    """Requests that look like the last one are judged from memory."""
    with Raw(gateway) as client:
        for _ in range(2):
            assert client.ask(post(HELLO)).status == 200
            assert client.ask(upload(form(b"x" * 100_000))).status == 200
            assert client.ask(upload(form(b"x" * 100_000))).status == 200


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.security("SEC-API2-ORDER")
def test_the_key_is_looked_at_before_the_form(keyed: Running) -> None:
    json = post(b'{"model": "sim/echo"}', "Content-Type: application/json", path=TRANSCRIPTIONS)
    with Raw(keyed) as client:
        assert client.ask(json).status == 401
    with Raw(keyed) as client:
        refusal = client.ask(upload(b"", "Expect: 100-continue", length=100 * MIB))
        assert (refusal.status, refusal.code) == (401, "invalid_api_key")
    with Raw(keyed) as client:
        assert client.ask(upload(form(), f"Authorization: Bearer {KEY}")).status == 200


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (
            post(b'{"model": "sim/echo"}', "Content-Type: application/json", path=TRANSCRIPTIONS),
            "missing_required_parameter",
        ),
        (post(b'{"model": "sim/echo"}', path=TRANSCRIPTIONS), "missing_required_parameter"),
        (post(form(), "Content-Type: multipart/form-data", path=TRANSCRIPTIONS), "invalid_form"),
        (upload(form()[20:]), "invalid_form"),
        (upload(form(b"a")[: -len(END)] + form(b"b", model=None)), "invalid_value"),
    ],
    ids=["json", "no type", "no boundary", "broken", "two files"],
)
def test_what_is_no_form_gets_a_400_and_the_provider_hears_nothing(
    gateway: Running, request_: bytes, code: str
) -> None:
    before = len(gateway.sim.requests)
    with Raw(gateway) as client:
        refusal = client.ask(request_)
    assert (refusal.status, refusal.error["param"], refusal.code) == (400, "file", code)
    assert len(gateway.sim.requests) == before


def test_a_form_that_is_cut_off_but_framed_well_leaves_the_connection_usable(gateway: Running) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(upload(form()[:-20]))
        assert (refusal.status, refusal.code, refusal.closes) == (400, "invalid_form", False)
        assert client.ask(upload(form())).status == 200


@pytest.mark.fault("FAULT-SLOWLORIS")
def test_an_upload_that_stalls_gets_a_408(gateway: Running) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(upload(form(LARGE)[: 3 * MIB], length=4 * MIB))
        assert (refusal.status, refusal.code) == (408, "request_timeout")
        assert open_files(gateway) == 0


@pytest.mark.parametrize("sent", [400, 3 * MIB])
@pytest.mark.parametrize("way", ["fin", "reset"])
def test_of_a_client_that_leaves_in_the_middle_nothing_stays(gateway: Running, sent: int, way: str) -> None:
    with Raw(gateway) as client:
        client.send(upload(form(LARGE)[:sent], length=len(LARGE) + 1000))
        assert wait_for(lambda: open_files(gateway) == 1)
        client.reset() if way == "reset" else client.finish_sending()
        assert wait_for(lambda: open_files(gateway) == 0, 1)


# -- the connection afterwards ------------------------------------------------------------------------------------


def test_uploads_and_other_requests_share_a_connection(gateway: Running) -> None:
    with Raw(gateway) as client:
        for _ in range(2):
            assert client.ask(upload(form(LARGE))).json["text"] == echo_of(LARGE)
            assert client.ask(post(HELLO)).status == 200
            assert client.ask(upload(form(model="sim/echo?status=503"))).status == 503
            assert client.ask(upload(form(temperature="9"))).error["param"] == "temperature"


def test_pipelined_uploads_are_answered_in_their_order(gateway: Running) -> None:
    bodies = [noise(20_000, seed) for seed in range(5)]
    with Raw(gateway) as client:
        client.send(b"".join(upload(form(data)) + post(HELLO) for data in bodies))
        for data in bodies:
            assert client.response().json["text"] == echo_of(data)
            assert client.response().json["object"] == "response"


def test_an_upload_behind_a_running_answer_waits_for_it(gateway: Running) -> None:
    stream = b'{"model":"sim/lorem?chunks=20&gap=10","input":"x","stream":true}'
    with Raw(gateway) as client:
        client.send(post(stream) + upload(form(noise(300_000))))
        assert b"response.completed" in client.response().body
        assert client.response().json["text"] == echo_of(noise(300_000))


def test_a_pipelined_upload_that_is_too_long_to_wait_is_dropped_whole(gateway: Running) -> None:
    stream = b'{"model":"sim/lorem?chunks=30&gap=20","input":"x","stream":true}'
    with Raw(gateway) as client:
        client.send(post(stream) + upload(form(LARGE)))
        assert b"response.completed" in client.response().body
        assert client.rest() == b""
        assert open_files(gateway) == 0


# -- a disk that is full, slow, or gone ---------------------------------------------------------------------------


class Full(Spools):
    """Every write finds the disk full."""

    def make(self) -> int:
        return os.open("/dev/full", os.O_RDWR)


class Slow(Spools):
    """The disk takes nothing until it is told to."""

    def __init__(self, gateway: Running) -> None:
        super().__init__(gateway.loop, "")
        self.may = threading.Event()

    def make(self) -> int:
        self.may.wait(10)
        return super().make()


@pytest.fixture
def swap(gateway: Running) -> Iterator[object]:
    """Puts other spools in the place of the gateway's."""
    before = spools(gateway)

    def put(other: Spools) -> None:
        gateway.call(lambda: setattr(gateway.server.config.app, "spools", other))

    yield put
    other = spools(gateway)
    put(before)
    assert wait_for(lambda: not other.open)
    gateway.call(other.close)


def test_a_full_disk_is_told_while_the_upload_comes(gateway: Running, swap: object) -> None:
    swap(Full(gateway.loop, ""))  # type: ignore[operator]
    with Raw(gateway) as client:
        refusal = client.ask(upload(form(LARGE)[: 3 * MIB], length=len(LARGE)))
        assert (refusal.status, refusal.code) == (507, "insufficient_storage")
        assert refusal.error["type"] == "server_error"
        assert "No space left on device" in refusal.error["message"]
        assert "server.data_dir" in refusal.error["message"]
        assert refusal["x-should-retry"] == "false"


def test_a_disk_that_is_full_at_the_last_byte_is_told_before_a_provider_is_asked(
    gateway: Running, swap: object
) -> None:
    swap(Full(gateway.loop, ""))  # type: ignore[operator]
    before = len(gateway.sim.requests)
    with Raw(gateway) as client:
        answer = client.ask(upload(form(LARGE[: MEMORY_BYTES + 10])))
        assert (answer.status, answer.code) == (507, "insufficient_storage")
        entry = gateway.usage(answer["x-request-id"])
    assert (entry["status"], entry["ending"], entry["error"]) == (507, "refused", "insufficient_storage")
    assert len(gateway.sim.requests) == before


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Running(TOML.replace("{folder}", str(tmp_path / "file" / "data"))) as gateway, Raw(gateway) as client:
        refusal = client.ask(upload(form(LARGE)))
        assert (refusal.status, refusal.code) == (507, "insufficient_storage")
        assert client.rest() == b""


def test_a_client_is_held_back_while_the_disk_does_not_keep_up(gateway: Running, swap: object) -> None:
    slow = Slow(gateway)
    swap(slow)  # type: ignore[operator]
    body = form(LARGE)
    # The system must not take for itself what the gateway leaves.
    gateway.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    with Raw(gateway) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.send(upload(b"", length=len(body)))
        sender = threading.Thread(target=client.send, args=(body,))
        sender.start()
        (spool,) = wait_for(lambda: [one for one in list(slow.open) if one.size > UNWRITTEN_BYTES])
        time.sleep(0.2)
        assert sender.is_alive(), "nothing held the client back"
        assert UNWRITTEN_BYTES < spool.size < UNWRITTEN_BYTES + MIB
        slow.may.set()
        sender.join(5)
        assert client.response().json["text"] == echo_of(LARGE)


def test_a_disk_that_takes_nothing_is_our_fault_and_not_the_clients(gateway: Running, swap: object) -> None:
    slow = Slow(gateway)
    swap(slow)  # type: ignore[operator]
    with Raw(gateway) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sender = threading.Thread(target=client.send, args=(upload(form(LARGE)),))
        sender.start()
        refusal = client.response()
        assert (refusal.status, refusal.code) == (507, "insufficient_storage")
        assert "server.body_timeout" in refusal.error["message"]
        sender.join(5)
    slow.may.set()


def test_a_disk_that_never_ends_to_write_is_told_too(gateway: Running, swap: object) -> None:
    """All of the upload has come, and little enough waits that nobody was held back."""
    slow = Slow(gateway)
    swap(slow)  # type: ignore[operator]
    with Raw(gateway) as client:
        refusal = client.ask(upload(form(LARGE[: MEMORY_BYTES + 10])))
        assert (refusal.status, refusal.code) == (507, "insufficient_storage")
        slow.may.set()
        assert client.ask(upload(form(LARGE))).json["text"] == echo_of(LARGE)


def test_of_a_client_that_leaves_a_slow_disk_nothing_stays(gateway: Running, swap: object) -> None:
    slow = Slow(gateway)
    swap(slow)  # type: ignore[operator]
    with Raw(gateway) as client:
        client.send(upload(form(LARGE[: 2 * MIB])))
        assert wait_for(lambda: slow.open)
        client.reset()
        assert wait_for(lambda: not slow.open)
    slow.may.set()


def test_the_boundary_of_the_client_is_not_that_of_the_provider(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(upload(form())).status == 200
    sent = gateway.sim.requests[-1]
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=tidegate-")
    assert BOUNDARY not in sent.headers["content-type"]
