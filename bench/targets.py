"""What is measured: nginx and gateways, each started with a configuration of its own in a temporary folder."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from bench.client import ask
from bench.processes import Child, Cores, most_descriptors
from bench.workloads import KEY, whole_request

__all__ = [
    "NGINX_HINT",
    "Certificates",
    "Lab",
    "Target",
    "Variant",
    "find_nginx",
    "free_port",
    "start_nginx",
    "start_tidegate",
    "start_upstream",
    "until_answered",
]

NGINX_HINT = "No nginx, no figure: install it (Debian, Ubuntu: apt-get install nginx-light; Fedora: dnf install nginx)."
READY_S = 10.0
SPARE = 200
"""Descriptors that are no connections."""
TASKS = "tasks.txt"
"""Where a watched gateway writes how many tasks it has, in its folder."""

_NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections {connections}; }}
http {{
  access_log {access_log};
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  client_body_buffer_size 128k;
  proxy_http_version 1.1;
  proxy_buffering off;
  proxy_set_header Connection "";
  proxy_read_timeout 600s;
  proxy_ssl_trusted_certificate {authority};
  proxy_ssl_verify on;
  proxy_ssl_name localhost;
  upstream plain  {{ server 127.0.0.1:{plain};  keepalive 256; keepalive_requests 100000000; }}
  upstream secure {{ server 127.0.0.1:{secure}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location = /here {{ return 204; }} location / {{ proxy_pass http://plain; }} }}
  server {{ listen 127.0.0.1:{secure_port} backlog=4096; location / {{ proxy_pass https://secure; }} }}
}}
"""

_TIDEGATE = """\
[server]
host = "127.0.0.1"
drain = "1s"
data_dir = "{data}"

[logging]
format = "json"

[providers.plain]
kind = "openai"
base_url = "http://127.0.0.1:{plain}/v1"
credentials = ["${{BENCH_CREDENTIAL}}"]
max_output = {{ "*" = 32_768 }}

[providers.secure]
kind = "openai"
base_url = "https://localhost:{secure}/v1"
ca_bundle = "{authority}"
credentials = ["${{BENCH_CREDENTIAL}}"]
max_output = {{ "*" = 32_768 }}

[providers.chatonly]
kind = "openai-compatible"
base_url = "http://127.0.0.1:{plain}/v1"
speaks = ["chat"]
credentials = ["${{BENCH_CREDENTIAL}}"]
max_output = {{ "*" = 32_768 }}

[providers.responsesonly]
kind = "openai-compatible"
base_url = "http://127.0.0.1:{plain}/v1"
speaks = ["responses"]
credentials = ["${{BENCH_CREDENTIAL}}"]
max_output = {{ "*" = 32_768 }}

[providers.messages]
kind = "anthropic"
base_url = "http://127.0.0.1:{plain}/v1"
credentials = ["${{BENCH_CREDENTIAL}}"]
max_output = {{ "*" = 32_768 }}

[providers.gemini]
kind = "gemini"
base_url = "http://127.0.0.1:{plain}/v1beta"
credentials = ["${{BENCH_CREDENTIAL}}"]
max_output = {{ "*" = 32_768 }}
"""


_ACCESS = """
[[keys]]
name = "bench"
secret = "${BENCH_KEY}"
project = "bench"

[keys.limits]
requests = { minute = 1e9 }
tokens = { minute = 1e12 }
streams = 100000

[projects.bench.limits]
cost = { month = 1e9 }

[prices."*"]
input = 1.25
cached = 0.125
output = 10.0
"""
"""Who may do what, with a limit of every kind, budget included: each request is authenticated, held against them and priced."""

_NO_ACCESS = """
[storage]
url = "off"
"""
"""Nobody is asked who it is, nothing is limited, and nothing is written down but the log."""


class Certificates:
    """An authority made on the spot, and a server certificate for localhost, as PEM files."""

    def __init__(self, folder: Path) -> None:
        import trustme

        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.authority = folder / "authority.pem"
        self.certificate = folder / "server.pem"
        self.key = folder / "server.key"
        authority.cert_pem.write_to_path(str(self.authority))
        for blob in issued.cert_chain_pems:
            blob.write_to_path(str(self.certificate), append=True)
        issued.private_key_pem.write_to_path(str(self.key))


class Lab:
    """What all targets share: the folder, the cores, the upstream's ports, and the stack that stops everything."""

    def __init__(self, root: Path, folder: Path, cores: Cores, stack: ExitStack) -> None:
        self.root = root
        self.folder = folder
        self.cores = cores
        self.stack = stack
        self.certificates = Certificates(folder)
        self.plain = 0
        self.secure = 0
        self._made = 0

    def new_folder(self, name: str) -> Path:
        self._made += 1
        folder = self.folder / f"{name}-{self._made}"
        folder.mkdir()
        return folder


class Target:
    """A running server. `secure_port` leads to the same upstream over TLS: nginx needs a second port for it, a gateway a
    second provider."""

    def __init__(
        self,
        name: str,
        child: Child | None,
        port: int,
        secure_port: int,
        *,
        is_gateway: bool = False,
        probe: str = "",
        fields: bytes = b"",
        folder: Path | None = None,
    ) -> None:
        """`probe` is a path that it answers without the upstream; `fields` are header fields that it wants; `folder` has
        its files."""
        self.folder = folder
        self.name = name
        self.probe = probe
        self._fields = fields
        self.is_gateway = is_gateway
        self.child = child
        self.port = port
        self.secure_port = secure_port

    def dressed(self, request: bytes) -> bytes:
        """`request` with the header fields that this server wants."""
        line, end, rest = request.partition(b"\r\n")
        return line + end + self._fields + rest

    def pids(self) -> list[int]:
        return self.child.pids() if self.child is not None else []

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()


