"""The database: whether it answers, fits this version, can be written and is whole. Nothing in it is changed."""

import asyncio
import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tidegate.config.schema import Config
from tidegate.server.database import database_url
from tidegate.server.doctor.bench import Bench
from tidegate.server.doctor.finding import DATABASE_CHECKS, Verdict, bad, fine, skipped, warning
from tidegate.server.doctor.folder import existing, shown_size, sqlite_path, why_not_writable
from tidegate.server.doctor.world import World, in_thread
from tidegate.server.kept_secret import KeyUnusable
from tidegate.server.pepper import existing_peppers
from tidegate.storage.migrate import HEAD, postgres_revision, sqlite_revision, sqlite_unusable
from tidegate.storage.records import StorageUnusable

if TYPE_CHECKING:
    import asyncpg

__all__ = ["check_integrity", "examine_database"]

BUSY_S: Final = 2.0
"""How long another process may hold the database before that counts: as long as the gateway itself waits."""

LISTEN_S: Final = 2.0

CLOCK_S: Final = 5.0
"""Difference to the server's clock from which leases of several gateways get doubtful (storage.lease is 15 s)."""

STEPS: Final = 10_000
"""Of SQLite's machine between two looks at the deadline."""

_TEXTS: Final = """
    SELECT pepper, count(*) FROM key_texts WHERE owner IN (
        SELECT id FROM virtual_keys WHERE revoked_at IS NULL UNION ALL SELECT id FROM admins WHERE revoked_at IS NULL
    ) GROUP BY pepper
"""
"""How many texts of keys there are of each pepper."""

_RESTORE: Final = "Stop everything that uses it and restore a backup; see storage.md."


async def examine_database(bench: Bench, config: Config, world: World) -> None:
    """All checks of the database that the configuration names."""
    try:
        url = database_url(config, world.environment)
    except OSError as error:
        _rest(bench, "database", f"there is no place for one: {error}")
        return
    if url is None:
        _rest(bench, "database", 'switched off (storage.url = "off")')
    elif url.startswith("sqlite:"):
        path = sqlite_path(config, world.environment)
        assert path is not None
        await _SQLite(bench, path, _Known(config, world)).examine()
    else:
        await _Postgres(bench, url, world, _Known(config, world)).examine()


def _rest(bench: Bench, first: str, why: str) -> None:
    """Note this check and all that come behind it as not made."""
    for check in DATABASE_CHECKS[DATABASE_CHECKS.index(first) :]:
        bench.note(check, skipped(why))


class _Known:
    """The peppers that a gateway would have here."""

    def __init__(self, config: Config, world: World) -> None:
        self._config = config
        self._world = world

    def verdict(self, texts: Collection[tuple[str, int]]) -> Verdict:
        """Of the keys in a database, counted by pepper. Blocks."""
        try:
            known = {pepper.version for pepper in existing_peppers(self._config, self._world.environment)}
        except (KeyUnusable, OSError):
            return skipped("the pepper cannot be read")
        count = sum(number for _, number in texts)
        others = sum(number for pepper, number in texts if pepper not in known)
        details = {"keys": count, "of_another_pepper": others}
        if not count:
            return fine("no keys yet", **details)
        if others:
            return bad(
                f"{others} of {count} keys were made with another pepper, and open nothing here",
                "Set TIDEGATE_PEPPER to the pepper of the gateway that made them: its TIDEGATE_PEPPER, or what stands in "
                "pepper.key in its data folder.",
                **details,
            )
        return fine(
            "all were made with this gateway's pepper" if count > 1 else "made with this gateway's pepper", **details
        )


# -- SQLite -----------------------------------------------------------------------------------------------------------


