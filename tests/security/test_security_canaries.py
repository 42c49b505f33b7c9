"""Canaries: secrets and texts are planted, everything is asked that can be, and every place that keeps words is searched (P8).

The gateway is a process of its own with everything logged, in both forms of the log; in the end it is killed in the
middle of an answer and started again, and what it has left behind is searched too.
"""

import contextlib
import gc
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.forms import upload
from tests.support.processes import free_port
from tests.support.raw import Raw, get, post
from tests.support.running import SIM_ONLY, Running, wait_for
from tests.upstream.stage import CANARY as STAGE_CANARY
from tidegate.cli import main

SECRETS = {
    "client key": "sk-canaryclient-0123456789abcdef0123456",
    "another tenant's key": "sk-canaryother-fedcba9876543210fedcba98",
    "unknown key": "sk-canaryunknown-0123456789abcdef012345",
    "key in an address": "sk-canaryaddress-0123456789abcdef01234",
    "credential": "sk-canarycredential-0123456789abcdef012",
    "operator's header": "canaryoperatorheader0123456789",
    "proxy password": "canaryproxypassword0123456789",
    "master key": "canarymasterkey-0123456789abcdef012345",
    "cookie": "canarycookie0123456789",
}
TEXTS = {
    "prompt": "canaryprompt",
    "answer": "canaryanswer",
    "tool": "canarytool",
    "file": "canaryfile",
    "metadata": "canarymetadata",
    "item": "canaryitem",
}
TOML = """
[server]
port = {port}
data_dir = "{folder}/data"
[logging]
level = "debug"
format = "{form}"
[storage]
master_keys = ["{master}"]
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat", "responses", "embeddings", "transcription", "speech", "completions"]
credentials = ["{credential}"]
headers = {{ x-team = "{header}" }}
[providers.claude]
kind = "anthropic"
base_url = "{sim}"
credentials = ["{credential}"]
[providers.nowhere]
kind = "openai-compatible"
base_url = "http://127.0.0.1:9/v1"
models = ["m"]
credentials = ["{credential}"]
[providers.proxied]
kind = "openai-compatible"
base_url = "https://models.example/v1"
models = ["m"]
credentials = ["{credential}"]
proxy = "http://user:{password}@127.0.0.1:9"
[[keys]]
name = "app"
secret = "{client}"
[[keys]]
name = "other"
secret = "{other}"
project = "other"
"""