def start_upstream(lab: Lab) -> Target:
    """The scripted provider, on the core of the load. Reached directly, it is the target that adds nothing."""
    files = ["--certificate", str(lab.certificates.certificate), "--key", str(lab.certificates.key)]
    argv = [sys.executable, "-m", "bench.upstream", *files]
    child = lab.stack.enter_context(Child(argv, core=lab.cores.rest, cwd=str(lab.root)))
    _, plain, secure = child.read_line("listening").split()
    lab.plain, lab.secure = int(plain), int(secure)
    return Target("direct", None, lab.plain, 0)


def find_nginx() -> str | None:
    """The nginx of this machine: on PATH, or where packages put it for root only."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin")


def start_nginx(lab: Lab, program: str, *, access_log: bool) -> Target:
    """One worker in front of the upstream. Raises RuntimeError when it does not come up."""
    folder = lab.new_folder("nginx")
    port, secure_port = free_port(), free_port()
    text = _NGINX.format(
        folder=folder,
        descriptors=most_descriptors(),
        # nginx closes idle connections once less than a sixteenth of these is free.
        connections=most_descriptors() * 6 // 5,
        access_log=folder / "access.log" if access_log else "off",
        authority=lab.certificates.authority,
        plain=lab.plain,
        secure=lab.secure,
        port=port,
        secure_port=secure_port,
    )
    (folder / "nginx.conf").write_text(text)
    argv = [program, "-e", str(folder / "nginx-error.log"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    # What it complains of is in its log; on standard error it warns of connections that have no descriptors.
    quiet = Child(argv, core=lab.cores.tested, cwd=str(folder), stderr=subprocess.DEVNULL)
    child = lab.stack.enter_context(quiet)
    question = whole_request("chat", "plain")
    until_answered("nginx", child, port, question, (folder / "nginx-error.log").read_text, READY_S)
    return Target("nginx", child, port, secure_port, probe="/here")


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway to measure: which source tree (its `src` folder; empty for the installed one), on which interpreter."""

    name: str = "Tidegate"
    source: str = ""
    python: str = sys.executable
    open: bool = False
    """Without keys, limits and ledger."""
    watched: bool = False
    """Tells how many tasks its event loop has when it gets SIGUSR2, see `bench.watched`."""
    wrapper: tuple[str, ...] = ()
    """A command that runs the gateway's command."""


def start_tidegate(lab: Lab, variant: Variant, *, more: str = "") -> Target:
    """`tidegate serve`, everything on; the log, with a line per request, goes to a file. `more` is further configuration. Returns as soon as the gateway
    says that it listens. Raises RuntimeError, with its log, when it does not."""
    folder = lab.new_folder("tidegate")
    text = _TIDEGATE.format(
        plain=lab.plain, secure=lab.secure, authority=lab.certificates.authority, data=folder / "data"
    )
    (folder / "tidegate.toml").write_text(text + (_NO_ACCESS if variant.open else _ACCESS) + more)
    environment = {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith("TIDEGATE_") and not variable.lower().endswith("_proxy")
    }
    environment |= {"BENCH_KEY": KEY, "BENCH_CREDENTIAL": "sk-bench-" + "f" * 40}
    sources = [str(Path(variant.source).resolve())] if variant.source else []
    if variant.watched:
        sources.append(str(lab.root))
        environment["BENCH_TASKS"] = str(folder / TASKS)
    if sources:
        environment["PYTHONPATH"] = os.pathsep.join(sources)
    module = "bench.watched" if variant.watched else "tidegate"
    serve = ["serve", "--config", str(folder / "tidegate.toml"), "--port", "0"]
    argv = [*variant.wrapper, variant.python, "-m", module, *serve]
    with open(folder / "tidegate.log", "wb") as log:
        child = Child(argv, core=lab.cores.tested, environment=environment, cwd=str(folder), stderr=log)
    lab.stack.enter_context(child)
    try:
        line = child.read_line("listens on")
    except RuntimeError as error:
        raise RuntimeError(f"{error}:\n{(folder / 'tidegate.log').read_text()}") from None
    port = int(line.rpartition(":")[2])
    _until_alone(child)
    return Target(variant.name, child, port, port, is_gateway=True, probe="/healthz", folder=folder)


def _until_alone(child: Child) -> None:
    """What a gateway has read in a process of its own when it starts belongs to no window, and its end would be in one."""
    deadline = time.monotonic() + READY_S
    while len(child.pids()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)


def until_answered(
    name: str, child: Child, port: int, question: bytes, complaint: Callable[[], str], patience_s: float
) -> None:
    """Returns once `question` is answered with 200. Raises RuntimeError when it is not, with the complaint."""
    until = time.perf_counter() + patience_s
    answer = ""
    while time.perf_counter() < until and child.process.poll() is None:
        try:
            status, answer = ask(port, question)
        except OSError:
            time.sleep(0.002)
            continue
        if status == 200:
            return
        time.sleep(0.02)
    raise RuntimeError(f"{name} did not come up: {complaint()} {answer[-300:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
