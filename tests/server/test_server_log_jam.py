"""Nobody reads what the gateway logs: its pipe is full, and everything else goes on."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.process import Simulators
from tests.support.processes import free_port

TOML = """
[server]
port = {port}
data_dir = "{folder}/data"
[routing]
retries = 0
eject_after = 1
[providers.sim]
base_url = "{sim}"
"""

LINES = 300
"""More than a pipe holds: each names a deployment that was ejected."""


@pytest.mark.fault("FAULT-LOOP-BLOCKED")
@pytest.mark.parametrize("access", ["true", "false"])
def test_a_log_that_nobody_reads_holds_up_no_request(tmp_path: Path, access: str) -> None:
    with Simulators(tmp_path) as there:
        port = free_port()
        toml = TOML.format(port=port, folder=tmp_path, sim=there.plain) + f"[logging]\naccess = {access}\n"
        (tmp_path / "tidegate.toml").write_text(toml)
        command = ["tidegate", "serve", "--config", str(tmp_path / "tidegate.toml")]
        with subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as gateway:
            assert gateway.stdout is not None
            assert b"listens on" in gateway.stdout.readline()
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False) as client:
                for number in range(LINES):
                    body = {"model": f"sim/echo?status=500&message={number:0>150}", "input": "x"}
                    assert client.post("/v1/responses", json=body).status_code == 502
                assert client.post("/v1/responses", json={"model": "sim/echo", "input": "x"}).status_code == 200
                dropped = [line for line in client.get("/metrics").text.splitlines() if "lines_dropped " in line]
                assert float(dropped[-1].split()[1]) > 0
            gateway.terminate()
            _, errors = gateway.communicate(timeout=20)
    assert b"deployment_ejected" in errors