class _SQLite:
    def __init__(self, bench: Bench, path: Path, known: _Known) -> None:
        self._bench = bench
        self._path = path
        self._known = known

    async def examine(self) -> None:
        look = self._bench.look
        verdict = await look("database", in_thread(self._reach))
        if verdict.status == "failed" or not verdict.details.get("exists"):
            _rest(
                self._bench,
                "database_schema",
                "the database cannot be read" if verdict.status == "failed" else "there is none yet",
            )
            return
        await look("database_schema", in_thread(self._schema))
        await look("database_writable", in_thread(self._writable))
        await look("database_integrity", in_thread(self._integrity), within_s=self._bench.timeout_s + 1)
        await look("database_keys", in_thread(self._keys))
        self._bench.note("database_clock", skipped("a file has no clock of its own"))
        self._bench.note("database_notify", skipped("one process serves a file"))

    def _reach(self) -> Verdict:
        path = self._path
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            ground = existing(path.parent)
            if why := why_not_writable(ground):
                return bad(
                    f"{path} is not there and cannot be made: {why}",
                    "Set storage.url or server.data_dir to a place that can be written to.",
                    path=str(path),
                    exists=False,
                )
            return fine(f"{path} will be made at the first start", path=str(path), exists=False)
        except OSError as error:
            return bad(
                f"{path} cannot be reached: {(error.strerror or str(error)).lower()}",
                "Give it to the user that runs Tidegate.",
                path=str(path),
            )

        def read(connection: sqlite3.Connection) -> Verdict:
            [[mode]] = connection.execute("PRAGMA journal_mode").fetchall()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            log = path.with_name(f"{path.name}-wal")
            waiting = log.stat().st_size if log.exists() else 0
            return fine(
                f"SQLite {sqlite3.sqlite_version}, {path}, {shown_size(size)}",
                path=str(path),
                exists=True,
                bytes=size,
                log_bytes=waiting,
                journal_mode=mode,
            )

        return self._using(read)

    def _schema(self) -> Verdict:
        def read(connection: sqlite3.Connection) -> Verdict:
            return _schema_verdict(sqlite_revision(connection, self._path), copy_of=self._path)

        return self._using(read)

    def _writable(self) -> Verdict:
        if why := why_not_writable(self._path.parent):
            return bad(
                f"no file can be made in {self._path.parent}, where SQLite keeps its log: {why}",
                "Make room, or give the folder to the user that runs Tidegate.",
            )

        def write(connection: sqlite3.Connection) -> Verdict:
            begun = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            waited = time.perf_counter() - begun
            return fine(f"the lock to write was free after {waited * 1000:.0f} ms", waited_ms=round(waited * 1000, 1))

        return self._using(write)

    def _integrity(self) -> Verdict:
        return check_integrity(self._path, self._bench.timeout_s)

    def _keys(self) -> Verdict:
        def read(connection: sqlite3.Connection) -> Verdict:
            tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'key_texts'").fetchall()
            return self._known.verdict(connection.execute(_TEXTS).fetchall() if tables else ())

        return self._using(read)

    def _using(self, work: Callable[[sqlite3.Connection], Verdict]) -> Verdict:
        return _using(self._path, work)


def check_integrity(path: Path, limit_s: float) -> Verdict:
    """What SQLite's quick check of a file finds. Blocks, for not much longer than `limit_s`."""
    until = time.monotonic() + limit_s

    def check(connection: sqlite3.Connection) -> Verdict:
        connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
        try:
            rows = connection.execute("PRAGMA quick_check(5)").fetchall()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                return skipped(f"not finished after {limit_s:g} s; wait longer with --timeout")
            raise
        problems = [str(row[0]) for row in rows if row[0] != "ok"]
        if problems:
            return bad(f"{path} is damaged: {problems[0]}", _RESTORE, problems=problems)
        return fine("the quick check found nothing")

    return _using(path, check)


def _using(path: Path, work: Callable[[sqlite3.Connection], Verdict]) -> Verdict:
    # Not `ro`: SQLite could then not take part in the log, which a reader has to. Nothing is written all the same,
    # and no part of the log is moved into the file while a gateway runs, whose work that is.
    address = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            return work(connection)
    except sqlite3.Error as error:
        return bad(str(sqlite_unusable(path, error)), "Until then the gateway does not start or store.")
    except StorageUnusable as error:
        return bad(str(error), "Until then the gateway does not start.")


def _schema_verdict(revision: str | None, *, copy_of: Path | None = None) -> Verdict:
    details = {"schema": revision, "known": HEAD}
    if revision is None:
        return fine("no tables yet; made at the first start", **details)
    if revision == HEAD:
        return fine(f"{revision}, which is this version's", **details)
    room = "" if copy_of is None else f", after a copy of {shown_size(copy_of.stat().st_size)} beside it"
    return fine(f"{revision}; the next start brings it to {HEAD}{room}", **details)


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


