"""One provider, step by step along the way that a request takes: name, connection, TLS, credentials, models."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec
from cryptography import x509

from tidegate.config.checks import is_loopback
from tidegate.config.schema import ProviderConfig
from tidegate.gateway.models import read_listing
from tidegate.providers.record import Provider
from tidegate.providers.registry import REGISTRY
from tidegate.server.doctor.bench import Bench
from tidegate.server.doctor.finding import PROVIDER_CHECKS, Verdict, bad, fine, skipped, warning
from tidegate.server.doctor.names import listed_as
from tidegate.server.doctor.world import World
from tidegate.upstream.addresses import is_metadata, is_private
from tidegate.upstream.egress import connect_socket
from tidegate.upstream.fetch import Fetched, fetch
from tidegate.upstream.provider import ProviderUnusable, Upstream
from tidegate.upstream.wheel import Wheel
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError

__all__ = ["Examined", "ProviderExamination"]

EXPIRES_SOON_DAYS: Final = 14

SLOW_S: Final = 2.0
"""A list of models that takes longer says that something on the way is slow."""

QUOTED: Final = 200
"""Most characters that are repeated of what a provider says."""


class Examined(msgspec.Struct, frozen=True):
    """What other checks build on."""

    models: frozenset[str] | None = None
    """The provider's own list; None where it gave none."""
    clock_off_s: float | None = None
    """How far this machine's clock is ahead of the provider's."""


