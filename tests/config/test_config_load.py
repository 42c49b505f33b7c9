"""A good file becomes a snapshot: values, defaults, references to the environment, credentials, overrides."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from tidegate.config.load import find_file, load, load_file
from tidegate.config.problem import ConfigInvalid
from tidegate.config.schema import Config, Document, Timeouts
from tidegate.config.units import Duration, Size
from tidegate.providers.record import Clocks

KEY = "9b1f7c03e5d24a68b7c1d0e2f3a45967"
OPENAI = "sk-openai-0123456789abcdefghijklmno"
ENV = {"APP_KEY": KEY, "OPENAI_API_KEY": OPENAI, "ANTHROPIC_API_KEY": "sk-ant-0123456789abcdefghijklmno"}

DESIGN = """
[server]
port = 8080
[defaults]
model = "openai/gpt-5.2"
[providers.openai]
credentials = ["${OPENAI_API_KEY}"]
timeouts = { first_event = "45s", idle = "30s" }
[providers.anthropic]
credentials = ["${ANTHROPIC_API_KEY}"]
[providers.lab]
kind = "openai-compatible"
base_url = "http://10.0.0.5:8000/v1"
speaks = ["chat"]
[[keys]]
name = "app"
secret = "${APP_KEY}"
project = "default"
[models.fast]
targets = [{ model = "openai/gpt-5.2", weight = 3 }, { model = "lab/qwen3", weight = 1 }]
fallback = ["anthropic/claude-sonnet-5"]
"""


def loaded(text: str, env: dict[str, str] | None = None, **more: object) -> Config:
    return load(text, "tidegate.toml", ENV if env is None else env, **more)  # type: ignore[arg-type]


def test_the_example_of_the_design_loads() -> None:
    config = loaded(DESIGN)
    assert config.server.port == 8080
    assert config.defaults.model == "openai/gpt-5.2"
    assert list(config.providers) == ["openai", "anthropic", "lab"]
    assert config.providers["openai"].credentials[0].reveal() == OPENAI
    assert config.providers["lab"].record().speaks == ("chat",)
    assert config.providers["anthropic"].kind == "anthropic"
    assert config.keys[0].secret.reveal() == KEY
    assert [(target.model, target.weight) for target in config.models["fast"].choices] == [
        ("openai/gpt-5.2", 3),
        ("lab/qwen3", 1),
    ]
    assert config.source == "tidegate.toml"
    assert not config.automatic


def test_an_empty_file_is_all_defaults() -> None:
    config = loaded("")
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)
    assert config.server.max_body == Size(32 * 1024**2)
    assert config.server.max_header_bytes == 65536
    assert config.defaults.profile == "openai"
    assert config.providers == {}
    assert config.keys == ()


def test_no_section_is_passed_over() -> None:
    config = loaded(
        """
        [server]
        port = 8081
        [defaults]
        model = "lab/m"
        [providers.lab]
        kind = "openai-compatible"
        base_url = "http://10.0.0.5:8000/v1"
        [[keys]]
        name = "app"
        secret = "${APP_KEY}"
        [models.fast]
        target = "lab/m"
        [routing]
        retries = 0
        [admin]
        port = 9081
        [egress]
        fetch_media = false
        [storage]
        url = "off"
        [prices."lab/m"]
        input = 0.5
        [ledger]
        retention = "off"
        [logging]
        access = false
        [limits]
        gateways = 2
        [projects.search]
        limits = { requests = { minute = 60 } }
        [organizations.default]
        limits = { cost = { month = 100 } }
        """
    )
    defaults = Document()
    assert [name for name in Document.__struct_fields__ if getattr(config, name) == getattr(defaults, name)] == []


def test_the_snapshot_does_not_change() -> None:
    with pytest.raises(AttributeError):
        loaded("").server.port = 1  # type: ignore[misc]


def test_set_clocks_take_the_place_of_the_kinds_and_the_others_stay() -> None:
    clocks = loaded(DESIGN).providers["openai"].record().clocks
    assert clocks == Clocks(first_event=45.0)


def test_a_total_counts_for_streams_and_whole_answers_and_can_be_off() -> None:
    assert Timeouts(total=Duration(60)).over(Clocks()) == Clocks(total=60.0, total_unstreamed=60.0)
    assert Timeouts(total=Duration.parse("off")).over(Clocks()) == Clocks(total=None, total_unstreamed=None)
    assert Timeouts().over(Clocks()) == Clocks()


def test_each_member_of_a_provider_replaces_the_records() -> None:
    record = (
        loaded(
            """
            [providers.openai]
            base_url = "https://proxy.example.com/v1/"
            credentials = ["k1", "k2"]
            headers = { x-team = "search" }
            speaks = ["chat", "completions"]
            paths = { chat = "/v2/chat" }
            refuses = { chat = ["logprobs"] }
            operations = { responses = ["/input_tokens"] }
            include_usage = false
            encrypted_reasoning = false
            reasons_silently = ["slow-*"]
            state = "provider"
            """
        )
        .providers["openai"]
        .record()
    )
    assert record.url("chat") == "https://proxy.example.com/v1/v2/chat"
    assert record.url("completions") == "https://proxy.example.com/v1/completions"
    assert record.speaks == ("chat", "completions")
    assert record.refuses["chat"] == {"logprobs"}
    assert "n" in record.refuses["responses"]
    assert record.operations["responses"] == {"/input_tokens"}
    assert (record.include_usage, record.encrypted_reasoning, record.state) == (False, False, "provider")
    assert record.is_silent("slow-1")
    assert not record.is_silent("o1")


def test_a_name_that_is_a_kind_needs_no_kind() -> None:
    assert loaded("[providers.ollama]").providers["ollama"].kind == "ollama"


def test_the_usual_variable_gives_the_credential() -> None:
    provider = loaded("[providers.openai]").providers["openai"]
    assert [credential.reveal() for credential in provider.credentials] == [OPENAI]


def test_a_credential_of_the_environment_goes_to_another_region_of_the_same_provider() -> None:
    text = '[providers.moonshot]\nbase_url = "https://api.moonshot.cn/v1"'
    assert loaded(text, {"MOONSHOT_API_KEY": "k"}).providers["moonshot"].credentials


@pytest.mark.security("SEC-CRED-ENVIRONMENT")
def test_a_credential_of_the_environment_does_not_go_to_a_changed_address() -> None:
    text = '[providers.openai]\nbase_url = "https://elsewhere.example.com/v1"'
    with pytest.raises(ConfigInvalid) as caught:
        loaded(text)
    (problem,) = caught.value.problems
    assert problem.path == "providers.openai"
    assert "not sent to a changed base_url" in problem.message


def test_a_header_may_be_the_credential() -> None:
    text = '[providers.openai]\nbase_url = "https://elsewhere.example.com/v1"\nheaders = { api-key = "${K}" }'
    assert loaded(text, {"K": "v"}).providers["openai"].headers["api-key"].reveal() == "v"


def test_blanks_around_a_credential_are_not_part_of_it() -> None:
    provider = loaded('[providers.openai]\ncredentials = ["${K}"]', {"K": " abc\n"}).providers["openai"]
    assert provider.credentials[0].reveal() == "abc"


def test_a_reference_is_replaced_within_a_string_and_can_be_written_out() -> None:
    text = '[providers.lab]\nbase_url = "http://${HOST}:${PORT:-8000}/v1"\n[logging]\nlevel = "${LEVEL:-debug}"'
    config = loaded(text, {"HOST": "10.0.0.5", "LEVEL": ""})
    assert config.providers["lab"].base_url == "http://10.0.0.5:8000/v1"
    assert config.logging.level == "debug"
    assert loaded('[providers.lab]\nbase_url = "http://h/$${x}"').providers["lab"].base_url == "http://h/${x}"


def test_a_reference_may_spell_a_number_a_boolean_or_a_duration() -> None:
    text = '[server]\nport = "${P}"\nallow_open = "${A}"\ndrain = "${D}"\nmax_body = "${M}"'
    server = loaded(text, {"P": "9000", "A": "true", "D": "5s", "M": "1MiB"}).server
    assert (server.port, server.allow_open, server.drain, server.max_body) == (9000, True, 5.0, 1024**2)


def test_the_environment_stands_above_the_file_and_the_command_line_above_both() -> None:
    text = '[server]\nhost = "127.0.0.1"\nport = 1'
    env = {"TIDEGATE_PORT": "2", "TIDEGATE_DATA": "/data"}
    assert loaded(text, env).server.port == 2
    assert loaded(text, env).server.data_dir == "/data"
    assert loaded(text, env, command_line={"server.port": 3}).server.port == 3


def test_a_key_in_the_environment_opens_a_public_address() -> None:
    env = {"TIDEGATE_KEY": KEY, "TIDEGATE_HOST": "0.0.0.0"}
    config = loaded("", env)
    assert (config.server.host, config.keys[0].name) == ("0.0.0.0", "environment")
    assert config.keys[0].sha256() == hashlib.sha256(KEY.encode()).digest()


def test_a_key_can_be_given_by_its_digest() -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    config = loaded(f'[[keys]]\nname = "a"\nsecret = "sha256:{digest}"')
    assert config.keys[0].sha256() == hashlib.sha256(KEY.encode()).digest()


def test_an_alias_with_one_target_has_one_choice() -> None:
    config = loaded('[providers.ollama]\n[models.m]\ntarget = "ollama/qwen3"')
    assert [target.model for target in config.models["m"].choices] == ["ollama/qwen3"]


def test_a_target_can_have_clocks_of_its_own() -> None:
    text = '[providers.ollama]\n[[models.m.targets]]\nmodel = "ollama/a"\ntimeouts = { idle = "10m" }'
    assert loaded(text).models["m"].choices[0].timeouts.idle == 600.0


def test_two_readings_of_one_file_are_equal() -> None:
    assert loaded(DESIGN) == loaded(DESIGN)


def test_no_secret_shows_in_the_snapshot() -> None:
    text = (
        DESIGN
        + '[providers.p]\nbase_url = "http://h/v1"\nheaders = { x = "canary-header" }\nproxy = "http://u:canary-proxy@h"'
    )
    shown = repr(loaded(text))
    assert OPENAI not in shown
    assert KEY not in shown
    assert "canary" not in shown
    with pytest.raises(TypeError):
        msgspec.json.encode(loaded(text))


def test_a_file_is_read_with_its_credentials_and_paths_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# work\n\n key-one \nkey-two\n", encoding="utf-8")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n", encoding="utf-8")
    path = tmp_path / "tidegate.toml"
    path.write_text(
        '\ufeff[server]\ndata_dir = "data"\n[providers.openai]\ncredentials_file = "keys"\nca_bundle = "ca.pem"',
        encoding="utf-8",
    )
    config = load_file(str(path), {})
    provider = config.providers["openai"]
    assert [credential.reveal() for credential in provider.credentials] == ["key-one", "key-two"]
    assert provider.ca_bundle == str(tmp_path / "ca.pem")
    assert config.server.data_dir == str(tmp_path / "data")
    assert config.source == str(path)


def test_a_data_folder_of_the_environment_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_text("", encoding="utf-8")
    assert load_file(str(path), {"TIDEGATE_DATA": "here"}).server.data_dir == "here"


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_file(str(tmp_path / "tidegate.toml"), {})


def test_the_file_is_found_by_variable_then_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file({}) is None
    (tmp_path / "tidegate.toml").write_text("", encoding="utf-8")
    assert find_file({}) == "tidegate.toml"
    assert find_file({"TIDEGATE_CONFIG": "/etc/t.toml"}) == "/etc/t.toml"


def test_every_section_of_the_file_reaches_the_configuration() -> None:
    document = {field.name for field in msgspec.structs.fields(Document)}
    text = """
[server]
port = 0
[defaults]
unsupported = "drop"
[providers.sim]
[[keys]]
name = "app"
secret = "key-0123456789abcdef0123456789abcd"
[models.fast]
target = "sim/echo"
[routing]
retries = 2
[admin]
port = 8081
[egress]
allow_private = true
[prices."sim/*"]
input = 1
[storage]
quota = "1GiB"
[ledger]
retention = "90d"
[logging]
access = false
[limits]
gateways = 2
[projects.search]
limits = { requests = { minute = 60 } }
[organizations.default]
limits = { cost = { month = 100 } }
"""
    config = load(text, "t.toml", {})
    assert {name for name in document if getattr(config, name) != getattr(Document(), name)} == document
