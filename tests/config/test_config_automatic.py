"""Without a file: what the environment has credentials for, then the simulator."""

from functools import partial

import pytest

from tests.support.extras import needs_local_audio
from tidegate.config import automatic as module
from tidegate.config.checks import is_loopback
from tidegate.config.problem import ConfigInvalid
from tidegate.providers.record import Provider
from tidegate.providers.registry import REGISTRY

KEY = "9b1f7c03e5d24a68b7c1d0e2f3a45967"

automatic = partial(module.automatic, installed=lambda _: False)
"""As where the packages of the extras are not installed."""


def test_an_empty_environment_has_the_simulator_open_on_loopback() -> None:
    config = automatic({})
    assert list(config.providers) == ["sim"]
    assert config.defaults.model == "sim/demo"
    assert is_loopback(config.server.host)
    assert config.server.port == 8080
    assert config.keys == ()
    assert config.automatic


def test_each_credential_is_a_provider_in_a_fixed_order() -> None:
    config = automatic({"GROQ_API_KEY": "g", "DEEPSEEK_API_KEY": "d", "OPENAI_API_KEY": "o", "UNRELATED_API_KEY": "u"})
    assert list(config.providers) == ["openai", "deepseek", "groq", "sim"]
    assert config.providers["groq"].credentials[0].reveal() == "g"
    assert config.providers["groq"].base_url == "https://api.groq.com/openai/v1"


def test_the_default_is_never_the_simulators_beside_a_real_provider() -> None:
    assert automatic({"OPENAI_API_KEY": "o"}).defaults.model == "openai/gpt-5.2"
    assert automatic({"MISTRAL_API_KEY": "m"}).defaults.model == "mistral/mistral-small-latest"
    assert automatic({"ZAI_API_KEY": "z"}).defaults.model == ""


def test_the_audio_endpoints_have_defaults_of_their_own() -> None:
    alone = automatic({}).defaults
    assert alone.speech_model == "sim/demo"
    both = automatic({"MISTRAL_API_KEY": "m", "OPENAI_API_KEY": "o"}).defaults
    assert (both.speech_model, both.transcription_model) == ("openai/gpt-4o-mini-tts", "openai/gpt-4o-mini-transcribe")
    elsewhere = automatic({"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "https://mine.example.com/v1"}).defaults
    assert (elsewhere.speech_model, elsewhere.transcription_model) == ("", "")
    assert automatic({"MISTRAL_API_KEY": "m"}).defaults.speech_model == ""


@pytest.mark.parametrize("record", [r for r in REGISTRY.values() if r.env and not r.local_ports], ids=lambda r: r.kind)
def test_every_remote_provider_starts_from_its_variable(record: Provider) -> None:
    address = {} if record.base_url else {record.base_url_env[0]: "https://mine.example.com/v1"}
    for variable in record.env:
        assert list(automatic({variable: "k", **address}).providers) == [record.kind, "sim"]


def test_a_credential_without_an_address_is_not_used() -> None:
    assert list(automatic({"AZURE_OPENAI_API_KEY": "k"}).providers) == ["sim"]


def test_a_credential_is_taken_as_it_is() -> None:
    assert automatic({"GROQ_API_KEY": "a${B}$"}).providers["groq"].credentials[0].reveal() == "a${B}$"


def test_an_empty_variable_is_no_credential() -> None:
    assert list(automatic({"OPENAI_API_KEY": "", "GROQ_API_KEY": "  "}).providers) == ["sim"]


def test_openais_address_can_be_given_in_the_environment() -> None:
    config = automatic({"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "https://proxy.example.com/v1/"})
    assert config.providers["openai"].record().base_url == "https://proxy.example.com/v1"
    assert config.providers["openai"].credentials[0].reveal() == "o"
    assert config.origins["providers.openai.base_url"] == "environment OPENAI_BASE_URL"
    # The model that OpenAI would have may be unknown there.
    assert config.defaults.model == ""


def test_a_variable_of_a_local_engine_does_not_make_it_appear() -> None:
    assert list(automatic({"VLLM_API_KEY": "k", "LM_API_TOKEN": "k", "OLLAMA_API_KEY": "k"}).providers) == ["sim"]


@needs_local_audio
def test_the_local_audio_engine_is_there_where_its_packages_are() -> None:
    with_it = partial(module.automatic, installed=lambda record: record.kind == "local-audio")
    assert list(with_it({}).providers) == ["local-audio", "sim"]
    assert with_it({}).defaults.model == "sim/demo"
    assert with_it({}).providers["local-audio"].models == ("espeak-ng", "pocketsphinx")
    with_key = with_it({"OPENAI_API_KEY": "o"})
    assert list(with_key.providers) == ["openai", "local-audio", "sim"]
    assert with_key.defaults.model == "openai/gpt-5.2"


def test_a_bad_value_in_the_environment_is_named() -> None:
    with pytest.raises(ConfigInvalid, match="environment OPENAI_BASE_URL: providers"):
        automatic({"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "proxy"})
    with pytest.raises(ConfigInvalid, match="environment TIDEGATE_HOST"):
        automatic({"TIDEGATE_HOST": "0.0.0.0"})


def test_a_container_needs_only_variables() -> None:
    config = automatic({"TIDEGATE_HOST": "0.0.0.0", "TIDEGATE_PORT": "80", "TIDEGATE_KEY": KEY, "OPENAI_API_KEY": "o"})
    assert (config.server.host, config.server.port) == ("0.0.0.0", 80)
    assert config.keys[0].secret.reveal() == KEY


def test_the_command_line_stands_above_the_environment() -> None:
    assert automatic({"TIDEGATE_PORT": "80"}, command_line={"server.port": 81}).server.port == 81
