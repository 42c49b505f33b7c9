"""Faults that no single value shows: addresses, credentials, keys, and what only adds up to a mistake together."""

import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from tidegate.config.names import check_models
from tidegate.config.problem import Problem, join
from tidegate.config.schema import HASHED, Admin, Document, KeyConfig, LimitsSettings, ProviderConfig, Server, Storage
from tidegate.providers.record import Provider
from tidegate.providers.registry import REGISTRY

MIN_SECRET_LENGTH: Final = 32
"""Shorter key secrets are refused: they can be guessed, and their digests reversed."""

_PROVIDER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_PLACEHOLDER: Final = re.compile(r"change.?me|your.?(api.?)?key|placeholder|password|insert.?key", re.IGNORECASE)
_HOP_BY_HOP: Final = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "api-key", "x-api-key"})
_HOW_TO_MAKE_ONE: Final = "make one with `openssl rand -hex 32`"
_MISSING: Final = "needs a package that is not installed: pip install"


HasManagedKeys = Callable[[Document], bool]
"""Tells whether the database of a configuration holds keys. It is asked only where that decides something."""


def no_managed_keys(document: Document) -> bool:
    """For when the database is not looked at."""
    return False


def check(document: Document, has_managed_keys: HasManagedKeys = no_managed_keys) -> Iterator[Problem]:
    """Every fault of a document whose kinds, addresses and credentials have been filled in."""
    server = document.server
    if not document.keys and not server.allow_open and not is_loopback(server.host) and not has_managed_keys(document):
        yield Problem(
            path="server.host",
            message=f"{server.host} can be reached from other machines, and no key protects your credentials: "
            "make one with `tidegate keys create`, add a [[keys]] entry or set the environment variable TIDEGATE_KEY, "
            "listen on 127.0.0.1, or set `server.allow_open = true` if everyone who reaches the port may use it",
        )
    yield from _server(server)
    yield from _admin(document.admin, server)
    for name, provider in document.providers.items():
        yield from _provider(name, provider, join("providers", name))
        if _is_own_address(provider.base_url, document.server):
            yield Problem(
                path=f"{join('providers', name)}.base_url",
                message=f"is Tidegate's own address; set another `server.port` than {document.server.port}",
            )
    yield from _keys(document.keys)
    yield from _master_keys(document.storage)
    if document.storage.url.startswith("postgres") and find_spec("asyncpg") is None:
        yield Problem(path="storage.url", message=f"{_MISSING} 'tidegate[postgres]'")
    yield from _limits(document.limits)
    yield from check_models(document)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to this address. Unknown names count as public."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_installed(record: Provider) -> bool:
    """Whether what an embedded server stands on can be imported here. Nothing is imported for that."""
    return all(find_spec(module) is not None for module in record.modules)


def _is_own_address(url: str, server: Server) -> bool:
    """Whether calls to this address would come back to Tidegate itself."""
    parts = _split(url)
    if parts is None or not server.port or parts.hostname is None:
        return False
    port = parts.port or (443 if parts.scheme == "https" else 80)
    everywhere = server.host in ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
    return port == server.port and is_loopback(parts.hostname) and (everywhere or is_loopback(server.host))


def _admin(admin: Admin, server: Server) -> Iterator[Problem]:
    if admin.host and admin.port is None:
        yield Problem(path="admin.host", message="stands without `admin.port`; a listener of its own needs both")
    if admin.port and admin.address == (server.host, server.port):
        yield Problem(
            path="admin.port", message="is the port of `[server]`; leave it out to serve the admin API there as well"
        )


def _server(server: Server) -> Iterator[Problem]:
    for number, origin in enumerate(server.cors_origins):
        parts = _split(origin)
        if (
            parts is None
            or parts.scheme not in ("http", "https")
            or origin != f"{parts.scheme}://{parts.netloc}"
            or "@" in parts.netloc
        ):
            yield Problem(
                path=f"server.cors_origins[{number}]",
                message="expected an origin such as `https://chat.example.com`: scheme and host, no path, no `*`",
            )


def _provider(name: str, provider: ProviderConfig, path: str) -> Iterator[Problem]:
    if not _PROVIDER_NAME.fullmatch(name):
        yield Problem(path=path, message="a provider's name has only letters, digits, `.`, `_` and `-`, at most 64")
    known = REGISTRY.get(provider.kind)
    if known is None:
        return  # The kind's own problem is already on the list, and the rest depends on it.
    if provider.base_url:
        yield from _address(provider.base_url, f"{path}.base_url")
    elif known.embedded:
        if not is_installed(known):
            yield Problem(
                path=path,
                message=f'kind "{known.kind}" needs packages that are not installed: '
                f"pip install 'tidegate[{known.extra}]'",
            )
    else:
        yield Problem(
            path=f"{path}.base_url", message=f'is missing: kind "{provider.kind}" has no address of its own; give one'
        )
    yield from _credentials(provider, path, required=known.needs_credential, variables=known.env)
    yield from _headers(provider, f"{path}.headers")
    if provider.proxy is not None and provider.proxy.reveal() != "none":
        parts = _split(provider.proxy.reveal())
        if parts is None or parts.scheme not in ("http", "https"):
            yield Problem(path=f"{path}.proxy", message='expected an address with `http://` or `https://`, or "none"')
    for endpoint, below in (provider.paths or {}).items():
        if not re.fullmatch(r"/[!-~]*", below):
            yield Problem(path=f"{path}.paths.{endpoint}", message="a path begins with `/` and has no spaces")
    if provider.speaks == ():
        yield Problem(path=f"{path}.speaks", message="names no endpoint, so nothing could be sent to this provider")
    elif provider.speaks and len(set(provider.speaks)) != len(provider.speaks):
        yield Problem(path=f"{path}.speaks", message="names an endpoint twice")
    for number, model in enumerate(provider.models):
        if not model or any(c.isspace() or not c.isprintable() for c in model):
            yield Problem(path=f"{path}.models[{number}]", message="a model's name is not empty and has no spaces")


