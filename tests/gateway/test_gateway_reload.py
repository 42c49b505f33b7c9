"""A reload swaps the configuration as a whole; what runs ends on the old one, and a bad file changes nothing."""

import asyncio
import itertools
import json
import socket
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from tests.support.api import Api, read_frames, request_body
from tests.support.grammar import check_stream
from tests.support.running import SIM_ONLY, Running, wait_for
from tidegate.providers.discovery import local_ports
from tidegate.server.discovery import pauses
from tidegate.sim import SimServer

EXTRA = """
[providers.other]
kind = "sim"
base_url = "{sim}"
[models.renamed]
target = "other/echo"
"""


def reload(gateway: Running) -> None:
    gateway.call(gateway.server._parts.reload)


@pytest.mark.fault("FAULT-RELOAD")
def test_a_reload_takes_effect_while_a_stream_runs_on(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    with Running(SIM_ONLY, path=path) as gateway, Api(gateway) as api:
        assert api.ask("chat", "renamed").status == 404 or api.get("/v1/models").status == 200
        body = request_body("responses", "sim/lorem?chunks=8&gap=100", stream=True)
        received = b""
        with api.http.stream("POST", "/v1/responses", json=body) as response:
            for data in response.iter_raw():
                if not received:
                    path.write_text((SIM_ONLY + EXTRA).replace("{sim}", gateway.sim.base_url), "utf-8")
                    reload(gateway)
                    assert api.ask("chat", "renamed", say="new").text == "new"
                received += data
        assert check_stream(read_frames(received))["status"] == "completed"
        assert any(line["event"] == "reloaded" for line in gateway.log_lines)
        assert "renamed" in [one["id"] for one in api.get("/v1/models").json["data"]]


def test_a_reload_may_bring_the_simulator(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    with Running("[server]\nport = 0\n" + EXTRA, path=path) as gateway, Api(gateway) as api:
        assert api.ask("chat", "sim/echo").status == 404
        path.write_text(path.read_text("utf-8") + "[providers.sim]\n", "utf-8")
        reload(gateway)
        assert wait_for(lambda: api.ask("chat", "sim/echo", say="new").status == 200)
        assert {request.method for request in gateway.sim.requests} <= {"GET"}  # it is another one that answers


@pytest.mark.fault("FAULT-RELOAD")
@pytest.mark.parametrize(
    "text", ["[server", "[server]\nprot = 1\n", '[providers.x]\nkind = "sim"\nbase_url = "ftp://x"\n', None]
)
def test_a_bad_file_changes_nothing_and_is_reported(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "tidegate.toml"
    with Running(SIM_ONLY, path=path) as gateway, Api(gateway) as api:
        if text is None:
            path.unlink()
        else:
            path.write_text(text, "utf-8")
        reload(gateway)
        assert api.ask("chat", say="still here").text == "still here"
        refused = [line for line in gateway.log_lines if line["event"] == "reload_refused"]
        assert len(refused) == 1
        reason = refused[0]["reason"]
        assert reason == f"Cannot read {path}: No such file or directory." if text is None else reason


def reloaded(gateway: Running, count: int) -> list[list[str]]:
    """Reloads for the `count`th time; the settings that each reload so far has named as waiting for a restart."""
    reload(gateway)
    assert wait_for(lambda: sum(line["event"] == "reloaded" for line in gateway.log_lines) == count)
    gateway.call(lambda: None)
    return [line["settings"] for line in gateway.log_lines if line["event"] == "reload_needs_restart"]


def test_a_reload_names_the_settings_that_wait_for_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    with Running(SIM_ONLY, path=path) as gateway:
        begun = path.read_text("utf-8")
        path.write_text(begun.replace("port = 0", "port = 0\nmax_body = 4096"), "utf-8")
        assert reloaded(gateway, 1) == []
        other = begun.replace("port = 0", 'port = 81\nhost = "::1"\ndrain = "1m"\ndata_dir = "elsewhere"') + (
            '[storage]\nurl = "off"\n[admin]\nport = 9\n[logging]\naccess = false\n[ledger]\nretention = "90d"\n'
            '[limits]\nprefix = "other"\n'
        )
        path.write_text(other, "utf-8")
        named = [
            "server.host",
            "server.port",
            "server.drain",
            "server.data_dir",
            "limits.prefix",
            "admin.port",
            "storage.url",
            "ledger.retention",
            "logging.access",
        ]
        assert reloaded(gateway, 2) == [named]
        assert reloaded(gateway, 3) == [named, named], "they still wait"
        path.write_text(begun, "utf-8")
        assert reloaded(gateway, 4) == [named, named], "the file is again what the process began with"


def test_a_reload_leaves_the_command_line_above_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    file = SIM_ONLY.replace("port = 0", 'port = 81\nhost = "0.0.0.0"\nallow_open = false')
    options = {"server.host": "127.0.0.1", "server.port": 0}
    with Running(file, path=path, command_line=options) as gateway:
        assert reloaded(gateway, 1) == []  # by the file alone it would be refused: open to others, without a key


def test_bare_names_lead_to_the_same_provider_while_lists_are_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    toml = """
[server]
port = 0
[providers.closed]
kind = "sim"
base_url = "http://127.0.0.1:9/v1"
models = ["m"]
[providers.sim]
base_url = "{sim}"
"""
    with Running(toml, path=path) as gateway, Api(gateway) as api:
        assert api.get("/v1/models").status == 200

        def during() -> str:
            gateway.server._parts.reload()
            parts = gateway.server._parts.gateway
            assert parts is not None
            return parts.snapshot.catalog.plan("zh", 0.0)[0].name

        assert gateway.call(during) == "sim/zh"
        with pytest.raises(Exception, match="does not exist"):
            gateway.call(lambda: gateway.server._parts.gateway.snapshot.catalog.plan("nothing", 0.0))  # type: ignore[union-attr]


def test_a_key_that_was_taken_out_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    keys = '[[keys]]\nname = "a"\nsecret = "key-a-0123456789abcdef0123456789ab"\n[[keys]]\nname = "b"\nsecret = "key-b-0123456789abcdef0123456789ab"\n'
    with (
        Running(SIM_ONLY + keys, path=path) as gateway,
        Api(gateway, authorization="Bearer key-a-0123456789abcdef0123456789ab") as api,
    ):
        assert api.ask("chat").status == 200
        path.write_text(path.read_text("utf-8").replace("key-a-", "key-c-"), "utf-8")
        reload(gateway)
        assert api.ask("chat").status == 401


def _free_local_port() -> int | None:
    return next(filter(_is_free, local_ports()), None)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_a_server_on_a_usual_local_port_is_found_and_becomes_the_default() -> None:
    port = _free_local_port()
    if port is None:
        pytest.skip("every usual port is taken on this machine")
    holder: list[SimServer] = []
    with Running() as helper:  # only its loop is used: the local server must be there before the gateway looks

        async def start() -> None:
            sim = SimServer(port=port)
            await sim.start()
            holder.append(sim)

        asyncio.run_coroutine_threadsafe(start(), helper.loop).result(10)
        try:
            with Running(None) as gateway, Api(gateway) as api:
                names = wait_for(
                    lambda: [
                        one["id"] for one in api.get("/v1/models").json["data"] if not one["id"].startswith("sim/")
                    ]
                )
                assert names
                provider = names[0].partition("/")[0]
                reply = api.ask("chat", None, say="found")
                assert reply.headers["tidegate-deployment"].startswith(f"{provider}/")
                assert api.ask("chat", f"{provider}/echo", say="found").text == "found"
                defaults = gateway.call(lambda: gateway.server._parts.gateway.snapshot.config.defaults)  # type: ignore[union-attr]
                assert not any(
                    name.startswith("sim/") for name in (defaults.speech_model, defaults.transcription_model)
                )
                asked = list(holder[0].requests)
                assert all("authorization" not in one.headers for one in asked)
                assert api.ask("chat", "sim/echo", say="own").text == "own"
        finally:
            asyncio.run_coroutine_threadsafe(holder[0].stop(), helper.loop).result(10)


class _OldEngine(BaseHTTPRequestHandler):
    """A local server without Responses, which says so as FastAPI does."""

    def do_GET(self) -> None:
        self._say(200, {"object": "list", "data": [{"id": "small", "owned_by": "vllm"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path != "/v1/chat/completions":
            self._say(404, {"detail": "Not Found"})
            return
        message = {"role": "assistant", "content": "Bridged."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._say(200, {"object": "chat.completion", "choices": [choice]})

    def _say(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


def test_a_local_server_without_responses_is_called_by_chat() -> None:
    port = _free_local_port()
    if port is None:
        pytest.skip("every usual port is taken on this machine")
    server = ThreadingHTTPServer(("127.0.0.1", port), _OldEngine)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with Running(None) as gateway, Api(gateway) as api:
            wait_for(lambda: [one for one in api.get("/v1/models").json["data"] if one["id"] == "vllm/small"])
            reply = api.ask("responses", "vllm/small", stream=False)
            assert (reply.status, reply.text) == (200, "Bridged.")
            config = gateway.call(lambda: gateway.server._parts.config)
            assert config.providers["vllm"].record().speaks[0] == "chat"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _local(port: int, owner: str) -> ThreadingHTTPServer:
    """An engine on that port that counts who asks for its models."""

    class Engine(_OldEngine):
        asked: ClassVar[list[Mapping[str, str]]] = []

        def do_GET(self) -> None:
            self.asked.append(dict(self.headers))
            self._say(200, {"object": "list", "data": [{"id": "small", "owned_by": owner}]})

    return ThreadingHTTPServer(("127.0.0.1", port), Engine)


def test_a_local_server_that_comes_up_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.server.discovery.PAUSES_S", (0.05, 0.1))
    port = _free_local_port()
    if port is None:
        pytest.skip("every usual port is taken on this machine")
    with Running(None, environment={"VLLM_API_KEY": "sk-canary-0123456789"}) as gateway, Api(gateway) as api:
        known = {one["id"] for one in api.get("/v1/models").json["data"]}
        server = _local(port, "vllm")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            found = wait_for(lambda: {one["id"] for one in api.get("/v1/models").json["data"]} - known)
            assert found == {"vllm/small"}
            reply = api.ask("responses", "vllm/small", stream=False)
            assert (reply.status, reply.text) == (200, "Bridged.")
            assert api.ask("chat", None).headers["tidegate-deployment"] == "vllm/small", (
                "the simulator is no default now"
            )
            assert api.ask("chat", "sim/echo", say="own").text == "own"
            asked = server.RequestHandlerClass.asked  # type: ignore[attr-defined]
            times = len(asked)
            assert all("authorization" not in {name.lower() for name in headers} for headers in asked)
            time.sleep(0.3)
            assert len(asked) == times, "what is known is not looked for again"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        lines = [line for line in gateway.log_lines if line["event"] == "local_server_found"]
        assert [(line["provider"], line["base_url"]) for line in lines] == [("vllm", f"http://127.0.0.1:{port}/v1")]
        # Many ports are asked in vain, again and again: nothing is said of them.
        assert not [line for line in gateway.log_lines if "127.0.0.1" in line.get("provider", "")]


def test_the_gateway_does_not_find_itself_however_often_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.server.discovery.PAUSES_S", (0.02,))
    port = _free_local_port()
    if port is None:
        pytest.skip("every usual port is taken on this machine")
    with Running(None, command_line={"server.port": port}) as gateway, Api(gateway) as api:
        assert gateway.port == port
        time.sleep(0.3)
        providers = gateway.call(lambda: gateway.server._parts.config.providers)
        assert not [name for name, one in providers.items() if f":{port}/" in one.base_url]
        assert all(one["owned_by"] in providers for one in api.get("/v1/models").json["data"])


def test_two_gateways_on_one_machine_do_not_take_each_other_for_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.server.discovery.PAUSES_S", (0.02,))
    ports = [port for port in dict.fromkeys(local_ports()) if _is_free(port)][:2]
    if len(ports) < 2:
        pytest.skip("every usual port is taken on this machine")
    one, other = (Running(None, command_line={"server.port": port}) for port in ports)

    def told() -> list[str]:
        lines = [*one.log_lines, *other.log_lines]  # a process has one log
        return sorted(line["base_url"] for line in lines if line["event"] == "local_gateway_left_out")

    with one, other:
        seen = sorted(f"http://127.0.0.1:{port}/v1" for port in ports)
        assert wait_for(lambda: told() == seen), told()
        time.sleep(0.1)
        assert told() == seen, "it is told once, however often it is seen"
        for gateway in one, other:
            providers = gateway.server._parts.config.providers
            assert not [name for name, found in providers.items() if found.base_url in seen]


def test_the_pauses_between_looks_grow_and_the_last_one_stays() -> None:
    assert list(itertools.islice(pauses(), 6)) == [5, 15, 60, 300, 300, 300]


def test_without_a_file_and_without_keys_the_simulator_answers() -> None:
    with Running(None) as gateway, httpx.Client(base_url=gateway.origin, timeout=20) as client:
        reply = client.post("/v1/responses", json={"model": "sim/echo", "input": "hi"})
        assert reply.json()["output"][0]["content"][0]["text"] == "hi"
