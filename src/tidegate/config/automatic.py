"""The configuration of an installation without a file: whatever the environment has credentials for, and the simulator."""

from collections.abc import Callable, Mapping
from typing import Final

from tidegate.config.checks import HasManagedKeys, is_installed, no_managed_keys
from tidegate.config.load import build
from tidegate.config.schema import Config
from tidegate.providers.record import Provider
from tidegate.providers.registry import REGISTRY

_DEFAULTS: Final[Mapping[str, Callable[[Provider], str]]] = {
    "model": lambda record: record.default_model,
    "speech_model": lambda record: record.default_speech_model,
    "transcription_model": lambda record: record.default_transcription_model,
}
"""The members of `[defaults]` that name a model, and where a record has its own."""


def automatic(
    env: Mapping[str, str],
    *,
    command_line: Mapping[str, object] | None = None,
    installed: Callable[[Provider], bool] = is_installed,
    has_managed_keys: HasManagedKeys = no_managed_keys,
) -> Config:
    """A provider for each credential in the environment, in the registry's order, then the local audio engine where its
    packages are installed, and `sim`. Open on loopback.

    Each default model is that of the first provider which has a lasting one; the simulator's only when it is alone.
    Raises `ConfigInvalid` when the environment holds something that cannot be used.
    """
    providers: dict[str, object] = {}
    came_from: dict[str, str] = {}
    defaults = dict.fromkeys(_DEFAULTS, "")
    for kind, record in REGISTRY.items():
        address = next((name for name in record.base_url_env if env.get(name, "").strip()), "")
        credential = next((name for name in record.env if env.get(name, "").strip()), "")
        if not credential or record.local_ports:
            continue  # Servers on this machine are found by looking for them, whatever the environment says.
        if not record.base_url and not address:
            continue  # A credential without an address: the provider has one for each customer.
        # Spelled out, since a changed address would otherwise keep the credential back: here both are the operator's.
        entry: dict[str, object] = {"credentials": [_literal(env[credential])]}
        came_from[f"providers.{kind}.credentials"] = f"environment {credential}"
        came_from[f"providers.{kind}.credentials[0]"] = f"environment {credential}"
        if address:
            entry["base_url"] = _literal(env[address])
            came_from[f"providers.{kind}.base_url"] = f"environment {address}"
        providers[kind] = entry
        if not address:
            _choose(defaults, kind)
    alone = not providers
    if installed(REGISTRY["local-audio"]):
        providers["local-audio"] = {}
        _choose(defaults, "local-audio")
    if alone:
        _choose(defaults, "sim")
    providers["sim"] = {}
    raw: dict[str, object] = {"providers": providers, "defaults": defaults}
    return build(
        raw,
        "",
        env,
        place=lambda path: came_from.get(path, "default"),
        command_line=command_line or {},
        has_managed_keys=has_managed_keys,
    )


def _choose(defaults: dict[str, str], kind: str) -> None:
    """Fill in what this provider has a model for and no earlier one had."""
    for member, model_of in _DEFAULTS.items():
        if not defaults[member] and (model := model_of(REGISTRY[kind])):
            defaults[member] = f"{kind}/{model}"


def _literal(text: str) -> str:
    """The text as a document would write it, so that nothing in it is taken for a reference."""
    return text.strip().replace("${", "$${")