class ProviderExamination:
    """The checks of one provider. The first that fails ends them: what comes behind it cannot be known."""

    def __init__(
        self, bench: Bench, world: World, wheel: Wheel, name: str, config: ProviderConfig, origins: Mapping[str, str]
    ) -> None:
        self._bench = bench
        self._world = world
        self._wheel = wheel
        self._name = name
        self._config = config
        self._origins = origins
        self._record: Provider = config.record()
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + bench.timeout_s
        self._upstream: Upstream
        self._addresses: list[tuple[Any, ...]] = []
        self._models: frozenset[str] | None = None
        self._clock_off: float | None = None
        self._answers: list[Fetched] = []

    async def examine(self) -> Examined:
        if self._record.embedded and not self._config.base_url:
            self._rest("provider_address", "runs inside Tidegate")
            return Examined(frozenset(self._config.models or self._record.models) or None)
        try:
            self._upstream = self._make(self._config)
        except ProviderUnusable as error:
            self._bench.note("provider_address", bad(str(error), "Mend it in the configuration."), subject=self._name)
            self._rest("provider_connection", "the provider cannot be called as it is configured")
            return Examined()
        try:
            await self._examine()
        finally:
            self._upstream.close()
        return Examined(self._models, self._clock_off)

    async def _examine(self) -> None:
        steps = (
            ("provider_address", self._address, "Is the name server reachable?"),
            ("provider_connection", self._connection, "A firewall may drop it, or a proxy be needed (HTTPS_PROXY)."),
            ("provider_tls", self._tls, "Something accepts connections there that does not speak TLS."),
            ("provider_models", self._listing, "It accepts connections and does not answer. Is base_url right?"),
        )
        for number, (check, work, late) in enumerate(steps):
            left = self._until - self._loop.time()
            verdict = await self._bench.look(check, work(), subject=self._name, within_s=left, late=late)
            if verdict.status == "failed" and not self._answers:
                self._rest(PROVIDER_CHECKS[number + 1], "not reached")
                return
        left = self._until - self._loop.time()
        await self._bench.look("provider_credentials", self._credentials(), subject=self._name, within_s=left)

    def _rest(self, first: str, why: str) -> None:
        for check in PROVIDER_CHECKS[PROVIDER_CHECKS.index(first) :]:
            self._bench.note(check, skipped(why), subject=self._name)

    def _make(self, config: ProviderConfig) -> Upstream:
        return Upstream(
            self._name,
            config,
            self._loop,
            self._wheel,
            environment=self._world.environment,
            resolver=self._world.resolver,
        )

    # -- the way there ----------------------------------------------------------------------------------------------

    @property
    def _target(self) -> tuple[str, int]:
        """What we connect to: the proxy, where there is one."""
        proxy = self._upstream.proxy
        return (proxy.host, proxy.port) if proxy is not None else self._upstream.origin[1:]

    async def _address(self) -> Verdict:
        host, port = self._target
        via = self._upstream.proxy is not None
        try:
            self._addresses = await self._world.resolver(host, port)
        except (OSError, UnicodeError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "not a valid host name"
            what = f"the proxy's name {host}" if via else f"the name {host}"
            return bad(
                f"{what} cannot be resolved: {reason}",
                "Mend the proxy's address." if via else "Check base_url, and the name servers of this machine.",
                host=host,
                proxy=via,
            )
        found = list(dict.fromkeys(str(one[4][0]) for one in self._addresses))
        details = {"host": host, "port": port, "addresses": found, "proxy": via}
        shown = f"{host}:{port}" if found == [host] else f"{host}:{port} is {', '.join(found)}"
        if via:
            return fine(f"through the proxy {shown}", **details)
        if any(is_metadata(one) for one in found):
            return bad(
                f"{shown}: that is a metadata service, which hands out this machine's own credentials",
                "Mend base_url. Nothing was sent there.",
                **details,
            )
        known = REGISTRY[self._config.kind]
        private = [one for one in found if is_private(one)]
        if (
            private
            and self._record.base_url in (known.base_url, *known.regions)
            and self._upstream.origin[0] == "https"
        ):
            return warning(
                f"{shown}: a private address for a public provider",
                "A local name server, VPN or transparent proxy answers for it. If that is not meant, mend the name "
                "servers.",
                **details,
            )
        return fine(shown, **details)

    async def _connection(self) -> Verdict:
        host, port = self._target

        async def known(host: str, port: int) -> list[tuple[Any, ...]]:
            return self._addresses

        begun = time.perf_counter()
        try:
            sock = await connect_socket(self._loop, host, port, known)
        except TidegateError as error:
            return bad(
                error.message,
                "Does the server run, and is base_url right? A firewall may refuse it."
                if self._upstream.proxy is None
                else "Does the proxy run, and is its address right?",
            )
        address = sock.getpeername()[0]
        sock.close()
        took = (time.perf_counter() - begun) * 1000
        return fine(f"connected to {address} in {took:.0f} ms", address=address, connect_ms=round(took, 1))

    async def _tls(self) -> Verdict:
        scheme, host, _ = self._upstream.origin
        if scheme == "http":
            private = is_loopback(host) or all(is_private(str(one[4][0])) for one in self._addresses)
            if private or self._upstream.proxy is not None or not (self._config.credentials or self._config.headers):
                return skipped("plain http://")
            return warning(
                "plain http:// to a public address: everybody on the way can read the credential",
                "Use https:// in base_url.",
            )
        try:
            connection = await self._upstream.pool.open()
        except TidegateError as error:
            return await self._explain(error.message)
        shown = connection.certificate
        if not connection.closed:
            self._upstream.pool.put(connection)  # the call for the models is sent on it
        if shown is None:
            return bad("it closes the connection after the handshake", "Does it ask for a certificate of ours?")
        certificate = x509.load_der_x509_certificate(shown)
        ends = certificate.not_valid_after_utc
        days = int((ends.timestamp() - self._world.now()) // 86400)
        trusted = "the authorities of ca_bundle" if self._config.ca_bundle else "the system's authorities"
        details = {"expires": ends.isoformat(), "days": days, "issuer": _issuer(certificate)}
        found = f"certificate by {_issuer(certificate)}, valid until {ends:%Y-%m-%d}, verified by {trusted}"
        if days < EXPIRES_SOON_DAYS:
            return warning(found, f"It expires in {days} days: have it renewed.", **details)
        return fine(found, **details)

    async def _explain(self, message: str) -> Verdict:
        """Why the handshake failed, with what the certificate says of itself. Nothing is sent on that connection."""
        advice = "Is base_url right, and https:// meant?"
        certificate = None if self._upstream.proxy is not None else await self._unverified()
        if certificate is None:
            return bad(message, advice)
        ends, starts = certificate.not_valid_after_utc, certificate.not_valid_before_utc
        now = datetime.fromtimestamp(self._world.now(), UTC)
        if ends < now:
            advice = f"It expired on {ends:%Y-%m-%d}: have it renewed, or set this machine's clock."
        elif starts > now:
            advice = f"It is valid from {starts:%Y-%m-%d} on: is this machine's clock right?"
        elif "ostname" in message or "IP address" in message:
            advice = f"It is for {', '.join(_names(certificate)) or 'no name'}: use that name in base_url."
        elif certificate.issuer == certificate.subject:
            advice = "It is self-signed. If it is yours, name its file with ca_bundle."
        else:
            advice = (
                f"It was issued by {_issuer(certificate)}. If that is your own authority, name its file with ca_bundle."
            )
        return bad(message, advice, expires=ends.isoformat(), issuer=_issuer(certificate))

    async def _unverified(self) -> x509.Certificate | None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # as the gateway's own connections
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # only to read what it shows
        _, host, _ = self._upstream.origin
        address = self._addresses[0]
        try:
            _, writer = await asyncio.open_connection(*address[4][:2], ssl=context, server_hostname=host)
        except OSError:
            return None
        tls = writer.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True)
        writer.transport.abort()
        return None if shown is None else x509.load_der_x509_certificate(shown)

    # -- what it answers --------------------------------------------------------------------------------------------

    async def _ask(self, upstream: Upstream) -> Fetched:
        """Its list of models. Raises TidegateError, and TimeoutError when there is no time left."""
        left = self._until - self._loop.time()
        return await fetch(upstream.pool, upstream.get(upstream.record.models_path), timeout_s=max(left + 1, 1.0))

    async def _listing(self) -> Verdict:
        begun, sent = time.perf_counter(), self._world.now()
        try:
            answer = await self._ask(self._upstream)
        except TidegateError as error:
            return bad(
                self._upstream.redacted(_one_line(error.message)), "Is base_url right, and does it speak HTTP there?"
            )
        self._answers.append(answer)
        took = time.perf_counter() - begun
        self._clock_off = _clock_off(answer, (sent + self._world.now()) / 2)
        details: dict[str, Any] = {"status": answer.status, "latency_ms": round(took * 1000, 1)}
        if answer.status in (401, 403):
            return skipped(f"not told: status {answer.status}")
        if answer.status in (404, 405, 501):
            return warning(
                f"it has no list of models (status {answer.status})",
                "Name its models with `models = […]`. If it should have a list, base_url is wrong; it usually ends in /v1.",
                **details,
            )
        if answer.status == 429:
            return warning(
                f"it limits the rate of calls{self._quote(answer)}", "Try again later, or raise the limit.", **details
            )
        if answer.status != 200:
            return bad(
                f"it answers with status {answer.status}{self._quote(answer)}",
                "See the provider's status page, or its log if it is yours."
                if answer.status >= 500
                else "Is base_url right?",
                **details,
            )
        try:
            models = read_listing(answer.body, self._name)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            return bad(f"what it answers is no list of models: {error}", "Is base_url right?", **details)
        self._models = frozenset(model.id for model in models)
        details["models"] = len(self._models)
        found = f"{len(models)} model{'' if len(models) == 1 else 's'} in {took * 1000:.0f} ms"
        missing = [model for model in self._config.models if listed_as(model, self._config.kind) not in self._models]
        if missing:
            return warning(
                f"{found}; not among them: {', '.join(missing)}",
                f"Mend providers.{self._name}.models.",
                missing=missing,
                **details,
            )
        if took > SLOW_S:
            return warning(found, "That is slow: the way there, or the provider, is busy.", **details)
        return fine(found, **details)

    async def _credentials(self) -> Verdict:
        """Each credential by itself."""
        config = self._config
        count = len(config.credentials)
        # `get` takes the next credential each time; the first one has had its turn.
        while len(self._answers) < count:
            try:
                self._answers.append(await self._ask(self._upstream))
            except TidegateError as error:
                return bad(
                    f"credential {len(self._answers) + 1} of {count}: {self._upstream.redacted(_one_line(error.message))}",
                    "Try again.",
                )
        refused = {number: answer for number, answer in enumerate(self._answers, 1) if answer.status in (401, 403)}
        details = {"credentials": count, "refused": list(refused)}
        if refused:
            return self._refusal(refused, count, details)
        if not count and not config.headers:
            return fine("none configured, and none asked for", **details)
        if any(answer.status != 200 for answer in self._answers):
            return skipped(f"cannot be told from status {next(a.status for a in self._answers if a.status != 200)}")
        which = "the credential" if count == 1 else f"all {count} credentials" if count else "the configured headers"
        if await self._is_public():
            return skipped(f"cannot be told: {which} may be wrong, its list of models is for everybody")
        return fine(f"{which} {'is' if count == 1 else 'are'} accepted", **details)

    def _refusal(self, refused: Mapping[int, Fetched], count: int, details: dict[str, Any]) -> Verdict:
        number, answer = next(iter(refused.items()))
        said = self._quote(answer)
        if not count:
            variables = " or ".join(self._record.env)
            return bad(
                f"it asks for a credential (status {answer.status}){said}",
                f"Set providers.{self._name}.credentials{f', or {variables}' if variables else ''}.",
                **details,
            )
        which = "the credential" if count == 1 else f"credential {', '.join(map(str, refused))} of {count}"
        path = f"providers.{self._name}.credentials"
        origin = self._origins.get(f"{path}[{number - 1}]") or self._origins.get(path, "")
        place = f" ({origin})" if origin else ""
        if answer.status == 401:
            advice = f"Put a valid one in the place of it{place}."
        else:
            advice = f"It is known and may not do this: check its rights, its region and the account{place}."
        verdict = bad if len(refused) == max(count, 1) or answer.status == 401 else warning
        return verdict(
            f"{which} {'is' if len(refused) == 1 else 'are'} refused (status {answer.status}){said}", advice, **details
        )

    async def _is_public(self) -> bool:
        """Whether everybody gets the list, so that having got it proves nothing."""
        stranger = self._make(msgspec.structs.replace(self._config, credentials=(), headers={}))
        try:
            answer = await self._ask(stranger)
        except TidegateError:
            return False
        finally:
            stranger.close()
        return answer.status == 200

    def _quote(self, answer: Fetched) -> str:
        """What an error says, without secrets of ours; empty when it says nothing for people."""
        try:
            body = jsonio.anything(answer.body)
        except jsonio.InvalidJSON:
            return ""
        error = body.get("error", body) if isinstance(body, dict) else None
        message = error.get("message") if isinstance(error, dict) else error
        return f": {self._upstream.redacted(_one_line(message))}" if isinstance(message, str) and message else ""


def _one_line(text: str) -> str:
    """Text from outside, fit for a terminal."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}…"


def _clock_off(answer: Fetched, here: float) -> float | None:
    try:
        there = parsedate_to_datetime(answer.header(b"date").decode("latin-1"))
    except (ValueError, TypeError):
        return None
    if there.tzinfo is None:
        there = there.replace(tzinfo=UTC)
    return here - (there.timestamp() + 0.5)  # the field has whole seconds


def _issuer(certificate: x509.Certificate) -> str:
    """The authority's name, as short as it can be."""
    for oid in (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME):
        for attribute in certificate.issuer.get_attributes_for_oid(oid):
            return _one_line(str(attribute.value))
    return "nobody named"


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [_one_line(str(one.value)) for one in found][:5]
