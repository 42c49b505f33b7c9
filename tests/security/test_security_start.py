"""What is not safe does not start, and what starts is as closed as it can be (API8:2023)."""

import socket
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.security.conftest import A_KEY
from tests.support.processes import free_port
from tests.support.raw import HELLO, Raw, get, post, request
from tests.support.running import Running
from tidegate.cli import main

GOOD = "k7Qw2mZx9LpR4tVn8sBd1fHj6cGy3eAu"


def serve(folder: Path, toml: str, *arguments: str) -> Result:
    """`tidegate serve` with a file that it must refuse; it would not return otherwise."""
    path = folder / "tidegate.toml"
    path.write_text(toml, "utf-8")
    return CliRunner().invoke(main, ["serve", "--config", str(path), *arguments])


@pytest.mark.security("SEC-API8-BIND")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com"])
def test_without_keys_no_address_is_bound_that_others_reach(tmp_path: Path, host: str) -> None:
    port = free_port()
    result = serve(tmp_path, "[providers.sim]\n", "--host", host, "--port", str(port))
    assert result.exit_code == 2
    assert "no key protects your credentials" in result.output
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.security("SEC-API8-BIND")
def test_what_binds_by_default_is_this_machine_alone(gateway: Running) -> None:
    assert gateway.server.config.app is not None
    (listening,) = (server for server in gateway.server.servers)
    assert {one.getsockname()[0] for one in listening.sockets} == {"127.0.0.1"}


WEAK = [
    "",
    "short",
    "x" * 31,
    "x" * 64,
    "abcabcabcabcabcabcabcabcabcabcabcabc",
    "change-me-0123456789abcdefghijklmnop",
    "changeme0123456789abcdefghijklmnopqrs",
    "your-api-key-0123456789abcdefghijklmn",
    "my-password-is-0123456789abcdefghijkl",
    "placeholder-0123456789abcdefghijklmno",
]


@pytest.mark.security("SEC-API8-SECRETS")
@pytest.mark.parametrize("secret", WEAK)
@pytest.mark.parametrize("place", ['[[keys]]\nname = "a"\nsecret = "{}"\n', '[storage]\nmaster_keys = ["{}"]\n'])
def test_a_secret_that_can_be_guessed_is_refused_and_not_repeated(tmp_path: Path, place: str, secret: str) -> None:
    result = serve(tmp_path, "[providers.sim]\n" + place.format(secret))
    assert result.exit_code == 2
    assert "tidegate.toml" in result.output
    assert len(secret) < 6 or secret not in result.output


@pytest.mark.security("SEC-API8-SECRETS")
def test_the_same_secret_twice_is_refused(tmp_path: Path) -> None:
    result = serve(tmp_path, f'[providers.sim]\n[storage]\nmaster_keys = ["{GOOD}", "{GOOD}"]\n')
    assert result.exit_code == 2
    assert "storage.master_keys[1]: is the same as an earlier one" in result.output
    assert GOOD not in result.output


@pytest.mark.security("SEC-API8-FILES")
def test_what_is_kept_is_for_its_owner_alone(shared: Running) -> None:
    """Whatever the umask: the database, the key of the envelopes, and the folder that they lie in."""
    folder = Path(shared.server._parts.config.server.data_dir)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "tidegate.db" for path in files)
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.security("SEC-API8-CORS")
def test_no_page_may_read_an_answer_unless_it_is_named(shared: Running) -> None:
    """With keys, which a page may have been given, as well as in a preflight."""
    bearer = f"Authorization: Bearer {A_KEY}"
    preflight = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
    for origin in ("https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1"):
        for sent in (
            post(HELLO, bearer, f"Origin: {origin}"),
            get("/v1/models", bearer, f"Origin: {origin}"),
            get("/healthz", f"Origin: {origin}"),
            request("OPTIONS", "/v1/responses", f"Origin: {origin}", *preflight),
        ):
            with Raw(shared) as client:
                answer = client.ask(sent)
            assert not [name for name, _ in answer.headers if name.startswith(b"access-control-")], origin


@pytest.mark.security("SEC-API8-DEBUG")
@pytest.mark.parametrize("path", ["/docs", "/redoc", "/debug", "/console", "/admin", "/.env", "/config", "/server-status", "/__debug__/", "/static/", "/v1/config", "/key/info", "/v1/files"])  # fmt: skip
def test_nothing_is_served_that_nobody_has_asked_for(shared: Running, path: str) -> None:
    for given in ((), (f"Authorization: Bearer {A_KEY}",)):
        with Raw(shared) as client:
            assert client.ask(get(path, *given)).status == 404