class Gateway:
    """`tidegate serve` in a folder of its own; everything that it writes lies below."""

    def __init__(self, folder: Path, sim: str, form: str) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "tmp").mkdir()
        self.config = folder / "config.toml"
        self.out = folder / "output.txt"
        text = TOML.format(
            port=self.port,
            folder=folder,
            form=form,
            sim=sim,
            master=SECRETS["master key"],
            credential=SECRETS["credential"],
            header=SECRETS["operator's header"],
            password=SECRETS["proxy password"],
            client=SECRETS["client key"],
            other=SECRETS["another tenant's key"],
        )
        self.config.write_text(text, "utf-8")
        self.start()

    def start(self) -> None:
        self.process = self.run("serve")
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}") as client:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/readyz").status_code == 200:
                        return
                time.sleep(0.03)
        pytest.fail(self.out.read_text("utf-8"))

    def run(self, *arguments: str) -> "subprocess.Popen[bytes]":
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with self.out.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "tidegate", *arguments, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                env={**environment, "TMPDIR": str(self.folder / "tmp")},
            )

    def kept(self) -> Iterator[tuple[str, bytes]]:
        """Every file below the folder, but for the configuration; and the database as text."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path != self.config:
                yield path.relative_to(self.folder).as_posix(), path.read_bytes()
        database = sqlite3.connect(self.folder / "data" / "tidegate.db")
        with contextlib.closing(database):
            yield "dump of the database", "\n".join(database.iterdump()).encode()


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def requests() -> Iterator[tuple[str, str, Any]]:
    """Everything that a client may send, right and wrong."""
    prompt, answer, tool = TEXTS["prompt"], TEXTS["answer"], TEXTS["tool"]
    faults = ("echo", "lorem?status=401", "lorem?status=400", "lorem?status=500&body=html", "lorem?fault=reset", "lorem?fault=garbage", "lorem?fault=truncated_json", "lorem?fault=error", "lorem?fault=html200", "lorem?fault=cut&after=2")  # fmt: skip
    for model in (*(f"lab/{fault}" for fault in faults), "nowhere/m", "proxied/m", "unknown/m", "claude/echo"):
        for stream in (False, True):
            yield "POST", "/v1/responses", {"model": model, "input": prompt, "instructions": answer, "stream": stream, "metadata": {"a": TEXTS["metadata"]}}  # fmt: skip
            yield "POST", "/v1/chat/completions", {"model": model, "messages": [message(f"{prompt} {answer}")], "stream": stream}  # fmt: skip
    calls = [{"type": "function_call", "call_id": "c", "name": tool, "arguments": json.dumps({tool: tool})}]
    calls += [{"type": "function_call_output", "call_id": "c", "output": tool}]
    tools = [
        {
            "type": "function",
            "name": "f",
            "description": tool,
            "parameters": {"type": "object", "properties": {tool: {}}},
        }
    ]
    yield "POST", "/v1/responses", {"model": "lab/echo", "input": [message(prompt), *calls], "tools": tools}
    yield (
        "POST",
        "/v1/responses",
        {"model": "claude/echo", "input": [message(prompt), *calls], "tools": tools, "stream": True},
    )
    yield "POST", "/v1/responses", {"model": "lab/echo", "input": prompt, "background": True}
    yield (
        "POST",
        "/v1/messages",
        {"model": "lab/echo", "max_tokens": 9, "messages": [message(prompt)], "system": answer},
    )
    yield "POST", "/v1/completions", {"model": "lab/echo", "prompt": prompt, "suffix": answer}
    yield "POST", "/v1/embeddings", {"model": "lab/echo", "input": prompt}
    yield "POST", "/v1/conversations", {"items": [message(TEXTS["item"])], "metadata": {"a": TEXTS["metadata"]}}
    yield "GET", f"/v1/models?key={SECRETS['key in an address']}", None
    yield "GET", f"/v1/responses/{prompt}?starting_after={prompt}", None
    yield "DELETE", "/v1/responses/resp_0", None
    yield "POST", f"/v1beta/models/lab/echo:generateContent?key={SECRETS['key in an address']}", {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}  # fmt: skip
    wrong: list[Any] = [
        {"model": "lab/echo", "input": {prompt: prompt}},
        {"model": "lab/echo", "input": prompt, "temperature": prompt},
        {"model": "lab/echo", "input": [{"type": prompt, "content": prompt}]},
        {"model": "lab/echo", "input": prompt, "tools": [{"type": tool}], "tool_choice": {"type": tool}},
        prompt,
        [prompt],
    ]
    yield from (("POST", "/v1/responses", body) for body in wrong)
    yield "POST", "/v1/chat/completions", {"model": "lab/echo", "messages": prompt}


def ask_everything(gateway: Gateway) -> list[httpx.Response]:
    address = f"http://127.0.0.1:{gateway.port}"
    answers = []
    with httpx.Client(base_url=address, timeout=20, cookies={"session": SECRETS["cookie"]}) as client:
        for method, path, body in requests():
            for key in ("client key", "another tenant's key", "unknown key"):
                if key != "client key" and "fault" in str(body):
                    continue
                headers = {"authorization": f"Bearer {SECRETS[key]}", "user-agent": SECRETS["cookie"]}
                with contextlib.suppress(httpx.TransportError):  # an answer that breaks after it has begun
                    answers.append(client.request(method, path, json=body, headers=headers))
        for headers in (
            {"authorization": f"Basic {SECRETS['client key']}"},
            {"authorization": f"Bearer {SECRETS['client key']}", "x-api-key": SECRETS["unknown key"]},
            {"authorization": f"Bearer {SECRETS['client key']}", "idempotency-key": SECRETS["cookie"] + " x"},
        ):
            answers.append(
                client.post("/v1/responses", json={"model": "lab/echo", "input": TEXTS["prompt"]}, headers=headers)
            )
        for path in ("/metrics", "/", "/openapi.json", "/healthz", "/nowhere/" + TEXTS["prompt"]):
            answers.append(client.get(path))
    form = (TEXTS["file"] * 50_000).encode()
    bearer = f"Authorization: Bearer {SECRETS['client key']}"
    for sent in (
        upload(_form(form), bearer),
        upload(_form(form)[:-40], bearer),
        post(TEXTS["prompt"].encode(), bearer),
        get(f"/v1/models?{TEXTS['prompt']}", bearer, f"X: \x01{SECRETS['cookie']}"),
    ):
        with Raw(gateway) as client:
            client.send(sent)
            client.finish_sending()
            client.rest()
    return answers


def _form(data: bytes) -> bytes:
    from tests.support.forms import form

    return form(data, name=TEXTS["file"] + ".mp3", model="lab/echo", prompt=TEXTS["prompt"])


def kill_in_the_middle(gateway: Gateway) -> None:
    body = {"model": "lab/echo?chunks=50&gap=30", "input": TEXTS["prompt"] * 20, "stream": True}
    headers = {"authorization": f"Bearer {SECRETS['client key']}"}
    with (
        contextlib.suppress(httpx.TransportError),
        httpx.stream("POST", f"http://127.0.0.1:{gateway.port}/v1/responses", json=body, headers=headers) as answer,
    ):
        next(answer.iter_bytes())
        time.sleep(0.25)  # some of it has been written down
        gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait(10)


@pytest.mark.security("SEC-LOG-CANARY", "SEC-REST-CONTENT", "SEC-LOG-METRICS")
@pytest.mark.parametrize("form", ["json", "console"])
def test_no_canary_gets_out(tmp_path: Path, form: str, gateway: Running) -> None:
    gateway.sim.requests.clear()
    there = Gateway(tmp_path, gateway.sim.base_url, form)
    try:
        answers = ask_everything(there)
        if form == "json":
            kill_in_the_middle(there)
            there.start()
        for command in ("show", "show --json", "check"):
            said = CliRunner().invoke(main, ["config", *command.split(), "--config", str(there.config)])
            assert said.exit_code == 0
            there.out.write_text(there.out.read_text("utf-8") + said.output, "utf-8")
    finally:
        there.process.terminate()
        there.process.wait(20)
    # It was all there to be told.
    assert {answer.status_code for answer in answers} >= {200, 400, 401, 404, 502}
    told = [dict(one.headers) for one in list(gateway.sim.requests)]
    assert any(SECRETS["credential"] in str(headers) for headers in told)
    assert any(TEXTS["prompt"] in answer.text for answer in answers if answer.status_code == 200)
    assert not any(SECRETS["client key"] in str(headers) for headers in told)
    output = there.out.read_text("utf-8")
    assert "listens on" in output
    assert "request" in output
    # And it was told to nobody else.
    kept = dict(there.kept())
    assert len(kept["dump of the database"]) > 10_000
    for place, content in kept.items():
        for name, canary in {**SECRETS, **TEXTS}.items():
            assert canary.encode() not in content, f"the {name} stands in {place}"
    for answer in answers:
        whole = str(answer.headers) + answer.text
        for name, secret in SECRETS.items():
            assert secret not in whole, f"the {name} stands in an answer to {answer.request.url}"
        if answer.status_code >= 400 and str(answer.request.url).isascii() and "canary" not in answer.request.url.path:
            assert not [text for text in TEXTS.values() if text in answer.text], answer.text
    metrics = next(answer.text for answer in answers if answer.request.url.path == "/metrics")
    assert "tidegate_requests_total" in metrics
    assert "canary" not in metrics


@pytest.mark.security("SEC-LOG-CANARY", "SEC-API8-DEBUG")
def test_a_bug_of_ours_tells_nothing_either() -> None:
    """The 500 says no more than that there is a log, and the log has places in the source and no values."""

    async def boom(request: Request) -> Response:
        held = (dict(request.headers), await request.body())
        raise RuntimeError("boom", len(held))

    with Running() as own:
        application: Any = own.server.config.app
        application.cold.router.routes.append(Route("/boom", boom, methods=["POST"]))
        bearer = f"Authorization: Bearer {SECRETS['client key']}"
        with Raw(own) as client:
            answer = client.ask(
                post(TEXTS["prompt"].encode(), bearer, path=f"/boom?key={SECRETS['key in an address']}")
            )
        assert answer.status == 500
        assert not re.search(r"Traceback|RuntimeError|File |boom|\.py", answer.body.decode())
        assert wait_for(lambda: "RuntimeError" in own._log.getvalue())
        log = own._log.getvalue()
    for canary in (*SECRETS.values(), *TEXTS.values(), STAGE_CANARY):
        assert canary not in log
        assert canary not in answer.body.decode()


def test_what_a_request_is_held_in_does_not_show_its_key() -> None:
    secret = SECRETS["client key"]
    toml = f'{SIM_ONLY}[[keys]]\nname = "app"\nsecret = "{secret}"\n'
    with Running(toml) as gateway, Raw(gateway) as client:
        body = b'{"model":"sim/lorem?chunks=50&gap=50","input":"Hi","stream":true}'
        client.send(post(body, f"authorization: Bearer {secret}"))
        assert client.response(head_only=True).status == 200

        def shown() -> list[str]:
            app = gateway.server.config.app
            exchanges = list(app.gateway.exchanges)  # type: ignore[union-attr]
            held = [one for one in gc.get_objects() if type(one).__name__ in ("Incoming", "Attempt", "Account")]
            return [repr(one) for one in (*exchanges, *held)]

        found = gateway.call(shown)
        assert len(found) >= 4
        assert not [one for one in found if secret in one]