def _address(url: str, path: str) -> Iterator[Problem]:
    # The address is never quoted in full: it may hold a password.
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https"):
        yield Problem(
            path=path, message="expected an address that begins with `http://` or `https://` and names a host"
        )
    elif "@" in parts.netloc:
        yield Problem(path=path, message="has a user or password in it; put the key into `credentials`")
    elif parts.query or parts.fragment:
        yield Problem(path=path, message="has a query or fragment; the address ends with the path, such as `/v1`")
    elif any(parts.path.endswith(end) for end in ("/chat/completions", "/responses", "/completions", "/messages")):
        yield Problem(path=path, message="names an endpoint; the address ends before it, such as `/v1`")


def _split(url: str) -> SplitResult | None:
    """The members of a well-formed absolute address with a host, or None."""
    if not re.fullmatch(r"[!-~]+", url):
        return None
    try:
        parts = urlsplit(url)
        usable = parts.hostname is not None and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _credentials(
    provider: ProviderConfig, path: str, *, required: bool, variables: tuple[str, ...]
) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, credential in enumerate(provider.credentials):
        text, place = credential.reveal(), f"{path}.credentials[{number}]"
        if not text:
            yield Problem(path=place, message="is empty")
        elif not re.fullmatch(r"[!-~]+", text):
            yield Problem(path=place, message="has a space, a line break or a character that no API key has")
        elif text in seen:
            yield Problem(path=place, message="is the same as an earlier one")
        seen.add(text)
    by_header = _CREDENTIAL_HEADERS.intersection(name.lower() for name in provider.headers)
    if required and not provider.credentials and not provider.credentials_file and not by_header:
        first = variables[0] if variables else ""
        ways = f'set the environment variable {first}, or write credentials = ["${{{first}}}"]'
        known = REGISTRY[provider.kind]
        if provider.base_url not in (known.base_url, *known.regions):
            ways = f'write credentials = ["${{{first}}}"]: a key from the environment is not sent to a changed base_url'
        yield Problem(path=path, message=f'kind "{provider.kind}" needs a credential: {ways}')


def _headers(provider: ProviderConfig, path: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for name, value in provider.headers.items():
        place = join(path, name)
        if not _TOKEN.fullmatch(name):
            yield Problem(path=place, message="is not the name of a header")
        elif name.lower() in _HOP_BY_HOP:
            yield Problem(path=place, message="is set by Tidegate itself")
        elif name.lower() in seen:
            yield Problem(path=place, message="stands twice, in another case")
        if re.search(r"[^\t\x20-\x7e\x80-\xff]", value.reveal()):
            yield Problem(path=place, message="has a line break or another character that a header cannot carry")
        seen.add(name.lower())


def _keys(keys: tuple[KeyConfig, ...]) -> Iterator[Problem]:
    names: dict[str, int] = {}
    digests: dict[bytes, int] = {}
    for number, key in enumerate(keys):
        path = f"keys[{number}]"
        if key.name in names:
            yield Problem(path=f"{path}.name", message=f"is the name of keys[{names[key.name]}] too")
        names.setdefault(key.name, number)
        weakness = _weakness(key.secret.reveal())
        if weakness:
            yield Problem(path=f"{path}.secret", message=weakness)
            continue
        digest = key.sha256()
        if digest in digests:
            yield Problem(path=f"{path}.secret", message=f"is the secret of keys[{digests[digest]}] too")
        digests.setdefault(digest, number)


def _master_keys(storage: Storage) -> Iterator[Problem]:
    """What is encrypted is as safe as the secret that it is encrypted under."""
    seen: set[str] = set()
    for number, key in enumerate(storage.master_keys):
        path, text = f"storage.master_keys[{number}]", key.reveal()
        weakness = _guessable(text)
        if weakness:
            yield Problem(path=path, message=weakness)
        elif text in seen:
            yield Problem(path=path, message="is the same as an earlier one")
        seen.add(text)


def _limits(settings: LimitsSettings) -> Iterator[Problem]:
    if settings.valkey is None:
        return
    if not re.fullmatch(r"(rediss?|valkeys?|unix)://[!-~]+", settings.valkey.reveal()):
        # The address is never quoted: it may hold a password.
        yield Problem(path="limits.valkey", message="expected an address that begins with `redis://` or `rediss://`")
    elif find_spec("redis") is None:
        yield Problem(path="limits.valkey", message=f"{_MISSING} 'tidegate[valkey]'")


def _weakness(secret: str) -> str:
    """Why a key's secret is refused, or an empty string."""
    if secret.startswith(HASHED):
        if _DIGEST.fullmatch(secret.removeprefix(HASHED)):
            return ""
        return f"`{HASHED}` is followed by the 64 hexadecimal digits, in lower case, of the key's SHA-256 digest"
    if not re.fullmatch(r"[!-~]*", secret):
        return "has a space or a character that an Authorization header cannot carry"
    return _guessable(secret)


def _guessable(secret: str) -> str:
    """Why a secret is no secret, or an empty string."""
    if len(secret) < MIN_SECRET_LENGTH:
        return f"is shorter than {MIN_SECRET_LENGTH} characters; {_HOW_TO_MAKE_ONE}"
    if _PLACEHOLDER.search(secret) or len(set(secret)) < 8:
        return f"looks like a placeholder, and can be guessed; {_HOW_TO_MAKE_ONE}"
    return ""
