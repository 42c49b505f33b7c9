"""Model names of the configuration, held against what the providers say they have."""

from collections.abc import Iterator, Mapping

from tidegate.config.problem import join
from tidegate.config.schema import Config
from tidegate.dialects.dialect import Endpoint
from tidegate.dialects.validation import nearest
from tidegate.routing.catalog import Alias, Catalog, Target
from tidegate.server.doctor.finding import Verdict, bad, fine, warning
from tidegate.wire.errors import ModelNotFound

__all__ = ["check_names", "listed_as"]

_ENDPOINTS: Mapping[str, Endpoint] = {
    "defaults.speech_model": "speech",
    "defaults.transcription_model": "transcription",
}
"""The defaults that only a provider of one kind can serve."""


def listed_as(model: str, kind: str) -> str:
    """The name under which a provider of this kind lists the model: what stands behind a question mark tells the simulator
    how to play."""
    return model.partition("?")[0] if kind == "sim" else model


def check_names(config: Config, listed: Mapping[str, frozenset[str] | None]) -> Verdict:
    """Whether defaults, aliases, fallbacks and keys name models that there are. `listed` holds each provider's list;
    None where there is none to be had."""
    known = {name: provider.models or listed.get(name) for name, provider in config.providers.items()}
    aliases = {
        name: Alias(tuple(Target(one.model, one.weight) for one in model.choices), model.fallback)
        for name, model in config.models.items()
    }
    catalog = Catalog(aliases, known)
    names = list(_references(config))
    broken, doubtful = [], []
    unsure: dict[str, str] = {}
    for path, name in names:
        try:
            found = catalog.plan(name, 0.0)[0]
        except ModelNotFound as error:
            broken.append(f"{path}: {error.message}")
            continue
        needed = _ENDPOINTS.get(path)
        if needed is not None and needed not in config.providers[found.provider].record().speaks:
            broken.append(f"{path}: `{found.provider}` does not serve {needed}")
        if name in config.models:
            continue  # its own targets are looked at
        ids = known[found.provider]
        if ids is None:
            unsure[path] = f"{path}: `{name}` cannot be told, as `{found.provider}` gives no list"
        elif listed_as(found.model, config.providers[found.provider].kind) not in {
            listed_as(one, config.providers[found.provider].kind) for one in ids
        }:
            near = nearest(found.model, ids)
            hint = f"; did you mean `{near}`?" if near else ""
            doubtful.append(f"{path}: `{found.provider}` does not list `{found.model}`{hint}")
    details = {"names": len(names), "unknown": [*broken, *doubtful], "unverified": list(unsure)}
    if broken:
        return bad("\n".join([*broken, *doubtful]), "Requests for them get a 404: mend the names.", **details)
    if doubtful:
        return warning("\n".join(doubtful), "Mend the names, unless the provider has more than it lists.", **details)
    if not names:
        return fine("no model is named; requests must name one", **details)
    if unsure:
        count = f"{len(names) - len(unsure)} of {len(names)} names lead to a model"
        return fine("\n".join([count, *unsure.values()]), **details)
    return fine(
        f"all {len(names)} names lead to a model" if len(names) > 1 else "the one name leads to a model", **details
    )


def _references(config: Config) -> Iterator[tuple[str, str]]:
    """Every place that names one model, and the name."""
    for member in ("model", "speech_model", "transcription_model"):
        if name := getattr(config.defaults, member):
            yield f"defaults.{member}", name
    for number, key in enumerate(config.keys):
        if key.model:
            yield f"keys[{number}].model", key.model
    for alias, model in config.models.items():
        path = join("models", alias)
        if model.target:
            yield f"{path}.target", model.target
        for number, target in enumerate(model.targets):
            yield f"{path}.targets[{number}]", target.model
        for number, name in enumerate(model.fallback):
            yield f"{path}.fallback[{number}]", name