class _Postgres:
    def __init__(self, bench: Bench, url: str, world: World, known: _Known) -> None:
        self._bench = bench
        self._known = known
        self._url = url
        self._world = world
        self._connection: asyncpg.Connection[Any] | None = None

    async def examine(self) -> None:
        try:
            import asyncpg  # noqa: F401 - an extra
        except ImportError:
            _rest(self._bench, "database", "the extra 'postgres' is not installed")
            return
        look = self._bench.look
        loop = asyncio.get_running_loop()
        until = loop.time() + self._bench.timeout_s  # for all checks together
        try:
            reached = await look("database", self._reach(), late="Is the address right, and does a firewall drop it?")
            if reached.status == "failed":
                _rest(self._bench, "database_schema", "the database cannot be reached")
                return
            for check, work in (
                ("database_schema", self._schema),
                ("database_writable", self._writable),
                ("database_integrity", self._integrity),
                ("database_keys", self._keys),
                ("database_clock", self._clock),
                ("database_notify", self._notify),
            ):
                if (left := until - loop.time()) <= 0:
                    _rest(self._bench, check, "there was no time left")
                    return
                await look(check, self._guarded(work), within_s=left, late="See what holds up the database server.")
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def _guarded(self, work: Callable[[], Any]) -> Verdict:
        import asyncpg

        try:
            verdict: Verdict = await work()
        except StorageUnusable as error:
            return bad(str(error), "Until then the gateway does not start.")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            return bad(f"PostgreSQL says: {error}", "See the log of the database server.")
        return verdict

    async def _reach(self) -> Verdict:
        import asyncpg

        where, host = _server_name(self._url)
        try:
            if host:  # first by a lookup that can be left behind, which the driver's cannot
                await self._world.resolver(host, 5432)
            begun = time.perf_counter()
            self._connection = await asyncpg.connect(self._url, timeout=self._bench.timeout_s)
            took = (time.perf_counter() - begun) * 1000
            version = self._connection.get_server_version()
        except TimeoutError:
            raise
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            return bad(f"{where} refuses the user: {error}", "Mend user and password in storage.url.")
        except asyncpg.InvalidCatalogNameError as error:
            return bad(f"{where}: {error}", "Make it with `createdb`, or mend the name in storage.url.")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError, LookupError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            return bad(f"{where} cannot be reached: {reason}", "Does the server run, and is storage.url right?")
        shown = f"{version.major}.{version.minor}"
        return fine(
            f"PostgreSQL {shown} at {where}, connected in {took:.0f} ms", version=shown, connect_ms=round(took, 1)
        )

    async def _schema(self) -> Verdict:
        assert self._connection is not None
        return _schema_verdict(await postgres_revision(self._connection))

    async def _writable(self) -> Verdict:
        assert self._connection is not None
        [recovering, read_only, can_create, has_tables] = await self._connection.fetchrow(
            "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', "
            "has_schema_privilege(current_schema(), 'CREATE'), to_regclass('runs') IS NOT NULL"
        )
        if recovering:
            return bad("the server is a standby, which takes no writes", "Name the primary in storage.url.")
        if read_only:
            return bad(
                "transactions are read-only for this user", "ALTER ROLE … SET default_transaction_read_only = off"
            )
        if has_tables:
            if not await self._connection.fetchval("SELECT has_table_privilege('runs', 'INSERT, UPDATE, DELETE')"):
                return bad("the user may not write to the tables", "GRANT ALL ON ALL TABLES IN SCHEMA … TO …")
            return fine("the user may write to the tables")
        if not can_create:
            return bad("the user may not make tables", "GRANT CREATE, USAGE ON SCHEMA … TO …")
        return fine("the user may make the tables")

    async def _integrity(self) -> Verdict:
        return skipped("PostgreSQL checks its pages itself")

    async def _keys(self) -> Verdict:
        assert self._connection is not None
        tables = await self._connection.fetchval("SELECT to_regclass('key_texts') IS NOT NULL")
        rows = await self._connection.fetch(_TEXTS) if tables else ()
        texts = [(row[0], row[1]) for row in rows]
        return await in_thread(lambda: self._known.verdict(texts))

    async def _clock(self) -> Verdict:
        assert self._connection is not None
        before = self._world.now()
        there = await self._connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        after = self._world.now()
        off = there - (before + after) / 2
        found = f"the server's clock is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} this machine's"
        if abs(off) > CLOCK_S:
            return warning(
                found,
                "Synchronise both by NTP: leases and expiry dates depend on it.",
                offset_s=round(off, 3),
            )
        return fine(f"within {max(abs(off), 0.1):.1f} s of this machine's", offset_s=round(off, 3))

    async def _notify(self) -> Verdict:
        assert self._connection is not None
        heard = asyncio.Event()
        channel = f"tidegate_doctor_{secrets.token_hex(8)}"  # not the gateways' own: none of them hears it

        def hear(*_: object) -> None:
            heard.set()

        await self._connection.add_listener(channel, hear)
        try:
            await self._connection.execute("SELECT pg_notify($1, '')", channel)
            try:
                async with asyncio.timeout(LISTEN_S):
                    await heard.wait()
            except TimeoutError:
                return warning(
                    "NOTIFY is not heard, as behind a pooler that gives each transaction another session",
                    "Let Tidegate connect directly, or set the pooler to session mode: until then other gateways' "
                    "changes are seen later.",
                )
        finally:
            with contextlib.suppress(Exception):  # the connection is closed in any case
                await self._connection.remove_listener(channel, hear)
        return fine("NOTIFY is heard at once")


def _server_name(url: str) -> tuple[str, str]:
    """Where the server is, for people, without user and password; and the host to look up, if there is one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "the database server", ""
    database = parts.path.lstrip("/") or "its default database"
    if "," in host:  # several servers, of which the driver takes the first that suits
        return f"{host}, database {database}", ""
    if not host or host.startswith(("%", "/")):  # a socket file
        return f"the local server, database {database}", ""
    return f"{host}:{port or 5432}/{database}", host
