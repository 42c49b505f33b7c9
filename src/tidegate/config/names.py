"""Model names in the configuration: what `openai/gpt-5.2`, an alias or a bare name may refer to."""

from collections.abc import Iterator

from tidegate.config.problem import Problem, join
from tidegate.config.schema import Document, ProviderConfig
from tidegate.dialects.validation import nearest
from tidegate.providers.registry import REGISTRY


def check_models(document: Document) -> Iterator[Problem]:
    """Problems of every model name: defaults, keys, aliases with their targets and fallbacks, cycles."""
    yield from _defaults(document)
    for number, key in enumerate(document.keys):
        if key.model:
            yield from _reference(document, key.model, f"keys[{number}].model", bare=True)
        for position, name in enumerate(key.models):
            if "*" not in name:
                yield from _reference(document, name, f"keys[{number}].models[{position}]", bare=True)
    for alias, model in document.models.items():
        path = join("models", alias)
        if not alias or any(c.isspace() or not c.isprintable() for c in alias):
            yield Problem(path=path, message="an alias is not empty and has no spaces or control characters")
        if model.target and model.targets:
            yield Problem(path=f"{path}.target", message="stands beside `targets`; keep one of the two")
        elif not model.target and not model.targets:
            yield Problem(path=path, message="needs a `target`, or `targets`")
        elif model.targets and not any(target.weight for target in model.targets):
            yield Problem(path=f"{path}.targets", message="every weight is 0, so no target is ever chosen")
        if model.target:
            yield from _reference(document, model.target, f"{path}.target", bare=False)
        for position, target in enumerate(model.targets):
            yield from _reference(document, target.model, f"{path}.targets[{position}].model", bare=False)
        for position, name in enumerate(model.fallback):
            yield from _reference(document, name, f"{path}.fallback[{position}]", bare=False)
    yield from _cycles(document)


def _defaults(document: Document) -> Iterator[Problem]:
    for member in ("model", "speech_model", "transcription_model"):
        name: str = getattr(document.defaults, member)
        if name:
            yield from _default(document, name, f"defaults.{member}")


def _default(document: Document, name: str, path: str) -> Iterator[Problem]:
    yield from _reference(document, name, path, bare=True)
    provider = document.providers.get(name.partition("/")[0])
    if provider is not None and provider.kind == "sim" and name not in document.models:
        real = [other for other, config in document.providers.items() if not _is_embedded(config)]
        if real:
            yield Problem(
                path=path,
                message=f"the simulator is never the default beside a real provider; choose a model of `{real[0]}`, "
                "or name the simulator's model in the requests that want it",
            )


def _reference(document: Document, name: str, path: str, *, bare: bool) -> Iterator[Problem]:
    """A name must be an alias, a known model, or begin with a provider; a bare one is left to the providers' own lists."""
    if name in document.models or any(name in provider.models for provider in document.providers.values()):
        return
    prefix, slash, rest = name.partition("/")
    if slash and prefix in document.providers:
        if not rest:
            yield Problem(path=path, message=f"`{name}` names a provider but no model")
        return
    open_lists = any(not provider.models and not _is_embedded(provider) for provider in document.providers.values())
    if not slash and bare and open_lists:
        return
    known = [*document.models, *(f"{prefix}/{m}" for prefix, p in document.providers.items() for m in p.models)]
    guess = nearest(name, known)
    if slash and not guess:
        provider = nearest(prefix, document.providers)
        guess = f"{provider}/{rest}" if provider else ""
    if slash:
        message = f"`{prefix}` is neither a configured provider nor part of a known model name"
    else:
        message = f"`{name}` is neither an alias nor a known model; write `provider/model`"
    yield Problem(path=path, message=message, nearest=guess)


def _is_embedded(provider: ProviderConfig) -> bool:
    """Whether it is a server of our own, whose models are no secret to us and answer no bare name."""
    known = REGISTRY.get(provider.kind)
    return known is not None and known.embedded


def _cycles(document: Document) -> Iterator[Problem]:
    """One problem for each cycle of aliases, at its first member in the order of the file."""
    edges = {
        alias: [
            name
            for name in (*(target.model for target in model.targets), model.target, *model.fallback)
            if name in document.models
        ]
        for alias, model in document.models.items()
    }
    done: set[str] = set()
    for start in edges:
        trail = [start]
        pending = [iter(edges[start])]
        while pending:
            name = next(pending[-1], None)
            if name is None:
                done.add(trail.pop())
                pending.pop()
            elif name in trail:
                cycle = [*trail[trail.index(name) :], name]
                yield Problem(path=join("models", name), message=f"the aliases lead in a circle: {' → '.join(cycle)}")
            elif name not in done:
                trail.append(name)
                pending.append(iter(edges[name]))
        done.add(start)
